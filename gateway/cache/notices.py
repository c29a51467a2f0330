"""A notice from PostgreSQL of each purge, so that workers need not wait for the next poll.

It is a hint: purges are read from the table, which is polled all the same. So any failure here, such as a pooler that
passes on no notices or a lost connection, costs less than half a second.
"""

import asyncio
import contextlib
from typing import Any, Final

from django.db import connection

CHANNEL: Final = "portway_purges"
_RETRY_S: Final = 5.0
_PLACE: Final = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
# Options of Django that psycopg does not know, or not for this kind of connection.
_OF_DJANGO: Final = {"pool", "assume_role", "isolation_level", "server_side_binding", "cursor_factory"}


class Wakeup:
    """Lets a task wait for some time, or until it is woken."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self, seconds: float) -> None:
        """Wait this long at most; returns at once if `wake` was called since the last wait."""
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
                wakeup.wake()  # to read purges made before
                async for _ in hearing.notifies():
                    wakeup.wake()
        await asyncio.sleep(_RETRY_S)


def _place() -> dict[str, Any]:
    """The address of Django's default database, as arguments of psycopg."""
    settings = connection.settings_dict
    options = {name: value for name, value in settings["OPTIONS"].items() if name not in _OF_DJANGO}
    return options | {name: settings[django] for name, django in _PLACE.items() if settings[django]}


def notify() -> None:
    """Notify all listeners, once the transaction is committed. Raises DatabaseError."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"NOTIFY {CHANNEL}")
