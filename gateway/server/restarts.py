"""When a worker that died is started again, and when one that says nothing counts as hung."""

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
# A worker that lived for this long has recovered: its next death is a first one.
RECOVERED_S: Final = 10.0


def deaths_in_a_row(before: int, lived_s: float) -> int:
    """The number of deaths in a row with this one, of a worker that lived for `lived_s`."""
    return 1 if lived_s >= RECOVERED_S else before + 1


def pause_s(deaths: int) -> float:
    """How long to wait before the next start, after so many deaths in a row, at least one."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(deaths - 1, 16))


def is_hopeless(failed_starts: int, workers: int) -> bool:
    """Whether to give up, where no worker has ever been ready: each had its try, and one a second one."""
    return failed_starts > workers


@dataclass(frozen=True, slots=True)
class Silence:
    """The last sign of life of a worker, a number that changes with each, and how long it has been the last."""

    beats: int = 0
    seconds: float = 0.0


def listened(silence: Silence, beats: int, passed_s: float, every_s: float) -> Silence:
    """After one more look, `passed_s` after the one before, where a look every `every_s` was meant.

    A look that comes late means that the listener was held up itself: stopped, suspended with the machine, starved. The
    worker may have been held up just so, and that time does not count against it.
    """
    if beats != silence.beats:
        return Silence(beats)
    return Silence(beats, silence.seconds + min(passed_s, 2 * every_s))
