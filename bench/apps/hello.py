"""A bare ASGI app that answers 1 KB: what Granian and ASGI cost alone."""

from collections.abc import Awaitable, Callable
from typing import Any

from bench.upstream import one_kilobyte

BODY = one_kilobyte()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: dict[str, Any], receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY, "more_body": False})
