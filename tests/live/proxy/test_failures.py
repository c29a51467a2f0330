"""Upstreams that fail: before the answer each becomes its problem, after it began a transfer that looks broken."""

import contextlib
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import pytest

from tests.live.harness import (
    OK,
    Answer,
    Answers,
    ClosesIdle,
    Connection,
    DiesMidBody,
    Garbage,
    Gateway,
    Hangs,
    NeverAccepts,
    Refuses,
    Request,
    Resets,
    Slow,
    Upstream,
    Wire,
    eventually,
    request_bytes,
)

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n12345"  # too long to be held until it is whole
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n"
MID_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n\r\n12345"


class ServesOnce(Answers):
    """Answers the first request on a connection and closes on the next: an idle connection closed a moment too soon."""

    def on_head(self, request: Request) -> None:
        if request is not request.connection.requests[0]:
            request.close()

    def on_request(self, request: Request) -> None:
        if request is request.connection.requests[0]:
            super().on_request(request)


class ResetsAtOnce(Upstream):
    """Resets the connection before it has read anything, and not before the gateway knows that it is connected."""

    def on_connect(self, connection: Connection) -> None:
        connection.socket.recv(1, socket.MSG_PEEK)
        connection.reset()


GARBAGE = {
    "no HTTP at all": b"\x16\x03\x01 this is no HTTP\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below a hundred": b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status of zeros": b"HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status nobody knows": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "a switch of protocols nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
    "a field name with a space": b"HTTP/1.1 200 OK\r\nX A: 1\r\nContent-Length: 0\r\n\r\n",
    "a NUL in a field": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "a control character in a field": b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 0\r\n\r\n",
    "a DEL in a field": b"HTTP/1.1 200 OK\r\nX-A: a\x7fb\r\nContent-Length: 0\r\n\r\n",
    "a bare CR in a field": b"HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\nContent-Length: 0\r\n\r\n",
    "a field without a name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nX-A : a\r\nContent-Length: 0\r\n\r\n",
    "a length beside a transfer coding": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n",
    "a transfer coding nobody knows": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "another coding below chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "a chunk without a size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello",
    "a length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "a vast length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhello",
    "an old ICY line": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "an interim answer and nothing more": b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
    "two different lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "a head that never ends": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n",
}


class Ups(NamedTuple):
    """Every upstream of this file, by its fault."""

    ok: Answers
    puppet: Upstream
    slow: Slow
    refuses: Refuses
    resets: Resets
    resets_at_once: ResetsAtOnce
    hangs: Hangs
    garbage: Garbage
    never_accepts: NeverAccepts
    closes_idle: ClosesIdle
    serves_once: ServesOnce
    dies_length: DiesMidBody
    dies_chunked: DiesMidBody
    dies_mid_chunk: DiesMidBody
    resets_length: DiesMidBody
    resets_chunked: DiesMidBody
    resets_endless: DiesMidBody


@pytest.fixture(scope="module")
def ups() -> Iterator[Ups]:
    with ExitStack() as stack:
        made = Ups(
            Answers(),
            Upstream(),
            Slow(),
            Refuses(),
            Resets(),
            ResetsAtOnce(),
            Hangs(),
            Garbage(),
            NeverAccepts(),
            ClosesIdle(),
            ServesOnce(),
            DiesMidBody(LENGTH),
            DiesMidBody(CHUNKED),
            DiesMidBody(MID_CHUNK),
            DiesMidBody(LENGTH, by_reset=True),
            DiesMidBody(CHUNKED, by_reset=True),
            DiesMidBody(ENDLESS, by_reset=True),
        )
        for upstream in made:
            stack.callback(upstream.close)
        yield made


