"""OpenTelemetry spans of requests, of attempts upstream, and of slow steps. The only module that imports OpenTelemetry.

It is imported only where tracing is on, in the worker: its exporter has a thread, which does not survive a fork. The
current span is in the context, as usual in OpenTelemetry. So a task that a request starts, a legacy function's thread
and a view that begins spans of its own have the right parent, and nothing here passes one on.

Names and attributes are the stable HTTP semantic conventions; others begin with `portway.`. Queries are left out, as in
the log: they may hold secrets.
"""

import logging
import threading
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import structlog
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway import __version__
from gateway.errors import GatewayError, Reason, Side
from gateway.http.exchange import Exchange
from gateway.http.headers import first_text
from gateway.http.methods import STANDARD_METHODS
from gateway.http.request import GatewayRequest
from gateway.observe import steps
from gateway.observe.throttle import TokenBucket, at_most_every

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_PART: Final = context.create_key("portway-part")
_PORTS: Final = {"http": 80, "https": 443}
_LOG_AGAIN_S: Final = 60.0
_FLUSH_S: Final = 2.0
# Thousands of spans may wait for a slow exporter, and clients choose paths and user agents: texts are cut.
_LONGEST: Final = 2000


class OtelLogHandler(logging.Handler):
    """Turns OpenTelemetry's warnings into events of our log, those of one source line at most once a minute."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._throttles: dict[tuple[str, int], TokenBucket] = {}

    def emit(self, record: logging.LogRecord) -> None:
        line = (record.pathname, record.lineno)
        throttle = self._throttles.setdefault(line, at_most_every(_LOG_AGAIN_S))
        if throttle.take(time.monotonic()):
            _log.warning("tracing.failing", cause=record.getMessage())


class AttemptSpan:
    """The span of one attempt. `traceparent` is sent up; `reason` is the word for its failure, once there is one."""

    __slots__ = ("_attributes", "_span", "reason", "traceparent")

    def __init__(self, span: Span, attributes: dict[str, Any]) -> None:
        own = span.get_span_context()
        self._span, self._attributes = span, attributes
        self.reason: str | None = None
        self.traceparent = b"00-%032x-%016x-%02x" % (own.trace_id, own.span_id, own.trace_flags)

    def end(self, status: int) -> None:
        """The attempt is over; `status` is its answer's, 0 for none."""
        error = self.reason or (str(status) if status >= 400 else None)
        attributes = self._attributes | {"http.response.status_code": status or None, "error.type": error}
        _end(self._span, attributes, failed=error is not None)


