"""HTTP/1.1 as a service of a test reads and writes it: requests of the gateway are read strictly."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

Pair = tuple[str, str]  # a field line: its name as it came, its value

_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (/[!-~]*|\*) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([^\x00-\x08\x0a-\x1f\x7f]*)")
_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})")
WITHOUT_BODY: Final = frozenset({204, 304})


class WireError(Exception):
    """The received bytes are no request; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    method: str
    target: str  # as in the request line
    pairs: tuple[Pair, ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of a field, by its name in lower case."""
        return [value for found, value in self.pairs if found.lower() == name]

    @property
    def is_handshake(self) -> bool:
        """Whether it asks for a WebSocket."""
        return [value.lower() for value in self.values("upgrade")] == ["websocket"]


class RequestReader:
    """Parses requests from bytes; bytes after a handshake are no HTTP, and stay in `rest`."""

    def __init__(self) -> None:
        self.rest = bytearray()
        self._is_over = False

    def feed(self, data: bytes) -> Iterator[Request]:
        """The requests that `data` completes. Raises WireError."""
        self.rest += data
        while not self._is_over and (request := self._next()) is not None:
            self._is_over = request.is_handshake
            yield request

    def _next(self) -> Request | None:
        end = self.rest.find(b"\r\n\r\n")
        if end < 0:
            return None
        method, target, pairs = _head(bytes(self.rest[:end]))
        named = [(name.lower(), value) for name, value in pairs]
        lengths = [value for name, value in named if name == "content-length"]
        codings = [value for name, value in named if name == "transfer-encoding"]
        if [name for name, _ in named].count("host") != 1:
            raise WireError("a request has one Host")
        if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
            raise WireError(f"the length of a body is said once: {lengths + codings}")
        if lengths and not lengths[0].isdecimal():
            raise WireError(f"Content-Length: {lengths[0]}")
        start = end + 4
        found = _chunked(self.rest, start) if codings else _sized(self.rest, start, int(lengths[0]) if lengths else 0)
        if found is None:
            return None
        body, over = found
        del self.rest[:over]
        return Request(method, target, pairs, body)


def _head(raw: bytes) -> tuple[str, str, tuple[Pair, ...]]:
    line, *fields = raw.split(b"\r\n")
    match = _LINE.fullmatch(line)
    if match is None:
        raise WireError(f"this is no request line: {line[:200]!r}")
    pairs = []
    for field in fields:
        found = _FIELD.fullmatch(field)
        if found is None:
            raise WireError(f"this is no field line: {field[:200]!r}")
        pairs.append((found[1].decode("ascii"), found[2].decode("latin-1").strip(" \t")))
    return match[1].decode("ascii"), match[2].decode("ascii"), tuple(pairs)


def _sized(data: bytearray, start: int, length: int) -> tuple[bytes, int] | None:
    """The body and its end, once it has arrived whole."""
    end = start + length
    return None if len(data) < end else (bytes(data[start:end]), end)


def _chunked(data: bytearray, start: int) -> tuple[bytes, int] | None:
    """As `_sized`, for a chunked body. The gateway sends no trailers."""
    pieces: list[bytes] = []
    while True:
        end = data.find(b"\r\n", start)
        if end < 0:
            return None
        match = _SIZE.fullmatch(data[start:end])
        if match is None:
            raise WireError(f"this is no size of a chunk: {bytes(data[start:end])[:50]!r}")
        size = int(match[1], 16)
        first, after = end + 2, end + 2 + size
        if len(data) < after + 2:
            return None
        if data[after : after + 2] != b"\r\n":
            raise WireError("a chunk is longer than it says")
        if not size:
            return b"".join(pieces), after + 2
        pieces.append(bytes(data[first:after]))
        start = after + 2


# -- answers --------------------------------------------------------------------------------------------------------


def head_bytes(status: int, pairs: Iterable[Pair]) -> bytes:
    """The head of an answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {status} \r\n{lines}\r\n".encode("latin-1")


def chunk_bytes(piece: bytes) -> bytes:
    """A piece of a chunked body; an empty one ends it."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)
