"""Django's signals of a request, sent only where there are receivers: Django's own receivers need none of them here.

An exception of a receiver is logged by Django and stops nothing. Synchronous ones run in a thread of the request.
"""

import contextlib
import weakref
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.core.signals import got_request_exception, request_finished, request_started
from django.dispatch import Signal
from django.http.response import HttpResponseBase

from gateway.errors import GatewayError
from gateway.http.view_thread import ViewThread

_OWN = b"/-/"  # requests for the gateway itself are no traffic
Serve = Callable[..., Coroutine[Any, Any, None]]


def are_heard() -> bool:
    """Whether there are receivers, beside Django's own, for the beginning or the end of requests."""
    return any(_listeners(request_started)) or any(_listeners(request_finished))


def _listeners(signal: Signal) -> Iterator[object]:
    for _, receiver, *_ in signal.receivers:
        listener = receiver() if isinstance(receiver, weakref.ReferenceType) else receiver
        if not str(getattr(listener, "__module__", "")).startswith("django."):
            yield listener


def around(serve: Serve, sender: type) -> Serve:
    """`serve(scope, receive, send)`, between request_started and request_finished: each is sent once a request."""
    ViewThread.close_response = staticmethod(close_in_silence)

    async def with_signals(scope: Any, receive: Any, send: Any) -> None:
        if scope["raw_path"].startswith(_OWN):
            await serve(scope, receive, send)
            return
        thread = ViewThread(_nothing)
        thread.enter()
        try:
            await request_started.asend_robust(sender=sender, scope=scope)
            try:
                await serve(scope, receive, send)
            finally:
                thread.enter()
                await request_finished.asend_robust(sender=sender)
        finally:
            thread.close()

    return with_signals


def close_in_silence(response: HttpResponseBase) -> None:
    """As Django closes a response, but without a request_finished of its own."""
    if type(response).close is not HttpResponseBase.close:
        response.close()
        return
    for closer in response._resource_closers:  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            closer()
    response._resource_closers.clear()  # type: ignore[attr-defined]
    response.closed = True


def _nothing() -> None:
    """There is no request to close yet."""


async def view_failed(request: object, failure: GatewayError) -> None:
    """Send got_request_exception, to Sentry for one, for the exception of a team's code in a failure, once."""
    error, failure.raised = failure.raised, None
    if error is not None and got_request_exception.has_listeners():
        await sync_to_async(partial(_send_exception, request, error))()


def _send_exception(request: object, error: BaseException) -> None:
    # Receivers read it from sys.exc_info().
    try:
        raise error
    except BaseException:  # noqa: BLE001 - it was raised before, and has been answered
        got_request_exception.send_robust(sender=None, request=request)
