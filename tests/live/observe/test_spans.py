"""Spans, as a collector gets them: of requests, of attempts and parts, and what goes up with them."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.live.collector import Collector, Span
from tests.live.harness import OK, Answer, Answers, DiesMidBody, Gateway, Refuses, Slow, eventually, request_bytes
from tests.live.parts import Parts, said
from tests.live.stage import Scene, after, resets, says, status

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"traceparent: 00-{TRACE}-{PARENT}-01", f"traceparent: 00-{TRACE}-{PARENT}-00"
NEVER_MS = "3600000"

ROUTES = """
from django.http import JsonResponse
from django.urls import path
from opentelemetry import trace

from gateway.routing import fetch, from_environment, legacy, route


async def mine(request):
    with trace.get_tracer("mine").start_as_current_span("thinking"):
        await fetch("plain:/of-mine")
    return JsonResponse({})


async def twin(request, number):
    return JsonResponse({"number": number})


def old(year: int):
    own = trace.get_current_span().get_span_context()
    return {"span_id": f"{own.span_id:016x}", "trace_id": f"{own.trace_id:032x}"}


urlpatterns = [
    *from_environment(),
    route("/mine", mine),
    route("/old/{year}", legacy(old)),
    path("twin/<int:number>", twin),
]
"""

SEES = """
import sys
import threading

from django.http import JsonResponse

from gateway.routing import from_environment, route


async def seen(request):
    modules = [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
    return JsonResponse({"modules": modules, "threads": [thread.name for thread in threading.enumerate()]})


urlpatterns = [*from_environment(), route("/seen", seen)]
"""

# No module of that name can be found, as where the extra was not installed.
WITHOUT = """
import sys
from importlib.machinery import PathFinder


class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "opentelemetry" else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""


class Setting:
    """A gateway that exports what it does, the collector that hears of it, and who stands behind it."""

    def __init__(self, folder: Path) -> None:
        (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
        self.collector = Collector()
        self.plain, self.parts, self.refuses, self.slow = Answers(OK), Parts(), Refuses(), Slow()
        self.narrow = Slow()
        self.dies = DiesMidBody(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n12345")
        self.retried = Scene(KEEPALIVE="0s")
        self.raced = Scene(TIMEOUT="1s")
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=a",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "GATEWAY_UPSTREAM_PLAIN": f"{self.plain.url}/base",
            "GATEWAY_ROUTE_PLAIN": "/plain/{id} -> plain:/x/{id}",
            "GATEWAY_UPSTREAM_PARTS": self.parts.url,
            "GATEWAY_ROUTE_HOME": "GET home.test/home/{id}",
            "GATEWAY_ROUTE_HOME__PART_USER": "parts:/user/{id}",
            "GATEWAY_ROUTE_HOME__PART_ITEMS": "parts:/items/{user.ids[]}",
            "GATEWAY_ROUTE_HOME__PART_TEAM": "parts:/team",
            "GATEWAY_ROUTE_HOME__OPTIONAL": "team",
            "GATEWAY_ROUTE_KEPT": "/kept/** -> parts",
            "GATEWAY_ROUTE_KEPT__CACHE": "on",
            "GATEWAY_ROUTE_SHARE": "GET /share/{id}",
            "GATEWAY_ROUTE_SHARE__PART_STORED": "parts:/stored/{id}",
            "GATEWAY_ROUTE_SHARE__PART_STORED__CACHE": "60s",
            "GATEWAY_UPSTREAM_REFUSES": self.refuses.url,
            "GATEWAY_ROUTE_REFUSES": "/refuses -> refuses",
            "GATEWAY_UPSTREAM_SLOW": self.slow.url,
            "GATEWAY_ROUTE_SLOW": "/slow -> slow",
            "GATEWAY_UPSTREAM_NARROW": self.narrow.url,
            "GATEWAY_UPSTREAM_NARROW__MAX_IN_FLIGHT": "1",
            "GATEWAY_UPSTREAM_NARROW__QUEUE_TIMEOUT": "50ms",
            "GATEWAY_ROUTE_NARROW": "/narrow -> narrow",
            "GATEWAY_UPSTREAM_DIES": self.dies.url,
            "GATEWAY_ROUTE_DIES": "/dies -> dies",
            **self.retried.open("retried"),
            **self.raced.open("raced"),
        }
        self.gateway = self.retried.gateway = self.raced.gateway = Gateway(environment, cwd=folder)

    def trace_of(self, answer: Answer, count: int) -> list[Span]:
        """The spans of a request that came without a trace, its own first, then the others as they ended."""
        spans = self.collector.trace(self.gateway.request_line(answer.one("x-request-id"))["trace_id"], count)
        return sorted(spans, key=lambda span: span.kind != "SERVER")

    def close(self) -> None:
        for server in (
            self.plain,
            self.parts,
            self.refuses,
            self.slow,
            self.narrow,
            self.dies,
            self.retried,
            self.raced,
        ):
            server.close()


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    setting = Setting(tmp_path_factory.mktemp("otel"))
    try:
        with setting.collector, setting.gateway:
            yield setting
            assert setting.gateway.errors == []
            assert not [line for line in setting.gateway.log if line["event"] in {"library", "tracing.failing"}]
    finally:
        setting.close()


# -- a proxied request --------------------------------------------------------------------------------------------


def test_a_request_has_a_span_and_its_attempt_another_one_below(set_up: Setting) -> None:
    answer = set_up.gateway.get("/plain/7?token=secret", "User-Agent: me/1")
    server, client = set_up.trace_of(answer, 2)
    assert (server.kind, server.name, server.parent, server.is_error) == ("SERVER", "GET /plain/{id}", "", False)
    assert server.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/plain/{id}",
        "url.scheme": "http",
        "url.path": "/plain/7",
        "server.address": "gateway.test",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "user_agent.original": "me/1",
        "portway.request_id": answer.one("x-request-id"),
        "portway.route": "plain",
    }
    assert (client.kind, client.name, client.parent, client.is_error) == (
        "CLIENT",
        "GET plain",
        server.span_id,
        False,
    )
    assert client.attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.full": f"{set_up.plain.url}/base/x/7",
        "server.address": "127.0.0.1",
        "server.port": set_up.plain.port,
        "portway.upstream": "plain",
    }
    assert server.ms >= client.ms > 0
    assert {name: server.resource[name] for name in ("service.name", "deployment.environment.name")} == {
        "service.name": "portway",
        "deployment.environment.name": "test",
    }
    assert set_up.collector.fields["x-team"] == "a"


