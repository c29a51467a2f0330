"""The log: whole lines compared, for machines and for people, and what happens when nobody takes them."""

import contextlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.exchange import Exchange
from gateway.http.lifetime import Lifetime, current
from gateway.observe import log
from tests.live.harness import OK, Gateway, Upstream, Wire, eventually, free_port, request_bytes

FIELDS = [
    "timestamp",
    "level",
    "event",
    "request_id",
    "trace_id",
    "client",
    "method",
    "host",
    "path",
    "route",
    "status",
    "reason",
    "bytes_in",
    "bytes_out",
    "ms",
    "upstream",
    "endpoint",
    "attempts",
    "upstream_ms",
    "cache",
    "parts",
    "auth",
    "identity",
    "worker",
]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Terminal(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging as the other tests expect it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    logging.captureWarnings(False)


def finished(**known: Any) -> Exchange:
    exchange = Exchange(10.0, "GET", "/b/1", "127.0.0.1")
    exchange.ended = 10.0125
    for name, value in {"request_id": "r-1", "trace_id": "t-1", "status": 200, **known}.items():
        setattr(exchange, name, value)
    return exchange


def written(kind: str, *exchanges: Exchange, to: io.BytesIO | None = None, level: str = "info") -> list[str]:
    stream = to or io.BytesIO()
    log.configure(kind, level, stream)
    write = log.request_logger()
    for exchange in exchanges:
        write(exchange)
    return stream.getvalue().decode().splitlines()


# -- lines for machines -----------------------------------------------------------------------------------------------


def test_a_request_line_has_every_field_in_its_order() -> None:
    line = json.loads(written("json", finished())[0])
    assert list(line) == FIELDS
    nulls = {name for name in line if line[name] is None}
    expected = {"host", "route", "reason", "upstream", "endpoint", "attempts", "upstream_ms", "cache", "parts"}
    assert nulls == expected | {"auth", "identity", "worker"}
    assert (line["ms"], line["level"], line["event"]) == (12.5, "info", "request")


TEXT = st.text(max_size=30) | st.sampled_from(["\x7f\x80", "\u2028", "\ud800", '"\\\x1b', "\x00", "x" * 5000])
PARTS = st.lists(
    st.fixed_dictionaries({"part": TEXT, "status": st.none() | st.integers(0, 599), "ms": st.floats(0, 1e6)}),
    max_size=3,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("request_id", "trace_id", "client", "method", "path"), TEXT),
            **dict.fromkeys(("host", "route", "reason", "upstream", "endpoint", "cache", "cause"), st.none() | TEXT),
            **dict.fromkeys(("auth", "identity", "fallback"), st.none() | TEXT),
            **dict.fromkeys(("status", "attempts"), st.none() | st.integers(0, 2**64 - 1)),
            **dict.fromkeys(("bytes_in", "bytes_out"), st.integers(0, 2**64 - 1)),
            "upstream_ms": st.none() | st.floats(0, 1e9),
            "ended": st.floats(10, 1e9),
            "parts": st.none() | PARTS,
        },
    ),
    st.sampled_from(["info", "warning", "error"]),
)
def test_a_request_line_is_what_the_plain_renderer_makes_of_it(known: dict[str, Any], level: str) -> None:
    exchange = finished(**known)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_timestamp", lambda: "2026-11-30T12:00:00.000Z")
        event = log._complete(None, level, {"event": "request", "exchange": exchange})
        assert log.request_line(exchange, level) == log._render_json(None, level, event)


