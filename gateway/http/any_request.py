"""Views of the gateway answer any request of Django's, one of AsyncRequestFactory too.

The handler calls `serve`, which wants a GatewayRequest, and pays nothing for this. Whoever calls the view itself may
have a request of Django's own making: then `serve` is called with one of ours that is made of it.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gateway.http.request import GatewayRequest

View = Callable[..., Awaitable[HttpResponseBase]]
# (view, request, args, params) -> its response. The server room knows how: `in_process`.
Adopt = Callable[[View, HttpRequest, tuple[Any, ...], Mapping[str, Any]], Awaitable[HttpResponseBase]]

_ways: list[Adopt] = []


def adopt_with(way: Adopt) -> None:
    """Set how requests of Django's own making get what a view needs; called once, when Django is set up."""
    _ways[:] = [way]


class GatewayView:
    """A view that has `serve`."""

    serve: View

    def __call__(self, request: HttpRequest, **params: str) -> Awaitable[Any]:
        """As `serve`, for any request."""
        return _called(self.serve, request, (), params)


def direct(view: View) -> View:
    """What the handler calls, with requests that are ours."""
    return view.serve if isinstance(view, GatewayView) else view


def for_any_request(view: View) -> View:
    """The view, to be called with any request."""
    if isinstance(view, GatewayView):
        return view

    def call(request: HttpRequest, *args: Any, **params: Any) -> Awaitable[HttpResponseBase]:
        return _called(view, request, args, params)

    functools.update_wrapper(call, view)
    return markcoroutinefunction(call)


def _called(
    view: View, request: HttpRequest, args: tuple[Any, ...], params: Mapping[str, Any]
) -> Awaitable[HttpResponseBase]:
    if isinstance(request, GatewayRequest):
        return view(request, *args, **params)
    if not _ways:
        raise RuntimeError("Django is not set up: import asgi, or run the tests by `gateway test`")
    return _ways[-1](view, request, args, params)
