"""A bulkhead: synchronous calls in a bounded pool of threads with a bounded queue; a full one affects no other.

A thread cannot be killed. A call that exceeds its time is given up: its request gets an answer on time, and the thread
keeps its place until the function returns. `Bulkhead` is the executor that `sync_to_async` hands its calls to, with the
loop's own futures: one hop there and one back.
"""

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from math import ceil
from queue import SimpleQueue
from typing import Any

import structlog
from asgiref.sync import sync_to_async

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Deadline
from gateway.legacy.options import LegacyOptions
from gateway.observe.stalls import LIBRARIES, Frame, shown
from gateway.observe.throttle import at_most_every
from gateway.units import format_duration

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
_DEEPEST = 60
# How often a pool that stays stuck is logged.
_LOG_AGAIN_S = 10.0
# How many given-up calls may wait for a thread that skips them.
_MOST_LEFT = 500


class Call:
    """One call, from entering the pool until its thread is free again.

    `work` runs in the thread and returns the answer. An answer that streams sets `rest`, which returns a piece, or None
    at the end: the same thread calls it whenever the loop asks for one, and `at_end` once no more are asked for.
    """

    __slots__ = (
        *("asks", "at_end", "began_s", "future", "is_late", "is_over", "name", "request_id", "rest", "since_s"),
        *("thread_id", "waiting_for_end", "work"),
    )

    def __init__(self, name: str, request_id: str, work: Callable[["Call"], Any]) -> None:
        self.name = name
        self.request_id = request_id
        self.work = work
        self.rest: Callable[[], Any] | None = None
        self.at_end: Callable[[], Any] | None = None
        self.asks: SimpleQueue[asyncio.Future[Any] | None] = SimpleQueue()
        self.future: asyncio.Future[Any] | None = None
        self.began_s: float | None = None  # None while it waits for a thread
        self.since_s: float | None = None  # since when the thread works for the loop; None while it waits for the loop
        self.thread_id: int | None = None  # the thread that it runs in
        self.is_late = False
        self.is_over = False
        self.waiting_for_end: list[Callable[[], None]] = []

    def when_over(self, function: Callable[[], None]) -> None:
        """Add a callback for the time when no thread runs this call; called at once if none does."""
        if self.is_over or self.began_s is None:
            function()
        else:
            self.waiting_for_end.append(function)

    def end(self) -> None:
        """Called when no thread runs it any longer."""
        self.is_over = True
        for function in self.waiting_for_end:
            function()
        self.waiting_for_end.clear()

    def close(self) -> None:
        """Give it up: the request is over."""
        self.asks.put(None)


def _carry_out(call: Call) -> Any:
    return call.work(call)


def _carry_nothing_out(call: Call) -> None:
    """Replaces the work of a call that was given up before it began."""


