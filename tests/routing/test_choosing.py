"""CASE and WHEN at their levels, for lines of Python and of the environment; what Django knows of several paths."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.http import HttpResponse
from django.urls import URLResolver
from django.urls.resolvers import RegexPattern

from gateway.config import loader
from gateway.config.records import ConfigError
from gateway.http.request import GatewayRequest
from gateway.routing import proxy, route
from gateway.routing.choosing import stored_path
from gateway.routing.conditions import text_of
from gateway.routing.entries import GatewayRoute
from gateway.routing.faults import RouteError
from gateway.routing.patterns import Pattern, parse_pattern
from gateway.routing.segments import folded
from gateway.routing.table import Match, Miss, Table
from gateway.routing.urls import Routes

UPSTREAMS = {"GATEWAY_UPSTREAM_U": "http://127.0.0.1:9", "GATEWAY_UPSTREAM_V": "http://127.0.0.1:9"}


async def view(request: GatewayRequest, **params: str) -> HttpResponse:
    return HttpResponse()


def routes(*lines: GatewayRoute, **environment: str) -> Routes:
    return Routes(lines, loader.load({**UPSTREAMS, **environment}, lambda name: "").declared)


def name_at(routes: Routes, path: str) -> str | None:
    match = routes.find("GET", "", path, lambda when: True)
    return match.route.name if isinstance(match, Match) else None


def test_a_line_of_python_has_its_own_case_and_else_that_of_its_levels() -> None:
    lines = [route("/A/{x}", proxy("u"), "a"), route("/B", view, "b"), route("/C", view, "c", case="strict")]
    assert [name_at(routes(*lines), path) for path in ("/a/1", "/b", "/c")] == [None] * 3
    plain = routes(*lines, GATEWAY_CASE="ignore")
    assert [name_at(plain, path) for path in ("/a/1", "/b", "/c", "/C")] == ["a", "b", None, "c"]
    upstream = routes(*lines, GATEWAY_UPSTREAM_U__CASE="ignore")
    assert [name_at(upstream, path) for path in ("/a/1", "/b")] == ["a", None]


def test_an_upstream_may_have_conditions_for_the_routes_that_lead_there() -> None:
    config = loader.load(
        {
            **UPSTREAMS,
            "GATEWAY_UPSTREAM_V__WHEN": "header.x-version=2",
            "GATEWAY_ROUTE_A": "/a -> u",
            "GATEWAY_ROUTE_B": "/a -> v",
        },
        lambda name: "",
    )
    assert [text_of(one.pattern.when) for one in config.routes] == ["", "header.x-version=2"]
    found = routes(route("/a", proxy("v")), GATEWAY_UPSTREAM_V__WHEN="cookie.beta")
    assert [text_of(line.rule.when) for line in found.routes] == ["cookie.beta"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"GATEWAY_WHEN": "header.x=1"}, "WHEN is an option of an upstream; there is no plain one for all of them"),
        ({"GATEWAY_ROUTE_A__WHEN": "x=1"}, "'x=1' is no condition"),
        ({"GATEWAY_ROUTE_A__CASE": "lower"}, "expected strict or ignore"),
        (
            {"GATEWAY_ROUTE_B": "/a/{x:hex} -> u"},
            "both this and GATEWAY_ROUTE_A take /a/1, and neither is more specific",
        ),
        ({"GATEWAY_ROUTE_B": "/b /a/{y:int} -> u"}, "the same route as GATEWAY_ROUTE_A: both take /a/1"),
        ({"GATEWAY_ROUTE_B": "/b /b -> u"}, "two of its paths take /b"),
        ({"GATEWAY_ROUTE_B": "/b /-/x -> u"}, "/-/ belongs to the gateway itself"),
        (
            {
                "GATEWAY_ROUTE_A__WHEN": "cookie.a",
                "GATEWAY_ROUTE_B": "/a/{x:int} -> u",
                "GATEWAY_ROUTE_B__WHEN": "cookie.b",
            },
            "the same route as GATEWAY_ROUTE_A: both take /a/1 with cookie.a cookie.b",
        ),
    ],
)
def test_what_cannot_be_is_said_at_the_start(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loader.load({**UPSTREAMS, "GATEWAY_ROUTE_A": "/a/{x:int} -> u", **environment}, lambda name: "")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: route("/a", view, when="x=1"), "when: 'x=1' is no condition"),
        (lambda: route("/a", view, case="lower"), "case: expected strict or ignore"),
        (lambda: route("/a", view, when=""), "when: expected a text, such as 'header.x-version=2|3 !cookie.beta'"),
        (lambda: routes(route("/a{x}", view), route("/{x}b", view)), "both take /a1b, and neither is more specific"),
        (lambda: routes(route("/a /a", view)), "two paths of '/a /a' take /a"),
    ],
)
def test_a_line_of_python_says_what_it_cannot_be(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(RouteError) as caught:
        make()
    assert message in str(caught.value)


def test_django_resolves_each_path_and_reverses_the_first() -> None:
    line = route("/First/{id:int}.json /second/{id}/{x:uuid} /third", view, "several", case="ignore")
    resolver = URLResolver(RegexPattern(r"^/"), [line])
    assert resolver.resolve("/first/7.JSON").kwargs == {"id": "7"}
    uuid = "0b8e1f5a-0c1d-4c3e-8f00-112233445566"
    assert resolver.resolve(f"/second/a/{uuid}").kwargs == {"id": "a", "x": uuid}
    assert resolver.resolve("/third").kwargs == {}
    assert resolver.reverse("several", id=7) == "First/7.json"


@pytest.mark.parametrize(
    ("text", "path", "stored"),
    [
        ("/Basket/{name}", "/BASKET/Ann", "/basket/Ann"),
        ("/Basket/{name}", "/b%41sket/%41nn", "/basket/%41nn"),
        ("/A/** /B{x}.Css/**", "/a/Rest/Of%2F", "/a/Rest/Of%2F"),
        ("/A/** /B{x}.Css/**", "/bX%2FY.CSS/Z", "/bX%2FY.css/Z"),
        ("/A/{n:hex}", "/A/FF", "/a/FF"),
        ("/{x}/B /A/{x}", "/A/B", "/A/B"),  # a value in the path that wins is none in the other one
        ("/{x}/B /A/{x}", "/A/b", "/A/b"),
        ("/{x}/B /A/{x}", "/C/B", "/C/b"),
        ("/** /A/{x}", "/A/B", "/A/B"),
        ("/A", "/b", "/b"),
        ("/A", "/A/b", "/A/b"),
    ],
)
def test_answers_are_stored_under_one_spelling_of_the_literals(text: str, path: str, stored: str) -> None:
    rule = parse_pattern(text)
    assert stored_path(rule.under(ignores_case=True, when=rule.when), path) == stored
    assert stored_path(rule, path) == path


@given(st.text(max_size=20))
def test_only_letters_of_ascii_are_folded(text: str) -> None:
    assert folded(text) == "".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text)


@given(st.sampled_from(["é", "É", "\u212a", "ß", "İ", "%C3%89", "%c3%a9"]))
def test_what_is_not_ascii_keeps_its_case(text: str) -> None:
    ignoring = Pattern("", frozenset(), "", f"/{text}", (text,), rest=False, params=(), ignores_case=True)
    other = {"é": "É", "É": "é", "\u212a": "k", "ß": "SS", "İ": "i̇", "%C3%89": "%C3%A9", "%c3%a9": "%c3%89"}[text]
    assert isinstance(Table([(ignoring, None)]).find("GET", "", f"/{other}"), Miss)
