"""Response fields of limits: RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers), Retry-After."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import ceil

from gateway.http.headers import Pair
from gateway.limits.gcra import EPSILON_S, Rate, left, reset_s


def sf_string(text: str) -> str:
    """A name as a String of RFC 9651, section 3.3.3: ASCII that prints, quoted."""
    printable = "".join(one if " " <= one <= "~" else "?" for one in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"') + '"'


def policy_field(policies: Iterable[tuple[str, Rate]]) -> Pair:
    """Every limit that applies: `"api";q=100;w=60`. A window shorter than a second is shown as one."""
    items = [f"{sf_string(name)};q={rate.units};w={max(1, ceil(rate.window_s))}" for name, rate in policies]
    return b"ratelimit-policy", ", ".join(items).encode("ascii")


def least(states: Sequence[tuple[str, Rate, float]]) -> tuple[str, Rate, float]:
    """Of (name, rate, ahead_s) the one with the least left; of two equal ones the one that takes longer."""
    return min(states, key=lambda one: (left(one[2], one[1]), -one[2]))


@lru_cache(maxsize=4096)
def _state(name: str, units: int, seconds: int) -> Pair:
    return b"ratelimit", f"{sf_string(name)};r={units};t={seconds}".encode("ascii")


def state_field(name: str, rate: Rate, ahead_s: float, reset: int | None = None) -> Pair:
    """The rest of one limit: `"api";r=42;t=13`. `reset` is Retry-After, where the request was refused."""
    units = left(ahead_s, rate)
    if reset is None:  # as `reset_s`, without computing `left` again
        reset = ceil(ahead_s - EPSILON_S) if units else reset_s(ahead_s, rate)
    return _state(name, units, reset)
