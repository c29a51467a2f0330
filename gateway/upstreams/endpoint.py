"""One address that serves an upstream: where it is, and its state, which `pool` changes."""

from bisect import bisect_left
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, Final

from gateway import units
from gateway.observe.histogram import BOUNDS_S, Calls
from gateway.upstreams import outlier_detection
from gateway.upstreams.outlier_detection import EndpointState
from gateway.upstreams.places import Base, Place

MAX_ADDRESSES: Final = 1000
_LOCALHOST = ("127.0.0.1", "::1")


class Endpoint:
    """An address of a base URL. `addresses` are tried in turn for a connection; `label` is its name in logs and hashes.

    `group` is the base URL or the source that it belongs to; `weight` is relative to the others of the group, in which
    the least `priority` is asked first. Times are those of the loop's clock.
    """

    __slots__ = (
        *("addresses", "base", "calls", "group", "health", "host_field", "idle"),
        *("in_flight", "is_gone", "label", "latency_s", "priority", "probed", "url", "weight"),
    )

    def __init__(self, base: Base, addresses: tuple[str, ...], group: Place | None = None) -> None:
        self.base = base
        self.group: Place = base if group is None else group
        self.weight = 1.0
        self.priority = 0
        self.addresses = addresses
        self.label = _label(base, addresses)
        self.url = f"{base.scheme}://{self.label}{base.prefix}"  # its scheme, address and prefix
        self.calls = Calls()  # calls to it; the pool has counts that outlive it
        self.host_field = base.authority.encode("ascii")
        self.in_flight = 0
        self.latency_s: float | None = None  # until the head of an answer: a moving average
        self.health = outlier_detection.HEALTHY
        self.probed = outlier_detection.Probed()
        self.is_gone = False  # no longer in the list: calls in flight end, none begins
        self.idle: list[Any] = []  # the client's kept-alive connections, the last used one last

    @property
    def is_drained(self) -> bool:
        """Whether it gets no new requests: its weight is 0."""
        return self.weight == 0 or self.group.weight == 0

    @property
    def is_in(self) -> bool:
        """Whether requests may go to it without being a trial."""
        return self.probed.up and self.health.state is EndpointState.HEALTHY

    def answered_after(self, seconds: float) -> None:
        """Count the time until the head of an answer."""
        calls = self.calls
        calls.counts[bisect_left(BOUNDS_S, seconds)] += 1
        calls.sum_s += seconds
        self.latency_s = seconds if self.latency_s is None else 0.8 * self.latency_s + 0.2 * seconds

    def __repr__(self) -> str:
        health = self.health
        words = [f"<Endpoint {self.url}", f"in_flight={self.in_flight}"]
        if self.latency_s is not None:
            words.append(f"latency={self.latency_s * 1000:.1f}ms")
        if health.failures:
            words.append(f"failures={health.failures}")
        if health.state is not EndpointState.HEALTHY:
            words.append(f"{health.state.value} until={health.until_s:.1f}")
        words.append("up" if self.probed.up else "down")
        if self.is_drained:
            words.append("drained")
        return " ".join(words) + (" gone>" if self.is_gone else ">")


def _label(base: Base, addresses: tuple[str, ...]) -> str:
    if len(addresses) != 1:
        return base.authority
    return units.authority_of(base.scheme, addresses[0], base.port)


def literal(base: Base) -> tuple[str, ...] | None:
    """The address in a base URL; None where it has a name that must be looked up."""
    try:
        ip_address(base.host)
    except ValueError:
        return None
    return (base.host,)


def grouped(found: Iterable[str]) -> list[tuple[str, ...]]:
    """The addresses of a name -> those of each endpoint, in a steady order.

    Every address is an endpoint, up to MAX_ADDRESSES: each has a state, a probe and rows of the metrics. But
    `localhost` is one machine with two addresses, and a service seldom listens on both.
    """
    addresses = sorted(set(found))[:MAX_ADDRESSES]
    if not set(addresses) >= set(_LOCALHOST):
        return [(address,) for address in addresses]
    return [_LOCALHOST, *((address,) for address in addresses if address not in _LOCALHOST)]
