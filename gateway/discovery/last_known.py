"""Which answers of a source are trusted, and when: pure moves.

A registry that restarts, or with a token that has lost its rights, often has an empty list for a moment, although the
services are still there. So an empty list after a full one is trusted only if it comes twice, a minute apart.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.upstreams.places import Instance

CONFIRM_S: Final = 60.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class LastKnown:
    """The trusted instances; `doubted_since_s` is the time of the first empty list after them."""

    instances: tuple[Instance, ...] = ()
    doubted_since_s: float | None = None

    def confirms_in_s(self, now_s: float) -> float | None:
        """How long until a further empty list would be trusted; None if there was none."""
        return None if self.doubted_since_s is None else max(0.0, self.doubted_since_s + CONFIRM_S - now_s)


def updated(known: LastKnown, found: tuple[Instance, ...], now_s: float) -> LastKnown:
    """The state after an answer of the source."""
    if found or not known.instances:
        return LastKnown(found)
    if known.doubted_since_s is None:
        return replace(known, doubted_since_s=now_s)
    return LastKnown() if now_s - known.doubted_since_s >= CONFIRM_S else known


def pause_s(failures: int) -> float:
    """How long to wait before a source is asked again, after `failures` in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 10))
