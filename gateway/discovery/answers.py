"""Answers of sources, and their failures."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol, TypeVar

from gateway import units
from gateway.upstreams.places import Base, Instance

# The most entries of an answer that are read: each blocks the loop for 20 us, and 1,000 are used.
MOST_ENTRIES: Final = 2_000


class Away(Exception):
    """A source could not be asked, or its answer cannot be read; the text says why."""


class Ended(Exception):
    """A source has ended: it gives no more lists."""


class Answer(NamedTuple):
    """The instances that a source knows, and after how long it may be asked again."""

    instances: tuple[Instance, ...]
    again_s: float


class Source(Protocol):
    """A source of instances."""

    async def ask(self, most_s: float | None) -> Answer:
        """The current instances; a source that supports waiting answers after a change, within `most_s` if given.

        Raises Away, Ended.
        """


FoundT = TypeVar("FoundT")


def instances_among(found: Sequence[FoundT], made_of: Callable[[FoundT], Instance | None]) -> tuple[Instance, ...]:
    """The instances from entries of a registry, in a steady order; `made_of` returns None for an entry without one.

    One with an invalid address is left out: a single instance that registers nonsense must not hide the others. Raises
    ValueError if that leaves none. Of a list that is too long the first MOST_ENTRIES count.
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
    """An instance at an address or name from outside. Raises ValueError for an invalid one."""
    shown = f"[{host}]" if ":" in host else host
    parts = units.base_url(f"{scheme}://{shown}:{port}")
    if parts[2] != port or parts[3]:  # a slash in it would begin a path
        raise ValueError("expected the host of an instance, a name or an address")
    return Instance(Base(*parts[:3], prefix), weight=weight)
