"""The attempt loop: send a request to an upstream until a response may be passed on or no attempt is left.

`retry_policy` decides what may be retried, `pool` decides where. Two things make it possible to hide a failure at all.
If another attempt could follow, a short response is held back until it is whole (one of unknown length only for a
moment): once the head has been sent to the client, a body that breaks off cannot be repaired. And an attempt that has
used up its share of the time is hedged: another one is made elsewhere, and the first response wins. Aborting the first
one would fail a request that is only slow (Dean and Barroso, The Tail at Scale, 2013).

The first attempt of every request waits once, on one future: for the head, a failure, or a timer. A response that is
whole and good by then, as nearly all are, is passed on. Everything else goes to `_Course`, which takes over the first
attempt as it is, reads the same connection, and counts the time that has passed.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

from gateway.errors import GatewayError, Reason, Side
from gateway.http.deadline import Deadline
from gateway.http.lifetime import Lifetime
from gateway.http.methods import SAFE_METHODS
from gateway.upstreams import retry_policy
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.options import ProxyOptions
from gateway.upstreams.pool import Pool
from gateway.upstreams.retry_policy import StaleConnection, Unsent
from gateway.upstreams.upload import Upload

if TYPE_CHECKING:
    from gateway.observe.spans import Tracer
    from gateway.upstreams.connection import Connection

# The upstream may close a connection that has been idle for longer at any moment, so a request that cannot be repeated
# does not use it. No usual server has a shorter idle timeout.
_SAFE_IDLE_S = 1.0
_NO_LIMIT_S = float("inf")
# How long to wait for the whole body before the head is passed on: of a known short length, of an unknown length.
_SETTLE_S, _SETTLE_UNKNOWN_S = 1.0, 0.01
# How long before the deadline a response that has arrived is used, whatever its status.
_LAST_MOMENT_S = 0.01


class AttemptRecord(Protocol):
    """Where the attempts of one call are recorded: an Exchange, or the record of a part."""

    attempts: int | None
    endpoint: str | None
    upstream_ms: float | None


class _ShareUsedUp(GatewayError):
    """An attempt took its share of the time; it may still go on."""


@dataclass(slots=True)
class Outgoing:
    """A call to an upstream, the same for each endpoint: the target below its base, the field lines, the body.

    `fields` are the lines as sent, except `host` (None for the endpoint's own) and `traceparent`, which spans replace.
    `key` is the balancing key. `lifetime` belongs to the request that the call is made for.
    """

    method: str
    target: str
    fields: bytes
    traceparent: bytes
    options: ProxyOptions
    timeout_s: float
    host: bytes | None
    key: bytes
    repeatable: bool
    too_late: Callable[[], GatewayError]
    lifetime: Lifetime
    upload: Upload | None = None
    chunked: bool = False
    body: bytes | None = None  # a body already in memory, instead of an upload
    switches: bool = False  # the response may be 101
    once: bool = False  # never retried, whatever the outcome

    @property
    def can_repeat(self) -> bool:
        """Whether it may be sent again, although the upstream may already have acted on it."""
        return self.repeatable and (self.upload is None or self.upload.can_be_sent)

    def head_for(self, endpoint: Endpoint, traceparent: bytes) -> bytes:
        """The head of the request to an endpoint (RFC 9112, section 3). Raises HEADER_INVALID."""
        line = f"{self.method} {endpoint.base.prefix}{self.target} HTTP/1.1"
        if not line.isprintable():  # earlier checks refuse these; this is the last guard, as in `field_block`
            raise GatewayError(Reason.HEADER_INVALID, "The request line holds a line break or NUL.")
        trace = b"traceparent: %b\r\n" % traceparent if traceparent else b""  # the configuration may remove it
        framing = b"transfer-encoding: chunked\r\n" if self.chunked else b""
        host = self.host or endpoint.host_field
        return b"%b\r\nhost: %b\r\n%b%b%b\r\n" % (line.encode("ascii"), host, self.fields, trace, framing)


async def answer_to(out: Outgoing, pool: Pool, record: AttemptRecord) -> Attempt:
    """The attempt with the response to pass on, its head arrived. Fills in the record. Raises GatewayError."""
    upload, timeout_s = out.upload, out.timeout_s
    try:
        if upload is not None:
            await upload.begin(with_body=pool.limit is not None)
        began_s = pool.now()
        pool.budget.request(began_s)
        record.attempts = 0
        if pool.has_wait:
            await pool.enter(timeout_s)
            timeout_s -= pool.now() - began_s
            began_s = pool.now()
        course = _Course(out, pool, record, began_s, timeout_s)
        try:
            attempt = course.begin()
            if attempt.connection is not None:
                wait_s = timeout_s if attempt.patience_s is None else min(timeout_s, attempt.patience_s)
                pool.timers.start(attempt.connection, wait_s)
                try:
                    await attempt.connection.arrival()
                finally:
                    pool.timers.stop(attempt.connection, wait_s)
            if attempt.connection is None or attempt.connection.body is None or not course.is_good(attempt):
                with Deadline(
                    timeout_s,
                    out.too_late,
                    None if upload is None else upload.moved_at,
                    passed_s=pool.now() - began_s,
                ):
                    attempt = await course.run(attempt)
        except BaseException as error:
            pool.leave()
            course.close(error)
            raise
        course.won(attempt)
        if pool.stickiness is not None:
            pool.keep_to(attempt.endpoint, out.key, out.lifetime.request)
        if upload is not None:
            upload.settled()
        return attempt
    except BaseException:
        if upload is not None:
            upload.close()
        raise


class _Course:
    """The attempts of one request so far, and what is left for further ones."""

    __slots__ = (
        *("_attempts", "_began_s", "_in_race", "_on_new", "_out", "_pool"),
        *("_record", "_repeated", "_retry", "_timeout_s", "_unsent"),
    )

    def __init__(self, out: Outgoing, pool: Pool, record: AttemptRecord, began_s: float, timeout_s: float) -> None:
        self._out = out
        self._pool = pool
        self._record = record
        self._began_s = began_s
        self._timeout_s = timeout_s
        self._attempts: list[Attempt] = []
        self._retry = 0  # retries so far
        self._repeated = False  # a retry went to an endpoint that had been tried
        self._on_new = False  # from now on only new connections
        self._in_race = False
        self._unsent = False  # the last attempt made no connection

    def left_s(self) -> float:
        """Time until the deadline, which does not come nearer while the client is slow to upload."""
        upload = self._out.upload
        moved_at = self._began_s if upload is None else max(self._began_s, upload.moved_at())
        return moved_at + self._timeout_s - self._pool.now()

    # -- one attempt ----------------------------------------------------------------------------------------------

    def begin(self) -> Attempt:
        """Choose an endpoint. Write the request if a connection to it was kept."""
        out, pool, record, attempts = self._out, self._pool, self._record, self._attempts
        attempt = pool.pick(out.key, self._tried(), repeatable=out.can_repeat, also_ejected=self._unsent)
        attempts.append(attempt)
        pool.attempts += 1
        pool.retries += len(attempts) > 1
        attempt.idle_timeout_s = out.options.idle_timeout_s
        record.attempts = len(attempts)
        record.endpoint = attempt.endpoint.label
        traceparent = out.traceparent if pool.tracer is None else self._traceparent(attempt, pool.tracer)
        attempt.request = out.head_for(attempt.endpoint, traceparent)
        body = attempt.request_body = out.body if out.upload is None else out.upload.body()
        if attempt.endpoint.idle and not self._on_new:
            can_be_sent_again = out.repeatable and (body is None or isinstance(body, bytes))
            reuse_idle_s = _NO_LIMIT_S if can_be_sent_again else _SAFE_IDLE_S
            connection = pool.client.idle_connection(attempt.endpoint, reuse_idle_s)
            if connection is not None:
                self._ask(attempt, connection)
        return attempt

    def _ask(self, attempt: Attempt, connection: "Connection") -> None:
        out = self._out
        attempt.ask(connection, is_head=out.method == "HEAD", chunked=out.chunked, switches=out.switches)
        hedges = self._pool.retries_late and out.method in SAFE_METHODS
        share_s = self._share_s() if hedges else None
        if share_s is not None:
            # An endpoint on trial after its ejection is suspect: wait only briefly.
            attempt.patience_s = share_s if attempt.sent_in else min(share_s, _SETTLE_S)

    def _traceparent(self, attempt: Attempt, tracer: "Tracer") -> bytes:
        """The traceparent of the attempt's own span."""
        out, base = self._out, attempt.endpoint.base
        url, number = base.origin + base.prefix + out.target, len(self._attempts)
        attempt.span = tracer.attempt(
            self._pool.name, host=base.host, port=base.port, url=url, method=out.method, number=number
        )
        return out.traceparent if attempt.span is None else attempt.span.traceparent

    def _tried(self) -> Sequence[Endpoint]:
        return [attempt.endpoint for attempt in self._attempts] if self._attempts else ()

    async def _head(self, attempt: Attempt) -> None:
        """Wait for the head. Raises GatewayError, _ShareUsedUp."""
        if attempt.status:  # the head came during the first wait
            return
        if attempt.connection is None:
            connection = await self._pool.client.connect(attempt.endpoint, self._connect_timeout_s())
            self._ask(attempt, connection)
        if attempt.patience_s is None:
            await attempt.head()
        else:
            upload = self._out.upload
            since = None if upload is None else upload.moved_at
            passed_s = self._pool.now() - attempt.asked_s
            with Deadline(attempt.patience_s, _share_used_up, since, passed_s=passed_s):
                await attempt.head()
        attempt.take_head()

    async def _settle(self, attempt: Attempt) -> bool:
        """Wait for the rest of a short response, if another attempt could follow or is under way; False: in vain."""
        others = self._in_race or self._retry < self._pool.upstream.retries
        if not others or not self._out.can_repeat:
            return True
        # Not until the deadline: that is for the response head, which has arrived.
        most_s = self.left_s() / 2
        return await attempt.settle(retry_policy.MAX_KEPT_BYTES, min(_SETTLE_S, most_s), min(_SETTLE_UNKNOWN_S, most_s))

    # -- one after the other --------------------------------------------------------------------------------------

    async def run(self, attempt: Attempt | None = None) -> Attempt:
        """Continue with the given attempt, if any, then make others until one has a response that may be passed on.
        Raises the failure of the last attempt."""
        while True:
            attempt = attempt or self.begin()
            try:
                await self._head(attempt)
                if not attempt.is_over and not await self._settle(attempt) and attempt.patience_s is not None:
                    return await self._hedge(attempt)
                if not self._is_fault(attempt) or not await self._another_may_follow(attempt):
                    return attempt
            except _ShareUsedUp:
                return await self._hedge(attempt)
            except GatewayError as error:
                (attempt.dropped if isinstance(error, StaleConnection) else attempt.broke)(error.reason)
                if not await self._may_follow(error.reason, error):
                    raise
            attempt = None

    def is_good(self, attempt: Attempt) -> bool:
        """Take the response, which came whole; returns whether it may be passed on."""
        attempt.take_head()
        return not self._is_fault(attempt)

    def _is_fault(self, attempt: Attempt) -> bool:
        """Whether the response is one that may be retried."""
        return attempt.status >= 400 and attempt.status in self._pool.upstream.retry_on

    async def _another_may_follow(self, attempt: Attempt) -> bool:
        """As `_may_follow`, for a response; if so, this attempt is ended."""
        if not await self._may_follow(attempt.status, is_busy=attempt.is_busy()):
            return False
        attempt.ended(attempt.status)
        return True

    async def _may_follow(
        self, failure: retry_policy.Failure, error: GatewayError | None = None, *, is_busy: bool = False
    ) -> bool:
        """Whether one more attempt may be made; if so, returns after the pause before it."""
        pool, repeatable = self._pool, self._out.can_repeat
        if self._out.once:
            return False
        self._unsent = isinstance(error, Unsent)
        if isinstance(error, StaleConnection):
            # The gateway chose a stale connection, so this uses up no retry. The next one is new, so this ends.
            self._on_new = True
            return repeatable
        rules = pool.upstream
        if self._retry >= rules.retries or not retry_policy.is_retriable(
            failure, rules.retry_on, sent=not self._unsent, repeatable=repeatable, is_busy=is_busy
        ):
            return False
        # Ejected endpoints are tried only if otherwise the request would fail without reaching any endpoint.
        others = pool.untried(self._tried(), also_ejected=self._unsent)
        again = not others
        pause_s = retry_policy.pause_s(self._retry + 1, random.random())
        if (again and self._repeated) or pause_s >= self.left_s():
            return False
        # A request that reached no endpoint adds no load to the next one, if that is healthy, so this retry is free.
        # Only the first requests of a burst need it: then the bad endpoint is ejected. A budget of 0 allows no retries.
        is_free = self._unsent and bool(others) and not others[0].health.failures and rules.retry_budget > 0
        if not is_free and not pool.budget.spend(pool.now()):
            return False
        self._repeated |= again
        self._retry += 1
        await asyncio.sleep(pause_s)
        return True

    # -- hedging --------------------------------------------------------------------------------------------------

    def _share_s(self) -> float | None:
        """This attempt's share of the time left, if another attempt could follow it; else None."""
        pool = self._pool
        left = pool.upstream.retries - self._retry
        if left <= 0 or len(pool.endpoints) < 2:
            return None
        tried = self._tried()
        others = len(pool.candidates) > len(tried) or any(one not in tried for one in pool.candidates)
        return self.left_s() / (left + 1) if others else None

    def _connect_timeout_s(self) -> float:
        """The connect timeout. It is shorter if another endpoint could be tried, to leave time for that."""
        timeout_s, share_s = self._out.options.connect_timeout_s, None
        if Reason.CONNECT_TIMEOUT in self._pool.upstream.retry_on:
            share_s = self._share_s()
        return timeout_s if share_s is None else min(timeout_s, share_s)

    async def _hedge(self, slow: Attempt) -> Attempt:
        """Start another attempt beside one that is slow or has a stalled short response; the first good one wins."""
        has_head = slow.status > 0
        if not await self._may_follow(Reason.RESPONSE_TIMEOUT):
            return slow if has_head else await self._late(slow)
        self._in_race = True
        running = {asyncio.create_task(self._late(slow)), asyncio.create_task(self.run())}
        in_hand = slow if has_head else None  # a response that is not good, used if no better one comes
        try:
            while True:
                most_s = None if in_hand is None else max(0.0, self.left_s() - _LAST_MOMENT_S)
                done, running = await asyncio.wait(running, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
                answered = [task.result() for task in done if task.exception() is None]
                good = [attempt for attempt in answered if not self._is_fault(attempt)]
                final = good or [attempt for attempt in answered if attempt.is_busy()]
                if final or answered:
                    in_hand = (final or answered)[0]
                if in_hand is not None and (final or not (done and running)):
                    if in_hand is not slow:
                        slow.broke(Reason.RESPONSE_TIMEOUT)
                    return in_hand
                if not running:
                    return done.pop().result()  # raises its failure
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _late(self, slow: Attempt) -> Attempt:
        if slow.status:
            await slow.settle(retry_policy.MAX_KEPT_BYTES, self.left_s(), 0)
            return slow
        await slow.head()
        slow.take_head()
        await self._settle(slow)
        return slow

    # -- the end --------------------------------------------------------------------------------------------------

    def won(self, winner: Attempt) -> None:
        """One attempt has its response: drop the others."""
        self._record.upstream_ms = round(winner.took_s * 1000, 2)
        if len(self._attempts) > 1:
            self._record.endpoint = winner.endpoint.label
            for attempt in self._attempts:
                if attempt is not winner:
                    attempt.dropped()
        winner.hold_place()

    def close(self, error: BaseException) -> None:
        """No response: close the attempts that were still open when time ran out or the request ended."""
        if not isinstance(error, GatewayError):
            interruption = self._out.lifetime.interruption
            error = interruption if isinstance(error, asyncio.CancelledError) and interruption else error
        now_s = perf_counter()
        for attempt in self._attempts:
            took_s = now_s - attempt.started_s
            self._record.upstream_ms = round(took_s * 1000, 2)
            if isinstance(error, GatewayError) and error.reason.side is Side.UPSTREAM:
                # An endpoint that was tried shortly before the deadline had no fair chance.
                had_chance = took_s >= 0.4 * self._timeout_s / (self._pool.upstream.retries + 1)
                if had_chance or error.reason is not Reason.RESPONSE_TIMEOUT:
                    attempt.broke(error.reason)
            attempt.dropped(error.reason if isinstance(error, GatewayError) else None)


def _share_used_up() -> GatewayError:
    return _ShareUsedUp(Reason.RESPONSE_TIMEOUT)
