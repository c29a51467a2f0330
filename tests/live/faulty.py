"""A server with faults, as a process of its own: what a gateway's upstream looks like on a bad day.

    python -m tests.live.faulty --port 9001 --control 9002 --name A

    GET, PUT, DELETE or POST on the port    {"name": "A", "count": 17, "method": "GET", "target": "/x", "id": "t-4"}
    POST /_fault on the control port        the body names the fault that every request meets from then on: see FAULTS
    GET  /_fault                            which one that is
    GET  /_seen                             what was acted on: method, target, `x-test-id`, and the fault it met

"Acted on" is every request that was read to its end, also one that got no answer: to whoever must not send a POST twice
that is the same. It is written to a file at once, so that it outlives a SIGKILL.

`Faulty` is the same from Python: it starts the process, sets faults, kills, freezes and restarts it. Its port stays its
own while it is down. Everything it waits for has a bound.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from .harness import HOME, PATIENCE_S, PORTS, Body, Head, Started, eventually

CONTROL_TIMEOUT_S = 5.0
TRICKLE_S = 0.005  # between two bytes
MID_BODY_S = 0.002  # from half of an answer to its end: a turn of the loop later, at least
IDLE_CLOSE_S = 0.003  # at most, from an answer to the end of its connection


# -- the server ---------------------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A request that was read to its end."""

    method: str
    target: str
    test_id: str
    body: bytes


class Connection(asyncio.Protocol, ABC):
    """One connection on either port. Reads whole requests; subclasses act on them."""

    transport: asyncio.Transport

    def __init__(self, server: "Server") -> None:
        self.server = server
        self._buffer = bytearray()
        self._head: Head | None = None
        self._body = Body(0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (asked := self._next()) is not None and not self.transport.is_closing():
            self.act(asked)

    def _next(self) -> Asked | None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                return None
            head = self._head = Head(bytes(self._buffer[:end]))
            del self._buffer[:end]
            chunked = head.has("transfer-encoding")
            self._body = Body(None if chunked else int((head.all("content-length") or ["0"])[0]), chunked=chunked)
        self._body.take(self._buffer)
        if not self._body.is_whole:
            return None
        head, self._head = self._head, None
        method, target, _ = head.start.split(" ", 2)
        return Asked(method, target, (head.all("x-test-id") or ["-"])[0], bytes(self._body.data))

    @abstractmethod
    def act(self, asked: Asked) -> None:
        """Do with a whole request what this port is for."""

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """A FIN, after what was sent."""
        self.transport.close()

    def reset(self) -> None:
        """A RST, after what was sent."""
        if not self.transport.is_closing():
            lingering: socket.socket = self.transport.get_extra_info("socket")
            lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, what)


