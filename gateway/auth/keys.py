"""API keys: lines of a file become records, and a presented key finds its record.

Keys are random, so one round of SHA-256 is enough to store them: they cannot be guessed from the hash. (Passwords can:
see `basic`.)
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

_NAME = re.compile(r"[^\s:,#=\[\]]+")
_HASH = re.compile(r"sha256:([0-9A-Fa-f]{64})")
_CLAIM = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(\S*)")


@dataclass(frozen=True, slots=True)
class Key:
    """One key: its name in logs, the SHA-256 of the key, the roles of its holder, and values for fields."""

    name: str
    digest: bytes = field(repr=False)
    roles: tuple[str, ...] = ()
    claims: Mapping[str, str] = field(default_factory=dict)


def parse_keys(text: str) -> tuple[Key, ...]:
    """Lines of `name sha256:HEX [role,role] [claim=value ...]`; blank ones and those that begin with `#` are left out.

    One name may have several keys, while one replaces the other. Raises ValueError, with the line's number and never
    its text.
    """
    found: dict[bytes, int] = {}
    keys = []
    for number, line in _lines(text):
        key = parse_line(line, number)
        if key.digest in found:
            raise ValueError(f"line {number}: the same key as in line {found[key.digest]}")
        found[key.digest] = number
        keys.append(key)
    if not keys:
        raise ValueError("expected lines of name sha256:HEX [role,role] [claim=value ...]; there is none")
    return tuple(keys)


def _lines(text: str) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def parse_line(line: str, number: int) -> Key:
    """`name sha256:HEX [role,role] [claim=value ...]`. Raises ValueError with the number."""
    name, *rest = line.split()
    if not _NAME.fullmatch(name):
        raise ValueError(f"line {number}: expected a name without : , # = [ ] first")
    if not rest or not (match := _HASH.fullmatch(rest[0])):
        raise ValueError(
            f"line {number}: expected sha256: and 64 hexadecimal digits after the name; "
            "`gateway auth key NAME` makes a key and its line"
        )
    words = rest[1:]
    roles: tuple[str, ...] = ()
    if words and "=" not in words[0]:
        roles = tuple(filter(None, words[0].split(",")))
        words = words[1:]
        if any(not _NAME.fullmatch(role) for role in roles):
            raise ValueError(f"line {number}: expected roles between commas, without brackets: admin,ops")
    claims = {}
    for word in words:
        claim = _CLAIM.fullmatch(word)
        if claim is None:
            raise ValueError(
                f"line {number}: expected claims like tenant=acme after the roles, which stand between commas"
            )
        claims[claim[1]] = claim[2]
    return Key(name, bytes.fromhex(match[1]), roles, claims)


def is_name(text: str) -> bool:
    """Whether a text may be the name of a key, or a role in its line."""
    return _NAME.fullmatch(text) is not None


def line_of(name: str, key: str, roles: Iterable[str] = ()) -> str:
    """The line of a key."""
    words = [name, f"sha256:{sha256(key.encode()).hexdigest()}", ",".join(roles)]
    return " ".join(filter(None, words))


class KeyTable:
    """Keys by their digest: a presented key is hashed, and the hash is compared in constant time with the one found."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def find(self, presented: bytes) -> Key | None:
        digest = sha256(presented).digest()
        key = self._by_digest.get(digest)
        return key if key is not None and hmac.compare_digest(key.digest, digest) else None
