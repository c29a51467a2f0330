"""The process of one generation: Granian's server, with our own way of keeping its workers alive and of ending them.

Granian ends all workers when one of them dies twice within seconds, and waits for a hung one for ever. Here a worker
that died is started again after a pause that grows (`restarts`), one that gives no sign of life is ended first, and the
others go on meanwhile.

One loop does it all, in the main thread. It sleeps until an order comes from the parent of all generations, a worker
ends (SIGCHLD), or something is due. Signals to stop are for the parent of all generations, and do nothing here. Workers
are not waited for by their sentinels, as `multiprocessing` does: a process that a view forked keeps a sentinel open.
"""

import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from typing import Any, Final

from granian.server.mp import MPServer

from gateway.config.records import Settings
from gateway.observe.log import log
from gateway.reload.line import CUT, DRAIN, RETIRE, Line
from gateway.server import restarts
from gateway.server.control import LEAVE_S, MOST_OF_RETIREMENT_S, Control, beat_every_s
from gateway.server.restarts import Silence

_NEVER: Final = float("inf")
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How often to check whether workers serve, or have left the port, while the parent waits for that.
_SOON_S: Final = 0.02


@dataclass(slots=True)
class _Worker:
    """One of the numbered workers: its process while there is one, and the history of earlier ones."""

    number: int
    process: BaseProcess | None = None
    started_s: float = 0.0
    restart_at_s: float = _NEVER
    deaths: int = 0  # in a row
    silence: Silence = field(default_factory=Silence)
    ended_because: str | None = None  # if the parent has ended it


