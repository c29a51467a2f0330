"""A strict upstream that records: every byte that arrives is read by the letter of RFC 9112 (`strict`).

It answers a whole, clean request with 200 and its serial number (field `X-Serial`, and the body), so that an answer
that reaches the wrong client is seen; anything else with 400, and closes. `since(mark)` are the requests that arrived
after `mark()`, whole or not, clean or not.
"""

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import Self

from .strict import Fault, Request, read_request


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


class StrictUpstream:
    """Listens on a free port of 127.0.0.1 until `close`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._arrivals: list[Arrival] = []
        self._connections: dict[int, socket.socket] = {}
        self._count = 0
        self._thread = threading.Thread(target=self._accept, name=f"strict:{self.port}", daemon=True)
        self._thread.start()

    # -- what a test asks -----------------------------------------------------------------------------------------

    def mark(self) -> int:
        with self._lock:
            return len(self._arrivals)

    def since(self, mark: int, settle_s: float = 1.0) -> list[Arrival]:
        """What arrived since then, once nothing is half here any more, or the time is over."""
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
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the wire ---------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._count += 1
                number = self._count
                self._connections[number] = accepted
            threading.Thread(target=self._serve, args=[number, accepted], daemon=True).start()

    def _serve(self, number: int, connection: socket.socket) -> None:
        arrival: Arrival | None = None
        buffer = b""
        try:
            while True:
                data = connection.recv(1 << 16)
                if not data:
                    break
                buffer += data
                while buffer:
                    request = read_request(buffer)
                    arrival = self._record(number, arrival, request)
                    if not request.is_whole and not request.is_fatal:
                        break
                    buffer = buffer[len(request.raw) :]
                    goes_on = self._answer(connection, arrival)
                    arrival = None
                    if not goes_on:
                        return
        except OSError:
            pass
        finally:
            with self._moved:
                if arrival is not None:
                    arrival.is_over = True
                    if not arrival.request.has_head and Fault.REQUEST_LINE not in arrival.request.faults:
                        # Not even a head: what a proxy left lying on a connection, or broke off.
                        arrival.request.faults.append(Fault.REQUEST_LINE)
                del self._connections[number]
                self._moved.notify_all()
            connection.close()

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
