"""The thread of a request that a view of the team's own answers: its database connections and synchronous code.

Django ties a database connection to the thread that opened it. What an async view does with the ORM goes by
`sync_to_async` to the thread of the current `ThreadSensitiveContext`; where there is none, all requests of a process
share one thread, and with it one connection, its transaction and its session. Django's own handler opens a context for
every request. Here the call of a team's own view opens one, so that a proxied request pays nothing, and it gets a
thread when it first uses one. At the end of the request that thread closes what the view left open, as Django does, and
then serves another request: to start a thread costs more than a query.
"""

import contextlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from operator import methodcaller
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

import structlog
from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.db import connections
from django.http.response import HttpResponseBase

from gateway.errors import GatewayError, Reason

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
_KEPT_IDLE = 16  # threads that wait for the next request; more run while they are needed

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


class ViewThread(Executor):
    """The executor of one request: all its calls run in one thread, one after the other.

    `close_request` is called at the end, after the responses that `holds` was given were closed.
    """

    # For the whole process: False where views run in a test's thread, to see what its transaction wrote.
    is_own = True
    close_response: Callable[[HttpResponseBase], None] = methodcaller("close")  # Django's, which sends request_finished

    def __init__(self, close_request: Callable[[], None]) -> None:
        self._close_request = close_request
        self._responses: list[HttpResponseBase] = []
        self._worker: _Worker | None = None
        self._is_closed = False

    def enter(self) -> None:
        """From here on `sync_to_async` and the async ORM of the current task, and of those it starts, run here."""
        if not self.is_own:
            return
        context = ThreadSensitiveContext()
        # The table keeps a context only as long as a task has it; so nothing here may refer to it.
        SyncToAsync.context_to_thread_executor[context] = self
        SyncToAsync.thread_sensitive_context.set(context)

    def submit(
        self, function: Callable[ParamsT, ResultT], /, *args: ParamsT.args, **kwargs: ParamsT.kwargs
    ) -> Future[ResultT]:
        """`sync_to_async` comes here. Raises GatewayError OVERLOADED where the system has no more threads."""
        future: Future[ResultT] = Future()
        with _threads.lock:
            if self._worker is None:
                self._worker = _threads.take()
            self._worker.jobs.put(partial(_carry_out, future, partial(function, *args, **kwargs)))
        return future

    def holds(self, response: HttpResponseBase) -> None:
        """Have this response closed at the end of the request, whether it was sent or not."""
        self._responses.append(response)

    def close(self) -> None:
        """The request is over. Does not wait: a synchronous view may still run after its client left."""
        if self._is_closed:
            return
        self._is_closed = True
        worker, self._worker = self._worker, None
        if worker is None:
            if all(map(_closes_at_once, self._responses)):
                self._close_all()
                return
            try:
                with _threads.lock:
                    worker = _threads.take()
            except GatewayError:  # better in the loop than not at all
                self._close_all()
                return
        worker.jobs.put(partial(self._end, worker))

    def __del__(self) -> None:
        # A task that the view started went on after the request's end, and is over now.
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.jobs.put(partial(_leave, worker))

    def _end(self, worker: "_Worker") -> None:
        """In the thread, after the last call there."""
        self._close_all()
        _leave(worker)

    def _close_all(self) -> None:
        # Without this there would be a reference cycle, from the request over its exchange back to it. A wrapper may
        # pass on a response that another view of the same request holds too.
        closers = [partial(ViewThread.close_response, one) for one in self._responses if not one.closed]
        closers.append(partial(self._close_request))
        self._responses, self._close_request = [], _closed
        for close in closers:
            try:
                close()
            except Exception as error:  # noqa: BLE001 - the others must be closed all the same
                _log.warning("view.not_closed", exc_info=error)


def _closed() -> None:
    """The request has been closed already."""


def _closes_at_once(response: HttpResponseBase) -> bool:
    """Whether closing it only sends Django's own signal, which needs no thread."""
    return type(response).close is HttpResponseBase.close and not response._resource_closers  # type: ignore[attr-defined]


def _carry_out(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - the caller handles it
        if isinstance(error, StopIteration):  # which no awaitable can raise: its caller would wait for ever
            error, cause = RuntimeError(f"raised {error!r}"), error
            error.__cause__ = cause
        future.set_exception(error)
    else:
        future.set_result(result)


def _leave(worker: "_Worker") -> None:
    try:
        close_connections()
    except Exception as error:  # noqa: BLE001 - the thread's connections end with it
        _log.warning("view.not_closed", exc_info=error)
        _threads.retire(worker)
    else:
        _threads.give_back(worker)


def close_connections() -> None:
    """Do what Django does with the connections of a thread around a request: close those that are broken, too old, or
    no longer have their first settings. A connection that was left within an atomic block is abandoned: in Django's own
    handler its thread would end here."""
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
        if connection.in_atomic_block:
            connection.close()
            del connections[connection.alias]


# -- the threads of a process -----------------------------------------------------------------------------------------


class _Worker:
    """A thread, and the jobs that it carries out."""

    def __init__(self, number: int) -> None:
        self.jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # None of these threads delays the exit of the process, which has waited for what still runs before.
        Thread(target=self._run, name=f"view-{number}", daemon=True).start()

    def _run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job()
            del job  # so that nothing of a request is kept while it waits for the next one
        with contextlib.suppress(Exception):
            connections.close_all()


class _Threads:
    """The threads that serve a request, counted, and those that wait for one. `take` is called with the lock held."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.busy = 0
        self._idle: list[_Worker] = []
        self._started = 0

    def take(self) -> _Worker:
        """A thread without connections that are too old. Raises GatewayError OVERLOADED."""
        if self._idle:
            worker = self._idle.pop()
            worker.jobs.put(_begin)
        else:
            try:
                worker = _Worker(self._started)
            except RuntimeError as error:
                raise GatewayError(Reason.OVERLOADED, cause=str(error), headers=[(b"retry-after", b"1")]) from error
            self._started += 1
        self.busy += 1
        return worker

    def give_back(self, worker: _Worker) -> None:
        with self.lock:
            self.busy -= 1
            if len(self._idle) < _KEPT_IDLE:
                self._idle.append(worker)
                return
        worker.jobs.put(None)

    def retire(self, worker: _Worker) -> None:
        with self.lock:
            self.busy -= 1
        worker.jobs.put(None)


def _begin() -> None:
    with contextlib.suppress(Exception):  # the next query shows what is wrong
        close_connections()


_threads = _Threads()


def busy() -> int:
    """How many threads still serve a request, or close what it left open."""
    return _threads.busy
