"""Django's response, made lossless: a status, raw field lines, bytes or an async iterator of them."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, MutableMapping
from http.cookies import SimpleCookie
from typing import Any

from django.http.response import HttpResponseBase
from django.utils.functional import cached_property

from gateway.http.headers import AnyPair, FieldLines, Pairs, field_lines, set_fields


class RawHeaders(MutableMapping[str, str]):
    """Django's mapping of fields over the raw pairs of an answer: reading joins repeated fields, setting replaces."""

    def __init__(self, pairs: FieldLines) -> None:
        self._pairs = pairs

    def __getitem__(self, name: str) -> str:
        key = name.lower().encode("latin-1")
        values = [value.decode("latin-1") for found, value in self._pairs if found == key]
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: object) -> None:
        lines = field_lines([(name, str(value))])
        self._pairs[:] = [*(pair for pair in self._pairs if pair[0] != lines[0][0]), *lines]

    def __delitem__(self, name: str) -> None:
        key = name.lower().encode("latin-1")
        self._pairs[:] = [pair for pair in self._pairs if pair[0] != key]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(found == name.lower().encode("latin-1") for found, _ in self._pairs)


def change_fields(response: HttpResponseBase, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Apply configured changes to the fields of an answer: a value replaces all of its name, None deletes them."""
    if isinstance(response, GatewayResponse):
        response.pairs = FieldLines(set_fields(response.pairs, changes))
        return
    for name, value in changes:
        del response[name.decode("ascii")]
        if value is not None:
            response[name.decode("ascii")] = value.decode("latin-1")


Body = bytes | AsyncIterator[bytes]


class GatewayResponse(HttpResponseBase):
    """A Django response over raw pairs and bytes, or an async iterator of them.

    `pairs` is a list of names and values with names in lower case: other spellings are lowered, and text becomes bytes,
    as pairs are added. Raises ValueError and TypeError for pairs that are no field lines.

    `relayed` is `body` where that is an upstream's own stream, which reads nothing of the request.
    """

    relayed: object = None

    def __init__(self, status: int = 200, pairs: Iterable[AnyPair] | None = None, body: Body = b"") -> None:
        # HttpResponseBase's own __init__ would invent a Content-Type and build a cookie jar.
        self.status_code = status
        self._pairs = FieldLines() if pairs is None else field_lines(pairs)
        self.body = body
        self.closed = False
        self._reason_phrase = None
        self._charset = None
        self._handler_class = None
        self._resource_closers: list[Callable[[], Any]] = []

    @property
    def pairs(self) -> FieldLines:
        return self._pairs

    @pairs.setter
    def pairs(self, pairs: Iterable[AnyPair]) -> None:
        self._pairs[:] = pairs

    @property
    def streaming(self) -> bool:  # type: ignore[override]
        return not isinstance(self.body, bytes)

    @property
    def content(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        raise AttributeError("this answer streams; iterate `body`")

    @content.setter
    def content(self, content: bytes) -> None:
        self.body = content
        if any(name == b"content-length" for name, _ in self.pairs):  # it was that of another body
            self.headers["Content-Length"] = len(content)

    @property
    def streaming_content(self) -> AsyncIterator[bytes]:
        """The body under the name that Django's streaming responses use, for middleware that wraps it."""
        if isinstance(self.body, bytes):
            raise AttributeError("this answer does not stream; it has `content`")
        return self.body

    @streaming_content.setter
    def streaming_content(self, content: AsyncIterator[bytes]) -> None:
        self.body = content
        del self.headers["Content-Length"]  # it was that of another body

    is_async = True  # Django asks this of a streaming response

    @property  # type: ignore[override]
    def headers(self) -> RawHeaders:
        return RawHeaders(self._pairs)

    @headers.setter
    def headers(self, headers: Mapping[str, str]) -> None:
        self._pairs[:] = [(name, str(value)) for name, value in headers.items()]

    @cached_property
    def cookies(self) -> SimpleCookie:  # type: ignore[override]
        return SimpleCookie()

    def __repr__(self) -> str:
        size = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "streaming"
        return f"<GatewayResponse {self.status_code} {size}>"


def pairs_of(response: HttpResponseBase) -> FieldLines:
    """The field lines of any response, Django's own too."""
    if isinstance(response, GatewayResponse):
        pairs = response.pairs
        return FieldLines([*pairs, *cookie_pairs(response)]) if "cookies" in response.__dict__ else pairs
    return field_lines([*response.items(), *cookie_pairs(response)])


def cookie_pairs(response: HttpResponseBase) -> Pairs:
    """The Set-Cookie lines that a view asked for with `set_cookie`."""
    return [(b"set-cookie", morsel.OutputString().encode("latin-1")) for morsel in response.cookies.values()]
