"""Steady load on two endpoints of which one fails: what the clients may see of it, fault by fault.

One gateway stands for the whole file. Every fault has an upstream of its own there, over the same two servers, so that
it begins with endpoints that nobody has ejected. A fault is gone through once, under a mixed load; the tests of it then
look at what came of that.

Names whose addresses change are in test_resolver.py.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from tests.live.chaos import KEYED, Load, Outcome, percentile_ms, told
from tests.live.faulty import Faulty, Seen
from tests.live.harness import Gateway, eventually

# How long each fault lasts. What was asked while it did is heard to its end, also after the 2 s of a timeout.
LASTS_S = {
    "refuses": 0.3,
    "killed": 0.3,
    "restarts": 0.2,
    "resets": 0.3,
    "flaky": 0.3,
    "hangs_up": 0.3,
    "half": 0.3,
    "half_reset": 0.3,
    "half_chunked": 0.3,
    "garbage": 0.3,
    "closes_idle": 0.3,
    "status_502": 0.3,
    "status_503": 0.3,
    "status_504": 0.3,
    "trickles": 0.5,
    "never_accepts": 1.2,
    "never_answers": 1.2,
    "frozen": 2.2,
}
# A gateway that looks at requests in flight sends hardly any to an endpoint like these; in turn, half of all go there.
SILENT = {"never_answers", "frozen"}
SLOW = {"trickles", "never_accepts", "never_answers", "frozen"}
# A process has to end and to start for these, so they come once; the others come and go a few times first.
PROCESSES = {"killed", "restarts"}
# What reaches a server then is not read by it, and so not in its record.
NOTHING_READ = {"refuses", "killed", "restarts", "never_accepts", "frozen"}
FLAPS, FLAP_S, PAUSE_S = 4, 0.03, 0.05
BEFORE_S, AFTER_S = 0.2, 0.2
NO_CONNECTION = ("refuses", "killed", "never_accepts")
UPSTREAMS = [
    *LASTS_S,
    *(f"idle-{fault}" for fault in NO_CONNECTION),
    *("burst", "reuse-one", "reuse-both", "busy", "both-down", "rolls", "back"),
]
GATEWAY_ERRORS = {502, 503, 504}


class Pair(NamedTuple):
    """The two endpoints. `bad` is the one that fails."""

    bad: Faulty
    good: Faulty


@dataclass(frozen=True)
class Run:
    """What came of one fault."""

    fault: str
    load: Load
    acted: Counter[str]  # on each request, by its id
    acted_by: Mapping[str, list[str]]  # the names of the servers
    seen: list[Seen]
    lines: Mapping[str, dict[str, Any]]  # of the log, by request id

    def of(self, *kinds: str) -> list[Outcome]:
        return self.load.of(*kinds)

    def told(self, outcomes: Sequence[Outcome]) -> str:
        """What the client saw, and what the log said of it, for the message of an assertion."""
        return "\n".join([told(outcomes), *(str(self.lines[one.id]) for one in outcomes[:8])])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("faulty")
    with Faulty("bad", folder) as bad, Faulty("good", folder) as good:
        yield Pair(bad, good)


@pytest.fixture(scope="module")
def gateway(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {}
    for name in UPSTREAMS:
        variable = name.upper().replace("-", "_")
        environment[f"GATEWAY_UPSTREAM_{variable}"] = f"{pair.bad.url},{pair.good.url}"
        environment[f"GATEWAY_UPSTREAM_{variable}__TIMEOUT"] = "2s"
        # A share of the requests of ten seconds: these loads are too short to have earned what they need.
        if name != "burst":
            environment[f"GATEWAY_UPSTREAM_{variable}__RETRY_BUDGET"] = "100%"
        if name.removeprefix("idle-") in SLOW:
            environment[f"GATEWAY_UPSTREAM_{variable}__BALANCE"] = "round_robin"
        if name == "rolls":  # it dies under a request, then it refuses: with one retry the other one is not reached
            environment[f"GATEWAY_UPSTREAM_{variable}__RETRIES"] = "2"
        environment[f"GATEWAY_ROUTE_{variable}"] = f"/{name}/** -> {variable.lower()}"
    with Gateway(environment, cwd=tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def well(pair: Pair) -> None:
    """A test that failed half-way leaves no fault to the next one."""
    for server in pair:
        if server.fault != "ok":
            server.recover()


def load_on(gateway: Gateway, name: str, **options: Any) -> Load:
    return Load(gateway.port, f"/{name}/1", **{"prefix": name, "rate": 200, **options})


def lines_of(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    """What its log said of the requests of that load."""
    return [line for line in list(gateway.log) if line["event"] == "request" and line["path"] == f"/{name}/1"]


def run_of(name: str, load: Load, gateway: Gateway, pair: Pair) -> Run:
    """After the load: what each side knows of it."""
    asked = {one.id for one in load.outcomes}
    lines: dict[str, dict[str, Any]] = {}

    def all_are_heard() -> bool:
        lines.update({line["request_id"]: line for line in lines_of(gateway, name)})
        return asked <= lines.keys()

    eventually(all_are_heard)
    target = f"/{name}/1"
    seen = {server.name: [one for one in server.seen() if one.target == target] for server in pair}
    acted_by: dict[str, list[str]] = {}
    for server, requests in seen.items():
        for one in requests:
            acted_by.setdefault(one.test_id, []).append(server)
    acted = Counter({test_id: len(servers) for test_id, servers in acted_by.items()})
    return Run(name, load, acted, acted_by, [one for each in seen.values() for one in each], lines)


# -- one endpoint fails, in each way --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=list(LASTS_S))
def run(request: pytest.FixtureRequest, gateway: Gateway, pair: Pair) -> Run:
    fault: str = request.param
    with load_on(gateway, fault) as load:
        load.go_on(BEFORE_S)
        for _ in range(0 if fault in PROCESSES else FLAPS):
            with pair.bad.suffering(fault):
                load.go_on(FLAP_S)
            load.go_on(PAUSE_S)
        with pair.bad.suffering(fault):
            load.go_on(LASTS_S[fault])
        load.go_on(AFTER_S)
    return run_of(fault, load, gateway, pair)


def test_the_fault_was_met(run: Run, record_property: Any) -> None:
    """By GETs; otherwise the rest would say nothing."""
    gets = {one.id for one in run.of("GET")}
    if run.fault in NOTHING_READ:
        met = sum(run.lines[get]["attempts"] > 1 for get in gets)
    else:
        met = sum(one.fault == run.fault and one.test_id in gets for one in run.seen)
    record_property(f"{run.fault}: met by GETs", met)
    assert met


def test_no_get_fails(run: Run, record_property: Any) -> None:
    """Neither when the fault begins, nor while it lasts, nor when it ends."""
    record_property(f"{run.fault}: GET p99 ms", round(percentile_ms(run.of("GET"), 99)))
    assert not run.load.failed("GET"), run.told(run.load.failed("GET"))


def test_nothing_fails_that_may_be_sent_twice(run: Run) -> None:
    """But where nothing has failed: one that is slow is never begun again, lest its own first half answers it."""
    if run.fault in SILENT:
        assert {one.detail for one in run.load.failed("PUT", KEYED)} <= {"504 response_timeout"}
        return
    assert not run.load.failed("PUT", KEYED), run.told(run.load.failed("PUT", KEYED))


def test_no_post_is_acted_on_twice(run: Run) -> None:
    twice = [one for one in run.of("POST") if run.acted[one.id] > 1]
    assert not twice, run.told(twice)


def test_a_post_that_succeeded_was_acted_on_by_the_one_that_answered(run: Run) -> None:
    succeeded = [one for one in run.of("POST") if one.is_success]
    assert succeeded
    assert [run.acted_by.get(one.id) for one in succeeded] == [[one.server] for one in succeeded]


def test_a_post_that_failed_says_so(run: Run) -> None:
    """With a status of its own, or with a transfer that breaks off where the upstream's did; never with silence."""
    for one in run.load.failed("POST"):
        broke_off = one.error == "broken" and run.fault.startswith("half")
        assert broke_off or one.status in GATEWAY_ERRORS, one


