"""One call upstream for several requests: who goes on alone, who leaves, and what is remembered of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from typing import Any

import pytest

from gateway.cache.cache import Cache, CacheResult
from gateway.cache.coalescing import CacheRequest, OriginResponse, Reader, ReadSoFar, SharedFetch, read_on
from gateway.cache.policy import Rule
from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.exchange import Exchange
from gateway.http.headers import Pairs
from gateway.http.lifetime import Lifetime

BLOCK = b"x" * 100_000
FRESH = (b"cache-control", b"max-age=60")


def request(produce: Callable[..., Any], *pairs: tuple[bytes, bytes], rule: Rule | None = None) -> CacheRequest:
    asked = Lifetime(Exchange(0.0, "GET", "/", "192.0.2.1"))
    return CacheRequest("r http://a.example/", "GET", pairs, rule or Rule(), produce, asked)


def answers(blocks: int, *pairs: tuple[bytes, bytes], may_end: asyncio.Event | None = None) -> Callable[..., Any]:
    """Asked, an upstream that answers with so many blocks, the first at once."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield BLOCK
            await asyncio.sleep(0)
            if may_end is not None:
                await may_end.wait()

    async def produce(_: Pairs, __: Lifetime) -> OriginResponse:
        await asyncio.sleep(0)
        return OriginResponse(200, [FRESH, *pairs], body())

    return produce


async def read(result: CacheResult | None) -> int:
    assert result is not None
    assert not isinstance(result.body, bytes)
    return sum([len(chunk) async for chunk in result.body])


class TooSlow(Reader):
    """Has been left behind by the others before it read anything."""

    def __init__(self) -> None:
        super().__init__(None, reads=True)  # type: ignore[arg-type]  # there is nothing left for it to read
        self.read_so_far = ReadSoFar(0, blake2b())


@pytest.mark.parametrize("ending", ["failed", "cancelled"])
async def test_what_a_reader_s_own_call_opened_is_closed_if_it_gives_no_answer(ending: str) -> None:
    closed: list[str] = []
    began = asyncio.Event()

    async def produce(_: Pairs, lifetime: Lifetime) -> OriginResponse:
        lifetime.closers.append(lambda: closed.append("thread"))
        if ending == "failed":
            raise GatewayError(Reason.LEGACY_TIMEOUT)
        began.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def reads() -> None:
        async for _ in read_on(request(produce), TooSlow()):
            pass

    if ending == "failed":
        with pytest.raises(GatewayError, match="legacy_timeout"):
            await reads()
    else:
        task = asyncio.create_task(reads())
        await began.wait()
        task.cancel()
        await asyncio.wait([task])
    assert closed == ["thread"]


async def test_want_of_room_says_nothing_of_the_next_answer() -> None:
    bodies = Bodies(max_bytes=len(BLOCK))
    cache = Cache(memory_bytes=2**24, disk_bytes=0, bodies=bodies)
    cache.in_use = True
    first = request(answers(4))
    result, _ = await cache.answer(first)
    assert await read(result) == 4 * len(BLOCK)
    first.lifetime.let_go()
    bodies.max_bytes = 2**24  # others have gone
    result, words = await cache.answer(request(answers(4)))
    assert words.get("detail") is None
    assert await read(result) == 4 * len(BLOCK)
    assert (await cache.answer(request(answers(4))))[1]["hit"] is True


async def test_an_answer_larger_than_the_rule_allows_is_remembered() -> None:
    cache = Cache(memory_bytes=2**24, disk_bytes=0)
    cache.in_use = True
    rule = Rule(max_body_bytes=len(BLOCK))
    result, _ = await cache.answer(request(answers(4), rule=rule))
    assert await read(result) == 4 * len(BLOCK)
    assert await cache.answer(request(answers(4), rule=rule)) == (
        None,
        {"fwd": "uri-miss", "detail": "too-large"},
    )


