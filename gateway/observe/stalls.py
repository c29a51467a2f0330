"""A blocked event loop, decided: whose line it was, and how often it happened."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

Frame = tuple[str, int, str]  # the file's path, the line, the function's name
Stack = tuple[Frame, ...]  # the innermost first

_MOST_OWN, _MOST_OTHERS = 8, 4


class Histogram:
    """How long stalls were: `counts[i]` of at most `BOUNDS_S[i]` seconds and above the bound before; the last is above
    all."""

    BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

    def __init__(self) -> None:
        self.counts = [0] * (len(self.BOUNDS_S) + 1)
        self.sum_s = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


def is_own(path: str, libraries: Sequence[str]) -> bool:
    """Whether a file is a team's own: neither Python's, nor installed, nor the gateway's."""
    installed = "/site-packages/" in path or "/dist-packages/" in path
    return not installed and not path.startswith(("<frozen", *libraries))


def shown(stack: Stack, libraries: Sequence[str]) -> list[str]:
    """The frames of a stack, innermost first, one's own code before what it called: `team/routes.py:12 report`."""
    own = [frame for frame in stack if is_own(frame[0], libraries)]
    others = [frame for frame in stack if frame not in own]
    return [f"{path}:{line} {name}" for path, line, name in (*own[:_MOST_OWN], *others[:_MOST_OTHERS])]


def longest(samples: Iterable[tuple[Stack, float]]) -> Stack:
    """The stack that was seen for the longest time; `samples` are stacks and seconds."""
    seconds: dict[Stack, float] = {}
    for stack, seen_s in samples:
        seconds[stack] = seconds.get(stack, 0.0) + seen_s
    return max(seconds, key=lambda stack: seconds[stack], default=())
