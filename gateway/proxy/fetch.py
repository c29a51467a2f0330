"""Calls that the gateway makes itself: the parts of a fan-out, and `fetch()` in a view of your own.

They use the same limits, retries and trace as a proxied request; the body is read whole.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from types import UnionType
from typing import Any, TypeVar, overload
from weakref import finalize

import msgspec

from gateway.cache.cache import cache_for
from gateway.cache.coalescing import CacheRequest, OriginResponse
from gateway.cache.freshness import CONDITIONS
from gateway.cache.keys import Key, digest
from gateway.cache.options import cache_rule
from gateway.cache.policy import CREDENTIAL, Rule
from gateway.errors import GatewayError, Reason
from gateway.http import codings
from gateway.http.body_budget import Bodies
from gateway.http.deadline import Deadline
from gateway.http.exchange import Exchange
from gateway.http.headers import Pair, Pairs, all_of, first_of, set_fields
from gateway.http.lifetime import Lifetime, current
from gateway.http.methods import SAFE_METHODS
from gateway.http.queries import masked_target
from gateway.http.request import GatewayRequest
from gateway.http.response import Body
from gateway.http.settable import settable
from gateway.proxy.outgoing import Fields, outgoing_for, own_pairs, rendered
from gateway.proxy.sent import Sent
from gateway.units import field_value, positive_duration
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.attempts import AttemptRecord, answer_to
from gateway.upstreams.heads import has_controls
from gateway.upstreams.options import Overrides, ProxyOptions, effective
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.retry_policy import is_repeatable
from gateway.upstreams.targets import TargetValueError, parse_part

ValueT = TypeVar("ValueT")

MAX_BODY_BYTES = 10 * 2**20
_TURN_BYTES = 2**20  # how much is decoded before other tasks run
# Smaller responses are not worth a finalizer.
_SMALL_BYTES = 4096
_LONGEST_PARSED = 256
# What the cache itself acts on in a request.
_HEEDED = CONDITIONS | {b"authorization", b"cache-control", b"pragma", b"range"}


class CallRecord:
    """State of one call: number of attempts, endpoint, time and cache outcome, for log and metrics."""

    __slots__ = ("attempts", "body_is_shared", "cache", "endpoint", "upstream_ms")

    def __init__(self) -> None:
        self.attempts: int | None = None
        self.body_is_shared = False  # the cache or another request holds the body, and it is counted there
        self.cache: str | None = None
        self.endpoint: str | None = None
        self.upstream_ms: float | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Fetched:
    """An upstream's response, read whole. `pairs` are its end-to-end fields, with names in lower case.

    The body is decoded and its Content-Encoding removed, unless the coding is unknown or the body is not in it.
    """

    status: int
    pairs: Sequence[Pair]
    body: bytes

    def field(self, name: str) -> str | None:
        """The first value of a field, or None."""
        value = first_of(self.pairs, name.lower().encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def json(self) -> Any:
        """The body as Python values. Raises GatewayError PART_INVALID if it is not JSON."""
        return self.decode(Any)

    @overload
    def decode(self, kind: type[ValueT]) -> ValueT: ...
    @overload
    def decode(self, kind: UnionType) -> Any: ...
    def decode(self, kind: Any) -> Any:
        """The body as a Struct, dataclass, TypedDict, list or dict, validated. Raises GatewayError PART_INVALID."""
        try:
            if coded := codings.of(self.pairs):
                raise msgspec.DecodeError(f"coded as {', '.join(coded)}")
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise GatewayError(Reason.PART_INVALID, cause=str(error)) from error


async def ask(
    request: GatewayRequest,
    pool: Pool,
    record: AttemptRecord,
    *,
    method: str,
    target: str,
    pairs: Pairs,
    options: ProxyOptions,
    timeout_s: float,
    body: bytes | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    owner: Lifetime | None = None,
    fields: Fields | None = None,
) -> Fetched:
    """Make one call and read its response whole, within `timeout_s`. Raises GatewayError.

    `fields` are `pairs` as they are sent, where several calls have the same. The body counts for `owner` while it comes
    in: for the request, unless the call may outlive it.

    Known content codings are decoded, asked for or not: no Accept-Encoding allows any (RFC 9110, section 12.5.3). The
    body has at most `max_body_bytes`, before and after decoding.
    """
    if body is not None or method in {"POST", "PUT", "PATCH"}:
        pairs, fields = [*pairs, (b"content-length", b"%d" % len(body or b""))], None
    began_s, owner = pool.now(), owner or request.lifetime
    limit = ("timeout_s", timeout_s)
    too_late = partial(GatewayError, Reason.RESPONSE_TIMEOUT, upstream=pool.name, limit=limit)
    outgoing = outgoing_for(
        request,
        pool,
        options,
        method=method,
        target=target,
        fields=fields or rendered(pairs),
        repeatable=is_repeatable(method, pairs),
        timeout_s=timeout_s,
        too_late=too_late,
        body=body,
        lifetime=owner,
    )
    answer = await answer_to(outgoing, pool, record)
    whole = answer.whole()
    if whole is None:
        with Deadline(max(0.0, timeout_s - (pool.now() - began_s)), too_late):
            whole = await _collected(answer, max_body_bytes, pool.name, request.services.bodies, owner)
    if len(whole) > max_body_bytes:
        raise GatewayError(Reason.PART_TOO_LARGE, upstream=pool.name)
    if method not in SAFE_METHODS:
        cache_for(request).written(pool.name, target, answer.status)
    fetched = Fetched(answer.status, tuple(answer.pairs), whole)
    names = codings.of(fetched.pairs)
    if names and fetched.status != 206:  # a part of something coded cannot be decoded
        return await _decoded(
            fetched, names, max_body_bytes, pool.name, request.services.bodies, owner=owner, has_body=method != "HEAD"
        )
    if fetched.status == 304:
        return replace(fetched, pairs=_as_asked(fetched.pairs, pairs))
    return fetched


async def ask_cached(
    request: GatewayRequest,
    pool: Pool,
    record: CallRecord,
    rule: Rule,
    *,
    pairs: Pairs,
    configured: Sequence[tuple[bytes, bytes | None]],
    target: str,
    own: Sequence[Pair] = (),
    **call: Any,
) -> Fetched:
    """Like `ask` with GET, but a stored response may be used (then it has an Age).

    The key is made of upstream, target, the `configured` fields of the call, and the view's `own`: their values may be
    one user's, and no service names them in Vary as it would a client's. Caching is decided by all fields in `pairs`
    that are not configured. Raises GatewayError.
    """
    host = request.host_field.lower() if call["options"].preserve_host else ""
    key = _key_of(pool.name, target, [*configured, *(pair for pair in own if pair[0] not in _HEEDED)], host)
    names = {name for name, _ in configured}

    async def produce(changed: Pairs, lifetime: Lifetime) -> OriginResponse:
        whole = [*pairs, *(pair for pair in changed if pair[0] in CONDITIONS)]  # CREDENTIAL is none of them
        fetched = await ask(
            request, pool, lifetime.exchange, method="GET", pairs=whole, target=target, owner=lifetime, **call
        )
        return OriginResponse(fetched.status, [*fetched.pairs], fetched.body)

    lifetime = request.lifetime.child()
    sent = [pair for pair in pairs if pair[0] not in names]
    if request.asked_by is not None:
        sent.append(CREDENTIAL)
    cache = cache_for(request)
    in_memory = [entry.body for entry in cache.memory.get(key)]
    # Only calls with the same time limit are coalesced.
    cache_request = CacheRequest(key, "GET", sent, rule, produce, lifetime, f"{call['timeout_s']:.1f}")
    try:
        limit = ("timeout_s", call["timeout_s"])
        with Deadline(
            call["timeout_s"], partial(GatewayError, Reason.RESPONSE_TIMEOUT, upstream=pool.name, limit=limit)
        ):
            result = await cache.part(cache_request)
            if result is None:
                return await ask(request, pool, record, method="GET", pairs=pairs, target=target, **call)
    finally:
        lifetime.let_go()
        if record.attempts is None:
            exchange = lifetime.exchange
            record.attempts, record.upstream_ms = exchange.attempts, exchange.upstream_ms
            record.endpoint = exchange.endpoint
    record.cache = result.outcome
    record.body_is_shared = result.outcome == "collapsed" or any(result.body is body for body in in_memory)
    if result.uncacheable is not None:
        origin = result.uncacheable.origin
        return Fetched(origin.status, tuple(origin.pairs), _bytes(origin.body))
    entry = result.entry
    assert entry is not None  # noqa: S101 - a result has one of the two
    age = (b"age", b"%d" % entry.current_age_s(cache.time()))
    return Fetched(entry.status, (*entry.pairs, age), _bytes(result.body))


def _key_of(upstream: str, target: str, fields: Sequence[tuple[bytes, bytes | None]], host: str) -> str:
    """The key of a call, with the fields that are set in it, and with Host where the client's goes up."""
    return str(Key(f"@{upstream}", "part", upstream, target, digest(repr(fields), host) if fields or host else ""))


