"""Heads of answers: what is read at once means what aiohttp's parser reads in it."""

import asyncio
import socket
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http.headers import FieldLines, Pair
from gateway.upstreams import heads
from gateway.upstreams.connection import Connection
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.heads import fault_of_fields, one_chunk, whole_answer
from gateway.upstreams.places import Base

OK = b"HTTP/1.1 200 OK\r\n"

# -- up -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "sent"), [(b"", b"0\r\n\r\n"), (b"x" * 26, b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n")])
def test_a_body_is_one_chunk(body: bytes, sent: bytes) -> None:
    assert one_chunk(body) == sent


# -- down ---------------------------------------------------------------------------------------------------------


def test_a_plain_answer_is_read_at_once() -> None:
    head = (
        OK + b"Server: a\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\nX-A:\t b \r\nX-A: c\r\nContent-Length: 4\r\n\r\n"
    )
    answer = whole_answer(head + b"good", without_body=False)
    assert answer is not None
    assert (answer.status, answer.body, answer.closes) == (200, b"good", False)
    assert answer.pairs == [(b"server", b"a"), (b"x-a", b"b"), (b"x-a", b"c"), (b"content-length", b"4")]
    assert isinstance(answer.pairs, FieldLines)


@pytest.mark.parametrize(
    ("raw", "without_body", "body", "closes"),
    [
        (OK + b"Content-Length: 0\r\n\r\n", False, b"", False),
        (OK + b"Content-Length: 4\r\n\r\n", True, b"", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n", False, b"", False),
        (OK + b"connection: Close\r\ncontent-length: 1\r\n\r\nx", False, b"x", True),
        (b"HTTP/1.1 599\r\ncontent-length: 1\r\n\r\nx", False, b"x", False),
        (OK + b"content-length: 001\r\n\r\nx", False, b"x", False),
    ],
)
def test_what_is_whole_depends_on_method_status_and_length(
    raw: bytes, without_body: bool, body: bytes, closes: bool
) -> None:
    answer = whole_answer(raw, without_body=without_body)
    assert answer is not None
    assert (answer.body, answer.closes) == (body, closes)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        OK,
        OK + b"Content-Length: 4\r\n\r\ngoo",
        OK + b"Content-Length: 4\r\n\r\ngood\n",
        OK + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"Content-Length: +4\r\n\r\ngood",
        OK + b"Content-Length: 4, 4\r\n\r\ngood",
        OK + b"Content-Length : 4\r\n\r\ngood",
        OK + b" Content-Length: 4\r\n\r\ngood",
        OK + b"X: a\r\n b\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"X: a\nContent-Length: 4\r\n\r\ngood",
        OK + b"X: a\rb\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"X: a\0\r\nContent-Length: 4\r\n\r\ngood",
        OK + b": a\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"X\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Connection: X-A\r\nX-A: b\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"Connection: close, X-A\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"Upgrade: h2c\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"\r\n",
        b"\r\n" + OK + b"Content-Length: 4\r\n\r\ngood",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.1  200 OK\r\nContent-Length: 4\r\n\r\ngood",
        b"HTTP/1.1 200 OK\0\r\nContent-Length: 4\r\n\r\ngood",
        b"http/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood",
        OK + b"X: " + b"x" * 70_000 + b"\r\nContent-Length: 4\r\n\r\ngood",
    ],
)
def test_what_is_not_plain_is_left_to_the_parser(raw: bytes) -> None:
    for _ in range(2):  # nor is it known the second time
        assert whole_answer(raw, without_body=False) is None


def test_what_is_known_of_lines_is_bounded_and_holds_no_cookies() -> None:
    for number in range(3 * heads._MOST_KNOWN):
        raw = OK + b"x-a: %d\r\nSet-Cookie: s=%d\r\nContent-Length: 0\r\n\r\n" % (number, number)
        assert whole_answer(raw, without_body=False) is not None
    assert len(heads._lines) <= heads._MOST_KNOWN
    assert not [line for line in heads._lines if b"cookie" in line.lower()]


NAMES = st.sampled_from([
    *(b"X-A", b"x-b", b"Content-Length", b"content-length", b"Connection", b"Transfer-Encoding", b"Upgrade"),
    *(b"Content-Type", b"ETag", b"Keep-Alive", b"Set-Cookie", b"Trailer", b"X A", b"", b"X\xe9", b"Sec-WebSocket-Key1"),
])  # fmt: skip
VALUES = st.sampled_from([
    *(b"4", b" 4", b"04", b"+4", b"4 ", b"4,4", b"", b"close", b"keep-alive", b"Keep-Alive", b"X-A", b"chunked"),
    *(b"a\xe9", b"a\tb", b"a\x00", b"a\x7f", b"a\rb", b"\x0b4", b"text/plain; charset=utf-8", b"h2c"),
])  # fmt: skip
STATUS_LINES = st.sampled_from([
    *(OK, b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n", b"HTTP/1.1 500\r\n", b"HTTP/1.1 205 R\r\n"),
    *(b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 103 Early\r\n", b"HTTP/1.1 200 \xe9\r\n", b"HTTP/1.1 700 X\r\n"),
])  # fmt: skip


async def parsed(raw: bytes, *, without_body: bool) -> tuple[int, Sequence[Pair], bytes, bool]:
    """What a connection makes of it that gets its first byte alone, so that aiohttp's parser reads it."""
    ours, theirs = socket.socketpair()
    endpoint = Endpoint(Base("http", "127.0.0.1", 1, ""), ("127.0.0.1",))
    loop = asyncio.get_running_loop()
    made = await loop.create_connection(lambda: Connection(endpoint, "users", float("inf"), int), sock=ours)
    connection = made[1]
    try:
        connection.ask(b"GET / HTTP/1.1\r\n\r\n", without_body=without_body)
        connection.data_received(raw[:1])
        connection.data_received(raw[1:])
        assert connection.failure is None
        assert connection.stream is not None
        whole = connection.stream.whole()
        assert whole is not None
        return connection.status, connection.pairs, whole, not (connection.is_good() and connection.is_silent())
    finally:
        connection.close()
        theirs.close()


@settings(max_examples=400, deadline=None)
@given(STATUS_LINES, st.lists(st.tuples(NAMES, VALUES), max_size=5), st.booleans(), st.booleans())
def test_what_is_read_at_once_is_what_the_parser_reads(
    status_line: bytes, fields: list[tuple[bytes, bytes]], has_length: bool, without_body: bool
) -> None:
    lines = [b"%b: %b\r\n" % field for field in fields] + ([b"Content-Length: 4\r\n"] if has_length else [])
    for body in (b"", b"good"):
        raw = status_line + b"".join(lines) + b"\r\n" + body
        answer = whole_answer(raw, without_body=without_body)
        if answer is not None:
            assert tuple(answer) == asyncio.run(parsed(raw, without_body=without_body))
            assert fault_of_fields([(name, value.strip(b" \t")) for name, value in fields]) is None
