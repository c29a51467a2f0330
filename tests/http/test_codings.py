"""Content codings undone: whatever was coded comes back, and a bomb goes off where the limit is."""

import contextlib
import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import codings
from gateway.http.codings import TooLarge, Undecodable


def bare(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


def decoded(body: bytes, *names: str, max_bytes: int = 10_000_000) -> bytes:
    return b"".join(codings.decoded(body, names, max_bytes))


WAYS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}


@given(st.binary(max_size=2000), st.lists(st.sampled_from(sorted(WAYS)), max_size=4))
def test_what_was_coded_comes_back(data: bytes, names: list[str]) -> None:
    body = data
    for name in names:
        body = WAYS[name](body)
    assert decoded(body, *names) == data


@given(st.binary(max_size=2000))
def test_a_bare_stream_passes_for_deflate(data: bytes) -> None:
    assert decoded(bare(data), "deflate") == data


@given(st.binary(max_size=500), st.binary(max_size=500), st.integers(0, 9))
def test_members_of_gzip_follow_one_another_and_zeros_are_padding(first: bytes, second: bytes, padding: int) -> None:
    assert decoded(gzip.compress(first) + gzip.compress(second) + b"\0" * padding, "gzip") == first + second


@given(st.binary(max_size=300), st.sampled_from(sorted(WAYS)), st.data())
def test_what_breaks_off_is_undecodable(data: bytes, name: str, draw: st.DataObject) -> None:
    whole = WAYS[name](data)
    with pytest.raises(Undecodable):
        decoded(whole[: draw.draw(st.integers(1, len(whole) - 1))], name)


@given(st.binary(min_size=1, max_size=300), st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=3))
def test_anything_is_decoded_or_undecodable(body: bytes, names: list[str]) -> None:
    with contextlib.suppress(Undecodable):
        decoded(body, *names)


@pytest.mark.parametrize("names", [["gzip"], ["deflate"], ["gzip", "gzip"], ["deflate", "gzip", "x-gzip"]])
def test_not_much_more_than_the_limit_is_ever_made(names: list[str]) -> None:
    body = b"0" * 30_000_000
    for name in names:
        body = WAYS[name](body)
    made: list[int] = []
    with pytest.raises(TooLarge):
        made.extend(len(piece) for piece in codings.decoded(body, names, 1_000_000))
    assert sum(made) <= 1_000_000


@given(st.integers(0, 200_000))
def test_the_limit_is_exact(size: int) -> None:
    body = gzip.compress(b"0" * size)
    assert len(decoded(body, "gzip", max_bytes=size)) == size
    if size:
        with pytest.raises(TooLarge):
            decoded(body, "gzip", max_bytes=size - 1)


def test_members_without_end_are_undecodable() -> None:
    with pytest.raises(Undecodable, match="members"):
        decoded(gzip.compress(b"") * 20_000, "gzip")


def test_which_codings_an_answer_has() -> None:
    assert codings.of([(b"content-type", b"a"), (b"content-length", b"1")]) == []
    assert codings.of([(b"Content-Encoding", b"Identity, GZIP"), (b"content-encoding", b"br,")]) == ["gzip", "br"]


@pytest.mark.parametrize(
    ("names", "known"),
    [
        (["gzip"], True),
        (["deflate", "x-gzip"], True),
        (["compress"], False),
        (["gzip", "aes"], False),
        (["gzip"] * 5, False),
    ],
)
def test_which_are_known(names: list[str], known: bool) -> None:
    assert codings.known(names) is known


def test_fields_agree_with_the_body() -> None:
    pairs = [
        (b"ETag", b'"x"'),
        (b"content-encoding", b"gzip"),
        (b"Content-Length", b"9"),
        (b"x", b"y"),
        (b"Digest", b"z"),
    ]
    assert codings.without(pairs, 7) == [(b"ETag", b'W/"x"'), (b"x", b"y"), (b"content-length", b"7")]
    assert codings.without([(b"etag", b'W/"x"')], None) == [(b"etag", b'W/"x"')]


@pytest.mark.parametrize(("name", "package"), [("br", "brotli"), ("zstd", "zstandard")])
def test_a_coding_whose_package_is_installed_is_undone(name: str, package: str) -> None:
    made = pytest.importorskip(package).compress(b"0" * 3_000_000)
    assert codings.known([name])
    assert decoded(made, name) == b"0" * 3_000_000
    with pytest.raises(TooLarge):
        decoded(made, name, max_bytes=1_000_000)
    with pytest.raises(Undecodable):
        decoded(made[:-1], name)
