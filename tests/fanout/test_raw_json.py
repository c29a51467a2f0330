"""JSON cut and joined byte for byte."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.fanout.raw_json import (
    NotJson,
    NoValue,
    TooMany,
    as_object,
    checked,
    encoded,
    flat,
    items_of,
    joined,
    members_of,
    on_one_line,
    picked,
    scalar,
)

ODD = [
    "12345678901234567890123456789",
    "-0",
    "1.10",
    "1e400",
    "1E+2",
    "0.1000000000000000055511151231257827021181583404541015625",
    '"\\u00e9\\/\\ud83d\\ude00"',
    '"é日😀"',
    '""',
    "[]",
    "{}",
    "[ ]",
    '{ "a" : 1 , "b":[ 1,2 ] }',
    "null",
    "true",
    '{"a":1,"a":2}',
]
BLANK = st.text(alphabet=" \t\r\n", max_size=2)


@st.composite
def texts(draw: st.DrawFn, depth: int = 3) -> str:
    """A JSON text, with white space and odd spellings, not what an encoder would write."""
    kinds = ["odd", "number", "string", *(["list", "object"] if depth else [])]
    match draw(st.sampled_from(kinds)):
        case "odd":
            return draw(st.sampled_from(ODD))
        case "number":
            return str(draw(st.integers()))
        case "string":
            return json.dumps(draw(st.text()), ensure_ascii=draw(st.booleans())).encode("utf-8", "replace").decode()
        case "list":
            items = draw(st.lists(texts(depth - 1), max_size=4))
            return "[" + ",".join(draw(BLANK) + item + draw(BLANK) for item in items) + "]"
        case _:
            members = draw(st.dictionaries(st.text("abé ", max_size=3), texts(depth - 1), max_size=4))
            blank = draw(BLANK)
            return "{" + ",".join(f"{blank}{json.dumps(k)}{blank}:{blank}{v}" for k, v in members.items()) + "}"


# -- checked ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ODD)
def test_an_odd_spelling_arrives_as_it_is(text: str) -> None:
    assert checked(f" \r\n\t{text}\n ".encode()) == text.encode()


HALVES = [
    "\\ud800",
    "\\uDfFf",
    "a\\udc00b",
    "\\\\\\ud83dx",
    "\\ud83d\\ud83d",
    "\\ude00\\ud83d",
    "\\ud83d\\u0041",
    "\\ud83dé",
]


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("form", ['"{}"', ' ["x", "{}"] ', '{{"{}":1}}', '{{"a":{{"b":"{}"}}}}\r\n'])
def test_half_a_surrogate_pair_arrives_as_it_is(form: str, half: str) -> None:
    text = form.format(half)
    assert json.loads(text) is not None
    assert checked(text.encode()) == text.strip().encode()


@pytest.mark.parametrize("half", HALVES[:3])
@pytest.mark.parametrize(
    "form", ["{}", '"{}', '["{}",]', '{{"a":"{}"', '"{}"\xff', '"{}" 1', '"\\x{}"', '"{}\n"', '"\\ud8{}"', '"\\u{}"']
)
def test_half_a_surrogate_pair_excuses_nothing_else(form: str, half: str) -> None:
    with pytest.raises(NotJson):
        checked(form.format(half).encode("latin-1"))


@given(st.text(alphabet=st.sampled_from(list('\\"uUdD89abAB01 {}[]:,é'))))
@example('"\\\\ud800"')
@example('"\\\\\\ud800"')
def test_what_passes_is_json_whatever_halves_it_holds(text: str) -> None:
    try:
        found = checked(text.encode())
    except NotJson:
        with pytest.raises(ValueError):  # noqa: PT011 - a JSONDecodeError
            json.loads(text)
    else:
        assert found == text.strip().encode()
        json.loads(text)


@pytest.mark.parametrize("half", HALVES)
def test_what_is_looked_into_holds_whole_pairs(half: str) -> None:
    text = f'{{"a":{{"{half}":1}},"b":["{half}"],"c":"{half}"}}'.encode()
    for fields in (["a", "x"], ["c"]):
        with pytest.raises(NoValue):
            scalar(text, fields)
    with pytest.raises(NoValue):
        items_of(text, ["b"])
    for look in (lambda: picked(text, ["b"]), lambda: picked(joined([text]), ["b"]), lambda: members_of(text)):
        with pytest.raises(NotJson):
            look()


@given(texts())
def test_what_is_json_arrives_byte_for_byte(text: str) -> None:
    assert checked(text.encode()) == text.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"nul",
        b"nulll",
        b"True",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"undefined",
        b"'a'",
        b"{",
        b"[",
        b'"',
        b'"a',
        b"[1,]",
        b"[1 2]",
        b"[,1]",
        b"[1",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b"{a:1}",
        b"{1:1}",
        b'{"a" 1}',
        b'{"a":1',
        b"1 2",
        b"{}{}",
        b"[]x",
        b"01",
        b"+1",
        b".5",
        b"1.",
        b"1e",
        b"-",
        b"0x10",
        b'"\\x"',
        b'"\\u12"',
        b'"\n"',
        b'"\x00"',
        b'"\xff"',
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b"// a comment\n{}",
        b"<html>",
    ],
)
def test_bad_json_of_every_sort_is_refused(body: bytes) -> None:
    with pytest.raises(NotJson, match=r"."):
        checked(body)


@given(st.binary(max_size=30) | st.text(alphabet='{}[]",:0123456789.eE+-\\ntrufals ', max_size=12).map(str.encode))
@example(b"[1e5,-0.0E-0]")
@example(b'"\\u00zz"')
def test_it_takes_what_the_standard_library_takes(body: bytes) -> None:
    def refuse(_: str) -> Any:
        raise ValueError("not in RFC 8259")

    try:
        json.loads(body.decode("utf-8"), parse_constant=refuse)
        is_json = not body.startswith(b"\xef\xbb\xbf")
    except ValueError:
        is_json = False
    try:
        checked(body)
        is_taken = True
    except NotJson:
        is_taken = False
    assert is_taken is is_json


@pytest.mark.parametrize(
    "deep", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000]
)
def test_what_is_too_deep_is_refused(deep: bytes) -> None:
    with pytest.raises(NotJson):
        checked(deep)


def test_what_is_deep_enough_for_anyone_is_taken() -> None:
    deep = b"[" * 200 + b"]" * 200
    assert checked(deep) == deep


# -- cutting ------------------------------------------------------------------------------------------------------


def test_picked_keeps_the_members_as_they_are_in_the_order_asked_for() -> None:
    text = b'{"id": 12345678901234567890123, "x":  1.10, "name":"\\u00e9", "rest":[1]}'
    assert picked(text, ["name", "id", "missing", "x"]) == b'{"name":"\\u00e9","id":12345678901234567890123,"x":1.10}'
    assert picked(b"{}", ["a"]) == b"{}"


def test_picked_cuts_each_object_of_a_list() -> None:
    assert picked(b'[{"a":1,"b":2}, {"b":3}]', ["a"]) == b'[{"a":1},{}]'
    assert picked(b"[]", ["a"]) == b"[]"


def test_null_has_nothing_to_pick() -> None:
    assert picked(b"null", ["a"]) == b"null"
    assert picked(b'[null,{"a":1,"b":2}]', ["a"]) == b'[null,{"a":1}]'


@pytest.mark.parametrize("text", [b"1", b'"a"', b"true", b"[1]", b'[{"a":1},"b"]'])
def test_nothing_can_be_picked_from_what_is_no_object(text: bytes) -> None:
    with pytest.raises(NotJson, match="expected an object"):
        picked(text, ["a"])


@pytest.mark.parametrize("depth", [1, 3, 16])
def test_lists_within_lists_are_picked_from(depth: int) -> None:
    of, end = b"[" * depth, b"]" * depth
    assert picked(of + b'null,{"a":1,"b":2}' + end, ["a"]) == of + b'null,{"a":1}' + end


@pytest.mark.parametrize("depth", [17, 300, 5000])
def test_but_not_where_they_are_deeper_than_anybody_means(depth: int) -> None:
    """To go on would read what is left of the text once more for each of them."""
    with pytest.raises(NotJson):
        picked(b"[" * depth + b"{}" + b"]" * depth, ["a"])


def test_a_name_that_comes_twice_is_picked_once() -> None:
    assert picked(b'{"a":1,"b":2,"a":3}', ["b", "a", "b"]) == b'{"b":2,"a":3}'


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a list", b"[" + b",".join([b'{"id":1}'] * 150_000) + b"]"),
        ("a list deep within lists", b"[" * 16 + b",".join([b'{"id":1}'] * 150_000) + b"]" * 16),
        ("many members", b"{" + b",".join(b'"m%d":1' % number for number in range(150_000)) + b',"id":1}'),
        ("long texts", b'[{"id":"' + b"x" * 2_000_000 + b'"}]'),
        ("escapes", b'[{"id":"' + b"\\n" * 1_000_000 + b'"}]'),
    ],
)
def test_what_is_picked_costs_what_it_is_long(what: str, text: bytes) -> None:
    """Of two megabytes each: a moment, where it was seconds."""
    began_s = time.process_time()
    picked(text, ["id"])
    assert time.process_time() - began_s < 0.4, what


@pytest.mark.parametrize("dust", [b"{}", b'{"a":1}', b"[{}]"])
def test_objects_that_are_smaller_than_their_names_are_not_made_by_the_million(dust: bytes) -> None:
    text = b"[" + b",".join([dust] * 200_000) + b"]"
    if len(dust) + 1 >= 8:
        assert picked(text, ["a"]).count(b"{") == 200_000
        return
    with pytest.raises(NotJson, match="more than 100000 objects"):
        picked(text, ["a"])


def test_a_list_has_so_many_items_and_no_more() -> None:
    assert len(items_of(b"[" + b",".join([b"1"] * 1000) + b"]", [], most=1000)) == 1000
    with pytest.raises(TooMany):
        items_of(b"[" + b",".join([b"1"] * 1001) + b"]", [], most=1000)
    with pytest.raises(TooMany):
        items_of(b'{"a":[' + b",".join([b"1"] * 1_000_000) + b"]}", ["a"])


def test_half_a_surrogate_pair_among_a_million_escapes_costs_what_it_is_long() -> None:
    text = b'{"t":"' + b"\\n" * 1_000_000 + b"\\\\ud83d" * 100_000 + b'\\ud800"}'
    began_s = time.process_time()
    assert checked(text) == text
    assert time.process_time() - began_s < 0.5


def test_members_are_texts() -> None:
    assert members_of(b'{ "a" : [ 1 ], "\\u00e9": 1.0 }') == {"a": b"[ 1 ]", "é": b"1.0"}


@pytest.mark.parametrize(
    ("text", "fields", "items"),
    [
        (b"[]", [], []),
        (b"[ 1, {} ,1.10 ]", [], [b"1", b"{}", b"1.10"]),
        (b'{"a":{"b":[1,"x"]}}', ["a", "b"], [b"1", b'"x"']),
    ],
)
def test_items_of_a_list(text: bytes, fields: Sequence[str], items: Sequence[bytes]) -> None:
    assert items_of(text, fields) == items


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"{}", []),
        (b"null", []),
        (b'"a"', []),
        (b"{}", ["a"]),
        (b'{"a":1}', ["a"]),
        (b'{"a":null}', ["a"]),
        (b"[]", ["a"]),
    ],
)
def test_items_of_what_is_no_list(text: bytes, fields: Sequence[str]) -> None:
    with pytest.raises(NoValue):
        items_of(text, fields)


@pytest.mark.parametrize(
    ("text", "fields", "value"),
    [
        (b"7", [], "7"),
        (b'{"a":7}', ["a"], "7"),
        (b'{"a":{"b":"x"}}', ["a", "b"], "x"),
        (b'{"a":12345678901234567890123}', ["a"], "12345678901234567890123"),
        (b'{"a":1.10}', ["a"], "1.10"),
        (b'{"a":true}', ["a"], "true"),
        (b'{"a":"\\u00e9\\n"}', ["a"], "é\n"),
        ('{"a":"日"}'.encode(), ["a"], "日"),
        (b'{"a":""}', ["a"], ""),
        (b'{"\\u0061":1}', ["a"], "1"),
        (b'{"a":1,"a":2}', ["a"], "2"),
    ],
)
def test_a_scalar_stands_as_it_was_sent(text: bytes, fields: Sequence[str], value: str) -> None:
    assert scalar(text, fields) == value


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b"null", []),
        (b"{}", []),
        (b"[]", []),
        (b'{"a":null}', ["a"]),
        (b'{"a":[1]}', ["a"]),
        (b'{"a":{}}', ["a"]),
        (b'{"b":1}', ["a"]),
        (b'{"a":1}', ["a", "b"]),
        (b'[{"a":1}]', ["a"]),
        (b'"a"', ["a"]),
    ],
)
def test_what_is_no_scalar_has_no_value(text: bytes, fields: Sequence[str]) -> None:
    with pytest.raises(NoValue):
        scalar(text, fields)


# -- joining ------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), texts().map(str.strip), max_size=4))
def test_an_object_holds_its_texts_byte_for_byte(members: dict[str, str]) -> None:
    text = as_object((name, value.encode()) for name, value in members.items())
    assert members_of(checked(text)) == {name: value.encode() for name, value in members.items()}
    assert b":".join(value.encode() for value in members.values()).count(b"\\") <= text.count(b"\\")


@given(st.lists(texts().map(str.strip), max_size=4))
def test_a_list_holds_its_texts_byte_for_byte(items: list[str]) -> None:
    assert items_of(checked(joined(item.encode() for item in items)), []) == [item.encode() for item in items]


@given(texts())
def test_a_text_on_one_line_says_the_same(text: str) -> None:
    line = on_one_line(text.encode())
    assert b"\n" not in line
    assert b"\r" not in line
    assert json.loads(line) == json.loads(text)


def test_flat_joins_the_members() -> None:
    assert flat({"a": b'{"x": 1.10}', "b": b"null", "c": b'{"y":[ ]}', "d": b"{}"}) == b'{"x":1.10,"y":[ ]}'
    assert flat({}) == b"{}"


def test_flat_names_the_clash() -> None:
    with pytest.raises(NotJson, match="the parts a and c both have 'x'"):
        flat({"a": b'{"x":1}', "b": b"{}", "c": b'{"x":1}'})


@pytest.mark.parametrize("text", [b"[]", b"1", b'"x"', b"true"])
def test_flat_takes_objects_only(text: bytes) -> None:
    with pytest.raises(NotJson, match="the part b is no object"):
        flat({"a": b"{}", "b": text})


def test_encoded_gives_json() -> None:
    assert encoded({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'.encode()
    with pytest.raises(TypeError):
        encoded(object())
