"""What stands in front of the gateway and ends TLS there: each file of docs/tls.md, started as it is written."""

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.live.harness import HOME, Answers, Gateway, Wire, eventually, free_port, request_bytes
from tests.live.proxy.test_tls import authority, signed

PAGE = (HOME / "docs" / "tls.md").read_text(encoding="utf-8")
COMMANDS = {
    "nginx.conf": [
        "nginx",
        "-p",
        ".",
        "-e",
        "errors.log",
        "-g",
        "daemon off; pid nginx.pid; error_log errors.log;",
        "-c",
    ],
    "haproxy.cfg": ["haproxy", "-f"],
    "front.caddyfile": ["caddy", "run", "--adapter", "caddyfile", "--config"],
}
ROUTES = """
from gateway.routing import GatewayWebSocket, from_environment, route


async def echo(socket: GatewayWebSocket) -> None:
    await socket.accept()
    await socket.send(socket.request.scheme)
    async for message in socket:
        await socket.send(message)


urlpatterns = [*from_environment(), route("/echo", echo, websocket=True)]
"""


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("fronts")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        "GATEWAY_HTTPS": "redirect",
        "GATEWAY_HSTS": "365d",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running


@pytest.fixture(params=COMMANDS)
def front(request: pytest.FixtureRequest, gateway: Gateway, tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """The port of a front that is started, and what trusts it."""
    name = request.param
    command = COMMANDS[name]
    program = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip(f"there is no {command[0]} here")
    ca = authority(tmp_path, "ca")
    paper, port = signed(tmp_path, "api", ca, "localhost", "api.example.com"), free_port()
    (tmp_path / "api.pem").write_text(paper.certificate.read_text() + paper.key.read_text())
    (block,) = re.findall(rf"^```\w+ {re.escape(name)}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    text = block.replace("127.0.0.1:8443", f"127.0.0.1:{port}").replace("127.0.0.1:8000", gateway.authority)
    text = text.replace("/etc/ssl/api.crt", str(paper.certificate)).replace("/etc/ssl/api.key", str(paper.key))
    text = text.replace("/etc/ssl/api.pem", str(tmp_path / "api.pem"))
    text = text.replace("https://api.example.com:8443", f"https://localhost:{port}")
    (tmp_path / name).write_text(text)
    with (tmp_path / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [program, *command[1:], str(tmp_path / name)], cwd=tmp_path, stdout=said, stderr=said
        )
        try:

            def listens() -> bool:
                assert process.poll() is None, (tmp_path / "said.txt").read_text()
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    return True
                return False

            eventually(listens)
            yield port, ssl.create_default_context(cafile=tmp_path / "ca.pem")
        finally:
            process.terminate()
            process.wait(10)


async def test_requests_and_sockets_pass_through_it(
    front: tuple[int, ssl.SSLContext], gateway: Gateway, up: Answers
) -> None:
    port, trusting = front
    up.forget()
    with Wire("127.0.0.1", port, tls=trusting) as wire:
        wire.send(request_bytes("GET", "/users/1", host=f"localhost:{port}"))
        answer = wire.read_answer()
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.one("strict-transport-security") == "max-age=31536000"
    (request,) = up.requests
    assert request.one("x-forwarded-proto") == "https"
    assert request.one("x-forwarded-host") == f"localhost:{port}"
    assert gateway.request_line(answer.one("x-request-id"))["client"] == "127.0.0.1"
    trusting.check_hostname = False
    origin = Origin(f"https://localhost:{port}")
    async with connect(f"wss://localhost:{port}/echo", ssl=trusting, origin=origin, compression=None) as client:
        assert await client.recv() == "https"
        await client.send("hello")
        assert await client.recv() == "hello"
