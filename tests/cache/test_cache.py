"""What the cache of one worker does with what it is asked, without a server."""

import asyncio
from typing import Any

import pytest

from gateway.cache.cache import Cache
from gateway.cache.coalescing import CacheRequest, OriginResponse
from gateway.cache.policy import Rule
from gateway.cache.view import Cached
from gateway.http.exchange import Exchange
from gateway.http.headers import FieldLines, Pairs
from gateway.http.lifetime import Lifetime
from gateway.http.response import GatewayResponse
from tests.cache.stored import NOW_S, entry


def request(number: int) -> CacheRequest:
    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    asked = Lifetime(Exchange(0.0, "GET", f"/{number}", "192.0.2.1"))
    return CacheRequest(f"u http://a.example/{number}", "GET", [], Rule(), never, asked)


async def test_so_many_answers_are_validated_in_the_background_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client asks for in a moment, of all that is stored and stale, is not asked of the upstream in a moment."""
    monkeypatch.setattr("gateway.cache.cache._MOST_REVALIDATING", 10)
    cache = Cache(memory_bytes=2**20, disk_bytes=0)
    stale = entry("Cache-Control: max-age=1, stale-while-revalidate=60", at_s=NOW_S)
    for number in range(30):
        cache._revalidate(request(number), stale)
    assert len(cache._revalidating) == 10
    tasks = list(cache._revalidating.values())
    await asyncio.sleep(0)  # they have wait_outcome
    await cache.stop()
    await asyncio.wait(tasks)
    assert not cache._revalidating


async def test_what_a_validation_in_the_background_opened_is_closed_although_it_is_cancelled() -> None:
    cache = Cache(memory_bytes=2**20, disk_bytes=0)
    closed: list[str] = []

    async def produce(_: Pairs, lifetime: Lifetime) -> OriginResponse:
        lifetime.closers.append(lambda: closed.append("thread"))
        (task,) = cache._revalidating.values()
        asyncio.get_running_loop().call_soon(task.cancel)  # it comes before the answer is looked at
        return OriginResponse(200, [(b"cache-control", b"no-store")], b"")

    asked = request(1)
    asked.produce = produce
    cache._revalidate(asked, entry("Cache-Control: max-age=1", at_s=NOW_S))
    await asyncio.wait(cache._revalidating.values())
    assert closed == ["thread"]


async def test_the_fields_that_a_route_sets_are_put_beside_what_was_checked_already() -> None:
    async def view(_: object) -> GatewayResponse:
        return response

    stored = (b"etag", b'"1"')
    response = GatewayResponse(200, FieldLines([stored, (b"x-a", b"1")]), b"")
    one = Cached(view, Rule())
    one._changes = ((b"x-a", b"2"),)
    answered = await one._with_fields(view(None))
    assert answered is response
    assert response.pairs == [stored, (b"x-a", b"2")]
    assert response.pairs[0] is stored  # a line that is checked is made anew
