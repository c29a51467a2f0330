"""Text with placeholders, in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.placeholders import scan

texts = st.lists(st.sampled_from(["{", "}", "{{", "}}", "{a}", "{}", "b", "/"])).map("".join) | st.text()


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", [("", None)]),
        ("plain", [("plain", None)]),
        ("{a}", [("", "a"), ("", None)]),
        ("{}", [("", ""), ("", None)]),
        ("/x/{a}{b.c|d}?e", [("/x/", "a"), ("", "b.c|d"), ("?e", None)]),
        # A brace without its partner is literal text, for the caller to refuse.
        ("{", [("{", None)]),
        ("a{b", [("a{b", None)]),
        ("a}b{c}", [("a}b", "c"), ("", None)]),
        ("{a{b}c}", [("{a", "b"), ("c}", None)]),
        ("{{a}}", [("{", "a"), ("}", None)]),
    ],
)
def test_a_text_has_pieces(text: str, pieces: list[tuple[str, str | None]]) -> None:
    assert list(scan(text)) == pieces


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a{b}c", [("a", "b"), ("c", None)]),
        ("{{a}}", [("{{a}}", None)]),
        ("{{{a}}}", [("{{", "a"), ("}}", None)]),
        ("{{{{a}", [("{{{{a}", None)]),
        ("}{{{a}", [("}{{", "a"), ("", None)]),
    ],
)
def test_doubled_braces_are_literal_text(text: str, pieces: list[tuple[str, str | None]]) -> None:
    assert list(scan(text, doubled=True)) == pieces


@given(texts, st.booleans())
def test_the_pieces_joined_are_the_text(text: str, doubled: bool) -> None:
    pieces = list(scan(text, doubled=doubled))
    assert "".join(piece.literal + ("" if piece.inside is None else f"{{{piece.inside}}}") for piece in pieces) == text
    assert [piece.inside for piece in pieces].index(None) == len(pieces) - 1
    assert not {"{", "}"} & set("".join(piece.inside or "" for piece in pieces))
