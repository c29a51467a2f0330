"""`gateway serve`: how it starts, what it says, and that it stops without losing anything."""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway import __version__
from tests.live.harness import HOME, OK, Gateway, Upstream, Wire, eventually, request_bytes

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhello"  # too long to be held until it is whole


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """Says nothing by itself: a test lets a request wait as long as it wants."""
    with Upstream() as silent:
        yield silent


def gateway_before(upstream: Upstream, cwd: Path, **options: str) -> Gateway:
    """A gateway that is not started, with `/b/**` in front of this upstream; options without their GATEWAY_."""
    environment = {f"GATEWAY_{name}": value for name, value in options.items()}
    return Gateway({"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/b/** -> b", **environment}, cwd=cwd)


def waiting(gateway: Gateway, upstream: Upstream, path: str) -> Wire:
    """A client whose request has reached the upstream."""
    wire = gateway.connect()
    wire.send(request_bytes("GET", path))
    upstream.wait_for_request(path)
    return wire


def to_process(gateway: Gateway, number: int) -> None:
    gateway.process.send_signal(number)


def to_group(gateway: Gateway, number: int) -> None:
    """As a terminal does on Ctrl-C: parent and workers get it."""
    os.killpg(gateway.process.pid, number)


def workers(gateway: Gateway) -> list[int]:
    return gateway.workers


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def said(gateway: Gateway, event: str) -> list[dict[str, object]]:
    return [line for line in gateway.log if line["event"] == event]


def nothing_went_wrong(gateway: Gateway) -> bool:
    """No word on stderr, no library that complains."""
    assert gateway.errors == [], "\n".join(gateway.errors)
    assert said(gateway, "library") == []
    return True


def is_refused(gateway: Gateway) -> bool:
    try:
        gateway.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it closed its listener just now
        return False
    return False


# -- starting ---------------------------------------------------------------------------------------------------------


