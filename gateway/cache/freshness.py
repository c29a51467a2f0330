"""Whether a stored answer answers a request, how it is validated, what must be forgotten: decided.

A shared cache by RFC 9111, with stale-while-revalidate and stale-if-error (RFC 5861). What may be stored is decided in
`storing`. Sections named here are those of RFC 9111 unless another one is named. Times are seconds since the epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final
from urllib.parse import urljoin, urlsplit

from gateway.cache.policy import (
    OF_REQUEST,
    Entry,
    Reply,
    Rule,
    Why,
    entry_of,
    is_told,
    refusal,
    validators,
    vary_values,
)
from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import Pair, Pairs

# What another user must not be given, unless the upstream says that it may be.
CREDENTIALS: Final = frozenset({b"authorization", b"cookie"})


CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range"})


_FAILED: Final = frozenset({500, 502, 503, 504})  # RFC 5861, section 4


_GONE: Final = frozenset({404, 410})


INFINITE: Final = float("inf")


# -- what a request says ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Wish:
    """A request's directives (section 5.2.1); all of them are honoured."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    min_fresh_s: int = 0
    max_stale_s: float = -1.0
    stale_if_error_s: int = 0


NO_WISH: Final = Wish()


def wish_of(pairs: Iterable[Pair]) -> Wish:
    """What the request's Cache-Control says. An argument that is no number: the strictest that it could mean."""
    pairs = tuple(pairs)
    values = fields.all_of(pairs, b"cache-control")
    if not values:
        # Deprecated (section 5.4), but old clients mean it, and a validation more does no harm.
        pragma = {word.lower() for word in fields.members(fields.all_of(pairs, b"pragma"))}
        return Wish(no_cache=True) if "no-cache" in pragma else NO_WISH
    said = fields.directives(values)
    max_stale_s = -1.0
    if "max-stale" in said:
        seconds = fields.delta_seconds(said["max-stale"])
        max_stale_s = INFINITE if said["max-stale"] is None else float(seconds if seconds is not None else -1)
    return Wish(
        no_store="no-store" in said,
        no_cache="no-cache" in said,
        only_if_cached="only-if-cached" in said,
        max_age_s=_seconds_or(said, "max-age", 0) if "max-age" in said else None,
        min_fresh_s=_seconds_or(said, "min-fresh", fields.MAX_SECONDS),
        max_stale_s=max_stale_s,
        stale_if_error_s=fields.delta_seconds(said.get("stale-if-error")) or 0,
    )


def _seconds_or(said: Directives, name: str, strictest_s: int) -> int:
    seconds = fields.delta_seconds(said[name]) if name in said else 0
    return strictest_s if seconds is None else seconds


# -- answering with it --------------------------------------------------------------------------------------------
def chosen(entries: Iterable[Entry], request: Sequence[Pair]) -> tuple[Entry | None, bool]:
    """The stored answer for a request among those of its URI, and whether only Vary kept one from being it.

    The most recent one that matches (section 4), but one without Vary stands back behind those that have it (section
    4.1): the upstream left it out of the answer to who asked for nothing particular. HOWEVER not behind one that was
    stale already when it came: then it is the upstream's new word.
    """
    entries = list(entries)
    has_credentials = any(name in CREDENTIALS for name, _ in request)
    values: dict[bytes, bytes | None] = {}  # of each field once, however many variants there are

    def value_of(name: bytes) -> bytes | None:
        if name not in values:
            (values[name],) = vary_values((name,), request)
        return values[name]

    matching = [
        entry
        for entry in entries
        if not (entry.anonymous and has_credentials)
        and all(value_of(name) == value for name, value in zip(entry.vary, entry.values, strict=True))
    ]
    varied = _latest(entry for entry in matching if entry.vary)
    plain = _latest(entry for entry in matching if not entry.vary)
    if plain is not None and any(entry.vary and entry.date_s > plain.date_s for entry in entries):
        plain = None
    if varied is not None and plain is not None and varied.fresh_until_s <= plain.received_s:
        varied = None
    best = varied or plain
    return best, best is None and bool(entries)


