"""A new configuration takes over while clients ask, and none of them notices; what is wrong leaves the old one be."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.clients import Clients
from tests.live.harness import OK, Answers, Gateway, Slow, children_of, eventually, request_bytes
from tests.live.http2 import Http2
from tests.live.proxy.test_tls import authority
from tests.live.server.test_tls import serving, trusting
from tests.live.sockets.test_relay import closes_all, echo, opened

ROUTES = """
from django.http import HttpResponse
from gateway.routing import from_environment, route

VERSION = {version!r}


async def version(request):
    return HttpResponse(VERSION)

urlpatterns = [*from_environment(), route("GET /version", version)]
"""
FIXTURES = (closes_all, echo)  # that pytest finds here
TOKEN = "Authorization: Bearer hunter2"


class Folder:
    """A folder with an env file and a routes module, and the gateway that serves them."""

    def __init__(self, path: Path, env: dict[str, str], *, version: str = "one") -> None:
        self.path = path
        self.env = {"ADMIN_TOKEN": "hunter2", **env}
        self.write(version=version)
        self.gateway = Gateway({}, cwd=path)
        self.gateway.argv += ["--env-file", "gateway.env"]

    def write(self, *, version: str | None = None, **env: str) -> None:
        self.env |= env
        lines = [f"GATEWAY_{name}={value}\n" for name, value in self.env.items()]
        (self.path / "gateway.env").write_text("".join(lines), encoding="utf-8")
        if version is not None:
            self.routes(ROUTES.format(version=version))

    def routes(self, text: str) -> None:
        """As an editor and Kubernetes do it: another file takes the name."""
        new = self.path / "routes.new"
        new.write_text(text, encoding="utf-8")
        new.rename(self.path / "routes.py")

    def hang_up(self) -> None:
        self.gateway.process.send_signal(signal.SIGHUP)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.gateway.log if line["event"] == event]

    def reload(self, outcome: str = "done") -> dict[str, Any]:
        """SIGHUP, and what the log tells of it."""
        known = len(self.said(f"reload.{outcome}"))
        self.hang_up()
        eventually(lambda: len(self.said(f"reload.{outcome}")) > known, within_s=20)
        return self.said(f"reload.{outcome}")[-1]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.gateway.get("/-/status", TOKEN).json()
        return found

    def version(self) -> str:
        return self.gateway.get("/version").body.decode()

    def settled(self) -> None:
        """Only one generation is left."""
        eventually(lambda: len(self.gateway.generations) == 1, within_s=20)


@contextlib.contextmanager
def folder_with(path: Path, *, version: str = "one", **env: str) -> Iterator[Folder]:
    folder = Folder(path, env, version=version)
    with folder.gateway:
        yield folder


def load(folder: Folder, threads: int = 6) -> Clients:
    kinds = ["keeping", "near"] * (threads // 2)
    return Clients(folder.gateway.connect, kinds, target="/b/load", body=b"hello")


def counted(folder: Folder, name: str) -> float:
    text = folder.gateway.get("/-/metrics", TOKEN).body.decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([\d.e+]+)$", text, re.MULTILINE))


# -- nothing is lost --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reloads_under_load_lose_nothing_and_metrics_go_on(tmp_path: Path, workers: str) -> None:
    with (
        Answers() as up,
        folder_with(tmp_path, WORKERS=workers, UPSTREAM_B=up.url, ROUTE_B="/b/** -> b") as folder,
    ):
        parent = folder.gateway.process.pid
        hashes = {folder.status()["config_hash"]}
        with load(folder) as clients:
            for number in range(2, 6):
                folder.write(version=f"v{number}", ROUTE_NEW=f"/new{number} -> b")
                assert folder.reload()["generation"] == number
                status: Any = eventually(lambda: status_of(folder, number))  # noqa: B023 - asked before the next round
                assert status["pid"] == parent
                hashes.add(status["config_hash"])
            before = len(clients.answered)
            eventually(lambda: len(clients.answered) > before + 50)
        assert clients.failures == [], [line for line in folder.gateway.log if line["event"] != "request"]
        assert len(hashes) == 5
        eventually(lambda: folder.version() == "v5")
        folder.settled()
        text = r'portway_requests_total\{[^}]*route="b"[^}]*\}'
        found = folder.gateway.get("/-/metrics", TOKEN).body.decode()
        total = sum(float(value) for value in re.findall(rf"^{text} ([\d.]+)$", found, re.MULTILINE))
        assert total == len(clients.answered)
        assert counted(folder, "portway_reloads_total") == 4
        assert f'portway_config_hash{{hash="{folder.status()["config_hash"]}"}} 1.0' in found
        assert len(folder.gateway.workers) == int(workers)
        assert folder.said("library") == []
        assert folder.gateway.errors == []


def test_reloads_in_close_succession_lead_new_connections_to_the_newest(tmp_path: Path) -> None:
    """Whoever serves learns late that the one before it has gone; one that listened earlier would not be led to."""
    with folder_with(tmp_path) as folder:
        for number in range(2, 5):
            folder.write(version=f"v{number}")
            folder.reload()
            assert {folder.version() for _ in range(30)} == {f"v{number}"}


def status_of(folder: Folder, generation: int) -> dict[str, Any] | None:
    """The status once that generation answers."""
    status = folder.status()
    return status if status["generation"] == generation else None


def test_tls_and_http2_change_their_certificate_and_lose_nothing(tmp_path: Path) -> None:
    ours = authority(tmp_path, "ours")
    with Answers() as up:
        environment = {name.removeprefix("GATEWAY_"): value for name, value in serving(tmp_path, ours).items()}
        folder = Folder(tmp_path, {**environment, "UPSTREAM_B": up.url, "ROUTE_B": "/b/** -> b"})
        folder.gateway.tls = trusting(tmp_path)
        with folder.gateway:
            shown = certificate_of(folder)
            with load(folder, threads=4) as clients, Http2(folder.gateway) as client:
                stream = client.request("GET", "/b/1")
                assert client.answer(stream).status == 200
                serving(tmp_path, ours)  # the files are written anew
                folder.reload()
                eventually(lambda: certificate_of(folder) != shown)
                stream = client.request("GET", "/b/2")  # the old generation answers on its connections
                assert client.answer(stream).status == 200
                before = len(clients.answered)
                eventually(lambda: len(clients.answered) > before + 30)
            assert clients.failures == []


def certificate_of(folder: Folder) -> bytes:
    with folder.gateway.connect() as wire:
        found: bytes = wire.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined]
        return found


def test_sockets_and_streams_go_on_for_as_long_as_a_reload_lets_them(tmp_path: Path, echo: Any) -> None:
    with (
        Slow() as slow,
        folder_with(
            tmp_path,
            UPSTREAM_E=f"http://127.0.0.1:{echo.port}",
            ROUTE_E="/e -> e:/",
            UPSTREAM_S=slow.url,
            ROUTE_S="/s -> s",
            RELOAD_DRAIN="4s",
        ) as folder,
    ):
        socket = opened(folder.gateway, "/e")
        with folder.gateway.connect() as wire:
            wire.send(request_bytes("GET", "/s"))
            slow.wait_for_request("/s").send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nfirst")
            wire.read_until(b"first")
            folder.write(version="two")
            folder.reload()
            reloaded_s = time.monotonic()
            eventually(lambda: listens(folder) == 1)
            socket.send(masked(b"still here"))
            assert socket.read() == (1, b"still here")
            slow.requests[0].send(b"second")
            wire.read_until(b"second")
            assert socket.close_code() == 1001
            assert time.monotonic() - reloaded_s > 3.5
            wire.read_to_end()
        folder.settled()
        # The process is gone before its line is written.
        ended: Any = eventually(lambda: folder.said("generation.ended"))
        assert ended[-1]["cut"] == 1


def masked(payload: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def listens(folder: Folder) -> int:
    """How many sockets listen on its port."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[1].endswith(f":{folder.gateway.port:04X}") and line.split()[3] == "0A" for line in lines)


