"""The requests in flight of a worker, in memory that its parent reads: a killed worker cannot report them itself."""

import mmap
import struct
from collections.abc import Iterable
from itertools import islice
from typing import Final

_PLACE_BYTES: Final = 4096
_HEAD: Final = struct.Struct("<II")  # how many there are, the length of the text
_MOST_IDS: Final = 20  # of 128 characters at most


class InFlight:
    """Made by the parent before the fork: a place for each worker, numbered from 0."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * _PLACE_BYTES)

    def write(self, number: int, count: int, ids: Iterable[str]) -> None:
        """In the worker: the number in flight, and some of their ids, the newest first."""
        text = "\n".join(islice(ids, _MOST_IDS)).encode("ascii", "replace")[: _PLACE_BYTES - _HEAD.size]
        at = number * _PLACE_BYTES
        self._memory[at + _HEAD.size : at + _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, at, count, len(text))

    def read(self, number: int) -> tuple[int, list[str]]:
        """In the parent: how many there were at the worker's last write, and the ids of the newest ones."""
        at = number * _PLACE_BYTES
        count, length = _HEAD.unpack_from(self._memory, at)
        text = self._memory[at + _HEAD.size : at + _HEAD.size + min(length, _PLACE_BYTES - _HEAD.size)]
        return count, text.decode("ascii", "replace").split("\n") if count and text else []

    def clear(self, number: int) -> None:
        _HEAD.pack_into(self._memory, number * _PLACE_BYTES, 0, 0)
