"""Clients that send or read nothing for long: they are cut off, and nobody else waits for them."""

import contextlib
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.harness import Answer, Answers, Gateway, Upstream, Wire, eventually, request_bytes

IDLE_S, KEEPALIVE_S = 1.0, 2.0
ROUTES = """
import asyncio
from django.http import HttpResponse
from django.urls import path
from gateway.messages import GatewayResponse
from gateway.routing import from_environment, legacy, route

async def reads(request):
    return GatewayResponse(200, [], await request.read_body())

async def streams(request):
    return GatewayResponse(200, [], b"".join([piece async for piece in request.stream()]))

async def echoes(request):
    return GatewayResponse(200, [], request.stream())

async def takes_its_time(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
        await asyncio.sleep(0.4)  # the service is the slow one here, which is what is tried
    return GatewayResponse(200, [], b"%d" % size)

def sync(request):
    return HttpResponse(request.body)

def old(request):
    return {"size": len(request.body)}

def needs_none():
    return {}

urlpatterns = [
    *from_environment(), path("django", sync), route("POST /sync", sync), route("POST /reads", reads),
    route("POST /streams", streams), route("POST /echoes", echoes), route("POST /takes-its-time", takes_its_time),
    route("POST /legacy", legacy(old)), route("POST /legacy-none", legacy(needs_none, name="none")),
]
"""
LARGE = 20_000_000  # more than sockets and channels take on the way


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as silent:
        yield silent


@pytest.fixture(scope="module")
def generous() -> Iterator[Answers]:
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n".encode() + b"x" * LARGE
    with Answers(answer) as answers:
        yield answers


@pytest.fixture(scope="module")
def brief() -> Iterator[Answers]:
    with Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000) as answers:
        yield answers


@pytest.fixture(scope="module")
def gateway(
    upstream: Upstream, generous: Answers, brief: Answers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("slow")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_CLIENT_IDLE": f"{IDLE_S:.0f}s",
        "GATEWAY_CLIENT_KEEPALIVE": f"{KEEPALIVE_S:.0f}s",
        "GATEWAY_ROUTE_FAN": "/fan",
        "GATEWAY_ROUTE_FAN__PART_P": "brief:/",
        "GATEWAY_UPSTREAM_ONE": brief.url,
        "GATEWAY_UPSTREAM_ONE__MAX_IN_FLIGHT": "1",
        "GATEWAY_UPSTREAM_ONE__QUEUE": "0",
        "GATEWAY_ROUTE_ONE": "/one/** -> one",
    }
    for name, server in {"b": upstream, "large": generous, "brief": brief}.items():
        environment[f"GATEWAY_UPSTREAM_{name.upper()}"] = server.url
        environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
    with Gateway(environment, cwd=folder) as running:
        yield running


def line_for(gateway: Gateway, path: str) -> dict[str, object]:
    return gateway.wait_for_log(lambda line: line["event"] == "request" and line["path"] == path)


def test_a_body_that_stops_arriving_is_408_and_the_upstream_request_is_never_whole(
    gateway: Gateway, upstream: Upstream
) -> None:
    with gateway.connect() as wire:
        wire.send(b"POST /b/stops HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 10\r\n\r\nhello")
        answer = wire.read_answer("POST")
    assert (answer.status, answer.json()["reason"]) == (408, "client_body_timeout")
    request = upstream.wait_for_request("/b/stops")
    eventually(lambda: not request.connection.is_open)
    assert not request.is_whole


