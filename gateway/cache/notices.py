"""A word from PostgreSQL that somebody has purged, so that nobody waits for the next poll to hear of it.

It is a hint: what was purged is read from the table, and polled for all the same. So whatever is wrong here, a pooler
that passes on no notices, a connection that is gone, costs less than half a second.
"""

import asyncio
import contextlib
from typing import Any, Final

from django.db import connection

CHANNEL: Final = "portway_purges"
_RETRY_S: Final = 5.0
_PLACE: Final = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
# Options of Django's, which psycopg does not know, or not for this kind of connection.
_OF_DJANGO: Final = {"pool", "assume_role", "isolation_level", "server_side_binding", "cursor_factory"}


class Wakeup:
    """For who waits a while, or until somebody wakes him."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """For so long at most; at once where it was woken since the last time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()


async def listen(wakeup: Wakeup) -> None:
    """Wake at every notice, for ever, over a connection of its own. Other databases have none: returns at once."""
    if connection.vendor != "postgresql":
        return
    import psycopg  # of the extra [postgres]

    while True:
        with contextlib.suppress(psycopg.Error, OSError):
            async with await psycopg.AsyncConnection.connect(autocommit=True, **_place()) as hearing:
                await hearing.execute(f"LISTEN {CHANNEL}")
                wakeup.wake()  # what was purged before
                async for _ in hearing.notifies():
                    wakeup.wake()
        await asyncio.sleep(_RETRY_S)


def _place() -> dict[str, Any]:
    """Where Django's default database is, as psycopg has it."""
    settings = connection.settings_dict
    options = {name: value for name, value in settings["OPTIONS"].items() if name not in _OF_DJANGO}
    return options | {name: settings[django] for name, django in _PLACE.items() if settings[django]}


def notify() -> None:
    """Tell everybody who listens, once the transaction is committed. Raises DatabaseError."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
