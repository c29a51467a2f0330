"""What a shared cache may store, and for how long it is fresh (RFC 9111, sections 3 and 4.2): pure decisions.

Safe first: a response that could belong to one user is stored only if the upstream explicitly allows it. Sections are
those of RFC 9111 unless another RFC is named. Times are seconds since the epoch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import OWS, Pair, all_of, first_of, is_token

# RFC 9110, section 15.1, without 206: partial responses are not stored.
HEURISTIC: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
# Status codes whose caching requirements are implemented (must-understand, section 5.2.2.3).
_UNDERSTOOD: Final = HEURISTIC | {302, 303, 307, 400, 401, 403, 406, 409, 421, 451, 500, 502, 503, 504}
_HEURISTIC_FRACTION, _HEURISTIC_MOST_S = 0.1, 24 * 3600.0
# Fields of one hop or one request (section 3.1), and those that the gateway sets on every response.
_UNSTORED_FIELDS: Final = frozenset(
    {b"age", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"x-request-id"}
) | {b"proxy-status", b"server-timing", b"connection", b"keep-alive", b"transfer-encoding", b"trailer", b"upgrade"}
# Request fields that the gateway sets itself, with another value for each client or request.
_OWN_WORDS: Final = frozenset({b"forwarded", b"traceparent", b"tracestate", b"x-forwarded-for", b"x-request-id"})
_TAG_FIELDS: Final = (b"cache-tag", b"surrogate-key")
# Fields in which white space and case, or order, have no meaning (section 4.1).
_NEGOTIATED: Final = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})
_ORDERLESS: Final = frozenset({b"accept-encoding"})
# Fields that are not lists: a comma in them separates nothing.
_OPAQUE: Final = frozenset({b"authorization", b"cookie"})
# Longer values are compared as received: normalizing them costs more than it could save.
_NORMAL_MOST_BYTES: Final = 2048
_MAX_VARY: Final = 50  # fields; more than that count as `*`
_NEVER_STALE: Final = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})
_GUESSES: Final = frozenset({"ttl", "heuristic", "none"})
_VALIDATABLE_S: Final = 3600.0  # how long a stale answer with a validator is kept, at least


# Added to the fields of an authenticated request: whatever carried its credential, a cookie or the query too, counts as
# Authorization (section 3.5). No client can send a field of this name, and none goes up.
CREDENTIAL: Final[Pair] = (b":credential", b"")
_AUTHORIZED: Final = frozenset({b"authorization", CREDENTIAL[0]})
_FOR_ALL: Final = frozenset({"public", "s-maxage", "must-revalidate"})


@dataclass(frozen=True, slots=True)
class Rule:
    """The caching options of a route.

    `ttl_s` is the lifetime of responses without one of their own; None stores only those that state it. Likewise
    `stale_if_error_s` is how long a stale response may stand in for a failure.
    """

    ttl_s: float | None = None
    max_body_bytes: int = 2 * 2**20
    stale_if_error_s: float = 0.0


class NotStored(Enum):
    """Why a response is not stored: the value is shown by `gateway cache why`, `word` stands in Cache-Status."""

    METHOD = "the request is no GET"
    REQUEST_NO_STORE = "the request says no-store"
    RANGE = "the request asks for a range"
    PARTIAL = "the answer is partial"
    STATUS = "an answer with this status is stored only if it says how long it is fresh"
    NO_STORE = "the answer says no-store"
    PRIVATE = "the answer says private"
    SET_COOKIE = "the answer sets a cookie"
    AUTHORIZATION = "the request has Authorization, and the answer does not say public, s-maxage or must-revalidate"
    COOKIE = "the request has a Cookie, and the answer does not say how long it is fresh"
    VARY = "the answer varies with every client or request"
    UNNAMED_VARY = "the view read header fields and names none in Vary"
    NO_FRESHNESS = "the answer says neither how long it is fresh nor how to validate it"
    STALE = "the answer is stale already and has nothing to validate it by"
    STREAMS = "it is a stream of events, or one that a view makes for itself"
    TOO_LARGE = "the body is larger than CACHE_MAX_BODY"
    PURGED = "it was purged or invalidated while it was under way"

    @property
    def word(self) -> str:
        return self.name.lower().replace("_", "-")


# Reasons that lie in the request: other requests may still be answered from the cache.
REASONS_OF_REQUEST: Final = frozenset(
    {NotStored.METHOD, NotStored.REQUEST_NO_STORE, NotStored.RANGE, NotStored.AUTHORIZATION, NotStored.COOKIE}
)


@dataclass(frozen=True)
class Response:
    """A response as received, with the request that it answers. Field names are in lower case."""

    method: str
    request: Sequence[Pair]
    status: int
    pairs: Sequence[Pair]
    requested_s: float
    received_s: float

    @cached_property
    def directives(self) -> Directives:
        """The cache directives that apply here: a valid CDN-Cache-Control overrides Cache-Control and Expires (RFC
        9213, section 2)."""
        return fields.directives(all_of(self.pairs, b"cache-control")) if self._targeted is None else self._targeted

    @cached_property
    def _targeted(self) -> Directives | None:
        for_us = all_of(self.pairs, b"cdn-cache-control")
        return fields.targeted(for_us) if for_us else None

    @property
    def may_expire(self) -> bool:
        return self._targeted is None

    @cached_property
    def date_s(self) -> float:
        date_s = fields.http_date_s(first_of(self.pairs, b"date"), self.received_s)
        return self.received_s if date_s is None else date_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored response. `pairs` lack Age; `values` are the request's values of the fields in `vary`.

    `source` names the origin of its lifetime; `stand_in_s` is the stale-if-error of the route. An `anonymous` entry may
    only answer requests without credentials: its lifetime is the gateway's guess, or it has none.
    """

    status: int
    pairs: tuple[Pair, ...]
    body: bytes
    vary: tuple[bytes, ...]
    values: tuple[bytes | None, ...]
    requested_s: float
    received_s: float
    date_s: float
    age_s: float  # at `received_s`
    lifetime_s: float
    source: str
    anonymous: bool
    always_validate: bool
    never_stale: bool
    stale_while_revalidate_s: int
    stale_if_error_s: int
    etag: bytes | None
    last_modified: bytes | None
    stand_in_s: float = 0.0

    @property
    def fresh_until_s(self) -> float:
        return self.received_s + self.lifetime_s - self.age_s

    @property
    def useful_until_s(self) -> float:
        """The time from which it can no longer answer any request."""
        stale_s = float(max(self.stale_while_revalidate_s, self.stale_if_error_s, self.stand_in_s))
        if self.can_be_validated:
            stale_s = max(stale_s, _VALIDATABLE_S, self.lifetime_s)
        return max(self.fresh_until_s, self.received_s) + stale_s

    @property
    def can_be_validated(self) -> bool:
        return self.etag is not None or self.last_modified is not None

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags for purges, from Cache-Tag and Surrogate-Key. Both may use commas or spaces."""
        text = b" ".join(value for name, value in self.pairs if name in _TAG_FIELDS).decode("latin-1")
        return tuple(dict.fromkeys(text.replace(",", " ").split()))

    def current_age_s(self, now_s: float) -> float:
        """Section 4.2.3."""
        return self.age_s + max(0.0, now_s - self.received_s)


# -- whether ------------------------------------------------------------------------------------------------------


def refusal(response: Response, rule: Rule) -> NotStored | None:
    """Why a response must not be stored (section 3), or None if it may be."""
    status, pairs, names = response.status, response.pairs, {name for name, _ in response.request}
    if response.method != "GET":
        return NotStored.METHOD
    if b"cache-control" in names and "no-store" in fields.directives(all_of(response.request, b"cache-control")):
        return NotStored.REQUEST_NO_STORE
    if b"range" in names:
        return NotStored.RANGE
    if status == 206:
        return NotStored.PARTIAL
    directives = response.directives
    understood = status in _UNDERSTOOD
    if status == 304 or not 200 <= status <= 599 or ("must-understand" in directives and not understood):
        return NotStored.STATUS
    # For a status that is understood, must-understand overrides no-store (section 5.2.2.3).
    if "no-store" in directives and not ("must-understand" in directives and understood):
        return NotStored.NO_STORE
    if "private" in directives and directives["private"] is None:
        return NotStored.PRIVATE
    if first_of(pairs, b"set-cookie") is not None and b"set-cookie" not in _excluded(directives):
        return NotStored.SET_COOKIE
    if not _AUTHORIZED.isdisjoint(names) and not directives.keys() & _FOR_ALL:  # section 3.5
        return NotStored.AUTHORIZATION
    varies_on = vary_names(pairs)
    if varies_on is None or not _OWN_WORDS.isdisjoint(varies_on):
        return NotStored.VARY
    return _refusal_by_lifetime(response, rule, directives, has_cookie=b"cookie" in names)


def _refusal_by_lifetime(
    response: Response, rule: Rule, directives: Directives, *, has_cookie: bool
) -> NotStored | None:
    """Reasons against storing that an explicit lifetime overrides."""
    seconds, source = lifetime(response, rule)
    is_stated = source not in _GUESSES
    if not is_stated and (first_of(response.pairs, b"content-type") or b"").lower().startswith(b"text/event-stream"):
        return NotStored.STREAMS
    if not is_stated and (response.status >= 500 or (response.status not in HEURISTIC and "public" not in directives)):
        return NotStored.STATUS
    if has_cookie and not (is_stated and (seconds > 0 or "public" in directives)):
        return NotStored.COOKIE
    if validators(response.pairs, response.received_s) != (None, None):
        return None
    if source == "none":
        return NotStored.NO_FRESHNESS
    stale_s = (
        _stale_s(directives, "stale-while-revalidate")
        or _stale_s(directives, "stale-if-error")
        or _stand_in_s(directives, rule)
    )
    return None if stale_s or seconds > _initial_age_s(response, source) else NotStored.STALE


def _excluded(directives: Directives) -> frozenset[bytes]:
    """Fields that must not be stored: `private="x"` (section 5.2.2.7), `no-cache="x"` (section 5.2.2.4)."""
    named = ",".join(directives.get(name) or "" for name in ("private", "no-cache"))
    return frozenset(word.strip().lower().encode("latin-1") for word in named.split(",") if word.strip())


# -- how long -----------------------------------------------------------------------------------------------------


def lifetime(response: Response, rule: Rule) -> tuple[float, str]:
    """Freshness lifetime in seconds and its source (section 4.2.1), `none` without one.

    A value that is not a number makes the response stale, as the section recommends.
    """
    directives = response.directives
    for name in ("s-maxage", "max-age"):
        if name in directives:
            return float(fields.delta_seconds(directives[name]) or 0), name
    expires = first_of(response.pairs, b"expires")
    if expires is not None and response.may_expire:
        until_s = fields.http_date_s(expires, response.received_s)
        return (0.0 if until_s is None else max(0.0, until_s - response.date_s)), "expires"
    if response.status not in HEURISTIC and "public" not in directives:
        return 0.0, "none"
    if "no-cache" in directives and directives["no-cache"] is None:
        return 0.0, "no-cache"
    if rule.ttl_s is not None:
        return rule.ttl_s, "ttl"
    modified_s = fields.http_date_s(first_of(response.pairs, b"last-modified"), response.received_s)
    if modified_s is None:
        return 0.0, "none"
    return min(max(0.0, (response.date_s - modified_s) * _HEURISTIC_FRACTION), _HEURISTIC_MOST_S), "heuristic"


def states_freshness(response: Response, rule: Rule) -> bool:
    """Whether the response states its lifetime itself."""
    return lifetime(response, rule)[1] not in _GUESSES


def _initial_age_s(response: Response, source: str) -> float:
    """corrected_initial_age, the conservative one (section 4.2.3). A lifetime set by the route counts from when the
    response arrived, whatever the upstream's clock says."""
    age = next(fields.members(all_of(response.pairs, b"age")), None)  # the first of several (section 5.1)
    age_s = (fields.delta_seconds(age) or 0) + max(0.0, response.received_s - response.requested_s)
    if source == "ttl":
        return age_s
    apparent_s = max(0.0, response.received_s - response.date_s)
    # Date has whole seconds, so a response made just now could seem up to one second old.
    apparent_s = apparent_s if apparent_s >= 1 else 0.0
    return max(apparent_s, age_s)


