"""How often the same thing is logged: some lines at once, then one for each pause."""


class TokenBucket:
    """`burst` lines at once, and one more for each `every_s` seconds; `held_back` counts the lines refused since the
    last report.

    It stores only the time at which the bucket would be full again, so that no rounding adds up.
    """

    __slots__ = ("_every_s", "_full_at_s", "_slack_s", "held_back")

    def __init__(self, burst: int, every_s: float) -> None:
        self.held_back = 0
        self._every_s = every_s
        self._slack_s = (burst - 1) * every_s
        self._full_at_s = float("-inf")

    def take(self, now_s: float) -> bool:
        """Whether a line may be written now, which is then counted."""
        if now_s < self._full_at_s - self._slack_s:
            self.held_back += 1
            return False
        self._full_at_s = max(self._full_at_s, now_s) + self._every_s
        return True

    def take_held_back(self) -> int:
        """How many lines were refused since this was last asked, for the line that is written now."""
        held_back, self.held_back = self.held_back, 0
        return held_back


def at_most_every(seconds: float) -> TokenBucket:
    """One line, then none for this many seconds."""
    return TokenBucket(1, seconds)
