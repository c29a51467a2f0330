"""A WebSocket from ASGI to its end: the handshake is a GET through the same checks, table and stack, until its 101.

In Granian 2.8 a denial with a repeated field ends the worker, `accept` takes no fields, and a socket is cut without a
frame when the worker stops, so `Control` has all sockets closed before it stops Granian.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from django.http.response import HttpResponseBase

from gateway.errors import GatewayError, Reason, drop_frames
from gateway.http.deadline import Alarm
from gateway.http.headers import HTTP_1_0, Pairs, all_of
from gateway.http.inbox import Receive
from gateway.http.lifetime import current
from gateway.http.problem import error_of_view, problem_of
from gateway.http.request import GatewayRequest, Message, Scope, Send
from gateway.http.response import GatewayResponse, pairs_of
from gateway.observe.socket_counts import SocketCounts
from gateway.proxy.view import Proxy
from gateway.routing.dispatch import Own, decide
from gateway.routing.entries import GatewayRoute
from gateway.routing.table import Match
from gateway.routing.urls import DjangoMatch, decoded, raw_values
from gateway.routing.views import pieces
from gateway.server import abort
from gateway.server.opening import open_request
from gateway.server.plain_port import to_https
from gateway.sockets import codes, handshake, origins
from gateway.sockets.client import ClientSocket
from gateway.sockets.codes import Closing
from gateway.sockets.session import Session
from gateway.sockets.upgrade import SocketOptions, SocketView, Upgrade, options_of, pass_on
from gateway.upstreams.options import effective

if TYPE_CHECKING:
    from gateway.server.asgi import GatewayHandler

# What an answer other than 101 may hold: it is sent in one piece.
_MOST_DENIAL_BYTES: Final = 1024 * 1024
_IDLE: Final = Closing(codes.GOING_AWAY, "idle", codes.GATEWAY)
_TOO_LONG: Final = Closing(codes.GOING_AWAY, "it was open too long", codes.GATEWAY, Reason.TOTAL_TIMEOUT.word)
_STALLED: Final = Closing(codes.POLICY, "nothing is read", codes.GATEWAY, Reason.CLIENT_STALLED.word)
_EXPIRED: Final = Closing(codes.POLICY, "the token has expired", codes.GATEWAY)


async def serve_socket(handler: "GatewayHandler", scope: Scope, receive: Receive, send: Send) -> None:
    """One handshake, and its socket until that has ended."""
    await receive()  # websocket.connect
    worker = handler.worker
    as_http = {**scope, "method": "GET", "scheme": "https" if scope["scheme"] == "wss" else "http"}
    request = open_request(as_http, _never, worker, handler.settings.client_idle_s)
    request.upgrade = pass_on
    exchange, lifetime = request.exchange, request.lifetime
    current.set(lifetime)
    if worker.tracer is not None and (trace_id := worker.tracer.begin(request)) is not None:
        exchange.begin_trace(trace_id)
    worker.opened(lifetime, request.inbox)
    has_place = False
    try:
        response: HttpResponseBase | None
        try:
            worker.sockets.take()
            has_place = True
            response = await handler.answer(request, partial(_choose, handler))
        except GatewayError as error:
            response = problem_of(request, error)
        if isinstance(response, Upgrade):
            response = await _run(handler, request, response, receive, send)
        if response is not None:
            await _deny(handler, request, response, send)
    finally:
        exchange.ended = perf_counter()
        if has_place:
            worker.sockets.give()
        worker.closed(lifetime)
        lifetime.task = lifetime.request = None  # as at the end of a request
        for hook in handler.hooks:
            hook(exchange)


async def _never() -> Message:
    """A handshake has no body, and the socket's messages do not count as one."""
    never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    return await never


# -- the handshake ------------------------------------------------------------------------------------------------


def _choose(handler: "GatewayHandler", request: GatewayRequest) -> Awaitable[HttpResponseBase]:
    """Like the handler's own choice, for views that take sockets. Raises GatewayError."""
    path, host = handler.enter(request)
    if request.scope["http_version"] in HTTP_1_0:
        raise GatewayError(Reason.HEADER_INVALID, "A WebSocket handshake needs HTTP/1.1 (RFC 6455, section 4.2.1).")
    if handler.redirects_http and (answer := to_https(request, handler.settings)) is not None:
        return _at_once(answer)
    if request.content_length or b"transfer-encoding" in request.fields.own:
        raise GatewayError(Reason.HEADER_INVALID, "A WebSocket handshake has no body.")
    scope, trusted = request.scope, request.from_trusted_peer
    decision = decide(handler.routes, "GET", host, path, scope["headers"], query=scope["query_string"], trusted=trusted)
    if isinstance(decision, Own):
        raise GatewayError(Reason.WEBSOCKET_UNSUPPORTED)
    worker = handler.worker
    if len(worker.in_flight) - worker.watchers > handler.max_in_flight:
        raise GatewayError(Reason.OVERLOADED, headers=[(b"retry-after", b"1")])
    if request.fields.has_claims:
        request.hide_claims()
    if isinstance(decision, Match):
        route: GatewayRoute = decision.route
        values = raw_values(decision)
        request.matched(route, values, decision.rest)
        _check(handler, request, route.endpoint, route.stack.origins)
        return route.view(request, **decoded(values))
    if isinstance(decision, DjangoMatch):
        decision.assign(request)
        _check(handler, request, decision.stack.endpoint, decision.stack.origins)
        return decision.stack.view(request, *decision.match.args, **decision.params)
    raise getattr(decision, "error", GatewayError(Reason.ROUTE_NOT_FOUND))