def test_a_trace_that_came_goes_on_and_says_so_upstream(set_up: Setting) -> None:
    answer = set_up.gateway.get("/plain/on", SAMPLED, "tracestate: a=1,b=2", "tracestate: c=3")
    server, client = sorted(set_up.collector.trace(TRACE, 2), key=lambda span: span.kind, reverse=True)
    assert (server.parent, client.parent) == (PARENT, server.span_id)
    assert server.state == client.state == "a=1,b=2,c=3"
    request = set_up.plain.requests[-1]
    assert request.one("traceparent") == f"00-{TRACE}-{client.span_id}-01"
    assert request.all("tracestate") == ["a=1,b=2", "c=3"]
    assert set_up.gateway.request_line(answer.one("x-request-id"))["trace_id"] == TRACE


def test_a_trace_that_begins_here_is_the_one_in_the_log_and_upstream(set_up: Setting) -> None:
    answer = set_up.gateway.get("/plain/new", "tracestate: a=1")
    server, client = set_up.trace_of(answer, 2)
    request = set_up.plain.requests[-1]
    _, trace_id, span_id, flags = request.one("traceparent").split("-")
    assert (trace_id, span_id) == (server.trace_id, client.span_id)
    assert int(flags, 16) & 1
    assert not request.has("tracestate")
    assert answer.one("x-request-id") == trace_id


def test_what_a_client_does_not_sample_is_not_exported_and_goes_up_as_it_came(set_up: Setting) -> None:
    other = UNSAMPLED.replace(TRACE, TRACE[::-1])
    set_up.gateway.get("/plain/no", other, "tracestate: a=1")
    request = set_up.plain.requests[-1]
    assert (request.one("traceparent"), request.one("tracestate")) == (other.partition(" ")[2], "a=1")
    set_up.trace_of(set_up.gateway.get("/plain/yes"), 2)  # it would have come before
    assert not [span for span in set_up.collector.spans if span.trace_id == TRACE[::-1]]


