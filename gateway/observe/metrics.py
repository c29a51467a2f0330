"""/-/metrics: the counts of all workers, for Prometheus."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.observe.histogram import Durations
from gateway.observe.snapshot import Counts, Snapshot, Totals, merge

_Labels = TypeVar("_Labels", bound=tuple[str, ...])


def exposition(
    snapshots: Sequence[Snapshot], accept: str, running: Mapping[str, Any] | None = None
) -> tuple[str, bytes]:
    """Content type and text for these workers' snapshots, in the format that `accept` asks for.

    `running` has the state of reloads and of the configuration, as in /-/status.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(merge(snapshots), running or {}))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    def __init__(self, totals: Totals, running: Mapping[str, Any]) -> None:
        self._totals = totals
        self._running = running

    def collect(self) -> Iterator[Metric]:
        totals, counts = self._totals, self._totals.counts
        yield from _workers(totals)
        yield from _process(totals)
        yield from _reloads(self._running)
        yield from _requests(counts)
        yield from _upstreams(totals)
        yield from _cache(totals)
        yield _histogram("portway_part_duration_seconds", "Parts of fan-outs.", _PART, counts.parts)
        yield from _mirrors(counts)
        yield from _legacy(totals)
        yield from _limits(totals)
        yield from _auth(totals)
        stalls = HistogramMetricFamily("portway_loop_stall_seconds", "How long something blocked the event loop.")
        stalls.add_metric([], counts.stalls.buckets(), counts.stalls.sum_s)
        yield stalls


_UPSTREAM, _POOL = ["upstream"], ["pool"]
_REQUEST, _PART = ["route", "method", "status"], ["route", "part", "reason"]


def _workers(totals: Totals) -> Iterator[Metric]:
    versions = {(version,): 1 for version in totals.versions}
    yield _gauge("portway_build_info", "The version that runs.", ["version"], versions)
    workers = totals.workers
    yield GaugeMetricFamily("portway_workers", "Worker processes that serve.", value=len(workers))
    in_flight = sum(worker.in_flight for worker in workers)
    yield GaugeMetricFamily("portway_requests_in_flight", "Requests that are being served.", value=in_flight)
    yield from _sockets(totals)
    ends = [worker.certificate_ends_s for worker in workers if worker.certificate_ends_s is not None]
    if ends:
        days = (min(ends) - time.time()) / 86_400
        text = "Until the certificate, or one of its chain, ends."
        yield GaugeMetricFamily("portway_tls_certificate_days_left", text, value=days)
    kept = sum(worker.kept_body_bytes for worker in workers)
    yield GaugeMetricFamily("portway_kept_body_bytes", "Bodies that are kept whole in memory.", value=kept)


def _process(totals: Totals) -> Iterator[Metric]:
    """The usual metrics of processes, summed over all workers."""
    yield CounterMetricFamily("portway_worker_restarts", "Workers that died.", value=totals.gateway.restarts)
    text = "Processor time of all workers."
    yield CounterMetricFamily("process_cpu_seconds", text, value=totals.counts.cpu_seconds)
    yield GaugeMetricFamily("process_start_time_seconds", "When the gateway began.", value=totals.gateway.started_s)
    memory = [worker.memory_bytes for worker in totals.workers if worker.memory_bytes is not None]
    if memory:
        text = "Resident memory of all workers; pages that they share count for each."
        yield GaugeMetricFamily("process_resident_memory_bytes", text, value=sum(memory))
    files = [worker.open_files for worker in totals.workers if worker.open_files is not None]
    if files:
        yield GaugeMetricFamily("process_open_fds", "Open files and sockets of all workers.", value=sum(files))


def _reloads(running: Mapping[str, Any]) -> Iterator[Metric]:
    if known := running.get("config_hash"):
        yield _gauge("portway_config_hash", "The configuration that serves.", ["hash"], {(known,): 1})
    outcomes = _by_name(running.get("reloads", {}))
    yield _counter("portway_reloads", "Reloads, by what came of them.", ["outcome"], outcomes)


