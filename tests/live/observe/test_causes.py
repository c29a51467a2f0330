"""What the log says of a failure beside its word: which limit was met and who set it, what was wrong with a part."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.harness import Answers, Gateway, NeverAccepts, Upstream

ROUTES = """
import time

from django.http import JsonResponse
from gateway.routing import fetch, from_environment, legacy, proxy, route


def sleeps():
    time.sleep(0.5)  # a view that is slower than its deadline: that is what is tried


async def slow_fetch(request):
    await fetch("slow:/x", timeout="90ms")


async def plain_fetch(request):
    await fetch("brief:/x")


async def two(request):
    first, second = await fetch("u:/1"), await fetch("u:/2")
    return JsonResponse({"statuses": [first.status, second.status]})


urlpatterns = [
    *from_environment(),
    route("/python", proxy("slow", timeout="110ms")),
    route("/legacy", legacy(sleeps, timeout="100ms")),
    route("/slow-fetch", slow_fetch),
    route("/plain-fetch", plain_fetch),
    route("/two", two),
]
"""
FAILS = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\nboom"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\npage"


@pytest.fixture(scope="module")
def silent() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(up: Answers, silent: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("causes")
    (home / "routes.py").write_text(ROUTES)
    never = NeverAccepts()
    with Answers(FAILS) as fails, Answers(PAGE) as page:
        environment = {
            "GATEWAY_UPSTREAM_U": up.url,
            "GATEWAY_UPSTREAM_FAILS": fails.url,
            "GATEWAY_UPSTREAM_PAGE": page.url,
            "GATEWAY_UPSTREAM_SLOW": silent.url,
            "GATEWAY_UPSTREAM_BRIEF": silent.url,
            "GATEWAY_UPSTREAM_BRIEF__TIMEOUT": "80ms",
            "GATEWAY_UPSTREAM_NEVER": never.url,
            "GATEWAY_UPSTREAM_NEVER__CONNECT_TIMEOUT": "70ms",
            "GATEWAY_RETRIES": "0",
            "GATEWAY_TIMEOUT": "150ms",
            "GATEWAY_IDLE_TIMEOUT": "130ms",
            "GATEWAY_ROUTE_OWN": "/own -> slow",
            "GATEWAY_ROUTE_OWN__TIMEOUT": "100ms",
            "GATEWAY_ROUTE_PLAIN": "/plain -> slow",
            "GATEWAY_ROUTE_BRIEF": "/brief -> brief",
            "GATEWAY_ROUTE_NEVER": "/never -> never",
            "GATEWAY_ROUTE_TOTAL": "/total -> slow",
            "GATEWAY_ROUTE_TOTAL__TOTAL_TIMEOUT": "140ms",
            "GATEWAY_ROUTE_STALLS": "/stalls -> slow",
            "GATEWAY_ROUTE_FAN": "GET /fan",
            "GATEWAY_ROUTE_FAN__TIMEOUT": "120ms",
            "GATEWAY_ROUTE_FAN__PART_A": "slow:/a",
            "GATEWAY_ROUTE_FAN__PART_B": "slow:/b",
            "GATEWAY_ROUTE_FAN__PART_B__TIMEOUT": "60ms",
            "GATEWAY_ROUTE_FAN__PART_C": "brief:/c",
            "GATEWAY_ROUTE_FAN__PART_D": "fails:/d",
            "GATEWAY_ROUTE_FAN__PART_E": "page:/e",
            "GATEWAY_ROUTE_FAN__OPTIONAL": "a b c d e",
            "GATEWAY_ROUTE_WANTS": "GET /wants",
            "GATEWAY_ROUTE_WANTS__PART_D": "fails:/d",
        }
        with Gateway(environment, cwd=home) as running:
            yield running
    never.close()


def line_of(gateway: Gateway, target: str) -> dict[str, Any]:
    answer = gateway.get(target)
    return gateway.request_line(answer.one("x-request-id"))


@pytest.mark.parametrize(
    ("target", "reason", "cause"),
    [
        ("/own", "response_timeout", "after 100ms, GATEWAY_ROUTE_OWN__TIMEOUT"),
        ("/plain", "response_timeout", "after 150ms, GATEWAY_TIMEOUT"),
        ("/brief", "response_timeout", "after 80ms, GATEWAY_UPSTREAM_BRIEF__TIMEOUT"),
        ("/never", "connect_timeout", "after 70ms, GATEWAY_UPSTREAM_NEVER__CONNECT_TIMEOUT"),
        ("/total", "total_timeout", "after 140ms, GATEWAY_ROUTE_TOTAL__TOTAL_TIMEOUT"),
        ("/python", "response_timeout", "after 110ms, routes.py:27: timeout="),
        ("/slow-fetch", "response_timeout", "after 90ms, fetch(timeout=)"),
        ("/plain-fetch", "response_timeout", "after 80ms, GATEWAY_UPSTREAM_BRIEF__TIMEOUT"),
        (
            "/legacy",
            "legacy_timeout",
            "after 100ms, GATEWAY_LEGACY_SLEEPS__TIMEOUT: sleeps runs on in a thread of the pool sleeps",
        ),
    ],
)
def test_a_504_says_which_limit_was_met(gateway: Gateway, target: str, reason: str, cause: str) -> None:
    line = line_of(gateway, target)
    assert (line["status"], line["reason"], line["cause"]) == (504, reason, cause)


def test_an_answer_that_stalls_says_so_too(gateway: Gateway, silent: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /stalls HTTP/1.1\r\nHost: gateway.test\r\nX-Request-ID: stalls\r\n\r\n")
        silent.wait_for_request("/stalls").send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\none")
        wire.read_to_end()
    line = gateway.request_line("stalls")
    assert (line["reason"], line["cause"]) == ("response_idle_timeout", "after 130ms, GATEWAY_IDLE_TIMEOUT")


def test_each_part_that_failed_has_its_cause(gateway: Gateway) -> None:
    line = line_of(gateway, "/fan")
    assert (line["status"], line["level"]) == (200, "warning")
    assert {part["part"]: part["cause"] for part in line["parts"]} == {
        "a": "after 120ms, GATEWAY_ROUTE_FAN__TIMEOUT",
        "b": "after 60ms, GATEWAY_ROUTE_FAN__PART_B__TIMEOUT",
        "c": "after 80ms, GATEWAY_UPSTREAM_BRIEF__TIMEOUT",
        "d": "It was answered with 500.",
        "e": "Its answer is not the JSON that was expected: Content-Type is text/html.",
    }


def test_a_required_part_that_failed_is_the_cause_of_the_whole(gateway: Gateway) -> None:
    line = line_of(gateway, "/wants")
    assert (line["status"], line["reason"], line["cause"]) == (502, "part_status", "d: It was answered with 500.")


def test_two_calls_of_a_view_are_no_second_attempt(gateway: Gateway) -> None:
    line = line_of(gateway, "/two")
    assert (line["attempts"], line["calls"]) == (1, 2)
