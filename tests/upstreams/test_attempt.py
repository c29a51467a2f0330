"""One attempt: what it holds of its answer, whatever becomes of the connection meanwhile."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from gateway.upstreams.attempt import Attempt
from gateway.upstreams.places import Base
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    """One endpoint, which answers each request in two pieces: the head, and what it was asked for."""

    served: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while line := await reader.readline():
                word = line.split(b" ")[1][1:5]
                await reader.readuntil(b"\r\n\r\n")
                writer.write(HEAD + b"X-Of: %b\r\n\r\n" % word)
                await writer.drain()
                writer.write(word)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    one = Pool(Upstream(name="users", bases=(Base("http", "127.0.0.1", server.sockets[0].getsockname()[1]),)))
    one.start()
    yield one
    await one.aclose()
    server.close()
    await asyncio.gather(*filter(None, served))
    await asyncio.sleep(0)  # its transports close in the loop's next turn


async def answered(pool: Pool, word: str) -> Attempt:
    attempt = pool.pick(b"", (), repeatable=True)
    attempt.request = b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n" % word.encode()
    kept = pool.client.idle_connection(attempt.endpoint, 5.0)
    attempt.ask(kept or await pool.client.connect(attempt.endpoint, 5.0), chunked=False, is_head=False)
    await attempt.head()
    attempt.take_head()
    assert await attempt.settle(100, 5.0, 5.0)
    return attempt


async def test_an_answer_that_has_arrived_is_read_although_its_connection_serves_another_request(pool: Pool) -> None:
    first = await answered(pool, "aaaa")
    second = await answered(pool, "bbbb")
    third = await answered(pool, "cccc")
    assert first.connection is second.connection is third.connection
    assert [first.whole(), third.whole(), second.whole()] == [b"aaaa", b"cccc", b"bbbb"]
    assert [dict(one.pairs)[b"x-of"] for one in (first, second, third)] == [b"aaaa", b"bbbb", b"cccc"]
    assert [one.is_over for one in (first, second, third)] == [True] * 3
    assert pool.endpoints[0].in_flight == 0


async def test_what_is_closed_late_does_not_close_the_connection_of_another_request(pool: Pool) -> None:
    first = await answered(pool, "aaaa")
    second = await answered(pool, "bbbb")
    first.close()
    first.dropped()
    assert second.whole() == b"bbbb"
    assert second.connection is not None
    assert second.connection.is_good()


async def test_one_that_is_broken_off_closes_its_connection(pool: Pool) -> None:
    attempt = pool.pick(b"", (), repeatable=True)
    attempt.request = b"GET /aaaa HTTP/1.1\r\nhost: a\r\n\r\n"
    attempt.ask(await pool.client.connect(attempt.endpoint, 5.0), chunked=False, is_head=False)
    attempt.dropped()
    assert attempt.connection is not None
    assert not attempt.connection.is_good()
    assert (pool.endpoints[0].in_flight, pool.endpoints[0].idle) == (0, [])
