"""Commands and answers of Valkey as bytes (RESP2): as much of it as one script needs.

The reader trusts nothing: bytes that are no answer, or longer than any expected one, are Garbage.
"""

from collections.abc import Iterator
from typing import Final

_LONGEST_LINE: Final = 16 * 1024
_LONGEST_BULK: Final = 4 * 2**20
_LONGEST_ARRAY: Final = 100_000
_DEEPEST: Final = 4


class Garbage(Exception):
    """These bytes are no answer of Valkey."""


class Refusal(str):
    """An error that Valkey answered: its text, which begins with a word such as NOSCRIPT."""

    __slots__ = ()


Reply = bytes | int | Refusal | None | list["Reply"]


def command(*words: bytes | str | float) -> bytes:
    """A command as it is sent."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class _More(Exception):
    """The answer is not complete."""


class Reader:
    """Parses answers from bytes, in whatever pieces they come."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> Iterator[Reply]:
        """The answers that are whole by now. Raises Garbage."""
        self._data = data = self._data + data if self._data else data
        at = 0
        if data[:1] == b"$" and data[-2:] == b"\r\n" and (whole := _bulk(data)) is not None:  # as nearly always
            self._data = b""
            yield whole
            return
        try:
            while at < len(data):
                reply, at = _read(data, at, 0)
                yield reply
        except _More:
            pass
        self._data = data[at:]


def _bulk(data: bytes) -> bytes | None:
    """The text, if the data is exactly one bulk string."""
    size, end, rest = data[1:-2].partition(b"\r\n")
    return rest if end and size.isdigit() and len(size) < 8 and int(size) == len(rest) else None


def _read(data: bytes, at: int, depth: int) -> tuple[Reply, int]:
    end = data.find(b"\r\n", at, at + _LONGEST_LINE)
    if end < 0:
        if len(data) - at >= _LONGEST_LINE or (at < len(data) and data[at : at + 1] not in b"+-:$*"):
            raise Garbage(f"an answer that begins with {data[at : at + 16]!r}")
        raise _More
    kind, line, after = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b"$":
        size = _number(line, _LONGEST_BULK)
        if size < 0:
            return None, after
        if len(data) < after + size + 2:
            raise _More
        if data[after + size : after + size + 2] != b"\r\n":
            raise Garbage("a text that is longer than it says")
        return data[after : after + size], after + size + 2
    if kind == b":":
        return _number(line, 2**63), after
    if kind == b"+":
        return line, after
    if kind == b"-":
        return Refusal(line.decode("utf-8", "replace")), after
    if kind != b"*" or depth > _DEEPEST:
        raise Garbage(f"an answer that begins with {data[at : at + 16]!r}")
    count = _number(line, _LONGEST_ARRAY)
    if count < 0:
        return None, after
    items: list[Reply] = []
    for _ in range(count):
        item, after = _read(data, after, depth + 1)
        items.append(item)
    return items, after


def _number(line: bytes, most: int) -> int:
    digits = line.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 19 or int(digits) > most:
        raise Garbage(f"a number that is none, or too large: {line[:24]!r}")
    return int(line)