def test_a_tracestate_that_is_none_goes_up_as_it_came_and_is_not_worth_a_word(set_up: Setting) -> None:
    trace_id = "ab" * 16
    set_up.gateway.get("/plain/odd", SAMPLED.replace(TRACE, trace_id), "tracestate: nonsense")
    assert {span.state for span in set_up.collector.trace(trace_id, 2)} == {""}
    assert set_up.plain.requests[-1].one("tracestate") == "nonsense"  # the fixture sees that nothing complained


def test_names_are_few_whatever_clients_send(set_up: Setting) -> None:
    (unknown,) = set_up.trace_of(set_up.gateway.get("/nothing/here"), 1)
    assert (unknown.name, unknown["http.route"], unknown["error.type"]) == ("GET", None, "route_not_found")
    assert (unknown["http.response.status_code"], unknown.is_error) == (404, False)
    odd, _ = set_up.trace_of(set_up.gateway.ask(request_bytes("BREW", "/plain/1")), 2)
    assert (odd["http.request.method"], odd["http.request.method_original"]) == ("_OTHER", "BREW")
    assert odd.name == "HTTP /plain/{id}"
    (twin,) = set_up.trace_of(set_up.gateway.get("/twin/7"), 1)
    assert twin.name == "GET /twin/<int:number>"


def test_what_a_span_says_is_short_whatever_a_client_sent(set_up: Setting) -> None:
    """Thousands of them wait where their collector is slow."""
    long = "x" * 50_000
    answer = set_up.gateway.get(f"/plain/{long}", "User-Agent: " + "y" * 10_000)
    spans = set_up.trace_of(answer, 2)
    texts = [value for span in spans for value in span.attributes.values() if isinstance(value, str)]
    assert max(map(len, texts)) == 2000


def test_the_endpoints_of_the_gateway_itself_make_none(set_up: Setting) -> None:
    answer = set_up.gateway.get("/-/live", SAMPLED.replace(TRACE, "1" * 32))
    assert answer.status == 200
    set_up.trace_of(set_up.gateway.get("/plain/after"), 2)
    assert not [span for span in set_up.collector.spans if span.trace_id == "1" * 32]


# -- what goes wrong ----------------------------------------------------------------------------------------------


def test_each_attempt_has_a_span_of_its_own(set_up: Setting) -> None:
    scene = set_up.retried
    scene.script(resets, status(503), says(OK))
    answer = scene.ask(path="/a")
    server, first, second = set_up.trace_of(answer, 3)
    assert first["error.type"] == "connection_reset"
    assert (first.is_error, first["http.response.status_code"], first["http.request.resend_count"]) == (
        True,
        None,
        None,
    )
    assert (second["error.type"], second["http.response.status_code"]) == ("503", 503)
    assert (second.is_error, second["http.request.resend_count"]) == (True, 1)
    assert (server.is_error, server["http.response.status_code"], server["error.type"]) == (True, 503, "503")
    asked = {request.one("traceparent").split("-")[2] for request in scene.seen}
    assert asked == {first.span_id, second.span_id}
    assert {first.parent, second.parent} == {server.span_id}


def test_who_is_quicker_and_who_is_slower_both_have_one(set_up: Setting) -> None:
    scene = set_up.raced
    scene.script(after(3, says(OK)))
    answer = scene.ask(path="/r")
    server, *attempts = set_up.trace_of(answer, 3)
    told = {(span["http.request.resend_count"], span["error.type"], span.parent) for span in attempts}
    assert told == {(None, "response_timeout", server.span_id), (1, None, server.span_id)}
    assert not server.is_error


