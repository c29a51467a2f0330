"""The attempt loop: one request to an upstream, sent until an answer may go down or no further attempt may be made.

What may be tried again is decided in `retries`, where in `pool`. Two things are done so that a failure can be hidden at
all. A short answer waits until it is whole, where another attempt could follow (one of unknown length for a moment
only): once the head has gone down, a body that breaks off cannot be mended. And an attempt that has used up its share
of the time gets company: one more is made elsewhere, and who answers first wins. To cut it short would fail what is
only slow (Dean and Barroso, The Tail at Scale, 2013).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from gateway.errors import GatewayError, Reason, Side
from gateway.http.deadline import Deadline
from gateway.http.headers import Pairs, set_fields
from gateway.http.lifetime import Lifetime
from gateway.upstreams import retry_policy
from gateway.upstreams.call import Answer, Call, StaleConnection, Unsent
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.options import ProxyOptions
from gateway.upstreams.pool import Attempt, Pool
from gateway.upstreams.upload import Upload

# A connection that idled longer may be closed by the upstream at any moment: a request that cannot be repeated does
# not take it. No usual server has a shorter idle time.
_SAFE_IDLE_S = 1.0
# How long a body may take to be whole before its head goes down without it: one that says it is short, or says nothing.
_SETTLE_S, _SETTLE_UNKNOWN_S = 1.0, 0.01
# How long before the deadline an answer that is in hand is taken, whatever it says.
_LAST_MOMENT_S = 0.01


class Notebook(Protocol):
    """What the attempts of one call write down: an Exchange, or the record of a part."""

    attempts: int | None
    endpoint: str | None
    upstream_ms: float | None


class _ShareUsedUp(GatewayError):
    """An attempt took its share of the time; it may still go on."""


@dataclass(slots=True)
class Outgoing:
    """What goes up, whichever endpoint it goes to: the target below its base, the field lines, the body.

    `host` is the Host field, None for the endpoint's own. `key` is what a hash chooses by.
    """

    method: str
    target: str
    pairs: Pairs
    options: ProxyOptions
    timeout_s: float
    host: bytes | None
    key: bytes
    repeatable: bool
    too_late: Callable[[], GatewayError]
    lifetime: Lifetime  # of the request that it is for
    upload: Upload | None = None
    chunked: bool = False
    body: bytes | None = None  # one that is here already, instead of an upload


async def answer_to(outgoing: Outgoing, pool: Pool, exchange: Notebook) -> tuple[Answer, Endpoint]:
    """The answer that goes down, its head here, and who gave it. Counts itself in the exchange. Raises GatewayError."""
    upload = outgoing.upload
    if upload is None:
        return await _answer_to(outgoing, pool, exchange)
    try:
        await upload.begin(with_body=pool.places is not None)
        answer = await _answer_to(outgoing, pool, exchange)
        upload.settled()
        return answer
    except BaseException:
        upload.close()
        raise


async def _answer_to(outgoing: Outgoing, pool: Pool, exchange: Notebook) -> tuple[Answer, Endpoint]:
    timeout_s, upload = outgoing.timeout_s, outgoing.upload
    began_s = pool.now()
    pool.budget.request(began_s)
    exchange.attempts = 0
    if pool.has_wait:
        await pool.enter(timeout_s)
        timeout_s -= pool.now() - began_s
    course = _Course(outgoing, pool, exchange, timeout_s)
    try:
        with Deadline(timeout_s, outgoing.too_late, None if upload is None else upload.moved_at):
            winner = await course.run()
    except BaseException as error:
        pool.leave()
        course.close(error)
        raise
    course.won(winner)
    answer = winner.answer
    assert answer is not None  # noqa: S101 - an attempt without an answer has raised
    return answer, winner.endpoint


class _Course:
    """The attempts of one request so far, and what is left for further ones."""

    __slots__ = (
        *("_attempts", "_began_s", "_exchange", "_on_new", "_out", "_pool"),
        *("_in_race", "_repeated", "_retry", "_timeout_s", "_unsent"),
    )

    def __init__(self, outgoing: Outgoing, pool: Pool, exchange: Notebook, timeout_s: float) -> None:
        self._out = outgoing
        self._pool = pool
        self._exchange = exchange
        self._began_s = pool.now()
        self._timeout_s = timeout_s
        self._attempts: list[Attempt] = []
        self._retry = 0  # how many there have been
        self._repeated = False  # one of them went where another attempt had been
        self._on_new = False  # from now on only new connections
        self._in_race = False
        self._unsent = False  # the last one made no connection

    def left_s(self) -> float:
        """Until the deadline, which does not come nearer while the client is the slow one."""
        return self._moved_at() + self._timeout_s - self._pool.now()

    def _moved_at(self) -> float:
        upload = self._out.upload
        return self._began_s if upload is None else max(self._began_s, upload.moved_at())

    async def run(self) -> Attempt:
        """Attempts one after the other, until one has an answer that may go down. Raises the last one's failure."""
        while True:
            attempt = self._begin()
            try:
                answer = await self._open(attempt)
                share_s = self._share_s(Reason.RESPONSE_TIMEOUT) if self._out.method in retry_policy.SAFE else None
                if share_s is None:
                    await answer.head()
                else:
                    # One that was ejected is a suspect, for whom nobody waits long.
                    most_s = share_s if attempt.sent_in else min(share_s, _SETTLE_S)
                    with Deadline(most_s, _share_used_up, self._moved_at):
                        await answer.head()
                attempt.head_came()
                if not attempt.is_over and not await self._settle(attempt, answer) and share_s is not None:
                    return await self._in_company(attempt, answer)
                if not self._is_fault(attempt) or not await self._another_may_follow(attempt):
                    return attempt
            except _ShareUsedUp:
                return await self._in_company(attempt, answer)
            except GatewayError as error:
                (attempt.dropped if isinstance(error, StaleConnection) else attempt.broke)(error.reason)
                if not await self._may_follow(error.reason, error):
                    raise

    def _begin(self) -> Attempt:
        exchange, attempts = self._exchange, self._attempts
        repeatable = self._can_repeat()
        attempt = self._pool.pick(self._out.key, self._tried(), repeatable=repeatable, also_ejected=self._unsent)
        attempts.append(attempt)
        self._pool.attempts += 1
        self._pool.retries += len(attempts) > 1
        exchange.attempts = len(attempts)
        exchange.endpoint = attempt.endpoint.label
        return attempt

    def _tried(self) -> Sequence[Endpoint]:
        return [attempt.endpoint for attempt in self._attempts] if self._attempts else ()

    async def _open(self, attempt: Attempt) -> Answer:
        """Send the request."""
        call, client = self._call(attempt), self._pool.client
        answer = client.open_kept(call, attempt)
        if answer is None:
            answer = await client.open_new(call, attempt, self._connect_timeout_s())
        attempt.answer = answer
        return answer

    async def _settle(self, attempt: Attempt, answer: Answer) -> bool:
        """Where another attempt could follow or is under way, wait for the rest of a short answer; False: in vain."""
        others = self._in_race or self._retry < self._pool.upstream.retries
        if not others or not self._can_repeat():
            return True
        # Not to the deadline: it counts until the head of the answer, which is here.
        most_s = self.left_s() / 2
        return await answer.settle(retry_policy.MAX_KEPT_BYTES, min(_SETTLE_S, most_s), min(_SETTLE_UNKNOWN_S, most_s))

    def _call(self, attempt: Attempt) -> Call:
        out, endpoint = self._out, attempt.endpoint
        pairs, tracer = out.pairs, self._pool.tracer
        if tracer is not None:
            base = endpoint.base
            url, number = base.origin + base.prefix + out.target, len(self._attempts)
            attempt.span = tracer.attempt(
                self._pool.name, host=base.host, port=base.port, url=url, method=out.method, number=number
            )
            if attempt.span is not None:
                pairs = set_fields(pairs, ((b"traceparent", attempt.span.traceparent),))
        options, upload = out.options, out.upload
        body = upload.body() if upload is not None else out.body
        can_be_sent_again = out.repeatable and (body is None or isinstance(body, bytes))
        reuse_idle_s = float("inf") if can_be_sent_again else _SAFE_IDLE_S
        return Call(
            upstream=self._pool.name,
            endpoint=endpoint,
            method=out.method,
            target=endpoint.base.prefix + out.target,
            pairs=[(b"host", out.host or endpoint.host_field), *pairs],
            body=body,
            chunked=out.chunked,
            idle_timeout_s=options.idle_timeout_s,
            reuse_idle_s=0.0 if self._on_new else reuse_idle_s,
        )

    # -- again? ---------------------------------------------------------------------------------------------------

    def _can_repeat(self) -> bool:
        upload = self._out.upload
        return self._out.repeatable and (upload is None or upload.can_be_sent)

    def _is_fault(self, attempt: Attempt) -> bool:
        """Whether its answer is one that may be retried."""
        status = attempt.answer.status if attempt.answer is not None else 0
        return status >= 400 and status in self._pool.upstream.retry_on

    async def _another_may_follow(self, attempt: Attempt) -> bool:
        """As `_may_follow`, for an answer; then it is closed."""
        answer = attempt.answer
        if answer is None:
            return False
        if not await self._may_follow(answer.status, is_busy=_is_busy(attempt)):
            return False
        attempt.ended(answer.status)
        return True

    async def _may_follow(
        self, failure: retry_policy.Failure, error: GatewayError | None = None, *, is_busy: bool = False
    ) -> bool:
        """Whether one more attempt may be made; if so, after its pause."""
        pool, repeatable = self._pool, self._can_repeat()
        self._unsent = isinstance(error, Unsent)
        if isinstance(error, StaleConnection):
            # The choice of an old connection was ours: it uses up no retry. The next one is new, so this ends.
            self._on_new = True
            return repeatable
        rules = pool.upstream
        if self._retry >= rules.retries or not retry_policy.is_retriable(
            failure, rules.retry_on, sent=not self._unsent, repeatable=repeatable, is_busy=is_busy
        ):
            return False
        # Who is ejected is asked again only rather than to fail without having reached anybody.
        others = pool.untried(self._tried(), also_ejected=self._unsent)
        again = not others
        pause_s = retry_policy.pause_s(self._retry + 1, random.random())
        if (again and self._repeated) or pause_s >= self.left_s():
            return False
        # What never arrived adds no load where it goes next, if that is well: only the first ones of a burst may need
        # that, since then the bad endpoint is ejected. With a budget of nothing there are no retries at all.
        is_free = self._unsent and bool(others) and not others[0].health.failures and rules.retry_budget > 0
        if not is_free and not pool.budget.spend(pool.now()):
            return False
        self._repeated |= again
        self._retry += 1
        await asyncio.sleep(pause_s)
        return True

    # -- the share ------------------------------------------------------------------------------------------------

    def _share_s(self, of: Reason) -> float | None:
        """What this attempt has of the time, if another could follow it after this kind of failure; else None."""
        pool = self._pool
        left = pool.upstream.retries - self._retry
        if len(pool.endpoints) < 2 or left <= 0 or of not in pool.upstream.retry_on:
            return None
        return self.left_s() / (left + 1) if any(one not in self._tried() for one in pool.candidates) else None

    def _connect_timeout_s(self) -> float:
        """Where a connection could be made elsewhere, the time is left for that too."""
        timeout_s, share_s = self._out.options.connect_timeout_s, self._share_s(Reason.CONNECT_TIMEOUT)
        return timeout_s if share_s is None else min(timeout_s, share_s)

    async def _in_company(self, slow: Attempt, answer: Answer) -> Attempt:
        """The quicker one of an attempt that used up its share, or whose short answer stalls, and of further ones."""
        has_head = answer.status > 0
        if not await self._may_follow(Reason.RESPONSE_TIMEOUT):
            return slow if has_head else await self._late(slow, answer)
        self._in_race = True
        running = {asyncio.create_task(self._late(slow, answer)), asyncio.create_task(self.run())}
        in_hand = slow if has_head else None  # an answer that is not good, for want of a better one
        try:
            while True:
                most_s = None if in_hand is None else max(0.0, self.left_s() - _LAST_MOMENT_S)
                done, running = await asyncio.wait(running, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
                answered = [task.result() for task in done if task.exception() is None]
                good = [attempt for attempt in answered if not self._is_fault(attempt)]
                final = good or [attempt for attempt in answered if _is_busy(attempt)]
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

    async def _late(self, slow: Attempt, answer: Answer) -> Attempt:
        if answer.status:
            await answer.settle(retry_policy.MAX_KEPT_BYTES, self.left_s(), 0)
            return slow
        await answer.head()
        slow.head_came()
        await self._settle(slow, answer)
        return slow

    # -- the end --------------------------------------------------------------------------------------------------

    def won(self, winner: Attempt) -> None:
        """One has its answer; what the others still do is not wanted any more."""
        self._exchange.upstream_ms = round(winner.took_s * 1000, 2)
        if len(self._attempts) > 1:
            self._exchange.endpoint = winner.endpoint.label
            for attempt in self._attempts:
                if attempt is not winner:
                    attempt.dropped()
        winner.hold_place()

    def close(self, error: BaseException) -> None:
        """No answer: attempts that are still open were broken off by the clock, or by whoever ended the request."""
        if not isinstance(error, GatewayError):
            interruption = self._out.lifetime.interruption
            error = interruption if isinstance(error, asyncio.CancelledError) and interruption else error
        now_s = perf_counter()
        for attempt in self._attempts:
            took_s = now_s - attempt.started_s
            self._exchange.upstream_ms = round(took_s * 1000, 2)
            if isinstance(error, GatewayError) and error.reason.side is Side.UPSTREAM:
                # Whoever was asked shortly before the deadline had no fair chance.
                had_chance = took_s >= 0.4 * self._timeout_s / (self._pool.upstream.retries + 1)
                if had_chance or error.reason is not Reason.RESPONSE_TIMEOUT:
                    attempt.broke(error.reason)
            attempt.dropped(error.reason if isinstance(error, GatewayError) else None)


def _is_busy(attempt: Attempt) -> bool:
    """Whether the upstream says itself when to come again: that is for the client."""
    answer = attempt.answer
    return (
        answer is not None and answer.status == 503 and any(name.lower() == b"retry-after" for name, _ in answer.pairs)
    )


def _share_used_up() -> GatewayError:
    return _ShareUsedUp(Reason.RESPONSE_TIMEOUT)
