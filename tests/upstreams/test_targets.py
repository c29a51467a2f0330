"""The targets of routes, and how a request's values fill them. Those of parts are in fanout/test_plan."""

from urllib.parse import parse_qs, quote, unquote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.http.paths import has_dot_piece
from gateway.upstreams.targets import TargetError, TargetValueError, parse_target


def test_a_target_without_a_path_is_an_upstream_alone() -> None:
    target = parse_target(" user_data2 ")
    assert (target.text, target.upstream, target.template) == ("user_data2", "user_data2", None)


@pytest.mark.parametrize(
    ("text", "values", "rest", "path", "query"),
    [
        ("u:/", {}, "", "/", ""),
        ("u:/**", {}, "", "/", ""),
        ("u:/**", {}, "/", "/", ""),
        ("u:/**", {}, "/a//b;c%2F", "/a//b;c%2F", ""),
        ("u:/v1/**", {}, "", "/v1", ""),
        ("u:/v1/**", {}, "/a", "/v1/a", ""),
        ("u:/v1//**", {}, "/a", "/v1//a", ""),
        ("u:/users/{id}", {"id": "7"}, "", "/users/7", ""),
        ("u:/users/{id}/", {"id": "a%2Fb"}, "", "/users/a%2Fb/", ""),
        ("u:/x{a}-{b}.json", {"a": "1", "b": "2"}, "", "/x1-2.json", ""),
        ("u:/{a}/{a}/**", {"a": "1"}, "/r", "/1/1/r", ""),
        ("u:/o?user={id}&n=1", {"id": "a%26b"}, "", "/o", "user=a%26b&n=1"),
        ("u:/o?user={id}", {"id": "a+b c%2F"}, "", "/o", "user=a%2Bb%20c%2F"),
        ("u:/{a}?{a}={b}", {"a": "%c3%a9", "b": "="}, "", "/%c3%a9", "%C3%A9=%3D"),
        ("u:/o?", {}, "", "/o", ""),
        ("u:/o?q=**", {}, "", "/o", "q=**"),
        ("u:/o/**?a=1", {}, "/x", "/o/x", "a=1"),
    ],
)
def test_a_template_is_filled(text: str, values: dict[str, str], rest: str, path: str, query: str) -> None:
    template = parse_target(text).template
    assert template is not None
    assert (template.path(values, rest), template.query(values)) == (path, query)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("", "is not an upstream's name"),
        ("Users", "is not an upstream's name"),
        ("http://users/", "its URL stands in GATEWAY_UPSTREAM_USERS"),
        ("https://users:8443/a/**", "its URL stands in GATEWAY_UPSTREAM_USERS"),
        ("users_", "is not an upstream's name"),
        ("1users", "is not an upstream's name"),
        ("users:", "must begin with a slash"),
        ("users:a", "must begin with a slash"),
        ("users:/a b", "no white space"),
        ("users:/a\x00", "no white space"),
        ("users:/a\x1b[0m", "no white space"),
        ("users:/a\x7f", "no white space"),
        ("users:/café", "only ASCII"),
        ("users:/a#b", "no '#'"),
        ("users:/a/**/b", "'**' stands alone and last"),
        ("users:/a**", "'**' stands alone and last"),
        ("users:/*", "'**' stands alone and last"),
        ("users:/a/../b", "no '.' or '..' segment"),
        ("users:/a/%2e%2E/b", "no '.' or '..' segment"),
        ("users:/./**", "no '.' or '..' segment"),
        ("users:/a%00", "no '%00'"),
        ("users:/{2id}", "'{2id}' is not a parameter"),
        ("users:/{id.x}", "'{id.x}' is not a parameter"),
        ("users:/{query.}", "'{query.}' needs a name"),
        ("users:/{client.x}", "'{client.x}' has no parts"),
        ("users:/{}", "'{}' is not a parameter"),
        ("users:/{id", "a brace without its partner"),
        ("users:/o?x=}", "a brace without its partner"),
    ],
)
def test_what_is_no_target_says_what_was_expected(text: str, advice: str) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize("value", ["", ".", "..", "%2e", "%2E.", ".%2e"])
@pytest.mark.parametrize("text", ["u:/a/{x}", "u:/a?b={x}", "u:/a/{x}.json"])
def test_a_value_that_is_empty_or_dots_is_confined(text: str, value: str) -> None:
    template = parse_target(text).template
    assert template is not None
    with pytest.raises(TargetValueError) as caught:
        template.path({"x": value}, "") + template.query({"x": value})
    assert caught.value.reference.owner == "x"


segment_values = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/?#"), max_size=8)


@given(segment_values, segment_values)
def test_no_value_leaves_its_place(one: str, other: str) -> None:
    """Whatever a segment of a request holds, the target keeps its segments and its one parameter."""
    template = parse_target("u:/a/{x}/b/{y}?p={x}&q={y}").template
    assert template is not None
    try:
        path = template.path({"x": one, "y": other}, "")
        query = template.query({"x": one, "y": other})
    except TargetValueError:
        return
    assert path.split("/") == ["", "a", one, "b", other]
    assert not has_dot_piece(path)
    assert set(query) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%&=")
    assert parse_qs(query, encoding="latin-1", strict_parsing=True, keep_blank_values=True) == {
        "p": [unquote(one, "latin-1")],
        "q": [unquote(other, "latin-1")],
    }


@given(st.text(min_size=1, max_size=8))
def test_a_decoded_value_arrives_by_way_of_quote(value: str) -> None:
    """As `proxy` gives the parameters of Django's own path() lines."""
    assume(value not in {".", ".."} and "\0" not in value)  # a path with %00 is refused before it gets here
    template = parse_target("u:/a/{x}?p={x}").template
    assert template is not None
    raw_value = quote(value, safe="")
    assert template.path({"x": raw_value}, "").count("/") == 2
    assert parse_qs(template.query({"x": raw_value}), keep_blank_values=True) == {"p": [value]}