def test_the_first_answer_comes_soon(
    upstream: Upstream, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    gateway = gateway_before(upstream, tmp_path)
    started = time.monotonic()
    with gateway:
        record_property("start to first answer, bar 1.5 s", f"{time.monotonic() - started:.2f} s")
        assert gateway.get("/-/live").json() == {"status": "live"}
        assert gateway.get("/-/ready").json() == {"status": "ready"}
        assert len(workers(gateway)) == 1
    assert nothing_went_wrong(gateway)


def test_json_tells_what_is_served_a_line_each(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, WORKERS="2", ROUTE_ONE="GET api.test/u/{id} -> b:/users/{id}") as gateway:
        assert len(workers(gateway)) == 2
    lines = [line for line in gateway.output if '"event":"start' in line]
    assert [re.sub(r'^\{"timestamp":"[^"]*Z",', "{", line) for line in lines] == [
        (
            f'{{"level":"info","event":"start","version":"{__version__}","address":"http://{gateway.authority}",'
            f'"workers":2,"routes":"{HOME / "routes.py"}"}}'
        ),
        f'{{"level":"info","event":"start.upstream","upstream":"b","endpoints":["{upstream.url}"]}}',
        '{"level":"info","event":"start.route","route":"b","pattern":"/b/**","target":"b","origin":"GATEWAY_ROUTE_B"}',
        (
            '{"level":"info","event":"start.route","route":"one","pattern":"GET api.test/u/{id}",'
            '"target":"b:/users/{id}","origin":"GATEWAY_ROUTE_ONE"}'
        ),
    ]
    assert gateway.output[:4] == lines
    assert nothing_went_wrong(gateway)


def test_the_console_tells_what_is_served_in_a_table(upstream: Upstream, tmp_path: Path) -> None:
    environment = {
        "GATEWAY_LOG": "console",
        "GATEWAY_UPSTREAM_B": upstream.url,
        "GATEWAY_UPSTREAM_LONGNAME": "http://10.0.0.1:8000/v1 https://10.0.0.2",
        "GATEWAY_ROUTE_B": "/b/** -> b",
        "GATEWAY_ROUTE_ONE": "GET api.test/u/{id} -> longname:/users/{id}",
    }
    with Gateway(environment, cwd=tmp_path, host="::1") as gateway:
        assert gateway.authority.startswith("[::1]:")
    assert gateway.output[:9] == [
        f"Portway {__version__} on http://{gateway.authority}, 1 worker",
        "",
        "Upstreams",
        f"  b         {upstream.url}",
        "  longname  http://10.0.0.1:8000/v1, https://10.0.0.2",
        "",
        "Routes",
        "  /b/**                ->  b                     (GATEWAY_ROUTE_B)",
        "  GET api.test/u/{id}  ->  longname:/users/{id}  (GATEWAY_ROUTE_ONE)",
    ]
    assert gateway.errors == []


# -- not starting -----------------------------------------------------------------------------------------------------


def ends(gateway: Gateway) -> int:
    """Start it, expecting it to end by itself; its exit code."""
    gateway.start(wait=False)
    try:
        return gateway.wait()
    finally:
        gateway.kill()


def test_bad_configuration_is_2_before_anything_listens(upstream: Upstream, tmp_path: Path) -> None:
    gateway = gateway_before(upstream, tmp_path, WORKERS="many", UPSTREAM_B__TIMEOUT="3")
    assert ends(gateway) == 2
    assert gateway.output == []
    assert gateway.errors[0] == "2 problems in the environment:"
    assert not any("Traceback" in line for line in gateway.errors)


def test_an_address_in_use_is_one_line_and_1(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path) as first:
        second = gateway_before(upstream, tmp_path, BIND=first.authority)
        assert ends(second) == 1
        assert second.errors == [f"gateway: cannot listen on {first.authority}: address already in use"]
        assert second.output == []
        assert first.get("/-/ready").status == 200


def test_an_address_of_another_machine_is_one_line_and_1(upstream: Upstream, tmp_path: Path) -> None:
    gateway = gateway_before(upstream, tmp_path, BIND="203.0.113.7:8000")
    assert ends(gateway) == 1
    assert gateway.errors == ["gateway: cannot listen on 203.0.113.7:8000: cannot assign requested address"]


def test_it_listens_on_a_name(upstream: Upstream, tmp_path: Path) -> None:
    gateway = gateway_before(upstream, tmp_path)
    gateway.environment["GATEWAY_BIND"] = f"localhost:{gateway.port}"
    with gateway:
        (start,) = said(gateway, "start")
        assert start["address"] == f"http://127.0.0.1:{gateway.port}"


def test_reuse_port_starts_beside_and_takes_over(upstream: Upstream, tmp_path: Path) -> None:
    first = gateway_before(upstream, tmp_path, REUSE_PORT="on")
    second = gateway_before(upstream, tmp_path, REUSE_PORT="on", BIND=first.authority, LOG_LEVEL="debug")
    second.port = first.port
    with first, second:
        second.wait_for_log(lambda line: line["event"] == "start")
        eventually(lambda: first.get("/-/ready").status == 200 and said(second, "request"))
        first.stop()
        assert second.get("/-/ready").status == 200
    assert nothing_went_wrong(first)
    assert nothing_went_wrong(second)


def test_a_restart_is_not_held_up_by_connections_in_time_wait(upstream: Upstream, tmp_path: Path) -> None:
    first = gateway_before(upstream, tmp_path)
    with first, waiting(first, upstream, "/b/1") as wire:
        to_process(first, signal.SIGTERM)
        first.wait_for_log(lambda line: line["event"] == "drain.started")
        upstream.requests[0].send(OK)
        assert wire.read_to_end().endswith(b"hello")  # the gateway closed first: the port waits
        assert first.wait() == 0
    second = gateway_before(upstream, tmp_path, BIND=first.authority)
    second.port = first.port
    with second:
        assert second.get("/-/ready").status == 200


# -- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "to"),
    [(signal.SIGTERM, to_process), (signal.SIGINT, to_process), (signal.SIGINT, to_group), (signal.SIGTERM, to_group)],
)
def test_a_signal_lets_the_request_in_flight_finish(
    upstream: Upstream, tmp_path: Path, number: signal.Signals, to: Callable[[Gateway, int], None]
) -> None:
    with (
        gateway_before(upstream, tmp_path) as gateway,
        waiting(gateway, upstream, "/b/1") as wire,
        waiting(gateway, upstream, "/b/2") as streaming,
    ):
        upstream.requests[1].send(CHUNKED)
        begun = streaming.read_head()
        streaming.read_body(begun, at_least=5)
        to(gateway, number)
        line = gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        assert line["signal"] == number.name
        eventually(lambda: is_refused(gateway))
        upstream.requests[0].send(OK)
        answer = wire.read_answer()
        assert (answer.status, answer.body, answer.one("connection")) == (200, b"hello", "close")
        assert wire.is_closed()
        upstream.requests[1].send(b"3\r\nend\r\n0\r\n\r\n")
        assert (streaming.read_body(begun), begun.broke_off) == (b"helloend", False)
        assert gateway.wait() == 0
        assert gateway.request_line(answer.one("x-request-id"))["status"] == 200
    assert [len(said(gateway, name)) for name in ("drain.started", "drain.cut", "drain.done")] == [1, 0, 1]
    assert nothing_went_wrong(gateway)


