"""Why a route does not get a request, in words. `table` decides; this gives the reason."""

from gateway.http.paths import normalized
from gateway.routing.conditions import text_of
from gateway.routing.patterns import ANY_LABEL, Pattern
from gateway.routing.segments import Segment, folded, folded_segment, takes
from gateway.routing.table import hosts_with_value


def mismatch(pattern: Pattern, host: str, path: str) -> str:
    """Why the host (lower case, no port) or the raw path does not match a route; empty if both match.

    For a route with several paths, the reason of the nearest one.
    """
    return _mismatch(nearest(pattern, host, path), host, path)


def nearest(pattern: Pattern, host: str, path: str) -> Pattern:
    """The path of a route that matches, or matches the most segments."""
    return max(pattern.paths, key=lambda one: (not _mismatch(one, host, path), _nearness(one, host, path)))


def _mismatch(pattern: Pattern, host: str, path: str) -> str:
    if not _is_for(pattern, host):
        return f"only for the host {pattern.host}"
    raw = path[1:].split("/")
    for number, (own, came) in enumerate(zip(pattern.segments, raw, strict=False), start=1):
        if not _takes(pattern, own, came):
            return f"segment {number} is '{came}', not '{own}'"
    if len(raw) < len(pattern.segments):
        return f"the path has {len(raw)} of its {len(pattern.segments)} segments"
    if len(raw) > len(pattern.segments) and not pattern.rest:
        return f"the path goes on after segment {len(pattern.segments)}"
    return ""


def _is_for(pattern: Pattern, host: str) -> bool:
    return pattern.host in {"", host} or any(pattern.host == one for one, _ in hosts_with_value(host))


def _takes(pattern: Pattern, own: Segment, came: str) -> bool:
    key = normalized(came)
    if pattern.ignores_case:
        return takes(folded_segment(own), folded(key), folded(came))
    return takes(own, key, came)


def nearness(pattern: Pattern, host: str, path: str) -> tuple[bool, int]:
    """How far a route matches a request: whether its host does, and how many segments."""
    return max(_nearness(one, host, path) for one in pattern.paths)


def _nearness(pattern: Pattern, host: str, path: str) -> tuple[bool, int]:
    count = 0
    for own, came in zip(pattern.segments, path[1:].split("/"), strict=False):
        if not _takes(pattern, own, came):
            break
        count += 1
    return _is_for(pattern, host), count


def refusal(pattern: Pattern, method: str) -> str:
    """Why a pattern that matches the path does not take the method; empty if it does."""
    if not pattern.allowed or method in pattern.allowed:
        return ""
    return f"answers only {', '.join(sorted(pattern.allowed))}"


def unmet(pattern: Pattern) -> str:
    """The sentence that the conditions of a route do not hold."""
    return f"only when {text_of(pattern.when)}"


def beaten(loser: Pattern, winner: Pattern) -> str:
    """Why one of two paths that match the same request is more specific."""
    if winner.host != loser.host:
        if loser.host == "":
            return "a route for a host goes first"
        return (
            "a host goes before one with a value" if ANY_LABEL not in winner.host else "a value on the left goes first"
        )
    folds = winner.ignores_case or loser.ignores_case
    theirs, ours = _places(winner, folds=folds), _places(loser, folds=folds)
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False), start=1):
        if their != our:
            return f"at segment {number} {their} goes before {our}" if their else "a path's end goes before **"
    if winner.methods and not loser.methods:
        return "a route that names its methods goes first"
    if ("HEAD" in winner.methods) != ("HEAD" in loser.methods) and winner.methods.isdisjoint(loser.methods):
        return "a route that names HEAD goes before one that has it from GET"
    if winner.ignores_case != loser.ignores_case:
        return "a route that looks at case goes before one that ignores it"
    if winner.when != loser.when:
        return "its conditions hold (WHEN)" if not loser.when else "more of its conditions hold (WHEN)"
    return "a route that names HEAD goes before one that has it from GET"


def _places(pattern: Pattern, *, folds: bool) -> list[str]:
    """The kind of each segment, and of the end: `**`, or nothing."""
    segments = map(folded_segment, pattern.segments) if folds else pattern.segments
    shown = [f"'{one}'" if isinstance(one, str) or any(one[:2]) else str(one) for one in segments]
    return [*shown, "**" if pattern.rest else ""]
