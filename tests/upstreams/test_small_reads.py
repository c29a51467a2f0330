"""A client that may read nothing gets small pieces; one that reads has large ones after a while."""

import asyncio
import ssl

import pytest
import trustme

from gateway.upstreams.connection import Connection
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.places import Base
from gateway.upstreams.small_reads import FREELY_AFTER_BYTES, PIECE_BYTES

ANSWERS = 2
BODY_BYTES = 4 * 2**20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES
BODY = bytes(range(256)) * (BODY_BYTES // 256)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(ANSWERS):
        await reader.readline()
        if (await reader.readline()) == b"\r\n":
            writer.write(HEAD)
            await writer.drain()
            writer.write(BODY)
            await writer.drain()
    writer.close()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For the client and the server of one connection."""
    authority = trustme.CA()
    here, there = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(here)
    authority.issue_cert("127.0.0.1").configure_cert(there)
    return here, there


@pytest.mark.parametrize("over_tls", [False, True])
async def test_pieces_are_small_until_some_were_taken_and_for_each_answer_anew(over_tls: bool) -> None:
    here, there = contexts() if over_tls else (None, None)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=there)
    async with server:
        loop, port = asyncio.get_running_loop(), server.sockets[0].getsockname()[1]
        endpoint = Endpoint(Base("http", "127.0.0.1", port, ""), ("127.0.0.1",))
        _, connection = await loop.create_connection(
            lambda: Connection(endpoint, "users", float("inf"), lambda: None), "127.0.0.1", port, ssl=here
        )
        for _ in range(ANSWERS):
            sizes, body = await read(connection)
            assert body == BODY
            early = [size for size, before in zip(sizes, starts(sizes), strict=True) if before < FREELY_AFTER_BYTES]
            assert max(early) <= PIECE_BYTES
            assert max(sizes) > PIECE_BYTES
            connection.kept(loop.time())
        connection.close()
        await asyncio.sleep(0)


async def read(connection: Connection) -> tuple[list[int], bytes]:
    async with asyncio.timeout(20):
        connection.ask(b"GET / HTTP/1.1\r\n\r\n", without_body=False)
        while not connection.status:
            assert connection.failure is None
            await connection.arrival()
        assert connection.stream is not None
        pieces = [piece async for piece in connection.stream.pieces(5, lambda: 0)]
        return [len(piece) for piece in pieces], b"".join(pieces)


def starts(sizes: list[int]) -> list[int]:
    return [sum(sizes[:number]) for number in range(len(sizes))]
