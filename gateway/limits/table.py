"""Counts in memory: one number per key, found by its digest, in a table of fixed size.

A bucket has 16 places, each a tag and a time. In a full bucket the key that is free, or will be soonest, is dropped: it
gets its burst anew. 2,097,152 places take 32 MiB, which the system allocates only as they are written to; with
1,000,000 keys at once one in a thousand is dropped.

A process may be killed at any point, while another one reads: tags and times are written whole, eight bytes each, and a
new key is written so that it never takes over the count of another one.
"""

import mmap
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

PLACES: Final = 16
BUCKETS: Final = 2**17
_TAG_BYTES: Final = PLACES * 8
_BUCKET_BYTES: Final = 2 * _TAG_BYTES  # its tags, then its times
STRIPES: Final = 16
SIZE_BYTES: Final = BUCKETS * _BUCKET_BYTES
_MOST_FOUND: Final = 4096
_NUMBER_BITS: Final = 16
_MIXED: Final = 0x9E3779B1  # so that one client's keys spread over the buckets: 2**32 by the golden ratio


class Place(NamedTuple):
    """The place of a key: the offset of its bucket, and its tag, as a number and as stored."""

    start: int
    tag: int
    tag_bytes: bytes
    stripe: int  # the lock to hold for a decision


def place_of(number: int, digest: bytes) -> Place:
    """The place of a policy's key, by its digest of 16 bytes."""
    tag = (int.from_bytes(digest[:6], "big") << _NUMBER_BITS) | number & (2**_NUMBER_BITS - 1)
    bucket = (int.from_bytes(digest[8:12], "big") + number * _MIXED) % BUCKETS
    return Place(bucket * _BUCKET_BYTES, tag, tag.to_bytes(8, sys.byteorder), bucket % STRIPES)


class Table:
    """A table over memory of SIZE_BYTES. Times are of one clock, in seconds; 0.0 is free."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._find = memory.find
        self._found: dict[int, int] = {}  # by tag, where a key was found last: another key may be there by now
        view = memoryview(memory)
        self._tags = view.cast("Q")
        self.times = view.cast("d")

    def find(self, place: Place) -> int | None:
        """The index of the key's time in `times`, if it has one."""
        start, tag, tag_bytes, _ = place
        known = self._found.get(tag)
        if known is not None and self._tags[known - PLACES] == tag and known >> 5 == start >> 8:
            return known
        at = self._find(tag_bytes, start, start + _TAG_BYTES)
        while at >= 0 and at % 8:  # the end of one tag and the beginning of the next
            at = self._find(tag_bytes, at + 1, start + _TAG_BYTES)
        if at < 0:
            return None
        if len(self._found) >= _MOST_FOUND:
            self._found.clear()
        self._found[tag] = (at >> 3) + PLACES
        return (at >> 3) + PLACES

    def add(self, place: Place, time_s: float) -> None:
        """Add a new key, in the place of the one that is free, or will be soonest."""
        start = place.start >> 3
        times = self.times[start + PLACES : start + 2 * PLACES].tolist()
        at = start + times.index(min(times))
        # First free, then with its tag, then with its time: a process killed in between leaves a free key.
        self.times[at + PLACES] = 0.0
        self._tags[at] = place.tag
        self.times[at + PLACES] = time_s

    def waiting(self, start: int, end: int, now_s: float) -> Iterator[tuple[int, float]]:
        """The policy number and the time of each key that is not free, in the buckets between two offsets in bytes."""
        first, last = start // _BUCKET_BYTES, -(-end // _BUCKET_BYTES)
        for at in range(first * 2 * PLACES, min(last, BUCKETS) * 2 * PLACES, 2 * PLACES):
            times = self.times[at + PLACES : at + 2 * PLACES].tolist()
            if max(times) > now_s:
                tags = self._tags[at : at + PLACES].tolist()
                yield from (
                    (tag & (2**_NUMBER_BITS - 1), time_s)
                    for tag, time_s in zip(tags, times, strict=True)
                    if time_s > now_s
                )
