"""Faults: what clients see while one of two servers fails: `python -m bench.faults --help`.

A paced load goes through the target to two faulty servers (`tests.live.faulty`), of which one goes through a fault
while the other stays well. Every fault meets a fresh process of the target, so that nothing is remembered from the one
before. The targets are set up alike, as far as their words allow:

           | portway            | nginx                                 | haproxy
time       | 2 s for all tries  | 2 s to connect, 2 s between bytes,    | 2 s to connect, 2 s to answer,
           |                    | of each try                           | of each try
tries      | 2                  | 2                                     | 2, the second elsewhere
again on   | its defaults       | error timeout invalid_header 502-504  | all-retryable-errors
POST again | unless it was sent | unless it was sent                    | unless it was sent
put aside  | its defaults       | max_fails=5 fail_timeout=5s           | observe layer7, error-limit 5, mark-down
back       | a trial request    | a trial request                       | two checks that connect, one a second

`nginx-plain` and `haproxy-plain` do not put aside: only tries and timeouts are left.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench import targets
from bench.__main__ import some_of
from bench.machine import Cores, describe, free_port, pick_cores
from bench.report import aligned
from bench.runner import StartError, first_answer, interruptible, started, tell
from bench.scenarios import Row
from bench.targets import Command, Launch, NotAvailableError, haproxy_command, nginx_command
from tests.live.chaos import Load, Outcome, percentile_ms
from tests.live.faulty import FAULTS, FROM_OUTSIDE, Faulty

RATE = 200
CONNECTIONS = 16
CONNECTIONS_AT_MOST = 2048  # of a target, both sides: more are opened while requests hang
WARM_UP_S = 0.5
ROLLS = "rolls"  # one server after the other is killed and started: the second one as soon as the first one is back
ALL_FAULTS = ("refuses", *FROM_OUTSIDE, ROLLS, *(fault for fault in FAULTS if fault not in {"ok", "refuses"}))
POST_FAULTS = (
    *("refuses", "killed", "restarts", ROLLS, "resets", "hangs_up", "closes_idle"),
    *("never_accepts", "never_answers", "frozen"),
)


# -- the targets ----------------------------------------------------------------------------------------------------


def portway(launch: Launch) -> Command:
    command = targets.portway(launch)
    return replace(command, env={**command.env, "GATEWAY_UPSTREAM_B__TIMEOUT": "2s"})


def nginx(launch: Launch, aside: str = "max_fails=5 fail_timeout=5s") -> Command:
    return nginx_command(
        launch,
        servers="\n".join(f"server {authority} {aside};" for authority in launch.authorities),
        location="""
            proxy_connect_timeout 2s;
            proxy_send_timeout 2s;
            proxy_read_timeout 2s;
            proxy_next_upstream error timeout invalid_header http_502 http_503 http_504;
            proxy_next_upstream_tries 2;
        """,
        connections=CONNECTIONS_AT_MOST,
    )


def nginx_plain(launch: Launch) -> Command:
    return nginx(launch, aside="max_fails=0")


def haproxy(
    launch: Launch, aside: str = "check inter 1s rise 2 fall 3 observe layer7 error-limit 5 on-error mark-down"
) -> Command:
    servers = "\n".join(f"server s{number} {name} {aside}" for number, name in enumerate(launch.authorities))
    return haproxy_command(
        launch,
        defaults="""
            timeout server 2s
            timeout check 1s
            retries 1
            option redispatch
            retry-on all-retryable-errors
        """,
        backend=f"""
            balance roundrobin
            http-request disable-l7-retry if METH_POST
            {servers}
        """,
        connections=CONNECTIONS_AT_MOST,
    )


def haproxy_plain(launch: Launch) -> Command:
    return haproxy(launch, aside="")


TARGETS: Mapping[str, Callable[[Launch], Command]] = {
    "portway": portway,
    "nginx": nginx,
    "haproxy": haproxy,
    "nginx-plain": nginx_plain,
    "haproxy-plain": haproxy_plain,
}
DEFAULT_TARGETS = ("portway", "nginx", "haproxy")


# -- one run --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One fault through one target, under requests of one method."""

    target: str
    fault: str
    outcomes: Sequence[Outcome]
    began: float  # the fault, on the clock of `due`
    ended: float
    acted: Counter[str]  # on each request, by its id, over both servers

    def errors(self, *kinds: str) -> int:
        return sum(one.error in kinds for one in self.outcomes)

    @property
    def before(self) -> list[Outcome]:
        warm = self.outcomes[0].due + WARM_UP_S
        return [one for one in self.outcomes if warm <= one.due < self.began]

    @property
    def during(self) -> list[Outcome]:
        return [one for one in self.outcomes if self.began <= one.due < self.ended]

    @property
    def twice(self) -> int:
        return sum(count > 1 for count in self.acted.values())

    @property
    def lost(self) -> int:
        """Told as done, and nobody did it."""
        return sum(one.is_success and not self.acted[one.id] for one in self.outcomes)


