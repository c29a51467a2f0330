"""SRV records become instances (RFC 2782): ports, priorities, weights, each target at all of its addresses."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway import units
from gateway.upstreams.places import Base, Instance


class Record(NamedTuple):
    """One SRV record; the target is in lower case, without its last dot: empty where there is no such service."""

    priority: int
    weight: int
    port: int
    target: str


def targets_of(records: Sequence[Record]) -> list[str]:
    """The target names of the records, each once."""
    return list(dict.fromkeys(one.target for one in records if _is_usable(one)))


def _is_usable(one: Record) -> bool:
    """Whether there is a port, and a target that is a host name: DNS allows any bytes, which would be sent in Host."""
    try:
        units.host_name(one.target)
    except ValueError:
        return False
    return one.port > 0


def instances_of(
    records: Sequence[Record], addresses: Mapping[str, Sequence[str]], scheme: str, prefix: str
) -> tuple[Instance, ...]:
    """The instances, in a steady order; a target without an address is left out."""
    usable = [one for one in sorted(set(records)) if _is_usable(one) and addresses.get(one.target)]
    weights = dict(zip(usable, _weights(usable), strict=True))
    return tuple(
        Instance(
            Base(scheme, one.target, one.port, prefix),
            (address,),
            weights[one] / len(addresses[one.target]),
            one.priority,
        )
        for one in usable
        for address in sorted(addresses[one.target])
    )


def _weights(records: Sequence[Record]) -> list[float]:
    """Each record's weight relative to the others of its priority.

    "Records with weight 0 should have a very small chance of being selected": together they get a weight of 1. Where
    all have 0, they are equal.
    """
    zeros = Counter(one.priority for one in records if not one.weight)
    return [float(one.weight) if one.weight else 1 / zeros[one.priority] for one in records]
