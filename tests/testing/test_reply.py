"""Keys and values of a service: which key is closest, and what is said of one that is wrong."""

import datetime
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec import Struct

from gateway.testing import Reason, Reply
from gateway.testing.reply import Key, key_of, reply_of
from gateway.testing.service import Service


class Point(Struct):
    x: int


@dataclass
class Day:
    on: datetime.date


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("*", Key(None, None, None)),
        ("GET *", Key("GET", None, None)),
        ("/", Key(None, "/", None)),
        ("/a%20b;c", Key(None, "/a%20b;c", None)),
        ("PURGE /a?b=/c?d", Key("PURGE", "/a", "b=/c?d")),
        ("/a?", Key(None, "/a", "")),
    ],
)
def test_a_key_is_read(text: str, key: Key) -> None:
    assert key_of(text, "users") == key


@pytest.mark.parametrize(
    "text", ["", "users/1", "get /x", "GET/x", "GET  /x", "/a b", "/a#b", "**", 1, None, ("GET", "/")]
)
def test_what_is_no_key_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"a key is 'GET /path', '/path', '/path\?query' or '\*'"):
        key_of(text, "users")


def test_a_pattern_is_no_key() -> None:
    with pytest.raises(ValueError, match=r"gateway.users\['/users/\{id\}'\]: .* and no pattern"):
        key_of("/users/{id}", "users")


def test_the_closest_key_answers() -> None:
    keys = ["*", "GET *", "/a", "GET /a", "/a?q", "GET /a?q"]
    found = sorted((key_of(one, "x") for one in reversed(keys)), key=lambda key: key.rank)
    assert found == [key_of(one, "x") for one in keys]


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (None, b"null"),
        (False, b"false"),
        ("text", b'"text"'),
        ({"a": [1.5]}, b'{"a":[1.5]}'),
        (Point(1), b'{"x":1}'),
        (Day(datetime.date(2026, 1, 2)), b'{"on":"2026-01-02"}'),
    ],
)
def test_a_value_is_json(value: Any, body: bytes) -> None:
    reply = reply_of(value, "x")
    assert isinstance(reply, Reply)
    assert (reply.body, reply.pairs) == (body, [("content-type", "application/json")])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Reply("503"), r"Reply\('503'\): a status is a number from 200 to 599"),  # type: ignore[arg-type]
        (lambda: Reply(True), "a status is a number"),
        (lambda: Reply(101), "a status is a number"),
        (lambda: Reply(json={}, body=""), "json= or body=, not both"),
        (lambda: Reply(json=object()), "cannot become JSON"),
        (lambda: Reply(delay="20"), "needs its unit"),
        (lambda: Reply(headers="x"), "write a mapping"),  # type: ignore[arg-type]
        (lambda: Reply(headers={"a": 1}), "both are texts"),  # type: ignore[dict-item]
        (lambda: Reply(headers={"a b": "1"}), "is no header field"),
        (lambda: Reply(headers={"a": "1\r\nb: 2"}), "is no header field"),
        (lambda: reply_of(b"x", "there"), r"there: bytes are no JSON; write Reply\(body=...\)"),
        (lambda: reply_of(ValueError, "there"), "there: a failure is said by its word"),
        (lambda: reply_of(object(), "there"), "there: this cannot become JSON"),
        (lambda: reply_of(Reason.CLIENT_GONE, "there"), "there: CLIENT_GONE is no failure of a service"),
        (lambda: Service("users", print).__setitem__("/", []), r"gateway.users\['/'\]: an empty list has no answer"),
    ],
)
def test_what_is_wrong_is_said(make: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        make()
