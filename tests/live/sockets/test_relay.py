"""WebSockets through the gateway: both sides byte by byte, and clients and servers by others."""

import asyncio
import base64
import hashlib
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.live.harness import OK, PATIENCE_S, Answers, Gateway, Request, Upstream, Wire, eventually

OPEN: list[Wire | socket.socket] = []  # by the test that runs
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(kind: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = None) -> bytes:
    """A frame as it stands on the wire; a client's has a mask."""
    size, bit = len(payload), 0x80 if mask is not None else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | kind])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


def accept_of(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


class Raw:
    """A side that reads and writes frames."""

    def __init__(self, wire: Wire | socket.socket) -> None:
        self._socket = wire.socket if isinstance(wire, Wire) else wire
        self._buffer = bytearray(wire.buffer) if isinstance(wire, Wire) else bytearray()
        self._socket.settimeout(PATIENCE_S)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._socket.recv(65_536)
            if not data:
                raise EOFError
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def read(self) -> tuple[int, bytes]:
        """The next frame's kind and payload, unmasked. Raises EOFError at the end."""
        first, second = self._take(2)
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
        mask = self._take(4) if second & 0x80 else bytes(4)
        return first & 0xF, bytes(byte ^ mask[n % 4] for n, byte in enumerate(self._take(size)))

    def close_code(self) -> int | None:
        """The code of the next close frame; None at an end without one."""
        try:
            while True:
                kind, payload = self.read()
                if kind == CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
        except (EOFError, ConnectionError):
            return None


KEY = base64.b64encode(bytes(16)).decode()
HANDSHAKE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {KEY}")


@pytest.fixture(autouse=True)
def closes_all() -> Iterator[None]:
    """What a test opened is closed after it."""
    yield
    while OPEN:
        OPEN.pop().close()


def opened(gateway: Gateway, path: str, *fields: str) -> Raw:
    """A client's socket, its handshake done."""
    wire = gateway.connect()
    OPEN.append(wire)
    lines = [f"GET {path} HTTP/1.1", "Host: gateway.test", *HANDSHAKE, *fields]
    wire.send("\r\n".join([*lines, "", ""]).encode())
    head = wire.read_until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return Raw(wire)


class Switches(Upstream):
    """Answers handshakes with 101 and hands the connection to the test: `sides[i]`."""

    def __init__(self) -> None:
        self.sides: list[Raw] = []
        self.extra: tuple[str, ...] = ()
        self.accept: Callable[[str], str] = accept_of
        self.behind = b""
        super().__init__(reads_bodies=False)

    def on_head(self, request: Request) -> None:
        accept = self.accept(request.one("sec-websocket-key"))
        lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", *self.extra]
        request.send("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode() + self.behind)
        side = request.connection.socket.dup()  # its own is closed when the gateway closes, read to its end or not
        OPEN.append(side)
        self.sides.append(Raw(side))

    def side(self, number: int = -1) -> Raw:
        return eventually(lambda: self.sides)[number]


@pytest.fixture(scope="module")
def switches() -> Iterator[Switches]:
    with Switches() as upstream:
        yield upstream


@pytest.fixture
def ws(switches: Switches) -> Switches:
    """The same, as new."""
    switches.sides.clear()
    switches.forget()
    switches.extra, switches.accept, switches.behind = (), accept_of, b""
    return switches


def _chat(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("chat") if "chat" in offered else None


class Echo:
    """A server by others that says what it hears; `stop` ends it."""

    def __init__(self) -> None:
        self.closed: list[tuple[int | None, str | None]] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    async def _serve(self) -> None:
        async with serve(self._echo, "127.0.0.1", 0, max_size=None, select_subprotocol=_chat) as server:
            self.port = server.sockets[0].getsockname()[1]
            self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
            self._ready.set()
            await self._over.wait()

    async def _echo(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                if message == "close":
                    await connection.close(4002, "done")
                elif message == "die":
                    connection.transport.abort()
                else:
                    await connection.send(message)
        except ConnectionClosed:
            pass
        self.closed.append((connection.close_code, connection.close_reason))

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.stop()


ROUTES = """
from gateway.routing import GatewayWebSocket, from_environment, proxy, route


async def room(socket: GatewayWebSocket, name: str) -> None:
    if name == "closed":
        await socket.close()
        return
    if name == "broken":
        raise RuntimeError("no room")
    await socket.accept("chat" if "chat" in socket.subprotocols else None)
    if name == "users":
        await socket.send((await socket.fetch("users:/one")).body.decode())
    async for message in socket:
        if message == "fail":
            raise RuntimeError("failed")
        if message == "bye":
            await socket.close(4001, "bye")
            return
        await socket.send(message)


def guard(view):
    async def guarded(request, **params):
        if request.headers.get("x-refuse"):
            from django.core.exceptions import PermissionDenied

            raise PermissionDenied
        return await view(request, **params)

    return guarded


urlpatterns = [
    *from_environment(),
    route("/rooms/{name}", room, websocket=True),
    route("/guarded/**", proxy("echo"), wrap=guard),
]
"""


@pytest.fixture(scope="module")
def environment(switches: Switches, echo: Echo, up: Answers) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_RAW": switches.url,
        "GATEWAY_ROUTE_RAW": "/raw/** -> raw",
        "GATEWAY_ROUTE_RAW__WEBSOCKET_MAX_MESSAGE": "1000B",
        "GATEWAY_UPSTREAM_ECHO": f"http://127.0.0.1:{echo.port}",
        "GATEWAY_ROUTE_ECHO": "/echo/** -> echo",
        "GATEWAY_ROUTE_CACHED": "/cached/** -> echo",
        "GATEWAY_ROUTE_CACHED__CACHE": "60s",
        "GATEWAY_ROUTE_LIMITED": "/limited/** -> echo",
        "GATEWAY_ROUTE_LIMITED__RATE_LIMIT": "2/1h by client",
        "GATEWAY_ROUTE_LARGE": "/large/** -> echo",
        "GATEWAY_ROUTE_LARGE__WEBSOCKET_MAX_MESSAGE": "64MiB",
        "GATEWAY_ROUTE_IDLE": "/idle/** -> raw",
        "GATEWAY_ROUTE_IDLE__WEBSOCKET_IDLE": "300ms",
        "GATEWAY_ROUTE_DEAF": "/deaf/** -> raw",
        "GATEWAY_ROUTE_TOTAL": "/total/** -> raw",
        "GATEWAY_ROUTE_TOTAL__TOTAL_TIMEOUT": "300ms",
        "GATEWAY_ROUTE_OFF": "/off/** -> echo",
        "GATEWAY_ROUTE_OFF__WEBSOCKET": "off",
        "GATEWAY_ROUTE_PAGES": "/pages/** -> echo",
        "GATEWAY_ROUTE_PAGES__WEBSOCKET_ORIGINS": "https://app.example.com",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
        "GATEWAY_UPSTREAM_NOBODY": "http://127.0.0.1:9",
        "GATEWAY_ROUTE_NOBODY": "/nobody/** -> nobody",
        "GATEWAY_ROUTE_PARTS": "GET /parts",
        "GATEWAY_ROUTE_PARTS__PART_ONE": "users:/one",
        "GATEWAY_MAX_WEBSOCKETS": "60",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sockets")
    (made / "routes.py").write_text(ROUTES, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def gateway(environment: dict[str, str], folder: Path) -> Iterator[Gateway]:
    with Gateway(environment, cwd=folder) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(environment: dict[str, str], folder: Path) -> Iterator[Gateway]:
    """The same, which gives up clients that read nothing for a second: too short where a client has to be slow."""
    with Gateway(environment | {"GATEWAY_CLIENT_IDLE": "1s"}, cwd=folder) as running:
        yield running


def to(gateway: Gateway, path: str, **options: Any) -> connect:
    return connect(
        f"ws://{gateway.authority}{path}", compression=None, max_size=None, open_timeout=PATIENCE_S, **options
    )


async def closing_of(client: ClientConnection) -> tuple[int, str]:
    """How a socket was closed, after what came before."""
    with suppress(ConnectionClosed):
        while True:
            await asyncio.wait_for(client.recv(), PATIENCE_S)
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""


def line_of(gateway: Gateway, path: str) -> dict[str, Any]:
    """The newest line of a socket at this path."""

    def found() -> dict[str, Any] | None:
        lines = [line for line in gateway.log if line["event"] == "request" and line["path"] == path]
        return lines[-1] if lines else None

    line = eventually(found)
    assert line is not None
    return line


# -- messages ---------------------------------------------------------------------------------------------------------


async def test_messages_pass_both_ways_whole_and_in_order(gateway: Gateway) -> None:
    async with to(gateway, "/large/order") as client:
        said: list[str | bytes] = ["", "a", "hé 🙂", b"", b"\x00\xff", "x" * 70_000, os.urandom(3_000_000)]
        for message in said:
            await client.send(message)
        assert [await client.recv() for _ in said] == said
    line = line_of(gateway, "/large/order")
    size = sum(len(one.encode()) if isinstance(one, str) else len(one) for one in said)
    assert (line["status"], line["close_code"], line["closed_by"]) == (101, 1000, "client")
    assert (line["messages_in"], line["messages_out"]) == (len(said), len(said))
    assert (line["bytes_in"], line["bytes_out"], line["reason"]) == (size, size, None)


async def test_fragments_are_joined_both_ways(gateway: Gateway, ws: Switches) -> None:
    client = opened(gateway, "/raw/x")
    side = ws.side()
    client.send(frame(TEXT, b"one ", fin=False, mask=b"abcd") + frame(PING, b"p", mask=b"abcd"))
    client.send(frame(0, b"two", mask=b"abcd"))
    assert side.read() == (TEXT, b"one two")
    side.send(frame(BINARY, b"a", fin=False) + frame(PING, b"?") + frame(0, b"b"))
    assert side.read() == (PONG, b"?")
    kinds = {client.read(), client.read()}
    assert kinds == {(PONG, b"p"), (BINARY, b"ab")}


async def test_what_came_behind_the_101_is_not_lost(gateway: Gateway, ws: Switches) -> None:
    ws.behind = frame(TEXT, b"at once") + frame(TEXT, b"and again")
    client = opened(gateway, "/raw/x")
    assert [client.read(), client.read()] == [(TEXT, b"at once"), (TEXT, b"and again")]


async def test_a_slow_reader_slows_the_other_side_and_memory_stays(gateway: Gateway, ws: Switches) -> None:
    client = opened(gateway, "/deaf/slow")
    side = ws.side()
    side._socket.settimeout(0.3)
    sent, piece = 0, frame(BINARY, bytes(100_000))
    try:
        while sent < 100_000_000:
            side.send(piece)
            sent += len(piece)
    except TimeoutError:
        pass
    assert sent < 30_000_000, "somebody took all of it"
    assert client.read()[0] == BINARY


# -- the handshake ----------------------------------------------------------------------------------------------------


def test_the_handshake_goes_up_as_a_get_of_ours(gateway: Gateway, ws: Switches) -> None:
    opened(gateway, "/raw/x?y=%2F", "Cookie: a=1", "Sec-WebSocket-Extensions: permessage-deflate", "X-Other: z")
    request = ws.wait_for_request()
    assert request.start == "GET /raw/x?y=%2F HTTP/1.1"
    assert request.one("sec-websocket-key") != KEY
    assert request.one("x-forwarded-proto") == "http"
    assert (request.one("upgrade"), request.one("connection")) == ("websocket", "Upgrade")
    assert (request.one("cookie"), request.one("x-other")) == ("a=1", "z")
    assert not request.has("sec-websocket-extensions")


async def test_subprotocols_pass(gateway: Gateway) -> None:
    async with to(gateway, "/echo/x", subprotocols=["other", "chat"]) as client:
        assert client.subprotocol == "chat"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Connection", "close"),
        ("Upgrade", "h2c"),
        ("Sec-WebSocket-Version", "12"),
        ("Sec-WebSocket-Version", ""),
        ("Sec-WebSocket-Key", ""),
        ("Host", "a b"),
        ("Content-Length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Origin", "https://evil.test"),
        ("Origin", "null"),
        ("Sec-WebSocket-Protocol", "a b"),
        ("Sec-WebSocket-Protocol", "a, a"),
        ("Content_Length", "5"),
    ],
)
def test_a_handshake_with_a_wrong_field_opens_nothing(gateway: Gateway, ws: Switches, field: str, value: str) -> None:
    fields = dict(line.split(": ", 1) for line in HANDSHAKE) | {"Host": "gateway.test"} | {field: value}
    lines = [f"{name}: {text}" for name, text in fields.items() if text]
    with gateway.connect() as wire:
        wire.send("\r\n".join(["GET /raw/wrong HTTP/1.1", *lines, "", ""]).encode())
        head = wire.read_until(b"\r\n\r\n")
    assert not head.startswith(b"HTTP/1.1 101")
    assert not any(request.has("upgrade") for request in ws.requests)  # as a plain GET it may have gone up
    opened(gateway, "/raw/x")


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/nowhere", 404, "route_not_found"),
        ("/off/x", 501, "websocket_unsupported"),
        ("/parts", 501, "websocket_unsupported"),
        ("/-/status", 501, "websocket_unsupported"),
        ("/nobody/x", 502, "connection_refused"),
        ("/echo/../x", 400, "path_invalid"),
    ],
)
async def test_what_is_refused_has_its_word(gateway: Gateway, path: str, status: int, reason: str) -> None:
    with gateway.connect() as wire:
        lines = [f"GET {path} HTTP/1.1", "Host: gateway.test", *HANDSHAKE, "", ""]
        wire.send("\r\n".join(lines).encode())
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (status, reason)
    assert gateway.request_line(answer.one("x-request-id"))["reason"] == reason


async def test_an_answer_that_is_none_goes_down_as_it_is(gateway: Gateway, up: Answers) -> None:
    up.answer = (
        b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"X-Twice: 1\r\nX-Twice: 2\r\nContent-Length: 5\r\n\r\nhello"
    )
    try:
        with pytest.raises(InvalidStatus) as refused:
            await to(gateway, "/users/x")
    finally:
        up.answer = OK
    response = refused.value.response
    assert (response.status_code, response.body) == (401, b"hello")
    assert response.headers["www-authenticate"] == "Basic"
    assert response.headers["x-twice"] == "1, 2"
    async with to(gateway, "/echo/x") as client:  # the worker lives
        await client.send("still here")
        assert await client.recv() == "still here"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"accept": lambda key: "bm8="}, "Sec-WebSocket-Accept"),
        ({"extra": ("Sec-WebSocket-Protocol: nobody",)}, "subprotocol"),
        ({"extra": ("Sec-WebSocket-Extensions: permessage-deflate",)}, "extension"),
    ],
)
def test_an_upstream_that_answers_wrongly_is_502(
    gateway: Gateway, ws: Switches, change: dict[str, Any], why: str
) -> None:
    for name, value in change.items():
        setattr(ws, name, value)
    with gateway.connect() as wire:
        wire.send("\r\n".join(["GET /raw/x HTTP/1.1", "Host: gateway.test", *HANDSHAKE, "", ""]).encode())
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (502, "response_invalid")
    assert why in gateway.request_line(answer.one("x-request-id"))["cause"]


