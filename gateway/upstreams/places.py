"""Where a service is, as a variable names it: base URLs, and sources that know its instances.

    http://users:8000/v2               a base URL; `;weight=95` behind it is its share of the requests
    srv+http://_http._tcp.school.test  SRV records of DNS (RFC 2782) name its instances
    consul+http://school?tag=v2        the healthy instances of a service of Consul
    eureka+https://VETS-SERVICE        the instances of an application of Eureka that are UP

The scheme after a source's `+` is spoken with the instances, below the path after the source's name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from gateway import units

MOST_WEIGHT: Final = 1_000_000

_WEIGHT = re.compile(r"(.*);weight=([^;/?]*)", re.DOTALL)
_SOURCE = re.compile(r"(srv|consul|eureka)\+(https?)://([^/?#;]*)([^?#]*)(?:\?([^#]*))?", re.IGNORECASE | re.DOTALL)
_KINDS = re.compile(r"([a-z]+)\+[a-z]+://.*", re.IGNORECASE | re.DOTALL)
_SERVICE = re.compile(r"[A-Za-z0-9_.-]+")
_TAG = re.compile(r"tag=([A-Za-z0-9_.~:%@!$'()*+-]+)")
_EXAMPLES = {
    "srv": "srv+http://_http._tcp.school.test",
    "consul": "consul+http://school?tag=v2",
    "eureka": "eureka+http://VETS-SERVICE",
}


@dataclass(frozen=True, slots=True)
class Base:
    """One base URL: the host without brackets, the prefix raw and without a trailing slash ('' if there is none).

    `weight` is its share of the requests, relative to the others; None where no shares are given.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    weight: int | None = None

    @property
    def authority(self) -> str:
        """The value of Host: `users:8000`, `[::1]:8000`; the scheme's own port is left out."""
        return units.authority_of(self.scheme, self.host, self.port)

    @property
    def origin(self) -> str:
        """`http://users:8000`."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.prefix


@dataclass(frozen=True, slots=True)
class Source:
    """Something that knows the instances of a service: `kind` is srv, consul, eureka, or python (`name`: a function).

    `scheme` is what is spoken with the instances, below `prefix`; a Python source gives whole base URLs.
    """

    kind: str
    scheme: str
    name: str
    prefix: str = ""
    tags: tuple[str, ...] = ()
    weight: int | None = None

    def __str__(self) -> str:
        if self.kind == "python":
            return f"{self.name}()"
        tags = "&".join(f"tag={tag}" for tag in self.tags)
        return f"{self.kind}+{self.scheme}://{self.name}{self.prefix}" + (f"?{tags}" if tags else "")


Place = Base | Source


class Instance(NamedTuple):
    """One instance as its source describes it; without addresses the host of its base is looked up.

    `weight` is relative to the other instances of the source (None: all equal). Those with the least `priority` are
    asked first, the others only where none of the first can be asked.
    """

    base: Base
    addresses: tuple[str, ...] = ()
    weight: float | None = None
    priority: int = 0


def parse_places(text: str) -> tuple[Place, ...]:
    """A list of base URLs and sources, with or without weights. Raises ValueError."""
    places = units.items_of(text, parse_place)
    weights = [place.weight for place in places]
    if None in weights and any(weight is not None for weight in weights):
        number = weights.index(None) + 1
        raise ValueError(f"item {number} of {len(places)} has no weight; give one to each, such as ;weight=95, or none")
    if not any(weight is None or weight for weight in weights):
        raise ValueError("every weight is 0, so nobody would be asked; one must be above")
    return places


def parse_place(text: str) -> Place:
    """One base URL or source. Raises ValueError."""
    weighted = _WEIGHT.fullmatch(text)
    if weighted is None:
        return _place(text)
    try:
        weight = units.whole(weighted[2], most=MOST_WEIGHT)
    except ValueError as error:
        raise ValueError(f"{error} as its weight, such as ;weight=95; 0 drains") from None
    return replace(_place(weighted[1]), weight=weight)


def _place(text: str) -> Place:
    match = _SOURCE.fullmatch(text)
    if match is not None:
        return _source(match)
    if kind := _KINDS.fullmatch(text):
        examples = ", ".join(_EXAMPLES.values())
        raise ValueError(f"there is no source {kind[1]}+; there are {examples}")
    return Base(*units.base_url(text))


def _source(match: re.Match[str]) -> Source:
    kind, scheme, name, path, query = match[1].lower(), match[2].lower(), match[3], match[4], match[5]
    example = _EXAMPLES[kind]
    # Any host will do here: the path is checked like that of a base URL.
    prefix = units.base_url(f"{scheme}://instance{path}")[3]
    tags: tuple[str, ...] = ()
    if query is not None:
        found = [_TAG.fullmatch(word) for word in query.split("&")]
        if kind != "consul" or not all(found):
            raise ValueError("behind the ? of consul+ stand tags: ?tag=v2, or ?tag=v2&tag=eu; others have no query")
        tags = tuple(one[1] for one in found if one is not None)
    if "@" in name:
        raise ValueError("a source holds no user or password; the registry's stand in its own variables")
    if kind == "srv":
        return Source(kind, scheme, _dns_name(name, example), prefix)
    if not _SERVICE.fullmatch(name):
        raise ValueError(f"expected the name of a service, as in {example}; the registry knows hosts and ports")
    return Source(kind, scheme, name, prefix, tags)


def _dns_name(text: str, example: str) -> str:
    if ":" in text:
        raise ValueError(f"the records know the ports; expected their name alone, as in {example}")
    try:
        return units.host_name(text)
    except ValueError:
        raise ValueError(f"expected the name of SRV records, as in {example}") from None


def mask_places(text: str) -> str:
    """The variable's text as it may be shown, with the tags of Consul, unless an item in it is no place."""
    try:
        parse_places(text)
    except ValueError:
        return units.mask_url(text)
    return text


def texts_of(places: Sequence[Place]) -> list[str]:
    """The texts for logs and tables: each place, and its share where weights are given."""
    total = sum(place.weight or 0 for place in places)
    shares = [f"{100 * place.weight / total:.3g}%" if place.weight is not None and total else "" for place in places]
    return [f"{place} ({share})" if share else str(place) for place, share in zip(places, shares, strict=True)]
