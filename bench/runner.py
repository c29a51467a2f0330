"""Runs a scenario: starts its targets, interleaves the rounds (A B C, A B C, ...), gathers the samples."""

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from bench.load import GET, LoadError, probe
from bench.machine import HOST, SECOND_HOST, Cores, free_port
from bench.measures import Effort, Running, Sample
from bench.processes import Child
from bench.scenarios import Row, Scenario
from bench.targets import HOME, TARGETS, Launch, NotAvailableError, valkey

START_TIMEOUT_S = 20.0
POLL_S = 0.005


class StartError(Exception):
    """A target did not come to answer rightly; the message says why and quotes its last lines."""


@dataclass
class Result:
    """The samples of every row, and everything that went wrong with one, by the row's name."""

    scenario: Scenario
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    not_available: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """Where everything runs, and how hard."""

    cores: Cores
    effort: Effort
    folder: Path

    def run(self, scenario: Scenario, only_targets: Sequence[str]) -> Result:
        if scenario.connections is not None and scenario.connections != self.effort.connections:
            effort = replace(self.effort, connections=scenario.connections)
            return replace(self, effort=effort).run(replace(scenario, connections=None), only_targets)
        rows = [row for row in scenario.rows if not only_targets or row.target in only_targets]
        result = Result(scenario)
        with self._upstream() as upstream_url:
            if scenario.measure.fresh_process:
                self._fresh_rounds(rows, upstream_url, result)
            else:
                self._shared_rounds(rows, upstream_url, result)
        return result

    def _shared_rounds(self, rows: Sequence[Row], upstream_url: str, result: Result) -> None:
        """All targets stand at once, idle but for the one under load."""
        with ExitStack() as stack:
            standing: list[tuple[Row, Running]] = []
            for row in rows:
                with noted(row, result):
                    running = stack.enter_context(self._target(row, upstream_url))
                    result.scenario.measure.warm_up(running, self.effort)
                    standing.append((row, running))
            for number in range(1, self.effort.rounds + 1):
                for row, running in standing:
                    with noted(row, result):
                        self._sample(row, running, number, result)

    def _fresh_rounds(self, rows: Sequence[Row], upstream_url: str, result: Result) -> None:
        for number in range(1, self.effort.rounds + 1):
            for row in rows:
                if row.name in result.failures or row.name in result.not_available:
                    continue
                with noted(row, result), self._target(row, upstream_url) as running:
                    result.scenario.measure.warm_up(running, self.effort)
                    self._sample(row, running, number, result)

    def _sample(self, row: Row, running: Running, number: int, result: Result) -> None:
        sample = result.scenario.measure.sample(running, self.effort)
        result.samples.setdefault(row.name, []).append(sample)
        first = result.scenario.measure.columns[0]
        figure = f"{sample.figures[first.figure]:>10,.2f} {first.heading}"
        tell(f"  round {number}/{self.effort.rounds}  {row.name:<24} {figure}")
        if sample.errors:
            raise LoadError(sample.errors)

    @contextmanager
    def _upstream(self) -> Iterator[str]:
        port = free_port()
        argv = [sys.executable, "-m", "bench.upstream", str(port)]
        with started(argv, {"PYTHONPATH": str(HOME)}, self.cores.load, self.folder, "upstream") as child:
            first_answer(child, port, Row("upstream"))
            yield f"http://{HOST}:{port}"

    @contextmanager
    def _valkey(self, folder: Path) -> Iterator[dict[str, str]]:
        """A Valkey on the load's core; what Portway is told of it. One that is slow to start is waited for."""
        port = free_port()
        command = valkey(port, folder)
        with started(command.argv, command.env, self.cores.load, folder, "valkey"):
            yield {"GATEWAY_VALKEY_URL": f"redis://{HOST}:{port}/0"}

    @contextmanager
    def _target(self, row: Row, upstream_url: str) -> Iterator[Running]:
        port = free_port()
        folder = self.folder / f"{row.target}-{port}"
        folder.mkdir()
        urls = [upstream_url, upstream_url.replace(HOST, SECOND_HOST)]
        command = TARGETS[row.target](Launch(port, urls[: row.endpoints], folder))
        with ExitStack() as stack:
            env = {**command.env, **row.env}
            if row.counts_in_valkey:
                env |= stack.enter_context(self._valkey(folder))
            child = stack.enter_context(started(command.argv, env, self.cores.gateway, folder, row.target))
            asked = row.first_path or (row.path if row.request is GET else "/1k")
            first_answer_s = first_answer(child, port, replace(row, path=asked))
            yield Running(child, self.cores.gateway, port, row.path, first_answer_s, folder, row.request)


@contextmanager
def noted(row: Row, result: Result) -> Iterator[None]:
    """A row that cannot be measured is written down, loudly, and does not stop the others."""
    try:
        yield
    except NotAvailableError as error:
        result.not_available[row.name] = str(error)
        tell(f"  skipped: {row.name}: {error}")
    except (StartError, LoadError, OSError) as error:
        result.failures[row.name] = str(error)
        tell(f"  FAILED: {row.name}: {error}")


@contextmanager
def started(argv: Sequence[str], env: Mapping[str, str], core: int, folder: Path, name: str) -> Iterator[Child]:
    child = Child(argv, env, core, folder, name)
    try:
        yield child
    finally:
        child.stop()


def first_answer(child: Child, port: int, row: Row) -> float:
    """Seconds from the start of the process to its first right answer."""
    problem = ""
    while time.perf_counter() - child.started_at < START_TIMEOUT_S:
        if child.has_ended():
            raise StartError(f"ended before it answered\n{child.last_lines()}")
        problem = probe(port, row.path, row.body)
        if not problem:
            return time.perf_counter() - child.started_at
        time.sleep(POLL_S)
    raise StartError(f"no right answer within {START_TIMEOUT_S:.0f} s: {problem}\n{child.last_lines()}")


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def interruptible(run: Callable[[], int]) -> int:
    """The exit code of `run`; 130 once SIGINT or SIGTERM has ended it, by way of every `finally`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # by hand: a shell's background job is born deaf to SIGINT
        signal.signal(number, _interrupt)
    try:
        return run()
    except KeyboardInterrupt:
        tell("bench: interrupted; everything it started has ended")
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