# -- what is wrong ----------------------------------------------------------------------------------------------------


BROKEN = {
    "a syntax error": ("this is no Python", "routes.py:1: SyntaxError"),
    "an exception": ("1 / 0", "routes.py:1: ZeroDivisionError"),
    "it exits": ("import sys; sys.exit(3)", "SystemExit"),
    "it ends the process": ("import os; os._exit(3)", "it ended with exit code 3"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    with folder_with(tmp_path_factory.mktemp("running"), WORKERS="2", ROUTE_A="/a -> 204") as folder:
        yield folder


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_routes_module_changes_nothing(running: Folder, how: str) -> None:
    text, problem = BROKEN[how]
    running.routes(text)
    line = running.reload("failed" if "process" in how else "refused")
    assert line["level"] == "error"
    assert any(problem in one for one in line["problems"]), line
    assert running.version() == "one"
    assert not running.gateway.errors
    running.write(version="one")


def test_a_broken_environment_is_told_as_check_tells_it(running: Folder) -> None:
    running.write(ROUTE_A="/a -> nothing", WORKERS="2")
    line = running.reload("refused")
    assert [one.strip() for one in line["problems"]] == [
        "1 problem in the environment:",
        "GATEWAY_ROUTE_A (gateway.env:3) = /a -> nothing",
        "there is no upstream nothing; set GATEWAY_UPSTREAM_NOTHING to its base URL",
    ]
    assert running.gateway.get("/a").status == 204
    running.write(ROUTE_A="/a -> 204")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"BIND": "127.0.0.1:1"}, "GATEWAY_BIND"),
        ({"WORKERS": "3"}, "GATEWAY_WORKERS: 3 takes a restart; 2 holds until then"),
        (
            {"DATABASE_URL": "postgresql://u:topsecret@h/d"},
            "GATEWAY_DATABASE_URL: postgresql://***@h/d takes a restart",
        ),
    ],
)
def test_what_takes_a_restart_is_named(running: Folder, change: dict[str, str], named: str) -> None:
    before = dict(running.env)
    running.write(**change)
    if "BIND" in change:  # the environment's own says it: what lies beneath has no part in it
        assert running.reload("done")
    else:
        line = running.reload("refused")
        assert any(named in one for one in line["problems"]), line
        assert not any("topsecret" in one for one in running.gateway.output)
    running.env = before
    running.write()


