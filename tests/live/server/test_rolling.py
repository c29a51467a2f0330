"""Rolling restarts: gateways share a port (GATEWAY_REUSE_PORT), one of them stops, and no client notices."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.server.reuseport import aim
from tests.live.clients import FAR_S, Clients
from tests.live.harness import Answers, Gateway, Wire, eventually, free_port, request_bytes

# Why it may be left out: SO_REUSEPORT deals connections out, and can be told to whom, on Linux alone. Elsewhere
# handover does nothing, which leaves nothing to test; `.ci/run` is on Linux.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shares a port in this way")

BODY = b"x" * 20_000
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + BODY
MANY = 30  # so many connections that by chance all go the same way is not to be expected


class Port:
    """A port, and the gateways that were started on it."""

    def __init__(self, environment: dict[str, str], cwd: Path) -> None:
        self.number = free_port()
        self.environment = {**environment, "GATEWAY_BIND": f"127.0.0.1:{self.number}", "GATEWAY_REUSE_PORT": "on"}
        self.cwd = cwd
        self.gateways: list[Gateway] = []
        self._opened: list[Wire] = []

    def start(self, **options: str) -> Gateway:
        """One more gateway, ready; its log tells, for whoever asks the port may hear another one."""
        environment = {f"GATEWAY_{name}": value for name, value in options.items()}
        gateway = Gateway({**self.environment, **environment}, cwd=self.cwd)
        gateway.port = self.number
        self.gateways.append(gateway)
        gateway.start(wait=False)
        eventually(lambda: len(said(gateway, "worker.ready")) == int(options.get("WORKERS", "1")))
        return gateway

    def connect(self) -> Wire:
        return Wire("127.0.0.1", self.number)

    def connections(self) -> list[Wire]:
        """As many as chance needs to be fair; closed when the test ends."""
        wires = [self.connect() for _ in range(MANY)]
        self._opened += wires
        return wires

    def close(self) -> None:
        for wire in self._opened:
            wire.close()
        for gateway in self.gateways:
            gateway.kill()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    with Answers(ANSWER) as upstream:
        port = Port({"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/b/** -> b"}, tmp_path)
        try:
            yield port
            for gateway in port.gateways:
                assert gateway.errors == []
                assert said(gateway, "library") == []
        finally:
            port.close()


def load(port: Port) -> Clients:
    kinds = ["near"] * 2 + ["far"] * 8 + ["keeping"] * 2
    return Clients(port.connect, kinds, target="/b/load", body=BODY)


def said(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log if line["event"] == event]


def asked(gateway: Gateway, path: str) -> int:
    """How many requests for that path it has answered."""
    return sum(line["path"] == path for line in said(gateway, "request"))


def status_of(wire: Wire, path: str = "/-/ready") -> int:
    wire.send(request_bytes("GET", path))
    return wire.read_answer().status


@contextlib.contextmanager
def frozen(gateway: Gateway) -> Iterator[None]:
    """Its workers stand still: who comes to them waits in their queues."""
    children = gateway.workers
    for pid in children:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in children:
            os.kill(pid, signal.SIGCONT)


def drain(gateway: Gateway, port: Port) -> None:
    """SIGTERM, and its worker has heard of it: of many connections some are its own, and say so."""
    kept = port.connections()
    assert {status_of(wire) for wire in kept} == {200}
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: 503 in {status_of(wire) for wire in kept})


def share(port: Port, *gateways: Gateway) -> None:
    """New connections come to each of them."""

    def asks() -> bool:
        assert {status_of(wire, "/b/shared") for wire in port.connections()} == {200}
        return all(asked(gateway, "/b/shared") for gateway in gateways)

    eventually(asks)


def test_gateways_follow_each_other_under_load_and_nothing_is_lost(port: Port) -> None:
    old = port.start(DRAIN_DELAY="400ms")
    with load(port) as clients:
        for workers in ("2", "2"):
            new = port.start(DRAIN_DELAY="400ms", WORKERS=workers)
            old.stop()
            old = new
        eventually(lambda: asked(old, "/b/load") > MANY)
    assert clients.failures == []
    assert all(asked(gateway, "/b/load") > MANY for gateway in port.gateways)
    assert {clients.answered.count(kind) > MANY for kind in ("near", "far", "keeping")} == {True}
    old.stop()


def test_while_one_drains_the_other_gets_all_that_is_new(port: Port) -> None:
    def leave(gateway: Gateway) -> None:
        drain(gateway, port)
        with frozen(gateway):
            assert {status_of(wire) for wire in port.connections()} == {200}
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0

    first, second = port.start(DRAIN_DELAY="50s"), port.start(DRAIN_DELAY="50s")
    leave(second)  # taken back
    third = port.start()
    share(port, first, third)
    leave(first)


def test_one_that_stops_serves_its_queue_and_leaves_the_port_as_it_was(port: Port) -> None:
    first, second, third = port.start(), port.start(), port.start()
    with frozen(first):
        waiting = port.connections()
        first.process.send_signal(signal.SIGTERM)
        first.wait_for_log(lambda line: line["event"] == "drain.started")
    # What far clients ask is still on its way: until it is there, none of them is hung up on.
    assert not select.select([wire.socket for wire in waiting], [], [], 3 * FAR_S)[0]
    for wire in waiting:
        wire.send(request_bytes("GET", "/b/waited"))
    assert {wire.read_answer().status for wire in waiting} == {200}
    assert first.wait() == 0
    assert asked(first, "/b/waited") > 0
    share(port, second, third)


def test_one_that_drains_alone_still_gets_what_is_new(port: Port) -> None:
    alone = port.start(DRAIN_DELAY="50s")
    drain(alone, port)
    for wire in port.connections():
        wire.send(request_bytes("GET", "/b/alone"))
        answer = wire.read_answer()
        assert (answer.status, answer.one("connection")) == (200, "close")
    alone.process.send_signal(signal.SIGTERM)
    assert alone.wait() == 0


@pytest.mark.parametrize(
    ("older", "own", "younger", "delaying", "closing"),
    [
        (0, 1, 0, [], []),  # alone
        (0, 4, -1, [], []),  # one of ours has crashed
        (0, 1, 1, [1], [1]),  # the old one
        (1, 1, 0, [0], [0]),  # the new one, taken back
        (0, 2, 2, [2, 3], [2]),
        (0, 2, 1, [2], [2]),
        (2, 1, 0, [0, 1], [0, 1]),
        (0, 1, 2, [1, 2], [1]),
        (1, 1, 1, [2], [2]),  # between two
    ],
)
def test_new_connections_go_past_ours(
    older: int, own: int, younger: int, delaying: list[int], closing: list[int]
) -> None:
    assert list(aim(older, own, younger, closing=False)) == delaying
    assert list(aim(older, own, younger, closing=True)) == closing
