"""Values in braces within a field, and what they stand for of who asks."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.field_template import TemplateError, Value, parse_template
from gateway.http.identity import Identity, claim_at, value_of

CLAIMS = {
    "sub": "alice", "n": 7, "f": 1.5, "yes": True, "no": False, "null": None, "empty": "", "list": ["a", "b", 3],
    "odd": ["a,b", "c"], "only": ["a,b"], "deep": {"er": {"x": "y"}, "list": []}, "break": "a\r\nb", "nul": "a\0",
    "tab": "a\tb", "lone": "\ud800", "https://example.com/mail": "a@b", "umlaut": "jürgen",
}  # fmt: skip
ALICE = Identity("alice", "token", ("admin", "ops"), ("read",), CLAIMS)


def known(value: Value) -> str | None:
    return None if value.words[0] in {"claim", "user", "roles"} else "is no value"


def filled(text: str, identity: Identity | None = ALICE) -> bytes | None:
    return parse_template(text, known).fill(lambda words: value_of(identity, words))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"),
        ("", b""),
        ("{user}", b"alice"),
        ("{roles}", b"admin,ops"),
        ("{claim.sub}", b"alice"),
        ("<{claim.sub}/{claim.n}>", b"<alice/7>"),
        ("{claim.f} {claim.yes} {claim.no}", b"1.5 true false"),
        ("{claim.list}", b"a,b,3"),
        ("{claim.deep.er.x}", b"y"),
        ("{claim.https://example.com/mail}", b"a@b"),
        ("{claim.umlaut}", "jürgen".encode()),
        ("{claim.tab}", b"a\tb"),
        ("{{user}}", b"{user}"),
        ("{{{user}}}", b"{alice}"),
        # What is missing sets nothing, never an empty field.
        ("{claim.gone}", None),
        ("x{claim.gone}y", None),
        ("{claim.null}", None),
        ("{claim.empty}", None),
        ("{claim.deep}", None),
        ("{claim.deep.list}", None),
        ("{claim.sub.x}", None),
        ("{claim.gone|nobody}", b"nobody"),
        ("{claim.gone|}", b""),
        ("{claim.sub|nobody}", b"alice"),
        # What cannot stand in a field.
        ("{claim.break}", None),
        ("{claim.nul}", None),
        ("{claim.lone}", None),
        # A member that holds a comma would be two.
        ("{claim.odd}", b"c"),
        ("{claim.only}", None),
    ],
)
def test_values_stand_in_a_field(text: str, value: bytes | None) -> None:
    assert filled(text) == value


def test_nobody_has_no_values() -> None:
    assert filled("{user}", None) is None
    assert filled("{user|nobody}", None) == b"nobody"


def test_a_member_with_a_comma_is_told_of() -> None:
    told: list[str] = []
    assert value_of(ALICE, ("claim", "odd"), told.append) == "c"
    assert value_of(ALICE, ("claim", "list"), told.append) == "a,b,3"
    assert told == ["claim.odd"]


@pytest.mark.parametrize("text", ["{", "}", "a{b", "{user", "user}", "{{user}", "{a{b}c}", "{x}", "{}", "{.}"])
def test_what_is_no_template_shows_how_a_brace_is_written(text: str) -> None:
    with pytest.raises(TemplateError, match="{{ and }}".replace("{", r"\{")):
        parse_template(text, known)


@given(st.text(st.characters(exclude_characters="{}\0\r\n", codec="utf-8")))
def test_text_without_braces_is_itself(text: str) -> None:
    template = parse_template(text, known)
    assert template.values == ()
    assert template.fill(lambda words: "") == text.encode()


@given(st.lists(st.sampled_from(["{user}", "{{", "}}", "a", "{claim.sub}"])), st.text(max_size=20))
def test_a_value_never_makes_another_line(pieces: Sequence[str], value: str) -> None:
    found = parse_template("".join(pieces), known).fill(lambda words: value)
    assert found is None or not set(b"\r\n\0") & set(found)


def test_a_path_leads_to_a_claim() -> None:
    assert claim_at(CLAIMS, ("deep", "er")) == {"x": "y"}
    assert claim_at(CLAIMS, ("sub", "x")) is None
    assert claim_at({"a.b": 1, "a": {"b": 2}}, ("a", "b")) == 1
