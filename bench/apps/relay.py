"""The relay that one would write by hand: a WebSocket under Granian, one of aiohttp to the service, two tasks.

It passes binary messages on, and no more: no close codes, no pings, no limits, no log. Any GET gets the 1 KB.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from bench.apps.hello import app as hello

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

UPSTREAM = os.environ["BENCH_UPSTREAM"]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "websocket":
        await hello(scope, receive, send)
        return
    await receive()
    async with aiohttp.ClientSession() as session, session.ws_connect(UPSTREAM + scope["path"], compress=0) as upstream:
        await send({"type": "websocket.accept"})
        down = asyncio.create_task(_down(upstream, send))
        while (message := await receive())["type"] == "websocket.receive":
            await upstream.send_bytes(message["bytes"])
        down.cancel()


async def _down(upstream: aiohttp.ClientWebSocketResponse, send: Send) -> None:
    async for message in upstream:
        await send({"type": "websocket.send", "bytes": message.data})
