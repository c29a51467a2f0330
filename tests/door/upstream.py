"""A strict upstream that records: every byte that arrives is read by the letter of RFC 9112 (`strict`).

It answers a whole, clean request with 200 and its serial number (field `X-Serial`, and the body), so that an answer
that reaches the wrong client is seen; anything else with 400, and closes. `since(mark)` are the requests that arrived
after `mark()`, whole or not, clean or not.
"""

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass
from typing import Self

from .strict import Fault, Request, read_request

PATIENCE_S = 30.0  # for what a machine with better things to do may take


@dataclass(slots=True)
class Arrival:
    """A request on its way in, or what was taken for one."""

    serial: int
    connection: int
    request: Request
    is_over: bool = False  # whole, refused, or its connection has ended

    @property
    def is_clean(self) -> bool:
        return not self.request.faults

    def __repr__(self) -> str:
        return f"#{self.serial} {self.request!r}"


@dataclass(slots=True)
class _Connection:
    number: int
    socket: socket.socket
    buffer: bytes = b""
    arrival: Arrival | None = None  # the one that is half here


class StrictUpstream:
    """Listens on a free port of 127.0.0.1 until `close`.

    One thread serves all connections, so that there is a moment of which it can be known that everything that was
    there before has been read: `since` waits for that moment. With a thread for each connection, what was sent first
    may be recorded last, and is then taken for a part of the next case.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._arrivals: list[Arrival] = []
        self._barriers: list[threading.Event] = []
        self._is_closing = False
        self._count = 0
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"strict:{self.port}", daemon=True)
        self._thread.start()

    # -- what a test asks -----------------------------------------------------------------------------------------

    def mark(self) -> int:
        with self._lock:
            return len(self._arrivals)

    def since(self, mark: int, settle_s: float = 1.0) -> list[Arrival]:
        """All that had been sent by now, once nothing of it is half here any more, or the time is over."""
        self._read_all()
        give_up = time.monotonic() + settle_s
        with self._moved:
            while not all(arrival.is_over for arrival in self._arrivals[mark:]):
                left = give_up - time.monotonic()
                if left <= 0:
                    break
                self._moved.wait(left)
            return self._arrivals[mark:]

    def wait_for_other(self, mark: int, prefix: bytes, within_s: float) -> None:
        """Until something has arrived whose target does not begin so, or the time is over."""
        give_up = time.monotonic() + within_s
        with self._moved:
            while all(arrival.request.target.startswith(prefix) for arrival in self._arrivals[mark:]):
                left = give_up - time.monotonic()
                if left <= 0:
                    break
                self._moved.wait(left)

    def close(self) -> None:
        self._is_closing = True
        self._wake.send(b"!")
        self._thread.join(5)
        self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_all(self) -> None:
        """Returns when all that lay in the kernel at the call has been read: connections, bytes and their ends."""
        barrier = threading.Event()
        with self._lock:
            self._barriers.append(barrier)
        self._wake.send(b"!")
        assert barrier.wait(PATIENCE_S), "the upstream's thread does not answer"

    # -- the wire ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_closing:
                with self._lock:
                    waiting = tuple(self._barriers)
                ready = [key for key, _ in self._selector.select(0 if waiting else None)]
                for key in ready:
                    if key.fileobj is self._woken:
                        self._woken.recv(1 << 16)
                    elif key.fileobj is self._listener:
                        self._accept()
                    else:
                        self._serve(key.data)
                if not ready:  # nothing was left for those who had asked before it was looked for
                    with self._lock:
                        del self._barriers[: len(waiting)]
                    for barrier in waiting:
                        barrier.set()
        finally:
            for key in tuple(self._selector.get_map().values()):
                key.fileobj.close()  # type: ignore[union-attr]  # they are all sockets
            self._selector.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it left again
            accepted, _ = self._listener.accept()
            accepted.settimeout(PATIENCE_S)
            self._count += 1
            self._selector.register(accepted, selectors.EVENT_READ, _Connection(self._count, accepted))

    def _serve(self, connection: _Connection) -> None:
        """Take what has arrived on it."""
        try:
            data = connection.socket.recv(1 << 16)
            goes_on = bool(data) and self._take(connection, data)
        except OSError:
            goes_on = False
        if goes_on:
            return
        with self._moved:
            if (arrival := connection.arrival) is not None:
                arrival.is_over = True
                if not arrival.request.has_head and Fault.REQUEST_LINE not in arrival.request.faults:
                    # Not even a head: what a proxy left lying on a connection, or broke off.
                    arrival.request.faults.append(Fault.REQUEST_LINE)
            self._moved.notify_all()
        self._selector.unregister(connection.socket)
        connection.socket.close()

    def _take(self, connection: _Connection, data: bytes) -> bool:
        """Record and answer what is whole by now; whether the connection goes on."""
        connection.buffer += data
        while connection.buffer:
            request = read_request(connection.buffer)
            connection.arrival = arrival = self._record(connection.number, connection.arrival, request)
            if not request.is_whole and not request.is_fatal:
                break
            connection.buffer = connection.buffer[len(request.raw) :]
            goes_on = self._answer(connection.socket, arrival)
            connection.arrival = None
            if not goes_on:
                return False
        return True

    def _record(self, number: int, arrival: Arrival | None, request: Request) -> Arrival:
        with self._moved:
            if arrival is None:
                arrival = Arrival(len(self._arrivals) + 1, number, request)
                self._arrivals.append(arrival)
            arrival.request = request
            arrival.is_over = request.is_whole or request.is_fatal
            self._moved.notify_all()
        return arrival

    def _answer(self, connection: socket.socket, arrival: Arrival) -> bool:
        """Answer it; whether the connection goes on."""
        request = arrival.request
        if not arrival.is_clean:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        if request.method == b"CONNECT":  # a 200 would begin a tunnel
            refusal = b"HTTP/1.1 501 No Tunnels\r\nContent-Length: 0\r\nX-Serial: %d\r\nConnection: close\r\n\r\n"
            connection.sendall(refusal % arrival.serial)
            return False
        options = b",".join(request.values(b"connection")).lower()
        goes_on = b"close" not in options and (request.version != b"HTTP/1.0" or b"keep-alive" in options)
        body = b"%d" % arrival.serial
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Serial: %d\r\n" % (len(body), arrival.serial)
        if not goes_on:
            head += b"Connection: close\r\n"
        connection.sendall(head + b"\r\n" + (b"" if request.method == b"HEAD" else body))
        return goes_on
