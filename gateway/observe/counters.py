"""What happened so far in one worker, counted: for the metrics and the status page.

Every request pays for it, so it is a few additions to plain numbers; names and texts are made when somebody asks.
Labels are bounded: a request that no route matched is route `none`, a method that is no usual one `other`.
"""

import time
from bisect import bisect_left
from collections import deque
from typing import Any, Final

from gateway.errors import Reason, Side
from gateway.http.exchange import Exchange

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
RECENT: Final = 50
RECENT_CLIENT: Final = 20


class Times:
    """How many, how long, and how many of at most each bound: `counts[i]` up to `BOUNDS_S[i]`, the last above all."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds


class Requests(Times):
    """Those of one route, method, class of statuses and reason."""

    __slots__ = ("bytes_in", "bytes_out")

    def __init__(self) -> None:
        super().__init__()
        self.bytes_in = self.bytes_out = 0


class Tally:
    """A worker's counts. `note` is a hook for finished exchanges."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int, str], Requests] = {}
        self.cache: dict[tuple[str, str], int] = {}
        self.parts: dict[tuple[str, str, str], Times] = {}
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT)  # failures, the last one last
        self.recent_client: deque[dict[str, Any]] = deque(maxlen=RECENT_CLIENT)  # a scanner's many hide no others

    def note(self, exchange: Exchange) -> None:
        """Count a finished request."""
        method, route = exchange.method, exchange.route or "none"
        key = (route, method if method in _METHODS else "other", (exchange.status or 0) // 100, exchange.reason or "")
        requests = self.requests.get(key)
        if requests is None:
            requests = self.requests[key] = Requests()
        requests.counts[bisect_left(BOUNDS_S, seconds := (exchange.ended or exchange.started) - exchange.started)] += 1
        requests.seconds += seconds
        requests.bytes_in += exchange.bytes_in
        requests.bytes_out += exchange.bytes_out
        if exchange.cache is not None:
            told = (route, exchange.cache)
            self.cache[told] = self.cache.get(told, 0) + 1
        if exchange.parts is not None:
            self._note_parts(route, exchange.parts)
        if exchange.reason is not None:
            self._note_failure(exchange, exchange.reason)

    def _note_parts(self, route: str, parts: list[dict[str, Any]]) -> None:
        for part in parts:
            key = (route, part["part"], part["reason"] or "")
            times = self.parts.get(key)
            if times is None:
                times = self.parts[key] = Times()
            times.add(part["ms"] / 1000)

    def _note_failure(self, exchange: Exchange, reason: str) -> None:
        whose = Reason[reason.upper()].side
        if exchange.is_own:
            return
        (self.recent_client if whose is Side.CLIENT else self.recent).append({
            "at_s": time.time(),
            "request_id": exchange.request_id,
            "method": exchange.method[:32],
            "path": exchange.path[:200],
            "route": exchange.route,
            "status": exchange.status,
            "reason": reason,
            "whose": whose.value,
            "upstream": exchange.upstream,
        })  # fmt: skip
