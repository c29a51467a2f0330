"""Recent counts: ten minutes by the second, for the status page; and a minute by route and by endpoint.

A worker counts in `counters`; about once a second `History.tick` takes the difference since the last tick.
"""

from array import array
from collections import deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Self, TypeVar

import msgspec

from gateway.http.exchange import is_own
from gateway.observe.counters import RequestLabels, Requests
from gateway.observe.histogram import BOUNDS_S, Calls, Durations, quantile_s

KEPT_S: Final = 600
STEP_S: Final = 5
_STEPS: Final = 12  # of the last minute; the newest one is under way
# A row: how many requests lie in each bucket of BOUNDS_S, how many failed, how many milliseconds were counted.
_BUCKETS: Final = len(BOUNDS_S) + 1
_FAILED, _COUNTED_MS, _WIDTH = _BUCKETS, _BUCKETS + 1, _BUCKETS + 2
_SERVER_ERROR: Final = 5  # a class of statuses


@dataclass(slots=True)
class Asked(Durations):
    """The requests of one route; those with 5xx count as failed."""

    failed: int = 0

    def add(self, other: Self) -> None:
        Durations.add(self, other)
        self.failed += other.failed


class Seconds(msgspec.Struct, array_like=True):
    """A row for each of the last KEPT_S seconds, in a ring: second `s` has row `s % KEPT_S`."""

    until_s: int = 0  # since the epoch; 0: nothing yet
    rows: bytes = b""


class Second(NamedTuple):
    """One second of all workers: rates, and the times of half and of 99 % of requests."""

    at_s: int
    requests: float
    failed: float
    half_s: float | None
    tail_s: float | None


_Key = TypeVar("_Key", bound=Hashable)
_Sums = TypeVar("_Sums", Asked, Calls)


class _Minute(Generic[_Key, _Sums]):
    """Sums of the last minute by key: each step is added as it comes, and subtracted when it is a minute old."""

    def __init__(self, kind: type[_Sums]) -> None:
        self._kind: type[_Sums] = kind
        self._steps: deque[tuple[int, dict[_Key, _Sums]]] = deque()

    def add(self, step: int, key: _Key, new: _Sums) -> None:
        if not self._steps or self._steps[-1][0] < step:
            self._steps.append((step, {}))
        self._steps[-1][1].setdefault(key, self._kind()).add(new)

    def sums(self, step: int) -> dict[_Key, _Sums]:
        """The sums of the minute up to this step, including it."""
        while self._steps and self._steps[0][0] <= step - _STEPS:
            self._steps.popleft()
        found: dict[_Key, _Sums] = {}
        for _, sums in self._steps:
            for key, one in sums.items():
                found.setdefault(key, self._kind()).add(one)
        return found


