"""A collector of OpenTelemetry, as far as traces go: it takes what is exported by OTLP over HTTP and shows it.

with Collector() as collector:
    ...
    (server,) = collector.wait_for(1, lambda span: span.kind == "SERVER")
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Exported

from .harness import eventually

KINDS = {Exported.SPAN_KIND_INTERNAL: "INTERNAL", Exported.SPAN_KIND_SERVER: "SERVER"} | {
    Exported.SPAN_KIND_CLIENT: "CLIENT"
}


@dataclass(frozen=True)
class Span:
    """One span as it arrived. `parent` is empty for a root; `is_error` is its status."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent: str
    state: str
    is_error: bool
    ms: float
    attributes: dict[str, Any]
    resource: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.attributes.get(name)


class Collector:
    """Takes spans on `url`. `fields` are the header fields that they came with."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.fields: dict[str, str] = {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                collector.fields = {name.lower(): value for name, value in self.headers.items()}
                collector.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True)
        self._thread.start()

    def take(self, body: bytes) -> None:
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_span(one, resource) for one in of_scope.spans]

    def wait_for(self, count: int, which: Callable[[Span], bool]) -> list[Span]:
        """So many of these spans, once they are here, in the order in which they began; the test fails at more."""
        found = eventually(lambda: (these := [one for one in self.spans if which(one)])[count - 1 :] and these)
        assert len(found) == count, found
        return found

    def trace(self, trace_id: str, count: int) -> list[Span]:
        """A trace of so many spans."""
        return self.wait_for(count, lambda span: span.trace_id == trace_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _span(one: Exported, resource: dict[str, Any]) -> Span:
    return Span(
        name=one.name,
        kind=KINDS[one.kind],
        trace_id=one.trace_id.hex(),
        span_id=one.span_id.hex(),
        parent=one.parent_span_id.hex(),
        state=one.trace_state,
        is_error=one.status.code == 2,
        ms=(one.end_time_unix_nano - one.start_time_unix_nano) / 1e6,
        attributes=_values(one.attributes),
        resource=resource,
    )


def _values(pairs: Any) -> dict[str, Any]:
    def value_of(pair: KeyValue) -> Any:
        kind = pair.value.WhichOneof("value")
        return None if kind is None else getattr(pair.value, kind)

    return {pair.key: value_of(pair) for pair in pairs}