class Supervisor(MPServer):
    """Call `serve`, which returns at an order. `has_failed` afterwards: no worker could be started."""

    def __init__(self, settings: Settings, control: Control, line: Line, **options: Any) -> None:
        super().__init__("asgi:application", workers=settings.workers, **options)
        self.has_failed = False
        self._settings = settings
        self._control = control
        self._line = line
        self._is_ready = self._is_settled = self._is_retiring = False
        self._has_stepped_aside = self._has_left_port = False
        self._numbered = [_Worker(number) for number in range(settings.workers)]
        self._every_s = beat_every_s(settings.worker_timeout_s)
        self._looked_s = 0.0
        self._failed_starts = 0
        self._has_served = False
        self._stop_at_s = self._cut_at_s = self._kill_at_s = _NEVER
        self._is_draining = self._is_stopping = False
        self._make: Callable[[int], BaseProcess] | None = None
        self.on_startup(self._watch_signals)

    # -- what Granian calls ---------------------------------------------------------------------------------------

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        def make(number: int) -> BaseProcess:
            process: BaseProcess = self._spawn_worker(number, spawn_target, target_loader).inner
            return process

        self._make = make
        self._looked_s = time.monotonic()
        for worker in self._numbered:
            self._start(worker)

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        while not (self._is_stopping and all(worker.process is None for worker in self._numbered)):
            self._sleep()
            now_s = time.monotonic()
            for worker in self._numbered:
                self._look_for_an_end(worker, now_s)
            if now_s - self._looked_s >= self._every_s:
                self._look_for_life(now_s)
            self._tell_parent()
            if now_s >= self._stop_at_s:
                self._begin_stop(now_s)
            if now_s >= self._cut_at_s:
                self._cut_at_s = _NEVER
                self._control.begin_cut()
            if now_s >= self._kill_at_s:
                self._end_all(signal.SIGKILL)
            for worker in self._numbered:
                if now_s >= worker.restart_at_s and not self._is_stopping:
                    self._start(worker)

    def _stop_workers(self) -> None:
        """Nothing to do: `_serve_loop` has waited for them."""

    # -- signals --------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        """Receive signals as numbers in a pipe, written from C as they come. By now Granian has set handlers of its
        own.

        Python runs handlers between two bytecodes: a signal just before the loop falls asleep would be noticed only
        with the next one.
        """
        self._signals, write_end = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(write_end, False)
        self._poll = select.poll()
        for descriptor in (self._signals, self._line.orders):
            self._poll.register(descriptor, select.POLLIN)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        # A worker learns of the end by the closed pipe; signals sent to a worker are not for the parent.
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        for number in (*_STOPS, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:  # nohup
                signal.signal(number, lambda number, frame: None)

    def _sleep(self) -> None:
        """Until a signal, or until something is due."""
        now_s = time.monotonic()
        due_s = [self._looked_s + self._every_s, self._stop_at_s, self._cut_at_s, self._kill_at_s]
        due_s += [worker.restart_at_s for worker in self._numbered]
        if not self._is_settled or (self._is_retiring and not self._has_left_port):
            due_s.append(now_s + _SOON_S)
        ready = {number for number, _ in self._poll.poll(max(0.0, min(due_s) - now_s) * 1000)}
        if self._signals in ready:
            os.read(self._signals, 4096)
        if self._line.orders in ready:
            self._obey(os.read(self._line.orders, 1))

    def _obey(self, order: bytes) -> None:
        now_s = time.monotonic()
        if order == RETIRE:
            self._is_retiring = self._is_draining = self._is_stopping = True  # no worker is started after this
            for worker in self._numbered:
                worker.restart_at_s = _NEVER
            self._control.begin_drain(is_replaced=True)
            self._kill_at_s = now_s + self._settings.reload_drain_s + MOST_OF_RETIREMENT_S
        elif order == DRAIN and self._is_retiring:
            self._hasten(now_s)
        elif order == DRAIN and not self._is_draining:
            self._is_draining = True
            self._control.begin_drain()
            self._stop_at_s = now_s + self._settings.drain_delay_s
        elif order == CUT:
            self._begin_stop(now_s)
            self._hasten(now_s, within_s=0.0)
        elif not order:  # the parent was killed: the workers see that too, by the end of this process
            os._exit(1)

    def _hasten(self, now_s: float, within_s: float | None = None) -> None:
        """The whole gateway stops, or a second signal came: shorten a drain that would take longer."""
        within_s = self._settings.drain_s if within_s is None else within_s
        self._control.begin_stop()
        self._end_all(signal.SIGTERM)
        self._cut_at_s = min(self._cut_at_s, now_s + within_s)
        self._kill_at_s = min(self._kill_at_s, now_s + within_s + 2 * LEAVE_S)

    def _tell_parent(self) -> None:
        """Report, each once: this generation serves; none of its workers is starting; replaced, it passes new
        connections to others; it has left the port.
        """
        if not self._is_ready:
            served = [self._control.has_served(worker.number) for worker in self._numbered]
            if any(served) if self._line.is_first else all(served):
                self._is_ready = True
                self._line.report(ready=True)
        if self._is_ready and not self._is_settled:
            self._is_settled = self._told_that_all(self._control.has_served, settled=True)
        if self._is_retiring and not self._has_stepped_aside:
            self._has_stepped_aside = self._told_that_all(self._control.has_stepped_aside, stepped_aside=True)
        if self._is_retiring and not self._has_left_port:
            self._has_left_port = self._told_that_all(self._control.has_left_port, left_port=True)

    def _told_that_all(self, have: Callable[[int], bool], **report: bool) -> bool:
        """Whether all living workers `have` it; if so, report it."""
        are_there = all(have(worker.number) for worker in self._numbered if worker.process is not None)
        if are_there:
            self._line.report(**report)
        return are_there

    def _begin_stop(self, now_s: float) -> None:
        self._stop_at_s = _NEVER
        if self._is_stopping:
            return
        self._is_stopping = True
        self._control.begin_stop()
        self._kill_at_s = now_s + self._settings.drain_s + 2 * LEAVE_S
        for worker in self._numbered:
            worker.restart_at_s = _NEVER
        self._end_all(signal.SIGTERM)

    def _end_all(self, by: signal.Signals) -> None:
        self._kill_at_s = _NEVER if by is signal.SIGKILL else self._kill_at_s
        for worker in self._numbered:
            if worker.process is not None:
                _send(worker.process, by)

    # -- one worker -----------------------------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        worker.restart_at_s, worker.started_s = _NEVER, time.monotonic()
        worker.silence, worker.ended_because = Silence(), None
        self._control.prepare(worker.number)
        assert self._make is not None  # noqa: S101 - Granian has set it by now
        try:
            worker.process = self._make(worker.number)
            worker.process.start()  # not Granian's own start, which begins a thread to wait for it
        except OSError as error:  # no more processes, descriptors, memory: perhaps later
            worker.process = None
            self._plan_restart(worker, pid=None, exit_code=None, signal=None, cause=str(error))

    def _look_for_an_end(self, worker: _Worker, now_s: float) -> None:
        process = worker.process
        if process is None or process.exitcode is None:
            return
        code, pid = process.exitcode, process.pid
        process.close()
        worker.process = None
        self._has_served |= self._control.has_served(worker.number)
        by = signal_name(-code) if code < 0 else None
        fields: dict[str, Any] = {
            "pid": pid,
            "exit_code": None if by else code,
            "signal": by,
            "cause": worker.ended_because,
        }
        fields["in_flight"], fields["requests"] = self._control.in_flight.read(worker.number)
        if not self._is_stopping:
            self._plan_restart(worker, **fields)
        elif code:
            log.error("worker.died", **fields, pause_s=None)

    def _plan_restart(self, worker: _Worker, **fields: Any) -> None:
        """Log how a worker ended, and when the next one starts; give up if none ever can."""
        now_s = time.monotonic()
        worker.deaths = restarts.deaths_in_a_row(worker.deaths, now_s - worker.started_s)
        is_young = not self._has_served or not (self._is_ready or self._line.is_first)
        self._failed_starts += is_young
        if is_young and restarts.is_hopeless(self._failed_starts, len(self._numbered)):
            log.error("worker.died", **fields, pause_s=None)
            log.error("start.given_up", starts=self._failed_starts)
            self.has_failed = True
            self._begin_stop(now_s)
            if not self._has_served:
                self._end_all(signal.SIGKILL)
            return
        self._control.count_death()
        pause_s = restarts.pause_s(worker.deaths)
        worker.restart_at_s = now_s + pause_s
        log.error("worker.died", **fields, pause_s=pause_s)

    def _look_for_life(self, now_s: float) -> None:
        """End the workers that gave no sign of life for GATEWAY_WORKER_TIMEOUT."""
        passed_s, self._looked_s = now_s - self._looked_s, now_s
        timeout_s = self._settings.worker_timeout_s
        for worker in self._numbered:
            if worker.process is None or worker.process.pid is None or self._is_stopping:
                continue
            self._has_served |= self._control.has_served(worker.number)
            beats = self._control.beats(worker.number)
            worker.silence = restarts.listened(worker.silence, beats, passed_s, self._every_s)
            if worker.silence.seconds >= timeout_s and worker.ended_because is None:
                worker.ended_because = f"no sign of life for {timeout_s:g} s"
                _send(worker.process, signal.SIGKILL)  # a stopped process reacts to nothing else


def _send(process: BaseProcess, number: signal.Signals) -> None:
    """Signal a worker that has not ended: until it is waited for, its process id is not reused.

    A worker may have been waited for before `_look_for_an_end` comes to it: `multiprocessing` does so for all ended
    processes when it starts another one.
    """
    if process.pid is not None and process.exitcode is None:
        os.kill(process.pid, number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
