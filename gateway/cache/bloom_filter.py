"""Which keys the database may hold, so that a request for any other one need not wait for it.

A Bloom filter (B. H. Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, 1970) in memory that forked
workers share: what one stores, all know of at once. What other gateways store is told a moment later; until then it
is a miss, which costs one call upstream.
"""

import mmap
from collections.abc import Iterator
from typing import Final

_BITS: Final = 2**23
_HASHES: Final = 3
# With so many a third of the bits is set, and 1 of 25 keys that are not there seems to be.
CAPACITY: Final = 1_100_000


class Known:
    """Made before the workers are forked. It takes memory only as it is written to: a MiB at most."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BITS // 8 + 1)

    @property
    def is_complete(self) -> bool:
        """Whether all that the database held has been added. Until then nothing can be ruled out."""
        return self._memory[-1] == 1

    def completed(self) -> None:
        self._memory[-1] = 1

    def clear(self) -> None:
        """Begin anew: keys cannot be taken out one by one."""
        self._memory[:] = bytes(len(self._memory))

    def add(self, digest: str) -> None:
        """One key, by its digest: 32 hexadecimal digits."""
        # HOWEVER not atomic: of two workers that add in the same byte one may be lost, until it is told like the rest.
        for byte, bit in _places(digest):
            self._memory[byte] |= bit

    def may_hold(self, digest: str) -> bool:
        return not self.is_complete or all(self._memory[byte] & bit for byte, bit in _places(digest))


def _places(digest: str) -> Iterator[tuple[int, int]]:
    chance = int(digest, 16)
    for _ in range(_HASHES):
        chance, place = divmod(chance, _BITS)
        yield place >> 3, 1 << (place & 7)