@pytest.fixture(scope="module")
def gateway(ups: Ups, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {f"GATEWAY_UPSTREAM_{name.upper()}": upstream.url for name, upstream in ups._asdict().items()}
    environment |= {f"GATEWAY_ROUTE_{name.upper()}": f"/{name}/** -> {name}" for name in ups._fields}
    environment |= {
        "GATEWAY_UPSTREAM_SLOW__TIMEOUT": "300ms",
        "GATEWAY_UPSTREAM_NEVER_ACCEPTS__CONNECT_TIMEOUT": "300ms",
        "GATEWAY_UPSTREAM_NOWHERE": "http://nowhere.invalid:8000",
        "GATEWAY_ROUTE_NOWHERE": "/nowhere/** -> nowhere",
        "GATEWAY_ROUTE_IDLE": "/idle/** -> puppet",
        "GATEWAY_ROUTE_IDLE__IDLE_TIMEOUT": "400ms",
        "GATEWAY_ROUTE_TOTAL": "/total/** -> puppet",
        "GATEWAY_ROUTE_TOTAL__TOTAL_TIMEOUT": "500ms",
        "GATEWAY_UPSTREAM_LAX": ups.slow.url,
        "GATEWAY_UPSTREAM_LAX__TIMEOUT": "50s",
        "GATEWAY_ROUTE_STRICT": "/strict/** -> lax",
        "GATEWAY_ROUTE_STRICT__TIMEOUT": "200ms",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("failures")) as running:
        yield running


def check_problem(gateway: Gateway, answer: Answer, status: int, reason: str, token: str, upstream: str) -> None:
    """One word in the problem, in Proxy-Status its RFC 9209 token, and the same word in the log."""
    assert (answer.status, answer.json()["reason"]) == (status, reason), answer
    assert answer.json()["status"] == status
    assert answer.one("content-type") == "application/problem+json"
    assert answer.one("proxy-status") == f'portway; error={token}; next-hop="{upstream}"'
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["status"], line["reason"], line["upstream"]) == (status, reason, upstream)
    assert (line["bytes_out"], line["level"]) == (len(answer.body), "warning")


# -- before the answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "status", "reason", "token"),
    [
        ("refuses", 502, "connection_refused", "connection_refused"),
        ("nowhere", 502, "dns_failed", "dns_error"),
        ("never_accepts", 504, "connect_timeout", "connection_timeout"),
        ("resets", 502, "connection_reset", "connection_terminated"),
        ("resets_at_once", 502, "connection_reset", "connection_terminated"),
        ("hangs", 502, "connection_reset", "connection_terminated"),
        ("slow", 504, "response_timeout", "http_response_timeout"),
    ],
)
def test_a_failure_before_the_answer_becomes_its_problem(
    gateway: Gateway, *, upstream: str, status: int, reason: str, token: str
) -> None:
    check_problem(gateway, gateway.get(f"/{upstream}/x"), status, reason, token, upstream)


@pytest.mark.parametrize("upstream", ["refuses", "resets", "hangs", "slow"])
def test_a_failure_is_the_same_for_an_upload(gateway: Gateway, upstream: str) -> None:
    statuses = {"refuses": 502, "resets": 502, "hangs": 502, "slow": 504}
    answer = gateway.ask(request_bytes("POST", f"/{upstream}/x", "Content-Length: 2", body=b"hi"))
    assert answer.status == statuses[upstream]


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_502(gateway: Gateway, ups: Ups, what: str) -> None:
    ups.garbage.answer = GARBAGE[what]
    answer = gateway.get("/garbage/x")
    if what in {"a head that never ends", "an interim answer and nothing more"}:
        check_problem(gateway, answer, 502, "connection_reset", "connection_terminated", "garbage")
    else:
        check_problem(gateway, answer, 502, "response_invalid", "http_protocol_error", "garbage")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"X-Big: " + b"x" * 70_000], id="one field"),
        pytest.param([b"X-%d: %s" % (number, b"x" * 1000) for number in range(70)], id="many fields"),
        pytest.param([b"X: 1"] * 15_000, id="very many small fields"),
    ],
)
def test_a_header_block_over_64_kib_is_502(gateway: Gateway, ups: Ups, fields: list[bytes]) -> None:
    ups.garbage.answer = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 0", b"", b""])
    answer = gateway.get("/garbage/x")
    token = "http_response_header_section_size"
    check_problem(gateway, answer, 502, "response_headers_too_large", token, "garbage")


def test_a_header_block_below_64_kib_passes(gateway: Gateway, ups: Ups) -> None:
    fields = [b"X-%d: %s" % (number, b"x" * 1000) for number in range(60)]
    ups.garbage.answer = b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"Content-Length: 0", b"", b""])
    answer = gateway.get("/garbage/x")
    assert (answer.status, len(answer.one("x-59"))) == (200, 1000)


def test_the_worker_outlives_all_of_them(gateway: Gateway) -> None:
    for _ in range(3):
        for path in ("/refuses/x", "/resets/x", "/hangs/x", "/garbage/x"):
            assert gateway.get(path).status in {200, 502}
    assert gateway.get("/ok/x").status == 200
    assert {line["event"] for line in gateway.log} <= {
        "loop.stalled",  # on a machine with better things to do
        "request",
        "start",
        "start.route",
        "start.upstream",
        "worker.ready",
        "upstream.lookup_failed",  # the machine was busy
    }
    assert gateway.errors == []