def test_a_worker_of_the_new_generation_that_dies_at_its_start_leaves_the_old_one(running: Folder) -> None:
    text = ROUTES.format(version="dies") + (
        "\nfrom gateway.routing import on_worker_start\n\n@on_worker_start\nasync def start():\n    1 / 0\n"
    )
    running.routes(text)
    line = running.reload("failed")
    assert line["serves"] == running.status()["generation"]
    assert running.version() == "one"
    running.write(version="one")
    running.reload()


def test_the_next_one_is_good_again_and_the_outcomes_are_counted(running: Folder) -> None:
    running.write(version="two")
    running.reload()
    eventually(lambda: running.version() == "two")
    counts = running.status()["reloads"]
    assert (counts["done"] >= 1, counts["refused"] >= 4, counts["failed"] >= 2) == (True, True, True)
    running.settled()
    running.write(version="one")


# -- one after the other ----------------------------------------------------------------------------------------------

WAITS = """
import os, time
while os.path.exists({flag!r}):
    time.sleep(0.01)
"""


def test_reloads_that_are_asked_for_at_once_are_one_after_the_other(tmp_path: Path) -> None:
    flag = tmp_path / "waits"
    with folder_with(tmp_path) as folder:
        folder.routes(WAITS.format(flag=str(flag)) + ROUTES.format(version="two"))
        flag.touch()
        folder.hang_up()
        eventually(lambda: folder.said("reload.started"))
        for _ in range(40):
            folder.hang_up()
        assert folder.version() == "one"
        flag.unlink()
        eventually(lambda: len(folder.said("reload.done")) == 2)
        assert [line["generation"] for line in folder.said("reload.done")] == [2, 3]
        eventually(lambda: folder.status()["generation"] == 3)
        folder.settled()
        assert len(folder.said("reload.started")) == 2


