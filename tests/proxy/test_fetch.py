"""What a view's own calls count for in the memory for bodies."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cache.cache import Cache
from gateway.cache.policy import Rule
from gateway.http.body_budget import Bodies
from gateway.http.exchange import Exchange
from gateway.http.lifetime import Lifetime, current
from gateway.http.via import Via
from gateway.proxy.fetch import CallRecord, Fetched, ask_cached, fetch
from gateway.upstreams.options import Overrides, effective

BODY = b"x" * 100_000
OPTIONS = effective(Overrides(), Overrides())


class Upstream:
    """Answers every call with BODY; notes what is kept for whom while it comes in."""

    name = "u"
    upstream = SimpleNamespace(overrides=Overrides())

    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies
        self.asked = 0
        self.kept: list[int] = []

    def now(self) -> float:
        return 0.0

    def balance_key(self, _: object) -> bytes:
        return b""

    async def answers(self, *_: Any) -> Any:
        self.asked += 1
        pairs = [(b"cache-control", b"max-age=60")]
        return SimpleNamespace(status=200, pairs=pairs, whole=lambda: None, chunks=self.chunks, close=int)

    async def chunks(self) -> AsyncIterator[bytes]:
        yield BODY[:60_000]
        self.kept.append(self.bodies.kept_bytes)
        yield BODY[60_000:]


@pytest.fixture
def bodies() -> Bodies:
    return Bodies(max_bytes=3 * len(BODY))


@pytest.fixture
def upstream(bodies: Bodies, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    one = Upstream(bodies)
    monkeypatch.setattr("gateway.proxy.fetch.answer_to", one.answers)
    yield one
    current.set(None)


def request_to(upstream: Upstream, cache: Cache) -> Any:
    """A request whose view runs in the current context."""
    lifetime = Lifetime(Exchange(0.0, "GET", "/", "192.0.2.1"))
    fields = SimpleNamespace(plain=[], own={})
    request: Any = SimpleNamespace(
        scope={"http_version": "1.1"},
        lifetime=lifetime,
        exchange=lifetime.exchange,
        fields=fields,
        traceparent=b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-01",
        services=SimpleNamespace(bodies=upstream.bodies, cache=cache, pools={"u": upstream}, via=Via("1f0c3a9e")),
        host_field="a.example",
        asked_by=None,
        going_up=tuple,
    )
    lifetime.request = request
    current.set(lifetime)
    return request


async def test_a_body_out_of_memory_does_not_count_once_for_each_who_has_it(bodies: Bodies, upstream: Upstream) -> None:
    cache = Cache(memory_bytes=2**24, disk_bytes=0, bodies=bodies)
    cache.in_use = True
    held = []
    for _ in range(10):
        request_to(upstream, cache)
        held.append(await fetch("u:/x", cache="60s"))
    assert (upstream.asked, [one.body for one in held]) == (1, [BODY] * 10)
    assert bodies.kept_bytes == len(BODY)  # of the one that came in


async def test_a_body_that_several_wait_for_counts_once(bodies: Bodies, upstream: Upstream) -> None:
    cache = Cache(memory_bytes=0, disk_bytes=0, bodies=bodies)
    cache.in_use = True

    async def view() -> Fetched:
        request_to(upstream, cache)
        return await fetch("u:/x", cache="60s")

    held = await asyncio.gather(*(view() for _ in range(10)))
    assert (upstream.asked, [one.body for one in held]) == (1, [BODY] * 10)
    assert bodies.kept_bytes == len(BODY)


async def test_a_body_that_memory_has_no_room_for_counts_for_each(bodies: Bodies, upstream: Upstream) -> None:
    cache = Cache(memory_bytes=0, disk_bytes=0, bodies=bodies)
    cache.in_use = True
    held: list[Fetched] = []
    for _ in range(2):
        request_to(upstream, cache)
        held.append(await fetch("u:/x", cache="60s"))
    assert (upstream.asked, bodies.kept_bytes) == (2, 2 * len(BODY))


async def test_a_call_that_outlives_its_request_counts_all_the_same(bodies: Bodies, upstream: Upstream) -> None:
    cache = Cache(memory_bytes=2**24, disk_bytes=0, bodies=bodies)
    cache.in_use = True
    request = request_to(upstream, cache)
    request.exchange.ended = 1.0  # others wait for what it has asked for
    said: dict[str, Any] = {"pairs": [], "configured": [], "target": "/x", "options": OPTIONS, "timeout_s": 5.0}
    fetched = await ask_cached(request, upstream, CallRecord(), Rule(), **said)  # type: ignore[arg-type]  # it acts as one
    assert (fetched.body, upstream.kept, bodies.kept_bytes) == (BODY, [60_000], 0)
