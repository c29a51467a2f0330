"""Signals between the parent and its workers.

The parent signals all workers at once by closing a pipe: each of them sees its end. A killed parent's pipes close too,
but without the flag in shared memory: that tells an order from a death. Workers note in shared memory that they serve,
and about once a second that their loop runs.
"""

import asyncio
import contextlib
import mmap
import os
import signal
import struct
import threading
from collections.abc import Callable
from typing import Any, Final

from gateway.config.records import Settings
from gateway.observe import log as logs
from gateway.observe.in_flight import InFlight
from gateway.observe.log import log
from gateway.server.abort import close_listener, close_sockets_of, limit_unread
from gateway.server.reuseport import SharedPort
from gateway.server.worker import Worker

# How long a worker that has cut its requests may take to leave by itself.
LEAVE_S: Final = 0.7
_LISTENS_S, _SOON_S = 0.002, 0.02
# How long the last new connections may take to send their request, where other workers take newer ones.
_SETTLE_S = 0.5
# How long log lines that are not read yet may hold up the end, within the drain.
_FLUSH_S = 2.0
_CLOSED = -1
_COUNT = struct.Struct("<i")
# In shared memory: the parent's orders, then a place for each worker.
_ORDERS = struct.Struct("<????")  # draining, stopping, cutting, whether another generation serves
# Signs of life; whether it has served, passes new connections to others, has left the port.
_WORKER = struct.Struct("<I???")
_DRAINING, _STOPPING, _CUTTING, _REPLACED = range(4)
_DEATHS = struct.Struct("<I")
# How long a replaced worker keeps listening while new connections go to others: clients on kept connections learn by
# `Connection: close` to open another one.
_RETIRE_S: Final = 1.0
# The time over which its sockets are closed, at the end.
_CLOSING_S: Final = 1.0
_LOOK_S: Final = 0.1
# The time beside GATEWAY_RELOAD_DRAIN.
MOST_OF_RETIREMENT_S: Final = _RETIRE_S + _SETTLE_S + _CLOSING_S + 3 * LEAVE_S


def beat_every_s(timeout_s: float) -> float:
    """How often a worker notes that its loop runs, and the parent checks; several times within the timeout."""
    return min(1.0, timeout_s / 5)