def test_a_101_that_nobody_asked_for_is_502(gateway: Gateway, ws: Switches) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /raw/x HTTP/1.1\r\nHost: gateway.test\r\nSec-WebSocket-Key: x\r\n\r\n")
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (502, "response_invalid")


async def test_origins(gateway: Gateway) -> None:
    async with to(gateway, "/echo/x", origin=f"http://{gateway.authority}"), to(gateway, "/echo/x"):
        pass
    async with to(gateway, "/pages/x", origin="https://app.example.com"):
        pass
    for path, origin in (("/echo/x", "https://app.example.com"), ("/pages/x", f"http://{gateway.authority}")):
        with pytest.raises(InvalidStatus) as refused:
            await to(gateway, path, origin=origin)
        assert refused.value.response.status_code == 403


async def test_limits_and_wrappers_stand_before_it_and_no_cache(gateway: Gateway) -> None:
    for _ in range(2):
        async with to(gateway, "/limited/x"):
            pass
    with pytest.raises(InvalidStatus) as refused:
        await to(gateway, "/limited/x")
    assert refused.value.response.status_code == 429
    with pytest.raises(InvalidStatus) as denied:
        await to(gateway, "/guarded/x", additional_headers={"X-Refuse": "1"})
    assert denied.value.response.status_code == 403
    for path in ("/guarded/x", "/cached/x", "/cached/x"):
        async with to(gateway, path) as client:
            await client.send("a")
            assert await client.recv() == "a"


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_a_clients_close_goes_up_and_the_upstreams_down(gateway: Gateway, echo: Echo) -> None:
    echo.closed.clear()
    client = await to(gateway, "/echo/close")
    await client.close(4000, "gone")
    assert eventually(lambda: echo.closed)[0][0] == 4000
    async with to(gateway, "/echo/close") as client:
        await client.send("close")
        assert await closing_of(client) == (4002, "done")
    assert eventually(lambda: line_of(gateway, "/echo/close")["close_code"] == 4002)
    assert line_of(gateway, "/echo/close")["closed_by"] == "upstream"


