"""Workers added up: what those that ended have counted, and that metrics and status are two views of the same sums."""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gateway.http.exchange import Exchange
from gateway.observe.counters import Counters, Requests
from gateway.observe.histogram import Durations, Stalls
from gateway.observe.metrics import exposition
from gateway.observe.snapshot import (
    CacheState,
    Counts,
    EndpointState,
    LegacyPoolState,
    Snapshot,
    UpstreamState,
    WorkerState,
    add_counts,
    merge,
)
from gateway.observe.status import Status


def durations(*seconds: float) -> Durations:
    found = Durations()
    for one in seconds:
        found.observe(one)
    return found


def requests(*seconds: float, bytes_in: int = 0, bytes_out: int = 0) -> Requests:
    found = Requests(bytes_in=bytes_in, bytes_out=bytes_out)
    for one in seconds:
        found.observe(one)
    return found


def counts(**known: Any) -> Counts:
    stalls = Stalls()
    stalls.observe(0.05)
    nothing: dict[str, Any] = {
        "requests": {("users", "GET", 2, ""): requests(0.25, 0.25, 0.0, bytes_in=10, bytes_out=20)},
        "cache": {("users", "hit"): 3},
        "parts": {("home", "user", ""): durations(0.25)},
        "attempts": {"users": 5},
        "retries": {"users": 1},
        "ejections": {"users": 0},
        "legacy_full": {"reports": 2},
        "legacy_late": {"reports": 3},
        "stalls": stalls,
        "recent": [{"at_s": 1.0}],
    }
    return Counts(**(nothing | known))


def test_counters_add_up_by_their_labels() -> None:
    ended = counts(
        requests={
            ("users", "GET", 2, ""): requests(0.5, 0.5, bytes_in=1, bytes_out=1),
            ("users", "GET", 5, "dns_failed"): requests(2.0),
        },
        attempts={"users": 1, "orders": 7},
    )
    total = add_counts([counts(), ended])
    assert total.requests == {
        ("users", "GET", 2, ""): requests(0.25, 0.25, 0.0, 0.5, 0.5, bytes_in=11, bytes_out=21),
        ("users", "GET", 5, "dns_failed"): requests(2.0),
    }
    assert total.cache == {("users", "hit"): 6}
    assert total.parts == {("home", "user", ""): durations(0.25, 0.25)}
    assert total.attempts == {"users": 6, "orders": 7}
    assert (total.legacy_full, total.legacy_late) == ({"reports": 4}, {"reports": 6})
    assert (total.stalls.counts[0], total.stalls.count, total.stalls.sum_s) == (2, 2, 0.1)
    assert len(total.recent) == 2


def test_adding_up_changes_none_of_its_arguments() -> None:
    one, other = counts(), counts()
    add_counts([one, other])
    assert one == other == counts()


def test_failures_are_kept_up_to_a_number() -> None:
    total = Counts()
    for number in range(200):
        total = add_counts([total, counts(recent=[{"at_s": float(number)}])])
    assert [one["at_s"] for one in total.recent] == [float(number) for number in range(150, 200)]


# -- snapshots ----------------------------------------------------------------------------------------------------


def endpoint(is_in: int, **known: Any) -> EndpointState:
    nothing: dict[str, Any] = {"up": True, "standing": "in", "failures": 0, "in_flight": 1, "latency_ms": 2.0}
    return EndpointState(endpoint="http://users:1", is_in=is_in, **(nothing | known))


def snapshot(**known: Any) -> Snapshot:
    nothing: dict[str, Any] = {
        "version": "1",
        "worker": WorkerState(1, 2.0, draining=False, in_flight=1, kept_body_bytes=5),
        "counts": counts(),
        "past": None,
        "upstreams": [UpstreamState("users", 1, 2, [endpoint(1)])],
        "stored": CacheState(10, 100, 1, 1000, "works"),
        "pools": [LegacyPoolState("reports", stuck=False, threads=4, running=1, waiting=0, full=2, late=3)],
    }
    return Snapshot(**(nothing | known))


def test_a_snapshot_comes_back_from_shared_memory_as_it_was() -> None:
    one = snapshot(past=counts())
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(one), type=Snapshot) == one


def test_what_a_dead_worker_held_is_held_no_more_and_what_it_counted_stays_counted() -> None:
    totals = merge([snapshot(), snapshot(is_alive=False, past=counts())])
    assert (len(totals.workers), totals.upstreams[0].in_flight, totals.pools[0].full) == (1, 1, 2)
    assert (totals.counts.attempts, totals.counts.legacy_full) == ({"users": 15}, {"reports": 6})
    assert (totals.stored.memory_bytes, totals.databases_that_work) == (10, 1)


