"""Lines of keys, and keys that are presented."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import Key, KeyTable, line_of, parse_keys

HEX = sha256(b"secret").hexdigest()
OTHER = sha256(b"other").hexdigest()


def test_lines_become_keys() -> None:
    text = f"""
# partners
acme sha256:{HEX} admin,ops tenant=acme plan=gold
globex   sha256:{OTHER.upper()}
"""
    first, second = parse_keys(text)
    assert first == Key("acme", bytes.fromhex(HEX), ("admin", "ops"), {"tenant": "acme", "plan": "gold"})
    assert second == Key("globex", bytes.fromhex(OTHER))
    assert parse_keys(f"acme sha256:{HEX} tenant=a=b")[0].claims == {"tenant": "a=b"}


def test_one_name_has_two_keys_while_one_replaces_the_other() -> None:
    assert [key.name for key in parse_keys(f"acme sha256:{HEX}\r\nacme sha256:{OTHER}\r\n")] == ["acme", "acme"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is none"),
        ("# nothing\n\n", "there is none"),
        ("acme", "line 1: expected sha256:"),
        ("acme topsecret", "line 1: expected sha256:"),
        (f"acme {HEX}", "line 1: expected sha256:"),
        (f"\nacme sha256:{HEX[:-1]}", "line 2: expected sha256:"),
        (f"ac=me sha256:{HEX}", "line 1: expected a name"),
        (f"acme: sha256:{HEX}", "line 1: expected a name"),
        (f"acme sha256:{HEX} [admin]", "line 1: expected roles between commas, without brackets"),
        (f"acme sha256:{HEX} admin ops", "line 1: expected claims like tenant=acme"),
        (f"acme sha256:{HEX} admin tenant", "line 1: expected claims like tenant=acme"),
        (f"acme sha256:{HEX}\nglobex sha256:{HEX}", "line 2: the same key as in line 1"),
    ],
)
def test_a_broken_line_is_named_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why.replace("[", r"\[")) as caught:
        parse_keys(text)
    for secret in (HEX, "topsecret"):
        assert secret not in str(caught.value)


def test_a_presented_key_finds_its_record() -> None:
    table = KeyTable(parse_keys(f"acme sha256:{HEX}\nglobex sha256:{OTHER}"))
    found = table.find(b"secret")
    assert found is not None
    assert found.name == "acme"
    for wrong in (b"", b"Secret", b"secret ", HEX.encode(), bytes.fromhex(HEX), b"\0", b"x" * 2**20):
        assert table.find(wrong) is None


def test_nothing_shows_a_key() -> None:
    (key,) = parse_keys(f"acme sha256:{HEX}")
    assert HEX not in repr(key)
    assert repr(bytes.fromhex(HEX)) not in repr(key)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20), st.text(min_size=1, max_size=50))
def test_a_line_that_is_made_is_read(name: str, key: str) -> None:
    (made,) = parse_keys(line_of(name, key, ["a", "b"]))
    assert (made.name, made.roles) == (name, ("a", "b"))
    assert KeyTable([made]).find(key.encode()) is made
    assert key not in line_of(name, key) or key in name or key in f"{name} sha256:{made.digest.hex()}"


@given(st.text())
def test_reading_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_keys(text)
