"""/-/status: what every worker shows of itself, as one JSON object, once or every second."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway import __version__
from gateway.config import effective, environment
from gateway.http.exchange import is_own
from gateway.observe.counters import BOUNDS_S, RECENT, RECENT_CLIENT
from gateway.observe.past_workers import added
from gateway.observe.shared_memory import Board, is_alive
from gateway.server.worker import Runtime
from gateway.upstreams.pool import Pool

Snapshot = dict[str, Any]
_EVERY_S = 1.0
_NONE = {"total": 0, "failed": 0, "seconds": 0.0}
_DATABASE = ("not in use", "works", "not reached", "failing")  # what one worker says of it, the worst last
_OF_WORKER = ("pid", "started_s", "draining", "in_flight", "kept_body_bytes")
_MEMORY = ("memory_bytes", "memory_max_bytes", "memory_entries")


def snapshot(runtime: Runtime) -> Snapshot:
    """What this worker has counted and holds, in plain values."""
    tally = runtime.tally
    pools = runtime.pools.values()
    limited = {pool.name: pool.places for pool in pools if pool.places is not None}
    return {
        "pid": os.getpid(),
        "alive": True,
        "version": __version__,
        "started_s": runtime.started_s,
        "draining": runtime.draining,
        "in_flight": sum(not exchange.is_own for exchange in runtime.in_flight),
        "kept_body_bytes": runtime.bodies.kept_bytes,
        "requests": [
            [*labels, one.counts, one.seconds, one.bytes_in, one.bytes_out] for labels, one in tally.requests.items()
        ],
        "cache": [[*labels, count] for labels, count in tally.cache.items()],
        "parts": [[*labels, one.counts, one.seconds] for labels, one in tally.parts.items()],
        "attempts": {pool.name: pool.attempts for pool in pools},
        "retries": {pool.name: pool.retries for pool in pools},
        "ejections": {pool.name: pool.ejections for pool in pools},
        "waits": {name: places.waits for name, places in limited.items()},
        "wait_seconds": {name: places.waited_s for name, places in limited.items()},
        "upstreams": [_upstream(pool) for pool in pools],
        "stored": runtime.cache.state(),
        "bulkheads": [
            {
                "name": pool.name,
                "threads": pool.options.threads,
                "running": len(pool.running),
                "waiting": pool.waiting,
                "full": pool.full,
                "late": pool.late,
                "stuck": pool.is_stuck(),
            }
            for pool in runtime.bulkheads.values()
        ],
        "stalls": _stalls(runtime),
        "recent": list(tally.recent),
        "recent_client": list(tally.recent_client),
    }


def _upstream(pool: Pool) -> dict[str, Any]:
    return {
        "name": pool.name,
        "in_flight": sum(endpoint.in_flight for endpoint in pool.endpoints),
        "waiting": 0 if pool.places is None else pool.places.waiting,
        "endpoints": [
            {
                "endpoint": f"{endpoint.base.scheme}://{endpoint.label}{endpoint.base.prefix}",
                "in": int(endpoint.is_in),
                "up": endpoint.probed.up,
                "standing": endpoint.health.standing.value,
                "failures": endpoint.health.failures,
                "in_flight": endpoint.in_flight,
                "latency_ms": None if endpoint.latency_s is None else round(endpoint.latency_s * 1000, 1),
            }
            for endpoint in pool.endpoints
        ],
    }


def _stalls(runtime: Runtime) -> dict[str, Any]:
    stalls = runtime.watchdog.stalls
    return {"bounds_s": list(stalls.BOUNDS_S), "counts": list(stalls.counts), "sum_s": stalls.sum_s}


def of_all(runtime: Runtime) -> list[Snapshot]:
    """This worker's snapshot first, then what the others showed last, those that have ended too."""
    found = [snapshot(runtime), runtime.past]
    board: Board | None = runtime.board
    for process, data in () if board is None else board.others():
        shown, past = msgspec.msgpack.decode(data)
        found += [{**shown, "alive": is_alive(process)}, past]
    return [one for one in found if one is not None]


def publish(runtime: Runtime) -> None:
    """Show this worker's snapshot to the others, and what those before it in its place have counted."""
    if runtime.board is not None:
        runtime.board.publish(msgspec.msgpack.encode((snapshot(runtime), runtime.past)))


def past_of(shown: bytes | None) -> Snapshot | None:
    """What the worker that published this, and those before it, have counted."""
    if shown is None:
        return None
    ended, past = msgspec.msgpack.decode(shown)
    return added(past, ended)


