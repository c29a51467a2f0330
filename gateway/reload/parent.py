"""The first process of `gateway serve`. It reads no configuration, imports nothing of a team's, and serves nothing.

It forks a generation, which checks its configuration, forks its workers and listens. For a reload it forks another one
beside it, from the same clean state. Once all of its workers are ready, the old one hands over its port, as in a
rolling restart, and drains. Any failure before that is logged, and the old one goes on.

1. A reload is asked for: by SIGHUP, by `POST /-/reload`, by a changed file. Several at once are one more.
2. The new generation checks, and tells its facts, or its problems.
3. It listens, when those before the serving one have left the port.
4. All its workers are ready: it is the one that serves, the old one retires.
5. New connections go past the old one: the reload is done.
6. The old one ends when its last request has, or GATEWAY_RELOAD_DRAIN has passed.
"""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.observe import log as logs
from gateway.observe.log import log
from gateway.reload import files
from gateway.reload.board import Outcome
from gateway.reload.files import Watch
from gateway.reload.line import CUT, DRAIN, GO, LEAVE, PLACES, RETIRE, Facts, Inherited, Line

_NEVER: Final = float("inf")
# How long a new generation may take until it serves: importing its modules may hang.
START_S: Final = 60.0
# The time after the last earlier one has closed its listeners until the serving one knows (`server.reuseport`).
_SETTLE_S: Final = 1.0
# How long the end of a reload waits for old workers that are held up and still get new connections.
_MOST_ASIDE_S: Final = 2.0
_MOST_RETIRING: Final = PLACES - 2


@dataclass(slots=True, eq=False)
class _Generation:
    """A generation as the parent sees it."""

    number: int
    pid: int
    place: int
    orders: int
    reports: int
    give_up_s: float
    text: bytes = b""  # the incomplete last line of reports
    facts: Facts | None = None
    seen: files.Look | None = None  # its files as they were when it had read them
    problems: str = ""
    is_let_go: bool = False
    is_settled: bool = False  # no worker of it is about to listen
    is_retiring: bool = False
    stepped_aside_s: float = _NEVER
    left_port_s: float = _NEVER
    cut: int = 0

    def order(self, order: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self.orders, order)


