"""Which endpoint is asked next: pure choices among candidates, and the one table of their names.

A balancer takes the candidates (at least one), the number of the pick, a random number from 0 up to 1, and the
request's key; it returns one candidate and looks at no clock. `Shares` is the balancer for candidates with weights.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from gateway import units


class Group(Protocol):
    """Endpoints that share one weight: those of one base URL, or of one source of instances."""

    @property
    def weight(self) -> int | None:
        """Its share of the requests; None where shares are not given."""


class Candidate(Protocol):
    """An endpoint as far as a choice may look at it: its name, how many requests it has in flight, and its weights."""

    label: str
    in_flight: int
    weight: float  # relative to the others of its group
    priority: int  # the least of a group is asked first

    @property
    def group(self) -> Group:
        """The base URL or source that it belongs to."""


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
    """Each in turn."""
    return candidates[turn % len(candidates)]


def rendezvous(candidates: Sequence[EndpointT], turn: int, chance: float, key: bytes) -> EndpointT:
    """The same endpoint for the same key; when one joins or leaves, only its own keys move (Thaler and Ravishankar,
    1998).

    A request without the key is balanced by `p2c`, so that these requests do not all go to one endpoint.
    """
    if not key:
        return p2c(candidates, turn, chance, key)
    return max(candidates, key=lambda candidate: _score(key, candidate.label))


def _score(key: bytes, label: str) -> bytes:
    # Keyed by the endpoint: no separator is needed, since a key of blake2b is never part of the text.
    return blake2b(key, digest_size=8, key=label.encode()[:64]).digest()


Balancer = Callable[[Sequence[EndpointT], int, float, bytes], EndpointT]


# -- the table ----------------------------------------------------------------------------------------------------


class Method(NamedTuple):
    """A way to choose: its function, how it is written in `__BALANCE`, and the sentence of `explain`."""

    choose: Balancer[Any]
    forms: tuple[str, ...]
    sentence: str  # `{key}` stands for the source of the key


METHODS: dict[str, Method] = {
    "p2c": Method(p2c, ("p2c",), "the less busy of two at random"),
    "round_robin": Method(round_robin, ("round_robin",), "in turn"),
    "hash": Method(rendezvous, ("hash:client", "hash:header:NAME", "hash:cookie:NAME"), "by the {key}"),
    # A client with the cookie is sent where that leads, before any choice.
    "sticky": Method(p2c, ("sticky", "sticky:NAME"), "the one that its cookie {key} leads to, else as by p2c"),
}


class Balance(NamedTuple):
    """`__BALANCE`, parsed: the method, and what its key is: `client`, or a header (in lower case) or cookie by name."""

    method: str
    source: str = ""
    name: str = ""

    @property
    def sentence(self) -> str:
        """The sentence of `explain`."""
        key = f"{self.source} {self.name}".strip() if self.method == "hash" else self.name
        return " ".join(METHODS[self.method].sentence.format(key=key).split())


def balance(text: str) -> Balance:
    """`p2c`, `hash:client`, `hash:header:NAME`, `sticky:NAME` and so on -> Balance. Raises ValueError."""
    word = text.partition(":")[0]
    for method, row in METHODS.items():
        for form in row.forms:
            stem = form.removesuffix("NAME")
            source = "cookie" if method == "sticky" else form.removeprefix(method).strip(":").partition(":")[0]
            if text == form == stem:
                return Balance(method, source)
            if stem != form and text.startswith(stem) and text != stem:
                return Balance(method, source, _name(source, text.removeprefix(stem)))
    if word == "hash":
        raise ValueError(f"hash needs a key: {_alternatives(METHODS[word].forms)}")
    raise ValueError(f"expected {_alternatives([form for row in METHODS.values() for form in row.forms])}")


def _name(source: str, text: str) -> str:
    """The name of a header, in lower case, or of a cookie."""
    if source == "header":
        return units.field_name(text)
    try:
        units.field_name(text)
    except ValueError:
        raise ValueError("expected the name of a cookie, such as sid") from None
    return text


def _alternatives(forms: Sequence[str]) -> str:
    return f"{', '.join(forms[:-1])} or {forms[-1]}"


# -- weights ------------------------------------------------------------------------------------------------------

# An irrational turn: multiples of it fall evenly (Weyl), and independently of the turn's remainders.
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_SILVER: Final = math.sqrt(2) - 1


def have_weights(candidates: Collection[Candidate]) -> bool:
    """Whether a choice among these must use weights."""
    weights = {one.weight for one in candidates}
    return len(weights) > 1 or any(one.group.weight is not None for one in candidates)


class Shares(Generic[EndpointT]):
    """A balancer for one set of candidates with weights.

    A weight of a group is a share of the requests, however many endpoints it has and however busy they are. Within a
    group `p2c` draws two in proportion to their weights, and takes the one with less in flight for its weight.
    """

    def __init__(self, candidates: Sequence[EndpointT], method: str) -> None:
        self._method = method
        groups: dict[Group | None, list[EndpointT]] = {}
        for one in candidates:
            groups.setdefault(one.group if one.group.weight is not None else None, []).append(one)
        self._members = list(groups.values())
        self._names = [str(group) for group in groups]
        self._weights = [1.0 if group is None else float(group.weight or 0) for group in groups]
        self._sums = list(accumulate(self._weights))
        self._within = [list(accumulate(one.weight for one in members)) for members in self._members]

    def __call__(self, candidates: Sequence[EndpointT], turn: int, chance: float, key: bytes) -> EndpointT:
        """One of the candidates that it was made for."""
        by_key = self._method == "hash" and bool(key)
        if by_key:
            number = _by_key(key, self._names, self._weights)
        else:
            where = turn * _GOLDEN % 1 if self._method == "round_robin" else chance
            number, chance = _drawn(self._sums, where)
        members = self._members[number]
        if len(members) == 1:
            return members[0]
        if len({one.weight for one in members}) == 1:
            return METHODS[self._method].choose(members, turn, chance, key)  # type: ignore[no-any-return]  # of any kind
        if by_key:
            return members[_by_key(key, [one.label for one in members], [one.weight for one in members])]
        if self._method == "round_robin":
            return members[_drawn(self._within[number], turn * _SILVER % 1)[0]]
        first, chance = _drawn(self._within[number], chance)
        second, _ = _drawn(self._within[number], chance)
        one, other = members[first], members[second]
        return one if one.in_flight * other.weight <= other.in_flight * one.weight else other


def _drawn(sums: Sequence[float], chance: float) -> tuple[int, float]:
    """The part of the sums that a chance falls into, and its position within that: a chance for the next draw."""
    at = chance * sums[-1]
    number = min(bisect_right(sums, at), len(sums) - 1)
    below = sums[number - 1] if number else 0.0
    return number, min(max((at - below) / (sums[number] - below), 0.0), 1 - 2**-53)


def _by_key(key: bytes, names: Sequence[str], weights: Sequence[float]) -> int:
    """As `rendezvous`, each with its share of the keys (Mosharaf and others, Weighted Rendezvous Hashing)."""

    def rank(number: int) -> float:
        share = (int.from_bytes(_score(key, names[number]), "big") + 0.5) / 2**64
        return -math.log(share) / weights[number]

    return min(range(len(names)), key=rank)


def of_first_priority(candidates: tuple[EndpointT, ...]) -> tuple[EndpointT, ...]:
    """The candidates of the least priority in each group; the others are used where none of these is left."""
    if not any(one.priority for one in candidates):
        return candidates
    least: dict[Group, int] = {}
    for one in candidates:
        least[one.group] = min(one.priority, least.get(one.group, one.priority))
    return tuple(one for one in candidates if one.priority == least[one.group])


def for_retry(untried: Sequence[EndpointT], tried: Collection[EndpointT]) -> list[EndpointT]:
    """The endpoints for a retry: after a failure in a group with a small share, those of groups with a larger share."""
    left = {one.group for one in tried}
    most = max((one.group.weight or 0 for one in untried), default=0)
    small = max((share for group in left if (share := group.weight or 0) < most), default=-1)
    kept = [
        one for one in untried if (share := one.group.weight or 0) >= most or (one.group not in left and share > small)
    ]
    return kept or list(untried)
