"""Views of the gateway answer any Django request, also one of AsyncRequestFactory.

The handler calls `serve`, which takes a GatewayRequest, and pays nothing for this. Other callers may call the view with
a plain Django request: `serve` then gets a GatewayRequest made from it.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from gateway.http.request import GatewayRequest

View = Callable[..., Awaitable[HttpResponseBase]]
# (view, request, args, params) -> the response. Set by `server.in_process`.
Adopt = Callable[[View, HttpRequest, tuple[Any, ...], Mapping[str, Any]], Awaitable[HttpResponseBase]]

_ways: list[Adopt] = []


def adopt_with(way: Adopt) -> None:
    """Set how plain Django requests get what a view needs; called once, when Django is set up."""
    _ways[:] = [way]


class GatewayView:
    """A view that has `serve`."""

    serve: View

    def __call__(self, request: HttpRequest, **params: str) -> Awaitable[Any]:
        """As `serve`, for any request."""
        return _called(self.serve, request, (), params)


def direct(view: View) -> View:
    """What the handler calls, with a GatewayRequest."""
    return view.serve if isinstance(view, GatewayView) else view


def for_any_request(view: View) -> View:
    """The view as a callable that takes any request."""
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
