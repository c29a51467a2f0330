"""The floor: the least that a streaming proxy costs in Python. A bare ASGI app with one shared aiohttp session.

Written as well as one reasonably would, and no more: hop-by-hop headers are dropped, everything else passes as it came,
bodies stream both ways. It has no log, no ids, no metrics, no timeouts, no errors of its own, and does not notice a
client that leaves: all that is what a gateway adds, and what the ratio to this floor prices.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

UPSTREAM = os.environ["BENCH_UPSTREAM"]
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection "
    b"te trailer transfer-encoding upgrade".split()
)
session: aiohttp.ClientSession


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    else:
        await proxy(scope, receive, send)


async def lifespan(receive: Receive, send: Send) -> None:
    global session  # noqa: PLW0603  one name read per request is the cheapest place for it
    await receive()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    )
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await session.close()
    await send({"type": "lifespan.shutdown.complete"})


async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
    query = scope["query_string"]
    target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
    headers = CIMultiDict(
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in end_to_end(scope["headers"])
        if name != b"host"
    )
    async with session.request(
        scope["method"],
        URL(UPSTREAM + target.decode("latin-1"), encoded=True),
        headers=headers,
        data=body_of(receive) if has_body(scope["headers"]) else None,
        allow_redirects=False,
    ) as upstream:
        start_headers = list(end_to_end(upstream.raw_headers))
        await send({"type": "http.response.start", "status": upstream.status, "headers": start_headers})
        more_body = True
        while more_body:
            chunk = await upstream.content.readany()
            more_body = not upstream.content.at_eof()
            await send({"type": "http.response.body", "body": chunk, "more_body": more_body})


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without the hop-by-hop headers and all that `Connection` names; names in lower case, as ASGI wants them."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP
    for name, value in lowered:
        if name == b"connection":
            dropped = dropped | {token.strip().lower() for token in value.split(b",")}
    return [pair for pair in lowered if pair[0] not in dropped]


def has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


async def body_of(receive: Receive) -> AsyncIterator[bytes]:
    more_body = True
    while more_body:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionResetError("the client left in the middle of its body")
        yield event["body"]
        more_body = event["more_body"]
