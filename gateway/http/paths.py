"""Raw paths: how their segments are compared, which are refused, and what other servers could read in them.

A gateway guards paths, and a server behind it may read another path out of the same bytes. nginx decodes `%2F` and
merges `//`, Tomcat and Jetty cut `;parameters` off a segment, IIS and .NET take `\\` for a slash, most decode `%3A`,
and many resolve dot segments after that. The choice of a route must not depend on which reading is right:

1. a segment with a piece `.` or `..`, however its slashes are spelled, is refused;
2. all else passes as it came, unless one of these readings falls to another route than the path itself.

Percent-encoding is undone once, as RFC 3986, section 2.4 requires: servers that decode twice are not covered.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DOT_PIECE = re.compile(r"(?:[/\\;]|%2f|%5c|%3b)(?:\.|%2e){1,2}(?=[/\\;]|%2f|%5c|%3b|\Z)", re.IGNORECASE)
# What RFC 3986 allows in a segment beside unreserved characters: `:`, `@`, `;` and the other sub-delims.
_RESERVED = r"2[146-9A-Ca-c]|3[ABDabd]|40"
_READ_OTHERWISE = re.compile(rf";|//|%(?:{_RESERVED}|2[Ff]|5[Cc])")
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"//+")


def normalized(segment: str) -> str:
    """A raw segment with its percent-encoded unreserved characters decoded, once: `%41%2f` is `A%2F`.

    One with a `%` that begins no escape stays as it is: decoding beside it could make an escape that was not there.
    """
    if "%" not in segment or _BARE_PERCENT.search(segment):
        return segment
    return _ESCAPE.sub(_unescape, segment)


def _unescape(match: re.Match[str]) -> str:
    octet = int(match[1], 16)
    return chr(octet) if octet in _UNRESERVED else match[0].upper()


def is_plain(path: str) -> bool:
    """Whether nothing in a path could be read in two ways: no escape, parameter, backslash, empty or dotted segment."""
    return not ("%" in path or "//" in path or ";" in path or "/." in path or "\\" in path)


def has_dot_piece(path: str) -> bool:
    """Whether a segment, decoded once and cut at `/`, `\\` and `;`, has a piece that is `.` or `..`."""
    return _DOT_PIECE.search(path) is not None


def climbs(path: str) -> bool:
    """Whether a path has a dot piece, or `%00`."""
    return "%00" in path or has_dot_piece(path)


def is_refused(path: str) -> bool:
    """Whether a path has a dot piece, a raw backslash, or `%00`."""
    return "\\" in path or climbs(path)


def is_read_otherwise(path: str) -> bool:
    """Whether a server could read another path: there are slashes, parameters or reserved characters in disguise."""
    return _READ_OTHERWISE.search(path) is not None


# -- readings -----------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """A path as another server may read it.

    Where the value of a `{name}` is read like all the rest, `from_values` has an entry for each of the first segments:
    whether it comes from such a value. It is empty where values are left as they are.
    """

    path: str
    from_values: tuple[bool, ...] = ()


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return "/" if character == "\\" else character


# All but slashes, segment by segment; `%2F` too, as nginx does; `%5C` as another slash, as IIS does.
_ESCAPES = tuple(re.compile(f"%({_RESERVED}{slashes})") for slashes in ("", "|2[Ff]", "|2[Ff]|5[Cc]"))


class _Read(NamedTuple):
    """A path half read: its first segments as they are now, each with whether it comes from a value, and the rest.

    Values are left alone unless `reads_values`.
    """

    segments: tuple[tuple[str, bool], ...]
    rest: str
    reads_values: bool

    def decoded(self, escapes: re.Pattern[str]) -> "_Read":
        pieces: list[tuple[str, bool]] = []
        for text, is_value in self.segments:
            found = escapes.sub(_decoded, text) if self.reads_values or not is_value else text
            pieces.extend((piece, is_value) for piece in found.split("/"))
        return self._replace(segments=tuple(pieces), rest=escapes.sub(_decoded, self.rest))

    def cut(self) -> "_Read":
        pieces = tuple(
            (text.partition(";")[0] if self.reads_values or not is_value else text, is_value)
            for text, is_value in self.segments
        )
        return self._replace(segments=pieces, rest=_PARAMETERS.sub("", self.rest))

    def merged(self) -> "_Read":
        pieces = [piece for piece in self.segments if piece[0]]
        if self.segments and not self.segments[-1][0] and not self.rest:
            pieces.append(self.segments[-1])  # the slash at the end stays
        return self._replace(segments=tuple(pieces), rest=_SLASHES.sub("/", self.rest))

    def whole(self) -> Reading:
        path = "".join(f"/{text}" for text, _ in self.segments) + self.rest or "/"
        return Reading(path, tuple(is_value for _, is_value in self.segments) if self.reads_values else ())


_Step = Callable[[_Read], _Read]


def readings(segments: Sequence[tuple[str, bool]], rest: str) -> Iterator[Reading]:
    """The path as it came, and as other servers may read it, each once.

    `segments` are the raw ones that a route's pattern matched, each with whether a `{name}` matched it; `rest` is what
    its `**` matched, with its slash. A value is data: in some readings it stays as it is, in others it is read like the
    rest.
    """
    path = "".join(f"/{segment}" for segment, _ in segments) + rest
    if not is_read_otherwise(path):
        yield Reading(path)
        return
    steps = tuple(_steps(path))
    seen: set[Reading] = set()
    has_words = any(is_value and is_read_otherwise(text) for text, is_value in segments)
    for reads_values in (False, True) if has_words else (False,):
        for read in _in_any_order(_Read(tuple(segments), rest, reads_values), steps):
            reading = read.whole()
            if reading not in seen and Reading(reading.path) not in seen:
                seen.add(reading)
                yield reading


def _steps(path: str) -> Iterator[tuple[_Step, ...]]:
    """The transformations by servers that could change this path, each with its variants."""
    lower = path.lower()
    present = (_ESCAPES[0].search(path) is not None, "%2f" in lower, "%5c" in lower)
    cuts = ";" in path or "%3b" in lower
    if cuts:
        yield (_Read.cut,)
    if any(present):
        yield tuple(
            partial(_Read.decoded, escapes=one) for one, is_there in zip(_ESCAPES, present, strict=True) if is_there
        )
    if cuts or any(present[1:]) or "//" in path:
        yield (_Read.merged,)


def _in_any_order(read: _Read, steps: tuple[tuple[_Step, ...], ...]) -> Iterator[_Read]:
    """The results of some of the steps, each taken at most once, in any order: servers differ in that, too."""
    yield read
    for number, ways in enumerate(steps):
        for step in ways:
            yield from _in_any_order(step(read), steps[:number] + steps[number + 1 :])