# -- in the middle of the answer ----------------------------------------------------------------------------------


def broken(gateway: Gateway, target: str) -> Answer:
    """The answer to a request whose answer breaks off: a problem where nothing had left yet, else a broken transfer.

    Never an empty reply, which some clients take for a reason to ask again, and never one that looks whole.
    """
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", target))
        answer = wire.read_answer()
        line = gateway.request_line(answer.one("x-request-id"))
        assert (line["status"], line["reason"]) == (answer.status, "response_incomplete")
        if answer.status == 502:
            assert answer.json()["reason"] == "response_incomplete"
            return answer
        assert (answer.status, answer.broke_off) == (200, True), answer
        assert line["bytes_out"] == len(answer.body)
        assert not wire.buffer, "there is half a chunk, or a last one"
        assert wire.is_closed()
    return answer


@pytest.mark.parametrize("upstream", ["dies_length", "dies_chunked", "dies_mid_chunk"])
def test_an_upstream_that_dies_mid_body_is_a_broken_transfer(gateway: Gateway, upstream: str) -> None:
    """With a length the client has fewer bytes than that, without one no last chunk; what had arrived is there."""
    answer = broken(gateway, f"/{upstream}/x")
    assert answer.status == 502 or answer.body[:5] == b"12345"


@pytest.mark.parametrize("upstream", ["resets_length", "resets_chunked", "resets_endless"])
def test_an_upstream_that_resets_mid_body_is_a_broken_transfer(gateway: Gateway, upstream: str) -> None:
    broken(gateway, f"/{upstream}/x")


def test_a_broken_transfer_is_one_again_and_again(gateway: Gateway) -> None:
    """Never once, in many, an answer that looks whole."""
    for _ in range(8):
        for upstream in ("dies_length", "dies_chunked", "resets_chunked", "resets_endless"):
            broken(gateway, f"/{upstream}/x")


def test_garbage_in_the_middle_of_the_body_is_a_broken_transfer(gateway: Gateway, ups: Ups) -> None:
    for number, garbage in enumerate((b"zz\r\n", b"5\r\n123456\r\n", b"-1\r\n\r\n")):
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", f"/puppet/garbage/{number}"))
            request = ups.puppet.wait_for_request(f"/puppet/garbage/{number}")
            request.send(CHUNKED)
            answer = wire.read_head()
            assert wire.read_body(answer, at_least=5) == b"12345"
            request.send(garbage)
            wire.read_body(answer)
            assert answer.broke_off
            assert gateway.request_line(answer.one("x-request-id"))["reason"] in {
                "response_invalid",
                "response_incomplete",
            }


def test_a_reset_in_the_middle_of_a_stream_breaks_it(gateway: Gateway, ups: Ups) -> None:
    for number, head in enumerate((LONG, CHUNKED, ENDLESS)):
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", f"/puppet/reset/{number}"))
            request = ups.puppet.wait_for_request(f"/puppet/reset/{number}")
            request.send(head)
            answer = wire.read_head()
            assert wire.read_body(answer, at_least=5) == b"12345"
            request.reset()
            wire.read_body(answer)
            assert answer.broke_off
            if answer.framing.chunked:
                assert bytes(wire.buffer) == b""


# -- times --------------------------------------------------------------------------------------------------------


def test_timeout_runs_until_the_head_of_the_answer_and_the_routes_beats_the_upstreams(gateway: Gateway) -> None:
    started = time.monotonic()
    check_problem(gateway, gateway.get("/strict/x"), 504, "response_timeout", "http_response_timeout", "lax")
    assert 0.2 <= time.monotonic() - started < 5


def test_timeout_closes_the_upstream_connection(gateway: Gateway, ups: Ups) -> None:
    assert gateway.get("/slow/closes").status == 504
    request = ups.slow.wait_for_request("/slow/closes")
    eventually(lambda: not request.connection.is_open)


def test_an_answer_that_has_begun_outlives_the_timeout(gateway: Gateway, ups: Ups) -> None:
    """The slow upstream's port behind `/slow` has 300 ms for its head; the body has its own time."""
    ups.slow.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/slow/body"))
        request = ups.slow.wait_for_request("/slow/body")
        request.send(LENGTH)
        answer = wire.read_head()
        assert gateway.get("/slow/later").status == 504  # it came after this one, and its time is up
        request.send(b"67890")
        assert (wire.read_body(answer), answer.broke_off) == (b"1234567890", False)


