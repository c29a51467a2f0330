"""A request that comes back: 508 at the first return, by proxy, fan-out, fetch() and handshake; chains pass."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway, free_port

ROUTES = """
from django.http import JsonResponse
from gateway.routing import fetch, from_environment, route

async def twice(request):
    fetched = await fetch("self:/direct/by-fetch")
    return JsonResponse({"status": fetched.status})

urlpatterns = [*from_environment(), route("/twice", twice)]
"""
HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + "A" * 22 + "==",
)


@pytest.fixture(scope="module")
def inner(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A second gateway, between the first one and the service."""
    home = tmp_path_factory.mktemp("inner")
    with Gateway({"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_ALL": "/** -> u"}, cwd=home) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(inner: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("loop")
    (home / "routes.py").write_text(ROUTES)
    port = free_port()
    environment = {
        "GATEWAY_BIND": f"127.0.0.1:{port}",
        "GATEWAY_UPSTREAM_SELF": f"http://127.0.0.1:{port}",
        "GATEWAY_UPSTREAM_INNER": f"http://{inner.authority}",
        "GATEWAY_ROUTE_DIRECT": "/direct/** -> self",
        "GATEWAY_ROUTE_FAN": "GET /fan",
        "GATEWAY_ROUTE_FAN__PART_A": "self:/direct/by-part",
        "GATEWAY_ROUTE_CHAIN": "/chain/** -> inner",
        "GATEWAY_ROUTE_CHAIN_FAN": "GET /chained",
        "GATEWAY_ROUTE_CHAIN_FAN__PART_A": "inner:/part",
        "GATEWAY_ROUTE_LIVE": "/live -> self:/-/live",
    }
    running = Gateway(environment, cwd=home)
    running.port, running.authority = port, f"127.0.0.1:{port}"
    with running:
        yield running


def test_a_request_that_comes_back_is_refused_at_once(gateway: Gateway) -> None:
    answer = gateway.get("/direct/x", "X-Request-ID: round")
    assert answer.status == 508
    assert answer.json()["reason"] == "loop_detected"
    assert answer.all("proxy-status")[0] == "portway; error=proxy_loop_detected"
    lines = [line for line in gateway.log if line["event"] == "request" and line["request_id"] == "round"]
    refused = gateway.wait_for_log(lambda line: line.get("request_id") == "round" and line["reason"] is not None)
    assert (refused["reason"], refused["path"], refused["level"]) == ("loop_detected", "/direct/x", "warning")
    assert len(lines) <= 2


def test_a_part_that_comes_back_names_the_status(gateway: Gateway) -> None:
    answer = gateway.get("/fan")
    assert (answer.status, answer.json()["part_status"]) == (502, 508)


def test_what_a_view_fetches_from_its_own_gateway_is_refused(gateway: Gateway) -> None:
    assert gateway.get("/twice").json() == {"status": 508}


def test_a_handshake_that_comes_back_is_refused(gateway: Gateway) -> None:
    assert gateway.get("/direct/socket", *HANDSHAKE).status == 508


def test_two_gateways_in_a_chain_pass(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.get("/chain/x").status == 200
    values = ", ".join(up.requests[0].all("via"))
    found = re.fullmatch(r"1\.1 portway \(([0-9a-f]{8})\), 1\.1 portway \(([0-9a-f]{8})\)", values)
    assert found is not None, values
    assert found[1] != found[2]


def test_a_part_carries_the_way_that_its_request_came(gateway: Gateway, up: Answers) -> None:
    """Else two gateways that fan out to each other would not see the loop."""
    up.forget()
    gateway.get("/chained", "Via: 1.1 first")
    assert ", ".join(up.requests[0].all("via")).startswith("1.1 first, 1.1 portway (")


def test_its_own_endpoints_answer_whoever_asks(gateway: Gateway) -> None:
    assert gateway.get("/live").status == 200


def test_replicas_have_one_name_wherever_they_listen(gateway: Gateway, up: Answers, tmp_path: Path) -> None:
    with Gateway({"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_ALL": "/** -> u"}, cwd=tmp_path) as replica:
        up.forget()
        gateway.get("/chain/x")
        replica.get("/x")
        of_inner, of_replica = up.requests[0].all("via")[-1], up.requests[1].all("via")[-1]
        assert of_inner.rpartition(", ")[2] == of_replica
