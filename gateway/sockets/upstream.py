"""The socket of an upstream, on the connection after its 101: aiohttp's reader and writer of frames.

It masks the frames that it sends, answers pings, joins fragments, and refuses invalid input: reserved bits, bad UTF-8,
messages that are too large.
"""

import asyncio
from contextlib import suppress
from typing import Final

from aiohttp import WSMsgType
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_exceptions import ClientConnectionResetError
from aiohttp.http_websocket import WebSocketError, WebSocketReader, WebSocketWriter
from aiohttp.streams import EofStream

from gateway.sockets import codes
from gateway.sockets.client import Message, SocketClosed, too_large
from gateway.sockets.codes import Closing
from gateway.sockets.keepalive import set_keepalive

from aiohttp._websocket.reader import WebSocketDataQueue  # isort: skip  # not in aiohttp's public names

# The bytes read ahead of the client: twice this, and one message.
_READ_AHEAD_BYTES: Final = 64 * 1024
# The bytes written ahead of the upstream before the client waits, so that its pings are answered meanwhile.
_WRITE_AHEAD_BYTES: Final = 256 * 1024
# How long the upstream may take to answer a close.
_CLOSE_S: Final = 2.0


class _Frames(BaseProtocol):
    """The protocol of the transport: bytes become frames."""

    def __init__(self, loop: asyncio.AbstractEventLoop, max_message_bytes: int) -> None:
        super().__init__(loop)
        self._upgraded = True  # no parser of HTTP follows
        self.queue = WebSocketDataQueue(self, _READ_AHEAD_BYTES, loop=loop)
        # It refuses messages of exactly the given size too, not only larger ones.
        refused_bytes = max_message_bytes + 1 if max_message_bytes else 0
        # The queue has only a weak reference to it.
        self.reader = WebSocketReader(self.queue, refused_bytes, compress=False, decode_text=True)

    def data_received(self, data: bytes) -> None:
        is_wrong, _ = self.reader.feed_data(data)
        if is_wrong and self.transport is not None:
            self.transport.pause_reading()  # later bytes mean nothing

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.queue.feed_eof()


class UpstreamSocket:
    """The other side of a socket: the upstream's. `early` are the bytes that came with its 101.

    `masks`: a client masks its frames, a service does not (RFC 6455, section 5.1).
    """

    def __init__(
        self, transport: asyncio.Transport, early: bytes, max_message_bytes: int, *, masks: bool = True
    ) -> None:
        loop = asyncio.get_running_loop()
        self._max_bytes = max_message_bytes
        self._transport = transport
        self._frames = _Frames(loop, max_message_bytes)
        self._frames.connection_made(transport)
        transport.set_protocol(self._frames)
        transport.set_write_buffer_limits(high=_WRITE_AHEAD_BYTES)
        _watch_for_loss(transport)
        self._writer = WebSocketWriter(self._frames, transport, use_mask=masks)
        self._is_closed = False
        self._now = loop.time
        self.sending_since_s: float | None = None
        if early:
            self._frames.data_received(early)
        transport.resume_reading()

    async def receive(self) -> tuple[Message, int]:
        """The next message and its size in bytes. Raises SocketClosed: closed, gone, or a protocol error."""
        try:
            while True:
                kind, data, extra = await self._frames.queue.read()
                if kind is WSMsgType.TEXT:
                    return data, len(data) if data.isascii() else len(data.encode())
                if kind is WSMsgType.BINARY:
                    return data, len(data)
                if kind is WSMsgType.PING:
                    await self._writer.send_frame(data, WSMsgType.PONG)
                elif kind is WSMsgType.CLOSE:
                    if data and not codes.may_be_sent(data):
                        raise WebSocketError(codes.PROTOCOL_ERROR, f"close code {data}")
                    raise SocketClosed(Closing(data or codes.NONE_GIVEN, extra or "", codes.UPSTREAM))
        except WebSocketError as error:
            if error.code == codes.TOO_LARGE:
                raise SocketClosed(too_large(self._max_bytes)) from error
            await self.close(Closing(error.code, "", codes.GATEWAY))
            failure = Closing(codes.LOST, "", codes.UPSTREAM, "response_invalid")
            raise SocketClosed(failure) from error
        except (EofStream, ConnectionError) as error:
            failure = Closing(codes.LOST, "", codes.UPSTREAM, "response_incomplete")
            raise SocketClosed(failure) from error

    async def send(self, data: Message) -> None:
        """Send a message, no faster than the upstream reads. Raises SocketClosed where it is gone."""
        self.sending_since_s = self._now()
        try:
            if isinstance(data, str):
                await self._writer.send_frame(data.encode(), WSMsgType.TEXT)
            else:
                await self._writer.send_frame(data, WSMsgType.BINARY)
        except (ClientConnectionResetError, ConnectionError) as error:
            raise SocketClosed(Closing(codes.LOST, "", codes.UPSTREAM, "response_incomplete")) from error
        self.sending_since_s = None

    async def close(self, closing: Closing) -> None:
        """Send a close frame, or answer the upstream's own, and end the connection when it has answered."""
        if self._is_closed:
            return
        self._is_closed = True
        code, reason = closing.for_upstream()
        with suppress(Exception):
            async with asyncio.timeout(_CLOSE_S):
                if closing.by == codes.UPSTREAM and closing.code == codes.NONE_GIVEN:
                    await self._writer.send_frame(b"", WSMsgType.CLOSE)
                else:
                    await self._writer.close(code, reason)
                if closing.by != codes.UPSTREAM:  # else this was the reply: the upstream ends it (RFC 6455, 7.1.1)
                    while (await self._frames.queue.read()).type is not WSMsgType.CLOSE:
                        pass
        self._transport.close()
        self._frames.queue.feed_eof()

    def cut(self) -> None:
        """End the connection without a close frame."""
        self._is_closed = True
        self._transport.abort()


def _watch_for_loss(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None:
        set_keepalive(connection)
