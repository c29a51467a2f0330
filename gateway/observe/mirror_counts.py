"""Counts of copies of requests, in one worker."""

from gateway.observe.histogram import Durations

# Route, the copy's upstream, the class of the answer's status (`2xx`), and the class or failure of the copy's.
MirrorLabels = tuple[str, str, str, str]


class MirrorCounts:
    """Counts by labels, for the metrics and the status page."""

    def __init__(self) -> None:
        self.requests: dict[MirrorLabels, int] = {}
        self.skips: dict[tuple[str, str, str], int] = {}  # by route, upstream and reason
        # By route, upstream of the copy, and `answer` or `mirror`.
        self.durations: dict[tuple[str, str, str], Durations] = {}

    def sent(self, key: MirrorLabels, *, answer_s: float, mirror_s: float) -> None:
        """A copy has ended; the times are those until the heads of both answers."""
        route, mirror, _, _ = key
        self.requests[key] = self.requests.get(key, 0) + 1
        for whose, seconds in (("answer", answer_s), ("mirror", mirror_s)):
            durations = self.durations.get((route, mirror, whose))
            if durations is None:
                durations = self.durations[route, mirror, whose] = Durations()
            durations.observe(seconds)

    def skipped(self, route: str, mirror: str, why: str) -> None:
        """No copy was made: too many are under way (`full`), or the body is too large or not whole (`body`)."""
        key = (route, mirror, why)
        self.skips[key] = self.skips.get(key, 0) + 1
