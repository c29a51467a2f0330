"""What is wrong with a routes module, and where.

While `loader` imports a routes module, a fault in one of its calls does not stop the import: it is noted, and a
stand-in replaces the result, so that all faults are reported at once. Elsewhere the call raises.
"""

import functools
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from django.http.response import HttpResponseBase

CallT = TypeVar("CallT", bound=Callable[..., Any])

_notes: ContextVar[list[str] | None] = ContextVar("gateway_faults", default=None)


class RouteError(Exception):
    """A routes module that cannot be served; the text says where and why."""


def place_of(error: BaseException, name: str) -> str:
    """Where a module failed to load, in one line: the innermost frame of the user's own file if there is one."""
    if isinstance(error, RouteError):  # its text names the place
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{file_name(error.filename or name)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file_name(frame.filename) == f"{name.rpartition('.')[2]}.py"]
    at = (own or frames)[-1]
    return f"{file_name(at.filename)}:{at.lineno}: {type(error).__name__}: {error}"


def file_name(path: str) -> str:
    """The last part of a path: `routes.py`."""
    return path.rpartition("/")[2]


@contextmanager
def noting() -> Iterator[list[str]]:
    """Faults of calls are noted in this list, and do not raise."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(fault: str) -> bool:
    """Note a fault; False where faults are not noted, so that it must be raised."""
    notes = _notes.get()
    if notes is not None:
        notes.append(fault)
    return notes is not None


async def faulty(request: object, **params: object) -> HttpResponseBase:
    """Stands in for a view that could not be made: nothing is served once a fault was noted."""
    raise RuntimeError("this view could not be made")


def noted(call: CallT) -> CallT:
    """The same call; while faults are noted it returns `faulty` instead of raising."""

    @functools.wraps(call)
    def made(*args: Any, **options: Any) -> Any:
        try:
            result = call(*args, **options)
        except Exception as error:
            frame = sys._getframe(1)
            place = f"{file_name(frame.f_code.co_filename)}:{frame.f_lineno}"
            if not note(f"{place}: {type(error).__name__}: {error}"):
                raise
            return faulty
        is_decorator = not args and callable(result)  # fanout(timeout="1s"), which is still to be called
        return noted(result) if is_decorator else result

    return cast("CallT", made)
