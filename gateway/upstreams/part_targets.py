"""Targets of calls that the gateway makes by itself, with references to values in braces."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from gateway.http.paths import climbs, is_refused
from gateway.http.queries import masked_target
from gateway.patterns import PLACEHOLDER, PatternError, cut, is_upstream_name

_NO_VALUES = frozenset({"", ".", ".."})


RESERVED = frozenset({"query", "header"})


LAST = "end"  # the id of a stream's last event


_REFERENCE = re.compile(r"[A-Za-z0-9_$@-]+(?:\[\])?(?:\.[A-Za-z0-9_$@-]+(?:\[\])?)*")


class Confined(ValueError):
    """A value that may not stand in a part's target; `reference` is its placeholder."""

    def __init__(self, reference: "Reference") -> None:
        super().__init__(reference.text)
        self.reference = reference


@dataclass(frozen=True, slots=True)
class Reference:
    """One placeholder. `owner` is `query`, `header`, a path parameter or a part; `fields` lead to the value within it.

    In a mapped one `fields` lead to the list and `item_fields` on from each item.
    """

    text: str
    owner: str
    fields: tuple[str, ...] = ()
    item_fields: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PartTarget:
    """Where a part is asked for: an upstream's name, and literals and placeholders in turn (True: in the query).

    No upstream stands where a function of the gateway's own Python makes the part: `text` is its dotted path, and its
    parameters are the placeholders.
    """

    text: str
    upstream: str
    pieces: tuple[tuple[str, Reference | None, bool], ...]

    @property
    def is_function(self) -> bool:
        return not self.upstream

    @property
    def references(self) -> tuple[Reference, ...]:
        return tuple(reference for _, reference, _ in self.pieces if reference is not None)

    @property
    def mapped(self) -> Reference | None:
        """The placeholder whose list the part is mapped over, if it is."""
        return next((reference for reference in self.references if reference.item_fields is not None), None)

    def shown(self) -> "PartTarget":
        """The same as it may be shown: what is written as a value in its query may be a key."""
        return self if self.is_function else parse_part(masked_target(self.text))

    def fill(self, text_of: Callable[[Reference], str], raw: Mapping[str, str]) -> str:
        """The raw target; `text_of` gives a value as text, `raw` the path's own parameters as they came.

        Values are percent-encoded for where they stand; what is no UTF-8 (lone surrogates, PEP 383) stays what it was.
        Raises Confined for one that is empty, or has a piece `.` or `..`.
        """
        out = []
        for literal, reference, in_query in self.pieces:
            out.append(literal)
            if reference is None:
                continue
            if reference.owner in raw and not in_query:
                value = text = raw[reference.owner]
            else:
                value = text_of(reference)
                text = quote(value, safe="", errors="surrogateescape")
            if value in _NO_VALUES or (not in_query and ("\0" in value or climbs("/" + value))):
                raise Confined(reference)
            out.append(text)
        target = "".join(out)
        if climbs(target.partition("?")[0]):  # what stands side by side may be what neither is
            raise Confined(self.references[0])
        return target


def function_target(path: str, parameters: Iterable[str] = ()) -> PartTarget:
    """A function that makes a part, and the path parameters and parts that it asks for by its own parameters."""
    return PartTarget(path, "", tuple(("", Reference(f"{{{name}}}", name), False) for name in parameters))


def parse_part(text: str) -> PartTarget:
    """`upstream:/path/{id}?query={user.id}` -> PartTarget; raises PatternError."""
    upstream, colon, target = text.strip().partition(":")
    if not is_upstream_name(upstream):
        raise PatternError(
            f"'{masked_target(upstream)}' is not an upstream's name; a part is written 'users:/users/{{id}}'"
        )
    if not colon or not target.startswith("/"):
        raise PatternError(f"a part needs a path that begins with a slash: '{upstream}:/...'")
    if any(character == "#" or not "!" <= character <= "~" for character in target):
        raise PatternError("a target holds no white space, no '#', and only ASCII")
    path, mark, query = target.partition("?")
    if "**" in path:
        raise PatternError("a part's target has no '**': what it asks for is written out")
    if is_refused(PLACEHOLDER.sub("x", path)):
        raise PatternError("a target holds no '.' or '..' segment, no '\\' and no '%00'")
    pieces = [*cut(path, _reference, in_query=False), *(cut(mark + query, _reference, in_query=True) if mark else ())]
    found = PartTarget(text.strip(), upstream, tuple(pieces))
    lists = {(one.owner, one.fields) for one in found.references if one.item_fields is not None}
    if len(lists) > 1:
        raise PatternError("a part is mapped over one list, not several")
    return found


def _reference(inside: str) -> Reference:
    text = f"{{{inside}}}"
    if not _REFERENCE.fullmatch(inside):
        raise PatternError(f"'{text}' is not a value; {{id}}, {{query.page}}, {{user.team_id}}, {{orders[].id}} are")
    if inside.count("[]") > 1:
        raise PatternError(f"'{text}' maps over a list within a list; one '[]' can be mapped over")
    head, mapped, tail = inside.partition("[]")
    owner, *fields = head.split(".")
    if owner == "header" and fields:
        fields = [".".join(fields).lower()]
    elif owner == "query" and fields:
        fields = [".".join(fields)]
    return Reference(text, owner, tuple(fields), tuple(filter(None, tail.split("."))) if mapped else None)
