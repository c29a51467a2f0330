"""The counts of one worker, for the metrics and the status page.

Every request pays for it, so it is a few additions to plain numbers; names and texts are made when they are read.
Labels are bounded: a request without a route counts as route `none`, an unusual method as `other`.
"""

import time
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.errors import Reason, Side
from gateway.http.exchange import Exchange
from gateway.http.methods import SERVED_METHODS
from gateway.observe.histogram import BOUNDS_S, Durations
from gateway.observe.socket_counts import SocketCounts

_SERVER_ERROR: Final = 500
RECENT: Final = 50
RECENT_CLIENT: Final = 20

# Route, method, first digit of the status (0 for none), reason or "".
RequestLabels = tuple[str, str, int, str]
# Route, part, reason or "".
PartLabels = tuple[str, str, str]
Failure = dict[str, Any]
# Reason, or the status of an upstream's own answer from 500 on; route; upstream or "".
FailureLabels = tuple[str, str, str]


@dataclass(slots=True)
class Requests(Durations):
    """The requests of one route, method, status class and reason."""

    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, other: Self) -> None:
        Durations.add(self, other)
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out


@dataclass(slots=True)
class Failures:
    """Requests that failed in one way: how many, and the last one."""

    count: int = 0
    last: Failure = field(default_factory=dict)

    def add(self, other: Self) -> None:
        """Add the counts of another one."""
        self.count += other.count
        if other.last.get("at_s", 0.0) > self.last.get("at_s", 0.0):
            self.last = other.last


class Counters:
    """A worker's counts. `note` is a hook for finished exchanges."""

    def __init__(self) -> None:
        self.requests: dict[RequestLabels, Requests] = {}
        self.cache: dict[tuple[str, str], int] = {}  # by route and outcome
        self.parts: dict[PartLabels, Durations] = {}
        self.sockets: dict[tuple[str, str], int] = {}  # closed ones, by route and closing side
        self.messages: dict[tuple[str, str], int] = {}  # of sockets, by route and direction: in is from the client
        self.failures: dict[FailureLabels, Failures] = {}
        self.recent: deque[Failure] = deque(maxlen=RECENT)  # failures, the last one last
        self.recent_client: deque[Failure] = deque(maxlen=RECENT_CLIENT)  # apart: a scanner must not push others out

    def note(self, exchange: Exchange) -> None:
        """Count a finished request, unless it is for the gateway itself: monitoring is no traffic."""
        method, route, status = exchange.method, exchange.route or "none", exchange.status or 0
        if exchange.path[:3] == "/-/":
            return
        if exchange.socket is not None:
            self._note_socket(route, exchange.socket)
            return  # the hours that it was open are no response time
        key = (route, method if method in SERVED_METHODS else "other", status // 100, exchange.reason or "")
        requests = self.requests.get(key)
        if requests is None:
            requests = self.requests[key] = Requests()
        requests.counts[bisect_left(BOUNDS_S, seconds := (exchange.ended or exchange.started) - exchange.started)] += 1
        requests.sum_s += seconds
        requests.bytes_in += exchange.bytes_in
        requests.bytes_out += exchange.bytes_out
        if exchange.cache is not None:
            outcome = (route, exchange.cache)
            self.cache[outcome] = self.cache.get(outcome, 0) + 1
        if exchange.parts is not None:
            self._note_parts(route, exchange.parts)
        if exchange.reason is not None:
            self._note_failure(exchange, exchange.reason, Reason[exchange.reason.upper()].side)
        elif status >= _SERVER_ERROR:  # an upstream's own answer, or a view's, which is passed on
            side = Side.GATEWAY if exchange.upstream is None else Side.UPSTREAM
            self._note_failure(exchange, str(status), side)

    def _note_socket(self, route: str, counts: SocketCounts) -> None:
        for numbers, word, count in (
            (self.sockets, counts.closed_by or "gateway", 1),
            (self.messages, "in", counts.messages_in),
            (self.messages, "out", counts.messages_out),
        ):
            numbers[route, word] = numbers.get((route, word), 0) + count

    def _note_parts(self, route: str, parts: list[dict[str, Any]]) -> None:
        for part in parts:
            key = (route, part["part"], part["reason"] or "")
            durations = self.parts.get(key)
            if durations is None:
                durations = self.parts[key] = Durations()
            durations.observe(part["ms"] / 1000)

    def _note_failure(self, exchange: Exchange, reason: str, side: Side) -> None:
        failure = {
            "at_s": time.time(),
            "request_id": exchange.request_id,
            "method": exchange.method[:32],
            "path": exchange.path[:200],
            "route": exchange.route,
            "status": exchange.status,
            "reason": reason,
            "whose": side.value,
            "upstream": exchange.upstream,
            "endpoint": exchange.endpoint,
            "cause": exchange.cause and exchange.cause[:200],
        }
        (self.recent_client if side is Side.CLIENT else self.recent).append(failure)
        labels = (reason, exchange.route or "none", exchange.upstream or "")
        failures = self.failures.get(labels)
        if failures is None:
            failures = self.failures[labels] = Failures()
        failures.count += 1
        failures.last = failure
