"""A Django project behind a real Granian: tests/django_project, with a model, a command, checks, and django-ninja.

docs/django.md has a table of what Django's users expect, and which of these tests holds it.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from tests.live.harness import HOME, Answers, Gateway, Request, eventually, request_bytes
from tests.live.management.test_commands import environment_of, run


class Echoes(Answers):
    """Answers with what it was asked, as JSON that a cache may keep."""

    def on_request(self, request: Request) -> None:
        asked = {"method": request.start.split(" ")[0], "target": request.target, "body": request.body.decode()}
        body = json.dumps({**asked, "fields": dict(request.pairs)}).encode()
        request.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )


@pytest.fixture(scope="module")
def prices() -> Iterator[Echoes]:
    with Echoes() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, which may be written into."""
    folder = tmp_path_factory.mktemp("project") / "shop"
    shutil.copytree(HOME / "tests" / "django_project", folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def environment(project: Path, prices: Echoes) -> dict[str, str]:
    return {
        "GATEWAY_APPS": "shop,ninja",
        "GATEWAY_SETTINGS": "team.settings",
        "GATEWAY_SECRET": "s3cret" * 9,
        "GATEWAY_DATABASE_URL": f"sqlite:///{project}/shop.sqlite3",
        "GATEWAY_UPSTREAM_PRICES": prices.url,
        "GATEWAY_ROUTE_PRICES": "/prices/** -> prices",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.2",
        "GATEWAY_MIDDLEWARE": "shop.middleware.Tenant",
    }


@pytest.fixture(scope="module")
def gateway(project: Path, environment: dict[str, str]) -> Iterator[Gateway]:
    """The project, migrated and filled by its own command, served."""
    migrated = run(project, "migrate", **environment)
    assert migrated.code == 0, migrated.errors
    assert "Applying shop.0001_initial... OK" in migrated.output
    assert run(project, "restock", "milk", "bread", **environment).output == "2 items\n"
    with Gateway(environment, cwd=project) as gateway:
        yield gateway


# -- apps, settings, commands, checks ----------------------------------------------------------------------------------


def test_models_migrations_and_commands_of_an_app_work(gateway: Gateway) -> None:
    assert gateway.get("/items").json() == ["milk", "bread"]


def test_the_checks_of_an_app_are_run(project: Path, environment: dict[str, str]) -> None:
    ran = run(project, "check", **environment)
    assert (ran.code, ran.output) == (
        0,
        f"The configuration is good: upstreams 1, routes 21, of {project}/routes.py.\n",
    )
    assert "gateway: warning: ?: (shop.W001) the stock is low" in ran.errors


@pytest.mark.usefixtures("gateway")
def test_the_shell_has_the_app(project: Path, environment: dict[str, str]) -> None:
    line = "from shop.models import Item; print(Item.objects.count())"
    assert run(project, "shell", "-v", "0", "-c", line, **environment).output == "2\n"


def test_no_migration_is_missing(project: Path, environment: dict[str, str]) -> None:
    ran = run(project, "makemigrations", "--check", "--dry-run", **environment)
    assert (ran.code, ran.output) == (0, "No changes detected\n")


def test_the_tests_of_the_project_pass_by_gateway_test(project: Path, environment: dict[str, str]) -> None:
    """They ask every kind of route by AsyncClient, Client and AsyncRequestFactory."""
    ran = run(project, "test", **environment)
    assert ran.code == 0, ran.errors
    assert "view.not_closed" not in ran.output
    assert "Ran 17 tests" in ran.errors
    assert "\nOK\n" in ran.errors


@pytest.mark.usefixtures("gateway")
def test_the_same_clients_work_in_plain_pytest(project: Path, environment: dict[str, str]) -> None:
    options = ["-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
    words = ["-m", "pytest", "-q", *options, "-W", "error", "pytest_suite.py"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project,
        env=environment_of(environment),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout


# -- views -------------------------------------------------------------------------------------------------------------


def test_six_queries_of_half_a_second_run_at_once(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    gateway.get("/items")
    began = time.monotonic()
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: gateway.get("/slow"), range(6)))
    took_s = time.monotonic() - began
    record_property("six async ORM queries of 0.5 s at once, bar 0.7 s", f"{took_s:.2f} s")
    assert [answer.json() for answer in answers] == [{"waited": 0.5}] * 6
    assert took_s < 6 * 0.5 / 2  # one after the other they take their sum


@pytest.mark.parametrize("way", ["results", "results-in-thread"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("dict", b'{"id":1}'),
        ("list", b"[1]"),
        ("struct", b'{"id":1}'),
        ("dataclass", b'{"id":1}'),
        ("pydantic", b'{"id":1}'),
        ("lazy", b"lazy"),
    ],
)
def test_what_a_view_may_return(gateway: Gateway, way: str, kind: str, body: bytes) -> None:
    answer = gateway.get(f"/{way}/{kind}")
    assert (answer.status, answer.body) == (200, body)
    assert answer.one("content-type") == ("text/html; charset=utf-8" if kind == "lazy" else "application/json")


@pytest.mark.parametrize("way", ["results", "results-in-thread"])
@pytest.mark.parametrize(("kind", "words"), [("none", "returned None"), ("text", "a value of the type str")])
def test_what_a_view_may_not_return_names_it(gateway: Gateway, way: str, kind: str, words: str) -> None:
    answer = gateway.get(f"/{way}/{kind}")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    line = gateway.request_line(answer.one("x-request-id"))
    assert words in line["cause"]
    assert f"shop.views.{way.replace('-', '_')}" in line["cause"]


ID = UUID("12345678-1234-5678-1234-567812345678")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/items/1", 200),
        ("/items/one", 404),
        ("/items/1.5", 404),
        ("/items/1.0", 404),
        ("/items/1e0", 404),
        ("/both/1e0", 404),
        ("/reports/2.026e3", 404),
        ("/both/1", 200),
        ("/both/one", 404),
        ("/reports/2026", 200),
        ("/reports/soon", 404),
        (f"/converted/{ID}/s/true", 200),
        (f"/converted/{ID}/s/yes", 404),
        (f"/converted/{ID}/xl/true", 404),
        ("/converted/1/s/true", 404),
    ],
)
def test_parameters_are_of_the_type_of_their_hints(gateway: Gateway, target: str, status: int) -> None:
    """For views, fan-outs and legacy functions alike; what does not fit is not found."""
    answer = gateway.get(target)
    assert answer.status == status
    if status == 404:
        assert answer.json()["reason"] == "view_not_found"
        assert "is not of its type" in answer.json()["detail"]
    elif target.startswith("/converted"):
        assert answer.json() == {"id": "UUID", "size": "s", "exact": "True"}