def test_a_body_that_keeps_coming_slowly_is_taken(gateway: Gateway, upstream: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(b"POST /b/trickles HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 320\r\n\r\n")
        for number in range(4):
            assert not wire.is_hung_up(within_s=IDLE_S * 0.4)
            wire.send(b"%d" % number * 80)
        request = upstream.wait_for_request("/b/trickles")
        eventually(lambda: request.is_whole)
        request.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert wire.read_answer("POST").status == 204


def test_a_reader_that_stops_is_cut_off_and_so_is_its_upstream(gateway: Gateway, generous: Answers) -> None:
    with gateway.connect(receive_buffer_bytes=4096) as wire:
        wire.send(request_bytes("GET", "/large/stops"))
        line = line_for(gateway, "/large/stops")
        assert (line["status"], line["reason"]) == (200, "client_stalled")
        eventually(lambda: generous.connections_open == 0)
        answer = wire.read_head()
        assert len(wire.read_body(answer)) < LARGE
        assert answer.broke_off


def test_a_reader_that_goes_on_is_served_to_the_end(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/large/goes-on"))
        answer = wire.read_head()
        for part in (1, 2, 3):
            wire.read_body(answer, at_least=part * LARGE // 4)
            # A pause, no question: once all of it is on its way, the gateway may close what is idle.
            wire.is_hung_up(within_s=IDLE_S * 0.4)
        assert len(wire.read_body(answer)) == LARGE
    assert line_for(gateway, "/large/goes-on")["reason"] is None


def test_an_answer_that_is_already_handed_over_does_not_wait_for_its_reader_for_ever(gateway: Gateway) -> None:
    """The gateway is done with it in a moment; the kernel drops the client that reads nothing."""
    with gateway.connect(receive_buffer_bytes=4096) as wire:
        wire.send(request_bytes("GET", "/brief/x"))
        assert line_for(gateway, "/brief/x")["reason"] is None
        local = wire.socket.getsockname()[1]
        eventually(lambda: local not in established(gateway))


def test_a_head_that_stops_arriving_is_cut_off(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /b/x HTTP/1.1\r\nHost: gateway.test\r\n")
        assert wire.is_closed()


def test_an_idle_connection_is_closed_after_a_time_of_its_own(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes("GET", "/-/live"))
            assert wire.read_answer().status == 200
        assert not wire.is_hung_up(within_s=(IDLE_S + KEEPALIVE_S) / 2)
        assert wire.is_closed()


def established(gateway: Gateway) -> set[int]:
    """The clients' ports of connections that the gateway's side has open, from the kernel's own table."""
    ports = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, local, remote, state = line.split()[:4]
        if int(local.rpartition(":")[2], 16) == gateway.port and state in {"01", "04", "05", "08", "0B"}:
            ports.add(int(remote.rpartition(":")[2], 16))
    return ports


@pytest.mark.parametrize("count", [1500])
def test_many_slow_clients_hold_up_nobody_else(upstream: Upstream, brief: Answers, tmp_path: Path, count: int) -> None:
    """A third each: heads, bodies and readers that stand still."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4 * count:
        pytest.skip(f"at most {hard} open files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    environment = {
        "GATEWAY_UPSTREAM_B": upstream.url,
        "GATEWAY_ROUTE_B": "/b/** -> b",
        "GATEWAY_UPSTREAM_BRIEF": brief.url,
        "GATEWAY_ROUTE_BRIEF": "/brief/** -> brief",
        "GATEWAY_DRAIN": "100ms",
    }
    with Gateway(environment, cwd=tmp_path) as gateway, contextlib.ExitStack() as crowd:
        half_a_head = b"GET /brief/x HTTP/1.1\r\nHost: gateway.test\r\nX-Slow: "
        half_a_body = b"POST /b/x HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 100\r\n\r\nhello"
        for number in range(count):
            slow = crowd.enter_context(socket.socket())
            if number % 3 == 0:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", gateway.port))
            slow.sendall((request_bytes("GET", "/brief/slow"), half_a_head, half_a_body)[number % 3])
        eventually(lambda: len(established(gateway)) >= count)
        took_s = []
        for _ in range(21):
            began = time.monotonic()
            with Wire("127.0.0.1", gateway.port) as wire:
                wire.send(request_bytes("GET", "/brief/quick"))
                assert len(wire.read_answer().body) == 100_000
            took_s.append(time.monotonic() - began)
        assert sorted(took_s)[10] < 1  # the median: the machine has other things to do


# -- bodies that only drip ----------------------------------------------------------------------------------------

FRAMINGS = {
    "length": b"HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000\r\n\r\n",
    "chunked": b"HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    "http/1.0": b"HTTP/1.0\r\nContent-Length: 1000\r\n\r\n",
}
KINDS = {
    **{f"{kind} {framing}": (kind, framing) for kind in ("/b/drips", "/reads") for framing in FRAMINGS},
    **{kind: (kind, "length") for kind in ("/streams", "/sync", "/django", "/legacy", "/legacy-none", "/one/drips")},
    "/fan": ("/fan", "chunked"),
}


def begin(wire: Wire, kind: str, framing: str) -> None:
    wire.send((b"GET " if kind == "/fan" else b"POST ") + kind.encode() + b" " + FRAMINGS[framing])


def drip(wire: Wire, framing: str, size: int = 1) -> None:
    with contextlib.suppress(OSError):  # on a slow machine the gateway has had enough already
        wire.send(b"%x\r\n%b\r\n" % (size, b"x" * size) if framing == "chunked" else b"x" * size)


@pytest.fixture(scope="module")
def dripped(gateway: Gateway) -> Iterator[dict[str, Answer]]:
    """What came of each kind of body that drips, all at once: four bytes in the time for a hundred."""
    with ExitStack() as stack:
        wires = {name: stack.enter_context(gateway.connect()) for name in KINDS}
        for name, (kind, framing) in KINDS.items():
            begin(wires[name], kind, framing)
        for _ in range(4):
            for name, (_, framing) in KINDS.items():
                drip(wires[name], framing)
            assert not wires["/streams"].is_hung_up(within_s=IDLE_S / 5)
        yield {name: wire.read_answer() for name, wire in wires.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_only_drips_is_408(dripped: dict[str, Answer], kind: str) -> None:
    answer = dripped[kind]
    assert (answer.status, answer.json()["reason"]) == (408, "client_body_timeout")
    assert answer.json()["detail"] == "The request body arrived too slowly."


def test_a_beginning_that_came_at_once_buys_no_time(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(b"POST /reads HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000)
        began_s = time.monotonic()
        while not select.select([wire.socket], [], [], IDLE_S / 10)[0]:  # no answer yet
            drip(wire, "length")
        assert wire.read_answer("POST").status == 408
        assert time.monotonic() - began_s < 3 * IDLE_S


def test_a_view_that_takes_its_time_is_not_the_clients_slowness(gateway: Gateway) -> None:
    """Pieces of ten bytes that are there at once, of which the view takes two or three a second."""
    with gateway.connect() as wire:
        wire.send(b"POST /takes-its-time HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(6):
            wire.send(b"1\r\nx\r\n")
        wire.send(b"0\r\n\r\n")
        assert wire.read_answer("POST").body == b"6"


def test_once_the_answer_has_begun_only_a_pause_counts(gateway: Gateway) -> None:
    """Two that talk with each other may say little."""
    with gateway.connect() as wire:
        begin(wire, "/echoes", "chunked")
        drip(wire, "chunked")
        answer = wire.read_head("POST")
        for _ in range(8):
            assert not wire.is_hung_up(within_s=IDLE_S / 4)
            drip(wire, "chunked")
        wire.send(b"0\r\n\r\n")
        assert (answer.status, wire.read_body(answer)) == (200, b"x" * 9)
        assert not answer.broke_off


def test_a_place_at_an_upstream_is_taken_with_the_first_bytes_of_a_body(gateway: Gateway) -> None:
    def is_full() -> bool:
        with gateway.connect() as wire:
            wire.send(b"POST /one/first HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 1000000\r\n\r\n")
            if gateway.get("/one/other").status != 200:  # one of those before has not given its place back yet
                return False
            drip(wire, "length", 500)  # on a slow machine it may be too late for this one: then there is another
            return any(gateway.get("/one/other").status == 503 for _ in range(10))

    eventually(is_full)
    eventually(lambda: gateway.get("/one/free").status == 200)


def test_a_head_without_any_body_is_408_and_the_upstream_hears_nothing(gateway: Gateway, brief: Answers) -> None:
    brief.forget()
    with gateway.connect() as wire:
        begin(wire, "/one/never", "length")
        answer = wire.read_answer("POST")
    assert (answer.status, answer.json()["reason"]) == (408, "client_body_timeout")
    assert not [request for request in brief.requests if request.target == "/one/never"]


def test_without_a_least_rate_a_body_may_drip(upstream: Upstream, tmp_path: Path) -> None:
    environment = {
        "GATEWAY_CLIENT_IDLE": f"{IDLE_S:.0f}s",
        "GATEWAY_MIN_UPLOAD_RATE": "0B",
        "GATEWAY_UPSTREAM_B": upstream.url,
        "GATEWAY_ROUTE_B": "/b/** -> b",
    }
    with Gateway(environment, cwd=tmp_path) as gateway, gateway.connect() as wire:
        wire.send(b"POST /b/may-drip HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            assert not wire.is_hung_up(within_s=IDLE_S / 4)
            wire.send(b"x")
        request = upstream.wait_for_request("/b/may-drip")
        eventually(lambda: request.is_whole)
        request.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert wire.read_answer("POST").status == 204
