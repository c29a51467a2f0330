"""Clients: those that leave take their upstream call with them; those that stay keep their connection."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.live.harness import (
    OK,
    Answers,
    DiesMidBody,
    Gateway,
    NeverAccepts,
    Request,
    Slow,
    Upstream,
    Wire,
    eventually,
    request_bytes,
)

# "Within a second", and half of one for a machine that is busy with other tests.
A_SECOND_S = 1.5
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class AnswersHeadToo(Answers):
    def on_request(self, request: Request) -> None:
        request.send(self.answer.removesuffix(b"hello") if request.start.startswith("HEAD ") else self.answer)


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with AnswersHeadToo() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def dies() -> Iterator[DiesMidBody]:
    with DiesMidBody(CHUNKED_HEAD + b"5\r\n12345\r\n") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(
    up: Answers, slow: Slow, puppet: Upstream, dies: DiesMidBody, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    never = NeverAccepts()
    environment = {
        "GATEWAY_UPSTREAM_NEVER": never.url,
        "GATEWAY_UPSTREAM_NEVER__CONNECT_TIMEOUT": "20s",
        "GATEWAY_ROUTE_NEVER": "/never/** -> never",
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_SLOW": slow.url,
        "GATEWAY_UPSTREAM_PUPPET": puppet.url,
        "GATEWAY_UPSTREAM_DIES": dies.url,
        "GATEWAY_ROUTE_ALL": "/** -> u",
        "GATEWAY_ROUTE_SLOW": "/slow/** -> slow",
        "GATEWAY_ROUTE_PUPPET": "/puppet/** -> puppet",
        "GATEWAY_ROUTE_DIES": "/dies/** -> dies",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("clients")) as running:
        yield running
    never.close()


def leave(wire: Wire, how: str) -> None:
    if how == "reset":
        wire.reset()
    else:
        wire.close()


# -- clients that leave -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_while_it_waits_closes_the_upstream_connection(
    gateway: Gateway, slow: Slow, how: str
) -> None:
    slow.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/slow/x", f"X-Request-ID: wait-{how}"))
        request = slow.wait_for_request("/slow/x")
        leave(wire, how)
        eventually(lambda: not request.connection.is_open, A_SECOND_S)
    line = gateway.request_line(f"wait-{how}")
    assert (line["status"], line["reason"], line["bytes_out"]) == (499, "client_gone", 0)
    assert (line["upstream"], line["attempts"], line["ms"] < 2000) == ("slow", 1, True)


def test_a_client_that_leaves_after_its_upload_closes_the_upstream_connection(gateway: Gateway, slow: Slow) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/slow/post", "Content-Length: 2", "X-Request-ID: wait-post", body=b"hi"))
        request = slow.wait_for_request("/slow/post")
        eventually(lambda: request.is_whole)
        wire.close()
        eventually(lambda: not request.connection.is_open, A_SECOND_S)
    line = gateway.request_line("wait-post")
    assert (line["status"], line["reason"], line["bytes_in"]) == (499, "client_gone", 2)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_mid_body_closes_the_upstream_connection(
    gateway: Gateway, puppet: Upstream, how: str
) -> None:
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/body", f"X-Request-ID: body-{how}"))
        request = puppet.wait_for_request("/puppet/body")
        request.send(CHUNKED_HEAD + b"5\r\n12345\r\n")
        answer = wire.read_head()
        wire.read_body(answer, at_least=5)
        leave(wire, how)
        eventually(lambda: not request.connection.is_open, A_SECOND_S)  # though the upstream says nothing more
    line = gateway.request_line(f"body-{how}")
    assert (line["status"], line["reason"], line["bytes_out"]) == (499, "client_gone", 5)


def test_a_client_that_leaves_a_busy_answer_closes_the_upstream_connection(gateway: Gateway, puppet: Upstream) -> None:
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/busy", "X-Request-ID: busy"))
        request = puppet.wait_for_request("/puppet/busy")
        request.send(CHUNKED_HEAD + b"5\r\n12345\r\n")
        wire.read_body(wire.read_head(), at_least=5)
        wire.close()

        def is_cut() -> bool:
            try:
                request.send(b"5\r\n12345\r\n")
            except OSError:
                return True
            return not request.connection.is_open

        eventually(is_cut, A_SECOND_S)
    assert gateway.request_line("busy")["status"] == 499


def test_a_client_that_leaves_takes_nobody_elses_call(gateway: Gateway, slow: Slow, puppet: Upstream) -> None:
    slow.forget()
    puppet.forget()
    with gateway.connect() as stays, gateway.connect() as leaves:
        stays.send(request_bytes("GET", "/puppet/stays"))
        request = puppet.wait_for_request("/puppet/stays")
        leaves.send(request_bytes("GET", "/slow/leaves"))
        left = slow.wait_for_request("/slow/leaves")
        leaves.close()
        eventually(lambda: not left.connection.is_open, A_SECOND_S)
        request.send(OK)
        assert stays.read_answer().body == b"hello"


def test_a_client_that_leaves_while_the_connection_is_made_ends_the_attempt(gateway: Gateway) -> None:
    """The upstream never accepts, and the gateway would wait 20 s for it."""
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/never/x", "X-Request-ID: connecting"))
        for _ in range(3):
            gateway.get("/x")  # by now the first one is on its way
    line = gateway.request_line("connecting")
    assert (line["status"], line["reason"], line["ms"] < 2000) == (499, "client_gone", True)


def test_a_crowd_that_leaves_leaves_nothing_behind(gateway: Gateway, slow: Slow) -> None:
    slow.forget()
    wires = [gateway.connect() for _ in range(60)]
    for number, wire in enumerate(wires):
        wire.send(request_bytes("GET", "/slow/crowd", f"X-Request-ID: crowd-{number}"))
    eventually(lambda: len(slow.requests) == len(wires))
    for number, wire in enumerate(wires):
        leave(wire, "reset" if number % 2 else "close")
    eventually(lambda: slow.connections_open == 0)
    for number in range(len(wires)):
        assert gateway.request_line(f"crowd-{number}")["status"] == 499
    assert gateway.get("/x").status == 200


def test_a_client_that_leaves_at_any_moment_is_one_line_and_no_other(gateway: Gateway, puppet: Upstream) -> None:
    """Before, while and after the answer's head, its body and its end are on their way."""
    pieces = [CHUNKED_HEAD, b"5\r\n12345\r\n", b"5\r\n67890\r\n", b"0\r\n\r\n"]
    requests = []
    for number in range(20):
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", f"/puppet/moment/{number}", f"X-Request-ID: moment-{number}"))
            requests.append(puppet.wait_for_request(f"/puppet/moment/{number}"))
            with contextlib.suppress(OSError):
                for piece in pieces[: number % 5]:
                    requests[-1].send(piece)
            leave(wire, "reset" if number % 2 else "close")
    for number, request in enumerate(requests):
        line = gateway.request_line(f"moment-{number}")
        assert (line["status"], line["reason"]) in {(200, None), (499, "client_gone")}
        if line["status"] == 499:
            eventually(lambda request=request: not request.connection.is_open)  # type: ignore[misc]
    assert {line["event"] for line in gateway.log} <= {
        "loop.stalled",  # on a machine with better things to do
        "request",
        "start",
        "start.route",
        "start.upstream",
        "worker.ready",  # the machine was busy
    }
    assert gateway.errors == []


