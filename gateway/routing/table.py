"""The table that matches a request against the routes.

Matching is on the raw path, so that nothing is lost or decoded twice; for matching only, percent-encoded unreserved
characters are decoded, each segment once.

The most specific route wins: a host over none; then, segment by segment from the left, a literal over `{}` over `**`,
and the end of the path over `**`; last, a method over none. A route whose method does not match does not compete.
The table is a tree of segments, so a look-up costs what the path is long, whatever the number of routes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from gateway.http.paths import normalized
from gateway.routing.patterns import Pattern

RouteT = TypeVar("RouteT")


@dataclass(slots=True)
class _Node(Generic[RouteT]):
    literals: dict[str, "_Node[RouteT]"] = field(default_factory=dict)
    param: "_Node[RouteT] | None" = None
    ends: dict[str, RouteT] = field(default_factory=dict)  # method, or "" for any -> route
    rests: dict[str, RouteT] = field(default_factory=dict)

    def child(self, segment: str | None) -> "_Node[RouteT]":
        if segment is None:
            self.param = self.param or _Node()
            return self.param
        return self.literals.setdefault(segment, _Node())


class Match(NamedTuple, Generic[RouteT]):
    """The winning route; `values` are the raw segments of its parameters in order, `rest` the raw rest with slash."""

    route: RouteT
    values: tuple[str, ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Miss:
    """No route competes; `allowed` are the methods of those that match the path (empty: 404, else 405)."""

    allowed: frozenset[str]


class Table(Generic[RouteT]):
    """All routes as trees of segments, one per host and one for no host."""

    def __init__(self, routes: Iterable[tuple[Pattern, RouteT]]) -> None:
        self._hosts: dict[str, _Node[RouteT]] = {}
        self._depth = 0  # of the deepest pattern: beyond it a path's segments are of no interest
        for pattern, route in routes:
            self._depth = max(self._depth, len(pattern.segments))
            node = self._hosts.setdefault(pattern.host, _Node())
            for segment in pattern.segments:
                node = node.child(segment)
            place = node.rests if pattern.rest else node.ends
            for method in pattern.allowed or {""}:
                # A GET route brings HEAD, but a route that names HEAD itself keeps it, whatever the order.
                if method == "HEAD" and "HEAD" not in pattern.methods:
                    place.setdefault(method, route)
                else:
                    place[method] = route

    def find(self, method: str, host: str, path: str) -> Match[RouteT] | Miss:
        """The most specific competing route for a raw path; `host` in lower case without its port."""
        raw = path[1:].split("/", self._depth)
        keys = [normalized(segment) for segment in raw] if "%" in path else raw
        asked = _Asked(method, keys, raw, set())
        for name in (host, "") if host else ("",):
            root = self._hosts.get(name)
            if root is not None:
                match = _below(root, asked, 0, ())
                if match is not None:
                    return match
        return Miss(frozenset(asked.allowed))


class _Asked(NamedTuple):
    """One look-up: the segments as they are matched and as they came; `allowed` collects what might have matched."""

    method: str
    keys: list[str]
    raw: list[str]
    allowed: set[str]


def _below(node: _Node[RouteT], asked: _Asked, depth: int, values: tuple[str, ...]) -> Match[RouteT] | None:
    """The best match in a subtree: depth first, the most specific branch first."""
    if depth == len(asked.keys):
        route = _choose(node.ends, asked)
        if route is not None:
            return Match(route, values, "")
    else:
        child = node.literals.get(asked.keys[depth])
        if child is not None:
            match = _below(child, asked, depth + 1, values)
            if match is not None:
                return match
        if node.param is not None:
            match = _below(node.param, asked, depth + 1, (*values, asked.raw[depth]))
            if match is not None:
                return match
    route = _choose(node.rests, asked)
    if route is None:
        return None
    tail = asked.raw[depth:]
    return Match(route, values, "/" + "/".join(tail) if tail else "")


def _choose(routes: Mapping[str, RouteT], asked: _Asked) -> RouteT | None:
    if not routes:
        return None
    route = routes.get(asked.method)
    if route is None:
        route = routes.get("")
        if route is None:
            asked.allowed.update(routes)
    return route
