"""The limit: Granian and a connection pool of thirty lines of Python, the least that a proxy on asyncio can cost.

It reads a head and as many bytes as Content-Length says, of answers that come whole or in pieces. Nothing is checked,
and nothing else is understood: no chunks, no bodies up, no fields of the client's, no failures.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, cast

Send = Callable[[dict[str, Any]], Awaitable[None]]

HOST, _, PORT = os.environ["BENCH_UPSTREAM"].removeprefix("http://").partition(":")
idle: list["Pooled"] = []


class Pooled(asyncio.Protocol):
    """One connection, for one answer at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, path: bytes) -> "asyncio.Future[tuple[bytes, bytes]]":
        self.data = b""
        self.answer: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()
        self.transport.write(b"GET %b HTTP/1.1\r\nhost: b\r\n\r\n" % path)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.data = data = self.data + data
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) == length:
            self.answer.set_result((head, body))


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        return
    if idle:
        connection = idle.pop()
    else:
        _, connection = await asyncio.get_running_loop().create_connection(Pooled, HOST, int(PORT))
    head, body = await connection.ask(scope["raw_path"])
    idle.append(connection)
    status_line, *lines = head.split(b"\r\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]
    await send({"type": "http.response.start", "status": int(status_line[9:12]), "headers": headers})
    await send({"type": "http.response.body", "body": body})
