"""Whether a stored response answers a request, how it is validated, what is invalidated: pure decisions.

A shared cache by RFC 9111, with stale-while-revalidate and stale-if-error (RFC 5861). `policy` decides what may be
stored. Sections are those of RFC 9111 unless another RFC is named. Times are seconds since the epoch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final
from urllib.parse import urljoin, urlsplit

from gateway.cache.policy import (
    CREDENTIAL,
    REASONS_OF_REQUEST,
    Entry,
    NotStored,
    Response,
    Rule,
    entry_of,
    refusal,
    states_freshness,
    validators,
    vary_values,
)
from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import Pair, Pairs, all_of

# A response to a request with these may belong to its user, unless the upstream says otherwise.
CREDENTIALS: Final = frozenset({b"authorization", b"cookie", CREDENTIAL[0]})
CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range"})
_FAILED: Final = frozenset({500, 502, 503, 504})  # RFC 5861, section 4
_GONE: Final = frozenset({404, 410})
INFINITE: Final = float("inf")

# -- the request's directives -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """The Cache-Control of a request (section 5.2.1); all of it is honoured."""

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age_s: int | None = None
    min_fresh_s: int = 0
    max_stale_s: float = -1.0
    stale_if_error_s: int = 0


NO_DIRECTIVES: Final = RequestDirectives()


def request_directives(pairs: Iterable[Pair]) -> RequestDirectives:
    """Parse the request's Cache-Control. An argument that is not a number counts as the strictest possible value."""
    pairs = tuple(pairs)
    values = all_of(pairs, b"cache-control")
    if not values:
        # Deprecated (section 5.4), but old clients still send it, and an extra validation does no harm.
        pragma = {word.lower() for word in fields.members(all_of(pairs, b"pragma"))}
        return RequestDirectives(no_cache=True) if "no-cache" in pragma else NO_DIRECTIVES
    directives = fields.directives(values)
    max_stale_s = -1.0
    if "max-stale" in directives:
        seconds = fields.delta_seconds(directives["max-stale"])
        max_stale_s = INFINITE if directives["max-stale"] is None else float(seconds if seconds is not None else -1)
    return RequestDirectives(
        no_store="no-store" in directives,
        no_cache="no-cache" in directives,
        only_if_cached="only-if-cached" in directives,
        max_age_s=_seconds_or(directives, "max-age", 0) if "max-age" in directives else None,
        min_fresh_s=_seconds_or(directives, "min-fresh", fields.MAX_SECONDS),
        max_stale_s=max_stale_s,
        stale_if_error_s=fields.delta_seconds(directives.get("stale-if-error")) or 0,
    )


def _seconds_or(directives: Directives, name: str, strictest_s: int) -> int:
    seconds = fields.delta_seconds(directives[name]) if name in directives else 0
    return strictest_s if seconds is None else seconds


# -- reuse --------------------------------------------------------------------------------------------------------


def select(entries: Iterable[Entry], request: Sequence[Pair]) -> tuple[Entry | None, bool]:
    """The stored response for a request among those of its URI, and whether there are only other variants.

    The most recent match wins (section 4), but a match with Vary goes before one without (section 4.1), since some
    upstreams leave Vary out for requests without preferences. It does not if it was stale when the other one arrived:
    then the upstream has stopped sending Vary.
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


class Reuse(Enum):
    """How a stored response may be used; the value stands in Cache-Status."""

    FRESH = "fresh"
    MAX_STALE = "max-stale"  # stale, which the request accepts
    WHILE_REVALIDATE = "stale-while-revalidate"
    STALE = "stale"  # to be validated first
    REQUEST = "request"  # fresh, but the request demands validation


def limited_by(rule: Rule, entry: Entry) -> Entry:
    """The entry with its lifetimes capped by the route's current options."""
    most_s = rule.ttl_s or 0.0
    if entry.source == "ttl" and entry.lifetime_s > most_s:
        entry = replace(entry, lifetime_s=most_s)
    if entry.stand_in_s > rule.stale_if_error_s:
        entry = replace(entry, stand_in_s=rule.stale_if_error_s)
    return entry


def reuse_of(entry: Entry, directives: RequestDirectives, now_s: float) -> Reuse:
    """How a stored response may be used for a request now (sections 4, 4.2.4 and 5.2)."""
    if entry.always_validate:
        return Reuse.STALE
    ttl_s = entry.fresh_until_s - max(now_s, entry.received_s)
    is_too_old = directives.max_age_s is not None and entry.current_age_s(now_s) > directives.max_age_s
    if ttl_s > 0:
        return Reuse.REQUEST if directives.no_cache or is_too_old or ttl_s < directives.min_fresh_s else Reuse.FRESH
    if directives.no_cache or is_too_old or directives.min_fresh_s:
        return Reuse.STALE
    if directives.max_stale_s >= 0 and -ttl_s > directives.max_stale_s:  # whatever the upstream allows
        return Reuse.STALE
    if directives.max_stale_s >= 0 and not entry.never_stale:
        return Reuse.MAX_STALE
    if directives.max_age_s is None and -ttl_s < entry.stale_while_revalidate_s:
        return Reuse.WHILE_REVALIDATE
    return Reuse.STALE


