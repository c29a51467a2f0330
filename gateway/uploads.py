"""A request's body on its way up: it knows whom it waits for, and keeps what is small to send it again."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from gateway.errors import GatewayError, Reason
from gateway.exchange import Alarm
from gateway.messages import GatewayRequest
from gateway.retries import MAX_KEPT_BYTES


class Upload:
    """One request's body, for one attempt or several, one at a time."""

    __slots__ = (
        "_idle_timeout_s",
        "_kept",
        "_kept_bytes",
        "_loop",
        "_moved_at",
        "_request",
        "_started",
        "_upstream",
        "_waits_for_client",
    )

    def __init__(self, request: GatewayRequest, idle_timeout_s: float, upstream: str) -> None:
        self._request = request
        self._idle_timeout_s = idle_timeout_s
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._moved_at = self._loop.time()
        self._waits_for_client = False
        self._started = False
        self._kept: list[bytes] | None = []  # None once it was too much
        self._kept_bytes = 0

    @property
    def can_be_sent(self) -> bool:
        """Whether `chunks` gives all of it: nothing was read yet, or everything was read and kept."""
        return not self._started or (self._request.inbox.complete and self._kept is not None)

    def moved_at(self) -> float:
        """The moment from which the upstream's time counts: it does not while the client is the slow one."""
        return self._loop.time() if self._waits_for_client else self._moved_at

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; a failure breaks the whole exchange off, so that a cut request never looks whole upstream."""
        if self._started:
            for chunk in self._kept or ():
                yield chunk
            return
        self._started = True
        exchange = self._request.exchange
        stalled = GatewayError(Reason.REQUEST_WRITE_TIMEOUT, upstream=self._upstream)
        alarm = Alarm(self._loop, self._idle_timeout_s, self.moved_at, partial(exchange.interrupt, stalled))
        self._waits_for_client = True
        try:
            async for chunk in self._request.stream():
                self._waits_for_client = False
                self._moved_at = self._loop.time()
                self._keep(chunk)
                yield chunk
                self._waits_for_client = True
        except GatewayError as error:
            exchange.interrupt(error)
            raise
        except Exception as error:
            exchange.interrupt(GatewayError(Reason.INTERNAL_ERROR, cause=repr(error)))
            raise
        finally:
            alarm.cancel()
            self._waits_for_client = False
            self._moved_at = self._loop.time()

    def _keep(self, chunk: bytes) -> None:
        self._kept_bytes += len(chunk)
        if self._kept_bytes > MAX_KEPT_BYTES:
            self._kept = None
        elif self._kept is not None:
            self._kept.append(chunk)
