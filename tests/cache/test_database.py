"""What waits for the database is bounded in bytes, however long it is away."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import django
import pytest

from gateway.cache.bloom_filter import BloomFilter
from gateway.cache.keys import Key, Purge
from tests.cache.stored import NOW_S, entry
from tests.cache.test_memory import taken_by

if TYPE_CHECKING:
    from gateway.cache.database import Store

LONG = "x" * 60_000
FOUND = entry("Cache-Control: max-age=60", at_s=NOW_S)


def away() -> "Store":
    """One that was never opened, as when nobody answers."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
    django.setup()
    from gateway.cache.database import Store

    return Store(2**30, BloomFilter(), lambda purge: None)


def key(number: int) -> Key:
    return Key("u", "http", "a.example", f"/{number}?{LONG}")


@pytest.mark.parametrize(
    ("what", "put"),
    [
        ("answers with long URLs", lambda store, number: store.put(key(number), FOUND)),
        (
            "large answers",
            lambda store, number: store.put(
                Key("u", "http", "a", f"/{number}"), replace(FOUND, body=os.urandom(60_000))
            ),
        ),
        (
            "small answers",
            lambda store, number: [store.put(Key("u", "http", "a", f"/{number}/{one}"), FOUND) for one in range(10)],
        ),
        (
            "answers to remove",
            lambda store, number: [store.forget(Key("u", "http", "a", f"/{number}/{one}"), FOUND) for one in range(20)],
        ),
        ("writes", lambda store, number: store.purge(Purge.of_url(f"http://a.example/{number}?{LONG}", NOW_S))),
        ("purges", lambda store, number: store.purge(Purge("tag", f"{number} {LONG}", NOW_S))),
        (
            "purges of others",
            lambda store, number: store._apply_purges(
                [(10 * number + one, Purge("tag", f"{number} {one}", NOW_S)) for one in range(10)]
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_waits_is_bounded(what: str, put: Callable[["Store", int], object]) -> None:
    waiting = away()

    def fill() -> "Store":
        for number in range(1500):
            put(waiting, number)
        return waiting

    assert taken_by(fill) < 24 * 2**20, what


async def test_nothing_that_should_go_comes_back_because_there_was_too_much_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = away()
    monkeypatch.setattr("gateway.cache.database._QUEUE_REMOVALS", 10)
    waiting.put(key(0), FOUND)
    for number in range(1, 12):
        waiting.forget(key(number), FOUND)
    assert [purge.kind for purge, _ in waiting._purges] == ["all"]
    assert not waiting._queue


async def test_a_purge_of_others_that_could_not_be_applied_is_applied_at_the_next_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    polled = away()
    polled._last_poll_s = time.monotonic()
    applied: list[Purge] = []

    def on_purge(purge: Purge) -> None:
        applied.append(purge)
        if len(applied) == 1:
            raise ValueError("once")

    async def found() -> list[tuple[int, Purge]]:
        return [(1, Purge("tag", "a", NOW_S))]

    async def nothing(**how: object) -> None:
        pass

    monkeypatch.setattr("gateway.cache.database._POLL_S", 0.001)
    for name, stands_in in (("_on_purge", on_purge), ("_new_purges", found), ("_poll_rows", nothing)):
        monkeypatch.setattr(polled, name, stands_in)
    monkeypatch.setattr(polled, "_prepare", nothing)
    polling = asyncio.create_task(polled._polling())
    async with asyncio.timeout(30):
        while not polled._others_purges:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.001)
    assert not polling.done()
    polling.cancel()
    assert [purge.value for purge in applied] == ["a", "a"]


async def test_who_asks_a_database_that_hangs_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = away()
    monkeypatch.setattr("gateway.cache.database._LOOK_UP_S", 0.001)
    waiting.is_open = True
    assert await asyncio.gather(*(waiting.find(str(key(number)), []) for number in range(20))) == [None] * 20
    assert not waiting._waiting


async def test_one_url_is_taken_out_of_what_waits_without_a_walk() -> None:
    waiting = away()
    for number in range(3000):
        waiting.put(Key("u", "http", "a.example", f"/users?page={number}"), FOUND)
    began_s = time.perf_counter()
    for number in range(3000):
        waiting._unqueue_covered(Purge.of_url(f"http://a.example/users?page={number}", NOW_S))
    assert not waiting._queue
    assert waiting._queue_bytes == 0
    assert time.perf_counter() - began_s < 2  # a walk each would take a minute
