"""Who asks for a WebSocket: the handshake passes the same ways as a GET, and a token ends the socket that it opened."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from gateway.auth.keys import line_of
from tests.live.harness import PATIENCE_S, Gateway

KEY = "a key that never expires"
APP = "https://app.example.com"
SECRET = "a secret of thirty-two bytes, or more"
ROUTES = """
from gateway.routing import GatewayWebSocket, route


async def view(socket: GatewayWebSocket) -> None:
    await socket.accept()
    identity = socket.request.identity
    await socket.send("nobody" if identity is None else identity.name)
    async for message in socket:
        await socket.send(message)


urlpatterns = [
    route("/members", view, websocket=True, auth="ours"),
    route("/staff", view, websocket=True, auth="ours", roles="staff"),
    route("/both", view, websocket=True, auth="partner+ours"),
    route("/open", view, websocket=True),
]
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder: Path = tmp_path_factory.mktemp("sockets")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_AUTH_OURS": "jwt https://issuer.example",
        "GATEWAY_AUTH_OURS__SECRET": SECRET,
        "GATEWAY_AUTH_OURS__ALGORITHMS": "HS256",
        "GATEWAY_AUTH_OURS__AUDIENCE": "chat",
        "GATEWAY_AUTH_OURS__FROM": "header:authorization cookie:session",
        "GATEWAY_WEBSOCKET_ORIGINS": APP,
        "GATEWAY_AUTH_PARTNER": "keys",
        "GATEWAY_AUTH_PARTNER__KEYS": line_of("acme", KEY),
    }
    with Gateway(environment, cwd=folder) as running:
        yield running


def token(left_s: float) -> str:
    claims = {"sub": "ann", "exp": time.time() + left_s, "iss": "https://issuer.example", "aud": "chat"}
    return jwt.encode(claims, SECRET, "HS256")


def to(gateway: Gateway, path: str, bearer: str | None = None) -> connect:
    fields = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    return connect(f"ws://{gateway.authority}{path}", additional_headers=fields, open_timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("path", "bearer", "status", "word"),
    [
        ("/members", None, 401, "auth_missing"),
        ("/members", "nonsense", 401, "auth_invalid"),
        ("/members", token(-3600), 401, "auth_expired"),
        ("/staff", token(3600), 403, "auth_forbidden"),
    ],
    ids=["none", "no-token", "expired", "without-the-role"],
)
async def test_a_handshake_is_refused_as_a_get_would_be(
    gateway: Gateway, path: str, bearer: str | None, status: int, word: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with to(gateway, path, bearer):
            pass
    response = refused.value.response
    assert response.status_code == status
    assert word in (response.body or b"").decode()
    assert "www-authenticate" in response.headers


async def test_who_asks_is_known_to_the_view(gateway: Gateway) -> None:
    async with to(gateway, "/members", token(3600)) as socket:
        assert await socket.recv() == "ann"
        await socket.send("hello")
        assert await socket.recv() == "hello"
    async with to(gateway, "/open") as socket:
        assert await socket.recv() == "nobody"


async def test_a_page_that_is_named_for_sockets_opens_one_by_a_cookie(gateway: Gateway) -> None:
    url, cookie = f"ws://{gateway.authority}/members", {"Cookie": f"session={token(3600)}"}
    async with connect(url, origin=Origin(APP), additional_headers=cookie, open_timeout=PATIENCE_S) as socket:
        assert await socket.recv() == "ann"
    with pytest.raises(InvalidStatus):
        await connect(url, origin=Origin("https://evil.example"), additional_headers=cookie, open_timeout=PATIENCE_S)


async def closed(socket: ClientConnection) -> int | None:
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


async def test_a_socket_is_closed_when_its_token_runs_out(gateway: Gateway) -> None:
    async with to(gateway, "/members", token(2)) as short, to(gateway, "/members", token(3600)) as long:
        assert await asyncio.wait_for(closed(short), PATIENCE_S) == 1008
        await long.recv()
        await long.send("still here")
        assert await long.recv() == "still here"
    line = gateway.wait_for_log(lambda line: line.get("close_code") == 1008)
    assert (line["closed_by"], line["path"], line["identity"]) == ("gateway", "/members", "ann")


async def test_it_is_closed_too_when_the_token_is_the_second_of_two_credentials(gateway: Gateway) -> None:
    fields = {"Authorization": f"Bearer {token(2)}", "X-Api-Key": KEY}
    url = f"ws://{gateway.authority}/both"
    async with connect(url, additional_headers=fields, open_timeout=PATIENCE_S) as socket:
        assert await socket.recv() == "acme"
        assert await asyncio.wait_for(closed(socket), PATIENCE_S) == 1008
