"""Bodies that are kept whole share a bounded memory: it fills, refuses, and is empty again whatever the end was."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.harness import Gateway, Request, Upstream, Wire, eventually, request_bytes

MIB = 2**20
ROUTES = """
import gc, pathlib, time
from typing import Annotated, Any
from django.http import HttpResponse
from django.urls import path
from gateway.messages import GatewayRequest, GatewayResponse
from gateway.routing import cached, fanout, fetch, from_environment, legacy, part, proxy, route

async def reads(request):
    return GatewayResponse(200, [], b"%d" % len(await request.read_body()))

async def reads_form(request):
    await request.read_body()
    return GatewayResponse(200, [], b"%d" % sum(map(len, request.POST.values())))

async def fails(request):
    await request.read_body()
    raise ValueError("no")

async def fetches(request):
    kept = [await fetch("u:/" + request.GET["path"]) for _ in range(int(request.GET["count"]))]
    return GatewayResponse(200, [], b"%d" % sum(len(one.body) for one in kept))

async def fetches_and_forgets(request):
    size = 0
    for _ in range(int(request.GET["count"])):
        size += len((await fetch("u:/" + request.GET["path"])).body)
    return GatewayResponse(200, [], b"%d" % size)

def late(request):
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    return HttpResponse(str(len(request.body)))

def sync(request):
    return HttpResponse(str(len(request.body)))

def old(request):
    return {"size": len(request.body)}

async def alive(request):
    return GatewayResponse(200, [], b"%d" % sum(isinstance(one, GatewayRequest) for one in gc.get_objects()))

def needs_none():
    return {"size": 0}

@fanout
async def typed(p: Annotated[Any, part("u:/json")]):
    return {"size": 0}

@fanout
async def typed_reads(p: Annotated[Any, part("u:/json")], request):
    return {"size": len(await request.read_body())}