def test_the_line_of_most_requests_needs_no_dictionary(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bytes:
        raise AssertionError("the plain renderer was asked")

    monkeypatch.setattr(log, "_render_json", never)
    assert list(json.loads(log.request_line(finished(identity="a", route="r"), "info"))) == FIELDS


def test_a_fault_of_our_own_is_an_error_with_its_cause_last() -> None:
    line = json.loads(written("json", finished(status=500, reason="view_error", cause="Traceback ..."))[0])
    assert list(line) == [*FIELDS, "cause"]
    assert (line["level"], line["cause"]) == ("error", "Traceback ...")


@pytest.mark.parametrize(
    ("known", "level"),
    [
        ({}, "info"),
        ({"route": "/-/live"}, "debug"),
        ({"route": "/-/ready"}, "debug"),
        ({"route": "/-/ready", "status": 503}, "warning"),  # while it stops
        ({"route": "/-/status"}, "info"),
        ({"status": 503}, "warning"),  # an upstream's, passed on
        ({"status": 404}, "info"),
        ({"parts": [{"part": "a", "reason": None}]}, "info"),
        ({"parts": [{"part": "a", "reason": None}, {"part": "b", "reason": "part_status"}]}, "warning"),
        ({"status": 404, "reason": "route_not_found"}, "info"),
        ({"status": 502, "reason": "connection_refused"}, "warning"),
        ({"status": 404, "reason": "part_status"}, "info"),
        ({"status": 500, "reason": "view_error"}, "error"),
    ],
)
def test_a_line_has_the_level_of_what_was_wrong(known: dict[str, Any], level: str) -> None:
    assert log.level_of(finished(**known)) == level


def test_a_level_drops_what_is_below_it() -> None:
    fault = finished(status=500, reason="view_error", cause="x")
    assert len(written("json", finished(), fault, level="error")) == 1


LIBRARY = """
import logging

logging.getLogger("library").warning("a %s word", "wise")
logging.getLogger("library").info("about itself")
try:
    raise KeyError("lost")
except KeyError:
    logging.getLogger("library").exception("it failed")
"""


def test_what_libraries_say_joins_the_lines_with_the_ids_of_the_request() -> None:
    stream = io.BytesIO()
    log.configure("json", "info", stream)
    token = current.set(Lifetime(finished()))
    try:
        exec(compile(LIBRARY, "/venv/lib/site-packages/library.py", "exec"))
    finally:
        current.reset(token)
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert first | {"timestamp": ""} == {
        "timestamp": "",
        "level": "warning",
        "event": "library",
        "logger": "library",
        "message": "a wise word",
        "request_id": "r-1",
        "trace_id": "t-1",
    }
    assert (second["level"], second["message"]) == ("error", "it failed")
    assert "KeyError: 'lost'" in second["exception"]


@pytest.mark.parametrize(("level", "heard"), [("debug", ["debug", "info", "warning"]), ("warning", ["warning"])])
def test_the_teams_own_loggers_follow_the_level(level: str, heard: list[str]) -> None:
    stream = io.BytesIO()
    log.configure("json", level, stream)
    for word in ("debug", "info", "warning"):
        logging.getLogger("shop.orders").log(logging.getLevelName(word.upper()), "an order")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == heard
    assert {(line["event"], line["logger"], line["message"]) for line in lines} == {
        ("app.log", "shop.orders", "an order")
    }


def test_an_installed_package_of_the_teams_is_its_own() -> None:
    stream = io.BytesIO()
    log.configure("json", "info", stream, packages={"library"})
    exec(compile(LIBRARY, "/venv/lib/site-packages/library.py", "exec"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("app.log", "warning"),
        ("app.log", "info"),
        ("app.log", "error"),
    ]


@pytest.mark.parametrize("said", [object(), b"bytes", "\x1b[31m\x00\n\ud800", float("nan"), {1: {2}}, 2**70])
def test_no_value_breaks_a_line(said: object) -> None:
    for kind in ("json", "console"):
        stream = io.BytesIO()
        log.configure(kind, "info", stream)
        log.log.info("team.said", value=said)
        logging.getLogger("library").warning("%s", said)
        lines = stream.getvalue().decode().splitlines()
        assert len(lines) == 2, lines
        assert "\x1b" not in stream.getvalue().decode()
        if kind == "json":
            assert [json.loads(line)["event"] for line in lines] == ["team.said", "app.log"]


def test_warnings_of_python_join_the_lines() -> None:
    stream = io.BytesIO()
    log.configure("json", "info", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(True)  # catch_warnings had put its own hook back
        warnings.warn("something is old", UserWarning, stacklevel=1)
    assert "something is old" in json.loads(stream.getvalue())["message"]


# -- lines for people -------------------------------------------------------------------------------------------------


def test_the_console_is_aligned_and_without_colours_where_there_is_no_terminal() -> None:
    lines = written(
        "console",
        finished(upstream="b", endpoint="127.0.0.1:9000"),
        finished(method="DELETE", status=404, reason="route_not_found", path="/nothing"),
        finished(status=502, reason="connection_refused", upstream="b", endpoint="127.0.0.1:9000", ended=75.4321),
        finished(status=499, reason="client_gone"),
    )
    assert [re.sub(r"^\d\d:\d\d:\d\d\.\d\d\d  ", "", line) for line in lines] == [
        "GET     200     12.5 ms  /b/1  -> b 127.0.0.1:9000",
        "DELETE  404     12.5 ms  /nothing  route_not_found",
        "GET     502  65432.1 ms  /b/1  -> b 127.0.0.1:9000  connection_refused",
        "GET     499     12.5 ms  /b/1  client_gone",
    ]


def test_the_console_says_which_parts_failed_and_why() -> None:
    parts: list[dict[str, Any]] = [
        {"part": "user", "status": 200, "reason": None},
        {"part": "orders", "status": None, "reason": "response_timeout"},
        {"part": "team", "status": 404, "reason": "part_status"},
        {"part": "items", "status": None, "reason": "part_status"},
    ]
    refused = finished(parts=parts[2:3], attempts=2, upstream="b", endpoint="127.0.0.1:9000", reason="part_status")
    lines = written("console", finished(parts=parts), finished(parts=parts[:1]), refused)
    assert [line.partition("/b/1")[2] for line in lines] == [
        "  orders: response_timeout  team: 404  items: part_status",
        "",
        "  -> b 127.0.0.1:9000  part_status  team: 404",
    ]
    invalid = {"part": "orders", "status": 200, "reason": "part_invalid", "cause": "Its answer is not JSON."}
    line, cause = written("console", finished(parts=[parts[0], invalid]))
    assert line.endswith("  orders: part_invalid")
    assert cause.strip() == "orders: Its answer is not JSON."


def test_the_console_has_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    (line,) = written("console", finished(status=502, reason="connection_refused"), to=Terminal())
    assert "\x1b[31m502\x1b[0m" in line
    assert re.sub(r"\x1b\[\d+m", "", line).endswith("GET     502     12.5 ms  /b/1  connection_refused")


def test_nor_on_a_terminal_that_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (line,) = written("console", finished(status=502), to=Terminal())
    assert "\x1b" not in line


def test_other_events_on_the_console_are_one_line_each() -> None:
    stream = io.BytesIO()
    log.configure("console", "info", stream)
    log.log.warning("drain.cut", count=3, nothing=None)
    log.log.info("drain.done")
    lines = stream.getvalue().decode().splitlines()
    assert [line[14:] for line in lines] == ["warning drain.cut  count=3", "info    drain.done"]


def test_what_a_terminal_would_act_on_is_shown_instead() -> None:
    hostile = "\x1b]0;owned\x07\x9b31m\u202e\n10:00:00.000  GET     200      1.0 ms  /forged"
    stream = io.BytesIO()
    log.configure("console", "info", stream)
    try:
        raise ValueError(hostile)
    except ValueError:
        log.log.exception(hostile, **{hostile: hostile})
        log.log.info("said", text=hostile)
        logging.getLogger("_granian").error(hostile, exc_info=True)
        logging.getLogger("py.warnings").warning(hostile)
    cause = f"Traceback\n{hostile}"
    refused = finished(method=hostile, path=hostile, upstream="b", endpoint=hostile, reason="view_error", cause=cause)
    written("console", refused, to=stream)
    text = stream.getvalue().decode()
    assert text.count("/forged") >= 10
    assert text.replace("\n", "").isprintable()
    assert not [line for line in text.splitlines() if line.startswith("10:00:00.000")], "no line is forged"


# -- nobody takes them ------------------------------------------------------------------------------------------------


def test_a_stream_that_fails_is_told_once_and_again_after_it_worked(capsys: pytest.CaptureFixture[str]) -> None:
    class Full(io.BytesIO):
        is_full = True

        def write(self, data: Any, /) -> int:
            if self.is_full:
                raise OSError(28, "No space left on device")
            return super().write(data)

    stream = Full()
    log.configure("json", "info", stream)
    for is_full in (True, True, False, True):
        stream.is_full = is_full
        log.log.info("said")
    assert capsys.readouterr().err == ("portway: log lines are being lost: [Errno 28] No space left on device\n" * 2)


# -- over the wire ----------------------------------------------------------------------------------------------------

ROUTES = """
import asyncio
import logging
import warnings

from django.http import HttpResponse

from gateway.routing import from_environment, route


async def task():
    raise RuntimeError("in a task that nobody waits for")


async def noisy(request):
    logging.getLogger("team").warning("said by logging")
    warnings.warn("said by warnings")
    asyncio.get_running_loop().create_task(task())
    await asyncio.sleep(0)
    return HttpResponse("noisy")


async def fails(request):
    raise RuntimeError("long " + "x" * 20_000)


urlpatterns = [*from_environment(), route("/noisy", noisy), route("/fails", fails)]
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream.answering(OK) as answering:
        yield answering


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/b/** -> b", "GATEWAY_WORKERS": "2"}
    environment["GATEWAY_LOG_FIELDS"] = "header:user-agent, header:Authorization"
    with Gateway(environment, cwd=folder) as running:
        yield running


def test_the_line_of_a_proxied_request(gateway: Gateway, upstream: Upstream) -> None:
    fields = ["X-Request-ID: the-id", f"traceparent: {TRACEPARENT}", "Content-Length: 4"]
    gateway.ask(request_bytes("POST", "/b/%22?secret=1", *fields, host="Api.Test:8000", body=b"four"))
    said = gateway.request_line("the-id")
    assert list(said) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said["timestamp"])
    assert 0 < said["upstream_ms"] <= said["ms"] < 10_000
    assert said["worker"] in {line["pid"] for line in gateway.log if line["event"] == "worker.ready"}
    assert {name: said[name] for name in FIELDS if name not in {"timestamp", "ms", "upstream_ms", "worker"}} == {
        "level": "info",
        "event": "request",
        "request_id": "the-id",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "client": "127.0.0.1",
        "method": "POST",
        "host": "api.test",
        "path": "/b/%22",
        "route": "b",
        "status": 200,
        "reason": None,
        "bytes_in": 4,
        "bytes_out": 5,
        "upstream": "b",
        "endpoint": upstream.authority,
        "attempts": 1,
        "cache": None,
        "parts": None,
        "auth": None,
        "identity": None,
    }


def test_a_line_carries_the_fields_that_are_named(gateway: Gateway) -> None:
    gateway.get("/b/1", "X-Request-ID: named", "User-Agent: curl/8", "Authorization: Bearer s3cret", "Accept: */*")
    line = gateway.request_line("named")
    assert list(line) == [*FIELDS, "header_user_agent", "header_authorization"]
    assert (line["header_user_agent"], line["header_authorization"]) == ("curl/8", "***")


def test_a_good_probe_is_no_line_at_info(gateway: Gateway) -> None:
    for target in ("/-/live", "/-/ready"):
        assert gateway.get(target, "X-Request-ID: probe").status == 200
    gateway.get("/nothing", "X-Request-ID: after-probes")
    gateway.request_line("after-probes")
    assert not [line for line in gateway.log if line.get("request_id") == "probe"]


def test_a_line_is_written_when_the_last_byte_has_left(upstream: Upstream, gateway: Gateway) -> None:
    with Upstream() as silent:
        environment = {"GATEWAY_UPSTREAM_B": silent.url, "GATEWAY_ROUTE_B": "/b/** -> b"}
        with Gateway(environment, cwd=gateway.cwd) as other, other.connect() as wire:
            wire.send(request_bytes("GET", "/b/1", "X-Request-ID: stream"))
            request = silent.wait_for_request()
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none")
            answer = wire.read_head()
            wire.read_body(answer, at_least=3)
            other.get("/nothing", "X-Request-ID: after")
            other.request_line("after")
            assert not any(line.get("request_id") == "stream" for line in other.log)
            request.send(b"two")
            assert wire.read_body(answer) == b"onetwo"
            assert other.request_line("stream")["bytes_out"] == 6


def test_each_request_has_exactly_one_line(gateway: Gateway) -> None:
    ids = [f"many-{number}" for number in range(50)]
    with gateway.connect() as wire:
        for request_id in ids:
            wire.send(request_bytes("GET", "/b/1", f"X-Request-ID: {request_id}"))
            assert wire.read_answer().status == 200
    gateway.request_line(ids[-1])
    said = [line["request_id"] for line in gateway.log if str(line.get("request_id", "")).startswith("many-")]
    assert said == ids


def test_every_line_is_one_json_object_whatever_happens(gateway: Gateway) -> None:
    gateway.get("/noisy", "X-Request-ID: noisy")
    with gateway.connect() as wire:
        wire.send(b"GET /b/\x1b[31m\xc3\xbc HTTP/1.1\r\nHost: x\r\n\r\n")
        wire.read_to_end()

    def fail() -> None:
        for _ in range(20):
            gateway.get("/fails")

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: sum(line.get("path") == "/fails" for line in gateway.log) == 160)
    os.kill(gateway.workers[0], signal.SIGKILL)
    gateway.wait_for_log(lambda line: line["event"] == "worker.died" and line["level"] == "error")
    eventually(lambda: len(gateway.workers) == 2)
    said = " ".join(gateway.output)
    for word in ("said by logging", "said by warnings", "in a task that nobody waits for"):
        assert word in said
    assert gateway.errors == []
    assert len(gateway.output) == len(gateway.log)
    for line in gateway.log:
        assert list(line)[:3] == ["timestamp", "level", "event"]


def test_the_console_over_the_wire(upstream: Upstream, tmp_path: Path) -> None:
    environment = {"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/b/** -> b", "GATEWAY_LOG": "console"}
    with Gateway(environment, cwd=tmp_path) as gateway:
        gateway.get("/b/1")
        gateway.get("/nothing")
        with gateway.connect() as wire:
            wire.send(b"GET /b/\x1b[31m\xc2\x9b HTTP/1.1\r\nHost: x\r\n\r\n")
            wire.read_to_end()
    requests = [line[14:] for line in gateway.output if " ms  /" in line and "/-/" not in line]
    shapes = [re.sub(r" +\d+\.\d ms", " N ms", line) for line in requests[:2]]
    assert shapes == [
        f"GET     200 N ms  /b/1  -> b {upstream.authority}",
        "GET     404 N ms  /nothing  route_not_found",
    ]
    assert not any(mark in "".join(gateway.output) for mark in ("\x1b", "\x9b"))
    assert gateway.output[-1].endswith("info    drain.done")


@contextlib.contextmanager
def served(
    upstream: Upstream, cwd: Path, stdout: BinaryIO | int, kind: str, *command: str, unbuffered: str = ""
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`gateway serve` with a stdout of our own, ready; killed at the end."""
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")}
    environment = {
        "GATEWAY_UPSTREAM_B": upstream.url,
        "GATEWAY_ROUTE_B": "/b/** -> b",
        "GATEWAY_BIND": f"127.0.0.1:{port}",
        "GATEWAY_LOG": kind,
        "PYTHONUNBUFFERED": unbuffered,
    }
    process = subprocess.Popen(
        [*command, str(Path(sys.executable).parent / "gateway"), "serve"],
        cwd=cwd,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        eventually(lambda: status_of(process, port, "/-/ready") == 200)
        yield process, port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)


def status_of(process: subprocess.Popen[str], port: int, target: str) -> int:
    assert process.poll() is None, process.communicate()
    try:
        with Wire("127.0.0.1", port) as wire:
            wire.send(request_bytes("GET", target))
            return wire.read_answer().status
    except ConnectionError:
        return 0


def stopped(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code after SIGTERM, and all that stood on stderr."""
    process.terminate()
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


# Images set PYTHONUNBUFFERED, and then it is the write that fails, not the flush.
KINDS = pytest.mark.parametrize(
    ("kind", "unbuffered"), [("json", ""), ("json", "1"), ("console", ""), ("console", "1")]
)


@KINDS
def test_a_full_disk_costs_no_request(upstream: Upstream, tmp_path: Path, kind: str, unbuffered: str) -> None:
    with (
        Path("/dev/full").open("wb") as full,
        served(upstream, tmp_path, full, kind, unbuffered=unbuffered) as (process, port),
    ):
        assert [status_of(process, port, target) for target in ("/b/1", "/nothing", "/b/2")] == [200, 404, 200]
        code, errors = stopped(process)
    assert code == 0
    assert set(errors.splitlines()) == {"portway: log lines are being lost: [Errno 28] No space left on device"}
    # Parent and worker say it once each.
    assert len(errors.splitlines()) <= 2


@KINDS
def test_a_closed_pipe_costs_no_request(upstream: Upstream, tmp_path: Path, kind: str, unbuffered: str) -> None:
    read_end, write_end = os.pipe()
    with served(upstream, tmp_path, write_end, kind, unbuffered=unbuffered) as (process, port):
        os.close(write_end)
        os.close(read_end)
        assert [status_of(process, port, target) for target in ("/b/1", "/nothing", "/b/2")] == [200, 404, 200]
        code, errors = stopped(process)
    assert code == 0
    assert set(errors.splitlines()) == {"portway: log lines are being lost: [Errno 32] Broken pipe"}
    assert len(errors.splitlines()) <= 2


@pytest.mark.parametrize("kind", ["json", "console"])
def test_no_stdout_at_all_costs_no_request(upstream: Upstream, tmp_path: Path, kind: str) -> None:
    closes = ("/bin/sh", "-c", 'exec "$0" "$@" >&-')
    with served(upstream, tmp_path, subprocess.DEVNULL, kind, *closes) as (process, port):
        assert [status_of(process, port, target) for target in ("/b/1", "/nothing")] == [200, 404]
        assert stopped(process) == (0, "")


PRINTS = """
import os
import subprocess
import sys

from django.http import HttpResponse

from gateway.routing import from_environment, legacy, route


async def prints(request):
    print("printed by", "a view")
    print("without an end", end="")
    sys.stderr.write("said on stderr\\n")
    return HttpResponse("printed")


def executes():
    return subprocess.run(["sh", "-c", "echo from a program"], check=False).returncode


def closes(number):
    os.close(int(number))
    return "closed"


urlpatterns = [
    *from_environment(),
    route("GET /prints", prints),
    route("GET /executes", legacy(executes)),
    route("GET /closes/{number}", legacy(closes)),
]
"""


def test_a_pipe_that_nobody_reads_costs_lines_and_no_request(upstream: Upstream, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    (tmp_path / "routes.py").write_text(PRINTS, encoding="utf-8")
    with served(upstream, tmp_path, write_end, "json") as (process, port):
        os.close(write_end)
        asked = 0
        with Wire("127.0.0.1", port) as wire:
            while asked < 600:  # lines of two thousand bytes: more than the pipe holds, and what is kept for it
                wire.send(request_bytes("GET", f"/nothing/{'x' * 1900}") * 20)
                assert [wire.read_answer().status for _ in range(20)] == [404] * 20
                asked += 20
        assert status_of(process, port, "/-/live") == 200
        read = threading.Thread(target=lambda: output.append(Path(f"/dev/fd/{read_end}").read_bytes()))
        output: list[bytes] = []
        read.start()
        code, errors = stopped(process)
        read.join(10)
        os.close(read_end)
    assert (code, errors) == (0, "portway: log lines are being lost: nobody reads them\n")
    lines = [json.loads(line) for line in output[0].splitlines()]
    written = sum(line["event"] == "request" and line["path"].startswith("/nothing") for line in lines)
    (lost,) = [line["count"] for line in lines if line["event"] == "log.lost"]
    assert 0 < lost < asked
    assert asked <= written + lost <= asked + 5, "those that asked whether it is live and ready may be lost too"
    assert lines[-1]["event"] == "drain.done"


@pytest.mark.parametrize("number", ["", "1", "2"])
def test_what_a_view_prints_is_seen_whatever_it_closes(upstream: Upstream, tmp_path: Path, number: str) -> None:
    (tmp_path / "routes.py").write_text(PRINTS, encoding="utf-8")
    with (tmp_path / "out").open("wb") as out, served(upstream, tmp_path, out, "json") as (process, port):
        if number:
            assert status_of(process, port, f"/closes/{number}") == 200
        with contextlib.ExitStack() as stack:  # one of these may have got its number
            wires = [stack.enter_context(Wire("127.0.0.1", port)) for _ in range(3)]
            for path in ("/prints", "/nothing", "/executes", "/b/1"):
                status_of(process, port, path)
            eventually(lambda: '"path":"/b/1"' in (tmp_path / "out").read_text(encoding="utf-8"))
            code, errors = stopped(process)
            assert [wire.read_to_end() for wire in wires] == [b""] * 3
        lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not line.startswith("{")] == []
        printed, unfinished = [json.loads(line) for line in lines if '"app.print"' in line]
        assert (printed["text"], printed["level"], len(printed["request_id"])) == ("printed by a view", "info", 32)
        assert (unfinished["text"], unfinished["request_id"]) == ("without an end", printed["request_id"])
        logged = [json.loads(line).get("path") for line in lines if line.startswith("{")]
        assert [path for path in logged if path in {"/prints", "/nothing", "/b/1"}] == ["/prints", "/nothing", "/b/1"]
        assert code == 0
        assert "said on stderr" in errors.splitlines()
