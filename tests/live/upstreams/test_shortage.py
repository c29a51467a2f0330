"""A gateway that has no descriptor left: it says so, blames nobody, and goes on when it has some."""

import contextlib
from collections import Counter
from pathlib import Path

from tests.live.harness import OK, Answers, Gateway, Slow, Upstream, Wire, eventually, request_bytes

# As many as it takes to start, and to let a hundred clients in, but not to ask for all of them.
FEW = ("sh", "-c", 'ulimit -n 180; exec "$@"', "sh")


def test_healthy_endpoints_are_not_judged_for_it(tmp_path: Path) -> None:
    with Slow() as one, Slow() as other, Answers() as probed:
        environment = {
            "GATEWAY_UPSTREAM_B": f"{one.url} {other.url}",
            "GATEWAY_ROUTE_B": "/b/** -> b",
            "GATEWAY_UPSTREAM_NAMED": f"http://localhost:{probed.port}",
            "GATEWAY_UPSTREAM_NAMED__DNS_TTL": "100ms",
            "GATEWAY_UPSTREAM_NAMED__HEALTH": "/healthz",
            "GATEWAY_UPSTREAM_NAMED__HEALTH_INTERVAL": "50ms",
            "GATEWAY_UPSTREAM_NAMED__HEALTH_FALL": "1",
            "GATEWAY_ROUTE_NAMED": "/named -> named",
        }
        with Gateway(environment, cwd=tmp_path, within=FEW) as gateway, contextlib.ExitStack() as stack:
            assert gateway.get("/named").status == 200
            wires = [stack.enter_context(gateway.connect()) for _ in range(100)]
            for number, wire in enumerate(wires):
                wire.send(request_bytes("GET", f"/b/{number}"))
            refused = eventually(lambda: [line for line in gateway.log if line.get("reason") == "overloaded"])
            assert {line["status"] for line in refused} == {503}
            assert all("Too many open files" in line["cause"] for line in refused)
            assert all(line["attempts"] == 1 for line in refused), "not even the retries of others are used up"
            eventually(lambda: _probes(probed) and _is_quiet(one, other, gateway, len(wires)))
            answered = {number for upstream in (one, other) for number in _numbers(upstream)}
            for upstream in (one, other):
                for request in list(upstream.requests):
                    request.send(OK)
            statuses = Counter(_status(wire) for number, wire in enumerate(wires) if number in answered)
            assert statuses == {200: len(answered)}
            answer = next(wire.read_answer() for number, wire in enumerate(wires) if number not in answered)
            assert (answer.status, answer.json()["reason"], answer.one("retry-after")) == (503, "overloaded", "1")
            stack.close()
            eventually(lambda: gateway.get("/named").status == 200)
        events = Counter(line["event"] for line in gateway.log)
        assert events["worker.ready"] == 1
        assert not {"upstream.ejected", "upstream.down", "library", "worker.died", "start.failed"} & events.keys()


def _numbers(upstream: Upstream) -> set[int]:
    return {int(request.target.rpartition("/")[2]) for request in upstream.requests}


def _is_quiet(one: Upstream, other: Upstream, gateway: Gateway, total: int) -> bool:
    """Whether every request has reached an upstream or was refused."""
    refused = len([line for line in gateway.log if line.get("reason") == "overloaded"])
    return len(one.requests) + len(other.requests) + refused >= total


def _probes(upstream: Upstream) -> bool:
    return any(request.target == "/healthz" for request in upstream.requests)


def _status(wire: Wire) -> int:
    return wire.read_answer().status
