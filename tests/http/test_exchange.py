"""The record of one request, and the two ways in which its time ends: an interruption, a deadline."""

import asyncio
import contextlib

import pytest

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Alarm, Deadline
from gateway.http.exchange import Exchange
from gateway.http.lifetime import Lifetime

LATE = GatewayError(Reason.RESPONSE_TIMEOUT)
LATER = GatewayError(Reason.TOTAL_TIMEOUT)
GONE = GatewayError(Reason.CLIENT_GONE)
CUT = GatewayError(Reason.DRAIN_CUT)
NEVER_S = 30.0  # longer than any test waits
AT_ONCE_S = 0.001


def lifetime() -> Lifetime:
    return Lifetime(Exchange(0.0, "GET", "/a", "192.0.2.1"), asyncio.current_task())


def late() -> GatewayError:
    return LATE


def later() -> GatewayError:
    return LATER


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


# -- the record -------------------------------------------------------------------------------------------------


def test_a_field_is_none_while_it_has_no_meaning() -> None:
    made = Exchange(1.5, "GET", "/a", "192.0.2.1")
    assert (made.started, made.method, made.path, made.client) == (1.5, "GET", "/a", "192.0.2.1")
    assert (made.bytes_in, made.bytes_out) == (0, 0)
    for name in ("ended", "host", "route", "status", "reason", "cause", "upstream", "endpoint", "attempts"):
        assert getattr(made, name) is None
    assert (made.upstream_ms, made.cache, made.parts) == (None,) * 3


def test_an_exchange_shows_its_state_in_one_line() -> None:
    made = Exchange(0.0, "GET", "/a", "192.0.2.1")
    made.request_id = "r1"
    assert repr(made) == "<Exchange r1 GET /a open >"
    made.status = 502
    made.fail(GatewayError(Reason.DNS_FAILED))
    assert repr(made) == "<Exchange r1 GET /a 502 dns_failed>"


def test_the_first_failure_stands() -> None:
    made = Exchange(0.0, "GET", "/a", "192.0.2.1")
    made.fail(GatewayError(Reason.CONNECTION_RESET, cause="first", upstream="users"))
    made.fail(GatewayError(Reason.CLIENT_GONE, cause="second", upstream="orders"))
    assert (made.reason, made.cause, made.upstream) == ("connection_reset", "first", "users")


def test_a_failure_does_not_rename_the_upstream_that_was_asked() -> None:
    made = Exchange(0.0, "GET", "/a", "192.0.2.1")
    made.upstream = "users"
    made.fail(GatewayError(Reason.CLIENT_GONE))
    assert made.upstream == "users"


# -- interrupt ----------------------------------------------------------------------------------------------------


async def test_an_interruption_cancels_the_task_and_keeps_its_reason() -> None:
    made = lifetime()
    asyncio.get_running_loop().call_soon(made.interrupt, GONE)
    with pytest.raises(asyncio.CancelledError):
        await forever()
    assert made.interruption is GONE
    assert made.task is not None
    assert made.task.uncancel() == 0


async def test_the_first_interruption_stands_and_cancels_once() -> None:
    made = lifetime()
    loop = asyncio.get_running_loop()
    loop.call_soon(made.interrupt, GONE)
    loop.call_soon(made.interrupt, CUT)
    with pytest.raises(asyncio.CancelledError):
        await forever()
    assert made.interruption is GONE
    assert made.task is not None
    assert made.task.uncancel() == 0


async def test_an_exchange_that_ended_is_not_interrupted() -> None:
    made = lifetime()
    made.exchange.ended = 1.0
    made.interrupt(CUT)
    assert made.interruption is None
    assert cancellations() == 0


async def test_an_exchange_without_a_task_keeps_the_reason_alone() -> None:
    made = Lifetime(Exchange(0.0, "GET", "/a", "192.0.2.1"))
    made.interrupt(CUT)
    assert made.interruption is CUT


async def test_an_interruption_reaches_who_took_the_call_over() -> None:
    first, made = Lifetime(Exchange(0.0, "GET", "/a", "192.0.2.1")), lifetime()
    first.exchange.upstream, first.exchange.attempts = "users", 2
    made.take_over(first)
    assert (made.exchange.upstream, made.exchange.attempts) == ("users", 2)
    asyncio.get_running_loop().call_soon(first.interrupt, GONE)
    with pytest.raises(asyncio.CancelledError):
        await forever()
    assert (first.interruption, made.interruption) == (None, GONE)
    assert made.task is not None
    assert made.task.uncancel() == 0


