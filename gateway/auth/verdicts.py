"""Recent successes, so that most requests need no second check.

A token is kept as it came, anything else as a digest: no password is kept here.

Only successes are kept: a bad credential costs a full check each time.
"""

from hashlib import blake2b

from gateway.auth.rules import Outcome

MOST = 10_000
LONGEST_S = 60.0


def digest(*parts: bytes) -> bytes:
    """The digest of a credential, or of several values that were sent together."""
    if len(parts) == 1:
        return blake2b(parts[0], digest_size=16).digest()
    whole = b"".join(b"%d:" % len(part) + part for part in parts)
    return blake2b(whole, digest_size=16).digest()


class Verdicts:
    """Outcomes by digest, each until its time; if there are too many, the oldest are dropped."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._kept: dict[bytes, tuple[float, Outcome]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: bytes, now_s: float) -> Outcome | None:
        found = self._kept.get(name)
        if found is None:
            return None
        if found[0] > now_s:
            return found[1]
        del self._kept[name]
        return None

    def put(self, name: bytes, outcome: Outcome, until_s: float) -> None:
        self._kept.pop(name, None)
        if len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = (until_s, outcome)

    def clear(self) -> None:
        self._kept.clear()