def test_an_endpoint_is_shown_as_a_worker_judges_it_that_sends_nothing_there() -> None:
    out = UpstreamState("users", 1, 0, [endpoint(0, standing="out", failures=5, up=False, latency_ms=9.0)])
    totals = merge([snapshot(), snapshot(upstreams=[out]), snapshot()])
    (upstream,) = totals.upstreams
    assert (upstream.in_flight, upstream.waiting) == (3, 4)
    assert upstream.endpoints == [
        endpoint(2, standing="out", failures=5, up=False, in_flight=3, workers=3),
    ]


def test_of_one_database_the_worst_counts_and_of_memories_the_sum() -> None:
    stored = [CacheState(10, 100, 1, 1000, "works"), CacheState(5, 100, 2, 2000, "failing")]
    totals = merge([snapshot(stored=one) for one in stored])
    assert (totals.stored, totals.databases_that_work) == (CacheState(15, 200, 3, 2000, "failing"), 1)


# -- two views ----------------------------------------------------------------------------------------------------


def sums_of(text: bytes, name: str, **labels: str) -> dict[str, float]:
    """The samples of one name, added up by route, upstream or pool."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                key = next((sample.labels[one] for one in ("route", "upstream", "pool") if one in sample.labels), "")
                found[key] = found.get(key, 0) + sample.value
    return found


exchanges = st.tuples(
    st.sampled_from(["users", "orders", "/-/status", None]),
    st.sampled_from(["GET", "POST", "BREW"]),
    st.sampled_from([(200, None), (404, "route_not_found"), (502, "connection_refused"), (500, "view_error")]),
    st.sampled_from([None, "hit", "miss"]),
    st.floats(min_value=0, max_value=100),
)


def counters_of(traffic: Iterable[tuple[str | None, str, tuple[int, str | None], str | None, float]]) -> Counters:
    counters = Counters()
    for route, method, (status, reason), outcome, seconds in traffic:
        exchange = Exchange(0.0, method, "/a", "192.0.2.1")
        exchange.ended, exchange.route, exchange.status, exchange.reason = seconds, route, status, reason
        exchange.cache = outcome
        counters.note(exchange)
    return counters


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.lists(exchanges, max_size=15), st.booleans(), st.booleans()),
        min_size=1,
        max_size=4,
    )
)
def test_metrics_and_status_count_the_same_traffic_alike(workers: list[tuple[Any, bool, bool]]) -> None:
    """Of workers that live, that died, and of those before them."""
    snapshots = [snapshot()]
    for traffic, is_alive, has_past in workers:
        counters = counters_of(traffic)
        own = counts(requests=counters.requests, cache=counters.cache, recent=list(counters.recent))
        snapshots.append(snapshot(counts=own, is_alive=is_alive, past=counts() if has_past else None))
    _, text = exposition(snapshots, "")
    routes = [dict.fromkeys(("name", "pattern", "target", "origin"), name) for name in ("users", "orders", "none")]
    status = Status(lambda: snapshots, routes, []).now()

    total = sums_of(text, "portway_requests_total")
    failed = sums_of(text, "portway_requests_total", status="5xx")
    seconds = sums_of(text, "portway_request_duration_seconds_sum")
    own_total = total.pop("/-/status", 0.0)
    assert status["requests"]["total"] == sum(status["requests"]["counts"]) == sum(total.values())
    assert own_total == sum(
        count
        for name, count in sums_of(text, "portway_request_duration_seconds_count").items()
        if name.startswith("/-/")
    )
    assert status["requests"]["failed"] == sum(count for name, count in failed.items() if name != "/-/status")
    assert math.isclose(
        status["requests"]["seconds"], sum(one for name, one in seconds.items() if name != "/-/status"), abs_tol=1e-9
    )
    for route in status["routes"]:
        name = route["name"]
        assert (route["total"], route["failed"]) == (total.get(name, 0), failed.get(name, 0))
        assert route["seconds"] == pytest.approx(seconds.get(name, 0.0))
    outcomes: dict[str, float] = {}
    for outcome in ("hit", "miss"):
        if count := sum(sums_of(text, "portway_cache_requests_total", outcome=outcome).values()):
            outcomes[outcome] = count
    assert status["cache"]["outcomes"] == outcomes
    assert status["stalls"]["count"] == sum(sums_of(text, "portway_loop_stall_seconds_count").values())
    assert len(status["workers"]) == sum(sums_of(text, "portway_workers").values())
    assert status["requests"]["in_flight"] == sum(sums_of(text, "portway_requests_in_flight").values())
    (upstream,) = status["upstreams"]
    assert sums_of(text, "portway_upstream_in_flight") == {"users": upstream["in_flight"]}
    assert sums_of(text, "portway_endpoint_in") == {"users": sum(one["in"] for one in upstream["endpoints"])}
    for name in ("memory_bytes", "memory_entries", "database_bytes"):
        assert sums_of(text, f"portway_cache_{name}") == {"": status["cache"][name]}
    (pool,) = status["bulkheads"]
    for name in ("running", "waiting", "threads"):
        assert sums_of(text, f"portway_legacy_{name}") == {"reports": pool[name]}