def test_idle_connections_do_not_hold_up_the_stop(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, DRAIN="50s") as gateway, gateway.connect() as used, gateway.connect():
        used.send(request_bytes("GET", "/-/live"))
        assert used.read_answer().status == 200
        to_process(gateway, signal.SIGTERM)
        assert gateway.wait() == 0
    assert nothing_went_wrong(gateway)


def test_while_draining_it_still_serves_and_says_so(upstream: Upstream, tmp_path: Path) -> None:
    with (
        gateway_before(upstream, tmp_path, DRAIN_DELAY="50s") as gateway,
        gateway.connect() as kept,
    ):
        kept.send(request_bytes("GET", "/-/ready"))
        before = kept.read_answer()
        assert (before.status, before.has("connection")) == (200, False)
        to_process(gateway, signal.SIGTERM)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        eventually(lambda: gateway.get("/-/ready").status == 503)
        ready = gateway.get("/-/ready")
        assert (ready.json(), ready.one("connection")) == ({"status": "draining"}, "close")
        assert gateway.get("/-/live").status == 200
        kept.send(request_bytes("GET", "/-/live"))
        assert kept.read_answer().one("connection") == "close"
        assert kept.is_closed()
        with waiting(gateway, upstream, "/b/1") as wire:
            upstream.requests[0].send(OK)
            answer = wire.read_answer()
            assert (answer.status, answer.body, answer.one("connection")) == (200, b"hello", "close")
        missing = gateway.get("/nothing")
        assert (missing.status, missing.one("connection")) == (404, "close")
        to_process(gateway, signal.SIGTERM)
        assert gateway.wait() == 0
    assert said(gateway, "drain.cut") == []
    assert nothing_went_wrong(gateway)


def test_the_delay_ends_by_itself(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, DRAIN_DELAY="300ms") as gateway:
        started = time.monotonic()
        to_process(gateway, signal.SIGTERM)
        assert gateway.wait() == 0
        assert time.monotonic() - started >= 0.3
        assert is_refused(gateway)
    assert nothing_went_wrong(gateway)


def test_a_worker_that_dies_during_the_delay_is_replaced_by_one_that_drains(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, DRAIN_DELAY="50s") as gateway:
        to_process(gateway, signal.SIGTERM)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        first = workers(gateway)
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: workers(gateway) not in (first, []))
        assert eventually(lambda: not is_refused(gateway))
        ready = gateway.get("/-/ready")
        assert (ready.status, ready.one("connection")) == (503, "close")
        to_process(gateway, signal.SIGTERM)
        assert gateway.wait() == 0
    assert said(gateway, "start.failed") == []


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_left_at_the_deadline_is_cut_and_counted_once(upstream: Upstream, tmp_path: Path, count: int) -> None:
    with gateway_before(upstream, tmp_path, DRAIN="200ms", WORKERS=str(count)) as gateway:
        silent = [waiting(gateway, upstream, f"/b/silent/{number}") for number in range(4)]
        streaming = [waiting(gateway, upstream, f"/b/streams/{number}") for number in range(6)]
        begun = []
        for number, wire in enumerate(streaming):
            upstream.wait_for_request(f"/b/streams/{number}").send(CHUNKED if number % 2 else WITH_LENGTH)
            begun.append(wire.read_head())
            wire.read_body(begun[-1], at_least=5)
        to_process(gateway, signal.SIGTERM)
        for wire in silent:
            answer = wire.read_answer()
            assert (answer.status, answer.json()["reason"], answer.broke_off) == (503, "drain_cut", False)
            assert answer.one("retry-after") == "1"
            wire.close()
        for wire, answer in zip(streaming, begun, strict=True):
            assert (wire.read_body(answer), answer.broke_off) == (b"hello", True)
            wire.close()
        assert gateway.wait() == 0
    assert [line["count"] for line in said(gateway, "drain.cut")] == [10]
    proxied = [line for line in said(gateway, "request") if line["route"] == "b"]
    assert (
        sorted((line["status"], line["reason"]) for line in proxied)
        == [(200, "drain_cut")] * 6 + [(503, "drain_cut")] * 4
    )
    assert nothing_went_wrong(gateway)


