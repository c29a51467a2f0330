"""What is an answer of Valkey's, in whatever pieces it comes, and what is none."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.resp import Garbage, Reader, Refusal, Reply, command


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"+OK\r\n", [b"OK"]),
        (b"$5\r\nhello\r\n", [b"hello"]),
        (b"$0\r\n\r\n", [b""]),
        (b"$-1\r\n", [None]),
        (b":42\r\n:-1\r\n", [42, -1]),
        (b"*2\r\n$1\r\na\r\n:7\r\n", [[b"a", 7]]),
        (b"*0\r\n", [[]]),
        (b"*-1\r\n", [None]),
        (b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nkey\r\n", [[b"0", [b"key"]]]),
        (b"$4\r\na\r\nb\r\n", [b"a\r\nb"]),
        (b"", []),
    ],
)
def test_what_is_an_answer(raw: bytes, expected: list[Reply]) -> None:
    assert list(Reader().feed(raw)) == expected
    reader = Reader()
    assert [reply for at in range(len(raw)) for reply in reader.feed(raw[at : at + 1])] == expected


def test_an_error_is_no_text() -> None:
    (reply,) = Reader().feed(b"-NOSCRIPT No matching script.\r\n")
    assert isinstance(reply, Refusal)
    assert reply.startswith("NOSCRIPT")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"$x\r\n",
        b"$999999999\r\n",
        b"$1\r\nab\r\n",
        b"*9999999\r\n",
        b":\r\n",
        b":1_0\r\n",
        b"*1\r\n" * 9,
        b"+" + b"a" * 20_000,
        b"%1\r\n",
    ],
)
def test_what_is_none(raw: bytes) -> None:
    with pytest.raises(Garbage):
        list(Reader().feed(raw))


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    with contextlib.suppress(Garbage):
        list(Reader().feed(raw))


def test_a_command_is_sent_as_texts_of_known_length() -> None:
    assert command("SET", "ä", 1, b"\r\n") == b"*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$1\r\n1\r\n$2\r\n\r\n\r\n"
