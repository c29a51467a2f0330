"""A gateway in a test costs little, and leaves nothing behind: a suite has hundreds."""

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable

from gateway.routing import legacy, route
from gateway.testing import Reply, TestGateway

ENV = {
    "UPSTREAM_USERS": "http://users.test",
    "UPSTREAM_TEAMS": "http://teams.test",
    "ROUTE_HOME": "GET /home/{id}",
    "ROUTE_HOME__PART_USER": "users:/users/{id}",
    "ROUTE_HOME__PART_TEAM": "teams:/teams/{user.team_id}",
    "ROUTE_HOME__OPTIONAL": "team",
    "ROUTE_LIMITED": "/limited -> users",
    "ROUTE_LIMITED__RATE_LIMIT": "1/1m by client",
    "ROUTE_LIMITED__CACHE": "60s",
}


def old() -> dict[str, bool]:
    return {"old": True}


LINES = [route("GET /old", legacy(old))]


async def a_test() -> None:
    async with TestGateway(ENV, routes=LINES) as gateway:
        gateway.users["/users/2"] = {"id": 2, "team_id": 7}
        gateway.teams["/teams/7"] = Reply(404)
        assert (await gateway.get("/home/2")).json()["team"] is None


async def a_test_of_all() -> None:
    async with TestGateway(ENV, routes=LINES) as gateway:
        gateway.users["*"] = {}
        assert [(await gateway.get("/limited")).status for _ in range(2)] == [200, 429]
        assert (await gateway.get("/old")).json() == {"old": True}


def open_now() -> tuple[int, int]:
    gc.collect()
    threads = [one for one in threading.enumerate() if one.name.startswith(("legacy", "portway"))]
    return len(os.listdir("/proc/self/fd")), len(threads)  # noqa: PTH208 - names alone


def test_a_test_takes_less_than_20_ms_of_the_processor(record_property: Callable[[str, object], None]) -> None:
    asyncio.run(a_test())
    began_s = time.process_time()
    for _ in range(100):
        asyncio.run(a_test())
    ms = (time.process_time() - began_s) * 10
    record_property("CPU of a test with the kit, its event loop too, ms", round(ms, 1))
    assert ms < 20


def test_nothing_is_left_behind() -> None:
    asyncio.run(a_test_of_all())
    before = open_now()
    for _ in range(20):
        asyncio.run(a_test_of_all())
    give_up_s = time.monotonic() + 10
    while (now := open_now()) != before and time.monotonic() < give_up_s:
        time.sleep(0.01)  # threads end by themselves
    assert now == before