def _latest(entries: Iterable[Entry]) -> Entry | None:
    return max(entries, key=lambda entry: (entry.date_s, entry.received_s), default=None)


class Use(Enum):
    """What may be done with a stored answer; the value is what Cache-Status says of it."""

    FRESH = "fresh"
    MAX_STALE = "max-stale"  # the request takes it stale
    WHILE_REVALIDATE = "stale-while-revalidate"
    STALE = "stale"  # to be validated first
    REQUEST = "request"  # fresh, but the request wants it validated


def under(rule: Rule, entry: Entry) -> Entry:
    """The entry with its durations capped by those of a rule, which may be another one than it was stored under."""
    most_s = rule.ttl_s or 0.0
    if entry.source == "ttl" and entry.lifetime_s > most_s:
        entry = replace(entry, lifetime_s=most_s)
    if entry.stand_in_s > rule.stale_if_error_s:
        entry = replace(entry, stand_in_s=rule.stale_if_error_s)
    return entry


def use_of(entry: Entry, wish: Wish, now_s: float) -> Use:
    """Whether a stored answer may be the answer now (sections 4, 4.2.4 and 5.2)."""
    if entry.always_validate:
        return Use.STALE
    ttl_s = entry.fresh_until_s - max(now_s, entry.received_s)
    is_too_old = wish.max_age_s is not None and entry.current_age_s(now_s) > wish.max_age_s
    if ttl_s > 0:
        return Use.REQUEST if wish.no_cache or is_too_old or ttl_s < wish.min_fresh_s else Use.FRESH
    if wish.no_cache or is_too_old or wish.min_fresh_s:
        return Use.STALE
    if wish.max_stale_s >= 0 and -ttl_s > wish.max_stale_s:  # whatever the upstream allows
        return Use.STALE
    if wish.max_stale_s >= 0 and not entry.never_stale:
        return Use.MAX_STALE
    if wish.max_age_s is None and -ttl_s < entry.stale_while_revalidate_s:
        return Use.WHILE_REVALIDATE
    return Use.STALE


def may_stand_in(entry: Entry, wish: Wish, now_s: float) -> bool:
    """Whether a stored answer may be sent because the upstream failed (RFC 5861, section 4): also a fresh one that the
    request wanted validated. The route's own word counts where nothing forbids it (section 4.2.4)."""
    if entry.always_validate or wish.no_cache:
        return False
    stale_s = now_s - entry.fresh_until_s
    most_s = max(entry.stale_if_error_s, entry.stand_in_s, 0 if entry.never_stale else wish.stale_if_error_s)
    return stale_s < 0 or (most_s > 0 and stale_s <= most_s)


def is_failure(status: int) -> bool:
    """Whether an answer is a failure that a stale one may stand in for (RFC 5861, section 4)."""
    return status in _FAILED


def stands(entry: Entry, reply: Reply, rule: Rule, now_s: float) -> bool:
    """Whether a stored answer stays although the upstream gave one request another answer that could be stored.

    A failure does not take its place: what is stored may have to stand in for it. Nor does a 4xx that does not say
    itself how long it is fresh take the place of what is fresh and good: mostly it is about the request.
    """
    if is_failure(reply.status):
        return True
    is_good = entry.status < 400 and use_of(entry, NO_WISH, now_s) is Use.FRESH
    return is_good and reply.status >= 400 and not is_told(reply, rule)


def ends(entry: Entry, reply: Reply, why: Why, now_s: float) -> bool:
    """Whether an answer that is not stored is the upstream's new word on a stored one, which must go then.

    What one request was refused says nothing of others: not where the request is the reason or may be it; and what is
    fresh stays so, whatever one request that wanted another one got.
    """
    if _is_for_one(reply, why) or (reply.status >= 400 and reply.status not in _GONE):
        return False
    return use_of(entry, NO_WISH, now_s) is not Use.FRESH


