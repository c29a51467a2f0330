"""Field values that decide about caching: what is malformed is nothing, and never raises."""

import re
import time
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.http import fields
from gateway.http.fields import MAX_SECONDS, byte_range, delta_seconds, directives, http_date, http_date_s, targeted
from tests.cache.stored import NOW_S

VALUES = st.lists(st.binary(max_size=80), max_size=4)
# Bytes of which values are made, so that chance finds quotes that do not end, and what looks like a directive.
WORDS = st.sampled_from(
    [b"no-store", b"private", b"no-cache", b"max-age", b"=", b"60", b'"', b"\\", b",", b" ", b"\t", b";", b"a", b"?1"]
)
NEARLY = st.lists(WORDS, max_size=12).map(b"".join)
# As long as a header block may be.
LONG = 65536


# -- dates (RFC 9110, section 5.6.7) ------------------------------------------------------------------------------

MOMENT_S = int(datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "sun, 06 nov 1994 08:49:37 gmt",
        "SUN, 06 NOV 1994 08:49:37 GMT",
        "SUNDAY, 06-nov-94 08:49:37 gmt",
        "SUN NOV  6 08:49:37 1994",
        " \tSun, 06 Nov 1994 08:49:37 GMT \t",
        "Mon, 06 Nov 1994 08:49:37 GMT",  # it was a Sunday; the day of the week tells nothing new
    ],
)
def test_a_date_has_three_forms_and_no_case(text: str) -> None:
    assert http_date_s(text.encode(), NOW_S) == MOMENT_S


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "784111777",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT+1",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1995 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nvo 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov \u0661994 08:49:37 GMT".replace("\u0661", "\u00b9"),
        "1994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT" + " " * 50,
    ],
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert http_date_s(text.encode("latin-1"), NOW_S) is None


def test_no_date_is_none() -> None:
    assert http_date_s(None) is None


@pytest.mark.parametrize("text", ["Sat, 31 Dec 2016 23:59:60 GMT", "Saturday, 31-Dec-16 23:59:60 GMT"])
def test_a_leap_second_is_the_one_before_it(text: str) -> None:
    assert http_date_s(text.encode(), NOW_S) == http_date_s(b"Sat, 31 Dec 2016 23:59:59 GMT")


def at(year: int, month: int = 1, day: int = 1) -> float:
    return datetime(year, month, day, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "now", "year"),
    [
        ("01-Jan-94", at(2023), 1994),
        ("01-Jan-23", at(2023), 2023),
        ("01-Jan-24", at(2023), 2024),
        ("01-Jan-72", at(2023), 2072),
        ("31-Dec-72", at(2023, 12, 31), 2072),
        ("31-Dec-73", at(2023, 6, 1), 1973),  # in the fiftieth year ahead, and more than fifty years ahead
        ("01-Feb-73", at(2023, 6, 1), 2073),
        ("01-Jan-74", at(2023), 1974),
        ("01-Jan-99", at(2023), 1999),
        ("01-Jan-00", at(2023), 2000),
        ("01-Jan-05", at(2080), 2105),
        ("01-Jan-31", at(2080), 2031),
        ("29-Feb-96", at(2023), 1996),
        ("01-Jan-70", 0, 1970),
    ],
)
def test_two_digits_of_a_year_lie_at_most_fifty_years_ahead(text: str, now: float, year: int) -> None:
    found = http_date_s(f"Monday, {text} 00:00:00 GMT".encode(), now)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC).year == year


@given(st.integers(0, 99), st.integers(int(at(1971)), int(at(2150))))
def test_a_year_of_two_digits_is_never_more_than_fifty_years_ahead_nor_behind(digits: int, now_s: int) -> None:
    found = http_date_s(f"Monday, 15-Jun-{digits:02} 00:00:00 GMT".encode(), now_s)
    assert found is not None
    year_s = 365.2425 * 86400
    assert -51 * year_s <= found - now_s <= 50 * year_s + 86400


