"""The environment of an import, under construction: names are made unique, and all that is written can be loaded.

What cannot be expressed is left out and reported: a sentence with its place and its weight. So is an option that this
version does not have, or a value that it refuses, with the reason. A route with a guard that cannot be expressed is
closed: it answers 403, and its original is a comment. Without it, its requests would go to a wider route without a
guard.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType

from gateway.config import environment
from gateway.config.loader import load
from gateway.config.records import ConfigError
from gateway.importing.source import Node
from gateway.options import Refused

# Options that restrict access: a route must not lose one of these.
_GUARDS = ("AUTH", "ROLES", "SCOPES")
# Options that select the requests of a route, also where it answers by itself.
_OF_REQUESTS = frozenset({"CASE", "WHEN"})
FORBIDDEN = "403"


IsThere = Callable[[str, bool], bool]


class Weight(IntEnum):
    """How much something matters that could not be expressed; the names are used in comments."""

    ACCESS = 1  # access: a gateway without it lets more through
    ROUTING = 2  # where requests go
    BEHAVIOUR = 3  # how they are treated
    DETAIL = 4  # logs, figures, tuning


@dataclass(frozen=True, slots=True, order=True)
class Left:
    """Something that could not be expressed, with its place in the file."""

    weight: Weight
    line: int
    path: str
    text: str

    def __str__(self) -> str:
        place = f"line {self.line}" + (f", {self.path}" if self.path else "")
        return f"[{self.weight.name.lower()}] {place}: {self.text}"


@dataclass(slots=True)
class Draft:
    """Variables in their order, and what could not be expressed."""

    variables: dict[str, str] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)
    _places: dict[str, Node] = field(default_factory=dict)
    _upstreams: dict[tuple[str, ...], str] = field(default_factory=dict)
    _commented: list[str] = field(default_factory=list)
    _answers: dict[str, tuple[str, Left | None]] = field(default_factory=dict)
    _before: dict[str, list[str]] = field(default_factory=dict)
    _needed: dict[str, tuple[str, bool, Node]] = field(default_factory=dict)

    # -- what parsers call ----------------------------------------------------------------------------------------

    def leave(self, weight: Weight, node: Node, text: str) -> None:
        """Note that a node cannot be expressed; it and all within it count as read."""
        node.take()
        self.note(weight, node, text)

    def note(self, weight: Weight, node: Node, text: str) -> None:
        """Note something about a node, of which other members may still be read."""
        one = Left(weight, node.line, node.path, " ".join(text.split()))
        if one not in self.left:
            self.left.append(one)

    def leave_route(self, node: Node, route: str, text: str, *, is_guarded: bool) -> None:
        """Note that a route is left out. Where it was guarded, what gets its requests now does not know of that."""
        self.leave(Weight.ROUTING, node, text)
        if is_guarded:
            self.note(Weight.ACCESS, node, f"{route}: other routes have its requests, and let in")

    def upstream(self, hint: str, urls: Sequence[str], node: Node) -> str:
        """The upstream with these base URLs, made if there is none yet: the part of its variables before `__`."""
        key = tuple(url.rstrip("/") if url.count("/") <= 3 else url for url in urls)
        if key not in self._upstreams:
            stem = self._unique("GATEWAY_UPSTREAM_", hint)
            self._upstreams[key] = stem
            self._set(stem, ",".join(key), node)
        return self._upstreams[key]

    def route(self, hint: str, line: str, node: Node) -> str:
        """A route; the part of its variables before `__`."""
        stem = self._unique("GATEWAY_ROUTE_", hint)
        self._set(stem, line, node)
        return stem

    def way(self, hint: str, source: str, node: Node, options: Mapping[str, str] = MappingProxyType({})) -> str:
        """A way to authenticate, `jwt ISSUER` or the like, with these options: the part of its variables before `__`.

        Empty if an option is refused: without it other clients would be let in.
        """
        for name, value in self.variables.items():
            own = {one.partition("__")[2]: self.variables[one] for one in self._of(name) if one != name}
            if name.startswith("GATEWAY_AUTH_") and value == source and own == options:
                return name
        stem = self._unique("GATEWAY_AUTH_", hint)
        self._set(stem, source, node)
        for option, value in options.items():
            if not self.option(stem, option, value, node, Weight.ACCESS):
                for name in self._of(stem):
                    del self.variables[name]
                return ""
        return stem

    def option(self, stem: str, option: str, value: str, node: Node, weight: Weight = Weight.BEHAVIOUR) -> bool:
        """Set an option of an upstream or route, or a plain one where the stem is `GATEWAY`; returns whether that is
        possible.

        A second, different value for the same option is left out and reported.
        """
        variable = f"GATEWAY_{option}" if stem == "GATEWAY" else f"{stem}__{option}"
        before = self.variables.get(variable)
        if before is not None:
            if before != value:
                shown = [_masked(variable, text) for text in (before, value)]
                self.note(weight, node, f"{variable} is {shown[0]} already, and cannot be {shown[1]} too")
            return before == value
        problem = ""
        if _has_lines(value):
            problem = f"{variable}: {_LINES}"
        else:
            try:
                environment.find(variable).option.unit.parse(value)
            except ValueError as error:
                problem = f"{variable}={_masked(variable, value)}: {error}"
        if problem:
            self.note(weight, node, problem)
            if option in _GUARDS:
                self.close(stem, node, problem)
            return False
        self._set(variable, value, node)
        return True

    def option_of(self, stems: Sequence[str], option: str, value: str, node: Node, weight: Weight) -> None:
        """Set an option on the first of these, a route and its upstream, that can have it."""
        for stem in stems:
            try:
                environment.find(f"{stem}__{option}")
            except Refused:
                continue
            self.option(stem, option, value, node, weight)
            return
        self.option(stems[0], option, value, node, weight)

    def close(self, stem: str, node: Node, text: str) -> None:
        """Close a route, all routes of an upstream, or, with the stem `GATEWAY`, all routes: a guard cannot be
        expressed.

        They answer 403 instead.
        """
        self.note(Weight.ACCESS, node, text)
        self._answers[stem] = FORBIDDEN, Left(Weight.ACCESS, node.line, node.path, " ".join(text.split()))

    def answer(self, stem: str, status: str) -> None:
        """Have a route, those of an upstream, or all routes answer with this status, without a call."""
        self._answers.setdefault(stem, (status, None))

    def needs(self, stem: str, path: str, *, is_folder: bool, node: Node) -> None:
        """Note the folder or file that a variable needs: if it is missing here, the variable becomes a comment."""
        self._needed[stem] = path, is_folder, node

    def comment(self, line: str) -> None:
        """A line to be filled in by hand, such as the path of a certificate."""
        self._commented.append(line)

    def _set(self, variable: str, value: str, node: Node) -> None:
        self.variables[variable] = value
        self._places[variable] = node

    def _unique(self, prefix: str, hint: str) -> str:
        name = clean_name(hint)
        stem, number = f"{prefix}{name}", 2
        while stem in self.variables:
            stem, number = f"{prefix}{name}_{number}", number + 1
        return stem

    # -- the end --------------------------------------------------------------------------------------------------

    def finish(self, roots: Iterable[Node], is_there: IsThere) -> None:
        """Report what was not read, and remove what cannot be loaded, with the reason.

        `is_there` returns whether there is a folder, or a file, at that path here.
        """
        for root in roots:
            for node in root.unused():
                self.leave(Weight.BEHAVIOUR, node, f"unknown here: {_shown(node)}")
        self._leave_missing(is_there)
        self._answer_instead()
        while problems := _problems(self.variables):
            gone = 0
            for variable, message in problems:
                if variable not in self.variables:
                    continue
                for name in self._of(variable.removesuffix("__WHEN")):  # without it the route would be for all requests
                    value = self.variables.pop(name)
                    shown = _masked(name, value)
                    weight = Weight.ACCESS if _is_guard(name) else Weight.ROUTING
                    self.note(weight, self._places[name], f"{name}={shown}: {message}")
                    gone += 1
                    self._close_without(name)
            if not gone:  # the problem is not in a variable that may be removed
                break
            self._answer_instead()
        self.left.sort()

    def _leave_missing(self, is_there: IsThere) -> None:
        """Remove variables of folders and files that are missing here, with which nothing could be loaded."""
        for stem, (path, is_folder, node) in self._needed.items():
            if not is_there(path, is_folder) and stem not in self._answers:
                what = "folder" if is_folder else "file"
                self.note(Weight.ROUTING, node, f"there is no {what} {path} here; where it is, the line below is right")
                self._commented += [f"{name}={self.variables.pop(name)}" for name in self._of(stem)]

    def _of(self, stem: str) -> list[str]:
        """The variables of a route or upstream."""
        return [name for name in self.variables if name == stem or name.startswith(f"{stem}__")]

    def _close_without(self, name: str) -> None:
        """A variable is removed: close what it guarded."""
        node, owner = self._places[name], name.partition("__")[0]
        if owner.startswith("GATEWAY_AUTH_"):
            way = owner.removeprefix("GATEWAY_AUTH_").lower()
            for other, value in self.variables.items():
                if (other == "GATEWAY_AUTH" or other.endswith("__AUTH")) and way in re.split(r"[\s,|+]+", value):
                    self.close(other.removesuffix("__AUTH").removesuffix("_AUTH"), node, f"{name} is not there")
        elif _is_guard(name):
            self.close("GATEWAY" if "__" not in name else owner, node, f"{name} is not there")

    def _answer_instead(self) -> None:
        """Replace routes that answer by themselves, or are closed; their originals become comments."""
        for stem in [name for name in self.variables if _is_route(name)]:
            found = next((self._answers[one] for one in self._owners(stem) if one in self._answers), None)
            if found is None or stem in self._before:
                continue
            status, reason = found
            options = [name for name in self.variables if name.startswith(f"{stem}__")]
            line = self.variables[stem]
            if reason is not None:
                was = [f"{name}={_masked(name, self.variables[name])}" for name in (stem, *options)]
                self._before[stem] = [f"closed: {reason}; it was", *was]
            for name in options:
                kept = _OF_REQUESTS if reason is not None else _OF_REQUESTS | {"BODY", "TYPE"}
                if name.partition("__")[2] not in kept:
                    del self.variables[name]
            self.variables[stem] = f"{line.partition(' -> ')[0]} -> {status}"

    def _owners(self, route: str) -> Iterator[str]:
        """The stems by which a route may be closed: its own, those of its upstreams, the one for all."""
        yield route
        targets = [self.variables[route].partition(" -> ")[2]]
        targets += [value for name, value in self.variables.items() if name.startswith(f"{route}__PART_")]
        yield from (f"GATEWAY_UPSTREAM_{target.partition(':')[0].upper()}" for target in targets)
        yield "GATEWAY"

    @property
    def has_routes(self) -> bool:
        return any(map(_is_route, self.variables))

    def lines(self, title: str, *, shell: bool) -> list[str]:
        """The env file, without line ends: comments, then variables, those of an upstream or route together."""
        out = [f"# {title}"]
        if self.left:
            out.append("# Not said here, what matters most first:")
            out += [f"# {_printable(str(one))}" for one in self.left]
        if self._commented:
            out += ["#", *(f"# {_printable(line)}" for line in self._commented)]
        before: list[str] = []
        for group in _groups(self.variables):
            was = self._before.get(group[0], [])
            if was or len(group) > 1 or len(before) > 1 or _family(group[0]) != _family((before or [""])[0]):
                out.append("")
            before = [*was, *group]
            out += [f"# {_printable(line)}" for line in was]
            out += [_assignment(name, self.variables[name], shell=shell) for name in group]
        return out


def _is_route(name: str) -> bool:
    return name.startswith("GATEWAY_ROUTE_") and "__" not in name


def _is_guard(name: str) -> bool:
    """Whether a variable is about access or authentication."""
    word = name.partition("__")[2] or name.removeprefix("GATEWAY_")
    return word in _GUARDS or name.startswith("GATEWAY_AUTH_")


def clean_name(hint: str) -> str:
    """A name of the environment from any text: `GET /users/{id}` -> `GET_USERS_ID`; never empty or with `_FILE` at its
    end."""
    name = re.sub(r"[^A-Z0-9]+", "_", hint.upper()).strip("_")[:60].strip("_") or "X"
    name = f"N{name}" if name[0].isdigit() else name
    return f"{name}_X" if name == "FILE" or name.endswith("_FILE") else name


_LINES = "its value has more than one line"


def _has_lines(value: str) -> bool:
    """Whether a value has line breaks: in an env file, the next lines would be variables of their own."""
    return "\n" in value or "\r" in value


def _problems(variables: Mapping[str, str]) -> list[tuple[str, str]]:
    def no_file(path: str) -> str:
        raise OSError(f"{path} is not read")

    if several := [(name, _LINES) for name, value in variables.items() if _has_lines(value)]:
        return several
    try:
        load(variables, no_file)
    except ConfigError as error:
        return [(problem.variable, problem.message) for problem in error.problems]
    return []


def _groups(variables: Mapping[str, str]) -> list[list[str]]:
    """Plain variables, then upstreams, then routes; each with its options."""
    groups: dict[str, list[str]] = {}
    for name in variables:
        is_plain = not name.startswith(("GATEWAY_UPSTREAM_", "GATEWAY_ROUTE_"))
        groups.setdefault("" if is_plain else name.partition("__")[0], []).append(name)
    return [groups[stem] for stem in sorted(groups, key=lambda stem: (stem != "", "_ROUTE_" in stem))]


def _family(name: str) -> str:
    """`UPSTREAM` of `GATEWAY_UPSTREAM_USERS`."""
    return name.removeprefix("GATEWAY_").partition("_")[0]


def _assignment(name: str, value: str, *, shell: bool) -> str:
    if not shell:
        return f"{name}={value}"
    quoted = value.replace("'", "'\\''")
    return f"export {name}='{quoted}'"


_SECRET = re.compile(r"(?i)pass|secret|token|key|credential|auth|users")


def _masked(variable: str, value: str) -> str:
    """A value as it may be shown; for an unknown option it is hidden if it may be a secret."""
    try:
        return environment.find(variable).option.unit.mask(value)
    except Refused:
        return "***" if "HEADER" in variable or _SECRET.search(variable.rpartition("__")[2]) else value


def _shown(node: Node) -> str:
    """A value that was not used, shortened; hidden if its name suggests a secret."""
    text = "***" if _SECRET.search(node.path.rpartition(".")[2]) else str(node.plain())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
