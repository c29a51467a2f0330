"""Why a route does not get a request, in words. `table` decides; this tells the reason."""

from gateway.http.paths import normalized
from gateway.routing.patterns import Pattern


def mismatch(pattern: Pattern, host: str, path: str) -> str:
    """What of host (lower case, no port) or raw path keeps a pattern from matching; empty if nothing does."""
    if pattern.host and pattern.host != host:
        return f"only for the host {pattern.host}"
    raw = path[1:].split("/")
    for number, (own, came) in enumerate(zip(pattern.segments, raw, strict=False), start=1):
        if own is not None and own != normalized(came):
            return f"segment {number} is '{came}', not '{own}'"
    if len(raw) < len(pattern.segments):
        return f"the path has {len(raw)} of its {len(pattern.segments)} segments"
    if len(raw) > len(pattern.segments) and not pattern.rest:
        return f"the path goes on after segment {len(pattern.segments)}"
    return ""


def nearness(pattern: Pattern, host: str, path: str) -> tuple[bool, int]:
    """How far a pattern goes along with a request: whether its host does, and for how many segments."""
    count = 0
    for own, came in zip(pattern.segments, path[1:].split("/"), strict=False):
        if own is not None and own != normalized(came):
            break
        count += 1
    return pattern.host in {"", host}, count


def refusal(pattern: Pattern, method: str) -> str:
    """What keeps a pattern that matches the path from taking the method; empty if nothing does."""
    if not pattern.allowed or method in pattern.allowed:
        return ""
    return f"answers only {', '.join(sorted(pattern.allowed))}"


def beaten(loser: Pattern, winner: Pattern) -> str:
    """By what one of two patterns that take the same request is more specific."""
    if winner.host and not loser.host:
        return "a route for a host goes first"
    theirs, ours = _places(winner), _places(loser)
    for number, (their, our) in enumerate(zip(theirs, ours, strict=False), start=1):
        if their != our:
            return f"at segment {number} {their} goes before {our}" if their else "a path's end goes before **"
    if winner.methods and not loser.methods:
        return "a route that names its methods goes first"
    return "a route that names HEAD goes before one that has it from GET"


def _places(pattern: Pattern) -> list[str]:
    """What stands at each segment, and at the end: `**`, or nothing."""
    shown = ["{}" if segment is None else f"'{segment}'" for segment in pattern.segments]
    return [*shown, "**" if pattern.rest else ""]
