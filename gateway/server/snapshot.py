"""What this worker shows of itself, and what the others do."""

import os

import msgspec

from gateway import __version__
from gateway.auth.records import Way
from gateway.http.queries import masked_target
from gateway.legacy.bulkhead import Bulkhead
from gateway.observe.shared_memory import is_alive
from gateway.observe.snapshot import (
    CacheState,
    Counts,
    EndpointState,
    LegacyPoolState,
    LimitsState,
    Snapshot,
    UpstreamState,
    WayState,
    WorkerState,
    add_counts,
)
from gateway.server.worker import Runtime
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.pool import Pool

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def snapshot_of(runtime: Runtime) -> Snapshot:
    """What this worker has counted and holds."""
    return Snapshot(
        version=__version__,
        worker=WorkerState(
            pid=os.getpid(),
            started_s=runtime.started_s,
            draining=runtime.draining,
            in_flight=sum(not lifetime.exchange.is_own for lifetime in runtime.in_flight),
            kept_body_bytes=runtime.bodies.kept_bytes,
            sockets=runtime.sockets.by_route(),
            certificate_ends_s=runtime.certificate_ends_s,
        ),
        counts=_counts(runtime),
        past=runtime.past,
        upstreams=[_upstream(pool) for pool in runtime.pools.values()],
        stored=msgspec.convert(runtime.cache.state(), CacheState),
        pools=[_legacy_pool(pool) for pool in runtime.bulkheads.values()],
        limits=msgspec.convert(runtime.limits.state(), LimitsState),
        ways=[_way(runtime, way) for way in runtime.config.auth.ways.values()],
    )


def snapshots_of_all(runtime: Runtime) -> list[Snapshot]:
    """This worker's snapshot first, then what the others showed last, those that have ended too."""
    found = [snapshot_of(runtime)]
    for process, data in () if runtime.shared_memory is None else runtime.shared_memory.others():
        shown = _decode(data)
        shown.is_alive = is_alive(process)
        found.append(shown)
    return found


def publish(runtime: Runtime) -> None:
    """Show this worker's snapshot to the others."""
    if runtime.shared_memory is not None:
        runtime.shared_memory.publish(_encode(snapshot_of(runtime)))


def past_counts(shown: bytes | None) -> Counts | None:
    """What the worker that published this, and those before it in its place, have counted."""
    if shown is None:
        return None
    ended = _decode(shown)
    return add_counts(counts for counts in (ended.past, ended.counts) if counts is not None)


def _counts(runtime: Runtime) -> Counts:
    """The counters themselves, not copies: to be read at once."""
    counters, pools, bulkheads = runtime.counters, runtime.pools.values(), runtime.bulkheads.values()
    limited = {pool.name: pool.limit for pool in pools if pool.limit is not None}
    return Counts(
        requests=counters.requests,
        cache=counters.cache,
        parts=counters.parts,
        attempts={pool.name: pool.attempts for pool in pools},
        retries={pool.name: pool.retries for pool in pools},
        ejections={pool.name: pool.ejections for pool in pools},
        waits={name: one.waits for name, one in limited.items()},
        wait_seconds={name: one.waited_s for name, one in limited.items()},
        legacy_full={pool.name: pool.full for pool in bulkheads},
        legacy_late={pool.name: pool.late for pool in bulkheads},
        limits=runtime.limits.counts,
        stalls=runtime.watchdog.stalls,
        auth=runtime.ways.counts,
        recent=list(counters.recent),
        recent_client=list(counters.recent_client),
        sockets=counters.sockets,
        messages=counters.messages,
    )


def _upstream(pool: Pool) -> UpstreamState:
    return UpstreamState(
        name=pool.name,
        in_flight=sum(endpoint.in_flight for endpoint in pool.endpoints),
        waiting=0 if pool.limit is None else pool.limit.waiting,
        endpoints=[_endpoint(endpoint) for endpoint in pool.endpoints],
    )


def _endpoint(endpoint: Endpoint) -> EndpointState:
    return EndpointState(
        endpoint=f"{endpoint.base.scheme}://{endpoint.label}{endpoint.base.prefix}",
        is_in=int(endpoint.is_in),
        up=endpoint.probed.up,
        standing=endpoint.health.state.value,
        failures=endpoint.health.failures,
        in_flight=endpoint.in_flight,
        latency_ms=None if endpoint.latency_s is None else round(endpoint.latency_s * 1000, 1),
    )


def _way(runtime: Runtime, way: Way) -> WayState:
    store = runtime.ways.stores.get(way.name)
    state = WayState(way.name, way.kind, masked_target(way.source) if way.kind != "jwt" else way.source)
    if store is not None:
        state.keys = 0 if store.keys is None else len(store.keys.keys)
        state.failure = store.failure
    return state


def _legacy_pool(pool: Bulkhead) -> LegacyPoolState:
    return LegacyPoolState(
        name=pool.name,
        stuck=pool.is_stuck(),
        threads=pool.options.threads,
        running=len(pool.running),
        waiting=pool.waiting,
        full=pool.full,
        late=pool.late,
    )
