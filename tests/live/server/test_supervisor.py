"""The parent and its workers: those that die or hang are replaced, the others go on, and what they counted stays."""

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import OK, Answers, Gateway, Slow, eventually, request_bytes

ROUTES = """
import ctypes
import multiprocessing
import os
import signal
import subprocess
import time

from django.http import HttpResponse
from gateway.routing import from_environment, legacy, route


def dies(how):
    if how == "exits":
        os._exit(7)
    if how == "leaves":
        os._exit(0)
    if how == "segfaults":
        ctypes.string_at(0)
    os.kill(os.getpid(), signal.SIGKILL)


async def blocks(request, seconds):
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        pass
    return HttpResponse(str(os.getpid()))


def sleeps(seconds):
    time.sleep(float(seconds))
    return os.getpid()


def forks():
    child = multiprocessing.Process(target=time.sleep, args=(50,), daemon=True)
    child.start()
    return child.pid


def forks_in_a_program():
    command = ["sh", "-c", "sleep 50 & wait"]
    return subprocess.Popen(command, close_fds=False, start_new_session=True).pid


def signals_of(pid):
    lines = open(f"/proc/{pid}/status").read().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith("Sig"))
    return {name: int(value, 16) for name, value in found.items() if name in {"SigBlk", "SigIgn", "SigCgt"}}


def inherits():
    child = subprocess.Popen(["sleep", "50"])
    try:
        return signals_of(child.pid)  # it runs by now: Popen returns when the program has been executed
    finally:
        child.kill()
        child.wait()


def can_be_ended():
    child = multiprocessing.Process(target=time.sleep, args=(50,))
    child.start()
    child.terminate()
    child.join(5)
    return child.exitcode


def who():
    return os.getpid()


urlpatterns = [
    *from_environment(),
    *(route(f"GET /{name}", legacy(one, timeout="20s"))
      for name, one in {"forks": forks, "program": forks_in_a_program, "inherits": inherits, "who": who,
                        "can-be-ended": can_be_ended}.items()),
    route("GET /dies/{how}", legacy(dies)),
    route("GET /blocks/{seconds}", blocks),
    route("GET /sleeps/{seconds}", legacy(sleeps, timeout="20s")),
]
"""


def routes_in(folder: Path, before: str = "") -> Path:
    (folder / "routes.py").write_text(before + ROUTES, encoding="utf-8")
    return folder


@contextlib.contextmanager
def gateway_with(folder: Path, before: str = "", **options: str) -> Iterator[Gateway]:
    environment = {f"GATEWAY_{name}": value for name, value in options.items()}
    with Gateway(environment, cwd=routes_in(folder, before)) as gateway:
        yield gateway


def workers(gateway: Gateway) -> list[int]:
    return gateway.workers


def died(gateway: Gateway) -> list[dict[str, Any]]:
    return [line for line in gateway.log if line["event"] == "worker.died"]


def all_ready(gateway: Gateway, ever: int) -> None:
    """Wait for so many starts that succeeded, of all workers so far."""
    eventually(lambda: sum(line["event"] == "worker.ready" for line in gateway.log) >= ever)


def asked(gateway: Gateway, path: str) -> bool:
    """Ask, and tell whether there was an answer."""
    with contextlib.suppress(ConnectionError, AssertionError):
        return gateway.get(path).status == 200
    return False


# -- death ------------------------------------------------------------------------------------------------------------


def test_however_a_worker_dies_and_how_often_the_others_go_on(tmp_path: Path) -> None:
    with (
        Slow() as slow,
        gateway_with(tmp_path, WORKERS="2", UPSTREAM_B=slow.url, ROUTE_B="/b/** -> b", ADMIN_TOKEN="secret") as gateway,
    ):
        all_ready(gateway, 2)
        wire = gateway.connect()
        wire.send(request_bytes("GET", "/b/1"))
        slow.wait_for_request("/b/1")
        holder = next(pid for pid in workers(gateway) if _connections_of(pid, slow.port))
        other = next(pid for pid in workers(gateway) if pid != holder)
        for number, by in enumerate((signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT), start=1):
            os.kill(other, by)
            died_so_far = number
            eventually(lambda: len(died(gateway)) == died_so_far)  # noqa: B023 - asked before the next round
            all_ready(gateway, 2 + number)
            (other,) = set(workers(gateway)) - {holder}
        assert [line["signal"] for line in died(gateway)] == ["SIGKILL", "SIGSEGV", "SIGABRT"]
        assert [line["pause_s"] for line in died(gateway)] == [0.1, 0.2, 0.4]
        assert len({line["pid"] for line in died(gateway)}) == 3
        slow.requests[0].send(OK)
        assert wire.read_answer().body == b"hello", "the other worker has served all the time"
        wire.close()


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_request_that_kills_its_worker_ends_no_gateway(tmp_path: Path, count: str) -> None:
    with gateway_with(tmp_path, WORKERS=count) as gateway:
        for how, code, by in (
            ("exits", 7, None),
            ("leaves", 0, None),
            ("segfaults", None, "SIGSEGV"),
            ("is-killed", None, "SIGKILL"),
        ):
            known = len(died(gateway))
            eventually(lambda: asked(gateway, "/who"))
            assert not asked(gateway, f"/dies/{how}")
            eventually(lambda: len(died(gateway)) > known)  # noqa: B023 - asked before the next round
            line = died(gateway)[-1]
            assert (line["exit_code"], line["signal"], line["level"]) == (code, by, "error")
        eventually(lambda: asked(gateway, "/who"))


