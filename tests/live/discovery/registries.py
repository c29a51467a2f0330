"""Consul and Eureka as far as a gateway asks them: small aiohttp servers that speak their documented HTTP.

https://developer.hashicorp.com/consul/api-docs/features/blocking and /api-docs/health; Netflix/eureka's wiki, "Eureka
REST operations".
"""

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Self

from aiohttp import web

TOKEN = "consul-token"


class Registry(ABC):
    """A server in a thread of its own. `ill` is what it does instead of answering: a status, or `hangs`."""

    def __init__(self) -> None:
        self.asked: list[web.BaseRequest] = []
        self.ill: int | str | None = None
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @abstractmethod
    async def answer(self, request: web.BaseRequest) -> web.StreamResponse: ...

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)
        if self.ill == "hangs":
            await asyncio.Event().wait()  # until the gateway has had enough
        if isinstance(self.ill, int):
            return web.Response(status=self.ill, text="rpc error: No cluster leader")
        return await self.answer(request)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(0), self.loop).result(10)
        return self

    async def _open(self, port: int) -> None:
        server = web.Server(self._handle)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    def go(self) -> None:
        """End, as a process does: its port is closed."""
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self.loop).result(10)

    def come_back(self) -> None:
        asyncio.run_coroutine_threadsafe(self._open(self.port), self.loop).result(10)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self.go()
        asyncio.run_coroutine_threadsafe(_end_all(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Consul(Registry):
    """Services by name; every change raises the index, and lets those go on that wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.index = 7
        self.waiting: list[str] = []  # the queries that wait for a change
        self._services: dict[str, list[dict[str, Any]]] = {}
        self._changed = asyncio.Event()

    def say(
        self, name: str, instances: Iterable[tuple[str, int]], *, tags: tuple[str, ...] = (), weight: int = 1
    ) -> None:
        """From now on the service has these, by address and port."""
        entries = [
            {
                "Node": {"Node": "n1", "Address": "127.0.0.1"},
                "Service": {
                    "ID": f"{name}-{port}",
                    "Service": name,
                    "Tags": list(tags),
                    "Address": address,
                    "Port": port,
                    "Weights": {"Passing": weight, "Warning": 1},
                },
                "Checks": [{"CheckID": "service:x", "Status": "passing"}],
            }
            for address, port in instances
        ]
        self.loop.call_soon_threadsafe(self._say, name, entries)

    def _say(self, name: str, entries: list[dict[str, Any]]) -> None:
        self._services[name] = entries
        self.index += 1
        self.wake()

    def wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def restore(self) -> None:
        """As after `consul snapshot restore`: the index begins anew, below what clients know."""

        def begin_anew() -> None:
            self.index = 3
            self.wake()

        self.loop.call_soon_threadsafe(begin_anew)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("X-Consul-Token") != TOKEN:
            return web.Response(status=403, text="Permission denied")
        query = request.rel_url.query
        index, wait = int(query.get("index", 0)), query.get("wait", "300s")
        if index and index >= self.index:
            self.waiting.append(request.path_qs)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), float(wait.removesuffix("s")))
            self.waiting.remove(request.path_qs)
        found = self._services.get(request.path.rpartition("/")[2], [])
        tags = query.getall("tag", [])
        found = [one for one in found if all(tag in one["Service"]["Tags"] for tag in tags)]
        return web.json_response(found, headers={"X-Consul-Index": str(self.index)})


class Eureka(Registry):
    """Applications by name. One instance is no list, as in Eureka's own JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.applications: dict[str, list[dict[str, Any]]] = {}

    def say(self, name: str, instances: Iterable[tuple[str, int, str]]) -> None:
        """From now on the application has these: host, port, status."""
        self.applications[name] = [
            {
                "instanceId": f"{host}:{name}:{port}",
                "hostName": host,
                "app": name,
                "ipAddr": "127.0.0.1",
                "status": status,
                "overriddenstatus": "UNKNOWN",
                "port": {"$": port, "@enabled": "true"},
                "securePort": {"$": 443, "@enabled": "false"},
                "countryId": 1,
                "metadata": {"management.port": str(port)},
                "vipAddress": name.lower(),
            }
            for host, port, status in instances
        ]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.headers["Accept"] == "application/json"
        found = self.applications.get(request.path.removeprefix("/eureka/apps/"))
        if not found:
            return web.Response(status=404)
        instance = found[0] if len(found) == 1 else found
        return web.json_response({"application": {"name": found[0]["app"], "instance": instance}})
