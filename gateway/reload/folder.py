"""`gateway dev`: one process serves, and a new one replaces it whenever a file of the folder is saved.

The first process only watches, so a debugger never stops it: the terminal belongs to the serving one.
"""

import contextlib
import os
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from gateway.reload.files import Look, changed, forget_compiled, look

_LOOK_S: Final = 0.15
_END_S: Final = 1.0  # the time that a serving process may take to end
_MOST_FILES: Final = 5000
_NOT_OURS: Final = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
# Files that a running gateway and its tools write themselves.
_WRITTEN: Final = (".pyc", ".log", ".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".sqlite3-journal", ".db", ".tmp", "~")


def saved_files(folder: Path) -> Iterator[str]:
    """The files of a folder that people save, at most 5,000: nothing hidden, no packages, no databases."""
    count = 0
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _NOT_OURS]
        for name in names:
            if not name.startswith(".") and not name.endswith(_WRITTEN):
                yield str(Path(at, name))
                count += 1
        if count >= _MOST_FILES:
            return


class Folder:
    """`run` returns None in each process that is to serve, and the exit code in the one that watches."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pid = 0
        self._stops = False

    def run(self) -> int | None:
        terminal = _terminal()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_stop)
        known = look(saved_files(self._folder))
        files: list[str] = []
        while not self._stops:
            self._pid = os.fork()
            if not self._pid:
                for number in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_DFL)
                signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is for the watching process
                os.environ[CHANGED] = os.pathsep.join(files)
                return None
            known, files = self._changed_from(known)
            forget_compiled(known)
            self._end()
            _restore(terminal)
        return 0

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._stops = True

    def _changed_from(self, known: Look) -> tuple[Look, list[str]]:
        """Wait for a saved file, or for the end."""
        while not self._stops:
            time.sleep(_LOOK_S)
            now = look(saved_files(self._folder))
            if files := changed(known, now):
                return now, [os.path.relpath(path, self._folder) for path in files]
            self._look_after()
        return known, []

    def _look_after(self) -> None:
        """Report a serving process that ended by itself: nothing answers until a file is saved."""
        pid, status = os.waitpid(self._pid, os.WNOHANG) if self._pid else (0, 0)
        if pid:
            self._pid = 0
            code = os.waitstatus_to_exitcode(status)
            how = f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"
            sys.stderr.write(f"gateway: the serving process {how}; waiting for a file to be saved\n")

    def _end(self) -> None:
        """End the serving process, if it is still there: in good order if it can, else at once."""
        if not self._pid:
            return
        give_up_s = time.monotonic() + _END_S
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGTERM)
            while not os.waitpid(self._pid, os.WNOHANG)[0]:
                if time.monotonic() > give_up_s:
                    os.kill(self._pid, signal.SIGKILL)
                    os.waitpid(self._pid, 0)
                    return
                time.sleep(0.01)


# The saved files that led to the start of a process; empty for the first one.
CHANGED: Final = "_PORTWAY_CHANGED"


def _terminal() -> list[object] | None:
    """The terminal's settings, which a killed debugger leaves changed."""
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (termios.error, ValueError, OSError):
        return None


def _restore(terminal: list[object] | None) -> None:
    if terminal is not None:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, terminal)  # type: ignore[arg-type]