class Parent:
    """`run` returns twice: in each generation with its line, and in the parent, at the end, with the exit code."""

    def __init__(self, workers: int) -> None:
        self._inherited = Inherited(workers)
        self._board = self._inherited.board
        self._all: list[_Generation] = []
        self._serving: _Generation | None = None
        self._starting: _Generation | None = None
        self._is_ending = False  # whether a reload is ending: the new generation serves, the old one steps aside
        self._left_port_s = -_NEVER  # the latest time at which a generation that has ended left the port
        self._number = 0
        self._wanted = ""  # the reason for the next reload, if one is wanted
        self._because: dict[str, Any] = {}
        self._began_s = 0.0
        self._watch: Watch | None = None
        self._look_s = _NEVER
        self._stops = 0
        self._cut = 0
        self._code: int | None = None
        self._fixed: Mapping[str, tuple[str, str]] | None = None
        self._place = -1
        self._has_terminal = _terminal_is_there()

    def run(self) -> Line | int:
        self._watch_signals()
        if (line := self._fork()) is not None:
            return line
        while self._code is None:
            self._wait()
            self._look_at_ends()
            now_s = time.monotonic()
            if now_s >= self._look_s:
                self._look_at_files(now_s)
            if self._starting is not None and now_s >= self._starting.give_up_s:
                self._starting.problems = f"it does not serve after {START_S:.0f} s"
                self._starting.give_up_s = _NEVER
                _kill(self._starting.pid)
            self._let_go(now_s)
            if self._serving is not None and now_s >= self._done_at_s():
                self._done(self._serving)
            if (line := self._next()) is not None:
                return line
        logs.flush(1.0)
        return self._code

    # -- signals ------------------------------------------------------------------------------------------------------

    def _watch_signals(self) -> None:
        """Receive signals as numbers in a pipe, written from C as they come: none is lost before a sleep."""
        self._signals, self._write_end = os.pipe()
        for end in (self._signals, self._write_end):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGCHLD:  # nohup
                signal.signal(number, lambda number, frame: None)

    def _wait(self) -> None:
        """Wait for a signal or a report, or until something is due."""
        poll = select.poll()
        for descriptor in (self._signals, self._board.asked, *(one.reports for one in self._all)):
            poll.register(descriptor, select.POLLIN)
        due_s = [self._look_s, self._done_at_s()]
        if self._starting is not None:
            due_s.append(self._starting.give_up_s)
            due_s.append(self._may_listen_at_s(self._starting))
        left_s = min(due_s) - time.monotonic()
        ready = {number for number, _ in poll.poll(None if left_s == _NEVER else max(0.0, left_s) * 1000 + 1)}
        for generation in list(self._all):
            if generation.reports in ready:
                self._read_reports(generation)
        if self._board.asked in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._board.asked, 4096)
            self._want("POST /-/reload")
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._signals, 4096):
                self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGHUP and not (self._has_terminal and not _terminal_is_there()):
            self._want("SIGHUP")
        elif number in {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            self._stop(signal.Signals(number).name)

    def _stop(self, name: str) -> None:
        self._stops += 1
        if self._stops == 1 and self._fixed is not None:
            log.info("drain.started", signal=name)
        for generation in self._all:
            if generation.is_let_go:
                generation.order(DRAIN if self._stops == 1 else CUT)
            else:
                _kill(generation.pid)

    # -- reloads ------------------------------------------------------------------------------------------------------

    def _want(self, because: str, **fields: Any) -> None:
        self._wanted, self._because = because, fields

    def _retiring(self) -> list[_Generation]:
        return [one for one in self._all if one.is_retiring]

    def _look_at_files(self, now_s: float) -> None:
        self._look_s = now_s + files.LOOK_S
        if self._watch is not None and (found := self._watch.again()):
            self._want("files", files=found)

    def _next(self) -> Line | None:
        """Begin the wanted reload, if it is its turn. In the new generation: returns its line."""
        if not self._wanted or self._stops or self._starting is not None or self._is_ending:
            return None
        why, fields, self._wanted, self._because = self._wanted, self._because, "", {}
        self._board.begin()
        self._began_s = time.monotonic()
        log.info("reload.started", by=why, **fields)
        retiring = self._retiring()
        for oldest in retiring[: max(0, len(retiring) - _MOST_RETIRING + 1)]:
            oldest.order(CUT)
        return self._fork()

    def _fork(self) -> Line | None:
        self._number += 1
        orders, reports = os.pipe(), os.pipe()
        taken = {one.place for one in self._all}
        free = [number for number in range(PLACES) if number not in taken] or [PLACES - 1]
        # Not the slot of the last one, if it was killed: its workers still count there.
        self._place = place = next((number for number in free if number > self._place), free[0])
        logs.flush(0.5)
        if self._serving is not None and self._serving.facts is not None:
            files.forget_compiled(files.beside(self._serving.facts.files))
        pid = os.fork()
        if pid == 0:
            os.close(orders[1])
            os.close(reports[0])
            self._forget()
            return Line(self._number, self._inherited, place * self._inherited.workers, orders[0], reports[1])
        os.close(orders[0])
        os.close(reports[1])
        os.set_blocking(reports[0], False)
        give_up_s = _NEVER if self._serving is None and self._number == 1 else time.monotonic() + START_S
        self._starting = _Generation(self._number, pid, place, orders[1], reports[0], give_up_s)
        self._all.append(self._starting)
        return None

    def _forget(self) -> None:
        """In a new generation: drop what belongs only to the parent."""
        signal.set_wakeup_fd(-1)
        ends = [end for one in self._all for end in (one.orders, one.reports)]
        for descriptor in (self._signals, self._write_end, *ends):
            os.close(descriptor)

    # -- what generations tell ----------------------------------------------------------------------------------------

    def _read_reports(self, generation: _Generation) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(generation.reports, 65536):
                generation.text += data
        *lines, generation.text = generation.text.split(b"\n")
        for text in lines:
            report = json.loads(text)
            generation.cut += report.get("cut", 0)
            generation.problems = report.get("problems", generation.problems)
            if "facts" in report:
                self._checked(generation, Facts(**report["facts"]))
            if report.get("stepped_aside"):
                generation.stepped_aside_s = 0.0
            if report.get("left_port"):
                generation.left_port_s = time.monotonic()
            if report.get("ready"):
                self._ready(generation)
            generation.is_settled |= report.get("settled", False)

    def _checked(self, generation: _Generation, facts: Facts) -> None:
        generation.facts, generation.seen = facts, files.look(files.beside(facts.files))
        if generation.number == 1:
            logs.take_streams()
            logs.configure(facts.log, facts.log_level)
        elif faults := self._faults(facts):
            generation.problems = "\n".join(faults)
            generation.order(LEAVE)
            return
        if facts.warnings:
            log.warning("reload.warnings", problems=facts.warnings.splitlines())

    def _faults(self, facts: Facts) -> list[str]:
        """Faults: values that the new configuration changes although a reload cannot."""
        before = self._fixed or {}
        return [
            f"{variable}: {shown} takes a restart; {before[variable][0]} holds until then"
            for variable, (shown, digest) in facts.fixed.items()
            if variable in before and before[variable][1] != digest
        ]

    def _may_listen_at_s(self, new: _Generation) -> float:
        """When the retired generations have left the port, and the serving one knows. That one must be complete: a
        worker of it that began to listen after the new ones would be taken for one of them (`server.reuseport`).
        """
        is_due = new.facts is not None and not new.is_let_go and not new.problems
        if not is_due or not (self._serving is None or self._serving.is_settled):
            return _NEVER
        return max(self._left_port_s, *(one.left_port_s for one in self._retiring()), 0.0) + _SETTLE_S

    def _let_go(self, now_s: float) -> None:
        new = self._starting
        if new is not None and new.facts is not None and now_s >= self._may_listen_at_s(new):
            new.is_let_go = True
            new.order(GO)
            if new.number == 1:
                self._fixed = new.facts.fixed

    def _ready(self, generation: _Generation) -> None:
        old, self._serving = self._serving, generation
        self._starting = None
        facts = generation.facts
        assert facts is not None  # noqa: S101 - it was let go
        logs.configure(facts.log, facts.log_level)
        self._is_ending = generation.number > 1
        if old is not None:
            old.is_retiring, old.stepped_aside_s = True, time.monotonic() + _MOST_ASIDE_S
            old.order(RETIRE)
        if facts.watches:
            self._watch_files(facts.files, generation.seen)
        else:
            self._watch, self._look_s = None, _NEVER
        if self._stops:
            generation.order(DRAIN)

    def _done_at_s(self) -> float:
        """When the ending reload is done."""
        if not self._is_ending:
            return _NEVER
        return 0.0 if self._stops else max([0.0, *(one.stepped_aside_s for one in self._retiring())])

    def _done(self, new: _Generation) -> None:
        facts = new.facts
        assert facts is not None  # noqa: S101 - it was let go
        self._is_ending = False
        ms = round((time.monotonic() - self._began_s) * 1000)
        log.info("reload.done", generation=new.number, config=facts.config_hash, ms=ms)
        self._board.end(Outcome.DONE, new.number, facts.warnings, time.time())

    def _watch_files(self, paths: tuple[str, ...], seen: files.Look | None) -> None:
        self._watch = Watch(lambda: files.beside(paths), seen)
        self._look_s = time.monotonic() + files.LOOK_S

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _look_at_ends(self) -> None:
        """Collect ended processes, strangers too: orphans become children of process 1, which the parent may be."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for generation in [one for one in self._all if one.pid == ended[0]]:
                    self._read_reports(generation)
                    self._all.remove(generation)
                    os.close(generation.orders)
                    os.close(generation.reports)
                    self._ended(generation, os.waitstatus_to_exitcode(ended[1]))

    def _ended(self, generation: _Generation, code: int) -> None:
        self._cut += generation.cut
        if self._stops:
            if not self._all:
                self._say_end()
                self._code = 0
        elif generation is self._starting:
            self._starting = None
            self._did_not_start(generation, code)
        elif generation is self._serving:
            self._serving = None
            if self._is_ending:
                self._done(generation)
            by = signal.Signals(-code).name if code < 0 else None
            log.error("generation.died", generation=generation.number, pid=generation.pid, exit_code=code, signal=by)
            self._want("generation.died")
        elif generation.is_retiring:
            self._left_port_s = max(self._left_port_s, min(generation.left_port_s, time.monotonic()))
            log.info("generation.ended", generation=generation.number, cut=generation.cut)
            self._cut -= generation.cut

    def _did_not_start(self, generation: _Generation, code: int) -> None:
        if generation.number == 1:
            self._code = code if code > 0 else 1
            return
        is_refused = code == 2 or (generation.facts is not None and not generation.is_let_go)
        outcome = Outcome.REFUSED if is_refused else Outcome.FAILED
        event = "reload.refused" if is_refused else "reload.failed"
        problems = generation.problems or _how_it_ended(code)
        lines = [line.removeprefix("gateway: ") for line in problems.splitlines() if line.strip()]
        if self._serving is None:
            log.error(event, problems=lines)
            self._code = 2 if is_refused else 1
            return
        log.error(event, problems=lines, serves=self._serving.number)
        self._board.end(outcome, self._serving.number, "\n".join(lines), time.time())

    def _say_end(self) -> None:
        if self._fixed is None:  # no generation ever went ahead
            return
        if self._cut:
            log.warning("drain.cut", count=self._cut)
        log.info("drain.done")


def _how_it_ended(code: int) -> str:
    """The fault for a generation that ended without a report."""
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with exit code {code}"


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _terminal_is_there() -> bool:
    """Whether this process has a controlling terminal: a closed one has sent SIGHUP at the end."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
