"""What is sent to an upstream for a request: the field lines and the call. One builder for `proxy` and `fetch`."""

from collections.abc import Callable, Iterable, Sequence

from gateway.cache.tracked_request import TrackedRequest
from gateway.errors import GatewayError
from gateway.http.forwarding import forwarding_block, forwarding_pairs
from gateway.http.headers import Pair, Pairs, field_block, first_of, set_fields
from gateway.http.lifetime import Lifetime
from gateway.http.request import GatewayRequest
from gateway.http.settable import is_forwardable
from gateway.http.trace_context import new_traceparent
from gateway.proxy.sent import Sent
from gateway.upstreams.attempts import Outgoing
from gateway.upstreams.options import ProxyOptions
from gateway.upstreams.pool import Pool
from gateway.upstreams.upload import Upload

# The client's fields that are sent with every call of the gateway's own: credentials and preferred languages.
FORWARDED = ("authorization", "accept-language")

_ACCEPT = (b"accept", b"application/json")

_FORWARDED = frozenset(name.encode() for name in FORWARDED)


def outgoing_for(
    request: GatewayRequest,
    pool: Pool,
    options: ProxyOptions,
    *,
    method: str,
    target: str,
    fields: "Fields",
    repeatable: bool,
    timeout_s: float,
    too_late: Callable[[], GatewayError],
    upload: Upload | None = None,
    chunked: bool = False,
    body: bytes | None = None,
    lifetime: Lifetime | None = None,
    switches: bool = False,
) -> Outgoing:
    """The call that is made for a request. `target` is below the upstream's base.

    `lifetime` is the request's by default; pass another one if the call may outlive the request.
    """
    block, traceparent = fields
    host = request.fields.first(b"host") if options.preserve_host else None
    return Outgoing(  # by position: by name it takes three times as long, and every call passes here
        method,
        target,
        block,
        traceparent,
        options,
        timeout_s,
        host,
        pool.balance_key(request),
        repeatable,
        too_late,
        lifetime or request.lifetime,
        upload,
        chunked,
        body,
        switches,
    )


def _goes_along(name: bytes, forward: Sequence[str] | None) -> bool:
    if forward is not None and not forward:
        return False
    if name in _FORWARDED:
        return True
    if not forward:
        return False
    text = name.decode("latin-1")
    return any(
        text == one or (one.endswith("*") and text.startswith(one[:-1]) and is_forwardable(text)) for one in forward
    )


# -- field lines ----------------------------------------------------------------------------------------------------

Fields = tuple[bytes, bytes]  # lines as they are sent, and the value of traceparent, which is not among them


def rendered(pairs: Iterable[Pair]) -> Fields:
    """Pairs as `outgoing_for` takes them. Raises GatewayError HEADER_INVALID for what cannot be sent."""
    pairs = list(pairs)
    traceparent = first_of(pairs, b"traceparent") or b""
    return field_block(pair for pair in pairs if pair[0] != b"traceparent"), traceparent


def proxied_fields(request: GatewayRequest, sent: Sent, prefix: str) -> Fields:
    """The result of `proxied_pairs`, rendered. Raises GatewayError HEADER_INVALID.

    If no option changes fields and the peer is not trusted, the gateway's own fields are rendered in one piece.
    """
    if sent.changes_fields or request.from_trusted_peer:
        return rendered(proxied_pairs(request, sent, prefix))
    incoming = request.fields
    pairs = incoming.plain
    traceparent = request.traceparent
    if traceparent is None:
        traceparent = new_traceparent(request.exchange.trace_id)
        if b"via" in incoming.own:
            pairs = [*pairs, *((b"via", value) for value in incoming.own[b"via"])]
    else:
        passed = ((name, value) for name in (b"via", b"tracestate") for value in incoming.own.get(name, ()))
        pairs = [*pairs, *passed]
    length, (via_name, via_value) = request.content_length, request.services.via.pair(request.scope["http_version"])
    return b"%b%bx-request-id: %b\r\n%b: %b\r\n%b" % (
        field_block(pairs),
        b"" if length is None else b"content-length: %d\r\n" % length,
        request.exchange.request_id.encode("ascii"),
        via_name,
        via_value,
        forwarding_block(request.peer, request.scope["scheme"], request.host_field, prefix),
    ), traceparent


def via_pairs(request: GatewayRequest) -> Pairs:
    """The request's Via lines and ours: a call of the gateway's own belongs to the same chain as its request."""
    came = request.fields.own.get(b"via", ())
    return [*((b"via", value) for value in came), request.services.via.pair(request.scope["http_version"])]


def trace_pairs(request: GatewayRequest) -> Pairs:
    """`traceparent` and `tracestate`: as received, or a new trace."""
    if request.traceparent is None:
        return [(b"traceparent", new_traceparent(request.exchange.trace_id))]
    states = request.fields.own.get(b"tracestate", ())
    return [(b"traceparent", request.traceparent), *((b"tracestate", value) for value in states)]


def proxied_pairs(request: GatewayRequest, sent: Sent, prefix: str) -> Pairs:
    """The pairs of a forwarded request, except Host: the client's in order, then ours, with changes applied."""
    incoming, exchange = request.fields, request.exchange
    plain = incoming.plain
    if sent.passing is not None:
        plain = sent.passing.of(plain, for_cache=isinstance(request, TrackedRequest))
    pairs = [*plain, *((b"via", value) for value in incoming.own.get(b"via", ())), *trace_pairs(request)]
    if request.content_length is not None:
        pairs.append((b"content-length", b"%d" % request.content_length))
    pairs.append((b"x-request-id", exchange.request_id.encode("ascii")))
    pairs.append(request.services.via.pair(request.scope["http_version"]))
    trusted = None
    if request.from_trusted_peer:
        trusted = incoming.x_forwarded
        pairs.extend(incoming.claims)
    asked = (request.forwarded_scheme, request.forwarded_host)
    pairs.extend(
        forwarding_pairs(request.peer, request.scope["scheme"], request.host_field, prefix, trusted, asked=asked)
    )
    changes = request.going_up(sent.changes_for(request))
    return set_fields(pairs, changes) if changes else pairs


def own_pairs(request: GatewayRequest, forward: Sequence[str] | None) -> Pairs:
    """The pairs of a call that the gateway itself makes for a request: some of the client's, the trace, Via.

    `forward` names further fields to send; a name may end in `*`. None adds no field. An empty sequence sends none of
    the client's fields, not even those that every call has.
    """
    pairs = [pair for pair in request.fields.plain if _goes_along(pair[0], forward)]
    if not any(name == b"accept" for name, _ in pairs):
        pairs.append(_ACCEPT)
    request_id = (b"x-request-id", request.exchange.request_id.encode("ascii"))
    return [*pairs, *trace_pairs(request), request_id, *via_pairs(request)]
