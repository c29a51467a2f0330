"""The body of an answer that did not come in one piece with its head. It is read no faster than it is consumed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Protocol

import aiohttp

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Alarm
from gateway.upstreams.errors import translated
from gateway.upstreams.small_reads import FREELY_AFTER_BYTES, PIECE_BYTES


class Source(Protocol):
    """The connection of the body: `lost` is the error by which it ended, if it did not end well."""

    lost: BaseException | None

    def read_freely(self) -> None:
        """Read pieces of any size from now on, instead of small ones."""


class StreamedBody:
    """`is_framed`: the end of the body is marked, other than by the end of the connection. `length` is its
    Content-Length, if it has one."""

    __slots__ = ("_reader", "_source", "_upstream", "is_framed", "length")

    def __init__(
        self, reader: aiohttp.StreamReader, source: Source, upstream: str, *, is_framed: bool, length: int | None
    ) -> None:
        self._reader = reader
        self._source = source
        self._upstream = upstream
        self.is_framed = is_framed
        self.length = length

    @property
    def is_here(self) -> bool:
        """Whether all of it has arrived."""
        return self._reader.is_eof()

    def when_here(self, call: Callable[[], None]) -> None:
        """Have `call` called once all of it has arrived, which may be at once."""
        self._reader.on_eof(call)

    def whole(self) -> bytes | None:
        """The body if all of it has arrived; else None, and nothing is consumed. Raises RESPONSE_INCOMPLETE."""
        self._raise_if_broken()
        return self._reader.read_nowait() if self._reader.is_eof() else None

    async def settle(self, max_bytes: int, timeout_s: float, unknown_timeout_s: float) -> bool:
        """Wait until it has arrived, if its stated length is at most `max_bytes`; `unknown_timeout_s` applies if it
        states none.

        False if a length was stated, and no more of it came in that time. Raises RESPONSE_INCOMPLETE.
        """
        reader, length = self._reader, self.length
        if reader.is_eof() or (length is not None and length > max_bytes):
            return True
        had_bytes = 0
        for _ in range(2):  # the second half of the time tells a slow body from one that has stopped
            had_bytes = reader.total_bytes
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout((unknown_timeout_s if length is None else timeout_s) / 2):
                    await reader.wait_eof()
            self._raise_if_broken()
            if reader.is_eof():
                return True
        return length is None or reader.total_bytes > had_bytes

    async def pieces(self, idle_timeout_s: float, resumed_at: Callable[[], float]) -> AsyncIterator[bytes]:
        """The body as it arrives. `resumed_at` gives a moment of the loop's clock before which the upstream need not
        send.

        Raises GatewayError RESPONSE_INCOMPLETE or RESPONSE_IDLE_TIMEOUT.
        """
        reader, loop = self._reader, asyncio.get_running_loop()
        asked_at: float | None = loop.time()  # None while the client consumes a piece
        small_bytes = FREELY_AFTER_BYTES  # left to read in small pieces
        too_slow = GatewayError(
            Reason.RESPONSE_IDLE_TIMEOUT, upstream=self._upstream, limit=("idle_timeout_s", idle_timeout_s)
        )

        def since() -> float:
            return loop.time() if asked_at is None else max(asked_at, resumed_at())

        alarm = Alarm(loop, idle_timeout_s, since, lambda: reader.set_exception(too_slow))
        try:
            while piece := await self._next(small=small_bytes > 0):
                asked_at = None
                yield piece
                asked_at = loop.time()
                if small_bytes > 0:
                    small_bytes -= len(piece)
                    if small_bytes <= 0:
                        self._source.read_freely()
            self._raise_if_broken()
        except aiohttp.ClientError as error:
            raise self._incomplete(error) from error
        finally:
            alarm.cancel()

    async def _next(self, *, small: bool) -> bytes:
        """The bytes that have arrived, after waiting for some; empty at the end. An error is raised after all bytes
        that arrived before it."""
        reader = self._reader
        if reader.exception() is not None:
            # aiohttp would raise at once, before what it has buffered is read.
            rest: bytes = reader._read_nowait(-1)
            if rest:
                return rest
        return await (reader.read(PIECE_BYTES) if small else reader.readany())

    def _raise_if_broken(self) -> None:
        error = self._reader.exception()
        if error is None and not self.is_framed and isinstance(self._source.lost, aiohttp.ClientOSError):
            # A body that ends where the connection ends is whole only if the connection ended well. aiohttp takes a
            # reset for the end of such a body; it must count as incomplete (RFC 9112, section 8).
            error = self._source.lost
        if error is not None:
            raise self._incomplete(error) from error

    def _incomplete(self, error: BaseException) -> GatewayError:
        return (
            error if isinstance(error, GatewayError) else translated(error, self._upstream, Reason.RESPONSE_INCOMPLETE)
        )
