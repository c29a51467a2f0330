"""A stored answer meets a request's conditions and ranges: 200, 206, 304 or 416."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.conditional import applied
from gateway.http.headers import Pairs
from tests.cache.stored import NOW_S, date, entry, pairs, response

BODY = b"0123456789"
DESCRIBED = ["Cache-Control: max-age=60", "Content-Length: 10", "Content-Type: a/b", "Content-Encoding: x"]
TAGGED = 'ETag: "1"'
MODIFIED = f"Last-Modified: {date(-1000)}"


def answer(stored: list[str], *asked: str, method: str = "GET", status: int = 200) -> tuple[int, Pairs, bytes]:
    found = entry(*DESCRIBED, *stored, status=status, body=BODY)
    return applied(found, [*found.pairs, (b"age", b"7")], method, pairs(*asked))


def status_of(stored: list[str], *asked: str, method: str = "GET", status: int = 200) -> int:
    return answer(stored, *asked, method=method, status=status)[0]


def test_who_asks_for_nothing_gets_all_of_it() -> None:
    found = entry(*DESCRIBED, body=BODY)
    assert applied(found, [(b"a", b"b")], "GET", pairs("Accept: a/b")) == (200, [(b"a", b"b")], BODY)


# -- If-None-Match (RFC 9110, section 13.1.2) ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "asked", "status"),
    [
        (TAGGED, '"1"', 304),
        (TAGGED, 'W/"1"', 304),  # weak comparison
        ('ETag: W/"1"', '"1"', 304),
        ('ETag: W/"1"', 'W/"1"', 304),
        (TAGGED, '"2"', 200),
        (TAGGED, '"2", W/"1" , "3"', 304),
        (TAGGED, '"2", "3"', 200),
        (TAGGED, '"2","1"', 304),
        (TAGGED, "*", 304),
        (TAGGED, " * ", 304),
        (TAGGED, "1", 200),
        (TAGGED, "", 200),
        (TAGGED, '"1', 200),
        ('ETag: ""', '""', 304),
        ('ETag: "a,b"', '"a,b"', 304),
        ('ETag: "a,b"', '"a", "b"', 200),
        ('ETag: "A"', '"a"', 200),
        (MODIFIED, '"1"', 200),
        (MODIFIED, "*", 304),
        ("ETag: 1", "1", 200),
    ],
)
def test_if_none_match_is_compared_weakly(stored: str, asked: str, status: int) -> None:
    assert status_of([stored], f"If-None-Match: {asked}") == status
    assert status_of([stored], f"If-None-Match: {asked}", method="HEAD") == status


def test_the_tags_of_several_lines_are_one_list() -> None:
    assert status_of([TAGGED], 'If-None-Match: "2"', 'If-None-Match: "1"') == 304


def test_if_none_match_stands_before_if_modified_since() -> None:
    assert status_of([TAGGED, MODIFIED], 'If-None-Match: "2"', f"If-Modified-Since: {date()}") == 200
    assert status_of([TAGGED, MODIFIED], 'If-None-Match: "1"', f"If-Modified-Since: {date(-2000)}") == 304
    assert status_of([MODIFIED], "If-None-Match: ", f"If-Modified-Since: {date()}") == 200


# -- If-Modified-Since (RFC 9110, section 13.1.3) -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "since", "status"),
    [
        (MODIFIED, date(-1000), 304),
        (MODIFIED, date(-999), 304),
        (MODIFIED, date(9999), 304),
        (MODIFIED, date(-1001), 200),
        (MODIFIED, date(-1000).upper(), 304),
        (MODIFIED, "yesterday", 200),
        (MODIFIED, "", 200),
        (MODIFIED, "0", 200),
        (MODIFIED, f"{date()}, {date()}", 200),
        # Without Last-Modified: when it was made (RFC 9111, section 4.3.2).
        ("X: y", date(), 304),
        ("X: y", date(-1), 200),
        (f"Date: {date(-30)}", date(-30), 304),
        (f"Date: {date(-30)}", date(-31), 200),
        ("Date: yesterday", date(), 304),
        ("Last-Modified: yesterday", date(), 304),
        (TAGGED, date(-1), 200),
    ],
)
def test_if_modified_since_is_compared_with_when_it_was_modified(stored: str, since: str, status: int) -> None:
    assert status_of([stored], f"If-Modified-Since: {since}") == status
    assert status_of([stored], f"If-Modified-Since: {since}", method="HEAD") == status


def test_two_dates_are_none() -> None:
    assert status_of([MODIFIED], f"If-Modified-Since: {date()}", f"If-Modified-Since: {date()}") == 200


# -- what is for the origin, and for other answers ----------------------------------------------------------------


@pytest.mark.parametrize("asked", ['If-Match: "2"', f"If-Unmodified-Since: {date(-9999)}"])
def test_what_only_an_origin_can_judge_is_not_judged(asked: str) -> None:
    assert status_of([TAGGED, MODIFIED], asked) == 200


@pytest.mark.parametrize("status", [203, 204, 301, 404, 410, 500])
@pytest.mark.parametrize(
    "asked", ['If-None-Match: "1"', "If-None-Match: *", f"If-Modified-Since: {date()}", "Range: bytes=0-1"]
)
def test_conditions_are_for_what_is_200_without_them(status: int, asked: str) -> None:
    assert status_of([TAGGED, MODIFIED], asked, status=status) == status


# -- 304 (RFC 9110, section 15.4.5) -------------------------------------------------------------------------------


def test_a_304_says_what_a_200_would_have_said_of_itself_and_nothing_of_a_body() -> None:
    stored = [
        TAGGED,
        MODIFIED,
        f"Expires: {date(60)}",
        "Vary: x",
        "Content-Location: /y",
        "Content-Language: de",
        "X: z",
    ]
    status, said, body = answer(stored, 'If-None-Match: "1"')
    names = {name for name, _ in said}
    assert (status, body) == (304, b"")
    assert {b"content-location", b"date", b"etag", b"vary", b"cache-control", b"expires"} <= names
    assert {b"last-modified", b"age", b"x"} <= names
    assert not {b"content-length", b"content-type", b"content-encoding", b"content-language"} & names


# -- Range (RFC 9110, section 14.2) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "body", "said"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-", b"456789", "bytes 4-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=0-999", BODY, "bytes 0-9/10"),
        ("bytes=-999", BODY, "bytes 0-9/10"),
    ],
)
def test_a_range_is_cut_out_of_a_whole_answer(asked: str, body: bytes, said: str) -> None:
    status, found, part = answer([TAGGED, MODIFIED, "Vary: x", "X: z"], f"Range: {asked}")
    assert (status, part) == (206, body)
    fields = dict(found)
    assert fields[b"content-range"] == said.encode()
    assert fields[b"content-length"] == b"%d" % len(body)
    assert [name for name, _ in found].count(b"content-length") == 1
    assert {b"date", b"cache-control", b"etag", b"vary", b"content-type", b"content-encoding", b"x"} <= fields.keys()


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999-"])
def test_a_range_beyond_the_end_cannot_be_satisfied(asked: str) -> None:
    status, found, body = answer([TAGGED, f"Expires: {date(60)}", "CDN-Cache-Control: max-age=60"], f"Range: {asked}")
    assert (status, body) == (416, b"")
    assert (b"content-range", b"bytes */10") in found
    assert (b"content-length", b"0") in found


def test_what_cannot_be_satisfied_says_nothing_that_another_cache_could_keep_it_by() -> None:
    """It answers this request; kept for its URL, it would answer all that come later."""
    stored = ["Surrogate-Control: max-age=60", f"Expires: {date(60)}", "CDN-Cache-Control: max-age=60", "Vary: x"]
    _, found, _ = answer(stored, "Range: bytes=10-")
    assert [value for name, value in found if name == b"cache-control"] == [b"no-store"]
    assert not {b"expires", b"cdn-cache-control", b"surrogate-control", b"content-type"} & dict(found).keys()
    assert dict(found)[b"vary"] == b"x"


@pytest.mark.parametrize(
    "asked",
    [
        ["Range: bytes=0-1,3-4"],
        ["Range: bytes=0-1", "Range: bytes=3-4"],
        ["Range: bytes=1-0"],
        ["Range: bytes=x"],
        ["Range: items=0-1"],
        ["Range: "],
    ],
)
def test_a_range_that_is_not_understood_gets_all_of_it(asked: list[str]) -> None:
    status, found, body = answer([TAGGED], *asked)
    assert (status, body) == (200, BODY)
    assert b"content-range" not in dict(found)


def test_a_range_is_for_get_alone() -> None:
    assert status_of([], "Range: bytes=0-1", method="HEAD") == 200


def test_of_nothing_there_is_no_range() -> None:
    found = entry("Cache-Control: max-age=60", "Content-Length: 0")
    assert applied(found, [], "GET", pairs("Range: bytes=-5")) == (200, [], b"")


def test_a_condition_stands_before_a_range() -> None:
    assert status_of([TAGGED], 'If-None-Match: "1"', "Range: bytes=0-1") == 304
    assert status_of([TAGGED], 'If-None-Match: "2"', "Range: bytes=0-1") == 206
    assert status_of([MODIFIED], f"If-Modified-Since: {date()}", "Range: bytes=99-") == 304


# -- If-Range (RFC 9110, section 13.1.5) --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "asked", "status"),
    [
        ([TAGGED], '"1"', 206),
        ([TAGGED], '"2"', 200),
        ([TAGGED], 'W/"1"', 200),  # strong comparison
        (['ETag: W/"1"'], 'W/"1"', 200),
        (['ETag: W/"1"'], '"1"', 200),
        ([], '"1"', 200),
        ([TAGGED], "1", 200),
        ([TAGGED], "", 200),
        ([MODIFIED], date(-1000), 206),
        ([TAGGED, MODIFIED], date(-1000), 206),
        ([MODIFIED], date(-999), 200),  # exactly, not "since"
        ([MODIFIED], date(), 200),
        ([MODIFIED], date(-1000).upper(), 200),
        ([TAGGED], date(-1000), 200),
        ([f"Last-Modified: {date(-60)}"], date(-60), 206),
        ([f"Last-Modified: {date(-59)}"], date(-59), 200),  # it may have changed twice since: weak
        ([f"Last-Modified: {date(-60)}", f"Date: {date(-30)}"], date(-60), 200),
        (["Last-Modified: 0"], "0", 200),
    ],
)
def test_if_range_is_compared_strongly(stored: list[str], asked: str, status: int) -> None:
    assert status_of(stored, f"If-Range: {asked}", "Range: bytes=0-1") == status


def test_where_if_range_fails_also_a_range_beyond_the_end_gets_all_of_it() -> None:
    assert status_of([TAGGED], 'If-Range: "2"', "Range: bytes=99-") == 200
    assert status_of([TAGGED], 'If-Range: "1"', "Range: bytes=99-") == 416


def test_if_range_without_a_range_is_ignored() -> None:
    assert status_of([TAGGED], 'If-Range: "2"') == 200


# -- whatever is asked --------------------------------------------------------------------------------------------

ASKED = st.lists(
    st.tuples(
        st.sampled_from([b"if-none-match", b"if-modified-since", b"if-range", b"range"]),
        st.binary(max_size=20)
        | st.sampled_from([b'"1"', b'W/"1"', b"*", b"bytes=0-3", b"bytes=-2", b"bytes=20-", date(-1000).encode()]),
    ),
    max_size=4,
)


@given(ASKED, st.sampled_from(["GET", "HEAD"]), st.sampled_from([[TAGGED], [MODIFIED], [TAGGED, MODIFIED], []]))
def test_status_fields_and_body_always_fit(asked: Pairs, method: str, stored: list[str]) -> None:
    found = entry(*DESCRIBED, *stored, body=BODY)
    status, said, body = applied(found, [*found.pairs], method, asked)
    fields = dict(said)
    assert status in {200, 206, 304, 416}
    assert fields.get(b"content-length", b"0") == b"%d" % len(body)
    assert body in BODY
    assert (body == BODY) or status != 200
    assert (b"content-range" in fields) is (status in {206, 416})
    assert fields[b"date"] == date().encode()
    if status == 206:
        first, last = fields[b"content-range"].split()[1].split(b"/")[0].split(b"-")
        assert body == BODY[int(first) : int(last) + 1]


def test_the_whole_is_not_changed_by_asking() -> None:
    said = response(*DESCRIBED, TAGGED, at_s=NOW_S)
    found = entry(*DESCRIBED, TAGGED, body=BODY)
    whole = [*found.pairs]
    for asked in ('If-None-Match: "1"', "Range: bytes=0-1", "Range: bytes=99-"):
        applied(found, whole, "GET", pairs(asked))
    assert whole == [*found.pairs] == [*said.pairs]
