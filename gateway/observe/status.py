"""/-/status: the snapshots of all workers added up, as one JSON object."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from gateway import __version__
from gateway.http.exchange import is_own
from gateway.observe.histogram import Durations
from gateway.observe.snapshot import Counts, Snapshot, Totals, merge, time_of


class Status:
    """All workers together, with what does not change: the routes and the configuration, each as rows.

    `snapshots` gives what all workers show now.
    """

    def __init__(
        self,
        snapshots: Callable[[], Sequence[Snapshot]],
        routes: Sequence[Mapping[str, Any]],
        configuration: Sequence[Mapping[str, str]],
    ) -> None:
        self._snapshots = snapshots
        self._routes = [{name: route[name] for name in ("name", "pattern", "target", "origin")} for route in routes]
        self._configuration = configuration

    def now(self) -> dict[str, Any]:
        """The object, as it is now."""
        totals = merge(self._snapshots())
        counts, by_route = totals.counts, _by_route(totals.counts)
        nothing = {"total": 0, "failed": 0, "seconds": 0.0}
        return {
            "version": __version__,
            "time_s": time.time(),
            "workers": msgspec.to_builtins(totals.workers),
            "requests": _requests(totals),
            "bounds_s": list(Durations.BOUNDS_S),
            "routes": [{**route, **by_route.get(route["name"], nothing)} for route in self._routes],
            "upstreams": msgspec.to_builtins(totals.upstreams),
            "cache": _cache(totals),
            "limits": _limits(totals),
            "auth": _auth(totals),
            "websockets": _websockets(totals),
            "mirrors": _mirrors(totals.counts),
            "bulkheads": msgspec.to_builtins(totals.pools),
            "stalls": {"count": counts.stalls.count},
            "recent": sorted([*counts.recent, *counts.recent_client], key=time_of, reverse=True),
            "config": self._configuration,
        }


def _requests(totals: Totals) -> dict[str, Any]:
    """All requests but those to the gateway itself."""
    sums, failed = Durations(), 0
    for (route, _, status, _), requests in totals.counts.requests.items():
        if not is_own(route):
            sums.add(requests)
            failed += requests.count if status == 5 else 0
    in_flight = sum(worker.in_flight for worker in totals.workers)
    return {
        "total": sums.count,
        "failed": failed,
        "seconds": sums.sum_s,
        "counts": sums.counts,
        "in_flight": in_flight,
    }


def _websockets(totals: Totals) -> dict[str, Any]:
    """How many are open, and have ended; by who closed them."""
    ended: dict[str, int] = {}
    for (_, closed_by), count in totals.counts.sockets.items():
        ended[closed_by] = ended.get(closed_by, 0) + count
    return {"open": sum(sum(worker.sockets.values()) for worker in totals.workers), "ended": ended}


def _mirrors(counts: Counts) -> list[dict[str, Any]]:
    """Of each route whose requests are copied: what both answered, how often it was the same, and how long it took."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def row(route: str, mirror: str) -> dict[str, Any]:
        nothing = {"sent": 0, "same": 0, "skipped": 0, "answer_s": 0.0, "mirror_s": 0.0}
        return found.setdefault((route, mirror), {"route": route, "mirror": mirror, **nothing})

    for (route, mirror, status, outcome), count in sorted(counts.mirrors.items()):
        row(route, mirror)["sent"] += count
        row(route, mirror)["same"] += count if status == outcome else 0
    for (route, mirror, _), count in sorted(counts.mirror_skips.items()):
        row(route, mirror)["skipped"] += count
    for (route, mirror, whose), durations in counts.mirror_durations.items():
        row(route, mirror)[f"{whose}_s"] = durations.sum_s
    return list(found.values())


def _by_route(counts: Counts) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for (route, _, status, _), requests in counts.requests.items():
        sums = found.setdefault(route, {"total": 0, "failed": 0, "seconds": 0.0})
        sums["total"] += requests.count
        sums["failed"] += requests.count if status == 5 else 0
        sums["seconds"] += requests.sum_s
    return found


def _limits(totals: Totals) -> dict[str, Any]:
    """The store, and of each limit that was met what came of the requests."""
    by_limit: dict[str, dict[str, int]] = {}
    for (limit, outcome), count in sorted(totals.counts.limits.items()):
        by_limit.setdefault(limit, {"passed": 0, "refused": 0})[outcome] = count
    met = [{"limit": limit, **outcomes} for limit, outcomes in by_limit.items()]
    return {**msgspec.to_builtins(totals.limits), "limits": met}


def _auth(totals: Totals) -> list[dict[str, Any]]:
    """The ways to authenticate, each with what came of the requests that it was asked about."""
    outcomes: dict[str, dict[str, int]] = {}
    for (way, outcome), count in totals.counts.auth.items():
        outcomes.setdefault(way, {})[outcome] = count
    return [{**msgspec.to_builtins(way), "outcomes": outcomes.get(way.name, {})} for way in totals.ways]


def _cache(totals: Totals) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    for (_, outcome), count in totals.counts.cache.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    return {**msgspec.to_builtins(totals.stored), "outcomes": outcomes}
