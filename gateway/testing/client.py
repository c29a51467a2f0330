"""The client of a gateway in the same process: it speaks ASGI, as Granian does, in the loop of the test."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from django.urls import set_urlconf

from gateway.http.exchange import Exchange
from gateway.http.headers import Pairs
from gateway.http.request import Message, Scope
from gateway.observe.log import line_of
from gateway.server.asgi import GatewayHandler
from gateway.sockets import codes
from gateway.sockets.client import Message as SocketMessage
from gateway.sockets.client import SocketClosed
from gateway.sockets.codes import Closing
from gateway.testing.answer import Answer, BrokenOff, SocketRefused
from gateway.testing.wire import Pair

RequestBody = bytes | AsyncIterable[bytes] | None

# The number of messages of an answer that wait for their reader.
_AHEAD: Final = 8
# How long requests that were left may take to end by themselves.
_LEAVE_S: Final = 1.0
# No connection has port 0, so none is cut by mistake when an answer breaks off.
_CLIENT: Final = ("127.0.0.1", "0")

_exchanges: ContextVar[list[Exchange]] = ContextVar("gateway_testing_exchanges")


def note_exchange(exchange: Exchange) -> None:
    """Hook of the handler: keeps the record of a request for its sender."""
    noted = _exchanges.get(None)
    if noted is not None:
        noted.append(exchange)


class LocalClient:
    """Requests to a handler. `urlconf` is for Django's reverse(), `scheme` is that of the gateway's listener."""

    def __init__(self, handler: GatewayHandler, urlconf: ModuleType, scheme: str) -> None:
        self._handler = handler
        self._urlconf = urlconf
        self._scheme = scheme
        self._open: set[_Exchanged] = set()

    async def open(self, method: str, target: str, pairs: Pairs, body: RequestBody) -> "LocalAnswer":
        """Send a request; returns with the head of its answer."""
        if body is not None and not any(name in _FRAMING for name, _ in pairs):
            framing = (b"transfer-encoding", b"chunked")
            pairs = [*pairs, (b"content-length", b"%d" % len(body)) if isinstance(body, bytes) else framing]
        exchanged = _Exchanged(body)
        self._run(exchanged, self._scope("http", method, target, pairs))
        start = await exchanged.next()
        if start is None:
            raise RuntimeError(f"the gateway did not answer {method} {target}")
        return LocalAnswer(self, exchanged, start)

    async def open_socket(self, target: str, pairs: Pairs, subprotocols: Sequence[str]) -> "LocalSocket":
        """Open a WebSocket. Raises SocketRefused."""
        exchanged = _Exchanged(None, is_socket=True)
        exchanged.to_gateway.put_nowait({"type": "websocket.connect"})
        scope = self._scope("websocket", "GET", target, [*pairs, *_HANDSHAKE])
        del scope["method"]
        scope["scheme"] = "wss" if self._scheme == "https" else "ws"
        scope["subprotocols"] = list(subprotocols)
        self._run(exchanged, scope)
        start = await exchanged.next()
        if start is not None and start["type"] == "websocket.accept":
            return LocalSocket(self, exchanged, start.get("subprotocol"))
        if start is None or start["type"] == "websocket.close":
            raise SocketRefused(Answer(403, [], b"", await self.leave(exchanged)))
        answer = LocalAnswer(self, exchanged, start)
        raise SocketRefused(await answer.whole())

    async def close(self) -> None:
        """Leave whatever is still open."""
        for exchanged in list(self._open):
            await self.leave(exchanged)

    async def leave(self, exchanged: "_Exchanged") -> Mapping[str, Any]:
        """Leave, like a client that closes its connection; returns the log line of the request."""
        exchanged.leave()
        task = exchanged.task
        if not task.done():
            self._handler.worker.watch_clients()
            await asyncio.wait({task}, timeout=_LEAVE_S)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        return exchanged.log

    def _run(self, exchanged: "_Exchanged", scope: Scope) -> None:
        async def run() -> None:
            _exchanges.set(exchanged.exchanges)
            set_urlconf(self._urlconf)  # type: ignore[arg-type]  # any object with urlpatterns will do
            try:
                await self._handler(scope, exchanged.receive, exchanged.send)
            finally:
                exchanged.end()

        exchanged.task = asyncio.get_running_loop().create_task(run(), name="gateway-testing-request")
        self._open.add(exchanged)
        exchanged.task.add_done_callback(lambda _: self._open.discard(exchanged))

    def _scope(self, kind: str, method: str, target: str, pairs: Pairs) -> Scope:
        raw_path, _, query = target.partition("?")
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": self._scheme,
            "path": raw_path,
            "raw_path": raw_path.encode("latin-1"),
            "query_string": query.encode("latin-1"),
            "root_path": "",
            "headers": pairs,
            "client": _CLIENT,
            "server": ("127.0.0.1", "8000"),
            "extensions": {},
            "state": {},
        }


_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_HANDSHAKE: Final = (
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)


class _Exchanged:
    """The two sides of an ASGI call."""

    task: asyncio.Task[None]

    def __init__(self, body: RequestBody, *, is_socket: bool = False) -> None:
        self._body = None if is_socket else _messages_of(body)
        self._left = asyncio.Event()
        self._answer: asyncio.Queue[Message | None] = asyncio.Queue(_AHEAD)
        self.to_gateway: asyncio.Queue[Message] = asyncio.Queue()  # of a socket
        self.exchanges: list[Exchange] = []
        self._is_over = False

    @property
    def log(self) -> Mapping[str, Any]:
        """The line of the request, once that is over."""
        return line_of(self.exchanges[-1]) if self.exchanges else {}

    async def receive(self) -> Message:
        if self._body is None:
            return await self.to_gateway.get()
        async for message in self._body:
            return message
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if not self._left.is_set():
            await self._answer.put(message)

    async def next(self) -> Message | None:
        """The next message of the answer; None once there is no more."""
        return None if self._is_over and self._answer.empty() else await self._answer.get()

    def end(self) -> None:
        """The gateway is done with the request."""
        self._is_over = True
        with contextlib.suppress(asyncio.QueueFull):  # then no reader waits for a message
            self._answer.put_nowait(None)

    def leave(self) -> None:
        self._left.set()
        while not self._answer.empty():
            self._answer.get_nowait()


async def _messages_of(body: RequestBody) -> AsyncIterator[Message]:
    if body is None or isinstance(body, bytes):
        yield {"type": "http.request", "body": body or b"", "more_body": False}
        return
    async for piece in body:
        yield {"type": "http.request", "body": piece, "more_body": True}
    yield {"type": "http.request", "body": b"", "more_body": False}


class LocalAnswer:
    """An answer after its head has arrived."""

    def __init__(self, client: LocalClient, exchanged: _Exchanged, start: Message) -> None:
        self._client = client
        self._exchanged = exchanged
        self.status: int = start["status"]
        self.pairs: list[Pair] = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        self._arrived = bytearray()

    @property
    def log(self) -> Mapping[str, Any]:
        return self._exchanged.log

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises BrokenOff."""
        while (message := await self._exchanged.next()) is not None:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                await asyncio.wait({self._exchanged.task})
                return
        await asyncio.wait({self._exchanged.task})
        raise BrokenOff(Answer(self.status, self.pairs, bytes(self._arrived), self.log))

    async def whole(self) -> Answer:
        """The answer once it has arrived whole. Raises BrokenOff."""
        async for piece in self.pieces():
            self._arrived += piece
        return Answer(self.status, self.pairs, bytes(self._arrived), self.log)

    async def close(self) -> None:
        await self._client.leave(self._exchanged)


