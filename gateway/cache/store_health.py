"""Whether one way to the database works, said at most once a minute."""

import time
from typing import Final

import structlog
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

PAUSE_S: Final = 1.0  # after a failure
_COMPLAIN_S: Final = 60.0


class Health:
    """Whether one way to the database works. Says so, at most once a minute."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._paused_until_s = 0.0
        self._said_s = -_COMPLAIN_S
        self.is_failing = self._was_said = False

    @property
    def is_paused(self) -> bool:
        return time.monotonic() < self._paused_until_s

    def failed(self, cause: str) -> None:
        now_s = time.monotonic()
        self._paused_until_s = now_s + PAUSE_S
        self.is_failing = True
        if now_s - self._said_s >= _COMPLAIN_S:
            self._said_s = now_s
            self._was_said = True
            _log.warning("cache.store_failed", what=self._what, cause=cause.strip())

    def worked(self) -> None:
        if self.is_failing:
            self.is_failing = False
            if self._was_said:
                self._was_said = False
                _log.info("cache.store_works", what=self._what)


def is_away(error: Exception) -> bool:
    """Whether it is the database that does not work, and not the one answer that should be written."""
    is_of_database = isinstance(error, (DatabaseError, InterfaceError, OSError))
    return is_of_database and not isinstance(error, (DataError, IntegrityError))
