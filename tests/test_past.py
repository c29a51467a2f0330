"""What workers that ended have counted."""

from typing import Any

from gateway.observe.past_workers import Snapshot, added


def snapshot(**known: Any) -> Snapshot:
    nothing: Snapshot = {
        "pid": 1,
        "alive": True,
        "requests": [["users", "GET", 2, "", [1, 2], 0.5, 10, 20]],
        "cache": [["users", "hit", 3]],
        "parts": [["home", "user", "", [4, 0], 0.25]],
        "attempts": {"users": 5},
        "retries": {"users": 1},
        "ejections": {"users": 0},
        "waits": {},
        "wait_seconds": {},
        "bulkheads": [{"name": "reports", "running": 1, "full": 2, "late": 3}],
        "stalls": {"bounds_s": [0.1], "counts": [1, 0], "sum_s": 0.05},
        "recent": [{"at_s": 1.0}],
        "recent_client": [],
    }
    return {**nothing, **known}


def test_counters_add_up_by_their_labels() -> None:
    ended = snapshot(
        requests=[["users", "GET", 2, "", [1, 1], 1.0, 1, 1], ["users", "GET", 5, "dns_failed", [0, 1], 2.0, 0, 0]],
        attempts={"users": 1, "orders": 7},
    )
    total = added(added(None, snapshot()), ended)
    assert not total["alive"]
    assert total["requests"] == [
        ["users", "GET", 2, "", [2, 3], 1.5, 11, 21],
        ["users", "GET", 5, "dns_failed", [0, 1], 2.0, 0, 0],
    ]
    assert total["cache"] == [["users", "hit", 6]]
    assert total["parts"] == [["home", "user", "", [8, 0], 0.5]]
    assert total["attempts"] == {"users": 6, "orders": 7}
    assert [(pool["full"], pool["late"]) for pool in total["bulkheads"]] == [(4, 6)]
    assert total["stalls"] == {"bounds_s": [0.1], "counts": [2, 0], "sum_s": 0.1}
    assert len(total["recent"]) == 2


def test_failures_are_kept_up_to_a_number() -> None:
    total = None
    for number in range(200):
        total = added(total, snapshot(recent=[{"at_s": float(number)}]))
    assert total is not None
    assert [one["at_s"] for one in total["recent"]] == [float(number) for number in range(150, 200)]
