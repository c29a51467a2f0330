"""How raw segments are compared, which paths are refused, and what other servers could read in one."""

import re
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.paths import Reading, has_dot_piece, is_plain, is_refused, normalized, readings

# -- segments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("users", "users"),
        ("%75sers", "users"),
        ("%7Euser", "~user"),
        ("a%2fb", "a%2Fb"),  # a slash is none: only its hex digits change their case
        ("%41%2F%2e", "A%2F."),
        ("%2541", "%2541"),  # once, not twice
        ("%c3%a9", "%C3%A9"),
        ("a+b;c=1", "a+b;c=1"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%4", "%4"),
        ("%%41", "%%41"),
        ("", ""),
    ],
)
def test_a_segment_has_its_unreserved_characters_decoded_once(segment: str, expected: str) -> None:
    assert normalized(segment) == expected


raw = st.text(st.sampled_from("a.~-%2eEfF4105/;"), max_size=12)


@given(raw)
def test_a_segment_means_the_same_before_and_after(segment: str) -> None:
    assert unquote_to_bytes(normalized(segment)) == unquote_to_bytes(segment)


well_formed = st.lists(
    st.sampled_from("a.~-;@") | st.integers(0, 255).map(lambda octet: f"%{octet:02x}") | st.just("%2E"), max_size=8
).map("".join)


@given(well_formed)
def test_normalized_twice_is_normalized_once_for_well_formed_escapes(segment: str) -> None:
    assert normalized(normalized(segment)) == normalized(segment)


@pytest.mark.parametrize("segment", ["%%34%31", "%%410", "%", "%4", "%41%"])
def test_a_segment_with_a_malformed_escape_stays_as_it_is(segment: str) -> None:
    """Decoding `%41` in `%%410` would make the escape `%A0`, which nobody wrote."""
    assert normalized(segment) == segment


@given(raw, raw)
def test_equal_keys_mean_equal_segments(one: str, other: str) -> None:
    if normalized(one) == normalized(other):
        assert unquote_to_bytes(one) == unquote_to_bytes(other)


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        *("/.", "/..", "/a/../b", "/a/./b", "/a/..", "/%2e", "/%2E%2e/a", "/.%2e", "/a/%2e.", "/a/%2e./"),
        *("/..%2Fa", "/..%2fa", "/%2e%2e%2fa", "/x%2f..%2f..%2fa", "/a%2f.", "/a%2F..", "/a%2f../b"),
        *("/..%5Ca", "/a%5c..", "/..%5c..%5ca", "/..;/a", "/..;x=1/a", "/a;..", "/a;.;b", "/..%3bx", "/a%3B..%2fb"),
        *("/%00", "/a%00b", "/a/b%00", "/a\\b", "/..\\a", "/a/..\\"),
    ],
)
def test_a_dot_piece_a_backslash_or_a_nul_is_refused(path: str) -> None:
    assert is_refused(path)
    assert not is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/a", "/.well-known/x", "/a.b", "/a/.../b", "/a/..b", "/a/b..", "/%2e%2e%2e", "//a//", "/%0", "/a%"),
        *("/%252e%252e", "/..%252fa", "/%2500"),  # decode to %2e%2e, ..%2fa and %00, which are names
        *(
            "/a%2Fb",
            "/a%5Cb",
            "/a;x=1",
            "/a%3Bx",
            "/..%20/a",
            "/..%09/a",
            "/..%c0%afa",
            "/%c0%ae%c0%ae/a",
            "/..%ef%bc%8fa",
        ),
    ],
)
def test_what_only_looks_like_a_dot_piece_passes(path: str) -> None:
    assert not is_refused(path)


raw_paths = st.lists(
    st.sampled_from(
        ["a", ".", "..", "/", "%", "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", ";", "%3b", "%3B", "%25", "2", "e", "\\"]
    ),
    max_size=9,
).map(lambda parts: "/" + "".join(parts))


@given(raw_paths)
def test_dot_pieces_are_those_that_come_of_one_decoding_and_every_cut(path: str) -> None:
    slow = any({b".", b".."} & set(re.split(rb"[/\\;]", unquote_to_bytes(segment))) for segment in path[1:].split("/"))
    assert has_dot_piece(path) == slow


@given(raw_paths)
def test_a_plain_path_needs_no_further_look(path: str) -> None:
    if is_plain(path):
        assert not is_refused(path)
        assert list(readings([], path)) == [Reading(path)]


# -- readings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "read"),
    [
        ("/a/b", []),
        ("/a%20b", []),
        ("/a//b", ["/a/b"]),
        ("//a///b//", ["/a/b/"]),
        ("//", ["/"]),
        ("/a%2Fb", ["/a/b"]),
        ("/a%2fb", ["/a/b"]),
        ("/a/%2f/b", ["/a///b", "/a/b"]),
        ("/a%5cb", ["/a/b"]),
        ("/a%252fb", []),
        ("/a;x=1/b", ["/a/b"]),
        ("/;x/b", ["//b", "/b"]),
        ("/a/;x", ["/a/"]),
        ("/a%3bx/b", ["/a;x/b", "/a/b"]),
        ("/a;x%2fb", ["/a", "/a;x/b", "/a/b"]),
        ("/a%3Ab", ["/a:b"]),
        ("/a%40%2B", ["/a@+"]),
        ("/a//b%2Fc%5Cd", ["/a/b%2Fc%5Cd", "/a//b/c%5Cd", "/a/b/c%5Cd", "/a//b/c/d", "/a/b/c/d"]),
    ],
)
def test_the_rest_is_read_in_every_way_that_a_server_may_read_it(rest: str, read: list[str]) -> None:
    assert sorted(one.path for one in readings([], rest)) == sorted([rest, *read])
    assert {one.path for one in readings([("p", False)], rest)} == {"/p" + one for one in [rest, *read]}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("group%2Fapp", [("/p/group%2Fapp/x", ()), ("/p/group/app/x", (False, True, True, False))]),
        ("admin;v=1", [("/p/admin;v=1/x", ()), ("/p/admin/x", (False, True, False))]),
        ("a%40b", [("/p/a%40b/x", ()), ("/p/a@b/x", (False, True, False))]),
        ("plain%20one", [("/p/plain%20one/x", ())]),
        ("", [("/p//x", ()), ("/p/x", ())]),  # nothing was taken: there is no value to keep
    ],
)
def test_a_value_is_left_alone_and_then_read(value: str, read: list[tuple[str, tuple[bool, ...]]]) -> None:
    assert list(readings([("p", False), (value, True), ("x", False)], "")) == [Reading(*one) for one in read]


def test_a_long_path_is_read_in_its_length() -> None:
    """Each reading once over the text, whatever is in it: 64 KiB of the worst are some ten milliseconds."""
    for worst in ("%2F;%3b", "//", "/;", "%2f", "%3A/", "%5c%2f;"):
        path = "/" + worst * (60_000 // len(worst))
        assert len(list(readings([("a", False), (path[1:].replace("/", "%2f"), True)], path))) <= 48
