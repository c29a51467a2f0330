"""The stack of a route, with real gates: what passes them in which order, and what leaves by them."""

import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import orjson
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings
from django.urls import path

from gateway.config import loader
from gateway.errors import GatewayError, Reason
from gateway.http.any_request import direct
from gateway.http.gate import Finish, Gate
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.proxy.mirror import Rule
from gateway.proxy.view import Proxy
from gateway.routing import cached, from_environment, proxy, route
from gateway.routing.faults import RouteError
from gateway.routing.middleware import Chains
from gateway.routing.records import Declared
from gateway.routing.stack import Slots, Stack
from gateway.routing.urls import AnyRoute, Routes
from gateway.server.asgi import GatewayHandler
from tests.application import Answered, call, lifespan
from tests.live.harness import OK, Upstream

passed: list[str] = []
GATES = ("maintenance", "client_limits", "auth", "limits")
FINISHES = ("compress", "replace", "fields")


def gate(name: str) -> Gate:
    """Lets a request on unless its path names the gate: `/x/NAME` is answered by it, `/x/no-NAME` refused."""

    async def asked(request: GatewayRequest) -> HttpResponseBase | None:
        passed.append(name)
        if request.raw_path.endswith(f"/no-{name}"):
            raise GatewayError(Reason.REQUEST_DENIED)
        return GatewayResponse(418, [], name.encode()) if request.raw_path.endswith(f"/{name}") else None

    return asked