def _is_for_one(reply: Reply, why: Why) -> bool:
    """Whether an answer may not be stored for what its request says, perhaps: others may be answered otherwise."""
    return why in OF_REQUEST or any(name in CREDENTIALS for name, _ in reply.request)


# -- validation ---------------------------------------------------------------------------------------------------
def validating(request: Sequence[Pair], entry: Entry | None) -> Pairs:
    """The request's pairs with the conditions of a stored answer instead of its own (section 4.3.1).

    None asks for the whole: what comes can be stored, and the client's own conditions are evaluated on it.
    """
    pairs = [pair for pair in request if pair[0] not in CONDITIONS]
    if entry is not None and entry.etag is not None:
        pairs.append((b"if-none-match", entry.etag))
    if entry is not None and entry.last_modified is not None:
        pairs.append((b"if-modified-since", entry.last_modified))
    return pairs


def freshened(entry: Entry, reply: Reply, rule: Rule) -> tuple[Entry, Why | None] | None:
    """The stored answer after a 304 (section 4.3.4), and why it may not be stored on, if so.

    None where the 304 is about another representation than the stored one.
    """
    etag, modified = validators(reply.pairs, reply.received_s)
    if etag is not None:
        is_weak = etag != fields.opaque(etag)
        if etag != entry.etag and not (is_weak and entry.etag and fields.opaque(etag) == fields.opaque(entry.etag)):
            return None
    elif modified not in {None, entry.last_modified}:
        return None
    # HOWEVER one without any validator is about this answer: no other one's validators were sent.
    return _updated(entry, reply, rule)


def after_head(entry: Entry, reply: Reply, rule: Rule) -> Entry | None:
    """The stored answer after a HEAD was answered with 200 (section 4.3.5); None where it must not be used any more.

    As it was, where that says nothing of other requests.
    """
    said, stored = dict(reply.pairs), dict(entry.pairs)
    if entry.status != reply.status:
        return None
    if any(name in said and said[name] != stored.get(name) for name in (b"etag", b"last-modified", b"content-length")):
        return None
    updated, why = _updated(entry, replace(reply, method="GET"), rule)
    if why is None:
        return updated
    return entry if _is_for_one(reply, why) else None


def _updated(entry: Entry, reply: Reply, rule: Rule) -> tuple[Entry, Why | None]:
    """Section 3.2: every field that came replaces what was stored, but for Content-Length."""
    news = [pair for pair in reply.pairs if pair[0] != b"content-length"]
    # Dates and ages are of the validation, or of nothing.
    names = {name for name, _ in news} | {b"date"}
    merged = [*(pair for pair in entry.pairs if pair[0] not in names), *news]
    whole = replace(reply, status=entry.status, pairs=merged)
    return entry_of(whole, rule, entry.body), refusal(whole, rule)


# -- invalidation -------------------------------------------------------------------------------------------------
def invalidated(scheme: str, host: str, target: str, status: int, pairs: Iterable[Pair]) -> list[str]:
    """The targets of this origin whose stored answers must go after an unsafe method (section 4.4).

    `target` is the raw path and query. Location and Content-Location count if they are of the same origin.
    """
    if not 200 <= status <= 399:
        return []
    found = [target]
    base = f"{scheme}://{host}{target}"
    for name, value in pairs:
        if name in {b"location", b"content-location"}:
            try:
                url = urlsplit(urljoin(base, value.decode("latin-1")))
            except ValueError:
                continue
            if (url.scheme, url.netloc.lower()) == (scheme, host.lower()):
                found.append((url.path or "/") + (f"?{url.query}" if url.query else ""))
    return list(dict.fromkeys(found))


# -- Cache-Status -------------------------------------------------------------------------------------------------
def status_field(words: Mapping[str, str | int | bool | None]) -> bytes:
    """Cache-Status of this cache (RFC 9211): `portway; fwd=uri-miss; stored`."""
    said = ["portway"]
    for name, value in words.items():
        if value is True:
            said.append(name)
        elif value is not None and value is not False:
            said.append(f"{name}={value}")
    return "; ".join(said).encode("ascii")
