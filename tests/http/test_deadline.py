"""Timers that many who wait share: each is woken in its time, and what waits no more leaves nothing."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from gateway.http.deadline import Deadline, SharedTimers
from tests.http.test_exchange import AT_ONCE_S, LATE, NEVER_S, forever, late


class Guest:
    """What waits, and when it was woken."""

    def __init__(self, name: str, woken: list[str]) -> None:
        self.name = name
        self._woken = woken

    def wake(self) -> None:
        self._woken.append(self.name)


@pytest.fixture
async def timers() -> SharedTimers:
    return SharedTimers(asyncio.get_running_loop())


async def until(woken: list[str], count: int) -> None:
    async with asyncio.timeout(5):
        while len(woken) < count:  # noqa: ASYNC110 - no event is told of it
            await asyncio.sleep(AT_ONCE_S)


class HandLoop:
    """The loop as far as SharedTimers looks at it; its clock is set by hand."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._calls: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self._calls.append((self._now_s + seconds, call, args))

    def passes(self, seconds: float) -> None:
        end_s = self._now_s + seconds
        while due := [one for one in self._calls if one[0] <= end_s]:
            first = min(due, key=lambda one: one[0])
            self._calls.remove(first)
            self._now_s = max(self._now_s, first[0])
            first[1](*first[2])
        self._now_s = end_s


def test_whoever_waits_is_woken_once_in_its_turn() -> None:
    loop, woken = HandLoop(), list[str]()
    timers = SharedTimers(cast("asyncio.AbstractEventLoop", loop))
    for name in "abc":
        timers.start(Guest(name, woken), 20)
        loop.passes(3)
    timers.start(Guest("sooner", woken), 1)
    seen = []
    for _ in range(30):
        loop.passes(1)
        seen.append(len(woken))
    assert woken == ["sooner", "a", "b", "c"]
    # Its own second, then 20 s after each began, at 0, 3 and 6 s; nine had passed.
    assert [second for second in range(1, 30) if seen[second] > seen[second - 1]] == [10, 13, 16]
    assert (timers._queues, timers._single) == ({}, {})


def test_nobody_is_woken_before_its_time() -> None:
    loop, woken = HandLoop(), list[str]()
    timers = SharedTimers(cast("asyncio.AbstractEventLoop", loop))
    timers.start(Guest("first", woken), 30)
    loop.passes(20)
    timers.start(Guest("second", woken), 30)  # its timer goes off for the first one meanwhile
    loop.passes(29.9)
    assert woken == ["first"]
    loop.passes(0.1)
    assert woken == ["first", "second"]


async def test_whoever_stopped_is_not_woken(timers: SharedTimers) -> None:
    woken: list[str] = []
    guests = [Guest(str(number), woken) for number in range(4)]
    for guest in guests:
        timers.start(guest, 0.01)
    for guest in guests[:3]:
        timers.stop(guest, 0.01)
        timers.stop(guest, 0.01)
    await until(woken, 1)
    assert woken == ["3"]
    timers.stop(guests[3], 0.01)


async def test_of_many_different_times_nothing_is_kept(timers: SharedTimers) -> None:
    woken: list[str] = []
    guests = [Guest(str(number), woken) for number in range(200)]
    for number, guest in enumerate(guests):
        timers.start(guest, NEVER_S + number)
    assert len(timers._queues) == SharedTimers.MOST
    for number, guest in enumerate(guests):
        timers.stop(guest, NEVER_S + number)
    assert (timers._single, sum(map(len, timers._queues.values())), woken) == ({}, 0, [])
    timers.start(guests[0], NEVER_S + 199)
    timers.start(guests[1], AT_ONCE_S)
    await until(woken, 1)
    assert woken == ["1"]
    timers.stop(guests[0], NEVER_S + 199)


async def test_the_time_that_has_passed_counts() -> None:
    with pytest.raises(type(LATE)) as caught, Deadline(NEVER_S, late, passed_s=NEVER_S):
        await forever()
    assert caught.value is LATE
    began_s = asyncio.get_running_loop().time() - NEVER_S
    with pytest.raises(type(LATE)), Deadline(NEVER_S, late, lambda: began_s, passed_s=NEVER_S):
        await forever()
