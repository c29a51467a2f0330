"""Targets: an upstream's name and, mostly, a template of path and query with values in braces.

    users                          a route's: the request's own path and query go up
    users:/v2/{id}/**?key=1        a route's: {id} is a parameter of the pattern, ** the rest of the path
    users:/teams/{user.team_id}    a part's, or of fetch(): {user.team_id} is a value of another part

Whatever the source of a value, it stays in its place: it is percent-encoded for where it stands, and refused if it is
empty, `.` or `..`, or if it would make a segment `.` or `..` in the path.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from gateway import units
from gateway.http.field_template import Value
from gateway.http.paths import climbs, is_plain, is_refused, normalized
from gateway.http.placeholders import scan
from gateway.http.queries import masked, masked_target
from gateway.http.request import GatewayRequest
from gateway.http.values import OWN, problem_of, value_of

_UPSTREAM = re.compile(units.NAME_PATTERN)
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_REFERENCE = re.compile(r"[A-Za-z0-9_$@-]+(?:\[\])?(?:\.[A-Za-z0-9_$@-]+(?:\[\])?)*")
_NO_VALUES = frozenset({"", ".", ".."})

RESERVED = frozenset({"query", "header"})
LAST = "end"  # the id of a stream's last event


class TargetError(ValueError):
    """A target that does not parse; the text says what was expected."""


class TargetValueError(ValueError):
    """A value that may not stand in a target; `reference` is its placeholder."""

    def __init__(self, reference: "Reference") -> None:
        super().__init__(reference.text)
        self.reference = reference


# -- the engine ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reference:
    """One placeholder. `owner` is `query`, `header`, a path parameter or a part; `fields` lead to the value within it.

    In a mapped one `fields` lead to the list, and `item_fields` lead on from each item.
    """

    text: str
    owner: str
    fields: tuple[str, ...] = ()
    item_fields: tuple[str, ...] | None = None
    default: str | None = None  # used where the value is missing


class Piece(NamedTuple):
    """Literal text and the placeholder that follows it; None after the last one."""

    literal: str
    reference: Reference | None


def _no_other_value(reference: Reference) -> str:
    raise KeyError(reference.text)


@dataclass(frozen=True, slots=True)
class Template:
    """Path and query of a target, in pieces. With `rest`, the raw rest of the request's path follows its own."""

    text: str
    path_pieces: tuple[Piece, ...] = ()
    query_pieces: tuple[Piece, ...] = ()
    rest: bool = False

    @property
    def references(self) -> tuple[Reference, ...]:
        pieces = (*self.path_pieces, *self.query_pieces)
        return tuple(piece.reference for piece in pieces if piece.reference is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """The first names of its placeholders: parameters of the path, parts."""
        return tuple(reference.owner for reference in self.references)

    def path(
        self,
        raw: Mapping[str, str],
        rest: str = "",
        text_of: Callable[[Reference], str] = _no_other_value,
    ) -> str:
        """The raw path; `raw` are raw segments by name, which are used as they came; `text_of` gives any other value.

        `rest` is the raw rest with its slash. Raises TargetValueError.
        """
        out, first = [], None
        for literal, reference in self.path_pieces:
            out.append(literal)
            if reference is not None:
                first = first or reference
                out.append(_in_path(reference, raw, text_of))
        path = "".join(out)
        if first is not None and not is_plain(path) and climbs(path):  # side by side they may make what neither is
            raise TargetValueError(first)
        return (path + rest if self.rest else path) or "/"

    def query(self, raw: Mapping[str, str], text_of: Callable[[Reference], str] = _no_other_value) -> str:
        """The target's own query, without its question mark; raises TargetValueError. Values as in `path`."""
        out = []
        for literal, reference in self.query_pieces:
            out.append(literal)
            if reference is not None:
                out.append(_in_query(reference, raw, text_of))
        return "".join(out)

    def fill(self, raw: Mapping[str, str], text_of: Callable[[Reference], str]) -> str:
        """Path and query as one; raises TargetValueError. Values as in `path`."""
        path = self.path(raw, "", text_of)
        return f"{path}?{self.query(raw, text_of)}" if "?" in self.text else path


def _in_path(reference: Reference, raw: Mapping[str, str], text_of: Callable[[Reference], str]) -> str:
    value = raw.get(reference.owner)
    if value is not None:
        if value in _NO_VALUES or (not is_plain(value) and climbs("/" + value)):
            raise TargetValueError(reference)
        return value
    value = text_of(reference) or reference.default or ""
    if value in _NO_VALUES or "\0" in value or climbs("/" + value):
        raise TargetValueError(reference)
    return quote(value, safe="", errors="surrogateescape")


def _in_query(reference: Reference, raw: Mapping[str, str], text_of: Callable[[Reference], str]) -> str:
    """The value, encoded. Bytes that are not UTF-8 (lone surrogates, PEP 383) stay what they were."""
    value = raw.get(reference.owner)
    if value is None:
        value = text_of(reference) or reference.default or ""
        encoded = quote(value, safe="", errors="surrogateescape")
    else:
        encoded = quote(unquote_to_bytes(value), safe="")
        value = normalized(value)
    if value in _NO_VALUES:
        raise TargetValueError(reference)
    return encoded


# -- the two kinds ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """Where a route leads: an upstream's name, and a template unless the request's own path goes up."""

    text: str
    upstream: str
    template: Template | None = None

    def shown(self) -> "Target":
        """The same as it may be shown: what is written as a value in its query may be a key."""
        return parse_target(masked_target(self.text))


@dataclass(frozen=True, slots=True)
class PartTarget:
    """Where a part is asked for: an upstream's name and a template.

    The upstream is empty where a Python function of the gateway makes the part: `text` is its dotted path, and its
    parameters are the placeholders.
    """

    text: str
    upstream: str
    template: Template

    @property
    def is_function(self) -> bool:
        return not self.upstream

    @property
    def references(self) -> tuple[Reference, ...]:
        return self.template.references

    @property
    def mapped(self) -> Reference | None:
        """The placeholder of the list that the part is mapped over, if it is mapped."""
        return next((reference for reference in self.references if reference.item_fields is not None), None)

    def shown(self) -> "PartTarget":
        """The same as it may be shown: what is written as a value in its query may be a key."""
        return self if self.is_function else parse_part(masked_target(self.text))


def function_target(path: str, parameters: Iterable[str] = ()) -> PartTarget:
    """The target of a function that makes a part; its parameters name path parameters and other parts."""
    return PartTarget(path, "", Template("", tuple(Piece("", Reference(f"{{{name}}}", name)) for name in parameters)))


# -- parsing ------------------------------------------------------------------------------------------------------


def parse_target(text: str) -> Target:
    """`upstream` or `upstream:/path/{name}?query` or `upstream:/prefix/**` -> Target; raises TargetError."""
    upstream, colon, path = units.as_text(text, "users:/users/{id}").strip().partition(":")
    if not _UPSTREAM.fullmatch(upstream):
        raise TargetError(
            f"'{masked_target(upstream)}' is not an upstream's name; names are lower case: 'users' or 'users:/path'"
        )
    if not colon:
        return Target(text.strip(), upstream)
    if upstream in {"http", "https"} and path.startswith("//"):
        raise TargetError("a target names an upstream, as in 'users:/path'; its URL stands in GATEWAY_UPSTREAM_USERS")
    if not path.startswith("/"):
        raise TargetError(f"the path after '{upstream}:' must begin with a slash")
    own, mark, query = path.partition("?")
    _check_characters(path)
    rest = own.endswith("/**")
    own = own.removesuffix("/**")
    if "*" in own:
        raise TargetError("'**' stands alone and last in a target's path, as in 'users:/**'")
    return Target(text.strip(), upstream, _template(own + mark + query, _parameter, rest=rest))


def parse_part(text: str) -> PartTarget:
    """`upstream:/path/{id}?query={user.id}` -> PartTarget; raises TargetError."""
    upstream, colon, target = units.as_text(text, "users:/users/{id}").strip().partition(":")
    if not _UPSTREAM.fullmatch(upstream):
        raise TargetError(
            f"'{masked_target(upstream)}' is not an upstream's name; a part is written 'users:/users/{{id}}'"
        )
    if not colon or not target.startswith("/"):
        raise TargetError(f"a part needs a path that begins with a slash: '{upstream}:/...'")
    _check_characters(target)
    if "**" in target.partition("?")[0]:
        raise TargetError("a part's target has no '**': what it asks for is written out")
    found = PartTarget(text.strip(), upstream, _template(target, _reference))
    lists = {(one.owner, one.fields) for one in found.references if one.item_fields is not None}
    if len(lists) > 1:
        raise TargetError("a part is mapped over one list, not several")
    return found


def parse_template(text: str) -> Template:
    """A path and query with values in braces, `/**` perhaps at the path's end -> Template; raises TargetError."""
    _check_characters(text)
    path, mark, query = text.partition("?")
    rest = path.endswith("/**")
    path = path.removesuffix("/**")
    if "*" in path:
        raise TargetError("'**' stands alone and last in a path, as in '/there/**'")
    return _template(path + mark + query, _parameter, rest=rest)


def text_of(request: GatewayRequest, reference: Reference) -> str:
    """The value of the request that a placeholder of a target stands for; parameters of the path are raw segments."""
    return value_of(request, (reference.owner, *reference.fields))


def _check_characters(text: str) -> None:
    if any(character == "#" or not "!" <= character <= "~" for character in text):
        raise TargetError("a target holds no white space, no '#', and only ASCII")


def _template(text: str, read: Callable[[str], Reference], *, rest: bool = False) -> Template:
    path, _, query = text.partition("?")
    if is_refused("x".join(literal for literal, _ in scan(path))):
        raise TargetError("a target holds no '.' or '..' segment, no '\\' and no '%00'")
    return Template(text, tuple(_pieces(path, read, str)), tuple(_pieces(query, read, masked)), rest)


def _pieces(text: str, read: Callable[[str], Reference], shown: Callable[[str], str]) -> Iterator[Piece]:
    """The pieces of a path or query; `read` parses what stands in braces, `shown` masks text for a message."""
    for literal, inside in scan(text):
        if "{" in literal or "}" in literal:
            raise TargetError(f"a brace without its partner in '{shown(literal)}'")
        yield Piece(literal, None if inside is None else read(inside))


def _parameter(inside: str) -> Reference:
    """A parameter of the path, or a value of the request: `{id}`, `{query.page|1}`, `{claim.sub}`."""
    text, (name, bar, default) = f"{{{inside}}}", inside.partition("|")
    owner, *fields = name.split(".")
    if owner in OWN and (fields or bar):
        if (problem := problem_of(Value(text, (owner, *fields)))) is not None:
            raise TargetError(f"'{text}' {problem}")
    elif not _PARAMETER.fullmatch(name):
        raise TargetError(f"'{text}' is not a parameter; names are like {{id}}, values of the request {{query.x}}")
    return Reference(text, owner, tuple(fields), default=default if bar else None)


def _reference(inside: str) -> Reference:
    text, (inside, bar, default) = f"{{{inside}}}", inside.partition("|")
    if not _REFERENCE.fullmatch(inside):
        raise TargetError(f"'{text}' is not a value; {{id}}, {{query.page}}, {{user.team_id}}, {{orders[].id}} are")
    if inside.count("[]") > 1:
        raise TargetError(f"'{text}' maps over a list within a list; one '[]' can be mapped over")
    head, mapped, tail = inside.partition("[]")
    owner, *fields = head.split(".")
    if owner == "header" and fields:
        fields = [".".join(fields).lower()]
    elif owner == "query" and fields:
        fields = [".".join(fields)]
    item_fields = tuple(filter(None, tail.split("."))) if mapped else None
    return Reference(text, owner, tuple(fields), item_fields, default if bar else None)
