"""The gateway in the process of a test: a worker in the running loop, for clients and factories of django.test.

Django's own handler, which those clients use, calls settings.MIDDLEWARE. The first one there is `ThroughGateway`: it
passes each request to the gateway's handler, so that a test meets all that a client over a socket meets. Nothing else
uses Django's own handler, so it is never called in a worker of `gateway serve`.

A view that is called by itself, with a request of AsyncRequestFactory, gets a `GatewayRequest` of the same worker.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from functools import partial
from http.cookies import SimpleCookie
from math import inf
from typing import Any
from urllib.parse import quote
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from gateway.config.records import Config
from gateway.http.headers import Pairs
from gateway.http.lifetime import current
from gateway.http.request import Message, Scope
from gateway.http.response import pairs_of
from gateway.http.view_thread import ViewThread
from gateway.legacy.bulkhead import Bulkhead, Call, in_thread
from gateway.observe.signals import close_in_silence
from gateway.routing.entries import legacies
from gateway.routing.loader import load_routes
from gateway.routing.urls import Routes
from gateway.routing.worker_start import start_worker
from gateway.server.asgi import GatewayHandler
from gateway.server.opening import open_request

_NEVER_S = 10.0**9
_EVENTS = b"text/event-stream"


class ThroughGateway:
    """Middleware of Django's own handler: the gateway answers, and later middleware is not called."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self.is_async:
            return answer(request)
        return async_to_sync(answer)(request, is_whole=True)  # the loop, and with it a stream, ends with this call


async def answer(request: HttpRequest, *, is_whole: bool = False) -> HttpResponseBase:
    """The gateway's answer to a Django request, whole; an event stream as it comes, or `is_whole` too."""
    handler = await worker()
    exchanged = _Exchanged(request.body)
    scope = scope_of(request)
    task = asyncio.create_task(handler(scope, exchanged.receive, exchanged.send))
    task.add_done_callback(lambda _: exchanged.messages.put_nowait({"type": "end"}))
    start = await exchanged.messages.get()
    if start["type"] == "end":
        await task
        raise RuntimeError("the gateway did not answer")
    pairs: Pairs = start["headers"]
    if any(name == b"content-type" and value.startswith(_EVENTS) for name, value in pairs):
        pieces = _rest(exchanged, task)
        content: Any = [piece async for piece in pieces] if is_whole else pieces
        return _as_django(StreamingHttpResponse(content, status=start["status"]), pairs)
    body = b"".join([piece async for piece in _rest(exchanged, task)])
    return _as_django(HttpResponse(body, status=start["status"]), pairs)


async def _rest(exchanged: "_Exchanged", task: asyncio.Task[None]) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ConnectionResetError where a client would see it break off."""
    try:
        while (message := await exchanged.messages.get())["type"] != "end":
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                await task
                return
        await task
        raise ConnectionResetError("the answer broke off")
    finally:
        exchanged.left.set()
        task.cancel()


class _Exchanged:
    """The two sides of an ASGI call: the client's request, and the answer to it."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.put_nowait(message)


# -- the worker ---------------------------------------------------------------------------------------------------

_workers: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[GatewayHandler]] = WeakKeyDictionary()
_keepers: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = WeakKeyDictionary()
_routes: dict[str, Routes] = {}


async def worker() -> GatewayHandler:
    """The worker of the running loop, started at the first call, stopped when the loop ends."""
    loop = asyncio.get_running_loop()
    made = _workers.get(loop)
    if made is None:
        made = _workers[loop] = loop.create_future()
        try:
            handler = await _started()
            # A loop closes its asynchronous generators before it ends.
            keeper = _keepers[loop] = _keep(handler)
            await anext(keeper)
            made.set_result(handler)
        except BaseException as error:
            del _workers[loop]
            made.set_exception(error)
            made.exception()  # other tasks may wait for it, or none
            raise
    return await asyncio.shield(made)


async def _started() -> GatewayHandler:
    ViewThread.is_own = False
    ViewThread.close_response = staticmethod(close_in_silence)  # a client of django.test sends the signals itself
    config: Config = settings.GATEWAY
    # Responses stored by other tests, or by a gateway beside them, must not be used here.
    plain = replace(config.settings, cache_disk_bytes=0, stall_s=inf)
    config = replace(config, settings=plain)
    urlconf = settings.ROOT_URLCONF  # a test may override it
    routes = _routes.get(urlconf)
    if routes is None:
        routes = _routes[urlconf] = load_routes(replace(config.declared, urlconf=urlconf))
        for _, view in legacies(routes.routes, routes.others):
            view.bulkhead = _Bulkhead(view.bulkhead.name, view.bulkhead.options)
    handler = GatewayHandler(config, routes, [])
    await start_worker()
    await handler.worker.start(lambda _: None)
    return handler


