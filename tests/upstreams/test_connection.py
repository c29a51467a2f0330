"""Where an answer ends does not depend on how TCP cut it, and nothing that follows it is ever an answer."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.errors import GatewayError, Reason
from gateway.upstreams.connection import Connection
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.places import Base
from gateway.upstreams.retry_policy import StaleConnection

OK = b"HTTP/1.1 200 OK\r\n"
ANSWERS = {
    "a length": (OK + b"Content-Length: 4\r\n\r\ngood", 200, b"good"),
    "a length of nothing": (OK + b"Content-Length: 0\r\n\r\n", 200, b""),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n", 200, b"good"),
    "trailers": (OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nX-A: b\r\n\r\n", 200, b"good"),
    "interim answers": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </x>\r\n\r\n"
        + OK
        + b"Content-Length: 4\r\n\r\ngood",
        200,
        b"good",
    ),
    "an indented body": (OK + b'Content-Length: 14\r\n\r\n{\n  "a": "b"\n}', 200, b'{\n  "a": "b"\n}'),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 4\n\ngood", 200, b"good"),
    "no content": (b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n", 204, b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", 304, b""),
    "a close": (OK + b"Connection: close\r\nContent-Length: 4\r\n\r\ngood", 200, b"good"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood", 200, b"good"),
    "HEAD": (OK + b"Content-Length: 4\r\n\r\n", 200, b""),
    "HEAD of chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", 200, b""),
}
EXTRAS = {
    "a byte": b"X",
    "the first byte of an answer": b"H",
    "words": b"and more\r\n\r\n",
    "a NUL": b"\0",
    "another answer": OK + b"Content-Length: 4\r\n\r\nevil",
    "the head of another answer": OK + b"Content-Length: 400\r\n\r\n",
    "another answer and words": OK + b"Content-Length: 4\r\n\r\nevil and more",
    "an interim answer": b"HTTP/1.1 103 Early\r\nLink: </evil>\r\n\r\n",
}


class Tried:
    """A connection that was given an answer in pieces."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.complaints = 0

    async def read(self) -> tuple[int, bytes]:
        connection = self.connection
        async with asyncio.timeout(5):
            while not connection.status:
                if connection.failure is not None:
                    raise connection.failure
                await connection.arrival()
            status, stream = connection.status, connection.stream
            if stream is None:
                assert connection.body is not None
                return status, connection.body
            whole = stream.whole()
            if whole is not None:
                return status, whole
            return status, b"".join([piece async for piece in stream.pieces(5, lambda: 0)])

    @property
    def may_be_used_again(self) -> bool:
        return self.connection.is_good() and self.connection.is_silent()


@contextlib.asynccontextmanager
async def connected(*, without_body: bool, switches: bool = False) -> AsyncIterator[Tried]:
    ours, theirs = socket.socketpair()
    complaints: list[None] = []
    loop = asyncio.get_running_loop()
    endpoint = Endpoint(Base("http", "127.0.0.1", 1, ""), ("127.0.0.1",))
    made = await loop.create_connection(
        lambda: Connection(endpoint, "users", float("inf"), lambda: complaints.append(None)), sock=ours
    )
    connection = made[1]
    connection.ask(b"GET / HTTP/1.1\r\n\r\n", without_body=without_body, switches=switches)
    tried = Tried(connection)
    try:
        yield tried
    finally:
        tried.complaints = len(complaints)
        connection.close()
        theirs.close()


def feed(tried: Tried, *pieces: bytes) -> None:
    for piece in pieces:
        if piece and tried.connection.transport is not None and not tried.connection.transport.is_closing():
            tried.connection.data_received(piece)


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_is_whole_and_its_connection_may_be_used_again_however_it_is_cut(kind: str) -> None:
    raw, status, body = ANSWERS[kind]
    for cut in range(len(raw)):
        async with connected(without_body=kind.startswith("HEAD")) as tried:
            feed(tried, raw[:cut], raw[cut:])
            assert await tried.read() == (status, body), cut
            assert tried.may_be_used_again == (kind not in {"a close", "HTTP/1.0"}), cut
        assert tried.complaints == 0, cut


