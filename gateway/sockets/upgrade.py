"""Answers to a handshake: a view passes it on to its upstream, or a function of a team's own takes the socket."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from asgiref.sync import markcoroutinefunction

from gateway.errors import GatewayError, Reason
from gateway.http.headers import all_of
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.options import Level
from gateway.proxy.fetch import Fetched, fetch
from gateway.proxy.outgoing import outgoing_for, proxied_pairs, rendered
from gateway.proxy.view import Proxy
from gateway.sockets import codes, handshake
from gateway.sockets.client import ClientSocket, Message, SocketClosed
from gateway.sockets.codes import Closing
from gateway.sockets.relay import Relay
from gateway.sockets.session import Session, ViewSession
from gateway.upstreams.attempts import answer_to
from gateway.upstreams.options import ProxyOptions
from gateway.upstreams.pool import pools_of

# Makes the session of a socket, once its client is accepted.
Begin = Callable[[ClientSocket], Session]


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """The options of a socket. 0 is no limit; `origins` None: the pages of the requested host."""

    max_message_bytes: int
    idle_s: float
    origins: tuple[str, ...] | None = None
    total_s: float | None = None

    @property
    def names_pages(self) -> bool:
        """Whether a page that may open a socket is named, so that it may do so with its visitor's cookies."""
        return self.origins is not None and "*" not in self.origins


DEFAULT_OPTIONS = SocketOptions(max_message_bytes=2**20, idle_s=3600.0)


def options_of(options: ProxyOptions) -> SocketOptions:
    """The socket options of a proxied call."""
    return SocketOptions(
        options.websocket_max_message_bytes,
        options.websocket_idle_s,
        options.websocket_origins or None,
        options.total_timeout_s,
    )


class Upgrade(GatewayResponse):
    """The answer of a view that takes a handshake: `begin` is called with the socket of the client.

    With `subprotocol` None no subprotocol is chosen. A view of a team's own accepts by itself (`accepts_itself`).
    """

    def __init__(
        self, begin: Begin, options: SocketOptions, subprotocol: str | None = None, *, accepts_itself: bool = False
    ) -> None:
        super().__init__(101)
        self.begin = begin
        self.options = options
        self.subprotocol = subprotocol
        self.accepts_itself = accepts_itself


# -- passed on ----------------------------------------------------------------------------------------------------


async def pass_on(view: Proxy, request: GatewayRequest, params: dict[str, str]) -> GatewayResponse:
    """Ask the upstream of a view for an upgrade; returns an `Upgrade`, or the refusal. Raises GatewayError."""
    pool = pools_of(request)[view.target.upstream]
    plan = view.plan_anew(pool)
    options, exchange = plan.options, request.exchange
    exchange.upstream = pool.name
    path, query = view.target_of(request, params, plan.sent)
    offered = offered_in(request)
    key = handshake.new_key(os.urandom(16))
    pairs = proxied_pairs(request, plan.sent, view.stripped_prefix(request))
    outgoing = outgoing_for(
        request,
        pool,
        options,
        method="GET",
        target=path + query,
        fields=rendered(handshake.upgrade_pairs(pairs, key, offered)),
        repeatable=True,
        timeout_s=options.timeout_s,
        too_late=partial(
            GatewayError, Reason.RESPONSE_TIMEOUT, upstream=pool.name, limit=("timeout_s", options.timeout_s)
        ),
        switches=True,
    )
    attempt = await answer_to(outgoing, pool, exchange)
    if attempt.status != 101:
        return view.response(request, plan, attempt)
    request.lifetime.closers.append(attempt.close)
    fault = handshake.fault_of(attempt.pairs, key, offered)
    if fault is not None:
        attempt.broke(Reason.RESPONSE_INVALID)
        raise GatewayError(Reason.RESPONSE_INVALID, upstream=pool.name, cause=fault)

    def begin(client: ClientSocket) -> Session:
        from gateway.sockets.upstream import UpstreamSocket  # aiohttp takes a third of the time of `gateway check`

        assert attempt.connection is not None  # noqa: S101 - it has answered by now
        transport, early = attempt.connection.hand_over()
        upstream = UpstreamSocket(transport, early, options.websocket_max_message_bytes)
        return Relay(client, upstream, options.idle_timeout_s)

    return Upgrade(begin, options_of(options), handshake.protocol_of(attempt.pairs))


