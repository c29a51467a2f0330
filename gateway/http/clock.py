"""The clock of a worker, for what outlives a request: stored responses, counts of limits, tokens, keys."""

from collections.abc import Callable
from time import monotonic, time
from typing import Final, NamedTuple


class Clock(NamedTuple):
    """Seconds since 1970, and seconds that never go back. The test kit has one that is set by hand."""

    time: Callable[[], float]
    monotonic: Callable[[], float]


SYSTEM_CLOCK: Final = Clock(time, monotonic)
