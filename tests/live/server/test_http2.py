"""HTTP/2 towards clients: what HTTP/1.1 gives for nothing, and what no sound client sends."""

import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from h2.events import Event, SettingsAcknowledged

from tests.live.harness import OK, PATIENCE_S, Answers, Gateway, Slow, Upstream, Wire, eventually, needs_curl
from tests.live.http2 import Http2, Stream
from tests.live.proxy.test_tls import authority
from tests.live.server.test_tls import serving, trusting

IDLE_S = 4.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http2")


@pytest.fixture(scope="module")
def environment(folder: Path, up: Answers, puppet: Upstream, slow: Slow) -> dict[str, str]:
    return {
        **serving(folder, authority(folder, "ours")),
        "GATEWAY_CLIENT_KEEPALIVE": f"{IDLE_S:g}s",
        "GATEWAY_CLIENT_IDLE": "1s",
        "GATEWAY_MIN_UPLOAD_RATE": "0B",
        "GATEWAY_ADMIN_TOKEN": "hunter2",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
        "GATEWAY_UPSTREAM_PUPPET": puppet.url,
        "GATEWAY_ROUTE_PUPPET": "/puppet/** -> puppet",
        "GATEWAY_UPSTREAM_SLOW": slow.url,
        "GATEWAY_ROUTE_SLOW": "/slow/** -> slow",
        "GATEWAY_ROUTE_SLOW__TIMEOUT": "60s",
        "GATEWAY_ROUTE_SMALL": "/small/** -> users",
        "GATEWAY_ROUTE_SMALL__MAX_BODY": "10B",
    }


@pytest.fixture(scope="module")
def gateway(folder: Path, environment: dict[str, str]) -> Iterator[Gateway]:
    with Gateway(environment, cwd=folder, tls=trusting(folder)) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[Http2]:
    with Http2(gateway) as made:
        yield made


@pytest.fixture
def neighbour(client: Http2, puppet: Upstream) -> Iterator[None]:
    """A request of the same connection is under way meanwhile, and is answered afterwards."""
    puppet.forget()
    number = client.request("GET", "/puppet/neighbour")
    request = puppet.wait_for_request("/puppet/neighbour")
    yield
    request.send(OK)
    answer = client.answer(number)
    assert (answer.status, bytes(answer.body), answer.is_whole) == (200, b"hello", True)


# -- the twelve points ------------------------------------------------------------------------------------------------


def test_a_body_without_a_length_goes_up_whole(client: Http2, up: Answers) -> None:
    up.forget()
    number = client.request("POST", "/users/1", end=False)
    client.send(number, b"first ")
    client.send(number, b"last", end=True)
    assert client.answer(number).status == 200
    (request,) = up.requests
    assert (request.one("transfer-encoding"), request.body) == ("chunked", b"first last")


def test_one_that_comes_late_does_too(client: Http2, puppet: Upstream) -> None:
    puppet.forget()
    number = client.request("POST", "/puppet/late", end=False)
    request = puppet.wait_for_request("/puppet/late")  # it goes up before the body is here
    client.send(number, b"late", end=True)
    eventually(lambda: request.is_whole)
    assert request.body == b"late"
    request.send(OK)
    assert client.answer(number).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_no_body_is_none(client: Http2, up: Answers, method: str) -> None:
    up.forget()
    assert client.answer(client.request(method, "/users/1")).status == 200
    (request,) = up.requests
    assert not request.has("transfer-encoding")
    assert request.body == b""


def test_a_length_stays_a_length(client: Http2, up: Answers) -> None:
    up.forget()
    assert client.answer(client.request("PUT", "/users/1", ("content-length", "4"), body=b"once")).status == 200
    (request,) = up.requests
    assert (request.one("content-length"), request.body) == ("4", b"once")


@pytest.mark.usefixtures("neighbour")
def test_a_broken_answer_resets_its_stream_alone(client: Http2, puppet: Upstream, gateway: Gateway) -> None:
    number = client.request("GET", "/puppet/torn")
    request = puppet.wait_for_request("/puppet/torn")
    request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    while not client.streams[number].body:
        client.receive()
    request.close()
    answer = client.answer(number)
    assert (bytes(answer.body), answer.is_whole) == (b"hello", False)
    assert answer.reset is not None
    assert gateway.request_line(answer.one("x-request-id"))["reason"] == "response_incomplete"


