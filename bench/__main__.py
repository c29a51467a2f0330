"""The command line: `python -m bench --help`."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.load import wrk_binary
from bench.machine import describe, pick_cores
from bench.measures import Effort
from bench.report import markdown
from bench.runner import Bench, Result, StartError, interruptible, tell
from bench.scenarios import SCENARIOS
from bench.targets import TARGETS, portway_argv

CONNECTIONS = 32
EFFORT = Effort(rounds=5, seconds=4, connections=CONNECTIONS)
QUICK = Effort(rounds=3, seconds=2, connections=CONNECTIONS)


def main() -> int:
    options = parse_options()
    if wrk_binary() is None:
        print("bench: wrk is not installed: `apt-get install wrk`", file=sys.stderr)
        return 1
    if not hasattr(os, "sched_setaffinity"):
        print("bench: needs Linux (/proc and CPU pinning)", file=sys.stderr)
        return 1
    return interruptible(lambda: run(options))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description="One markdown table per scenario on stdout.")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s instead of 5 of 4 s")
    parser.add_argument("--rounds", type=int, help="of each target in each scenario")
    parser.add_argument("--seconds", type=int, help="of load in each round")
    parser.add_argument("--only", type=some_of([s.name for s in SCENARIOS]), default=[], metavar="SCENARIO,...")
    parser.add_argument("--targets", type=some_of(list(TARGETS)), default=[], metavar="TARGET,...")
    parser.add_argument(
        "--require-portway",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fail if Portway cannot be measured (default: once its command exists)",
    )
    return parser.parse_args()


def some_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    """An argparse type: names from a closed list, with commas."""

    def split(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return names

    return split


def run(options: argparse.Namespace) -> int:
    try:
        results = run_scenarios(options)
    except StartError as error:  # a target's is caught where it starts, so this is the upstream's
        tell(f"bench: the upstream did not start: {error}")
        return 1
    return exit_code(results, requires_portway(options))


def run_scenarios(options: argparse.Namespace) -> list[Result]:
    cores = pick_cores()
    default = QUICK if options.quick else EFFORT
    effort = Effort(options.rounds or default.rounds, options.seconds or default.seconds, CONNECTIONS)
    machine = describe(core_count=len(os.sched_getaffinity(0)))
    print(f"{machine}; {cores}; {effort.rounds} rounds of {effort.seconds} s, {effort.connections} connections\n")
    os.sched_setaffinity(0, {cores.load})
    results = []
    with tempfile.TemporaryDirectory(prefix="portway-bench-") as folder:
        bench = Bench(cores, effort, Path(folder))
        for scenario in SCENARIOS:
            if options.only and scenario.name not in options.only:
                continue
            tell(f"{scenario.name}: {scenario.says}")
            began = time.monotonic()
            result = bench.run(scenario, options.targets)
            tell(f"  {time.monotonic() - began:.0f} s")
            print(markdown(result) + "\n", flush=True)
            results.append(result)
    return results


def requires_portway(options: argparse.Namespace) -> bool:
    if options.targets and "portway" not in options.targets:
        return False
    required: bool | None = options.require_portway
    return portway_argv() is not None if required is None else required


def exit_code(results: Sequence[Result], portway_is_required: bool) -> int:
    """1 if a run had errors, or if Portway was to be measured and was not: such a table is no result."""
    failed = {f"{result.scenario.name} / {name}" for result in results for name in result.failures}
    if not portway_is_required:
        failed = {name for name in failed if "portway" not in name.partition(" / ")[2]}
    if portway_is_required:
        failed |= {
            f"{result.scenario.name} / {name}"
            for result in results
            for name in result.not_available
            if name.startswith("portway")
        }
    for name in sorted(failed):
        tell(f"bench: NOT A RESULT: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
