"""State of one request: ids, timings and result for log, metrics and traces; and how to cancel it.

`interrupt` is the one way to break a request off: it cancels the task that serves it and keeps the reason, which
tells why the task was cancelled when the cancellation becomes an answer.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from gateway.errors import GatewayError
from gateway.http.view_thread import ViewThread

# The request being served in this context: log lines written inside a view carry its ids.
current: ContextVar["Exchange | None"] = ContextVar("gateway_exchange", default=None)


def is_own(route: str | None) -> bool:
    """Whether a route is one of the gateway's own endpoints."""
    return route is not None and route.startswith("/-/")


class Exchange:
    """What is known of one request. Times are `perf_counter()` seconds; a field is None while it has no meaning."""

    __slots__ = (
        *("attempts", "bytes_in", "bytes_out", "cache", "cause", "client", "closers", "ended", "endpoint", "host"),
        *("interruption", "kept_bytes", "method", "parts", "path", "reason", "request", "request_id", "route"),
        *(
            "started",
            "status",
            "successor",
            "task",
            "timer",
            "trace_id",
            "upstream",
            "upstream_ms",
            "view_thread",
            "watch",
        ),
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
        self.cause: str | None = None
        self.bytes_in = 0
        self.bytes_out = 0
        self.upstream: str | None = None
        self.endpoint: str | None = None
        self.attempts: int | None = None
        self.upstream_ms: float | None = None
        self.cache: str | None = None
        self.parts: list[dict[str, Any]] | None = None
        self.request: Any = None  # while it is being answered
        self.task: asyncio.Task[Any] | None = None
        self.interruption: GatewayError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.watch: asyncio.Task[None] | None = None
        self.closers: list[Callable[[], None]] = []  # they let go of what answers still hold, sent or not
        self.kept_bytes = 0  # of bodies that are kept in memory for it, as `Bodies` counts them
        self.successor: Exchange | None = None  # the exchange that took this one's upstream call over
        self.view_thread: ViewThread | None = None  # where a view of the team's own answers

    def interrupt(self, error: GatewayError) -> None:
        """Break the request off for this reason, once: the first reason stands."""
        if self.successor is not None:
            self.successor.interrupt(error)
        elif self.interruption is None and self.ended is None:
            self.interruption = error
            if self.task is not None:
                self.task.cancel()

    @property
    def is_own(self) -> bool:
        """True for `/-/...`: left out of traffic counts."""
        return is_own(self.route)

    @property
    def ms(self) -> float:
        """How long it took, until its end."""
        return round(((self.ended or self.started) - self.started) * 1000, 2)

    @property
    def is_over(self) -> bool:
        """Whether the request has been answered, and its task is done with it."""
        return self.ended is not None and self.task is None

    def child(self) -> "Exchange":
        """The exchange of a call that is made for this request, and may outlive it."""
        child = Exchange(self.started, self.method, self.path, self.client)
        child.request_id, child.trace_id = self.request_id, self.trace_id
        child.host, child.route = self.host, self.route
        return child

    def enter_view_thread(self, lend: Callable[[], Callable[[], None]]) -> ViewThread:
        """Give the current task the request's own thread, to call a view of the team's own in.

        What `lend` of the request gives is called once, at the end of the request and of what runs in the thread.
        """
        if self.view_thread is None:
            self.view_thread = ViewThread(lend())
            self.closers.append(self.view_thread.close)
        self.view_thread.enter()
        return self.view_thread

    def let_go(self) -> None:
        """Cancel what still waits, and close what is still open."""
        for waiting in (self.watch, self.timer):
            if waiting is not None:
                waiting.cancel()
        self.watch = self.timer = None
        if self.closers:
            for close in self.closers:
                close()
            self.closers.clear()  # each holds its request, and this is held by that

    def note(self, other: "Exchange") -> None:
        """Copy what another exchange found out of its upstream call."""
        self.upstream, self.endpoint, self.attempts = other.upstream, other.endpoint, other.attempts
        self.upstream_ms, self.parts = other.upstream_ms, other.parts

    def take_over(self, other: "Exchange") -> None:
        """Go on with the call that was begun with another exchange; an interruption of that one is now of this one."""
        self.note(other)
        other.successor = self
        self.view_thread = other.view_thread or self.view_thread
        self.closers += other.closers

    def fail(self, error: GatewayError) -> None:
        """Write down a failure; the first word stands, since later ones are its consequences."""
        if self.reason is None:
            self.reason = error.reason.word
            self.cause = error.cause
        if self.upstream is None:
            self.upstream = error.upstream

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id} {self.method} {self.path} {self.status or 'open'} {self.reason or ''}>"
