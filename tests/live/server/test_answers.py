"""Answers of the gateway's own, the ids that follow a request, bad input, and the log."""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Answer, Answers, Gateway, Refuses, Slow, eventually, request_bytes

DESIGN_1_5 = """
timestamp level event request_id trace_id client method host path route status reason bytes_in bytes_out ms
upstream endpoint attempts upstream_ms cache parts auth identity worker
"""
FIELDS = DESIGN_1_5.split()
HEX32 = re.compile(r"[0-9a-f]{32}")

ROUTES = """
from django.http import Http404, HttpResponse, JsonResponse
from django.core.exceptions import PermissionDenied
from django.urls import path
from gateway.routing import from_environment, route

async def boom(request):
    raise RuntimeError("the secret of the house")

async def missing(request):
    raise Http404("not this one")

async def denied(request):
    raise PermissionDenied

async def hello(request, name):
    answer = JsonResponse({"hello": name})
    answer.set_cookie("a", "1")
    answer.set_cookie("b", "2")
    return answer

def plain(request):
    return HttpResponse(f"{request.method} {request.GET.get('q')} {request.body.decode()}")

def numbered(request, number):
    return HttpResponse(f"{request.method} {number} {request.path_info}")

urlpatterns = [
    *from_environment(),
    route("/boom", boom),
    route("GET /missing", missing),
    route("/denied", denied),
    route("/hello/{name}", hello),
    route("/plain", plain, name="plainly"),
    path("django/<int:number>", numbered),
]
"""


@pytest.fixture(scope="module")
def refuses() -> Iterator[Refuses]:
    upstream = Refuses()
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def environment(up: Answers, slow: Slow, refuses: Refuses) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_SLOW": slow.url,
        "GATEWAY_UPSTREAM_REFUSES": refuses.url,
        "GATEWAY_ROUTE_USERS": "/users/** -> u",
        "GATEWAY_ROUTE_SLOW": "/slow/** -> slow",
        "GATEWAY_ROUTE_REFUSES": "/refuses -> refuses",
        "GATEWAY_ROUTE_READ": "GET /only -> u",
        "GATEWAY_ROUTE_WRITE": "POST,PUT /only -> u",
        "GATEWAY_ROUTE_HOSTED": "hosted.test/here -> u",
    }