def test_crumbs_of_a_cookie_are_one_line(client: Http2, up: Answers) -> None:
    up.forget()
    crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("x-other", "y"), ("cookie", "c=3")]
    assert client.answer(client.request("GET", "/users/1", *crumbs)).status == 200
    assert up.requests[0].all("cookie") == ["a=1; b=2; c=3"]


def test_via_says_which_version_it_was(client: Http2, gateway: Gateway, up: Answers) -> None:
    up.forget()
    client.answer(client.request("GET", "/users/1"))
    gateway.get("/users/1")
    assert [request.one("via").partition(" ")[0] for request in up.requests] == ["2.0", "1.1"]


def test_no_answer_says_connection(client: Http2, up: Answers) -> None:
    up.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\r\n"
    try:
        answer = client.answer(client.request("GET", "/users/1"))
    finally:
        up.answer = OK
    assert answer.all("connection") == answer.all("keep-alive") == answer.all("transfer-encoding") == []


def test_a_connection_ends_after_its_last_answer_while_the_worker_drains(
    folder: Path, environment: dict[str, str], puppet: Upstream
) -> None:
    puppet.forget()
    slow_stop = {**environment, "GATEWAY_DRAIN_DELAY": "20s"}
    with Gateway(slow_stop, cwd=folder, tls=trusting(folder)) as running, Http2(running) as client:
        numbers = [client.request("GET", f"/puppet/{name}") for name in ("a", "b")]
        requests = [puppet.wait_for_request(f"/puppet/{name}") for name in ("a", "b")]
        running.process.send_signal(signal.SIGTERM)
        running.wait_for_log(lambda line: line["event"] == "drain.started")
        requests[0].send(OK)
        assert client.answer(numbers[0]).status == 200
        requests[1].send(OK)
        assert client.answer(numbers[1]).is_whole
        began = time.monotonic()
        client.to_end()
        assert time.monotonic() - began < 5
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 0


def test_a_reader_that_stalls_loses_its_stream_alone(gateway: Gateway, puppet: Upstream) -> None:
    puppet.forget()
    with Http2(gateway, reads=False) as client:
        client.h2.increment_flow_control_window(1_000_000)  # the connection's: it is the stream that is not read
        neighbour = client.request("GET", "/puppet/neighbour")
        number = client.request("GET", "/puppet/much")
        request = puppet.wait_for_request("/puppet/much")
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        with suppress(OSError):  # more than the windows and all that is held on the way
            request.connection.socket.settimeout(PATIENCE_S)
            request.send(bytes(30_000_000))
        stream = client.streams[number]
        while not stream.fields:
            assert client.receive()
        assert gateway.request_line(stream.one("x-request-id"))["reason"] == "client_stalled"
        puppet.wait_for_request("/puppet/neighbour").send(OK)
        assert client.answer(neighbour).status == 200
        client.h2.increment_flow_control_window(20_000_000, number)  # if it reads again after all
        client.flush()
        assert not client.answer(number).is_whole


def test_what_is_in_flight_is_bounded(folder: Path, environment: dict[str, str], slow: Slow) -> None:
    with (
        Gateway({**environment, "GATEWAY_MAX_IN_FLIGHT": "3"}, cwd=folder, tls=trusting(folder)) as running,
        Http2(running) as client,
    ):
        slow.forget()
        for _ in range(3):
            client.request("GET", "/slow/x")
        eventually(lambda: len(slow.requests) == 3)
        refused = client.answer(client.request("GET", "/slow/x"))
        assert (refused.status, b"overloaded" in refused.body) == (503, True)


def test_an_idle_connection_ends_and_one_that_carries_something_does_not(gateway: Gateway, slow: Slow) -> None:
    slow.forget()
    with Http2(gateway) as idle, Http2(gateway) as unused, Http2(gateway) as busy:
        assert idle.answer(idle.request("GET", "/users/1")).status == 200
        busy.request("GET", "/slow/x")
        began = time.monotonic()
        idle.to_end()
        unused.to_end()
        assert IDLE_S * 0.9 < time.monotonic() - began < IDLE_S * 4
        assert slow.wait_for_request().connection.is_open
        assert busy.answer(busy.request("GET", "/users/1")).status == 200


