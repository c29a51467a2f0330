"""The application as Granian calls it, in the loop of a test: no server, and no socket before it.

async with lifespan(application):
    answered = await call(application, "/b/1")
    assert (answered.status, answered.body) == (200, b"ok")
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.http.request import Message, Scope
from gateway.server.asgi import GatewayHandler

Pair = tuple[bytes, bytes]
Pairs = list[Pair]
PATIENCE_S = 20.0


class Answered:
    """What the application sent, so far."""

    def __init__(self) -> None:
        self.status = 0
        self.pairs: Pairs = []
        self.body = b""
        self.is_complete = False

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.pairs = message["status"], message["headers"]
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self.is_complete = not message.get("more_body", False)


def scope_of(method: str, target: str, fields: Sequence[Pair] = ()) -> Scope:
    """The scope that Granian gives for such a request."""
    raw_path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw_path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"gateway.test"), *fields],
        "client": ("127.0.0.1", "50000"),
        "server": ("127.0.0.1", "8000"),
        "extensions": {},
        "state": {},
    }


async def call(
    application: GatewayHandler, target: str, method: str = "GET", body: bytes = b"", fields: Sequence[Pair] = ()
) -> Answered:
    """Send one request and take the whole answer."""
    if body:
        fields = [*fields, (b"content-length", str(len(body)).encode())]
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": body, "more_body": False})
    answered = Answered()
    async with asyncio.timeout(PATIENCE_S):
        await application(scope_of(method, target, fields), messages.get, answered.take)
    return answered


class Lifespan:
    """Granian's side of a worker's life, a phase at a time."""

    def __init__(self, application: GatewayHandler) -> None:
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self.task = asyncio.create_task(application({"type": "lifespan"}, self._incoming.get, self._outgoing.put))

    async def go(self, phase: str) -> Message:
        self._incoming.put_nowait({"type": f"lifespan.{phase}"})
        async with asyncio.timeout(PATIENCE_S):
            return await self._outgoing.get()


@asynccontextmanager
async def lifespan(application: GatewayHandler) -> AsyncIterator[None]:
    """Started inside, stopped at the end."""
    granian = Lifespan(application)
    assert await granian.go("startup") == {"type": "lifespan.startup.complete"}
    yield
    assert await granian.go("shutdown") == {"type": "lifespan.shutdown.complete"}
    await granian.task
