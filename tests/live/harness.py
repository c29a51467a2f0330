"""What the tests over the wire stand on: a gateway as a process, upstreams and clients that show and script every byte.

    with Upstream.answering(OK) as users, Gateway({"GATEWAY_UPSTREAM_USERS": users.url, ...}, cwd=tmp_path) as gateway:
        answer = gateway.get("/users/1", "X-Tenant: acme")      # a connection of its own, closed afterwards
        assert answer.status == 200 and answer.one("x-request-id") and answer.body == b"hello"
        assert users.requests[0].start == "GET /users/1 HTTP/1.1"
        line = gateway.request_line(answer.one("x-request-id"))  # its line in the log, waited for

- `Gateway`: `get`, `ask(bytes)`, `connect()` -> `Wire`; `log` (parsed lines), `wait_for_log`, `request_line`; `stop()`.
- `Upstream`: `url`, `requests[i].raw/head/body/is_whole`, `connections_open`, `connections_made`. It hears and says
  nothing by itself: the test takes `upstream.wait_for_request()` and lets it `send`, `close` or `reset`. The subclasses
  answer by themselves, each in one way: `Answers`, `Slow`, `DiesMidBody`, `Resets`, `Refuses`, `Garbage`, `ClosesIdle`,
  `NeverAccepts`.
- `Wire`: a client's socket: `send`, `read_answer`, `read_until`, `read_to_end`, `close`, `reset`.
- `eventually(question)` asks until it is answered with something true; nothing here sleeps to wait.

Fields are text (latin-1 of the bytes), bodies are bytes. Everything that waits has a bound.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

HOME = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0  # how long anything may take on a machine with better things to do
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

AnswerT = TypeVar("AnswerT")


def eventually(question: Callable[[], AnswerT], within_s: float = PATIENCE_S) -> AnswerT:
    """The first true answer; the test fails when there is none in time."""
    give_up = time.monotonic() + within_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > give_up:
            raise AssertionError(f"still {answer!r} after {within_s} s")
        time.sleep(0.01)


def _ports() -> list[int]:
    """In any order, from below the range that outgoing connections are given theirs from.

    Of processes that test side by side, each has its own: until one is used, it looks free to the others.
    """
    worker, workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    ours = range(10_240 + int(worker.removeprefix("gw")), 32_768, int(workers))
    return random.sample(ours, len(ours))


PORTS = _ports()  # each is given once


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody has."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = PORTS.pop()
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.bind((host, port))
            return port


# -- messages -----------------------------------------------------------------------------------------------------


class Head:
    """A message's start line and field lines, as they stood on the wire."""

    def __init__(self, raw: bytes) -> None:
        self.raw_head = raw
        self.start, *self.lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        self.pairs = [(line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in self.lines]

    def all(self, name: str) -> list[str]:
        """The values of a field, in their order."""
        return [value for found, value in self.pairs if found == name.lower()]

    def one(self, name: str) -> str:
        """The value of a field that must have come exactly once."""
        values = self.all(name)
        assert len(values) == 1, f"{name} came {len(values)} times in {self.lines}"
        return values[0]

    def has(self, name: str) -> bool:
        return bool(self.all(name))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.pairs}


class Body:
    """A body on its way: `data` so far, `chunks` as they were cut, `is_whole` once its end was seen.

    A `length` of None ends where the connection does.
    """

    def __init__(self, length: int | None = None, *, chunked: bool = False) -> None:
        self.data = bytearray()
        self.chunks: list[bytes] = []
        self.chunked = chunked
        self.is_whole = length == 0 and not chunked
        self._left = length
        self._state = "size"

    def take(self, buffer: bytearray) -> None:
        """Take what belongs to the body off the front of `buffer`."""
        if self.chunked:
            while not self.is_whole and self._step(buffer):
                pass
        elif not self.is_whole:
            piece = buffer if self._left is None else buffer[: self._left]
            self.data += piece
            if self._left is not None:
                self._left -= len(piece)
                self.is_whole = self._left == 0
            del buffer[: len(piece)]

    def _step(self, buffer: bytearray) -> bool:
        """One part of the chunked coding; False when more bytes must come first."""
        if self._state == "data":
            size = self._left or 0
            if len(buffer) < size + 2:
                return False
            assert buffer[size : size + 2] == b"\r\n", "a chunk does not end where it says"
            self.chunks.append(bytes(buffer[:size]))
            self.data += buffer[:size]
            del buffer[: size + 2]
            self._state = "size"
            return True
        end = buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self._state == "size":
            self._left = int(line.partition(b";")[0], 16)
            self._state = "data" if self._left else "trailer"
        elif not line:
            self.is_whole = True
        return True


