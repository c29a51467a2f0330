"""Routes that are for some requests only, by what they carry, and whether their paths have a case."""

import json

import pytest

from gateway.config.loader import load
from gateway.importing import values
from gateway.importing.draft import Draft, Weight
from gateway.importing.kinds import import_text
from gateway.importing.source import SourceError
from gateway.importing.traefik import RuleError, alternatives
from gateway.routing.conditions import parse_when

KONG = "_format_version: '3.0'\nservices: [{{name: u, url: 'http://u:1', routes: [{{name: r, paths: [/r]{}}}]}}]\n"
LABELS = "services: {{u: {{labels: {{traefik.http.routers.r.rule: '{}'}}}}}}"
SPRING = "spring: {{cloud: {{gateway: {{routes: [{{id: r, uri: 'http://u', predicates: ['Path=/r/**', {}]}}]}}}}}}"


def ocelot(*routes: dict[str, object]) -> str:
    """A file of these routes, each of which has what it must have."""
    needed = {"DownstreamPathTemplate": "/r", "DownstreamHostAndPorts": [{"Host": "u", "Port": 1}]}
    return json.dumps({"Routes": [{"UpstreamPathTemplate": "/r", **needed, **route} for route in routes]})


def made(name: str, text: str) -> Draft:
    """What an import makes, which must load."""
    draft = import_text(text, name).draft
    load(draft.variables, lambda path: "")
    return draft


@pytest.mark.parametrize(
    ("kind", "name", "wanted", "text"),
    [
        ("header", "X-Version", ["2", "3"], "header.x-version=2|3"),
        ("header", "X-Version", [], "header.x-version"),
        ("query", "Page", ["a=b"], "query.Page=a=b"),
        ("cookie", "beta", ["1"], "cookie.beta=1"),
    ],
)
def test_a_condition(kind: str, name: str, wanted: list[str], text: str) -> None:
    assert values.condition(kind, name, wanted) == text
    assert len(parse_when(text)) == 1


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("x", ["a b"]), ("x", ["a|b"]), ("x", [""]), ("x", ["é"]), ("x y", ["a"]), ("x=1 header.y", []), ("", ["a"])],
)
def test_what_is_no_condition(name: str, wanted: list[str]) -> None:
    with pytest.raises(ValueError, match=r"condition|compared|name of"):
        values.condition("header", name, wanted)


@pytest.mark.parametrize(
    ("name", "text", "line", "when"),
    [
        ("a.yml", KONG.format(", headers: {X-Version: ['2', '3']}"), "/r/** -> u:/**", "header.x-version=2|3"),
        (
            "a.yml",
            LABELS.format("PathPrefix(`/r`) && Header(`X-V`, `2`) && !Query(`old`, `1`)"),
            "/r/** -> u",
            "header.x-v=2 !query.old=1",
        ),
        (
            "a.yml",
            LABELS.format("Path(`/r`) && Headers(`X-V`, `2`) && Query(`a=1`) "),
            "/r -> u",
            "header.x-v=2 query.a=1",
        ),
        ("a.json", ocelot({"UpstreamHeaderTemplates": {"X-Country": "uk"}}), "/r -> u", "header.x-country=uk"),
        (
            "a.yml",
            SPRING.format("'Header=X-Version, 2|3', 'Cookie=beta, on', 'Query=debug'"),
            "/r/** -> u",
            "header.x-version=2|3 cookie.beta=on query.debug",
        ),
    ],
)
def test_what_chooses_a_route_is_said(name: str, text: str, line: str, when: str) -> None:
    found = made(name, text).variables
    (stem,) = [one for one in found if one.startswith("GATEWAY_ROUTE_") and "__" not in one]
    assert (found[stem], found[f"{stem}__WHEN"]) == (line, when)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yml", KONG.format(", headers: {x: ['~*^a']}")),
        ("a.yml", KONG.format(", headers: {x: ['a b']}")),
        ("a.yml", KONG.format(", headers: {x: []}")),
        ("a.yml", LABELS.format("PathPrefix(`/r`) && HeaderRegexp(`X`, `.*`)")),
        ("a.yml", LABELS.format("PathPrefix(`/r`) && Header(`X`, `1`) && Header(`X`, `2`)")),
        ("a.yml", LABELS.format("PathPrefix(`/r`) && !(Header(`X`, `1`))")),
        ("a.yml", LABELS.format("PathPrefix(`/r`) && Query(`a`)")),
        ("a.json", ocelot({"UpstreamHeaderTemplates": {"X-Country": "{header:c}"}})),
        ("a.yml", SPRING.format(r"'Header=X-Id, \d+'")),
        ("a.yml", SPRING.format("'Header=X, 1', 'Header=X, 2'")),
    ],
)
def test_where_that_cannot_be_said_the_route_is_left_out(name: str, text: str) -> None:
    """It would be for all requests."""
    text = text.replace(
        "services: [{name: u,", "services: [{name: v, url: 'http://v', routes: [{paths: [/v]}]}, {name: u,"
    )
    try:
        draft = made(name, text)
    except SourceError:  # nothing is left of the file
        return
    assert not any(value.startswith("/r") for value in draft.variables.values())
    assert any(one.weight <= Weight.ROUTING for one in draft.left)


