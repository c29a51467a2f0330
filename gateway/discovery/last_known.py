"""What is believed of what a source says, and when: pure moves.

A registry that restarts, or whose token has lost its rights, often knows nobody for a moment. The services are still
there. So nothing is believed only when it is said twice, a minute apart, and by a source that had said otherwise.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.upstreams.places import Instance

CONFIRM_S: Final = 60.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class LastKnown:
    """The instances that are believed in; `doubted_since_s` is when their source first said that there are none."""

    instances: tuple[Instance, ...] = ()
    doubted_since_s: float | None = None

    def confirms_in_s(self, now_s: float) -> float | None:
        """How long until nothing would be believed if it is said again; None where nothing was said."""
        return None if self.doubted_since_s is None else max(0.0, self.doubted_since_s + CONFIRM_S - now_s)


def updated(known: LastKnown, found: tuple[Instance, ...], now_s: float) -> LastKnown:
    """After a source has said this."""
    if found or not known.instances:
        return LastKnown(found)
    if known.doubted_since_s is None:
        return replace(known, doubted_since_s=now_s)
    return LastKnown() if now_s - known.doubted_since_s >= CONFIRM_S else known


def pause_s(failures: int) -> float:
    """How long to wait before a source is asked again that could not be asked so many times in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
