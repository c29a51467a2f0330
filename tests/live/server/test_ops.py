"""/-/metrics, /-/status and the page at /-/: of all workers, for who may ask, while things happen."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import Reason
from tests.live.harness import HOME, Answer, Answers, Gateway, Refuses, Slow, eventually, request_bytes

TOKEN = "s3cret-of-the-admin"


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with contextlib.closing(Refuses()) as dead, Slow() as slow:
        environment = {
            "GATEWAY_WORKERS": "2",
            "GATEWAY_UPSTREAM_UP": up.url,
            "GATEWAY_UPSTREAM_DEAD": dead.url,
            "GATEWAY_UPSTREAM_UP__HEADER_X_KEY": "key-of-the-upstream",
            "GATEWAY_UPSTREAM_SLOW": slow.url,
            "GATEWAY_UPSTREAM_SLOW__MAX_IN_FLIGHT": "1",
            "GATEWAY_UPSTREAM_SLOW__QUEUE_TIMEOUT": "10s",
            "GATEWAY_ROUTE_SLOW": "/slow -> slow",
            "GATEWAY_ROUTE_UP": "/up/** -> up",
            "GATEWAY_ROUTE_KEPT": "/kept/** -> up",
            "GATEWAY_ROUTE_KEPT__CACHE": "60s",
            "GATEWAY_ROUTE_DEAD": "/dead/** -> dead",
            "GATEWAY_ROUTE_FAN": "GET /fan/{id}",
            "GATEWAY_ROUTE_FAN__PART_ONE": "up:/{id}",
            "GATEWAY_ROUTE_FAN__PART_TWO": "dead:/{id}",
            "GATEWAY_ROUTE_FAN__OPTIONAL": "one two",
        }
        with Gateway(environment, cwd=tmp_path_factory.mktemp("operate")) as running:
            yield running


def own(gateway: Gateway, path: str, *fields: str) -> Answer:
    """As this machine itself asks."""
    return gateway.ask(request_bytes("GET", path, *fields, host="localhost"))


def samples_in(answer: Answer) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels, in any order."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def samples(gateway: Gateway) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    return samples_in(own(gateway, "/-/metrics"))


def total_in(answer: Answer, name: str, **labels: str) -> float:
    wanted = set(labels.items())
    return sum(value for told, value in samples_in(answer).get(name, {}).items() if wanted <= set(told))


def total(gateway: Gateway, name: str, **labels: str) -> float:
    return total_in(own(gateway, "/-/metrics"), name, **labels)


def test_what_either_worker_counted_is_counted_once(gateway: Gateway) -> None:
    before = total(gateway, "portway_requests_total", route="up")
    for _ in range(20):  # each on a connection of its own: both workers get some
        assert gateway.get("/up/x").status == 200
    eventually(lambda: total(gateway, "portway_requests_total", route="up") == before + 20)
    eventually(lambda: total(gateway, "portway_workers") == 2)
    eventually(
        lambda: total(gateway, "portway_request_duration_seconds_count", route="up", method="GET") == before + 20
    )
    eventually(lambda: total(gateway, "portway_upstream_attempts_total", upstream="up") >= 20)
    eventually(lambda: total(gateway, "portway_response_body_bytes_total", route="up") > 0)
    eventually(lambda: total(gateway, "portway_upstream_seconds_count", upstream="up") >= 20)


def test_what_the_processes_take_is_told_of_all_workers(gateway: Gateway) -> None:
    eventually(lambda: total(gateway, "portway_workers") == 2)
    found = {name: total(gateway, f"process_{name}") for name in ("resident_memory_bytes", "open_fds")}
    assert found["resident_memory_bytes"] > 2 * 20 * 2**20
    assert found["open_fds"] > 10
    spent_s = total(gateway, "process_cpu_seconds_total")
    assert spent_s > 0
    for _ in range(20):
        assert gateway.get("/up/x").status == 200
    eventually(lambda: total(gateway, "process_cpu_seconds_total") > spent_s)
    assert abs(total(gateway, "process_start_time_seconds") - time.time()) < 600


def test_the_gateways_own_endpoints_are_no_traffic_in_metrics(gateway: Gateway) -> None:
    own(gateway, "/-/status")
    assert gateway.get("/-/live").status == 200
    assert not [labels for labels in samples(gateway).get("portway_requests_total", {}) if "/-/" in str(labels)]


def test_metrics_name_failures_by_the_words_of_the_log(gateway: Gateway) -> None:
    assert gateway.get("/dead/x").status == 502
    eventually(
        lambda: total(gateway, "portway_requests_total", route="dead", reason="connection_refused", status="5xx")
    )
    eventually(
        lambda: total(gateway, "portway_upstream_failures_total", upstream="dead", reason="connection_refused") >= 1
    )
    (labels,) = {
        labels for labels in samples(gateway)["portway_upstream_failures_total"] if ("upstream", "dead") in labels
    }
    assert dict(labels)["endpoint"].startswith("http://127.0.0.1:")
    words = {dict(told)["reason"] for told in samples(gateway)["portway_requests_total"]}
    assert words <= {"", *(reason.word for reason in Reason)}


def test_an_unknown_path_and_a_strange_method_are_one_label(gateway: Gateway) -> None:
    before = total(gateway, "portway_requests_total", route="none")
    for number in range(5):
        assert gateway.get(f"/nothing/here/{number}").status == 404
    with gateway.connect() as wire:
        wire.send(request_bytes("BREW", "/nothing"))
        assert wire.read_answer().status == 404
    eventually(lambda: total(gateway, "portway_requests_total", route="none") == before + 6)
    eventually(lambda: total(gateway, "portway_requests_total", method="other") >= 1)
    assert not [told for told in samples(gateway)["portway_requests_total"] if "/nothing" in str(told)]


def test_the_cache_and_the_parts_are_counted(gateway: Gateway) -> None:
    for _ in range(3):
        assert gateway.get("/kept/1").status == 200
    assert gateway.get("/fan/1").status == 200
    eventually(lambda: total(gateway, "portway_cache_requests_total", route="kept", outcome="hit") >= 1)
    eventually(lambda: total(gateway, "portway_part_duration_seconds_count", route="fan", part="two") >= 1)
    eventually(lambda: total(gateway, "portway_part_duration_seconds_count", reason="connection_refused") >= 1)
    eventually(lambda: total(gateway, "portway_cache_memory_bytes") > 0)


def test_who_waits_for_an_upstream_is_seen(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(4):  # one of each worker's is at the upstream
            stack.enter_context(gateway.connect()).send(request_bytes("GET", "/slow"))
        eventually(lambda: total(gateway, "portway_upstream_waiting", upstream="slow") >= 2)
        eventually(lambda: total(gateway, "portway_upstream_waits_total", upstream="slow") >= 2)
    eventually(lambda: total(gateway, "portway_upstream_waiting", upstream="slow") == 0)
    eventually(lambda: total(gateway, "portway_upstream_wait_seconds_total", upstream="slow") > 0)


def test_metrics_come_in_the_format_that_is_asked_for(gateway: Gateway) -> None:
    assert own(gateway, "/-/metrics").one("content-type").startswith("text/plain; version=")
    openly = own(gateway, "/-/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert openly.one("content-type").startswith("application/openmetrics-text")
    assert openly.body.endswith(b"# EOF\n")


def test_status_tells_of_all_workers_and_no_secret(gateway: Gateway) -> None:
    assert gateway.get("/dead/x").status == 502

    def told() -> dict[str, Any]:
        answer = own(gateway, "/-/status")
        assert b"key-of-the-upstream" not in answer.body
        status = answer.json()
        return status if len(status["workers"]) == 2 and status["recent"] else {}

    status = eventually(told)
    assert {route["name"]: route["pattern"] for route in status["routes"]}["kept"] == "/kept/**"
    upstreams = {one["name"]: one for one in status["upstreams"]}
    assert [end["workers"] for end in upstreams["up"]["endpoints"]] == [2]
    failures = {(one["reason"], one["whose"], one["upstream"]) for one in status["recent"]}
    assert ("connection_refused", "upstream", "dead") in failures
    config = {row["variable"]: row["value"] for row in status["config"]}
    assert config["GATEWAY_UPSTREAM_UP__HEADER_X_KEY"] == "***"


def test_a_worker_that_dies_takes_nothing_it_counted_with_it(gateway: Gateway) -> None:
    def two() -> list[int]:
        with contextlib.suppress(AssertionError, OSError):  # the connection was the dying worker's
            pids = [worker["pid"] for worker in own(gateway, "/-/status").json()["workers"]]
            return pids if len(pids) == 2 else []
        return []

    pids = eventually(two)
    with gateway.connect() as wire:  # one worker's; what it tells is not taken back, though it dies at once

        def asks(path: str) -> Answer:
            wire.send(request_bytes("GET", path, host="localhost"))
            return wire.read_answer()

        pid = asks("/-/status").json()["workers"][0]["pid"]
        for _ in range(20):
            asks("/up/x")
        told = total_in(asks("/-/metrics"), "portway_requests_total", route="up")
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: set(two()) - set(pids), 20)
    eventually(lambda: total(gateway, "portway_workers") == 2)
    assert total(gateway, "portway_requests_total", route="up") == told
    assert total(gateway, "portway_worker_restarts_total") == 1


def test_who_looks_is_no_traffic(up: Answers, tmp_path: Path) -> None:
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_U": "/u/** -> u", "GATEWAY_MAX_IN_FLIGHT": "1"}
    with Gateway(environment, cwd=tmp_path) as gateway:
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", "/-/status", "Accept: text/event-stream", host="localhost"))
            wire.read_until(b"\n\n\r\n")  # its first event
            for _ in range(3):
                assert gateway.get("/u/x").status == 200
                own(gateway, "/-/metrics")
            requests = own(gateway, "/-/status").json()["requests"]
        assert (requests["total"], sum(requests["counts"]), requests["in_flight"]) == (3, 3, 0)


ROUTES = """
from django.http import HttpResponse
from gateway.routing import fetch, from_environment, route

