"""`python -m tests.door [--targets portway,nginx] [--corpus FOLDER ...] [--only TEXT]`: the table of verdicts.

Each target is started with an upstream of its own and goes through our matrix, what we restated of others, and each
folder (see `loaders`). Prints a table of verdict counts by corpus and target, then every failure of portway, one line
each, or of all targets with `--failures`. Ends with 1 if portway failed.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import restated
from .corpus import Case, own
from .loaders import load
from .probe import Outcome, Verdict, counts, run
from .targets import ALL

COLUMNS = (
    "refused",
    "clean",
    "repaired",
    "dirty",
    "split",
    "mixed up",
    "accepted",
    "changed",
    "kept",
    "unserved",
    "died",
)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.door", description=__doc__)
    parser.add_argument("--targets", default="portway,granian,nginx,haproxy", help=", ".join(ALL))
    parser.add_argument("--corpus", action="append", default=[], type=Path, help="an unpacked package with tests")
    parser.add_argument("--only", default="", help="cases with this text in their name")
    parser.add_argument("--failures", action="store_true", help="list those of every target")
    parser.add_argument("--verdicts", action="store_true", help="list each case with portway's verdict and answers")
    chosen = parser.parse_args(arguments)
    corpora = [own(), restated.cases(), *map(load, chosen.corpus)]
    cases = [case for corpus in corpora for case in corpus if chosen.only in case.name]
    names = chosen.targets.split(",")
    with ThreadPoolExecutor(len(names)) as pool:
        results = dict(zip(names, pool.map(lambda name: _through(name, cases), names), strict=True))
    _table(results)
    for name, outcomes in results.items():
        if name.startswith("portway") or chosen.failures:
            for outcome in outcomes:
                if outcome.verdict.is_failure or (chosen.verdicts and name == "portway"):
                    _say(f"{name}: {outcome}")
    return int(any(one.verdict.is_failure for name in results if name.startswith("portway") for one in results[name]))


def _through(name: str, cases: Sequence[Case]) -> list[Outcome]:
    """All cases through a new target; one that dies is started again for the rest."""
    outcomes: list[Outcome] = []
    while len(outcomes) < len(cases):
        with tempfile.TemporaryDirectory() as folder, ALL[name](Path(folder)) as lane:
            started = time.monotonic()
            outcomes += run(lane, cases[len(outcomes) :])
            sys.stderr.write(f"{name}: {len(outcomes)} cases, {time.monotonic() - started:.0f} s\n")
    return outcomes


def _table(results: dict[str, list[Outcome]]) -> None:
    _say(f"| corpus | cases | target | {' | '.join(COLUMNS)} |")
    _say("|---|---|---|" + "---|" * len(COLUMNS))
    corpora = dict.fromkeys(outcome.case.corpus for outcomes in results.values() for outcome in outcomes)
    for corpus in corpora:
        for name, outcomes in results.items():
            of_corpus = [outcome for outcome in outcomes if outcome.case.corpus == corpus]
            found = counts(of_corpus)
            _say(f"| {corpus} | {len(of_corpus)} | {name} | {' | '.join(str(found[verdict]) for verdict in Verdict)} |")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
