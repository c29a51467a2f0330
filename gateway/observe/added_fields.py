"""GATEWAY_LOG_FIELDS: further fields of a request in its log line."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.http.headers import Pair, is_token

_PREFIX: Final = "header:"
_MOST_CHARACTERS: Final = 256
# Possible credentials: their presence may be logged or shown, their value never.
CREDENTIALS: Final = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-auth-token"}
)

Added = Callable[[Sequence[Pair]], dict[str, str] | None]


def log_field(text: str) -> str:
    """`header:User-Agent` -> `user-agent`. Raises ValueError."""
    name = text.removeprefix(_PREFIX).lower()
    if not text.startswith(_PREFIX) or not is_token(name.encode("utf-8")):
        raise ValueError("expected header: and the name of a field, such as header:user-agent")
    return name


def added_fields(names: Iterable[str], credentials: Iterable[str]) -> Added | None:
    """The function that picks the fields of a request for its line, by their names there; None for no names.

    The values of `credentials`, fields that a way to authenticate reads, are masked. Each value is cut at 256
    characters.
    """
    masked = CREDENTIALS | set(credentials)
    keys = {name.encode("ascii"): (f"header_{name.replace('-', '_')}", name in masked) for name in names}
    if not keys:
        return None

    def added(pairs: Sequence[Pair]) -> dict[str, str] | None:
        found: dict[str, str] = {}
        for name, value in pairs:
            if name in keys:
                key, is_masked = keys[name]
                text = "***" if is_masked else value[: _MOST_CHARACTERS + 1].decode("utf-8", "replace")
                found[key] = text if key not in found or is_masked else f"{found[key]}, {text}"
        return {key: _cut(text) for key, text in found.items()} or None

    return added


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
