"""Request bodies: they stream, framed as they came; limits, early answers, and what a cut one looks like upstream."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import OK, Answers, AnswersEarly, Gateway, Upstream, eventually, request_bytes

KIB = 1024


@pytest.fixture(scope="module")
def fresh() -> Iterator[Answers]:
    """Nobody ever talks to it but the test that wants to see nobody."""
    with Answers() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def early() -> Iterator[AnswersEarly]:
    with AnswersEarly(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def deaf() -> Iterator[Upstream]:
    """Reads the head of a request and not one byte of its body."""
    with Upstream(reads_bodies=False) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(
    up: Answers,
    fresh: Answers,
    puppet: Upstream,
    early: AnswersEarly,
    deaf: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_FRESH": fresh.url,
        "GATEWAY_UPSTREAM_PUPPET": puppet.url,
        "GATEWAY_UPSTREAM_EARLY": early.url,
        "GATEWAY_UPSTREAM_DEAF": deaf.url,
        "GATEWAY_ROUTE_ALL": "/** -> u",
        "GATEWAY_ROUTE_SMALL": "/small -> u",
        "GATEWAY_ROUTE_SMALL__MAX_BODY": "100B",
        "GATEWAY_ROUTE_FRESH": "/fresh -> fresh",
        "GATEWAY_ROUTE_FRESH__MAX_BODY": "100B",
        "GATEWAY_ROUTE_LARGE": "/large -> u",
        "GATEWAY_ROUTE_LARGE__MAX_BODY": "0B",
        "GATEWAY_ROUTE_PUPPET": "/puppet/** -> puppet",
        "GATEWAY_ROUTE_IMPATIENT": "/impatient/** -> puppet",
        "GATEWAY_ROUTE_IMPATIENT__TIMEOUT": "300ms",
        "GATEWAY_ROUTE_STALLED": "/stalled/** -> puppet",
        "GATEWAY_ROUTE_STALLED__IDLE_TIMEOUT": "300ms",
        "GATEWAY_ROUTE_EARLY": "/early/** -> early",
        "GATEWAY_ROUTE_DEAF": "/deaf/** -> deaf",
        "GATEWAY_ROUTE_DEAF__IDLE_TIMEOUT": "500ms",
        "GATEWAY_ROUTE_DEAF__MAX_BODY": "0B",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("uploads")) as running:
        yield running


# -- as sent ------------------------------------------------------------------------------------------------------


def test_a_body_with_a_length_arrives_as_sent(gateway: Gateway, up: Answers) -> None:
    body = bytes(range(256)) * 16
    up.forget()
    raw = request_bytes("PUT", "/x", f"Content-Length: {len(body)}", "Content-Encoding: odd", body=body)
    assert gateway.ask(raw).status == 200
    (request,) = up.requests
    assert (request.one("content-length"), request.has("transfer-encoding")) == (str(len(body)), False)
    assert (request.body, request.one("content-encoding")) == (body, "odd")


def test_a_chunked_body_arrives_as_sent_and_chunked(gateway: Gateway, up: Answers) -> None:
    up.forget()
    chunks = b"3;ext=1\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert gateway.ask(request_bytes("POST", "/x", "Transfer-Encoding: chunked", body=chunks)).status == 200
    (request,) = up.requests
    assert (request.one("transfer-encoding"), request.has("content-length")) == ("chunked", False)
    assert (request.body, request.is_whole) == (b"abcd", True)


def test_an_empty_chunked_body_arrives_chunked(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.ask(request_bytes("POST", "/x", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")).status == 200
    assert (up.requests[0].body, up.requests[0].is_whole) == (b"", True)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PROPFIND"])
def test_any_method_may_have_a_body(gateway: Gateway, up: Answers, method: str) -> None:
    up.forget()
    assert gateway.ask(request_bytes(method, "/x", "Content-Length: 2", body=b"hi")).status == 200
    assert up.requests[0].body == b"hi"


def test_a_large_body_arrives_byte_for_byte(gateway: Gateway, up: Answers) -> None:
    body = bytes(range(256)) * 16_384  # 4 MiB
    up.forget()
    answer = gateway.ask(request_bytes("POST", "/x", f"Content-Length: {len(body)}", body=body))
    assert answer.status == 200
    assert up.requests[0].body == body
    assert gateway.request_line(answer.one("x-request-id"))["bytes_in"] == len(body)


# -- streaming ----------------------------------------------------------------------------------------------------


def test_an_upload_of_200_kb_streams_before_it_is_complete(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/stream", f"Content-Length: {200 * KIB}", body=b"x" * 100 * KIB))
        request = puppet.wait_for_request("/puppet/stream")
        eventually(lambda: len(request.body) == 100 * KIB)
        assert not request.is_whole
        wire.send(b"y" * 100 * KIB)
        eventually(lambda: request.is_whole)
        assert request.body == b"x" * 100 * KIB + b"y" * 100 * KIB
        request.send(OK)
        assert wire.read_answer().body == b"hello"


def test_a_chunked_upload_streams_chunk_by_chunk(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/chunks", "Transfer-Encoding: chunked"))
        request = puppet.wait_for_request("/puppet/chunks")
        for number in range(1, 4):
            wire.send(b"4\r\nwxyz\r\n")
            eventually(lambda number=number: request.body == b"wxyz" * number)  # type: ignore[misc]
        assert not request.is_whole
        wire.send(b"0\r\n\r\n")
        eventually(lambda: request.is_whole)
        request.send(OK)
        assert wire.read_answer().status == 200


def test_expect_100_continue_is_answered_by_the_gateway_and_does_not_go_up(gateway: Gateway, up: Answers) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/x", "Content-Length: 2", "Expect: 100-continue"))
        assert wire.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        wire.send(b"hi")
        assert wire.read_answer().status == 200
    (request,) = up.requests
    assert (request.body, request.has("expect")) == (b"hi", False)


def test_a_client_that_expects_100_continue_is_told_413_before_it_sends(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/small", "Content-Length: 101", "Expect: 100-continue"))
        answer = wire.read_answer()
    assert (answer.status, answer.interim) == (413, ())


def test_the_time_of_a_slow_client_is_not_the_upstreams(gateway: Gateway, puppet: Upstream) -> None:
    """`__TIMEOUT` is 300 ms; the client takes longer than that for its upload, the upstream does not."""
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/impatient/slow", "Content-Length: 4", body=b"ab"))
        request = puppet.wait_for_request("/impatient/slow")
        assert gateway.get("/impatient/later").status == 504  # it came after this one, and its time is up
        wire.send(b"cd")
        eventually(lambda: request.is_whole)
        request.send(OK)
        assert wire.read_answer().status == 200


# -- early answers ------------------------------------------------------------------------------------------------


def test_an_early_answer_reaches_a_client_that_still_uploads(gateway: Gateway, early: AnswersEarly) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/early/x", f"Content-Length: {200 * KIB}", body=b"x" * 1000))
        answer = wire.read_answer()
        assert (answer.status, answer.body) == (403, b"no")
    request = early.wait_for_request("/early/x")
    assert not request.is_whole
    eventually(lambda: not request.connection.is_open)  # a connection with half a request on it serves nobody


def test_an_early_answer_to_a_chunked_upload_leaves_no_whole_request(gateway: Gateway, early: AnswersEarly) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/early/chunked", "Transfer-Encoding: chunked", body=b"1\r\nx\r\n"))
        assert wire.read_answer().status == 403
    request = early.wait_for_request("/early/chunked")
    eventually(lambda: not request.connection.is_open)
    assert not request.is_whole


def test_answer_and_upload_may_stream_at_the_same_time(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/echo", "Transfer-Encoding: chunked"))
        request = puppet.wait_for_request("/puppet/echo")
        request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = wire.read_head()
        for number in range(1, 4):
            wire.send(b"4\r\nping\r\n")
            eventually(lambda number=number: request.body == b"ping" * number)  # type: ignore[misc]
            request.send(b"4\r\npong\r\n")
            assert wire.read_body(answer, at_least=4 * number) == b"pong" * number
        wire.send(b"0\r\n\r\n")
        eventually(lambda: request.is_whole)
        request.send(b"0\r\n\r\n")
        assert (wire.read_body(answer), answer.broke_off) == (b"pongpongpong", False)


# -- limits -------------------------------------------------------------------------------------------------------


def test_a_body_at_its_limit_passes(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.ask(request_bytes("POST", "/small", "Content-Length: 100", body=b"x" * 100)).status == 200
    chunked = b"64\r\n" + b"x" * 100 + b"\r\n0\r\n\r\n"
    assert gateway.ask(request_bytes("POST", "/small", "Transfer-Encoding: chunked", body=chunked)).status == 200
    assert [len(request.body) for request in up.requests] == [100, 100]


def test_a_body_over_its_limit_is_413_by_its_length_before_it_is_sent(gateway: Gateway, fresh: Answers) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/fresh", "Content-Length: 101", "X-Request-ID: too-long"))
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")
    assert answer.one("proxy-status") == "portway; error=http_request_error"
    assert fresh.connections_made == 0
    assert gateway.request_line("too-long")["status"] == 413


def test_a_chunked_body_over_its_limit_is_413_and_never_whole_upstream(gateway: Gateway, up: Answers) -> None:
    up.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/small", "Transfer-Encoding: chunked", body=b"64\r\n" + b"x" * 100 + b"\r\n"))
        request = up.wait_for_request("/small")
        wire.send(b"1\r\nx\r\n0\r\n\r\n")
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")
    eventually(lambda: not request.connection.is_open)
    assert not request.is_whole


def test_the_limit_is_10_mib_where_nothing_is_said_and_none_for_0b(gateway: Gateway, up: Answers) -> None:
    size = 10 * KIB * KIB
    assert gateway.ask(request_bytes("POST", "/x", f"Content-Length: {size + 1}")).status == 413
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/large", f"Content-Length: {size + 1}", body=b"x" * (size + 1)))
        assert wire.read_answer().status == 200


# -- uploads that are cut -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 10", b"12345"),
        ("Transfer-Encoding: chunked", b"5\r\n12345\r\n"),
        ("Transfer-Encoding: chunked", b"5\r\n12345\r\n5\r\n12"),
    ],
)
@pytest.mark.parametrize("by_reset", [False, True])
def test_a_client_that_leaves_mid_upload_leaves_no_whole_request(
    gateway: Gateway, puppet: Upstream, *, framing: str, body: bytes, by_reset: bool
) -> None:
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/cut", framing, "X-Request-ID: cut", body=body))
        request = puppet.wait_for_request("/puppet/cut")
        eventually(lambda: request.body.startswith(b"12345"))
        if by_reset:
            wire.reset()
        else:
            wire.close()
        eventually(lambda: not request.connection.is_open, within_s=1.5)
    assert not request.is_whole


def test_the_log_says_499_for_an_upload_that_was_cut(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/left", "Content-Length: 10", "X-Request-ID: left", body=b"12345"))
        request = puppet.wait_for_request("/puppet/left")
        eventually(lambda: request.body == b"12345")
    line = gateway.request_line("left")
    assert (line["status"], line["reason"], line["bytes_in"]) == (499, "client_body_broken", 5)


@pytest.mark.parametrize(
    "broken", [b"zz\r\n", b"3\r\nabcd\r\n0\r\n\r\n", b"3\r\nabc0\r\n\r\n", b"-1\r\n", b"3 \n\r\nabc"]
)
def test_a_broken_chunked_body_never_becomes_a_whole_request(gateway: Gateway, puppet: Upstream, broken: bytes) -> None:
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/puppet/broken", "Transfer-Encoding: chunked", body=b"5\r\n12345\r\n"))
        request = puppet.wait_for_request("/puppet/broken")
        eventually(lambda: request.body == b"12345")
        wire.send(broken)
        eventually(lambda: not request.connection.is_open)
        assert not request.is_whole
        assert not wire.read_to_end().startswith(b"HTTP/1.1 200")


def test_a_client_that_stalls_mid_upload_is_408_and_never_whole_upstream(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/stalled/x", "Content-Length: 10", "X-Request-ID: stalled", body=b"12345"))
        request = puppet.wait_for_request("/stalled/x")
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (408, "client_body_timeout")
    eventually(lambda: not request.connection.is_open)
    assert not request.is_whole
    assert gateway.request_line("stalled")["reason"] == "client_body_timeout"


def test_an_upstream_that_stops_reading_an_upload_is_504_after_the_idle_timeout(
    gateway: Gateway, deaf: Upstream
) -> None:
    size = 64 * KIB * KIB  # more than all the socket buffers on the way
    with gateway.connect() as wire:
        wire.socket.settimeout(0.5)
        wire.send(request_bytes("POST", "/deaf/x", f"Content-Length: {size}", "X-Request-ID: deaf"))
        request = deaf.wait_for_request("/deaf/x")
        upstream = request.connection.socket
        ends = [f":{address[1]:04X}" for address in (upstream.getsockname(), upstream.getpeername())]
        piece, taken = b"x" * 64 * KIB, 0
        with contextlib.suppress(TimeoutError, ConnectionError):  # nobody takes it any more
            while True:
                wire.send(piece)
                taken += len(piece)
        assert taken < size // 2  # the gateway holds the client back; it does not pile up what nobody reads
        wire.socket.settimeout(10)
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (504, "request_write_timeout")
    assert answer.one("proxy-status") == 'portway; error=connection_write_timeout; next-hop="deaf"'
    # What the upstream did not take stands before the end of the connection: it sees that only if it reads on.
    eventually(lambda: not is_held(*ends))
    read = 0
    with contextlib.suppress(OSError):  # a reset is as good an end, and the harness closes after one
        upstream.settimeout(10)
        while data := upstream.recv(64 * KIB):
            read += len(data)
    assert read < size


def is_held(ours: str, theirs: str) -> bool:
    """Whether the process at the other end of a loopback connection still has it open (Linux: state 01)."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if (local[8:], remote[8:]) == (theirs, ours):
            return state == "01"
    return False
