"""State of one request: ids, timings and result, as log, metrics and traces read them once it has ended.

`lifetime` has what cancels it and what it holds open.
"""

from typing import Any

from gateway.errors import GatewayError


def is_own(route: str | None) -> bool:
    """Whether a route is one of the gateway's own endpoints."""
    return route is not None and route.startswith("/-/")


class Exchange:
    """What is known of one request. Times are `perf_counter()` seconds; a field is None while it has no meaning."""

    __slots__ = (
        *("attempts", "auth", "bytes_in", "bytes_out", "cache", "calls", "cause", "client", "ended", "endpoint"),
        *("fallback", "fields", "host", "identity", "method", "parts", "path", "reason", "request_id", "route"),
        *("socket", "started", "status", "trace_id", "upstream", "upstream_ms"),
    )

    def __init__(self, started: float, method: str, path: str, client: str) -> None:
        self.started = started
        self.ended: float | None = None
        self.method = method
        self.path = path
        self.client = client
        self.host: str | None = None
        self.request_id = ""
        self.trace_id = ""
        self.route: str | None = None
        self.status: int | None = None
        self.reason: str | None = None
        self.fallback: str | None = None  # what was sent instead of a failure: an upstream's answer, or the rule's word
        self.cause: str | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream: str | None = None
        self.endpoint: str | None = None
        self.attempts: int | None = None
        self.calls: int | None = None  # how often a view of the team's own called a service
        self.upstream_ms: float | None = None
        self.cache: str | None = None
        self.parts: list[dict[str, Any]] | None = None
        self.auth: str | None = None  # the way that identified the client, or refused it
        self.identity: str | None = None  # the client, as that way names it
        self.socket: Any = None  # what is counted of a WebSocket
        self.fields: dict[str, str] | None = None  # of the request, as GATEWAY_LOG_FIELDS names them

    @property
    def is_own(self) -> bool:
        """True for `/-/...`: left out of traffic counts."""
        return is_own(self.route)

    @property
    def ms(self) -> float:
        """How long it took, until its end."""
        return round(((self.ended or self.started) - self.started) * 1000, 2)

    def child(self) -> "Exchange":
        """The exchange of a call that is made for this request, and may outlive it."""
        child = Exchange(self.started, self.method, self.path, self.client)
        child.request_id, child.trace_id = self.request_id, self.trace_id
        child.host, child.route = self.host, self.route
        return child

    def begin_trace(self, trace_id: str) -> None:
        """Make it part of this trace. A request id that was derived from the trace id changes with it."""
        if self.request_id == self.trace_id:
            self.request_id = trace_id
        self.trace_id = trace_id

    def note(self, other: "Exchange") -> None:
        """Copy what another exchange recorded of its upstream call."""
        self.upstream, self.endpoint, self.attempts = other.upstream, other.endpoint, other.attempts
        self.upstream_ms, self.parts = other.upstream_ms, other.parts

    def fail(self, error: GatewayError) -> None:
        """Record a failure. The first one stands: later ones are its consequences."""
        if self.reason is None:
            self.reason = error.reason.word
            self.cause = error.cause
        if self.upstream is None:
            self.upstream = error.upstream

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.method} {self.path} {self.status or 'open'} {self.reason or ''}>"
