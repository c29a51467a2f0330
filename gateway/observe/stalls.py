"""A blocked event loop: the line of code that blocked it, and how that is logged. Pure decisions."""

import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

# The folders of Python's own code and of the gateway's.
LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")), str(Path(__file__).parents[1]))
Frame = tuple[str, int, str]  # the file's path, the line, the function's name
Stack = tuple[Frame, ...]  # the innermost first

_MOST_OWN, _MOST_OTHERS = 8, 4


def is_own(path: str, libraries: Sequence[str]) -> bool:
    """Whether a file belongs to the team: not to Python, not installed, not the gateway's."""
    installed = "/site-packages/" in path or "/dist-packages/" in path
    return not installed and not path.startswith(("<frozen", *libraries))


def shown(stack: Stack, libraries: Sequence[str]) -> list[str]:
    """The frames of a stack, innermost first, the team's own code before what it called: `team/routes.py:12 report`."""
    own = [frame for frame in stack if is_own(frame[0], libraries)]
    others = [frame for frame in stack if frame not in own]
    return [f"{path}:{line} {name}" for path, line, name in (*own[:_MOST_OWN], *others[:_MOST_OTHERS])]


def longest(samples: Iterable[tuple[Stack, float]]) -> Stack:
    """The stack that was seen for the longest time; `samples` are stacks and seconds."""
    seconds: dict[Stack, float] = {}
    for stack, seen_s in samples:
        seconds[stack] = seconds.get(stack, 0.0) + seen_s
    return max(seconds, key=lambda stack: seconds[stack], default=())
