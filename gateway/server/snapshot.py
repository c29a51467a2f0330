"""The published state of this worker and of the others."""

import os
from socket import gethostname
from time import time

import msgspec

from gateway import __version__
from gateway.auth.records import Way
from gateway.http.queries import masked_target
from gateway.legacy.bulkhead import Bulkhead
from gateway.observe.histogram import Calls
from gateway.observe.shared_memory import is_alive
from gateway.observe.snapshot import (
    CacheState,
    Counts,
    EndpointState,
    GatewayState,
    LegacyPoolState,
    LimitsState,
    Minute,
    Snapshot,
    SourceState,
    UpstreamState,
    WayState,
    WorkerState,
    add_counts,
)
from gateway.server.worker import Worker
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.pool import Pool

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


def snapshot_of(worker: Worker) -> Snapshot:
    """The counts and the state of this worker."""
    taken = worker.meter.read(time())
    return Snapshot(
        version=__version__,
        worker=WorkerState(
            pid=os.getpid(),
            started_s=worker.started_s,
            draining=worker.draining,
            in_flight=sum(not lifetime.exchange.is_own for lifetime in worker.in_flight),
            kept_body_bytes=worker.bodies.kept_bytes,
            sockets=worker.sockets.by_route(),
            certificate_ends_s=worker.certificate_ends_s,
            memory_bytes=taken.memory_bytes,
            open_files=taken.open_files,
            generation=worker.generation,
        ),
        counts=_counts(worker, taken.cpu_s),
        past=worker.past,
        upstreams=[_upstream(pool) for pool in worker.pools.values()],
        stored=msgspec.convert(worker.cache.state(), CacheState),
        pools=[_legacy_pool(pool) for pool in worker.bulkheads.values()],
        limits=msgspec.convert(worker.limits.state(), LimitsState),
        ways=[_way(worker, way) for way in worker.config.auth.ways.values()],
        gateway=GatewayState(gethostname(), worker.parent.started_s, worker.parent.restarts(), worker.via.identity),
        minute=Minute(worker.history.of_routes(), worker.history.of_calls()),
    )


def snapshots_of_all(worker: Worker) -> list[Snapshot]:
    """This worker's snapshot first, then the latest ones of the others, including those that have ended."""
    found = [snapshot_of(worker)]
    for process, data in () if worker.shared_memory is None else worker.shared_memory.others():
        shown = _decode(data)
        shown.is_alive = is_alive(process)
        found.append(shown)
    return found


def publish(worker: Worker) -> None:
    """Add the counts since the last call to the history, and publish this worker's snapshot."""
    worker.history.tick(time(), worker.counters.requests, _calls(worker))
    if worker.shared_memory is not None:
        worker.shared_memory.publish(_encode(snapshot_of(worker)))


def past_counts(shown: bytes | None) -> Counts | None:
    """The counts of the worker that published this, and of those before it in its slot."""
    if shown is None:
        return None
    ended = _decode(shown)
    return add_counts(counts for counts in (ended.past, ended.counts) if counts is not None)


def _calls(worker: Worker) -> dict[tuple[str, str], Calls]:
    return {(pool.name, url): calls for pool in worker.pools.values() for url, calls in pool.calls.items()}


def _counts(worker: Worker, cpu_s: float) -> Counts:
    """The counters themselves, not copies: to be read at once."""
    counters, pools, bulkheads = worker.counters, worker.pools.values(), worker.bulkheads.values()
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
        limits=worker.limits.counts,
        stalls=worker.watchdog.stalls,
        auth=worker.ways.counts,
        recent=list(counters.recent),
        recent_client=list(counters.recent_client),
        sockets=counters.sockets,
        messages=counters.messages,
        mirrors=worker.mirrors.counts.requests,
        mirror_skips=worker.mirrors.counts.skips,
        mirror_durations=worker.mirrors.counts.durations,
        calls=_calls(worker),
        failures=counters.failures,
        cpu_seconds=cpu_s,
        seconds=worker.history.seconds(),
    )


def _upstream(pool: Pool) -> UpstreamState:
    return UpstreamState(
        name=pool.name,
        in_flight=sum(endpoint.in_flight for endpoint in pool.endpoints),
        waiting=0 if pool.limit is None else pool.limit.waiting,
        endpoints=[_endpoint(endpoint) for endpoint in pool.endpoints],
        sources=[
            SourceState(str(source), failure, int(bool(failure))) for source, failure in pool.members.failures.items()
        ],
    )


def _endpoint(endpoint: Endpoint) -> EndpointState:
    return EndpointState(
        endpoint=endpoint.url,
        is_in=int(endpoint.is_in),
        up=endpoint.probed.up,
        standing=endpoint.health.state.value,
        failures=endpoint.health.failures,
        in_flight=endpoint.in_flight,
        latency_ms=None if endpoint.latency_s is None else round(endpoint.latency_s * 1000, 1),
        drained=endpoint.is_drained,
    )


def _way(worker: Worker, way: Way) -> WayState:
    store = worker.ways.stores.get(way.name)
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
