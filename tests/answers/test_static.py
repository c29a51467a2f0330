"""Which file a path means, and what a request makes of it, as values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.answers.static import Found, accepted_codings, names_in, part_for, type_of

FOUND = Found("a.txt", 10, 1_700_000_000 * 10**9)


@pytest.mark.parametrize(
    ("rest", "names"),
    [
        ("/a", ("a",)),
        ("/", ("",)),
        ("/a/", ("a", "")),
        ("/a%20b/c", ("a b", "c")),
        ("/%C3%A9", ("é",)),
        *(
            (rest, None)
            for rest in ("/.", "/..", "/.a", "/a/../b", "/%2e%2e", "/a%2Fb", "/a%5Cb", "/%00", "//a", "/%FF")
        ),
    ],
)
def test_names(rest: str, names: tuple[str, ...] | None) -> None:
    assert names_in(rest) == names


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=30))
def test_no_name_climbs_or_hides(rest: str) -> None:
    for name in names_in("/" + rest) or ():
        assert not name.startswith(".")
        assert not {"/", "\0", "\\"} & set(name)


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        (b"gzip, br", {b"br", b"gzip"}),
        (b"GZIP;q=0.1", {b"gzip"}),
        (b"*", {b"br", b"gzip"}),
        (b"*;q=0, gzip", {b"gzip"}),
        (b"br;q=0", set()),
        (b"br;q=rubbish", set()),
        (b"", set()),
    ],
)
def test_codings(value: bytes, codings: set[bytes]) -> None:
    assert accepted_codings([value]) == codings


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", b"text/html; charset=utf-8"),
        ("a.js", b"text/javascript; charset=utf-8"),
        ("a.mjs", b"text/javascript; charset=utf-8"),
        ("a.json", b"application/json"),
        ("a.svg", b"image/svg+xml"),
        ("a.png", b"image/png"),
        ("a.wasm", b"application/wasm"),
        ("a.tar.gz", b"application/gzip"),
        ("a.unheard", b"application/octet-stream"),
        ("a", b"application/octet-stream"),
    ],
)
def test_types(name: str, kind: bytes) -> None:
    assert type_of(name) == kind


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since"]),
            st.sampled_from([FOUND.etag, b"*", b"bytes=0-0", b"bytes=-3", b"bytes=99-", b'"x"', b"rubbish"]),
        ),
        max_size=4,
    ),
    st.sampled_from(["GET", "HEAD"]),
)
def test_a_part_lies_in_the_file_and_says_its_length(request: list[tuple[bytes, bytes]], method: str) -> None:
    part = part_for(FOUND, request, method)
    assert part.status in {200, 206, 304, 412, 416}
    assert 0 <= part.first <= part.first + part.length <= FOUND.size
    lengths = [int(value) for name, value in part.pairs if name == b"content-length"]
    assert lengths == ([part.length] if part.status in {200, 206, 416} else [])
