"""What a shared cache may store, and for how long it is fresh, decided (RFC 9111, sections 3 and 4.2).

Safe first: what could be one user's alone is not stored unless the upstream says that it may be. Sections named here
are those of RFC 9111 unless another one is named. Times are seconds since the epoch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import OWS, Pair, is_token

# RFC 9110, section 15.1. 206 is not among ours: partial answers are not stored.
HEURISTIC: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
# What caching them asks for is done here (must-understand, section 5.2.2.3).
_UNDERSTOOD: Final = HEURISTIC | {302, 303, 307, 400, 401, 403, 406, 409, 421, 451, 500, 502, 503, 504}
_HEURISTIC_FRACTION, _HEURISTIC_MOST_S = 0.1, 24 * 3600.0
# Of one hop or one request (section 3.1), and what the gateway writes anew each time.
_UNSTORED_FIELDS: Final = frozenset(
    {b"age", b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"x-request-id"}
) | {b"proxy-status", b"server-timing", b"connection", b"keep-alive", b"transfer-encoding", b"trailer", b"upgrade"}
# What goes up in these is the gateway's word, another one for each client or request.
_OWN_WORDS: Final = frozenset({b"forwarded", b"traceparent", b"tracestate", b"x-forwarded-for", b"x-request-id"})
_TAG_FIELDS: Final = (b"cache-tag", b"surrogate-key")
# In these white space and case, or order, mean nothing (section 4.1).
_NEGOTIATED: Final = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})
_ORDERLESS: Final = frozenset({b"accept-encoding"})
# These are no lists: a comma in them parts nothing, and they say who asks.
_OPAQUE: Final = frozenset({b"authorization", b"cookie"})
# What is longer is compared as it came: to take it to pieces costs more than the answers that it might find.
_NORMAL_MOST_BYTES: Final = 2048
_MAX_VARY: Final = 50  # fields: who names more than that means all of them
_NEVER_STALE: Final = frozenset({"must-revalidate", "proxy-revalidate", "s-maxage"})
_GUESSES: Final = frozenset({"ttl", "heuristic", "none"})
_VALIDATABLE_S: Final = 3600.0  # how long a stale answer with a validator is kept, at least


@dataclass(frozen=True, slots=True)
class Rule:
    """What a route says of caching. `ttl_s` and `stale_if_error_s` hold where the upstream says nothing: how long an
    answer is fresh, None leaves it to the upstream, and how long a stale one may stand in for a failure."""

    ttl_s: float | None = None
    max_body_bytes: int = 2 * 2**20
    stale_if_error_s: float = 0.0


class Why(Enum):
    """Why an answer is not stored; the value is the sentence of `gateway cache why`, `word` that of Cache-Status."""

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


# Those that are a request's own doing: another one may be answered with what is stored.
OF_REQUEST: Final = frozenset({Why.METHOD, Why.REQUEST_NO_STORE, Why.RANGE, Why.AUTHORIZATION, Why.COOKIE})


@dataclass(frozen=True)
class Reply:
    """An answer as it came, and the request that it answers. Field names are in lower case."""

    method: str
    request: Sequence[Pair]
    status: int
    pairs: Sequence[Pair]
    requested_s: float
    received_s: float

    @cached_property
    def said(self) -> Directives:
        """The directives that hold for this cache: CDN-Cache-Control stands instead of Cache-Control and of Expires,
        where it is valid (RFC 9213, section 2)."""
        return fields.directives(fields.all_of(self.pairs, b"cache-control")) if self._aimed is None else self._aimed

    @cached_property
    def _aimed(self) -> Directives | None:
        for_us = fields.all_of(self.pairs, b"cdn-cache-control")
        return fields.targeted(for_us) if for_us else None

    @property
    def may_expire(self) -> bool:
        return self._aimed is None

    @cached_property
    def date_s(self) -> float:
        date_s = fields.http_date_s(fields.first_of(self.pairs, b"date"), self.received_s)
        return self.received_s if date_s is None else date_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A stored answer. `pairs` lack Age; `values` are what the request said in the fields of `vary`.

    `source` is what its lifetime comes from, `stand_in_s` the stale-if-error of its route. One that is `anonymous` may
    only answer requests without credentials: its lifetime is our own guess, or it has none.
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
        """When it may be forgotten: nothing could be answered with it any more."""
        stale_s = float(max(self.stale_while_revalidate_s, self.stale_if_error_s, self.stand_in_s))
        if self.can_be_validated:
            stale_s = max(stale_s, _VALIDATABLE_S, self.lifetime_s)
        return max(self.fresh_until_s, self.received_s) + stale_s

    @property
    def can_be_validated(self) -> bool:
        return self.etag is not None or self.last_modified is not None

    @property
    def tags(self) -> tuple[str, ...]:
        """What a purge finds it by. Cache-Tag has commas and Surrogate-Key spaces; both are understood in both."""
        text = b" ".join(value for name, value in self.pairs if name in _TAG_FIELDS).decode("latin-1")
        return tuple(dict.fromkeys(text.replace(",", " ").split()))

    def current_age_s(self, now_s: float) -> float:
        """Section 4.2.3."""
        return self.age_s + max(0.0, now_s - self.received_s)


# -- whether ------------------------------------------------------------------------------------------------------


def refusal(reply: Reply, rule: Rule) -> Why | None:
    """Why an answer may not be stored (section 3), or None."""
    status, pairs, names = reply.status, reply.pairs, {name for name, _ in reply.request}
    if reply.method != "GET":
        return Why.METHOD
    if b"cache-control" in names and "no-store" in fields.directives(fields.all_of(reply.request, b"cache-control")):
        return Why.REQUEST_NO_STORE
    if b"range" in names:
        return Why.RANGE
    if status == 206:
        return Why.PARTIAL
    said = reply.said
    understood = status in _UNDERSTOOD
    if status == 304 or not 200 <= status <= 599 or ("must-understand" in said and not understood):
        return Why.STATUS
    # Where it is understood, must-understand overrides no-store (section 5.2.2.3).
    if "no-store" in said and not ("must-understand" in said and understood):
        return Why.NO_STORE
    if "private" in said and said["private"] is None:
        return Why.PRIVATE
    if fields.first_of(pairs, b"set-cookie") is not None and b"set-cookie" not in _excluded(said):
        return Why.SET_COOKIE
    if b"authorization" in names and not said.keys() & {"public", "s-maxage", "must-revalidate"}:  # section 3.5
        return Why.AUTHORIZATION
    varies_on = vary_names(pairs)
    if varies_on is None or not _OWN_WORDS.isdisjoint(varies_on):
        return Why.VARY
    return _unknown_lifetime(reply, rule, said, has_cookie=b"cookie" in names)


def _unknown_lifetime(reply: Reply, rule: Rule, said: Directives, *, has_cookie: bool) -> Why | None:
    """What only an answer that says how long it is fresh may be stored in spite of."""
    seconds, source = lifetime(reply, rule)
    is_stated = source not in _GUESSES
    if not is_stated and (fields.first_of(reply.pairs, b"content-type") or b"").lower().startswith(
        b"text/event-stream"
    ):
        return Why.STREAMS
    if not is_stated and (reply.status >= 500 or (reply.status not in HEURISTIC and "public" not in said)):
        return Why.STATUS
    if has_cookie and not (is_stated and (seconds > 0 or "public" in said)):
        return Why.COOKIE
    if validators(reply.pairs, reply.received_s) != (None, None):
        return None
    if source == "none":
        return Why.NO_FRESHNESS
    stale_s = _stale_s(said, "stale-while-revalidate") or _stale_s(said, "stale-if-error") or _stand_in_s(said, rule)
    return None if stale_s or seconds > _initial_age_s(reply, source) else Why.STALE


def _excluded(said: Directives) -> frozenset[bytes]:
    """Fields that the answer forbids to store: `private="x"` (section 5.2.2.7), `no-cache="x"` (section 5.2.2.4)."""
    named = ",".join(said.get(name) or "" for name in ("private", "no-cache"))
    return frozenset(word.strip().lower().encode("latin-1") for word in named.split(",") if word.strip())


# -- how long -----------------------------------------------------------------------------------------------------


def lifetime(reply: Reply, rule: Rule) -> tuple[float, str]:
    """Seconds of freshness, and what says so (section 4.2.1); `none` where nothing does.

    What is there but no number makes the answer stale, as the section encourages.
    """
    said = reply.said
    for name in ("s-maxage", "max-age"):
        if name in said:
            return float(fields.delta_seconds(said[name]) or 0), name
    expires = fields.first_of(reply.pairs, b"expires")
    if expires is not None and reply.may_expire:
        until_s = fields.http_date_s(expires, reply.received_s)
        return (0.0 if until_s is None else max(0.0, until_s - reply.date_s)), "expires"
    if reply.status not in HEURISTIC and "public" not in said:
        return 0.0, "none"
    if "no-cache" in said and said["no-cache"] is None:
        return 0.0, "no-cache"
    if rule.ttl_s is not None:
        return rule.ttl_s, "ttl"
    modified_s = fields.http_date_s(fields.first_of(reply.pairs, b"last-modified"), reply.received_s)
    if modified_s is None:
        return 0.0, "none"
    return min(max(0.0, (reply.date_s - modified_s) * _HEURISTIC_FRACTION), _HEURISTIC_MOST_S), "heuristic"


def is_told(reply: Reply, rule: Rule) -> bool:
    """Whether the answer itself says how long it is fresh."""
    return lifetime(reply, rule)[1] not in _GUESSES


def _initial_age_s(reply: Reply, source: str) -> float:
    """corrected_initial_age, the conservative one (section 4.2.3); HOWEVER a lifetime of our own counts from when the
    answer came, whatever the clock of the upstream says."""
    said = next(fields.members(fields.all_of(reply.pairs, b"age")), None)  # the first of several (section 5.1)
    told_s = (fields.delta_seconds(said) or 0) + max(0.0, reply.received_s - reply.requested_s)
    if source == "ttl":
        return told_s
    apparent_s = max(0.0, reply.received_s - reply.date_s)
    # HOWEVER Date says whole seconds: an answer made a moment ago would seem up to one second old by chance.
    apparent_s = apparent_s if apparent_s >= 1 else 0.0
    return max(apparent_s, told_s)


def _stale_s(said: Directives, name: str) -> int:
    """RFC 5861. An extension may override `s-maxage` (section 5.2.3), not those that forbid stale answers outright."""
    if said.keys() & {"must-revalidate", "proxy-revalidate", "no-cache"}:
        return 0
    return fields.delta_seconds(said.get(name)) or 0


def _stand_in_s(said: Directives, rule: Rule) -> float:
    """The route's own stale-if-error: what is agreed on beside the protocol holds where nothing in it forbids that, nor
    says it otherwise (section 4.2.4)."""
    return 0.0 if said.keys() & {*_NEVER_STALE, "no-cache", "stale-if-error"} else rule.stale_if_error_s


# -- as it is stored ----------------------------------------------------------------------------------------------


def entry_of(reply: Reply, rule: Rule, body: bytes = b"") -> Entry:
    """The answer as it is stored, if `refusal` has nothing against it. The body may come later."""
    said = reply.said
    names = vary_names(reply.pairs) or ()
    seconds, source = lifetime(reply, rule)
    etag, modified = validators(reply.pairs, reply.received_s)
    is_stated = source not in _GUESSES
    return Entry(
        status=reply.status,
        pairs=stored_pairs(reply),
        body=body,
        vary=names,
        values=vary_values(names, reply.request),
        requested_s=reply.requested_s,
        received_s=reply.received_s,
        date_s=reply.date_s,
        age_s=_initial_age_s(reply, source),
        lifetime_s=seconds,
        source=source,
        anonymous=not (is_stated and (seconds > 0 or "public" in said)),
        always_validate="no-cache" in said and said["no-cache"] is None,
        never_stale=not said.keys().isdisjoint(_NEVER_STALE),
        stale_while_revalidate_s=_stale_s(said, "stale-while-revalidate"),
        stale_if_error_s=_stale_s(said, "stale-if-error"),
        etag=etag,
        last_modified=modified,
        stand_in_s=_stand_in_s(said, rule),
    )


def stored_pairs(reply: Reply) -> tuple[Pair, ...]:
    """The fields that are stored (section 3.1), with a Date where there was none (RFC 9110, section 6.6.1)."""
    drop = _UNSTORED_FIELDS | _excluded(reply.said)
    kept = [pair for pair in reply.pairs if pair[0] not in drop]
    if fields.first_of(kept, b"date") is None:
        kept.append((b"date", fields.http_date(int(reply.received_s))))
    return tuple(kept)


def validators(pairs: Sequence[Pair], now_s: float) -> tuple[bytes | None, bytes | None]:
    """ETag and Last-Modified, each None where there is none that is valid."""
    etag, modified = fields.first_of(pairs, b"etag"), fields.first_of(pairs, b"last-modified")
    return (
        etag if etag is not None and fields.is_entity_tag(etag) else None,
        modified if fields.http_date_s(modified, now_s) is not None else None,
    )


# -- Vary ---------------------------------------------------------------------------------------------------------


def vary_names(pairs: Iterable[Pair]) -> tuple[bytes, ...] | None:
    """The request fields that an answer depends on, in lower case and order; None for `*`, which is more than those,
    for what is no name, and for too many."""
    names = {member.lower().encode("latin-1") for member in fields.members(fields.all_of(pairs, b"vary"))}
    is_told = len(names) <= _MAX_VARY and b"*" not in names and all(map(is_token, names))
    return tuple(sorted(names)) if is_told else None


def vary_values(names: Iterable[bytes], request: Sequence[Pair]) -> tuple[bytes | None, ...]:
    """What a request says in these fields, so that what means the same is the same; None for one that is absent."""
    return tuple(_normal(name, fields.all_of(request, name)) for name in names)


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
        words.append(b";".join([choice.lower(), *params]))  # HOWEVER a parameter's case may count: a profile is a URL
    return b",".join(sorted(filter(None, words)) if name in _ORDERLESS else filter(None, words))