class Answer(Head):
    """What a client got. `broke_off` tells whether the transfer ended before the body did."""

    def __init__(self, raw_head: bytes, interim: Sequence[Head]) -> None:
        super().__init__(raw_head)
        self.status = int(self.start.split(" ")[1])
        self.interim = tuple(interim)
        self.framing = Body(0)

    @property
    def body(self) -> bytes:
        return bytes(self.framing.data)

    @property
    def broke_off(self) -> bool:
        return not self.framing.is_whole

    def json(self) -> Any:
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Answer {self.start} {self.lines} {self.body[:200]!r}{' broke off' if self.broke_off else ''}>"


class Request(Head):
    """What an upstream got; all of `raw` is this request's, whole or not."""

    def __init__(self, raw_head: bytes, connection: "Connection") -> None:
        super().__init__(raw_head)
        self.connection = connection
        chunked = "chunked" in self.all("transfer-encoding")
        self.framing = Body(None if chunked else int((self.all("content-length") or ["0"])[0]), chunked=chunked)
        self.raw = raw_head

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def body(self) -> bytes:
        return bytes(self.framing.data)

    @property
    def is_whole(self) -> bool:
        return self.framing.is_whole

    def send(self, data: bytes) -> None:
        """Say these bytes to the gateway."""
        self.connection.send(data)

    def close(self) -> None:
        self.connection.close()

    def reset(self) -> None:
        self.connection.reset()

    def __repr__(self) -> str:
        return f"<Request {self.start} {self.lines} {self.body[:200]!r}{'' if self.is_whole else ' not whole'}>"


# -- upstreams ----------------------------------------------------------------------------------------------------


def reset(connection: socket.socket) -> None:
    """Close with a RST instead of a FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Connection:
    """One connection that an upstream accepted."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Neither side has closed it. Asks the socket, so that it is known even while nobody reads."""
        with self._lock:
            if self._closed:
                return False
            poll = select.poll()
            poll.register(self.socket, select.POLLRDHUP)
            return not poll.poll(0)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            with contextlib.suppress(OSError):  # wakes the thread that reads
                self.socket.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        with self._lock:
            self._closed = True
            # The reading thread holds the socket while it waits in recv: without a shutdown no RST would leave. The
            # linger time makes the close, which the thread then does, a RST.
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.socket.shutdown(socket.SHUT_RD)

    def release(self) -> None:
        """The thread that read is done with it."""
        with self._lock:
            self._closed = True
            self.socket.close()