@pytest.mark.parametrize("field", [(b"vary", b"accept-language"), (b"cache-control", b"no-store")], ids=repr)
async def test_who_may_not_follow_takes_no_part_any_more(field: tuple[bytes, bytes]) -> None:
    """A reader that never reads would hold the others up."""
    cache = Cache(memory_bytes=2**24, disk_bytes=0)
    cache.in_use = True
    may_end = asyncio.Event()
    produce = answers(2, field, may_end=may_end)
    leading = asyncio.create_task(cache.answer(request(produce, (b"accept-language", b"de"))))
    await asyncio.sleep(0)  # it has asked
    (fetch,) = cache._fetches.values()
    following = asyncio.create_task(cache.answer(request(produce, (b"accept-language", b"en"))))
    await asyncio.wait([leading, following])
    assert following.result()[1].get("collapsed") is None
    assert readers(fetch) == 1  # who led
    may_end.set()


async def test_who_asks_again_after_a_failure_takes_no_part_any_more() -> None:
    cache = Cache(memory_bytes=2**24, disk_bytes=0)
    cache.in_use = True
    asked: list[Lifetime] = []

    async def fails_once(pairs: Pairs, lifetime: Lifetime) -> OriginResponse:
        asked.append(lifetime)
        await asyncio.sleep(0)
        if len(asked) == 1:
            raise GatewayError(Reason.RESPONSE_INCOMPLETE)
        return OriginResponse(200, [FRESH], b"x")

    leading = asyncio.create_task(cache.answer(request(fails_once)))
    await asyncio.sleep(0)
    (fetch,) = cache._fetches.values()
    following = asyncio.create_task(cache.answer(request(fails_once)))
    await asyncio.wait([leading, following])
    assert (len(asked), following.result()[1]["stored"]) == (2, True)
    assert readers(fetch) == 1  # who led, until its request is over


def readers(fetch: SharedFetch) -> int:
    return len(fetch._readers)


@pytest.mark.parametrize("turns", range(1, 9))
async def test_a_reader_that_is_dropped_gets_each_byte_once(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that takes a chunk in the very moment in which the faster ones stop waiting for it."""
    monkeypatch.setattr("gateway.cache.coalescing._PATIENCE_S", 0.0)
    blocks = [bytes([number]) * 60_000 for number in range(30)]
    calls = 0

    async def body() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block
            await asyncio.sleep(0)

    async def produce(_: Pairs, __: Lifetime) -> OriginResponse:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        return OriginResponse(200, [FRESH], body())

    async def received(result: CacheResult | None, every: int) -> bytes:
        assert result is not None
        assert not isinstance(result.body, bytes)
        pieces = []
        async for piece in result.body:
            pieces.append(piece)
            for _ in range(every):
                await asyncio.sleep(0)
        return b"".join(pieces)

    cache = Cache(memory_bytes=2**24, disk_bytes=0)
    cache.in_use = True
    rule = Rule(max_body_bytes=len(blocks[0]))
    asked = [cache.answer(request(produce, rule=rule)) for _ in range(3)]
    results = [result for result, _ in await asyncio.gather(*asked)]
    bodies = await asyncio.gather(*(received(result, turns * n) for n, result in enumerate(results)))
    assert calls > 1  # somebody was dropped, and asked again
    assert [len(one) for one in bodies] == [len(blocks) * len(blocks[0])] * 3
    assert set(bodies) == {b"".join(blocks)}


async def test_a_body_that_is_too_large_at_once_is_remembered_all_the_same() -> None:
    """Its caller hears of its head only when all of it has come: the next ones are not coalesced."""
    cache = Cache(memory_bytes=2**24, disk_bytes=0)
    rule = Rule(max_body_bytes=10)
    calls: list[str] = []

    async def body() -> AsyncIterator[bytes]:
        yield BLOCK

    async def produce(_: Pairs, __: Lifetime) -> OriginResponse:
        calls.append("call")
        return OriginResponse(200, [FRESH], body())

    result, _ = await cache.answer(request(produce, rule=rule))
    assert await read(result) == len(BLOCK)
    assert await cache.answer(request(produce, rule=rule)) == (None, {"fwd": "uri-miss", "detail": "too-large"})
    assert calls == ["call"]
