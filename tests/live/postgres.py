"""A PostgreSQL server of the tests' own: on a free port, in a folder of its own, gone at the end.

with Postgres() as server:
    Gateway({"GATEWAY_DATABASE_URL": server.url(), ...})       # a new database
    server.freeze(); server.thaw(); server.kill(); server.start()
"""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .harness import Started, eventually, free_port

_NOBODY = 65534
_NUMBERS = itertools.count(1)


def folder_of_binaries() -> Path | None:
    """Where initdb and postgres are; distributions keep them off the PATH."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


BINARIES = folder_of_binaries()


class Postgres(Started):
    """Not as root, which PostgreSQL refuses."""

    def __init__(self) -> None:
        if BINARIES is None:
            # Only make and Python may be assumed of a newcomer's machine; `.ci/run` installs it.
            pytest.skip("there is no PostgreSQL server here (Debian: apt install postgresql)")
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="portway-postgres-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self._folder, _NOBODY, _NOBODY)
            self._as = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, name: str, *words: str) -> None:
        assert BINARIES is not None
        done = subprocess.run(
            [BINARIES / name, *words], cwd=self._folder, capture_output=True, text=True, check=False, **self._as
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """The first time with a cluster that is made for it."""
        assert BINARIES is not None
        if not (self._folder / "data").exists():
            self._run("initdb", "-D", "data", "-A", "trust", "-U", "portway", "-E", "UTF8", "--no-locale", "--no-sync")
        words = ["-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder), "-F"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BINARIES / "postgres", *words],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        eventually(self._is_up)

    def _is_up(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self.connect().close()
            return True
        return False

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        return psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=portway dbname={database} connect_timeout=2", autocommit=True
        )

    def url(self, database: str = "") -> str:
        """For GATEWAY_DATABASE_URL; without a name that of a new database."""
        if not database:
            database = f"cache{next(_NUMBERS)}"
            with self.connect() as connection:
                connection.execute(f"CREATE DATABASE {database}")
        return f"postgresql://portway@127.0.0.1:{self.port}/{database}"

    # -- what happens to it -------------------------------------------------------------------------------------------

    def _processes(self) -> Iterator[int]:
        """The server and its children, which have sessions of their own."""
        assert self._process is not None
        yield self._process.pid
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(status.read_text(encoding="latin-1").rpartition(")")[2].split()[1]) == self._process.pid:
                    yield int(status.parent.name)

    def _signal(self, number: int) -> None:
        for pid in list(self._processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """It answers nobody, and hangs up on nobody."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It ends at once, with all its connections."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
