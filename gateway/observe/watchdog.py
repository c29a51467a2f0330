"""Logs the code that blocks the event loop, while it does.

A thread checks, more than twice in GATEWAY_STALL, whether the loop's thread executes anything. If it does, the thread
asks the loop for a sign of life; if none has come by the next check, it samples the running code until the loop goes
on. An idle loop is left asleep: the only cost then is the thread's own few wake-ups a second.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from math import inf
from types import FrameType

from gateway.observe.histogram import Stalls
from gateway.observe.log import log
from gateway.observe.stalls import LIBRARIES, Frame, Stack, is_own, longest, shown
from gateway.observe.throttle import TokenBucket

_DEEPEST = 60
# Between two looks at a blocked loop: at first, and once it has been blocked for long.
_LOOK_S, _LOOK_SELDOM_S = 0.005, 0.25
# A loop that is blocked for this long is logged before it goes on, since it may never go on.
_TELL_S = 5.0
# A loop that seems to wait is asked after this many checks all the same: it may be blocked by code that is not Python.
_LOOKS = 10

Samples = list[tuple[Stack, float]]


class Watchdog:
    """Watches the loop in which it was started. `request_of` returns the id of the request that a task serves."""

    def __init__(self, stall_s: float, request_of: Callable[[asyncio.Task[object]], str | None]) -> None:
        self.stalls = Stalls()
        self._stall_s = stall_s
        self._request_of = request_of
        self._throttle = TokenBucket(burst=5, every_s=10.0)
        self._base: FrameType | None = None
        self._alive_s = 0.0
        self._is_stopped = False

    def start(self) -> None:
        """Watch the running loop; called in its thread. Does nothing where nothing counts as a stall."""
        if self._stall_s == inf:
            return
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._loop.call_soon(self._note_base)
        threading.Thread(target=self._watch, name="portway-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._is_stopped = True
        self._base = None

    # -- in the loop ----------------------------------------------------------------------------------------------

    def _note_base(self) -> None:
        self._base = sys._getframe().f_back  # the frame that runs the loop: frames below it are not shown

    def _is_alive(self) -> None:
        self._alive_s = time.monotonic()

    # -- in the thread --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        every_s, looks, asked_s = self._stall_s * 0.4, 0, None
        while not self._is_stopped:
            slept_s = time.monotonic()
            time.sleep(every_s)
            now_s = time.monotonic()
            if asked_s is not None:
                samples, request_id = self._follow(asked_s)
                self._note(self._alive_s - asked_s, samples, request_id)
                asked_s = None
            else:  # code that holds Python's lock, or the processor, stops this thread too
                self._note(now_s - slept_s - every_s, [], None)
            looks += 1
            if looks >= _LOOKS or sys._current_frames().get(self._watched) is not self._base:
                looks, asked_s = 0, time.monotonic()
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._is_alive)

    def _follow(self, asked_s: float) -> tuple[Samples, str | None]:
        """Sample what the loop's thread executes until it responds, and for which request."""
        samples: Samples = []
        request_id, is_told, look_s = None, False, _LOOK_S
        while self._alive_s < asked_s and not self._is_stopped:
            samples.append((self._stack_of(sys._current_frames().get(self._watched)), look_s))
            request_id = request_id or self._request_id()
            late_s = time.monotonic() - asked_s
            if not is_told and late_s >= _TELL_S:
                is_told = True
                self._tell(late_s, samples, request_id, is_over=False)
            time.sleep(look_s)
            look_s = min(_LOOK_SELDOM_S, look_s * 1.1)
        return samples, request_id

    def _note(self, late_s: float, samples: Samples, request_id: str | None) -> None:
        if late_s >= self._stall_s and not self._is_stopped:
            self.stalls.observe(late_s)
            if self._throttle.take(time.monotonic()):
                self._tell(late_s, samples, request_id)

    def _tell(self, seconds: float, samples: Samples, request_id: str | None, *, is_over: bool = True) -> None:
        stack = longest(samples)
        log.warning(
            "loop.stalled",
            ms=round(seconds * 1000),
            is_over=is_over,
            request_id=request_id,
            frames=shown(stack, LIBRARIES),
            # Nothing ran in the loop: another thread of this process held Python's lock, or the machine is overloaded.
            threads=[] if stack else self._other_threads(),
            held_back=self._throttle.take_held_back(),
        )

    def _stack_of(self, frame: FrameType | None) -> Stack:
        frames: list[Frame] = []
        while frame is not None and frame is not self._base and len(frames) < _DEEPEST:
            frames.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return tuple(frames)

    def _request_id(self) -> str | None:
        task = asyncio.current_task(self._loop)
        return None if task is None else self._request_of(task)

    def _other_threads(self) -> list[str]:
        """The team's own code that runs in other threads: `legacy-reports-0 team/reports.py:7 build`."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = []
        for ident, frame in sys._current_frames().items():
            own = [one for one in self._stack_of(frame) if is_own(one[0], LIBRARIES)]
            if own and ident != self._watched:
                found.append(f"{names.get(ident, ident)} {shown((own[0],), ())[0]}")
        return found
