"""The gateway of a test: its services are objects, and it treats requests exactly as in production.

The test replaces only what is below the client of an upstream's pool: an address is a service, a connection is two ends
in memory. Everything above is the real gateway: routes, stacks, retries, cache, limits, and the bytes that it sends.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import urlencode

import msgspec

from gateway.http.headers import Pairs
from gateway.options import nearest
from gateway.sockets import codes
from gateway.sockets.client import Message, SocketClosed
from gateway.testing.answer import Answer, Stream
from gateway.testing.clock import HandClock
from gateway.testing.reply import Fields
from gateway.testing.service import Service, UnexpectedCall
from gateway.testing.setup import Setup, prepare
from gateway.testing.wire import Pair

Params = Mapping[str, str | Sequence[str]]  # a sequence: the parameter once for each value

_UNSET: Final = object()
_HOST: Final = (b"host", b"gateway.test")
# How long a request may take before the test fails for lack of an answer.
_PATIENCE_S: Final = 60.0


class Opened(Protocol):
    """An answer after its head has arrived, of either client."""

    status: int
    pairs: list[Pair]

    @property
    def log(self) -> Mapping[str, Any]: ...
    def pieces(self) -> AsyncGenerator[bytes, None]: ...
    async def whole(self) -> Answer: ...
    async def close(self) -> None: ...


class OpenSocket(Protocol):
    """A WebSocket, of either client."""

    subprotocol: str | None

    async def receive(self) -> Message: ...
    async def send(self, message: Message) -> None: ...
    async def close(self, code: int, reason: str) -> Mapping[str, Any]: ...


class Client(Protocol):
    """Sends requests to a gateway that runs."""

    async def open(
        self, method: str, target: str, pairs: Pairs, body: bytes | AsyncIterable[bytes] | None
    ) -> Opened: ...
    async def open_socket(self, target: str, pairs: Pairs, subprotocols: Sequence[str]) -> OpenSocket: ...
    async def close(self) -> None: ...


class Socket:
    """A client's WebSocket to the gateway: `send`, `receive`, iterate over the messages, `close`.

    `subprotocol` is the chosen one. Once the socket is closed, `receive` and `send` raise SocketClosed, with `code` and
    `reason`; `log` has the line of its request after `close`.
    """

    def __init__(self, socket: OpenSocket) -> None:
        self._socket = socket
        self.subprotocol = socket.subprotocol
        self.log: Mapping[str, Any] = {}

    async def receive(self) -> Message:
        """The next message, text or bytes. Raises SocketClosed; TimeoutError after a minute of silence."""
        async with asyncio.timeout(_PATIENCE_S):
            return await self._socket.receive()

    async def send(self, message: Message) -> None:
        """Send a text or bytes. Raises SocketClosed."""
        if not isinstance(message, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
        await self._socket.send(message)

    async def close(self, code: int = codes.NORMAL, reason: str = "") -> None:
        """Close it, and wait until the gateway is done with it."""
        self.log = await self._socket.close(code, reason)

    async def __aiter__(self) -> AsyncIterator[Message]:
        while True:
            try:
                yield await self.receive()
            except SocketClosed:
                return


class AnyGateway(ABC):
    """Common base of the gateway in the process of the test and the one over real sockets."""

    __test__ = False  # else pytest would collect it, as any class Test*

    def __init__(
        self, env: Mapping[str, str] | None, routes: Sequence[Any] | str | None, folder: str | Path | None
    ) -> None:
        self.setup: Setup = prepare(env, routes, Path(folder or ".").resolve())
        self._faults: list[BaseException] = []
        self.services = {name: Service(name, self._faults.append) for name in self._service_names()}
        for name, upstream in self.setup.config.upstreams.items():
            self.services[name].health = upstream.health
        self.clock = HandClock()
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._test: asyncio.Task[Any] | None = None  # the task that gets faults at once
        self._starting = asyncio.Lock()

    def _service_names(self) -> list[str]:
        """Names of upstreams, and of ways to authenticate that fetch their keys by a URL."""
        config = self.setup.config
        ways = (way for way in config.auth.ways.values() if way.keys_from is not None)
        return [*config.upstreams, *(way.name for way in ways if way.keys_from.kind in {"url", "discovery"})]  # type: ignore[union-attr]

    def __getattr__(self, name: str) -> Service:
        services: Mapping[str, Service] = self.__dict__.get("services", {})
        if name in services:
            return services[name]
        if name.startswith("_") or not services:
            raise AttributeError(name)
        near = nearest(name, services)
        meant = f"; did you mean gateway.{near}?" if near else f"; there are {', '.join(sorted(services))}"
        raise AttributeError(f"the gateway has no upstream {name}{meant}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {', '.join(self.services)}>"

    # -- requests -------------------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Fields = (),
        params: Params | None = None,
        json: Any = _UNSET,
        body: bytes | str | AsyncIterable[bytes] | None = None,
    ) -> Answer:
        """Send a request and read its whole answer.

        `path` is sent as it is written, with its query; `params` are added to that, encoded, one
        with a list once for each value. `json` is anything that msgspec encodes. `body` is bytes, a text, or an async
        iterator of bytes, which is sent in chunks. Raises UnexpectedCall if a service got a call without an answer in
        the test, any exception of a function of the test, and BrokenOff.
        """
        __tracebackhide__ = True
        try:
            async with asyncio.timeout(_PATIENCE_S):
                opened = await self._open(method, path, headers=headers, params=params, json=json, body=body)
                try:
                    return await opened.whole()
                finally:
                    await opened.close()
        finally:
            self._raise_faults()

    def get(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        """As `request`, with GET; the others likewise."""
        return self.request("GET", path, **options)

    def head(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("HEAD", path, **options)

    def post(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("DELETE", path, **options)

    def options(self, path: str, **options: Any) -> Coroutine[Any, Any, Answer]:
        return self.request("OPTIONS", path, **options)

    @contextlib.asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[Stream]:
        """An answer as it arrives: `async with gateway.stream("GET", "/events") as answer`. Leaving it hangs up."""
        opened = await self._open(method, path, **options)
        try:
            async with contextlib.aclosing(opened.pieces()) as pieces:
                yield Stream(opened.status, opened.pairs, pieces)
        finally:
            await opened.close()
        self._raise_faults()

    @contextlib.asynccontextmanager
    async def websocket(
        self, path: str, *, headers: Fields = (), subprotocols: Sequence[str] = ()
    ) -> AsyncIterator[Socket]:
        """A WebSocket: `async with gateway.websocket("/chat") as socket`. It is closed at the end.

        Raises SocketRefused, with the `answer`, if the handshake is refused.
        """
        pairs = _pairs_of(headers)
        if subprotocols:
            pairs.append((b"sec-websocket-protocol", ", ".join(subprotocols).encode("latin-1")))
        client = await self._started()
        try:
            socket = Socket(await client.open_socket(_target(path, None), pairs, subprotocols))
        finally:
            self._raise_faults()
        try:
            yield socket
        finally:
            await socket.close()
        self._raise_faults()

    async def _open(
        self,
        method: str,
        path: str,
        *,
        headers: Fields = (),
        params: Params | None = None,
        json: Any = _UNSET,
        body: bytes | str | AsyncIterable[bytes] | None = None,
    ) -> Opened:
        pairs = _pairs_of(headers)
        if json is not _UNSET:
            if body is not None:
                raise ValueError("a request has json= or body=, not both")
            body = msgspec.json.encode(json)
            if not any(name == b"content-type" for name, _ in pairs):
                pairs.append((b"content-type", b"application/json"))
        elif isinstance(body, str):
            body = body.encode()
        client = await self._started()
        return await client.open(method, _target(path, params), pairs, body)

    # -- its life -------------------------------------------------------------------------------------------------

    async def _started(self) -> Client:
        """The client; the gateway starts with the first request, in its loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not None and self._loop is not loop:
            raise RuntimeError("the gateway runs in another event loop: use it in the test that it is for")
        async with self._starting:
            if self._client is None:
                self._client = await self._start()
                self._loop = loop
                self._test = self._test or asyncio.current_task()
            return self._client

    @abstractmethod
    async def _start(self) -> Client: ...

    @abstractmethod
    async def _stop(self) -> None: ...

    async def __aenter__(self) -> Self:
        self._test = asyncio.current_task()
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        client, self._client = self._client, None
        if client is not None:
            await client.close()
            await self._stop()
        self._test = asyncio.current_task()
        if error is None:
            self._raise_faults()
        for fault in self._faults:
            if fault is not error and error is not None:
                error.add_note(f"And {type(fault).__name__}: {fault}")
        self._faults.clear()

    def _raise_faults(self) -> None:
        """Raise the faults for the test: the first one, with notes of the others.

        In a task that the test may never await, they are kept for the end.
        """
        __tracebackhide__ = True
        if self._faults and asyncio.current_task() is self._test:
            first, *others = self._faults
            self._faults.clear()
            for other in others:
                first.add_note(f"And {type(other).__name__}: {other}")
            # The place in this code at which the lack of an answer was noticed is of no help.
            raise first.with_traceback(None) if isinstance(first, UnexpectedCall) else first