@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("kind", ANSWERS)
async def test_what_follows_an_answer_takes_nothing_from_it_however_it_is_cut(kind: str, extra: str) -> None:
    raw, status, body = ANSWERS[kind]
    whole = raw + EXTRAS[extra]
    for cut in range(len(whole)):
        async with connected(without_body=kind.startswith("HEAD")) as tried:
            feed(tried, whole[:cut], whole[cut:])
            assert await tried.read() == (status, body), cut
            assert not tried.may_be_used_again, cut
        if extra != "the first byte of an answer":  # the parser waits for its rest; whoever takes the connection looks
            assert tried.complaints == 1, cut


@pytest.mark.parametrize("extra", [*EXTRAS.values(), b"\r\n"])
async def test_what_comes_while_nobody_asks_closes_the_connection(extra: bytes) -> None:
    async with connected(without_body=False) as tried:
        feed(tried, ANSWERS["a length"][0])
        await tried.read()
        tried.connection.kept(0.0)
        feed(tried, extra)
        assert not tried.connection.is_good()
    assert tried.complaints == 1


async def test_a_server_that_says_408_to_an_idle_connection_is_no_news() -> None:
    async with connected(without_body=False) as tried:
        tried.connection.kept(0.0)
        feed(tried, b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")
        assert not tried.connection.is_good()
    assert tried.complaints == 0


@pytest.mark.parametrize(
    "head",
    [
        OK + b" Content-Length: 4\r\n\r\n",
        OK + b"\tX: a\r\nContent-Length: 4\r\n\r\n",
        OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\n",
        OK + b"Content-Length:\r\n 4\r\n\r\n",
        OK + b"Content-Length: 4\r\nX: a\r\n\tb\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 4\n\n",
        b"\r\n\r\n" + OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nX: a\r\n b\r\n\r\n" + OK + b"Content-Length: 4\r\n\r\n",
        b"HTTP/1.1 103 Early\r\n\r\n" + OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\n",
    ],
)
async def test_a_folded_line_is_refused_however_it_is_cut(head: bytes) -> None:
    raw = head + b"good"
    for cut in range(len(raw)):
        async with connected(without_body=False) as tried:
            feed(tried, raw[:cut], raw[cut:])
            with pytest.raises(GatewayError) as caught:
                await tried.read()
            assert caught.value.reason is Reason.RESPONSE_INVALID


async def test_a_body_may_hold_what_looks_like_a_folded_line() -> None:
    raw = OK + b'Content-Length: 11\r\n\r\n{\n "a": 1\n}'
    for cut in range(len(raw)):
        async with connected(without_body=False) as tried:
            feed(tried, raw[:cut], raw[cut:])
            assert await tried.read() == (200, raw[-11:])


async def test_empty_lines_before_an_answer_have_an_end() -> None:
    async with connected(without_body=False) as tried:
        feed(tried, *[b"\r\n" * 1000] * 100)
        with pytest.raises(GatewayError) as caught:
            await tried.read()
        assert caught.value.reason is Reason.RESPONSE_HEADERS_TOO_LARGE


# -- one answer after the other -----------------------------------------------------------------------------------

# Each with fields of its own, so that what one leaves behind is seen in the next.
SEQUENCE = {
    "a length": (OK + b"X-Of: a\r\nContent-Length: 4\r\n\r\ngood", b"good"),
    "chunks": (OK + b"X-Of: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2\r\nod\r\n0\r\n\r\n", b"good"),
    "trailers": (
        OK + b"X-Of: c\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nc\r\n0\r\nX-Evil: 1\r\nX-Of: 2\r\n\r\n",
        b"c",
    ),
    "an interim answer": (
        b"HTTP/1.1 103 Early\r\nX-Evil: 1\r\n\r\n" + OK + b"X-Of: d\r\nContent-Length: 1\r\n\r\nd",
        b"d",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\nX-Of: e\r\nContent-Length: 0\r\n\r\n", b""),
    "HEAD": (OK + b"X-Of: f\r\nContent-Length: 4\r\n\r\n", b""),
}


async def ask_again(tried: Tried, kind: str, cut: int) -> None:
    raw, body = SEQUENCE[kind]
    tried.connection.ask(b"GET / HTTP/1.1\r\n\r\n", without_body=kind == "HEAD")
    feed(tried, raw[:cut], raw[cut:])
    status, read = await tried.read()
    assert (status, read) == (204 if kind == "no content" else 200, body)
    (of,) = [value for name, value in tried.connection.pairs if name == b"x-of"]
    assert of == raw.partition(b"X-Of: ")[2][:1]
    assert not [name for name, _ in tried.connection.pairs if name == b"x-evil"]
    assert tried.may_be_used_again
    tried.connection.kept(0.0)


@pytest.mark.parametrize("second", SEQUENCE)
@pytest.mark.parametrize("first", SEQUENCE)
async def test_an_answer_leaves_nothing_behind_for_the_next_however_both_are_cut(first: str, second: str) -> None:
    """Trailers, for one, would be fields of somebody else's answer."""
    async with connected(without_body=False) as tried:
        for cut in range(len(SEQUENCE[first][0])):
            await ask_again(tried, first, cut)
            await ask_again(tried, second, 0)
        for cut in range(len(SEQUENCE[second][0])):
            await ask_again(tried, first, 0)
            await ask_again(tried, second, cut)
    assert tried.complaints == 0


# -- waiting ------------------------------------------------------------------------------------------------------


async def test_who_is_woken_by_the_clock_finds_the_answer_still_to_come() -> None:
    raw, status, body = ANSWERS["a length"]
    async with connected(without_body=False) as tried:
        feed(tried, raw[:20])
        asyncio.get_running_loop().call_soon(tried.connection.wake)
        await tried.connection.arrival()
        assert (tried.connection.status, tried.connection.failure) == (0, None)
        asyncio.get_running_loop().call_soon(feed, tried, raw[20:])
        await tried.connection.arrival()
        assert await tried.read() == (status, body)
        assert tried.may_be_used_again


async def test_who_stopped_waiting_leaves_the_answer_to_the_next_who_waits() -> None:
    raw, status, body = ANSWERS["a length"]
    async with connected(without_body=False) as tried:
        tried.connection.arrival().cancel()
        feed(tried, raw)
        await tried.connection.arrival()
        assert await tried.read() == (status, body)


async def test_a_connection_that_is_lost_while_it_is_waited_for_is_a_failure_at_once() -> None:
    for was_kept in (False, True):
        async with connected(without_body=False) as tried:
            tried.connection.was_kept = was_kept
            asyncio.get_running_loop().call_soon(tried.connection.connection_lost, ConnectionResetError(104, "reset"))
            await tried.connection.arrival()
            failure = tried.connection.failure
            assert failure is not None
            assert (failure.reason, failure.upstream) == (Reason.CONNECTION_RESET, "users")
            assert isinstance(failure, StaleConnection) is was_kept


async def test_a_connection_that_closed_before_it_was_asked_says_so() -> None:
    async with connected(without_body=False) as tried:
        tried.connection.connection_lost(None)
        tried.connection.ask(b"GET / HTTP/1.1\r\n\r\n", without_body=False)
        await tried.connection.arrival()
        with pytest.raises(GatewayError):
            await tried.read()


# -- another protocol ---------------------------------------------------------------------------------------------

SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


async def test_after_a_101_that_was_asked_for_the_connection_is_given_away_however_it_is_cut() -> None:
    for cut in range(len(SWITCH)):
        async with connected(without_body=False, switches=True) as tried:
            feed(tried, SWITCH[:cut], SWITCH[cut:] + b"\x81\x02hi")
            await tried.connection.arrival()
            assert (tried.connection.status, tried.connection.failure) == (101, None)
            assert (b"sec-websocket-accept", b"x") in tried.connection.pairs
            transport, early = tried.connection.hand_over()
            assert (early, transport.is_reading(), tried.connection.is_good()) == (b"\x81\x02hi", False, False)
            transport.abort()


async def test_a_101_that_nobody_asked_for_is_no_answer() -> None:
    for cut in range(len(SWITCH)):
        async with connected(without_body=False) as tried:
            feed(tried, SWITCH[:cut], SWITCH[cut:])
            with pytest.raises(GatewayError) as caught:
                await tried.read()
            assert caught.value.reason is Reason.RESPONSE_INVALID
