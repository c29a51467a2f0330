"""Text that a terminal shows and does not act on."""

import json

import pytest

from gateway.text import plain, plain_json, plain_lines

HOSTILE = "a\x1b]0;owned\x07\x00\x7f\x9b31m\u202eb\u2028\u2066\r\tc\ud800"


def test_what_is_not_printable_is_shown_as_in_a_literal() -> None:
    assert plain("as it is: ü 日本 €") == "as it is: ü 日本 €"
    assert plain(HOSTILE) == r"a\x1b]0;owned\x07\x00\x7f\x9b31m\u202eb\u2028\u2066\r\tc\ud800"
    assert plain("two\nlines") == r"two\nlines"


def test_lines_keep_their_ends_and_all_are_indented() -> None:
    assert plain_lines("ValueError: a\x1b\n10:00 forged", "  ") == "  ValueError: a\\x1b\n  10:00 forged"


@pytest.mark.parametrize("text", ["plain", "ü 日本 €", HOSTILE.rstrip("\ud800")])
def test_json_stays_the_same_value(text: str) -> None:
    line = json.dumps({"path": text}, ensure_ascii=False).encode()
    shown = plain_json(line)
    assert json.loads(shown) == {"path": text}
    assert shown.decode().isprintable()
    assert (shown == line) is line.decode().isprintable()
