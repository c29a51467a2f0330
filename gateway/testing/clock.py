"""The clock of a gateway in a test, which goes on by itself, and further by hand."""

from gateway import units
from gateway.http.clock import SYSTEM_CLOCK, Clock


class HandClock:
    """`tick("60s")`: what is stored gets older, counts of limits fall, tokens expire, keys are asked for again.

    Time limits, retries, delays and pauses of endpoints go by the time that really passes.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def tick(self, duration: str) -> None:
        """Set it forward. Raises ValueError for what is no duration with its unit."""
        if not isinstance(duration, str):
            raise ValueError(f"tick({duration!r}): write the time with its unit, as in tick('60s')")
        self._ahead_s += units.duration(duration)

    def clock(self) -> Clock:
        """This clock for a worker."""
        return Clock(
            lambda: SYSTEM_CLOCK.time() + self._ahead_s,
            lambda: SYSTEM_CLOCK.monotonic() + self._ahead_s,
        )
