"""Who blocks the event loop is caught in the act: in this process, with a real loop and a real thread."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from gateway.observe import watchdog
from gateway.observe.watchdog import Watchdog

STALL_S = 0.1


@asynccontextmanager
async def watched(
    request_of: Callable[[asyncio.Task[object]], str | None] = lambda task: None,
) -> AsyncIterator[tuple[Watchdog, list[MutableMapping[str, Any]]]]:
    dog = Watchdog(STALL_S, request_of)
    with structlog.testing.capture_logs() as lines:
        dog.start()
        try:
            async with asyncio.timeout(10):
                while dog._base is None:  # noqa: ASYNC110 - until it knows the loop
                    await asyncio.sleep(0)
            yield dog, lines
        finally:
            dog.stop()


async def seen(dog: Watchdog, count: int) -> None:
    async with asyncio.timeout(10):
        while dog.stalls.count < count:  # noqa: ASYNC110 - a thread is what is asked about
            await asyncio.sleep(0.01)


def holds_the_loop(seconds: float) -> int:
    # Not to wait for anything: a loop that is held is what is under test.
    time.sleep(seconds)
    return inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]


async def test_a_loop_that_is_blocked_for_150_ms_is_reported_once_with_the_right_line() -> None:
    async with watched(lambda task: f"request of {task.get_name()}") as (dog, lines):
        task = asyncio.current_task()
        assert task is not None
        task.set_name("me")
        line = holds_the_loop(0.15)
        await seen(dog, 1)
    (told,) = [one for one in lines if one["ms"] < 1000]
    assert (told["event"], told["log_level"], told["is_over"]) == ("loop.stalled", "warning", True)
    assert 100 <= told["ms"] < 400
    assert told["frames"][0] == f"{__file__}:{line} holds_the_loop"
    assert told["frames"][1].startswith(f"{__file__}:")
    assert told["frames"][1].endswith("_is_reported_once_with_the_right_line")
    assert told["request_id"] == "request of me"
    assert (dog.stalls.count, told["held_back"]) == (1, 0)
    assert dog.stalls.sum_s == pytest.approx(told["ms"] / 1000, abs=0.01)


async def test_a_loop_that_waits_is_not_blocked() -> None:
    async with watched() as (_dog, lines):
        done = threading.Event()
        threading.Timer(0.3, done.set).start()
        await asyncio.to_thread(done.wait, 10)
    assert [line for line in lines if line["frames"]] == []


async def test_of_many_stalls_only_some_are_told_and_all_are_counted() -> None:
    async with watched() as (dog, lines):
        for number in range(1, 9):
            holds_the_loop(0.17)
            await seen(dog, number)
        assert dog.stalls.count >= 8
        dog._throttle._full_at_s -= 10.0  # later
        holds_the_loop(0.17)
        await seen(dog, 9)
        async with asyncio.timeout(10):
            while len(lines) < 6:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert len(lines) == 6
    assert [line["held_back"] for line in lines] == [0, 0, 0, 0, 0, 3]


async def test_a_loop_that_may_never_go_on_is_told_of_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_TELL_S", 0.2)
    async with watched() as (dog, lines):
        stuck = threading.Event()

        def until_it_is_told() -> None:
            until_s = time.monotonic() + 10
            while not lines and time.monotonic() < until_s:
                stuck.wait(0.01)

        until_it_is_told()
        assert [line["is_over"] for line in lines] == [False], "told while the loop stands still"
        await seen(dog, 1)
    assert [line["is_over"] for line in lines] == [False, True]
    assert lines[0]["frames"][0].endswith(" until_it_is_told")
    assert lines[1]["ms"] >= lines[0]["ms"] >= 200


async def test_what_stops_the_whole_process_is_told_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = threading.Event()
    late = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: slow.wait(seconds + 0.3))
    monkeypatch.setattr(watchdog, "time", late)  # as if its thread had no turn either
    monkeypatch.setattr(watchdog, "_LOOKS", 1000)
    waits = inspect.currentframe()
    monkeypatch.setattr(watchdog.Watchdog, "_note_base", lambda dog: setattr(dog, "_base", waits))
    frames = {threading.get_ident(): waits}
    monkeypatch.setattr(watchdog, "sys", SimpleNamespace(_current_frames=lambda: frames))
    async with watched() as (dog, lines):
        await seen(dog, 1)
    assert (lines[0]["frames"], lines[0]["request_id"], lines[0]["is_over"]) == ([], None, True)
    assert 250 <= lines[0]["ms"] < 2000


async def test_a_stopped_watchdog_is_gone() -> None:
    async with watched() as (dog, lines):
        pass
    holds_the_loop(0.2)
    async with asyncio.timeout(10):
        while any(thread.name == "portway-watchdog" for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert (lines, dog.stalls.count) == ([], 0)
