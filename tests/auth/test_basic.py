"""An htpasswd, and what a client sends."""

from base64 import b64encode
from hashlib import sha256

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth import signatures
from gateway.auth.basic import User, UserTable, credentials, is_password, parse_users

# The salt is fixed: the hash is in names of tests, which every worker of pytest-xdist has to find the same.
HASHED = bcrypt.hashpw(b"hunter2", b"$2b$04$" + b"abcdefghijklmnopqrstuu").decode()
HEX = sha256(b"random").hexdigest()


def test_lines_become_users() -> None:
    as_htpasswd_writes = "$2y$" + HASHED[4:]
    alice, bob, carol = parse_users(f"alice:{as_htpasswd_writes}\n# x\nbob:{HASHED}\n\ncarol sha256:{HEX} ops team=a\n")
    assert alice == User("alice", bcrypt=as_htpasswd_writes.encode())
    assert bob == User("bob", bcrypt=HASHED.encode())
    assert carol == User("carol", bytes.fromhex(HEX), b"", ("ops",), {"team": "a"})
    assert signatures.is_password(b"hunter2", alice.bcrypt)
    assert signatures.is_password(b"hunter2", bob.bcrypt)
    assert is_password(carol, b"random")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is none"),
        ("alice:hunter2", "line 1: expected a hash of bcrypt"),
        ("alice:$apr1$abc$def", "line 1: MD5 and SHA-1"),
        ("alice:{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "line 1: MD5 and SHA-1"),
        (f":{HASHED}", "line 1: expected a name"),
        (f"alice:{HASHED}\nalice:{HASHED}", "line 2: a user of that name"),
        (f"alice:{HASHED}x", "line 1: expected a hash of bcrypt"),
        ("alice hunter2", "line 1: expected sha256:"),
    ],
)
def test_a_broken_line_is_named_and_not_shown(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse_users(text)
    assert "hunter2" not in str(caught.value)
    assert HASHED not in str(caught.value)


@pytest.mark.parametrize("password", [b"", b"Hunter2", b"hunter2\0", b"\0", b"x" * 5000, "hünter".encode(), b"\xff"])
def test_another_password_is_wrong_and_no_failure(password: bytes) -> None:
    assert not signatures.is_password(password, HASHED.encode())
    assert not is_password(User("a", sha256(b"random").digest()), password)


def test_what_bcrypt_cuts_off_does_not_pass() -> None:
    """It looks at 72 bytes: all that begins so would be the password."""
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4))
    assert signatures.is_password(b"x" * 72, hashed)
    assert not signatures.is_password(b"x" * 73, hashed)


@given(st.text(st.characters(exclude_characters=":", codec="utf-8")), st.binary())
def test_a_name_and_a_password_are_read(name: str, password: bytes) -> None:
    raw = b64encode(name.encode() + b":" + password)
    assert credentials(raw) == (name, password)


@pytest.mark.parametrize(
    "raw", [b"", b"====", b"\xff", b64encode(b"alice"), b64encode(b"\xff:x"), b"YTpi!", b"YTp=", b"Y" * 9000]
)
def test_what_is_no_credential_is_none(raw: bytes) -> None:
    assert credentials(raw) is None


def test_an_unknown_user_has_somebodys_hash_to_be_compared_with() -> None:
    table = UserTable(parse_users(f"carol sha256:{HEX}\nbob:{HASHED}"))
    assert table.find("mallory") is None
    assert table.nobody == HASHED.encode()
    assert UserTable(parse_users(f"carol sha256:{HEX}")).nobody == b""