class History:
    """The history of one worker. `now_s` is seconds since the epoch; after a clock is set back, it waits."""

    def __init__(self) -> None:
        self._ring = array("I", bytes(4 * KEPT_S * _WIDTH))
        self._until_s = 0
        self._ticked_s = 0.0
        self._requests: dict[RequestLabels, Requests] = {}
        self._calls: dict[tuple[str, str], Calls] = {}
        self._of_routes = _Minute[str, Asked](Asked)
        self._of_calls = _Minute[tuple[str, str], Calls](Calls)

    def tick(
        self, now_s: float, requests: Mapping[RequestLabels, Requests], calls: Mapping[tuple[str, str], Calls]
    ) -> None:
        """Take the counts since the last tick, for the second and the step of `now_s`."""
        second = max(int(now_s), self._until_s)
        row = self._row(second)
        ring, step = self._ring, second // STEP_S
        passed_s = now_s - self._ticked_s if self._ticked_s else 1.0
        ring[row + _COUNTED_MS] += max(1, min(10_000, round(passed_s * 1000)))
        self._ticked_s = now_s
        for labels, one in requests.items():
            seen = self._requests.get(labels)
            if (seen is not None and seen.counts == one.counts) or is_own(labels[0]):
                continue
            new = Asked(_less(one, seen), one.sum_s - (0.0 if seen is None else seen.sum_s))
            new.failed = new.count if labels[2] == _SERVER_ERROR else 0
            for bucket, count in enumerate(new.counts):
                ring[row + bucket] += count
            ring[row + _FAILED] += new.failed
            self._of_routes.add(step, labels[0], new)
            self._requests[labels] = Requests(list(one.counts), one.sum_s)
        for key, call in calls.items():
            known = self._calls.get(key) or Calls()
            if known.counts == call.counts and known.failures == call.failures:
                continue
            failures = {word: count - known.failures.get(word, 0) for word, count in call.failures.items()}
            new_calls = Calls(_less(call, known), call.sum_s - known.sum_s, failures)
            self._of_calls.add(step, key, new_calls)
            self._calls[key] = Calls(list(call.counts), call.sum_s, dict(call.failures))

    def seconds(self) -> Seconds:
        """The rows, for publishing."""
        return Seconds(self._until_s, self._ring.tobytes()) if self._until_s else Seconds()

    def of_routes(self) -> dict[str, Asked]:
        """The last minute of each route with requests."""
        return self._of_routes.sums(self._until_s // STEP_S)

    def of_calls(self) -> dict[tuple[str, str], Calls]:
        """The last minute of each upstream and endpoint with calls."""
        return self._of_calls.sums(self._until_s // STEP_S)

    def _row(self, second: int) -> int:
        """The index of a second's row; the rows of the seconds since the last one are emptied."""
        first = max(self._until_s + 1, second - KEPT_S + 1)
        for one in range(first, second + 1):
            at = one % KEPT_S * _WIDTH
            self._ring[at : at + _WIDTH] = array("I", bytes(4 * _WIDTH))
        self._until_s = second
        return second % KEPT_S * _WIDTH


def _less(one: Durations, seen: Durations | None) -> list[int]:
    return list(one.counts) if seen is None else [new - old for new, old in zip(one.counts, seen.counts, strict=True)]


# -- of several workers -------------------------------------------------------------------------------------------


def merged(several: Iterable[Seconds]) -> Seconds:
    """The sums by second, of the ten minutes until the newest one."""
    rings = [one for one in several if one.until_s]
    if len(rings) < 2:
        return rings[0] if rings else Seconds()
    until_s = max(one.until_s for one in rings)
    total = array("I", bytes(4 * KEPT_S * _WIDTH))
    for one in rings:
        ring = array("I", one.rows)
        for second in range(until_s - KEPT_S + 1, one.until_s + 1):
            at = second % KEPT_S * _WIDTH
            for index in range(at, at + _WIDTH) if ring[at + _COUNTED_MS] else ():
                total[index] += ring[index]
    return Seconds(until_s, total.tobytes())


def by_second(seconds: Seconds, workers: int, since_s: int = 0) -> Iterator[Second]:
    """The figures of each second, the oldest first; seconds without counts are left out.

    `workers` is the number of workers, each of which counts about a second of work in each second.
    """
    ring, first = array("I", seconds.rows), max(since_s, seconds.until_s - KEPT_S + 1)
    for second in range(first, seconds.until_s + 1) if seconds.until_s else ():
        at = second % KEPT_S * _WIDTH
        counts, counted_ms = ring[at : at + _BUCKETS], ring[at + _COUNTED_MS]
        if counted_ms:
            # Workers that began or ended within it counted less; the rate is for the time counted.
            scale = max(1, min(workers, round(counted_ms / 1000))) * 1000 / counted_ms
            half_s, tail_s = quantile_s(counts, BOUNDS_S, 0.5), quantile_s(counts, BOUNDS_S, 0.99)
            yield Second(second, sum(counts) * scale, ring[at + _FAILED] * scale, half_s, tail_s)
