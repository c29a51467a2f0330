"""A WebSocket that a service of a test has accepted, or that a client has over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from gateway.sockets import codes
from gateway.sockets.client import Message, SocketClosed
from gateway.sockets.codes import Closing
from gateway.sockets.upstream import UpstreamSocket
from gateway.testing.headers import Headers
from gateway.testing.wire import Request

_MAX_BYTES = 2**26


class ServiceSocket:
    """The argument for `SocketReply`: `receive` and `send` text or bytes, iterate over the messages, `close`.

    `headers` are those of the handshake. After the gateway has closed, `receive` and `send` raise SocketClosed.
    """

    def __init__(self, transport: asyncio.Transport, early: bytes, request: Request) -> None:
        self.headers = Headers(request.pairs)
        self.path = request.target
        self._frames = UpstreamSocket(transport, early, _MAX_BYTES, masks=False)
        self._is_closed = False

    async def receive(self) -> Message:
        """The next message. Raises SocketClosed."""
        message, _ = await self._frames.receive()
        return message

    async def send(self, message: Message) -> None:
        """Send a text or bytes. Raises SocketClosed."""
        await self._frames.send(message)

    async def close(self, code: int = codes.NORMAL, reason: str = "") -> None:
        """Close it."""
        if not self._is_closed:
            self._is_closed = True
            await self._frames.close(Closing(code, reason, codes.GATEWAY))

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            try:
                yield await self.receive()
            except SocketClosed:
                return

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, SocketClosed):
            await self._frames.close(error.closing)
            return True
        if error is not None:
            self._frames.cut()
            return False
        await self.close()
        return False
