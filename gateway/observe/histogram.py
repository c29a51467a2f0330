"""The distribution of values: how many of them lie below each of some bounds, and their sum."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)  # every request counts in one: a msgspec.Struct costs 0.1 us more
class Histogram:
    """`counts[i]` values are at most `BOUNDS_S[i]` seconds and above the bound before; the last are above all bounds.

    A subclass has the bounds, so that histograms with other bounds are never added to it.
    """

    BOUNDS_S: ClassVar[tuple[float, ...]] = ()

    counts: list[int] = field(default_factory=list)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.BOUNDS_S) + 1)

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def add(self, other: Self) -> None:
        """Add the values of another one."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def quantile_s(self, share: float) -> float | None:
        """The quantile for this share of the values, interpolated between two bounds; None without values."""
        return quantile_s(self.counts, self.BOUNDS_S, share)

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with how many values are at most that, as Prometheus counts."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self.BOUNDS_S, float("inf")), self.counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return found


def quantile_s(counts: Sequence[int], bounds_s: Sequence[float], share: float) -> float | None:
    """`Histogram.quantile_s` of bare counts: linear within a bucket, and the last bound for values above all bounds."""
    total, seen, low_s = sum(counts), 0, 0.0
    if not total:
        return None
    wanted = share * total
    for count, bound_s in zip(counts, bounds_s, strict=False):
        if count and seen + count >= wanted:
            return low_s + (bound_s - low_s) * (wanted - seen) / count
        seen, low_s = seen + count, bound_s
    return low_s


@dataclass(slots=True)
class Durations(Histogram):
    """Times of requests and of parts of fan-outs."""

    BOUNDS_S: ClassVar[tuple[float, ...]] = BOUNDS_S


@dataclass(slots=True)
class Stalls(Histogram):
    """How long the event loop was blocked."""

    BOUNDS_S: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(slots=True)
class Calls(Durations):
    """Times of attempts at one endpoint until the head of the answer; and how many failed, by reason.

    A reason is a word of `errors`, or the status of an answer from 500 on. Times are seconds since the epoch.
    """

    failures: dict[str, int] = field(default_factory=dict)
    last_failure: str = ""
    last_failure_s: float = 0.0

    def failed(self, reason: str, now_s: float) -> None:
        """Count one failure."""
        self.failures[reason] = self.failures.get(reason, 0) + 1
        self.last_failure, self.last_failure_s = reason, now_s

    def add(self, other: Self) -> None:
        Durations.add(self, other)
        for reason, count in other.failures.items():
            self.failures[reason] = self.failures.get(reason, 0) + count
        if other.last_failure_s > self.last_failure_s:
            self.last_failure, self.last_failure_s = other.last_failure, other.last_failure_s
