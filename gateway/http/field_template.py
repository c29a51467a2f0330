"""Values in braces within a header field: `{claim.sub}`, `{roles}/{user|nobody}`. `{{` and `}}` are braces.

What a word stands for is the caller's business. A value that is missing makes the whole field missing, unless a text
stands for it after a bar.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.http.placeholders import scan

_DOUBLED = re.compile(r"([{}])\1")
_UNFIT = re.compile("[\x00-\x08\x0a-\x1f\x7f]")


class TemplateError(ValueError):
    """A text that is no template; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value in braces: the words between its dots, and the text that stands for it where it is missing, if any."""

    text: str
    words: tuple[str, ...]
    default: str | None = None


@dataclass(frozen=True, slots=True)
class FieldTemplate:
    """Literal texts and values, in turn."""

    pieces: tuple[str | Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(piece for piece in self.pieces if isinstance(piece, Value))

    def fill(self, value_of: Callable[[Sequence[str]], str]) -> bytes | None:
        """The field's value in UTF-8; None where a value is missing, or cannot stand in a field (a line break)."""
        out = []
        for piece in self.pieces:
            if isinstance(piece, str):
                out.append(piece)
                continue
            value = value_of(piece.words) or piece.default
            if value is None or _UNFIT.search(value):
                return None
            out.append(value)
        try:
            return "".join(out).encode()
        except UnicodeEncodeError:  # a lone surrogate
            return None


def parse_template(text: str, check: Callable[[Value], str | None]) -> FieldTemplate:
    """A text with values in braces -> its template. `check` gives what is wrong with a value, in words.

    Raises TemplateError.
    """
    pieces: list[str | Value] = []
    for literal, inside in scan(text, doubled=True):
        if literal:
            pieces.append(_literal(literal))
        if inside is not None:
            pieces.append(_value(inside, check))
    return FieldTemplate(tuple(pieces))


def _literal(text: str) -> str:
    bare = _DOUBLED.sub("", text)
    if "{" in bare or "}" in bare:
        raise TemplateError("a brace without its partner; write {{ and }} for braces that are meant")
    return _DOUBLED.sub(r"\1", text)


def _value(inside: str, check: Callable[[Value], str | None]) -> Value:
    name, bar, default = inside.partition("|")
    value = Value(f"{{{inside}}}", tuple(name.split(".")), default if bar else None)
    problem = check(value)
    if problem is not None:
        raise TemplateError(f"{value.text} {problem}; write {{{{ and }}}} for braces that are meant")
    return value
