"""The gateway of a test as a separate process: `gateway serve` on a port, services on ports of the test's process.

The client is the one that the gateway uses for its upstreams: it sends a path as it is and shows the raw answer.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.http.exchange import Exchange
from gateway.http.headers import Pairs, field_block
from gateway.http.lifetime import Lifetime
from gateway.http.trace_context import new_trace_id
from gateway.sockets import codes, handshake
from gateway.sockets.client import Message, SocketClosed
from gateway.sockets.codes import Closing
from gateway.testing.answer import Answer, BrokenOff, SocketRefused
from gateway.testing.clock import HandClock
from gateway.testing.connection import ServiceConnection
from gateway.testing.gateway import AnyGateway, Client
from gateway.testing.reply import BEFORE_THE_REQUEST
from gateway.testing.service import Service
from gateway.testing.setup import SetupError
from gateway.testing.wire import Pair
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.attempts import Outgoing, answer_to
from gateway.upstreams.options import Overrides, effective
from gateway.upstreams.places import Base
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream

_HERE: Final = "127.0.0.1"
_START_S: Final = 20.0
_STOP_S: Final = 10.0
_LINE_S: Final = 5.0  # how long the line of a request may take to come
_PATIENCE_S: Final = 60.0
_MAX_MESSAGE_BYTES: Final = 2**26
_TLS_OPTIONS: Final = ("CA", "CLIENT_CERT", "CLIENT_KEY")


class LiveGateway(AnyGateway):
    """As `TestGateway`, over real sockets. `routes` is a module, since objects of the test are in another process.

    Services listen on ports, so an upstream's Host and endpoint differ from those of `TestGateway`, and a service
    refuses connections for all calls or for none: `gateway.users["*"] = Reason.CONNECTION_REFUSED`.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        *,
        routes: Sequence[Any] | str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        if routes is not None and not isinstance(routes, str):
            raise SetupError(
                "a gateway in a process of its own cannot have lines of the test: name a module, routes='...'"
            )
        super().__init__(env, routes, folder)
        config = self.setup.config
        if config.settings.tls_cert_pem is not None:
            raise SetupError("over a real socket the test kit speaks no TLS: leave GATEWAY_TLS_CERT out")
        for way in config.auth.ways.values():
            if way.name in self.services and way.name not in config.upstreams:
                raise SetupError(
                    f"{way.variable}: over a real socket its keys would be asked for at {way.keys_from}: take the "
                    "fixture gateway, or have an upstream serve them"
                )
        self.clock = _MachineClock()
        self._ports: dict[str, list[_Listener]] = {}  # the ports of a service, one for each of its bases
        self._process: _Process | None = None
        self._own: LiveClient | None = None

    async def _start(self) -> Client:
        for name, upstream in self.setup.config.upstreams.items():
            self._ports[name] = [_Listener(self.services[name]) for _ in upstream.bases]
        for listener in self._listeners:
            await listener.open()
        port = _free_port()
        self._process = _Process(self._environment(port), self.setup.folder)
        await self._process.start()
        self._own = LiveClient(port, self._process, self._listeners)
        return self._own

    async def _stop(self) -> None:
        if self._process is not None:
            await self._process.stop()
        for listener in self._listeners:
            await listener.close()

    @property
    def _listeners(self) -> "list[_Listener]":
        return [listener for several in self._ports.values() for listener in several]

    def _environment(self, port: int) -> dict[str, str]:
        """The gateway's environment, with the addresses of the services."""
        environ = {name: value for name, value in self.setup.environ.items() if not _is_of_tls(name)}
        for name, upstream in self.setup.config.upstreams.items():
            environ.pop(f"{upstream.variable}_FILE", None)
            ports = (listener.port for listener in self._ports[name])
            bases = (f"http://{_HERE}:{at}{base.prefix}" for at, base in zip(ports, upstream.bases, strict=True))
            environ[upstream.variable.removesuffix("_FILE")] = ",".join(bases)
        environ.setdefault("GATEWAY_CACHE_DISK", "0B")
        environ.setdefault("GATEWAY_DATABASE_URL", "sqlite:///:memory:")
        return {
            **environ,
            "GATEWAY_BIND": f"{_HERE}:{port}",
            "GATEWAY_WORKERS": "1",
            "GATEWAY_LOG": "json",
            "GATEWAY_LOG_LEVEL": "debug",
        }


