"""/-/status: the snapshots of all workers added up, as one JSON object; and the pages of one route or upstream."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway import __version__
from gateway.http.exchange import is_own
from gateway.observe.histogram import Calls, Durations
from gateway.observe.history import Asked, by_second
from gateway.observe.snapshot import Counts, EndpointState, Snapshot, Totals, UpstreamState, WorkerState, merge, time_of

# An endpoint counts as failing if this share of its calls in the last minute failed, even if it is the only one.
FAILING_SHARE: Final = 0.1
_MOST_KINDS: Final = 100  # of failures
_SERVER_ERROR: Final = 5  # a class of statuses
_DAY_S: Final = 86_400
_CALM_S: Final = 3  # how far behind the newest second the other workers may be


class Status:
    """All workers together, with the parts that do not change: the routes and the configuration, each as rows.

    `snapshots` returns the current state of all workers, `running` that of the process and of reloads.
    """

    def __init__(
        self,
        snapshots: Callable[[], Sequence[Snapshot]],
        routes: Sequence[Mapping[str, Any]],
        configuration: Sequence[Mapping[str, str]],
        running: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._snapshots = snapshots
        self._rows = routes
        self._routes = [{name: route[name] for name in ("name", "pattern", "target", "origin")} for route in routes]
        self._configuration = configuration
        self._running = running

    def now(self, history_since_s: int | None = None) -> dict[str, Any]:
        """The current object; with the history from `history_since_s`, if given."""
        totals = merge(self._snapshots())
        counts = totals.counts
        by_route = _by_route(counts)
        found = {
            **_gateway(totals),
            **self._running(),
            "requests": _requests(totals),
            "bounds_s": list(Durations.BOUNDS_S),
            "routes": [
                {**route, **_figures(by_route.get(route["name"]), totals.minute.routes.get(route["name"]))}
                for route in self._routes
            ],
            "upstreams": [_upstream(totals, upstream) for upstream in totals.upstreams],
            "cache": _cache(totals),
            "limits": _limits(totals),
            "auth": _auth(totals),
            "websockets": _websockets(totals),
            "mirrors": _mirrors(totals.counts),
            "bulkheads": msgspec.to_builtins(totals.pools),
            "stalls": {"count": counts.stalls.count},
            "failures": _failures(counts),
            "recent": sorted([*counts.recent, *counts.recent_client], key=time_of, reverse=True),
            "config": self._configuration,
        }
        if history_since_s is not None:
            found["history"] = _history(totals, history_since_s)
        return found

    def route(self, name: str) -> dict[str, Any] | None:
        """The state of the routes of that name; None if there is none."""
        lines = [{**row} for row in self._rows if row["name"] == name]
        if not lines or not name:
            return None
        totals = merge(self._snapshots())
        counts = totals.counts
        ended = [(closed_by, count) for (route, closed_by), count in sorted(counts.sockets.items()) if route == name]
        return {
            **_gateway(totals),
            "kind": "route",
            "name": name,
            "lines": lines,
            **_figures(_by_route(counts).get(name), totals.minute.routes.get(name)),
            "outcomes": _outcomes(counts, name),
            "parts": [
                {"part": part, "reason": reason, **_times(durations)}
                for (route, part, reason), durations in sorted(counts.parts.items())
                if route == name
            ],
            "cache": {outcome: count for (route, outcome), count in counts.cache.items() if route == name},
            "websockets": {"open": sum(one.sockets.get(name, 0) for one in totals.workers), "ended": dict(ended)},
            "failures": _failures(counts, route=name),
            "recent": _recent(counts, "route", name),
        }

    def upstream(self, name: str) -> dict[str, Any] | None:
        """The state of the upstream of that name; None if there is none."""
        totals = merge(self._snapshots())
        state = next((one for one in totals.upstreams if one.name == name), None)
        if state is None:
            return None
        prefix, counts = f"GATEWAY_UPSTREAM_{name.upper()}", totals.counts
        own = [row for row in self._configuration if row["variable"].partition("__")[0] == prefix]
        leads = [route for route, row in zip(self._routes, self._rows, strict=True) if name in _upstreams_of(row)]
        return {
            **_gateway(totals),
            "kind": "upstream",
            **_upstream(totals, state),
            "attempts": counts.attempts.get(name, 0),
            "retries": counts.retries.get(name, 0),
            "ejections": counts.ejections.get(name, 0),
            "waits": counts.waits.get(name, 0),
            "wait_seconds": counts.wait_seconds.get(name, 0.0),
            "routes": leads,
            "config": own,
            "failures": _failures(counts, upstream=name),
            "recent": _recent(counts, "upstream", name),
        }


# -- what each page has ----------------------------------------------------------------------------------------------


def _gateway(totals: Totals) -> dict[str, Any]:
    now_s, workers, gateway = time.time(), totals.workers, totals.gateway
    ends = [worker.certificate_ends_s for worker in workers if worker.certificate_ends_s is not None]
    return {
        "version": __version__,
        "time_s": now_s,
        "host": gateway.host,
        "started_s": gateway.started_s,
        "config_hash": gateway.config_hash,
        "restarts": gateway.restarts,
        "draining": any(worker.draining for worker in workers),
        "memory_bytes": _sum_known(workers),
        "certificate_days": (min(ends) - now_s) / _DAY_S if ends else None,
        "workers": msgspec.to_builtins(workers),
    }


def _sum_known(workers: Iterable[WorkerState]) -> int | None:
    known = [worker.memory_bytes for worker in workers if worker.memory_bytes is not None]
    return sum(known) if known else None


def _history(totals: Totals, since_s: int) -> list[list[float | None]]:
    """Each second as time, requests, failures, p50 and p99; without the newest, which are incomplete."""
    seconds = totals.counts.seconds
    found = by_second(seconds, len(totals.workers), since_s)
    newest_s = seconds.until_s - (_CALM_S if len(totals.workers) > 1 else 0)
    return [
        [one.at_s, round(one.requests, 2), round(one.failed, 2), one.half_s, one.tail_s]
        for one in found
        if one.at_s <= newest_s
    ]


def _times(durations: Durations) -> dict[str, Any]:
    return {
        "total": durations.count,
        "seconds": durations.sum_s,
        "p50_s": durations.quantile_s(0.5),
        "p99_s": durations.quantile_s(0.99),
    }


def _figures(since_start: Asked | None, minute: Asked | None) -> dict[str, Any]:
    """The figures of one route, since the start and in the last minute."""
    total, lately = since_start or Asked(), minute or Asked()
    return {**_times(total), "failed": total.failed, "minute": {**_times(lately), "failed": lately.failed}}


def _failures(counts: Counts, route: str | None = None, upstream: str | None = None) -> list[dict[str, Any]]:
    """Failures grouped by kind, the latest first."""
    kinds = [
        {"reason": reason, "route": of_route, "upstream": of_upstream, "count": kind.count, "last": kind.last}
        for (reason, of_route, of_upstream), kind in counts.failures.items()
        if route in {None, of_route} and upstream in {None, of_upstream}
    ]
    return sorted(kinds, key=_when, reverse=True)[:_MOST_KINDS]


def _when(kind: Mapping[str, Any]) -> float:
    return time_of(kind["last"])


def _recent(counts: Counts, field: str, value: str) -> list[dict[str, Any]]:
    return [
        one for one in sorted([*counts.recent, *counts.recent_client], key=time_of, reverse=True) if one[field] == value
    ]


# -- requests ------------------------------------------------------------------------------------------------------


def _requests(totals: Totals) -> dict[str, Any]:
    """All requests but those to the gateway itself."""
    sums, failed = Durations(), 0
    for (route, _, status, _), requests in totals.counts.requests.items():
        if not is_own(route):
            sums.add(requests)
            failed += requests.count if status == _SERVER_ERROR else 0
    in_flight = sum(worker.in_flight for worker in totals.workers)
    return {
        "total": sums.count,
        "failed": failed,
        "seconds": sums.sum_s,
        "counts": sums.counts,
        "in_flight": in_flight,
        "minute": _minute(totals),
    }


def _minute(totals: Totals) -> dict[str, Any]:
    """All requests of the last minute."""
    sums = Asked()
    for asked in totals.minute.routes.values():
        sums.add(asked)
    return {**_times(sums), "failed": sums.failed}


def _by_route(counts: Counts) -> dict[str, Asked]:
    found: dict[str, Asked] = {}
    for (route, _, status, _), requests in counts.requests.items():
        sums = found.setdefault(route, Asked())
        Durations.add(sums, requests)
        sums.failed += requests.count if status == _SERVER_ERROR else 0
    return found


def _outcomes(counts: Counts, name: str) -> list[dict[str, Any]]:
    """How the requests of a route ended: by method, class of status and reason."""
    return [
        {"method": method, "status": f"{status}xx", "reason": reason, **_times(requests)}
        for (route, method, status, reason), requests in sorted(counts.requests.items())
        if route == name
    ]


def _websockets(totals: Totals) -> dict[str, Any]:
    """How many are open, also by route, and how many have ended, by closing side."""
    ended: dict[str, int] = {}
    for (_, closed_by), count in totals.counts.sockets.items():
        ended[closed_by] = ended.get(closed_by, 0) + count
    open_now: dict[str, int] = {}
    for worker in totals.workers:
        for route, count in worker.sockets.items():
            open_now[route] = open_now.get(route, 0) + count
    return {"open": sum(open_now.values()), "by_route": open_now, "ended": ended}


def _mirrors(counts: Counts) -> list[dict[str, Any]]:
    """For each route with copied requests: what both answered, how often that was the same, and how long it took."""
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


# -- upstreams -----------------------------------------------------------------------------------------------------


def health_of(endpoint: EndpointState, lately: Calls | None) -> tuple[str, str]:
    """`up`, `failing` or `down`, and why in words. `lately` are its calls of the last minute."""
    if not endpoint.up:
        return "down", "the probes say so"
    if not endpoint.is_in:
        return "down", f"ejected after {endpoint.failures} failures"
    if endpoint.is_in < endpoint.workers:
        return "failing", f"ejected by {endpoint.workers - endpoint.is_in} of {endpoint.workers} workers"
    if lately is not None and (failed := _failed(lately)) and failed >= FAILING_SHARE * _asked(lately):
        return "failing", f"{failed} of {_asked(lately)} calls failed in the last minute"
    return "up", "drained: it gets no new clients" if endpoint.drained else ""


def _failed(calls: Calls) -> int:
    return sum(calls.failures.values())


def _asked(calls: Calls) -> int:
    """All calls: those with an answer, and those that failed for another reason than its status."""
    return calls.count + sum(count for reason, count in calls.failures.items() if not reason.isdigit())


def _upstream(totals: Totals, upstream: UpstreamState) -> dict[str, Any]:
    name, of_none = upstream.name, totals.counts.calls.get((upstream.name, ""), Calls())
    calls, lately = Calls(), Calls()
    for key, one in totals.counts.calls.items():
        if key[0] == name:
            calls.add(one)
            lately.add(totals.minute.calls.get(key, Calls()))
    return {
        "name": name,
        "in_flight": upstream.in_flight,
        "waiting": upstream.waiting,
        **_calls(calls, lately),
        "not_asked": of_none.failures,
        "endpoints": [_endpoint(totals, name, endpoint) for endpoint in upstream.endpoints],
        "sources": msgspec.to_builtins(upstream.sources),
    }


def _endpoint(totals: Totals, upstream: str, endpoint: EndpointState) -> dict[str, Any]:
    key = (upstream, endpoint.endpoint)
    calls, lately = totals.counts.calls.get(key, Calls()), totals.minute.calls.get(key)
    health, why = health_of(endpoint, lately)
    return {
        **msgspec.to_builtins(endpoint),
        "health": health,
        "why": why,
        **_calls(calls, lately or Calls()),
        "last_failure": calls.last_failure or None,
        "last_failure_s": calls.last_failure_s or None,
    }


def _calls(calls: Calls, lately: Calls) -> dict[str, Any]:
    return {
        **_times(calls),
        "total": _asked(calls),
        "failed": _failed(calls),
        "reasons": calls.failures,
        "minute": {**_times(lately), "total": _asked(lately), "failed": _failed(lately), "reasons": lately.failures},
    }


def _upstreams_of(row: Mapping[str, Any]) -> set[str]:
    """The names of upstreams that a row of the table leads to, by its target or its parts."""
    parts = [value for option, value in row.get("options", {}).items() if option.startswith("part_")]
    return {target.partition(":")[0] for target in (row["target"], *parts)}


# -- the rest --------------------------------------------------------------------------------------------------------


def _limits(totals: Totals) -> dict[str, Any]:
    """The store, and the outcomes of requests for each limit that was asked."""
    by_limit: dict[str, dict[str, int]] = {}
    for (limit, outcome), count in sorted(totals.counts.limits.items()):
        by_limit.setdefault(limit, {"passed": 0, "refused": 0})[outcome] = count
    met = [{"limit": limit, **outcomes} for limit, outcomes in by_limit.items()]
    return {**msgspec.to_builtins(totals.limits), "limits": met}


def _auth(totals: Totals) -> list[dict[str, Any]]:
    """The ways to authenticate, each with the outcomes of its requests."""
    outcomes: dict[str, dict[str, int]] = {}
    for (way, outcome), count in totals.counts.auth.items():
        outcomes.setdefault(way, {})[outcome] = count
    return [{**msgspec.to_builtins(way), "outcomes": outcomes.get(way.name, {})} for way in totals.ways]


def _cache(totals: Totals) -> dict[str, Any]:
    outcomes: dict[str, int] = {}
    for (_, outcome), count in totals.counts.cache.items():
        outcomes[outcome] = outcomes.get(outcome, 0) + count
    return {**msgspec.to_builtins(totals.stored), "outcomes": outcomes}
