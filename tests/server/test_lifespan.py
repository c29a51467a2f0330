"""The lifespan of a worker, as Granian drives it: what is ready when, and what is closed at the end."""

import asyncio
import os

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import loader
from gateway.routing import proxy, route
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from gateway.server.worker import ALONE, Shared, Worker
from tests.application import Lifespan, call
from tests.live.harness import OK, Upstream, eventually


def application_before(upstream: Upstream, shared: Shared = ALONE) -> GatewayHandler:
    loaded = loader.load({"GATEWAY_UPSTREAM_B": upstream.url}, lambda name: "")
    return GatewayHandler(loaded, Routes([route("/b/**", proxy("b"))], loaded.declared), [], shared)


async def test_a_worker_is_live_before_it_is_ready_and_closes_its_connections_at_the_end() -> None:
    with Upstream.answering(OK) as upstream:
        application = application_before(upstream)
        assert (await call(application, "/-/live")).status == 200
        starting = await call(application, "/-/ready")
        assert (starting.status, starting.body) == (503, b'{"status":"starting"}')
        lifespan = Lifespan(application)
        assert await lifespan.go("startup") == {"type": "lifespan.startup.complete"}
        assert (await call(application, "/-/ready")).status == 200
        assert (await call(application, "/b/1")).body == b"hello"
        assert upstream.connections_open == 1
        assert await lifespan.go("shutdown") == {"type": "lifespan.shutdown.complete"}
        await asyncio.to_thread(eventually, lambda: upstream.connections_open == 0)
        assert (await call(application, "/-/ready")).status == 503
        await lifespan.task


async def test_a_start_that_fails_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(worker: Worker) -> None:
        raise OSError("no such luck")

    with Upstream.answering(OK) as upstream:
        application = application_before(upstream, Shared(on_started=fails))
        lifespan = Lifespan(application)
        assert await lifespan.go("startup") == {"type": "lifespan.startup.failed", "message": "no such luck"}
        await lifespan.task
        assert "start.failed" in capsys.readouterr().out
        await application.worker.stop()
