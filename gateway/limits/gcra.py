"""GCRA, the generic cell rate algorithm (ITU-T I.371, annex A): the decision of every limit.

One number is kept per key: the time at which its whole burst would be free again. A request that passes moves it on by
one interval for each unit that it costs. There is no edge of a window at which twice the rate passes, and the waiting
time of a refused request is exact.

Here the number is relative to now: `ahead_s` is how far it is in the future, 0 where all is free. In any span of time
at most `burst + rate x time` units pass.
"""

from dataclasses import dataclass, field
from math import ceil

# Sums of intervals are not exact floats: a request that is early by less than this is not early.
EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """`units` in `window_s` seconds on average, `burst` of them at once.

    `interval_s` is how long one unit takes to become free again, `tolerance_s` how far ahead of now a key may be.
    """

    units: int
    window_s: float
    burst: int
    interval_s: float = field(init=False, compare=False, repr=False)
    tolerance_s: float = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval_s", self.window_s / self.units)
        object.__setattr__(self, "tolerance_s", self.burst * self.window_s / self.units)


def bounded(ahead_s: float, tolerance_s: float) -> float:
    """A stored number within its bounds: not below zero, not above a full burst.

    No decision leaves more. A larger number was stored under another rate, before a clock went back, or by a process
    that was killed while it wrote: then a key waits for its burst at most, not for ever. NaN counts as zero.
    """
    if not ahead_s > 0.0:
        return 0.0
    return min(tolerance_s, ahead_s)  # `min` takes twice as long


def after(ahead_s: float, interval_s: float, tolerance_s: float, cost: int) -> float | None:
    """The number to store once `cost` units have passed; None if they may not pass now. `ahead_s` is bounded."""
    new_s = ahead_s + cost * interval_s
    return new_s if new_s <= tolerance_s + EPSILON_S else None


def wait_s(ahead_s: float, rate: Rate, cost: int) -> float:
    """How long until `cost` units may pass, if no others pass before: 0 if they may pass now.

    More than the burst never pass: for those, the time until all of it is free.
    """
    wanted_s = min(cost, rate.burst) * rate.interval_s
    return max(0.0, ahead_s + wanted_s - rate.tolerance_s)


def left(ahead_s: float, rate: Rate) -> int:
    """How many units may pass now."""
    free_s = rate.tolerance_s - ahead_s + EPSILON_S
    return int(free_s / rate.interval_s) if free_s > 0.0 else 0


def reset_s(ahead_s: float, rate: Rate) -> int:
    """Whole seconds until the next unit is free where none is left, else until all are; rounded up."""
    if left(ahead_s, rate):
        return ceil(ahead_s - EPSILON_S)
    return max(1, ceil(wait_s(ahead_s, rate, 1) - EPSILON_S))


def retry_after_s(seconds: float) -> int:
    """The value of Retry-After: whole seconds, rounded up, at least one."""
    return max(1, ceil(seconds - EPSILON_S))
