"""Sources of instances and the registries that they need: what is missing, and what does not fit together."""

from collections.abc import Iterable, Iterator, Sequence

from gateway.config.environment import Entry
from gateway.upstreams.options import FROM, UPSTREAM
from gateway.upstreams.places import Source, parse_places

# The plain variable that says where the registry of a kind is.
_REGISTRIES = {"consul": "CONSUL_URL", "eureka": "EUREKA_URL"}


def faults_of(entries: Sequence[Entry]) -> Iterator[tuple[Entry, str]]:
    """What is wrong, by the variable that is to blame."""
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
    except ValueError:  # as the loader has found
        return []