def test_the_log_counts_every_attempt(run: Run) -> None:
    """Nothing sends a request again behind its back."""
    uncounted = [one for one in run.load.outcomes if run.acted[one.id] > run.lines[one.id]["attempts"]]
    assert not uncounted, run.told(uncounted)


# -- nothing was sent: any method may go elsewhere --------------------------------------------------------------------


@pytest.mark.parametrize("fault", NO_CONNECTION)
def test_no_request_of_any_method_fails_while_one_endpoint_refuses(gateway: Gateway, pair: Pair, fault: str) -> None:
    """It went while nobody talked to it, and left its dead connections behind."""
    name = f"idle-{fault}"
    with load_on(gateway, name, prefix=f"{name}-before") as before:
        before.go_on_for(60)
    with pair.bad.suffering(fault), load_on(gateway, name) as load:
        load.go_on(1.0)
    assert not before.failed()
    assert not load.failed(), told(load.failed())
    run = run_of(name, load, gateway, pair)
    assert {run.acted[one.id] for one in load.of("POST")} == {1}


def test_no_post_of_a_burst_fails_while_one_endpoint_refuses(gateway: Gateway, pair: Pair) -> None:
    """All at once, of a gateway that has no requests behind it yet."""
    load = load_on(gateway, "burst", rate=0, connections=64, kinds=("POST",))
    with pair.bad.suffering("refuses"), load:
        load.go_on_for(300)
    assert not load.failed(), told(load.failed())


