"""The load of WebSockets: each of many connections sends a message of 1 KiB, waits for its echo, and sends the next."""

import asyncio
import time
from typing import cast

import uvloop

from bench.load import LoadError, WrkResult
from bench.machine import HOST

MESSAGE_BYTES = 1024
_HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: bench.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# A frame of binary data, masked by nothing but zeros, and its echo, which has no mask (RFC 6455, section 5.2).
_HEAD = b"\x82\xfe" + MESSAGE_BYTES.to_bytes(2, "big") + bytes(4)
_FRAME = _HEAD + b"x" * MESSAGE_BYTES
_ECHO_BYTES = len(_FRAME) - 4
_PATIENCE_S = 10.0


class _Client(asyncio.Protocol):
    """One connection."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.times_ms: list[float] = []
        self.is_over = False
        self.lost = ""
        self._left_bytes = 0
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(_HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        if not self.open.done():
            if data.startswith(b"HTTP/1.1 101"):
                self.open.set_result(None)
            else:
                self.open.set_exception(LoadError(f"no socket: {data[:200]!r}"))
            return
        self._left_bytes -= len(data)
        if not self._left_bytes:
            self.times_ms.append((time.perf_counter() - self._sent_s) * 1000)
            if not self.is_over:
                self.send()

    def send(self) -> None:
        self._left_bytes, self._sent_s = _ECHO_BYTES, time.perf_counter()
        self.transport.write(_FRAME)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.is_over:
            self.lost = f"a socket was closed: {exc}"


def run_echo(port: int, seconds: float, connections: int) -> WrkResult:
    """Round trips over so many connections. Raises LoadError where none can be opened."""
    return uvloop.run(_echo(port, seconds, connections))


async def _echo(port: int, seconds: float, connections: int) -> WrkResult:
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(_Client, HOST, port))[1] for _ in range(connections)]
    async with asyncio.timeout(_PATIENCE_S):
        await asyncio.gather(*(client.open for client in clients))
    began_s = time.perf_counter()
    for client in clients:
        client.send()
    await asyncio.sleep(seconds)
    took_s = time.perf_counter() - began_s
    for client in clients:
        client.is_over = True
        client.transport.abort()
    times_ms = sorted(one for client in clients for one in client.times_ms)
    if not times_ms:
        raise LoadError("not one echo")
    return WrkResult(
        requests=len(times_ms),
        duration_s=took_s,
        p50_ms=times_ms[len(times_ms) // 2],
        p99_ms=times_ms[len(times_ms) * 99 // 100],
        errors=next((client.lost for client in clients if client.lost), ""),
    )
