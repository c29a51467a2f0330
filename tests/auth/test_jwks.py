"""The keys of an issuer over real sockets: fetched, changed, away and back; in the time of a hand-set clock."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from gateway.auth import jwks
from gateway.auth.jwks import KeyLoader, KeyStore, KeysUnavailable
from gateway.auth.records import KeySource, Way
from gateway.auth.rules import Outcome, Verdict
from gateway.auth.ways import JwtWay
from gateway.upstreams.pool import Pool
from tests.auth.issuer import claims, jwk, key_set, token

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Issuer:
    """A server that says where its keys are, and what they are; `fails` answers instead."""

    def __init__(self) -> None:
        self.url = ""
        self.document = key_set(jwk("ES256", "1"))
        self.asked: list[str] = []
        self.fails: Answer | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        await self.gate.wait()
        if self.fails is not None:
            return await self.fails(request)
        if request.path.endswith("/openid-configuration"):
            return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})
        return web.Response(body=self.document, content_type="application/json")


@asynccontextmanager
async def running(answer: Answer, port: int = 0) -> AsyncIterator[str]:
    application = web.Application(client_max_size=2**23)
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def no_pools(name: str) -> Pool:
    raise KeyError(name)


@asynccontextmanager
async def way_of(
    url: str, clock: Clock, *, kind: str = "discovery", path: str = "", **options: Any
) -> AsyncIterator[JwtWay]:
    way = Way(
        name="token",
        kind="jwt",
        issuers=(url,),
        algorithms=("ES256",),
        keys_from=KeySource(kind, url + path),
        **{"timeout_s": 2.0, **options},
    )
    loader = KeyLoader(way, no_pools)
    store = KeyStore("token", loader, clock)
    try:
        yield JwtWay(way, store)
    finally:
        await store.aclose()
        await loader.aclose()


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    found = Issuer()
    async with running(found.answer) as url:
        found.url = url
        yield found


async def told(way: JwtWay, kid: str = "1", number: int = 0) -> str:
    text = token(claims(iss=way.way.issuers[0]), "ES256", kid=kid, number=number)
    found = await way.examine(text, time.time())
    if not isinstance(found, Outcome):
        return "passed"
    assert found.verdict is not Verdict.PASSED
    return f"{found.verdict.word}: {found.cause}"


def store_of(way: JwtWay) -> KeyStore:
    assert way.store is not None
    return way.store


async def until(question: Callable[[], bool]) -> None:
    """Wait for what the sockets bring."""
    async with asyncio.timeout(10):
        while not question():  # noqa: ASYNC110 - what is asked is no event of ours
            await asyncio.sleep(0.001)


async def test_discovery_leads_to_the_keys(issuer: Issuer) -> None:
    async with way_of(issuer.url, Clock()) as way:
        assert await told(way) == "passed"
        assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
        assert await told(way) == "passed"
        assert len(issuer.asked) == 2


async def test_a_url_needs_no_discovery(issuer: Issuer) -> None:
    async with way_of(issuer.url, Clock(), kind="url", path="/keys?a=b") as way:
        found = await store_of(way).candidates("1", "ES256")
        assert len(found) == 1
        assert issuer.asked == ["/keys"]


async def test_keys_come_out_of_a_file_and_are_read_anew(tmp_path: Any) -> None:
    file, clock = tmp_path / "keys.json", Clock()
    file.write_bytes(key_set(jwk("ES256", "1")))
    async with way_of(str(file), clock, kind="file") as way:
        assert await told(way) == "passed"
        file.write_bytes(key_set(jwk("ES256", "2", 2)))
        assert (await told(way, "2", 2)).startswith("invalid")
        clock.now_s += jwks.AGAIN_S
        assert await told(way, "2", 2) == "passed"
        file.unlink()
        clock.now_s += jwks.AGAIN_S
        assert (await told(way, "3", 3)).startswith("invalid")
        assert "No such file" in store_of(way).failure


async def test_a_thousand_invented_names_are_one_call(issuer: Issuer) -> None:
    clock = Clock()
    async with way_of(issuer.url, clock, kind="url", path="/keys") as way:
        assert await told(way) == "passed"
        clock.now_s += jwks.AGAIN_S
        issuer.gate.clear()
        waiting = [asyncio.create_task(told(way, f"invented-{number}")) for number in range(1000)]
        await until(lambda: len(issuer.asked) == 2)
        issuer.gate.set()
        found = await asyncio.gather(*waiting)
        assert all(one.startswith("invalid: the key 'invented-") for one in found)
        assert len(issuer.asked) == 2
        # ... and none for those that come soon after.
        await asyncio.gather(*(told(way, f"late-{number}") for number in range(1000)))
        clock.now_s += jwks.AGAIN_S - 0.1
        assert (await told(way, "late")).startswith("invalid")
        assert len(issuer.asked) == 2
        assert await told(way) == "passed"


async def test_a_key_that_is_new_is_fetched_at_once(issuer: Issuer) -> None:
    clock = Clock()
    async with way_of(issuer.url, clock) as way:
        assert await told(way) == "passed"
        issuer.document = key_set(jwk("ES256", "1"), jwk("ES256", "2", 2))
        clock.now_s += jwks.AGAIN_S
        assert await told(way, "2", 2) == "passed"


async def test_verdicts_end_with_the_keys_that_they_were_reached_by(issuer: Issuer) -> None:
    clock = Clock()
    async with way_of(issuer.url, clock, kind="url", path="/keys") as way:
        await told(way)
        store = store_of(way)
        store.verdicts.put(b"a", Outcome(Verdict.PASSED, "token"), float("inf"))
        clock.now_s += jwks.AGAIN_S
        await told(way, "2")  # fetched anew, and the same
        assert store.verdicts.get(b"a", 0.0) is not None
        issuer.document = key_set(jwk("ES256", "2", 2))
        clock.now_s += jwks.AGAIN_S
        await told(way, "3")
        assert store.verdicts.get(b"a", 0.0) is None
        assert (await told(way)).startswith("invalid")


async def redirect(request: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"location": "http://127.0.0.2:1/keys"})


async def html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html><body>Sign in</body></html>", content_type="text/html")


async def unavailable(request: web.Request) -> web.StreamResponse:
    return web.Response(status=500, text="secret stack trace")


async def many_keys(request: web.Request) -> web.StreamResponse:
    return web.json_response({"keys": [{"kty": "EC", "kid": str(number)} for number in range(10_000)]})


async def endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(10_000):
        await response.write(b" " * 65_536)
    return response


async def trickle(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)  # an issuer that never comes to its end: slow on purpose


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)  # an issuer that never answers; the test ends it
    raise AssertionError("nobody waits so long")


async def breaks_off(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize(
    ("fails", "why"),
    [
        (redirect, "the answer is a redirect (302), which is not followed"),
        (html, "it is no JSON"),
        (unavailable, "the answer has status 500"),
        (many_keys, "it has 10000 keys, more than 1000"),
        (endless, "part_too_large"),
        (trickle, "response_timeout"),
        (silent, "response_timeout"),
        (breaks_off, "connection_reset"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
async def test_an_issuer_that_fails_is_named_and_keys_that_were_known_hold(
    issuer: Issuer, fails: Answer, why: str
) -> None:
    clock = Clock()
    issuer.fails = fails
    async with way_of(issuer.url, clock, kind="url", path="/keys", timeout_s=0.3) as way:
        # Never had any: nobody can tell who asks, which is not the client's fault.
        found = await told(way)
        assert found.startswith(f"unavailable: {why}")
        assert "secret" not in found
        with pytest.raises(KeysUnavailable) as caught:
            await store_of(way).candidates("1", "ES256")
        assert caught.value.retry_after_s == 10
        issuer.fails = None
        clock.now_s += jwks.AGAIN_S
        assert await told(way) == "passed"
        issuer.fails = fails
        clock.now_s += jwks.AGAIN_S
        assert (await told(way, "2")).startswith("invalid")
        assert why in store_of(way).failure
        assert await told(way) == "passed"
        issuer.fails = None
        clock.now_s += jwks.AGAIN_S
        assert (await told(way, "2")).startswith("invalid")
        assert store_of(way).failure == ""


async def test_an_issuer_that_is_not_there_may_come(issuer: Issuer) -> None:
    async with running(issuer.answer) as gone:
        port = int(gone.rpartition(":")[2])
    clock = Clock()
    async with way_of(gone, clock, kind="url", path="/keys") as way:
        assert (await told(way)).startswith("unavailable: connection_refused")
        clock.now_s += jwks.AGAIN_S
        async with running(issuer.answer, port):
            assert await told(way) == "passed"


async def test_a_client_that_leaves_does_not_break_the_call_off_for_others(issuer: Issuer) -> None:
    async with way_of(issuer.url, Clock(), kind="url", path="/keys") as way:
        issuer.gate.clear()
        first, second = (asyncio.create_task(told(way)) for _ in range(2))
        await until(lambda: bool(issuer.asked))
        first.cancel()
        issuer.gate.set()
        assert await second == "passed"
        assert issuer.asked == ["/keys"]


async def test_keys_are_fetched_in_the_background_from_the_start(issuer: Issuer) -> None:
    async with way_of(issuer.url, Clock(), kind="url", path="/keys") as way:
        store = store_of(way)
        store.start()
        await until(lambda: store.keys is not None)
        assert await told(way) == "passed"
        assert issuer.asked == ["/keys"]