@given(st.integers(0, 253402300799))
def test_a_date_that_is_written_is_read_again(seconds: int) -> None:
    assert http_date_s(http_date(seconds)) == seconds
    moment = datetime.fromtimestamp(seconds, UTC)
    assert http_date_s(moment.strftime("%a %b %e %H:%M:%S ").encode() + b"%04d" % moment.year) == seconds


def test_a_date_is_written_in_the_preferred_form() -> None:
    assert http_date(MOMENT_S) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_zone_of_the_machine_is_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    before = http_date_s(b"Sun, 06 Nov 1994 08:49:37 GMT"), http_date_s(b"Sun Nov  6 08:49:37 1994")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        after = http_date_s(b"Sun, 06 Nov 1994 08:49:37 GMT"), http_date_s(b"Sun Nov  6 08:49:37 1994")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert before == after == (MOMENT_S, MOMENT_S)


# -- lists (RFC 9110, section 5.6.1) ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b", ,\t,"], []),
        ([b"a"], ["a"]),
        ([b"a,b", b" c "], ["a", "b", "c"]),
        ([b",a ,\tb, ,"], ["a", "b"]),
        ([b'a="b,c", d'], ['a="b,c"', "d"]),
        ([b'a="b\\",c", d'], ['a="b\\",c"', "d"]),
        ([b'a="b\\\\", d'], ['a="b\\\\"', "d"]),
        ([b'a="b, c'], ['a="b', "c"]),  # what does not end is no quoted-string
        ([b'a="b", c="d, e'], ['a="b"', 'c="d', "e"]),
        ([b'a="b\\", c'], ['a="b\\"', "c"]),
        ([b'a="b" "c,d", e'], ['a="b" "c,d"', "e"]),
        ([b'x="y", a\\, b'], ['x="y"', "a\\", "b"]),  # outside of quotes a backslash is one
        ([b'x="y", a\\"b, c"'], ['x="y"', 'a\\"b, c"']),
        ([b'a="b', b'c", d'], ['a="b', 'c"', "d"]),  # no quoted-string goes on on the next line
    ],
)
def test_a_list_is_its_members(values: list[bytes], expected: list[str]) -> None:
    assert list(fields.members(values)) == expected


@given(VALUES | st.lists(NEARLY, max_size=3))
@example([b'"', b"\\"])
def test_no_octet_of_a_list_is_lost_but_commas_and_white_space(values: list[bytes]) -> None:
    kept = "".join(fields.members(values))
    for mark in ", \t":
        kept = kept.replace(mark, "")
    assert kept == b"".join(values).translate(None, b", \t").decode("latin-1")


# -- seconds (RFC 9111, section 1.2.2) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("60", 60),
        ("0060", 60),
        (str(2**31 - 1), 2**31 - 1),
        (str(2**31), MAX_SECONDS),
        (str(2**31 + 1), MAX_SECONDS),
        (str(2**64), MAX_SECONDS),
        ("9" * 10_000, MAX_SECONDS),
        (None, None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        (" 1", None),
        ("1 ", None),
        ("1s", None),
        ("0x10", None),
        ("1_0", None),
        ("\u00b2", None),
        ("\u0661", None),
    ],
)
def test_seconds_are_digits_and_never_overflow(text: str | None, expected: int | None) -> None:
    assert delta_seconds(text) == expected


# -- directives (RFC 9111, section 5.2) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {}),
        (",", {}),
        ("no-store", {"no-store": None}),
        ("No-Store, MAX-AGE=60", {"no-store": None, "max-age": "60"}),
        ('max-age="60"', {"max-age": "60"}),  # "recipients ought to accept both forms"
        ('x="a\\"b,c"', {"x": 'a"b,c'}),
        ("x=", {}),
        ('x=""', {"x": ""}),
        ("max-age=60, max-age=5", {"max-age": "60"}),  # the first of several (section 4.2.1)
        ("max-age, max-age=5", {"max-age": None}),
        ("max-age=x, max-age=5", {"max-age": "x"}),
        ("unheard-of, community=UCI, max-age=5", {"unheard-of": None, "community": "UCI", "max-age": "5"}),
    ],
)
def test_directives_have_a_name_and_perhaps_an_argument(value: str, expected: dict[str, str | None]) -> None:
    assert directives([value.encode()]) == expected


