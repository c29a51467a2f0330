"""What a service of a test takes for a request: what the gateway sends, in whatever pieces, and nothing else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.testing.wire import Request, RequestReader, WireError, chunk_bytes, head_bytes

PLAIN = b"GET /a?b=c HTTP/1.1\r\nhost: a\r\nX-A:  1 \r\n\r\n"
SIZED = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc"
CHUNKED = (
    b"PUT /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + chunk_bytes(b"one") + b"3\r\ntwo\r\n0\r\n\r\n"
)
REQUESTS = [
    Request("GET", "/a?b=c", (("host", "a"), ("X-A", "1")), b""),
    Request("POST", "/", (("host", "a"), ("content-length", "3")), b"abc"),
    Request("PUT", "/x", (("host", "a"), ("transfer-encoding", "chunked")), b"onetwo"),
]


@given(st.lists(st.integers(0, len(PLAIN + SIZED + CHUNKED)), max_size=12))
def test_requests_are_read_however_they_are_cut(cuts: list[int]) -> None:
    raw, reader = PLAIN + SIZED + CHUNKED, RequestReader()
    ends = sorted({0, *cuts, len(raw)})
    found = [one for start, end in pairwise(ends) for one in reader.feed(raw[start:end])]
    assert found == REQUESTS
    assert not reader.rest


@pytest.mark.parametrize(
    "raw",
    [
        b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nhost: a\r\n\r\n",
        b"GET x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\na",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\na",
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na",
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
    ],
)
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(WireError):
        list(RequestReader().feed(raw))


def test_what_follows_a_handshake_is_no_request() -> None:
    reader = RequestReader()
    (request,) = reader.feed(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: WebSocket\r\n\r\n\x81\x00GET / HTTP/1.1\r\n\r\n")
    assert request.is_handshake
    assert list(reader.feed(b"more")) == []
    assert reader.rest == b"\x81\x00GET / HTTP/1.1\r\n\r\nmore"


def test_an_answer_is_written_as_it_is_told() -> None:
    assert head_bytes(404, [("X-A", "ä")]) == b"HTTP/1.1 404 \r\nX-A: \xe4\r\n\r\n"