def _sockets(totals: Totals) -> Iterator[Metric]:
    open_now: dict[tuple[str], int] = {}
    for worker in totals.workers:
        for route, count in worker.sockets.items():
            open_now[route,] = open_now.get((route,), 0) + count
    yield _gauge("portway_websockets_open", "WebSockets that are open.", ["route"], open_now)
    counts = totals.counts
    yield _counter("portway_websockets", "WebSockets that have ended.", ["route", "closed_by"], counts.sockets)
    text = "Messages of WebSockets that have ended; in is from the client."
    yield _counter("portway_websocket_messages", text, ["route", "direction"], counts.messages)


def _requests(counts: Counts) -> Iterator[Metric]:
    numbers: dict[tuple[str, str, str, str], int] = {}
    durations: dict[tuple[str, str, str], Durations] = {}
    bytes_in: dict[tuple[str], int] = {}
    bytes_out: dict[tuple[str], int] = {}
    for (route, method, status, reason), requests in counts.requests.items():
        kind = f"{status}xx"
        numbers[route, method, kind, reason] = requests.count
        durations.setdefault((route, method, kind), Durations()).add(requests)
        bytes_in[route,] = bytes_in.get((route,), 0) + requests.bytes_in
        bytes_out[route,] = bytes_out.get((route,), 0) + requests.bytes_out
    yield _counter("portway_requests", "Requests, by how they ended.", [*_REQUEST, "reason"], numbers)
    yield _histogram("portway_request_duration_seconds", "Until the last byte left.", _REQUEST, durations)
    yield _counter("portway_request_body_bytes", "Bytes of request bodies.", ["route"], bytes_in)
    yield _counter("portway_response_body_bytes", "Bytes of response bodies.", ["route"], bytes_out)


def _upstreams(totals: Totals) -> Iterator[Metric]:
    counts, upstreams = totals.counts, totals.upstreams
    for name, text, numbers in (
        ("attempts", "Calls to endpoints, the first and further ones.", counts.attempts),
        ("retries", "Calls after the first of a request.", counts.retries),
        ("ejections", "Endpoints taken out by failing requests.", counts.ejections),
        ("waits", "Requests that had to wait for their turn.", counts.waits),
        ("wait_seconds", "How long they waited, together.", counts.wait_seconds),
    ):
        yield _counter(f"portway_upstream_{name}", text, _UPSTREAM, _by_name(numbers))
    yield _counter(
        "portway_upstream_failures",
        "Calls that failed, by a word or the status of the answer; without an endpoint where none was asked.",
        ["upstream", "endpoint", "reason"],
        {(*key, reason): count for key, calls in counts.calls.items() for reason, count in calls.failures.items()},
    )
    seconds: dict[tuple[str], Durations] = {}
    for (name, _), calls in counts.calls.items():
        seconds.setdefault((name,), Durations()).add(calls)
    yield _histogram("portway_upstream_seconds", "Until the head of an upstream's answer.", _UPSTREAM, seconds)
    in_flight = {(upstream.name,): upstream.in_flight for upstream in upstreams}
    yield _gauge("portway_upstream_in_flight", "Requests at an upstream.", _UPSTREAM, in_flight)
    waiting = {(upstream.name,): upstream.waiting for upstream in upstreams}
    yield _gauge("portway_upstream_waiting", "Requests that wait for their turn.", _UPSTREAM, waiting)
    yield _gauge(
        "portway_endpoint_in",
        "Workers that send requests to an endpoint; 0: it is out.",
        ["upstream", "endpoint"],
        {(upstream.name, one.endpoint): one.is_in for upstream in upstreams for one in upstream.endpoints},
    )

    away: dict[tuple[str], int] = {}
    for upstream in upstreams:
        if upstream.sources:
            away[upstream.name,] = sum(source.away for source in upstream.sources)
    text = "Sources of instances that workers cannot ask: the last list holds."
    yield _gauge("portway_upstream_sources_away", text, _UPSTREAM, away)


