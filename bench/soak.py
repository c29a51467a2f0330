"""The soak: steady load, and a fault every few seconds on one of three servers in turn: `python -m bench.soak --help`.

It tells what the clients saw, what the gateway's log counted, and what its worker held at the start and at the end. The
exit code is 1 if a GET failed, or if a POST was acted on twice.
"""

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.__main__ import some_of
from bench.faults import CONNECTIONS, portway
from bench.machine import describe, free_port, pick_cores
from bench.processes import PROC, Child, family
from bench.report import aligned
from bench.runner import first_answer, interruptible, started, tell
from bench.scenarios import Row
from bench.targets import Launch
from tests.live.chaos import MIX, Load, Outcome, percentile_ms
from tests.live.faulty import FAULTS, FROM_OUTSIDE, Faulty

# A 503 with Retry-After is passed on by design, so `busy` would count as failures what are none.
SOAK_FAULTS = tuple(fault for fault in (*FAULTS, *FROM_OUTSIDE) if fault not in {"ok", "busy"})
LASTS_S = (0.5, 3.0)
SETTLE_S = 10.0
PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 1024**2


@dataclass(frozen=True)
class Held:
    """What a worker holds at a moment."""

    when: str
    rss_mib: float
    sockets: int
    files: int

    @classmethod
    def by(cls, worker: int, when: str) -> "Held":
        resident_pages = int((PROC / str(worker) / "statm").read_text().split()[1])
        links = []
        for descriptor in (PROC / str(worker) / "fd").iterdir():
            with suppress(OSError):
                links.append(str(descriptor.readlink()))
        sockets = sum(link.startswith("socket:") for link in links)
        return cls(when, resident_pages * PAGE_MIB, sockets, len(links) - sockets)


@dataclass(frozen=True)
class Episode:
    """A fault that was gone through."""

    server: str
    fault: str
    began: float
    ended: float


def worker_of(child: Child) -> int:
    """The biggest process below the one that we started: the one that serves."""
    pids = [stat.pid for stat in family(child.pid) if stat.pid != child.pid]
    return max(pids, key=lambda pid: int((PROC / str(pid) / "statm").read_text().split()[1]))


def soak(load: Load, servers: Sequence[Faulty], options: argparse.Namespace, until: float) -> Iterator[Episode]:
    """A fault every few seconds, on each server in turn, of a kind and a length that the seed decides."""
    chance = random.Random(options.seed)
    for server in itertools.cycle(servers):
        fault, lasts_s = chance.choice(options.only or SOAK_FAULTS), chance.uniform(*LASTS_S)
        if load.now() + options.every > until:
            return
        began = load.now()
        with server.suffering(fault):
            load.go_on(lasts_s)
        yield Episode(server.name, fault, began, load.now())
        load.go_on(max(0.0, began + options.every - load.now()))


def main() -> int:
    options = parse_options()
    return interruptible(lambda: run(options))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.soak", description="Markdown on stdout.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=150.0, help="requests/s (default: 150)")
    parser.add_argument("--every", type=float, default=5.0, help="seconds from a fault to the next (default: 5)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=some_of(SOAK_FAULTS), default=[], metavar="FAULT,...")
    return parser.parse_args()


def run(options: argparse.Namespace) -> int:
    cores = pick_cores()
    print(f"{describe(core_count=len(os.sched_getaffinity(0)))}; {cores}")
    print(f"{options.minutes:g} minutes, {options.rate:g} requests/s, a fault every {options.every:g} s of ", end="")
    print(f"{LASTS_S[0]:g} to {LASTS_S[1]:g} s, seed {options.seed}\n", flush=True)
    os.sched_setaffinity(0, {cores.load})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="portway-soak-")))
        servers = [stack.enter_context(Faulty(name, folder)) for name in ("one", "two", "three")]
        port = free_port()
        command = portway(Launch(port, [server.url for server in servers], folder))
        child = stack.enter_context(started(command.argv, command.env, cores.gateway, folder, "portway"))
        first_answer(child, port, Row("portway", "/x", body=None))
        worker = worker_of(child)
        held = [Held.by(worker, "start")]
        episodes = []
        with Load(port, "/x", kinds=MIX, rate=options.rate, connections=CONNECTIONS) as load:
            until = load.now() + options.minutes * 60
            load.go_on(min(20.0, options.minutes * 6))
            held.append(Held.by(worker, "warm, before the first fault"))
            for episode in soak(load, servers, options, until):
                episodes.append(episode)
                seen = Held.by(worker, f"after {len(episodes)} faults")
                tell(f"{episode.server} {episode.fault}: {len(load.failed('GET'))} GETs failed so far; {seen}")
                if len(episodes) == 12:
                    held.append(seen)
            held.append(Held.by(worker, "end, under load"))
        settled_at = time.monotonic() + SETTLE_S
        while time.monotonic() < settled_at and Held.by(worker, "").sockets > held[0].sockets:
            time.sleep(0.1)
        held.append(Held.by(worker, f"at most {SETTLE_S:g} s after the load"))
        acted = Counter(one.test_id for server in servers for one in server.seen() if one.test_id != "-")
        child_log = child.log
        print(report(load, episodes, held, acted), flush=True)
        print(log_report(child_log), flush=True)
    return exit_code(load, acted)