async def test_an_upstream_that_goes_without_a_word_is_1011(gateway: Gateway) -> None:
    async with to(gateway, "/echo/die") as client:
        await client.send("die")
        assert (await closing_of(client))[0] == 1011
    line = line_of(gateway, "/echo/die")
    assert (line["close_code"], line["closed_by"], line["reason"]) == (1011, "upstream", "response_incomplete")


async def test_a_client_that_goes_without_a_word_closes_its_upstream(gateway: Gateway, ws: Switches) -> None:
    client = opened(gateway, "/raw/gone")
    side = ws.side()
    client._socket.close()
    assert side.close_code() in {1000, 1001}
    assert line_of(gateway, "/raw/gone")["closed_by"] == "client"


@pytest.mark.parametrize("code", [1005, 1000, 1001, 3000, 4999])
async def test_codes_of_an_upstream(gateway: Gateway, ws: Switches, code: int) -> None:
    client = opened(gateway, "/raw/code")
    side = ws.side()
    side.send(frame(CLOSE, b"" if code == 1005 else struct.pack(">H", code)))
    assert side.close_code() == (1005 if code == 1005 else code)
    assert client.close_code() == (1000 if code == 1005 else code)


@pytest.mark.parametrize(
    "raw",
    [
        frame(TEXT, b"\xff\xfe"),
        frame(TEXT, b"x", rsv=4),
        frame(TEXT, b"x", rsv=1),
        frame(3, b"x"),
        frame(0, b"x"),
        frame(PING, bytes(200)),
        frame(PING, b"x", fin=False),
        frame(CLOSE, b"x"),
        frame(CLOSE, struct.pack(">H", 1006)),
        frame(CLOSE, struct.pack(">H", 1000) + b"\xff"),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    ],
    ids=["utf-8", "rsv1", "rsv3", "opcode", "continuation", "ping", "ping-cut", "close", "1006", "reason", "nested"],
)
async def test_what_is_no_frame_of_an_upstream_closes_both(gateway: Gateway, ws: Switches, raw: bytes) -> None:
    client = opened(gateway, "/raw/bad")
    side = ws.side()
    side.send(raw)
    assert side.close_code() in {1002, 1007}
    assert client.close_code() == 1011
    assert line_of(gateway, "/raw/bad")["reason"] == "response_invalid"


