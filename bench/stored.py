"""What storing answers costs: `python -m bench.stored --help`.

misses    distinct URLs at a steady rate, through a route that stores and one that does not, in turn: their latency
distinct  a GiB of answers that are all different: what the worker's memory and the database come to
"""

import argparse
import http.client
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median

from bench.load import LoadError
from bench.machine import HOST, describe, free_port, pick_cores
from bench.processes import Child, memory
from bench.report import aligned
from bench.runner import first_answer, interruptible, started, tell
from bench.scenarios import Row
from bench.targets import HOME, Launch, portway

CONNECTIONS = 16
_NUMBERS = count(1)


def main() -> int:
    return interruptible(lambda: run(parse_options()))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stored", description="What storing answers costs.")
    parser.add_argument("--rounds", type=int, default=4, help="of each route (4)")
    parser.add_argument("--seconds", type=float, default=5, help="of each round (5)")
    parser.add_argument("--rate", type=float, default=200, help="misses a second (200)")
    parser.add_argument("--mib", type=int, default=1024, help="of distinct answers (1024)")
    return parser.parse_args()


def run(options: argparse.Namespace) -> int:
    cores = pick_cores()
    print(f"{describe(core_count=len(os.sched_getaffinity(0)))}; {cores}\n")
    os.sched_setaffinity(0, {cores.load})
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, port, up = Path(name), free_port(), free_port()
        argv = [sys.executable, "-m", "bench.upstream", str(up)]
        stack.enter_context(started(argv, {"PYTHONPATH": str(HOME)}, cores.load, folder, "upstream"))
        command = portway(Launch(port, [f"http://{HOST}:{up}"], folder))
        environment = {
            **command.env,
            "GATEWAY_ROUTE_KEPT": "/kept/** -> b",
            "GATEWAY_ROUTE_KEPT__CACHE": "600s",
            "GATEWAY_ROUTE_KEPT__CACHE_MAX_BODY": "1MiB",
            "GATEWAY_ROUTE_BIG": "/big/{n}/{size} -> b:/download/{size}",
            "GATEWAY_ROUTE_BIG__CACHE": "600s",
            "GATEWAY_CACHE_DISK": "128MiB",
            "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/stored.sqlite3",
        }
        gateway = stack.enter_context(started(command.argv, environment, cores.gateway, folder, "portway"))
        first_answer(gateway, port, Row("portway", "/x", body=None))
        tell("misses")
        print("\n".join(aligned([["route", "requests/s", "p50 ms", "p99 ms"], *misses(port, options)])))
        tell("distinct")
        print("\n" + "\n".join(aligned([["what", "figure"], *distinct(gateway, port, options.mib, folder)])))
    return 0


# -- misses -------------------------------------------------------------------------------------------------------


def misses(port: int, options: argparse.Namespace) -> Iterator[list[str]]:
    """Rounds of both routes in turn; the median of each figure."""
    found: dict[str, list[tuple[float, float, float]]] = {"not stored": [], "stored": []}
    for _ in range(options.rounds):
        for route, path in (("not stored", "/plain/"), ("stored", "/kept/")):
            found[route].append(steady(port, path, options.rate, options.seconds))
    for route, rounds in found.items():
        rate, half, tail = (median(one[column] for one in rounds) for column in range(3))
        yield [route, f"{rate:.0f}", f"{half:.2f}", f"{tail:.2f}"]


def steady(port: int, path: str, rate: float, seconds: float) -> tuple[float, float, float]:
    """Distinct URLs at a steady rate over some connections; requests a second, p50 and p99 in ms, from when each was
    due: a gateway that falls behind shows it."""
    took: list[float] = []
    began = time.perf_counter() + 0.05

    def work(number: int) -> None:
        connection = http.client.HTTPConnection(HOST, port)
        due = began + number / rate
        while due < began + seconds:
            time.sleep(max(0.0, due - time.perf_counter()))
            connection.request("GET", f"{path}{next(_NUMBERS)}")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise LoadError(f"{path} was answered with {answer.status}")
            took.append((time.perf_counter() - due) * 1000)
            due += CONNECTIONS / rate
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took.sort()
    return len(took) / seconds, took[len(took) // 2], took[int(len(took) * 0.99)]


# -- distinct answers ---------------------------------------------------------------------------------------------


def distinct(gateway: Child, port: int, mib: int, folder: Path) -> Iterator[list[str]]:
    """Answers of 64 KiB, each of a URL of its own."""
    before = memory(gateway.pid)
    most = before.rss_sum_mib
    connection = http.client.HTTPConnection(HOST, port)
    began = time.perf_counter()
    for number in range(mib * 16):
        connection.request("GET", f"/big/{number}/65536")
        connection.getresponse().read()
        if number % 200 == 0:
            most = max(most, memory(gateway.pid).rss_sum_mib)
    seconds = time.perf_counter() - began
    time.sleep(1)
    after = memory(gateway.pid)
    files = sum(file.stat().st_size for file in folder.glob("stored.sqlite3*")) / 2**20
    yield ["pushed through, MiB", str(mib)]
    yield ["seconds", f"{seconds:.1f}"]
    yield ["memory before, MiB", f"{before.rss_sum_mib:.0f}"]
    yield ["most, MiB", f"{most:.0f}"]
    yield ["after, MiB", f"{after.rss_sum_mib:.0f}"]
    yield ["the database's files, MiB (GATEWAY_CACHE_DISK=128MiB)", f"{files:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
