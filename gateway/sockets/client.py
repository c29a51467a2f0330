"""The socket of a client, over Granian: messages within their limit, counted, and closed once.

For Granian 2.8: `receive` never gets a deadline, since a message may be lost with it. Granian answers pings while a
`receive` waits, and closes only while none does. After a disconnect nothing may be sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from gateway.observe.socket_counts import SocketCounts
from gateway.sockets import codes
from gateway.sockets.codes import Closing

Message = str | bytes

# How long a close may take to be written for a client that reads nothing.
_CLOSE_S: Final = 2.0


class SocketClosed(Exception):
    """The socket is closed, with `code` and `reason`; `by` is the closing side: `client`, `upstream` or `gateway`."""

    def __init__(self, closing: Closing) -> None:
        super().__init__(f"closed by the {closing.by} with {closing.code}")
        self.closing = closing
        self.code, self.reason, self.by = closing.code, closing.reason, closing.by


class ClientSocket:
    """One side of a socket: the client's."""

    def __init__(
        self,
        receive: Callable[[], Awaitable[Mapping[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        counts: SocketCounts,
        cut: Callable[[], Awaitable[object]],
    ) -> None:
        self._receive = receive
        self._send = send
        self._counts = counts
        self._cut = cut
        self._now = asyncio.get_running_loop().time
        self.max_message_bytes = 0
        self.closing: Closing | None = None
        self.last_s = self._now()  # time of the last message in either direction
        self.sending_since_s: float | None = None

    async def accept(self, subprotocol: str | None) -> None:
        """Answer the handshake with 101."""
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})
        self.last_s = self._now()

    async def receive(self) -> Message:
        """The next message. Raises SocketClosed when the client has closed, or sent more than it may."""
        if self.closing is not None:
            raise SocketClosed(self.closing)
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.closing = Closing(message.get("code") or codes.NONE_GIVEN, message.get("reason") or "", codes.CLIENT)
            raise SocketClosed(self.closing)
        text = message.get("text")
        data: Message = message["bytes"] if text is None else text
        # A character is at most four bytes: only messages that may be too large are measured.
        size = len(data)
        if isinstance(data, str) and not data.isascii():
            size = len(data.encode())
        if self.max_message_bytes and size > self.max_message_bytes:
            raise SocketClosed(too_large(self.max_message_bytes))
        self._counts.messages_in += 1
        self._counts.bytes_in += size
        self.last_s = self._now()
        return data

    async def send(self, data: Message, size: int) -> None:
        """Send a message of `size` bytes, no faster than the client reads."""
        self.sending_since_s = self._now()
        key = "text" if isinstance(data, str) else "bytes"
        await self._send({"type": "websocket.send", key: data})
        self.sending_since_s = None
        self._counts.messages_out += 1
        self._counts.bytes_out += size
        self.last_s = self._now()

    async def close(self, closing: Closing) -> None:
        """Close it, unless the client has. No `receive` may be waiting meanwhile."""
        was_open, self.closing = self.closing is None, self.closing or closing
        if not was_open:
            return
        code, reason = closing.for_client()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            await self._cut()
        except Exception:  # noqa: BLE001 - it has gone meanwhile
            return


def too_large(max_bytes: int) -> Closing:
    return Closing(codes.TOO_LARGE, f"a message is larger than {max_bytes} bytes", codes.GATEWAY)


async def ended(task: "asyncio.Task[Any]") -> None:
    """Cancel a task with a result that is no longer needed, and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await task