SECOND_WORKER_WAITS = """
import asyncio, os
from gateway.routing import on_worker_start

@on_worker_start
async def start():
    try:
        os.close(os.open({first!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        while os.path.exists({flag!r}):
            await asyncio.sleep(0.01)
"""


def test_a_reload_right_at_the_start_waits_for_the_workers_that_are_still_on_their_way(tmp_path: Path) -> None:
    """One that listened only after the new ones would get connections until it closes, and drop the last of them."""
    flag = tmp_path / "waits"
    flag.touch()
    folder = Folder(tmp_path, {"WORKERS": "2"})
    folder.routes(SECOND_WORKER_WAITS.format(first=str(tmp_path / "first"), flag=str(flag)) + ROUTES.format(version=1))
    with folder.gateway:
        eventually(lambda: folder.said("worker.ready"))
        folder.routes(ROUTES.format(version="two"))
        folder.hang_up()
        eventually(lambda: len(folder.gateway.generations) == 2)
        with pytest.raises(AssertionError, match="still"):  # it takes less, where it need not wait
            eventually(lambda: folder.said("reload.done"), within_s=2)
        flag.unlink()
        eventually(lambda: folder.said("reload.done"), within_s=20)
        order = [line["event"] for line in folder.gateway.log if line["event"] in {"worker.ready", "reload.done"}]
        assert order == ["worker.ready"] * 4 + ["reload.done"]
        eventually(lambda: folder.version() == "two")
        folder.settled()
        assert folder.gateway.errors == []


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_a_reload_ends_both(tmp_path: Path, by: signal.Signals) -> None:
    flag = tmp_path / "waits"
    with Slow() as slow, folder_with(tmp_path, UPSTREAM_S=slow.url, ROUTE_S="/s -> s") as folder:
        folder.routes(WAITS.format(flag=str(flag)) + ROUTES.format(version="two"))
        flag.touch()
        with folder.gateway.connect() as wire:
            wire.send(request_bytes("GET", "/s"))
            slow.wait_for_request("/s")
            folder.hang_up()
            eventually(lambda: len(folder.gateway.generations) == 2)
            folder.gateway.process.send_signal(by)
            folder.gateway.wait_for_log(lambda line: line["event"] == "drain.started")
            slow.requests[0].send(OK)
            assert wire.read_answer().body == b"hello"
        assert folder.gateway.wait() == 0
        assert folder.said("drain.done")


def test_a_new_generation_that_is_killed_while_it_starts_is_a_failed_reload(tmp_path: Path) -> None:
    flag = tmp_path / "waits"
    with folder_with(tmp_path) as folder:
        folder.routes(WAITS.format(flag=str(flag)) + ROUTES.format(version="two"))
        flag.touch()
        folder.hang_up()
        new = eventually(lambda: folder.gateway.generations[1:])
        os.kill(new[0], signal.SIGKILL)
        eventually(lambda: folder.said("reload.failed"))
        assert folder.said("reload.failed")[0]["problems"] == ["it was ended by SIGKILL"]
        assert folder.version() == "one"


def test_a_serving_generation_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with folder_with(tmp_path) as folder:
        folder.reload()
        folder.settled()
        (generation,) = folder.gateway.generations
        os.kill(generation, signal.SIGKILL)
        eventually(lambda: len(folder.said("reload.done")) == 2, within_s=20)
        assert folder.said("generation.died")[0]["signal"] == "SIGKILL"
        eventually(lambda: folder.version() == "one")


def test_when_the_parent_is_killed_all_go(tmp_path: Path) -> None:
    with folder_with(tmp_path) as folder:
        pids = [*folder.gateway.generations, *folder.gateway.workers]
        os.kill(folder.gateway.process.pid, signal.SIGKILL)
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert children_of(folder.gateway.process.pid) == []


