"""What only proxies never changes threads: the application is called as Granian calls it, every hop is counted."""

import asyncio
import concurrent.futures
import os
import threading
from asyncio.base_events import BaseEventLoop
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import loader
from gateway.http.exchange import Exchange
from gateway.http.request import GatewayRequest
from gateway.routing import proxy, route
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from tests.application import Answered, call, lifespan

# -- an upstream on a raw socket, and the application around it -------------------------------------------------------


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers by the path: `/streams` chunked in pieces, `/never` not at all, `/garbage` no HTTP, all else `ok`."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            target = head.split(b" ")[1]
            if b"content-length: 4" in head.lower():
                await reader.readexactly(4)
            if b"/never" in target:
                await reader.read()
            elif b"/garbage" in target:
                writer.write(b"not HTTP at all\r\n\r\n")
                return
            elif b"/streams" in target:
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
                await writer.drain()
                writer.write(b"2\r\ncd\r\n0\r\n\r\n")
            else:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head.startswith(b"HEAD") else b"ok")
                )
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


class Gateway:
    """The application with its lifespan started, and the finished exchanges of its requests."""

    def __init__(self, application: GatewayHandler, finished: list[Exchange]) -> None:
        self._application = application
        self.finished = finished

    async def ask(self, target: str, method: str = "GET", body: bytes = b"") -> Answered:
        return await call(self._application, target, method, body)


async def home(request: GatewayRequest) -> HttpResponse:
    return HttpResponse("home")


async def fails(request: GatewayRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


async def hops(request: GatewayRequest) -> HttpResponse:
    return HttpResponse(await asyncio.to_thread(lambda: "from a thread"))


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    upstream = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    with_ports = {
        "GATEWAY_UPSTREAM_B": f"http://127.0.0.1:{port}",
        "GATEWAY_UPSTREAM_NAMED": f"http://localhost:{port}",
        "GATEWAY_UPSTREAM_GONE": "http://127.0.0.1:1",
    }
    lines = [
        route("/b/**", proxy("b")),
        route("/named/**", proxy("named")),
        route("/gone", proxy("gone")),
        route("/impatient/**", proxy("b:/**", timeout="50ms")),
        route("/small", proxy("b", max_body="1B")),
        route("GET /home", home),
        route("/fails", fails),
        route("/hops", hops),
        path("django/", home),
    ]
    loaded = loader.load(with_ports, lambda name: Path(name).read_text(encoding="utf-8"))
    finished: list[Exchange] = []
    application = GatewayHandler(loaded, Routes(lines, loaded.declared), hooks=[finished.append])
    async with lifespan(application):
        yield Gateway(application, finished)
    upstream.close()
    await upstream.wait_closed()


# -- the count --------------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every way off the loop that is taken from now on."""
    taken: list[str] = []

    def count(owner: type, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            taken.append(f"{owner.__name__}.{name}")
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(concurrent.futures.ThreadPoolExecutor, "submit")
    count(BaseEventLoop, "run_in_executor")
    count(threading.Thread, "start")
    return taken


async def test_the_count_sees_a_hop(gateway: Gateway, counted: list[str]) -> None:
    assert (await gateway.ask("/hops")).body == b"from a thread"
    assert {"ThreadPoolExecutor.submit", "BaseEventLoop.run_in_executor"} <= set(counted)


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "reason"),
    [
        ("GET", "/b/1", b"", 200, None),
        ("HEAD", "/b/1", b"", 200, None),
        ("POST", "/b/1", b"four", 200, None),
        ("GET", "/b/streams", b"", 200, None),
        ("GET", "/-/live", b"", 200, None),
        ("GET", "/-/ready", b"", 200, None),
        ("GET", "/home", b"", 200, None),
        ("GET", "/django/", b"", 200, None),
        ("GET", "/-/nothing", b"", 404, "route_not_found"),
        ("GET", "/nothing", b"", 404, "route_not_found"),
        ("GET", "/b/../x", b"", 400, "path_invalid"),
        ("POST", "/home", b"", 405, "method_not_allowed"),
        ("POST", "/small", b"four", 413, "client_body_too_large"),
        ("GET", "/fails", b"", 500, "view_error"),
        ("GET", "/gone", b"", 502, "connection_refused"),
        ("GET", "/b/garbage", b"", 502, "response_invalid"),
        ("GET", "/impatient/never", b"", 504, "response_timeout"),
    ],
)
async def test_no_request_leaves_the_loop(
    gateway: Gateway, counted: list[str], method: str, target: str, body: bytes, status: int, reason: str | None
) -> None:
    for _ in range(3):
        answered = await gateway.ask(target, method, body)
        assert (answered.status, answered.is_complete) == (status, True)
    assert [exchange.reason for exchange in gateway.finished] == [reason] * 3
    assert counted == []


async def test_many_requests_at_once_do_not_leave_the_loop(gateway: Gateway, counted: list[str]) -> None:
    answers: list[Awaitable[Answered]] = [gateway.ask(f"/b/{number}") for number in range(100)]
    assert {answered.body for answered in await asyncio.gather(*answers)} == {b"ok"}
    assert counted == []


async def test_an_upstream_by_name_leaves_the_loop_only_to_resolve_it(gateway: Gateway, counted: list[str]) -> None:
    await gateway.ask("/named/1")
    once = len(counted)
    for number in range(20):
        assert (await gateway.ask(f"/named/{number}")).status == 200
    assert len(counted) == once


async def test_start_up_leaves_no_thread_behind_but_the_one_that_looks_names_up(gateway: Gateway) -> None:
    await gateway.ask("/b/1")
    assert len([thread.name for thread in threading.enumerate() if thread.name.startswith("asyncio_")]) <= 1