@pytest.mark.parametrize(
    ("path", "code", "reason", "of_attempts"),
    [
        ("/refuses", 502, "connection_refused", ["connection_refused", "connection_refused"]),
        ("/dies", 200, "response_incomplete", ["response_incomplete"]),
    ],
)
def test_a_failure_is_told_by_its_word(
    set_up: Setting, path: str, code: int, reason: str, of_attempts: list[str]
) -> None:
    with set_up.gateway.connect() as wire:
        wire.send(request_bytes("GET", path, f"X-Request-ID: fails{code}", "Connection: close"))
        while wire.receive():  # of an answer that broke off not even the head needs to come
            pass
    trace_id = set_up.gateway.request_line(f"fails{code}")["trace_id"]
    spans = set_up.collector.trace(trace_id, 1 + len(of_attempts))
    server = next(span for span in spans if span.kind == "SERVER")
    assert (server["http.response.status_code"], server["error.type"], server.is_error) == (code, reason, True)
    assert [span["error.type"] for span in spans if span is not server] == of_attempts
    assert all(span.is_error for span in spans)


def test_a_client_that_leaves_ends_its_spans(set_up: Setting) -> None:
    with set_up.gateway.connect() as wire:
        wire.send(request_bytes("GET", "/slow", "X-Request-ID: leaves"))
        set_up.slow.wait_for_request()
    trace_id = set_up.gateway.request_line("leaves")["trace_id"]
    client, server = sorted(set_up.collector.trace(trace_id, 2), key=lambda span: span.kind)
    assert (server["http.response.status_code"], server["error.type"], server.is_error) == (499, "client_gone", False)
    assert (client["http.response.status_code"], client["error.type"]) == (None, "client_gone")


# -- what the gateway asks by itself ------------------------------------------------------------------------------


def test_every_call_of_a_part_has_a_span_with_the_name_of_its_part(set_up: Setting) -> None:
    set_up.parts.clear()
    set_up.parts.script(user__1='{"ids": [1, 2]}', team=status(404))
    answer = set_up.gateway.ask(request_bytes("GET", "/home/1", host="home.test:8123"))
    assert answer.status == 200
    server, *calls = set_up.trace_of(answer, 5)
    assert (server.name, server.is_error, server["server.port"]) == ("GET /home/{id}", False, 8123)
    told = sorted((span["portway.part"], span["url.full"], span["error.type"]) for span in calls)
    url = set_up.parts.url
    assert told == [
        ("items", f"{url}/items/1", None),
        ("items", f"{url}/items/2", None),
        ("team", f"{url}/team", "404"),
        ("user", f"{url}/user/1", None),
    ]
    assert {span.parent for span in calls} == {server.span_id}
    up = {request.target: request.one("traceparent").split("-")[2] for request in set_up.parts.asked()}
    assert up == {span["url.full"].removeprefix(url): span.span_id for span in calls}


def test_a_part_that_is_stored_is_called_once(set_up: Setting) -> None:
    server, call = set_up.trace_of(set_up.gateway.get("/share/1"), 2)
    assert (call["portway.part"], call.parent) == ("stored", server.span_id)
    (again,) = set_up.trace_of(set_up.gateway.get("/share/1"), 1)
    assert again.name == "GET /share/{id}"


def test_what_the_cache_answers_has_no_call_and_what_it_validates_behind_it_has(set_up: Setting) -> None:
    set_up.parts.clear()
    fresh = said('{"a": 1}', "Cache-Control: max-age=1, stale-while-revalidate=60", 'ETag: "1"')
    set_up.parts.script(kept__a=says(fresh))
    server, call = set_up.trace_of(set_up.gateway.get("/kept/a"), 2)
    assert (server["portway.cache"], call.parent) == ("miss", server.span_id)
    (hit,) = set_up.trace_of(set_up.gateway.get("/kept/a"), 1)
    assert hit["portway.cache"] == "hit"

    def is_stale() -> Answer | None:
        answer = set_up.gateway.get("/kept/a")
        return answer if set_up.gateway.request_line(answer.one("x-request-id"))["cache"] == "stale" else None

    answer = eventually(is_stale)
    assert answer is not None
    server, *below = set_up.trace_of(answer, 3)  # another worker might have a fresher one in the database
    look_up, call = sorted(below, key=lambda span: span.kind, reverse=True)
    assert (look_up.name, look_up.parent) == ("cache lookup", server.span_id)
    assert (server["portway.cache"], call.parent) == ("stale", server.span_id)
    assert call["url.full"] == f"{set_up.parts.url}/kept/a"


