"""Messages from one worker to all others of a gateway, in shared memory: published before the worker goes on.

No worker is woken: each looks at one number, which costs nothing while there is no news. The messages are in a ring. A
worker that has not read for so long that a message was overwritten learns that it missed something.
"""

import mmap
import os
import struct
from typing import Final

from gateway.observe.process_locks import ProcessLocks

PLACES: Final = 512
PLACE_BYTES: Final = 2048
_HEAD: Final = struct.Struct("=II")  # the length of the message, and its process
_COUNT_BYTES: Final = 8


class MessageRing:
    """Created before the workers are forked; each worker calls `join` once."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _COUNT_BYTES + PLACES * PLACE_BYTES)  # the system allocates it as it is written to
        self._count = memoryview(self._memory)[:_COUNT_BYTES].cast("Q")
        self._locks = ProcessLocks(1)
        self._received = 0

    def join(self) -> None:
        """From here on this worker may publish messages, and receives those of others."""
        self._locks.open()
        self._received = self._count[0]

    @property
    def has_news(self) -> bool:
        return self._count[0] != self._received

    def publish(self, message: bytes) -> None:
        """Publish a message: once this returns, all workers can read it. Raises LockHeld."""
        with self._locks.taken([0]):
            number = self._count[0]
            at = _COUNT_BYTES + number % PLACES * PLACE_BYTES
            _HEAD.pack_into(self._memory, at, len(message), os.getpid())
            if len(message) <= PLACE_BYTES - _HEAD.size:
                self._memory[at + _HEAD.size : at + _HEAD.size + len(message)] = message
            self._count[0] = number + 1  # a worker that is killed before this has published nothing

    def receive(self) -> list[bytes] | None:
        """Messages of the others since the last call; None if some were overwritten."""
        first, count = self._received, self._count[0]
        self._received = count
        found: list[bytes] = []
        for number in range(max(first, count - PLACES + 1), count):
            at = _COUNT_BYTES + number % PLACES * PLACE_BYTES
            length, process = _HEAD.unpack_from(self._memory, at)
            if process == os.getpid():
                continue
            if length > PLACE_BYTES - _HEAD.size:
                return None
            found.append(self._memory[at + _HEAD.size : at + _HEAD.size + length])
        # A message may be overwritten once the one a whole turn later is begun.
        return None if self._count[0] - first >= PLACES else found
