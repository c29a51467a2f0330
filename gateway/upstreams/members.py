"""The endpoints of an upstream now, from its base URLs, name servers and sources of instances."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from gateway.upstreams.endpoint import MAX_ADDRESSES, Endpoint, grouped, literal
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.places import Base, Instance, Place
from gateway.upstreams.records import Upstream
from gateway.upstreams.shortage import is_shortage

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# How soon a name is tried again that has never been looked up with success.
_FIRST_LOOK_UP_S = 1.0

Changed = Callable[[Sequence[Endpoint], Sequence[Endpoint]], None]


class _Owner(NamedTuple):
    """What an endpoint belongs to: a group, and a base URL in it with a host to look up; None where there is none."""

    group: Place
    base: Base | None


class _Found(NamedTuple):
    base: Base
    addresses: tuple[str, ...]
    weight: float
    priority: int


class Members:
    """The endpoints of one upstream. `start` it inside a running loop; `aclose` it there.

    `changed` is called with the endpoints that joined and those that left, once `endpoints` is up to date; with none
    where only weights have changed.
    """

    def __init__(self, upstream: Upstream, changed: Changed, network: Network = SYSTEM_NETWORK) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.shortage: OSError | None = None  # why the last look-up could not be made
        self.known = asyncio.Event()  # every name was looked up once, and every source has answered once, or failed
        self.failures: dict[Place, str] = dict.fromkeys(upstream.sources, "")  # why each cannot be asked; empty if not
        self._upstream = upstream
        self._changed = changed
        self._network = network
        self._owners: dict[Endpoint, _Owner] = {}
        self._named: dict[_Owner, Instance] = {}
        self._tasks: dict[_Owner, asyncio.Task[None]] = {}
        self._awaited: set[_Owner | Place] = set(upstream.sources)
        self._seen: set[_Owner] = set()  # those that have had endpoints
        self._settled: set[Place] = set()  # sources with a known first list: later changes are logged

    def start(self) -> None:
        """Begin to look names up."""
        for base in self._upstream.bases:
            self.set_instances(base, [Instance(base)])
        self._arrived(None)

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def set_instances(self, group: Place, instances: Sequence[Instance]) -> None:
        """Set the instances of a source; those that it had already keep their state."""
        if group in self.failures:
            self.failures[group] = ""
        if self.known.is_set() and group in self.failures:
            self._settled.add(group)
        direct: list[_Found] = []
        named: dict[_Owner, Instance] = {}
        for instance in instances:
            addresses = instance.addresses or literal(instance.base)
            if addresses is None:
                named[_Owner(group, instance.base)] = instance
            else:
                weight = 1.0 if instance.weight is None else instance.weight
                direct.append(_Found(instance.base, addresses, weight, instance.priority))
        self._set(_Owner(group, None), direct)
        for owner in [one for one in self._tasks if one.group == group and one not in named]:
            self._tasks.pop(owner).cancel()
            self._set(owner, [])
            self._arrived(owner)
            del self._named[owner]
            self._seen.discard(owner)
        for owner, instance in named.items():
            known = self._named.get(owner)
            self._named[owner] = instance
            if owner not in self._tasks:
                self._awaited.add(owner)
                self._tasks[owner] = asyncio.create_task(self._keep_looking_up(owner, instance.base), name=self._name)
            elif known != instance:
                addresses_now = [one.addresses for one, of in self._owners.items() if of == owner]
                self._set(owner, _at(instance, addresses_now))
        self._arrived(group)

    def failed(self, group: Place, cause: str) -> None:
        """A source could not be asked: its endpoints stay, and its first answer is no longer waited for."""
        self.failures[group] = cause
        self._arrived(group)

    @property
    def _name(self) -> str:
        return f"portway-dns-{self._upstream.name}"

    def _arrived(self, one: "_Owner | Place | None") -> None:
        self._awaited.discard(one)
        if not self._awaited:
            self.known.set()

    async def _keep_looking_up(self, owner: _Owner, base: Base) -> None:
        failing, known, most = False, False, 0
        while True:
            try:
                found = await self._network.look_up(self._upstream.name, base.host, base.port)
            except OSError as error:  # the known addresses stay
                self.shortage = error if is_shortage(error) else None
                if not failing:
                    _log.warning(
                        "upstream.lookup_failed", upstream=self._upstream.name, host=base.host, cause=str(error)
                    )
                failing = True
            else:
                self._set(owner, _at(self._named[owner], grouped(found)))
                if len(found) > MAX_ADDRESSES > most:
                    say_too_many(self._upstream.name, base.host, len(found))
                most = len(found)
                if failing:
                    _log.info("upstream.lookup_works", upstream=self._upstream.name, host=base.host)
                failing, known = False, True
            self._arrived(owner)
            ttl_s = self._upstream.dns_ttl_s
            await asyncio.sleep((ttl_s if known else min(ttl_s, _FIRST_LOOK_UP_S)) * random.uniform(0.9, 1.1))

    def _set(self, owner: _Owner, found: Iterable[_Found]) -> None:
        """Set the endpoints of an owner."""
        had = {(one.base, one.addresses): one for one in self.endpoints if self._owners[one] == owner}
        now = {(one.base, one.addresses): one for one in found}
        joined = [Endpoint(base, addresses, owner.group) for base, addresses in now if (base, addresses) not in had]
        gone = [one for at, one in had.items() if at not in now]
        self.endpoints = (*(one for one in self.endpoints if one not in gone), *joined)
        self._owners |= dict.fromkeys(joined, owner)
        for one in gone:
            del self._owners[one]
            one.is_gone = True
        weighed = False
        for one in self.endpoints:
            if self._owners[one] == owner:
                _, _, weight, priority = now[one.base, one.addresses]
                weighed |= (one.weight, one.priority) != (weight, priority)
                one.weight, one.priority = weight, priority
        if not (joined or gone or weighed):
            return
        if (joined or gone) and (owner in self._seen or owner.group in self._settled):
            host = str(owner.group) if owner.base is None else owner.base.host
            names = {"joined": [one.label for one in joined], "gone": [one.label for one in gone]}
            _log.info("upstream.changed", upstream=self._upstream.name, host=host, **names)
        self._seen.add(owner)
        self._changed(joined, gone)


def _at(instance: Instance, groups: Sequence[tuple[str, ...]]) -> list[_Found]:
    """An instance at each of its addresses; its weight is divided among them."""
    weight = 1.0 if instance.weight is None else instance.weight / max(1, len(groups))
    return [_Found(instance.base, addresses, weight, instance.priority) for addresses in groups]


def say_too_many(upstream: str, host: str, count: int) -> None:
    """Warn of a name or a source with more addresses than are used."""
    _log.warning("upstream.too_many_addresses", upstream=upstream, host=host, addresses=count, used=MAX_ADDRESSES)
