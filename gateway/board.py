"""Where workers see each other's counts: a slot for each in memory that they share, made before they are forked.

No file is needed, so it works where nothing can be written. What a worker that died has counted stays.
"""

import mmap
import os
import struct
import zlib
from collections.abc import Iterator

_SLOT_BYTES = 8 * 2**20  # taken from the system only as far as it is written to
_SPARE = 64  # workers that are started again take a new slot
_HEAD = struct.Struct("<IIQ")  # length, checksum, process


class Board:
    """Made by the parent; each worker `join`s once, in itself."""

    def __init__(self, workers: int) -> None:
        self._count = workers + _SPARE
        self._memory = mmap.mmap(-1, self._count * _SLOT_BYTES)
        # A pipe gives each of its bytes to one reader only: these are the numbers of the slots.
        tickets, full = os.pipe()
        os.write(full, bytes(range(self._count)) if self._count <= 256 else bytes(range(256)))
        os.close(full)
        self._tickets = tickets
        self._slot: int | None = None

    def join(self) -> None:
        """Take a slot. Where none is left, this worker is seen by itself only."""
        ticket = os.read(self._tickets, 1)
        self._slot = ticket[0] if ticket else None

    def publish(self, data: bytes) -> None:
        """Show this instead of what was shown before."""
        if self._slot is None or len(data) > _SLOT_BYTES - _HEAD.size:
            return
        at = self._slot * _SLOT_BYTES
        self._memory[at + _HEAD.size : at + _HEAD.size + len(data)] = data
        _HEAD.pack_into(self._memory, at, len(data), zlib.crc32(data), os.getpid())

    def others(self) -> Iterator[tuple[int, bytes]]:
        """What the others show, with the numbers of their processes, the dead ones too."""
        for slot in range(self._count):
            if slot != self._slot and (found := self._read(slot)) is not None:
                yield found

    def _read(self, slot: int) -> tuple[int, bytes] | None:
        at = slot * _SLOT_BYTES
        for _ in range(5):  # it may be written just now
            length, checksum, process = _HEAD.unpack_from(self._memory, at)
            if not length:
                return None
            data = self._memory[at + _HEAD.size : at + _HEAD.size + length]
            if zlib.crc32(data) == checksum:
                return process, data
        return None


def is_alive(process: int) -> bool:
    """Whether a process of ours still runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
