"""Clashes: two routes that could both win, since the order of `table` leaves them equal. Each has an example of a path.

Two such routes take the same way through the table, either to their ends or up to a segment where both have captures
and neither goes before the other. Later segments do not decide, but one path must be able to match both.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from gateway.routing.conditions import When, may_hold, text_of
from gateway.routing.patterns import ANY_LABEL, Pattern
from gateway.routing.segments import Capture, Segment, common, folded_segment, goes_before, rank


class Clash(NamedTuple):
    """Two routes, by their numbers (the same one twice for two paths of one), and a request that both take."""

    first: int
    second: int
    example: str
    are_equal: bool  # they match the same requests


class _Path(NamedTuple):
    number: int
    pattern: Pattern
    shape: tuple[Segment, ...]  # its segments, folded


def clashes(patterns: Sequence[Pattern]) -> list[Clash]:
    """The clashes among routes, each pair once, in the order of their numbers."""
    paths = [
        _Path(number, path, tuple(map(folded_segment, path.segments)))
        for number, pattern in enumerate(patterns)
        for path in pattern.paths
    ]
    found: dict[tuple[int, int], Clash] = {}
    for one, other in (*_at_one_place(paths), *_parting(paths)):
        pair = (one.number, other.number)
        if pair not in found and (example := _example(one.pattern, other.pattern)):
            found[pair] = Clash(*pair, example, one.shape == other.shape)
    return [found[pair] for pair in sorted(found)]


def _at_one_place(paths: Iterable[_Path]) -> Iterator[tuple[_Path, _Path]]:
    """Pairs that end at the same place, where neither goes first."""
    places: dict[tuple[object, ...], list[_Path]] = {}
    for path in paths:
        pattern = path.pattern
        # Routes that look at case and differ in it share no request; each is compared with the first of its own case.
        segments = path.shape if pattern.ignores_case else pattern.segments
        # Only methods that it names itself, since HEAD goes first to routes that name it.
        for method in pattern.methods or {""}:
            place = (pattern.host, segments, pattern.rest, method, pattern.ignores_case)
            places.setdefault(place, []).append(path)
    for together in places.values():
        firsts: dict[When, _Path] = {}
        for path in together:
            first = firsts.setdefault(path.pattern.when, path)
            if first is not path:
                yield first, path
        for one, other in combinations(firsts, 2):
            if not (one < other or other < one):
                yield firsts[one], firsts[other]


def _parting(paths: Iterable[_Path]) -> Iterator[tuple[_Path, _Path]]:
    """Pairs that part at a segment where neither's capture goes first."""
    places: dict[tuple[object, ...], dict[Capture, list[_Path]]] = {}
    for path in paths:
        for number, segment in enumerate(path.shape):
            if isinstance(segment, Capture) and rank(segment) in {1, 2}:
                place = (path.pattern.host, path.shape[:number], rank(segment))
                places.setdefault(place, {}).setdefault(segment, []).append(path)
    for by_capture in places.values():
        for one, other in _meeting(list(by_capture)):
            if not (goes_before(one, other) or goes_before(other, one)):
                yield from (
                    (first, second) if first.number <= second.number else (second, first)
                    for first in by_capture[one]
                    for second in by_capture[other]
                )


def _meeting(captures: Sequence[Capture]) -> Iterator[tuple[Capture, Capture]]:
    """Pairs of captures that may both match some segment: one's text before the value begins with the other's, and
    likewise at the end. Found by look-ups, since there may be a thousand in one place."""
    places: dict[tuple[str, str], list[int]] = {}
    endings: dict[tuple[str, str], list[int]] = {}  # by each suffix of the text after the value
    for number, (before, after, _) in enumerate(captures):
        places.setdefault((before, after), []).append(number)
        for start in range(len(after) + 1):
            endings.setdefault((before, after[start:]), []).append(number)
    found: set[tuple[int, int]] = set()
    for number, (before, after, _) in enumerate(captures):
        for end in range(len(before) + 1):
            others = [*endings.get((before[:end], after), ())]
            for start in range(1, len(after) + 1):
                others += places.get((before[:end], after[start:]), ())
            found.update((min(number, other), max(number, other)) for other in others if other != number)
    yield from ((captures[one], captures[other]) for one, other in sorted(found))


def may_share(one: Pattern, other: Pattern) -> bool:
    """Whether some request may match both routes, conditions aside."""
    return any(
        _hosts_meet(first.host, second.host)
        and (not first.allowed or not second.allowed or not first.allowed.isdisjoint(second.allowed))
        and _path(first, second) is not None
        for first in one.paths
        for second in other.paths
    )


def _hosts_meet(one: str, other: str) -> bool:
    if not one or not other or one == other:
        return True
    labels = zip(one.split("."), other.split("."), strict=False)
    return one.count(".") == other.count(".") and all(
        first == second or ANY_LABEL in {first, second} for first, second in labels
    )


def _example(one: Pattern, other: Pattern) -> str:
    """A request that both match, as a person would write it; empty if there is none."""
    methods = one.allowed & other.allowed if one.allowed and other.allowed else one.allowed or other.allowed
    if (one.allowed and other.allowed and not methods) or not may_hold(one.when | other.when):
        return ""
    path = _path(one, other)
    if path is None:
        return ""
    host = one.host.replace(ANY_LABEL, "x")
    method = ("GET" if "GET" in methods else min(methods)) + " " if methods else ""
    conditions = f" with {text_of(one.when | other.when)}" if one.when | other.when else ""
    return f"{method}{host}{path}{conditions}"


def _path(one: Pattern, other: Pattern) -> str | None:
    """A path that both match."""
    short, long = sorted((one, other), key=lambda pattern: len(pattern.segments))
    if len(short.segments) != len(long.segments) and not short.rest:
        return None
    folds = long.ignores_case or short.ignores_case
    for segment, beside in zip(long.segments, short.segments, strict=False):  # a quick check, as there may be many
        if isinstance(segment, str) and isinstance(beside, str) and segment != beside and not folds:
            return None
    found = []
    for number, segment in enumerate(long.segments):
        beside = short.segments[number] if number < len(short.segments) else segment
        ignoring = short.ignores_case if number < len(short.segments) else long.ignores_case
        text = common(segment, beside, folds=(long.ignores_case, ignoring))
        if text is None:
            return None
        found.append(text)
    return "/" + "/".join(found)
