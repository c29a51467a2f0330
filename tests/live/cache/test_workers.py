"""What one worker or replica forgets, the others have forgotten: workers before the answer goes down, replicas soon."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.caching import Origin, Page, fresh, is_hit, said
from tests.live.harness import Gateway, Wire, request_bytes
from tests.live.postgres import Postgres
from tests.live.stage import message, says

WRITTEN = says(message("200 OK", b"written"))
CONNECTIONS = 12
ROUNDS = 15


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


def variables(origin: Origin, **more: str) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_U": origin.url,
        "GATEWAY_ROUTE_C": "/c/** -> u",
        "GATEWAY_ROUTE_C__CACHE": "on",
        **{f"GATEWAY_{name}": value for name, value in more.items()},
    }


@pytest.fixture(scope="module", params=["with a database", "in memory only"])
def gateway(
    request: pytest.FixtureRequest, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    disk = {} if request.param == "with a database" else {"CACHE_DISK": "0B"}
    with Gateway(variables(origin, WORKERS="3", **disk), cwd=tmp_path_factory.mktemp("workers")) as started:
        yield started


@pytest.fixture
def wires(gateway: Gateway) -> Iterator[list[Wire]]:
    """Connections to all workers: which has which, nobody knows."""
    with ExitStack() as stack:
        yield [stack.enter_context(gateway.connect()) for _ in range(CONNECTIONS)]


def bodies_of(page: Page, wires: list[Wire]) -> list[bytes]:
    """What each connection gets now, asked one after the other."""
    found = []
    for wire in wires:
        wire.send(page.raw())
        found.append(wire.read_answer().body)
    return found


def test_an_unsafe_request_is_seen_by_all_workers_before_its_answer_goes_down(
    gateway: Gateway, origin: Origin, wires: list[Wire]
) -> None:
    page = Page(gateway, origin)
    for number in range(ROUNDS):
        old, new = b"old %d" % number, b"new %d" % number
        page.answers(fresh(old))
        assert set(bodies_of(page, wires)) == {old}
        page.answers(WRITTEN, fresh(new))
        wire = wires[number % CONNECTIONS]
        wire.send(page.raw(method="PUT"))
        assert wire.read_answer("PUT").status == 200
        assert set(bodies_of(page, wires)) == {new}, f"round {number}"
        page.answers(WRITTEN, fresh(new))
        wire.send(page.raw(method="PUT"))  # the next round begins with nothing stored
        assert wire.read_answer("PUT").status == 200


def test_a_purge_is_seen_by_all_workers_before_its_answer_goes_down(
    gateway: Gateway, origin: Origin, wires: list[Wire]
) -> None:
    page = Page(gateway, origin)
    for number in range(ROUNDS):
        old, new = b"old %d" % number, b"new %d" % number
        page.answers(fresh(old))
        assert set(bodies_of(page, wires)) == {old}
        page.answers(fresh(new))
        purge = request_bytes("DELETE", f"/-/cache?path={page.path}", host=f"127.0.0.1:{gateway.port}")
        assert gateway.ask(purge).status == 200
        assert set(bodies_of(page, wires)) == {new}, f"round {number}"
        assert gateway.ask(purge).status == 200


def test_more_than_the_workers_remember_forgets_all_and_nothing_is_old(
    gateway: Gateway, origin: Origin, wires: list[Wire]
) -> None:
    page = Page(gateway, origin)
    page.answers(fresh("old"))
    assert set(bodies_of(page, wires)) == {b"old"}
    page.answers(WRITTEN, fresh("new"))
    wires[0].send(page.raw(method="PUT"))
    assert wires[0].read_answer("PUT").status == 200
    for number in range(600):
        wires[0].send(request_bytes("PUT", f"/c/many/{number}", "Content-Length: 0"))
        assert wires[0].read_answer("PUT").status == 200
    assert set(bodies_of(page, wires)) == {b"new"}
    for wire in wires:  # a new connection may go to a worker that has none of these
        wire.send(page.raw())
        answer = wire.read_answer()
        assert is_hit(answer), said(answer)


def test_a_purge_of_one_replica_is_seen_by_the_others_in_milliseconds(origin: Origin, tmp_path: Path) -> None:
    """PostgreSQL says so; the poll, 0.4 s apart, would take 0.2 s on the average."""
    with Postgres() as server, ExitStack() as stack:
        url = server.url()
        one, other = (stack.enter_context(Gateway(variables(origin, DATABASE_URL=url), cwd=tmp_path)) for _ in range(2))
        took_s = []
        for number in range(10):
            here = Page(one, origin)
            there = Page(other, origin, at=here.path)
            here.answers(fresh(f"old {number}"))
            assert here.get().body == there.get().body == b"old %d" % number
            here.answers(fresh(f"new {number}"))
            purge = request_bytes("DELETE", f"/-/cache?path={here.path}", host=f"127.0.0.1:{one.port}")
            began_s = time.monotonic()
            assert one.ask(purge).status == 200
            while there.get().body == b"old %d" % number:
                assert time.monotonic() - began_s < 1.0
            took_s.append(time.monotonic() - began_s)
        assert sorted(took_s)[len(took_s) // 2] < 0.15, took_s
