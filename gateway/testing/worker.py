"""The worker of a gateway in a test: the real one, with the clock and the network of the test."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType

from gateway.config.records import Config
from gateway.http.request import Message
from gateway.limits.memory_store import Memory
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from gateway.server.worker import Shared
from gateway.testing.client import LocalClient, note_exchange
from gateway.testing.clock import HandClock
from gateway.testing.network import ServiceNetwork
from gateway.testing.service import Service
from gateway.testing.setup import SetupError
from gateway.upstreams.places import Base
from gateway.upstreams.records import Upstream


def _as_one(upstream: Upstream) -> Upstream:
    """An upstream with sources of instances as one with a single instance: no registry is asked."""
    if not upstream.sources:
        return upstream
    return replace(upstream, sources=(), bases=upstream.bases or (Base("http", f"{upstream.name}.test", 80),))


class Worker:
    """`start` it in the loop of the test; `stop` it there."""

    def __init__(
        self,
        config: Config,
        routes: Routes,
        services: Mapping[str, Service],
        clock: HandClock,
        report: Callable[[BaseException], None],
    ) -> None:
        # There is no TLS here, and a test opens no port.
        config = replace(config, settings=replace(config.settings, http2=False, tls_redirect=None))
        config = replace(config, upstreams={name: _as_one(one) for name, one in config.upstreams.items()})
        self._memory = Memory(is_shared=False) if len(routes.policies) else None
        self._network = ServiceNetwork(services, report)
        shared = Shared(limits=self._memory, clock=clock.clock(), network=self._network)
        self._handler = GatewayHandler(config, routes, [note_exchange], shared)
        self._to_gateway: asyncio.Queue[Message] = asyncio.Queue()
        self._from_gateway: asyncio.Queue[Message] = asyncio.Queue()
        self._life: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Raises SetupError."""
        ask, tell = self._to_gateway.get, self._from_gateway.put
        self._life = asyncio.create_task(self._handler({"type": "lifespan"}, ask, tell), name="gateway-testing")
        message = await self._go("startup")
        if message["type"] == "lifespan.startup.failed":
            self._life.cancel()
            raise SetupError(message["message"])

    async def stop(self) -> None:
        self._handler.worker.cut()
        await self._go("shutdown")
        if self._life is not None:
            await self._life
        for connection in list(self._network.connections):
            connection.cut()
            if connection.task is not None:
                connection.task.cancel()
                await asyncio.wait({connection.task})
        if self._memory is not None:
            self._memory.close()

    def client(self, urlconf: ModuleType, scheme: str) -> LocalClient:
        return LocalClient(self._handler, urlconf, scheme)

    async def _go(self, phase: str) -> Message:
        self._to_gateway.put_nowait({"type": f"lifespan.{phase}"})
        return await self._from_gateway.get()
