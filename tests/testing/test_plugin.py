"""The plugin of pytest in a project of somebody else's: how tests run, and what is said of one that is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ENV = """
# what this folder's gateway is
GATEWAY_UPSTREAM_USERS=http://users.test
GATEWAY_ROUTE_USERS=/users/** -> users
"""
ROUTES = """
from gateway.routing import from_environment, proxy, route

def today():
    return "real"

async def day(request):
    return {"today": today()}

urlpatterns = [*from_environment(), route("/day", day), route("/me", proxy("users:/users/me"))]
"""
TESTS = """
import asyncio
import pytest
import routes  # before any gateway is there
from gateway.testing import Reply, TestGateway, UnexpectedCall

MARK = pytest.mark.gateway(UPSTREAM_A="http://a.test", ROUTE_A="/** -> a")

async def test_good_of_the_folder(gateway, monkeypatch):
    gateway.users["/users/me"] = {"name": "Ada"}
    assert (await gateway.get("/me")).json() == {"name": "Ada"}
    assert (await gateway.get("/users/me")).route == "users"
    monkeypatch.setattr(routes, "today", lambda: "patched")
    assert (await gateway.get("/day")).json() == {"today": "patched"}

@MARK
class TestMarked:
    async def test_good_of_a_method(self, gateway):
        gateway.a["*"] = 1
        assert (await gateway.get("/day")).json() == 1

    @pytest.mark.gateway(ROUTE_A="/b/** -> a")
    @pytest.mark.parametrize("n", [1, 2])
    async def test_good_of_a_closer_mark(self, gateway, n):
        assert (await gateway.get("/day")).status == 404

@pytest.fixture
def filled(gateway):
    gateway.a["*"] = {"filled": True}
    return gateway

@MARK
async def test_good_by_a_fixture(filled):
    assert (await filled.get("/")).json() == {"filled": True}

@pytest.mark.gateway(routes="routes", UPSTREAM_USERS="http://other.test", ROUTE_OTHER="/other -> users:/users/other")
async def test_good_of_another_environment(gateway):
    gateway.users["*"] = 2
    assert [(await gateway.get(path)).status for path in ("/me", "/other", "/users/1")] == [200, 200, 404]

async def test_good_of_the_folder_again(gateway):
    gateway.users["*"] = 3
    assert [(await gateway.get(path)).status for path in ("/me", "/other", "/users/1")] == [200, 404, 200]

def test_good_without_a_gateway():
    pass

@MARK
async def test_bad_call(gateway):
    await gateway.get("/x")

@MARK
async def test_bad_call_that_nobody_waits_for(gateway):
    gateway.a["*"] = Reply(delay="10m")
    asyncio.create_task(gateway.get("/x"))
    gateway.a.clear()
    while not gateway.a.calls:
        await asyncio.sleep(0)

@pytest.mark.gateway(UPSTREAM_USERS="users.test", ROUTE_A="/** -> b", TIMEOUT="30")
async def test_bad_environment(gateway):
    pass

@pytest.mark.gateway(TIMEOUT=30)
async def test_bad_value(gateway):
    pass

@pytest.mark.gateway(upstream_a="http://a.test")
async def test_bad_case(gateway):
    pass

@pytest.mark.gateway("UPSTREAM_A")
async def test_bad_mark(gateway):
    pass

@MARK
def test_bad_function(gateway):
    pass

@pytest.mark.gateway(routes="missing")
async def test_bad_module(gateway):
    pass

@pytest.mark.gateway(UPSTREAM_A="http://a.test")
async def test_bad_without_routes(gateway):
    pass

@pytest.mark.gateway(UPSTREAM_A="http://a.test", ROUTE_A="/** -> a", APPS="nowhere")
async def test_bad_app(gateway):
    pass
"""

SAID = {
    "bad_call": "UnexpectedCall: a was asked for GET /x, and gateway.a has no answer to that, nor any other",
    "bad_call_that_nobody_waits_for": "UnexpectedCall: a was asked for GET /x",
    "bad_environment": "Failed: 3 problems in the environment:",
    "bad_value": "Failed: TIMEOUT=30: a value is a text, as in an environment: TIMEOUT='30'",
    "bad_case": "Failed: @pytest.mark.gateway(upstream_a=...): variables are in upper case",
    "bad_mark": "Failed: @pytest.mark.gateway('UPSTREAM_A'): write NAME='value', or a mapping of those",
    "bad_function": "Failed: the fixture gateway is used by awaiting it: write `async def test_bad_function(...)`",
    "bad_module": "Failed: GATEWAY_URLCONF=missing: there is no module of that name",
    "bad_without_routes": "Failed: there is no route yet; for a start:",
    "bad_app": "Failed: GATEWAY_APPS: Django is set up once in a process, and was so without this value",
}


def run(folder: Path, *options: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rfE", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options],
        cwd=folder,
        env={**inherited, "GATEWAY_UPSTREAM_USERS": "of the shell, which counts for no test", "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    ).stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "options",
    [("-p", "no:asyncio"), ("-o", "asyncio_mode=strict", "-W", "error"), ("-o", "asyncio_mode=auto", "-W", "error")],
    ids=["no other plugin", "pytest-asyncio strict", "pytest-asyncio auto"],
)
def test_a_project_is_tested_whatever_runs_its_coroutines(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "gateway.env").write_text(ENV, encoding="utf-8")
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    (tmp_path / "test_them.py").write_text(TESTS, encoding="utf-8")
    if "no:asyncio" not in options:
        options = (*options, "-o", "asyncio_default_fixture_loop_scope=function")
    printed = run(tmp_path, *options)
    told = dict(
        re.findall(r"^(?:FAILED|ERROR) test_them\.py::(?:TestMarked::)?test_(\S+) - (.*)$", printed, re.MULTILINE)
    )
    assert told.keys() == SAID.keys(), printed
    for name, said in SAID.items():
        assert said in told[name], printed
    assert "8 passed" in printed
    assert "a duration needs its unit" in printed
    assert "RuntimeWarning" not in printed


@pytest.mark.timeout(120)
def test_a_run_without_the_gateway_imports_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_it():\n"
        "    found = [name for name in sys.modules if name.startswith(('gateway.', 'django', 'aiohttp'))]\n"
        "    assert found == ['gateway.pytest_plugin']\n",
        encoding="utf-8",
    )
    assert "1 passed" in run(tmp_path)


@pytest.mark.timeout(120)
def test_a_folder_without_a_gateway_says_what_to_write(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("async def test_it(gateway): pass\n", encoding="utf-8")
    printed = run(tmp_path, "-p", "no:asyncio")
    assert "has neither gateway.env nor routes.py, so there is no gateway to test; say what it is" in printed
