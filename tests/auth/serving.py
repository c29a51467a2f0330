"""A gateway in the loop of a test, before a service that notes what reaches it."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

import orjson
from aiohttp import web

from gateway.config import loader
from gateway.http.exchange import Exchange
from gateway.routing.urls import Routes, _from_config
from gateway.server.asgi import GatewayHandler
from tests.application import Answered, call, lifespan
from tests.auth.test_jwks import running


class Service:
    """Answers every request with what it got of it, as JSON; `status` and `fields` are what it says, by path."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.status: dict[str, int] = {}
        self.fields: dict[str, list[tuple[str, str]]] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        fields = [(name.decode().lower(), value.decode("utf-8", "replace")) for name, value in request.raw_headers]
        got = {"method": request.method, "path": request.raw_path, "fields": fields, "body": (await request.text())}
        self.requests.append(got)
        answer = web.Response(
            status=self.status.get(request.path, 200), body=orjson.dumps(got), content_type="application/json"
        )
        for name, value in self.fields.get(request.path, []):
            answer.headers.add(name, value)
        return answer

    def reached(self, path: str = "/") -> list[dict[str, Any]]:
        return [one for one in self.requests if one["path"].startswith(path)]


@asynccontextmanager
async def service() -> AsyncIterator[Service]:
    found = Service()
    async with running(found.answer) as url:
        found.url = url
        yield found


class Gateway:
    """The application, and the exchanges of the requests that it has answered."""

    def __init__(self, handler: GatewayHandler, exchanges: list[Exchange]) -> None:
        self.handler = handler
        self.exchanges = exchanges

    async def ask(self, target: str, *fields: tuple[str, str], method: str = "GET", body: bytes = b"") -> Answered:
        pairs = [(name.lower().encode(), value.encode()) for name, value in fields]
        return await call(self.handler, target, method, body, pairs)

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        return self.handler.worker.ways.counts


@asynccontextmanager
async def gateway(environ: Mapping[str, str], lines: Sequence[Any] = ()) -> AsyncIterator[Gateway]:
    """`environ` is without the GATEWAY_ of each name; `lines` are further ones of urlpatterns."""
    given = {"CACHE_DISK": "0B", **environ}
    loaded = loader.load({f"GATEWAY_{name}": value for name, value in given.items()}, lambda name: "")
    routes = Routes([*(_from_config(line, None) for line in loaded.routes), *lines], loaded.declared)
    exchanges: list[Exchange] = []
    handler = GatewayHandler(loaded, routes, [exchanges.append])
    async with lifespan(handler):
        yield Gateway(handler, exchanges)


def reason(answer: Answered) -> str:
    return str(orjson.loads(answer.body)["reason"])


def all_of(answer: Answered, name: str) -> list[str]:
    return [value.decode() for found, value in answer.pairs if found.decode().lower() == name]


def field(got: Mapping[str, Any], name: str) -> str | None:
    """A field of what reached a service; None where it did not come, and never one that came twice."""
    values = [value for found, value in got["fields"] if found == name]
    assert len(values) < 2
    return values[0] if values else None