def _stale_s(directives: Directives, name: str) -> int:
    """RFC 5861. An extension may override `s-maxage` (section 5.2.3), not those that forbid stale answers outright."""
    if directives.keys() & {"must-revalidate", "proxy-revalidate", "no-cache"}:
        return 0
    return fields.delta_seconds(directives.get(name)) or 0


def _stand_in_s(directives: Directives, rule: Rule) -> float:
    """The route's own stale-if-error, unless the response forbids that or states it itself (section 4.2.4)."""
    return 0.0 if directives.keys() & {*_NEVER_STALE, "no-cache", "stale-if-error"} else rule.stale_if_error_s


# -- as it is stored ----------------------------------------------------------------------------------------------


def entry_of(response: Response, rule: Rule, body: bytes = b"") -> Entry:
    """The entry for a response that `refusal` allows. The body may be added later."""
    directives = response.directives
    names = vary_names(response.pairs) or ()
    seconds, source = lifetime(response, rule)
    etag, modified = validators(response.pairs, response.received_s)
    is_stated = source not in _GUESSES
    return Entry(
        status=response.status,
        pairs=stored_pairs(response),
        body=body,
        vary=names,
        values=vary_values(names, response.request),
        requested_s=response.requested_s,
        received_s=response.received_s,
        date_s=response.date_s,
        age_s=_initial_age_s(response, source),
        lifetime_s=seconds,
        source=source,
        anonymous=not (is_stated and (seconds > 0 or "public" in directives)),
        always_validate="no-cache" in directives and directives["no-cache"] is None,
        never_stale=not directives.keys().isdisjoint(_NEVER_STALE),
        stale_while_revalidate_s=_stale_s(directives, "stale-while-revalidate"),
        stale_if_error_s=_stale_s(directives, "stale-if-error"),
        etag=etag,
        last_modified=modified,
        stand_in_s=_stand_in_s(directives, rule),
    )


