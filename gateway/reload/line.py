"""The line between the parent and one generation: orders are sent down, a byte each, and reports up, a line each.

A generation is a process that has read the environment and the routes, and the workers that it forked. The parent makes
what all generations share before the first one.
"""

import contextlib
import io
import json
import mmap
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.limits.memory_store import Memory
from gateway.observe.message_ring import MessageRing
from gateway.observe.shared_memory import SharedMemory
from gateway.reload.board import Board

# Orders: listen; drain, since a newer generation serves; drain, since the gateway stops; stop at once; go away.
GO: Final = b"g"
RETIRE: Final = b"r"
DRAIN: Final = b"d"
CUT: Final = b"c"
LEAVE: Final = b"l"

# The number of generations with slots in shared memory: one serves, one starts, and some still drain.
PLACES: Final = 4


class Inherited:
    """Objects that all generations share. Made by the parent."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.shared_memory = SharedMemory(workers * PLACES)
        several = workers > 1
        self.limits = Memory(is_shared=True) if several else None
        self.purges = MessageRing() if several else None
        self.board = Board()
        self.deaths = mmap.mmap(-1, mmap.PAGESIZE)  # how many workers died
        self.started_s = time.time()


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a generation's configuration, reported to the parent before it listens.

    `fixed` are values that no reload can change: by variable, the value as it may be shown, and its digest. `warnings`
    are those of `check`. `config_hash` identifies the configuration.
    """

    fixed: Mapping[str, tuple[str, str]]
    log: str
    log_level: str
    watches: bool
    files: tuple[str, ...] = ()
    warnings: str = ""
    config_hash: str = ""


@dataclass(slots=True)
class Line:
    """A generation's end. `place` is the first of its workers' slots in shared memory."""

    number: int
    inherited: Inherited
    place: int
    orders: int
    _reports: int
    _captured: io.StringIO | None = field(default=None)

    @property
    def is_first(self) -> bool:
        """Whether this is the first generation: then problems go to stderr, and the port must be free."""
        return self.number == 1

    def capture_stderr(self) -> None:
        """From now on stderr is captured for the parent, which logs it."""
        self._captured = sys.stderr = io.StringIO()

    def release_stderr(self) -> str:
        """End the capture; returns the captured text."""
        if self._captured is None:
            return ""
        text, self._captured = self._captured.getvalue(), None
        sys.stderr = sys.__stderr__
        return text

    def report(self, **fields: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, which the pipe of orders shows too
            os.write(self._reports, json.dumps(fields).encode() + b"\n")

    def may_go(self) -> bool:
        """Wait for the order to listen; False if it is another one, or the parent is gone."""
        return os.read(self.orders, 1) == GO

    def close_in_worker(self) -> None:
        """Close the line in a worker, which must not use it."""
        os.close(self._reports)
        os.close(self.orders)


# The line of this process, if it is a generation.
current: Line | None = None