class Control:
    """The link between parent and workers. Made in the parent before it forks; `attach` it in a worker's loop."""

    def __init__(self, settings: Settings, deaths: mmap.mmap | None = None) -> None:
        self._settings = settings
        self._port = SharedPort(settings.bind[1], settings.workers)
        # The deaths of workers of all generations, where there are several.
        self._deaths = mmap.mmap(-1, _DEATHS.size) if deaths is None else deaths
        self._memory = mmap.mmap(-1, _ORDERS.size + settings.workers * _WORKER.size)
        self.in_flight = InFlight(settings.workers)
        self._drain = os.pipe()
        self._cut = os.pipe()
        self._counts = os.pipe()
        os.set_blocking(self._counts[0], False)
        self.number = 0  # the number of the next worker; in a worker its own
        self._stop_granian: Callable[[], None] | None = None
        self._leave_at_s = float("inf")
        self._attached: Worker | None = None
        self._sockets_end: asyncio.Task[None] | None = None

    # -- in the parent --------------------------------------------------------------------------------------------

    def prepare(self, number: int) -> None:
        """Before a fork: the next process is this worker, from 0. Its predecessor's state is cleared."""
        self.number = number
        _WORKER.pack_into(self._memory, self._place_of(number), 0, False, False, False)
        self.in_flight.clear(number)

    def beats(self, number: int) -> int:
        """The number of signs of life from the worker."""
        return self._worker(number)[0]

    def has_served(self, number: int) -> bool:
        """Whether the worker listens, or did."""
        return self._worker(number)[1]

    def count_death(self) -> None:
        """A worker died, and is started again."""
        _DEATHS.pack_into(self._deaths, 0, self.deaths() + 1)

    def deaths(self) -> int:
        """How many workers died so far, in parent and workers alike."""
        count: int = _DEATHS.unpack_from(self._deaths)[0]
        return count

    def has_stepped_aside(self, number: int) -> bool:
        """Whether the replaced worker passes new connections to others, where the system can do that."""
        return self._worker(number)[2]

    def has_left_port(self, number: int) -> bool:
        """Whether the replaced worker no longer listens."""
        return self._worker(number)[3]

    def begin_drain(self, *, is_replaced: bool = False) -> None:
        self._memory[_REPLACED] = is_replaced
        self._memory[_DRAINING] = 1
        self._drain = _write_end_closed(self._drain)

    def begin_stop(self) -> None:
        """From now on a worker obeys SIGTERM."""
        self._memory[_STOPPING] = 1

    def begin_cut(self) -> None:
        self._memory[_CUTTING] = 1
        self._cut = _write_end_closed(self._cut)

    def cut_count(self) -> int:
        """How many requests the workers had to cut, once they have ended."""
        total = 0
        with contextlib.suppress(BlockingIOError):
            while len(data := os.read(self._counts[0], _COUNT.size)) == _COUNT.size:
                total += _COUNT.unpack(data)[0]
        return total

    def _place_of(self, number: int) -> int:
        return _ORDERS.size + number * _WORKER.size

    def _worker(self, number: int) -> tuple[int, bool, bool, bool]:
        found: tuple[int, bool, bool, bool] = _WORKER.unpack_from(self._memory, self._place_of(number))
        return found

    # -- in a worker ----------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The first call in a worker, before Granian sets handlers for SIGINT and SIGTERM on its loop, which are kept
        from it.

        Ctrl-C, and systemd, signal every process of a group, but the parent decides what follows. Granian's handlers
        are kept for the moment when it is to stop. No signal is ignored or blocked meanwhile, since programs that a
        view starts would inherit that: the parent's handlers stay until `attach`, and do nothing here.

        The parent's ends of the pipes are closed before anything can take long or fork: no worker would learn of
        draining while one process, even one that is just starting, holds them open.
        """
        self._drain, self._cut = _write_end_closed(self._drain), _write_end_closed(self._cut)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        loop: Any = asyncio.get_event_loop()

        def keep(number: int, handler: Callable[..., None], *args: Any) -> None:
            self._stop_granian = lambda: handler(*args)
            if number == signal.SIGTERM:  # the last one that it sets
                del loop.add_signal_handler

        loop.add_signal_handler = keep
        # From the first turn of the loop on: a team's code may take long at the start.
        loop.call_soon(self._beat, loop, beat_every_s(self._settings.worker_timeout_s))

    def attach(self, worker: Worker) -> None:
        """React to draining and to the end. Called in the worker's loop before it serves."""
        loop = asyncio.get_running_loop()
        if self._stop_granian is None:
            raise RuntimeError("Granian asks for no signals any more: it could not be stopped")
        self._attached = worker
        loop.add_signal_handler(signal.SIGINT, lambda: None)
        loop.add_signal_handler(signal.SIGTERM, self._on_term, loop)
        _on_fork(self._settings.bind[1])
        # The signal may have come before the handler was set; the parent, which must know first that it stops, gets a
        # moment.
        loop.call_later(LEAVE_S, self._on_term, loop)
        loop.call_later(_LISTENS_S, self._look_for_listener, loop, _LISTENS_S)
        loop.add_reader(self._drain[0], self._on_drain, loop, worker)
        loop.add_reader(self._cut[0], self._on_cut, loop, worker)

    def leave(self) -> None:
        """The last request has ended: the process ends soon, whatever its threads still do."""
        left_s = self._leave_at_s - asyncio.get_running_loop().time()
        logs.flush(max(0.0, min(_FLUSH_S, left_s)))
        _leave_within(LEAVE_S)

    def _beat(self, loop: asyncio.AbstractEventLoop, every_s: float) -> None:
        beats, *flags = self._worker(self.number)
        _WORKER.pack_into(self._memory, self._place_of(self.number), (beats + 1) % 2**32, *flags)
        loop.call_later(every_s, self._beat, loop, every_s)

    def _note(self, *, has_stepped_aside: bool, has_left: bool) -> None:
        """Note for the parent the state of a worker that listens, or did."""
        place = self._place_of(self.number)
        _WORKER.pack_into(self._memory, place, self.beats(self.number), True, has_stepped_aside, has_left)

    def _look_for_listener(self, loop: asyncio.AbstractEventLoop, after_s: float) -> None:
        """Wait for the listener: Granian opens it once the application has started, without a notice, usually soon."""
        if self._port.joined():
            limit_unread(self._settings.client_idle_s)
            self._note(has_stepped_aside=False, has_left=False)
            log.info("worker.ready", pid=os.getpid())
        else:
            after_s = min(_SOON_S, after_s * 1.5)
            loop.call_later(after_s, self._look_for_listener, loop, after_s)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._stop_granian is not None and self._port.is_open:
            self._stop_granian()
        else:  # Granian does not serve yet: a stop now would deadlock
            loop.call_later(_SOON_S, self._stop, loop)

    def _stop_after_sockets(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close all sockets before Granian stops: it would cut them without a frame."""
        if self._sockets_end is None and self._attached is not None:
            within_s = _CLOSING_S if self._attached.is_replaced else self._settings.drain_s / 2
            closing = self._attached.sockets.drain(within_s)
            self._sockets_end = loop.create_task(closing, name="portway-sockets")
            self._sockets_end.add_done_callback(lambda _: self._stop(loop))

    def _on_term(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._memory[_STOPPING]:
            loop.call_later(_SETTLE_S if self._port.step_aside(closing=True) else 0, self._stop_after_sockets, loop)

    def _on_drain(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        loop.remove_reader(self._drain[0])
        self._port.step_aside(closing=False)
        if self._memory[_DRAINING] and self._memory[_REPLACED]:
            self._note(has_stepped_aside=True, has_left=False)
            worker.drain(self._settings.reload_drain_s, is_replaced=True)
            loop.call_later(_RETIRE_S, self._leave_port, loop, worker)
            return
        worker.drain(self._settings.drain_s)
        delay_s = self._settings.drain_delay_s
        if not self._memory[_DRAINING]:  # the parent was killed: finish, and leave the port free
            delay_s = 0.0
            self._stop_after_sockets(loop)
        left_s = delay_s + self._settings.drain_s
        self._leave_at_s = loop.time() + left_s
        loop.call_later(left_s, self._cut_all, worker)
        _leave_within(left_s + 2 * LEAVE_S)

    def _leave_port(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        """Stop listening, long before Granian stops, which would cut sockets that may stay."""
        settles_s = _SETTLE_S if self._port.step_aside(closing=True) else 0.0
        loop.call_later(settles_s, self._retire, loop, worker)

    def _retire(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        close_listener(self._settings.bind[1])
        worker.on_port_left()
        self._note(has_stepped_aside=True, has_left=True)
        left_s = self._settings.reload_drain_s
        self._leave_at_s = loop.time() + left_s + _CLOSING_S
        loop.call_later(left_s, self._end_retirement, loop, worker)
        _leave_within(left_s + _CLOSING_S + 2 * LEAVE_S)
        self._look_for_rest(loop, worker)

    def _look_for_rest(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        if worker.sockets.taken:
            loop.call_later(_LOOK_S, self._look_for_rest, loop, worker)
        else:  # requests in flight are waited for by Granian
            self._stop_after_sockets(loop)

    def _end_retirement(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        os.write(self._counts[1], _COUNT.pack(worker.cut()))
        self._stop_after_sockets(loop)

    def _on_cut(self, loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
        loop.remove_reader(self._cut[0])
        if self._memory[_CUTTING]:
            self._cut_all(worker)

    def _cut_all(self, worker: Worker) -> None:
        os.write(self._counts[1], _COUNT.pack(worker.cut()))
        worker.sockets.close_all()
        _leave_within(LEAVE_S)


def _on_fork(port: int) -> None:
    """What a process that is forked from this worker, by `multiprocessing` in a view, must not inherit.

    Its sockets: the port would stay taken, and clients would wait for the end of their connection, for as long as that
    process lives. And its signals: they would go to this worker's loop, and end nothing. A program that is executed
    (`subprocess`) inherits neither.
    """

    masks = threading.local()

    def before() -> None:  # one that comes before the child is ready for it waits
        masks.old = signal.pthread_sigmask(signal.SIG_BLOCK, _USUAL)

    def after() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.old)

    def after_in_child() -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in _USUAL.items():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, handler)
        close_sockets_of(port)
        after()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after_in_child)


_USUAL: Final[dict[signal.Signals, Any]] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}


def _leave_within(seconds: float) -> None:
    """End this worker by then, whatever its loop does, and even if a thread of a synchronous view still runs."""

    def leave() -> None:
        logs.flush(LEAVE_S / 2)
        os._exit(0)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def _write_end_closed(pipe: tuple[int, int]) -> tuple[int, int]:
    """The pipe after its write end was closed, once: its number may soon be another file's."""
    read_end, write_end = pipe
    if write_end != _CLOSED:
        os.close(write_end)
    return read_end, _CLOSED
