"""Consul and Eureka, asked over HTTP, by a pool of their own: a registry that hangs holds up nothing else."""

import asyncio
from typing import Final

from gateway.discovery import consul, eureka
from gateway.discovery.answers import Answer, Away
from gateway.discovery.options import Registry
from gateway.errors import GatewayError
from gateway.http.headers import Pairs
from gateway.upstreams import calls
from gateway.upstreams.places import Source
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream

_TIMEOUT_S: Final = 10.0
_MAX_BYTES: Final = 16 * 2**20  # a thousand instances of Consul are about 2
_LEAST_S: Final = 1.0  # between two queries, however often something changes


def pool_for(kind: str, registry: Registry) -> Pool:
    """A pool, not started, for the servers of a registry. A waiting query of Consul is not repeated."""
    return Pool(Upstream(name=kind, bases=registry.bases, retries=0 if kind == "consul" else 1))


class ConsulSource:
    """A service of Consul."""

    def __init__(self, source: Source, pool: Pool, authorization: str, token: str | None) -> None:
        self._source, self._pool = source, pool
        self._pairs = _pairs(pool, authorization)
        if token is not None:
            self._pairs.append((b"x-consul-token", token.encode("ascii")))
        self._index = 0

    async def ask(self, most_s: float | None) -> Answer:
        began_s = asyncio.get_running_loop().time()
        wait_s = consul.WAIT_S if most_s is None else min(consul.WAIT_S, most_s)
        target, index = consul.target_of(self._source, self._index, wait_s), self._index
        self._index = 0  # whatever goes wrong, the next query does not wait
        reply = await _reply(self._pool, target, self._pairs, _TIMEOUT_S + (wait_s * 17 / 16 if index else 0))
        if reply.status != 200:
            raise Away(f"status {reply.status}")
        instances = consul.instances_of(self._source, reply.body)
        field = next((value for name, value in reply.pairs if name == b"x-consul-index"), None)
        self._index = consul.next_index(index, field)
        took_s = asyncio.get_running_loop().time() - began_s
        return Answer(instances, max(0.0, _LEAST_S - took_s))


class EurekaSource:
    """An application of Eureka, queried every `interval_s`."""

    def __init__(self, source: Source, pool: Pool, authorization: str, interval_s: float) -> None:
        self._source, self._pool = source, pool
        self._pairs = _pairs(pool, authorization)
        self._interval_s = interval_s

    async def ask(self, most_s: float | None) -> Answer:
        reply = await _reply(self._pool, eureka.target_of(self._source), self._pairs, _TIMEOUT_S)
        if reply.status == 404:  # Eureka knows no such application
            return Answer((), self._interval_s)
        if reply.status != 200:
            raise Away(f"status {reply.status}")
        return Answer(eureka.instances_of(self._source, reply.body), self._interval_s)


def _pairs(pool: Pool, authorization: str) -> Pairs:
    pairs: Pairs = [(b"accept", b"application/json"), (b"user-agent", b"portway")]
    if authorization:
        pairs.append((b"authorization", authorization.encode("ascii")))
    return pairs


async def _reply(pool: Pool, target: str, pairs: Pairs, timeout_s: float) -> calls.UpstreamResponse:
    try:
        return await calls.get(pool, target, pairs, timeout_s=timeout_s, max_bytes=_MAX_BYTES)
    except GatewayError as error:
        raise Away(f"{error.reason.word}: {error.cause}" if error.cause else error.reason.word) from error
