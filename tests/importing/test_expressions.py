"""Paths that are regular expressions: what a route says of them takes what they take."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.loader import load
from gateway.importing.draft import Draft, Weight
from gateway.importing.expressions import expression_paths
from gateway.importing.kinds import import_text
from gateway.importing.values import PathError
from gateway.routing.patterns import parse_pattern
from gateway.routing.table import Match, Table

HEX = "[0-9a-fA-F]"
UUID = f"{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}"
SAID = {
    r"^/$": ["/"],
    r"^/a/b$": ["/a/b"],
    r"^/a/?$": ["/a", "/a/"],
    r"^/a/": ["/a/**"],
    r"^/a/(.*)$": ["/a/**"],
    r"^/a/.*": ["/a/**"],
    r"^/v1\.2/x-y$": ["/v1.2/x-y"],
    r"^/(a|b)/[0-9]+$": ["/a/{p2:int}", "/b/{p2:int}"],
    r"^/(?:a|b\.c)/": ["/a/**", "/b.c/**"],
    r"^/u/(?<id>\d+)/orders$": ["/u/{id:int}/orders"],
    r"^/u/(?P<id>\w+)$": ["/u/{id:word}"],
    rf"^/x/({UUID})$": ["/x/{p2:uuid}"],
    rf"^/x/{HEX}+\.json$": ["/x/{p2:hex}.json"],
    r"^/v\d+/a$": ["/v{p1:int}/a"],
}


@pytest.mark.parametrize("text", SAID)
def test_what_a_route_can_say(text: str) -> None:
    assert expression_paths(text) == SAID[text]
    parse_pattern(" ".join(SAID[text]))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "a",
            r"\.css$",
            "^/a",
            r"^/u/\d+",
            "^/u/[^/]+$",
            "^/a.b$",
            "^/a/.+$",
            "^/(a|b)?/x$",
            "^/a|/b$",
            "^/a/(b$",
        ),
        *("^/[a-z]+$", r"^/\d{3}$", "^/(a|(b|c))$", "^/a/(.*)/b$", r"^/\d+\d+$", r"^/(\d+$", "^/{a}$"),
        "^/" + "(a|b)/" * 5,
    ],
)
def test_what_no_route_can_say(text: str) -> None:
    with pytest.raises(PathError):
        expression_paths(text)


PIECES = ["a", "b", "b.c", "bxc", "v1", "v1.2", "v1x2", "x", "x-y", "u", "7", "70", "0f", "0f.json", "orders", ""]
PIECES += ["w_1", "w-1", "0b8e1f5a-0c1d-4c3e-8f00-112233445566", "0B8E1F5A-0C1D-4C3E-8F00-112233445566"]


@given(st.sampled_from(sorted(SAID)), st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
def test_a_route_takes_what_the_expression_takes(text: str, pieces: list[str]) -> None:
    path = "/" + "/".join(pieces)
    table = Table([(parse_pattern(" ".join(expression_paths(text))), None)])
    takes = re.search(text.replace("(?<", "(?P<"), path) is not None
    # The rest may be nothing: `/a/**` takes `/a`, which `^/a/` does not.
    takes = takes or (f"{path}/**" in SAID[text])
    assert isinstance(table.find("GET", "", path), Match) is takes


@given(st.text("^/$()|?:.*+\\dw[]09afAF<>Pi{}-,8412 b", max_size=25))
def test_any_text_is_said_or_refused(text: str) -> None:
    try:
        paths = expression_paths(text)
    except PathError:
        return
    parse_pattern(" ".join(paths))


# -- the products -------------------------------------------------------------------------------------------------

KONG = "_format_version: '3.0'\nservices:\n- {{name: u, url: 'http://u:1', routes: [{{name: r, paths: ['{}']{}}}]}}\n"
NGINX = "server {{ location / {{ proxy_pass http://all; }} location {} {{ proxy_pass http://u; {} }} }}"


def made(name: str, text: str) -> Draft:
    """What an import makes, which must load."""
    draft = import_text(text, name).draft
    load(draft.variables, lambda path: "")
    return draft


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.conf", NGINX.format(r"~ ^/users/[0-9]+$", ""), "/users/{p2:int} -> u"),
        ("a.conf", NGINX.format(r"~* ^/(img|css)/", ""), "/img/** /css/** -> u"),
        ("a.yml", KONG.format(r"~/u/\d+$", ""), "/u/{p2:int} -> u:/"),
        ("a.yml", KONG.format(r"~/u/\w+/?$", ", strip_path: false"), "/u/{p2:word} /u/{p2:word}/ -> u"),
    ],
)
def test_products_have_them(name: str, text: str, line: str) -> None:
    draft = made(name, text)
    (stem,) = [one for one, value in draft.variables.items() if value == line]
    assert (draft.variables.get(f"{stem}__CASE") == "ignore") is ("~*" in text)
    assert any("no leading zeros" in one.text for one in draft.left) is (":int}" in line)


def test_spring_has_them_in_a_parameter() -> None:
    text = r"""spring: {cloud: {gateway: {routes: [{id: r, uri: 'http://u',
      predicates: ['Path=/api/{id:\d+}/**'], filters: [StripPrefix=1]}]}}}"""
    assert made("a.yml", text).variables["GATEWAY_ROUTE_R"] == "/api/{id:int}/** -> u:/{id}/**"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.conf", NGINX.format(r"~ ^/users/[0-9]+$", "auth_basic x;")),
        (
            "a.yml",
            KONG.format(r"~/u/\d+$", ", plugins: [{name: key-auth}]") + "- {name: v, url: 'http://v', routes: [{}]}",
        ),
        ("a.yml", KONG.format(r"~/u/\d+$", "") + "- {name: v, url: 'http://v', routes: [{}]}\nplugins: [{name: acl}]"),
    ],
)
def test_a_guard_is_not_of_less_than_it_was(name: str, text: str) -> None:
    """A kind takes a little less: what is guarded stays among what is left, with the weight of who may ask."""
    draft = made(name, text)
    assert not any(":int}" in value for value in draft.variables.values())
    assert any(one.weight is Weight.ACCESS for one in draft.left)
