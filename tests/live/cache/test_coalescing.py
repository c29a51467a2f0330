"""Those who ask for the same at once: one call upstream for all, whatever becomes of it and of them."""

import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.caching import Origin, Page, cached, chunked, fresh, is_hit, said, workers_of
from tests.live.harness import Answer, Connection, Gateway, Request, Wire, eventually
from tests.live.parts import begin
from tests.live.stage import Act, message, says

MIB = 2**20
MORE = {
    "ROUTE_SMALL": "/small/** -> u",
    "ROUTE_SMALL__CACHE": "on",
    "ROUTE_SMALL__CACHE_MAX_BODY": "64KiB",
    "ROUTE_LATE": "/late/** -> u",
    "ROUTE_LATE__CACHE": "on",
    "ROUTE_LATE__TIMEOUT": "300ms",
    "ROUTE_TOTAL": "/total/** -> u",
    "ROUTE_TOTAL__CACHE": "on",
    "ROUTE_TOTAL__TOTAL_TIMEOUT": "400ms",
    "CACHE_MEMORY": "64MiB",
    "ROUTE_HASTY": "GET /hasty",
    "ROUTE_HASTY__PART_X": "u:/part",
    "ROUTE_HASTY__PART_X__CACHE": "on",
    "ROUTE_HASTY__PART_X__TIMEOUT": "200ms",
    "ROUTE_PATIENT": "GET /patient",
    "ROUTE_PATIENT__PART_X": "u:/part",
    "ROUTE_PATIENT__PART_X__CACHE": "on",
}
ROUTES = """
import asyncio
from django.http import JsonResponse
from gateway.routing import from_environment, route

async def tasks(request):
    return JsonResponse([task.get_name() for task in asyncio.all_tasks()], safe=False)

urlpatterns = [*from_environment(), route("/tasks", tasks)]
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("together")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Gateway(cached(origin, **MORE), cwd=folder) as started:
        yield started


class Crowd:
    """Clients that ask for one page at the same time; the upstream holds its answers back until it is told."""

    def __init__(self, gateway: Gateway, origin: Origin, stack: ExitStack, under: str = "/c") -> None:
        self.page = Page(gateway, origin, under)
        self.held: list[Request] = []
        self.page.answers(self.held.append)
        self.wires: list[Wire] = []
        self._stack = stack

    def asks(self, *fields: str, receive_buffer_bytes: int = 0) -> Wire:
        wire = self._stack.enter_context(self.page.begin(*fields, receive_buffer_bytes=receive_buffer_bytes))
        self.wires.append(wire)
        return wire

    def gathers(self, count: int) -> Request:
        """So many ask, the first of `wires` first; the one call that comes of it."""
        self.asks()
        request = self.wait_for_call()
        for _ in range(count - 1):
            self.asks()
        self.settles()
        return request

    def wait_for_call(self, number: int = 1) -> Request:
        eventually(lambda: len(self.held) >= number)
        return self.held[number - 1]

    def settles(self) -> None:
        """All that was sent so far has been looked at: a request that came after it has been answered."""
        other = Page(self.page.gateway, self.page.origin, "/plain")
        for _ in range(3):
            assert other.get().status == 200

    def answers(self) -> list[Answer]:
        return [wire.read_answer() for wire in self.wires]


@pytest.fixture
def crowd(gateway: Gateway, origin: Origin) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(gateway, origin, stack)


@pytest.fixture
def small(gateway: Gateway, origin: Origin) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(gateway, origin, stack, "/small")


BIG = os.urandom(1_500_000)


# -- one call -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["whole", "chunked", "large", "to the end"])
def test_those_who_ask_at_once_share_one_call(crowd: Crowd, framing: str) -> None:
    control = "Cache-Control: max-age=60"
    body = b"small" if framing == "whole" else BIG
    raw = {
        "whole": message("200 OK", body, control),
        "large": message("200 OK", body, control),
        "chunked": chunked(*(body[at : at + 50_000] for at in range(0, len(body), 50_000))),
        "to the end": f"HTTP/1.1 200 OK\r\n{control}\r\nConnection: close\r\n\r\n".encode() + body,
    }
    call = crowd.gathers(8)
    call.send(raw[framing])
    if framing == "to the end":
        call.close()
    answers = crowd.answers()
    assert all(answer.body == body and not answer.broke_off for answer in answers)
    told = sorted(map(said, answers))
    assert told.count("portway; fwd=uri-miss; stored") == 1
    # On a machine that is busy the last of them may be there only when all is stored.
    assert all("collapsed" in one or "hit" in one for one in told if "stored" not in one)
    assert len(crowd.page.asked) == 1
    assert crowd.page.wait_until_hit().body == body
    logged = [crowd.page.line(answer) for answer in answers]
    assert sorted(line["cache"] for line in logged if line["cache"] != "hit")[-1:] == ["miss"]
    assert sum(line["upstream"] is not None for line in logged) == 1
    assert all(line["bytes_out"] == len(body) for line in logged)


def test_who_comes_while_the_body_is_on_its_way_gets_all_of_it(crowd: Crowd) -> None:
    call = crowd.gathers(2)
    call.send(chunked(b"x" * 100_000, end=False))
    first = crowd.wires[0].read_head()
    crowd.wires[0].read_body(first, 100_000)
    late = crowd.asks()
    head = late.read_head()
    assert late.read_body(head, 100_000) == b"x" * 100_000
    call.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert late.read_body(head) == b"x" * 100_000 + b"hello"
    assert crowd.wires[1].read_answer().body == b"x" * 100_000 + b"hello"
    assert len(crowd.page.asked) == 1


def test_conditions_and_languages_of_those_who_share_are_their_own(crowd: Crowd) -> None:
    plain, asks_again = crowd.asks(), crowd.asks('If-None-Match: "1"')
    crowd.wait_for_call().send(message("200 OK", b"body", "Cache-Control: max-age=60", 'ETag: "1"'))
    assert plain.read_answer().body == b"body"
    assert asks_again.read_answer().status == 304
    assert len(crowd.page.asked) == 1


def test_a_validation_is_shared_too(crowd: Crowd) -> None:
    crowd.page.answers(fresh("old", "Age: 61", 'ETag: "1"'))
    crowd.page.get()
    crowd.page.answers(crowd.held.append)
    call = crowd.gathers(5)
    assert call.one("if-none-match") == '"1"'
    call.send(b'HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=60\r\nETag: "1"\r\n\r\n')
    answers = crowd.answers()
    assert [answer.body for answer in answers] == [b"old"] * 5
    assert len(crowd.page.asked) == 2


def test_who_wants_a_newer_one_does_not_wait_for_others(crowd: Crowd) -> None:
    crowd.gathers(1)
    crowd.asks("Cache-Control: no-cache")
    crowd.wait_for_call(2).send(message("200 OK", b"newer", "Cache-Control: max-age=60"))
    assert crowd.wires[1].read_answer().body == b"newer"
    crowd.held[0].send(message("200 OK", b"older", "Cache-Control: max-age=60"))
    assert crowd.wires[0].read_answer().body == b"older"


# -- what is not shared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        ["Cache-Control: private"],
        ["Cache-Control: no-store"],
        ["Cache-Control: max-age=60", "Set-Cookie: a=b"],
        ["Cache-Control: max-age=60", "Vary: *"],
        ["Cache-Control: no-cache", 'ETag: "1"'],
        ["Cache-Control: max-age=0", 'ETag: "1"'],
        ["Cache-Control: max-age=60", "Age: 61", 'ETag: "1"'],
        [],
    ],
    ids=str,
)
def test_an_answer_that_is_not_for_all_is_for_the_first_only(crowd: Crowd, fields: list[str]) -> None:
    crowd.gathers(4).send(message("200 OK", b"1", *fields))
    for number in (2, 3, 4):
        crowd.wait_for_call(number).send(message("200 OK", str(number).encode(), *fields))
    answers = crowd.answers()
    assert sorted(answer.body for answer in answers) == [b"1", b"2", b"3", b"4"]
    assert not any("collapsed" in said(answer) for answer in answers)


def test_those_whom_vary_tells_apart_do_not_share(crowd: Crowd) -> None:
    """Nobody knows before the first answer; from then on they do not even wait for each other."""

    def by_tenant(request: Request) -> None:
        fresh(request.one("x-tenant"), "Vary: X-Tenant")(request)

    crowd.page.answers(crowd.held.append, by_tenant)
    for tenant in "aabb":
        crowd.asks(f"X-Tenant: {tenant}")
    first = crowd.wait_for_call()
    crowd.settles()
    assert len(crowd.page.asked) == 1
    by_tenant(first)
    assert [answer.body for answer in crowd.answers()] == [b"a", b"a", b"b", b"b"]
    crowd.page.answers(crowd.held.append)
    crowd.asks("X-Tenant: c")
    crowd.asks("X-Tenant: d")
    crowd.wait_for_call(3)
    for call in crowd.held[1:]:
        by_tenant(call)


def test_who_shows_who_he_is_does_not_wait_for_those_who_do_not(crowd: Crowd) -> None:
    crowd.asks()
    crowd.wait_for_call()
    crowd.asks("Authorization: Bearer a")
    crowd.wait_for_call(2)
    for call in crowd.held:
        fresh("x")(call)
    assert [answer.status for answer in crowd.answers()] == [200, 200]


def test_a_part_is_asked_for_once_and_each_waits_as_long_as_its_own_time(gateway: Gateway, origin: Origin) -> None:
    held: list[Request] = []
    origin.answers("/part", held.append)
    with begin(gateway, "/hasty") as hasty, ExitStack() as stack:
        eventually(lambda: held)
        patient = [stack.enter_context(begin(gateway, "/patient")) for _ in range(2)]
        assert hasty.read_answer().json()["reason"] == "response_timeout"
        eventually(
            lambda: [
                fresh('{"a":1}', "Content-Type: application/json")(call) for call in held if call.connection.is_open
            ]
        )
        assert [wire.read_answer().json() for wire in patient] == [{"x": {"a": 1}}] * 2


def wait_until_gone(page: Page) -> None:
    """The gateway has noticed that one left."""
    page.gateway.wait_for_log(
        lambda line: line["event"] == "request" and line["status"] == 499 and line["path"] == page.path
    )


# -- who leaves -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before the head", "within the body"])
def test_the_first_who_leaves_does_not_fail_the_others(crowd: Crowd, when: str) -> None:
    call = crowd.gathers(3)
    raw = message("200 OK", BIG, "Cache-Control: max-age=60")
    if when == "within the body":
        call.send(raw[:500_000])
        crowd.wires[0].read_until(b"\r\n\r\n")
    crowd.wires.pop(0).reset()
    wait_until_gone(crowd.page)
    call.send(raw[500_000:] if when == "within the body" else raw)
    assert [answer.body == BIG for answer in crowd.answers()] == [True, True]
    assert len(crowd.page.asked) == 1
    assert is_hit(crowd.page.wait_until_hit())


@pytest.mark.parametrize("when", ["before the head", "within the body"])
def test_when_all_have_left_the_call_is_cancelled_and_nothing_is_stored(crowd: Crowd, when: str) -> None:
    call = crowd.gathers(3)
    if when == "within the body":
        call.send(message("200 OK", BIG, "Cache-Control: max-age=60")[:500_000])
        for wire in crowd.wires:
            wire.read_until(b"\r\n\r\n")
    for wire in crowd.wires:
        wire.reset()
    eventually(lambda: not call.connection.is_open, 3)
    crowd.page.answers(fresh("new"))
    assert said(crowd.page.get()) == "portway; fwd=uri-miss; stored"


def test_an_answer_that_nobody_takes_any_more_is_let_go(crowd: Crowd) -> None:
    """The first has left, and the others may not have it."""
    call = crowd.gathers(2)
    crowd.wires.pop(0).reset()
    wait_until_gone(crowd.page)
    call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nCache-Control: private\r\n\r\nx")
    crowd.wait_for_call(2).send(message("200 OK", b"mine", "Cache-Control: private"))
    assert crowd.wires[0].read_answer().body == b"mine"
    eventually(lambda: not call.connection.is_open, 3)


def test_who_got_a_304_does_not_keep_the_call_of_the_others(crowd: Crowd) -> None:
    conditional = crowd.asks('If-None-Match: "1"')
    call = crowd.wait_for_call()
    crowd.asks()
    crowd.settles()
    raw = message("200 OK", BIG, "Cache-Control: max-age=60", 'ETag: "1"')
    call.send(raw[:200_000])
    assert conditional.read_answer().status == 304
    conditional.close()
    call.send(raw[200_000:])
    assert crowd.wires[1].read_answer().body == BIG
    assert is_hit(crowd.page.wait_until_hit())


NONSENSE = b"this is no HTTP\r\n\r\n"


# -- what fails -----------------------------------------------------------------------------------------------------


def test_after_a_failure_one_of_those_who_waited_tries_for_all(crowd: Crowd) -> None:
    crowd.gathers(5).send(NONSENSE)
    crowd.wait_for_call(2).send(message("200 OK", b"second", "Cache-Control: max-age=60"))
    answers = crowd.answers()
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 200, 502]
    assert len(crowd.page.asked) == 2


def test_a_second_failure_is_everybody_s(crowd: Crowd) -> None:
    crowd.gathers(4).send(NONSENSE)
    crowd.wait_for_call(2).send(NONSENSE)
    answers = crowd.answers()
    assert [answer.status for answer in answers] == [502] * 4
    assert len(crowd.page.asked) == 2
    assert all(answer.all("cache-status") == ["portway; detail=failed"] for answer in answers)
    assert len({answer.json()["request_id"] for answer in answers}) == 4


def test_a_body_that_breaks_off_breaks_off_for_all_and_is_not_stored(crowd: Crowd) -> None:
    call = crowd.gathers(4)
    call.send(message("200 OK", BIG, "Cache-Control: max-age=60")[:700_000])
    for wire in crowd.wires:
        wire.read_until(b"\r\n\r\n")
    call.close()
    assert all(0 < len(wire.read_to_end()) < len(BIG) for wire in crowd.wires)
    crowd.page.answers(fresh("whole"))
    assert crowd.page.get().body == b"whole"


def test_a_chunked_body_that_breaks_off_never_ends_as_if_it_were_whole(crowd: Crowd) -> None:
    call = crowd.gathers(3)
    call.send(chunked(b"x" * 100_000, end=False))
    heads = [(wire, wire.read_head()) for wire in crowd.wires]
    for wire, head in heads:
        wire.read_body(head, 100_000)
    call.close()
    for wire, head in heads:
        wire.read_body(head)
        assert head.broke_off
    crowd.page.answers(fresh("whole"))
    assert crowd.page.get().body == b"whole"


def test_a_head_that_is_too_late_is_too_late_for_all(gateway: Gateway, origin: Origin) -> None:
    with ExitStack() as stack:
        crowd = Crowd(gateway, origin, stack, "/late")
        call = crowd.gathers(3)
        answers = crowd.answers()
        assert [answer.status for answer in answers] == [504] * 3
        assert {answer.json()["reason"] for answer in answers} == {"response_timeout"}
        assert all(len(answer.all("cache-status")) == 1 for answer in answers)
        assert len(crowd.page.asked) == 1
        eventually(lambda: not call.connection.is_open, 3)


def test_the_total_time_ends_the_transfer_for_all_who_share(gateway: Gateway, origin: Origin) -> None:
    with ExitStack() as stack:
        crowd = Crowd(gateway, origin, stack, "/total")
        call = crowd.gathers(3)
        call.send(message("200 OK", BIG, "Cache-Control: max-age=60")[:100_000])
        assert all(0 < len(wire.read_to_end()) < len(BIG) for wire in crowd.wires)
        eventually(lambda: not call.connection.is_open, 3)
        crowd.page.answers(fresh("whole"))
        assert crowd.page.get().body == b"whole"


# -- large bodies ---------------------------------------------------------------------------------------------------


def resident_mib(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) / 1024


def test_a_body_over_the_limit_reaches_fast_and_slow_readers_whole_and_stays_small_in_memory(small: Crowd) -> None:
    size = 24 * MIB
    block = os.urandom(2**16)
    small.page.answers(small.held.append, says(chunked(*[block] * (size // len(block)))))
    for _ in range(3):
        small.asks()
    small.asks(receive_buffer_bytes=4096)
    call = small.wait_for_call()
    small.settles()
    worker = workers_of(small.page.gateway)[0]
    before = resident_mib(worker)

    def feed() -> None:
        call.send(chunked(end=False))
        for _ in range(size // len(block)):
            call.send(b"10000\r\n" + block + b"\r\n")
        call.send(b"0\r\n\r\n")

    with ThreadPoolExecutor(5) as pool:
        pool.submit(feed)
        bodies = list(pool.map(lambda wire: wire.read_answer().body, small.wires))
    assert [len(body) for body in bodies] == [size] * 4
    assert all(body == block * (size // len(block)) for body in bodies)
    assert resident_mib(worker) - before < 12


def feed(call: Request, blocks: list[bytes]) -> None:
    call.send(chunked(end=False))
    for block in blocks:
        call.send(b"%x\r\n%b\r\n" % (len(block), block))
    call.send(b"0\r\n\r\n")


# More than a reader's sockets take, so that one who reads nothing is felt.
BLOCKS = [os.urandom(2**16) for _ in range(128)]


@pytest.mark.parametrize("first", ["the slow one asked first", "the quick one asked first"])
def test_a_reader_who_stands_still_holds_nobody_up_and_goes_on_by_a_call_of_his_own(small: Crowd, first: str) -> None:
    body = b"".join(BLOCKS)
    small.page.answers(small.held.append, says(chunked(*BLOCKS)))
    slow_is_first = first.startswith("the slow")
    slow = small.asks(receive_buffer_bytes=4096) if slow_is_first else None
    quick = [small.asks(), small.asks()]
    call = small.wait_for_call()
    slow = slow or small.asks(receive_buffer_bytes=4096)
    small.settles()
    with ThreadPoolExecutor(4) as pool:
        pool.submit(feed, call, BLOCKS)
        # Until they have all of it, the slow one reads nothing.
        assert [answer.body for answer in pool.map(Wire.read_answer, quick)] == [body, body]
        answer = slow.read_answer()
    assert (answer.body == body, answer.broke_off) == (True, False)
    assert len(small.page.asked) == 2


@pytest.mark.parametrize(
    "then",
    [
        # Who reads nothing was handed 300 to 450 KiB, so what differs begins after 128.
        says(chunked(*BLOCKS[:2], os.urandom(2**16), *BLOCKS[3:])),  # another one within what was read
        says(chunked(*BLOCKS[:2])),  # it is shorter than that
        says(message("503 Service Unavailable", b"no")),
        says(message("200 OK", b"short")),
        lambda request: request.close(),
    ],
    ids=["another", "shorter", "failure", "short", "nothing"],
)
def test_what_cannot_go_on_breaks_off(small: Crowd, then: Act) -> None:
    """Never one answer's beginning with another one's end."""
    body = b"".join(BLOCKS)
    small.page.answers(small.held.append, then)
    small.asks()
    call = small.wait_for_call()
    slow = small.asks(receive_buffer_bytes=4096)
    small.settles()
    with ThreadPoolExecutor(2) as pool:
        pool.submit(feed, call, BLOCKS)
        assert small.wires[0].read_answer().body == body
        answer = slow.read_answer()
    assert answer.broke_off
    assert body.startswith(answer.body)


def test_a_reader_who_is_alone_is_waited_for(small: Crowd) -> None:
    slow = small.asks(receive_buffer_bytes=4096)
    call = small.wait_for_call()
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(feed, call, BLOCKS * 4)
        slow.is_hung_up(within_s=1.5)
        assert not feeding.done()
        assert slow.read_answer().body == b"".join(BLOCKS * 4)
    assert len(small.page.asked) == 1


def test_a_body_that_turned_out_too_large_is_not_waited_for_again(small: Crowd) -> None:
    small.page.answers(says(chunked(b"x" * 100_000)))
    small.page.get()
    small.page.answers(small.held.append)
    small.asks()
    small.asks()
    for number in (1, 2):
        small.wait_for_call(number).send(chunked(b"y" * 100_000))
    assert [answer.body for answer in small.answers()] == [b"y" * 100_000] * 2


@pytest.mark.parametrize("round_", range(5))
def test_those_who_join_as_the_limit_is_passed_miss_nothing(small: Crowd, round_: int) -> None:
    """Who joins late, while what was read by all is given up, must have the beginning too, or a call of its own."""
    parts = [os.urandom(9_000) for _ in range(12)]
    body = b"".join(parts)
    small.page.answers(small.held.append, says(chunked(*parts)))
    small.asks()
    call = small.wait_for_call()

    def feed() -> None:
        call.send(chunked(end=False))
        for part in parts:
            call.send(b"%x\r\n%b\r\n" % (len(part), part))
        call.send(b"0\r\n\r\n")

    with ThreadPoolExecutor(2) as pool:
        feeding = pool.submit(feed)
        while not feeding.done():
            small.asks()
        bodies = list(pool.map(lambda wire: wire.read_answer().body, small.wires))
    assert all(found == body for found in bodies)


# -- what one request was refused -----------------------------------------------------------------------------------

REFUSED = {
    "400": (["X-Bad: 1"], says(message("400 Bad", b"no"))),
    "401": (["Authorization: Bearer x"], says(message("401 Who", b"no", "WWW-Authenticate: Bearer"))),
    "403, with a cookie": (["Cookie: a=b"], says(message("403 No", b"no"))),
    "404": (["X-Bad: 1"], says(message("404 Not Found", b"no"))),
    "404, no-store": (["X-Bad: 1"], says(message("404 Not Found", b"no", "Cache-Control: no-store"))),
    "405": (["X-HTTP-Method-Override: POST"], says(message("405 Not So", b"no", "Allow: GET"))),
    "410": (["X-Bad: 1"], says(message("410 Gone", b"no"))),
    "414": (["X-Bad: 1"], says(message("414 Long", b"no"))),
    "429": (["X-Bad: 1"], says(message("429 Slow Down", b"no", "Retry-After: 5"))),
    "no-store": (["X-Bad: 1"], fresh("no", control="no-store")),
    "private": (["Cookie: a=b"], fresh("no", control="private")),
    "set-cookie": (["X-Bad: 1"], fresh("no", "Set-Cookie: a=b")),
    "vary": (["X-Bad: 1"], fresh("no", "Vary: *")),
    "events": (["Accept: text/event-stream"], says(message("200 OK", b"no", "Content-Type: text/event-stream"))),
    "too large": (["Accept: text/csv"], fresh("n" * 3_000_000)),
    "no-store asked for": (["Cache-Control: no-store"], fresh("no")),
}


def a_few_ask(crowd: Crowd, count: int = 6) -> None:
    """A crowd of innocent ones: one call is made for all of them."""
    crowd.page.answers(crowd.held.append)
    for _ in range(count):
        crowd.asks()
    fresh("good")(crowd.wait_for_call())
    answers = crowd.answers()
    assert [answer.body for answer in answers] == [b"good"] * count
    assert len(crowd.held) == 1
    assert is_hit(crowd.page.get())


# With a duration of ours some are stored, where nothing is: HTTP calls them cacheable.
NOT_STORED = [(under, name) for under in ("/c", "/t") for name in REFUSED]
NOT_STORED = [one for one in NOT_STORED if one not in {("/t", "404"), ("/t", "405"), ("/t", "410"), ("/t", "414")}]


@pytest.mark.parametrize(("under", "name"), NOT_STORED)
def test_what_one_was_refused_keeps_others_neither_from_the_cache_nor_from_sharing(
    crowd: Crowd, name: str, under: str
) -> None:
    fields, refusing = REFUSED[name]
    crowd.page.path = crowd.page.path.replace("/c/", f"{under}/")
    crowd.page.answers(refusing)
    for _ in range(3):
        assert not is_hit(crowd.page.get(*fields))
    a_few_ask(crowd)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("under", ["/c", "/t"])
def test_what_one_was_refused_takes_no_good_answer_from_others(crowd: Crowd, name: str, under: str) -> None:
    fields, refusing = REFUSED[name]
    crowd.page.path = crowd.page.path.replace("/c/", f"{under}/")
    crowd.page.answers(fresh("good", control="" if under == "/t" else "max-age=60"), refusing)
    crowd.page.get()
    for more in (["Cache-Control: no-cache"], ["Cache-Control: max-age=0"]):
        refused = crowd.page.get(*fields, *more)
        assert refused.body[:1] == b"n", "the one who asked gets the new one"
        assert crowd.page.get().body == b"good"
        assert is_hit(crowd.page.get())


def test_a_4xx_does_not_end_what_is_stale_but_a_404_does(crowd: Crowd) -> None:
    for code, body in ((400, b"still"), (404, b"new")):
        page = Page(crowd.page.gateway, crowd.page.origin)
        page.answers(
            fresh("old", "Age: 100", 'ETag: "1"'),
            says(message(f"{code} X", b"x")),
            says(message("304 X", b"", 'ETag: "1"')),
        )
        page.get()
        assert page.get().status == code
        page.get()
        assert page.asked[2].has("if-none-match") is (code == 400), body


def test_those_behind_one_who_is_refused_share_the_next_call(crowd: Crowd) -> None:
    crowd.page.answers(crowd.held.append)
    crowd.asks("X-Bad: 1")
    crowd.wait_for_call()
    for _ in range(5):
        crowd.asks()
    crowd.settles()
    crowd.held[0].send(message("400 Bad", b"no"))
    fresh("good")(crowd.wait_for_call(2))
    assert sorted(answer.body for answer in crowd.answers()) == [b"good"] * 5 + [b"no"]
    assert len(crowd.held) == 2


def test_those_behind_one_whom_vary_tells_apart_share_the_next_call(crowd: Crowd) -> None:
    crowd.page.answers(crowd.held.append)
    crowd.asks("X-Tenant: a")
    crowd.wait_for_call()
    for _ in range(5):
        crowd.asks("X-Tenant: b")
    crowd.settles()
    for number in (1, 2):
        request = crowd.wait_for_call(number)
        fresh(request.one("x-tenant"), "Vary: X-Tenant")(request)
    assert sorted(answer.body for answer in crowd.answers()) == [b"a"] + [b"b"] * 5
    assert len(crowd.held) == 2


def test_who_is_refused_for_long_waits_for_nobody_and_may_ask_by_a_condition(crowd: Crowd) -> None:
    crowd.page.answers(fresh("mine", 'ETag: "1"', control="private"))
    for number in range(3):
        crowd.page.get(f"User-Agent: {number}")
    crowd.page.answers(crowd.held.append)
    for number in range(3, 6):
        crowd.asks(f"User-Agent: {number}")
    crowd.asks("User-Agent: 6", 'If-None-Match: "1"')
    crowd.wait_for_call(4)
    assert any(request.has("if-none-match") for request in crowd.held)
    for request in list(crowd.held):
        fresh("mine", control="private")(request)
    assert [answer.body for answer in crowd.answers()] == [b"mine"] * 4


def test_an_answer_that_may_be_stored_after_all_is(crowd: Crowd) -> None:
    crowd.page.answers(fresh("mine", control="private"), fresh("mine", control="private"), fresh("for all"))
    assert [crowd.page.get().body for _ in range(4)] == [b"mine", b"mine", b"for all", b"for all"]
    assert is_hit(crowd.page.get())


# -- the end --------------------------------------------------------------------------------------------------------


def test_a_stop_cuts_all_who_share_and_leaves_nothing_behind(origin: Origin, tmp_path: Path) -> None:
    with Gateway(cached(origin, DRAIN="500ms"), cwd=tmp_path) as gateway, ExitStack() as stack:
        crowd = Crowd(gateway, origin, stack)
        call = crowd.gathers(3)
        call.send(message("200 OK", BIG, "Cache-Control: max-age=60")[:700_000])
        for wire in crowd.wires:
            wire.read_until(b"\r\n\r\n")
        gateway.stop()
        assert all(0 < len(wire.read_to_end()) < len(BIG) for wire in crowd.wires)
        assert next(line for line in gateway.log if line["event"] == "drain.cut")["count"] == 3
        eventually(lambda: not call.connection.is_open, 3)


def test_a_stop_lets_those_who_share_finish_and_keeps_what_came(origin: Origin, tmp_path: Path) -> None:
    with ExitStack() as stack:
        with Gateway(cached(origin), cwd=tmp_path) as gateway:
            crowd = Crowd(gateway, origin, stack)
            call = crowd.gathers(3)
            raw = message("200 OK", BIG, "Cache-Control: max-age=60")
            call.send(raw[:700_000])
            for wire in crowd.wires:
                wire.read_until(b"\r\n\r\n")
            gateway.process.send_signal(signal.SIGTERM)
            gateway.wait_for_log(lambda line: line["event"] == "drain.started")
            call.send(raw[700_000:])
            assert all(wire.read_to_end()[-700_000:] == BIG[-700_000:] for wire in crowd.wires)
            assert gateway.wait() == 0
        with Gateway(cached(origin), cwd=tmp_path) as again:
            assert is_hit(again.get(crowd.page.path))


def test_no_call_and_no_connection_is_left_of_it_all(gateway: Gateway, origin: Origin) -> None:
    def tasks() -> list[str]:
        return [name for name in gateway.get("/tasks").json() if name.startswith("portway-fetch")]

    eventually(lambda: not tasks())

    def idle() -> list[Connection]:
        return [connection for connection in origin.connections if connection.is_open]

    assert all(request.is_whole for connection in idle() for request in connection.requests)
    eventually(lambda: len(idle()) <= 12)  # what is kept alive after a crowd is kept for 4 s
    assert not [line for line in gateway.log if line["event"] == "library"]
    assert gateway.errors == []
