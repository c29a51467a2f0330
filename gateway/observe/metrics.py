"""/-/metrics: what all workers have counted, as Prometheus reads it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from gateway.observe.counters import BOUNDS_S

Snapshot = Mapping[str, Any]
_Number = TypeVar("_Number", int, float)


def exposition(snapshots: Sequence[Snapshot], accept: str) -> tuple[str, bytes]:
    """Content type and text for these workers' snapshots, in the format that `accept` asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshots))
    encode, content_type = choose_encoder(accept)
    return content_type, encode(registry)


class _Collector:
    def __init__(self, snapshots: Sequence[Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        yield from _build(self._snapshots)
        yield from _requests(self._snapshots)
        yield from _upstreams(self._snapshots)
        yield from _cache(self._snapshots)
        yield from _parts(self._snapshots)
        yield from _legacy(self._snapshots)
        yield _histogram_of_stalls(self._snapshots)


def _rows(snapshots: Iterable[Snapshot], name: str) -> Iterator[list[Any]]:
    for snapshot in snapshots:
        yield from snapshot[name]


def _living(snapshots: Iterable[Snapshot]) -> Iterator[Snapshot]:
    """What a worker that died held is held no more; what it counted stays counted."""
    return (snapshot for snapshot in snapshots if snapshot["alive"])


def _build(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    build = GaugeMetricFamily("portway_build_info", "The version that runs.", labels=["version"])
    for version in sorted({snapshot["version"] for snapshot in snapshots}):
        build.add_metric([version], 1)
    yield build
    living = list(_living(snapshots))
    yield GaugeMetricFamily("portway_workers", "Worker processes that serve.", value=len(living))
    in_flight = sum(snapshot["in_flight"] for snapshot in living)
    yield GaugeMetricFamily("portway_requests_in_flight", "Requests that are being served.", value=in_flight)
    kept = sum(snapshot["kept_body_bytes"] for snapshot in living)
    yield GaugeMetricFamily("portway_kept_body_bytes", "Bodies that are kept whole in memory.", value=kept)


def _requests(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    totals: dict[tuple[str, ...], int] = {}
    times: dict[tuple[str, ...], list[Any]] = {}
    sizes: dict[str, list[int]] = {}
    for route, method, status, reason, counts, seconds, bytes_in, bytes_out in _rows(snapshots, "requests"):
        kind = f"{status}xx"
        _add(totals, (route, method, kind, reason), sum(counts))
        _add_times(times, (route, method, kind), counts, seconds)
        size = sizes.setdefault(route, [0, 0])
        size[0] += bytes_in
        size[1] += bytes_out
    counter = CounterMetricFamily(
        "portway_requests", "Requests, by how they ended.", labels=["route", "method", "status", "reason"]
    )
    _fill(counter, totals)
    yield counter
    yield _histogram(
        "portway_request_duration_seconds", "Until the last byte left.", ["route", "method", "status"], times
    )
    for name, says, index in (
        ("portway_request_body_bytes", "Bytes of request bodies.", 0),
        ("portway_response_body_bytes", "Bytes of response bodies.", 1),
    ):
        family = CounterMetricFamily(name, says, labels=["route"])
        _fill(family, {(route,): size[index] for route, size in sizes.items()})
        yield family


def _upstreams(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    for name, says in (
        ("attempts", "Calls to endpoints, the first and further ones."),
        ("retries", "Calls after the first of a request."),
        ("ejections", "Endpoints taken out by failing requests."),
        ("waits", "Requests that had to wait for their turn."),
        ("wait_seconds", "How long they waited, together."),
    ):
        totals: dict[tuple[str, ...], float] = {}
        for snapshot in snapshots:
            for upstream, count in snapshot[name].items():
                _add(totals, (upstream,), count)
        family = CounterMetricFamily(f"portway_upstream_{name}", says, labels=["upstream"])
        _fill(family, totals)
        yield family
    in_flight: dict[tuple[str, ...], int] = {}
    waiting: dict[tuple[str, ...], int] = {}
    ups: dict[tuple[str, ...], int] = {}
    for snapshot in _living(snapshots):
        for upstream in snapshot["upstreams"]:
            _add(in_flight, (upstream["name"],), upstream["in_flight"])
            _add(waiting, (upstream["name"],), upstream["waiting"])
            for endpoint in upstream["endpoints"]:
                _add(ups, (upstream["name"], endpoint["endpoint"]), endpoint["in"])
    yield _gauge("portway_upstream_in_flight", "Requests at an upstream.", ["upstream"], in_flight)
    yield _gauge("portway_upstream_waiting", "Requests that wait for their turn.", ["upstream"], waiting)
    yield _gauge(
        "portway_endpoint_in", "Workers that send requests to an endpoint; 0: it is out.", ["upstream", "endpoint"], ups
    )


def _cache(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    totals: dict[tuple[str, ...], int] = {}
    for route, outcome, count in _rows(snapshots, "cache"):
        _add(totals, (route, outcome), count)
    family = CounterMetricFamily(
        "portway_cache_requests", "Requests of cached routes, by what came of them.", labels=["route", "outcome"]
    )
    _fill(family, totals)
    yield family
    stored = [snapshot["stored"] for snapshot in _living(snapshots)]
    for name, says, word in (
        ("portway_cache_memory_bytes", "Stored answers in the memory of the workers.", "memory_bytes"),
        ("portway_cache_memory_entries", "Their number.", "memory_entries"),
    ):
        yield GaugeMetricFamily(name, says, value=sum(one[word] for one in stored))
    works = sum(one["database"] == "works" for one in stored)
    yield GaugeMetricFamily("portway_cache_database_works", "Workers whose database of the cache works.", value=works)
    disk = max((one["database_bytes"] for one in stored), default=0)
    yield GaugeMetricFamily("portway_cache_database_bytes", "Stored answers in the database.", value=disk)


def _parts(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    times: dict[tuple[str, ...], list[Any]] = {}
    for route, part, reason, counts, seconds in _rows(snapshots, "parts"):
        _add_times(times, (route, part, reason), counts, seconds)
    yield _histogram("portway_part_duration_seconds", "Parts of fan-outs.", ["route", "part", "reason"], times)


def _legacy(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    gauges: dict[str, dict[tuple[str, ...], int]] = {"running": {}, "waiting": {}, "threads": {}}
    counters: dict[str, dict[tuple[str, ...], int]] = {"full": {}, "late": {}}
    for snapshot in snapshots:
        for pool in snapshot["bulkheads"]:
            for name, totals in (gauges if snapshot["alive"] else {}).items():
                _add(totals, (pool["name"],), pool[name])
            for name, totals in counters.items():
                _add(totals, (pool["name"],), pool[name])
    for name, says in (
        ("running", "Legacy calls that have a thread."),
        ("waiting", "Legacy calls that wait for one."),
        ("threads", "Threads at most."),
    ):
        yield _gauge(f"portway_legacy_{name}", says, ["pool"], gauges[name])
    for name, says in (
        ("full", "Legacy calls refused: no thread, and no place to wait."),
        ("late", "Legacy calls that took too long."),
    ):
        family = CounterMetricFamily(f"portway_legacy_{name}", says, labels=["pool"])
        _fill(family, counters[name])
        yield family


def _histogram_of_stalls(snapshots: Sequence[Snapshot]) -> Metric:
    family = HistogramMetricFamily("portway_loop_stall_seconds", "How long something blocked the event loop.")
    bounds = snapshots[0]["stalls"]["bounds_s"]
    counts = [sum(column) for column in zip(*(snapshot["stalls"]["counts"] for snapshot in snapshots), strict=True)]
    family.add_metric([], _buckets(bounds, counts), sum(snapshot["stalls"]["sum_s"] for snapshot in snapshots))
    return family


# -- adding up ----------------------------------------------------------------------------------------------------


def _add(totals: dict[tuple[str, ...], _Number], labels: tuple[str, ...], count: _Number) -> None:
    totals[labels] = totals.get(labels, 0) + count


def _add_times(
    times: dict[tuple[str, ...], list[Any]], labels: tuple[str, ...], counts: Sequence[int], seconds: float
) -> None:
    known = times.setdefault(labels, [[0] * len(counts), 0.0])
    known[0] = [one + other for one, other in zip(known[0], counts, strict=True)]
    known[1] += seconds


def _fill(family: Any, totals: Mapping[tuple[str, ...], float]) -> None:
    for labels, count in sorted(totals.items()):
        family.add_metric(list(labels), count)


def _gauge(name: str, says: str, labels: Sequence[str], totals: Mapping[tuple[str, ...], int]) -> Metric:
    family = GaugeMetricFamily(name, says, labels=labels)
    _fill(family, totals)
    return family


def _histogram(name: str, says: str, labels: Sequence[str], times: Mapping[tuple[str, ...], list[Any]]) -> Metric:
    family = HistogramMetricFamily(name, says, labels=labels)
    for values, (counts, seconds) in sorted(times.items()):
        family.add_metric(list(values), _buckets(BOUNDS_S, counts), seconds)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Each bound with how many were at most that long."""
    told: list[tuple[str, float]] = []
    total = 0
    name: Callable[[float], str] = repr
    for bound, count in zip(bounds, counts, strict=False):
        total += count
        told.append((name(float(bound)), float(total)))
    return [*told, ("+Inf", float(total + counts[-1]))]
