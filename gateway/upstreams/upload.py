"""A request's body on its way up: it knows which side is slow, and keeps a small body to send it again."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Alarm
from gateway.http.request import GatewayRequest
from gateway.upstreams.retry_policy import MAX_KEPT_BYTES

# A short body nearly always comes with its head, but the server delivers it a moment later.
_MOMENT_S = 0.02


class Upload:
    """One request's body. `begin` it, then send `body()`, for each attempt anew; `close` it if none was made."""

    __slots__ = (
        *("_first", "_idle_timeout_s", "_kept", "_loop", "_moved_at"),
        *("_next", "_request", "_stream", "_streams", "_upstream", "_waits_for_client"),
    )

    def __init__(self, request: GatewayRequest, idle_timeout_s: float, upstream: str) -> None:
        self._request = request
        self._idle_timeout_s = idle_timeout_s
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._waits_for_client = False
        self._kept: bytes | bytearray | None = b""  # None once it was too large, or is no longer needed
        self._streams = False
        self._stream: AsyncIterator[bytes] = self._read()
        self._first: asyncio.Future[bytes] | None = None
        self._next: asyncio.Future[bytes] | None = None

    async def begin(self, *, with_body: bool) -> None:
        """Wait a moment for the first piece, which is all of a short body. Raises GatewayError as `Inbox.chunks` does.

        Head and body then go up in one piece. In two, more servers would close an idle connection between them, after
        which it is not known whether they acted on the request. `with_body` waits for as long as it takes: a request
        should have something to send before it takes one of a few places.
        """
        first = self._first = asyncio.ensure_future(anext(self._stream, b""))
        await asyncio.wait((first,), timeout=None if with_body else _MOMENT_S)
        if with_body:
            first.result()  # else it is raised where it is waited for
        if first.done() and first.result() and not self._request.inbox.complete:
            # Read one piece ahead: else a client that leaves before its turn would not be noticed.
            self._next = asyncio.ensure_future(anext(self._stream, b""))
            self._next.add_done_callback(self._interrupt)
            self._request.lifetime.closers.append(self.close)
        elif first.done():
            await anext(self._stream, b"")  # the stream is exhausted: this ends it, and it no longer refers to this

    def close(self) -> None:
        """Stop reading a body that is not sent."""
        for piece in (self._first, self._next):
            if piece is not None and not piece.cancel() and not piece.cancelled():
                piece.exception()  # retrieved, else asyncio would complain
        self.settled()
        self._stream = _ended

    def settled(self) -> None:
        """It will not be sent again: release what was kept for that."""
        if self._kept is not None:
            self._request.services.bodies.give(self._request.lifetime, len(self._kept))
            self._kept = None

    def _interrupt(self, piece: asyncio.Future[bytes]) -> None:
        error = None if piece.cancelled() else piece.exception()
        if isinstance(error, GatewayError):
            self._request.lifetime.interrupt(error)

    def body(self) -> bytes | AsyncIterator[bytes]:
        """The whole body, if it is short and has arrived; else its pieces as they come, once."""
        if self._request.inbox.complete and self._kept is not None:
            return bytes(self._kept)
        return self._pieces()

    @property
    def can_be_sent(self) -> bool:
        """Whether `body` gives all of it: it has arrived, or nothing of it has been sent."""
        return not self._streams or (self._request.inbox.complete and self._kept is not None)

    def moved_at(self) -> float:
        """The moment from which the upstream's time counts: not while the client is the slow side."""
        return self._loop.time() if self._waits_for_client else self._moved_at

    async def _read(self) -> AsyncIterator[bytes]:
        request = self._request
        async for chunk in request.stream():
            if self._kept is not None:
                # Without room it is sent all the same, but cannot be sent again.
                if len(self._kept) + len(chunk) > MAX_KEPT_BYTES or not request.services.bodies.has_room(len(chunk)):
                    self.settled()
                else:
                    request.services.bodies.count(request.lifetime, len(chunk))
                    self._kept = _joined(self._kept, chunk)
            yield chunk

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body; a failure breaks off the whole exchange, so that a cut request never looks whole upstream."""
        self._streams = True
        lifetime = self._request.lifetime
        stalled = GatewayError(
            Reason.REQUEST_WRITE_TIMEOUT, upstream=self._upstream, limit=("idle_timeout_s", self._idle_timeout_s)
        )
        alarm = Alarm(self._loop, self._idle_timeout_s, self.moved_at, partial(lifetime.interrupt, stalled))
        self._waits_for_client = True
        try:
            chunk = await self._first if self._first is not None else b""
            while chunk:
                self._waits_for_client = False
                self._moved_at = self._loop.time()
                yield chunk
                self._waits_for_client = True
                ahead, self._next = self._next, None
                chunk = await (anext(self._stream, b"") if ahead is None else ahead)
        except GatewayError as error:
            lifetime.interrupt(error)
            raise
        except Exception as error:
            lifetime.interrupt(GatewayError(Reason.INTERNAL_ERROR, cause=repr(error)))
            raise
        finally:
            alarm.cancel()
            self._waits_for_client = False
            self._moved_at = self._loop.time()


class _Ended:
    """A body that is no longer read."""

    def __aiter__(self) -> "_Ended":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


_ended = _Ended()


def _joined(kept: bytes | bytearray, chunk: bytes) -> bytes | bytearray:
    """The body so far: a single piece, as most bodies are, as it came; of several an array, however small they are."""
    if not kept:
        return chunk
    kept = bytearray(kept) if isinstance(kept, bytes) else kept
    kept += chunk
    return kept
