"""The clock of a gateway in a test, which runs by itself and can be set forward."""

from gateway import units
from gateway.http.clock import SYSTEM_CLOCK, Clock


class HandClock:
    """`tick("60s")`: stored responses get older, counts of limits fall, tokens expire, keys are fetched again.

    Time limits, retries, delays and pauses of endpoints use real time.
    """

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def tick(self, duration: str) -> None:
        """Set it forward. Raises ValueError for anything but a duration with its unit."""
        if not isinstance(duration, str):
            raise ValueError(f"tick({duration!r}): write the time with its unit, as in tick('60s')")
        self._ahead_s += units.duration(duration)

    def clock(self) -> Clock:
        """This clock for a worker."""
        return Clock(
            lambda: SYSTEM_CLOCK.time() + self._ahead_s,
            lambda: SYSTEM_CLOCK.monotonic() + self._ahead_s,
        )
