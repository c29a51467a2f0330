"""Clients that ask and ask while gateways follow each other: what each of them was answered, and what went wrong.

with Clients(gateway.connect, ["keeping", "near"], target="/b/load", body=b"hello") as clients:
    ...
assert clients.failures == []
"""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from tests.live.harness import PATIENCE_S, Wire, request_bytes

FAR_S = 0.03  # how long it takes from a far client's connection to its request


class Clients:
    """A thread for each kind that is named: `near` and `far` make a connection a request, `keeping` keeps its own."""

    def __init__(
        self, connect: Callable[[], Wire], kinds: Sequence[str], *, target: str, body: bytes, pause_s: float = 0.005
    ) -> None:
        self.answered: list[str] = []  # by what kind of client
        self.failures: list[str] = []
        self._connect = connect
        self._target = target
        self._body = body
        self._pause_s = pause_s
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[kind], daemon=True) for kind in kinds]

    def _ask(self, kind: str) -> None:
        wire: Wire | None = None
        while not self._ending.wait(self._pause_s):
            is_last = True
            try:
                wire = wire or self._connect()
                if kind == "far":
                    self._ending.wait(FAR_S)
                wire.send(request_bytes("GET", self._target))
                answer = wire.read_answer()
                assert (answer.status, answer.body) == (200, self._body), answer
                self.answered.append(kind)
                is_last = kind != "keeping" or answer.all("connection") == ["close"]
            except (OSError, AssertionError) as error:
                self.failures.append(f"{datetime.now(UTC):%H:%M:%S.%f} {kind}: {error!r}")
            if is_last and wire is not None:
                wire.close()
                wire = None
        if wire is not None:
            wire.close()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
