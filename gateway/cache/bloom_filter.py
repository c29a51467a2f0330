"""Which keys the database may hold, so that a request for any other key need not wait for it.

A Bloom filter (B. H. Bloom, Space/Time Trade-offs in Hash Coding with Allowable Errors, 1970) in memory that forked
workers share: a key that one adds, all see at once. Keys stored by other gateways are added a moment later; until then
a request for them is a miss, which costs one call upstream.
"""

import mmap
from collections.abc import Iterator
from typing import Final

_BITS: Final = 2**23
_HASHES: Final = 3
# With that many keys a third of the bits is set, and the false positive rate is 1 in 25.
CAPACITY: Final = 1_100_000


class BloomFilter:
    """Create it before the workers are forked. It takes memory only as it is written to: 1 MiB at most."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _BITS // 8 + 1)

    @property
    def is_complete(self) -> bool:
        """Whether all keys of the database have been added. Until then no key can be ruled out."""
        return self._memory[-1] == 1

    def completed(self) -> None:
        self._memory[-1] = 1

    def clear(self) -> None:
        """Start over: a Bloom filter cannot remove single keys."""
        self._memory[:] = bytes(len(self._memory))

    def add(self, digest: str) -> None:
        """Add a key, by its digest of 32 hexadecimal digits."""
        # Not atomic: if two workers write the same byte, one bit may be lost until the next poll adds it again.
        for byte, bit in _places(digest):
            self._memory[byte] |= bit

    def may_hold(self, digest: str) -> bool:
        return not self.is_complete or all(self._memory[byte] & bit for byte, bit in _places(digest))


def _places(digest: str) -> Iterator[tuple[int, int]]:
    chance = int(digest, 16)
    for _ in range(_HASHES):
        chance, place = divmod(chance, _BITS)
        yield place >> 3, 1 << (place & 7)