# -- connections that close as they are used again -------------------------------------------------------------------


@pytest.mark.parametrize("which", ["one", "both"])
def test_connections_closed_as_they_are_used_again_fail_no_get(
    gateway: Gateway, pair: Pair, which: str, record_property: Any
) -> None:
    """3,000 requests as fast as they go, so that many meet the end of their connection on the way."""
    name = f"reuse-{which}"
    closing = [pair.bad] if which == "one" else list(pair)
    for server in closing:
        server.suffer("closes_idle")
    with load_on(gateway, name, rate=0, connections=4, kinds=("GET", "GET", "GET", "POST")) as load:
        load.go_on_for(4000 if which == "one" else 2000)
        for _ in range(5):  # on a busy machine they meet less often
            if any(line["attempts"] > 1 for line in lines_of(gateway, name)):
                break
            load.go_on_for(1000)
    for server in closing:
        server.recover()
    run = run_of(name, load, gateway, pair)
    again = [one for one in load.of("GET") if run.lines[one.id]["attempts"] > 1]
    record_property(f"{name}: GETs, of which sent again", (len(load.of("GET")), len(again)))
    record_property(f"{name}: POSTs, of which failed", (len(load.of("POST")), len(load.failed("POST"))))
    assert again, "no request met the end of its connection: this run shows nothing"
    assert not load.failed("GET"), told(load.failed("GET"))
    assert {run.acted[one.id] for one in load.of("POST")} <= {0, 1}
    assert all(run.acted[one.id] == 1 for one in load.of("POST") if one.is_success)
    assert all(one.status in GATEWAY_ERRORS for one in load.failed("POST")), told(load.failed("POST"))
    assert all(run.acted[one.id] <= run.lines[one.id]["attempts"] for one in load.outcomes)


# -- what is passed on, what cannot be hidden, and what comes back -----------------------------------------------------


def test_an_upstream_that_says_when_to_come_back_is_believed(gateway: Gateway, pair: Pair) -> None:
    """Its 503 with Retry-After is passed on, and nothing is sent again."""
    with load_on(gateway, "busy", kinds=("GET", "POST")) as load, pair.bad.suffering("busy"):
        load.go_on(0.7)
    run = run_of("busy", load, gateway, pair)
    passed_on = load.failed()
    assert passed_on
    assert {(one.status, one.server) for one in passed_on} == {(503, "bad")}, told(passed_on)
    assert {run.acted[one.id] for one in load.outcomes} == {1}


def test_with_every_endpoint_down_the_error_is_quick_and_so_is_the_recovery(gateway: Gateway, pair: Pair) -> None:
    with load_on(gateway, "both-down", kinds=("GET", "POST")) as load:
        load.go_on(0.3)
        for server in pair:
            server.suffer("killed")
        load.go_on(0.5)
        for server in pair:
            server.recover()
        begun_again = load.now()
        load.go_on(0.5)
    assert load.failed()
    assert all(one.status in {502, 503} for one in load.failed() if one.error != "broken"), told(load.failed())
    assert max(one.took_s for one in load.failed()) < 1.0
    late = [one for one in load.failed() if one.due > begun_again]
    assert not late, told(late)


def test_endpoints_that_restart_one_after_the_other_fail_no_get(gateway: Gateway, pair: Pair) -> None:
    """The second one goes as soon as the first one is back, whatever the gateway still thinks of that."""
    with load_on(gateway, "rolls") as load:
        load.go_on(0.3)
        for server in pair:
            with server.suffering("killed"):
                load.go_on(0.5)
            load.go_on(0.2)
    assert not load.failed("GET", "PUT", KEYED), told(load.failed("GET", "PUT", KEYED))
    assert {one.detail for one in load.failed("POST")} <= {"502 connection_reset"}, told(load.failed("POST"))


def test_an_endpoint_that_came_back_is_used_again(gateway: Gateway, pair: Pair) -> None:
    with load_on(gateway, "back", rate=60) as load:
        load.go_on(0.3)
        with pair.bad.suffering("killed"):
            gateway.wait_for_log(lambda line: line["event"] == "upstream.ejected" and line["upstream"] == "back")
        pair.bad.forget()
        eventually(lambda: any(one.target == "/back/1" for one in pair.bad.seen()), 15)
        load.go_on(0.3)
    assert not load.failed("GET", KEYED, "PUT"), told(load.failed("GET", KEYED, "PUT"))
