"""A text with placeholders, such as `/teams/{id}?page={query.page}`, in pieces: literal text and what stands in braces.

A placeholder has no brace within it. The caller decides what its inside means, and whether a brace without its partner
is an error: here it stays in the literal text.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_OR_DOUBLED = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


class Piece(NamedTuple):
    """Literal text and what stands in the braces that follow it; None after the last literal text."""

    literal: str
    inside: str | None


def scan(text: str, *, doubled: bool = False) -> Iterator[Piece]:
    """The pieces of a text; joined again they are the text. With `doubled`, `{{` and `}}` are literal text."""
    end = 0
    for match in (_OR_DOUBLED if doubled else _PLACEHOLDER).finditer(text):
        if match[1] is not None:
            yield Piece(text[end : match.start()], match[1])
            end = match.end()
    yield Piece(text[end:], None)