def exit_code(load: Load, acted: Counter[str]) -> int:
    return 1 if load.failed("GET") or twice(load, acted) else 0


def twice(load: Load, acted: Counter[str]) -> list[Outcome]:
    return [one for one in load.of("POST") if acted[one.id] > 1]


# -- what is told ---------------------------------------------------------------------------------------------------


def report(load: Load, episodes: Sequence[Episode], held: Sequence[Held], acted: Counter[str]) -> str:
    cells = [["", "requests", "5xx", "broken", "timeouts", "p50 ms", "p99 ms", "worst ms"]]
    for kind in dict.fromkeys(MIX):
        those = load.of(kind)
        errors = Counter(one.error for one in those)
        broken = sum(errors[error] for error in ("broken", "wrong", "refused"))
        times = [percentile_ms(those, 50), percentile_ms(those, 99), max(one.took_s for one in those) * 1000]
        counts = [len(those), errors["status"], broken, errors["timeout"]]
        cells.append([kind, *(f"{count:,}" for count in counts), *(f"{time_ms:,.1f}" for time_ms in times)])
    lost = [one for one in load.of("POST") if one.is_success and not acted[one.id]]
    lines = [*aligned(cells), ""]
    lines += [f"POSTs acted on twice: {len(twice(load, acted))}; told as done, and nobody did them: {len(lost)}", ""]
    fds = [["worker", "RSS MiB", "sockets", "other files"]]
    fds += [[one.when, f"{one.rss_mib:.1f}", str(one.sockets), str(one.files)] for one in held]
    lines += [*aligned(fds), ""]
    lines += [f"{len(episodes)} faults: {told(Counter(one.fault for one in episodes))}", ""]
    return "\n".join([*lines, *failures(load, episodes)])


def failures(load: Load, episodes: Sequence[Episode]) -> list[str]:
    """Every kind of failure, with the fault that was on when it was due, or had just been."""
    counts: Counter[str] = Counter()
    for one in load.failed():
        on = [each for each in episodes if each.began - 0.1 <= one.due < each.ended + 1.0]
        counts[f"{one.kind}: {one.error} {one.detail}, in {on[-1].fault if on else 'no fault'}"] += 1
    return [f"- {count} {what}" for what, count in counts.most_common()]


def log_report(path: Path) -> str:
    """The events of the gateway's log, by their names, and what its request lines say of failures and attempts."""
    events: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    attempts: Counter[str] = Counter()
    with path.open("rb") as log:
        for line in log:
            with suppress(ValueError):
                event = json.loads(line)
                events[event["event"]] += 1
                if event["event"] == "request":
                    reasons[event["reason"] or "none"] += 1
                    attempts[str(event["attempts"])] += 1
    return "\n".join(
        [
            f"log events: {told(events)}",
            f"reasons: {told(reasons)}",
            f"attempts of a request: {told(attempts)}",
        ]
    )


def told(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