@pytest.mark.parametrize("to", [to_process, to_group])
def test_a_second_signal_stops_at_once(upstream: Upstream, tmp_path: Path, to: Callable[[Gateway, int], None]) -> None:
    with (
        gateway_before(upstream, tmp_path, DRAIN="50s", WORKERS="2") as gateway,
        waiting(gateway, upstream, "/b/1") as wire,
    ):
        to(gateway, signal.SIGINT)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        to(gateway, signal.SIGINT)
        assert wire.read_answer().json()["reason"] == "drain_cut"
        assert gateway.wait() == 0
    assert [line["count"] for line in said(gateway, "drain.cut")] == [1]
    assert nothing_went_wrong(gateway)


def test_however_many_signals_come_it_ends(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, DRAIN="50s") as gateway, waiting(gateway, upstream, "/b/1"):
        with contextlib.suppress(ProcessLookupError):
            for _ in range(300):  # somebody leans on Ctrl-C
                os.kill(gateway.process.pid, signal.SIGINT)
                os.kill(gateway.process.pid, signal.SIGTERM)
        assert gateway.wait() == 0
    assert len(said(gateway, "drain.started")) == 1
    assert nothing_went_wrong(gateway)


@pytest.mark.parametrize("delay", ["0s", "200ms"])
def test_a_parent_that_is_held_up_takes_no_leaving_worker_for_a_crash(
    upstream: Upstream, tmp_path: Path, delay: str
) -> None:
    with gateway_before(upstream, tmp_path, DRAIN_DELAY=delay, WORKERS="2") as gateway:
        to_process(gateway, signal.SIGTERM)
        gateway.wait_for_log(lambda line: line["event"] == "drain.started")
        to_process(gateway, signal.SIGSTOP)
        # On a busy machine it may be the last to run again.
        with contextlib.suppress(AssertionError):
            eventually(lambda: not any(is_alive(pid) for pid in workers(gateway)), within_s=0.5)
        to_process(gateway, signal.SIGCONT)
        assert gateway.wait() == 0
    assert nothing_went_wrong(gateway)


def test_a_stop_while_it_starts_is_quick(upstream: Upstream, tmp_path: Path) -> None:
    for delay_s in (0.0, 0.04, 0.08, 0.12):
        gateway = gateway_before(upstream, tmp_path, DRAIN="50s", WORKERS="2")
        gateway.start(wait=False)
        try:
            gateway.wait_for_log(lambda line: line["event"] == "start")
            gateway.process.poll()
            started = time.monotonic()
            eventually(lambda: time.monotonic() >= started + delay_s)  # noqa: B023 - asked before the next round
            to_process(gateway, signal.SIGTERM)
            # Before the workers are there it may die of the signal, as any program does.
            assert gateway.wait() in {0, -signal.SIGTERM}, delay_s
            assert nothing_went_wrong(gateway)
        finally:
            gateway.kill()


# -- accidents --------------------------------------------------------------------------------------------------------


def test_a_crashed_worker_is_started_again(upstream: Upstream, tmp_path: Path) -> None:
    with gateway_before(upstream, tmp_path, WORKERS="2") as gateway, waiting(gateway, upstream, "/b/1") as wire:
        first = workers(gateway)
        os.kill(first[0], signal.SIGKILL)
        eventually(lambda: len(now := workers(gateway)) == 2 and set(now) & set(first) == {first[1]})
        crash = gateway.wait_for_log(lambda line: line["level"] == "error")
        assert "exit" in json.dumps(crash)
        os.kill(first[1], signal.SIGKILL)  # now one of the two has held the request
        assert wire.read_to_end() == b""
        # Only the new ones are left: they serve, and they drain.
        eventually(lambda: len(now := workers(gateway)) == 2 and not set(now) & set(first))
        assert eventually(lambda: not is_refused(gateway))
        assert gateway.get("/-/ready").status == 200
    assert gateway.errors == []


def test_workers_of_a_killed_parent_finish_and_leave_the_port_free(upstream: Upstream, tmp_path: Path) -> None:
    gateway = gateway_before(upstream, tmp_path, WORKERS="2")
    with gateway, waiting(gateway, upstream, "/b/1") as wire:
        orphans = workers(gateway)
        gateway.process.kill()
        gateway.process.wait()
        eventually(lambda: is_refused(gateway))
        upstream.requests[0].send(OK)
        answer = wire.read_answer()
        assert (answer.status, answer.body) == (200, b"hello")
        eventually(lambda: not any(is_alive(pid) for pid in orphans))
        with socket.socket() as successor:
            successor.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            successor.bind((gateway.host, gateway.port))
    assert gateway.errors == []
