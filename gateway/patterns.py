"""The route grammar, and the table that matches a request against it.

    [METHOD,...] [host]/path [-> upstream[:/path]]

Matching is on the raw path, so that nothing is lost or decoded twice; for matching only, percent-encoded unreserved
characters (RFC 3986, section 2.3) are decoded, each segment once. A pattern's segments are literals, `{name}` (one
segment, which may be empty, as RFC 3986 has it) and a last `**` (the rest, also nothing).

The most specific route wins: a host over none; then, segment by segment from the left, a literal over `{}` over `**`,
and the end of the path over `**`; last, a method over none. A route whose method does not match does not compete.
The table is a tree of segments, so a look-up costs what the path is long, whatever the number of routes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.http.paths import has_dot_piece, normalized
from gateway.http.queries import masked_target
from gateway.upstreams.targets import Target, TargetError, parse_target

RouteT = TypeVar("RouteT")

_METHOD = re.compile(r"[A-Z][A-Z-]*")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*")
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*")


class PatternError(ValueError):
    """A route line that does not parse; the text says what was expected."""


# -- patterns -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """A parsed pattern. `segments` hold literals as matched, None for a `{name}`; `rest` says it ends in `/**`."""

    text: str
    methods: frozenset[str]
    host: str
    segments: tuple[str | None, ...]
    rest: bool
    params: tuple[str, ...]

    @property
    def path(self) -> str:
        """The path as it was written: `/users/{id}/**`."""
        return self.text[self.text.index("/") :]

    @property
    def allowed(self) -> frozenset[str]:
        """The methods it answers, GET bringing HEAD; empty means every one."""
        return self.methods | {"HEAD"} if "GET" in self.methods else self.methods

    def or_get(self) -> "Pattern":
        """The pattern of a view that only reads: where it names no method, GET."""
        return self if self.methods else replace(self, methods=frozenset({"GET"}), text=f"GET {self.text}")

    def regex(self) -> str:
        """The pattern for Django's own resolver, which matches decoded text without the first slash."""
        names = iter(self.params)
        parts = [
            f"(?P<{next(names)}>[^/]*)"
            if part is None
            else re.escape(unquote_to_bytes(part).decode("utf-8", "replace"))
            for part in self.segments
        ]
        if not self.rest:
            return "^" + "/".join(parts) + r"\Z"
        return "^" + "/".join(parts) + ("(?:/.*)?" if parts else ".*") + r"\Z"


def parse_pattern(text: str) -> Pattern:
    """`[METHOD,...] [host]/path` -> Pattern; raises PatternError."""
    words = text.split()
    if not words or len(words) > 2:
        raise PatternError("expected [METHOD,...] [host]/path, like 'GET /users/{id}' or '/users/**'")
    methods = _parse_methods(words[0]) if len(words) == 2 else frozenset()
    host, slash, path = words[-1].partition("/")
    if not slash:
        raise PatternError(f"the path must begin with a slash: '/{masked_target(host)}' perhaps")
    if host and not _HOST.fullmatch(host):
        raise PatternError(f"'{masked_target(host)}' is not a host name (no port, no scheme, no wildcard)")
    segments, rest, params = _parse_path(path)
    return Pattern(" ".join(words), methods, host.lower(), segments, rest, params)


def _parse_methods(text: str) -> frozenset[str]:
    methods = text.split(",")
    for method in methods:
        if not _METHOD.fullmatch(method):
            raise PatternError(
                f"'{masked_target(method or text)}' is not a method; methods are upper case with commas: 'GET,HEAD'"
            )
    return frozenset(methods)


def _parse_path(path: str) -> tuple[tuple[str | None, ...], bool, tuple[str, ...]]:
    segments: list[str | None] = []
    params: list[str] = []
    parts = path.split("/")
    rest = parts[-1] == "**"
    for part in parts[:-1] if rest else parts:
        if part.startswith("{") and part.endswith("}"):
            params.append(_parse_name(part[1:-1], params))
            segments.append(None)
        elif _LITERAL.fullmatch(part) and "*" not in part:
            segments.append(normalized(part))
        else:
            raise PatternError(_segment_advice(part))
    if has_dot_piece("".join(f"/{segment or 'x'}" for segment in segments)):
        raise PatternError("a '.' or '..' segment never matches: such paths are refused")
    return tuple(segments), rest, tuple(params)


def _parse_name(name: str, taken: Sequence[str]) -> str:
    if not _NAME.fullmatch(name):
        raise PatternError(f"'{{{name}}}' is not a parameter; names are lower case like {{id}} or {{user_id}}")
    if name in taken:
        raise PatternError(f"'{{{name}}}' stands twice")
    return name


def _segment_advice(part: str) -> str:
    shown = masked_target(part)
    if "**" in part:
        return f"'**' stands alone and last, as in '/users/**'; not in '{shown}'"
    if "{" in part or "}" in part:
        return f"a parameter is a whole segment, as in '/users/{{id}}'; not in '{shown}'"
    if part == "*":
        return "'*' is no wildcard; write '{name}' for one segment, '**' for the rest"
    if "*" in part:
        return f"'*' is not a wildcard in '{shown}'; write '{{name}}' for one segment, '**' for the rest"
    return f"'{shown}' holds characters that must be percent-encoded in a path"


# -- whole lines ----------------------------------------------------------------------------------------------------


def parse_line(text: str) -> tuple[Pattern, Target | None]:
    """A whole route line; the target's names must be the pattern's. Raises PatternError."""
    left, arrow, right = text.partition("->")
    pattern = parse_pattern(left)
    if not arrow:
        return pattern, None
    try:
        target = parse_target(right)
    except TargetError as error:
        raise PatternError(str(error)) from None
    check_names(pattern, target)
    return pattern, target


def check_names(pattern: Pattern, target: Target) -> None:
    """Raises PatternError when the target asks for what the pattern does not give."""
    if target.template is None:
        return
    for name in target.template.names:
        if name not in pattern.params:
            known = ", ".join(f"{{{name}}}" for name in pattern.params) or "none"
            raise PatternError(f"'{{{name}}}' is not in the pattern (its parameters: {known})")
    if target.template.rest and not pattern.rest:
        raise PatternError("the target ends in '**', but the pattern does not")


# -- the table ----------------------------------------------------------------------------------------------------


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


def clash(patterns: Sequence[Pattern]) -> list[tuple[int, int]]:
    """Pairs of indices of equal routes: same host, same path but for parameter names, a method in common."""
    seen: dict[tuple[str, tuple[str | None, ...], bool, str], int] = {}
    pairs: list[tuple[int, int]] = []
    for index, pattern in enumerate(patterns):
        for method in sorted(pattern.methods) or [""]:
            first = seen.setdefault((pattern.host, pattern.segments, pattern.rest, method), index)
            if first != index and (first, index) not in pairs:
                pairs.append((first, index))
    return pairs
