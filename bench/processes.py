"""The processes that the benchmark starts, and what /proc tells about them.

Each child leads a session of its own. Its family is that session plus all descendants, so a forked worker counts, also
one whose parent has died. A family's CPU time is the sum, over its living members, of utime + stime + cutime + cstime:
when a worker ends and is waited for, its time moves to its parent's cutime and cstime, and the sum does not change.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.machine import pinned_to

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
KIB_PER_MIB = 1024
GRACE_S = 12.0  # a little over Portway's own drain
FOREIGN = ("GATEWAY_", "GRANIAN_", "DJANGO_", "PYTHON", "AIOHTTP_")


@dataclass(frozen=True)
class Stat:
    """The few fields of /proc/<pid>/stat that matter here."""

    pid: int
    parent: int
    session: int
    cpu_ticks: int
    started_ticks: int

    @classmethod
    def parse(cls, line: str) -> "Stat":
        # The command's name stands in parentheses and may hold blanks and parentheses itself: count from the last one.
        head, _, tail = line.rpartition(")")
        fields = tail.split()
        return cls(
            pid=int(head.split(" ", 1)[0]),
            parent=int(fields[1]),
            session=int(fields[3]),
            cpu_ticks=sum(int(ticks) for ticks in fields[11:15]),
            started_ticks=int(fields[19]),
        )


@dataclass(frozen=True)
class Memory:
    """Resident memory of a family, in MiB. RSS counts shared pages once per process, PSS once in all."""

    rss_sum_mib: float
    rss_biggest_mib: float
    peak_sum_mib: float
    peak_biggest_mib: float
    pss_mib: float


def family(leader: int) -> list[Stat]:
    """The leader, its session and all their descendants, as far as they live."""
    everyone = _all_processes()
    members = {stat.pid for stat in everyone if leader in (stat.pid, stat.session)}
    while more := {stat.pid for stat in everyone if stat.parent in members} - members:
        members |= more
    return [stat for stat in everyone if stat.pid in members]


def cpu_s(leader: int) -> float:
    return sum(stat.cpu_ticks for stat in family(leader)) / TICKS_PER_S


def core_used_s(core: int) -> float:
    """Time since boot in which this core worked for anybody, interrupts and the hypervisor's theft included."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, *rest = map(int, ticks[:8])
            return (user + nice + system + sum(rest)) / TICKS_PER_S
    raise LookupError(f"/proc/stat knows no core {core}")


def memory(leader: int) -> Memory:
    """VmRSS now, VmHWM since the start or the last `reset_peak`, PSS now."""
    statuses = [_kib_fields(PROC / str(stat.pid) / "status") for stat in family(leader)]
    rss_mib = [status.get("VmRSS", 0) / KIB_PER_MIB for status in statuses]
    peak_mib = [status.get("VmHWM", 0) / KIB_PER_MIB for status in statuses]
    rollups = [_kib_fields(PROC / str(stat.pid) / "smaps_rollup") for stat in family(leader)]
    return Memory(
        rss_sum_mib=sum(rss_mib),
        rss_biggest_mib=max(rss_mib, default=0.0),
        peak_sum_mib=sum(peak_mib),
        peak_biggest_mib=max(peak_mib, default=0.0),
        pss_mib=sum(rollup.get("Pss", 0) for rollup in rollups) / KIB_PER_MIB,
    )


def reset_peak(leader: int) -> None:
    """Set VmHWM back to VmRSS, so that the peaks of starting up do not count as growth."""
    for stat in family(leader):
        with suppress(OSError):
            (PROC / str(stat.pid) / "clear_refs").write_text("5")


class Child:
    """A process that we started, pinned to a core, with its output in a file; `stop` ends it and its family."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], core: int, folder: Path, name: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log, pinned_to(core):
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                list(argv),
                env=_clean_environment() | dict(env),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} exit={self._process.poll()}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def last_lines(self, count: int = 5) -> str:
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        return "\n".join(f"    | {line}" for line in lines[-count:])

    def stop(self) -> None:
        """Ask, wait, then kill whoever is left of the family, by id. An interrupt in here only ends the waiting."""
        members = family(self.pid)
        try:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        finally:
            # An id may belong to a stranger by now; id and time of birth together do not.
            born = {(stat.pid, stat.started_ticks) for stat in members}
            for stat in _all_processes():
                if (stat.pid, stat.started_ticks) in born:
                    with suppress(ProcessLookupError):
                        os.kill(stat.pid, signal.SIGKILL)
            self._process.wait()


def _clean_environment() -> dict[str, str]:
    """Ours, without anything that would change what a target does."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def _all_processes() -> list[Stat]:
    stats = []
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stats.append(Stat.parse((entry / "stat").read_text()))
    return stats


def _kib_fields(path: Path) -> dict[str, int]:
    """The `Name:   123 kB` lines of a file in /proc; empty if the process has gone or may not be read."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            fields[name] = int(value.split()[0])
    return fields
