"""What runs an open socket: a relay, or a view of a team's own."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any, Final, Protocol

from gateway.sockets import codes
from gateway.sockets.client import ClientSocket, Message, SocketClosed, ended
from gateway.sockets.codes import Closing

# How long a view may take to end once its socket is closed.
_LEAVE_S: Final = 1.0


class Session(Protocol):
    """One socket while it is open."""

    def end(self, closing: Closing) -> None:
        """Close it with `closing`, unless it is closing already."""

    async def run(self) -> Closing | None:
        """Run until it has ended on all sides; returns how. None: never accepted. Raises what a view raises before."""


class ViewSession:
    """A socket in a view of a team's own."""

    def __init__(self, client: ClientSocket) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Closing] = self._loop.create_future()
        self._receiving: asyncio.Future[Message] | None = None
        self._view: asyncio.Task[None] | None = None
        self.is_accepted = False

    def start(self, view: Awaitable[None]) -> None:
        """Run the view, in the context of its request."""

        async def run() -> None:
            await view

        self._view = self._loop.create_task(run())

    def end(self, closing: Closing) -> None:
        if not self._over.done():
            self._over.set_result(closing)

    async def run(self) -> Closing | None:
        view = self._view
        assert view is not None  # noqa: S101 - `start` was called
        try:
            both: list[asyncio.Future[Any]] = [view, self._over]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            failure = view.exception() if view.done() and not view.cancelled() else None
            if not self.is_accepted:
                if failure is not None:
                    raise failure
                return None
            if not view.done():  # it gets SocketClosed at its next receive or send
                await asyncio.wait({view}, timeout=_LEAVE_S)
                failure = view.exception() if view.done() and not view.cancelled() else None
            if isinstance(failure, SocketClosed):
                self.end(failure.closing)
            elif failure is not None and not self._over.done():
                self.end(Closing(codes.FAILED, "", codes.GATEWAY, "view_error"))
                self._loop.call_exception_handler({"message": "a view of a socket failed", "exception": failure})
            self.end(Closing(codes.NORMAL, "", codes.GATEWAY))
            closing = self._over.result()
        finally:
            await ended(view)
            if self._receiving is not None:
                self._receiving.cancel()
        await self._client.close(closing)
        return self._client.closing or closing

    # -- what the view calls --------------------------------------------------------------------------------------

    async def accept(self, subprotocol: str | None) -> None:
        if self.is_accepted:
            raise RuntimeError("the socket was accepted before")
        self.is_accepted = True
        await self._client.accept(subprotocol)

    async def receive(self) -> Message:
        self._check()
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._client.receive())
        # The receiving task itself is never cancelled while a message may come: the next call waits for it again.
        waiting: list[asyncio.Future[Any]] = [self._receiving, self._over]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._receiving.done():
            raise SocketClosed(self._over.result())
        receiving, self._receiving = self._receiving, None
        try:
            return receiving.result()
        except SocketClosed as closed:
            self.end(closed.closing)
            raise

    async def send(self, data: Message) -> None:
        self._check()
        if not isinstance(data, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(data).__name__}")
        await self._client.send(data, len(data.encode()) if isinstance(data, str) else len(data))

    async def finish(self, closing: Closing) -> None:
        """Close the socket, for the view."""
        self.end(closing)
        if self.is_accepted and self._receiving is not None:
            self._receiving.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._receiving
            self._receiving = None

    def _check(self) -> None:
        if not self.is_accepted:
            raise RuntimeError("accept() the socket first")
        if self._over.done():
            raise SocketClosed(self._over.result())
