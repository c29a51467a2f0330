"""Time limits within a task: a deadline with its own failure, an alarm that moves."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from gateway.errors import GatewayError


class Alarm:
    """Calls `fire` once `seconds` have passed since the moment (`loop.time()`) that `since` tells.

    It asks only when the time seems up, and sleeps on if it is not: what moves the moment costs nothing here.
    """

    __slots__ = ("_fire", "_loop", "_seconds", "_since", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, since: Callable[[], float], fire: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._since = since
        self._fire = fire
        self._timer = loop.call_later(seconds, self._check)

    def _check(self) -> None:
        left = self._since() + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
        else:
            self._fire()

    def cancel(self) -> None:
        self._timer.cancel()
        self._fire = self._since = _nothing  # what they belong to holds this, as a rule


def _nothing() -> float:
    return 0.0


class Deadline:
    """`with Deadline(2.0, error):` raises what `error` gives when the block takes longer than that many seconds.

    As `asyncio.timeout`, but a third of its cost, and the failure has its word. Where `since` is given, the time
    counts from the moment that it tells.
    """

    __slots__ = ("_cancelling", "_error", "_expired", "_seconds", "_since", "_task", "_timer")

    def __init__(
        self, seconds: float, error: Callable[[], GatewayError], since: Callable[[], float] | None = None
    ) -> None:
        self._seconds = seconds
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
        if self._since is None:
            self._timer = loop.call_later(self._seconds, self._expire)
        else:
            self._timer = Alarm(loop, self._seconds, self._since, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Someone else may have cancelled the task too, a client that left for one: then that stands.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error() from error