async def test_what_it_holds_is_closed_once_and_its_timer_stopped() -> None:
    made, closed = lifetime(), []
    made.closers.append(lambda: closed.append(1))
    made.limit(AT_ONCE_S, CUT)
    made.let_go()
    made.let_go()
    later = lifetime()
    later.limit(2 * AT_ONCE_S, CUT)  # strikes after the one above would have
    with pytest.raises(asyncio.CancelledError):
        await forever()
    assert later.task is not None
    later.task.uncancel()
    assert (closed, made.interruption, cancellations()) == ([1], None, 0)


async def test_a_limit_replaces_the_one_before_it() -> None:
    made = lifetime()
    made.limit(NEVER_S, CUT)
    made.limit(AT_ONCE_S, LATER)
    with pytest.raises(asyncio.CancelledError):
        await forever()
    assert made.interruption is LATER
    assert made.task is not None
    assert made.task.uncancel() == 0
    made.let_go()


def test_a_lifetime_shows_its_state_in_one_line() -> None:
    made = Lifetime(Exchange(0.0, "GET", "/a", "192.0.2.1"))
    made.exchange.request_id = "r1"
    assert repr(made) == "<Lifetime r1 open>"
    made.interrupt(CUT)
    assert repr(made) == "<Lifetime r1 interrupted>"
    made.exchange.ended = 1.0
    assert repr(made) == "<Lifetime r1 over>"


def test_a_made_request_id_follows_the_trace_that_is_begun() -> None:
    made = Exchange(0.0, "GET", "/a", "192.0.2.1")
    made.request_id = made.trace_id = "1" * 32
    made.begin_trace("2" * 32)
    assert (made.request_id, made.trace_id) == ("2" * 32, "2" * 32)
    made.request_id = "given"
    made.begin_trace("3" * 32)
    assert (made.request_id, made.trace_id) == ("given", "3" * 32)


# -- Deadline -----------------------------------------------------------------------------------------------------


async def test_a_block_in_time_is_left_alone() -> None:
    with Deadline(NEVER_S, late):
        await asyncio.sleep(0)
    assert cancellations() == 0


async def test_a_block_that_is_late_raises_the_deadlines_error() -> None:
    with pytest.raises(GatewayError) as caught, Deadline(AT_ONCE_S, late):
        await forever()
    assert caught.value is LATE
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert cancellations() == 0


async def test_a_task_goes_on_after_its_deadline() -> None:
    for _ in range(3):
        with pytest.raises(GatewayError), Deadline(AT_ONCE_S, late):
            await forever()
    await asyncio.sleep(0)
    with Deadline(NEVER_S, late):
        await asyncio.sleep(0)


async def test_no_time_at_all_is_late_at_the_first_wait() -> None:
    with pytest.raises(GatewayError), Deadline(0, late):
        await forever()


@pytest.mark.parametrize("seconds", [NEVER_S, 0])
async def test_the_blocks_own_failure_stands(seconds: float) -> None:
    """Also when the time was up before it came."""

    async def block() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await (forever() if seconds == 0 else asyncio.sleep(0))
        raise LookupError

    with pytest.raises(LookupError), Deadline(seconds, late):
        await block()
    assert cancellations() == 0


async def test_a_block_that_finishes_in_spite_of_its_deadline_has_finished() -> None:
    with Deadline(AT_ONCE_S, late), contextlib.suppress(asyncio.CancelledError):
        await forever()
    assert cancellations() == 0


async def test_the_inner_of_two_deadlines_raises_its_own_error() -> None:
    with pytest.raises(GatewayError) as caught, Deadline(NEVER_S, later), Deadline(AT_ONCE_S, late):
        await forever()
    assert caught.value is LATE
    assert cancellations() == 0


async def test_the_outer_of_two_deadlines_raises_its_own_error() -> None:
    with pytest.raises(GatewayError) as caught, Deadline(AT_ONCE_S, later), Deadline(NEVER_S, late):
        await forever()
    assert caught.value is LATER
    assert cancellations() == 0