def _target(path: str, params: Params | None) -> str:
    """Path and query as they are sent. Raises ValueError."""
    given: Any = path  # a person may write anything here
    if not isinstance(given, str) or not path.startswith(("/", "*")) or not path.isascii() or " " in path:
        raise ValueError(f"{path!r}: a path begins with a slash, and is percent-encoded where it has to be")
    if not params:
        return path
    return f"{path}{'&' if '?' in path else '?'}{urlencode(params, doseq=True)}"


def _pairs_of(headers: Fields) -> Pairs:
    """Field lines of a request as Granian gives them: names in lower case, with a Host."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    pairs = []
    for name, value in given:
        if not isinstance(value, str):
            raise TypeError(f"the header {name} has the value {value!r}: it is a text")
        pairs.append((name.lower().encode("latin-1"), value.encode("latin-1")))
    return pairs if any(name == b"host" for name, _ in pairs) else [_HOST, *pairs]


class TestGateway(AnyGateway):
    """A gateway in the process of the test, without a port.

    `env` are its variables, with or without `GATEWAY_` before their names; None: those of `gateway.env` in the folder,
    and its `routes.py`. `routes` are entries of urlpatterns, or the dotted path of a module that has them. `folder` is
    where files and modules are looked for; without it the working directory. Raises SetupError, with the text of
    `gateway check`, if it cannot start.

    Services are its attributes, by the names of upstreams: `gateway.users["/users/1"] = {"id": 1}`; `services` has them
    by name. `clock` sets time forward. The gateway starts with the first request, or with `async with`, and ends with
    that.
    """

    def __init__(
        self,
        env: Mapping[str, str] | None = None,
        *,
        routes: Sequence[Any] | str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(env, routes, folder)
        self._life: Any = None

    async def _start(self) -> Client:
        from gateway.testing.worker import Worker

        setup = self.setup
        self._life = Worker(setup.config, setup.routes, self.services, self.clock, self._faults.append)
        await self._life.start()
        scheme = "http" if setup.config.settings.tls_cert_pem is None else "https"
        return self._life.client(setup.urlconf, scheme)  # type: ignore[no-any-return]

    async def _stop(self) -> None:
        await self._life.stop()
