"""`gateway cache`: what is stored, why a request would hit or miss, and how to forget."""

import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from time import time
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db import DatabaseError

from gateway.cache import freshness, policy, queries
from gateway.cache.keys import Key, Purge, origin_and_target
from gateway.cache.policy import Entry
from gateway.cache.view import goes_past
from gateway.config.records import Config
from gateway.errors import Reason
from gateway.fanout.view import Fanout
from gateway.http import methods
from gateway.http.headers import Pairs, first_text, parse_host
from gateway.http.queries import masked_target
from gateway.management import GatewayCommand, add_env_file
from gateway.observe.added_fields import CREDENTIALS
from gateway.observe.pool_faults import keep_faults, with_fault
from gateway.routing.dispatch import Own, Preflight, Refusal, decide
from gateway.routing.urls import DjangoMatch, Routes
from gateway.text import aligned, plain, plain_lines


class Command(GatewayCommand):
    help = "Look into the cache and purge it, through the database that all workers share."
    epilog = """\
examples:
  gateway cache ls --prefix /users
  gateway cache why GET http://127.0.0.1:8000/users/3 -H 'Cookie: a=b'
  gateway cache purge /users/3"""

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|why|purge")
        ls = verbs.add_parser("ls", help="list what is stored", description="List what is stored, by path.")
        ls.add_argument("--route", default="", help="of this route only")
        ls.add_argument("--host", default="", help="of this host only, as clients name it, with its port")
        ls.add_argument("--prefix", default="", metavar="/PATH", help="only paths that begin like this")
        why = verbs.add_parser(
            "why",
            help="explain a hit or a miss",
            description="Say by which key a request is looked up, what is stored under it, and which rules decide.",
        )
        why.add_argument("method", metavar="METHOD", help="such as GET")
        why.add_argument(
            "target", metavar="PATH-OR-URL", help="/users/1?page=2, or with its origin: http://host/users/1"
        )
        why.add_argument(
            "-H", dest="headers", action="append", default=[], metavar="'NAME: VALUE'", help="a header of the request"
        )
        purge = verbs.add_parser(
            "purge",
            help="forget stored answers",
            description="Forget stored answers: in the database now, in the memory of every worker within a second.",
        )
        what = purge.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "path", nargs="?", metavar="PATH", help="every variant of this path; with ?query that one only"
        )
        what.add_argument("--prefix", metavar="/PATH", help="only paths that begin like this")
        what.add_argument("--route", help="of this route")
        what.add_argument("--tag", help="responses with this Cache-Tag or Surrogate-Key")
        what.add_argument("--all", action="store_true", help="everything")
        for verb in (ls, why, purge):
            add_env_file(verb)

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = self.checked(options["env_file"])
        if not config.settings.cache_disk_bytes:
            self.stderr.write("gateway: GATEWAY_CACHE_DISK=0B: each worker has its cache in memory only")
            sys.exit(1)
        keep_faults()
        try:
            is_there = queries.is_there()
            if options["verb"] == "ls":
                self._list(config, options, is_there=is_there)
            elif options["verb"] == "why":
                self._explain(config, routes, options, is_there=is_there)
            else:
                self._purge(routes, options, is_there=is_there)
        except DatabaseError as error:
            cause = plain_lines(with_fault(str(error).strip()))
            self.stderr.write(f"gateway: the database of the cache cannot be used: {cause}")
            sys.exit(1)

    # -- ls -------------------------------------------------------------------------------------------------------

    def _list(self, config: Config, options: dict[str, Any], *, is_there: bool) -> None:
        now_s, masked = time(), _masked(config)
        stored = queries.listing(options["route"], options["host"], options["prefix"]) if is_there else ()
        table = [["ROUTE", "URL", "STATUS", "SIZE", "AGE", "FRESH", "VARIES ON"]]
        table += [
            [key.route, _url(key), str(entry.status), str(size), f"{entry.current_age_s(now_s):.0f} s", fresh, variant]
            for key, entry, size in stored
            for fresh, variant in [(_fresh(entry, now_s), _variant(entry, masked))]
        ]
        if len(table) == 1:
            self.stdout.write("Nothing is stored.")
            return
        self.stdout.write(aligned(table, indent=""))

    # -- why ------------------------------------------------------------------------------------------------------

    def _explain(self, config: Config, routes: Routes, options: dict[str, Any], *, is_there: bool) -> None:
        method, target = options["method"].upper(), options["target"]
        try:
            pairs = [_pair(text) for text in options["headers"]]
        except ValueError as error:
            raise CommandError(str(error)) from None
        if not target.startswith(("/", "http://", "https://")):
            raise CommandError(f"a path begins with a slash: /{target}")
        scheme, host, target = origin_and_target(target)
        field = first_text(pairs, b"host") or ""
        asked = Key("", scheme or "http", host or field.lower(), target)
        for line in _reasons(config, routes, method, asked, pairs, is_there=is_there):
            self.stdout.write(plain(line))

    # -- purge ----------------------------------------------------------------------------------------------------

    def _purge(self, routes: Routes, options: dict[str, Any], *, is_there: bool) -> None:
        kind = next(word for word in ("path", "prefix", "route", "tag", "all") if options[word])
        value = "" if kind == "all" else options[kind]
        begins = ("/", "http://", "https://") if kind == "path" else "/"
        if kind in {"path", "prefix"} and not value.startswith(begins):
            raise CommandError(f"a {kind} begins with a slash: /{value}")
        values = routes.spellings_of(value) if kind == "path" else [value]
        count = sum(queries.purge_now(Purge(kind, one, time())) for one in values) if is_there else 0
        self.stdout.write(f"Purged: {count} stored answer{'' if count == 1 else 's'}.")


