"""Cross-origin requests: answered for origins that are named, proxied like any other where none is."""

from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Answers, Gateway, Refuses, request_bytes

APP = "https://app.example.com"
OTHER = "https://other.example.com"
PREFLIGHT = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a, content-type")
ALLOWED = b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Answers(ALLOWED) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    refuses = Refuses()
    environment = {
        "GATEWAY_CORS": f"{APP}, https://admin.example.com",
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_REFUSES": refuses.url,
        "GATEWAY_ROUTE_ALL": "GET,PUT /** -> u",
        "GATEWAY_ROUTE_REFUSES": "/refuses -> refuses",
        "GATEWAY_ROUTE_PARTNER": "/partner -> u",
        "GATEWAY_ROUTE_PARTNER__CORS": "https://partner.example.com",
        "GATEWAY_ROUTE_PUBLIC": "/public -> u",
        "GATEWAY_ROUTE_PUBLIC__CORS": "*",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("cors")) as running:
        yield running
    refuses.close()


@pytest.fixture(scope="module")
def closed(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway without GATEWAY_CORS, with one route that has its own."""
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_ALL": "/** -> u",
        "GATEWAY_ROUTE_OPEN": "/open -> u",
        "GATEWAY_ROUTE_OPEN__CORS": APP,
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("closed")) as running:
        yield running


DJANGO = """
from django.http import HttpResponse
from django.urls import include, path, re_path
from django.views import View
from django.views.decorators.http import require_POST
from gateway.routing import from_environment, proxy, route

@require_POST
def save(request, **params):
    return HttpResponse("saved")

async def own(request):
    return HttpResponse("own", headers={"Access-Control-Allow-Origin": "https://own.example", "Allow": "own"})

class Both(View):
    async def put(self, request):
        return HttpResponse("put")

urlpatterns = [
    *from_environment(),
    route("OPTIONS /own", own),
    path("own", save),
    path("save", save),
    path("in/", include([path("<int:id>/save", save)])),
    re_path(r"^re/[0-9]+$", save),
    path("class", Both.as_view()),
    path("proxied/<str:id>", proxy("u:/x/{id}")),
    path("async", own),
]
"""


@pytest.fixture(scope="module")
def django(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """Lines of Django's own, with GATEWAY_CORS and without."""
    home = tmp_path_factory.mktemp("django")
    (home / "routes.py").write_text(DJANGO)
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_POSTED": "POST /posted -> u"}
    with Gateway({**environment, "GATEWAY_CORS": APP}, cwd=home) as named, Gateway(environment, cwd=home) as closed:
        yield {"named": named, "closed": closed}


DJANGO_LINES = ["/save", "/in/3/save", "/re/7", "/class", "/proxied/1", "/async"]


def preflight(gateway: Gateway, target: str, origin: str) -> Answer:
    return gateway.ask(request_bytes("OPTIONS", target, f"Origin: {origin}", *PREFLIGHT))


def cors_of(answer: Answer) -> dict[str, str]:
    """What the answer says of CORS; each field must have come once."""
    names = [name for name, _ in answer.pairs if name.startswith("access-control-")]
    return {name.removeprefix("access-control-"): answer.one(name) for name in names}


def test_a_preflight_of_a_named_origin_is_answered_by_the_gateway(gateway: Gateway, up: Answers) -> None:
    up.forget()
    answer = preflight(gateway, "/x", APP)
    assert (answer.status, answer.body) == (204, b"")
    said = cors_of(answer)
    assert int(said.pop("max-age")) > 0
    assert said == {
        "allow-origin": APP,
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "x-a, content-type",
    }
    assert "origin" in ", ".join(answer.all("vary")).lower()
    assert up.requests == []
    assert gateway.request_line(answer.one("x-request-id"))["status"] == 204


@pytest.mark.parametrize("target", DJANGO_LINES)
def test_djangos_own_lines_are_routes_like_any_other(django: dict[str, Gateway], up: Answers, target: str) -> None:
    up.forget()
    answer = preflight(django["named"], target, APP)
    assert answer.status == 204
    assert cors_of(answer) == {
        "allow-origin": APP,
        "allow-credentials": "true",
        "allow-methods": "PUT",
        "allow-headers": "x-a, content-type",
        "max-age": "600",
    }
    assert not up.requests
    assert cors_of(preflight(django["named"], target, OTHER)) == {}
    assert cors_of(django["named"].get(target, f"Origin: {APP}"))["allow-origin"] == APP
    assert preflight(django["closed"], target, APP).status != 204  # the view's own word


def test_a_preflight_for_what_is_not_there_is_no_routes(django: dict[str, Gateway]) -> None:
    assert preflight(django["named"], "/nothing", APP).status == 404
    assert preflight(django["named"], "/posted", APP).status == 405  # PUT is no route's
    assert django["named"].ask(request_bytes("OPTIONS", "/save", f"Origin: {APP}")).status == 405  # no preflight
    for path in ("/save%2F..", "/%2d/x"):
        assert preflight(django["named"], path, APP).status in {400, 404}


def test_a_route_that_takes_options_itself_answers_preflights(django: dict[str, Gateway]) -> None:
    assert preflight(django["named"], "/own", APP).body == b"own"


def test_a_preflight_of_another_origin_is_allowed_nothing(gateway: Gateway, up: Answers) -> None:
    up.forget()
    for origin in (OTHER, "https://app.example.com.evil.test", "http://app.example.com", "null"):
        answer = preflight(gateway, "/x", origin)
        assert cors_of(answer) == {}
        assert "origin" in ", ".join(answer.all("vary")).lower()
    assert up.requests == []


def test_an_answer_to_a_named_origin_may_be_read(gateway: Gateway) -> None:
    answer = gateway.get("/x", f"Origin: {APP}")
    assert answer.body == b"hi"
    said = cors_of(answer)
    exposed = {name.strip().lower() for name in said.pop("expose-headers").split(",")}
    assert exposed >= {"x-request-id", "gateway-parts", "gateway-complete"}
    # What the upstream said of CORS is replaced: two Allow-Origin fields would be void.
    assert said == {"allow-origin": APP, "allow-credentials": "true"}
    assert "origin" in ", ".join(answer.all("vary")).lower()
    assert "accept" in ", ".join(answer.all("vary")).lower()


def test_an_answer_to_another_origin_may_not_be_read(gateway: Gateway) -> None:
    answer = gateway.get("/x", f"Origin: {OTHER}")
    assert (answer.status, answer.body) == (200, b"hi")
    assert cors_of(answer) == {}


def test_an_answer_without_an_origin_varies_by_it(gateway: Gateway) -> None:
    answer = gateway.get("/x")
    assert cors_of(answer) == {}
    assert "origin" in ", ".join(answer.all("vary")).lower()


@pytest.mark.parametrize(
    ("method", "target", "status"), [("GET", "/refuses", 502), ("DELETE", "/x", 405), ("GET", "/a/../b", 400)]
)
def test_problems_may_be_read_by_a_named_origin(gateway: Gateway, method: str, target: str, status: int) -> None:
    answer = gateway.ask(request_bytes(method, target, f"Origin: {APP}"))
    assert answer.status == status
    assert cors_of(answer)["allow-origin"] == APP
    assert "x-request-id" in cors_of(answer)["expose-headers"].lower()


def test_a_routes_origins_stand_in_place_of_the_gateways(gateway: Gateway) -> None:
    partner = "https://partner.example.com"
    assert cors_of(preflight(gateway, "/partner", partner))["allow-origin"] == partner
    assert cors_of(gateway.get("/partner", f"Origin: {partner}"))["allow-origin"] == partner
    assert cors_of(preflight(gateway, "/partner", APP)) == {}
    assert cors_of(gateway.get("/partner", f"Origin: {APP}")) == {}


def test_any_origin_may_read_a_public_route_but_without_credentials(gateway: Gateway) -> None:
    assert cors_of(preflight(gateway, "/public", OTHER))["allow-origin"] == "*"
    said = cors_of(gateway.get("/public", f"Origin: {OTHER}"))
    assert (said["allow-origin"], "allow-credentials" in said) == ("*", False)


def test_a_plain_options_request_is_proxied(closed: Gateway, gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert closed.ask(request_bytes("OPTIONS", "/x")).body == b"hi"
    assert gateway.ask(request_bytes("OPTIONS", "/partner", f"Origin: {APP}")).body == b"hi"
    assert [request.start for request in up.requests] == ["OPTIONS /x HTTP/1.1", "OPTIONS /partner HTTP/1.1"]


def test_without_origins_a_preflight_is_proxied_and_the_upstreams_word_stands(closed: Gateway, up: Answers) -> None:
    up.forget()
    answer = preflight(closed, "/x", APP)
    assert (answer.status, answer.body) == (200, b"hi")
    assert cors_of(answer) == {"allow-origin": "*"}
    assert answer.all("vary") == ["Accept"]
    (request,) = up.requests
    assert request.one("origin") == APP
    assert request.one("access-control-request-method") == "PUT"


def test_a_route_may_have_origins_where_the_gateway_has_none(closed: Gateway) -> None:
    assert cors_of(preflight(closed, "/open", APP))["allow-origin"] == APP
    assert cors_of(closed.get("/open", f"Origin: {APP}"))["allow-origin"] == APP