def test_a_stop_does_not_wait_for_a_worker_that_is_to_be_started_again(tmp_path: Path) -> None:
    with gateway_with(tmp_path) as gateway:
        all_ready(gateway, 1)  # where none ever was, the second death would be the end
        for number in range(4):
            eventually(lambda: len(workers(gateway)) == 1)
            os.kill(workers(gateway)[0], signal.SIGKILL)
            eventually(lambda: len(died(gateway)) > number)  # noqa: B023 - asked before the next round
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait(2) == 0


FAILS = """
import os
import time
from gateway.server.worker import Worker


async def start(self, publish):
    {}


Worker.start = start
"""


@pytest.mark.parametrize("how", ["raise ValueError('no')", "os._exit(3)", "os.kill(os.getpid(), 9)"])
@pytest.mark.parametrize("count", [1, 2])
def test_where_no_worker_can_ever_start_the_gateway_ends(tmp_path: Path, count: int, how: str) -> None:
    gateway = Gateway({"GATEWAY_WORKERS": str(count)}, cwd=routes_in(tmp_path, FAILS.format(how)))
    gateway.start(wait=False)
    try:
        assert gateway.wait() == 1
        assert [line["starts"] for line in gateway.log if line["event"] == "start.given_up"] == [count + 1]
        assert not any("Traceback" in line for line in gateway.errors)
    finally:
        gateway.kill()


def test_where_one_has_served_the_others_are_tried_for_ever(tmp_path: Path) -> None:
    """What happens to a start later is an accident that may pass: a full disk, a file that is being replaced."""
    flag = tmp_path / "broken"
    before = FAILS.format(f"assert not os.path.exists({str(flag)!r}); await real(self, publish)").replace(
        "async def", "real = Worker.start\n\n\nasync def"
    )
    with gateway_with(tmp_path, before) as gateway:
        all_ready(gateway, 1)
        flag.touch()
        os.kill(workers(gateway)[0], signal.SIGKILL)
        eventually(lambda: len(died(gateway)) == 4)
        flag.unlink()
        eventually(lambda: asked(gateway, "/who"))


def test_counters_survive_whoever_counted(tmp_path: Path) -> None:
    with Answers() as up, gateway_with(tmp_path, UPSTREAM_B=up.url, ROUTE_B="/b -> b", ADMIN_TOKEN="secret") as gateway:

        def counted() -> int:
            text = gateway.get("/-/metrics", "Authorization: Bearer secret").body.decode()
            found = re.findall(r'^portway_requests_total\{.*route="b".*\} ([\d.]+)', text, re.MULTILINE)
            assert re.search(r"^portway_workers 1\.0", text, re.MULTILINE)
            return int(sum(map(float, found)))

        for number in range(1, 4):
            assert gateway.get("/b").status == 200
            assert counted() == number
            pid = workers(gateway)[0]
            counted_s = time.monotonic()
            eventually(lambda: time.monotonic() > counted_s + 1.3)  # noqa: B023 - what it counts it shows once a second
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: workers(gateway) not in ([], [pid]))  # noqa: B023
            eventually(lambda: asked(gateway, "/who"))
            assert counted() == number