@pytest.mark.parametrize("name", ["private", "no-cache"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{}", None),
        ('{}="x"', "x"),
        ("{}=x", "x"),  # no sender should, but many do
        ('{}="X, y"', "X,y"),
        ('{}=" x ,\t, y,"', "x,y"),
        ('{}="x", {}="y"', "x,y"),
        ('{}="x", {}', None),
        ('{}, {}="x"', None),
        # Not a list of names: then it means the whole answer, which is safe.
        ('{}=""', None),
        ('{}=" "', None),
        ('{}=","', None),
        ("{}=", None),
        ('{}="x y"', None),
        ('{}="x', None),
        ('{} ="x"', None),
        ('{}= "x"', None),
        ('{}="x"y', None),
        ('{}="x", {}="y z"', None),
    ],
)
def test_what_is_limited_to_fields_names_them(name: str, value: str, expected: str | None) -> None:
    assert directives([value.replace("{}", name).encode()])[name] == expected


@pytest.mark.parametrize("name", ["private", "no-cache", "no-store"])
@pytest.mark.parametrize(
    "value",
    ["{}; max-age=60", "max-age=60; {}", "public {}", "{} x", "max-age=60 {}", 'x="y" {}', 'x="{}, max-age=60', "={}"],
)
def test_what_is_malformed_forbids_what_a_word_of_it_forbids(name: str, value: str) -> None:
    assert directives([value.replace("{}", name).encode()])[name] is None


@pytest.mark.parametrize(
    "value",
    [
        "max-age =60",
        "max-age= 60",
        "max-age=",
        "max-age=60 60",
        "max-age=60;public",
        "max-age=60 =60",
        "s-maxage =60",
        "max-age=600, s-maxage =60",
        "s-maxage =60, max-age=600",
        "public; max-age=60",
    ],
)
def test_a_malformed_number_of_seconds_is_none(value: str) -> None:
    found = directives([value.encode()])
    assert delta_seconds(found["max-age"]) is None
    assert "s-maxage" not in found
    assert "public" not in found


@given(st.lists(NEARLY, max_size=4))
def test_a_word_of_its_own_that_forbids_is_always_found(values: list[bytes]) -> None:
    assert "no-store" in directives([*values, b"no-store"])