@pytest.mark.parametrize("head", [LONG, CHUNKED, ENDLESS])
def test_an_answer_that_pauses_longer_than_the_idle_timeout_breaks_off(gateway: Gateway, ups: Ups, head: bytes) -> None:
    ups.puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/idle/x"))
        request = ups.puppet.wait_for_request("/idle/x")
        request.send(head)
        answer = wire.read_answer()
    assert (answer.body, answer.broke_off) == (b"12345", True)
    assert gateway.request_line(answer.one("x-request-id"))["reason"] == "response_idle_timeout"
    eventually(lambda: not request.connection.is_open)


def test_a_steady_answer_outlives_the_idle_timeout(gateway: Gateway, ups: Ups) -> None:
    ups.puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/idle/steady"))
        request = ups.puppet.wait_for_request("/idle/steady")
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(2):  # two that stall, one after the other, are cut off meanwhile
            with gateway.connect() as stalled:
                stalled.send(request_bytes("GET", f"/idle/stalled/{number}"))
                ups.puppet.wait_for_request(f"/idle/stalled/{number}").send(CHUNKED)
                while not stalled.is_hung_up(within_s=0.05):
                    request.send(b"1\r\n.\r\n")
        request.send(b"0\r\n\r\n")
        answer = wire.read_answer()
        assert set(answer.body) == set(b".")
        assert not answer.broke_off


def busy_until_hung_up(request: Request, wire: Wire) -> bool:
    request.send(b"1\r\n.\r\n")
    return wire.is_hung_up(within_s=0.02)


def test_total_timeout_ends_an_answer_however_busy_it_is(gateway: Gateway, ups: Ups) -> None:
    ups.puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/total/busy"))
        request = ups.puppet.wait_for_request("/total/busy")
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = wire.read_head()
        with contextlib.suppress(OSError):  # the upstream's connection is closed then too
            eventually(partial(busy_until_hung_up, request, wire))
        wire.read_body(answer)
        assert answer.broke_off
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["status"], line["reason"]) == (200, "total_timeout")


def test_total_timeout_before_the_answer_is_504(gateway: Gateway) -> None:
    check_problem(gateway, gateway.get("/total/x"), 504, "total_timeout", "http_response_timeout", "puppet")


# -- connections that were kept ------------------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request(gateway: Gateway, ups: Ups) -> None:
    gateway.get("/ok/x")
    made = ups.ok.connections_made
    for _ in range(5):
        gateway.get("/ok/x")
    assert ups.ok.connections_made == made


def test_an_idle_connection_that_was_closed_costs_no_502_on_a_get(gateway: Gateway, ups: Ups) -> None:
    for _ in range(100):
        assert gateway.get("/closes_idle/x").status == 200


def test_a_connection_that_is_closed_as_it_is_used_again_costs_a_second_attempt_and_the_log_says_so(
    gateway: Gateway, ups: Ups
) -> None:
    gateway.get("/serves_once/x")
    for _ in range(10):
        answer = gateway.get("/serves_once/x")
        assert answer.status == 200
        line = gateway.request_line(answer.one("x-request-id"))
        assert (line["attempts"], line["reason"]) == (2, None)


def test_a_post_is_not_sent_twice(gateway: Gateway, ups: Ups) -> None:
    gateway.get("/serves_once/x")
    ups.serves_once.forget()
    answer = gateway.ask(request_bytes("POST", "/serves_once/once"))
    check_problem(gateway, answer, 502, "connection_reset", "connection_terminated", "serves_once")
    assert gateway.request_line(answer.one("x-request-id"))["attempts"] == 1
    assert [request.target for request in ups.serves_once.requests] == ["/serves_once/once"]


@pytest.mark.parametrize(("method", "attempts"), [("GET", 2), ("POST", 1)])
def test_a_fresh_connection_that_is_closed_is_tried_again_once_where_that_is_safe(
    gateway: Gateway, ups: Ups, method: str, attempts: int
) -> None:
    made = ups.hangs.connections_made
    answer = gateway.ask(request_bytes(method, "/hangs/x"))
    assert gateway.request_line(answer.one("x-request-id"))["attempts"] == attempts
    assert ups.hangs.connections_made == made + attempts


def test_after_a_failure_the_next_request_is_served(gateway: Gateway, ups: Ups) -> None:
    ups.garbage.answer = GARBAGE["no HTTP at all"]
    assert gateway.get("/garbage/x").status == 502
    ups.garbage.answer = OK
    assert gateway.get("/garbage/x").body == b"hello"