def _bytes(body: Body | None) -> bytes:
    assert isinstance(body, bytes)  # noqa: S101 - `ask` reads whole answers
    return body


async def _collected(answer: Attempt, max_bytes: int, upstream: str, bodies: Bodies, owner: Lifetime) -> bytes:
    """The whole body. It counts in `bodies` while it comes in; the caller counts what it keeps."""
    arrived = bytearray()
    try:
        async for chunk in answer.chunks():
            if len(arrived) + len(chunk) > max_bytes:
                raise GatewayError(Reason.PART_TOO_LARGE, upstream=upstream)
            bodies.take(owner, len(chunk))
            arrived += chunk
    finally:
        answer.close()
        bodies.give(owner, len(arrived))
    return bytes(arrived)


async def _decoded(
    fetched: Fetched,
    names: Sequence[str],
    max_bytes: int,
    upstream: str,
    bodies: Bodies,
    *,
    owner: Lifetime,
    has_body: bool,
) -> Fetched:
    """The response decoded, or unchanged if that is impossible.

    Raises GatewayError PART_TOO_LARGE, OVERLOADED.
    """
    if not codings.known(names):
        return fetched
    if not has_body or fetched.status in {204, 304}:
        return replace(fetched, pairs=tuple(codings.without(fetched.pairs, None)))
    pieces, size = [], 0
    try:
        for piece in codings.decoded(fetched.body, names, max_bytes):
            bodies.take(owner, len(piece))
            pieces.append(piece)
            if size // _TURN_BYTES != (size := size + len(piece)) // _TURN_BYTES:
                await asyncio.sleep(0)  # let other tasks run
    except codings.Undecodable:
        return fetched
    except codings.TooLarge as error:
        raise GatewayError(Reason.PART_TOO_LARGE, upstream=upstream, cause=f"decoded, {error}") from error
    finally:
        bodies.give(owner, size)
    return Fetched(fetched.status, tuple(codings.without(fetched.pairs, size)), b"".join(pieces))