def test_a_parameter_that_does_not_fit_asks_no_upstream(gateway: Gateway, prices: Echoes) -> None:
    before = len(prices.requests)
    assert gateway.get("/both/one").status == 404
    assert len(prices.requests) == before


def test_an_app_of_somebody_else_serves(gateway: Gateway) -> None:
    assert gateway.get("/api/items/1").json() == {"id": 1, "name": "milk", "price": 0}
    assert gateway.get("/api/items/one").status == 422
    assert gateway.get("/api/count").json()["count"] >= 2
    body = b'{"name": "tea", "price": 3}'
    fields = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    made = gateway.ask(request_bytes("POST", "/api/items", *fields, body=body))
    assert (made.status, made.json()["name"]) == (201, "tea")


def test_a_middleware_stands_around_the_views(gateway: Gateway) -> None:
    answer = gateway.get("/who/", "X-Tenant: acme")
    assert (answer.json()["tenant"], answer.all("x-was-here")) == ("acme", ["acme"])
    assert gateway.get("/prices/1").one("x-was-here") == "nobody"


# -- who asks ----------------------------------------------------------------------------------------------------------


def test_a_request_tells_what_trusted_peers_say_and_nothing_else(gateway: Gateway) -> None:
    claims = ("X-Forwarded-Proto: https", "X-Forwarded-Host: shop.example")
    own = gateway.get("/who/", *claims).json()
    assert own == {"secure": False, "uri": "http://gateway.test/who/", "forwarded": None, "tenant": "nobody"}
    trusted = gateway.get("/who/", *claims, source="127.0.0.2").json()
    assert trusted == {"secure": True, "uri": "https://shop.example/who/", "forwarded": "https", "tenant": "nobody"}


# -- signals -----------------------------------------------------------------------------------------------------------


def heard(gateway: Gateway) -> list[str]:
    told: list[str] = gateway.get("/heard").json()
    return told


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/items", None),
        ("/prices/1", None),
        ("/api/count", None),
        ("/nothing", None),
        ("/items/one", None),
        ("/fails", "ZeroDivisionError"),
        ("/fails-in-thread", "ZeroDivisionError"),
        ("/reports/0", "ZeroDivisionError"),
        ("/both/0", "ZeroDivisionError"),
    ],
)
def test_signals_are_sent_once_a_request_where_somebody_listens(
    gateway: Gateway, target: str, error: str | None
) -> None:
    eventually(lambda: heard(gateway) == ["finished", "started /heard"])  # nothing of those before is on its way
    gateway.get(target)
    told: list[str] = []

    def all_heard() -> bool:
        told.extend(heard(gateway))
        return told.count("finished") > 1  # the first is that of the last question

    eventually(all_heard)
    own = [word for word in told if not word.endswith("/heard")]
    failed = [f"failed {error} {target}"] if error else []
    assert own[:3] == ["finished", f"started {target}", *(failed or ["finished"])]
    assert [word for word in own if word.startswith("failed")] == failed


def test_requests_for_the_gateway_itself_send_no_signal(gateway: Gateway) -> None:
    eventually(lambda: heard(gateway) == ["finished", "started /heard"])
    gateway.get("/-/live")
    assert heard(gateway) == ["finished", "started /heard"]


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_about_django_names_tests_that_are_there() -> None:
    page = (HOME / "docs" / "django.md").read_text(encoding="utf-8")
    told = page[page.index("## What Django's users expect") :]
    files = set(re.findall(r"`(tests/[a-z_/]+\.py)`", told))
    assert {name for name in files if not (HOME / name).exists()} == set()
    written = "".join(path.read_text(encoding="utf-8") for path in (HOME / "tests").rglob("test_*.py"))
    names = set(re.findall(r"`(test_\w+)`", told))
    assert len(names) > 15
    assert {name for name in names if f"def {name}(" not in written} == set()
