"""What options put into a call and take out of it, as values."""

from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http import queries
from gateway.http.values import beyond_url, vary_of
from gateway.proxy.sent import Passing, Sent
from gateway.upstreams.options import Overrides, effective, overrides

PAIRS = [(b"authorization", b"x"), (b"content-type", b"y"), (b"cookie", b"a=1"), (b"if-none-match", b'"1"')]


@pytest.mark.parametrize(
    ("names", "passing"),
    [
        ((), []),
        (("*",), ["authorization", "content-type", "cookie", "if-none-match"]),
        (("cookie",), ["cookie"]),
        (("content-*", "auth*"), ["authorization", "content-type"]),
        (("content",), []),
    ],
)
def test_names_and_beginnings_pass(names: Sequence[str], passing: Sequence[str]) -> None:
    assert [name.decode() for name, _ in Passing(names).of(PAIRS)] == passing


def test_what_a_cache_asks_by_passes() -> None:
    assert [name for name, _ in Passing(()).of(PAIRS, for_cache=True)] == [b"if-none-match"]


def test_what_uses_none_of_it_costs_nothing() -> None:
    sent = Sent(effective(Overrides(), overrides({"header_x": "a"})))
    assert (sent.changes, sent.passing, sent.words, sent.changes_query) == (((b"x", b"a"),), None, (), False)
    assert Sent(effective(Overrides(), overrides({"forward_headers": "*"}))).passing is None


def test_words_are_told_once_and_those_of_the_url_are_in_the_key_already() -> None:
    words = [("client",), ("path",), ("header", "x-a"), ("cookie", "sid"), ("header", "x-a"), ("request_id",), ("id",)]
    assert beyond_url(words) == (("client",), ("cookie", "sid"), ("header", "x-a"))
    assert vary_of(words) == ("cookie", "x-a")


# -- queries ----------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c d", "é"])
QUERIES = st.lists(st.tuples(NAMES, st.text("xyz%", max_size=3)), max_size=5).map(
    lambda pairs: "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)
)


@given(QUERIES, st.dictionaries(NAMES, st.none() | st.just("v")))
def test_changes_replace_all_of_a_name_and_nothing_else(query: str, changes: dict[str, str | None]) -> None:
    made = queries.changed(query, changes.items())
    names = [unquote_to_bytes(one.partition("=")[0]).decode() for one in made.split("&") if one]
    for name, value in changes.items():
        assert names.count(name) == (value is not None)
    kept = [one for one in query.split("&") if one]
    others = [one for one in kept if unquote_to_bytes(one.partition("=")[0]).decode() not in changes]
    assert [one for one in made.split("&") if one][: len(others)] == others


@given(QUERIES)
def test_of_a_query_only_named_parameters_pass(query: str) -> None:
    assert queries.only(query, {"a", "b", "c d", "é"}) == query
    assert queries.only(query, ()) == ""
