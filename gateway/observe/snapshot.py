"""The state that a worker publishes, and the one place where workers are added up.

Metrics and the status page are two views of the same `Totals`. Counts outlive the worker that counted them, so that
counters never fall, however often a worker is restarted; state that a worker holds ends with it.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from gateway.observe.counters import (
    RECENT,
    RECENT_CLIENT,
    Failure,
    FailureLabels,
    Failures,
    PartLabels,
    RequestLabels,
    Requests,
)
from gateway.observe.histogram import Calls, Durations, Stalls
from gateway.observe.history import Asked, Seconds, merged
from gateway.observe.mirror_counts import MirrorLabels

# Of the cache's database, the worst last.
_DATABASE_STATES: Final = ("not in use", "works", "not reached", "failing")

_Key = TypeVar("_Key", bound=Hashable)
_Number = TypeVar("_Number", int, float)
_Histogram = TypeVar("_Histogram", Requests, Durations, Asked, Calls, Failures)


class Counts(msgspec.Struct, array_like=True):
    """Counts by labels, or by the name of an upstream or legacy pool where that is the only label."""

    requests: dict[RequestLabels, Requests] = {}
    cache: dict[tuple[str, str], int] = {}  # by route and outcome
    parts: dict[PartLabels, Durations] = {}
    attempts: dict[str, int] = {}
    retries: dict[str, int] = {}
    ejections: dict[str, int] = {}
    waits: dict[str, int] = {}
    wait_seconds: dict[str, float] = {}
    legacy_full: dict[str, int] = {}
    legacy_late: dict[str, int] = {}
    stalls: Stalls = msgspec.field(default_factory=Stalls)
    auth: dict[tuple[str, str], int] = {}  # by way and outcome
    recent: list[Failure] = []
    recent_client: list[Failure] = []
    limits: dict[tuple[str, str], int] = {}  # by limit and outcome
    sockets: dict[tuple[str, str], int] = {}  # by route and closing side
    messages: dict[tuple[str, str], int] = {}  # by route and direction
    mirrors: dict[MirrorLabels, int] = {}
    mirror_skips: dict[tuple[str, str, str], int] = {}  # by route, upstream of the copy and reason
    mirror_durations: dict[tuple[str, str, str], Durations] = {}  # by route, upstream of the copy, `answer` or `mirror`
    calls: dict[tuple[str, str], Calls] = {}  # by upstream and endpoint
    failures: dict[FailureLabels, Failures] = {}
    cpu_seconds: float = 0.0
    seconds: Seconds = msgspec.field(default_factory=Seconds)


class WorkerState(msgspec.Struct):
    """A process that serves."""

    pid: int
    started_s: float
    draining: bool
    in_flight: int
    kept_body_bytes: int
    sockets: dict[str, int] = {}  # open, by route
    certificate_ends_s: float | None = None  # of its TLS, since the epoch
    memory_bytes: int | None = None
    open_files: int | None = None
    generation: int = 1  # number of its configuration, one more with each reload


class EndpointState(msgspec.Struct):
    """An endpoint as one worker sees it; added up, `is_in` is how many of `workers` send requests to it."""

    endpoint: str
    is_in: int = msgspec.field(name="in")
    up: bool
    standing: str
    failures: int
    in_flight: int
    latency_ms: float | None
    drained: bool = False  # its weight is 0
    workers: int = 1


class SourceState(msgspec.Struct):
    """A source of instances: why it cannot be asked (empty if it can), and in how many workers."""

    source: str
    failure: str = ""
    away: int = 0


class GatewayState(msgspec.Struct):
    """State that the workers share."""

    host: str = ""
    started_s: float = 0.0
    restarts: int = 0  # of workers that died
    config_hash: str = ""


class Minute(msgspec.Struct, array_like=True):
    """The last minute by route, and by upstream and endpoint."""

    routes: dict[str, Asked] = {}
    calls: dict[tuple[str, str], Calls] = {}


class UpstreamState(msgspec.Struct):
    """An upstream's requests and endpoints, and the sources of its instances."""

    name: str
    in_flight: int
    waiting: int
    endpoints: list[EndpointState]
    sources: list[SourceState] = []


class CacheState(msgspec.Struct):
    """What the cache holds, and the state of its database."""

    memory_bytes: int
    memory_max_bytes: int
    memory_entries: int
    database_bytes: int
    database: str


