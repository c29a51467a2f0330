"""The identity of a client that a way to authenticate has let in, and its values in header fields."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Fields that go up with the client's identity: a name in lower case, and its value or None where the field is deleted.
IdentityFields = tuple[tuple[bytes, bytes | None], ...]

# Words in braces that stand for values of it.
IDENTITY_WORDS = frozenset({"user", "roles", "claim"})


@dataclass(frozen=True, slots=True)
class Identity:
    """The client: `name` as the way gives it (a token's `sub`, the name of a key or user; may be empty).

    `way` is the name in GATEWAY_AUTH_<NAME>, in lower case. `claims` are those of the token, the values of a key's
    line, or the fields that another service answered with.
    """

    name: str
    way: str = ""
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)


def claim_at(claims: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The value at a path of names, or None. A name may hold dots itself (`https://example.com/roles`)."""
    whole = ".".join(path)
    if whole in claims:
        return claims[whole]
    value: Any = claims
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def value_of(identity: Identity | None, words: Sequence[str], on_comma: Callable[[str], None] | None = None) -> str:
    """What `{user}`, `{roles}` or `{claim.x.y}` stands for, words between the dots; empty where there is no such value.

    A list is joined by commas; a member that holds a comma itself is left out, and given to `on_comma`.
    """
    if identity is None:
        return ""
    first, *rest = words
    value: Any
    if first == "user":
        value = identity.name
    elif first == "roles":
        value = identity.roles
    else:
        value = claim_at(identity.claims, rest)
    if not isinstance(value, (list, tuple)):
        return _text(value)
    members = [_text(member) for member in value]
    for member in members:
        if "," in member and on_comma is not None:
            on_comma(".".join(words))
    return ",".join(member for member in members if member and "," not in member)


def _text(value: Any) -> str:
    """A scalar as JSON has it, a text as it is; nothing for null, objects and lists."""
    if isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, (bool, int, float)) else ""