class LocalSocket:
    """An open WebSocket. `subprotocol` is the chosen one."""

    def __init__(self, client: LocalClient, exchanged: _Exchanged, subprotocol: str | None) -> None:
        self._client = client
        self._exchanged = exchanged
        self.subprotocol = subprotocol
        self._closing: Closing | None = None

    async def receive(self) -> SocketMessage:
        """The next message. Raises SocketClosed."""
        message = None if self._closing is not None else await self._exchanged.next()
        if message is not None and message["type"] == "websocket.send":
            text = message.get("text")
            data: SocketMessage = message["bytes"] if text is None else text
            return data
        if self._closing is None:
            code = codes.LOST if message is None else message.get("code") or codes.NORMAL
            self._closing = Closing(code, (message or {}).get("reason") or "", codes.GATEWAY)
            self._disconnect(code, "")  # a client answers a close with its own
        raise SocketClosed(self._closing)

    async def send(self, message: SocketMessage) -> None:
        """Send a text or bytes. Raises SocketClosed."""
        if self._closing is not None or self._exchanged.task.done():
            raise SocketClosed(self._closing or Closing(codes.LOST, "", codes.GATEWAY))
        key = "text" if isinstance(message, str) else "bytes"
        self._exchanged.to_gateway.put_nowait({"type": "websocket.receive", key: message})
        await asyncio.sleep(0)

    async def close(self, code: int, reason: str) -> Mapping[str, Any]:
        if self._closing is None:
            self._closing = Closing(code, reason, codes.CLIENT)
            self._disconnect(code, reason)
        await asyncio.wait({self._exchanged.task}, timeout=_LEAVE_S)
        return await self._client.leave(self._exchanged)

    def _disconnect(self, code: int, reason: str) -> None:
        self._exchanged.to_gateway.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