class _MachineClock(HandClock):
    def tick(self, duration: str) -> None:
        """Raises RuntimeError."""
        raise RuntimeError("a gateway in a process of its own has the machine's clock: take the fixture gateway")


def _is_of_tls(name: str) -> bool:
    """Whether a variable is for TLS towards an upstream, which the services of a test do not have."""
    option = name.removesuffix("_FILE").rpartition("__")[2]
    return name.startswith("GATEWAY_UPSTREAM_") and option in _TLS_OPTIONS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HERE, 0))
        port: int = probe.getsockname()[1]
        return port


class _Listener:
    """The port of a service, closed while it refuses connections."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._server: asyncio.Server | None = None
        self._connections: set[ServiceConnection] = set()
        self.port = 0

    async def open(self) -> None:
        """Listen, unless all calls are refused."""
        refuses = self._service.fails_always
        if refuses in BEFORE_THE_REQUEST and refuses is not Reason.CONNECTION_REFUSED:
            raise ValueError(f"{refuses.name} cannot be made over a real socket: take the fixture gateway")
        if refuses is Reason.CONNECTION_REFUSED and self.port:
            await self.close()
        elif self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._connection, _HERE, self.port, reuse_address=True)
            self.port = self._server.sockets[0].getsockname()[1]
            if refuses is Reason.CONNECTION_REFUSED:
                await self.close()

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.cut()
            if connection.task is not None:
                connection.task.cancel()
                await asyncio.wait({connection.task})
        self._connections.clear()

    def _connection(self) -> ServiceConnection:
        made = ServiceConnection(self._service, f"{_HERE}:{self.port}", self._fail, self._service.report)
        self._connections.add(made)
        return made

    def _fail(self, connection: ServiceConnection, reason: Reason) -> bool:
        if reason in BEFORE_THE_REQUEST:
            name = self._service.name
            raise ValueError(
                f"over a real socket {reason.name} cannot be said of one call: it holds for a service, as in "
                f"gateway.{name}['*'] = Reason.CONNECTION_REFUSED, or take the fixture gateway"
            )
        return False


class _Process:
    """`gateway serve`, and the lines of its log by request id."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")}
        inherited.pop("DJANGO_SETTINGS_MODULE", None)
        self._environ = {**inherited, **environ}
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._said: list[str] = []
        self._lines: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Condition()
        self._is_ready = False

    async def start(self) -> None:
        """Raises SetupError."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "serve"),
            cwd=self._folder,
            env=self._environ,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        assert self._process.stdout is not None and self._process.stderr is not None  # noqa: S101, PT018
        for stream in (self._process.stdout, self._process.stderr):
            self._readers.append(asyncio.create_task(self._read(stream)))
        try:
            async with asyncio.timeout(_START_S), self._changed:
                await self._changed.wait_for(lambda: self._is_ready or self._readers[0].done())
        except TimeoutError:
            pass
        if not self._is_ready:
            await self.stop()
            raise SetupError("gateway serve did not start:\n" + "\n".join(self._said))

    async def stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def line(self, request_id: str) -> Mapping[str, Any]:
        """The line of a request. Raises TimeoutError."""
        async with asyncio.timeout(_LINE_S), self._changed:
            await self._changed.wait_for(lambda: request_id in self._lines)
            return self._lines[request_id]

    async def _read(self, stream: asyncio.StreamReader) -> None:
        while text := await stream.readline():
            line = _parsed(text)
            async with self._changed:
                if line.get("event") == "request":
                    self._lines[line["request_id"]] = line
                elif line.get("event") == "worker.ready":
                    self._is_ready = True
                else:
                    self._said.append(text.decode(errors="replace").rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        line = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return line if isinstance(line, dict) else {}


# -- the client -----------------------------------------------------------------------------------------------------


class LiveClient:
    """Requests over sockets."""

    def __init__(self, port: int, process: _Process, listeners: Sequence[_Listener]) -> None:
        self._process = process
        self._listeners = listeners
        self._pool = Pool(Upstream(name="gateway", bases=(Base("http", _HERE, port),), retries=0))
        self._pool.start()

    async def open(
        self, method: str, target: str, pairs: Pairs, body: bytes | AsyncIterable[bytes] | None
    ) -> "LiveAnswer":
        chunked = body is not None and not isinstance(body, bytes)
        whole = b"".join([piece async for piece in body]) if isinstance(body, AsyncIterable) else body
        if whole is not None and not chunked:
            pairs = [*pairs, (b"content-length", b"%d" % len(whole))]
        attempt, request_id = await self._send(method, target, pairs, body=whole, chunked=chunked)
        return LiveAnswer(self._process, attempt, request_id)

    async def open_socket(self, target: str, pairs: Pairs, subprotocols: Sequence[str]) -> "LiveSocket":
        from gateway.sockets.upstream import UpstreamSocket

        key = handshake.new_key(os.urandom(16))
        pairs = handshake.upgrade_pairs(pairs, key, subprotocols)
        attempt, request_id = await self._send("GET", target, pairs, switches=True)
        if attempt.status != 101:
            raise SocketRefused(await LiveAnswer(self._process, attempt, request_id).whole())
        assert attempt.connection is not None  # noqa: S101 - it has answered by now
        transport, early = attempt.connection.hand_over()
        attempt.connection = None
        frames = UpstreamSocket(transport, early, _MAX_MESSAGE_BYTES)
        return LiveSocket(frames, handshake.protocol_of(attempt.pairs), partial(self._process.line, request_id))

    async def close(self) -> None:
        await self._pool.aclose()

    async def _send(
        self,
        method: str,
        target: str,
        pairs: Pairs,
        *,
        body: bytes | None = None,
        chunked: bool = False,
        switches: bool = False,
    ) -> tuple[Attempt, str]:
        for listener in self._listeners:
            await listener.open()
        request_id = next((value for name, value in pairs if name == b"x-request-id"), None)
        if request_id is None:
            request_id = new_trace_id().encode("ascii")
            pairs = [*pairs, (b"x-request-id", request_id)]
        exchange = Exchange(perf_counter(), method, target, "")
        outgoing = Outgoing(
            method=method,
            target=target,
            fields=field_block(pair for pair in pairs if pair[0] != b"host"),
            traceparent=b"",
            options=effective(Overrides(), Overrides()),
            timeout_s=_PATIENCE_S,
            host=next(value for name, value in pairs if name == b"host"),
            key=b"",
            repeatable=False,
            lifetime=Lifetime(exchange),
            too_late=partial(GatewayError, Reason.RESPONSE_TIMEOUT, upstream="gateway"),
            body=body,
            chunked=chunked,
            switches=switches,
        )
        return await answer_to(outgoing, self._pool, exchange), request_id.decode("latin-1")


class LiveAnswer:
    """An answer after its head has arrived."""

    def __init__(self, process: _Process, attempt: Attempt, request_id: str) -> None:
        self._process = process
        self._attempt = attempt
        self.status = attempt.status
        self.pairs: list[Pair] = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in attempt.pairs]
        self._request_id = next((value for name, value in self.pairs if name == "x-request-id"), request_id)
        self._arrived = bytearray()
        self.log: Mapping[str, Any] = {}

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises BrokenOff."""
        try:
            whole = self._attempt.whole()
            if whole is not None:
                self._arrived += whole
                yield whole
            else:
                async for piece in self._attempt.chunks():
                    self._arrived += piece
                    yield piece
        except GatewayError:
            self.log = await self._process.line(self._request_id)
            raise BrokenOff(Answer(self.status, self.pairs, bytes(self._arrived), self.log)) from None
        self.log = await self._process.line(self._request_id)

    async def whole(self) -> Answer:
        """The answer once it has arrived whole. Raises BrokenOff."""
        async for _ in self.pieces():
            pass
        return Answer(self.status, self.pairs, bytes(self._arrived), self.log)

    async def close(self) -> None:
        self._attempt.close()


class LiveSocket:
    """An open WebSocket."""

    def __init__(self, frames: Any, subprotocol: str | None, line: Any) -> None:
        self._frames = frames
        self._line = line
        self.subprotocol = subprotocol

    async def receive(self) -> Message:
        """The next message. Raises SocketClosed."""
        try:
            message, _ = await self._frames.receive()
        except SocketClosed as closed:
            code = codes.NORMAL if closed.code == codes.NONE_GIVEN else closed.code
            await self._frames.close(closed.closing)
            raise SocketClosed(Closing(code, closed.reason, codes.GATEWAY)) from None
        return message  # type: ignore[no-any-return]

    async def send(self, message: Message) -> None:
        """Send a text or bytes. Raises SocketClosed."""
        await self._frames.send(message)

    async def close(self, code: int, reason: str) -> Mapping[str, Any]:
        await self._frames.close(Closing(code, reason, codes.CLIENT))
        return await self._line()  # type: ignore[no-any-return]
