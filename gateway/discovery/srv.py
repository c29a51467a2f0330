"""SRV records and the addresses of their targets, looked up by dnspython.

dnspython reports TTLs, while the system's own resolver does not, and has no SRV. It uses resolv.conf and its search
domains, and asks over TCP if an answer does not fit into a datagram.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.discovery import srv_records
from gateway.discovery.answers import Answer, Away
from gateway.discovery.srv_records import Record
from gateway.upstreams import places

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

LEAST_S: Final = 1.0  # whatever the TTL: some records have 0
_MOST_S: Final = 86_400.0
_LIFETIME_S: Final = 5.0  # for one query, over all name servers


def _resolver() -> "Resolver":
    from dns.asyncresolver import Resolver  # a tenth of a second, only where such records are used

    return Resolver()  # reads resolv.conf, which may have changed


class SrvSource:
    """The SRV records of one name. `resolver` makes the object that asks the name servers."""

    def __init__(self, source: places.Source, resolver: "Callable[[], Resolver]" = _resolver) -> None:
        self._source = source
        self._resolver = resolver
        self._addresses: dict[str, tuple[str, ...]] = {}  # of each target, from its last look-up

    async def ask(self, most_s: float | None) -> Answer:
        import dns.exception

        try:
            resolver = self._resolver()
            resolver.lifetime = _LIFETIME_S
            records, ttl_s = await _records(resolver, self._source.name)
            ttls_s = await self._look_up(resolver, srv_records.targets_of(records))
        except (dns.exception.DNSException, OSError) as error:
            raise Away(f"{type(error).__name__}: {error}"[:300]) from error
        instances = srv_records.instances_of(records, self._addresses, self._source.scheme, self._source.prefix)
        return Answer(instances, min(_MOST_S, max(LEAST_S, min([ttl_s, *ttls_s]))))

    async def _look_up(self, resolver: "Resolver", targets: list[str]) -> list[float]:
        """Find the addresses of the targets, and their TTLs. A target that cannot be looked up keeps its addresses;
        raises Away if that leaves no target with any."""
        found = await asyncio.gather(*(_addresses(resolver, target) for target in targets))
        had, self._addresses = self._addresses, {}
        failure: Away | None = None
        for target, one in zip(targets, found, strict=True):
            if isinstance(one, Away):
                failure, self._addresses[target] = one, had.get(target, ())
            else:
                self._addresses[target] = one[0]
        if failure is not None and not any(self._addresses.values()):
            raise failure
        return [LEAST_S if isinstance(one, Away) else one[1] for one in found]


async def _records(resolver: "Resolver", name: str) -> tuple[list[Record], float]:
    """The records of a name, if it has any, and their TTL. Raises DNSException."""
    import dns.resolver

    try:
        answer = await resolver.resolve(name, "SRV", search=True)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return [], LEAST_S
    records = [
        Record(one.priority, one.weight, one.port, one.target.to_text(omit_final_dot=True).lower().rstrip("."))
        for one in answer
    ]
    return records, float(answer.rrset.ttl if answer.rrset is not None else 0)


async def _addresses(resolver: "Resolver", target: str) -> tuple[tuple[str, ...], float] | Away:
    """The addresses of a target and their TTL, or why it could not be looked up."""
    import dns.exception
    import dns.resolver

    found: list[str] = []
    ttl_s, failure = _MOST_S, None
    for kind in ("A", "AAAA") if _has_ipv6() else ("A",):
        try:
            answer = await resolver.resolve(target + ".", kind)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except (dns.exception.DNSException, OSError) as error:
            failure = Away(f"{target}: {type(error).__name__}: {error}"[:300])
            continue
        found += [one.address for one in answer]
        ttl_s = min(ttl_s, float(answer.rrset.ttl if answer.rrset is not None else 0))
    if failure is not None and not found:
        return failure
    return tuple(sorted(set(found))), ttl_s if found else LEAST_S


def _has_ipv6() -> bool:
    """Whether this machine has a route to IPv6 addresses; sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(("2001:db8::1", 9))
    except OSError:
        return False
    return True
