"""Messages both ways until one side, or the gateway, closes.

Two tasks: one sends the client's messages up, the other the upstream's down, each no faster than they are read. The
first of them to end, or a timer, decides once how the socket closes; the rest follows from that.
"""

import asyncio
from typing import TYPE_CHECKING

from gateway.http.deadline import Alarm
from gateway.sockets import codes
from gateway.sockets.client import ClientSocket, SocketClosed, ended
from gateway.sockets.codes import Closing

if TYPE_CHECKING:  # importing aiohttp takes a third of the time of `gateway check`, which opens no socket
    from gateway.sockets.upstream import UpstreamSocket


class Relay:
    """One open socket between a client and an upstream. `end` closes it from outside."""

    def __init__(self, client: ClientSocket, upstream: "UpstreamSocket", upstream_idle_s: float) -> None:
        self._client = client
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Closing] = self._loop.create_future()
        self._upstream_idle_s = upstream_idle_s

    def end(self, closing: Closing) -> None:
        """Close it with `closing`, unless it is closing already."""
        if not self._over.done():
            self._over.set_result(closing)

    async def run(self) -> Closing:
        """Run until it has ended on both sides; returns how."""
        up, down = self._loop.create_task(self._up()), self._loop.create_task(self._down())
        now, upstream = self._loop.time, self._upstream
        stalled = Alarm(
            self._loop,
            self._upstream_idle_s,
            lambda: now() if upstream.sending_since_s is None else upstream.sending_since_s,
            lambda: self.end(_UPSTREAM_STALLED),
        )
        try:
            closing = await self._over
        except asyncio.CancelledError:
            self._upstream.cut()
            raise
        finally:
            stalled.cancel()
            # Further messages of either side are not needed: only the close is left to send.
            await ended(up)
            await ended(down)
        await asyncio.gather(self._client.close(closing), self._upstream.close(closing))
        return closing

    def _failed(self, error: Exception) -> None:
        self._loop.call_exception_handler({"message": "a socket failed", "exception": error})
        self.end(Closing(codes.FAILED, "", codes.GATEWAY, "internal_error"))

    async def _up(self) -> None:
        receive, send = self._client.receive, self._upstream.send
        try:
            while True:
                await send(await receive())
        except SocketClosed as closed:
            self.end(closed.closing)
        except Exception as error:  # noqa: BLE001 - an error of the gateway must not leave the socket open
            self._failed(error)

    async def _down(self) -> None:
        receive, send = self._upstream.receive, self._client.send
        try:
            while True:
                await send(*await receive())
        except SocketClosed as closed:
            self.end(closed.closing)
        except Exception:  # noqa: BLE001 - Granian does not tell how a client left
            self.end(Closing(codes.LOST, "", codes.CLIENT))


_UPSTREAM_STALLED = Closing(codes.FAILED, "the service reads nothing", codes.GATEWAY, "request_write_timeout")
