"""Each source of instances is asked for as long as its worker runs; its answers go to the pool of its upstream."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from gateway.discovery import last_known
from gateway.discovery.answers import Answer, Away, Ended, Source
from gateway.discovery.iterator import MakeIterator, PythonSource
from gateway.discovery.last_known import LastKnown
from gateway.discovery.options import Registry
from gateway.discovery.registry import ConsulSource, EurekaSource, pool_for
from gateway.discovery.srv import SrvSource
from gateway.upstreams import places
from gateway.upstreams.endpoint import MAX_ADDRESSES
from gateway.upstreams.members import say_too_many
from gateway.upstreams.pool import Pool

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registries:
    """The configured registries; `iterators` are a team's own functions by their paths."""

    consul: Registry | None = None
    consul_token: str | None = field(default=None, repr=False)
    eureka: Registry | None = None
    iterators: Mapping[str, MakeIterator] = field(default_factory=dict)


class Discovery:
    """The sources of all upstreams of a worker. `start` it inside the loop that serves; `aclose` it there."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self._pools: dict[str, Pool] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, pools: Mapping[str, Pool]) -> None:
        """Begin to ask, in the background."""
        for pool in pools.values():
            for place in pool.upstream.sources:
                watch = _Watch(pool, place, self._source(place, pool))
                self._tasks.append(asyncio.create_task(watch.run(), name=f"portway-discovery-{pool.name}"))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._pools.values():
            await pool.aclose()

    def _source(self, place: places.Source, pool: Pool) -> Source:
        registries = self._registries
        if place.kind == "python":
            return PythonSource(registries.iterators[place.name])
        if place.kind == "consul" and registries.consul is not None:
            consul = self._pool("consul", registries.consul)
            return ConsulSource(place, consul, registries.consul.authorization, registries.consul_token)
        if place.kind == "eureka" and registries.eureka is not None:
            eureka = self._pool("eureka", registries.eureka)
            return EurekaSource(place, eureka, registries.eureka.authorization, pool.upstream.dns_ttl_s)
        return SrvSource(place)

    def _pool(self, kind: str, registry: Registry) -> Pool:
        if kind not in self._pools:
            self._pools[kind] = pool_for(kind, registry)
            self._pools[kind].start()
        return self._pools[kind]


class _Watch:
    """One source, asked repeatedly."""

    def __init__(self, pool: Pool, place: places.Source, source: Source) -> None:
        self._pool, self._place, self._source = pool, place, source
        self._known = LastKnown()
        self._failures = 0
        self._most = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    answer = await self._source.ask(self._known.confirms_in_s(loop.time()))
                except Away as error:
                    pause_s = self._away(error) * random.uniform(0.8, 1.2)
                except Ended:
                    raise
                except Exception as error:  # noqa: BLE001 - whatever a source raises, it is asked again
                    pause_s = self._away(Away(f"{type(error).__name__}: {error}"[:300])) * random.uniform(0.8, 1.2)
                else:
                    self._received(answer, loop.time())
                    confirms_s = self._known.confirms_in_s(loop.time())
                    spread_s = answer.again_s * random.uniform(0.9, 1.0)  # before it is over, and not all at once
                    pause_s = spread_s if confirms_s is None else min(answer.again_s, confirms_s + 0.1)
                await asyncio.sleep(pause_s)
        except Ended:
            self._pool.members.failed(self._place, "")
        finally:
            if isinstance(self._source, PythonSource):
                await self._source.aclose()

    def _away(self, error: Away) -> float:
        """Keep the known instances; returns how long to wait."""
        if not self._failures:
            self._say("warning", "upstream.lookup_failed", cause=str(error))
        self._failures += 1
        self._pool.members.failed(self._place, str(error))
        return last_known.pause_s(self._failures)

    def _received(self, answer: Answer, now_s: float) -> None:
        if self._failures:
            self._say("info", "upstream.lookup_works")
        self._failures = 0
        before, count = self._known, len(answer.instances)
        self._known = last_known.updated(before, answer.instances[:MAX_ADDRESSES], now_s)
        if count > MAX_ADDRESSES > self._most:
            say_too_many(self._pool.name, str(self._place), count)
        self._most = count
        if self._known.doubted_since_s is not None and before.doubted_since_s is None:
            self._say("warning", "upstream.lookup_empty", kept=len(self._known.instances))
        self._pool.members.set_instances(self._place, self._known.instances)

    def _say(self, level: str, event: str, **values: object) -> None:
        getattr(_log, level)(event, upstream=self._pool.name, host=str(self._place), **values)
