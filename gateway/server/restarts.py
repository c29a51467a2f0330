"""When a worker that died is started again, and when a silent one counts as hung."""

from dataclasses import dataclass
from typing import Final

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
# A worker that lived for this long has recovered: its next death counts as the first.
RECOVERED_S: Final = 10.0


def deaths_in_a_row(before: int, lived_s: float) -> int:
    """The number of deaths in a row with this one, of a worker that lived for `lived_s`."""
    return 1 if lived_s >= RECOVERED_S else before + 1


def pause_s(deaths: int) -> float:
    """How long to wait before the next start, after `deaths` in a row, at least one."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(deaths - 1, 16))


def is_hopeless(failed_starts: int, workers: int) -> bool:
    """Whether to give up, if no worker has ever been ready: each had its try, and one had a second one."""
    return failed_starts > workers


@dataclass(frozen=True, slots=True)
class Silence:
    """The last sign of life of a worker, a number that changes with each one, and how long it has not changed."""

    beats: int = 0
    seconds: float = 0.0


def listened(silence: Silence, beats: int, passed_s: float, every_s: float) -> Silence:
    """After one more check, `passed_s` after the one before; one is due every `every_s`.

    A late check means that the process that checks was held up itself: stopped, suspended with the machine, starved.
    The worker may have been held up in the same way, so that time does not count against it.
    """
    if beats != silence.beats:
        return Silence(beats)
    return Silence(beats, silence.seconds + min(passed_s, 2 * every_s))