gc.disable()  # what is over goes by itself: with all of its body, it would be long until the collector comes
urlpatterns = [
    route("/alive", alive), route("/async", reads), route("/form", reads_form), route("/fails", fails),
    route("/sync", sync), route("/late", late), route("/late-legacy", legacy(late, name="late", timeout="200ms")),
    route("/legacy", legacy(old, threads=16)), route("/legacy-none", legacy(needs_none)),
    route("/typed", typed), route("/typed-reads", typed_reads),
    route("/fetches", fetches), route("/forgets", fetches_and_forgets),
    route("/stored/**", cached(proxy("u"), "60s", max_body="64MiB")), route("/up/**", proxy("u")),
    path("django", sync), *from_environment(),
]
"""


class Origin(Upstream):
    """Answers `/json` with an object, `/mib` with so much of JSON; holds all others back."""

    def on_request(self, request: Request) -> None:
        target = request.target
        body = b'{"a": 1}' if target == "/json" else b'"%s"' % (b"x" * (MIB - 2)) if "mib" in target else None
        if body is not None:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            request.send(head + body)


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("bodies")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_UPSTREAM_U": origin.url,
        "GATEWAY_UPSTREAM_U__RETRIES": "1",
        "GATEWAY_ROUTE_FAN": "/fan",
        "GATEWAY_ROUTE_FAN__PART_P": "u:/json",
        "GATEWAY_ROUTE_MANY": "/many/{id}",
        **{f"GATEWAY_ROUTE_MANY__PART_P{number}": f"u:/mib?{number}" for number in range(20)},
        "GATEWAY_ROUTE_MANY__PART_LAST": "u:/held/{id}",
        "GATEWAY_CACHE_DISK": "0B",
        "GATEWAY_CACHE_MEMORY": "0B",
    }
    with Gateway(environment, cwd=folder) as started:
        yield started


def kept_mib(gateway: Gateway) -> float:
    found = re.search(
        rb"^portway_kept_body_bytes (\S+)$",
        gateway.ask(request_bytes("GET", "/-/metrics", host="localhost")).body,
        re.MULTILINE,
    )
    assert found is not None
    return float(found[1]) / MIB


def is_empty(gateway: Gateway) -> bool:
    """Nothing counts, and no request is there any more but the one that asks, although nobody collects garbage."""
    return kept_mib(gateway) == 0 and gateway.get("/alive").body == b"1"


def whole(method: str, target: str, body: bytes, *fields: str) -> bytes:
    return request_bytes(method, target, f"Content-Length: {len(body)}", *fields, body=body)


def upload(gateway: Gateway, target: str, size: int, *fields: str, method: str = "POST") -> Wire:
    """A request whose body has come but for its last byte."""
    wire = gateway.connect()
    wire.send(request_bytes(method, target, f"Content-Length: {size}", *fields) + b"x" * (size - 1))
    return wire


WHO_KEEPS = ["/async", "/sync", "/legacy", "/typed-reads", "/django", "/fails"]
WHO_DOES_NOT = ["/legacy-none", "/typed", "/fan"]


@pytest.mark.parametrize(
    ("method", "target"),
    [*(("POST", target) for target in WHO_KEEPS if "typed" not in target), *(("GET", target) for target in WHO_KEEPS)],
)
def test_bodies_fill_the_memory_and_leave_it(gateway: Gateway, method: str, target: str) -> None:
    """Six of ten MiB fit; a seventh is told to come again, one that is small is served; those who leave make room."""
    with ExitStack() as stack:
        wires = [stack.enter_context(upload(gateway, target, 10 * MIB, method=method)) for _ in range(6)]
        eventually(lambda: 59.9 < kept_mib(gateway) < 60)
        seventh = stack.enter_context(gateway.connect())
        head = request_bytes(method, target, f"Content-Length: {10 * MIB}")
        seventh.send(head + b"x" * 5 * MIB)
        answer = seventh.read_answer(method)
        assert (answer.status, answer.json()["reason"]) == (503, "overloaded")
        assert answer.one("retry-after") == "1"
        small = gateway.ask(whole(method, target, b"x" * 1000))
        assert small.status == (500 if target == "/fails" else 200)
        wires.pop().reset()
        eventually(lambda: kept_mib(gateway) < 51)
        wires[0].send(b"x")
        assert wires[0].read_answer(method).status == (500 if target == "/fails" else 200)
        eventually(lambda: kept_mib(gateway) < 41)
    eventually(lambda: is_empty(gateway))


@pytest.mark.parametrize("framing", ["length", "chunked", "http/1.0"])
@pytest.mark.parametrize("target", WHO_DOES_NOT)
def test_who_needs_no_body_keeps_none(gateway: Gateway, target: str, framing: str) -> None:
    size = 2 * MIB
    with gateway.connect() as wire:
        if framing == "chunked":
            wire.send(request_bytes("GET", target, "Transfer-Encoding: chunked"))
            wire.send(b"%x\r\n" % size + b"x" * size + b"\r\n")
        else:
            head = request_bytes("GET", target, f"Content-Length: {size}")
            wire.send(head.replace(b"HTTP/1.1", b"HTTP/1.0") if framing == "http/1.0" else head)
            wire.send(b"x" * (size - 1))
        assert kept_mib(gateway) == 0
        wire.send(b"0\r\n\r\n" if framing == "chunked" else b"x")
        assert wire.read_answer().status == 200
    eventually(lambda: is_empty(gateway))


def test_a_body_that_nobody_needs_is_bounded_all_the_same(gateway: Gateway) -> None:
    answer = gateway.ask(request_bytes("GET", "/fan", f"Content-Length: {11 * MIB}"))
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")


def test_a_form_counts_twice_since_it_is_taken_to_pieces(gateway: Gateway) -> None:
    body = b"a=" + b"x" * (2 * MIB)
    form = "Content-Type: application/x-www-form-urlencoded"
    answer = gateway.ask(whole("POST", "/form", body, form))
    assert answer.body == b"%d" % (2 * MIB)
    eventually(lambda: is_empty(gateway))


def test_an_upload_that_may_be_sent_again_counts_until_its_answer_comes(gateway: Gateway, origin: Origin) -> None:
    origin.forget()
    with gateway.connect() as wire:
        wire.send(whole("PUT", "/up/held", b"x" * 60_000))
        request = origin.wait_for_request("/up/held")
        assert 0.05 < kept_mib(gateway) < 0.06
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.read_head("PUT")
        assert kept_mib(gateway) == 0
    eventually(lambda: is_empty(gateway))


def test_answers_of_parts_count_until_the_end(gateway: Gateway, origin: Origin) -> None:
    origin.forget()
    with ExitStack() as stack:
        for number in range(3):
            wire = stack.enter_context(gateway.connect())
            wire.send(request_bytes("GET", f"/many/{number}"))
            origin.wait_for_request(f"/held/{number}")
        eventually(lambda: 60 <= kept_mib(gateway) <= 60.1)
        answer = gateway.get("/many/4")
        assert (answer.status, answer.json()["part"]) == (503, answer.json()["part"])
        assert answer.json()["reason"] == "overloaded"
    eventually(lambda: is_empty(gateway))


def test_what_fetch_gives_counts_for_as_long_as_the_view_has_it(gateway: Gateway) -> None:
    answer = gateway.get("/fetches?path=mib&count=70")
    assert (answer.status, answer.json()["reason"]) == (503, "overloaded")
    assert gateway.get("/forgets?path=mib&count=70").body == b"%d" % (70 * MIB)
    eventually(lambda: is_empty(gateway))


def test_an_answer_on_its_way_into_the_cache_counts_and_costs_nobody_an_answer(
    gateway: Gateway, origin: Origin
) -> None:
    """Without room it only is not stored."""
    origin.forget()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCache-Control: max-age=60\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(upload(gateway, "/async", 10 * MIB))
        wire = stack.enter_context(gateway.connect())
        wire.send(request_bytes("GET", "/stored/large"))
        request = origin.wait_for_request("/stored/large")
        request.send(head + piece * 16)
        wire.read_head()
        eventually(lambda: 60.9 < kept_mib(gateway) < 61.2)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(request.send, piece * 160 + b"0\r\n\r\n")
            seen = wire.read_until(b"\r\n0\r\n\r\n")
        assert len(seen) > 11 * MIB
        assert kept_mib(gateway) < 61
    eventually(lambda: is_empty(gateway))


@pytest.mark.parametrize("end", ["leaves", "is answered"])
@pytest.mark.parametrize(
    "target", ["/up/held", "/stored/held", "/many/held", "/fails", "/nothing", "/legacy", "/up/mib"]
)
def test_a_request_that_is_over_is_gone_however_it_ended(
    gateway: Gateway, origin: Origin, target: str, end: str
) -> None:
    eventually(lambda: is_empty(gateway))
    origin.forget()
    with gateway.connect() as wire:
        method = "GET" if target.startswith(("/stored", "/many")) else "PUT" if "/up" in target else "POST"
        wire.send(whole(method, target, b"x" * 1000 if method != "GET" else b""))
        if end == "leaves":
            if "held" in target:
                origin.wait_for_request("/held/held" if "many" in target else target)
            wire.reset()
        else:
            if "held" in target:
                request = origin.wait_for_request("/held/held" if "many" in target else target)
                request.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
            wire.read_answer(method)
    eventually(lambda: is_empty(gateway))


@pytest.mark.parametrize("target", ["/late", "/late-legacy"])
def test_a_body_counts_for_as_long_as_a_thread_has_it(gateway: Gateway, target: str) -> None:
    """A client that leaves does not stop what runs in a thread: else many that leave would fill the memory."""
    eventually(lambda: is_empty(gateway))
    go = Path(gateway.cwd) / "go"
    go.unlink(missing_ok=True)
    with gateway.connect() as wire:
        wire.send(whole("POST", target, b"x" * MIB))
        eventually(lambda: kept_mib(gateway) == 1)
        if target == "/late":
            wire.reset()
        else:
            assert wire.read_answer("POST").status == 504
    line = gateway.wait_for_log(lambda line: line["event"] == "request" and line["path"] == target)
    assert (line["status"], kept_mib(gateway)) == (499 if target == "/late" else 504, 1)
    go.touch()
    eventually(lambda: is_empty(gateway))
