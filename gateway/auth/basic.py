"""HTTP Basic (RFC 7617): lines of an htpasswd become users; a client's credential becomes a name and a password.

A password chosen by a person is stored by bcrypt, which takes tens of milliseconds to check: not here, where it would
block the event loop. `sha256:HEX` is for random ones.
"""

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.auth.keys import parse_line

_BCRYPT = re.compile(r"\$2[abxy]\$[0-9]{2}\$[./A-Za-z0-9]{53}")
_LONGEST = 8192


@dataclass(frozen=True, slots=True)
class User:
    """One user: `digest` is the SHA-256 of the password, or `bcrypt` its hash; the other one is empty."""

    name: str
    digest: bytes = field(default=b"", repr=False)
    bcrypt: bytes = field(default=b"", repr=False)
    roles: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


def parse_users(text: str) -> tuple[User, ...]:
    """Lines of an htpasswd with bcrypt (`name:$2y$...`), or of `name sha256:HEX [role,role] [claim=value ...]`.

    Raises ValueError, with the line's number and never its text.
    """
    users: dict[str, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not (stripped := line.strip()) or stripped.startswith("#"):
            continue
        user = _user(stripped, number)
        if user.name in users:
            raise ValueError(f"line {number}: a user of that name stands above")
        users[user.name] = user
    if not users:
        raise ValueError("expected lines of an htpasswd with bcrypt, or of name sha256:HEX; there is none")
    return tuple(users.values())


def _user(line: str, number: int) -> User:
    name, colon, hashed = line.partition(":")
    if not colon or " " in name or "\t" in name:
        key = parse_line(line, number)
        return User(key.name, key.digest, b"", key.roles, key.claims)
    if not name:
        raise ValueError(f"line {number}: expected a name before the colon")
    if hashed.startswith(("{SHA}", "$apr1$")):
        raise ValueError(f"line {number}: MD5 and SHA-1 are no protection; make it anew with htpasswd -B")
    if not _BCRYPT.fullmatch(hashed):
        raise ValueError(f"line {number}: expected a hash of bcrypt after the colon, as htpasswd -B makes it")
    return User(name, b"", hashed.encode("ascii"))


def credentials(value: bytes) -> tuple[str, bytes] | None:
    """The name and the password in the text after `Basic `; None if it is not base64 of UTF-8."""
    if len(value) > _LONGEST:
        return None
    try:
        decoded = b64decode(value.strip(), validate=True)
        if b64encode(decoded) != value.strip():  # unused bits at its end: one password has one spelling
            return None
        name, colon, password = decoded.partition(b":")
        return (name.decode(), password) if colon else None
    except (Error, ValueError):
        return None


class UserTable:
    """Users by name."""

    def __init__(self, users: Iterable[User]) -> None:
        self._by_name = {user.name: user for user in users}
        # The hash for the password of an unknown user, so that the check takes as long as for a known one.
        self.nobody = next((user.bcrypt for user in self._by_name.values() if user.bcrypt), b"")

    def find(self, name: str) -> User | None:
        return self._by_name.get(name)


def is_password(user: User, password: bytes) -> bool:
    """Whether it is the password of a user with a digest; in constant time."""
    return hmac.compare_digest(sha256(password).digest(), user.digest)