class LegacyPoolState(msgspec.Struct):
    """The threads of one legacy pool, and how often it was full or a call late, in the living workers."""

    name: str
    stuck: bool
    threads: int
    running: int
    waiting: int
    full: int
    late: int


class LimitsState(msgspec.Struct):
    """The store in which limits are counted, and whether it is away."""

    store: str = "not in use"
    is_away: bool = False


class WayState(msgspec.Struct):
    """A way to authenticate: how many keys of an issuer it has (None if it needs none), why no newer ones."""

    name: str
    kind: str
    source: str
    keys: int | None = None
    failure: str = ""


class Snapshot(msgspec.Struct):
    """One worker. `past` are the counts of earlier workers in its slot."""

    version: str
    worker: WorkerState
    counts: Counts
    past: Counts | None
    upstreams: list[UpstreamState]
    stored: CacheState
    pools: list[LegacyPoolState]
    limits: LimitsState = msgspec.field(default_factory=LimitsState)
    ways: list[WayState] = []
    gateway: GatewayState = msgspec.field(default_factory=GatewayState)
    minute: Minute = msgspec.field(default_factory=Minute)
    is_alive: bool = True


class Totals(msgspec.Struct):
    """All workers together: `counts` of all workers so far, the rest of those that run now."""

    versions: list[str]
    workers: list[WorkerState]
    counts: Counts
    upstreams: list[UpstreamState]
    stored: CacheState
    databases_that_work: int  # in how many workers
    databases_away: int
    pools: list[LegacyPoolState]
    ways: list[WayState]
    limits: LimitsState = msgspec.field(default_factory=LimitsState)
    stores_away: int = 0  # in how many workers the store of limits is
    gateway: GatewayState = msgspec.field(default_factory=GatewayState)
    minute: Minute = msgspec.field(default_factory=Minute)


def merge(snapshots: Sequence[Snapshot]) -> Totals:
    """Add up workers. At least one of them is alive: the caller."""
    living = [one for one in snapshots if one.is_alive]
    return Totals(
        versions=sorted({one.version for one in snapshots}),
        workers=[one.worker for one in living],
        counts=add_counts(counts for one in snapshots for counts in (one.counts, one.past) if counts is not None),
        upstreams=_upstreams(living),
        stored=_stored([one.stored for one in living]),
        databases_that_work=sum(one.stored.database == "works" for one in living),
        databases_away=sum(one.stored.database in {"not reached", "failing"} for one in living),
        pools=_pools(living),
        limits=LimitsState(living[0].limits.store, any(one.limits.is_away for one in living)),
        stores_away=sum(one.limits.is_away for one in living),
        ways=_ways(living),
        gateway=living[0].gateway,
        minute=Minute(
            routes=_histograms(Asked, (one.minute.routes for one in living)),
            calls=_histograms(Calls, (one.minute.calls for one in living)),
        ),
    )


# -- what was counted ---------------------------------------------------------------------------------------------


def add_counts(several: Iterable[Counts]) -> Counts:
    """The sums by labels, and the newest failures; none of the arguments is changed."""
    counts, stalls = list(several), Stalls()
    for one in counts:
        stalls.add(one.stalls)
    return Counts(
        requests=_histograms(Requests, (one.requests for one in counts)),
        cache=_sums(one.cache for one in counts),
        parts=_histograms(Durations, (one.parts for one in counts)),
        attempts=_sums(one.attempts for one in counts),
        retries=_sums(one.retries for one in counts),
        ejections=_sums(one.ejections for one in counts),
        waits=_sums(one.waits for one in counts),
        wait_seconds=_sums(one.wait_seconds for one in counts),
        legacy_full=_sums(one.legacy_full for one in counts),
        legacy_late=_sums(one.legacy_late for one in counts),
        stalls=stalls,
        auth=_sums(one.auth for one in counts),
        recent=_newest((failure for one in counts for failure in one.recent), RECENT),
        sockets=_sums(one.sockets for one in counts),
        messages=_sums(one.messages for one in counts),
        recent_client=_newest((failure for one in counts for failure in one.recent_client), RECENT_CLIENT),
        limits=_sums(one.limits for one in counts),
        mirrors=_sums(one.mirrors for one in counts),
        mirror_skips=_sums(one.mirror_skips for one in counts),
        mirror_durations=_histograms(Durations, (one.mirror_durations for one in counts)),
        calls=_histograms(Calls, (one.calls for one in counts)),
        failures=_histograms(Failures, (one.failures for one in counts)),
        cpu_seconds=sum(one.cpu_seconds for one in counts),
        seconds=merged(one.seconds for one in counts),
    )


