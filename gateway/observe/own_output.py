"""Output of a team's own code by `logging` and `print()` becomes events, with the ids of its request."""

import io
import logging
import sys
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Any, Final, TextIO

from gateway.observe.stalls import LIBRARIES, is_own

_MOST_CHARACTERS: Final = 4000

# Printed text without the end of its line, by context: requests do not finish each other's lines.
_unfinished: ContextVar[str] = ContextVar("gateway_printed", default="")


def end_line() -> None:
    """Emit what a request has printed without the end of its line; its context ends with it."""
    if _unfinished.get():
        sys.stdout.flush()


class Handler(logging.Handler):
    """Makes events of log records: `app.log` for the team's own, `library` for warnings and errors of libraries.

    Code counts as the team's own if it is not installed, or is in one of these packages.
    """

    def __init__(self, log: Any, packages: Collection[str] = ()) -> None:
        super().__init__()
        self._log = log
        self._packages = packages

    def emit(self, record: logging.LogRecord) -> None:
        try:
            is_team = is_own(record.pathname, LIBRARIES) or record.name.partition(".")[0] in self._packages
            if is_team or record.levelno >= logging.WARNING:
                write = getattr(self._log, record.levelname.lower(), self._log.error)
                event = "app.log" if is_team else "library"
                write(event, logger=record.name, message=record.getMessage(), exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - like every logging.Handler
            self.handleError(record)


class Prints(io.TextIOBase):
    """Replaces sys.stdout: `write` is called with each whole line. Bytes written to `buffer` pass as they are."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, below: TextIO, tell: Callable[[str], object]) -> None:
        super().__init__()
        self._below = below
        self._tell = tell

    def write(self, text: str, /) -> int:
        *lines, rest = (_unfinished.get() + text).split("\n")
        if len(rest) > _MOST_CHARACTERS:
            lines, rest = [*lines, rest], ""
        _unfinished.set(rest)
        for line in lines:
            if line.strip():
                self._tell(line)
        return len(text)

    def flush(self) -> None:
        """Emit an unfinished line."""
        rest = _unfinished.get()
        if rest:
            _unfinished.set("")
            self._tell(rest)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._below.isatty()

    def fileno(self) -> int:
        return self._below.fileno()

    @property
    def buffer(self) -> Any:
        return self._below.buffer
