"""Workers publish their counts to each other: a slot for each in shared memory, made before they are forked.

No file is needed, so it works on a read-only file system. A restarted worker takes the slot of the one that died, with
the data that this one published.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final

from gateway.observe.process_locks import anonymous_file

# Each slot is written in two halves in turn, so that a worker that is killed while writing leaves the last one whole.
_HALF_BYTES: Final = 8 * 2**20  # the system allocates it only as it is written to
_PLACE_BYTES: Final = 2 * _HALF_BYTES
_HEAD: Final = struct.Struct("<IIQQ")  # length, checksum, process, serial number: the greater one is newer


class SharedMemory:
    """Created by the parent; each worker calls `join` once, after the fork."""

    def __init__(self, workers: int) -> None:
        self._count = workers
        file = anonymous_file("counts")  # unlike memory without a file, the system counts it only as it is written to
        os.ftruncate(file, workers * _PLACE_BYTES)
        self._memory = mmap.mmap(file, workers * _PLACE_BYTES)
        os.close(file)
        self._number: int | None = None
        self._serial = 0

    def join(self, number: int) -> bytes | None:
        """Take slot `number`, from 0; returns what the previous worker in it published last, or nothing."""
        self._number = number
        newest = self._newest(number)
        self._serial = newest[0] if newest is not None else 0
        return None if newest is None else newest[2]

    def publish(self, data: bytes) -> None:
        """Publish this in place of what was published before."""
        if self._number is None or len(data) > _HALF_BYTES - _HEAD.size:
            return
        self._serial += 1
        at = self._number * _PLACE_BYTES + self._serial % 2 * _HALF_BYTES
        _HEAD.pack_into(self._memory, at, 0, 0, 0, 0)  # invalid until all of it is written
        self._memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, at, len(data), zlib.crc32(data), os.getpid(), self._serial)

    def others(self) -> Iterator[tuple[int, bytes]]:
        """Process id and data of the other slots, those of dead workers included."""
        for number in range(self._count):
            if number != self._number and (newest := self._newest(number)) is not None:
                yield newest[1:]

    def _newest(self, number: int) -> tuple[int, int, bytes] | None:
        """Serial number, process id and data of what was published last in this slot."""
        for _ in range(5):  # it may be being written
            halves = [self._half(number * _PLACE_BYTES + half * _HALF_BYTES) for half in range(2)]
            found = [half for half in halves if half is not None]
            if found:
                return max(found)
        return None

    def _half(self, at: int) -> tuple[int, int, bytes] | None:
        length, checksum, process, serial = _HEAD.unpack_from(self._memory, at)
        data = self._memory[at + _HEAD.size : at + _HEAD.size + length]
        return (serial, process, data) if length and zlib.crc32(data) == checksum else None


def is_alive(process: int) -> bool:
    """Whether a process exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