def time_of(failure: Failure) -> float:
    """When a request failed."""
    at_s: float = failure["at_s"]
    return at_s


def _newest(failures: Iterable[Failure], most: int) -> list[Failure]:
    return sorted(failures, key=time_of)[-most:]


def _sums(several: Iterable[dict[_Key, _Number]]) -> dict[_Key, _Number]:
    totals: dict[_Key, _Number] = {}
    for numbers in several:
        for key, number in numbers.items():
            totals[key] = totals.get(key, 0) + number
    return totals


def _histograms(kind: type[_Histogram], several: Iterable[dict[_Key, _Histogram]]) -> dict[_Key, _Histogram]:
    totals: dict[_Key, _Histogram] = {}
    for histograms in several:
        for key, histogram in histograms.items():
            total = totals.get(key)
            if total is None:
                total = totals[key] = kind()
            total.add(histogram)
    return totals


# -- what is held -------------------------------------------------------------------------------------------------


def _upstreams(living: Iterable[Snapshot]) -> list[UpstreamState]:
    totals: dict[str, UpstreamState] = {}
    endpoints: dict[tuple[str, str], EndpointState] = {}
    for upstream in (upstream for one in living for upstream in one.upstreams):
        total = totals.setdefault(upstream.name, UpstreamState(upstream.name, 0, 0, []))
        total.in_flight += upstream.in_flight
        total.waiting += upstream.waiting
        for endpoint in upstream.endpoints:
            key = (upstream.name, endpoint.endpoint)
            if key not in endpoints:
                endpoints[key] = msgspec.structs.replace(endpoint, is_in=0, in_flight=0, workers=0)
                total.endpoints.append(endpoints[key])
            _add_endpoint(endpoints[key], endpoint)
        _add_sources(total, upstream.sources)
    return list(totals.values())


def _add_sources(total: UpstreamState, sources: Iterable[SourceState]) -> None:
    """Each worker asks by itself: the failure of any of them is shown."""
    known = {one.source: one for one in total.sources}
    for one in sources:
        if one.source not in known:
            known[one.source] = SourceState(one.source)
        known[one.source].away += one.away
        known[one.source].failure = known[one.source].failure or one.failure
    total.sources = list(known.values())


def _add_endpoint(total: EndpointState, endpoint: EndpointState) -> None:
    """Workers decide about endpoints independently: the state of a worker that sends no requests there is shown."""
    total.workers += endpoint.workers
    total.is_in += endpoint.is_in
    total.in_flight += endpoint.in_flight
    if not endpoint.is_in:
        total.up, total.standing, total.failures = endpoint.up, endpoint.standing, endpoint.failures


def _stored(several: Sequence[CacheState]) -> CacheState:
    """Each worker has a memory cache of its own; they share one database."""
    return CacheState(
        memory_bytes=sum(one.memory_bytes for one in several),
        memory_max_bytes=sum(one.memory_max_bytes for one in several),
        memory_entries=sum(one.memory_entries for one in several),
        database_bytes=max(one.database_bytes for one in several),
        database=max((one.database for one in several), key=_DATABASE_STATES.index),
    )


def _ways(living: Iterable[Snapshot]) -> list[WayState]:
    """Each worker fetches by itself: the state of one with fewer keys, or with a failure, is shown."""
    totals: dict[str, WayState] = {}
    for way in (way for one in living for way in one.ways):
        total = totals.setdefault(way.name, msgspec.structs.replace(way))
        if way.keys is not None and total.keys is not None:
            total.keys = min(total.keys, way.keys)
        total.failure = total.failure or way.failure
    return list(totals.values())


def _pools(living: Iterable[Snapshot]) -> list[LegacyPoolState]:
    totals: dict[str, LegacyPoolState] = {}
    for pool in (pool for one in living for pool in one.pools):
        total = totals.get(pool.name)
        if total is None:
            totals[pool.name] = msgspec.structs.replace(pool)
            continue
        total.stuck = total.stuck or pool.stuck
        total.threads += pool.threads
        total.running += pool.running
        total.waiting += pool.waiting
        total.full += pool.full
        total.late += pool.late
    return list(totals.values())