class Door(Connection):
    """A connection that meets the fault of the hour."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.server.doors.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.doors.discard(self)

    def act(self, asked: Asked) -> None:
        self.server.record(asked)
        FAULTS[self.server.fault](self, asked)

    def body_for(self, asked: Asked) -> bytes:
        told = {"name": self.server.name, "count": self.server.count}
        return json.dumps(told | {"method": asked.method, "target": asked.target, "id": asked.test_id}).encode()


def message(status: str, body: bytes, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def answers(door: Door, asked: Asked, status: str = "200 OK", *fields: str) -> None:
    door.send(message(status, door.body_for(asked), *fields))


def says(status: str, *fields: str) -> Callable[[Door, Asked], None]:
    return lambda door, asked: answers(door, asked, status, *fields)


def resets(door: Door, asked: Asked) -> None:
    door.reset()


def flaky(door: Door, asked: Asked) -> None:
    """Every other request fails: never several in a row."""
    if door.server.count % 2:
        answers(door, asked, "503 Service Unavailable")
    else:
        answers(door, asked)


def hangs_up(door: Door, asked: Asked) -> None:
    door.close()


def never_answers(door: Door, asked: Asked) -> None: ...


def half(door: Door, asked: Asked) -> None:
    _begin_answer(door, asked)
    door.later(MID_BODY_S, door.close)


def half_reset(door: Door, asked: Asked) -> None:
    _begin_answer(door, asked)
    door.later(MID_BODY_S, door.reset)


def _begin_answer(door: Door, asked: Asked) -> None:
    body = door.body_for(asked)
    door.send(message("200 OK", body)[: -len(body) // 2])


def half_chunked(door: Door, asked: Asked) -> None:
    """One chunk of two, and no last one; unless we are late: a gateway need not hold for long what may be endless."""
    body = door.body_for(asked)
    middle = len(body) // 2
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    began_s = time.monotonic()
    door.send(head + b"%x\r\n%b\r\n" % (middle, body[:middle]))

    def end() -> None:
        if time.monotonic() - began_s > 2 * MID_BODY_S:
            door.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) - middle, body[middle:]))
        else:
            door.close()

    door.later(MID_BODY_S, end)


def trickles(door: Door, asked: Asked) -> None:
    left = bytearray(message("200 OK", door.body_for(asked)))

    def drip() -> None:
        door.send(bytes(left[:1]))
        del left[:1]
        if left:
            door.later(TRICKLE_S, drip)

    drip()


def closes_idle(door: Door, asked: Asked) -> None:
    """As if it kept the connection; the close meets the next request on its way."""
    answers(door, asked)
    if random.random() < 0.5:
        door.close()
    else:
        door.later(random.random() * IDLE_CLOSE_S, door.close)


def garbage(door: Door, asked: Asked) -> None:
    door.send(b"\x16\x03\x01\x00\xff this is no HTTP\r\n\r\n")
    door.close()


FAULTS: Mapping[str, Callable[[Door, Asked], None]] = {
    "ok": answers,
    "refuses": answers,  # nobody gets as far as to be answered: the listener is closed
    "never_accepts": answers,  # nor here: its queue is full, and to whoever comes now the network is silent
    "resets": resets,
    "flaky": flaky,
    "hangs_up": hangs_up,
    "never_answers": never_answers,
    "half": half,
    "half_reset": half_reset,
    "half_chunked": half_chunked,
    "trickles": trickles,
    "closes_idle": closes_idle,
    "garbage": garbage,
    "status_502": says("502 Bad Gateway"),
    "status_503": says("503 Service Unavailable"),
    "status_504": says("504 Gateway Timeout"),
    "busy": says("503 Service Unavailable", "Retry-After: 1"),
}
FROM_OUTSIDE = ("killed", "frozen", "restarts")  # SIGKILL, SIGSTOP, and SIGKILL with a new start at once


class Control(Connection):
    """The other port, which works whatever the first one does."""

    def act(self, asked: Asked) -> None:
        match asked.method, asked.target:
            case "POST", "/_fault" if asked.body.decode() in FAULTS:
                self.server.tasks.add(asyncio.ensure_future(self._switch(asked.body.decode())))
            case "GET", "/_fault":
                self.send(message("200 OK", json.dumps(self.server.fault).encode()))
            case "GET", "/_seen":
                self.send(message("200 OK", json.dumps(read_record(self.server.record_path)).encode()))
            case _:
                self.send(message("404 Not Found", json.dumps(list(FAULTS)).encode()))

    async def _switch(self, fault: str) -> None:
        await self.server.switch(fault)
        self.send(message("200 OK", json.dumps(fault).encode()))


class Server:
    """The process: what it suffers from, and what it has seen."""

    def __init__(self, name: str, host: str, port: int, record_path: Path) -> None:
        self.name = name
        self.fault = "ok"
        self.count = 0  # acted on, since this process started
        self.doors: set[Door] = set()
        self.tasks: set[asyncio.Future[None]] = set()
        self.record_path = record_path
        self._record = os.open(record_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._host, self._port = host, port
        self._listener: asyncio.Server | None = None
        self._deaf: list[socket.socket] = []  # a listener and those who fill its queue

    def record(self, asked: Asked) -> None:
        self.count += 1
        os.write(self._record, f"{asked.method}\t{asked.target}\t{asked.test_id}\t{self.fault}\n".encode())

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Door(self), self._host, self._port, backlog=1024)

    async def switch(self, fault: str) -> None:
        self.fault = fault
        for deaf in self._deaf:
            deaf.close()
        self._deaf.clear()
        if fault not in {"refuses", "never_accepts"}:
            if self._listener is None:
                await self.listen()
            return
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            await asyncio.sleep(0)  # uvloop closes the socket in its next turn
        for door in list(self.doors):
            door.close()
        if fault == "never_accepts":
            self._turn_deaf()

    def _turn_deaf(self) -> None:
        self._deaf.append(socket.create_server((self._host, self._port), backlog=0))
        for _ in range(4):
            waiting = socket.socket()
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect((self._host, self._port))
            self._deaf.append(waiting)


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def hear() -> None:
        if not os.read(0, 4096):
            ended.set()

    if options.until_stdin_ends:
        loop.add_reader(0, hear)
    server = Server(options.name, options.host, options.port, options.record)
    control = await loop.create_server(lambda: Control(server), options.host, options.control)
    await server.listen()
    told = control.sockets[0].getsockname()
    sys.stdout.write(f"{options.name} on {options.host}:{options.port}, control on {told[0]}:{told[1]}\n")
    sys.stdout.flush()
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser("python -m tests.live.faulty", description="A server with faults.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=int, default=0, help="the control port (default: a free one, printed)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--name", default="A")
    parser.add_argument("--record", type=Path, default=Path(os.devnull), help="the file of what was acted on")
    parser.add_argument("--until-stdin-ends", action="store_true", help="end with whoever started it")
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(parser.parse_args()))


# -- from Python --------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """A request that the server acted on."""

    method: str
    target: str
    test_id: str
    fault: str


def read_record(path: Path) -> list[Seen]:
    """A record's whole lines."""
    *lines, _ = path.read_text("utf-8").split("\n")
    return [Seen(*line.split("\t")) for line in lines]


