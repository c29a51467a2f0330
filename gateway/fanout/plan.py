"""Fan-out, decided: what a part's target asks for, in which order parts can run, what the merged answer says of them.

A part's target is `upstream:/path?query` with placeholders: `{id}` is a parameter of the route's path, `{query.page}`
one of the client's query, `{header.x-tenant}` a field of its request, `{user.team_id}` a field of another part, and
`{orders[].product_id}` that field of every item of a list: such a part is mapped, one call for each distinct target.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from gateway.cache.policy import Rule, vary_names
from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import Pair
from gateway.http.paths import climbs, is_refused
from gateway.http.queries import masked_target
from gateway.patterns import PLACEHOLDER, PatternError, cut, is_upstream_name

_NO_VALUES = frozenset({"", ".", ".."})
RESERVED = frozenset({"query", "header"})
LAST = "end"  # the id of a stream's last event
_REFERENCE = re.compile(r"[A-Za-z0-9_$@-]+(?:\[\])?(?:\.[A-Za-z0-9_$@-]+(?:\[\])?)*")


class Confined(ValueError):
    """A value that may not stand in a part's target; `reference` is its placeholder."""

    def __init__(self, reference: "Reference") -> None:
        super().__init__(reference.text)
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Reference:
    """One placeholder. `owner` is `query`, `header`, a path parameter or a part; `fields` lead to the value within it.

    In a mapped one `fields` lead to the list and `item_fields` on from each item.
    """

    text: str
    owner: str
    fields: tuple[str, ...] = ()
    item_fields: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PartTarget:
    """Where a part is asked for: an upstream's name, and literals and placeholders in turn (True: in the query).

    No upstream stands where a function of the gateway's own Python makes the part: `text` is its dotted path, and its
    parameters are the placeholders.
    """

    text: str
    upstream: str
    pieces: tuple[tuple[str, Reference | None, bool], ...]

    @property
    def is_function(self) -> bool:
        return not self.upstream

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(reference for _, reference, _ in self.pieces if reference is not None)

    @property
    def mapped(self) -> Reference | None:
        """The placeholder whose list the part is mapped over, if it is."""
        return next((reference for reference in self.references if reference.item_fields is not None), None)

    def shown(self) -> "PartTarget":
        """The same as it may be shown: what is written as a value in its query may be a key."""
        return self if self.is_function else parse_part(masked_target(self.text))

    def fill(self, text_of: Callable[[Reference], str], raw: Mapping[str, str]) -> str:
        """The raw target; `text_of` gives a value as text, `raw` the path's own parameters as they came.

        Values are percent-encoded for where they stand; what is no UTF-8 (lone surrogates, PEP 383) stays what it was.
        Raises Confined for one that is empty, or has a piece `.` or `..`.
        """
        out = []
        for literal, reference, in_query in self.pieces:
            out.append(literal)
            if reference is None:
                continue
            if reference.owner in raw and not in_query:
                value = text = raw[reference.owner]
            else:
                value = text_of(reference)
                text = quote(value, safe="", errors="surrogateescape")
            if value in _NO_VALUES or (not in_query and ("\0" in value or climbs("/" + value))):
                raise Confined(reference)
            out.append(text)
        target = "".join(out)
        if climbs(target.partition("?")[0]):  # what stands side by side may be what neither is
            raise Confined(self.references[0])
        return target


def function_target(path: str, parameters: Iterable[str] = ()) -> PartTarget:
    """A function that makes a part, and the path parameters and parts that it asks for by its own parameters."""
    return PartTarget(path, "", tuple(("", Reference(f"{{{name}}}", name), False) for name in parameters))


def parse_part(text: str) -> PartTarget:
    """`upstream:/path/{id}?query={user.id}` -> PartTarget; raises PatternError."""
    upstream, colon, target = text.strip().partition(":")
    if not is_upstream_name(upstream):
        raise PatternError(
            f"'{masked_target(upstream)}' is not an upstream's name; a part is written 'users:/users/{{id}}'"
        )
    if not colon or not target.startswith("/"):
        raise PatternError(f"a part needs a path that begins with a slash: '{upstream}:/...'")
    if any(character == "#" or not "!" <= character <= "~" for character in target):
        raise PatternError("a target holds no white space, no '#', and only ASCII")
    path, mark, query = target.partition("?")
    if "**" in path:
        raise PatternError("a part's target has no '**': what it asks for is written out")
    if is_refused(PLACEHOLDER.sub("x", path)):
        raise PatternError("a target holds no '.' or '..' segment, no '\\' and no '%00'")
    pieces = [*cut(path, _reference, in_query=False), *(cut(mark + query, _reference, in_query=True) if mark else ())]
    found = PartTarget(text.strip(), upstream, tuple(pieces))
    lists = {(one.owner, one.fields) for one in found.references if one.item_fields is not None}
    if len(lists) > 1:
        raise PatternError("a part is mapped over one list, not several")
    return found


