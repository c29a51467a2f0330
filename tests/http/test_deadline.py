"""Timers that many who wait share: each is woken in its time, and what waits no more leaves nothing."""

import asyncio

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


async def test_whoever_waits_is_woken_once_in_its_turn(timers: SharedTimers) -> None:
    woken: list[str] = []
    for name in "abc":
        timers.start(Guest(name, woken), 0.02)
        await asyncio.sleep(0.003)
    timers.start(Guest("sooner", woken), AT_ONCE_S)
    await until(woken, 4)
    assert woken == ["sooner", "a", "b", "c"]
    assert (timers._queues, timers._single) == ({}, {})


async def test_nobody_is_woken_before_its_time(timers: SharedTimers) -> None:
    woken: list[str] = []
    loop = asyncio.get_running_loop()
    timers.start(Guest("first", woken), 0.03)
    await asyncio.sleep(0.02)
    began_s = loop.time()
    timers.start(Guest("second", woken), 0.03)  # its timer goes off for the first one meanwhile
    await until(woken, 2)
    assert loop.time() - began_s >= 0.028


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
