"""Synchronous calls in threads of their own: places, the queue, time, and what becomes of a thread that is given up."""

import asyncio
import contextvars
import gc
import random
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason
from gateway.legacy.bulkhead import Bulkhead, Call
from gateway.legacy.options import LegacyOptions

WITHIN_S = 30.0


def pool(threads: int = 2, queue: int = 2, timeout_s: float = 60.0, **how: Any) -> Bulkhead:
    return Bulkhead("reports", LegacyOptions(threads=threads, queue=queue, timeout_s=timeout_s), **how)


def calling(function: Callable[[], Any]) -> Call:
    return Call(getattr(function, "__name__", "it"), "r-1", lambda call: function())


async def run(bulkhead: Bulkhead, function: Callable[[], Any], timeout_s: float | None = None) -> Any:
    return await bulkhead.run(calling(function), bulkhead.options.timeout_s if timeout_s is None else timeout_s)


async def eventually(question: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not question():  # noqa: ASYNC110 - threads are what is asked about
            await asyncio.sleep(0.002)


class Gate:
    """A function that runs until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.runs = 0
        self._open = threading.Event()

    def __call__(self) -> str:
        self.runs += 1
        self.entered.release()
        assert self._open.wait(WITHIN_S)
        return "through"

    def open(self) -> None:
        self._open.set()

    async def wait_for(self, runs: int) -> None:
        await eventually(lambda: self.runs >= runs)


@contextmanager
def gate() -> Iterator[Gate]:
    one = Gate()
    try:
        yield one
    finally:
        one.open()


def reason_of(error: BaseException | None) -> Reason:
    assert isinstance(error, GatewayError)
    return error.reason


def is_at_rest(bulkhead: Bulkhead) -> bool:
    return not bulkhead.running and not bulkhead.waiting


# -- one call -----------------------------------------------------------------------------------------------------


async def test_a_call_runs_in_a_named_thread_and_its_result_comes_back() -> None:
    bulkhead = pool()
    assert await run(bulkhead, lambda: threading.current_thread().name) == "legacy-reports-0"
    assert is_at_rest(bulkhead)


async def test_contextvars_are_carried_in_and_out() -> None:
    inside: contextvars.ContextVar[str] = contextvars.ContextVar("inside", default="nothing")
    inside.set("from the loop")

    def function() -> str:
        seen = inside.get()
        inside.set("from the thread")
        return seen

    bulkhead = pool()
    assert await run(bulkhead, function) == "from the loop"
    assert inside.get() == "from the thread"
    context = contextvars.Context()
    other = asyncio.get_running_loop().create_task(run(bulkhead, inside.get), context=context)
    assert await other == "nothing", "what one call set is not the next one's"


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("wrong"), ValueError),
        (StopIteration(3), RuntimeError),  # a future cannot raise it
        (SystemExit(3), RuntimeError),  # would end the worker
        (KeyboardInterrupt(), RuntimeError),
        (asyncio.CancelledError(), RuntimeError),  # would look as if the client had left
        (GatewayError(Reason.PART_INVALID), GatewayError),
    ],
)
async def test_what_a_call_raises_comes_back_and_the_thread_stays(
    raised: BaseException, expected: type[Exception]
) -> None:
    def fails() -> None:
        raise raised

    bulkhead = pool(threads=1)
    for _ in range(2):
        with pytest.raises(expected):
            await run(bulkhead, fails)
    assert await run(bulkhead, lambda: "well") == "well"
    assert is_at_rest(bulkhead)
    assert len(bulkhead._threads) == 1


async def test_async_code_can_be_called_from_inside() -> None:
    from asgiref.sync import async_to_sync

    loop = asyncio.get_running_loop()

    async def where() -> bool:
        return asyncio.get_running_loop() is loop

    assert await run(pool(), async_to_sync(where)) is True


async def test_threads_are_started_when_they_are_needed_and_kept() -> None:
    bulkhead = pool(threads=3, queue=20)
    for _ in range(5):
        await run(bulkhead, lambda: None)
    assert len(bulkhead._threads) == 1
    with gate() as closed:
        calls = [asyncio.ensure_future(run(bulkhead, closed)) for _ in range(9)]
        await closed.wait_for(3)
        assert (len(bulkhead.running), bulkhead.waiting, len(bulkhead._threads)) == (3, 6, 3)
    assert await asyncio.gather(*calls) == ["through"] * 9
    assert [thread.name for thread in bulkhead._threads] == [f"legacy-reports-{number}" for number in range(3)]
    assert all(thread.daemon for thread in bulkhead._threads), "they would hold the exit"


# -- full ---------------------------------------------------------------------------------------------------------


async def test_full_is_told_at_once_and_who_waits_is_served_in_order() -> None:
    bulkhead = pool(threads=1, queue=2)
    order: list[int] = []
    with gate() as closed:
        first = asyncio.ensure_future(run(bulkhead, closed))
        await closed.wait_for(1)
        waiting = [asyncio.ensure_future(run(bulkhead, partial(order.append, number))) for number in (1, 2)]
        await eventually(lambda: bulkhead.waiting == 2)
        began = asyncio.get_running_loop().time()
        with pytest.raises(GatewayError) as caught:
            await run(bulkhead, closed)
        assert asyncio.get_running_loop().time() - began < 0.5
        assert caught.value.reason is Reason.LEGACY_FULL
        assert caught.value.headers == ((b"retry-after", b"1"),)
        assert closed.runs == 1
    assert await first == "through"
    await asyncio.gather(*waiting)
    assert order == [1, 2]
    assert is_at_rest(bulkhead)


async def test_who_waited_for_all_of_its_time_was_never_called() -> None:
    bulkhead = pool(threads=1, queue=1, timeout_s=60)
    with gate() as closed:
        first = asyncio.ensure_future(run(bulkhead, closed))
        await closed.wait_for(1)
        with pytest.raises(GatewayError) as caught:
            await run(bulkhead, closed, timeout_s=0.05)
        assert caught.value.reason is Reason.LEGACY_FULL
        assert bulkhead.waiting == 0
    assert await first == "through"
    assert closed.runs == 1


async def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    bulkhead = pool(threads=1, queue=1)
    with gate() as closed:
        first = asyncio.ensure_future(run(bulkhead, closed))
        await closed.wait_for(1)
        leaves = asyncio.ensure_future(run(bulkhead, closed))
        await eventually(lambda: bulkhead.waiting == 1)
        leaves.cancel()
        await asyncio.wait([leaves])
        assert (leaves.cancelled(), bulkhead.waiting) == (True, 0)
        stays = asyncio.ensure_future(run(bulkhead, lambda: "stayed"))
        await eventually(lambda: bulkhead.waiting == 1)
    assert (await first, await stays) == ("through", "stayed")
    assert closed.runs == 1, "the one that left was never called"
    assert is_at_rest(bulkhead)


# -- over time ----------------------------------------------------------------------------------------------------


async def test_a_call_over_its_time_is_given_up_on_time_and_keeps_its_place_until_it_ends() -> None:
    bulkhead = pool(threads=2, queue=0, timeout_s=0.05)
    with gate() as closed:
        began = asyncio.get_running_loop().time()
        with pytest.raises(GatewayError) as caught:
            await run(bulkhead, closed)
        assert 0.03 < asyncio.get_running_loop().time() - began < 1.0
        assert caught.value.reason is Reason.LEGACY_TIMEOUT
        assert (len(bulkhead.running), bulkhead.late) == (1, 1)
        assert await run(bulkhead, lambda: "the other thread") == "the other thread"
    await eventually(lambda: is_at_rest(bulkhead))


async def test_all_threads_stuck_is_told_at_once_with_names_and_times() -> None:
    now = [100.0]
    bulkhead = pool(threads=2, queue=5, timeout_s=0.05, now=lambda: now[0])
    with gate() as closed:
        late = await asyncio.gather(*[run(bulkhead, closed) for _ in range(2)], return_exceptions=True)
        assert [reason_of(error) for error in late] == [Reason.LEGACY_TIMEOUT] * 2
        now[0] = 112.34
        assert bulkhead.is_stuck()
        assert (
            bulkhead.describe_running() == ["Gate 12.3 s (r-1)"] * 2
            or bulkhead.describe_running() == ["it 12.3 s (r-1)"] * 2
        )
        with pytest.raises(GatewayError) as caught:
            await run(bulkhead, closed)
        assert caught.value.reason is Reason.LEGACY_STUCK
        assert "12.3 s" in str(caught.value.cause)
        assert bulkhead.waiting == 0, "there is no use in waiting"
    await eventually(lambda: is_at_rest(bulkhead))
    assert not bulkhead.is_stuck()
    assert await run(bulkhead, lambda: "again", timeout_s=5) == "again"


async def test_a_pool_with_one_thread_that_is_in_time_is_not_stuck() -> None:
    bulkhead = pool(threads=2, queue=1, timeout_s=60)
    with gate() as closed:
        in_time = asyncio.ensure_future(run(bulkhead, closed))
        with pytest.raises(GatewayError):
            await run(bulkhead, closed, timeout_s=0.05)
        assert not bulkhead.is_stuck()
    await in_time
    await eventually(lambda: is_at_rest(bulkhead))


async def test_pools_are_isolated_from_each_other_and_from_the_loops_own_threads() -> None:
    stuck, well = pool(threads=1, queue=0, timeout_s=0.05), pool(threads=1, queue=0)
    with gate() as closed:
        with pytest.raises(GatewayError):
            await run(stuck, closed)
        assert await run(well, lambda: "well") == "well"
        assert await asyncio.to_thread(lambda: "well") == "well"
    await eventually(lambda: is_at_rest(stuck))


async def test_a_thousand_calls_with_timeouts_lose_no_place_and_start_no_further_thread() -> None:
    bulkhead = pool(threads=4, queue=1000, timeout_s=30)
    before = threading.active_count()
    chance = random.Random(7)
    never = threading.Event()
    ended = {"well": 0, "late": 0, "queued": 0, "left": 0}

    async def one() -> None:
        takes_s, timeout_s = chance.choice([(0, 5), (0.002, 5), (0.004, 0.002), (0.003, 0.003)])
        task = asyncio.ensure_future(run(bulkhead, lambda: never.wait(takes_s), timeout_s))
        if chance.random() < 0.1:
            asyncio.get_running_loop().call_later(chance.random() / 500, task.cancel)
        try:
            await task
            ended["well"] += 1
        except GatewayError as error:
            ended["late" if error.reason is Reason.LEGACY_TIMEOUT else "queued"] += 1
        except asyncio.CancelledError:
            ended["left"] += 1

    for _ in range(50):
        await asyncio.gather(*[one() for _ in range(20)])
    await eventually(lambda: is_at_rest(bulkhead))
    assert sum(ended.values()) == 1000
    assert all(ended[kind] > 0 for kind in ("well", "late", "left")), ended
    assert threading.active_count() - before <= 4
    with gate() as closed:  # every place is there
        calls = [asyncio.ensure_future(run(bulkhead, closed)) for _ in range(4)]
        await closed.wait_for(4)
    assert await asyncio.gather(*calls) == ["through"] * 4


async def test_without_a_thread_to_be_had_the_place_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bulkhead = pool(threads=2, queue=0)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuses)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="new thread"):
                await run(bulkhead, lambda: None)
        assert is_at_rest(bulkhead)
    assert await run(bulkhead, lambda: "well") == "well"
    with gate() as closed, monkeypatch.context() as patch:  # one thread there is: it serves the others too
        patch.setattr(threading.Thread, "start", refuses)
        calls = [asyncio.ensure_future(run(bulkhead, closed)) for _ in range(2)]
        await closed.wait_for(1)
        assert (len(bulkhead.running), bulkhead.waiting) == (1, 1)
        closed.open()
        assert await asyncio.gather(*calls) == ["through"] * 2


# -- answers that stream ------------------------------------------------------------------------------------------


class Streams:
    """A call that leaves pieces behind, and says in which threads they were made."""

    def __init__(self, *pieces: Any) -> None:
        self.threads: list[str] = []
        self.closed = 0
        self._pieces = iter(pieces)
        self.call = Call("streams", "r-2", self._work)

    def _work(self, call: Call) -> str:
        self._note()
        call.rest, call.at_end = self._next, self._close
        return "head"

    def _next(self) -> Any:
        self._note()
        piece = next(self._pieces, None)
        if isinstance(piece, Exception):
            raise piece
        return piece() if callable(piece) else piece

    def _close(self) -> None:
        self._note()
        self.closed += 1

    def _note(self) -> None:
        self.threads.append(threading.current_thread().name)


async def all_of(pieces: AsyncIterator[Any]) -> list[Any]:
    return [piece async for piece in pieces]


async def test_a_streaming_answer_stays_in_its_thread_and_holds_its_place_to_the_end() -> None:
    bulkhead = pool(threads=2)
    streams = Streams(b"one", b"two")
    with gate() as closed:
        other = asyncio.ensure_future(run(bulkhead, closed))
        await closed.wait_for(1)
        assert await bulkhead.run(streams.call, 5) == "head"
        assert len(bulkhead.running) == 2
        assert await all_of(bulkhead.pieces(streams.call)) == [b"one", b"two"]
        await eventually(lambda: len(bulkhead.running) == 1)
    await other
    assert (set(streams.threads), streams.closed) == ({"legacy-reports-1"}, 1)


@pytest.mark.parametrize("how", ["never asked", "left in the middle", "cancelled", "failed", "too slow"])
async def test_a_stream_that_nobody_asks_any_more_is_closed_in_its_thread(how: str) -> None:
    bulkhead = pool(threads=1, timeout_s=0.1)
    with gate() as closed:
        pieces: list[Any] = [b"one", ValueError("wrong") if how == "failed" else b"two"]
        streams = Streams(*(pieces if how != "too slow" else [closed]))
        if how == "cancelled":
            task = asyncio.ensure_future(bulkhead.run(streams.call, 5))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        else:
            assert await bulkhead.run(streams.call, 5) == "head"
        body = bulkhead.pieces(streams.call)
        if how == "left in the middle":
            assert await anext(body) == b"one"
            await body.aclose()  # type: ignore[attr-defined]
        elif how == "failed":
            with pytest.raises(ValueError, match="wrong"):
                await all_of(body)
        elif how == "too slow":
            with pytest.raises(GatewayError) as caught:
                await all_of(body)
            assert caught.value.reason is Reason.LEGACY_TIMEOUT
            assert len(bulkhead.running) == 1
        streams.call.close()  # as the end of its request does
    await eventually(lambda: is_at_rest(bulkhead))
    assert streams.closed == (0 if how == "cancelled" and not streams.threads else 1)
    assert set(streams.threads) <= {"legacy-reports-0"}


async def test_a_client_that_reads_slowly_makes_no_thread_stuck() -> None:
    now = [0.0]
    bulkhead = pool(threads=1, queue=1, timeout_s=1.0, now=lambda: now[0])
    streams = Streams(b"one", b"two")
    await bulkhead.run(streams.call, 1.0)
    body = bulkhead.pieces(streams.call)
    assert await anext(body) == b"one"
    now[0] = 500.0
    assert not bulkhead.is_stuck()
    assert await all_of(body) == [b"two"]
    await eventually(lambda: is_at_rest(bulkhead))


# -- those who leave before their turn ----------------------------------------------------------------------------


async def test_a_call_that_is_given_up_before_its_turn_lets_go_of_what_it_would_work_on() -> None:
    """A request with its body, for one: a thread that is busy does not hold those of all who came and left."""

    class Body:
        pass

    bulkhead = pool(threads=1, queue=3)
    with gate() as busy:
        running = asyncio.create_task(run(bulkhead, busy))
        await busy.wait_for(1)
        bodies: weakref.WeakSet[Body] = weakref.WeakSet()
        for _ in range(20):
            body = Body()
            bodies.add(body)
            waiting = asyncio.create_task(run(bulkhead, partial(repr, body)))
            del body
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            del waiting
        gc.collect()
        assert not bodies
    assert await running == "through"


async def test_so_many_leave_before_their_turn_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.legacy.bulkhead._MOST_LEFT", 5)
    bulkhead, full = pool(threads=1, queue=3), 0
    with gate() as busy:
        running = asyncio.create_task(run(bulkhead, busy))
        await busy.wait_for(1)
        for _ in range(50):
            waiting = asyncio.create_task(run(bulkhead, lambda: None))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            full += not waiting.cancelled() and reason_of(waiting.exception()) is Reason.LEGACY_FULL
        assert full == 50 - 9
    assert await running == "through"
    await eventually(lambda: is_at_rest(bulkhead))
    assert await run(bulkhead, lambda: "served") == "served"
