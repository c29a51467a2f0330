"""The limits of a route: each rate is a policy with a name of its own, a key and a number.

The name is used in RateLimit fields and in Valkey, the number in shared memory. A limit of one rate gives its name to
its policy; one of several rates adds the window: `api/1m`, `api/1h`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from gateway.limits.gcra import Rate
from gateway.limits.grammar import (
    CLIENT,
    HOST,
    PATH,
    ROUTE,
    Group,
    Key,
    Limits,
    NamedLimit,
    text_of_key,
    text_of_rate,
    window_text,
)
from gateway.options import Level

LOCAL, OPEN, CLOSED = "local", "open", "closed"


@dataclass(frozen=True, slots=True)
class Policy:
    """One rate, counted for each value of a key. `limit` is its name in the metric."""

    name: str
    limit: str
    rate: Rate
    key: Key
    on_failure: str
    number: int

    @property
    def is_before_auth(self) -> bool:
        """Whether it is decided before authentication: it counts addresses or hosts."""
        kinds = {part.kind for part in self.key}
        return kinds <= {CLIENT, HOST, ROUTE} and not kinds <= {ROUTE}

    def __hash__(self) -> int:
        return hash((self.number, self.name))

    def __str__(self) -> str:
        return f"{self.name}: {text_of_rate(self.rate)} by {text_of_key(self.key)}"


class Policies:
    """All policies of a gateway. Made before the workers are forked, so that each has the same numbers in all."""

    def __init__(self, named: Mapping[str, NamedLimit], on_failure: str = LOCAL) -> None:
        self.limits = named
        self._on_failure = on_failure
        self._numbers: dict[tuple[str, Rate, Key], Policy] = {}
        self.named = {
            name: self._made(name, limit.groups, limit.on_failure or on_failure) for name, limit in named.items()
        }

    def __iter__(self) -> Iterator[Policy]:
        return iter(self._numbers.values())

    def __len__(self) -> int:
        return len(self._numbers)

    def of_route(self, limits: Limits, route: str) -> tuple[Policy, ...]:
        """The policies of a route, from names and written limits. Raises KeyError for an unknown name."""
        written = tuple(item for item in limits if isinstance(item, Group))
        found = [policy for item in limits if isinstance(item, str) for policy in self.named[item]]
        return tuple(dict.fromkeys([*found, *self._made(route, written, self._on_failure)]))

    def _made(self, limit: str, groups: Iterable[Group], on_failure: str) -> tuple[Policy, ...]:
        rates = [(rate, group.key) for group in groups for rate in group.rates]
        return tuple(self._numbered(_name(limit, one, rates), limit, *one, on_failure) for one in dict.fromkeys(rates))

    def _numbered(self, name: str, limit: str, rate: Rate, key: Key, on_failure: str) -> Policy:
        known = self._numbers.get((name, rate, key))
        if known is None:
            known = Policy(name, limit, rate, key, on_failure, self._number(name, rate, key))
            self._numbers[name, rate, key] = known
        return known

    def _number(self, name: str, rate: Rate, key: Key) -> int:
        """16 bits that stay the same through a reload, as do the counts stored by them."""
        taken = {policy.number for policy in self._numbers.values()}
        number = crc32(f"{name} {text_of_rate(rate)} {text_of_key(key)}".encode()) & 0xFFFF
        while number in taken or not number:
            number = (number + 1) & 0xFFFF
        return number


def _name(limit: str, one: tuple[Rate, Key], rates: list[tuple[Rate, Key]]) -> str:
    """The limit's name, with enough added to tell this rate from its others."""
    rate, key = one
    if len(rates) == 1:
        return limit
    window = window_text(rate.window_s)
    like = [other for other in rates if other[0].window_s == rate.window_s and other != one]
    if not like:
        return f"{limit}/{window}"
    if all(other[1] != key for other in like):
        return f"{limit}/{window}/{text_of_key(key)}"
    return f"{limit}/{text_of_rate(rate).replace(' ', '-')}/{text_of_key(key)}"


def limit_problems(level: Level, params: Sequence[str], named: Mapping[str, NamedLimit]) -> Iterator[str]:
    """Why the limits of a route can never work: a parameter that its path does not have, a cost beyond a burst."""
    cost: int = level.get("cost", 1)
    where = level.variable("rate_limit")
    for item in level.get("rate_limit", ()):
        if isinstance(item, str) and item not in named:
            continue  # reported elsewhere
        for group in named[item].groups if isinstance(item, str) else (item,):
            for part in group.key:
                if part.kind == PATH and part.name not in params:
                    yield f"{where} counts by {part}, which this path does not have"
            for rate in group.rates:
                if cost > rate.burst:
                    yield f"a request costs {cost}, more than {where} ever lets through at once: {text_of_rate(rate)}"
