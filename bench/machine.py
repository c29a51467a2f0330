"""The machine under the benchmark: its cores, its free ports, and the line that names it."""

import importlib.metadata
import os
import platform
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
SECOND_HOST = "127.0.0.2"  # another endpoint of the same upstream
# Below the range from which the kernel takes the local ports of outgoing connections (32768 and up): a port that we
# found free cannot be taken by a connection of the load before its server binds it.
PORTS = range(20_000, 30_000)


@dataclass(frozen=True)
class Cores:
    """Who runs where: the gateway has one core for itself; the load, the upstream and this harness share the other."""

    gateway: int
    load: int

    def __str__(self) -> str:
        if self.gateway == self.load:
            return f"ONE CORE ONLY ({self.gateway}): gateway, load and upstream share it"
        return f"gateway on core {self.gateway}, load and upstream on core {self.load}"


def pick_cores() -> Cores:
    usable = sorted(os.sched_getaffinity(0))
    return Cores(gateway=usable[-1], load=usable[0])


@contextmanager
def pinned_to(core: int) -> Iterator[None]:
    """Children started inside are born on `core`, so that their start-up is pinned as well."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    for port in random.sample(PORTS, k=len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")


def describe(core_count: int) -> str:
    """What it ran on. Python's and the packages' versions are those of the interpreter that runs the bench."""
    packages = [f"{name} {_package_version(name)}" for name in ("granian", "aiohttp", "django", "uvloop")]
    tools = [line for line in map(_tool_version, ("nginx", "haproxy", "wrk")) if line]
    return ", ".join(
        [
            f"{core_count} cores ({_cpu_model()})",
            f"Linux {platform.release()}",
            f"Python {platform.python_version()}",
            *packages,
            *tools,
        ]
    )


def _cpu_model() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _tool_version(name: str) -> str:
    binary = shutil.which(name)
    if binary is None:
        return ""
    answer = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=10, check=False)
    match = re.search(r"\d+\.\d+(\.\d+)?", answer.stdout + answer.stderr)
    return f"{name} {match[0]}" if match else name
