"""A request's body that is broken, and one that nobody reads: whichever view it is for, the answer is honest."""

from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Answers, AnswersEarly, Gateway, Upstream, Wire, eventually, request_bytes

ROUTES = """
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from gateway.routing import cached, from_environment, legacy, proxy, route

async def reads(request):
    return HttpResponse(await request.read_body())

async def streams(request):
    return HttpResponse(b"".join([chunk async for chunk in request.stream()]))

async def begins(request):
    async for chunk in request.stream():
        return HttpResponse("ok")

def blocks(request):
    return HttpResponse(request.body)

def counts(request):
    return {"n": len(request.body)}

async def ignores(request):
    return HttpResponse("ok")

def ignores_too():
    return {"n": 0}

async def denies(request):
    raise PermissionDenied

async def many(request):
    async def pieces():
        yield b"ok"
    return StreamingHttpResponse(pieces())

urlpatterns = [
    *from_environment(),
    route("POST /reads", reads),
    route("POST /streams", streams),
    route("/begins", begins),
    route("POST /blocks", blocks),
    route("/legacy", legacy(counts)),
    route("/python-cached", cached(proxy("u"), "60s")),
    route("/ignores", ignores),
    route("/legacy-ignores", legacy(ignores_too)),
    route("/denies", denies),
    route("/many", many),
    route("GET /get", ignores),
    path("django/blocks", blocks),
    path("django/reads", reads),
    path("django/proxy", proxy("u")),
]
"""
READ = ["/proxied", "/fan", "/cached", "/python-cached", "/reads", "/streams", "/blocks", "/legacy"]
READ += ["/django/blocks", "/django/reads", "/django/proxy"]
UNREAD = {"/ignores": 200, "/legacy-ignores": 200, "/denies": 403, "/many": 200, "/nothing": 404, "/get": 405}
UNREAD |= {"/small": 413, "/-/live": 405}  # (of these, `legacy` waits for the body before it calls)
BROKEN = [b"zz\r\nhello", b"5\r\nhelloXX", b"-1\r\n", b"fffffffffffffffffff\r\n", b"5\r\nhello\r\n0\r\n\x01\r\n\r\n"]
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Upstream.answering(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n7") as up:
        yield up


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("request_bodies")
    (folder / "routes.py").write_text(ROUTES)
    with AnswersEarly(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno") as early:
        environment = {
            "GATEWAY_UPSTREAM_U": up.url,
            "GATEWAY_UPSTREAM_EARLY": early.url,
            "GATEWAY_ROUTE_EARLY": "/early -> early",
            "GATEWAY_ROUTE_PROXIED": "/proxied -> u",
            "GATEWAY_ROUTE_CACHED": "/cached -> u",
            "GATEWAY_ROUTE_CACHED__CACHE": "60s",
            "GATEWAY_ROUTE_FAN": "POST /fan",
            "GATEWAY_ROUTE_FAN__PART_A": "u:/a",
            "GATEWAY_ROUTE_SMALL": "/small -> u",
            "GATEWAY_ROUTE_SMALL__MAX_BODY": "10B",
        }
        with Gateway(environment, cwd=folder) as running:
            yield running


# -- broken -------------------------------------------------------------------------------------------------------


def check_broken(gateway: Gateway, up: Answers, wire: Wire, request_id: str) -> None:
    answer = wire.read_answer("POST")
    assert (answer.status, answer.one("connection"), answer.broke_off) == (400, "close", False)
    assert (answer.json()["reason"], answer.json()["status"]) == ("client_body_broken", 400)
    assert wire.is_closed()
    line = gateway.request_line(request_id)
    assert (line["status"], line["reason"], line["level"]) == (499, "client_body_broken", "info")
    assert not [request for request in up.requests if request.is_whole], "a cut upload went up as a whole one"


@pytest.mark.parametrize("timing", ["with the head", "after the head", "after a chunk"])
@pytest.mark.parametrize("way", READ)
def test_a_broken_chunk_is_400_whatever_the_timing(gateway: Gateway, up: Answers, way: str, timing: str) -> None:
    for number, broken in enumerate(BROKEN):
        up.forget()
        request_id = f"{way.strip('/').replace('/', '.')}.{timing.replace(' ', '.')}.{number}"
        head = request_bytes("POST", way, CHUNKED, f"X-Request-ID: {request_id}")
        with gateway.connect() as wire:
            if timing == "with the head":
                wire.send(head + broken)
            else:
                wire.send(head + (b"3\r\nabc\r\n" if timing == "after a chunk" else b""))
                if way == "/proxied":  # then its head has gone up, so what follows came apart from it
                    up.wait_for_request()
                wire.send(broken)
            check_broken(gateway, up, wire, request_id)


@pytest.mark.parametrize("way", READ)
def test_a_body_that_is_too_short_is_400_to_who_still_listens(gateway: Gateway, up: Answers, way: str) -> None:
    up.forget()
    request_id = f"short.{way.strip('/').replace('/', '.')}"
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", way, "Content-Length: 9", f"X-Request-ID: {request_id}", body=b"abc"))
        wire.socket.shutdown(1)
        check_broken(gateway, up, wire, request_id)


@pytest.mark.parametrize("by_reset", [False, True])
def test_who_left_in_the_middle_is_one_line_and_no_other(gateway: Gateway, up: Answers, by_reset: bool) -> None:
    up.forget()
    for way in READ:
        request_id = f"left.{by_reset}.{way.strip('/').replace('/', '.')}"
        with gateway.connect() as wire:
            wire.send(request_bytes("POST", way, "Content-Length: 9", f"X-Request-ID: {request_id}", body=b"abc"))
            if way == "/proxied":
                up.wait_for_request()
            if by_reset:
                wire.reset()
        line = gateway.request_line(request_id)
        assert (line["status"], line["reason"]) == (499, "client_body_broken")
    assert not [request for request in up.requests if request.is_whole]
    assert eventually(lambda: not any(request.connection.is_open for request in up.requests))
    assert not [line for line in gateway.log if line["level"] in {"error", "warning"}]


# -- unread -------------------------------------------------------------------------------------------------------


def next_request_is_answered(wire: Wire) -> bool:
    try:
        wire.send(request_bytes("GET", "/-/live", "Connection: close"))
        return wire.read_to_end().startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def answer_to(wire: Wire, head: bytes, body: bytes) -> Answer:
    """The answer to a request whose body comes in a packet of its own, as http.client, urllib3 and Java send it."""
    wire.send(head)
    wire.send(body)
    return wire.read_answer("POST")


@pytest.mark.parametrize("way", sorted(UNREAD.keys() - {"/many"}))  # a stream may still read what it answers to
def test_after_a_short_body_that_nobody_read_the_connection_is_kept(gateway: Gateway, way: str) -> None:
    for size in (1, 20, 5000):
        chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
        for framing, body in ((f"Content-Length: {size}", b"x" * size), (CHUNKED, chunked)):
            if way == "/small" and framing == CHUNKED:
                continue  # read until it was too much
            with gateway.connect() as wire:
                answer = answer_to(wire, request_bytes("POST", way, framing), body)
                if size > 10 or way != "/small":
                    assert answer.status == UNREAD[way]
                assert not answer.has("connection")
                assert next_request_is_answered(wire)


@pytest.mark.parametrize("way", [*sorted(UNREAD.keys() - {"/legacy-ignores"}), "/begins", "/early"])
def test_a_connection_that_closes_after_an_unread_body_says_so(gateway: Gateway, way: str) -> None:
    """Whoever keeps connections must not send its next request into one that ends (RFC 9112, section 9.6)."""
    for version in ("1.1", "1.0"):
        for size in (20, 100_000):
            head = request_bytes("POST", way, f"Content-Length: {size}", "Connection: keep-alive")
            with gateway.connect() as wire:
                wire.send(head.replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + b"x" * (size // 2))
                answer = wire.read_answer("POST")
                assert answer.status == (UNREAD | {"/begins": 200, "/early": 401, "/small": 413})[way]
                assert "close" in answer.one("connection")
                assert wire.is_closed()


def test_what_says_that_it_closes_does_not_wait_for_the_collector(gateway: Gateway) -> None:
    """A failure holds its own traceback, and that the request: whatever holds it must not hold the connection too."""
    wires = [gateway.connect() for _ in range(40)]
    for wire in wires:
        wire.send(request_bytes("POST", "/nothing", "Content-Length: 20", body=b"half of it"))
    for wire in wires:
        with wire:
            assert wire.read_answer("POST").one("connection") == "close"
            assert wire.is_closed(within_s=5)


def test_who_waits_to_be_asked_for_a_body_is_not_asked_for_one_that_nobody_wants(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/nothing", "Content-Length: 5", "Expect: 100-continue"))
        answer = wire.read_answer("POST")
    assert (answer.status, answer.interim, answer.one("connection")) == (404, (), "close")


@pytest.mark.parametrize("way", ["/proxied", "/reads", "/legacy"])
def test_after_a_body_that_was_read_the_connection_is_kept(gateway: Gateway, way: str) -> None:
    with gateway.connect() as wire:
        answer = answer_to(wire, request_bytes("POST", way, "Content-Length: 100000"), b"x" * 100_000)
        assert (answer.status, answer.has("connection")) == (200, False)
        assert next_request_is_answered(wire)


def test_a_stream_to_http10_says_that_it_ends_with_the_connection(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /many HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        answer = wire.read_answer()
        assert (answer.body, "close" in answer.one("connection")) == (b"ok", True)
