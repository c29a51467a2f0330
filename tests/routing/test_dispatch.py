"""Who answers a request, as a table: the order that the handler, `explain` and `cache why` share."""

import os

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.http import HttpRequest, HttpResponse
from django.urls import path

from gateway.config import loader
from gateway.http.headers import Pairs
from gateway.routing import proxy, route
from gateway.routing.dispatch import Own, Preflight, Refusal, decide
from gateway.routing.table import Match
from gateway.routing.urls import DjangoMatch, Routes


async def view(request: HttpRequest, **params: str) -> HttpResponse:
    raise AssertionError("nobody is asked")


LINES = [
    route("GET /users/{id}", proxy("u"), name="user"),
    route("/users/**", proxy("u"), name="users"),
    route("/users/secret/**", view, name="secret"),
    route("api.test/users/**", view, name="api"),
    route("GET /only", view, name="only"),
    route("OPTIONS /open/x", view, name="options"),
    path("django/<int:id>/", view, name="django"),
    path("open/x", view, name="open"),
]
ENVIRONMENT = {"GATEWAY_UPSTREAM_U": "http://127.0.0.1:9"}
CLOSED = Routes(LINES, loader.load(ENVIRONMENT, lambda name: "").declared)
OPEN = Routes(LINES, loader.load({**ENVIRONMENT, "GATEWAY_CORS": "https://app.test"}, lambda name: "").declared)


def preflight(method: str) -> Pairs:
    return [(b"origin", b"https://app.test"), (b"access-control-request-method", method.encode())]


def told(routes: Routes, method: str, target: str, pairs: Pairs = [], host: str = "x.test") -> str:  # noqa: B006
    decision = decide(routes, method, host, target, pairs)
    if isinstance(decision, Own):
        return "own"
    if isinstance(decision, Refusal):
        return decision.error.reason.word
    if isinstance(decision, Preflight):
        return f"preflight of {decision.route.name}"
    return f"django {decision.name}" if isinstance(decision, DjangoMatch) else str(decision.route.name)


@pytest.mark.parametrize(
    ("method", "target", "who"),
    [
        ("OPTIONS", "*", "own"),
        ("GET", "/-/status", "own"),
        ("GET", "/-/nothing", "own"),
        ("GET", "/users/1", "user"),
        ("HEAD", "/users/1", "user"),
        ("DELETE", "/users/1", "users"),
        ("GET", "/users/1/x", "users"),
        ("GET", "/users/%41", "user"),
        ("GET", "/users/1%2f..%2fadmin", "path_invalid"),
        ("GET", "/users//secret", "path_ambiguous"),
        ("GET", "/django/1/", "django django"),
        ("GET", "/django/x/", "route_not_found"),
        ("POST", "/only", "method_not_allowed"),
        ("GET", "/nowhere", "route_not_found"),
        ("GET", "/x//admin", "route_not_found"),
    ],
)
def test_who_answers(method: str, target: str, who: str) -> None:
    assert told(CLOSED, method, target) == who


def test_a_route_for_a_host_goes_first() -> None:
    assert told(CLOSED, "GET", "/users/1", host="api.test") == "api"


@pytest.mark.parametrize(
    ("target", "asked", "closed", "opened"),
    [
        ("/users/1", "GET", "users", "preflight of user"),
        ("/users/1", "PUT", "users", "preflight of users"),
        ("/django/1/", "GET", "django django", "preflight of django"),
        ("/open/x", "GET", "options", "options"),  # its own question to answer
        ("/only", "POST", "method_not_allowed", "method_not_allowed"),
        ("/-/status", "GET", "own", "own"),
        ("/nowhere", "GET", "route_not_found", "route_not_found"),
    ],
)
def test_a_preflight_is_answered_where_its_route_has_origins(target: str, asked: str, closed: str, opened: str) -> None:
    assert told(CLOSED, "OPTIONS", target, preflight(asked)) == closed
    assert told(OPEN, "OPTIONS", target, preflight(asked)) == opened


def test_what_the_table_found_is_handed_on_as_it_is() -> None:
    decision = decide(CLOSED, "GET", "x.test", "/users/7", [])
    assert isinstance(decision, Match)
    assert (decision.route, decision.values, decision.rest) == (CLOSED.routes[0], ("7",), "")


def test_a_refusal_has_what_the_table_found() -> None:
    refusal = decide(CLOSED, "POST", "x.test", "/only", [])
    assert isinstance(refusal, Refusal)
    assert list(refusal.error.headers) == [(b"allow", b"GET, HEAD")]
    ambiguous = decide(CLOSED, "GET", "x.test", "/users//secret", [])
    assert isinstance(ambiguous, Refusal)
    assert isinstance(ambiguous.found, Match)