async def test_of_two_deadlines_at_one_moment_the_outer_stands() -> None:
    with pytest.raises(GatewayError) as caught, Deadline(0, later), Deadline(0, late):
        await forever()
    assert caught.value is LATER
    assert cancellations() == 0


async def test_a_cancellation_from_outside_is_no_deadline() -> None:
    async def block() -> None:
        with Deadline(NEVER_S, late):
            started.set()
            await forever()

    started = asyncio.Event()
    task = asyncio.create_task(block())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_interruption_stands_against_a_deadline_that_came_first() -> None:
    """A client that left must not be logged as an upstream that was slow."""
    made = lifetime()
    loop = asyncio.get_running_loop()
    # In the next round of the loop the time is up, in the one after it the task would wake.
    loop.call_soon(loop.call_soon, made.interrupt, GONE)
    with pytest.raises(asyncio.CancelledError), Deadline(0, late):
        await forever()
    assert made.interruption is GONE
    assert made.task is not None
    assert made.task.uncancel() == 0


async def test_an_interruption_stands_against_a_deadline_that_comes_later() -> None:
    made = lifetime()
    asyncio.get_running_loop().call_soon(made.interrupt, GONE)
    with pytest.raises(asyncio.CancelledError), Deadline(NEVER_S, late):
        await forever()
    assert made.interruption is GONE
    assert made.task is not None
    assert made.task.uncancel() == 0


async def test_a_deadline_outside_a_task_is_a_mistake() -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def outside() -> None:
        try:
            with Deadline(NEVER_S, late):
                told.set_result("entered")
        except RuntimeError as error:
            told.set_result(str(error))

    asyncio.get_running_loop().call_soon(outside)
    assert await told == "a Deadline runs inside a task"


# -- Deadline with a moment that moves ----------------------------------------------------------------------------


class Moving:
    """A moment that moves on the first so many times that it is asked for."""

    def __init__(self, times: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._times = times
        self._moment = self._loop.time()
        self.asked = 0
        self.stands = asyncio.Event()

    def __call__(self) -> float:
        self.asked += 1
        if self.asked <= self._times:
            self._moment = self._loop.time()
        if self.asked >= self._times:
            self.stands.set()
        return self._moment


async def test_time_counts_from_the_moment_that_since_tells() -> None:
    moment = Moving(times=5)
    with pytest.raises(GatewayError) as caught, Deadline(AT_ONCE_S, late, moment):
        await forever()
    assert caught.value is LATE
    assert moment.asked > 5


async def test_since_is_asked_only_when_the_time_seems_up() -> None:
    moment = Moving(times=0)
    with Deadline(NEVER_S, late, moment):
        await asyncio.sleep(0)
    assert moment.asked == 0


async def test_a_block_whose_moment_keeps_moving_is_not_late() -> None:
    moment = Moving(times=20)
    with Deadline(AT_ONCE_S, late, moment):
        await moment.stands.wait()
    assert cancellations() == 0


async def test_no_timer_is_left_behind() -> None:
    moment = Moving(times=2)
    with Deadline(AT_ONCE_S, late, moment):
        await moment.stands.wait()
    asked = moment.asked
    with pytest.raises(GatewayError), Deadline(5 * AT_ONCE_S, later):
        await forever()
    assert moment.asked == asked


# -- Alarm --------------------------------------------------------------------------------------------------------


async def test_an_alarm_fires_once_when_its_moment_stands() -> None:
    moment, rung = Moving(times=3), asyncio.Event()
    fired: list[int] = []

    def fire() -> None:
        fired.append(moment.asked)
        rung.set()

    Alarm(asyncio.get_running_loop(), AT_ONCE_S, moment, fire)
    await rung.wait()
    with pytest.raises(GatewayError), Deadline(5 * AT_ONCE_S, late):
        await forever()
    assert len(fired) == 1
    assert fired[0] > 3


async def test_a_cancelled_alarm_never_fires() -> None:
    moment = Moving(times=2)
    fired: list[None] = []
    alarm = Alarm(asyncio.get_running_loop(), AT_ONCE_S, moment, lambda: fired.append(None))
    await moment.stands.wait()  # it has slept on at least once
    alarm.cancel()
    with pytest.raises(GatewayError), Deadline(5 * AT_ONCE_S, late):
        await forever()
    assert not fired
