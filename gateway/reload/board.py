"""State that the parent publishes to the workers of all generations, in shared memory: only the parent writes."""

import contextlib
import mmap
import os
import struct
from enum import IntEnum
from typing import Final

_MOST_TEXT: Final = 32 * 1024
# pid, generation, whether a reload is under way, reloads that have ended, when the last one did, its outcome, the
# length of its text; then the number of each outcome.
_STATE: Final = struct.Struct("=II?IdBI")
_COUNTS: Final = struct.Struct("=III")


class Outcome(IntEnum):
    """The outcome of a reload: done; refused, since `check` finds a problem; failed, since the new one never
    started."""

    DONE = 0
    REFUSED = 1
    FAILED = 2

    @property
    def word(self) -> str:
        return self.name.lower()


class Board:
    """Made by the parent before it forks. `parent_pid` is the process that SIGHUP goes to."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _STATE.size + _COUNTS.size + _MOST_TEXT)
        self._asked = os.pipe()
        os.set_blocking(self._asked[0], False)
        os.set_blocking(self._asked[1], False)
        self._write(os.getpid(), 1, False, 0, 0.0, 0, 0)

    # -- the parent ---------------------------------------------------------------------------------------------------

    @property
    def asked(self) -> int:
        """A descriptor that is readable when a worker was asked for a reload."""
        return self._asked[0]

    def begin(self) -> None:
        pid, generation, _, ended, at_s, outcome, length = self._read()
        self._write(pid, generation, True, ended, at_s, outcome, length)

    def end(self, outcome: Outcome, generation: int, text: str, now_s: float) -> None:
        """A reload has ended; `generation` is the one that serves now."""
        data = text.encode("utf-8", "replace")[:_MOST_TEXT]
        start = _STATE.size + _COUNTS.size
        self._memory[start : start + len(data)] = data
        counts = list(_COUNTS.unpack_from(self._memory, _STATE.size))
        counts[outcome] += 1
        _COUNTS.pack_into(self._memory, _STATE.size, *counts)
        pid, _, _, ended, *_ = self._read()
        self._write(pid, generation, False, ended + 1, now_s, outcome, len(data))

    # -- a worker -----------------------------------------------------------------------------------------------------

    def ask(self) -> int:
        """Ask for a reload; returns the value of `ended` once that one has ended."""
        _, _, is_under_way, ended, *_ = self._read()
        with contextlib.suppress(BlockingIOError):  # the pipe is full of requests already
            os.write(self._asked[1], b"r")
        return ended + (2 if is_under_way else 1)

    @property
    def parent_pid(self) -> int:
        return self._read()[0]

    @property
    def generation(self) -> int:
        return self._read()[1]

    @property
    def ended(self) -> int:
        """How many reloads have ended."""
        return self._read()[3]

    @property
    def counts(self) -> dict[str, int]:
        """How many reloads there were, by outcome."""
        counts = _COUNTS.unpack_from(self._memory, _STATE.size)
        return {outcome.word: counts[outcome] for outcome in Outcome}

    def last(self) -> tuple[Outcome, float, str]:
        """The outcome of the last reload, its time, and the text of `check`."""
        _, _, _, _, at_s, outcome, length = self._read()
        start = _STATE.size + _COUNTS.size
        text = self._memory[start : start + length].decode("utf-8", "replace")
        return Outcome(outcome), at_s, text

    def _read(self) -> tuple[int, int, bool, int, float, int, int]:
        found: tuple[int, int, bool, int, float, int, int] = _STATE.unpack_from(self._memory)
        return found

    def _write(self, *state: object) -> None:
        _STATE.pack_into(self._memory, 0, *state)
