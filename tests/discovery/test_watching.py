"""A source asked again and again: what its pool hears of, what is logged, how soon it is asked again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.discovery import watching
from gateway.discovery.answers import Answer, Away, Ended
from gateway.discovery.iterator import PythonSource
from gateway.discovery.watching import Discovery, Registries
from gateway.upstreams import places
from gateway.upstreams.endpoint import MAX_ADDRESSES
from gateway.upstreams.places import Base, Instance
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream

SOURCE = places.Source("srv", "http", "school.test")


def instance(number: int) -> Instance:
    host = f"10.0.{number // 250}.{number % 250 + 1}"
    return Instance(Base("http", host, 80), (host,))


class Scripted:
    """A source that says what is set by hand, as soon as it is asked."""

    def __init__(self) -> None:
        self.says: tuple[Instance, ...] | Exception = ()
        self.asked = 0
        self.most_s: list[float | None] = []

    async def ask(self, most_s: float | None) -> Answer:
        self.asked += 1
        self.most_s.append(most_s)
        if isinstance(self.says, Exception):
            raise self.says
        return Answer(self.says, 0.001)


@asynccontextmanager
async def watched(source: Scripted) -> AsyncIterator[tuple[Pool, list[Any]]]:
    pool = Pool(Upstream(name="school", sources=(SOURCE,)))
    pool.start()
    with capture_logs() as log, pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "SrvSource", lambda place: source)
        patch.setattr("gateway.discovery.last_known.FIRST_PAUSE_S", 0.001)
        discovery = Discovery(Registries())
        discovery.start({"school": pool})
        yield pool, log
        await discovery.aclose()
        await pool.aclose()


async def until(question: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not question():  # noqa: ASYNC110 - what is waited for is a state, not an event
            await asyncio.sleep(0)


def events(log: list[Any]) -> list[str]:
    return [line["event"] for line in log]


async def test_what_a_source_knows_is_who_is_asked() -> None:
    source = Scripted()
    source.says = (instance(1), instance(2))
    async with watched(source) as (pool, log):
        await until(lambda: len(pool.endpoints) == 2)
        source.says = (instance(2), instance(3))
        await until(lambda: [one.label for one in pool.endpoints] == ["10.0.0.3", "10.0.0.4"])
        assert [(line["joined"], line["gone"]) for line in log] == [(["10.0.0.4"], ["10.0.0.2"])]


@pytest.mark.parametrize("failure", [Away("status 500"), RecursionError("status 500")])
async def test_a_source_that_is_away_is_said_once_and_its_last_list_holds(failure: Exception) -> None:
    source = Scripted()
    source.says = (instance(1),)
    async with watched(source) as (pool, log):
        await until(lambda: pool.endpoints)
        source.says = failure
        asked = source.asked
        await until(lambda: source.asked > asked + 3)
        assert len(pool.endpoints) == 1
        assert "status 500" in pool.members.failures[SOURCE]
        source.says = (instance(1),)
        await until(lambda: pool.members.failures == {SOURCE: ""})
        assert events(log) == ["upstream.lookup_failed", "upstream.lookup_works"]


async def test_one_that_was_never_heard_of_keeps_nobody_waiting() -> None:
    source = Scripted()
    source.says = Away("status 500")
    async with watched(source) as (pool, _):
        await pool.enter(10)


async def test_nothing_is_believed_after_its_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.discovery.last_known.CONFIRM_S", 0.05)
    source = Scripted()
    source.says = (instance(1),)
    async with watched(source) as (pool, log):
        await until(lambda: pool.endpoints)
        source.says = ()
        await until(lambda: not pool.endpoints)
        assert events(log) == ["upstream.lookup_empty", "upstream.changed"]
        assert source.most_s[0] is None
        assert any(most_s is not None and most_s <= 0.05 for most_s in source.most_s)


async def test_of_a_source_with_too_many_the_first_are_used_and_it_is_said_once() -> None:
    source = Scripted()
    source.says = tuple(instance(number) for number in range(MAX_ADDRESSES + 5))
    async with watched(source) as (pool, log):
        await until(lambda: source.asked > 3)
        assert len(pool.endpoints) == MAX_ADDRESSES
        assert [(line["event"], line["addresses"]) for line in log] == [("upstream.too_many_addresses", 1005)]


# -- Python -------------------------------------------------------------------------------------------------------


async def test_an_iterator_that_ends_leaves_its_list_and_is_closed() -> None:
    closed = []

    async def odd() -> AsyncIterator[list[str]]:
        try:
            yield ["http://10.0.0.7:8000;weight=3", "http://10.0.0.8:8000/v2"]
        finally:
            closed.append(True)

    source = PythonSource(odd)
    answer = await source.ask(None)
    assert [(str(one.base), one.weight) for one in answer.instances] == [
        ("http://10.0.0.7:8000", 3),
        ("http://10.0.0.8:8000/v2", None),
    ]
    with pytest.raises(Ended):
        await source.ask(None)
    assert closed == [True]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("http://a", "it gave str, no list of base URLs"),
        ([1], "item 1 is no base URL"),
        (["http://a", "b"], "item 2 is no base URL: expected a base URL"),
        (["srv+http://a"], "item 1 is a source of its own"),
    ],
)
async def test_what_is_no_list_of_base_urls_is_not_taken(given: Any, message: str) -> None:
    async def odd() -> AsyncIterator[Any]:
        yield given

    with pytest.raises(Away, match=message):
        await PythonSource(odd).ask(None)


async def test_what_is_no_iterator_is_said() -> None:
    with pytest.raises(Away, match="TypeError"):
        await PythonSource(list).ask(None)
