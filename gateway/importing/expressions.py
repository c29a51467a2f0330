"""Paths written as regular expressions that a route can express: literals, kinds, several paths."""

import re
from itertools import product

from gateway.importing.values import KINDS, PathError, parameter

_MOST_PATHS = 20
_REST = ("/.*", "/(.*)")
_LITERAL = re.compile(r"(?:[\w~-]|\\[.~-])+", re.ASCII)
_EITHER = re.compile(r"\((?:\?:)?([^()|]+(?:\|[^()|]+)+)\)")
_KIND = re.compile(
    r"(?:\((?:\?:|\?P?<(?P<name>\w+)>)?)?(?P<kind>" + "|".join(map(re.escape, KINDS)) + r")\)?(?P<after>.*)", re.ASCII
)


def expression_paths(text: str) -> list[str]:
    r"""`^/users/[0-9]+$` -> `/users/{p1:int}`, `^/(a|b)/` -> `/a/**` and `/b/**`, `^/x/?$` -> `/x` and `/x/`.

    Raises PathError for all else: expressions that are not anchored, end within a segment, or match any segment (a
    parameter may be empty, an expression such as `[^/]+` may not).
    """
    body = text.removeprefix("^")
    if not body.startswith("/"):
        raise PathError("it is not anchored")
    is_whole = body.endswith("$")
    body = body.removesuffix("$")
    has_rest = body.endswith(_REST) or (not is_whole and body.endswith("/"))
    if not is_whole and not has_rest:
        raise PathError("it ends within a segment")
    ends = [""]
    if has_rest:
        ends, body = ["/**"], body[: body.rindex("/")]
    elif body.endswith("/?"):
        ends, body = ["", "/"], body.removesuffix("/?")
    parts = body.split("/")[1:]
    found = [_choices(part, f"p{number}") for number, part in enumerate(parts, start=1)]
    paths = ["".join(f"/{one}" for one in each) + end for each in product(*found) for end in ends]
    if len(paths) > _MOST_PATHS:
        raise PathError(f"it has more than {_MOST_PATHS} alternatives")
    return [path or "/" for path in paths]


def _choices(part: str, name: str) -> list[str]:
    """The alternatives for one segment of the expression."""
    if not part:
        return [""]
    if (either := _EITHER.fullmatch(part)) is not None:
        return [_literal(one) for one in either[1].split("|")]
    before = _LITERAL.match(part)
    text = before[0] if before is not None else ""
    if text == part:
        return [_literal(part)]
    kind = _KIND.fullmatch(part, len(text))
    if kind is None or part.count("(") != part.count(")"):
        raise PathError(f"{part!r} is neither a text nor of a kind")
    own = f"{{{parameter(kind['name'] or name)}:{KINDS[kind['kind']]}}}"
    after = _literal(kind["after"]) if kind["after"] else ""
    return [f"{_literal(text) if text else ''}{own}{after}"]


def _literal(text: str) -> str:
    if not _LITERAL.fullmatch(text):
        raise PathError(f"{text!r} is neither a text nor of a kind")
    return re.sub(r"\\(.)", r"\1", text)