def _as_asked(answered: Sequence[Pair], asked: Sequence[Pair]) -> Sequence[Pair]:
    """The pairs of a 304, with a weak tag if the tag sent was weak: what is stored may have been decoded."""
    known = b" ".join(all_of(asked, b"if-none-match"))
    if b"W/" not in known:
        return answered
    return [
        (name, codings.weak(value) if name.lower() == b"etag" and codings.weak(value) in known else value)
        for name, value in answered
    ]


async def fetch(
    target: str,
    *,
    params: Mapping[str, str | int] | None = None,
    timeout: str | None = None,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    json: object = None,
    body: bytes | None = None,
    cache: str | None = None,
) -> Fetched:
    """Call an upstream from a view: `await fetch("users:/users/{id}", params={"id": id}, timeout="300ms")`.

    Limits, retries, trace and log are those of every call. The client's Authorization and Accept-Language are sent
    along; `headers` add or replace fields, in any case. A value is sent as latin-1, as in `request.headers`, or as
    UTF-8 if it does not fit. Values in `params` are percent-encoded. `json` is sent as JSON.
    `cache` is `on` or a duration: responses to GET are stored, as for a route with `CACHE`; `headers` are in the key.
    Returns the response, whatever its status. Raises GatewayError if there is none, which becomes the view's 502 or
    504 unless it is caught; ValueError for an invalid target.
    """
    lifetime = current.get()
    if lifetime is None or lifetime.request is None:
        raise RuntimeError("fetch() works inside a view, while its request is being answered")
    request = lifetime.request
    request.forwarded_by_fetch = True
    pool, path = _called(request, target, params or {})
    options = effective(pool.upstream.overrides, Overrides())
    sent = Sent(options)
    sent.note_read(request)
    configured, path = request.going_up(sent.changes_for(request)), sent.target_for(request, path)
    own = [(settable(name).encode("ascii"), _raw_value(value)) for name, value in (headers or {}).items()]
    pairs = set_fields(set_fields(own_pairs(request, sent.forward), configured), own)
    if json is not None:
        body = msgspec.json.encode(json)
        pairs = set_fields(pairs, [(b"content-type", b"application/json")])
    timeout_s = options.timeout_s if timeout is None else positive_duration(timeout)
    record = CallRecord()
    call: dict[str, Any] = {"target": path, "pairs": pairs, "options": options, "timeout_s": timeout_s}
    try:
        if cache is not None and method == "GET" and body is None:
            rule, others = cache_rule(cache), [change for change in configured if change[0] not in dict(own)]
            fetched = await ask_cached(request, pool, record, rule, configured=others, own=own, **call)
        else:
            fetched = await ask(request, pool, record, method=method, body=body, **call)
        return fetched if record.body_is_shared else _counted(fetched, request)
    except GatewayError as error:
        variable = pool.upstream.level.variable
        error.name_limit(lambda one: "fetch(timeout=)" if timeout and one == "timeout_s" else variable(one))
        raise
    finally:
        _note(request.exchange, pool.name, record)


