"""The table that matches a request against the routes.

Matching is on the raw path, so that nothing is lost or decoded twice; for matching only, percent-encoded unreserved
characters are decoded, each segment once.

The most specific route wins. What comes first in a line goes first, and an earlier line decides before a later one:

- a fixed host; a host with a value; no host;
- segment by segment from the left: a literal; literals around a value; a value of a kind; `{}`; `**`, which also goes
  after the end of the path;
- a method; no method;
- respects case; ignores it;
- more conditions of WHEN; fewer.

A route with another method, or with conditions that do not hold, does not compete. `clashes` finds routes that this
order leaves equal.

The table is a tree of segments, so the cost of a look-up depends on the length of the path, not on the number of
routes. If any route ignores case, the whole tree is in lower case, and routes that respect case are checked at the end.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from gateway.http.paths import normalized
from gateway.routing.conditions import Holds, When
from gateway.routing.patterns import ANY_LABEL, Pattern
from gateway.routing.segments import ANY, KINDS, Segment, folded, folded_segment, order, takes, value_within

RouteT = TypeVar("RouteT")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")


def none_hold(when: When) -> bool:
    """No condition holds: for a request without known fields."""
    return False


class _End(NamedTuple, Generic[RouteT]):
    """Where a path of a route ends."""

    route: RouteT
    pattern: Pattern


class _Ends(tuple[_End[RouteT], ...]):
    """Several ends, in the order in which they are tried, or one that does not take every request that gets there."""

    __slots__ = ()


_ByMethod: TypeAlias = dict[str, _End[RouteT] | _Ends[RouteT]]  # "" for any


@dataclass(slots=True)
class _Captures(Generic[RouteT]):
    """The captures of one kind with literals of the same lengths, by their literals."""

    before: int
    after: int
    kind: re.Pattern[str] | None
    nodes: "dict[tuple[str, str], _Node[RouteT]]" = field(default_factory=dict)

    def find(self, key: str, raw: str) -> "tuple[_Node[RouteT], str] | None":
        """The node for a segment of a path, and the raw value."""
        end = len(key) - self.after
        node = self.nodes.get((key[: self.before], key[end:])) if end >= self.before else None
        if node is None:
            return None
        value = value_within(self.before, self.after, self.kind, key, raw)
        return None if value is None else (node, value)


@dataclass(slots=True)
class _Node(Generic[RouteT]):
    literals: "dict[str, _Node[RouteT]]" = field(default_factory=dict)
    captures: "list[tuple[tuple[object, ...], _Captures[RouteT]]]" = field(default_factory=list)  # by their order
    param: "_Node[RouteT] | None" = None
    ends: _ByMethod[RouteT] = field(default_factory=dict)
    rests: _ByMethod[RouteT] = field(default_factory=dict)

    def child(self, segment: Segment) -> "_Node[RouteT]":
        if isinstance(segment, str):
            return self.literals.setdefault(segment, _Node())
        if segment == ANY:
            self.param = self.param or _Node()
            return self.param
        place = (*order(segment), len(segment.before))
        found = next((captures for known, captures in self.captures if known == place), None)
        if found is None:
            found = _Captures(len(segment.before), len(segment.after), KINDS.get(segment.kind))
            self.captures.append((place, found))
            self.captures.sort(key=lambda each: each[0])
        return found.nodes.setdefault((segment.before, segment.after), _Node())


class Match(NamedTuple, Generic[RouteT]):
    """The winning route and its path that matched. `values` are the raw values of its parameters, in order; `rest` is
    the raw rest with its slash."""

    route: RouteT
    pattern: Pattern
    values: tuple[str, ...]
    rest: str


@dataclass(frozen=True, slots=True)
class Miss:
    """No route competes; `allowed` are the methods of those that match the path (empty: 404, else 405).

    `is_conditional`: a route would match if its WHEN conditions held.
    """

    allowed: frozenset[str]
    is_conditional: bool = False


class Table(Generic[RouteT]):
    """All routes as trees of segments, one for each host and one for no host."""

    def __init__(self, routes: Iterable[tuple[Pattern, RouteT]]) -> None:
        ends = [_End(route, path) for pattern, route in routes for path in pattern.paths]
        self._folds = any(end.pattern.ignores_case for end in ends)
        self.has_conditions = any(end.pattern.when for end in ends)
        self._depth = max((len(end.pattern.segments) for end in ends), default=0)  # segments beyond it do not matter
        self._hosts: dict[str, _Node[RouteT]] = {}
        self._has_hosts = any(end.pattern.host for end in ends)
        self._has_labels = any(ANY_LABEL in end.pattern.host for end in ends)
        places: dict[tuple[int, bool, str], tuple[_ByMethod[RouteT], list[_End[RouteT]]]] = {}
        for end in ends:
            node = self._hosts.setdefault(end.pattern.host, _Node())
            for segment in end.pattern.segments:
                node = node.child(folded_segment(segment) if self._folds else segment)
            for method in end.pattern.allowed or {""}:
                by_method = node.rests if end.pattern.rest else node.ends
                places.setdefault((id(node), end.pattern.rest, method), (by_method, []))[1].append(end)
        for (_, _, method), (by_method, found) in places.items():
            by_method[method] = self._at_place(method, found)

    def _at_place(self, method: str, ends: list[_End[RouteT]]) -> _End[RouteT] | _Ends[RouteT]:
        """The ends at one place for one method. A GET route takes HEAD too, but a route that names HEAD goes first."""
        ends = sorted(ends, key=lambda end: _order_of(method, end.pattern))
        first = ends[0].pattern
        always = not first.when and (first.ignores_case or not self._folds)
        return ends[0] if always else _Ends(ends)

    def find(self, method: str, host: str, path: str, holds: Holds = none_hold) -> Match[RouteT] | Miss:
        """The most specific competing route for a raw path; `host` in lower case without its port.

        `holds` returns whether the conditions of WHEN hold.
        """
        raw = path[1:].split("/", self._depth)
        exact = [normalized(segment) for segment in raw] if "%" in path else raw
        keys = [folded(segment) for segment in exact] if self._folds else exact
        asked = _Asked(method, keys, raw, set(), exact, holds, [])
        for name in (host, "") if host and self._has_hosts else ("",):
            root = self._hosts.get(name)
            if root is not None:
                match = _below(root, asked, 0, ())
                if match is not None:
                    return match
            if self._has_labels and name:
                for pattern_host, label in hosts_with_value(name):
                    root = self._hosts.get(pattern_host)
                    match = _below(root, asked, 0, (label,)) if root is not None else None
                    if match is not None:
                        return match
        return Miss(frozenset(), is_conditional=True) if asked.unmet else Miss(frozenset(asked.allowed))


def hosts_with_value(host: str) -> Iterator[tuple[str, str]]:
    """The hosts of patterns that match a host with one label as a value, each with that label; leftmost label first."""
    labels = host.split(".")
    if len(labels) > 1 and not labels[-1].isdigit():  # else it is an address
        for number, label in enumerate(labels):
            if _LABEL.fullmatch(label):
                yield ".".join([*labels[:number], ANY_LABEL, *labels[number + 1 :]]), label


def _order_of(method: str, pattern: Pattern) -> tuple[bool, bool, int]:
    """A key to sort the ends at one place."""
    return method not in pattern.methods, pattern.ignores_case, -len(pattern.when)


@dataclass(slots=True)
class _Asked:
    """One look-up: the segments as matched and as received; `allowed` collects the methods that would have matched.

    `exact` are the segments before case folding; `unmet` gets an entry when only its WHEN kept a route from matching.
    """

    method: str
    keys: list[str]
    raw: list[str]
    allowed: set[str]
    exact: list[str]
    holds: Holds
    unmet: list[bool]


def _below(node: _Node[RouteT], asked: _Asked, depth: int, values: tuple[str, ...]) -> Match[RouteT] | None:
    """The best match in a subtree: depth first, the most specific branch first."""
    if depth == len(asked.keys):
        end = _choose(node.ends, asked)
        if end is not None:
            return Match(end.route, end.pattern, values, "")
    else:
        child = node.literals.get(asked.keys[depth])
        if child is not None:
            match = _below(child, asked, depth + 1, values)
            if match is not None:
                return match
        for _, captures in node.captures:
            found = captures.find(asked.keys[depth], asked.raw[depth])
            if found is not None:
                match = _below(found[0], asked, depth + 1, (*values, found[1]))
                if match is not None:
                    return match
        if node.param is not None:
            match = _below(node.param, asked, depth + 1, (*values, asked.raw[depth]))
            if match is not None:
                return match
    end = _choose(node.rests, asked)
    if end is None:
        return None
    tail = asked.raw[depth:]
    return Match(end.route, end.pattern, values, "/" + "/".join(tail) if tail else "")


def _choose(ends: _ByMethod[RouteT], asked: _Asked) -> _End[RouteT] | None:
    if not ends:
        return None
    end = ends.get(asked.method)
    if end is None:
        end = ends.get("")
    return end if type(end) is _End else _looked_at(ends, asked)


def _looked_at(ends: _ByMethod[RouteT], asked: _Asked) -> _End[RouteT] | None:
    """As `_choose`, if no route has the method, or if some do not take every request that gets there."""
    for end in (*_each(ends, asked.method), *_each(ends, "")):
        if _fits(end.pattern, asked):
            if not end.pattern.when or asked.holds(end.pattern.when):
                return end
            asked.unmet.append(True)
    asked.allowed.update(method for method in ends if any(_fits(end.pattern, asked) for end in _each(ends, method)))
    return None


def _each(ends: Mapping[str, _End[RouteT] | _Ends[RouteT]], method: str) -> Sequence[_End[RouteT]]:
    found = ends.get(method, ())
    return (found,) if isinstance(found, _End) else found


def _fits(pattern: Pattern, asked: _Asked) -> bool:
    """Whether the segments match as received, case included; always so for a route that ignores case."""
    if pattern.ignores_case or asked.exact is asked.keys:
        return True
    return all(map(takes, pattern.segments, asked.exact, asked.raw))
