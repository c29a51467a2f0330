"""Which answers are compressed, and what becomes of their fields, as values; and that what is coded decodes."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.answers.coders import stream_coder, whole_coder
from gateway.answers.compress import Coded
from gateway.answers.compression import NOTHING, Decision, coded_pairs, decide, is_text, unchanged_pairs, varying
from gateway.http.headers import Pairs

TEXT: Pairs = [(b"content-type", b"text/html; charset=utf-8")]
TAKES: Pairs = [(b"accept-encoding", b"gzip, zstd")]


@pytest.mark.parametrize(
    ("method", "request_fields", "status", "pairs", "size", "streams", "decision"),
    [
        ("GET", TAKES, 200, TEXT, 5000, False, Decision("zstd", varies=True)),
        ("GET", TAKES, 200, TEXT, None, True, Decision("gzip", varies=True)),
        ("POST", TAKES, 201, TEXT, 1024, False, Decision("zstd", varies=True)),
        ("HEAD", TAKES, 200, TEXT, 5000, False, Decision("zstd", varies=True)),
        ("GET", TAKES, 404, TEXT, 5000, False, Decision("zstd", varies=True)),
        ("GET", TAKES, 200, TEXT, 1023, False, Decision(varies=True)),
        ("GET", TAKES, 200, TEXT, 0, False, Decision(varies=True)),
        ("GET", [(b"accept-encoding", b"gzip, identity;q=0")], 200, TEXT, 10, False, Decision("gzip", varies=True)),
        ("GET", [(b"accept-encoding", b"identity;q=0")], 200, TEXT, 5000, False, Decision(varies=True)),
        ("GET", [], 200, TEXT, 5000, False, Decision(varies=True)),
        ("GET", [*TAKES, (b"range", b"bytes=0-5")], 200, TEXT, 5000, False, Decision(varies=True)),
        ("GET", [*TAKES, (b"cache-control", b"no-transform")], 200, TEXT, 5000, False, Decision(varies=True)),
        ("GET", TAKES, 206, [*TEXT, (b"content-range", b"bytes 0-5/10")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [*TEXT, (b"content-range", b"bytes 0-5/10")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [*TEXT, (b"content-encoding", b"br")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [*TEXT, (b"content-encoding", b"identity")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [*TEXT, (b"cache-control", b"max-age=1, No-Transform")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [(b"content-type", b"image/png")], 5000, False, NOTHING),
        ("GET", TAKES, 200, [], 5000, False, NOTHING),
        ("GET", TAKES, 101, TEXT, None, True, NOTHING),
        *(("GET", TAKES, status, TEXT, None, False, NOTHING) for status in (204, 205, 304)),
    ],
)
def test_what_is_compressed(
    method: str,
    request_fields: Pairs,
    status: int,
    pairs: Pairs,
    size: int | None,
    streams: bool,
    decision: Decision,
) -> None:
    assert decide(method, request_fields, status, pairs, size, streams=streams) == decision


@pytest.mark.parametrize(
    ("media", "expected"),
    [
        *((media, True) for media in (b"text/plain", b"TEXT/CSS", b"text/event-stream", b"application/json; a=b")),
        *((media, True) for media in (b"application/problem+json", b"image/svg+xml", b"application/x-ndjson")),
        *((media, True) for media in (b"application/javascript", b"application/xhtml+xml", b"application/yaml")),
        *((media, False) for media in (b"image/png", b"application/zip", b"application/octet-stream", b"text", b"")),
        *((media, False) for media in (b"application/grpc", b"video/mp4", b"application/jsonx", b"\xff/\xfe")),
        (None, False),
    ],
)
def test_what_is_text(media: bytes | None, expected: bool) -> None:
    assert is_text(media) is expected


def test_fields_of_what_is_coded() -> None:
    pairs: Pairs = [
        *TEXT,
        (b"etag", b'"a"'),
        (b"accept-ranges", b"bytes"),
        (b"content-length", b"5000"),
        (b"content-md5", b"x"),
        (b"vary", b"Origin"),
        (b"set-cookie", b"a=1"),
    ]
    assert coded_pairs(pairs, "gzip", 77) == [
        *TEXT,
        (b"etag", b'W/"a"'),
        (b"vary", b"Origin"),
        (b"set-cookie", b"a=1"),
        (b"content-length", b"77"),
        (b"content-encoding", b"gzip"),
        (b"vary", b"Accept-Encoding"),
    ]


@pytest.mark.parametrize("vary", [b"*", b"Origin, accept-encoding"])
def test_vary_is_said_once(vary: bytes) -> None:
    assert varying([(b"vary", vary)]) == [(b"vary", vary)]


@pytest.mark.parametrize(
    ("known", "tag", "weak"),
    [
        (b'W/"a"', b'"a"', True),
        (b'"x", W/"a"', b'"a"', True),
        (b'W/"a"', b'W/"a"', True),
        (b'"a"', b'"a"', False),  # it has the answer as it is
        (b"*", b'"a"', False),
        (b'W/"b"', b'"a"', False),
    ],
)
def test_a_304_has_the_tag_that_the_client_knows(known: bytes, tag: bytes, weak: bool) -> None:
    found = unchanged_pairs([(b"if-none-match", known)], [(b"etag", tag)])
    assert found == ([(b"etag", b'W/"a"'), (b"vary", b"Accept-Encoding")] if weak else None)


def decoded(coding: str, data: bytes) -> bytes:
    return gzip.decompress(data) if coding == "gzip" else zstandard.ZstdDecompressor().decompressobj().decompress(data)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@given(data=st.binary(max_size=5000))
def test_what_is_whole_decodes(coding: str, data: bytes) -> None:
    assert decoded(coding, whole_coder(coding)(data)) == data


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@given(sizes=st.lists(st.integers(0, 200_000), max_size=5))
@settings(max_examples=20)
def test_what_streams_decodes_however_it_is_cut(coding: str, sizes: list[int]) -> None:
    text = bytes(range(256)) * 800
    sent = [text[:size] for size in sizes]

    async def pieces() -> AsyncIterator[bytes]:
        for piece in sent:
            yield piece

    async def collect() -> bytes:
        return b"".join([piece async for piece in Coded(pieces(), stream_coder(coding))])

    assert decoded(coding, asyncio.run(collect())) == b"".join(sent)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_each_piece_can_be_read_when_it_has_come(coding: str) -> None:
    coder = stream_coder(coding)
    if coding == "gzip":
        import zlib

        decode: Any = zlib.decompressobj(31).decompress
    else:
        decode = zstandard.ZstdDecompressor().decompressobj().decompress
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        assert decode(coder.code(event)) == event


async def test_a_body_that_nobody_reads_is_closed() -> None:
    class Body:
        closed = False

        def __aiter__(self) -> "Body":
            return self

        async def __anext__(self) -> bytes:
            return b"x"

        async def aclose(self) -> None:
            self.closed = True

    body = Body()
    coded = Coded(body, stream_coder("gzip"))
    await coded.aclose()
    assert body.closed
    with pytest.raises(StopAsyncIteration):
        await anext(coded)
