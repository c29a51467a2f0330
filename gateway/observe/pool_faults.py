"""Why a pool cannot connect to its PostgreSQL: whoever waits for a connection hears only that none came in time."""

import logging
import time
from typing import Final

_RECENT_S: Final = 10.0
_logger: Final = logging.getLogger("psycopg.pool")  # it logs each try to reach a database that is down


class _Faults(logging.Filter):
    """Keeps the newest fault instead of a line for each try."""

    fault, at_s = "", float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("error connecting") and record.args:
            self.fault, self.at_s = str(record.args[-1]).partition("\n")[0], time.monotonic()  # type: ignore[index]
        return False


_faults = _Faults()


def keep_faults() -> None:
    """From here on, what the pools log is kept and not shown."""
    _logger.addFilter(_faults)


def with_fault(cause: str) -> str:
    """`cause`, followed by why a pool could not connect in the last seconds."""
    is_recent = time.monotonic() - _faults.at_s < _RECENT_S
    return f"{cause}: {_faults.fault}" if is_recent and _faults.fault not in cause else cause
