"""A database that takes its time: pause(seconds) in SQL."""

import time
from typing import Any

from django.db.models import FloatField, Func, Value


def add_pause(connection: Any, **_: object) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_function("pause", 1, paused)


def paused(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def pause(seconds: float) -> Func:
    """For annotate(): so long a query takes."""
    return Func(Value(seconds), function="pause", output_field=FloatField())
