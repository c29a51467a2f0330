"""Time limits: a deadline with its own failure, an alarm that moves, timers that many waiters share."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol

from gateway.errors import GatewayError


class Alarm:
    """Calls `fire` once `seconds` have passed since the moment (`loop.time()`) that `since` returns.

    It calls `since` only when the time seems up, and sleeps on if it is not: moving the moment costs nothing here.
    """

    __slots__ = ("_fire", "_loop", "_seconds", "_since", "_timer")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        since: Callable[[], float],
        fire: Callable[[], object],
        *,
        first_s: float | None = None,
    ) -> None:
        """`first_s` is the time of the first look, where that is sooner than `seconds`."""
        self._loop = loop
        self._seconds = seconds
        self._since = since
        self._fire = fire
        self._timer = loop.call_later(seconds if first_s is None else first_s, self._check)

    def _check(self) -> None:
        left = self._since() + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._fire()

    def cancel(self) -> None:
        self._timer.cancel()
        self._fire = self._since = _nothing  # their owner usually refers to this alarm


def _nothing() -> float:
    return 0.0


class Deadline:
    """`with Deadline(2.0, error):` raises what `error` gives when the block takes longer than that many seconds.

    Like `asyncio.timeout`, at a third of its cost, and with a failure that has its word. With `since`, the time counts
    from the moment that it returns; `passed_s` of it have passed already.
    """

    __slots__ = ("_cancelling", "_error", "_expired", "_passed_s", "_seconds", "_since", "_task", "_timer")

    def __init__(
        self,
        seconds: float,
        error: Callable[[], GatewayError],
        since: Callable[[], float] | None = None,
        *,
        passed_s: float = 0.0,
    ) -> None:
        self._seconds = seconds
        self._passed_s = passed_s
        self._error = error
        self._since = since
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a Deadline runs inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer: Alarm | asyncio.TimerHandle
        left_s = max(0.0, self._seconds - self._passed_s)
        if self._since is None:
            self._timer = loop.call_later(left_s, self._expire)
        else:
            self._timer = Alarm(loop, self._seconds, self._since, self._expire, first_s=left_s)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Something else may have cancelled the task too, such as a client that left: then that cause stands.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error() from error


class Waiting(Protocol):
    """A waiter that can be woken because its time is up."""

    def wake(self) -> None: ...


class SharedTimers:
    """Wakes waiters when their time is up. All that wait for the same number of seconds share one timer of the loop.

    Beginning and ending a wait costs one entry in a dictionary, which is in the order in which the times are up.
    """

    MOST: Final = 64  # different times; where there are more, they have timers of their own

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queues: dict[float, dict[Waiting, float]] = {}  # by seconds: the waiter, and when its time is up
        self._single: dict[Waiting, asyncio.TimerHandle] = {}

    def start(self, waiting: Waiting, seconds: float) -> None:
        """Wake it after this many seconds, unless `stop` is called first, with the same time."""
        queue = self._queues.get(seconds)
        if queue is None:
            if len(self._queues) >= self.MOST:
                self._single[waiting] = self._loop.call_later(seconds, waiting.wake)
                return
            queue = self._queues[seconds] = {}
            self._loop.call_later(seconds, self._look, seconds)
        queue[waiting] = self._loop.time() + seconds

    def stop(self, waiting: Waiting, seconds: float) -> None:
        """Stop waiting."""
        queue = self._queues.get(seconds)
        if queue is None or queue.pop(waiting, None) is None:
            timer = self._single.pop(waiting, None)
            if timer is not None:
                timer.cancel()

    def _look(self, seconds: float) -> None:
        queue, now_s = self._queues[seconds], self._loop.time()
        while queue:
            waiting = next(iter(queue))
            left_s = queue[waiting] - now_s
            if left_s > 0:
                self._loop.call_later(left_s, self._look, seconds)
                return
            del queue[waiting]
            waiting.wake()
        del self._queues[seconds]
