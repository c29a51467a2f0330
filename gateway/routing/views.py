"""Views of a team's own, prepared for the handler: async, with answers that can be sent."""

import contextlib
import functools
import importlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http.response import FileResponse, HttpResponseBase

from gateway.cache.view import Cached
from gateway.fanout.view import Fanout
from gateway.http.gate import View
from gateway.http.request import GatewayRequest
from gateway.http.view_result import finished, rendered_in_thread
from gateway.http.view_thread import ViewThread
from gateway.legacy.bulkhead import in_thread
from gateway.legacy.parameters import NoSuchValue, Parameters, methods_of, not_found
from gateway.legacy.view import Legacy, legacy
from gateway.proxy.view import Proxy
from gateway.routing.entries import is_async
from gateway.routing.faults import RouteError, place_of
from gateway.routing.wrapping import layers
from gateway.sockets.upgrade import SocketView


def as_async(view: Callable[..., Any]) -> View:
    """The view itself, or a synchronous one moved off the loop, where it would block all other requests."""
    for layer in layers(view):
        if isinstance(layer, Cached):
            layer.view = as_async(layer.view)
    if isinstance(view, (Cached, Proxy, Fanout, Legacy, SocketView)) or getattr(view, "is_finished_by", None) is view:
        return view
    call = _finished(view) if is_async(view) else _finished_in_thread(view)
    if (convert := _converting(view)) is not None:
        call = _converted(call, convert)
    functools.update_wrapper(call, view)
    call.is_finished_by = call  # type: ignore[attr-defined]  # because wrappers copy the attributes of a function
    return call


Convert = Callable[[GatewayRequest, dict[str, Any]], dict[str, Any]]


def _converting(view: Callable[..., Any]) -> Convert | None:
    """How parameters are converted to the types that the answering view hints at; None where there is nothing to
    convert.

    A wrapper around a view that converts by itself does not convert.
    """
    *outer, endpoint = layers(view)
    if any(isinstance(one, (Cached, Proxy, Fanout, Legacy)) or hasattr(one, "is_finished_by") for one in outer[1:]):
        return None
    if isinstance(endpoint, (Proxy, Fanout, Legacy)) or (outer and hasattr(endpoint, "is_finished_by")):
        return None
    of_methods = methods_of(endpoint)
    if of_methods is not None:
        by_method = {name: Parameters(method) for name, method in of_methods.items()}
        if not any(by_method.values()):
            return None
        none = Parameters(_without_parameters)
        return lambda request, params: by_method.get(request.method, none).converted(params, texts_only=True)
    parameters = Parameters(endpoint)
    return (lambda _, params: parameters.converted(params, texts_only=True)) if parameters else None


def _without_parameters() -> None:
    """For methods that a class-based view does not have: it answers 405 by itself."""


def _converted(view: View, convert: Convert) -> View:
    def call(request: GatewayRequest, *args: Any, **params: Any) -> Awaitable[HttpResponseBase]:
        try:
            values = convert(request, params)
        except NoSuchValue as error:
            raise not_found(error) from None
        return view(request, *args, **values)

    functools.update_wrapper(call, view)
    return markcoroutinefunction(call)


def _finished(view: Callable[..., Any]) -> View:
    """An async view: its calls of the ORM and of `sync_to_async` run in a thread of its request."""

    async def call(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        request.services.note_in_flight()
        thread = request.lifetime.enter_view_thread(request.lend)
        result = _held(await view(request, *args, **params), thread)
        return await finished(result, view, is_head=request.method == "HEAD", in_thread=in_thread)

    return call


def _finished_in_thread(view: Callable[..., Any]) -> View:
    """A synchronous view, which runs in a thread of its request."""

    def answer(thread: ViewThread, request: GatewayRequest, *args: Any, **params: Any) -> object:
        return rendered_in_thread(_held(view(request, *args, **params), thread))

    async def call(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        await request.read_body()
        request.services.note_in_flight()
        thread = request.lifetime.enter_view_thread(request.lend)
        result = await in_thread(functools.partial(answer, thread, request, *args, **params))
        return await finished(result, view, is_head=request.method == "HEAD")

    call.synchronous = view  # type: ignore[attr-defined]
    return call


def _held(result: object, thread: ViewThread) -> object:
    """The result. A response is closed when its request is over, however that ended."""
    if isinstance(result, HttpResponseBase):
        thread.holds(result)
    return result


async def pieces(response: Any) -> AsyncIterator[bytes]:
    """The pieces of a StreamingHttpResponse; each step of a synchronous iterator runs in the thread of its request."""
    if response.is_async:
        async with contextlib.aclosing(aiter(response)) as parts:
            async for piece in parts:
                yield piece
        return
    if isinstance(response, FileResponse):
        response.block_size = 64 * 1024  # each of Django's 4 KiB would be a call in the thread
    iterator = iter(response)
    while (piece := await in_thread(lambda: next(iterator, None))) is not None:
        yield piece


def legacy_from(path: str, variable: str) -> Legacy:
    """The view of a function named by its dotted path. Raises RouteError."""
    module, _, name = path.rpartition(".")
    try:
        return legacy(getattr(importlib.import_module(module), name))
    except (Exception, SystemExit) as error:
        raise RouteError(f"{variable}__LEGACY={path}: {place_of(error, module)}") from error


def socket_view(view: Callable[..., Any], place: str) -> SocketView:
    if not iscoroutinefunction(view):
        raise RouteError(f"{place}: a view that takes WebSockets is an async function, and no proxy() or other view")
    return SocketView(view)
