"""How values are distributed: how many of them lie below each of some bounds, and their sum."""

from bisect import bisect_left
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
        """How many values there are."""
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def add(self, other: Self) -> None:
        """Count the values of another one too."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.sum_s += other.sum_s

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with how many values are at most that, as Prometheus counts."""
        found: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self.BOUNDS_S, float("inf")), self.counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(total)))
        return found


@dataclass(slots=True)
class Durations(Histogram):
    """Of requests and of parts of fan-outs."""

    BOUNDS_S: ClassVar[tuple[float, ...]] = BOUNDS_S


@dataclass(slots=True)
class Stalls(Histogram):
    """How long the event loop was blocked."""

    BOUNDS_S: ClassVar[tuple[float, ...]] = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
