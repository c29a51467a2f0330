"""What workers that ended have counted, added up: as one more snapshot, of a worker that is not alive.

Counters never fall, however often a worker is started again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.observe.counters import RECENT, RECENT_CLIENT

Snapshot = dict[str, Any]

# Lists of rows: of each row so many labels, then numbers, or lists of numbers.
_ROWS: Final = {"requests": 4, "cache": 2, "parts": 3}
_BY_NAME: Final = ("attempts", "retries", "ejections", "waits", "wait_seconds")
_RECENT: Final = {"recent": RECENT, "recent_client": RECENT_CLIENT}


def added(past: Snapshot | None, ended: Snapshot) -> Snapshot:
    """`past`, if there is any, and the last snapshot of one more worker, which has ended."""
    if past is None:
        return {**ended, "alive": False}
    total = {**ended, "alive": False}
    for name, labels in _ROWS.items():
        total[name] = _rows(past[name], ended[name], labels)
    for name in _BY_NAME:
        total[name] = _by_name(past[name], ended[name])
    total["bulkheads"] = _bulkheads(past["bulkheads"], ended["bulkheads"])
    total["stalls"] = {
        **ended["stalls"],
        "counts": _sum(past["stalls"]["counts"], ended["stalls"]["counts"]),
        "sum_s": past["stalls"]["sum_s"] + ended["stalls"]["sum_s"],
    }
    for name, most in _RECENT.items():
        total[name] = [*past[name], *ended[name]][-most:]
    return total


def _rows(past: Sequence[Sequence[Any]], ended: Sequence[Sequence[Any]], labels: int) -> list[list[Any]]:
    totals = {tuple(row[:labels]): list(row[labels:]) for row in past}
    for row in ended:
        known = totals.get(key := tuple(row[:labels]))
        totals[key] = list(row[labels:]) if known is None else list(map(_sum, known, row[labels:]))
    return [[*key, *numbers] for key, numbers in totals.items()]


def _sum(one: Any, other: Any) -> Any:
    return [a + b for a, b in zip(one, other, strict=True)] if isinstance(one, list) else one + other


def _by_name(past: Mapping[str, float], ended: Mapping[str, float]) -> dict[str, float]:
    return {name: past.get(name, 0) + ended.get(name, 0) for name in {**past, **ended}}


def _bulkheads(past: Sequence[Snapshot], ended: Sequence[Snapshot]) -> list[Snapshot]:
    before = {pool["name"]: pool for pool in past}
    return [
        {**pool, **{name: pool[name] + before[pool["name"]][name] for name in ("full", "late")}}
        if pool["name"] in before
        else pool
        for pool in ended
    ]
