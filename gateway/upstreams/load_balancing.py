"""Which endpoint answers next: pure choices among candidates, each by name in one table.

A balancer takes the candidates (at least one), the number of the pick, a random number from 0 up to 1, and the
request's key; it returns one candidate and looks at no clock.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Protocol, TypeVar


class Candidate(Protocol):
    """What a choice may know of an endpoint: its name, and how many requests it has in flight."""

    label: str
    in_flight: int


EndpointT = TypeVar("EndpointT", bound=Candidate)


def p2c(candidates: Sequence[EndpointT], turn: int, chance: float, key: bytes) -> EndpointT:
    """The less busy one of two drawn at random (Mitzenmacher, The Power of Two Choices, 2001)."""
    count = len(candidates)
    if count == 1:
        return candidates[0]
    if count == 2:  # as below, at a third of the cost
        one, other = candidates if chance < 0.5 else (candidates[1], candidates[0])
        return one if one.in_flight <= other.in_flight else other
    # One draw among the ordered pairs of different candidates; of equals the first drawn wins.
    first, second = divmod(int(chance * count * (count - 1)), count - 1)
    one, other = candidates[first], candidates[second + (second >= first)]
    return one if one.in_flight <= other.in_flight else other


def round_robin(candidates: Sequence[EndpointT], turn: int, chance: float, key: bytes) -> EndpointT:
    """Each in its turn."""
    return candidates[turn % len(candidates)]


def rendezvous(candidates: Sequence[EndpointT], turn: int, chance: float, key: bytes) -> EndpointT:
    """The same one for the same key; when one joins or goes, only its own keys move (Thaler and Ravishankar, 1998).

    A request without the key is drawn as by `p2c`, so that all of those do not meet at one endpoint.
    """
    if not key:
        return p2c(candidates, turn, chance, key)
    return max(candidates, key=lambda candidate: _weight(key, candidate.label))


def _weight(key: bytes, label: str) -> bytes:
    # Keyed by the endpoint: no separator is needed, since a key of blake2b is never part of the text.
    return blake2b(key, digest_size=8, key=label.encode()[:64]).digest()


Balancer = Callable[[Sequence[EndpointT], int, float, bytes], EndpointT]

BALANCERS: dict[str, Balancer[Any]] = {"p2c": p2c, "round_robin": round_robin, "hash": rendezvous}
