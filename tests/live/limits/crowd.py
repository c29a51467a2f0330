"""Clients that ask as fast as they are answered, and what they got, with the times between which it was decided."""

import contextlib
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

REQUEST = b"GET /x HTTP/1.1\r\nHost: gateway.test\r\n\r\n"


class Crowd:
    """`connections` clients of each gateway, from entering to leaving.

    Each keeps its connection, and makes another one where it broke; `broken` requests may have passed or not.
    """

    def __init__(self, ports: Sequence[int], connections: int = 4, request: bytes = REQUEST) -> None:
        self.statuses: dict[int, int] = {}
        self.broken = 0
        self.first_sent_s = self.first_answered_s = self.last_sent_s = self.last_answered_s = 0.0
        self._request = request
        self._lock = threading.Lock()
        self._is_over = False
        self._threads = [
            threading.Thread(target=self._ask, args=[port], daemon=True) for port in ports for _ in range(connections)
        ]

    def __enter__(self) -> Self:
        self.first_sent_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join(20)

    @property
    def passed(self) -> int:
        return self.statuses.get(200, 0)

    def _ask(self, port: int) -> None:
        connection: socket.socket | None = None
        while not self._is_over:
            sent_s = time.monotonic()
            try:
                if connection is None:
                    connection = socket.create_connection(("127.0.0.1", port), 10)
                connection.sendall(self._request)
                status = _status_of(connection)
            except OSError:
                with self._lock:
                    self.broken += 1
                if connection is not None:
                    connection.close()
                connection = None
                time.sleep(0.005)
                continue
            self._note(status, sent_s)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def _note(self, status: int, sent_s: float) -> None:
        now_s = time.monotonic()
        with self._lock:
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if not self.first_answered_s:
                self.first_answered_s = now_s
            self.last_sent_s = max(self.last_sent_s, sent_s)
            self.last_answered_s = max(self.last_answered_s, now_s)

    def expected(self, burst: int, per_s: float) -> tuple[float, float]:
        """How many may have passed at least and at most, if there were always more who wanted to.

        The decisions lie between the first request and the last answer, and in any case between the first answer and
        the last request: how long an answer took makes no difference to what is allowed.
        """
        least = burst + per_s * (self.last_sent_s - self.first_answered_s)
        most = burst + per_s * (self.last_answered_s - self.first_sent_s)
        return least, most


def _status_of(connection: socket.socket) -> int:
    """Read one answer with a Content-Length. Raises OSError where it breaks off."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _more(connection)
    return int(data.split(b" ", 2)[1])


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionResetError
    return data