class Faulty(Started):
    """A faulty server as a process; as a context manager it answers inside and is gone afterwards.

    `suffer(fault)` and `recover()` know the faults of FAULTS and FROM_OUTSIDE alike.
    """

    def __init__(self, name: str, folder: Path, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.name = name
        self.host = host
        self.fault = "ok"
        self._ports = HeldPorts(host)
        self.port = self._ports.hold(port)
        self.control_port = self._ports.hold()
        self.url = f"http://{host}:{self.port}"
        self.record_path = folder / f"{name}-{self.port}.seen"
        self.record_path.touch()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Faulty {self.name} {self.url} {self.fault}>"

    # -- its life ---------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers."""
        ports = ["--host", self.host, "--port", str(self.port), "--control", str(self.control_port)]
        others = ["--name", self.name, "--record", str(self.record_path), "--until-stdin-ends"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.live.faulty", *ports, *others],
            cwd=HOME,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C for pytest is not one for it
        )
        eventually(self.is_listening)

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Stopped or not, running or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting for it, up to its backlog."""
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: self._state() == "T")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0]

    def is_listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), CONTROL_TIMEOUT_S):
            return True
        return False

    # -- its faults -------------------------------------------------------------------------------------------------

    def suffer(self, fault: str) -> None:
        """The fault has begun when this returns."""
        self.fault = fault
        match fault:
            case "killed":
                self.kill()
            case "frozen":
                self.freeze()
            case "restarts":
                self.restart()
            case _:
                self._switch(fault)

    def recover(self) -> None:
        """Whatever it was has ended when this returns."""
        fault, self.fault = self.fault, "ok"
        match fault:
            case "killed":
                self.start()
            case "frozen":
                self.thaw()
            case "restarts":
                pass
            case _:
                self._switch("ok")

    @contextlib.contextmanager
    def suffering(self, fault: str) -> Iterator[None]:
        self.suffer(fault)
        try:
            yield
        finally:
            self.recover()

    def _switch(self, fault: str) -> None:
        connection = HTTPConnection(self.host, self.control_port, timeout=CONTROL_TIMEOUT_S)
        try:
            connection.request("POST", "/_fault", fault)
            response = connection.getresponse()
            told = response.read()
            assert response.status == 200, f"no such fault: {fault}; known: {told.decode()}"
        finally:
            connection.close()
        if fault == "refuses":
            eventually(lambda: not self.is_listening())

    # -- what it saw ------------------------------------------------------------------------------------------------

    def seen(self) -> list[Seen]:
        """All that it acted on since it was made, or since `forget`; also while it is down."""
        return read_record(self.record_path)

    def forget(self) -> None:
        os.truncate(self.record_path, 0)

    def close(self) -> None:
        self.kill()
        self._ports.close()


class HeldPorts:
    """Ports that nobody else gets while our server is down.

    A socket that is bound and does not listen holds its port against whoever binds without SO_REUSEADDR, as all that
    look for a free port do; our server binds with it, and may. While only the holder is there, the port refuses.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._held: list[socket.socket] = []

    def hold(self, port: int = 0) -> int:
        """This port, or any below the range that outgoing connections are given theirs from."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            held = socket.socket()
            try:
                with contextlib.closing(socket.socket()) as probe:
                    wanted = port or PORTS.pop()
                    probe.bind((self._host, wanted))
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((self._host, wanted))
            except OSError:
                held.close()
                if port or time.monotonic() > give_up:
                    raise
            else:
                self._held.append(held)
                return wanted

    def close(self) -> None:
        for held in self._held:
            held.close()


if __name__ == "__main__":
    main()
