"""Cross-origin requests: answered for origins that are named, proxied like any other where none is."""

from collections.abc import Iterator

import pytest

from .harness import Answer, Answers, Gateway, Refuses, request_bytes

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
