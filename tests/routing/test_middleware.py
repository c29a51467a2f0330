"""Middleware as it is made at the start: once for each list, and refused with a way out where it cannot be used."""

import os
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.utils.deprecation import MiddlewareMixin

from gateway.config import loader
from gateway.config.records import ConfigError
from gateway.http.request import GatewayRequest
from gateway.routing import proxy, route
from gateway.routing.faults import RouteError
from gateway.routing.middleware import Middleware
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from tests.application import call, lifespan

HERE = __name__
Handler = Callable[[GatewayRequest], Awaitable[HttpResponse]]
made: list[str] = []


class Good:
    async_capable, sync_capable = True, False

    def __init__(self, get_response: Handler) -> None:
        made.append("Good")
        self.get_response = get_response

    async def __call__(self, request: GatewayRequest) -> HttpResponse:
        response = await self.get_response(request)
        response["X-Good"] = "1"
        return response


class Synchronous:
    def __init__(self, get_response: Handler) -> None: ...


@sync_only_middleware
def marked(get_response: Handler) -> Handler:
    return get_response


class Renders(MiddlewareMixin):
    def process_template_response(self, request: GatewayRequest, response: HttpResponse) -> HttpResponse:
        return response


class Raises(Good):
    def __init__(self, get_response: Handler) -> None:
        raise ValueError("no such tenant table")


class Unused(Good):
    def __init__(self, get_response: Handler) -> None:
        raise MiddlewareNotUsed


@async_only_middleware
def nothing(get_response: Handler) -> None:
    return None


@async_only_middleware
def returns(get_response: Handler) -> Callable[[GatewayRequest], Any]:
    async def middleware(request: GatewayRequest) -> object:
        await get_response(request)
        return "a text"

    return middleware


class Mapped(MiddlewareMixin):
    def process_response(self, request: GatewayRequest, response: HttpResponse) -> HttpResponse:
        response["X-Mapped"] = "1"
        return response


NOT_ASYNC = (
    "cannot be called asynchronously: derive it from django.utils.deprecation.MiddlewareMixin, decorate it with "
    "django.utils.decorators.sync_and_async_middleware, or set async_capable = True and make __call__ async"
)
WRONG: dict[str, tuple[Middleware, str]] = {
    "no module": ("nowhere.Tenant", "nowhere.Tenant: ModuleNotFoundError: No module named 'nowhere'"),
    "no name": (f"{HERE}.Absent", f"{HERE}.Absent: AttributeError: .* has no attribute 'Absent'"),
    "no callable": (f"{HERE}.made", f"{HERE}.made is no middleware: it cannot be called"),
    "synchronous": (f"{HERE}.Synchronous", f"{HERE}.Synchronous {NOT_ASYNC}"),
    "marked so": (marked, f"{HERE}.marked {NOT_ASYNC}"),
    "renders": (Renders, f"{HERE}.Renders has process_template_response, for which there is no place here"),
    "raises": (Raises, f"{HERE}.Raises: test_middleware.py:\\d+: ValueError: no such tenant table"),
    "makes nothing": (nothing, f"{HERE}.nothing is no middleware: it returned None for get_response"),
}


async def view(request: GatewayRequest, **params: str) -> HttpResponse:
    return HttpResponse("seen")


def routes_of(*lines: Any, **environment: str) -> Routes:
    loaded = loader.load({"GATEWAY_UPSTREAM_B": "http://127.0.0.1:9", **environment}, lambda name: "")
    return Routes(lines, loaded.declared)


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_used_is_an_error_at_start_with_its_place(wrong: str) -> None:
    one, words = WRONG[wrong]
    with pytest.raises(RouteError, match=rf"^test_middleware.py:\d+: middleware: {words}"):
        routes_of(route("/x", view, middleware=[Good, one]))


def test_the_variable_is_the_place_of_what_it_names_and_all_faults_are_found() -> None:
    with pytest.raises(RouteError) as caught:
        routes_of(
            route("/x", view, name="x"),
            route("/y", view, name="y"),
            route("/z", view, middleware=[Synchronous]),
            path("django/", view),
            GATEWAY_MIDDLEWARE=f"{HERE}.Synchronous",
        )
    first, second = str(caught.value).splitlines()
    assert first == f"GATEWAY_MIDDLEWARE: {HERE}.Synchronous {NOT_ASYNC}"
    assert re.fullmatch(rf"test_middleware.py:\d+: middleware: {HERE}.Synchronous .*", second)