@pytest.fixture(scope="module")
def gateway(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("own")
    (home / "routes.py").write_text(ROUTES)
    with Gateway(environment, cwd=home) as running:
        yield running


@pytest.fixture(scope="module")
def discreet(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(environment | {"GATEWAY_DISCLOSE": "minimal"}, cwd=tmp_path_factory.mktemp("discreet")) as running:
        yield running


def log_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return gateway.request_line(answer.one("x-request-id"))


# -- problems -----------------------------------------------------------------------------------------------------


def test_a_problem_has_all_its_members(gateway: Gateway, refuses: Refuses) -> None:
    answer = gateway.get("/refuses", "X-Request-ID: r-502")
    assert answer.start == "HTTP/1.1 502 Bad Gateway"
    assert answer.one("content-type") == "application/problem+json"
    assert answer.one("cache-control") == "no-store"
    assert answer.one("content-length") == str(len(answer.body))
    assert answer.one("proxy-status") == 'portway; error=connection_refused; next-hop="refuses"'
    assert answer.one("via") == "1.1 portway"
    assert answer.one("server") == "portway"
    assert answer.one("x-request-id") == "r-502"
    said = answer.json()
    assert said.pop("type")
    assert said == {
        "title": "The upstream refused the connection",
        "status": 502,
        "detail": "Nothing listens there: is the service up, and the port right?",
        "reason": "connection_refused",
        "request_id": "r-502",
        "upstream": "refuses",
    }
    assert str(refuses.port).encode() not in answer.body  # nothing of the inside


def test_a_problem_for_head_has_no_body(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        for target in ("/refuses", "/nothing"):
            wire.send(request_bytes("HEAD", target))
            answer = wire.read_answer("HEAD")
            assert (answer.status in {404, 502}, answer.one("content-type")) == (True, "application/problem+json")


def test_a_problem_to_an_upload_that_nobody_read_leaves_the_connection_honest(gateway: Gateway) -> None:
    """The rest of the body is never taken for the next request."""
    with gateway.connect() as wire:
        smuggled = request_bytes("GET", "/users/smuggled", "X-Request-ID: smuggled")
        wire.send(request_bytes("POST", "/nothing", f"Content-Length: {len(smuggled)}", body=smuggled))
        assert wire.read_answer().status == 404
        wire.send(request_bytes("GET", "/nothing", "Connection: close"))
        rest = wire.read_to_end()
    assert rest == b"" or (rest.startswith(b"HTTP/1.1 404 ") and rest.count(b"HTTP/1.1 ") == 1)
    assert not [line for line in gateway.log if line.get("request_id") == "smuggled"]


def test_no_route_is_404(gateway: Gateway, up: Answers) -> None:
    up.forget()
    for target, host in (("/nothing", "gateway.test"), ("/usersx", "gateway.test"), ("/here", "gateway.test")):
        answer = gateway.ask(request_bytes("GET", target, host=host))
        assert (answer.status, answer.json()["reason"]) == (404, "route_not_found")
        assert answer.one("proxy-status") == "portway; error=destination_not_found"
        line = log_of(gateway, answer)
        assert (line["route"], line["upstream"], line["attempts"]) == (None, None, None)
    assert up.requests == []
    assert gateway.ask(request_bytes("GET", "/here", host="HOSTED.test:8000")).status == 200


def test_a_wrong_method_is_405_with_allow(gateway: Gateway) -> None:
    answer = gateway.ask(request_bytes("DELETE", "/only"))
    assert (answer.status, answer.json()["reason"]) == (405, "method_not_allowed")
    assert answer.one("allow") == "GET, HEAD, POST, PUT"
    assert gateway.ask(request_bytes("PUT", "/only")).status == 200
    answer = gateway.ask(request_bytes("POST", "/missing"))
    assert (answer.status, answer.one("allow")) == (405, "GET, HEAD")


def test_minimal_disclosure_names_no_upstream_in_answers_but_in_the_log(discreet: Gateway) -> None:
    answer = discreet.get("/refuses")
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    assert answer.one("proxy-status") == "portway; error=connection_refused"
    assert b"refuses" not in answer.body
    assert not any("refuses" in line for line in answer.lines)
    assert log_of(discreet, answer)["upstream"] == "refuses"


def test_an_upstreams_proxy_status_is_kept(gateway: Gateway, up: Answers) -> None:
    usual = up.answer
    up.answer = b"HTTP/1.1 502 Bad Gateway\r\nProxy-Status: inner; error=dns_error\r\nContent-Length: 0\r\n\r\n"
    try:
        answer = gateway.get("/users/1")
    finally:
        up.answer = usual
    assert answer.all("proxy-status")[0] == "inner; error=dns_error"


# -- Python of one's own ------------------------------------------------------------------------------------------


def test_an_exception_in_a_view_is_500_and_its_text_is_in_the_log_only(gateway: Gateway) -> None:
    answer = gateway.get("/boom")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    assert answer.one("proxy-status") == "portway; error=proxy_internal_error"
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    line = log_of(gateway, answer)
    assert (line["level"], line["status"], line["reason"], line["route"]) == ("error", 500, "view_error", "boom")
    assert "RuntimeError: the secret of the house" in line["cause"]


def test_djangos_own_exceptions_keep_their_meaning(gateway: Gateway) -> None:
    missing, denied = gateway.get("/missing"), gateway.get("/denied")
    assert (missing.status, missing.json()["reason"]) == (404, "view_not_found")
    assert (denied.status, denied.json()["reason"]) == (403, "request_denied")


def test_a_django_view_answers_with_all_its_cookies(gateway: Gateway) -> None:
    answer = gateway.get("/hello/Zo%C3%AB")
    assert answer.json() == {"hello": "Zoë"}
    assert [value.partition(";")[0] for value in answer.all("set-cookie")] == ["a=1", "b=2"]
    assert log_of(gateway, answer)["route"] == "hello"


def test_a_synchronous_django_view_gets_its_body(gateway: Gateway) -> None:
    answer = gateway.ask(request_bytes("POST", "/plain?q=%C3%AB", "Content-Length: 2", body=b"hi"))
    assert (answer.status, answer.body) == (200, "POST ë hi".encode())
    assert log_of(gateway, answer)["route"] == "plainly"


@pytest.mark.parametrize("target", ["/plain", "/django/7"])
def test_a_body_for_a_view_is_bounded_too(gateway: Gateway, target: str) -> None:
    size = 10 * 1024 * 1024
    answer = gateway.ask(request_bytes("POST", target, f"Content-Length: {size + 1}"))
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", target, "Transfer-Encoding: chunked"))
        with contextlib.suppress(ConnectionError):  # it need not take the rest
            for _ in range(size // 65536 + 1):
                wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert wire.read_answer().status == 413


def test_djangos_own_lines_come_after_the_table(gateway: Gateway) -> None:
    answer = gateway.get("/django/7?q=1")
    assert (answer.status, answer.body) == (200, b"GET 7 /django/7")
    assert gateway.get("/django/seven").status == 404


# -- endpoints of its own -----------------------------------------------------------------------------------------


def test_live_and_ready_are_200(gateway: Gateway) -> None:
    for target in ("/-/live", "/-/ready", "/-/ready?x=1"):
        answer = gateway.get(target)
        assert (answer.status, answer.one("cache-control")) == (200, "no-store")
        assert gateway.ask(request_bytes("HEAD", target)).status == 200


def test_what_lies_under_the_gateways_own_path_is_404_or_405(gateway: Gateway) -> None:
    for target in ("/-/nothing", "/-/live/x", "/-/LIVE"):
        assert gateway.get(target).status == 404
    answer = gateway.ask(request_bytes("POST", "/-/live"))
    assert (answer.status, answer.one("allow")) == (405, "GET, HEAD")


def test_a_websocket_handshake_that_nobody_takes_is_politely_refused(gateway: Gateway) -> None:
    raw = request_bytes(
        "GET",
        "/-/live",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    answer = gateway.ask(raw)
    assert (answer.status, answer.json()["reason"]) == (501, "websocket_unsupported")


# -- ids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["r-1", "A.b_c-9", "x" * 128])
def test_a_clients_request_id_is_kept_up_down_and_in_the_log(gateway: Gateway, up: Answers, said: str) -> None:
    up.forget()
    answer = gateway.get("/users/1", f"X-Request-ID: {said}")
    assert answer.one("x-request-id") == said
    assert up.requests[0].one("x-request-id") == said
    assert gateway.request_line(said)["path"] == "/users/1"


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["X-Request-ID:"],
        ["X-Request-ID: " + "x" * 129],
        ["X-Request-ID: a b"],
        ["X-Request-ID: a/b"],
        ['X-Request-ID: a"b'],
        ["X-Request-ID: <script>"],
        ["X-Request-ID: one", "X-Request-ID: two"],
    ],
)
def test_any_other_request_id_is_made_anew_and_is_the_same_up_down_and_in_the_log(
    gateway: Gateway, up: Answers, said: list[str]
) -> None:
    up.forget()
    answer = gateway.get("/users/1", *said)
    made = answer.one("x-request-id")
    assert HEX32.fullmatch(made)
    assert up.requests[0].one("x-request-id") == made
    assert gateway.request_line(made)["status"] == 200


def test_an_upstreams_own_request_id_does_not_replace_the_requests(gateway: Gateway, up: Answers) -> None:
    usual = up.answer
    up.answer = b"HTTP/1.1 200 OK\r\nX-Request-ID: theirs\r\nContent-Length: 0\r\n\r\n"
    try:
        assert gateway.get("/users/1", "X-Request-ID: ours").one("x-request-id") == "ours"
    finally:
        up.answer = usual


@pytest.mark.parametrize(
    "said",
    [
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more",
    ],
)
def test_a_trace_that_came_goes_up_unchanged(gateway: Gateway, up: Answers, said: str) -> None:
    up.forget()
    answer = gateway.get("/users/1", f"traceparent: {said}", "tracestate: a=1,b=2", "tracestate: c=3")
    (request,) = up.requests
    assert request.one("traceparent") == said
    assert request.all("tracestate") == ["a=1,b=2", "c=3"]
    assert log_of(gateway, answer)["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    "said",
    [
        [],
        ["traceparent: 00-" + "0" * 32 + "-00f067aa0ba902b7-01"],
        ["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01"],
        ["traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ["traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
        ["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
        ["traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"] * 2,
        ["traceparent: nonsense"],
    ],
)
def test_a_trace_is_begun_unsampled_where_none_came(gateway: Gateway, up: Answers, said: list[str]) -> None:
    up.forget()
    answer = gateway.get("/users/1", *said, "tracestate: a=1")
    (request,) = up.requests
    made = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-00", request.one("traceparent"))
    assert made is not None
    assert made[1] != "4bf92f3577b34da6a3ce929d0e0e4736"
    assert not request.has("tracestate")  # it belongs to a trace that is not this one
    assert log_of(gateway, answer)["trace_id"] == made[1]


# -- bad input ----------------------------------------------------------------------------------------------------

GOOD = "Host: gateway.test"


@pytest.mark.parametrize(
    "host",
    [
        pytest.param([], id="none"),
        pytest.param(["Host:"], id="empty"),
        pytest.param([GOOD, GOOD], id="twice the same"),
        pytest.param([GOOD, "Host: other.test"], id="two"),
        pytest.param(["Host: a b"], id="a space"),
        pytest.param(["Host: a/b"], id="a slash"),
        pytest.param(["Host: user@gateway.test"], id="a user"),
        pytest.param(["Host: gateway.test:99999"], id="no port"),
        pytest.param(["Host: gateway.test:8a"], id="a port that is no number"),
        pytest.param(["Host: [::1"], id="half a bracket"),
        pytest.param(["Host: [::g]"], id="no address"),
        pytest.param(["Host: http://gateway.test"], id="a URL"),
        pytest.param(["Host: gateway.test#x"], id="a fragment"),
        pytest.param(["Host: \xe9.test"], id="no ASCII"),
        pytest.param(["Host: %zz"], id="a broken escape"),
    ],
)
def test_a_host_that_is_none_is_400(gateway: Gateway, up: Answers, host: list[str]) -> None:
    up.forget()
    answer = gateway.ask(request_bytes("GET", "/users/1", *host, host=""))
    assert (answer.status, answer.json()["reason"]) == (400, "host_invalid")
    assert answer.one("content-type") == "application/problem+json"
    assert up.requests == []


@pytest.mark.parametrize("host", ["gateway.test:80", "GATEWAY.Test", "127.0.0.1:1", "[::1]:8000", "a_b.test", "xn--e1"])
def test_a_host_that_is_one_passes(gateway: Gateway, host: str) -> None:
    assert gateway.ask(request_bytes("GET", "/users/1", host=host)).status == 200


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET /users/a\x00b HTTP/1.1\r\nHost: x\r\n\r\n", id="NUL in the target"),
        pytest.param(b"GET /users/\xc3\xab HTTP/1.1\r\nHost: x\r\n\r\n", id="raw UTF-8 in the target"),
        pytest.param(b"GET /users/ a HTTP/1.1\r\nHost: x\r\n\r\n", id="a space in the target"),
        pytest.param(b"GET users HTTP/1.1\r\nHost: x\r\n\r\n", id="no slash"),
        pytest.param(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", id="an asterisk"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", id="NUL in a field"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n", id="a bare CR in a field"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\n X-A: folded\r\n\r\n", id="a folded field"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nX A: 1\r\n\r\n", id="a space in a name"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n", id="a space before the colon"),
        pytest.param(b"GET /users/1 HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", id="no colon"),
        pytest.param(b"GET /users/1 HTTP/9.9\r\nHost: x\r\n\r\n", id="no such version"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", id="a TLS handshake"),
        pytest.param(
            b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
            id="two different lengths",
        ),
        pytest.param(b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2, 2\r\n\r\nab", id="a list of lengths"),
        pytest.param(b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: +2\r\n\r\nab", id="a length with a sign"),
        pytest.param(b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\nab", id="a length in words"),
        pytest.param(
            b"POST /users/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n", id="a vast length"
        ),
        pytest.param(
            b"POST /users/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", id="a coding that is not chunked"
        ),
    ],
)
def test_a_malformed_request_is_400_and_no_upstream_sees_it(gateway: Gateway, up: Answers, raw: bytes) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(raw)
        answer = wire.read_head()
    assert answer.status == 400
    assert up.requests == []
    assert gateway.get("/users/alive").status == 200


@pytest.mark.parametrize(
    "field",
    [
        "Content_Length: 2",
        "Transfer_Encoding: chunked",
        "X_Forwarded_For: 9.9.9.9",
        "X-Forwarded_Host: x",
        "X_Request-ID: x",
    ],
)
def test_a_field_that_some_take_for_one_of_the_gateways_own_does_not_go_up(
    gateway: Gateway, up: Answers, field: str
) -> None:
    """CGI and WSGI make the same variable of `_` and `-`."""
    up.forget()
    answer = gateway.get("/users/1", field)
    if answer.status != 400:
        assert not [line for line in up.requests[0].lines if "_" in line.partition(":")[0]]


@pytest.mark.parametrize("target", ["gateway.test:443", "/users/1"])
def test_connect_is_refused(gateway: Gateway, up: Answers, target: str) -> None:
    """The gateway is nobody's tunnel."""
    up.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("CONNECT", target))
        assert wire.read_head().status in {400, 405, 501}
    assert up.requests == []


def test_a_length_that_came_twice_and_is_the_same_goes_up_once_or_not_at_all(gateway: Gateway, up: Answers) -> None:
    """Granian shows one; RFC 9110, section 8.6, allows to take it for that."""
    up.forget()
    answer = gateway.ask(request_bytes("POST", "/users/1", "Content-Length: 2", "Content-Length: 2", body=b"ab"))
    if answer.status != 400:
        assert (up.requests[0].one("content-length"), up.requests[0].body) == ("2", b"ab")


def test_a_length_beside_a_transfer_coding_never_goes_up_as_both(gateway: Gateway, up: Answers) -> None:
    up.forget()
    body = b"3\r\nabc\r\n0\r\n\r\n"
    raw = request_bytes("POST", "/users/1", "Content-Length: 3", "Transfer-Encoding: chunked", body=body)
    answer = gateway.ask(raw)
    if answer.status != 400:
        (request,) = up.requests
        assert (request.body, request.has("content-length"), request.all("transfer-encoding")) == (
            b"abc",
            False,
            ["chunked"],
        )


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(["X-Big: " + "x" * 66_000], id="one field"),
        pytest.param([f"X-{number}: {'x' * 1000}" for number in range(66)], id="many fields"),
        pytest.param(["X-Huge: " + "x" * 400_000], id="400 KB"),
        pytest.param([f"X-{number}: 1" for number in range(200)], id="more than a hundred fields"),
    ],
)
def test_a_header_block_over_64_kib_is_431(gateway: Gateway, up: Answers, fields: list[str]) -> None:
    up.forget()
    answer = gateway.get("/users/1", *fields)
    assert answer.status == 431
    if answer.body:  # above a hundred fields it is Granian's own refusal
        assert answer.json()["reason"] == "headers_too_large"
    assert up.requests == []
    assert gateway.get("/users/alive").status == 200


def test_a_header_block_below_64_kib_passes(gateway: Gateway) -> None:
    assert gateway.get("/users/1", *(f"X-{number}: {'x' * 1000}" for number in range(60))).status == 200


def test_a_target_over_64_kib_is_refused(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.get("/users/" + "x" * 70_000).status in {400, 414}
    assert up.requests == []


def test_after_all_of_it_the_worker_has_said_nothing_but_requests(gateway: Gateway) -> None:
    assert gateway.get("/users/alive").status == 200
    known = {"request", "start", "start.route", "start.upstream", "worker.ready"}
    known.add("loop.stalled")  # on a machine with better things to do
    assert [line for line in gateway.log if line["event"] not in known] == []
    assert [line for line in gateway.errors if "() is synchronous: " not in line] == []
    assert len(gateway.output) == len(gateway.log)  # every line of it is JSON


# -- the log ------------------------------------------------------------------------------------------------------


def test_one_request_line_has_exactly_these_fields_in_this_order(gateway: Gateway, up: Answers) -> None:
    raw = request_bytes("POST", "/users/a%2Fb?q=secret", "Content-Length: 2", "X-Request-ID: whole", body=b"hi")
    gateway.ask(raw)
    line = gateway.request_line("whole")
    assert list(line) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert HEX32.fullmatch(line.pop("trace_id"))
    ms, upstream_ms = line.pop("ms"), line.pop("upstream_ms")
    assert 0 < upstream_ms <= ms < 10_000
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "whole",
        "client": "127.0.0.1",
        "method": "POST",
        "host": "gateway.test",
        "path": "/users/a%2Fb",
        "route": "users",
        "status": 200,
        "reason": None,
        "bytes_in": 2,
        "bytes_out": 5,
        "upstream": "u",
        "endpoint": up.authority,
        "attempts": 1,
        "cache": None,
        "parts": None,
        "auth": None,
        "identity": None,
        "worker": next(one["pid"] for one in gateway.log if one["event"] == "worker.ready"),
    }


def test_the_line_of_a_request_that_no_route_took_is_whole_too(gateway: Gateway) -> None:
    line = log_of(gateway, gateway.get("/nothing"))
    assert list(line) == FIELDS
    assert (line["status"], line["reason"], line["upstream"], line["endpoint"]) == (404, "route_not_found", None, None)
    assert (line["attempts"], line["upstream_ms"], line["route"]) == (None, None, None)


def test_an_asterisk_asks_the_gateway_itself(gateway: Gateway, up: Answers) -> None:
    up.forget()
    answer = gateway.ask(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (answer.status, answer.one("allow").split(", ")[:2]) == (204, ["GET", "HEAD"])
    assert up.requests == []


def test_a_failures_line_says_its_cause_after_all_the_others(gateway: Gateway) -> None:
    line = log_of(gateway, gateway.get("/refuses"))
    assert list(line) == [*FIELDS, "cause"]
    assert (line["status"], line["reason"], line["level"]) == (502, "connection_refused", "warning")


def test_the_line_of_a_client_that_left_is_whole_too(gateway: Gateway, slow: Slow) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/slow/x", "X-Request-ID: left"))
        slow.wait_for_request("/slow/x")
    line = gateway.request_line("left")
    assert list(line) == FIELDS
    assert (line["status"], line["reason"], line["route"], line["upstream"]) == (499, "client_gone", "slow", "slow")


def test_every_request_has_one_line(gateway: Gateway) -> None:
    ids = [f"one-{number}" for number in range(20)]
    targets = ["/users/1", "/nothing", "/refuses", "/boom", "/-/status"]
    for number, name in enumerate(ids):
        gateway.get(targets[number % len(targets)], f"X-Request-ID: {name}")
    for name in ids:
        gateway.request_line(name)
    counted = [line["request_id"] for line in gateway.log if line.get("request_id") in ids]
    assert sorted(counted) == sorted(ids)


def test_the_log_for_people_is_aligned_text(environment: dict[str, str], tmp_path: Path) -> None:
    with Gateway(environment | {"GATEWAY_LOG": "console"}, cwd=tmp_path) as gateway:
        gateway.get("/users/1")
        gateway.get("/refuses")
        gateway.get("/nothing")

        def lines() -> list[str]:
            return [line for line in gateway.output if " ms  /" in line and "/-/ready" not in line]

        eventually(lambda: len(lines()) >= 3)
        served, failed, lost = lines()[-3:]
    assert gateway.log == []
    assert "\x1b" not in "".join(gateway.output)  # colours are for terminals
    clock = r"\d\d:\d\d:\d\d\.\d{3}"
    assert re.match(rf"{clock}  GET +200 +[\d.]+ ms  /users/1  -> u 127\.0\.0\.1:\d+$", served)
    assert re.match(rf"{clock}  GET +502 +[\d.]+ ms  /refuses  -> refuses .*connection_refused", failed)
    assert re.match(rf"{clock}  GET +404 +[\d.]+ ms  /nothing  route_not_found$", lost)
    assert served.index("/users/1") == failed.index("/refuses") == lost.index("/nothing")


def test_a_path_cannot_forge_a_log_line(gateway: Gateway) -> None:
    gateway.get("/users/%0A%7B%22event%22:%22request%22%7D%1b[31m", "X-Request-ID: forged", 'User-Agent: "}\\n{"')
    line = gateway.request_line("forged")
    assert line["path"] == "/users/%0A%7B%22event%22:%22request%22%7D%1b[31m"
    assert json.dumps(line)
