"""WHEN: its grammar, and whether conditions hold."""

import re

import pytest

from gateway.routing.conditions import Condition, fields_of, hold, parse_when, text_of, words_of

PAIRS = [
    (b"x-version", b"2"),
    (b"x-version", b"3"),
    (b"empty", b""),
    (b"cookie", b'beta=; sid="a b"'),
    (b"cookie", b"plan=gold"),
    (b"x-forwarded-host", b"a.test"),
]
QUERY = b"debug&page=2&page=3&caf%C3%A9=1&a[b]=1"


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("header.x-version=2", True),
        ("header.X-Version=2", True),
        ("header.x-version=3", False),  # the first one counts
        ("header.x-version=1|2", True),
        ("header.x-version=2 cookie.plan=gold", True),
        ("header.x-version=2 cookie.plan=silver", False),
        ("!header.x-version", False),
        ("!header.x-version=3", True),
        ("!header.x-other=3", True),  # there is none, so it is not 3
        ("header.empty", True),
        ("!header.absent", True),
        ("cookie.beta", True),
        ("cookie.Beta", False),
        ("cookie.sid", True),
        ("query.debug", True),
        ("query.page=2", True),
        ("query.page=3", False),
        ("query.a[b]=1", True),
        ("!query.debug", False),
        ("header.x-forwarded-host=a.test", True),
    ],
)
def test_all_conditions_hold(text: str, holds: bool) -> None:
    assert hold(parse_when(text), PAIRS, QUERY, trusted=True) == holds


def test_a_claim_of_a_peer_that_is_not_trusted_is_none() -> None:
    assert not hold(parse_when("header.x-forwarded-host"), PAIRS, QUERY, trusted=False)
    assert hold(parse_when("!header.x-forwarded-host"), PAIRS, QUERY, trusted=False)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "expected conditions, such as header.x-version=2 or !cookie.beta"),
        ("x-version=2", "they begin with header.<name>, cookie.<name> or query.<name>"),
        ("claim.sub=2", "they begin with"),
        ("header", "they begin with"),
        ("header.", "'' is no name of a header"),
        ("header.x y=1", "'y=1' is no condition"),
        ("cookie.a;b", "'a;b' is no name of a cookie"),
        ("query.a&b", "'a&b' is no name of a parameter"),
        ("header.x=", "compares with nothing; !header.x asks whether there is one"),
        ("!header.x=", "compares with nothing; header.x asks whether there is one"),
        ("header.x=1|", "compares with nothing"),
        ("header.x=é", "only ASCII can be compared with"),
        ("header.x !header.x", "can never hold together"),
        ("header.x=1 header.x=2", "can never hold together"),
        ("header.x=1 !header.x=1|2", "can never hold together"),
        ("! header.x", "'!' is no condition"),
    ],
)
def test_what_is_no_condition_says_what_was_expected(text: str, advice: str) -> None:
    with pytest.raises(ValueError, match=re.escape(advice)):
        parse_when(text)


def test_conditions_name_what_an_answer_depends_on() -> None:
    when = parse_when("query.page=1 !cookie.beta header.X-B=2|1 header.a.b")
    assert fields_of(when) == {"cookie", "x-b", "a.b"}
    assert words_of(when) == (("cookie", "beta"), ("header", "a", "b"), ("header", "x-b"))
    assert text_of(when) == "!cookie.beta header.a.b header.x-b=1|2 query.page=1"
    assert parse_when(text_of(when)) == when
    assert Condition("header", "x-b", ("1", "2")) in when
