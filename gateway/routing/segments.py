"""Segments of a pattern: literals, and captures of a value: `{id}`, `{id:int}`, `{file}.css`, `v{n:int}`.

Literals, and the text of a capture before and after its value, are kept as they are compared: percent-encoded
unreserved characters are decoded. A `key` is a segment of a request's path in that form, `raw` the same as it came.

Of two captures that match the same segment, the more specific one goes first: literals over a kind, a kind over none;
longer literals that contain the other's; a kind over none between the same literals. Any other two could both win.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from gateway.http.paths import has_dot_piece, normalized

# None of these can be slow: each character is looked at once.
KINDS = {
    "int": re.compile(r"0|[1-9][0-9]{0,18}"),
    "uuid": re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"),
    "hex": re.compile(r"[0-9A-Fa-f]+"),
    "word": re.compile(r"[A-Za-z0-9_]+"),
}
_UUID_BYTES, _UUID_DASHES = 36, (8, 13, 18, 23)
_TOKEN = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)
_UPPER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


class Capture(NamedTuple):
    """A segment with one value, between literals that may be empty; `kind` is empty or one of KINDS."""

    before: str = ""
    after: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.before}{{{self.kind}}}{self.after}"


Segment: TypeAlias = str | Capture
ANY = Capture()


def folded(text: str) -> str:
    """The text with the letters of ASCII in lower case, and no others."""
    return text.lower() if text.isascii() else text.translate(_UPPER)


def folded_segment(segment: Segment) -> Segment:
    """The segment as it is compared where case is ignored."""
    if isinstance(segment, str):
        return folded(segment)
    return Capture(folded(segment.before), folded(segment.after), segment.kind)


# -- matching -----------------------------------------------------------------------------------------------------


def value_within(before: int, after: int, kind: re.Pattern[str] | None, key: str, raw: str) -> str | None:
    """The raw value in a segment, without `before` and `after` characters of its key; None where it is not of this
    kind.

    The ends are those of a capture, and do not overlap. An escape is one character: `{x}F` does not match `%2F`.
    """
    if not (before or after):
        found: str | None = raw
    elif "%" in raw:
        found = _cut(before, after, key, raw)
    else:
        found = raw[before : len(raw) - after]
    return found if kind is None or kind.fullmatch(key[before : len(key) - after]) else None


def _cut(before: int, after: int, key: str, raw: str) -> str | None:
    """The raw text between the ends; None where an end lies within an escape."""
    tokens = _TOKEN.findall(raw)
    lengths = [len(token) for token in tokens] if len(key) == len(raw) else [len(normalized(one)) for one in tokens]
    first, last = 0, len(tokens)
    while before > 0:
        before -= lengths[first]
        first += 1
    while after > 0:
        last -= 1
        after -= lengths[last]
    return "".join(tokens[first:last]) if before == after == 0 and first <= last else None


def takes(segment: Segment, key: str, raw: str) -> bool:
    """Whether a segment of a pattern matches one of a path; fold all three where case is ignored."""
    if isinstance(segment, str):
        return segment == key
    before, after, kind = segment
    if len(key) < len(before) + len(after) or not (key.startswith(before) and key.endswith(after)):
        return False
    return value_within(len(before), len(after), KINDS.get(kind), key, raw) is not None


# -- two of them --------------------------------------------------------------------------------------------------


def rank(segment: Segment) -> int:
    """Less is more specific: a literal, literals around a value, a kind, any value."""
    if isinstance(segment, str):
        return 0
    return 1 if segment.before or segment.after else 2 if segment.kind else 3


def goes_before(one: Capture, other: Capture) -> bool:
    """Whether the first of two captures of the same rank is more specific, so that it wins wherever both match."""
    holds = one.before.startswith(other.before) and one.after.endswith(other.after)
    return one != other and holds and other.kind in {"", one.kind}


def order(capture: Capture) -> tuple[int, int, bool, str]:
    """A key to sort the captures of one place by, those that go first before the others."""
    return rank(capture), -len(capture.before) - len(capture.after), not capture.kind, capture.kind


def common(one: Segment, other: Segment, *, folds: tuple[bool, bool] = (False, False)) -> str | None:
    """A segment that both match, as it is compared; None if there is none. `folds` are True for those that ignore case.

    A value of any kind may consist of `1`, and if any value between the literals will do, then `1` will, unless the
    literals overlap or one kind is uuid. So only a few lengths need to be tried, each filled up with `1`.
    """
    pair = sorted(zip((one, other), folds, strict=True), key=lambda each: not each[1])  # respecting case comes last
    for length in _lengths(one, other):
        text = _filled(length, [segment for segment, _ in pair])
        if has_dot_piece("/" + text):
            continue
        if all(_takes(segment, text, is_folded) for segment, is_folded in pair):
            return text
    return None


def _takes(segment: Segment, text: str, is_folded: bool) -> bool:
    return takes(folded_segment(segment), folded(text), folded(text)) if is_folded else takes(segment, text, text)


def _lengths(one: Segment, other: Segment) -> Iterator[int]:
    for segment in (one, other):
        if isinstance(segment, str):
            yield len(segment)
            return
        if segment.kind == "uuid":
            yield len(segment.before) + _UUID_BYTES + len(segment.after)
            return
    captures = [segment for segment in (one, other) if isinstance(segment, Capture)]
    longest = sum(max(len(end) for end in ends) for ends in zip(*(each[:2] for each in captures), strict=True))
    yield from range(longest + 1, max(len(each.before) + len(each.after) for each in captures) - 1, -1)


def _filled(length: int, segments: list[Segment]) -> str:
    """A text of that length with the literals of all segments, those of the last one where they differ."""
    text = ["1"] * length
    for segment in segments:
        if isinstance(segment, Capture) and segment.kind == "uuid":
            for place in _UUID_DASHES:
                if len(segment.before) + place < length:
                    text[len(segment.before) + place] = "-"
    for segment in segments:
        before, after, _ = segment if isinstance(segment, Capture) else Capture(segment)
        text[: len(before)] = before
        if after:
            text[length - len(after) :] = after
    return "".join(text)[:length]
