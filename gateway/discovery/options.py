"""The options of registries: their addresses."""

import re
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import unquote

from gateway import units
from gateway.options import Option, Unit
from gateway.upstreams.places import Base

_URL = re.compile(r"(https?://)(?:([^/?#@]*)@)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Registry:
    """The servers of one registry, which are equivalent, and the value of Authorization there."""

    bases: tuple[Base, ...]
    authorization: str = field(default="", repr=False)


def registry(text: str) -> Registry:
    """`http://eureka-1:8761/eureka,http://eureka-2:8761/eureka`, perhaps with `user:password@`. Raises ValueError."""
    found = units.items_of(text, _server)
    if len({authorization for _, authorization in found}) > 1:
        raise ValueError("the servers of a registry take the same user and password")
    return Registry(tuple(base for base, _ in found), found[0][1])


def one_server(text: str) -> Registry:
    """As `registry`, with one server. Raises ValueError."""
    found = registry(text)
    if len(found.bases) > 1:
        raise ValueError("expected one URL, that of an agent or of what stands before several servers")
    return found


def _server(text: str) -> tuple[Base, str]:
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("expected a URL that begins with http:// or https://, such as http://consul:8500")
    base = Base(*units.base_url(match[1] + match[3]))
    if match[2] is None:
        return base, ""
    return base, "Basic " + b64encode(unquote(match[2]).encode()).decode("ascii")


# fmt: off
PLAIN: tuple[Option, ...] = (
    Option("gateway", "CONSUL_URL", Unit("URL", one_server, mask=units.mask_url), "", "http://consul:8500",
           "The Consul agent or server to look up `consul+http://` upstreams in."),
    Option("gateway", "CONSUL_TOKEN", Unit("secret", units.printable, mask=units.mask_all), "", "",
           "The token for Consul; it must be allowed to read services."),
    Option("gateway", "EUREKA_URL", Unit("list of URLs", registry, mask=units.mask_url), "",
           "http://eureka:8761/eureka", "The Eureka servers to look up `eureka+http://` upstreams in."),
)
# fmt: on
