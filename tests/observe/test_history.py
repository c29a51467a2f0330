"""What happened lately, by a clock that the test sets."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.counters import RequestLabels, Requests
from gateway.observe.histogram import Calls
from gateway.observe.history import KEPT_S, History, Second, Seconds, by_second, merged

GOOD: RequestLabels = ("users", "GET", 2, "")
BAD: RequestLabels = ("users", "GET", 5, "connection_refused")
BEGAN_S = 1_800_000_000


class Machine:
    """A worker that counts, and its history."""

    def __init__(self) -> None:
        self.history = History()
        self.requests: dict[RequestLabels, Requests] = {}
        self.calls: dict[tuple[str, str], Calls] = {}

    def serve(self, labels: RequestLabels, seconds: float, count: int = 1) -> None:
        for _ in range(count):
            self.requests.setdefault(labels, Requests()).observe(seconds)

    def tick(self, second: float) -> None:
        self.history.tick(BEGAN_S + second, self.requests, self.calls)

    def seconds(self, workers: int = 1) -> list[Second]:
        return list(by_second(self.history.seconds(), workers))


def test_each_second_has_its_rate_its_failures_and_its_times() -> None:
    machine = Machine()
    machine.tick(0)
    machine.serve(GOOD, 0.02, 9)
    machine.serve(BAD, 0.3)
    machine.tick(1)
    machine.tick(2)
    quiet, busy, after = machine.seconds()
    assert (quiet.requests, quiet.half_s, quiet.tail_s) == (0, None, None)
    assert (busy.at_s, busy.requests, busy.failed) == (BEGAN_S + 1, 10, 1)
    assert busy.half_s is not None
    assert busy.tail_s is not None
    assert 0.01 < busy.half_s < 0.025
    assert 0.25 < busy.tail_s <= 0.5
    assert after.requests == 0


def test_a_tick_that_comes_late_makes_no_peak() -> None:
    machine = Machine()
    machine.tick(0)
    machine.serve(GOOD, 0.02, 30)
    machine.tick(3)
    assert [(one.at_s - BEGAN_S, one.requests) for one in machine.seconds()] == [(0, 0), (3, 10)]


def test_ten_minutes_are_kept() -> None:
    machine = Machine()
    for second in range(KEPT_S + 100):
        machine.serve(GOOD, 0.02)
        machine.tick(second)
    kept = machine.seconds()
    assert [one.at_s - BEGAN_S for one in kept] == list(range(100, KEPT_S + 100))
    assert {one.requests for one in kept} == {1}
    machine.tick(3 * KEPT_S)  # it was stopped meanwhile
    assert [one.at_s - BEGAN_S for one in machine.seconds()] == [3 * KEPT_S]


def test_the_gateways_own_endpoints_are_no_traffic() -> None:
    machine = Machine()
    machine.tick(0)
    machine.serve(("/-/status", "GET", 2, ""), 0.02)
    machine.tick(1)
    assert [one.requests for one in machine.seconds()] == [0, 0]
    assert machine.history.of_routes() == {}


def test_the_last_minute_of_a_route_and_of_an_endpoint_passes() -> None:
    machine = Machine()
    machine.serve(BAD, 0.3, 4)
    machine.calls["users", "http://users:80"] = calls = Calls()
    calls.failed("connection_refused", BEGAN_S)
    machine.tick(0)
    machine.serve(GOOD, 0.02, 6)
    calls.observe(0.02)
    machine.tick(30)
    route = machine.history.of_routes()["users"]
    assert (route.count, route.failed) == (10, 4)
    endpoint = machine.history.of_calls()["users", "http://users:80"]
    assert (endpoint.count, endpoint.failures) == (1, {"connection_refused": 1})
    machine.tick(61)
    route = machine.history.of_routes()["users"]
    assert (route.count, route.failed) == (6, 0)
    machine.tick(95)
    assert not machine.history.of_routes()
    assert not machine.history.of_calls()


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    machine = Machine()
    machine.tick(10)
    machine.serve(GOOD, 0.02, 5)
    machine.tick(5)
    machine.tick(11)
    assert machine.history.of_routes()["users"].count == 5
    assert sum(one.at_s == BEGAN_S + 10 for one in machine.seconds()) == 1


def test_workers_are_added_by_the_clock() -> None:
    one, other = Machine(), Machine()
    for second in range(3):
        for machine in (one, other):
            machine.serve(GOOD, 0.02, 2)
            machine.tick(second)
    one.serve(BAD, 0.02, 3)
    one.tick(3)
    together = merged([one.history.seconds(), Seconds(), other.history.seconds()])
    found = list(by_second(together, 2))
    assert [(second.at_s - BEGAN_S, second.requests) for second in found] == [(0, 4), (1, 4), (2, 4), (3, 3)]


def test_what_a_worker_showed_long_ago_is_over() -> None:
    old, new = Machine(), Machine()
    old.serve(GOOD, 0.02)
    old.tick(0)
    new.serve(GOOD, 0.02)
    new.tick(KEPT_S + 5)
    assert [one.at_s - BEGAN_S for one in by_second(merged([old.history.seconds(), new.history.seconds()]), 1)] == [
        KEPT_S + 5
    ]


@given(st.lists(st.tuples(st.floats(0.1, 400), st.integers(0, 50)), max_size=30))
def test_no_request_of_the_last_ten_minutes_is_lost_or_counted_twice(turns: list[tuple[float, int]]) -> None:
    machine, now, served = Machine(), 0.0, []
    for passed, count in turns:
        now += passed
        machine.serve(GOOD, 0.02, count)
        machine.tick(now)
        served.append((int(now), count))
    kept = sum(count for second, count in served if second > int(now) - KEPT_S)
    rows = memoryview(machine.history.seconds().rows).cast("I") if served else memoryview(b"")
    assert sum(rows[at] for at in range(len(rows)) if at % 15 < 13) == kept