# -- files, commands --------------------------------------------------------------------------------------------------


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    """As Kubernetes changes them: a symlink is swapped."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name, encoding="ascii")
    (tmp_path / "data").symlink_to("first")
    with (
        Answers() as up,
        folder_with(
            tmp_path,
            RELOAD="watch",
            UPSTREAM_B=up.url,
            UPSTREAM_B__HEADER_X_TOKEN_FILE=str(tmp_path / "data" / "token"),
            ROUTE_B="/b/** -> b",
        ) as folder,
    ):

        def token() -> str:
            folder.gateway.get("/b/token")
            return up.requests[-1].one("x-token")

        assert token() == "first"
        (tmp_path / "new").symlink_to("second")
        (tmp_path / "new").rename(tmp_path / "data")
        eventually(lambda: token() == "second")
        folder.routes(ROUTES.format(version="two"))
        eventually(lambda: folder.version() == "two")
        folder.routes("import helper")
        eventually(lambda: folder.said("reload.refused"))
        (tmp_path / "helper.py").write_text("", encoding="utf-8")
        folder.routes("import helper\n" + ROUTES.format(version="three"))
        eventually(lambda: folder.version() == "three")
        (tmp_path / "routes.py").rename(tmp_path / "away")
        eventually(lambda: folder.gateway.get("/version").status == 404)
        (tmp_path / "away").rename(tmp_path / "routes.py")
        eventually(lambda: folder.version() == "three")
        folder.write(ROUTE_C="/c -> 204")
        eventually(lambda: folder.gateway.get("/c").status == 204)
        assert {line["by"] for line in folder.said("reload.started")} == {"files"}
        assert str(tmp_path / "routes.py") in json.dumps(folder.said("reload.started")[1]["files"])
        quiet = len(folder.said("reload.started"))
        until_s = time.monotonic() + 1.5
        eventually(lambda: time.monotonic() > until_s)
        assert len(folder.said("reload.started")) == quiet


def test_a_reload_by_http_tells_what_came_of_it(running: Folder) -> None:
    with running.gateway.connect() as wire:
        wire.send(request_bytes("POST", "/-/reload", TOKEN))
        answer = wire.read_answer().json()
    assert (answer["outcome"], answer["problems"]) == ("done", [])
    running.routes("1 / 0")
    answer = running.gateway.ask(request_bytes("POST", "/-/reload", TOKEN)).json()
    assert (answer["outcome"], answer["problems"]) == ("refused", ["routes.py:1: ZeroDivisionError: division by zero"])
    running.write(version="one")
    assert running.gateway.ask(request_bytes("POST", "/-/reload")).status == 401
    assert running.gateway.get("/-/reload", TOKEN).status == 405


def test_diff_tells_what_a_reload_would_change(running: Folder) -> None:
    def diff(*words: str) -> tuple[int, list[str]]:
        command = [sys.executable, "-m", "gateway", "diff", "--env-file", "gateway.env", *words]
        environment = {"GATEWAY_BIND": running.gateway.authority, "PATH": os.environ["PATH"]}
        ran = subprocess.run(command, cwd=running.path, env=environment, capture_output=True, text=True, check=False)
        return ran.returncode, (ran.stdout + ran.stderr).splitlines()

    running.reload()
    assert diff() == (0, ["No change."])
    before = dict(running.env)
    running.write(ROUTE_NEW="/new -> 204", SECRET="topsecret", WORKERS="1")
    code, lines = diff()
    assert (code, [line.split() for line in lines]) == (
        3,
        [
            ["+", "GATEWAY_ROUTE_NEW", "/new", "->", "204"],
            ["+", "GATEWAY_SECRET", "***"],
            ["-", "GATEWAY_WORKERS", "2"],
            ["+", "GATEWAY_WORKERS", "1", "(takes", "a", "restart)"],
        ],
    )
    running.env = before
    running.write(SECRET="one")
    running.reload()
    running.write(SECRET="two")
    assert diff() == (3, ["~  GATEWAY_SECRET  ***  (another value)"])
    code, lines = diff("--url", "http://127.0.0.1:9")
    assert (code, lines[0].startswith("gateway: http://127.0.0.1:9 does not answer")) == (1, True)
    running.env = before
    running.write()
