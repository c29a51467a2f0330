"""The fan-out that one would write by hand: a bare ASGI app, one shared aiohttp session, `asyncio.gather`.

`/delay/20?parts=3` asks the upstream for `/delay/20` three times at once and answers `{"p01":...,"p02":...,"p03":...}`,
their bytes side by side. It checks the status of each, and whether it is JSON, and no more: no deadline, no optional
parts, no headers, no ids, no log, and it does not notice a client that leaves.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
from yarl import URL

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

UPSTREAM = os.environ["BENCH_UPSTREAM"]
session: aiohttp.ClientSession


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await home(scope, send)


async def lifespan(receive: Receive, send: Send) -> None:
    global session  # noqa: PLW0603  one name read per request is the cheapest place for it
    await receive()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        skip_auto_headers=("Accept-Encoding", "User-Agent"),
    )
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await session.close()
    await send({"type": "lifespan.shutdown.complete"})


async def home(scope: Scope, send: Send) -> None:
    url = URL(UPSTREAM + scope["raw_path"].decode("latin-1"), encoded=True)
    count = int(scope["query_string"].removeprefix(b"parts=") or 1)
    try:
        texts = await asyncio.gather(*(ask(url) for _ in range(count)))
    except (aiohttp.ClientError, orjson.JSONDecodeError):
        await answer(send, 502, b"{}")
        return
    await answer(send, 200, b"{%b}" % b",".join(b'"p%02d":%b' % pair for pair in enumerate(texts, 1)))


async def ask(url: URL) -> bytes:
    async with session.get(url, allow_redirects=False, raise_for_status=True) as upstream:
        text = await upstream.read()
    orjson.loads(text)  # what is no JSON would spoil the whole
    return text


async def answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
