"""More WebSockets are asked for than a worker may have open: those are refused at once, and nobody else notices."""

import asyncio
import resource
from collections import Counter
from pathlib import Path

import pytest

from tests.live.harness import PATIENCE_S, Gateway, request_bytes
from tests.live.sockets.test_relay import TEXT, Echo, echo, frame

FIXTURES = (echo,)  # that pytest finds here
ASKED, AT_ONCE, MOST = 10_000, 300, 1_000
HANDSHAKE = request_bytes(
    "GET",
    "/echo/x",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
ECHOED = frame(TEXT, b"x")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """Clients of one gateway, and what their handshakes were answered."""

    def __init__(self, gateway: Gateway) -> None:
        self.statuses: Counter[bytes] = Counter()
        self.opened: list[Streams] = []
        self._gateway = gateway
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def ask(self) -> None:
        async with self._turns, asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection(self._gateway.host, self._gateway.port)
            writer.write(HANDSHAKE)
            status = (await reader.readuntil(b"\r\n")).split()[1]
            self.statuses[status] += 1
            if status == b"101":
                await reader.readuntil(b"\r\n\r\n")
                self.opened.append((reader, writer))
            else:
                writer.close()

    async def echoes(self, streams: Streams) -> None:
        reader, writer = streams
        writer.write(frame(TEXT, b"x", mask=b"abcd"))
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readexactly(len(ECHOED)) == ECHOED

    async def leave(self) -> None:
        for _, writer in self.opened:
            writer.close()


async def test_ten_thousand_ask_and_a_thousand_are_let_in(tmp_path: Path, echo: Echo) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4 * MOST:
        pytest.skip(f"at most {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    environment = {
        "GATEWAY_UPSTREAM_E": f"http://127.0.0.1:{echo.port}",
        "GATEWAY_ROUTE_E": "/echo/** -> e",
        "GATEWAY_ROUTE_E__WEBSOCKET": "on",
        "GATEWAY_ROUTE_PLAIN": "/plain -> 204",
    }
    with Gateway(environment, cwd=tmp_path) as gateway:
        crowd = Crowd(gateway)
        await asyncio.gather(*(crowd.ask() for _ in range(ASKED)))
        assert crowd.statuses == {b"101": MOST, b"503": ASKED - MOST}
        answer = await asyncio.to_thread(gateway.ask, HANDSHAKE)
        assert (answer.status, answer.json()["reason"]) == (503, "websockets_full")
        assert (await asyncio.to_thread(gateway.get, "/plain")).status == 204
        await asyncio.gather(*(crowd.echoes(streams) for streams in crowd.opened))
        await crowd.leave()
        after = Crowd(gateway)
        for _ in range(MOST):  # the places of those who left are free again, soon
            await after.ask()
            if after.opened:
                break
        await after.echoes(after.opened[0])
        await after.leave()
