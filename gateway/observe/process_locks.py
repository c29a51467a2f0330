"""Locks between processes, which a killed process does not keep: the kernel frees them with its descriptors.

But only a lock on a descriptor that a process opened itself excludes others: forked processes share inherited
descriptors (flock(2): locks belong to the open file description), and both would hold the lock. So each worker opens
its own descriptors, of files without a name.
"""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

# A worker that lost the processor while it holds a lock gets it back by then, on a healthy machine. A stopped worker
# keeps its lock: others do not wait for that.
PATIENCE_S: Final = 0.25

_REOPENED: Final = Path("/proc/self/fd")  # opening a path there makes a new file description
_flock: Final = fcntl.flock if _REOPENED.exists() else fcntl.lockf
_TAKE: Final = fcntl.LOCK_EX | fcntl.LOCK_NB
_FREE: Final = fcntl.LOCK_UN


class LockHeld(Exception):
    """The lock is held for longer than any worker should hold it."""


def anonymous_file(name: str) -> int:
    """A file in memory without a path; the descriptor is not inherited by programs that are executed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(f"portway-{name}")
    descriptor, path = tempfile.mkstemp(prefix=f"portway-{name}-")
    os.unlink(path)  # noqa: PTH108 - the descriptor keeps it alive
    return descriptor


class ProcessLocks:
    """Several locks. Created before the workers are forked; `open` it in each of them."""

    def __init__(self, count: int) -> None:
        self._files = [anonymous_file("lock") for _ in range(count)]
        self._own: list[int] = []

    def open(self) -> None:
        """From here on this process can take locks. A process that it forks cannot."""
        if _REOPENED.exists():
            self._own = [os.open(_REOPENED / str(number), os.O_RDWR | os.O_CLOEXEC) for number in self._files]
        else:  # not on Linux: these locks belong to the process, and no forked one inherits them
            self._own = self._files
        os.register_at_fork(after_in_child=self.close)

    def close(self) -> None:
        """Release all locks, and take no more."""
        own, self._own = self._own, []
        for number in own:
            with contextlib.suppress(OSError):
                os.close(number)

    def take(self, number: int) -> int:
        """Take one lock; returns the argument for `free`. Raises LockHeld."""
        descriptor = self._own[number]
        try:
            _flock(descriptor, _TAKE)
        except BlockingIOError:
            _wait(descriptor)
        return descriptor

    @staticmethod
    def free(descriptor: int) -> None:
        _flock(descriptor, _FREE)

    @contextlib.contextmanager
    def taken(self, numbers: Sequence[int]) -> Iterator[None]:
        """Take several locks, always in the same order, so that there is no deadlock. Raises LockHeld."""
        held: list[int] = []
        try:
            for number in sorted(set(numbers)):
                held.append(self.take(number))  # noqa: PERF401 - those taken must be freed if one fails
            yield
        finally:
            for descriptor in held:
                self.free(descriptor)


def _wait(descriptor: int) -> None:
    """Wait a moment: locks are held for microseconds, and a holder without a processor gets one meanwhile."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        os.sched_yield()
        try:
            fcntl.flock(descriptor, _TAKE)
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                raise LockHeld(f"another worker holds the lock for {PATIENCE_S * 1000:.0f} ms") from None
        else:
            return