def _pair(text: str) -> tuple[bytes, bytes]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"-H {text!r}: write it as 'Name: value'")
    return name.strip().lower().encode("latin-1", "replace"), value.strip().encode("utf-8")


def _url(key: Key) -> str:
    if key.scheme == "part":  # the target of a call that the gateway makes itself: its query may hold a key
        key = replace(key, target=masked_target(key.target))
    return f"{key.scheme}://{key.host}{key.target}" + (f" ({key.extra})" if key.extra else "")


def _fresh(entry: Entry, now_s: float) -> str:
    if entry.always_validate:
        return "validated each time"
    left_s = entry.fresh_until_s - now_s
    return f"{left_s:.0f} s" if left_s > 0 else f"stale since {-left_s:.0f} s"


def _masked(config: Config) -> frozenset[str]:
    """The fields whose values are not shown: those are the credentials of clients."""
    return CREDENTIALS | config.auth.credential_fields


def _variant(entry: Entry, masked: Collection[str]) -> str:
    fields = ((raw.decode(), value) for raw, value in zip(entry.vary, entry.values, strict=True))
    return ", ".join(
        f"{name}: {'(absent)' if value is None else '***' if name in masked else value.decode('latin-1')}"
        for name, value in fields
    )


def _reasons(config: Config, routes: Routes, method: str, asked: Key, pairs: Pairs, *, is_there: bool) -> Iterator[str]:
    """The decisions about a request, in plain words, a line each."""
    host = parse_host(asked.host.encode("latin-1")) or ""
    own_query = asked.target.partition("?")[2].encode("latin-1", "replace")
    decision = decide(routes, method, host, asked.path, pairs, query=own_query)
    if isinstance(decision, Refusal):
        if decision.error.reason is Reason.ROUTE_NOT_FOUND:
            yield f"No route matches {method} {asked.path}: the gateway answers by itself, and stores nothing."
        else:
            yield f"Answer   from the gateway itself: {decision.error.status} {decision.error.reason.word}"
        return
    if isinstance(decision, (Own, Preflight)):
        what = "the preflight" if isinstance(decision, Preflight) else asked.path
        yield f"Answer   from the gateway itself: {what} is its own to answer, and nothing of it is stored"
        return
    if isinstance(decision, DjangoMatch):
        name, stack, how = decision.name, decision.stack, "cached(...) around its view"
        yield f"Route    {name} (urlpatterns): {decision.match.route}"
    else:
        route = decision.route
        name, stack, how = route.name or "", route.stack, "cached(...) around its view"
        if stack.key_path is not None:
            path, mark, query = asked.target.partition("?")
            asked = replace(asked, target=f"{stack.key_path(path)}{mark}{query}")
        if route.origin.startswith("GATEWAY_"):
            how = f"set {route.origin}__CACHE=on, or to a duration"
        yield f"Route    {name} ({route.origin}): {route.rule.text}"
    if method not in methods.SAFE_METHODS and routes.stored_at(host, asked.path):
        yield f"Then     what is stored of {asked.path} goes, if the upstream answers with 2xx or 3xx"
    if stack.requirements:
        rules = ", ".join(str(one.rule) for one in stack.requirements)
        yield f"Asks     for {rules}: what follows is for who is let in (gateway explain tells who is)"
    if stack.cache is None:
        yield f"Cache    off: {how}"
        inner = stack.endpoint
        stored_parts = [part.name for part in inner.fan.parts if part.cache] if isinstance(inner, Fanout) else []
        if stored_parts:
            yield f"Parts    {', '.join(stored_parts)}: stored by themselves (gateway cache ls)"
        return
    rule = stack.cache.rule
    lifetime = "as the upstream says" if rule.ttl_s is None else f"as the upstream says, else for {rule.ttl_s:g} s"
    stale = f"; stale for {rule.stale_if_error_s:g} s after a failure" if rule.stale_if_error_s else ""
    yield f"Cache    {lifetime}; bodies of up to {rule.max_body_bytes} bytes{stale}"
    past = goes_past(method, pairs, has_body=False)
    if past is not None:
        words = "; ".join(f"{name}={word}" for name, word in past.items())
        yield f"Answer   from the upstream: nothing stored answers such a request ({words})"
        return
    keys = _keys_of(replace(asked, route=name)) if is_there else []
    bind = "{}:{}".format(*config.settings.bind)
    for key in keys or [Key(name, asked.scheme or "http", asked.host or bind, asked.target)]:
        yield f"Key      {key}"
        yield from _verdict(queries.variants_of(key) if is_there else [], pairs, rule, _masked(config))


