"""A request as it is written on a command line."""

import re
from collections.abc import Sequence

from gateway.http.headers import Pair, is_token
from gateway.http.request import Scope
from gateway.units import authority_of

_URL = re.compile(r"(?:https?://([^/?#]*))?(/[^?#]*)?(?:\?([^#]*))?(?:#.*)?", re.DOTALL)


_PEER = "127.0.0.1"


def scope_of(method: str, target: str, fields: Sequence[str], bind: tuple[str, int]) -> Scope:
    """A request as ASGI shows it; `fields` are `Name: value`, `target` is a path or a URL. Raises ValueError."""
    if not is_token(method.encode()):
        raise ValueError(f"{method!r} is no method")
    match = _URL.fullmatch(target)
    if match is None or (match[1] is None and match[2] is None):
        raise ValueError(f"{target!r} is neither a path that begins with a slash nor a URL")
    pairs = [_pair(field) for field in fields]
    if not any(name == b"host" for name, _ in pairs):
        host = {"0.0.0.0": _PEER, "::": "::1"}.get(bind[0], bind[0])  # noqa: S104 - to name it, not to bind
        pairs.insert(0, (b"host", (match[1] or authority_of("http", host, bind[1])).encode()))
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "raw_path": (match[2] or "/").encode(),
        "query_string": (match[3] or "").encode(),
        "headers": pairs,
        "client": (_PEER, "0"),  # ports are text, as Granian gives them
        "server": (bind[0], str(bind[1])),
    }


def _pair(field: str) -> Pair:
    name, colon, value = field.partition(":")
    if not colon or not is_token(name.encode()):
        raise ValueError(f"{field!r} is no header; one is written 'Name: value'")
    return name.lower().encode(), value.strip().encode()
