"""A number of places and a bounded queue before them: nobody overtakes, and no place is lost or given twice."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstreams.concurrency_limit import ConcurrencyLimit, LimitReached

LONG_S = 1000.0


class HandSetLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still until it is set."""

    now = 0.0

    def time(self) -> float:
        return self.now


async def settle() -> None:
    """Let everything happen that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


async def pass_time(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, HandSetLoop)
    loop.now += seconds
    await settle()


def in_hand_set_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=HandSetLoop) as runner:
        runner.run(scenario())


class Guests:
    """Who comes and asks for a place; `seated` is in the order in which they got one."""

    def __init__(self, limit: ConcurrencyLimit) -> None:
        self.limit = limit
        self.seated: list[str] = []
        self.late: list[str] = []
        self.turned_away: list[str] = []
        self.left: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def comes(self, name: str, timeout_s: float = LONG_S) -> None:
        self.tasks[name] = asyncio.create_task(self._come(name, timeout_s))

    async def _come(self, name: str, timeout_s: float) -> None:
        try:
            await self.limit.acquire(timeout_s)
        except LimitReached:
            self.turned_away.append(name)
        except TimeoutError:
            self.late.append(name)
        except asyncio.CancelledError:
            self.left.append(name)
        else:
            self.seated.append(name)

    @property
    def waiting(self) -> list[str]:
        return [name for name, task in self.tasks.items() if not task.done()]

    async def come(self, *names: str, timeout_s: float = LONG_S) -> None:
        for name in names:
            self.comes(name, timeout_s)
            await settle()


def full(count: int, most_waiting: int) -> ConcurrencyLimit:
    limit = ConcurrencyLimit(count, most_waiting)
    limit.free = 0
    return limit


# -- one after the other ------------------------------------------------------------------------------------------


async def test_so_many_have_a_place_at_once() -> None:
    guests = Guests(ConcurrencyLimit(3, 0))
    await guests.come("a", "b", "c", "d")
    assert (guests.seated, guests.turned_away) == (["a", "b", "c"], ["d"])
    assert (guests.limit.free, guests.limit.waiting) == (0, 0)


async def test_who_waits_longest_is_next() -> None:
    guests = Guests(full(1, 10))
    await guests.come("a", "b", "c")
    assert guests.limit.waiting == 3
    for expected in (["a"], ["a", "b"], ["a", "b", "c"]):
        guests.limit.release()
        await settle()
        assert guests.seated == expected
    assert (guests.limit.free, guests.limit.waiting) == (0, 0)


async def test_who_comes_later_does_not_overtake_the_one_whose_turn_it_is() -> None:
    guests = Guests(full(1, 10))
    await guests.come("waits")
    guests.limit.release()
    guests.comes("comes later")
    await settle()
    assert guests.seated == ["waits"]
    assert guests.limit.waiting == 1


async def test_a_full_queue_turns_away_at_once() -> None:
    guests = Guests(full(1, 2))
    await guests.come("a", "b", "c")
    assert guests.turned_away == ["c"]
    guests.limit.release()
    await settle()
    await guests.come("d", "e")
    assert guests.turned_away == ["c", "e"]


async def test_without_a_queue_nobody_waits() -> None:
    guests = Guests(full(1, 0))
    await guests.come("a")
    assert guests.turned_away == ["a"]
    guests.limit.release()
    await guests.come("b")
    assert guests.seated == ["b"]


async def test_places_that_nobody_waits_for_are_free_again() -> None:
    guests = Guests(full(2, 5))
    guests.limit.release()
    guests.limit.release()
    assert guests.limit.free == 2
    await guests.come("a", "b", "c")
    assert guests.seated == ["a", "b"]


# -- time ---------------------------------------------------------------------------------------------------------


def test_who_waits_too_long_gets_a_timeout_and_leaves_the_queue() -> None:
    async def scenario() -> None:
        guests = Guests(full(1, 2))
        await guests.come("short", timeout_s=1.0)
        await guests.come("long", timeout_s=5.0)
        await pass_time(0.9)
        assert guests.late == []
        await pass_time(0.2)
        assert (guests.late, guests.limit.waiting) == (["short"], 1)
        await guests.come("new")
        assert guests.turned_away == [], "there was room in the queue again"
        guests.limit.release()
        await settle()
        assert guests.seated == ["long"]

    in_hand_set_time(scenario)


def test_who_has_a_place_gets_no_timeout_any_more() -> None:
    async def scenario() -> None:
        guests = Guests(full(1, 2))
        await guests.come("a", timeout_s=1.0)
        guests.limit.release()
        await pass_time(10.0)
        assert (guests.seated, guests.late) == (["a"], [])

    in_hand_set_time(scenario)


def test_no_time_at_all_is_still_a_place_where_one_is_free() -> None:
    async def scenario() -> None:
        guests = Guests(ConcurrencyLimit(1, 1))
        await guests.come("a", "b", timeout_s=0.0)
        await pass_time(0.001)
        assert (guests.seated, guests.late) == (["a"], ["b"])

    in_hand_set_time(scenario)


def test_who_waited_is_counted_and_how_long_whatever_came_of_it() -> None:
    async def scenario() -> None:
        guests = Guests(ConcurrencyLimit(1, 2))
        await guests.come("first", "seated", "late", "turned away", timeout_s=5.0)
        await pass_time(2.0)
        guests.limit.release()
        await settle()
        assert (guests.limit.waits, guests.limit.waited_s) == (2, 2.0)
        await pass_time(3.0)
        assert (guests.seated, guests.late) == (["first", "seated"], ["late"])
        assert (guests.limit.waits, guests.limit.waited_s) == (2, 7.0)

    in_hand_set_time(scenario)


# -- in one and the same moment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("waits_too", [False, True])
async def test_a_place_given_to_one_who_is_cancelled_in_that_moment_is_not_lost(*, waits_too: bool) -> None:
    guests = Guests(full(1, 2))
    await guests.come("leaves")
    if waits_too:
        await guests.come("waits")
    guests.limit.release()
    guests.tasks["leaves"].cancel()
    await settle()
    assert guests.left == ["leaves"]
    assert guests.seated == (["waits"] if waits_too else [])
    assert guests.limit.free == (0 if waits_too else 1)


@pytest.mark.parametrize("waits_too", [False, True])
async def test_a_place_is_not_given_to_one_who_was_just_cancelled(*, waits_too: bool) -> None:
    guests = Guests(full(1, 2))
    await guests.come("leaves")
    if waits_too:
        await guests.come("waits")
    guests.tasks["leaves"].cancel()
    guests.limit.release()
    await settle()
    assert guests.seated == (["waits"] if waits_too else [])
    assert guests.limit.free == (0 if waits_too else 1)


async def test_one_who_leaves_makes_room_in_the_queue() -> None:
    guests = Guests(full(1, 1))
    await guests.come("leaves")
    guests.tasks["leaves"].cancel()
    await settle()
    await guests.come("comes")
    assert (guests.limit.waiting, guests.turned_away) == (1, [])


async def test_one_who_is_cancelled_before_the_first_step_takes_nothing() -> None:
    guests = Guests(ConcurrencyLimit(1, 1))
    guests.comes("never begins")
    guests.tasks["never begins"].cancel()
    await settle()
    assert guests.limit.free == 1


def test_a_place_given_in_the_moment_of_a_timeout_is_for_the_next_one() -> None:
    async def scenario() -> None:
        guests = Guests(full(1, 2))
        await guests.come("late", timeout_s=1.0)
        await guests.come("waits")
        asyncio.get_running_loop().call_later(1.5, guests.limit.release)
        await pass_time(2.0)  # both are due: the place comes before the late one knows that it is late
        assert (guests.late, guests.seated) == (["late"], ["waits"])
        assert guests.limit.free == 0

    in_hand_set_time(scenario)


# -- whatever happens, in whatever order --------------------------------------------------------------------------

DOINGS = st.lists(
    st.tuples(
        st.sampled_from(["comes", "comes", "comes", "gives", "gives", "leaves", "time passes", "all settle"]),
        st.integers(0, 5),
    ),
    max_size=40,
)


@given(st.integers(1, 3), st.integers(0, 4), DOINGS)
@example(1, 2, [("comes", 0), ("all settle", 0), ("comes", 1), ("all settle", 0), ("gives", 0), ("time passes", 3)])
@example(1, 2, [("comes", 0), ("comes", 0), ("all settle", 0), ("leaves", 1), ("gives", 0), ("comes", 0)])
@example(1, 2, [("comes", 0), ("comes", 0), ("all settle", 0), ("gives", 0), ("leaves", 1), ("comes", 0)])
@example(
    1, 3, [*[("comes", 5)] * 4, ("all settle", 0), ("gives", 0), ("all settle", 0), ("gives", 0), ("all settle", 0)]
)
@example(2, 1, [*[("comes", 0)] * 2, ("comes", 1), ("all settle", 0), ("comes", 0), ("gives", 0), ("gives", 0)])
def test_no_place_is_lost_or_given_twice_and_nobody_overtakes(
    count: int, most_waiting: int, doings: list[tuple[str, int]]
) -> None:
    async def scenario() -> None:
        limit = ConcurrencyLimit(count, most_waiting)
        guests, gone = Guests(limit), 0
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HandSetLoop)
        for number, (doing, value) in enumerate(doings):
            match doing:
                case "comes":
                    guests.comes(f"{number:02}", timeout_s=float(value))
                case "gives" if len(guests.seated) > gone:  # who has a place gives it back once
                    gone += 1
                    limit.release()
                case "leaves" if guests.tasks:
                    list(guests.tasks.values())[value % len(guests.tasks)].cancel()
                case "time passes":  # and nothing of what is due happens yet
                    loop.now += value
                case "all settle":
                    await settle()
                    assert len(guests.seated) - gone + limit.free == count
                    assert limit.waiting <= most_waiting
                    assert not (limit.waiting and limit.free)
                    assert all(name > max(guests.seated, default="") for name in guests.waiting), "one overtook another"
            assert len(guests.seated) - gone <= count
        await settle()
        assert len(guests.seated) - gone + limit.free == count, "a place was lost, or given twice"
        ends = [*guests.seated, *guests.late, *guests.turned_away, *guests.left]
        assert len(ends) == len(set(ends))
        await pass_time(LONG_S)
        while len(guests.seated) > gone:
            gone += 1
            limit.release()
        await settle()
        assert (limit.free, limit.waiting) == (count, 0)
        assert all(task.done() for task in guests.tasks.values())

    in_hand_set_time(scenario)
