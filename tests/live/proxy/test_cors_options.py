"""CORS beyond the origins, over the wire: preflights, answers, and refusals of the gateway itself."""

from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Answers, Gateway, request_bytes

BELOW = "https://shop.example.com"


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_CORS": "https://*.example.com",
        "GATEWAY_CORS_MAX_AGE": "1h",
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_ALL": "/all/** -> u",
        "GATEWAY_ROUTE_ALL__CORS_METHODS": "GET,PUT",
        "GATEWAY_ROUTE_ALL__CORS_HEADERS": "x-tenant",
        "GATEWAY_ROUTE_ALL__CORS_CREDENTIALS": "off",
        "GATEWAY_ROUTE_PLAIN": "/plain/** -> u",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("cors")) as running:
        yield running


def preflight(gateway: Gateway, target: str, origin: str) -> Answer:
    fields = (f"Origin: {origin}", "Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: x-any")
    return gateway.ask(request_bytes("OPTIONS", target, *fields))


def test_a_preflight_says_what_is_set(gateway: Gateway) -> None:
    answer = preflight(gateway, "/all/x", BELOW)
    assert answer.status == 204
    assert answer.one("access-control-allow-origin") == BELOW
    assert answer.one("access-control-allow-methods") == "GET, PUT"
    assert answer.one("access-control-allow-headers") == "x-tenant"
    assert answer.one("access-control-max-age") == "3600"
    assert not answer.has("access-control-allow-credentials")


def test_without_the_options_it_says_what_was_asked(gateway: Gateway) -> None:
    answer = preflight(gateway, "/plain/x", BELOW)
    assert answer.one("access-control-allow-methods") == "DELETE"
    assert answer.one("access-control-allow-headers") == "x-any"
    assert answer.one("access-control-allow-credentials") == "true"


@pytest.mark.parametrize("target", ["/all/x", "/plain/x", "/nowhere"])
def test_answers_are_for_pages_below_the_domain(gateway: Gateway, target: str) -> None:
    answer = gateway.get(target, f"Origin: {BELOW}")
    assert answer.one("access-control-allow-origin") == BELOW
    assert answer.has("access-control-allow-credentials") is (target != "/all/x")
    for origin in ("https://example.com", "https://example.com.evil.net", "http://shop.example.com"):
        assert not gateway.get(target, f"Origin: {origin}").has("access-control-allow-origin")
