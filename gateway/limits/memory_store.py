"""The stores in memory: `worker`, and `host`, which the workers of one gateway share.

Both are one table; the shared one takes a lock for each decision. Its clock is the machine's, which never goes back
and is one for all processes.
"""

import asyncio
import contextlib
import errno
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.limits.gcra import after, bounded, left
from gateway.limits.keys import digest
from gateway.limits.policies import Policy
from gateway.limits.store import Away, Over, Taken
from gateway.limits.table import SIZE_BYTES, STRIPES, Place, Table, place_of
from gateway.observe.process_locks import LockHeld, ProcessLocks, anonymous_file

_AT_A_TIME: Final = 64 * 1024  # bytes that are scanned before other tasks run: half a millisecond
_PAUSE_S: Final = 1.0  # after a lock could not be taken
_HELD: Final = "another worker holds a lock"
_LONGEST_KEPT, _MOST_KEPT = 200, 4096


class Memory:
    """The memory of a table. Created before the workers are forked, if they are to share it."""

    def __init__(self, *, is_shared: bool) -> None:
        self.file = anonymous_file("limits")
        os.ftruncate(self.file, SIZE_BYTES)
        self.table = Table(mmap.mmap(self.file, SIZE_BYTES))
        self.stripes = ProcessLocks(STRIPES) if is_shared else None
        self.secret = secrets.token_bytes(16)

    def written(self) -> Iterator[tuple[int, int]]:
        """The parts that have ever been written to, as offsets. Reading the others would allocate memory for them."""
        at = 0
        while True:
            try:
                start = os.lseek(self.file, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing more
                    return
                raise
            at = os.lseek(self.file, start, os.SEEK_HOLE)
            yield start, at

    def close(self) -> None:
        os.close(self.file)


class MemoryStore:
    """One worker's access to the counts in memory."""

    def __init__(self, memory: Memory, now: Callable[[], float] = time.monotonic) -> None:
        self._memory, self._table, self._stripes = memory, memory.table, memory.stripes
        self._places: dict[tuple[int, str], Place] = {}  # of recent keys
        self._tries_again_s = 0.0
        self._now = now
        self.name = "worker" if memory.stripes is None else "host"
        if memory.stripes is not None:
            memory.stripes.open()

    async def take(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        return self.taken(policies, texts, cost)

    def taken(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        """As `take`: nothing here waits for long."""
        if len(policies) > 1:
            return self._take_all(policies, texts, cost)
        policy, stripes = policies[0], self._stripes
        place = self._places.get((policy.number, texts[0])) or self._place(policy, texts[0])
        if stripes is None:
            return self._decided(policy, place, cost)
        held = self._held(stripes, place.stripe)
        try:
            return self._decided(policy, place, cost)
        finally:
            stripes.free(held)

    def _held(self, stripes: ProcessLocks, number: int) -> int:
        """Take one lock. After a failure no lock is tried for a second. Raises Away."""
        if self._tries_again_s > self._now():
            raise Away(_HELD)
        try:
            return stripes.take(number)
        except LockHeld as error:
            self._tries_again_s = self._now() + _PAUSE_S
            raise Away(str(error)) from None

    def _place(self, policy: Policy, text: str) -> Place:
        place = place_of(policy.number, digest(text, self._memory.secret))
        if len(text) <= _LONGEST_KEPT:
            if len(self._places) >= _MOST_KEPT:
                self._places.clear()
            self._places[policy.number, text] = place
        return place

    def _decided(self, policy: Policy, place: Place, cost: int) -> Taken:
        table, rate, now_s = self._table, policy.rate, self._now()
        tolerance_s = rate.tolerance_s
        at = table.find(place)
        ahead_s = 0.0 if at is None else bounded(table.times[at] - now_s, tolerance_s)
        new_s = after(ahead_s, rate.interval_s, tolerance_s, cost)
        if new_s is None:
            return Taken(False, (ahead_s,))
        if at is None:
            table.add(place, now_s + new_s)
        else:
            table.times[at] = now_s + new_s
        return Taken(True, (new_s,))

    def _take_all(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        places = [self._place(policy, text) for policy, text in zip(policies, texts, strict=True)]
        with self._locked(places):
            now_s = self._now()
            found = [self._table.find(place) for place in places]
            ahead_s = tuple(
                0.0 if at is None else bounded(self._table.times[at] - now_s, policy.rate.tolerance_s)
                for at, policy in zip(found, policies, strict=True)
            )
            new_s = [
                after(one_s, policy.rate.interval_s, policy.rate.tolerance_s, cost)
                for one_s, policy in zip(ahead_s, policies, strict=True)
            ]
            passed = [one_s for one_s in new_s if one_s is not None]
            if len(passed) < len(new_s):
                return Taken(False, ahead_s)
            for at, place, one_s in zip(found, places, passed, strict=True):
                if at is None:
                    self._table.add(place, now_s + one_s)
                else:
                    self._table.times[at] = now_s + one_s
            return Taken(True, tuple(passed))

    @contextlib.contextmanager
    def _locked(self, places: Sequence[Place]) -> Iterator[None]:
        if self._stripes is None:
            yield
            return
        try:
            if self._tries_again_s > self._now():
                raise Away(_HELD)
            with self._stripes.taken([place.stripe for place in places]):
                yield
        except LockHeld as error:
            self._tries_again_s = self._now() + _PAUSE_S
            raise Away(str(error)) from None

    async def forget(self, policy: Policy, text: str) -> bool:
        place = self._place(policy, text)
        with self._locked([place]):
            at = self._table.find(place)
            if at is None or self._table.times[at] <= self._now():
                return False
            self._table.times[at] = 0.0
            return True

    async def over(self, policies: Sequence[Policy]) -> list[Over]:
        rates = {policy.number: policy.rate for policy in policies}
        keys, over = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0)
        for start, end in list(self._memory.written()):
            for at in range(start, end, _AT_A_TIME):
                now_s = self._now()
                for number, time_s in self._table.waiting(at, min(end, at + _AT_A_TIME), now_s):
                    if number in rates:
                        keys[number] += 1
                        over[number] += left(time_s - now_s, rates[number]) == 0
                await asyncio.sleep(0)
        return [Over(keys[policy.number], over[policy.number]) for policy in policies]