def test_a_view_that_begins_spans_has_the_requests_as_parent(set_up: Setting) -> None:
    server, *below = set_up.trace_of(set_up.gateway.get("/mine"), 3)
    thinking, call = sorted(below, key=lambda span: span.kind, reverse=True)
    assert (thinking.name, thinking.kind, thinking.parent) == ("thinking", "INTERNAL", server.span_id)
    assert (call["url.full"], call.parent) == (f"{set_up.plain.url}/base/of-mine", thinking.span_id)


def test_a_legacy_call_has_a_span_that_its_function_sees(set_up: Setting) -> None:
    answer = set_up.gateway.get("/old/2026")
    server, call = set_up.trace_of(answer, 2)
    assert (call.name, call.kind, call.parent, call.is_error) == ("legacy old", "INTERNAL", server.span_id, False)
    assert call.attributes == {"portway.pool": "old", "code.function.name": "old"}
    assert answer.json() == {"span_id": call.span_id, "trace_id": server.trace_id}


def test_who_waits_for_its_turn_has_a_span_for_that(set_up: Setting) -> None:
    with set_up.gateway.connect() as first:
        first.send(request_bytes("GET", "/narrow", "X-Request-ID: holds"))
        set_up.narrow.wait_for_request()
        answer = set_up.gateway.get("/narrow")
    assert answer.json()["reason"] == "queue_timeout"
    server, wait = set_up.trace_of(answer, 2)
    assert (wait.name, wait.kind, wait.parent, wait.is_error) == ("queue narrow", "INTERNAL", server.span_id, True)
    assert wait.attributes == {"portway.upstream": "narrow", "error.type": "TimeoutError"}
    assert wait.ms > 45  # of 50: the wait began a little before its span


def test_a_look_up_in_the_database_has_a_span(tmp_path: Path) -> None:
    """What one worker has stored another one finds there."""
    kept = Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\nok")
    with Collector() as collector, kept:
        environment = {
            "GATEWAY_UPSTREAM_KEPT": kept.url,
            "GATEWAY_ROUTE_KEPT": "/kept/** -> kept",
            "GATEWAY_ROUTE_KEPT__CACHE": "on",
            "GATEWAY_CACHE_MEMORY": "0B",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
        }
        with Gateway(environment, cwd=tmp_path) as gateway:

            def hit() -> str:
                line = gateway.request_line(gateway.get("/kept/1").one("x-request-id"))
                return line["trace_id"] if line["cache"] == "hit" else ""

            spans = sorted(collector.trace(eventually(hit), 2), key=lambda span: span.kind)
            assert [(span.kind, span.name) for span in spans] == [
                ("INTERNAL", "cache lookup"),
                ("SERVER", "GET /kept/**"),
            ]
            assert spans[0].parent == spans[1].span_id


# -- gateways of their own ----------------------------------------------------------------------------------------


def gateway_to(plain: Answers, folder: Path, **environment: str) -> Gateway:
    routes = {"GATEWAY_UPSTREAM_PLAIN": plain.url, "GATEWAY_ROUTE_PLAIN": "/plain/** -> plain"}
    return Gateway({**routes, **environment}, cwd=folder)


def test_every_worker_exports_and_stopping_sends_what_is_left(tmp_path: Path) -> None:
    with Collector() as collector, Answers(OK) as plain:
        environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces", "GATEWAY_WORKERS": "2"}
        environment |= {"OTEL_BSP_SCHEDULE_DELAY": NEVER_MS, "OTEL_SERVICE_NAME": "edge"}
        asked = 0
        with gateway_to(plain, tmp_path, **environment) as gateway:
            eventually(lambda: sum(line["event"] == "tracing.on" for line in gateway.log) == 2)
            while asked < 100:
                asked += gateway.get("/plain/x").status == 200
            assert not collector.spans
        assert len(collector.spans) == 2 * asked
        assert len({span.resource["service.instance.id"] for span in collector.spans}) == 2
        assert {span.resource["service.name"] for span in collector.spans} == {"edge"}


