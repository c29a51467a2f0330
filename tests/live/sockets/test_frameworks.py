"""Services that speak by a framework of others behind the gateway: Django Channels, Socket.IO. And the demo's page."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import socketio  # type: ignore[import-untyped]
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.live.browser import Browser, needs_browser
from tests.live.harness import PATIENCE_S, Gateway, eventually, free_port
from tests.test_docs import Demo

CHANNELS = """
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

settings.configure(SECRET_KEY="of a test", ALLOWED_HOSTS=["*"])


class Echo(AsyncWebsocketConsumer):
    async def connect(self):
        fields = dict(self.scope["headers"])
        await self.accept(subprotocol="v2" if "v2" in self.scope["subprotocols"] else None)
        room = self.scope["url_route"]["kwargs"]["room"]
        await self.send(f"{room} {fields[b'host'].decode()} {fields[b'x-tenant'].decode()}")

    async def receive(self, text_data=None, bytes_data=None):
        if text_data == "go":
            await self.close(code=4001, reason="as you asked")
        else:
            await self.send(text_data=text_data, bytes_data=bytes_data)


application = ProtocolTypeRouter({"websocket": URLRouter([path("rooms/<str:room>/", Echo.as_asgi())])})
"""

SOCKET_IO = """
import socketio

server = socketio.AsyncServer(async_mode="asgi")
application = socketio.ASGIApp(server)


@server.event
async def connect(sid, environ):
    await server.enter_room(sid, "all")


@server.event
async def add(sid, numbers):
    return sum(numbers)


@server.event
async def tell(sid, text):
    await server.emit("told", text, room="all")
"""


def connects(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(folder: Path, module: str, source: str) -> Iterator[str]:
    """The `application` of a module of its own, served by Granian in a process of its own; its URL."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asginl", "--port", str(port), f"{module}:application"]
    with (folder / f"{module}.log").open("wb") as log:
        service = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        assert eventually(lambda: connects(port), PATIENCE_S), (folder / f"{module}.log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(service.pid, signal.SIGKILL)  # it waits for sockets that are open
        service.wait(PATIENCE_S)


def test_channels_works_unchanged(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "chat", CHANNELS) as url,
        Gateway(
            {
                "GATEWAY_UPSTREAM_CHAT": url,
                "GATEWAY_ROUTE_CHAT": "/chat/{tenant}/** -> chat:/rooms/**",
                "GATEWAY_ROUTE_CHAT__HEADER_X_TENANT": "{tenant}",
            },
            cwd=tmp_path,
        ) as gateway,
    ):

        async def talk() -> None:
            protocols = [Subprotocol("v1"), Subprotocol("v2")]
            async with connect(f"ws://{gateway.authority}/chat/acme/lobby/", subprotocols=protocols) as chat:
                assert chat.subprotocol == "v2"
                assert await chat.recv() == f"lobby {url.removeprefix('http://')} acme"
                for message in ("häuser", b"\x00\xff" * 70_000):
                    await chat.send(message)
                    assert await chat.recv() == message
                await chat.send("go")
                with pytest.raises(ConnectionClosed):
                    await chat.recv()
                assert (chat.close_code, chat.close_reason) == (4001, "as you asked")

        asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
        line = gateway.wait_for_log(lambda line: line.get("close_code") == 4001)
        assert (line["status"], line["closed_by"], line["messages_in"]) == (101, "upstream", 3)


def passed(status: int, line: dict[str, Any]) -> bool:
    return (line.get("path"), line.get("status")) == ("/socket.io/", status)


def test_socket_io_polls_and_then_upgrades(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "events", SOCKET_IO) as url,
        Gateway(
            {"GATEWAY_UPSTREAM_EVENTS": url, "GATEWAY_ROUTE_EVENTS": "/socket.io/** -> events"}, cwd=tmp_path
        ) as gateway,
    ):

        async def talk() -> None:
            async with socketio.AsyncSimpleClient() as one, socketio.AsyncSimpleClient() as other:
                for client in (one, other):
                    await client.connect(f"http://{gateway.authority}")
                assert one.transport == "websocket"
                assert await one.call("add", [1, 2, 39]) == 42
                await one.emit("tell", "hello")
                assert [await client.receive(PATIENCE_S) for client in (one, other)] == [["told", "hello"]] * 2

        asyncio.run(asyncio.wait_for(talk(), PATIENCE_S))
        for status in (200, 101):
            gateway.wait_for_log(partial(passed, status))


@needs_browser
def test_the_demos_live_page_hears_of_an_order(tmp_path: Path) -> None:
    port = free_port()
    running = Demo(port)
    try:
        assert any(f"http://127.0.0.1:{port}/live " in line for line in running.output)
        with Browser(tmp_path) as browser:
            browser.open(f"http://127.0.0.1:{port}/live")

            def rows() -> Any:
                return browser.run(
                    "return Array.from(orders.rows, (row) => Array.from(row.cells, (cell) => cell.innerText))"
                )

            assert eventually(lambda: len(rows()) == 1)
            assert browser.run("return state.innerText") == "open"
            browser.run("form.elements.quantity.value = 7; form.requestSubmit()")
            assert eventually(lambda: len(rows()) == 2)
            assert rows()[0][1:] == ["2", "501", "7"]
            browser.run("form.elements.product_id.value = 1; form.requestSubmit()")
            assert eventually(lambda: browser.run("return state.innerText").startswith("no product 1"))
        running.stop()
    finally:
        running.kill()