def _reference(inside: str) -> Reference:
    text = f"{{{inside}}}"
    if not _REFERENCE.fullmatch(inside):
        raise PatternError(f"'{text}' is not a value; {{id}}, {{query.page}}, {{user.team_id}}, {{orders[].id}} are")
    if inside.count("[]") > 1:
        raise PatternError(f"'{text}' maps over a list within a list; one '[]' can be mapped over")
    head, mapped, tail = inside.partition("[]")
    owner, *fields = head.split(".")
    if owner == "header" and fields:
        fields = [".".join(fields).lower()]
    elif owner == "query" and fields:
        fields = [".".join(fields)]
    return Reference(text, owner, tuple(fields), tuple(filter(None, tail.split("."))) if mapped else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a fan-out. `default` is the JSON text that stands for a failed optional one."""

    name: str
    target: PartTarget
    optional: bool = False
    default: bytes = b"null"
    timeout_s: float | None = None  # within the route's
    pick: tuple[str, ...] = ()
    method: str = "GET"
    headers: tuple[tuple[str, str | None], ...] = ()
    max_body_bytes: int = 10 * 2**20
    cache: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fan:
    """The parts of a route, and what holds for all of them."""

    parts: tuple[Part, ...]
    merge: str = "keyed"
    concurrency: int = 8  # calls of one mapped part at a time
    max_items: int = 100  # calls of one mapped part
    passes: frozenset[int] = frozenset()  # statuses of a required part that become the answer's
    forward: tuple[str, ...] = ()  # the client's fields that go to parts, beside the usual ones


# -- the plan -----------------------------------------------------------------------------------------------------


def needs(target: PartTarget, parts: Iterable[str]) -> frozenset[str]:
    """The parts whose answers a target asks for."""
    return frozenset(reference.owner for reference in target.references) & frozenset(parts)


def problems(
    targets: Mapping[str, PartTarget], params: Sequence[str], *, merge: str = "keyed"
) -> Iterator[tuple[str, str]]:
    """What is wrong with the parts of a route whose path has these parameters: (part, sentence)."""
    for name, target in targets.items():
        if name in RESERVED or name in params:
            what = "a parameter of the path" if name in params else "the client's request"
            yield name, f"a part cannot be called {name}: in a target {{{name}}} is {what}"
        if name == LAST:
            yield name, f"a part cannot be called {name}: so is the last event of a stream"
        if merge == "flat" and target.mapped is not None:
            yield name, f"the part {name} is a list, which has no members to be merged flat"
        for reference in target.references:
            if (fault := _fault_of(reference, targets, params)) is not None:
                yield name, fault
    for name in _in_cycles({name: target for name, target in targets.items() if name not in {*RESERVED, *params}}):
        yield name, f"the part {name} waits for itself, through {', '.join(sorted(needs(targets[name], targets)))}"


def _fault_of(reference: Reference, targets: Mapping[str, PartTarget], params: Sequence[str]) -> str | None:
    owner, text = reference.owner, reference.text
    if owner in RESERVED:
        if len(reference.fields) != 1 or reference.item_fields is not None:
            return f"{text} needs one name, as in {{{owner}.{'page' if owner == 'query' else 'x-tenant'}}}"
        return None
    if owner in params:
        return None if not reference.fields and reference.item_fields is None else f"{text}: {owner} is a text"
    if owner in targets:
        return None
    known = [f"{{{param}}}" for param in params] + [f"{{{part}...}}" for part in targets]
    return f"{text} is neither a parameter of the path nor a part; there are {', '.join(known)}"


def _in_cycles(targets: Mapping[str, PartTarget]) -> list[str]:
    """The parts that can never begin: take away what can, as long as something can."""
    waiting = {name: needs(target, targets) for name, target in targets.items()}
    while ready := [name for name, others in waiting.items() if not others & waiting.keys()]:
        for name in ready:
            del waiting[name]
    return [name for name, others in waiting.items() if name in _reachable(others, waiting)]


def _reachable(start: Iterable[str], waiting: Mapping[str, frozenset[str]]) -> set[str]:
    seen: set[str] = set()
    queue = list(start)
    while queue:
        name = queue.pop()
        if name not in seen and name in waiting:
            seen.add(name)
            queue.extend(waiting[name])
    return seen


# -- what the merged answer says ----------------------------------------------------------------------------------


def parts_field(entries: Iterable[tuple[str, Mapping[str, int | str]]]) -> bytes:
    """Gateway-Parts, a list of RFC 9651: `user;s=200;ms=12, orders;e=response_timeout;ms=300`."""
    shown = ("".join([name, *(f";{key}={value}" for key, value in params.items())]) for name, params in entries)
    return ", ".join(shown).encode("ascii")


_READ: Final = frozenset({b"age", b"cache-control", b"date", b"expires", b"set-cookie", b"vary"})


def cache_control(answers: Sequence[Sequence[Pair]], now_s: float) -> bytes | None:
    """What the merged answer may say of storing it, from the fields of its parts: never more than each of them says.

    The least freshness, less the age that it has already; no-store or private if one says so (RFC 9111, sections 4.2
    and 5.2.2). What lets shared caches store the answer to an authorised request (section 3.5) is said only if all of
    them do. None where nothing can be said: then nothing is.
    """
    answers = [[(low, value) for name, value in pairs if (low := name.lower()) in _READ] for pairs in answers]
    if all(name == b"date" for pairs in answers for name, _ in pairs):
        return None
    said = [fields.directives(fields.all_of(pairs, b"cache-control")) for pairs in answers]
    if any("no-store" in one for one in said) or any(vary_names(pairs) is None for pairs in answers):
        return b"no-store"
    # A part that sets a cookie is about one user, although the cookie itself goes no further.
    sets_cookie = any(name == b"set-cookie" for pairs in answers for name, _ in pairs)
    words = ["private"] if sets_cookie or any("private" in one for one in said) else []
    firm = [one for one in said if "must-revalidate" in one]
    own = [_freshness_s(pairs, one, now_s) for pairs, one in zip(answers, said, strict=True)]
    fresh = [seconds for seconds, _ in own if seconds is not None]
    shared = [seconds for _, seconds in own if seconds is not None]
    if any("no-cache" in one for one in said) or (firm and len(firm) < len(said)):
        words.append("no-cache")
    elif own and len(fresh) == len(own):
        for_all = len(shared) == len(own) and not words
        words.append(f"max-age={min(fresh if for_all else fresh + shared)}")
        if for_all:
            words.append(f"s-maxage={min(shared)}")
    if firm and len(firm) == len(said):
        words.append("must-revalidate")
    return ", ".join(words).encode("ascii") or None


def _freshness_s(pairs: Sequence[Pair], said: Directives, now_s: float) -> tuple[int | None, int | None]:
    """Seconds that an answer stays fresh, for any cache and for shared ones (None where it does not say)."""
    age_s = fields.delta_seconds(_text(fields.first_of(pairs, b"age"))) or 0
    # What is no number is stale (RFC 9111, section 4.2.1).
    fresh_s, shared_s = (
        (fields.delta_seconds(said[word]) or 0) if word in said else None for word in ("max-age", "s-maxage")
    )
    expires = fields.first_of(pairs, b"expires")
    if fresh_s is None and expires is not None:
        expires_s = fields.http_date_s(expires, now_s)
        date_s = fields.http_date_s(fields.first_of(pairs, b"date"), now_s)
        fresh_s = 0 if expires_s is None else max(0, int(expires_s - (now_s if date_s is None else date_s)))
    return (
        None if fresh_s is None else max(0, fresh_s - age_s),
        None if shared_s is None else max(0, shared_s - age_s),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1").strip()


def vary(names: Iterable[str]) -> bytes:
    """Vary, for the request fields that the merged answer depends on; each once, in a steady order."""
    return ", ".join(dict.fromkeys(names)).encode("ascii")


# -- which representation -----------------------------------------------------------------------------------------

JSON, NDJSON, EVENTS = "application/json", "application/x-ndjson", "text/event-stream"
_PLAIN: Final = frozenset({b"", b"*/*", b"application/json"})  # what most clients say


_MOST_RANGES: Final = 50  # of Accept, and parameters of one, that are looked at: no client means more


def representation(accept: Iterable[bytes]) -> str:
    """The media type that the client likes best (RFC 9110, section 12.5.1); a wildcard means JSON.

    Streams must be asked for by name; of equals JSON wins. Where none is acceptable, JSON is sent all the same.
    """
    said = b",".join(accept)
    if said in _PLAIN:
        return JSON
    ranges = dict(_ranges(said.decode("latin-1")))
    # Of the ranges that hold for a type the most specific one counts.
    json = next((ranges[media] for media in (JSON, "application/*", "*/*") if media in ranges), 0.0)
    liked = {JSON: json, NDJSON: ranges.get(NDJSON, 0.0), EVENTS: ranges.get(EVENTS, 0.0)}
    return max(liked, key=lambda media: liked[media])


def _ranges(text: str) -> Iterator[tuple[str, float]]:
    for item in text.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        media, *params = (word.strip().lower() for word in item.split(";", _MOST_RANGES)[:_MOST_RANGES])
        quality = 1.0
        for param in params:
            name, _, value = param.partition("=")
            if name.strip() == "q":
                quality = float(value) if re.fullmatch(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?", value.strip()) else 0.0
        yield media, quality
