"""Functions of a team's own that run when a worker starts, not before: threads do not survive the fork."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import structlog
from asgiref.sync import iscoroutinefunction

from gateway.http.view_result import name_of_view
from gateway.legacy.bulkhead import in_thread

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
_functions: list[Callable[[], Any]] = []
_PATIENCE_S = 5.0  # after that the log names the function that keeps a worker from starting

FunctionT = TypeVar("FunctionT", bound=Callable[[], Any])


class WorkerStartError(Exception):
    """A function of `on_worker_start` failed; the text names it."""


def on_worker_start(function: FunctionT) -> FunctionT:
    """Have a function called in each worker when it starts, before it serves; also as a decorator, `@on_worker_start`.

    An async one runs in the worker's event loop, a synchronous one in a thread. It takes no argument and must return:
    work that goes on belongs in a thread or a task that it starts. If it raises, the worker does not start. Returns the
    function. Raises TypeError for a function that cannot be called without arguments.
    """
    given: Any = function  # a person may write anything here
    if not callable(given):
        raise TypeError(f"on_worker_start({function!r}): give it the function itself")
    try:
        inspect.signature(given).bind()
    except TypeError as error:
        raise TypeError(f"on_worker_start({name_of_view(function)}): it is called without arguments: {error}") from None
    except ValueError:  # functions written in C may have no signature
        pass
    if function not in _functions:
        _functions.append(function)
    return function


async def start_worker() -> None:
    """Call them all, one after the other. Raises WorkerStartError."""
    for function in _functions:
        await _call(function)


async def _call(function: Callable[[], Any]) -> None:
    name = name_of_view(function)
    waits = asyncio.get_running_loop().call_later(
        _PATIENCE_S, lambda: _log.warning("worker.start_waits", function=name, s=_PATIENCE_S)
    )
    try:
        result = function() if iscoroutinefunction(function) else await in_thread(function)
        if inspect.isawaitable(result):
            await result
    except BaseException as error:  # sys.exit() too: anything that stops the start is reported in the same way
        # Exceptions that a loop must not raise come out of the thread within another one.
        raised = error.__cause__ if error.__cause__ and not isinstance(error.__cause__, Exception) else error
        raise WorkerStartError(f"on_worker_start: {name}() failed: {type(raised).__name__}: {raised}") from error
    finally:
        waits.cancel()


def threads_now() -> frozenset[threading.Thread]:
    return frozenset(threading.enumerate())


def names_of_new(before: Collection[threading.Thread]) -> tuple[str, ...]:
    """The names of the live threads that were started since then."""
    return tuple(thread.name for thread in threading.enumerate() if thread not in before)


def thread_warning(module: str, names: Collection[str]) -> str:
    return (
        f"{module}.py starts threads while it is imported: {', '.join(names)}; the workers are forked from this "
        "process, and a fork leaves threads behind: start them in a function of on_worker_start()"
    )