def _connections_of(pid: int, port: int) -> bool:
    """Whether a process has a connection to this port."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(entry.readlink()))
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    inodes = {line.split()[9] for line in lines if line.split()[2].endswith(f":{port:04X}")}
    return any(f"socket:[{inode}]" in links for inode in inodes)


# -- silence ----------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_stopped_or_blocked_is_replaced(tmp_path: Path) -> None:
    with gateway_with(tmp_path, WORKER_TIMEOUT="1s") as gateway:
        all_ready(gateway, 1)
        first = workers(gateway)[0]
        os.kill(first, signal.SIGSTOP)
        all_ready(gateway, 2)
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", "/blocks/50"))
            all_ready(gateway, 3)
            assert wire.read_to_end() == b""
        assert {(line["signal"], line["cause"]) for line in died(gateway)} == {("SIGKILL", "no sign of life for 1 s")}
        assert died(gateway)[0]["pid"] == first
        assert asked(gateway, "/who")


def test_a_worker_that_never_begins_is_replaced(tmp_path: Path) -> None:
    # Its worker sleeps, which is the fault that is tried; the test does not.
    gateway = Gateway({"GATEWAY_WORKER_TIMEOUT": "1s"}, cwd=routes_in(tmp_path, FAILS.format("time.sleep(50)")))
    gateway.start(wait=False)
    try:
        assert gateway.wait() == 1
        assert [line["signal"] for line in died(gateway)] == ["SIGKILL"] * 2
    finally:
        gateway.kill()


def test_whoever_works_for_less_than_the_timeout_or_in_a_thread_is_left_alone(tmp_path: Path) -> None:
    with gateway_with(tmp_path, WORKER_TIMEOUT="2s") as gateway:
        all_ready(gateway, 1)
        pid = workers(gateway)[0]
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", "/sleeps/3"))
            assert gateway.get("/blocks/0.7").status == 200
            assert wire.read_answer().json() == pid
        assert died(gateway) == []


def test_time_in_which_all_were_stopped_counts_against_nobody(tmp_path: Path) -> None:
    """As when a machine is suspended."""
    with gateway_with(tmp_path, WORKERS="2", WORKER_TIMEOUT="1s") as gateway:
        all_ready(gateway, 2)
        os.killpg(gateway.process.pid, signal.SIGSTOP)
        try:
            with contextlib.suppress(AssertionError):
                eventually(lambda: False, within_s=2.5)
        finally:
            os.killpg(gateway.process.pid, signal.SIGCONT)
        before = _beats(gateway)
        eventually(lambda: _beats(gateway) > before + 3)
        assert asked(gateway, "/who")
        assert died(gateway) == []


def _beats(gateway: Gateway) -> int:
    """Something that grows as the workers' loops go round: the times that they were put to sleep."""
    texts = [Path(f"/proc/{pid}/status").read_text(encoding="ascii") for pid in workers(gateway)]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in texts)


# -- draining ---------------------------------------------------------------------------------------------------------

STARTS = """
import asyncio
import multiprocessing
import os
import time

from gateway.routing import on_worker_start


@on_worker_start
async def start():
    {}
"""


def drains_with_delay(gateway: Gateway) -> None:
    """A first SIGTERM, and whoever serves has heard of it."""
    assert gateway.get("/-/ready").status == 200
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: gateway.get("/-/ready").status == 503)


def test_a_drain_is_heard_while_a_worker_is_still_starting(tmp_path: Path) -> None:
    waits, began = tmp_path / "waits", tmp_path / "began"
    how = f"while os.path.exists({str(waits)!r}): open({str(began)!r}, 'w').close(); await asyncio.sleep(0.01)"
    with gateway_with(tmp_path, STARTS.format(how), WORKERS="2", DRAIN_DELAY="50s") as gateway:
        all_ready(gateway, 2)
        waits.touch()
        os.kill(workers(gateway)[0], signal.SIGKILL)
        eventually(began.exists)
        drains_with_delay(gateway)
        waits.unlink()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0


def test_a_drain_is_heard_whatever_was_forked_at_the_start_of_a_worker(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    how = f"""child = multiprocessing.Process(target=time.sleep, args=(50,), daemon=True)
    child.start()
    open({str(pid)!r}, "w").write(str(child.pid))"""
    with gateway_with(tmp_path, STARTS.format(how), DRAIN_DELAY="50s") as gateway:
        child = int(pid.read_text(encoding="ascii"))
        try:
            drains_with_delay(gateway)
            assert is_running(child)
        finally:
            os.kill(child, signal.SIGKILL)
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0


# -- children of a view -----------------------------------------------------------------------------------------------


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("path", ["/forks", "/program"])
def test_a_process_of_a_view_keeps_neither_port_nor_connection_nor_parent(tmp_path: Path, path: str) -> None:
    with gateway_with(tmp_path) as gateway:
        child = 0
        try:
            with gateway.connect() as kept:
                kept.send(request_bytes("GET", "/who"))
                assert kept.read_answer().status == 200
                child = int(gateway.get(path).body)
                # Its worker dies: the parent notices, and so do those who were connected.
                os.kill(workers(gateway)[0], signal.SIGKILL)
                assert kept.read_to_end() == b""
            all_ready(gateway, 2)
            assert is_running(child)
            child2 = int(gateway.get(path).body)
            gateway.process.send_signal(signal.SIGTERM)
            assert gateway.wait(5) == 0
            with pytest.raises(ConnectionRefusedError):
                gateway.connect()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child2, signal.SIGKILL) if path == "/program" else os.kill(child2, signal.SIGKILL)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL) if path == "/program" else os.kill(child, signal.SIGKILL)


def test_a_program_that_a_view_starts_finds_its_signals_as_usual(tmp_path: Path) -> None:
    with gateway_with(tmp_path) as gateway:
        found = gateway.get("/inherits").json()
        stops = sum(1 << number - 1 for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD))
        assert {name: value & stops for name, value in found.items()} == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
        assert gateway.get("/can-be-ended").json() == -signal.SIGTERM
        assert gateway.get("/who").json() == workers(gateway)[0], "it was not the worker that ended"
