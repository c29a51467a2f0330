"""Whoever is woken by a worker that died reads which requests it took with it; by a stuck pool, where it is stuck."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.live.harness import Gateway, Upstream, eventually, request_bytes

ROUTES = """
import ctypes, os, signal, threading
from gateway.routing import from_environment, legacy, route

never = threading.Event()


async def kills(request):
    os.kill(os.getpid(), signal.SIGKILL)


def waits():
    never.wait(20)


def kills_in_thread():
    os._exit(7)


urlpatterns = [
    *from_environment(),
    route("/kills", kills),
    route("/legacy-kills", legacy(kills_in_thread)),
    route("/waits", legacy(waits, threads=1, queue=0, timeout="100ms")),
]
"""


@pytest.fixture(scope="module")
def silent() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(silent: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("died")
    (home / "routes.py").write_text(ROUTES)
    environment = {"GATEWAY_UPSTREAM_U": silent.url, "GATEWAY_ROUTE_U": "/u/** -> u", "GATEWAY_DRAIN": "1s"}
    with Gateway(environment, cwd=home) as running:
        yield running


@pytest.mark.parametrize(("target", "by", "code"), [("/kills", "SIGKILL", None), ("/legacy-kills", None, 7)])
def test_a_view_that_kills_its_worker_is_named(gateway: Gateway, target: str, by: str | None, code: int | None) -> None:
    gateway.wait_until_ready()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", target, f"X-Request-ID: lost{target.replace('/', '-')}"))
        wire.read_to_end()
    name = f"lost{target.replace('/', '-')}"
    line = gateway.wait_for_log(lambda line: line["event"] == "worker.died" and name in line["requests"])
    assert (line["signal"], line["exit_code"], line["in_flight"]) == (by, code, 1)
    ready = [one["worker"] for one in gateway.log if one["event"] == "worker.ready"]
    assert line["pid"] in ready


def test_so_are_requests_that_were_only_waiting(gateway: Gateway, silent: Upstream) -> None:
    gateway.wait_until_ready()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/u/1", "X-Request-ID: waits-1"))
        silent.wait_for_request("/u/1")
        worker = [line["worker"] for line in gateway.log if line["event"] == "worker.ready"][-1]
        before, began_s = list(gateway.log), time.monotonic()
        # The worker looks after its requests five times a second.
        eventually(lambda: gateway.get("/nothing").status == 404 and time.monotonic() - began_s > 0.6)
        os.kill(worker, signal.SIGKILL)
        line = gateway.wait_for_log(lambda line: line["event"] == "worker.died" and line not in before)
    assert line["pid"] == worker
    assert "waits-1" in line["requests"]


def test_a_stuck_pool_says_where(gateway: Gateway) -> None:
    gateway.wait_until_ready()
    assert gateway.get("/waits").status == 504
    assert gateway.get("/waits").status == 503
    line = gateway.wait_for_log(lambda line: line["event"] == "legacy.stuck")
    assert line["frames"][0].endswith("routes.py:13 waits")