@dataclass(frozen=True)
class Bench:
    """Where everything runs, for how long, and the two servers: the first one fails."""

    cores: Cores
    seconds: float
    folder: Path
    servers: Sequence[Faulty]

    def run(self, target: str, fault: str, method: str) -> Run:
        for server in self.servers:
            server.forget()
        with (
            self._target(target) as port,
            Load(port, "/x", kinds=(method,), rate=RATE, connections=CONNECTIONS) as load,
        ):
            load.go_on(WARM_UP_S + self.seconds / 2)
            began = load.now()
            if fault == ROLLS:
                for server in self.servers:
                    with server.suffering("killed"):
                        load.go_on(self.seconds / 3)
                    load.go_on(self.seconds / 6)
            else:
                with self.servers[0].suffering(fault):
                    load.go_on(self.seconds)
            ended = load.now()
            load.go_on(self.seconds / 2)
        acted = Counter(one.test_id for server in self.servers for one in server.seen() if one.test_id != "-")
        return Run(target, fault, sorted(load.outcomes, key=lambda one: one.due), began, ended, acted)

    @contextmanager
    def _target(self, name: str) -> Iterator[int]:
        port = free_port()
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        command = TARGETS[name](Launch(port, [server.url for server in self.servers], folder))
        with started(command.argv, command.env, self.cores.gateway, folder, name) as child:
            first_answer(child, port, Row(name, "/x", body=None))
            yield port


# -- the table ------------------------------------------------------------------------------------------------------

HEADINGS = ("fault", "target", "requests", "5xx", "broken", "timeouts", "p50 ms", "p99 ms", "added p99")


def markdown(method: str, runs: Sequence[Run]) -> str:
    """One table for a method; a time reads `before -> during` the fault."""
    posts = method == "POST"
    cells = [[*HEADINGS, *(["acted on twice", "lost"] if posts else [])]]
    cells += [[*row(run), *([str(run.twice), str(run.lost)] if posts else [])] for run in runs]
    return "\n".join([f"### {method} while one of two servers fails", "", *aligned(cells)])


def row(run: Run) -> list[str]:
    p50 = [percentile_ms(part, 50) for part in (run.before, run.during)]
    p99 = [percentile_ms(part, 99) for part in (run.before, run.during)]
    return [
        run.fault,
        run.target,
        f"{len(run.outcomes):,}",
        str(run.errors("status")),
        str(run.errors("broken", "wrong", "refused")),
        str(run.errors("timeout")),
        " -> ".join(f"{each:,.1f}" for each in p50),
        " -> ".join(f"{each:,.1f}" for each in p99),
        f"{p99[1] - p99[0]:+,.1f}",
    ]


# -- the command line -----------------------------------------------------------------------------------------------


def main() -> int:
    options = parse_options()
    return interruptible(lambda: run_all(options))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.faults", description="Markdown tables on stdout.")
    parser.add_argument("--targets", type=some_of(list(TARGETS)), default=DEFAULT_TARGETS, metavar="TARGET,...")
    parser.add_argument("--seconds", type=float, default=4.0, help="that each fault lasts (default: 4)")
    parser.add_argument("--only", type=some_of(ALL_FAULTS), default=[], metavar="FAULT,...")
    parser.add_argument("--methods", type=some_of(["GET", "POST"]), default=["GET", "POST"], metavar="METHOD,...")
    return parser.parse_args()


def run_all(options: argparse.Namespace) -> int:
    cores = pick_cores()
    machine = describe(core_count=len(os.sched_getaffinity(0)))
    load = f"{RATE} requests/s over {CONNECTIONS} connections, a fault of {options.seconds:g} s"
    print(f"{machine}; {cores}; {load}\n")
    os.sched_setaffinity(0, {cores.load})
    failed = False
    with tempfile.TemporaryDirectory(prefix="portway-faults-") as name:
        folder = Path(name)
        with Faulty("bad", folder) as bad, Faulty("good", folder) as good:
            bench = Bench(cores, options.seconds, folder, (bad, good))
            for method, faults in (("GET", ALL_FAULTS), ("POST", POST_FAULTS)):
                if method not in options.methods:
                    continue
                runs = []
                for fault in faults:
                    if options.only and fault not in options.only:
                        continue
                    for target in options.targets:
                        try:
                            runs.append(bench.run(target, fault, method))
                        except (NotAvailableError, StartError) as error:
                            failed = True
                            tell(f"bench: NOT A RESULT: {fault} / {target}: {error}")
                        else:
                            tell(f"  {method}: " + "  ".join(row(runs[-1])))
                if runs:
                    print(markdown(method, runs) + "\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
