"""Circuit breaker for the cache's database: a pause after a failure, and a log line at most once a minute."""

import time
from typing import Final

import structlog
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError

from gateway.observe.pool_faults import with_fault
from gateway.observe.throttle import at_most_every

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

PAUSE_S: Final = 1.0  # after a failure
_COMPLAIN_S: Final = 60.0


class StoreHealth:
    """State of `what`, look-ups or writes. `failed()` pauses them for a second; failures and recovery are logged."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._paused_until_s = 0.0
        self._throttle = at_most_every(_COMPLAIN_S)
        self.is_failing = self._is_logged = False

    @property
    def is_paused(self) -> bool:
        return time.monotonic() < self._paused_until_s

    def failed(self, cause: str) -> None:
        now_s = time.monotonic()
        self._paused_until_s = now_s + PAUSE_S
        self.is_failing = True
        if self._throttle.take(now_s):
            self._is_logged = True
            _log.warning("cache.store_failed", what=self._what, cause=with_fault(cause.strip()))

    def worked(self) -> None:
        if self.is_failing:
            self.is_failing = False
            if self._is_logged:
                self._is_logged = False
                _log.info("cache.store_works", what=self._what)


def is_away(error: Exception) -> bool:
    """Whether the database itself is out of order, and not only the response that should be written."""
    is_of_database = isinstance(error, (DatabaseError, InterfaceError, OSError))
    return is_of_database and not isinstance(error, (DataError, IntegrityError))
