"""A limit of requests at a time, and a bounded queue before it, first come first served."""

import asyncio
from collections import deque


class LimitReached(Exception):
    """All places are taken, and the queue is full."""


class ConcurrencyLimit:
    """At most `count` at a time. `acquire` one, `release` it exactly once."""

    __slots__ = ("_queue", "free", "most_waiting", "waited_s", "waits")

    def __init__(self, count: int, most_waiting: int) -> None:
        self.free = count
        self.most_waiting = most_waiting
        self.waits = 0  # how many had to wait, whether they got a place or not
        self.waited_s = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    async def acquire(self, timeout_s: float) -> None:
        """Wait for a place. Raises LimitReached at once, TimeoutError after `timeout_s`.

        Cancelling gives back the place in the queue.
        """
        if self.free > 0:
            self.free -= 1
            return
        if len(self._queue) >= self.most_waiting:
            raise LimitReached
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._queue.append(turn)
        self.waits += 1
        began_s = loop.time()
        timer = loop.call_later(timeout_s, _late, turn)
        try:
            await turn
        except BaseException:
            if turn in self._queue:
                self._queue.remove(turn)
            elif turn.done() and not turn.cancelled() and turn.exception() is None:
                self.release()  # its turn came at the moment of its cancellation
            raise
        finally:
            timer.cancel()
            self.waited_s += loop.time() - began_s

    def release(self) -> None:
        """Give a place back, to the longest waiter if there is one."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.free += 1


def _late(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())
