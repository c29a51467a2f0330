"""The ASGI application: a lean version of Django's ASGIHandler.

Django's own costs twenty times a bare application: a thread pool and hops per request, the body spooled before the
view, signals, two tasks. This one keeps URL resolving, views, settings, ORM, checks and commands and replaces the rest.

The steps of a request: an Exchange is opened, the request is validated, the table picks a view, the view responds or
raises a GatewayError, the response is sent, the finished Exchange goes to the hooks. No step changes threads.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.core.handlers.asgi import ASGIHandler
from django.http.response import HttpResponseBase

from gateway.cache.freshness import invalidated
from gateway.config.address import resolved
from gateway.config.records import Config, Settings
from gateway.errors import GatewayError, Reason, drop_frames
from gateway.http import cors, validation
from gateway.http.deadline import Alarm
from gateway.http.exchange import Exchange, is_own
from gateway.http.forwarding import asked_for, client_and_hops, is_trusted
from gateway.http.headers import HTTP_2, Pairs, all_of, same_authority
from gateway.http.inbox import Receive
from gateway.http.lifetime import Lifetime, current
from gateway.http.methods import SAFE_METHODS
from gateway.http.problem import error_of_view, problem_of
from gateway.http.request import GatewayRequest, Scope, Send
from gateway.http.response import GatewayResponse, pairs_of
from gateway.http.view_result import WITHOUT_BODY, exactly, nothing, promised_bytes
from gateway.observe import signals
from gateway.observe.log import log
from gateway.options import NO_LEVEL
from gateway.routing.dispatch import Own, Preflight, decide
from gateway.routing.entries import GatewayRoute
from gateway.routing.table import Match
from gateway.routing.urls import DjangoMatch, Routes, decoded, raw_values
from gateway.routing.views import pieces
from gateway.routing.worker_start import start_worker
from gateway.server import abort, ops
from gateway.server.connections import Connections, framed
from gateway.server.https import strict_transport_security
from gateway.server.opening import open_request
from gateway.server.plain_port import PlainPort, to_https
from gateway.server.snapshot import publish
from gateway.server.websocket import serve_socket
from gateway.server.worker import ALONE, Shared, build
from gateway.upstreams.options import place_of
from gateway.upstreams.pool import Pool

Hook = Callable[[Exchange], None]
Choose = Callable[[GatewayRequest], Awaitable[HttpResponseBase]]

_SERVER = (b"server", b"portway")
_VIA = (b"via", b"1.1 portway")
_CLOSE = (b"connection", b"close")


class GatewayHandler(ASGIHandler):
    """The application that Granian serves. One per process; `worker` lives from lifespan start to its end."""

    def __init__(self, config: Config, routes: Routes, hooks: Sequence[Hook], shared: Shared = ALONE) -> None:
        super().__init__()
        self.config = config
        self.settings: Settings = config.settings
        self.routes = routes
        self._plain_fields = routes.plain_fields
        self._min_upload_rate = self.settings.min_upload_rate_bytes_per_s
        self.max_in_flight = self.settings.max_in_flight or sys.maxsize
        self.redirects_http = self.settings.https == "redirect" or self.settings.tls_redirect is not None
        self._hsts = None if self.settings.hsts_s is None else strict_transport_security(self.settings.hsts_s)
        # An answer for one identity is not for clients with another credential, for caches in front of the gateway too.
        self._vary_by_identity = ", ".join(sorted(config.auth.credential_fields)).title().encode("ascii")
        self._plain_port: PlainPort | None = None
        self._connections: Connections | None = None
        self._watch: asyncio.Task[None] | None = None
        self.worker = build(config, routes, shared)
        self.hooks = (*hooks, self.worker.counters.note)
        self._serve: signals.Serve = self.handle

    def load_middleware(self, is_async: bool = False) -> None:
        """Do not build Django's own chain: middleware is in the stack of each route."""

    @markcoroutinefunction  # it returns a coroutine; being one would cost each request another
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        kind = scope["type"]
        if kind == "http":
            if self._connections is None:
                return self._serve(scope, receive, send)
            return self._serve_counted(self._connections, scope, receive, send)
        if kind == "websocket":
            return serve_socket(self, scope, receive, send)
        return self.lifespan(receive, send)

    async def _serve_counted(self, connections: Connections, scope: Scope, receive: Receive, send: Send) -> None:
        """As `handle`, where HTTP/2 is enabled: a connection outlives a request, so connections are counted."""
        connection = connections.enter(scope)
        try:
            body = None
            if scope["http_version"] == HTTP_2:
                scope, body = await framed(scope, receive, send)
            if body is None:
                await self._serve(scope, receive, send)
            else:
                await self._serve(scope, body.receive, body.send)
                await body.discard()
        finally:
            connections.leave(connection, draining=self.worker.draining)

    # -- one request ----------------------------------------------------------------------------------------------

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = open_request(scope, receive, self.worker, self.settings.client_idle_s, self._min_upload_rate)
        exchange, lifetime = request.exchange, request.lifetime
        current.set(lifetime)
        if self.worker.tracer is not None and not exchange.path.startswith(ops.PREFIX):
            trace_id = self.worker.tracer.begin(request)
            if trace_id is not None:
                exchange.begin_trace(trace_id)
        self.worker.opened(lifetime, request.inbox)
        try:
            await self._deliver(request, await self.answer(request), send)
        except BaseException as error:  # noqa: BLE001 - cancellation too: whatever it is, the client must see it
            try:
                await self._undelivered(request, error, send)
            finally:
                drop_frames(error)
        finally:
            exchange.ended = perf_counter()
            if exchange.reason == _BODY_BROKEN:  # the client may not have got the status that was sent
                exchange.status = Reason.CLIENT_BODY_BROKEN.status
            self.worker.closed(lifetime)
            request.inbox.close()
            # The task's context holds the lifetime, and so does the request: cycles are work for the collector.
            lifetime.task = lifetime.request = None
            for hook in self.hooks:
                hook(exchange)

    async def answer(self, request: GatewayRequest, choose: Choose | None = None) -> HttpResponseBase:
        """The view's response, or the problem response for a failure. Raises what can no longer be answered.

        `choose` routes a request that is more than plain HTTP.
        """
        try:
            response = await (choose or self.choose)(request)
            if request.method not in SAFE_METHODS and self.worker.caches:
                self._invalidate(request, response)
            return response
        except asyncio.CancelledError as error:
            failure = _own_cancellation(request.lifetime, error)
        except GatewayError as error:
            failure = request.lifetime.interruption or error
        except Exception as error:  # noqa: BLE001 - a view may raise anything
            failure = error_of_view(error)
        if failure.raised is not None:
            await signals.view_failed(request, failure)
        return await self.refusal(request, failure)

    async def refusal(self, request: GatewayRequest, failure: GatewayError) -> HttpResponseBase:
        """The problem response for a failure, passed through the steps that finish the responses of its route, or
        responses without a route. If a step fails too, the problem without them."""
        _name_limit(request, failure)
        problem = problem_of(request, failure)
        finish = self.routes.finish if request.stack is None else request.stack.finish
        if finish is None or is_own(request.raw_path):
            return problem
        try:
            return await finish(request, problem)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets the first failure
            log.error("problem.unfinished", exc_info=error)
            return problem

    def choose(self, request: GatewayRequest) -> Awaitable[HttpResponseBase]:
        """Route the request; returns the view's awaitable (hot path: no extra coroutine). Raises GatewayError."""
        path, host = self.enter(request)
        if self.redirects_http and (answer := to_https(request, self.settings)) is not None:
            return _at_once(answer)
        scope, trusted = request.scope, request.from_trusted_peer
        pairs, query = scope["headers"], scope["query_string"]
        decision = decide(self.routes, request.method, host, path, pairs, query=query, trusted=trusted)
        if isinstance(decision, Own):
            if path == "*":
                return _at_once(ops.options(request))
            return ops.answer(self.worker, self.routes, request)
        if len(self.worker.in_flight) - self.worker.watchers > self.max_in_flight:  # this one included
            raise GatewayError(Reason.OVERLOADED, headers=[(b"retry-after", b"1")])
        if request.fields.has_claims:
            request.hide_claims()
        if isinstance(decision, Match):
            route: GatewayRoute = decision.route
            if not decision.pattern.params:
                request.matched(route, _NOTHING, decision.rest)
                return route.view(request)
            values = raw_values(decision)
            request.matched(route, values, decision.rest)
            return route.view(request, **decoded(values))
        if isinstance(decision, DjangoMatch):
            decision.assign(request)
            return decision.stack.view(request, *decision.match.args, **decision.params)
        if isinstance(decision, Preflight):
            request.exchange.route, request.stack = decision.route.name, decision.route.stack
            request.is_preflight = True
            return decision.view(request)
        raise decision.error

    def enter(self, request: GatewayRequest) -> tuple[str, str]:
        """Validate the request; returns its raw path and its host. Raises GatewayError."""
        exchange, scope, fields = request.exchange, request.scope, request.fields
        validation.check_method(request.method)
        path = validation.check_target(request.method, scope["raw_path"], scope["query_string"])
        validation.check_fields(fields, self.settings.max_headers_bytes)
        host = validation.check_host(fields, scope["http_version"])
        exchange.host = host or None
        came_by = fields.own.get(b"via")
        if came_by is not None and self.worker.via.is_among(came_by) and not is_own(path):
            raise GatewayError(Reason.LOOP_DETECTED)
        request.content_length = request.inbox.content_length = validation.content_length(fields, scope["http_version"])
        trusted = self.settings.trusted_proxies
        if trusted and is_trusted(request.peer, trusted):
            request.from_trusted_peer = True
            validation.check_forwarded(fields)
            if fields.x_forwarded:
                values = all_of(fields.x_forwarded, b"x-forwarded-for")
                exchange.client, hops = client_and_hops(request.peer, values, trusted)
                request.forwarded_scheme, request.forwarded_host = asked_for(fields.x_forwarded, hops)
        return path, host

    def _invalidate(self, request: GatewayRequest, response: HttpResponseBase) -> None:
        """Drop what is stored of a URL when it is written to, whichever routes stored it (RFC 9111, section 4.4)."""
        target = f"{request.raw_path}?{request.query}" if request.query else request.raw_path
        scheme = request.forwarded_scheme or request.scope["scheme"]
        host = same_authority(request.forwarded_host or request.host_field)
        for one in invalidated(scheme, host, target, response.status_code, pairs_of(response)):
            path, mark, query = one.partition("?")
            for stored in self.routes.stored_at(request.exchange.host or "", path):
                self.worker.cache.invalidate(f"{scheme}://{host}{stored}{mark}{query}")

    # -- sending responses ----------------------------------------------------------------------------------------

    async def _deliver(self, request: GatewayRequest, response: HttpResponseBase, send: Send) -> None:
        exchange = request.exchange
        exchange.status = response.status_code
        if not 200 <= response.status_code <= 999:  # it would make Granian end the whole worker
            raise ValueError(f"a view answered with status {response.status_code}")
        pairs: Pairs = pairs_of(response)
        body: bytes | AsyncIterator[bytes]
        if isinstance(response, GatewayResponse):
            body = response.body
        elif response.streaming:
            body = exactly(pieces(response), promised_bytes(pairs))
        else:
            body = response.content  # type: ignore[attr-defined]
        if response.status_code in WITHOUT_BODY:  # RFC 9110, section 8.6: nor a Content-Length
            pairs = [pair for pair in pairs if pair[0] != b"content-length"]
            body = b"" if isinstance(body, bytes) else nothing(body)
        elif request.method == "HEAD" and not isinstance(body, bytes):
            body = nothing(body)
        is_whole = isinstance(body, bytes)  # a stream may still read the request body
        if is_whole and not request.inbox.complete and _CLOSE not in pairs and request.may_discard_body:
            await request.inbox.discard()
        headers = self.finished_pairs(request, pairs)
        if not is_whole and validation.ends_with_connection(request.scope["http_version"], headers):
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        request.answer_began = True
        if request.on_head_sent is not None:
            request.on_head_sent()
        if isinstance(body, bytes):
            exchange.bytes_out = len(body) if request.method != "HEAD" else 0
            await send({"type": "http.response.body", "body": body})
        else:
            if request.lifetime.view_thread is not None:  # the view may have run in another task
                request.lifetime.view_thread.enter()
            await _stream(request.lifetime, body, send, self.settings.client_idle_s)

    def finished_pairs(self, request: GatewayRequest, pairs: Pairs) -> Pairs:
        """The pairs to send: the gateway's own field lines are added, each only here."""
        if request.limits_met is not None:
            pairs = [*pairs, *request.limits_met.pairs()]
        if (request.used_identity or request.identity_fields) and self._vary_by_identity:
            pairs = [*pairs, (b"vary", self._vary_by_identity)]
        origins = self._cors_of(request)
        if origins and not request.is_preflight:
            pairs = cors.add_to(pairs, origins, request.raw_headers)
        names = dict(pairs)
        if self._plain_fields and request.stack is None:  # /-/, and responses sent before a route was known
            pairs = [*pairs, *((name, value) for name, value in self._plain_fields if value and name not in names)]
            names.update(pairs)
        if b"x-request-id" in names:
            pairs = [pair for pair in pairs if pair[0] != b"x-request-id"]
        extra = [(b"x-request-id", request.exchange.request_id.encode("ascii")), _VIA]
        if b"server" not in names:
            extra.append(_SERVER)
        if self._hsts is not None and (request.forwarded_scheme or request.scope["scheme"]) == "https":
            pairs = [pair for pair in pairs if pair[0] != self._hsts[0]]  # RFC 6797, section 8.1: the first one counts
            extra.append(self._hsts)
        # If the request body has not arrived whole by now, the response ends the connection (RFC 9112, section 9.6).
        # HTTP/2 has no such field: a stream ends by itself (RFC 9113, section 8.2.2).
        if request.scope["http_version"] == HTTP_2:
            pairs = [pair for pair in pairs if pair[0] != b"connection"]
        elif (self.worker.draining or not request.inbox.complete) and _CLOSE not in pairs:
            extra.append(_CLOSE)
        return [*pairs, *extra]

    async def _undelivered(self, request: GatewayRequest, error: BaseException, send: Send) -> None:
        """Send a problem if no response has begun. A response that broke off must not end as if it were whole."""
        exchange, lifetime = request.exchange, request.lifetime
        failure = lifetime.interruption
        if isinstance(error, asyncio.CancelledError):
            _uncancel(lifetime, error)
        if failure is None:
            failure = error_of_view(error)
            lifetime.interruption = failure  # later interruptions do not count
            if failure.raised is not None:
                await signals.view_failed(request, failure)
        if not request.answer_began and failure.reason is not Reason.CLIENT_GONE:
            await self._deliver(request, await self.refusal(request, failure), send)
            return
        _name_limit(request, failure)
        exchange.fail(failure)
        if failure.reason is Reason.CLIENT_GONE:
            exchange.status = failure.reason.status
        elif failure.reason is not Reason.CLIENT_BODY_BROKEN:
            # `send` only hands over to Granian: give it time to write what was sent before the break.
            await asyncio.sleep(_LEAVE_S)
        # Over HTTP/2 Granian resets the stream of an unfinished response, and the other streams go on.
        if failure.reason is not Reason.CLIENT_GONE and request.scope["http_version"] != HTTP_2:
            await abort.sever(request.scope["client"], request.scope["server"])

    # -- cross-origin ---------------------------------------------------------------------------------------------

    def _cors_of(self, request: GatewayRequest) -> Sequence[str]:
        if request.exchange.is_own:  # no other page may read these with the operator's credentials
            return ()
        return self.settings.cors if request.stack is None else request.stack.origins

    # -- lifespan -------------------------------------------------------------------------------------------------

    async def lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await start_worker()
                    await self.worker.start(publish)
                    await self._open_further()
                    if signals.are_heard():
                        self._serve = signals.around(self.handle, type(self))
                    if self.worker.tracer is not None:
                        self.hooks = (*self.hooks, self.worker.tracer.end)
                except Exception as error:  # noqa: BLE001 - reported to the server, which stops the worker
                    log.error("start.failed", exc_info=error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._plain_port is not None:
                    self._plain_port.close()
                if self._watch is not None:
                    self._watch.cancel()
                await self.worker.stop()
                publish(self.worker)  # the last counts, for the other workers
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _open_further(self) -> None:
        """Start what exists only with TLS."""
        settings, loop = self.settings, asyncio.get_running_loop()
        if settings.speaks_http2:
            self._connections = Connections(settings.client_keepalive_s, settings.bind[1], loop.time)
            self._watch = loop.create_task(self._connections.watch(), name="portway-connections")
        if settings.tls_redirect is not None:
            self._plain_port = PlainPort(self.handle, settings.client_idle_s, settings.max_headers_bytes)
            await self._plain_port.open(resolved(settings.tls_redirect))
            self.worker.on_port_left = self._plain_port.close


def _name_limit(request: GatewayRequest, failure: GatewayError) -> None:
    """Name the limit that a failure has met, for the log."""
    if failure.limit is None:
        return
    route, pool = request.route, request.services.pools.get(failure.upstream or "")
    level = pool.upstream.level if isinstance(pool, Pool) else NO_LEVEL
    if route is None:
        failure.name_limit(level.variable)
    else:
        origin, own = route.origin.removesuffix("_FILE"), getattr(route.stack.endpoint, "own", None)
        failure.name_limit(partial(place_of, origin, route.level, own))


async def _at_once(response: HttpResponseBase) -> HttpResponseBase:
    return response


def _own_cancellation(lifetime: Lifetime, error: asyncio.CancelledError) -> GatewayError:
    """Why the work was cancelled: by the gateway, or by the view itself. Raises the error if the client left."""
    failure = lifetime.interruption
    if failure is not None and failure.reason is Reason.CLIENT_GONE:
        raise error
    _uncancel(lifetime, error)
    return failure or error_of_view(error)


def _uncancel(lifetime: Lifetime, error: asyncio.CancelledError) -> None:
    """Let the task of a request go on, to respond. Only `interrupt` cancels it; otherwise the view did so itself."""
    task = lifetime.task
    if task is None:
        raise error
    while task.cancelling():
        task.uncancel()


async def _stream(lifetime: Lifetime, body: AsyncIterator[bytes], send: Send, client_idle_s: float) -> None:
    """Send the pieces as they come, no faster than the client reads. A client that stalls for long is cut off."""
    exchange, loop = lifetime.exchange, asyncio.get_running_loop()
    sending_since: float | None = None
    stalled = partial(lifetime.interrupt, GatewayError(Reason.CLIENT_STALLED))
    alarm = Alarm(loop, client_idle_s, lambda: loop.time() if sending_since is None else sending_since, stalled)
    try:
        # Send the head at once, not with the first piece: an event stream may stay silent for long.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async for chunk in body:
            sending_since = loop.time()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sending_since = None
            exchange.bytes_out += len(chunk)
    finally:
        alarm.cancel()
        # If it was cut off while the client was slow, the body still holds its upstream connection.
        close = getattr(body, "aclose", None)
        if close is not None:
            await close()
    # From here on, a client that leaves has had its whole response.
    exchange.ended = perf_counter()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


_LEAVE_S = 0.05
_NOTHING: dict[str, str] = {}
_BODY_BROKEN = Reason.CLIENT_BODY_BROKEN.word
