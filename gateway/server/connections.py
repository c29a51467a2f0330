"""The connections of clients where one carries several requests: HTTP/2.

Over HTTP/1.1 Granian closes a connection that idles, and `Connection: close` ends one with its answer. HTTP/2 has
neither: its connections would stay for ever, and so would one of which it is not known yet what it will speak. So they
are counted here: the worker knows which of them carries a request, and looks now and then at all that it has accepted.

A connection is ended by shutting its read side. Granian takes that for a client that has left, and closes in good
order; where a stream is open its answer would be lost, so that is only done where none is.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.http.inbox import Receive
from gateway.http.request import Message, Scope
from gateway.server import abort
from gateway.server.abort import Ends

Now = Callable[[], float]

# How long the last answer of a connection may take to leave while the worker drains.
_LEAVE_S: Final = 0.5
# A request without a body says so with its head; the first piece of any other may take longer.
_NO_BODY_S: Final = 0.02
_CHUNKED: Final = (b"transfer-encoding", b"chunked")


class Connection:
    """One connection: how many requests it carries, and when it carried one last."""

    __slots__ = ("ends", "is_http2", "last_s", "requests")

    def __init__(self, ends: Ends, *, is_http2: bool) -> None:
        self.ends = ends
        self.is_http2 = is_http2
        self.requests = 0
        self.last_s = 0.0


class Connections:
    """All connections of a worker that have carried a request, and since when those are known that have not."""

    def __init__(self, idle_s: float, port: int, now: Now) -> None:
        self._idle_s = idle_s
        self._port = port
        self._now = now
        self._used: dict[Ends, Connection] = {}
        self._unused: dict[Ends, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, scope: Scope) -> Connection:
        """A request begins; give what is returned to `leave`."""
        ends = abort.ends_of(scope)
        connection = self._used.get(ends)
        if connection is None:
            connection = self._used[ends] = Connection(ends, is_http2=scope["http_version"] == "2")
        connection.requests += 1
        return connection

    def leave(self, connection: Connection, *, draining: bool) -> None:
        """It has ended. While the worker drains, its connection does so with it, as `Connection: close` has it."""
        connection.requests -= 1
        connection.last_s = self._now()
        if draining and connection.is_http2 and not connection.requests:
            task = asyncio.get_running_loop().create_task(self._end_soon(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end_soon(self, connection: Connection) -> None:
        last_s = connection.last_s
        await asyncio.sleep(_LEAVE_S)
        if not connection.requests and connection.last_s == last_s:
            await abort.hang_up(connection.ends)

    async def watch(self) -> None:
        """End the connections that idle, for as long as the worker serves."""
        while True:
            await asyncio.sleep(max(0.25, self._idle_s / 4))
            for ends in self.idle(await abort.open_connections(self._port)):
                await abort.hang_up(ends)

    def idle(self, accepted: set[Ends]) -> list[Ends]:
        """Of all that are open, those that have carried no request for long. What is no longer open is forgotten."""
        now_s = self._now()
        for ends in self._used.keys() - accepted:
            if not self._used[ends].requests:
                del self._used[ends]
        self._unused = {ends: self._unused.get(ends, now_s) for ends in accepted - self._used.keys()}
        since = dict(self._unused)
        since |= {ends: one.last_s for ends, one in self._used.items() if not one.requests and ends in accepted}
        return [ends for ends, since_s in since.items() if now_s - since_s > self._idle_s]


async def framed(scope: Scope, receive: Receive) -> tuple[Scope, Receive]:
    """A request of HTTP/2 as it would be in HTTP/1.1, so that everything behind this knows one kind of request.

    A body without a Content-Length is framed by the stream itself: here it is chunked. Crumbs of cookies are joined
    (RFC 9113, section 8.2.3).
    """
    headers = scope["headers"]
    if sum(name == b"cookie" for name, _ in headers) > 1:
        headers = _with_one_cookie(headers)
        scope = {**scope, "headers": headers}
    if any(name == b"content-length" for name, _ in headers):
        return scope, receive
    first: asyncio.Future[Message] = asyncio.ensure_future(receive())  # type: ignore[arg-type]
    done, _ = await asyncio.wait({first}, timeout=_NO_BODY_S)
    if done and _is_empty(first.result()):
        return scope, receive

    waiting: list[Awaitable[Message]] = [first]

    async def from_first() -> Message:
        return await (waiting.pop() if waiting else receive())  # type: ignore[return-value]

    return {**scope, "headers": [*headers, _CHUNKED]}, from_first


def _is_empty(message: Message) -> bool:
    return message["type"] == "http.request" and not message.get("body") and not message.get("more_body")


def _with_one_cookie(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    joined = b"; ".join(value for name, value in headers if name == b"cookie")
    kept = [pair for pair in headers if pair[0] != b"cookie"]
    return [*kept, (b"cookie", joined)]
