"""What one round yields. A measure names its columns and takes a sample from a running target."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bench.echo import run_echo
from bench.load import GET, MB, Request, WrkResult, download, probe, run_wrk, unread, upload
from bench.processes import Child, core_used_s, cpu_s, memory, reset_peak

GIB = 1024**3
IDLE_S = 1.0


@dataclass(frozen=True)
class Running:
    """A target that has given its first right answer."""

    child: Child
    core: int
    port: int
    path: str
    first_answer_s: float
    folder: Path
    request: Request = GET


@dataclass(frozen=True)
class Effort:
    """How long and how hard."""

    rounds: int
    seconds: int
    connections: int


@dataclass(frozen=True)
class Sample:
    figures: Mapping[str, float]
    errors: str = ""


@dataclass(frozen=True)
class Column:
    """`ratio` is the median of each round's ratio to the baseline; `spread` is (max - min) / median."""

    figure: str
    heading: str
    digits: int = 0
    show: str = "median"  # median, max, ratio or spread


class CpuWatch:
    """CPU time of a target's family, and of everybody else on its core, since the watch was made."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._began_at = time.perf_counter()
        self._family_s = cpu_s(running.child.pid)
        self._core_s = core_used_s(running.core)

    def read(self) -> dict[str, float]:
        took_s = time.perf_counter() - self._began_at
        spent_s = cpu_s(self._running.child.pid) - self._family_s
        others_s = core_used_s(self._running.core) - self._core_s - spent_s
        return {
            "cpu_s": spent_s,
            "busy_percent": 100 * spent_s / took_s,
            "others_percent": 100 * max(others_s, 0.0) / took_s,
        }


class Measure(Protocol):
    fresh_process: bool  # a new process every round, or one for all rounds
    columns: tuple[Column, ...]

    def warm_up(self, running: Running, effort: Effort) -> None: ...

    def sample(self, running: Running, effort: Effort) -> Sample: ...


CORE = (Column("busy_percent", "its core %"), Column("others_percent", "others %"))


class UnderLoad(Measure):
    """wrk for a few seconds: requests/s, times to answer, and the CPU time that they cost the whole process tree."""

    fresh_process = False
    columns: tuple[Column, ...] = (
        Column("requests_per_s", "requests/s"),
        Column("p50_ms", "p50 ms", 2),
        Column("p99_ms", "p99 ms", 2),
        Column("cpu_s_per_10k", "CPU s / 10,000", 3),
        Column("cpu_s_per_10k", "CPU spread", show="spread"),
        Column("cpu_s_per_10k", "CPU ratio", 2, show="ratio"),
        *CORE,
        Column("peak_rss_mib", "peak RSS MiB", 1, show="max"),
        Column("pss_mib", "PSS MiB", 1, show="max"),
    )

    def warm_up(self, running: Running, effort: Effort) -> None:
        self._load(running, replace(effort, seconds=1))

    def sample(self, running: Running, effort: Effort) -> Sample:
        watch = CpuWatch(running)
        wrk = self._load(running, effort)
        cpu = watch.read()
        now = memory(running.child.pid)
        figures = {
            **cpu,
            "requests_per_s": wrk.requests / wrk.duration_s,
            "p50_ms": wrk.p50_ms,
            "p99_ms": wrk.p99_ms,
            "cpu_s_per_10k": cpu["cpu_s"] * 10_000 / max(wrk.requests, 1),
            "peak_rss_mib": now.peak_biggest_mib,
            "pss_mib": now.pss_mib,
        }
        return Sample(figures, wrk.errors)

    def _load(self, running: Running, effort: Effort) -> WrkResult:
        url = f"http://127.0.0.1:{running.port}{running.path}"
        return run_wrk(url, effort.seconds, effort.connections, running.folder, running.request)


class Echoes(UnderLoad):
    """The same for WebSockets: what a round trip of a message costs."""

    columns: tuple[Column, ...] = (
        Column("requests_per_s", "round trips/s"),
        *UnderLoad.columns[1:],
    )

    def _load(self, running: Running, effort: Effort) -> WrkResult:
        return run_echo(running.port, effort.seconds, effort.connections)


class BesideStuck(UnderLoad):
    """As under load, while the stuck route of `bench.apps.legacy` is asked all along, if the path says so."""

    columns: tuple[Column, ...] = (
        *UnderLoad.columns[:2],
        Column("p99_ms", "p99 ratio", 2, show="ratio"),
        *UnderLoad.columns[2:],
    )

    def warm_up(self, running: Running, effort: Effort) -> None:
        super().warm_up(running, effort)
        if "stuck" in running.path:
            threads = [threading.Thread(target=probe, args=[running.port, "/stuck", None]) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def sample(self, running: Running, effort: Effort) -> Sample:
        over = threading.Event()

        def ask() -> None:
            while "stuck" in running.path and not over.wait(1 / 50):
                probe(running.port, "/stuck", None)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            return super().sample(running, effort)
        finally:
            over.set()
            asking.join()


class Transfer(Measure):
    """One body of 1 GiB through a fresh process: how fast, and by how much its resident memory grew at the highest."""

    fresh_process = True
    columns = (
        Column("mb_per_s", "MB/s"),
        Column("mb_per_s", "MB/s ratio", 2, show="ratio"),
        Column("cpu_s", "CPU s / GiB", 2),
        Column("cpu_s", "CPU ratio", 2, show="ratio"),
        *CORE,
        Column("growth_mib", "growth MiB, median", 1),
        Column("growth_mib", "growth MiB, worst", 1, show="max"),
    )

    def __init__(self, transfer: Callable[[int, int], float]) -> None:
        self._transfer = transfer

    def warm_up(self, running: Running, effort: Effort) -> None:
        self._transfer(running.port, 64 * 1024)

    def sample(self, running: Running, effort: Effort) -> Sample:
        pid = running.child.pid
        reset_peak(pid)
        before = memory(pid)
        watch = CpuWatch(running)
        took_s = self._transfer(running.port, GIB)
        figures = {
            **watch.read(),
            "mb_per_s": GIB / MB / took_s,
            "growth_mib": memory(pid).peak_sum_mib - before.rss_sum_mib,
        }
        return Sample(figures)


class Unread(Measure):
    """Clients that ask for 8 MiB and read nothing: what each of them costs."""

    fresh_process = True
    columns = (Column("mib_a_client", "MiB a client", 2), Column("mib_a_client", "worst", 2, show="max"))

    CLIENTS = 50
    BODY_BYTES = 8 * 2**20

    def warm_up(self, running: Running, effort: Effort) -> None:
        for _ in range(3):
            download(running.port, self.BODY_BYTES)
        time.sleep(IDLE_S)

    def sample(self, running: Running, effort: Effort) -> Sample:
        before = memory(running.child.pid)
        clients = [unread(running.port, self.BODY_BYTES) for _ in range(self.CLIENTS)]
        time.sleep(2 * IDLE_S)
        grown_mib = memory(running.child.pid).rss_sum_mib - before.rss_sum_mib
        for client in clients:
            client.close()
        return Sample({"mib_a_client": grown_mib / self.CLIENTS})


class Start(Measure):
    """A fresh process: the time to its first right answer, then what it holds when idle."""

    fresh_process = True
    columns = (
        Column("first_answer_s", "first answer s", 2),
        Column("first_answer_s", "worst s", 2, show="max"),
        Column("cpu_s", "CPU s", 2),
        Column("worker_rss_mib", "idle worker RSS MiB", 1),
        Column("tree_rss_mib", "tree RSS MiB", 1),
        Column("pss_mib", "tree PSS MiB", 1),
    )

    def warm_up(self, running: Running, effort: Effort) -> None:
        time.sleep(IDLE_S)

    def sample(self, running: Running, effort: Effort) -> Sample:
        now = memory(running.child.pid)
        figures = {
            "first_answer_s": running.first_answer_s,
            "cpu_s": cpu_s(running.child.pid),
            "worker_rss_mib": now.rss_biggest_mib,
            "tree_rss_mib": now.rss_sum_mib,
            "pss_mib": now.pss_mib,
        }
        return Sample(figures)


class Idle(Measure):
    """A target that nobody asks: the CPU time that it takes all the same."""

    fresh_process = False
    columns = (Column("cpu_ms_per_s", "CPU ms / s", 2), Column("worker_rss_mib", "idle worker RSS MiB", 1))

    def warm_up(self, running: Running, effort: Effort) -> None:
        time.sleep(IDLE_S)

    def sample(self, running: Running, effort: Effort) -> Sample:
        before_s = cpu_s(running.child.pid)
        time.sleep(effort.seconds * 4)
        spent_s = cpu_s(running.child.pid) - before_s
        figures = {
            "cpu_ms_per_s": 1000 * spent_s / (effort.seconds * 4),
            "worker_rss_mib": memory(running.child.pid).rss_biggest_mib,
        }
        return Sample(figures)


UNDER_LOAD = UnderLoad()
ECHOES = Echoes()
IDLE = Idle()
BESIDE_STUCK = BesideStuck()
DOWNLOAD = Transfer(download)
UPLOAD = Transfer(upload)
START = Start()
UNREAD = Unread()
