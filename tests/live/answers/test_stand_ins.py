"""When something stands in for an answer and when nothing does; what a plain MAINTENANCE closes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from tests.live.caching import Origin, fresh, said
from tests.live.harness import Answer, Gateway, Refuses, eventually, request_bytes
from tests.live.stage import breaks_off, message, says, status

HTML = "Accept: text/html"
PAGE = b"<h1>lost</h1>"
PAGES = "https://app.example.com"
SPARE = b"from the spare"
HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
)
ROUTES = """
from django.http import HttpResponse
from django.urls import path

from gateway.routing import from_environment


async def own(request):
    return HttpResponse(b"own")


async def fails(request):
    raise RuntimeError("no good")


urlpatterns = [*from_environment(), path("django/", own), path("django/fails", fails)]
"""


@pytest.fixture(scope="module")
def main() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def spare() -> Iterator[Origin]:
    with Origin() as upstream:
        upstream.answers("/spare", says(message("200 OK", SPARE)))
        yield upstream


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("stand-ins")
    (home / "site").mkdir()
    (home / "site" / "a.txt").write_bytes(b"a")
    (home / "404.html").write_bytes(PAGE)
    (home / "gone.html").write_bytes(PAGE)  # while it starts: a page that is not there is refused
    (home / "routes.py").write_text(ROUTES, encoding="ascii")
    return home


@pytest.fixture(scope="module")
def talks() -> Iterator[int]:
    """A WebSocket server that says one thing; its port."""
    with serve(lambda socket: socket.send("from the spare"), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def gateway(main: Origin, spare: Origin, talks: int, home: Path) -> Iterator[Gateway]:
    refuses = Refuses()
    environment = {
        "GATEWAY_CORS": PAGES,
        "GATEWAY_RESPONSE_HEADER_X_ALL": "1",
        "GATEWAY_ON_4XX": "spare:/spare",
        "GATEWAY_ON_5XX": "spare:/spare",
        "GATEWAY_UPSTREAM_MAIN": main.url,
        "GATEWAY_UPSTREAM_SPARE": spare.url,
        "GATEWAY_UPSTREAM_DEAD": refuses.url,
        "GATEWAY_UPSTREAM_DEAD__RETRIES": "0",
        "GATEWAY_ROUTE_MAIN": "/main/** -> main",
        "GATEWAY_ROUTE_MAIN__MAX_BODY": "10B",
        "GATEWAY_ROUTE_STORED": "/stored/** -> main",
        "GATEWAY_ROUTE_STORED__CACHE": "on",
        "GATEWAY_ROUTE_STORED__STALE_IF_ERROR": "1h",
        "GATEWAY_ROUTE_DEAD": "/dead -> dead",
        "GATEWAY_ROUTE_FAN": "/fan/{id}",
        "GATEWAY_ROUTE_FAN__PART_A": "main:/fan/{id}",
        "GATEWAY_ROUTE_FAN__PART_B": "dead:/{id}",
        "GATEWAY_ROUTE_GONE": "/gone/** -> dead",
        "GATEWAY_ROUTE_GONE__ON_502": f"file:{home}/gone.html",
        "GATEWAY_ROUTE_ASKS": "/asks -> dead",
        "GATEWAY_ROUTE_ASKS__ON_502": "302 /login/{header.x-place}",
        "GATEWAY_UPSTREAM_TALKS": f"http://127.0.0.1:{talks}",
        "GATEWAY_ROUTE_SOCKETS": "/sockets/** -> dead",
        "GATEWAY_ROUTE_SOCKETS__ON_CONNECTION_REFUSED": "talks:/**",
        "GATEWAY_ROUTE_SHUT": "/shut -> main",
        "GATEWAY_ROUTE_SHUT__MAINTENANCE": "on",
        "GATEWAY_ROUTE_LIMITED": "/limited -> main",
        "GATEWAY_ROUTE_LIMITED__RATE_LIMIT": "1/1h",
        "GATEWAY_ROUTE_SITE": f"/site/** -> file:{home}/site/**",
        "GATEWAY_ROUTE_SITE__ON_404": f"file:{home}/404.html",
    }
    with Gateway(environment, cwd=home) as running:
        yield running
    refuses.close()


def ask(gateway: Gateway, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    return gateway.request(method, target, *fields, body=body)


# -- another service ----------------------------------------------------------------------------------------------


def test_retries_come_before_what_stands_in(gateway: Gateway, main: Origin, spare: Origin) -> None:
    main.answers("/main/twice", status(503), fresh("the second time"))
    main.answers("/main/never", status(503))
    spare.forget()
    assert ask(gateway, "/main/twice").body == b"the second time"
    assert spare.requests == []
    answer = ask(gateway, "/main/never")
    assert (answer.status, answer.body) == (200, SPARE)
    assert len(main.asked("/main/never")) == 2


def test_a_stale_answer_comes_before_what_stands_in(gateway: Gateway, main: Origin, spare: Origin) -> None:
    main.answers("/stored/a", fresh("kept", "Age: 100"), status(503))
    main.answers("/stored/b", status(503))
    ask(gateway, "/stored/a")
    spare.forget()
    answer = ask(gateway, "/stored/a")
    assert (answer.status, answer.body) == (200, b"kept")
    assert said(answer).endswith("detail=stale-if-error")
    assert spare.requests == []
    assert ask(gateway, "/stored/b").body == SPARE  # nothing is kept


def test_nothing_stands_in_for_an_answer_that_began(gateway: Gateway, main: Origin, spare: Origin) -> None:
    main.answers("/main/begins", breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"))
    spare.forget()
    answer = ask(gateway, "/main/begins")
    assert (answer.status, answer.broke_off) == (200, True)
    assert spare.requests == []


@pytest.mark.parametrize(
    ("method", "target", "status", "reason"),
    [
        ("GET", "/main/a%00", 400, "path_invalid"),
        ("GET", "/main/../x", 400, "path_invalid"),
        ("POST", "/main/x", 413, "client_body_too_large"),
        ("DELETE", "/-/live", 405, "method_not_allowed"),
        ("GET", "/-/nothing", 404, "route_not_found"),
        ("GET", "/nowhere", 404, "route_not_found"),
        ("GET", "/shut", 503, "maintenance"),
        ("GET", "/site/.hidden", 404, "file_not_found"),
    ],
)
def test_no_service_stands_in_for_a_refusal_of_the_gateways_own(
    gateway: Gateway, spare: Origin, method: str, target: str, status: int, reason: str
) -> None:
    spare.forget()
    answer = ask(gateway, target, method=method, body=b"x" * 11 if method == "POST" else b"")
    assert (answer.status, answer.json()["reason"]) == (status, reason)
    assert spare.requests == []


def test_nor_for_a_limit(gateway: Gateway, spare: Origin) -> None:
    ask(gateway, "/limited")
    spare.forget()
    answer = ask(gateway, "/limited")
    assert (answer.status, answer.json()["reason"]) == (429, "rate_limited")
    assert spare.requests == []


def test_a_head_is_answered_by_what_stands_in_too(gateway: Gateway, spare: Origin) -> None:
    spare.forget()
    spare.answers("/spare", says(message("200 OK", SPARE)), says(b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n"))
    assert ask(gateway, "/dead").body == SPARE
    answer = ask(gateway, "/dead", method="HEAD")
    assert (answer.status, answer.body, answer.one("content-length")) == (200, b"", "14")
    assert [request.start.partition(" ")[0] for request in spare.requests] == ["GET", "HEAD"]
    spare.answers("/spare", says(message("200 OK", SPARE)))


def test_it_stands_in_for_a_fan_out_and_for_own_views(gateway: Gateway, main: Origin, spare: Origin) -> None:
    main.answers("/fan/7", says(message("200 OK", b"{}", "Content-Type: application/json")))
    for target in ("/fan/7", "/django/fails"):
        spare.forget()
        answer = ask(gateway, target)
        assert (answer.status, answer.body, len(spare.requests)) == (200, SPARE, 1), target


def test_a_body_whose_length_nobody_knows_leaves_the_first_failure(gateway: Gateway, spare: Origin) -> None:
    """It streams up, and is not held back to be kept."""
    spare.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/dead", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"))
        answer = wire.read_answer("POST")
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    assert spare.requests == []


def test_a_socket_opens_at_what_stands_in(gateway: Gateway) -> None:
    with connect(f"ws://127.0.0.1:{gateway.port}/sockets/x", proxy=None) as socket:
        assert socket.recv(timeout=10) == "from the spare"
    line = gateway.wait_for_log(lambda line: line.get("route") == "sockets" and line["event"] == "request")
    assert (line["status"], line["fallback"]) == (101, "talks")


def test_a_handshake_that_neither_takes_has_the_first_failure(gateway: Gateway, spare: Origin) -> None:
    spare.answers("/spare", status(503))
    try:
        answer = ask(gateway, "/dead", *HANDSHAKE)
    finally:
        spare.answers("/spare", says(message("200 OK", SPARE)))
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")


# -- pages --------------------------------------------------------------------------------------------------------


def test_a_page_stands_in_for_a_file_that_there_is_not(gateway: Gateway) -> None:
    answer = ask(gateway, "/site/missing", HTML)
    assert (answer.status, answer.body) == (404, PAGE)
    head = ask(gateway, "/site/missing", HTML, method="HEAD")
    assert (head.status, head.body, head.one("content-length")) == (404, b"", str(len(PAGE)))
    assert ask(gateway, "/site/missing").json()["reason"] == "file_not_found"


@pytest.mark.parametrize(
    ("target", "fields", "status"),
    [
        ("/site/a.txt", (), 200),
        ("/site/missing", (), 404),
        ("/site/missing", (HTML,), 404),
        ("/dead", (), 200),
        ("/shut", (), 503),
    ],
)
def test_pages_of_other_origins_may_read_each_and_plain_fields_stand_on_it(
    gateway: Gateway, target: str, fields: tuple[str, ...], status: int
) -> None:
    answer = ask(gateway, target, *fields, f"Origin: {PAGES}")
    assert answer.status == status
    assert answer.all("access-control-allow-origin") == [PAGES]
    assert answer.all("x-all") == ["1"]


def test_what_cannot_stand_in_leaves_the_first_answer(gateway: Gateway, home: Path) -> None:
    (home / "gone.html").unlink()
    answer = ask(gateway, "/gone/x", HTML)
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    line = gateway.wait_for_log(lambda line: line["event"] == "fallback.failed" and line["route"] == "gone")
    assert line["variable"] == "GATEWAY_ROUTE_GONE__ON_502"
    (home / "gone.html").write_bytes(PAGE)
    answer = ask(gateway, "/gone/x", HTML)
    assert (answer.status, answer.body) == (502, PAGE)  # it is read each time
    assert ask(gateway, "/asks", "X-Place: here").one("location") == "/login/here"
    answer = ask(gateway, "/asks")
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")


# -- maintenance --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closing(main: Origin, home: Path) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_MAINTENANCE": str(home / "closed"),
        "GATEWAY_UPSTREAM_MAIN": main.url,
        "GATEWAY_UPSTREAM_OPEN": main.url,
        "GATEWAY_UPSTREAM_OPEN__MAINTENANCE": "off",
        "GATEWAY_ROUTE_MAIN": "/main/** -> main",
        "GATEWAY_ROUTE_OPEN": "/open -> open",
        "GATEWAY_ROUTE_TOO": "/too -> main",
        "GATEWAY_ROUTE_TOO__MAINTENANCE": "-",
        "GATEWAY_ROUTE_FAN": "/fan",
        "GATEWAY_ROUTE_FAN__PART_A": "main:/fan",
        "GATEWAY_ROUTE_OWN": "/own -> 204",
        "GATEWAY_ROUTE_MOVED": "/moved -> 301 /own",
        "GATEWAY_ROUTE_SITE": f"/site/** -> file:{home}/site/**",
    }
    with Gateway(environment, cwd=home) as running:
        yield running


def test_a_file_closes_all_routes_and_probes_say_ready(closing: Gateway, home: Path, main: Origin) -> None:
    main.answers("/fan", says(message("200 OK", b"{}", "Content-Type: application/json")))
    served = {"/main/x": 200, "/fan": 200, "/own": 204, "/moved": 301, "/site/a.txt": 200, "/django/": 200}
    assert {target: ask(closing, target).status for target in served} == served
    (home / "closed").touch()
    try:
        for target in served:
            eventually(lambda: ask(closing, target).status == 503)  # noqa: B023 - asked at once
            answer = ask(closing, target)
            assert (answer.json()["reason"], answer.one("retry-after")) == ("maintenance", "60"), target
        shaken = ask(closing, "/main/socket", *HANDSHAKE)
        assert (shaken.status, shaken.json()["reason"]) == (503, "maintenance")
        assert main.asked("/main/socket") == []
        others = {"/open": 200, "/too": 200, "/nowhere": 404, "/-/ready": 200, "/-/live": 200}
        assert {target: ask(closing, target).status for target in others} == others
    finally:
        (home / "closed").unlink()
    for target, code in served.items():
        eventually(lambda: ask(closing, target).status == code)  # noqa: B023 - asked at once
