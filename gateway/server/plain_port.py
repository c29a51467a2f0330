"""GATEWAY_TLS_REDIRECT: a plain port beside the one with TLS, for clients that still use http, and for probes.

It answers one request per connection, from its head alone, and passes no body on: no request of this port ever goes to
an upstream. Its answers come from the same handler as all others, so it has the same checks and log line.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, cast

from gateway.config.records import Settings
from gateway.errors import GatewayError, Reason
from gateway.http.headers import OWS, Pair, is_token
from gateway.http.request import GatewayRequest, Message, Scope, Send
from gateway.http.response import GatewayResponse
from gateway.server.https import https_url
from gateway.server.ops import FOR_PROBES, PREFIX

Application = Callable[[Scope, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

EXTENSION: Final = "portway.plain"  # in the scope of requests to this port
_MOST_CONNECTIONS: Final = 1000
_LINGER_S: Final = 1.0
_BAD: Final = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_PHRASES: Final = {200: "OK", 308: "Permanent Redirect", 503: "Service Unavailable"}


class PlainPort:
    """The listener of one worker. `open` it in the loop that serves."""

    def __init__(self, application: Application, head_s: float, max_head_bytes: int) -> None:
        self.application = application
        self.head_s = head_s
        self.max_head_bytes = max_head_bytes
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def open(self, address: tuple[str, int]) -> None:
        """Listen, beside the other workers. Raises OSError."""
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._server = await loop.create_server(
            lambda: _Connection(self), *address, family=family, reuse_port=True, backlog=128
        )

    def close(self) -> None:
        """Stop listening; requests under way get their answers."""
        if self._server is not None:
            self._server.close()


class _Connection(asyncio.Protocol):
    """One client: a head, its answer, the end."""

    def __init__(self, port: PlainPort) -> None:
        self._port = port
        self._head = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._status = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's transport is not of this class
        if len(self._port.connections) >= _MOST_CONNECTIONS:
            transport.abort()
            return
        self._port.connections.add(self)
        self._gone = asyncio.get_running_loop().create_future()
        self._timer = asyncio.get_running_loop().call_later(self._port.head_s, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._transport.is_closing():  # a body, or a further request, is not read
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if max(end, len(self._head) if end < 0 else 0) > self._port.max_head_bytes:
            self._refuse(b"431 Request Header Fields Too Large")
        elif end >= 0:
            scope = scope_of(bytes(self._head[:end]))
            if scope is None:
                self._refuse(b"400 Bad Request")
                return
            names = ("peername", "sockname")
            scope["client"], scope["server"] = (self._transport.get_extra_info(name)[:2] for name in names)
            self._is_head = scope["method"] == "HEAD"
            self._task = asyncio.get_running_loop().create_task(self._answer(scope))

    def connection_lost(self, exc: Exception | None) -> None:
        self._port.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def _answer(self, scope: Scope) -> None:
        with suppress(ConnectionError):
            await self._port.application(scope, self._receive, self._send)
        self._linger()

    async def _receive(self) -> Message:
        if self._gone is not None:
            await asyncio.shield(self._gone)
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}".encode("ascii")]
            lines += [name + b": " + value for name, value in message["headers"] if name not in _OWN]
            self._status = b"\r\n".join([*lines, b"connection: close", b""])
        elif not self._transport.is_closing():
            body: bytes = message.get("body", b"")
            if self._status:
                self._transport.write(self._status + b"content-length: %d\r\n\r\n" % len(body))
                self._status = b""
            if not self._is_head:
                self._transport.write(body)

    def _refuse(self, status: bytes) -> None:
        self._transport.write(_BAD % status)
        self._linger()

    def _linger(self) -> None:
        """Close, after reading what the client still sends: a reset could destroy the answer."""
        if self._transport.is_closing():
            return
        with suppress(OSError):
            self._transport.write_eof()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)


_OWN: Final = frozenset({b"connection", b"content-length", b"transfer-encoding"})


def scope_of(head: bytes) -> Scope | None:
    """The ASGI scope of a request's head, given without the empty line at its end; None for anything else.

    Stricter than RFC 9112 requires: one space between the parts of the first line, no folded lines, no bare CR.
    """
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"} or not is_token(parts[0]):
        return None
    pairs = [_pair(line) for line in lines]
    if any(pair is None for pair in pairs):
        return None
    target = parts[1]
    if target[:7].lower() == b"http://":  # absolute-form (RFC 9112, section 3.2.2)
        slash = target.find(b"/", 7)
        target = target[slash:] if slash > 0 else b"/"
    path, _, query = target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1" if parts[2] == b"HTTP/1.1" else "1",
        "method": parts[0].decode("ascii"),
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": pairs,
        "extensions": {EXTENSION: {}},
    }


def _pair(line: bytes) -> Pair | None:
    name, colon, value = line.partition(b":")
    value = value.strip(OWS)
    if not colon or not is_token(name) or any(byte in value for byte in b"\r\n\0"):
        return None
    return name.lower(), value


def to_https(request: GatewayRequest, settings: Settings) -> GatewayResponse | None:
    """The redirect of a request by http: to the plain port, or to a trusted peer, as that states; else None.

    Raises HOST_INVALID where HTTP/1.0 names no host.
    """
    path, is_plain = request.raw_path, EXTENSION in (request.scope.get("extensions") or ())
    if is_plain:
        host, port = request.host_field, settings.bind[1]
        stays = path in FOR_PROBES or path == "*"
    else:
        host, port = request.forwarded_host or request.host_field, 443
        stays = settings.https == "off" or request.forwarded_scheme != "http" or path.startswith(PREFIX)
    if stays:
        return None
    if not host:
        raise GatewayError(Reason.HOST_INVALID, "The Host field is missing: there is no https URL without it.")
    target = f"{path}?{request.query}" if request.query else path
    return GatewayResponse(308, [(b"location", https_url(host, target, port).encode("latin-1"))])