class Told:
    """What /-/status says: all workers together, with what does not change, the routes and the configuration."""

    def __init__(self, runtime: Runtime, routes: Sequence[Mapping[str, Any]]) -> None:
        self._runtime = runtime
        self._routes = [{name: route[name] for name in ("name", "pattern", "target", "origin")} for route in routes]
        entries = environment.read(os.environ, lambda path: Path(path).read_text(encoding="utf-8")).entries
        said = [row for group in effective.effective(entries) for row in group if row.origin != "default"]
        self._config = [{"variable": row.variable, "value": row.value, "origin": row.origin} for row in said]

    def now(self) -> dict[str, Any]:
        """As it is now."""
        snapshots = of_all(self._runtime)
        living = [one for one in snapshots if one["alive"]]
        stored = [one["stored"] for one in living]
        recent = [*_newest(snapshots, "recent", RECENT), *_newest(snapshots, "recent_client", RECENT_CLIENT)]
        by_route = _by_route(snapshots)
        return {
            "version": __version__,
            "time_s": time.time(),
            "workers": [{name: one[name] for name in _OF_WORKER} for one in living],
            "requests": _totals(snapshots),
            "bounds_s": list(BOUNDS_S),
            "routes": [{**route, **by_route.get(route["name"], _NONE)} for route in self._routes],
            "upstreams": _upstreams(living),
            "cache": {
                **{name: sum(one[name] for one in stored) for name in _MEMORY},
                "database_bytes": max(one["database_bytes"] for one in stored),
                "database": max((one["database"] for one in stored), key=_DATABASE.index),
                "outcomes": _outcomes(snapshots),
            },
            "bulkheads": _bulkheads(living),
            "stalls": {"count": sum(sum(one["stalls"]["counts"]) for one in snapshots)},
            "recent": sorted(recent, key=_when, reverse=True),
            "config": self._config,
        }

    async def events(self) -> AsyncIterator[bytes]:
        """The same as server-sent events, one a second, until the worker drains: a page must not hold it up."""
        self._runtime.watchers += 1
        try:
            while not self._runtime.draining:
                yield b"data: " + msgspec.json.encode(self.now()) + b"\n\n"
                await asyncio.sleep(_EVERY_S)
        finally:
            self._runtime.watchers -= 1


def _when(failure: Mapping[str, Any]) -> float:
    at_s: float = failure["at_s"]
    return at_s


# -- adding workers up ----------------------------------------------------------------------------------------------


def _totals(snapshots: Iterable[Snapshot]) -> dict[str, Any]:
    counts = [0] * (len(BOUNDS_S) + 1)
    failed, seconds = 0, 0.0
    for one in snapshots:
        for route, _, status, _, row_counts, row_seconds, _, _ in one["requests"]:
            if is_own(route):
                continue
            counts = [known + more for known, more in zip(counts, row_counts, strict=True)]
            failed += sum(row_counts) if status == 5 else 0
            seconds += row_seconds
    in_flight = sum(one["in_flight"] for one in snapshots if one["alive"])
    return {"total": sum(counts), "failed": failed, "seconds": seconds, "counts": counts, "in_flight": in_flight}


def _by_route(snapshots: Iterable[Snapshot]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in snapshots:
        for route, _, status, _, counts, seconds, _, _ in one["requests"]:
            known = found.setdefault(route, {"total": 0, "failed": 0, "seconds": 0.0})
            known["total"] += sum(counts)
            known["failed"] += sum(counts) if status == 5 else 0
            known["seconds"] += seconds
    return found


def _newest(snapshots: Iterable[Snapshot], name: str, most: int) -> list[Any]:
    return sorted((failure for one in snapshots for failure in one[name]), key=_when)[-most:]


def _outcomes(snapshots: Iterable[Snapshot]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in snapshots:
        for _, outcome, count in one["cache"]:
            found[outcome] = found.get(outcome, 0) + count
    return found


def _upstreams(living: Iterable[Snapshot]) -> list[dict[str, Any]]:
    """Each worker judges endpoints by itself: `in` is how many of `workers` send requests to one."""
    found: dict[str, dict[str, Any]] = {}
    for one in living:
        for upstream in one["upstreams"]:
            name = upstream["name"]
            known = found.setdefault(name, {"name": name, "in_flight": 0, "waiting": 0, "endpoints": {}})
            known["in_flight"] += upstream["in_flight"]
            known["waiting"] += upstream["waiting"]
            for endpoint in upstream["endpoints"]:
                same = known["endpoints"].setdefault(
                    endpoint["endpoint"], {**endpoint, "in": 0, "in_flight": 0, "workers": 0}
                )
                same["workers"] += 1
                same["in"] += endpoint["in"]
                same["in_flight"] += endpoint["in_flight"]
                if not endpoint["in"]:  # the word of a worker that sees it out
                    same |= {name: endpoint[name] for name in ("up", "standing", "failures")}
    return [{**one, "endpoints": list(one["endpoints"].values())} for one in found.values()]


def _bulkheads(living: Iterable[Snapshot]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for one in living:
        for pool in one["bulkheads"]:
            known = found.setdefault(pool["name"], {"name": pool["name"], "stuck": False})
            for name in ("threads", "running", "waiting", "full", "late"):
                known[name] = known.get(name, 0) + pool[name]
            known["stuck"] = known["stuck"] or pool["stuck"]
    return list(found.values())