def _check(handler: "GatewayHandler", request: GatewayRequest, endpoint: object, cors: Sequence[str]) -> None:
    """Raises WEBSOCKET_UNSUPPORTED where the view takes no sockets, ORIGIN_REFUSED where this page may open none."""
    options = taken_by(handler, endpoint)
    if options is None:
        raise GatewayError(Reason.WEBSOCKET_UNSUPPORTED)
    values = all_of(request.raw_headers, b"origin")
    if len(values) > 1:
        raise GatewayError(Reason.HEADER_INVALID, "The Origin field came more than once.")
    origin = values[0].decode("latin-1") if values else None
    if not origins.may_open(origin, request.forwarded_host or request.host_field, options.origins, cors):
        raise GatewayError(Reason.ORIGIN_REFUSED)
    request.page_is_named = options.names_pages


def taken_by(handler: "GatewayHandler", endpoint: object) -> SocketOptions | None:
    """The options for the sockets of a view; None if it takes none."""
    if isinstance(endpoint, SocketView):
        return None if endpoint.is_off else endpoint.options
    if not isinstance(endpoint, Proxy):
        return None
    options = effective(handler.config.upstreams[endpoint.target.upstream].overrides, endpoint.own)
    return options_of(options) if options.websocket else None


async def _at_once(response: HttpResponseBase) -> HttpResponseBase:
    return response


async def _deny(handler: "GatewayHandler", request: GatewayRequest, response: HttpResponseBase, send: Send) -> None:
    """Send an answer that is no 101: in one piece, each field once."""
    exchange = request.exchange
    pairs: Pairs
    try:
        pairs, body = pairs_of(response), await _body_of(response)
    except Exception as error:  # noqa: BLE001 - a view may have made it
        refusal = response = problem_of(request, error_of_view(error))
        pairs, body = refusal.pairs, await _body_of(refusal)
    exchange.status, exchange.bytes_out = response.status_code, len(body)
    pairs = [pair for pair in handler.finished_pairs(request, pairs) if pair[0] not in _FRAMING]
    headers = handshake.once_each(pairs)
    try:
        await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    except RuntimeError:  # raised by Granian if the client has left meanwhile
        exchange.bytes_out = 0


_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding", b"connection"})


async def _body_of(response: HttpResponseBase) -> bytes:
    """The whole body of an answer. Raises GatewayError for one that is too large."""
    body: Any = response.body if isinstance(response, GatewayResponse) else None
    if isinstance(body, bytes):
        return body
    if body is None and not response.streaming:
        return response.content  # type: ignore[attr-defined, no-any-return]
    whole = bytearray()
    async for piece in pieces(response) if body is None else body:
        whole += piece
        if len(whole) > _MOST_DENIAL_BYTES:
            raise GatewayError(Reason.RESPONSE_INVALID, cause="an answer to a handshake of more than 1 MiB")
    return bytes(whole)


# -- the socket -----------------------------------------------------------------------------------------------------


async def _run(
    handler: "GatewayHandler", request: GatewayRequest, upgrade: Upgrade, receive: Receive, send: Send
) -> GatewayResponse | None:
    """Serve a socket to its end; returns the answer instead if it was never accepted."""
    exchange, lifetime, worker = request.exchange, request.lifetime, handler.worker
    counts, options = SocketCounts(), upgrade.options
    cut = partial(abort.sever, request.scope["client"], request.scope["server"])
    client = ClientSocket(receive, send, counts, cut)
    client.max_message_bytes = options.max_message_bytes
    session: Session | None = None
    alarms: list[Alarm | asyncio.TimerHandle] = []
    try:
        session = upgrade.begin(client)
        if not upgrade.accepts_itself:
            await client.accept(upgrade.subprotocol)
        worker.upgraded(lifetime)
        worker.sockets.add(session, exchange.route or "none")
        alarms = _alarms(client, session, options, request, worker.clock.time())
        closing = await session.run()
        if closing is None:
            return GatewayResponse(403)
    except asyncio.CancelledError:
        closing = Closing(codes.LOST, "", codes.CLIENT)
    except Exception as error:  # noqa: BLE001 - a view may raise anything
        failure = GatewayError(Reason.CONNECTION_RESET) if isinstance(error, ConnectionError) else error_of_view(error)
        drop_frames(error)
        return problem_of(request, failure)
    finally:
        for alarm in alarms:
            alarm.cancel()
        if session is not None:
            worker.sockets.remove(session)
    _note(request, counts, closing)
    return None


def _alarms(
    client: ClientSocket, session: Session, options: SocketOptions, request: GatewayRequest, now_s: float
) -> list[Alarm | asyncio.TimerHandle]:
    loop = asyncio.get_running_loop()
    alarms: list[Alarm | asyncio.TimerHandle] = [
        Alarm(
            loop,
            request.inbox.idle_timeout_s,
            lambda: loop.time() if client.sending_since_s is None else client.sending_since_s,
            lambda: session.end(_STALLED),
        )
    ]
    if options.idle_s:
        alarms.append(Alarm(loop, options.idle_s, lambda: client.last_s, lambda: session.end(_IDLE)))
    if options.total_s:
        alarms.append(loop.call_later(options.total_s, session.end, _TOO_LONG))
    until_s = request.admitted_until_s
    if until_s is not None:
        alarms.append(loop.call_later(max(0.0, until_s - now_s), session.end, _EXPIRED))
    return alarms


def _note(request: GatewayRequest, counts: SocketCounts, closing: Closing) -> None:
    exchange = request.exchange
    exchange.status, exchange.socket = 101, counts
    exchange.bytes_in, exchange.bytes_out = counts.bytes_in, counts.bytes_out
    counts.closed_by = closing.by
    counts.close_code = closing.code if closing.by == codes.CLIENT else closing.for_client()[0]
    if closing.failure is not None:
        exchange.fail(GatewayError(Reason[closing.failure.upper()]))