def stored_pairs(response: Response) -> tuple[Pair, ...]:
    """The fields that are stored (section 3.1), with a Date where there was none (RFC 9110, section 6.6.1)."""
    drop = _UNSTORED_FIELDS | _excluded(response.directives)
    kept = [pair for pair in response.pairs if pair[0] not in drop]
    if first_of(kept, b"date") is None:
        kept.append((b"date", fields.http_date(int(response.received_s))))
    return tuple(kept)


def validators(pairs: Sequence[Pair], now_s: float) -> tuple[bytes | None, bytes | None]:
    """ETag and Last-Modified, each None if missing or invalid."""
    etag, modified = first_of(pairs, b"etag"), first_of(pairs, b"last-modified")
    return (
        etag if etag is not None and fields.is_entity_tag(etag) else None,
        modified if fields.http_date_s(modified, now_s) is not None else None,
    )


# -- Vary ---------------------------------------------------------------------------------------------------------


def vary_names(pairs: Iterable[Pair]) -> tuple[bytes, ...] | None:
    """The request fields in Vary, in lower case and sorted; None for `*`, for an invalid name, and for too many."""
    names = {member.lower().encode("latin-1") for member in fields.members(all_of(pairs, b"vary"))}
    are_valid = len(names) <= _MAX_VARY and b"*" not in names and all(map(is_token, names))
    return tuple(sorted(names)) if are_valid else None


def vary_values(names: Iterable[bytes], request: Sequence[Pair]) -> tuple[bytes | None, ...]:
    """The request's values of these fields, normalized; None for an absent one."""
    return tuple(_normal(name, all_of(request, name)) for name in names)


def _normal(name: bytes, values: Sequence[bytes]) -> bytes | None:
    if not values:
        return None
    joined = b",".join(values)
    if name in _OPAQUE or len(joined) > _NORMAL_MOST_BYTES:
        return b", ".join(value.strip(OWS) for value in values)
    if name not in _NEGOTIATED or b'"' in joined:
        members = (member.strip(" \t") for member in fields.split_list(joined.decode("latin-1")))
        return ", ".join(members).encode("latin-1")
    words = []
    for word in joined.split(b","):
        choice, *params = (part.strip(OWS) for part in word.split(b";"))
        words.append(b";".join([choice.lower(), *params]))  # case may matter in parameters: a profile is a URL
    return b",".join(sorted(filter(None, words)) if name in _ORDERLESS else filter(None, words))
