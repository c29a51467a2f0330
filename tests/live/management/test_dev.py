"""`gateway dev`: a saved file holds at once, what is wrong is an answer, and the debugger has the terminal."""

import contextlib
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Answer, Gateway, eventually

ROUTES = """
from gateway.routing import from_environment, route


async def home(request):
    {body}
    return {{"version": {version}}}

urlpatterns = [*from_environment(), route("GET /home", home)]
"""


class Dev:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.save(1)
        self.gateway = Gateway({}, cwd=folder)
        self.gateway.argv[-1] = "dev"

    def save(self, version: int, body: str = "pass") -> None:
        (self.folder / "routes.py").write_text(ROUTES.format(version=version, body=body), encoding="utf-8")

    def get(self, accept: str = "*/*", path: str = "/home") -> Answer | None:
        """None while one process gives way to the next."""
        with contextlib.suppress(ConnectionError, AssertionError):
            return self.gateway.get(path, f"Accept: {accept}")
        return None

    def json(self) -> dict[str, Any]:
        answer = self.get()
        found: dict[str, Any] = {} if answer is None else answer.json()
        return found


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    folder = tmp_path_factory.mktemp("dev")
    (folder / "gateway.env").write_text("GATEWAY_ROUTE_ONE=/file -> 204\n", encoding="utf-8")
    dev = Dev(folder)
    with dev.gateway:
        yield dev


def test_a_saved_file_holds_soon(dev: Dev) -> None:
    assert dev.json() == {"version": 1}
    dev.save(2)
    eventually(lambda: dev.json() == {"version": 2})
    found: Any = eventually(lambda: dev.get(path="/file"))
    assert found.status == 204, "gateway.env is read unasked"
    (dev.folder / "gateway.env").write_text("GATEWAY_ROUTE_OTHER=/other -> 204\n", encoding="utf-8")
    eventually(lambda: (answer := dev.get(path="/other")) and answer.status == 204)
    assert len(dev.gateway.generations) == 1


def test_a_view_that_fails_answers_with_the_teams_own_lines(dev: Dev) -> None:
    dev.save(3, "1 / 0")
    problem: Any = eventually(lambda: (found := dev.json()).get("own") and found)
    assert (problem["status"], problem["detail"]) == (500, "ZeroDivisionError: division by zero")
    assert problem["own"] == ["routes.py:6 in home: 1 / 0"]
    assert problem["traceback"][-1] == "ZeroDivisionError: division by zero"
    page = dev.get("text/html")
    assert page is not None
    assert page.body.index(b"routes.py:6 in home") < page.body.index(b"Traceback")
    eventually(lambda: "  routes.py:6 in home: 1 / 0" in "\n".join(dev.gateway.output))


def test_a_routes_module_that_does_not_load_is_the_answer_until_it_is_mended(dev: Dev) -> None:
    (dev.folder / "routes.py").write_text("this is no Python", encoding="utf-8")
    found: Any = eventually(lambda: (found := dev.json()).get("problems") and found)
    assert found["problems"] == ["routes.py:1: SyntaxError: invalid syntax"]
    eventually(lambda: any("routes.py:1: SyntaxError" in line for line in dev.gateway.errors))
    page = dev.get("text/html")
    assert page is not None
    assert (page.status, page.one("content-type")) == (500, "text/html; charset=utf-8")
    dev.save(4)
    eventually(lambda: dev.json() == {"version": 4})
    (dev.folder / "gateway.env").write_text("GATEWAY_ROUTE_OTHER=/other -> nothing\n", encoding="utf-8")
    found = eventually(lambda: (found := dev.json()).get("problems") and found)
    assert any("GATEWAY_ROUTE_OTHER (gateway.env:1)" in line for line in found["problems"])
    (dev.folder / "gateway.env").unlink()
    eventually(lambda: dev.json() == {"version": 4})


def test_a_serving_process_that_ends_by_itself_is_told(dev: Dev) -> None:
    (dev.folder / "routes.py").write_text("import os\nos._exit(7)\n", encoding="utf-8")
    told = "gateway: the serving process ended with exit code 7; waiting for a file to be saved"
    eventually(lambda: told in dev.gateway.errors)
    dev.save(6)
    eventually(lambda: dev.json() == {"version": 6})


def test_an_address_that_is_taken_is_one_line(dev: Dev, tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(ROUTES.format(version=7, body="pass"), encoding="utf-8")
    environ = {**os.environ, "GATEWAY_BIND": dev.gateway.authority}
    with subprocess.Popen(dev.gateway.argv, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as second:
        assert second.stderr is not None
        lines = [second.stderr.readline() for _ in range(2)]
        second.terminate()
    assert lines == [
        f"gateway: cannot listen on {dev.gateway.authority}: address already in use\n",
        "gateway: the serving process ended with exit code 1; waiting for a file to be saved\n",
    ]


def test_breakpoint_has_the_terminal(tmp_path: Path) -> None:
    dev = Dev(tmp_path)
    dev.save(5, "breakpoint()")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execve(
            dev.gateway.argv[0], dev.gateway.argv, {**os.environ, "GATEWAY_BIND": dev.gateway.authority, "TERM": "dumb"}
        )
    try:
        heard = Terminal(terminal)
        heard.until("Routes")
        with eventually(lambda: connected(dev.gateway)) as wire:
            wire.send(b"GET /home HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
            heard.until("(Pdb) ")
            os.write(terminal, b"p 40 + 2\n")
            heard.until("42")
            os.write(terminal, b"c\n")
            assert wire.read_answer().json() == {"version": 5}
        os.write(terminal, b"\x03")
        heard.until("", to_end=True)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def connected(gateway: Gateway) -> Any:
    with contextlib.suppress(ConnectionError):
        return gateway.connect()
    return None


class Terminal:
    """What a terminal shows, with a bound on the wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self.text = ""

    def until(self, mark: str, *, to_end: bool = False) -> None:
        give_up_s = time.monotonic() + 20
        start = len(self.text)
        while to_end or mark not in self.text[start:]:
            assert time.monotonic() < give_up_s, self.text
            try:
                self.text += os.read(self._descriptor, 4096).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:  # EIO: nobody holds the other end any more
                return