def _cache(totals: Totals) -> Iterator[Metric]:
    yield _counter(
        "portway_cache_requests",
        "Requests of cached routes, by what came of them.",
        ["route", "outcome"],
        totals.counts.cache,
    )
    for name, text, value in (
        ("memory_bytes", "Stored answers in the memory of the workers.", totals.stored.memory_bytes),
        ("memory_entries", "Their number.", totals.stored.memory_entries),
        ("database_works", "Workers whose database of the cache works.", totals.databases_that_work),
        ("database_away", "Workers that use one and cannot reach it, or for which it fails.", totals.databases_away),
        ("database_bytes", "Stored answers in the database.", totals.stored.database_bytes),
    ):
        yield GaugeMetricFamily(f"portway_cache_{name}", text, value=value)


def _mirrors(counts: Counts) -> Iterator[Metric]:
    labels = ["route", "mirror"]
    text = "Copies of requests, by the statuses of both answers; a copy that failed by why."
    yield _counter("portway_mirrored", text, [*labels, "status", "mirror_status"], counts.mirrors)
    text = "Copies that were not made: too many were under way, or the body was too large or not all here."
    yield _counter("portway_mirror_skipped", text, [*labels, "why"], counts.mirror_skips)
    text = "Until the heads of both answers: that which went down, and that of the copy."
    yield _histogram("portway_mirror_duration_seconds", text, [*labels, "whose"], counts.mirror_durations)


def _legacy(totals: Totals) -> Iterator[Metric]:
    pools = totals.pools
    for name, text, held in (
        ("running", "Legacy calls that have a thread.", {pool.name: pool.running for pool in pools}),
        ("waiting", "Legacy calls that wait for one.", {pool.name: pool.waiting for pool in pools}),
        ("threads", "Threads at most.", {pool.name: pool.threads for pool in pools}),
    ):
        yield _gauge(f"portway_legacy_{name}", text, _POOL, _by_name(held))
    for name, text, counted in (
        ("full", "Legacy calls refused: no thread, and no place to wait.", totals.counts.legacy_full),
        ("late", "Legacy calls that took too long.", totals.counts.legacy_late),
    ):
        yield _counter(f"portway_legacy_{name}", text, _POOL, _by_name(counted))


def _limits(totals: Totals) -> Iterator[Metric]:
    yield _counter(
        "portway_rate_limit",
        "Requests that met a limit, by what came of them.",
        ["limit", "outcome"],
        totals.counts.limits,
    )
    yield GaugeMetricFamily(
        "portway_rate_limit_store_away",
        "Workers that cannot ask Valkey, and go by ON_FAILURE.",
        value=totals.stores_away,
    )


def _auth(totals: Totals) -> Iterator[Metric]:
    yield _counter(
        "portway_auth",
        "Requests of routes that ask who asks, by what came of it.",
        ["way", "outcome"],
        totals.counts.auth,
    )
    keys = {(way.name,): way.keys for way in totals.ways if way.keys is not None}
    yield _gauge("portway_auth_keys", "Keys of an issuer that a worker has, at least.", ["way"], keys)


# -- families of samples ------------------------------------------------------------------------------------------


def _by_name(numbers: Mapping[str, float]) -> dict[tuple[str], float]:
    return {(name,): number for name, number in numbers.items()}


def _counter(name: str, text: str, labels: Sequence[str], numbers: Mapping[_Labels, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, number in sorted(numbers.items()):
        family.add_metric(list(values), number)
    return family


def _gauge(name: str, text: str, labels: Sequence[str], numbers: Mapping[_Labels, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in sorted(numbers.items()):
        family.add_metric(list(values), number)
    return family


def _histogram(name: str, text: str, labels: Sequence[str], durations: Mapping[_Labels, Durations]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, histogram in sorted(durations.items(), key=lambda one: one[0]):
        family.add_metric(list(values), histogram.buckets(), histogram.sum_s)
    return family