async def view(request):
    for target in ("up:/1", "up:/2", "other:/3"):
        await fetch(target)
    return HttpResponse("ok")

urlpatterns = [*from_environment(), route("/own", view)]
"""


def test_attempts_are_those_of_the_upstream_that_was_asked(up: Answers, tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Gateway({"GATEWAY_UPSTREAM_UP": up.url, "GATEWAY_UPSTREAM_OTHER": up.url}, cwd=tmp_path) as gateway:
        for name in ("attempts", "retries", "ejections"):  # a series that begins with its first event shows no increase
            assert samples(gateway)[f"portway_upstream_{name}_total"][("upstream", "other"),] == 0
        assert gateway.get("/own").status == 200
        counted = {
            name: [total(gateway, f"portway_upstream_{name}_total", upstream=one) for one in ("up", "other")]
            for name in ("attempts", "retries")
        }
        assert counted == {"attempts": [2, 1], "retries": [0, 0]}


def test_pages_of_other_origins_read_nothing_of_the_gateways_own(up: Answers, tmp_path: Path) -> None:
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_U": "/u/** -> u",
        "GATEWAY_CORS": "https://app.example.com",
    }
    with Gateway(environment, cwd=tmp_path) as gateway:
        origin = "Origin: https://app.example.com"
        assert gateway.get("/u/x", origin).has("access-control-allow-origin")
        for path in ("/-/", "/-/status", "/-/metrics", "/-/live", "/-/cache"):
            assert not own(gateway, path, origin).has("access-control-allow-origin")


@pytest.mark.parametrize("twin", [False, True])
def test_the_image_looks_for_the_gateway_where_it_is(gateway: Gateway, tmp_path: Path, *, twin: bool) -> None:
    bind = f"127.0.0.1:{gateway.port}"
    (tmp_path / "bind").write_text(f"{bind}\n", encoding="utf-8-sig")
    said = {"GATEWAY_BIND": "", "GATEWAY_BIND_FILE": str(tmp_path / "bind")} if twin else {"GATEWAY_BIND": bind}
    done = subprocess.run(
        [sys.executable, HOME / "deploy" / "health.py"], env=said, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{bind}: 200\n")


def test_status_streams_and_lets_the_gateway_stop(up: Answers, tmp_path: Path) -> None:
    environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_U": "/u/** -> u", "GATEWAY_DRAIN": "60s"}
    with Gateway(environment, cwd=tmp_path) as gateway, gateway.connect() as wire:
        wire.send(request_bytes("GET", "/-/status", "Accept: text/event-stream", host="localhost"))
        answer = wire.read_head()
        assert answer.one("content-type") == "text/event-stream"
        event = wire.read_until(b"\n\n")
        assert json.loads(re.findall(rb"data: (\{.*\})", event)[0])["workers"][0]["in_flight"] == 0
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0  # long before GATEWAY_DRAIN


@pytest.mark.parametrize("path", ["/-/", "/-/metrics", "/-/status"])
def test_they_ask_for_the_token_where_there_is_one(up: Answers, path: str, guarded: Gateway) -> None:
    refused = guarded.get(path)
    assert (refused.status, refused.json()["reason"]) == (401, "admin_required")
    assert {value.partition(" ")[0] for value in refused.all("www-authenticate")} == {"Basic", "Bearer"}
    assert guarded.get(path, f"Authorization: Bearer {TOKEN}").status == 200
    assert guarded.get("/-/live").status == 200


@pytest.fixture(scope="module")
def guarded(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_ROUTE_U": "/u/** -> u",
        "GATEWAY_ADMIN_TOKEN": TOKEN,
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("guarded")) as running:
        yield running


def test_without_a_token_only_this_machine_asks_and_nobody_through_a_proxy(gateway: Gateway) -> None:
    assert own(gateway, "/-/status", "X-Forwarded-For: 203.0.113.9").status == 403
    assert gateway.get("/-/status").status == 403


@pytest.mark.parametrize(
    "line", ["GET /-/", "GET /-/status", "GET /-/metrics", "HEAD /-/status", "DELETE /-/cache?all"]
)
@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_without_a_token_who_speaks_as_nginx_does_by_default_is_a_proxy(
    gateway: Gateway, line: str, connection: str
) -> None:
    """Its plainest proxy_pass says nothing of the client, and Host is ours then; but it speaks HTTP/1.0."""
    raw = f"{line} HTTP/1.0\r\nHost: {gateway.authority}\r\nConnection: {connection}\r\n\r\n".encode()
    assert gateway.ask(raw).status == 403
    assert gateway.ask(raw.replace(b"HTTP/1.0", b"HTTP/1.1")).status == 200