# -- targeted fields (RFC 9213, a Dictionary of RFC 9651) ---------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("max-age=60", {"max-age": "60"}),
        ("max-age=60, no-store", {"max-age": "60", "no-store": None}),
        ("  max-age=60 ,\t private  ", {"max-age": "60", "private": None}),
        ('max-age=60;x;y=2;z="a, b;c", no-cache', {"max-age": "60", "no-cache": None}),
        ("no-store=?1", {"no-store": None}),
        ("no-store=?0", {}),  # said, and untrue
        ("max-age=60, max-age=5", {"max-age": "5"}),  # the last of several
        ("no-store, no-store=?0", {}),
        ("none", {"none": None}),
        ('private="x, y"', {"private": "x,y"}),
        ('no-cache="a;b"', {"no-cache": None}),
        ('private=""', {"private": None}),
        ("private=x", {"private": None}),  # a token, where a string must be
        ('private=("x")', {"private": None}),
        ("private=1", {"private": None}),
        ('max-age="60"', {"max-age": ""}),
        ("max-age=60.0", {"max-age": ""}),
        ("max-age=(60)", {"max-age": ""}),
        ("max-age=-1", {"max-age": "-1"}),
        ("max-age", {"max-age": None}),
        ('stale-while-revalidate="60"', {"stale-while-revalidate": ""}),
        (
            'a=:aGk=:, b=@1700000000, c=1.25, d=(1 2;x=1 "y");z, e=*t/k:, max-age=1',
            {"a": "", "b": "", "c": "", "d": "", "e": "", "max-age": "1"},
        ),
        ('a=%"caf%c3%a9", max-age=1', {"a": "", "max-age": "1"}),
        ("*a.b_c-1=1", {"*a.b_c-1": "1"}),
    ],
)
def test_a_targeted_field_is_a_dictionary(value: str, expected: dict[str, str | None]) -> None:
    assert targeted([value.encode()]) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "   ",
        "max-age=60,",
        ",max-age=60",
        "max-age=60,,no-store",
        "max-age=60 no-store",
        "max-age=60; no-store; =1",
        "Max-Age=60",
        "max-age=",
        "max-age= 60",
        "max-age =60",
        "max-age=1234567890123456",
        "max-age=1.",
        "max-age=1.2345",
        "max-age=1234567890123.1",
        "max-age=--1",
        "1=2",
        'private="x',
        'private="\\x"',
        'private="\u00e9"',
        "a=(1 2",
        "a=(1,2)",
        "a=(1\t2)",
        "a=:?:",
        "a=?2",
        "a=@1.5",
        'a=%"%C3"',
        "\tmax-age=60",
        "max-age=60\x0b",
    ],
)
def test_a_targeted_field_that_is_empty_or_malformed_is_ignored(value: str) -> None:
    assert targeted([value.encode("latin-1")]) is None


def test_the_lines_of_a_targeted_field_are_one_dictionary() -> None:
    assert targeted([b"max-age=60", b"no-store"]) == {"max-age": "60", "no-store": None}
    assert targeted([b"max-age=60", b""]) is None


# -- validators (RFC 9110, section 8.8.3) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b'"a"'], [b'"a"']),
        ([b'W/"a"'], [b'W/"a"']),
        ([b'"a", W/"b" ,"c"', b'"d"'], [b'"a"', b'W/"b"', b'"c"', b'"d"']),
        ([b'"a,b", "c"'], [b'"a,b"', b'"c"']),
        ([b'"\\"'], [b'"\\"']),  # no quoted-string: a backslash is one
        ([b'""'], [b'""']),
        ([b'"\xe9\x80"'], [b'"\xe9\x80"']),
        ([b"*"], [b"*"]),
        ([b" * "], [b"*"]),
        ([b"abc"], []),
        ([b""], []),
        ([b'"a'], []),
    ],
)
def test_entity_tags_are_found_in_their_list(values: list[bytes], expected: list[bytes]) -> None:
    assert fields.entity_tags(values) == expected


@pytest.mark.parametrize(
    ("value", "is_so"),
    [
        (b'"a"', True),
        (b'W/"a"', True),
        (b'""', True),
        (b'w/"a"', False),
        (b"a", False),
        (b'"a" ', False),
        (b'"a b"', False),
        (b'"a""', False),
        (b"*", False),
    ],
)
def test_an_entity_tag_is_quoted(value: bytes, *, is_so: bool) -> None:
    assert fields.is_entity_tag(value) is is_so


def test_weak_comparison_leaves_the_weakness_out() -> None:
    assert fields.opaque(b'W/"1"') == fields.opaque(b'"1"') != fields.opaque(b'W/"2"')