def test_a_client_that_says_nothing_after_its_handshake_is_not_kept(gateway: Gateway) -> None:
    with ExitStack() as ends:
        silent = [Wire("127.0.0.1", gateway.port, tls=trusting(Path(gateway.cwd), alpn=a)) for a in ("h2", "http/1.1")]
        for wire in map(ends.enter_context, silent):
            assert wire.is_closed(IDLE_S * 5)


def test_a_large_header_block_is_the_doors_or_refused_without_reading_it(client: Http2) -> None:
    answer = client.answer(client.request("GET", "/users/1", *[(f"x-{n}", "y" * 1000) for n in range(70)]))
    assert (answer.status, b"headers_too_large" in answer.body) == (431, True)
    answer = client.answer(client.request("GET", "/users/1", *[(f"x-{n}", "y" * 10_000) for n in range(20)]))
    assert answer.is_over
    assert answer.reset is not None or answer.status == 431
    assert client.answer(client.request("GET", "/users/1")).status == 200


def test_host_counts_where_it_differs_from_the_authority(gateway: Gateway, up: Answers) -> None:
    up.forget()
    with Http2(gateway, sound=False) as client:
        assert client.answer(client.request("GET", "/users/1", ("host", "other.test"))).status == 200
    assert up.requests[0].one("x-forwarded-host") == "other.test"


@pytest.mark.usefixtures("neighbour")
def test_an_early_answer_is_whole_for_who_still_sends(client: Http2) -> None:
    number = client.request("POST", "/small/1", ("content-length", "300000"), end=False)
    client.send(number, bytes(100_000))
    answer = client.answer(number)
    assert (answer.status, answer.is_whole) == (413, True)
    assert answer.reset in {None, 0}  # NO_ERROR: the rest is not wanted (RFC 9113, section 8.1)