def finish(name: str) -> Finish:
    async def finished(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        passed.append(f"{name} {response.status_code}")
        if name == "replace" and response.status_code == 404:
            raise RuntimeError("of what puts a page in its place")
        if name == "replace" and response.status_code == 403:
            return GatewayResponse(302, [(b"location", b"/login")])
        return response

    return finished


def full(line: AnyRoute | None, declared: Declared, chains: Chains) -> Slots:
    slots: dict[str, Gate | Finish] = {name: gate(name) for name in GATES}
    slots |= {name: finish(name) for name in FINISHES}
    return Slots(origins=("https://app.test",), **slots)  # type: ignore[arg-type]


def guard(view: Callable[..., HttpResponseBase]) -> Callable[..., object]:
    async def inner(request: GatewayRequest, **params: str) -> object:
        passed.append("wrap")
        return await view(request, **params)  # type: ignore[misc]

    return inner


async def own(request: GatewayRequest, name: str = "") -> HttpResponse:
    passed.append("view")
    if name == "fails":
        raise RuntimeError("of the view")
    return HttpResponse(f"{name} {len(request.body)}")


LINES = [
    route("/b/**", proxy("b"), wrap=guard),
    route("/own/{name}", own, wrap=guard),
    route("/kept/{name}", cached(own, "60s"), name="kept", wrap=guard),
    route("PUT /-nothing", own, name="put"),
    path("django/<str:name>", own),
]


@pytest.fixture
async def application() -> AsyncIterator[GatewayHandler]:
    with Upstream.answering(OK) as upstream:
        loaded = loader.load({"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_CACHE_DISK": "0B"}, lambda name: "")
        handler = GatewayHandler(loaded, Routes(LINES, loaded.declared, slots=full), [])
        async with lifespan(handler):
            passed.clear()
            yield handler


def reason(answer: Answered) -> str:
    return str(orjson.loads(answer.body)["reason"])


@pytest.mark.parametrize(
    ("target", "inner"),
    [("/b/x", ["wrap"]), ("/own/x", ["wrap", "view"]), ("/kept/x", ["wrap", "view"]), ("/django/x", ["view"])],
)
async def test_a_request_passes_the_slots_in_their_order(
    application: GatewayHandler, target: str, inner: list[str]
) -> None:
    assert (await call(application, target)).status == 200
    assert passed == [*GATES, *inner, *(f"{name} 200" for name in FINISHES)]


async def test_a_hit_of_the_cache_passes_all_that_stands_outside_of_it(application: GatewayHandler) -> None:
    await call(application, "/kept/twice")
    passed.clear()
    answer = await call(application, "/kept/twice")
    assert dict(answer.pairs)[b"cache-status"].startswith(b"portway; hit")
    assert passed == [*GATES, "wrap", *(f"{name} 200" for name in FINISHES)]


@pytest.mark.parametrize("target", ["/b", "/own", "/django"])
@pytest.mark.parametrize("number", range(len(GATES)))
async def test_a_gate_that_answers_lets_nobody_behind_it_see_the_request(
    application: GatewayHandler, target: str, number: int
) -> None:
    answer = await call(application, f"{target}/{GATES[number]}", method="POST", body=b"x")
    assert (answer.status, answer.body) == (418, GATES[number].encode())
    assert passed == [*GATES[: number + 1], *(f"{name} 418" for name in FINISHES)]


async def test_what_a_gate_refuses_becomes_a_problem_that_leaves_like_an_answer(application: GatewayHandler) -> None:
    answer = await call(application, "/own/no-auth")
    assert (answer.status, dict(answer.pairs)[b"location"]) == (302, b"/login")
    assert passed == ["maintenance", "client_limits", "auth", "compress 403", "replace 403", "fields 302"]


async def test_what_a_view_raises_leaves_so_too(application: GatewayHandler) -> None:
    answer = await call(application, "/own/fails")
    assert (answer.status, reason(answer)) == (500, "view_error")
    assert passed == [*GATES, "wrap", "view", *(f"{name} 500" for name in FINISHES)]


async def test_what_fails_as_a_problem_leaves_leaves_the_problem(
    application: GatewayHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await call(application, "/nowhere")
    assert (answer.status, reason(answer)) == (404, "route_not_found")
    assert "problem.unfinished" in capsys.readouterr().out


@pytest.mark.parametrize(("target", "status"), [("/-nothing", 405), ("/b/%00", 400)])
async def test_and_what_the_gateway_says_where_it_knows_no_route(
    application: GatewayHandler, target: str, status: int
) -> None:
    assert (await call(application, target)).status == status
    assert passed == [f"{name} {status}" for name in FINISHES]


@pytest.mark.parametrize("target", ["/-/ready", "/-/nothing"])
async def test_the_gateway_s_own_endpoints_pass_nothing(application: GatewayHandler, target: str) -> None:
    await call(application, target)
    assert passed == []


async def test_a_django_line_has_its_body_behind_the_gates(application: GatewayHandler) -> None:
    assert (await call(application, "/django/x", method="POST", body=b"four")).body == b"x 4"


@pytest.mark.parametrize("target", ["/own/x", "/django/x"])
async def test_a_preflight_is_answered_behind_maintenance_alone(application: GatewayHandler, target: str) -> None:
    fields = [(b"origin", b"https://app.test"), (b"access-control-request-method", b"GET")]
    answer = await call(application, target, method="OPTIONS", fields=fields)
    assert answer.status == 204
    assert dict(answer.pairs)[b"access-control-allow-origin"] == b"https://app.test"
    assert passed == ["maintenance", *(f"{name} 204" for name in FINISHES)]


async def test_empty_slots_are_nothing_at_all() -> None:
    """What is called is the view itself."""
    loaded = loader.load({"GATEWAY_UPSTREAM_B": "http://127.0.0.1:9"}, lambda name: "")
    view = proxy("b")
    kept = cached(view, "60s")
    routes = Routes([route("/b/**", view), route("/kept/**", kept, name="kept")], loaded.declared)
    assert [line.view for line in routes.routes] == [view.serve, kept.serve]
    assert [(line.endpoint, line.cache) for line in routes.routes] == [(view, None), (view, kept)]


async def test_the_lines_of_a_module_may_be_compiled_for_several_configurations() -> None:
    loaded = loader.load({"GATEWAY_UPSTREAM_B": "http://127.0.0.1:9"}, lambda name: "")
    view = proxy("b")
    lines = [route("/b/**", view)]
    gated, plain = Routes(lines, loaded.declared, slots=full), Routes(lines, loaded.declared)
    assert gated.routes[0].view != view.serve
    assert plain.routes[0].view == view.serve
    assert Routes(gated.routes, loaded.declared).routes[0].view == view.serve


def synchronous(view: Callable[..., object]) -> Callable[..., object]:
    def inner(request: GatewayRequest, **params: str) -> object:
        return view(request, **params)

    return inner


def narrow(view: Callable[..., object]) -> Callable[..., object]:
    async def inner(request: GatewayRequest) -> object:
        return view(request)

    return inner


async def coroutine(view: Callable[..., object]) -> Callable[..., object]:
    return view


WRONG_WRAPS: dict[str, tuple[Any, str]] = {
    "text": ("guard", "wrap='guard' cannot be called: it takes a view and returns one"),
    "nothing": (lambda view: None, "wrap=<lambda>: returned None for a view: it takes a view and returns one"),
    "a coroutine": (coroutine, "wrap=coroutine: returned a coroutine for a view: it is no async function itself"),
    "synchronous": (synchronous, "wrap=synchronous: made a synchronous view: what it returns must be async"),
    "narrow": (narrow, "wrap=narrow: what it made of the view does not fit: got an unexpected keyword argument 'name'"),
}


@pytest.mark.parametrize("wrong", WRONG_WRAPS)
def test_what_is_no_wrapper_is_an_error_at_start_with_its_place(wrong: str) -> None:
    wrap, words = WRONG_WRAPS[wrong]
    with pytest.raises(RouteError, match=r"^test_stack.py:\d+: route\('/own/\{name\}'\): ") as caught:
        route("/own/{name}", own, wrap=wrap)
    assert str(caught.value).endswith(words)


def test_what_is_off_stands_in_no_stack() -> None:
    """A route that has no option of the kind is called as if there were none."""
    services = {"GATEWAY_UPSTREAM_U": "http://u:1", "GATEWAY_UPSTREAM_V": "http://v:1", "GATEWAY_ROUTE_A": "/a -> u"}

    def stack_with(**options: str) -> Stack:
        config = loader.load(services | {f"GATEWAY_{name}": text for name, text in options.items()}, lambda path: "")
        with override_settings(GATEWAY=config):
            (line,) = Routes(from_environment(), config.declared).routes
        assert isinstance(line.endpoint, Proxy)
        assert (line.stack.view == direct(line.endpoint)) is (not options)
        return line.stack

    bare = stack_with()
    assert (bare.finish, bare.mirror, bare.compresses) == (None, None, False)
    assert stack_with(COMPRESS="on").compresses
    assert stack_with(ROUTE_A__MIRROR="v").mirror == Rule("v")
