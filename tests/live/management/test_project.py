"""What `gateway init` writes works at once: it is checked, tested and served."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PYTEST_"))}
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    ran = run(tmp_path, "gateway", "init", "shop")
    assert (ran.returncode, ran.stderr) == (0, "")
    return tmp_path / "shop"


def test_it_is_good_and_is_served(project: Path) -> None:
    ran = run(project, "gateway", "check", "--env-file", "gateway.env")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"The configuration is good: upstreams 2, routes 2, of {project}/routes.py.\n"
    json = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    user, orders = b'{"id": 3, "name": "Ada"}', b'[{"id": 1, "total": 2.5}]'
    with Answers(json % (len(user), user)) as users, Answers(json % (len(orders), orders)) as services:
        environment = {"GATEWAY_UPSTREAM_USERS": users.url, "GATEWAY_UPSTREAM_ORDERS": services.url}
        gateway = Gateway(environment, cwd=project)
        gateway.argv += ["--env-file", "gateway.env"]
        with gateway:
            answer = gateway.get("/home/3")
            assert answer.json() == {
                "user": {"id": 3, "name": "Ada"},
                "orders": [{"id": 1, "total": 2.5}],
                "spent": 2.5,
            }
            assert gateway.get("/users/3").json() == {"id": 3, "name": "Ada"}


def test_its_tests_pass(project: Path) -> None:
    ran = run(project, "pytest", "-q", "-p", "no:cacheprovider")
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_nothing_is_overwritten(project: Path) -> None:
    before = {path.name: path.read_text(encoding="utf-8") for path in project.iterdir()}
    (project / "routes.py").unlink()
    ran = run(project, "gateway", "init")
    assert (ran.returncode, ran.stderr.splitlines()) == (
        1,
        ["gateway: Containerfile is there already: nothing is overwritten, and nothing was written"],
    )
    assert {path.name for path in project.iterdir()} == before.keys() - {"routes.py"}


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    ran = run(tmp_path, "gateway", "init", "file/shop")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("gateway: file/shop: Not a directory")