class Tracer:
    """One worker's spans. Raises OpenTelemetry's own exceptions for invalid OTEL_* variables."""

    def __init__(self, exporters: tuple[str, ...]) -> None:
        logger = logging.getLogger("opentelemetry")
        logger.handlers[:], logger.propagate = [OtelLogHandler()], False
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # it warns of each try
        logging.getLogger("opentelemetry.trace").setLevel(logging.CRITICAL)  # it logs what clients send
        own = {"service.name": "portway", "service.version": __version__}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for name in exporters:
            on_a_line = ConsoleSpanExporter(formatter=lambda span: span.to_json(indent=None) + "\n")
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if name == "otlp" else on_a_line))
        trace.set_tracer_provider(self._provider)
        self._tracer = self._provider.get_tracer("portway", __version__)
        self._parent = TraceContextTextMapPropagator()
        steps.traced = self.step
        self._open: dict[Exchange, tuple[Span, GatewayRequest]] = {}
        _log.info("tracing.on", exporters=exporters)

    def stop(self, within_s: float) -> None:
        """Send the remaining spans, at the very end, since it blocks the loop. Spans that take too long are lost."""
        steps.traced = None
        flush = threading.Thread(target=self._provider.shutdown, name="portway-flush", daemon=True)
        flush.start()
        flush.join(min(within_s, _FLUSH_S))
        if flush.is_alive():
            _log.warning("tracing.failing", cause="the last spans did not leave in time")

    def begin(self, request: GatewayRequest) -> str | None:
        """Begin a request's span, current from here on. Returns the id of the new trace, for a request without one."""
        exchange, parent = request.exchange, Context()
        if request.traceparent is not None:
            states = b",".join(request.fields.own.get(b"tracestate", ()))
            came = {"traceparent": request.traceparent.decode(), "tracestate": states.decode("latin-1")}
            parent = self._parent.extract(came, parent)
        span = self._tracer.start_span(_of_method(exchange.method)[0], parent, SpanKind.SERVER)
        context.attach(trace.set_span_in_context(span, parent))
        if span.is_recording():
            self._open[exchange] = span, request
        return f"{span.get_span_context().trace_id:032x}" if request.traceparent is None else None

    def end(self, exchange: Exchange) -> None:
        """The hook of a finished exchange."""
        opened = self._open.pop(exchange, None)
        if opened is None:
            return
        span, request = opened
        status, reason, scheme = (
            exchange.status or 0,
            exchange.reason,
            request.forwarded_scheme or request.scope["scheme"],
        )
        port = request.host_field.rpartition(":")[2]
        name, attributes = _of_method(exchange.method)
        attributes |= {
            "url.scheme": scheme,
            "url.path": exchange.path,
            "server.address": exchange.host,
            "server.port": (int(port) if port.isdigit() else _PORTS[scheme]) if exchange.host else None,
            "client.address": exchange.client,
            "user_agent.original": first_text(request.raw_headers, b"user-agent"),
            "http.response.status_code": status or None,
            "error.type": reason or (str(status) if status >= 500 else None),
            "portway.request_id": exchange.request_id,
            "portway.route": exchange.route,
            "portway.cache": exchange.cache,
        }
        route, django = request.route, request.resolver_match
        template = f"/{django.route}" if django is not None else None if route is None else route.rule.template
        if template is not None:
            attributes["http.route"] = template
            span.update_name(f"{name} {template}")
        broke_off = reason is not None and status < 400 and Reason[reason.upper()].side is not Side.CLIENT
        _end(span, attributes, failed=status >= 500 or broke_off)

    def part(self, name: str) -> None:
        """Mark calls in this task, from here on, as those of a part."""
        context.attach(context.set_value(_PART, name))

    async def step(self, name: str, attributes: Mapping[str, str], awaited: Awaitable[Any]) -> Any:
        """Await within a span, which is current meanwhile. Raises whatever the awaitable raises."""
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return await awaited
        span = self._tracer.start_span(name, kind=SpanKind.INTERNAL)
        token = context.attach(trace.set_span_in_context(span))
        error: str | None = "cancelled"
        try:
            found = await awaited
            error = None
            return found
        except GatewayError as failure:
            error = failure.reason.word
            raise
        except Exception as failure:
            error = type(failure).__name__
            raise
        finally:
            context.detach(token)
            _end(span, {**attributes, "error.type": error}, failed=error is not None)

    def attempt(self, upstream: str, *, host: str, port: int, url: str, method: str, number: int) -> AttemptSpan | None:
        """A span below the current one; None where that is not sampled.

        `host` and `port` are the endpoint's, `url` is the requested URL, and `number` counts attempts from 1.
        """
        # Not `is_recording`: a call for an answer to be stored may outlive its request.
        if not trace.get_current_span().get_span_context().trace_flags.sampled:
            return None
        name, attributes = _of_method(method)
        name = f"{name} {upstream}"  # few different names, so no path of a URL
        attributes |= {
            "server.address": host,
            "server.port": port,
            "url.full": url.partition("?")[0],
            "http.request.resend_count": number - 1 or None,
            "portway.upstream": upstream,
            "portway.part": context.get_value(_PART),
        }
        return AttemptSpan(self._tracer.start_span(name, kind=SpanKind.CLIENT), attributes)


def _end(span: Span, attributes: dict[str, Any], *, failed: bool) -> None:
    known = {name: value for name, value in attributes.items() if value is not None}
    span.set_attributes({
        name: value[:_LONGEST] if isinstance(value, str) else value for name, value in known.items()
    })  # fmt: skip
    if failed:
        span.set_status(StatusCode.ERROR)
    span.end()


def _of_method(method: str) -> tuple[str, dict[str, Any]]:
    """A span's name, one of few, and its attributes for the method."""
    if method in STANDARD_METHODS:
        return method, {"http.request.method": method}
    return "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": method}