class Bulkhead:
    """The threads of one pool. All but `_serve` and what it calls runs in the loop."""

    def __init__(self, name: str, options: LegacyOptions, now: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.options = options
        self.full = self.late = 0  # how often so far
        self._now = now
        self._calls: dict[Call, None] = {}  # calls that have a thread or wait for one, in their order
        self._threads: list[threading.Thread] = []
        self._jobs: SimpleQueue[tuple[Call, asyncio.AbstractEventLoop, Callable[[], Any]] | None] = SimpleQueue()
        self._next: Call | None = None
        self._throttle = at_most_every(_LOG_AGAIN_S)
        executor: Any = self
        self._in_thread = sync_to_async(_carry_out, thread_sensitive=False, executor=executor)

    def close(self) -> None:
        """End its threads, each after the call that it runs."""
        for _ in self._threads:
            self._jobs.put(None)

    @property
    def running(self) -> list[Call]:
        return [call for call in self._calls if call.began_s is not None]

    @property
    def waiting(self) -> int:
        return len(self._calls) - len(self.running)

    def is_stuck(self) -> bool:
        """Whether every thread runs a call that has exceeded its time."""
        since_s, running = self._now() - self.options.timeout_s, self.running
        return len(running) >= self.options.threads and all(
            call.is_late or (call.since_s is not None and call.since_s <= since_s) for call in running
        )

    def describe_running(self) -> list[str]:
        """The running functions, for how long, for which request: `build_report 12.3 s (4bf92f35...)`."""
        now = self._now()
        return [f"{call.name} {now - (call.began_s or now):.1f} s ({call.request_id})" for call in self.running]

    async def run(self, call: Call, timeout_s: float) -> Any:
        """Run the call in a thread; returns the result of its work.

        Raises GatewayError LEGACY_FULL, LEGACY_STUCK, LEGACY_TIMEOUT, and what the work raises. If cancelled while it
        waits, it gives back its place in the queue; while it runs, the thread goes on.
        """
        if len(self._calls) >= self.options.threads:
            if self.is_stuck():
                raise self._stuck()
            most = self.options.threads + self.options.queue
            # A call that left before its turn has no place any longer, but is still in the threads' queue.
            if len(self._calls) >= most or self._jobs.qsize() >= most + _MOST_LEFT:
                raise self._full()
        self._calls[call] = None
        self._next = call
        try:
            with Deadline(timeout_s, partial(self._too_late, call, timeout_s)):
                return await self._in_thread(call)
        finally:
            # A thread notes that it begins and then looks whether the call is still wanted; here it is the other way
            # round, so that one of the two sees the other.
            if call.began_s is None:
                self._calls.pop(call, None)
                call.work = _carry_nothing_out  # so that it no longer refers to its request and body

    async def pieces(self, call: Call) -> AsyncIterator[Any]:
        """The further pieces of a call's result. Raises GatewayError LEGACY_TIMEOUT if one takes too long."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                asked, call.since_s = loop.create_future(), self._now()
                call.asks.put(asked)
                with Deadline(self.options.timeout_s, partial(self._too_late, call, self.options.timeout_s)):
                    piece = await asked
                call.since_s = None
                if piece is None:
                    return
                yield piece
        finally:
            call.close()

    def _too_late(self, call: Call, timeout_s: float) -> GatewayError:
        """Give the call up; returns the error for it."""
        if call.began_s is None:
            return self._stuck() if self.is_stuck() else self._full()
        self.late += 1
        call.is_late = True
        place = f", GATEWAY_LEGACY_{self.name.upper()}__TIMEOUT" if timeout_s == self.options.timeout_s else ""
        cause = f"after {format_duration(round(timeout_s, 3))}{place}: {call.name} runs on in a thread of the pool"
        return GatewayError(Reason.LEGACY_TIMEOUT, cause=f"{cause} {self.name}")

    def _frames_of_oldest(self) -> list[str]:
        """The frames of the thread that has run its call for longest, innermost first: `team/reports.py:7 build`."""
        call = min(self.running, key=lambda one: one.began_s or 0.0)
        frame = sys._current_frames().get(call.thread_id or 0)
        stack: list[Frame] = []
        while frame is not None and frame.f_code is not Bulkhead._serve_one.__code__ and len(stack) < _DEEPEST:
            stack.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return shown(tuple(stack), LIBRARIES)

    def _full(self) -> GatewayError:
        self.full += 1
        return GatewayError(Reason.LEGACY_FULL, headers=[(b"retry-after", b"1")])

    def _stuck(self) -> GatewayError:
        calls = self.describe_running()
        if self._throttle.take(self._now()):
            frames = self._frames_of_oldest()
            _log.error("legacy.stuck", pool=self.name, threads=self.options.threads, calls=calls, frames=frames)
        self.full += 1
        after = b"%d" % ceil(self.options.timeout_s)
        return GatewayError(Reason.LEGACY_STUCK, cause=f"stuck: {', '.join(calls)}", headers=[(b"retry-after", after)])

    # -- an executor, as asyncio wants one ------------------------------------------------------------------------

    def submit(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """Called by `sync_to_async` for the call that `run` has set. Raises RuntimeError without threads."""
        call, self._next, loop = self._next, None, asyncio.get_running_loop()
        assert call is not None  # noqa: S101 - only `run` submits
        if len(self._threads) < min(len(self._calls), self.options.threads):  # only as many as are needed at a time
            thread = threading.Thread(target=self._serve, name=f"legacy-{self.name}-{len(self._threads)}", daemon=True)
            try:
                thread.start()
                self._threads.append(thread)
            except RuntimeError:  # the system has no more; the existing ones serve too
                if not self._threads:
                    raise
        call.future = loop.create_future()
        self._jobs.put((call, loop, function))
        return call.future

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._serve_one(*job)
            del job  # a waiting thread would keep the last call, with its request and body

    def _serve_one(self, call: Call, loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
        result, error = None, None
        call.began_s = call.since_s = self._now()
        call.thread_id = threading.get_ident()
        try:
            if call.future is not None and not call.future.cancelled():
                result = function()
        except BaseException as caught:  # noqa: BLE001 - it is the caller's
            error = raisable(caught)
        if call.rest is not None:
            _tell(loop, _settle, call.future, result, error)
            result, error = None, _give_pieces(call, loop)
        _tell(loop, self._ended, call, result, error)

    def _ended(self, call: Call, result: Any, error: Exception | None) -> None:
        self._calls.pop(call, None)
        call.end()
        if call.future is not None and call.future.cancelled() and (call.is_late or error is not None):
            seconds, failure = round(self._now() - (call.began_s or 0.0), 3), repr(error) if error is not None else None
            _log.warning(
                "legacy.late", pool=self.name, function=call.name, s=seconds, request_id=call.request_id, error=failure
            )
        _settle(call.future, result, error)


def _give_pieces(call: Call, loop: asyncio.AbstractEventLoop) -> Exception | None:
    """In the thread: give one piece whenever the loop asks for one; an error at the end has no receiver."""
    assert call.rest is not None and call.at_end is not None  # noqa: S101, PT018
    try:
        while (asked := call.asks.get()) is not None:
            try:
                piece, error = call.rest(), None
            except BaseException as caught:  # noqa: BLE001 - it is the caller's
                piece, error = None, raisable(caught)
            _tell(loop, _settle, asked, piece, error)
            if piece is None:
                break
        call.at_end()
    except BaseException as caught:  # noqa: BLE001
        return raisable(caught)
    return None


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run synchronous code of a view in the thread of its request; its exceptions are made safe for the loop."""

    def call() -> Any:
        try:
            return work()
        except BaseException as error:
            raise raisable(error) from error

    return await sync_to_async(call)()


def raisable(error: BaseException) -> Exception:
    """An exception of synchronous code, made safe to raise in the loop.

    sys.exit() must not end the worker, a future takes no StopIteration, and an asyncio.CancelledError must cancel
    nothing.
    """
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    failure = RuntimeError(f"raised {error!r}")
    failure.__cause__ = error
    return failure


def _settle(future: asyncio.Future[Any] | None, result: Any, error: Exception | None) -> None:
    """Set the result or failure of a future, if it still waits for one."""
    if future is None or future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(function, *args)
