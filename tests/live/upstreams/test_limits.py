"""So many at a time: the places of an upstream, the queue before them, and the gateway's own limit at its door."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.harness import OK, Answer, Gateway, Refuses, Request, Upstream, Wire, eventually, request_bytes
from tests.live.stage import Actor, Scene, Stage, after, breaks_off, resets, says, silent, status

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
LAST_CHUNK = b"0\r\n\r\n"
ONE = {"MAX_IN_FLIGHT": "1", "QUEUE": "0"}

SCENES = {
    "ping": Scene(Actor),
    "queue": Scene(Actor, MAX_IN_FLIGHT="2", QUEUE="10", QUEUE_TIMEOUT="20s"),
    "impatient": Scene(Actor, MAX_IN_FLIGHT="1", QUEUE="10", QUEUE_TIMEOUT="200ms"),
    "deadline": Scene(Actor, MAX_IN_FLIGHT="1", QUEUE="10", QUEUE_TIMEOUT="20s", TIMEOUT="600ms"),
    "short": Scene(Actor, MAX_IN_FLIGHT="1", QUEUE="1", QUEUE_TIMEOUT="20s"),
    "no_queue": Scene(Actor, **ONE),
    "left": Scene(Actor, MAX_IN_FLIGHT="1", QUEUE="1", QUEUE_TIMEOUT="20s"),
    "streams": Scene(Actor, **ONE),
    "ends": Scene(Actor, **ONE, TIMEOUT="100ms", RETRIES="0", KEEPALIVE="0s"),
    "refuses": Scene(Refuses, **ONE),
    "again": Scene(**ONE, TIMEOUT="400ms", KEEPALIVE="0s"),
    "crowd": Scene(Actor, Actor, MAX_IN_FLIGHT="4", QUEUE="100", QUEUE_TIMEOUT="20s"),
    "clogged": Scene(Actor, MAX_IN_FLIGHT="20", QUEUE="50", QUEUE_TIMEOUT="20s"),
    "unlimited": Scene(Actor),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(SCENES, cwd=tmp_path_factory.mktemp("limits")) as stage:
        yield stage


def arrived(stage: Stage) -> None:
    """What was sent before has been taken in: one that came after it has been answered, all the way."""
    for _ in range(2):
        assert stage["ping"].ask().status == 200


@contextlib.contextmanager
def held(scene: Scene) -> Iterator[Request]:
    """One request in flight until the end of the block; then it is answered."""
    scene.script(silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        yield request
        request.send(OK)
        assert wire.read_answer().status == 200


def check_full(scene: Scene, answer: Answer, reason: str) -> None:
    assert (answer.status, answer.json()["reason"], answer.one("retry-after")) == (503, reason, "1")
    assert answer.one("proxy-status") == f'portway; error=connection_limit_reached; next-hop="{scene.name}"'
    line = scene.line(answer)
    assert (line["reason"], line["attempts"], line["endpoint"]) == (reason, 0, None)


# -- the queue ----------------------------------------------------------------------------------------------------


def test_more_than_are_allowed_wait_and_who_came_first_is_next(stage: Stage) -> None:
    scene = stage["queue"]
    scene.script(*[silent] * 6)
    wires: list[Wire] = []
    for number in range(6):
        wires.append(scene.begin("GET", path=f"/{number}"))
        arrived(stage)
    for done in range(6):
        requests = scene.wait_until_seen(min(6, done + 2))
        assert sorted(request.target for request in requests) == [f"/queue/{number}" for number in range(len(requests))]
        arrived(stage)
        assert len(scene.seen) == len(requests), "no more than two at a time"
        next(request for request in requests if request.target == f"/queue/{done}").send(OK)
        assert wires[done].read_answer().status == 200
    for wire in wires:
        wire.close()


def test_who_waits_too_long_gets_503(stage: Stage) -> None:
    scene = stage["impatient"]
    with held(scene):
        began_s = time.monotonic()
        answer = scene.ask("POST", body=b"order")
        assert 0.19 <= time.monotonic() - began_s < 1.0
        check_full(scene, answer, "queue_timeout")
        assert len(scene.seen) == 1
    assert scene.ask().status == 200


def test_nobody_waits_for_longer_than_half_of_its_time(stage: Stage) -> None:
    """`__TIMEOUT` runs until the head of the answer, queue included; the one in flight streams, and so outlives it."""
    scene = stage["deadline"]
    scene.script(silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        request.send(CHUNKED)
        wire.read_head()
        began_s = time.monotonic()
        answer = scene.ask()
        assert 0.28 <= time.monotonic() - began_s < 0.58
        check_full(scene, answer, "queue_timeout")
        request.send(LAST_CHUNK)
        wire.read_until(LAST_CHUNK)
    assert scene.ask().status == 200


def test_time_in_the_queue_is_missing_afterwards(stage: Stage) -> None:
    scene = stage["deadline"]
    scene.script(silent, silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        request.send(CHUNKED)
        wire.read_head()
        with scene.begin() as waits:
            began_s = time.monotonic()
            arrived(stage)
            assert not waits.is_hung_up(within_s=max(0.0, began_s + 0.2 - time.monotonic()))
            request.send(LAST_CHUNK)
            answer = waits.read_answer()
            assert 0.58 <= time.monotonic() - began_s < 0.78
        assert (answer.status, answer.json()["reason"]) == (504, "response_timeout")
        assert scene.line(answer)["attempts"] == 1


def test_a_full_queue_turns_away_at_once(stage: Stage) -> None:
    scene = stage["short"]
    with held(scene):
        waits = scene.begin()
        arrived(stage)
        began_s = time.monotonic()
        check_full(scene, scene.ask(), "upstream_full")
        assert time.monotonic() - began_s < 0.5
        assert len(scene.seen) == 1
    assert waits.read_answer().status == 200, "the one that waited had its turn"
    waits.close()


def test_without_a_queue_the_second_one_is_turned_away_at_once(stage: Stage) -> None:
    scene = stage["no_queue"]
    with held(scene):
        for method in ("GET", "POST"):
            check_full(scene, scene.ask(method), "upstream_full")
    assert scene.ask().status == 200


def test_a_client_that_leaves_the_queue_frees_its_place_in_it(stage: Stage) -> None:
    scene = stage["left"]
    with held(scene):
        with scene.begin("GET", "X-Request-ID: leaves"):
            arrived(stage)
            check_full(scene, scene.ask(), "upstream_full")
        line = stage.gateway.request_line("leaves")
        assert (line["status"], line["reason"], line["attempts"]) == (499, "client_gone", 0)
        waits = scene.begin("GET", path="/waits")
        arrived(stage)
    assert waits.read_answer().status == 200
    waits.close()
    assert [request.target for request in scene.seen] == ["/left/x", "/left/waits"]


def test_so_does_one_that_leaves_in_the_middle_of_its_upload(stage: Stage) -> None:
    scene = stage["left"]
    with held(scene):
        with scene.begin("PUT", "X-Request-ID: leaves-upload", "Content-Length: 1000000") as wire:
            wire.send(b"begun")
            arrived(stage)
            check_full(scene, scene.ask(), "upstream_full")
        line = stage.gateway.request_line("leaves-upload")
        assert (line["status"], line["attempts"]) == (499, 0)
        waits = scene.begin("GET", path="/waits")
        arrived(stage)
    assert waits.read_answer().status == 200
    waits.close()


def test_a_crowd_is_served_in_full_and_never_more_than_so_many_at_a_time(stage: Stage) -> None:
    scene = stage["crowd"]
    now, most, lock = set[Request](), 0, threading.Lock()

    def slowly(request: Request) -> None:
        nonlocal most
        with lock:
            now.add(request)
            most = max(most, len(now))
        after(0.01, ends)(request)

    def ends(request: Request) -> None:
        with lock:
            now.remove(request)
        request.send(OK)

    scene.all_do(slowly)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: scene.ask(), range(80)))
    assert {answer.status for answer in answers} == {200}
    assert (most, len(scene.seen)) == (4, 80)


# -- how a place is given back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["ends", "breaks", "client leaves"])
def test_an_answer_holds_its_place_to_its_end(stage: Stage, ending: str) -> None:
    scene = stage["streams"]
    scene.script(silent)
    with scene.begin("GET", f"X-Request-ID: streams-{ending[0]}") as wire:
        (request,) = scene.wait_until_seen()
        request.send(CHUNKED)
        answer = wire.read_head()
        wire.read_body(answer, at_least=5)
        check_full(scene, scene.ask(), "upstream_full")
        if ending == "ends":
            request.send(LAST_CHUNK)
            wire.read_body(answer)
        elif ending == "breaks":
            request.reset()
            wire.read_body(answer)
            assert answer.broke_off
    stage.gateway.request_line(f"streams-{ending[0]}")
    assert scene.ask().status == 200
    check_no_place_is_lost(scene)


def check_no_place_is_lost(scene: Scene) -> None:
    """Nor is there one more than before."""
    scene.all_do(says(OK))
    with held(scene):
        assert scene.ask().status == 503
    assert scene.ask().status == 200


ENDS: dict[str, tuple[Callable[[Request], None], int]] = {
    "well": (says(OK), 200),
    "without a body": (says(b"HTTP/1.1 204 No Content\r\n\r\n"), 204),
    "reset": (resets, 502),
    "garbage": (breaks_off(b"garbage\r\n\r\n"), 502),
    "late": (silent, 504),
    "503": (status(503), 503),
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("ending", ENDS)
def test_whatever_becomes_of_a_request_its_place_is_given_back(stage: Stage, ending: str, method: str) -> None:
    scene = stage["ends"]
    act, code = ENDS[ending]
    if method == "HEAD" and code in {200, 503}:
        act = says(b"HTTP/1.1 %d Just So\r\nContent-Length: 5\r\n\r\n" % code)
    scene.script(act)
    assert scene.ask(method).status == code
    check_no_place_is_lost(scene)


def test_a_client_that_leaves_gives_its_place_back(stage: Stage) -> None:
    scene = stage["no_queue"]
    scene.script(silent)
    with scene.begin("GET", "X-Request-ID: gone"):
        scene.wait_until_seen()
    assert stage.gateway.request_line("gone")["reason"] == "client_gone"
    check_no_place_is_lost(scene)


def test_a_refused_connection_gives_its_place_back(stage: Stage) -> None:
    for _ in range(4):
        answer = stage["refuses"].ask()
        assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")


def test_a_request_with_its_retries_and_their_company_has_one_place(stage: Stage) -> None:
    scene = stage["again"]
    scene.script(resets)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 2)
    scene.script(silent)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 2)
    check_no_place_is_lost(scene)


# -- one does not slow another ------------------------------------------------------------------------------------


def test_an_upstream_that_is_stuck_slows_no_other(stage: Stage) -> None:
    scene = stage["clogged"]
    scene.all_do(silent)
    unlimited = stage["unlimited"]
    unlimited.all_do(silent)
    wires = [scene.begin() for _ in range(40)] + [unlimited.begin() for _ in range(40)]
    scene.wait_until_seen(20)
    unlimited.wait_until_seen(40)
    began_s = time.monotonic()
    for _ in range(50):
        assert stage["ping"].ask().status == 200
    assert time.monotonic() - began_s < 2.0
    assert len(scene.seen) == 20
    for wire in wires:
        wire.close()
    eventually(lambda: not stage["clogged"].actors[0].connections_open)


# -- the gateway's own limit --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Upstream, Upstream]]:
    """A gateway that serves three at a time, with two upstreams that say what they are told to."""
    environment = {"GATEWAY_MAX_IN_FLIGHT": "3"}
    with Upstream() as one, Upstream() as other:
        for name, upstream in (("one", one), ("other", other)):
            environment[f"GATEWAY_UPSTREAM_{name.upper()}"] = upstream.url
            environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
        with Gateway(environment, cwd=tmp_path_factory.mktemp("small")) as gateway:
            yield gateway, one, other


def test_a_gateway_that_is_full_sheds_at_its_door_and_stays_live_and_ready(
    small: tuple[Gateway, Upstream, Upstream],
) -> None:
    gateway, one, other = small
    wires = [gateway.connect() for _ in range(3)]
    for wire, path in zip(wires, ("/one/0", "/one/1", "/other/2"), strict=True):
        wire.send(request_bytes("GET", path))
    requests = [one.wait_for_request("/one/0"), one.wait_for_request("/one/1"), other.wait_for_request("/other/2")]
    for path in ("/one/shed", "/other/shed", "/nowhere"):
        began_s = time.monotonic()
        answer = gateway.get(path)
        assert time.monotonic() - began_s < 0.5
        assert (answer.status, answer.json()["reason"], answer.one("retry-after")) == (503, "overloaded", "1")
        assert answer.one("proxy-status").startswith("portway; error=proxy_internal_response")
        line = gateway.request_line(answer.one("x-request-id"))
        assert (line["reason"], line["upstream"], line["attempts"]) == ("overloaded", None, None)
    for _ in range(5):
        assert [gateway.get(path).status for path in ("/-/live", "/-/ready")] == [200, 200]
    requests[0].send(OK)
    assert wires[0].read_answer().status == 200
    wires[0].send(request_bytes("GET", "/one/3"))
    one.wait_for_request("/one/3").send(OK)
    assert wires[0].read_answer().status == 200
    for request, wire in zip(requests[1:], wires[1:], strict=True):
        request.send(OK)
        assert wire.read_answer().status == 200
    for wire in wires:
        wire.close()
    assert sorted(request.target for request in one.requests) == ["/one/0", "/one/1", "/one/3"]


def test_an_upload_that_is_shed_is_told_before_it_is_sent(small: tuple[Gateway, Upstream, Upstream]) -> None:
    gateway, one, _ = small
    wires = [gateway.connect() for _ in range(3)]
    for number, wire in enumerate(wires):
        wire.send(request_bytes("GET", f"/one/held-{number}"))
        one.wait_for_request(f"/one/held-{number}")
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/one/upload", "Content-Length: 1000000", body=b"begun"))
        answer = wire.read_answer()
        assert (answer.status, answer.json()["reason"]) == (503, "overloaded")
    for wire in wires:
        wire.close()
    eventually(lambda: gateway.get("/nowhere").status == 404)


def test_idle_clients_do_not_count(small: tuple[Gateway, Upstream, Upstream]) -> None:
    gateway, _, _ = small
    idle = [gateway.connect() for _ in range(6)]
    for wire in idle:
        wire.send(request_bytes("GET", "/-/live"))
        assert wire.read_answer().status == 200
    assert gateway.get("/nowhere").status == 404
    for wire in idle:
        wire.close()
