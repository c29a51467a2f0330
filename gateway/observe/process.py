"""The resources of a process: memory, processor time, files. Only Linux reports them; elsewhere they are None."""

import os
import time
from pathlib import Path
from typing import Final, NamedTuple

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_STATM: Final = Path("/proc/self/statm")
# Counting open files takes time in proportion to their number.
_COUNT_FILES_S: Final = 5.0


class Taken(NamedTuple):
    """Resources of this process: resident memory, seconds of processor time so far, open files."""

    memory_bytes: int | None
    cpu_s: float
    open_files: int | None


class ProcessMeter:
    """Measures this process. The number of open files is at most five seconds old."""

    def __init__(self) -> None:
        self._open_files: int | None = None
        self._count_at_s = 0.0

    def read(self, now_s: float) -> Taken:
        """`now_s` is of any clock that does not go back."""
        if now_s >= self._count_at_s:
            self._count_at_s = now_s + _COUNT_FILES_S
            try:
                with os.scandir("/proc/self/fd") as files:
                    self._open_files = sum(1 for _ in files)
            except OSError:
                self._open_files = None
        return Taken(_memory_bytes(), time.process_time(), self._open_files)


def _memory_bytes() -> int | None:
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except OSError:
        return None