# -- ranges (RFC 9110, section 14.1.2) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-499", (0, 499)),
        ("bytes=500-999", (500, 999)),
        ("bytes=-500", (9500, 9999)),
        ("bytes=9500-", (9500, 9999)),
        ("bytes=0-0", (0, 0)),
        ("bytes=9999-", (9999, 9999)),
        ("bytes=0-", (0, 9999)),
        ("bytes=0-99999999", (0, 9999)),
        ("bytes=-99999999", (0, 9999)),
        ("BYTES=0-1", (0, 1)),
        ("bytes= 0-1 ", (0, 1)),
        ("bytes=00-01", (0, 1)),
    ],
)
def test_a_range_is_first_and_last_byte(value: str, expected: tuple[int, int]) -> None:
    assert byte_range(value.encode(), 10_000) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=1",
        "bytes=2-1",
        "bytes=a-b",
        "bytes=0 - 1",
        "bytes=0-1,3-4",
        "bytes=0-1,",
        "bytes=-1,0-1",
        "items=0-1",
        "bytes 0-1",
        "bytes=0-" + "9" * 30,
        "bytes=" + "9" * 30 + "-",
        "bytes=\u00b9-\u00b2",
    ],
)
def test_a_range_that_may_be_ignored_is(value: str) -> None:
    assert byte_range(value.encode("latin-1"), 10_000) is None


@pytest.mark.parametrize("value", ["bytes=10000-", "bytes=10000-10001", "bytes=99999999-", "bytes=-0", "bytes=-000"])
def test_a_range_outside_is_not_satisfiable(value: str) -> None:
    with pytest.raises(ValueError, match=r"of it|the end"):
        byte_range(value.encode(), 10_000)


@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=-1", "bytes=-0", "bytes=5-"])
def test_of_nothing_there_is_no_range(value: str) -> None:
    """A suffix of nothing would be satisfiable, but there is no Content-Range to say it with."""
    assert byte_range(value.encode(), 0) is None


@given(st.integers(1, 50), st.integers(0, 60), st.integers(0, 60))
def test_a_range_lies_within(size: int, first: int, last: int) -> None:
    body = bytes(range(size))
    for text, expected in ((f"bytes={first}-{last}", body[first : last + 1]), (f"bytes=-{last}", body[-last:])):
        try:
            found = byte_range(text.encode(), size)
        except ValueError:
            assert (first >= size) if text[6] != "-" else last == 0
        else:
            assert (first > last) if found is None else body[found[0] : found[1] + 1] == expected


# -- whatever comes -----------------------------------------------------------------------------------------------


@given(VALUES | st.lists(NEARLY, max_size=3), st.integers(0, 10))
def test_no_bytes_make_a_parser_raise(values: list[bytes], size: int) -> None:
    for name, text in directives(values).items():
        assert name
        assert text is None or isinstance(text, str)
        assert (delta_seconds(text) or 0) in range(MAX_SECONDS + 1)
    targeted(values)
    assert all(fields.is_entity_tag(tag) or tag == b"*" for tag in fields.entity_tags(values))
    for value in values:
        fields.is_entity_tag(value)
        http_date_s(value, NOW_S)
        try:
            byte_range(value, size)
        except ValueError as error:
            assert re.fullmatch("nothing of it|beyond the end", str(error))  # noqa: PT017  hypothesis decides


HARD = [
    b'"',
    b'""',
    b'"\\',
    b'\\"',
    b'"a,',
    b",",
    b" ",
    b" ,",
    b"a=",
    b'a="',
    b"a;",
    b"a=(1 ",
    b"a=((",
    b"(1;a=1 ",
    b"=a",
    b"a=:",
    b"1",
    b"-",
    b"W/",
    b'W/"a" ',
    b"no-store ",
    b'a=%"%aa',
    b'a="\\"',
]


@pytest.mark.parametrize("piece", HARD)
@pytest.mark.parametrize("before", [b"", b"a=(", b'a="', b'a=%"', b"bytes="])
def test_a_parser_takes_time_in_proportion(before: bytes, piece: bytes) -> None:
    """A block of header fields is at most some 64 KiB; none that size takes a tenth of a second."""
    value = (before + piece * LONG)[:LONG]
    for parse in (directives, targeted, fields.entity_tags, lambda values: list(fields.members(values))):
        begin_s = time.perf_counter()
        parse([value])
        assert time.perf_counter() - begin_s < 0.5
    begin_s = time.perf_counter()
    http_date_s(value)
    byte_range(value, 10_000)
    fields.is_entity_tag(value)
    assert time.perf_counter() - begin_s < 0.5
