"""Sources of instances and the registries that they need: missing ones, and combinations that do not fit."""

from collections.abc import Iterable, Iterator, Sequence

from gateway.config.environment import Entry
from gateway.upstreams.options import FROM, UPSTREAM
from gateway.upstreams.places import Source, parse_places

# The plain variable with the address of the registry of a kind.
_REGISTRIES = {"consul": "CONSUL_URL", "eureka": "EUREKA_URL"}


def faults_of(entries: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
    """Faults, each with the variable to blame."""
    plain = {entry.name.option.name: entry for entry in entries if entry.name.family == "gateway"}
    upstreams = [entry for entry in entries if entry.name.option is UPSTREAM]
    for entry in upstreams:
        for kind in sorted({source.kind for source in _sources(entry)} & _REGISTRIES.keys()):
            if _REGISTRIES[kind] not in plain:
                yield entry, f"{kind}+ asks a registry; set GATEWAY_{_REGISTRIES[kind]} to where it is"
    owners = {entry.name.owner for entry in upstreams}
    for entry in entries:
        if entry.name.option is FROM and entry.name.owner in owners:
            yield entry, f"its instances come from Python or from {entry.name.declaration}; set one of the two"


def _sources(entry: Entry) -> Iterable[Source]:
    try:
        return [place for place in parse_places(entry.text.strip()) if isinstance(place, Source)]
    except ValueError:  # reported by the loader
        return []