def test_a_route_that_is_closed_is_closed_for_those_requests() -> None:
    plugins = ", headers: {x-v: ['2']}, plugins: [{name: key-auth}]"
    found = made("a.yml", KONG.format(plugins).replace("routes: [", "routes: [{name: all, paths: [/r]}, ")).variables
    assert (found["GATEWAY_ROUTE_R"], found["GATEWAY_ROUTE_R__WHEN"]) == ("/r/** -> 403", "header.x-v=2")
    assert (found["GATEWAY_ROUTE_ALL"], found.get("GATEWAY_ROUTE_ALL__WHEN")) == ("/r/** -> u:/**", None)


def test_two_routes_that_could_both_win_leave_none_for_all_requests() -> None:
    """A clash takes a route out, and never its condition alone."""
    both = "}, {name: s, paths: [/r], headers: {x-b: ['1']}"
    draft = made("a.yml", KONG.format(", headers: {x-a: ['1']}" + both))
    routes = {name for name in draft.variables if name.startswith("GATEWAY_ROUTE_") and "__" not in name}
    assert routes
    assert all(f"{name}__WHEN" in draft.variables for name in routes)
    assert any(one.weight is Weight.ROUTING for one in draft.left)


def test_paths_of_ocelot_have_no_case_unless_a_route_says_so() -> None:
    found = made(
        "a.json", ocelot({"Key": "a"}, {"UpstreamPathTemplate": "/S", "Key": "s", "RouteIsCaseSensitive": True})
    )
    assert found.variables["GATEWAY_CASE"] == "ignore"
    assert found.variables["GATEWAY_ROUTE_S__CASE"] == "strict"
    assert "GATEWAY_ROUTE_A__CASE" not in found.variables
    assert "GATEWAY_CASE" not in made("a.json", ocelot({"RouteIsCaseSensitive": True})).variables


SHARES = """spring: {cloud: {gateway: {routes: [
  {id: high, uri: 'https://high.test', predicates: ['Path=/w/**', 'Weight=g, 8']},
  {id: low, uri: 'https://low.test', predicates: ['Path=%s', 'Weight=g, 2']},
  {id: other, uri: 'http://other', predicates: ['Path=/o/**']}]}}}"""


def test_routes_of_spring_that_differ_by_weight_alone_are_one_with_shares() -> None:
    draft = made("a.yml", SHARES % "/w/**")
    assert draft.variables["GATEWAY_UPSTREAM_HIGH"] == "https://high.test;weight=8,https://low.test;weight=2"
    assert draft.variables["GATEWAY_ROUTE_HIGH"] == "/w/** -> high"
    assert "GATEWAY_ROUTE_LOW" not in draft.variables
    assert draft.left == []
    apart = made("a.yml", SHARES % "/v/**")  # they share nothing
    assert [name for name in apart.variables if name.startswith("GATEWAY_ROUTE_")] == ["GATEWAY_ROUTE_OTHER"]
    assert sum("predicate Weight" in one.text for one in apart.left) == 2


@pytest.mark.parametrize("rule", ["!Host(`a`)", "Headers(`a`)", "Header(`a`, ``)", "Query(`a b=1`)", "! Header"])
def test_rules_that_ask_for_what_no_condition_says(rule: str) -> None:
    with pytest.raises(RuleError):
        alternatives(rule)