def _note(exchange: Exchange, upstream: str, record: CallRecord) -> None:
    """Record a call. The attempts of several count as those of one: 1, and one more for each retry."""
    before, further = exchange.attempts or 0, record.attempts or 0
    exchange.attempts = before + further - (1 if before and further else 0)
    exchange.calls = (exchange.calls or 0) + 1
    exchange.upstream, exchange.endpoint, exchange.upstream_ms = upstream, record.endpoint, record.upstream_ms


def _called(request: GatewayRequest, target: str, params: Mapping[str, str | int]) -> tuple[Pool, str]:
    """The pool that a target names, and the raw target below it. Raises ValueError."""
    upstream, path = _target(target, params)
    pool = pools_of(request).get(upstream)
    if pool is None:
        raise ValueError(f"there is no upstream {upstream}; set GATEWAY_UPSTREAM_{upstream.upper()}")
    return pool, path


def _raw_value(text: str) -> bytes:
    """The bytes of a field value. A client's value is latin-1 text in Python, and is passed on unchanged."""
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        return field_value(text).encode()
    if has_controls(raw):
        raise ValueError("expected a header value without line breaks, NUL or control characters")
    return raw


def _counted(fetched: Fetched, request: GatewayRequest) -> Fetched:
    """Count the response's body for as long as the view holds it, at most until the request is over."""
    size = len(fetched.body)
    if size > _SMALL_BYTES:
        request.services.bodies.take(request.lifetime, size)
        finalize(fetched, request.services.bodies.give, request.lifetime, size).atexit = False
    return fetched


_parsed = lru_cache(maxsize=256)(parse_part)


def _target(text: str, params: Mapping[str, str | int]) -> tuple[str, str]:
    """`users:/users/{id}` -> the upstream's name and the raw target. Raises ValueError."""
    # A view may have put values into it that a client chose: long ones are not worth a place in the cache.
    target = _parsed(text) if len(text) <= _LONGEST_PARSED else parse_part(text)
    for reference in target.references:
        if reference.text[1:-1] not in params:
            raise ValueError(f"{masked_target(text)!r} has no value for {reference.text}; give it by params=")
    try:
        return target.upstream, target.template.fill({}, lambda reference: str(params[reference.text[1:-1]]))
    except TargetValueError as error:
        shown = masked_target(text)
        raise ValueError(f"the value of {error} cannot stand in {shown!r}: it is empty, or a dot segment") from None