def test_a_text_for_a_list_is_an_error() -> None:
    with pytest.raises(RouteError, match=r"middleware='a.B' is no list; write \['a.B'\]"):
        route("/x", view, middleware="a.B")


def test_each_list_is_made_once_for_all_its_routes() -> None:
    made.clear()
    lines = [route("/x", view, name="x"), route("/y", proxy("b"), name="y"), path("django/", view)]
    routes_of(*lines, GATEWAY_MIDDLEWARE=f"{HERE}.Good")
    assert made == ["Good"]


@pytest.mark.parametrize("listed", [[], [Unused]])
def test_where_there_is_none_the_view_stands_as_it_is(listed: list[Middleware]) -> None:
    proxied = proxy("b")
    (line,) = routes_of(route("/x", proxied, middleware=listed)).routes
    assert line.view == proxied.serve


def test_the_entry_of_the_gateway_in_the_list_of_django_is_passed_over() -> None:
    """`[*settings.MIDDLEWARE, Tenant]` holds it: it would hand the request to the gateway again, without end."""
    proxied = proxy("b")
    (line,) = routes_of(route("/x", proxied, middleware=settings.MIDDLEWARE[:1])).routes
    assert line.view == proxied.serve


@pytest.mark.parametrize(
    ("environment", "target", "has"),
    [
        ({}, "/x", False),
        ({"GATEWAY_MIDDLEWARE": f"{HERE}.Good"}, "/x", True),
        ({"GATEWAY_MIDDLEWARE": f"{HERE}.Good"}, "/y", False),
        ({"GATEWAY_MIDDLEWARE": f"{HERE}.Good"}, "/django/", True),
    ],
)
async def test_the_nearest_list_holds(environment: dict[str, str], target: str, has: bool) -> None:
    loaded = loader.load({"GATEWAY_UPSTREAM_B": "http://127.0.0.1:9", **environment}, lambda name: "")
    lines = [route("/x", view, name="x"), route("/y", view, name="y", middleware=[]), path("django/", view)]
    application = GatewayHandler(loaded, Routes(lines, loaded.declared), hooks=[])
    async with lifespan(application):
        answer = await call(application, target)
    assert answer.status == 200
    assert ((b"x-good", b"1") in answer.pairs) is has


async def test_what_it_returns_must_be_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    loaded = loader.load({"GATEWAY_UPSTREAM_B": "http://127.0.0.1:9"}, lambda name: "")
    routes = Routes([route("/x", view, middleware=[returns])], loaded.declared)
    application = GatewayHandler(loaded, routes, hooks=[])
    async with lifespan(application):
        answer = await call(application, "/x")
    assert answer.status == 500


def settings_of(**values: object) -> Callable[[str], dict[str, object]]:
    return lambda module: values


def test_the_settings_module_gives_the_list_where_no_variable_does() -> None:
    environment = {"GATEWAY_SETTINGS": "team.settings"}
    read = settings_of(MIDDLEWARE=["a.B", "c.D"])
    plain = loader.load(environment, lambda name: "", read).plain
    assert (plain.get("middleware"), plain.variable("middleware")) == (("a.B", "c.D"), "MIDDLEWARE of team.settings")
    named = loader.load({**environment, "GATEWAY_MIDDLEWARE": "e.F"}, lambda name: "", read).plain
    assert (named.get("middleware"), named.variable("middleware")) == (("e.F",), "GATEWAY_MIDDLEWARE")
    assert (
        loader.load({**environment, "GATEWAY_MIDDLEWARE": "-"}, lambda name: "", read).plain.get("middleware") is None
    )


@pytest.mark.parametrize("wrong", ["a.B", [Good], None])
def test_a_setting_that_is_no_list_of_paths_is_a_problem_of_its_variable(wrong: object) -> None:
    with pytest.raises(ConfigError, match="its MIDDLEWARE is no list of dotted paths, each a text") as caught:
        loader.load({"GATEWAY_SETTINGS": "team.settings"}, lambda name: "", settings_of(MIDDLEWARE=wrong))
    assert caught.value.problems[0].variable == "GATEWAY_SETTINGS"


@pytest.mark.parametrize("text", ["Tenant", "team.", "team middleware.x", "a/b.C"])
def test_a_path_that_is_none_is_a_problem_of_its_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="expected the dotted path of a class or function"):
        loader.load({"GATEWAY_MIDDLEWARE": text}, lambda name: "")
