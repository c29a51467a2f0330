"""What is wrong with a routes module, and where.

While `loader` imports a routes module, a fault in one of its calls does not stop the import: it is noted, and a
stand-in replaces the result, so that all faults are reported at once. Elsewhere the call raises.
"""

import functools
import importlib
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar, cast

from django.http.response import HttpResponseBase

CallT = TypeVar("CallT", bound=Callable[..., Any])

# What a module is imported by: no place where a person could mend anything.
_LOADERS = ("<frozen ", importlib.__file__, str(Path(__file__).parents[1]))

_notes: ContextVar[list[str] | None] = ContextVar("gateway_faults", default=None)


class RouteError(Exception):
    """A routes module that cannot be served; the text says where and why."""


def place_of(error: BaseException, name: str) -> str:
    """Why a module failed to load, in one line, and where: the innermost frame of the user's own file if there is one.

    Without a place if the module was not found.
    """
    if isinstance(error, RouteError):  # its text names the place
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{file_name(error.filename or name)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_LOADERS)]
    own = [frame for frame in frames if file_name(frame.filename) == f"{name.rpartition('.')[2]}.py"]
    place = "".join(f"{file_name(at.filename)}:{at.lineno}: " for at in (own or frames)[-1:])
    return f"{place}{type(error).__name__}: {error}"


def loaded(path: str, place: str) -> Any:
    """The function or class of this dotted path. Raises RouteError with the place where the path was written."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise RouteError(f"{place}: {place_of(error, module)}") from error


def file_name(path: str) -> str:
    """The last part of a path: `routes.py`."""
    return path.rpartition("/")[2]


@contextmanager
def added_to(faults: list[str]) -> Iterator[None]:
    """A RouteError within is added to these faults, a line each, and goes no further."""
    try:
        yield
    except RouteError as error:
        faults += [fault for fault in str(error).splitlines() if fault not in faults]


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


def _decorates(function: object) -> Callable[..., Any]:
    """Used in place of a decorator that could not be made: `@fanout(timeout=5)`."""
    return faulty


def has_faulty_part(function: object) -> bool:
    """Whether one of a function's hints holds the stand-in of a `part()` that could not be made."""
    hints = getattr(function, "__annotations__", {}).values()
    return any(extra is faulty for hint in hints for extra in getattr(hint, "__metadata__", ()))


def is_faulty(argument: object) -> bool:
    """Whether this is the stand-in of a call that could not be made."""
    return argument is faulty


def noted(call: CallT, *, spoils: Callable[[object], bool] = lambda argument: False) -> CallT:
    """The same call; while faults are noted it returns `faulty` instead of raising.

    Given an argument that `spoils` it, it is not made: the fault was noted where that argument was made.
    """

    @functools.wraps(call)
    def made(*args: Any, **options: Any) -> Any:
        notes = _notes.get()
        if notes is None:
            result = call(*args, **options)
        else:
            before = len(notes)
            try:
                result = faulty if any(map(spoils, args)) else call(*args, **options)
            except Exception as error:  # noqa: BLE001 - what a call is given may be anything
                fault = f"{_place(sys._getframe(1))}: {type(error).__name__}: {error}"
                if len(notes) == before and fault not in notes:
                    notes.append(fault)
                return faulty if args else _decorates
            if len(notes) > before:  # by calls in hints that are texts, which are made as they are read
                return faulty if args else _decorates
        is_decorator = not args and callable(result)  # fanout(timeout="1s"), which is still to be called
        return noted(result, spoils=spoils) if is_decorator else result

    return cast("CallT", made)


def _place(frame: FrameType) -> str:
    """Where a call stands. One in a hint that is a text has no place of its own: it is where the hints are read."""
    at: FrameType | None = frame
    while at is not None and at.f_code.co_filename.startswith(("<string>", typing.__file__, *_LOADERS)):
        at = at.f_back
    at = at or frame
    return f"{file_name(at.f_code.co_filename)}:{at.f_lineno}"