@pytest.mark.parametrize(("kind", "cause"), [(Refuses, "Failed to export"), (Slow, "Queue full")])
def test_a_collector_that_is_no_good_costs_nobody_a_request_and_is_told_of_once(
    tmp_path: Path, kind: type[Refuses | Slow], cause: str
) -> None:
    with contextlib.closing(kind()) as collector, Answers(OK) as plain:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
        environment |= {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_BSP_MAX_QUEUE_SIZE": "4"}
        environment |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}
        with gateway_to(plain, tmp_path, **environment) as gateway:

            def causes() -> list[str]:
                assert gateway.get("/plain/x").status == 200
                return [line["cause"] for line in list(gateway.log) if line["event"] == "tracing.failing"]

            eventually(lambda: any(cause in one for one in causes()))
            for _ in range(30):
                causes()
            began_s = time.monotonic()
            gateway.stop()
            assert time.monotonic() - began_s < 6
        told = [line["cause"] for line in gateway.log if line["event"] == "tracing.failing"]
        assert len(told) == len(set(told)) <= 4
        assert gateway.errors == []


def test_a_collector_that_says_nothing_holds_up_no_stop(tmp_path: Path) -> None:
    with contextlib.closing(Slow()) as collector, Answers(OK) as plain:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": NEVER_MS}
        with gateway_to(plain, tmp_path, **environment) as gateway:
            assert gateway.get("/plain/x").status == 200
            began_s = time.monotonic()
            gateway.stop()
            assert time.monotonic() - began_s < 6
        gateway.wait_for_log(lambda line: line["event"] == "tracing.failing" and "in time" in line["cause"])


def test_where_it_is_off_nothing_of_it_is_there(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(SEES, encoding="utf-8")
    with Answers(OK) as plain, gateway_to(plain, tmp_path, OTEL_SERVICE_NAME="edge") as gateway:
        gateway.get("/plain/x", SAMPLED)
        assert plain.requests[0].one("traceparent") == SAMPLED.partition(" ")[2]
        seen = gateway.get("/seen").json()
        assert seen["modules"] == []
        assert not [name for name in seen["threads"] if "Otel" in name]


def test_a_sampler_of_the_standard_decides(tmp_path: Path) -> None:
    with Collector() as collector, Answers(OK) as plain:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "always_off"}
        with gateway_to(plain, tmp_path, **environment) as gateway:
            answer = gateway.get("/plain/x")
            assert plain.requests[0].one("traceparent").endswith("-00")
            assert plain.requests[0].one("traceparent")[3:35] == answer.one("x-request-id")
        assert not collector.spans


def without_the_extra(folder: Path) -> Mapping[str, str]:
    (folder / "sitecustomize.py").write_text(WITHOUT, encoding="utf-8")
    return {"PYTHONPATH": str(folder), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({}, "pip install '.[otel]'"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"},
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        ),
    ],
    ids=["no_extra", "grpc", "limit"],
)
def test_what_cannot_be_exported_stops_no_gateway(tmp_path: Path, wrong: dict[str, str], cause: str) -> None:
    with Answers(OK) as plain:
        with gateway_to(plain, tmp_path, **(wrong or without_the_extra(tmp_path))) as gateway:
            assert cause in gateway.wait_for_log(lambda line: line["event"] == "tracing.off")["cause"]
            assert gateway.get("/plain/x", SAMPLED).status == 200
            assert plain.requests[0].one("traceparent") == SAMPLED.partition(" ")[2]
        assert not [line for line in gateway.errors if not line.startswith("gateway: warning: ")]


def test_a_sampler_that_is_unknown_is_told_of(tmp_path: Path) -> None:
    with Collector() as collector, Answers(OK) as plain:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_TRACES_SAMPLER": "sometimes"}
        with gateway_to(plain, tmp_path, **environment) as gateway:
            line = gateway.wait_for_log(lambda line: line["event"] == "tracing.failing")
            assert "sometimes" in line["cause"]


def test_check_says_what_is_wrong_and_that_all_else_is_good(tmp_path: Path) -> None:
    routes = {"GATEWAY_UPSTREAM_PLAIN": "http://a", "GATEWAY_ROUTE_PLAIN": "/plain/** -> plain"}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        cwd=tmp_path,
        env={**routes, "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == (
        "gateway: warning: OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://; there is no tracing\n"
    )
