"""A request's body as it arrives, and the news that the client left: the one reader of ASGI's `receive`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.exchange import Deadline, Exchange

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class Inbox:
    """The one reader of ASGI's `receive`: the request's body, and the news that the client left.

    A disconnect before the last piece of the body is an abort, always: Granian reports a broken chunked body that
    way, and taken for the end it would send a cut request upstream as a whole one.
    """

    __slots__ = ("_exchange", "_receive", "complete", "content_length", "idle_timeout_s", "max_bytes")

    def __init__(self, receive: Receive, exchange: Exchange, idle_timeout_s: float, *, expects_body: bool) -> None:
        self._receive = receive
        self._exchange = exchange
        self.complete = not expects_body
        self.content_length: int | None = None
        self.max_bytes: int | None = None
        self.idle_timeout_s = idle_timeout_s

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError: CLIENT_BODY_BROKEN, _TOO_LARGE or _TIMEOUT."""
        exchange = self._exchange
        while not self.complete:
            with Deadline(self.idle_timeout_s, _stalled):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise GatewayError(Reason.CLIENT_BODY_BROKEN)
            body: bytes = message.get("body", b"")
            exchange.bytes_in += len(body)
            # Granian tells the end of a body only by a message after it; the upstream may have answered by then.
            self.complete = not message.get("more_body", False) or exchange.bytes_in == self.content_length
            if self.max_bytes is not None and exchange.bytes_in > self.max_bytes:
                raise too_large(self.max_bytes)
            if body:
                yield body

    async def gone(self) -> None:
        """Returns when the client has left. Only for a body that is complete, since it would swallow the rest."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _stalled() -> GatewayError:
    return GatewayError(Reason.CLIENT_BODY_TIMEOUT)


def too_large(max_bytes: int) -> GatewayError:
    return GatewayError(Reason.CLIENT_BODY_TOO_LARGE, f"The request body is larger than {max_bytes} bytes.")