@needs_curl
def test_curl_hears_an_early_answer(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(3_000_000))
    command = ["curl", "-sk", "--http2", "-T", str(tmp_path / "large"), f"https://localhost:{gateway.port}/small/1"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert (done.returncode, b"client_body_too_large" in done.stdout) == (0, True)


def test_uploads_that_nobody_reads_do_not_stop_the_others(client: Http2) -> None:
    # Their upstream answers nothing and its buffers are full: what comes is kept until the window is.
    stuck = [client.request("POST", "/slow/x", ("content-length", "20000000"), end=False) for _ in range(8)]
    for number in stuck:
        while client.h2.local_flow_control_window(number) >= 16_384:
            client.h2.send_data(number, bytes(16_384))
            client.flush()
            if client.h2.outbound_flow_control_window < 16_384:
                break
    number = client.request("PUT", "/users/1", ("content-length", "50000"), body=bytes(50_000))
    assert client.answer(number).status == 200


# -- what no sound client sends ---------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def heads(client: Http2, *pairs: tuple[str, str], flags: int = 0x5) -> bytes:
    number = client.h2.get_next_available_stream_id()
    return frame(1, flags, number, client.h2.encoder.encode(list(pairs)))


GOOD = [(":method", "GET"), (":scheme", "https"), (":authority", "gateway.test"), (":path", "/users/1")]
MALFORMED_HEADS = {
    "upper-case": [*GOOD, ("X-Upper", "y")],
    "connection": [*GOOD, ("connection", "close")],
    "transfer-encoding": [*GOOD, ("transfer-encoding", "chunked")],
    "te": [*GOOD, ("te", "gzip")],
    "unknown-pseudo": [*GOOD, (":status", "200")],
    "pseudo-late": [*GOOD[:3], ("x", "y"), GOOD[3]],
    "pseudo-twice": [*GOOD, (":path", "/users/2")],
    "no-method": GOOD[1:],
    "no-path": GOOD[:3],
    "no-scheme": [GOOD[0], *GOOD[2:]],
    "empty-path": [*GOOD[:3], (":path", "")],
    "path-without-slash": [*GOOD[:3], (":path", "users")],
    "crlf-in-value": [*GOOD, ("x", "a\r\ny: b")],
    "nul-in-value": [*GOOD, ("x", "a\0b")],
    "colon-in-name": [*GOOD, ("x:y", "b")],
    "space-in-name": [*GOOD, ("x y", "b")],
    "crlf-in-path": [*GOOD[:3], (":path", "/users/1 HTTP/1.1\r\nx: y")],
    "space-in-path": [*GOOD[:3], (":path", "/users/1 x")],
    "crlf-in-method": [(":method", "GET /x HTTP/1.1\r\n"), *GOOD[1:]],
    "bad-authority": [*GOOD[:2], (":authority", "a b"), GOOD[3]],
    "no-host-at-all": [*GOOD[:2], GOOD[3]],
    "two-hosts": [*GOOD, ("host", "a"), ("host", "b")],
    "two-lengths": [*GOOD, ("content-length", "1"), ("content-length", "2")],
    "wrong-length": [*GOOD, ("content-length", "5")],
    "length-no-number": [*GOOD, ("content-length", "x")],
    "connect": [(":method", "CONNECT"), (":authority", "gateway.test:443")],
    "extended-connect": [*GOOD[1:], (":method", "CONNECT"), (":protocol", "websocket")],
    "underscore-length": [*GOOD, ("content_length", "5")],
}


@pytest.mark.parametrize("pairs", MALFORMED_HEADS.values(), ids=MALFORMED_HEADS)
def test_a_malformed_head_goes_nowhere(gateway: Gateway, up: Answers, pairs: list[tuple[str, str]]) -> None:
    up.forget()
    with Http2(gateway, sound=False) as client:
        number = client.h2.get_next_available_stream_id()
        client.h2.send_headers(number, [(":method", "GET"), *GOOD[1:]], end_stream=True)
        client.h2.data_to_send()  # `h2` is to know the stream; what it would send is not sent
        client.streams[number] = Stream()
        client.socket.sendall(frame(1, 0x5, number, client.h2.encoder.encode(pairs)))
        answer = client.answer(number)
        assert answer.reset is not None or client.is_closed or answer.status >= 400
    assert up.requests == [], "it went up"
    with Http2(gateway) as client:
        assert client.answer(client.request("GET", "/users/1")).status == 200


MALFORMED_FRAMES = {
    "data-on-stream-0": frame(0, 0, 0, b"x"),
    "headers-on-stream-0": frame(1, 5, 0, b"\x82"),
    "data-on-idle-stream": frame(0, 0, 99, b"x"),
    "even-stream": frame(1, 5, 2, b"\x82\x87\x84"),
    "padding-too-long": frame(1, 0xD, 1, b"\xff\x82"),
    "too-large": frame(0, 0, 1, bytes(20_000)),
    "rst-on-idle": frame(3, 0, 99, bytes(4)),
    "rst-wrong-size": frame(3, 0, 1, bytes(3)),
    "settings-wrong-size": frame(4, 0, 0, bytes(5)),
    "settings-on-stream": frame(4, 0, 1, bytes(6)),
    "settings-ack-with-body": frame(4, 1, 0, bytes(6)),
    "settings-bad-window": frame(4, 0, 0, struct.pack(">HI", 4, 2**31)),
    "settings-bad-frame-size": frame(4, 0, 0, struct.pack(">HI", 5, 100)),
    "push-promise": frame(5, 4, 1, struct.pack(">I", 2) + b"\x82"),
    "ping-wrong-size": frame(6, 0, 0, bytes(7)),
    "ping-on-stream": frame(6, 0, 1, bytes(8)),
    "window-of-0": frame(8, 0, 0, bytes(4)),
    "window-overflow": frame(8, 0, 0, struct.pack(">I", 2**31 - 1)),
    "continuation-alone": frame(9, 4, 1, b"\x82"),
    "headers-cut-by-data": frame(1, 0, 1, b"\x82") + frame(0, 0, 1, b"x"),
    "bad-huffman": frame(1, 5, 1, b"\x00\x81\xff\x81\xff"),
    "index-beyond-the-table": frame(1, 5, 1, b"\xff\xff\xff\x7f"),
    "priority-of-itself": frame(2, 0, 1, struct.pack(">IB", 1, 1)),
}


@pytest.mark.parametrize("raw", MALFORMED_FRAMES.values(), ids=MALFORMED_FRAMES)
def test_a_malformed_frame_ends_its_connection_at_most(gateway: Gateway, up: Answers, raw: bytes) -> None:
    up.forget()
    with Http2(gateway) as good:
        with Http2(gateway) as client:
            client.socket.sendall(raw)
            client.socket.settimeout(IDLE_S * 5)
            client.h2.config.validate_inbound_headers = False
            client.to_end()  # GOAWAY, or the end of one that idles
        assert up.requests == []
        assert good.answer(good.request("GET", "/users/1")).status == 200


def test_what_is_no_preface_is_http_1_or_nothing(gateway: Gateway, up: Answers) -> None:
    up.forget()
    context = trusting(Path(gateway.cwd), alpn="h2")
    with ExitStack() as ends:
        wires = [ends.enter_context(Wire("127.0.0.1", gateway.port, tls=context)) for _ in range(3)]
        for wire, raw in zip(
            wires, (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"PRI"), strict=True
        ):
            wire.send(raw)
            wire.socket.settimeout(IDLE_S * 5)
        for wire in wires:
            wire.read_to_end()
    assert up.requests == []


# -- floods -----------------------------------------------------------------------------------------------------------


def test_rapid_resets_are_bounded_and_others_are_served(gateway: Gateway) -> None:
    """CVE-2023-44487: heads and their resets, as fast as they can be written."""
    with Http2(gateway) as good, Http2(gateway) as client:
        block = client.h2.encoder.encode(GOOD)
        number, sent = 1, 0
        try:
            while sent < 20_000:
                piece = b""
                for _ in range(100):
                    piece += frame(1, 5, number, block) + frame(3, 0, number, struct.pack(">I", 8))
                    number += 2
                client.socket.sendall(piece)
                sent += 100
                block = client.h2.encoder.encode(GOOD)
        except OSError:
            pass
        began = time.monotonic()
        assert good.answer(good.request("GET", "/users/1")).status == 200
        assert time.monotonic() - began < 5
    in_flight = [line for line in metrics(gateway) if line.startswith("portway_requests_in_flight ")]
    assert float(in_flight[0].rpartition(" ")[2]) < 2000


def metrics(gateway: Gateway) -> list[str]:
    with Http2(gateway) as client:
        answer = client.answer(client.request("GET", "/-/metrics", ("authorization", "Bearer hunter2")))
    return answer.body.decode().splitlines()


def test_a_flood_of_continuations_is_bounded(gateway: Gateway) -> None:
    """CVE-2024-27983 and its kin: a header block without end."""
    with Http2(gateway) as good, Http2(gateway) as client:
        sent = 0
        try:
            client.socket.sendall(frame(1, 1, 1, client.h2.encoder.encode(GOOD)))
            while sent < 50_000_000:
                client.socket.sendall(frame(9, 0, 1, b"\x00\x01x\x7f\x80\x7e" + b"y" * 16_000)[: 9 + 16_006] * 10)
                sent += 160_000
        except OSError:
            pass
        assert sent < 50_000_000, "it was all taken"
        assert good.answer(good.request("GET", "/users/1")).status == 200


@pytest.mark.parametrize("raw", [frame(6, 0, 0, bytes(8)), frame(4, 0, 0)], ids=["ping", "settings"])
def test_a_flood_of_small_frames_stops_nobody(gateway: Gateway, raw: bytes) -> None:
    with Http2(gateway) as good, Http2(gateway) as client:
        client.socket.settimeout(1)
        try:
            for _ in range(500):
                client.socket.sendall(raw * 100)
        except OSError:  # nobody reads what is answered to them: it waits
            pass
        assert good.answer(good.request("GET", "/users/1")).status == 200


def test_settings_are_acknowledged(client: Http2) -> None:
    client.h2.update_settings({0x4: 100_000})
    client.flush()
    seen: list[Event] = []
    while not any(isinstance(event, SettingsAcknowledged) for event in seen):
        seen += client.receive()
        assert not client.is_closed