@pytest.mark.parametrize(
    "raw",
    [
        frame(TEXT, b"hello"),
        frame(TEXT, b"\xff\xfe", mask=b"abcd"),
        frame(TEXT, b"x", rsv=4, mask=b"abcd"),
        frame(3, b"x", mask=b"abcd"),
        frame(0, b"x", mask=b"abcd"),
        frame(PING, bytes(200), mask=b"abcd"),
        frame(CLOSE, b"x", mask=b"abcd"),
        frame(CLOSE, struct.pack(">H", 1005), mask=b"abcd"),
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + b"abcd",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["unmasked", "utf-8", "rsv", "opcode", "continuation", "ping", "close", "1005", "huge", "http"],
)
async def test_what_is_no_frame_of_a_client_closes_both(gateway: Gateway, ws: Switches, raw: bytes) -> None:
    client = opened(gateway, "/raw/badly")
    side = ws.side()
    client.send(raw)
    side.close_code()
    client.close_code()
    assert opened(gateway, "/raw/x") is not None  # the worker lives


async def test_a_message_that_is_too_large_closes_both_with_1009(gateway: Gateway, ws: Switches) -> None:
    client = opened(gateway, "/raw/large")
    side = ws.side()
    client.send(frame(TEXT, b"x" * 1000, mask=b"abcd"))
    assert side.read() == (TEXT, b"x" * 1000)
    client.send(frame(TEXT, "é".encode() * 501, mask=b"abcd"))
    assert (side.close_code(), client.close_code()) == (1009, 1009)
    ws.sides.clear()
    client = opened(gateway, "/raw/large")
    side = ws.side()
    side.send(frame(BINARY, bytes(1000)) + frame(TEXT, b"x" * 999, fin=False) + frame(0, b"x"))
    assert client.read() == (BINARY, bytes(1000))
    assert client.read() == (TEXT, b"x" * 1000)
    side.send(frame(BINARY, bytes(1001)))
    assert (side.close_code(), client.close_code()) == (1009, 1009)
    assert line_of(gateway, "/raw/large")["closed_by"] == "gateway"


@pytest.mark.parametrize("path", ["/idle/x", "/total/x"])
async def test_time_limits_close_with_1001(gateway: Gateway, ws: Switches, path: str) -> None:
    client = opened(gateway, path)
    side = ws.side()
    assert (side.close_code(), client.close_code()) == (1001, 1001)
    assert (line_of(gateway, path)["close_code"], line_of(gateway, path)["closed_by"]) == (1001, "gateway")


async def test_a_client_that_never_reads_is_given_up(impatient: Gateway, ws: Switches) -> None:
    client = opened(impatient, "/raw/deaf")
    side = ws.side()
    side._socket.settimeout(PATIENCE_S)
    piece = frame(BINARY, bytes(1000)) * 10_000
    with pytest.raises((TimeoutError, OSError)):  # noqa: PT012 - while it waits for an answer to its close, it reads on
        while True:
            side.send(piece)
    assert line_of(impatient, "/raw/deaf")["status"] == 101
    client._socket.close()


# -- views of one's own -----------------------------------------------------------------------------------------------


async def test_a_view_takes_sockets(gateway: Gateway) -> None:
    async with to(gateway, "/rooms/a", subprotocols=["chat"]) as client:
        assert client.subprotocol == "chat"
        for message in ("hi", b"\x00"):
            await client.send(message)
            assert await client.recv() == message
        await client.send("bye")
        assert await closing_of(client) == (4001, "bye")
    assert line_of(gateway, "/rooms/a")["closed_by"] == "gateway"


async def test_a_client_that_never_reads_what_it_sends_is_given_up(impatient: Gateway) -> None:
    client = opened(impatient, "/rooms/deaf")
    client._socket.settimeout(PATIENCE_S)
    piece = frame(BINARY, bytes(100_000), mask=b"abcd") * 500
    with pytest.raises((TimeoutError, OSError)):
        client.send(piece)
    assert line_of(impatient, "/rooms/deaf")["reason"] == "client_stalled"


async def test_it_may_call_services(gateway: Gateway) -> None:
    async with to(gateway, "/rooms/users") as client:
        assert await client.recv() == "hello"


async def test_what_it_refuses_and_what_it_raises(gateway: Gateway) -> None:
    for name, status in (("closed", 403), ("broken", 500)):
        with pytest.raises(InvalidStatus) as refused:
            await to(gateway, f"/rooms/{name}")
        assert refused.value.response.status_code == status
    async with to(gateway, "/rooms/fails") as client:
        await client.send("fail")
        assert (await closing_of(client))[0] == 1011
    assert line_of(gateway, "/rooms/fails")["reason"] == "view_error"


def test_asked_without_an_upgrade_it_says_so(gateway: Gateway) -> None:
    answer = gateway.get("/rooms/a")
    assert (answer.status, answer.one("upgrade")) == (426, "websocket")


# -- many -------------------------------------------------------------------------------------------------------------


async def test_no_more_are_open_than_may_be(gateway: Gateway) -> None:
    clients = [await to(gateway, "/echo/many") for _ in range(60)]
    try:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await to(gateway, "/echo/many")
            response = refused.value.response
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
            assert b"websockets_full" in response.body
    finally:
        for client in clients:
            await client.close()
    eventually(lambda: line_of(gateway, "/echo/many")["close_code"] == 1000)
    async with to(gateway, "/echo/x"):
        pass


async def test_a_drain_closes_all_with_1001_and_waits_for_them(
    environment: dict[str, str], echo: Echo, tmp_path: Path
) -> None:
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    count = 100
    many = {**environment, "GATEWAY_MAX_WEBSOCKETS": "1000", "GATEWAY_DRAIN": "8s"}
    with Gateway(many, cwd=tmp_path) as running:
        clients = [await to(running, "/rooms/a" if number % 10 == 0 else "/echo/d") for number in range(count)]
        echo.closed.clear()
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*(closing_of(client) for client in clients))
        assert {code for code, _ in codes} == {1001}
        assert await asyncio.to_thread(running.wait) == 0
        assert time.monotonic() - began < 8
        assert len([line for line in running.log if line.get("close_code") == 1001]) == count
        assert not [line for line in running.log if line["event"] == "drain.cut"]
    assert {code for code, _ in echo.closed} == {1001}
