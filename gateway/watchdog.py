"""Who blocks the event loop is caught in the act.

A timer in the loop notes that it is alive. A thread sleeps until the note would be GATEWAY_STALL overdue, which it is
only if something holds the loop; then it looks again and again at what the loop's thread executes, until it goes on. On
the healthy path that is a few wake-ups a second, whatever the load.
"""

import asyncio
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from gateway.stalls import Allowance, Frame, Histogram, Stack, is_own, longest, shown
from gateway.telemetry import log

_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")), str(Path(__file__).parent))
_DEEPEST = 60
# Between two looks at a blocked loop: at first, and once it has been blocked for long.
_LOOK_S, _LOOK_SELDOM_S = 0.005, 0.25
# A loop that is blocked for this long is told of before it goes on, since it may never.
_TELL_S = 5.0


class Watchdog:
    """Watches the loop in which it was started. `request_of` tells the id of the request that a task serves."""

    def __init__(self, stall_s: float, request_of: Callable[[asyncio.Task[object]], str | None]) -> None:
        self.stalls = Histogram()
        self._stall_s = stall_s
        self._every_s = stall_s / 4
        self._beats = 0
        self._stalls: deque[float] = deque()  # those that are over, and not told yet
        self._request_of = request_of
        self._allowance = Allowance()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Watch the running loop, from the thread that it runs in."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._base: FrameType | None = None
        self._due_s = time.monotonic()
        self._beat()
        threading.Thread(target=self._watch, name="portway-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        self._timer.cancel()
        self._base = None

    # -- in the loop ----------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        now_s = time.monotonic()
        late_s = now_s - self._due_s
        if late_s >= self._stall_s:
            self._stalls.append(late_s)
        self._due_s = now_s + self._every_s
        self._timer = self._loop.call_later(self._every_s, self._beat)
        if self._base is None and self._beats:
            self._base = sys._getframe().f_back  # who runs the loop: what it stands on is nobody's business
        self._beats += 1

    # -- in the thread --------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._stopped.wait(max(0.001, self._due_s + self._stall_s - time.monotonic())):
            samples, request_id = self._look() if time.monotonic() >= self._due_s + self._stall_s else ([], None)
            # HOWEVER who holds Python's lock stops this thread too: then the loop alone knows, once it goes on.
            while self._stalls and not self._stopped.is_set():
                seconds = self._stalls.popleft()
                self.stalls.observe(seconds)
                if self._allowance.is_granted(time.monotonic()):
                    self._tell(seconds, samples, request_id)

    def _look(self) -> tuple[list[tuple[Stack, float]], str | None]:
        """What the loop's thread executes until it beats again, and for which request."""
        samples: list[tuple[Stack, float]] = []
        request_id, is_told, look_s, due_s, beats = None, False, _LOOK_S, self._due_s, self._beats
        while self._beats == beats and not self._stopped.is_set():
            samples.append((self._stack_of(sys._current_frames().get(self._watched)), look_s))
            request_id = request_id or self._request_id()
            late_s = time.monotonic() - due_s
            if not is_told and late_s >= _TELL_S:
                is_told = True
                self._tell(late_s, samples, request_id, is_over=False)
            self._stopped.wait(look_s)
            look_s = min(_LOOK_SELDOM_S, look_s * 1.1)
        return samples, request_id

    def _tell(
        self, seconds: float, samples: list[tuple[Stack, float]], request_id: str | None, *, is_over: bool = True
    ) -> None:
        stack = longest(samples)
        log.warning(
            "loop.stalled",
            ms=round(seconds * 1000),
            is_over=is_over,
            request_id=request_id,
            frames=shown(stack, _LIBRARIES),
            # Nothing ran in the loop: another thread of this process held Python's lock, or the machine is overloaded.
            threads=[] if stack else self._other_threads(),
            held_back=self._allowance.told(),
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
        """What of a team's own code runs elsewhere: `legacy-reports-0 team/reports.py:7 build`."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = []
        for ident, frame in sys._current_frames().items():
            own = [one for one in self._stack_of(frame) if is_own(one[0], _LIBRARIES)]
            if own and ident != self._watched:
                found.append(f"{names.get(ident, ident)} {shown((own[0],), ())[0]}")
        return found
