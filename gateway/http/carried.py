"""Values that stand in a header field, a cookie or a parameter of the query, read in one way.

Authentication reads its credentials here, and limits count by the same values. If limits read the same bytes in another
way, each spelling of one key would have a budget of its own.
"""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

from gateway.http.headers import OWS, Pair

_ESCAPE = re.compile(rb"\\(?:([0-3][0-7]{2})|(.))", re.DOTALL)
_SCHEMES = frozenset({b"bearer", b"basic"})


def values_in(kind: str, name: bytes, pairs: Sequence[Pair], query: bytes) -> Iterator[bytes]:
    """All values of that name, empty ones too; `kind` is header (its name in lower case), cookie or query.

    A cookie's value comes without its quotes, a parameter's decoded.
    """
    if kind == "header":
        return (value for found, value in pairs if found == name)
    return _cookies(name, pairs) if kind == "cookie" else _parameters(name, query)


def without_scheme(value: bytes) -> bytes:
    """A value without the white space around it and without its authentication scheme (`Bearer`)."""
    value = value.strip(OWS)
    scheme, _, rest = value.partition(b" ")
    return rest.strip(OWS) if scheme.lower() in _SCHEMES else value


def unescaped(value: bytes) -> bytes:
    """A cookie's value as services read it: `\\141` in quotes is `a`."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]) if found[1] else found[2], value)


def _cookies(name: bytes, pairs: Sequence[Pair]) -> Iterator[bytes]:
    for field, line in pairs:
        if field != b"cookie":
            continue
        for cookie in line.split(b";"):
            found, equals, value = cookie.partition(b"=")
            value = value.strip(OWS)
            if equals and found.strip(OWS) == name:
                yield value[1:-1] if len(value) > 1 and value[:1] == value[-1:] == b'"' else value


def _parameters(name: bytes, query: bytes) -> Iterator[bytes]:
    for parameter in query.split(b"&"):
        found, _, value = parameter.partition(b"=")
        if unquote_to_bytes(found.replace(b"+", b" ")) == name:
            yield unquote_to_bytes(value.replace(b"+", b" "))
