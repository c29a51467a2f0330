"""One attempt at a request: one try at one endpoint, from choosing it to the end of its response."""

import asyncio
from collections.abc import AsyncIterator
from time import perf_counter, time
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Reason
from gateway.http.headers import FieldLines
from gateway.upstreams import retry_policy
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.heads import one_chunk
from gateway.upstreams.outlier_detection import HEALTHY, EndpointState

if TYPE_CHECKING:
    from gateway.observe.spans import AttemptSpan
    from gateway.upstreams.body import StreamedBody
    from gateway.upstreams.connection import Connection
    from gateway.upstreams.pool import Pool

_NO_PAIRS = FieldLines()
_SERVER_ERROR = 500


class Attempt:
    """A request to one endpoint and its response. The outcome is counted once, for the pool and for the endpoint.

    `ask` writes `request` and `request_body`: a body in bytes is sent with the head, an iterated one after it. Once
    the response head has arrived (`has_head`), `take_head` sets `status`, `pairs` (names in lower case, no hop-by-hop
    fields) and, if the whole response came at once, `body`. Otherwise read `whole` or `chunks`, or `close` the attempt.
    """

    __slots__ = (
        *("_pool", "_sent_s", "_stream", "_upload", "asked_s", "body", "connection", "endpoint", "has_place"),
        *("idle_timeout_s", "is_over", "pairs", "patience_s", "request", "request_body", "sent_in", "span"),
        *("started_s", "status", "took_s"),
    )

    def __init__(self, pool: "Pool", endpoint: Endpoint) -> None:
        self._pool = pool
        self.endpoint = endpoint
        self.request = b""
        self.request_body: bytes | AsyncIterator[bytes] | None = None
        self.connection: Connection | None = None
        self.status = 0
        self.pairs: FieldLines = _NO_PAIRS
        self.body: bytes | None = None
        self.sent_in = endpoint.health.state is EndpointState.HEALTHY
        self.started_s = perf_counter()
        self.took_s = 0.0  # until the response head
        self.asked_s = 0.0  # when the request was written, by the pool's clock
        self.patience_s: float | None = None  # its share of the time after `asked_s`, if another attempt can follow
        self.idle_timeout_s = 0.0  # between two pieces of the response body
        self.is_over = False
        self.has_place = False
        self.span: AttemptSpan | None = None  # while spans are exported
        self._stream: StreamedBody | None = None  # may be read while the connection serves another request
        self._upload: asyncio.Task[bool] | None = None
        self._sent_s = 0.0
        endpoint.in_flight += 1

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, connection: "Connection", *, chunked: bool, is_head: bool, switches: bool = False) -> None:
        """Write the request."""
        self.connection, body = connection, self.request_body
        self.asked_s = self._pool.now()
        if isinstance(body, bytes):
            connection.ask(self.request + (one_chunk(body) if chunked else body), without_body=is_head)
            return
        connection.ask(self.request, without_body=is_head, switches=switches)
        if body is not None:
            self._upload = asyncio.get_running_loop().create_task(connection.send(body, chunked=chunked))
            self._upload.add_done_callback(self._note_sent)

    def _note_sent(self, _: "asyncio.Task[bool]") -> None:
        self._sent_s = asyncio.get_running_loop().time()

    def _is_sent(self) -> bool:
        """Whether the whole request was sent. After a partial one, the next request would be read as its rest."""
        upload = self._upload
        return upload is None or (upload.done() and not upload.cancelled() and upload.result())

    # -- the response -------------------------------------------------------------------------------------------------

    @property
    def has_head(self) -> bool:
        """Whether the response head has arrived. Raises GatewayError if none will come."""
        connection = self.connection
        assert connection is not None  # noqa: S101 - `ask` was called
        if connection.failure is not None:
            raise connection.failure
        return connection.status > 0

    async def head(self) -> None:
        """Wait for the head. Raises GatewayError, `StaleConnection`. May be cancelled and called again."""
        assert self.connection is not None  # noqa: S101 - `ask` was called
        while not self.has_head:
            await self.connection.arrival()

    def take_head(self) -> None:
        """Take the head, which has arrived, and record the time to it. A response that came whole has ended with it."""
        connection = self.connection
        assert connection is not None  # noqa: S101 - `has_head` has looked
        self.status, self.pairs, self.body = connection.status, connection.pairs, connection.body
        self._stream = connection.stream
        self.took_s = perf_counter() - self.started_s
        self.endpoint.answered_after(self.took_s)
        if self.status >= _SERVER_ERROR:
            self.endpoint.calls.failed(str(self.status), time())
        if self.body is not None:
            self._arrived()
        elif self._stream is not None and self.status != 101:  # what follows a 101 is not a body
            self._stream.when_here(self._arrived)

    def whole(self) -> bytes | None:
        """The body if all of it has arrived; otherwise None, and nothing is consumed. Raises RESPONSE_INCOMPLETE."""
        if self._stream is None:
            return self.body
        try:
            whole = self._stream.whole()
        except GatewayError as error:
            self.broke(error.reason)
            raise
        if whole is not None:
            self.ended(self.status)
        return whole

    async def settle(self, max_bytes: int, timeout_s: float, unknown_timeout_s: float) -> bool:
        """As `StreamedBody.settle`."""
        if self._stream is None:
            return True
        try:
            return await self._stream.settle(max_bytes, timeout_s, unknown_timeout_s)
        except GatewayError as error:
            self.broke(error.reason)
            raise

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError RESPONSE_INCOMPLETE or RESPONSE_IDLE_TIMEOUT."""
        assert self._stream is not None  # noqa: S101 - it did not come whole
        try:
            async for chunk in self._stream.pieces(self.idle_timeout_s, self._resumed_at):
                yield chunk
            self.ended(self.status)
        except GatewayError as error:
            self.broke(error.reason)
            raise
        finally:
            self.close()

    def _resumed_at(self) -> float:
        """Start of the body's idle time: not before the request is sent, as the upstream may wait for its rest."""
        return self._sent_s if self._is_sent() else asyncio.get_running_loop().time()

    def _arrived(self) -> None:
        """The whole response has arrived, or as much of it as will come."""
        connection = self.connection
        if self.is_over or connection is None:
            return
        is_framed = self._stream is None or self._stream.is_framed
        if is_framed and self._is_sent():
            self._pool.client.keep(connection)
        else:
            self._abort()  # an early response: the rest of the request is not wanted any more
        if is_framed:  # otherwise only reading it shows whether the connection ended badly
            self._over(self.status if self.status in retry_policy.FAILED_STATUSES else None)

    # -- its end ------------------------------------------------------------------------------------------------------

    def ended(self, status: int) -> None:
        """The whole response has arrived, or as much of it as is wanted."""
        self._over(status if status in retry_policy.FAILED_STATUSES else None)

    def broke(self, reason: Reason) -> None:
        """The upstream sent no response, broke it off, or stalled."""
        if not self.is_over and self.status < _SERVER_ERROR:  # else it is counted already
            self.endpoint.calls.failed(reason.word, time())
        if reason in retry_policy.FAULTS:
            self._over(reason)
        else:
            self.dropped(reason)

    def dropped(self, reason: Reason | None = None) -> None:
        """The client left, or another attempt was quicker. Before the head, that says nothing about the endpoint."""
        if self.span is not None and reason is not None:
            self.span.reason = reason.word
        if self._is_good():
            self._over(None)
        elif not self.is_over and not self.sent_in:
            self._pool.abandoned(self.endpoint)
        self._close()

    def close(self) -> None:
        """Abort the attempt, unless it is over. Never waits."""
        if not self.is_over:
            self.dropped()

    def _is_good(self) -> bool:
        return self.took_s > 0 and self.status > 0 and self.status not in retry_policy.FAILED_STATUSES

    def hold_place(self) -> None:
        """This attempt's response is used: it now owns the concurrency slot, which it may give back at once.

        A trial that streams has passed: its stream may go on for hours.
        """
        if not self.sent_in and not self.is_over and self._is_good():
            self._pool.judge(self.endpoint, None, sent_in=False)
            self.sent_in = True  # its trial is over; from now on it counts as any other attempt
        self.has_place = not self.is_over and self.status != 101  # a WebSocket counts only for load balancing
        if not self.has_place:
            self._pool.leave()

    def _over(self, failure: retry_policy.Failure | None) -> None:
        if not self.is_over and (failure is not None or self.endpoint.health is not HEALTHY):
            self._pool.judge(self.endpoint, failure, sent_in=self.sent_in)
        if self.span is not None and isinstance(failure, Reason):
            self.span.reason = failure.word
        self._close()

    def _close(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self.endpoint.in_flight -= 1
        if self.has_place:
            self._pool.leave()
        if self.connection is not None and self.connection.is_asked:
            self._abort()
        if self.span is not None:
            self.span.end(self.status)

    def _abort(self) -> None:
        if self._upload is not None:
            self._upload.cancel()
        if self.connection is not None:
            self.connection.close()

    def is_busy(self) -> bool:
        """Whether the upstream sent 503 with Retry-After: such a response is for the client."""
        return self.status == 503 and any(name == b"retry-after" for name, _ in self.pairs)
