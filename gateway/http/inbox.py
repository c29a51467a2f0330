"""The only reader of ASGI's `receive`: a request's body as it arrives, and the client's disconnect."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Deadline
from gateway.http.exchange import Exchange

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# nginx and others, too, read a short unwanted body rather than close the connection.
_MAX_DISCARDED_BYTES = 64 * 1024
_DISCARD_S = 0.02


class Inbox:
    """The only reader of ASGI's `receive`: the request's body, and the client's disconnect.

    A disconnect before the last piece of the body is an abort, always: Granian reports a broken chunked body that
    way, and taken for the end it would send a cut request upstream as a whole one.

    A body keeps a least rate until the answer begins: each time that it was waited for as long as `idle_timeout_s` (as
    it was given), that many bytes must have come. The time that its reader takes in between does not count.
    """

    __slots__ = (
        *("_exchange", "_few_bytes", "_receive", "_waited_bytes", "_waited_s", "_window_s"),
        *("complete", "content_length", "idle_timeout_s", "max_bytes"),
    )

    def __init__(
        self,
        receive: Receive,
        exchange: Exchange,
        idle_timeout_s: float,
        min_rate_bytes_per_s: int,
        *,
        expects_body: bool,
    ) -> None:
        self._receive = receive
        self._exchange = exchange
        self.complete = not expects_body
        self.content_length: int | None = None
        self.max_bytes: int | None = None
        self.idle_timeout_s = self._window_s = idle_timeout_s
        self._few_bytes = min_rate_bytes_per_s * idle_timeout_s  # fewer are too few for one window
        self._waited_s = 0.0  # in this window, for
        self._waited_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError: CLIENT_BODY_BROKEN, _TOO_LARGE or _TIMEOUT."""
        exchange = self._exchange
        while not self.complete:
            message = await self._next()
            if message["type"] == "http.disconnect":
                # The client left, or it broke the body's framing and waits for a response: Granian reports both alike.
                raise GatewayError(Reason.CLIENT_BODY_BROKEN, status=400)
            body: bytes = message.get("body", b"")
            exchange.bytes_in += len(body)
            # Granian marks the end of a body only in a message after it; the upstream may have answered by then.
            self.complete = not message.get("more_body", False) or exchange.bytes_in == self.content_length
            if self.max_bytes is not None and exchange.bytes_in > self.max_bytes:
                raise too_large(self.max_bytes)
            if body:
                yield body

    async def _next(self) -> Mapping[str, Any]:
        left_s = self._window_s - self._waited_s if self._few_bytes else self.idle_timeout_s
        if left_s >= self.idle_timeout_s:
            with Deadline(self.idle_timeout_s, _stalled):
                return await self._timed()
        # Once the answer has begun there can be no 408, and a client that reads it may send little: then only a pause
        # counts.
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        later_s = self.idle_timeout_s - left_s
        with Deadline(left_s, _too_slow, lambda: began_s + (later_s if self._exchange.status is not None else 0.0)):
            return await self._timed()

    async def _timed(self) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        message = await self._receive()
        if self._few_bytes:
            self._waited_s += loop.time() - began_s
            self._waited_bytes += len(message.get("body", b""))
            if self._waited_bytes >= self._few_bytes or self._exchange.status is not None:
                self._waited_s, self._waited_bytes = 0.0, 0
        return message

    async def discard(self) -> None:
        """Discard a short body that no view has begun to read, if it arrives within a moment.

        Then the connection can be kept: a body that is still under way when the answer is sent closes it.
        """
        if self.content_length is not None and self.content_length > _MAX_DISCARDED_BYTES:
            return
        self.max_bytes = _MAX_DISCARDED_BYTES
        with contextlib.suppress(GatewayError), Deadline(_DISCARD_S, _stalled):
            async for _ in self.chunks():
                pass

    async def gone(self) -> None:
        """Wait until the client disconnects. Call it only once the body is complete: it would discard the rest."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """Release the server's `receive` once the request is over; later reads get a disconnect.

        As long as anything holds `receive`, such as the traceback of an exception, Granian keeps a connection with an
        unread body open, although it sent `Connection: close`.
        """
        self._receive = _over


async def _over() -> Mapping[str, Any]:
    return {"type": "http.disconnect"}


def _stalled() -> GatewayError:
    return GatewayError(Reason.CLIENT_BODY_TIMEOUT)


def _too_slow() -> GatewayError:
    return GatewayError(Reason.CLIENT_BODY_TIMEOUT, "The request body arrived too slowly.")


def too_large(max_bytes: int) -> GatewayError:
    return GatewayError(Reason.CLIENT_BODY_TOO_LARGE, f"The request body is larger than {max_bytes} bytes.")
