"""Clients that send or read nothing for long: they are cut off, and nobody else waits for them."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Answers, Gateway, Upstream, Wire, eventually, request_bytes

IDLE_S, KEEPALIVE_S = 1.0, 2.0
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
    environment = {"GATEWAY_CLIENT_IDLE": f"{IDLE_S:.0f}s", "GATEWAY_CLIENT_KEEPALIVE": f"{KEEPALIVE_S:.0f}s"}
    for name, server in {"b": upstream, "large": generous, "brief": brief}.items():
        environment[f"GATEWAY_UPSTREAM_{name.upper()}"] = server.url
        environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
    with Gateway(environment, cwd=tmp_path_factory.mktemp("slow")) as running:
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
        wire.send(b"POST /b/trickles HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 4\r\n\r\n")
        for number in range(4):
            assert not wire.is_hung_up(within_s=IDLE_S * 0.4)
            wire.send(b"%d" % number)
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