class _Bulkhead(Bulkhead):
    """Legacy functions run in the thread of the test, one after the other, within its transaction."""

    async def run(self, call: Call, timeout_s: float) -> Any:
        return await in_thread(partial(call.work, call))

    async def pieces(self, call: Call) -> AsyncIterator[Any]:
        try:
            while call.rest is not None and (piece := await in_thread(call.rest)) is not None:
                yield piece
        finally:
            if call.at_end is not None:
                await in_thread(call.at_end)


async def _keep(handler: GatewayHandler) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await handler.worker.stop()


# -- a request of Django's making -----------------------------------------------------------------------------------


def scope_of(request: HttpRequest) -> Scope:
    """The scope that Granian would make for a Django request."""
    meta = request.META
    pairs = _pairs_of(request)
    if not any(name == b"host" for name, _ in pairs):
        name, port = meta.get("SERVER_NAME", "testserver"), str(meta.get("SERVER_PORT", "80"))
        usual = "443" if request.is_secure() else "80"
        pairs.insert(0, (b"host", (name if port == usual else f"{name}:{port}").encode("latin-1")))
    if request.body and not any(name == b"content-length" for name, _ in pairs):
        pairs.append((b"content-length", b"%d" % len(request.body)))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "raw_path": quote(request.path, safe=_IN_PATH).encode("ascii"),
        "query_string": meta.get("QUERY_STRING", "").encode("latin-1"),
        "root_path": "",
        "headers": pairs,
        "client": (meta.get("REMOTE_ADDR", "127.0.0.1"), "50000"),
        "server": (meta.get("SERVER_NAME", "testserver"), str(meta.get("SERVER_PORT", "80"))),
        "extensions": {},
        "state": {},
    }
    if getattr(request, "_dont_enforce_csrf_checks", False):
        scope["skips_csrf_checks"] = True
    return scope


_NO_COOKIE = (b"cookie", b"")  # the clients of django.test send it without cookies
_IN_PATH = "/~!$&'()*+,;=:@"  # not escaped in a path (RFC 3986)


def _pairs_of(request: HttpRequest) -> Pairs:
    scope: Mapping[str, Any] | None = getattr(request, "scope", None)
    if scope is not None:
        pairs = [(bytes(name).replace(b"_", b"-"), bytes(value)) for name, value in scope["headers"]]
        return [pair for pair in pairs if pair != _NO_COOKIE]
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in request.headers.items()
        if name != "Content-Length" or value
    ]


def _as_django(response: HttpResponseBase, pairs: Pairs) -> HttpResponseBase:
    """The same response with these field lines; repeated ones are joined, cookies go to `cookies`.

    A redirect has Django's `url`, which `follow=True` and assertRedirects() read.
    """
    for name in list(response.headers):
        del response[name]
    for key, raw in pairs:
        name, value = key.decode("latin-1"), raw.decode("latin-1")
        if key == b"set-cookie":
            response.cookies.update(SimpleCookie(value))
        else:
            response[name] = f"{response[name]}, {value}" if response.has_header(name) else value
    if 300 <= response.status_code < 400 and response.has_header("location"):
        response.url = response["location"]  # type: ignore[attr-defined]
    return response


async def call(view: Callable[..., Any], request: HttpRequest, args: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    """The answer of a view to a Django request, without a route."""
    handler = await worker()
    exchanged = _Exchanged(request.body)
    ours = open_request(scope_of(request), exchanged.receive, handler.worker, _NEVER_S)
    ours.inbox.content_length = ours.content_length = len(request.body) or None
    ours.resolver_match = request.resolver_match
    current.set(ours.lifetime)
    try:
        response = await view(ours, *args, **params)
        return await _whole(response)
    finally:
        ours.lifetime.let_go()


async def _whole(response: HttpResponseBase) -> HttpResponseBase:
    body = getattr(response, "body", None)
    if body is None:
        return response
    if not isinstance(body, bytes):
        body = b"".join([piece async for piece in body])
    return _as_django(HttpResponse(body, status=response.status_code), pairs_of(response))