def test_a_client_that_leaves_after_the_answer_is_no_failure(gateway: Gateway) -> None:
    for number in range(10):
        answer = gateway.get("/x", f"X-Request-ID: after-{number}")
        assert answer.status == 200
        line = gateway.request_line(f"after-{number}")
        assert (line["status"], line["reason"]) == (200, None)


def test_a_client_that_shuts_its_sending_side_is_served_or_cut_but_never_left_hanging(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/x", "X-Request-ID: half"))
        wire.socket.shutdown(socket.SHUT_WR)
        raw = wire.read_to_end()
    # Granian takes it for one that is gone, sometimes before the request has reached us: then there is no line either.
    if raw:
        assert raw.startswith(b"HTTP/1.1 200 ")
        assert gateway.request_line("half")["status"] == 200


# -- clients that stay --------------------------------------------------------------------------------------------


def test_the_clients_connection_is_kept(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        for _ in range(5):
            wire.send(request_bytes("GET", "/x"))
            assert wire.read_answer().body == b"hello"
        assert not wire.is_closed(within_s=0.05)


def test_the_clients_connection_is_kept_after_a_problem_and_after_an_upload(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/a/../b"))
        assert wire.read_answer().status == 400
        wire.send(request_bytes("POST", "/x", "Content-Length: 2", body=b"hi"))
        assert wire.read_answer().status == 200
        wire.send(request_bytes("POST", "/x", "Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n"))
        assert wire.read_answer().status == 200
        wire.send(request_bytes("GET", "/x"))
        assert wire.read_answer().body == b"hello"


def test_a_client_that_says_connection_close_gets_its_answer_and_the_end(gateway: Gateway, up: Answers) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/x", "Connection: close"))
        assert wire.read_answer().body == b"hello"
        assert wire.is_closed()
    assert not up.requests[0].has("connection")


def test_an_http10_client_is_served(gateway: Gateway, up: Answers, puppet: Upstream) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(b"GET /x HTTP/1.0\r\n\r\n")
        assert wire.read_answer().body == b"hello"
        assert wire.is_closed()
    assert up.requests[0].start == "GET /x HTTP/1.1"
    with gateway.connect() as wire:  # it does not know the chunked coding
        wire.send(b"GET /puppet/old HTTP/1.0\r\n\r\n")
        request = puppet.wait_for_request("/puppet/old")
        request.send(CHUNKED_HEAD + b"5\r\n12345\r\n0\r\n\r\n")
        answer = wire.read_answer()
        assert (answer.body, answer.has("transfer-encoding")) == (b"12345", False)


def test_pipelined_requests_are_answered_in_their_order(gateway: Gateway, up: Answers) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(
            request_bytes("GET", "/1", "X-Request-ID: one")
            + request_bytes("POST", "/2", "Content-Length: 2", "X-Request-ID: two", body=b"hi")
            + request_bytes("POST", "/3", "Transfer-Encoding: chunked", "X-Request-ID: three", body=b"0\r\n\r\n")
            + request_bytes("GET", "/..", "X-Request-ID: four")
            + request_bytes("HEAD", "/5", "X-Request-ID: five")
            + request_bytes("GET", "/6", "X-Request-ID: six")
        )
        answers = [wire.read_answer(method) for method in ("GET", "POST", "POST", "GET", "HEAD", "GET")]
    assert [answer.one("x-request-id") for answer in answers] == ["one", "two", "three", "four", "five", "six"]
    assert [answer.status for answer in answers] == [200, 200, 200, 400, 200, 200]
    assert [request.target for request in up.requests] == ["/1", "/2", "/3", "/5", "/6"]


def test_a_request_pipelined_behind_one_that_waits_does_not_disturb_it(gateway: Gateway, puppet: Upstream) -> None:
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/first"))
        request = puppet.wait_for_request("/puppet/first")
        wire.send(request_bytes("GET", "/x"))
        gateway.get("/x")
        request.send(OK)
        assert [wire.read_answer().status, wire.read_answer().status] == [200, 200]


def test_many_clients_at_once_get_each_their_own_answer(gateway: Gateway, puppet: Upstream) -> None:
    puppet.forget()
    wires = [gateway.connect() for _ in range(30)]
    try:
        for number, wire in enumerate(wires):
            wire.send(request_bytes("GET", f"/puppet/many/{number}"))
        eventually(lambda: len(puppet.requests) == len(wires))
        for request in reversed(puppet.requests):
            body = request.target.encode()
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert [wire.read_answer().body for wire in wires] == [b"/puppet/many/%d" % n for n in range(len(wires))]
    finally:
        for wire in wires:
            wire.close()


def test_a_broken_transfer_ends_the_connection_of_its_client_only(gateway: Gateway) -> None:
    with gateway.connect() as bystander:
        bystander.send(request_bytes("GET", "/x"))
        assert bystander.read_answer().status == 200
        assert gateway.get("/dies/x").status in {200, 502}
        bystander.send(request_bytes("GET", "/x"))
        assert bystander.read_answer().body == b"hello"
