"""A request that tracks the header fields that a view reads: a stored response must name them in Vary.

Fields that `proxy()`, fan-outs and `fetch()` forward are not tracked: they come from `scope` and `fields`, and the
services name in Vary what they read. So only reads by the team's own Python are tracked, and those values in braces
that are not part of the key.
"""

from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from django.http.request import HttpHeaders
from django.utils.functional import cached_property

from gateway.http.headers import Pair
from gateway.http.identity import Identity
from gateway.http.request import GatewayRequest

ALL = "*"


class TrackedRequest(GatewayRequest):
    """`fields_read` are the names read, in lower case; ALL stands for a read of all fields."""

    def __getattr__(self, name: str) -> Any:
        """Attributes that middleware has set. Vary cannot name them, so an answer that depends on one is not stored."""
        if name not in self.added:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self.fields_read.add(f"request.{name}")
        return self.added[name]

    words_in_key: Collection[Sequence[str]] = ()  # values in braces that are part of the cache's key

    def reads_value(self, words: Sequence[str]) -> None:
        """The answer of a view may depend on a value that the cache around it cannot know."""
        super().reads_value(words)
        if tuple(words) in self.words_in_key:
            return
        first, name = words[0], ".".join(words[1:]).lower()
        self.fields_read.add({"header": name, "cookie": "cookie"}.get(first, ".".join(words)))

    @cached_property
    def fields_read(self) -> set[str]:
        return set()

    @property
    def identity(self) -> Identity | None:
        self.fields_read.add("who asks")  # not a field, so Vary cannot name it
        return super().identity

    @property
    def raw_headers(self) -> list[Pair]:
        self.fields_read.add(ALL)
        return super().raw_headers

    @cached_property
    def META(self) -> MutableMapping[str, Any]:  # type: ignore[override]  # noqa: N802 - Django's name
        return _Meta(super().META, self.fields_read)

    @cached_property
    def headers(self) -> Mapping[str, str]:  # type: ignore[override]
        return _Headers(HttpHeaders(super().META), self.fields_read)

    @cached_property
    def COOKIES(self) -> dict[str, str]:  # type: ignore[override]  # noqa: N802
        self.fields_read.add("cookie")
        return super().COOKIES

    def unnamed(self, vary: tuple[bytes, ...]) -> bool:
        """Whether a field was read that Vary does not name. The host is part of every key."""
        named = {name.decode("latin-1") for name in vary}
        if ALL in self.fields_read and not named:
            return True
        return bool(self.fields_read - named - {ALL, "host"})


class _Meta(MutableMapping[str, Any]):
    """META, with its reads tracked. Not a dict, which could be copied without a call of any method."""

    def __init__(self, meta: dict[str, Any], fields_read: set[str]) -> None:
        self._meta = meta
        self._fields_read = fields_read

    def __getitem__(self, key: str) -> Any:
        if key.startswith("HTTP_"):
            self._fields_read.add(key[5:].replace("_", "-").lower())
        elif key in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            self._fields_read.add(key.replace("_", "-").lower())
        elif key.startswith("REMOTE_"):
            self._fields_read.add("the address of the client")  # not a field, so Vary cannot name it
        return self._meta[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._meta[key] = value

    def __delitem__(self, key: str) -> None:
        del self._meta[key]

    def __iter__(self) -> Iterator[str]:
        self._fields_read.add(ALL)
        return iter(self._meta)

    def __len__(self) -> int:
        return len(self._meta)

    def copy(self) -> dict[str, Any]:
        return dict(self)


class _Headers(Mapping[str, str]):
    """Django's `request.headers`, with their reads tracked."""

    def __init__(self, headers: Mapping[str, str], fields_read: set[str]) -> None:
        self._headers = headers
        self._fields_read = fields_read

    def __getitem__(self, name: str) -> str:
        self._fields_read.add(name.replace("_", "-").lower())
        return self._headers[name]

    def __contains__(self, name: object) -> bool:
        self._fields_read.add(str(name).lower())
        return name in self._headers

    def __iter__(self) -> Iterator[str]:
        self._fields_read.add(ALL)
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)