def may_stand_in(entry: Entry, directives: RequestDirectives, now_s: float) -> bool:
    """Whether a stored response may be sent because the upstream failed (RFC 5861, section 4).

    Also a fresh one, if the request demanded validation. The route's own stale-if-error counts where nothing forbids it
    (section 4.2.4).
    """
    if entry.always_validate or directives.no_cache:
        return False
    stale_s = now_s - entry.fresh_until_s
    most_s = max(entry.stale_if_error_s, entry.stand_in_s, 0 if entry.never_stale else directives.stale_if_error_s)
    return stale_s < 0 or (most_s > 0 and stale_s <= most_s)


def is_failure(status: int) -> bool:
    """Whether a stale response may be sent instead of one with this status (RFC 5861, section 4)."""
    return status in _FAILED


def stays_stored(entry: Entry, response: Response, rule: Rule, now_s: float) -> bool:
    """Whether a stored response is kept although a newer one could be stored in its place.

    A failure does not replace it: it may have to stand in for the failure. Nor does a 4xx without a lifetime of its
    own replace a fresh success: mostly it is about that one request.
    """
    if is_failure(response.status):
        return True
    is_good = entry.status < 400 and reuse_of(entry, NO_DIRECTIVES, now_s) is Reuse.FRESH
    return is_good and response.status >= 400 and not states_freshness(response, rule)


def is_superseded(entry: Entry, response: Response, why: NotStored, now_s: float) -> bool:
    """Whether a response that is not stored supersedes a stored one, which must be removed then.

    Not if the request is, or may be, the reason that it is not stored: that means nothing for other requests. And a
    fresh entry stays, whatever the answer to a request that forced a validation.
    """
    if _is_for_one(response, why) or (response.status >= 400 and response.status not in _GONE):
        return False
    return reuse_of(entry, NO_DIRECTIVES, now_s) is not Reuse.FRESH


def _is_for_one(response: Response, why: NotStored) -> bool:
    """Whether the request is, or may be, the reason that its response is not stored."""
    return why in REASONS_OF_REQUEST or any(name in CREDENTIALS for name, _ in response.request)


# -- validation ---------------------------------------------------------------------------------------------------


def validating(request: Sequence[Pair], entry: Entry | None) -> Pairs:
    """The request's pairs with the validators of a stored response instead of its own conditions (section 4.3.1).

    With None there are no conditions at all, so that a full response comes, which can be stored; the client's own
    conditions are evaluated on that.
    """
    pairs = [pair for pair in request if pair[0] not in CONDITIONS]
    if entry is not None and entry.etag is not None:
        pairs.append((b"if-none-match", entry.etag))
    if entry is not None and entry.last_modified is not None:
        pairs.append((b"if-modified-since", entry.last_modified))
    return pairs


def freshened(entry: Entry, response: Response, rule: Rule) -> tuple[Entry, NotStored | None] | None:
    """The stored response updated by a 304 (section 4.3.4), and why it may not be stored any longer, if so.

    None if the 304 is about another representation than the stored one.
    """
    etag, modified = validators(response.pairs, response.received_s)
    if etag is not None:
        is_weak = etag != fields.opaque(etag)
        if etag != entry.etag and not (is_weak and entry.etag and fields.opaque(etag) == fields.opaque(entry.etag)):
            return None
    elif modified not in {None, entry.last_modified}:
        return None
    # A 304 without any validator is about this entry: no other validators were sent.
    return _updated(entry, response, rule)


def after_head(entry: Entry, response: Response, rule: Rule) -> Entry | None:
    """The stored response updated by the response to a HEAD (section 4.3.5); None if it must not be used any more.

    Unchanged if that response is about its own request only.
    """
    received, stored = dict(response.pairs), dict(entry.pairs)
    if entry.status != response.status:
        return None
    if any(
        name in received and received[name] != stored.get(name)
        for name in (b"etag", b"last-modified", b"content-length")
    ):
        return None
    updated, why = _updated(entry, replace(response, method="GET"), rule)
    if why is None:
        return updated
    return entry if _is_for_one(response, why) else None


def _updated(entry: Entry, response: Response, rule: Rule) -> tuple[Entry, NotStored | None]:
    """Section 3.2: every field received replaces the stored one, except Content-Length."""
    news = [pair for pair in response.pairs if pair[0] != b"content-length"]
    # Date is that of the validation, if it has one, and never the old one.
    names = {name for name, _ in news} | {b"date"}
    merged = [*(pair for pair in entry.pairs if pair[0] not in names), *news]
    whole = replace(response, status=entry.status, pairs=merged)
    return entry_of(whole, rule, entry.body), refusal(whole, rule)


# -- invalidation -------------------------------------------------------------------------------------------------


def invalidated(scheme: str, host: str, target: str, status: int, pairs: Iterable[Pair]) -> list[str]:
    """The targets of this origin with stored responses that an unsafe method invalidates (section 4.4).

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
    params = ["portway"]
    for name, value in words.items():
        if value is True:
            params.append(name)
        elif value is not None and value is not False:
            params.append(f"{name}={value}")
    return "; ".join(params).encode("ascii")