class Upstream:
    """A server that shows what arrived and says what the test tells it to, byte for byte.

    Subclasses answer by themselves, in `on_head` (the body is still to come) or `on_request` (all of it is here).
    """

    def __init__(
        self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, reads_bodies: bool = True
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.authority}"
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.reads_bodies = reads_bodies
        self._tls = tls
        self._closing = False
        self._serving: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, name=f"{type(self).__name__}:{self.port}", daemon=True)
        self._thread.start()

    @staticmethod
    def answering(raw: bytes) -> "Answers":
        return Answers(raw)

    # -- what a test asks -----------------------------------------------------------------------------------------

    @property
    def connections_open(self) -> int:
        return sum(connection.is_open for connection in self.connections)

    @property
    def connections_made(self) -> int:
        return len(self.connections)

    def wait_for_request(self, path: str | None = None, number: int = 1) -> Request:
        """The `number`th request (of that path) once its head is here; its body may still be on its way."""

        def found() -> Request | None:
            those = [one for one in self.requests if path is None or one.target.partition("?")[0] == path]
            return those[number - 1] if len(those) >= number else None

        request = eventually(found)
        assert request is not None
        return request

    def forget(self) -> None:
        """Begin the list of requests again, for the next test."""
        self.requests.clear()

    # -- what a behaviour says --------------------------------------------------------------------------------------

    def on_connect(self, connection: Connection) -> None: ...

    def on_head(self, request: Request) -> None: ...

    def on_request(self, request: Request) -> None: ...

    # -- the wire ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closing:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(accepted)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._serving.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        # A peer that goes away is what these tests are about: it ends the connection, not the test.
        with contextlib.suppress(OSError):
            if self._tls is not None:
                plain = connection.socket
                plain.settimeout(PATIENCE_S)
                connection.socket = self._tls.wrap_socket(plain, server_side=True)
                connection.socket.settimeout(None)
            self.on_connect(connection)
            self._read(connection)
        connection.release()

    def _read(self, connection: Connection) -> None:
        buffer = bytearray()
        request: Request | None = None
        while True:
            if request is None:
                end = buffer.find(b"\r\n\r\n") + 4
                if end >= 4:
                    request = Request(bytes(buffer[:end]), connection)
                    del buffer[:end]
                    connection.requests.append(request)
                    self.requests.append(request)
                    self.on_head(request)
            if request is not None and self.reads_bodies:
                before = len(buffer)
                taken = bytes(buffer)
                request.framing.take(buffer)
                request.raw += taken[: before - len(buffer)]
                if request.is_whole:
                    self.on_request(request)
                    request = None
                    if buffer:
                        continue
            if request is not None and not self.reads_bodies:
                eventually(lambda: not connection.is_open or self._closing, 60)
                return
            data = connection.socket.recv(65536)
            if not data:
                return
            buffer += data

    def close(self) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()
        for thread in (self._thread, *self._serving):
            thread.join(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Answers(Upstream):
    """Answers every whole request with the same bytes; `answer` may be set to others in between."""

    def __init__(self, answer: bytes = OK, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        super().__init__(host=host, tls=tls)

    def on_request(self, request: Request) -> None:
        request.send(self.answer)


class AnswersAndCloses(Answers):
    """Closes after its answer, as a body without a length needs it, or `Connection: close`."""

    def on_request(self, request: Request) -> None:
        request.send(self.answer)
        request.close()


class AnswersEarly(Answers):
    """Answers as soon as the head is here, while the body is still to come."""

    def on_head(self, request: Request) -> None:
        request.send(self.answer)

    def on_request(self, request: Request) -> None: ...


class Slow(Upstream):
    """Takes the request, says nothing."""


class DiesMidBody(Answers):
    """Begins an answer and closes (or resets) in the middle of its body."""

    def __init__(self, answer: bytes, *, by_reset: bool = False) -> None:
        self.by_reset = by_reset
        super().__init__(answer)

    def on_request(self, request: Request) -> None:
        request.send(self.answer)
        if self.by_reset:
            request.reset()
        else:
            request.close()


class Garbage(AnswersAndCloses):
    """Answers with what is no HTTP."""

    def __init__(self, answer: bytes = b"\x16\x03\x01 this is no HTTP\r\n\r\n") -> None:
        super().__init__(answer)


class Resets(Upstream):
    """Resets the connection when it has read the request."""

    def on_request(self, request: Request) -> None:
        request.reset()


class Hangs(Upstream):
    """Closes the connection in good order when it has read the request, with not one byte of an answer."""

    def on_request(self, request: Request) -> None:
        request.close()


class ClosesIdle(Answers):
    """Answers as if it kept the connection, and closes it at once, as a server with a short idle time does."""

    def on_request(self, request: Request) -> None:
        request.send(self.answer)
        request.close()


class Refuses:
    """A port that refuses: held by a socket that does not listen, so that nobody else gets it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._held.bind((host, 0))
        self.port: int = self._held.getsockname()[1]
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.url = f"http://{self.authority}"

    def close(self) -> None:
        self._held.close()


class NeverAccepts:
    """A listener whose backlog is full: to whoever comes now the network is silent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        self._waiting: list[socket.socket] = []
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", self.port))
            self._waiting.append(waiting)

    def close(self) -> None:
        for waiting in self._waiting:
            waiting.close()
        self._listener.close()


# -- the client ---------------------------------------------------------------------------------------------------


class Wire:
    """A client's connection. `source` is the address it comes from: all of 127.0.0.0/8 is ours."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        source: str | None = None,
        receive_buffer_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
        name: str = "localhost",
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(PATIENCE_S)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        try:
            if source is not None:
                self.socket.bind((source, 0))
            self.socket.connect((host, port))
            if tls is not None:
                self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        except OSError:
            self.socket.close()
            raise
        self.buffer = bytearray()
        self.at_end = False

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> bool:
        """Take what arrives next into `buffer`; False at the end, also where that is a reset."""
        try:
            data = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            data = b""
        self.at_end = self.at_end or not data
        self.buffer += data
        return bool(data)

    def read_until(self, mark: bytes) -> bytes:
        """The bytes up to and with `mark`. The test fails at an early end."""
        while mark not in self.buffer:
            assert self.receive(), f"ended before {mark!r}: {bytes(self.buffer)!r}"
        end = self.buffer.index(mark) + len(mark)
        taken = bytes(self.buffer[:end])
        del self.buffer[:end]
        return taken

    def read_to_end(self) -> bytes:
        """All that comes until the gateway closes."""
        while self.receive():
            pass
        taken = bytes(self.buffer)
        self.buffer.clear()
        return taken

    def read_head(self, method: str = "GET") -> Answer:
        """The head of an answer, with the interim ones before it; its body is still on the wire."""
        interim: list[Head] = []
        while True:
            raw = self.read_until(b"\r\n\r\n")
            status = int(raw.split(b" ")[1])
            if not 100 <= status < 200:
                break
            interim.append(Head(raw))
        answer = Answer(raw, interim)
        if method == "HEAD" or status in {204, 304}:
            answer.framing = Body(0)
        elif answer.has("transfer-encoding"):
            answer.framing = Body(chunked=True)
        else:
            lengths = answer.all("content-length")
            answer.framing = Body(int(lengths[0]) if lengths else None)
        return answer

    def read_answer(self, method: str = "GET") -> Answer:
        """An answer to its end, or to the end of the connection: `broke_off` tells which."""
        answer = self.read_head(method)
        self.read_body(answer)
        return answer

    def read_body(self, answer: Answer, at_least: int | None = None) -> bytes:
        """What is left of the answer's body, or until so many bytes of it are here."""
        framing = answer.framing
        framing.take(self.buffer)
        while not framing.is_whole and (at_least is None or len(framing.data) < at_least):
            if not self.receive():
                break
            framing.take(self.buffer)
        return answer.body

    def is_closed(self, within_s: float = PATIENCE_S) -> bool:
        """Whether the gateway closes the connection with nothing more to say."""
        self.socket.settimeout(within_s)
        try:
            return not self.buffer and not self.receive()
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(PATIENCE_S)

    def is_hung_up(self, within_s: float) -> bool:
        """Whether the gateway hangs up in that time. Reads nothing."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(within_s * 1000))

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        reset(self.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def request_bytes(method: str, target: str, *fields: str, host: str = "gateway.test", body: bytes = b"") -> bytes:
    """A request with just these field lines (and Host, unless it is ''); a body does not bring its length with it."""
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host else []), *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# Why it may be left out: the docs are told with curl, but only make and Python may be assumed of a newcomer's machine.
# `.ci/run` installs it, so there nothing is left out.
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here (Debian: apt install curl)")


class Started(ABC):
    """Started where a `with` begins, closed at its end, and where it cannot be started."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- the gateway --------------------------------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []


class Gateway:
    """`gateway serve` as a process of its own, on a free port, with these GATEWAY_* and OTEL_* and no others.

    As a context manager it starts, is ready inside, and is stopped at the end, which must be a clean exit. `within` are
    the words of a command that executes the one after it, in surroundings of its own.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        cwd: Path | str,
        host: str = "127.0.0.1",
        within: Sequence[str] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.argv = [*within, sys.executable, "-m", "gateway", "serve"]
        self.host = host
        self.tls = tls  # what a client speaks TLS with
        self.port = free_port(host)
        self.authority = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.environment = {"GATEWAY_BIND": self.authority, **environment}
        self.cwd = cwd
        self.output: list[str] = []  # stdout, line by line
        self.errors: list[str] = []  # stderr
        self.log: list[dict[str, Any]] = []  # the lines of stdout that are JSON
        self._heard = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None, "not started"
        return self._process

    def start(self, *, wait: bool = True) -> None:
        """Start the process and, unless told not to, wait until it is ready."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.upper().startswith(("GATEWAY_", "OTEL_"))
        }
        process = subprocess.Popen(
            self.argv,
            cwd=self.cwd,
            env={**inherited, "PYTHONUNBUFFERED": "1", **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C for pytest is not one for the gateway
        )
        self._process = process
        self._threads = [
            threading.Thread(target=self._listen, args=[process.stdout, self._hear], daemon=True),
            threading.Thread(target=self._listen, args=[process.stderr, self.errors.append], daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self, within_s: float = 20.0) -> None:
        def is_ready() -> bool:
            assert self.process.poll() is None, f"the gateway ended: {self.process.returncode} {self.errors}"
            with contextlib.suppress(ConnectionError, AssertionError, ssl.SSLError), self.connect() as wire:
                wire.send(request_bytes("GET", "/-/ready"))
                return wire.read_answer().status == 200
            return False

        eventually(is_ready, within_s)

    def stop(self, within_s: float = 15.0) -> None:
        """SIGTERM, and the fact that it exits with 0."""
        self.process.send_signal(signal.SIGTERM)
        assert self.wait(within_s) == 0, self.errors

    def wait(self, within_s: float = 15.0) -> int:
        """The exit code, once it has ended and all it said was heard."""
        code = self.process.wait(within_s)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        return code

    def kill(self) -> None:
        """The end without a word, for a gateway that did not stop by itself, and for what it left behind."""
        if self._process is None:
            return
        # The whole group, also after a good end: a worker that stayed behind would hold our ends of its pipes open.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self.process.poll() is None:
                self.stop()
        finally:
            self.kill()

    # -- its log --------------------------------------------------------------------------------------------------

    def _listen(self, stream: Iterator[str], hear: Callable[[str], None]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in stream:
                hear(line.rstrip("\n"))

    def _hear(self, line: str) -> None:
        with self._heard:
            self.output.append(line)
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    self.log.append(event)
            self._heard.notify_all()

    def wait_for_log(self, question: Callable[[dict[str, Any]], bool], timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """The first line of the log, said already or still to come, of which `question` is true."""
        with self._heard:
            give_up = time.monotonic() + timeout_s
            while True:
                for line in self.log:
                    if question(line):
                        return line
                left = give_up - time.monotonic()
                assert left > 0, f"no such line within {timeout_s} s; the last ones are {self.output[-3:]}"
                self._heard.wait(left)

    def request_line(self, request_id: str) -> dict[str, Any]:
        """The `request` line of that request id."""
        return self.wait_for_log(lambda line: line["event"] == "request" and line["request_id"] == request_id)

    @property
    def workers(self) -> list[int]:
        """The processes that serve: the children of each generation, which is a child of the parent."""
        return [pid for generation in self.generations for pid in children_of(generation)]

    @property
    def generations(self) -> list[int]:
        return children_of(self.process.pid)

    # -- asking it --------------------------------------------------------------------------------------------------

    def connect(self, *, source: str | None = None, receive_buffer_bytes: int = 0) -> Wire:
        return Wire(self.host, self.port, source=source, receive_buffer_bytes=receive_buffer_bytes, tls=self.tls)

    def ask(self, raw: bytes, *, source: str | None = None) -> Answer:
        """Send these bytes over a connection of its own and read one answer to its end."""
        with self.connect(source=source) as wire:
            wire.send(raw)
            return wire.read_answer(raw.partition(b" ")[0].decode("latin-1"))

    def request(self, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
        """As `ask`; a body brings its length with it."""
        lengths = (f"Content-Length: {len(body)}",) if body else ()
        return self.ask(request_bytes(method, target, *fields, *lengths, body=body))

    def get(self, target: str, *fields: str, source: str | None = None) -> Answer:
        return self.ask(request_bytes("GET", target, *fields), source=source)
