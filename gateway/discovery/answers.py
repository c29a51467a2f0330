"""What sources answer, and that they cannot be asked."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from gateway import units
from gateway.upstreams.places import Base, Instance

# Entries of one answer that are looked at: each takes 20 us in which nobody else has a turn, and 1,000 are used.
MOST_ENTRIES: Final = 2_000


class Away(Exception):
    """A source could not be asked, or what it said cannot be read; the text says why."""


class Ended(Exception):
    """A source has said all that it ever will."""


class Answer(NamedTuple):
    """The instances that a source knows, and after how long it may be asked again."""

    instances: tuple[Instance, ...]
    again_s: float


class Source(Protocol):
    """Something that can be asked who the instances are."""

    async def ask(self, most_s: float | None) -> Answer:
        """What it knows now, or, where it lets wait for a change, after that; within `most_s` where that is given.

        Raises Away, Ended.
        """


FoundT = TypeVar("FoundT")


def instances_among(found: Sequence[FoundT], made_of: Callable[[FoundT], Instance | None]) -> tuple[Instance, ...]:
    """The instances that entries of a registry are, in a steady order; `made_of` gives None for one that is none.

    One with an address that cannot be one is left out: a single service that registers nonsense keeps nobody else from
    being found. Raises ValueError where that leaves none. Of a list that is too long the first MOST_ENTRIES count.
    """
    instances, fault = set(), None
    for one in found[:MOST_ENTRIES]:
        try:
            instances.add(made_of(one))
        except ValueError as error:
            fault = error
    instances.discard(None)
    if fault is not None and not instances:
        raise fault
    return tuple(sorted(filter(None, instances), key=lambda one: str(one.base)))


def instance_at(scheme: str, host: str, port: int, prefix: str, weight: float | None = None) -> Instance:
    """An instance at an address or name that somebody else gives. Raises ValueError for what cannot be one."""
    shown = f"[{host}]" if ":" in host else host
    parts = units.base_url(f"{scheme}://{shown}:{port}")
    if parts[2] != port or parts[3]:  # a slash in it: what follows would be a path
        raise ValueError("expected the host of an instance, a name or an address")
    return Instance(Base(*parts[:3], prefix), weight=weight)