def offered_in(request: GatewayRequest) -> list[str]:
    """The subprotocols that the client offers. Raises HEADER_INVALID."""
    values = all_of(request.raw_headers, b"sec-websocket-protocol")
    offered = handshake.offered_by(values)
    if offered is None:
        detail = "The Sec-WebSocket-Protocol field is no list of different names."
        raise GatewayError(Reason.HEADER_INVALID, detail)
    return offered


# -- views of one's own -------------------------------------------------------------------------------------------


class GatewayWebSocket:
    """A client's socket, for `async def view(socket: GatewayWebSocket)` behind `route(..., websocket=True)`.

    `accept` it, then `receive` and `send` text or bytes, or iterate over the messages, and `close`. Refusing before
    `accept`, by `close` or by returning, is a 403. `request` is the handshake, `subprotocols` what the client offers.
    `fetch` calls an upstream, as in any view. The limits of a proxied socket apply: after a message that is too large,
    silence for too long, or a drain, `receive` and `send` raise SocketClosed, which the view need not catch.
    """

    def __init__(self, request: GatewayRequest, client: ClientSocket, session: ViewSession) -> None:
        self.request = request
        self.subprotocols = tuple(offered_in(request))
        self._client = client
        self._session = session

    async def accept(self, subprotocol: str | None = None) -> None:
        """Let the client in. Raises ValueError for a subprotocol that it does not offer."""
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise ValueError(f"the client offers no subprotocol {subprotocol!r}")
        await self._session.accept(subprotocol)

    async def receive(self) -> Message:
        """The next message: str or bytes. Raises SocketClosed."""
        return await self._session.receive()

    async def send(self, data: Message) -> None:
        """Send text or bytes, no faster than the client reads. Raises SocketClosed."""
        await self._session.send(data)

    async def close(self, code: int = codes.NORMAL, reason: str = "") -> None:
        """Close it. Raises ValueError for a code that an endpoint may not send, and a reason over 123 bytes."""
        if not codes.may_be_sent(code):
            raise ValueError(f"{code} is no code that may be sent: 1000 to 1014 without 1004 to 1006, 3000 to 4999")
        if codes.shortened(reason) != reason:
            raise ValueError("a reason has at most 123 bytes")
        await self._session.finish(Closing(code, reason, codes.GATEWAY))

    async def fetch(self, target: str, **options: Any) -> Fetched:
        """As `gateway.routing.fetch`."""
        return await fetch(target, **options)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            try:
                message = await self.receive()
            except SocketClosed:
                return
            yield message


class SocketView:
    """A view of a team's own that takes sockets. A request without an upgrade gets 426."""

    def __init__(self, view: Callable[..., Awaitable[None]], options: SocketOptions = DEFAULT_OPTIONS) -> None:
        self.view = view
        self.options = options
        self.is_off = False
        self.__name__ = self.__qualname__ = getattr(view, "__name__", type(view).__name__)
        self.__module__ = getattr(view, "__module__", __name__)
        self.__doc__ = view.__doc__
        markcoroutinefunction(self)

    def inherit(self, level: Level) -> None:
        """Apply the options for all routes to its sockets."""
        usual = DEFAULT_OPTIONS
        self.is_off = not level.get("websocket", True)
        self.options = SocketOptions(
            level.get("websocket_max_message_bytes", usual.max_message_bytes),
            level.get("websocket_idle_s", usual.idle_s),
            level.get("websocket_origins", ()) or None,
            level.get("total_timeout_s") or None,
        )

    async def __call__(self, request: GatewayRequest, **params: Any) -> GatewayResponse:
        if request.upgrade is None:  # RFC 9110, section 15.5.22
            return GatewayResponse(426, [("upgrade", "websocket"), ("connection", "upgrade")])
        offered_in(request)

        def begin(client: ClientSocket) -> Session:
            session = ViewSession(client)
            session.start(self.view(GatewayWebSocket(request, client, session), **params))
            return session

        return Upgrade(begin, self.options, accepts_itself=True)
