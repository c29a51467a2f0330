"""Two ends of a connection in memory, as transports of asyncio: bytes arrive in the next turn of the loop."""

import asyncio
from collections import deque
from typing import Any, Final

# A writer is paused while the other side has this many unread bytes.
_HIGH_BYTES: Final = 64 * 1024


class End(asyncio.Transport):
    """One end. `join` makes two of them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.BaseProtocol = protocol
        self._other: End
        self._arrived: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._is_due = self._is_paused = self._is_closing = self._is_lost = False
        self._has_end = False  # the other end was closed, after the bytes that have arrived
        self._holds_up = False  # whether the other end has been paused

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if data and not self._is_closing:
            self._other._arrive(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is one limit."""

    def get_write_buffer_size(self) -> int:
        return 0

    # -- reading ------------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return not self._is_paused

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._come()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    # -- the end ------------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """Close this end: the written bytes arrive, and then the end."""
        if not self._is_closing:
            self._is_closing = True
            self._other._has_end = True
            self._other._come()
            self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        """Abort: the other end loses the connection, and its unread bytes."""
        if not self._is_lost:
            self._is_closing = True
            self._loop.call_soon(self._lose, None)
            self._loop.call_soon(self._other._lose, ConnectionResetError("Connection reset by peer"))

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._arrived.clear()
            self._protocol.connection_lost(error)

    # -- what arrives -------------------------------------------------------------------------------------------------

    def _arrive(self, data: bytes) -> None:
        if self._is_lost:
            return
        self._arrived.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _HIGH_BYTES and not self._holds_up:
            self._holds_up = True
            self._other._protocol.pause_writing()
        self._come()

    def _come(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        self._is_due = False
        while self._arrived and not self._is_paused and not self._is_lost and not self._is_closing:
            data = self._arrived.popleft()
            self._waiting_bytes -= len(data)
            if isinstance(self._protocol, asyncio.BufferedProtocol):
                self._fill(self._protocol, data)
            else:
                assert isinstance(self._protocol, asyncio.Protocol)  # noqa: S101 - one of the two reads bytes
                self._protocol.data_received(data)
        if self._holds_up and self._waiting_bytes <= _HIGH_BYTES and not self._other._is_lost:
            self._holds_up = False
            self._other._protocol.resume_writing()
        if self._has_end and not self._arrived and not self._is_lost:
            assert isinstance(self._protocol, (asyncio.Protocol, asyncio.BufferedProtocol))  # noqa: S101
            self._protocol.eof_received()
            self._lose(None)

    def _fill(self, protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        """Pass on as much as the buffer of a protocol takes; the rest comes next."""
        buffer = memoryview(protocol.get_buffer(len(data)))
        taken = min(len(buffer), len(data))
        buffer[:taken] = data[:taken]
        if taken < len(data):
            self._arrived.appendleft(data[taken:])
            self._waiting_bytes += len(data) - taken
        protocol.buffer_updated(taken)


def join(first: asyncio.BaseProtocol, second: asyncio.BaseProtocol) -> tuple[End, End]:
    """Connect two protocols, in the running loop."""
    loop = asyncio.get_running_loop()
    one, other = End(loop, first), End(loop, second)
    one._other, other._other = other, one
    first.connection_made(one)
    second.connection_made(other)
    return one, other
