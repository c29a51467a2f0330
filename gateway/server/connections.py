"""The connections of clients where one carries several requests: HTTP/2.

Over HTTP/1.1 Granian closes a connection that idles, and `Connection: close` ends one with its answer. HTTP/2 has
neither: its connections would stay for ever, and so would one with a protocol that is not known yet. So they are
counted here: the worker knows which of them carries a request, and checks all that it has accepted now and then.

A connection is ended by shutting its read side. Granian takes that for a client that left, and closes in good order.
The answer of an open stream would be lost, so this is only done where none is open.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gateway.http.headers import all_of
from gateway.http.inbox import Receive
from gateway.http.request import Message, Scope, Send
from gateway.server import abort
from gateway.server.abort import Ends

Now = Callable[[], float]

# How long the last answer of a connection may take to leave while the worker drains.
_LEAVE_S: Final = 0.5
# A request without a body says so with its head; the first piece of any other may take longer.
_NO_BODY_S: Final = 0.02
# How long the rest of a body is read after its answer was sent.
_LINGER_S: Final = 5.0
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
    """All connections of a worker that have carried a request, and the time since which the others are known."""

    def __init__(self, idle_s: float, port: int, now: Now) -> None:
        self._idle_s = idle_s
        self._port = port
        self._now = now
        self._used: dict[Ends, Connection] = {}
        self._unused: dict[Ends, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def enter(self, scope: Scope) -> Connection:
        """A request begins; pass the result to `leave`."""
        ends = abort.ends_of(scope)
        connection = self._used.get(ends)
        if connection is None:
            connection = self._used[ends] = Connection(ends, is_http2=scope["http_version"] == "2")
        connection.requests += 1
        return connection

    def leave(self, connection: Connection, *, draining: bool) -> None:
        """The request has ended. While the worker drains, its connection ends too, as with `Connection: close`."""
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
        """The open connections that have carried no request for long. Closed ones are forgotten."""
        now_s = self._now()
        for ends in self._used.keys() - accepted:
            if not self._used[ends].requests:
                del self._used[ends]
        self._unused = {ends: self._unused.get(ends, now_s) for ends in accepted - self._used.keys()}
        since = dict(self._unused)
        since |= {ends: one.last_s for ends, one in self._used.items() if not one.requests and ends in accepted}
        return [ends for ends, since_s in since.items() if now_s - since_s > self._idle_s]


class Body:
    """The body of one request of HTTP/2: its ASGI callables, and whether both sides of its stream have ended."""

    def __init__(self, receive: Receive, send: Send, first: Awaitable[Message] | None) -> None:
        self._receive = receive
        self._send = send
        self._first = first
        self._is_read = False
        self._is_answered = False

    async def receive(self) -> Message:
        first, self._first = self._first, None
        message: Message = await (self._receive() if first is None else first)  # type: ignore[assignment]
        self._is_read = self._is_read or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        self._is_answered = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)

    async def discard(self) -> None:
        """Read on for a while after an answer that was early: the stream would be reset, and some clients take that
        for a failure although the answer is whole (RFC 9113, section 8.1)."""
        if self._is_answered:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    while not self._is_read:
                        await self.receive()


async def framed(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Body | None]:
    """A request of HTTP/2 as it would be in HTTP/1.1, so that everything behind this knows one kind of request.

    Returns its body, None where it has none. One without a Content-Length is framed by the stream itself: it is
    chunked here. Crumbs of cookies are joined (RFC 9113, section 8.2.3).
    """
    headers = scope["headers"]
    if sum(name == b"cookie" for name, _ in headers) > 1:
        headers = _with_one_cookie(headers)
        scope = {**scope, "headers": headers}
    lengths = all_of(headers, b"content-length")
    if lengths:
        return scope, None if lengths == [b"0"] else Body(receive, send, None)
    first: asyncio.Future[Message] = asyncio.ensure_future(receive())  # type: ignore[arg-type]
    done, _ = await asyncio.wait({first}, timeout=_NO_BODY_S)
    if done and _is_empty(first.result()):
        return scope, None
    return {**scope, "headers": [*headers, _CHUNKED]}, Body(receive, send, first)


def _is_empty(message: Message) -> bool:
    return message["type"] == "http.request" and not message.get("body") and not message.get("more_body")


def _with_one_cookie(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    joined = b"; ".join(all_of(headers, b"cookie"))
    kept = [pair for pair in headers if pair[0] != b"cookie"]
    return [*kept, (b"cookie", joined)]