def _keys_of(asked: Key) -> list[Key]:
    """The keys of stored responses of a route for a target, of one origin if that is given."""
    keys = queries.keys_at(asked.route, asked.target)
    return [key for key in keys if not asked.host or (key.scheme, key.host) == (asked.scheme, asked.host)]


def _verdict(stored_here: Iterable[Entry], pairs: Pairs, rule: policy.Rule, masked: Collection[str]) -> Iterator[str]:
    now_s, directives = time(), freshness.request_directives(pairs)
    entries = [freshness.limited_by(rule, entry) for entry in stored_here]
    for stored in entries:
        variant = _variant(stored, masked)
        yield (
            f"Stored   {stored.status}, {stored.current_age_s(now_s):.0f} s old, fresh for {stored.lifetime_s:g} s by "
            f"{stored.source}: {_fresh(stored, now_s)}{'; for ' + variant if variant else ''}"
        )
        if stored.anonymous:
            yield "         for requests without Cookie and Authorization: how long it is fresh is our guess"
    if directives != freshness.NO_DIRECTIVES:
        yield f"Request  asks for {', '.join(_wishes(directives))}"
    entry, is_varied = freshness.select(entries, pairs)
    if entry is None:
        others = "what is stored is for requests with other fields (fwd=vary-miss)"
        yield f"Answer   from the upstream: {others if is_varied else 'nothing is stored (fwd=uri-miss)'}"
        best = policy.Response("GET", pairs, 200, [(b"cache-control", b"max-age=60")], now_s, now_s)
        if (refused := policy.refusal(best, rule)) is not None:
            yield f"Then     not even an answer with Cache-Control: max-age=60 is stored: {refused.value}"
        return
    use = freshness.reuse_of(entry, directives, now_s)
    yield f"Answer   {_USES[use]}"
    if use in {freshness.Reuse.STALE, freshness.Reuse.REQUEST}:
        by = [name for name, value in (("ETag", entry.etag), ("Last-Modified", entry.last_modified)) if value]
        yield (
            f"         by its {' and '.join(by)}" if by else "         it has neither ETag nor Last-Modified: all of it"
        )
        if freshness.may_stand_in(entry, directives, now_s):
            yield "         if the upstream fails, the stored one is sent (stale-if-error)"


_USES = {
    freshness.Reuse.FRESH: "from the cache: it is fresh (hit)",
    freshness.Reuse.MAX_STALE: "from the cache: it is stale, and the request takes it so (max-stale)",
    freshness.Reuse.WHILE_REVALIDATE: "from the cache: stale, and validated meanwhile (stale-while-revalidate)",
    freshness.Reuse.STALE: "from the upstream: what is stored must be validated first (fwd=stale)",
    freshness.Reuse.REQUEST: "from the upstream: what is stored is fresh, the request wants it validated (fwd=request)",
}


def _wishes(directives: freshness.RequestDirectives) -> Iterator[str]:
    for name in (
        "no_store",
        "no_cache",
        "only_if_cached",
        "max_age_s",
        "min_fresh_s",
        "max_stale_s",
        "stale_if_error_s",
    ):
        value, usual = getattr(directives, name), getattr(freshness.NO_DIRECTIVES, name)
        if value != usual:
            yield name.removesuffix("_s").replace("_", "-") + ("" if value is True else f"={value:g}")
