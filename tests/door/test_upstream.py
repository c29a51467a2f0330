"""The recording upstream itself: what had been sent when it is asked is in its answer, however late it comes to it."""

import socket
import time
from collections.abc import Iterator

import pytest

from . import upstream as module
from .strict import Request, read_request
from .upstream import StrictUpstream

HEAD = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictUpstream]:
    """One that is slow: what has arrived lies in the kernel for a while."""

    def slow(data: bytes) -> Request:
        time.sleep(0.005)
        return read_request(data)

    monkeypatch.setattr(module, "read_request", slow)
    with StrictUpstream() as running:
        yield running


def connect(upstream: StrictUpstream) -> socket.socket:
    return socket.create_connection(("127.0.0.1", upstream.port), 5)


def test_what_was_sent_before_it_is_asked_counts_and_what_is_sent_later_does_not(upstream: StrictUpstream) -> None:
    clients = []
    for number in range(20):
        mark = upstream.mark()
        clients.append(connect(upstream))
        clients[-1].sendall(HEAD % number)
        (arrival,) = upstream.since(mark, settle_s=0)
        assert arrival.request.target == b"/%d" % number
        assert not arrival.is_over
    for client in clients:
        client.close()


def test_many_connections_at_once_have_all_been_read(upstream: StrictUpstream) -> None:
    clients = [connect(upstream) for _ in range(20)]
    for number, client in enumerate(clients):
        client.sendall(HEAD % number)
    arrivals = upstream.since(0, settle_s=0)
    assert sorted(arrival.request.target for arrival in arrivals) == sorted(b"/%d" % number for number in range(20))
    for client in clients:
        client.close()


def test_the_end_of_a_connection_has_been_read_too(upstream: StrictUpstream) -> None:
    for number in range(20):
        client = connect(upstream)
        client.sendall(HEAD % number)
        client.close()
    arrivals = upstream.since(0, settle_s=0)
    assert [arrival.is_over for arrival in arrivals] == [True] * 20
    assert not any(arrival.request.is_whole for arrival in arrivals)


def test_a_connection_is_kept_and_answers_each_request_with_its_number(upstream: StrictUpstream) -> None:
    with connect(upstream) as client:
        client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        first, second, third = upstream.since(0)
        assert first.connection == second.connection == third.connection
        assert client.recv(1 << 16).count(b"X-Serial: ") == 3


def test_what_is_not_clean_is_answered_with_400_and_ends_the_connection(upstream: StrictUpstream) -> None:
    with connect(upstream) as client:
        client.sendall(b"GET /a HTTP/1.1\nHost: a\r\n\r\n")
        answer = b""
        while data := client.recv(1 << 16):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ")
    (arrival,) = upstream.since(0)
    assert not arrival.is_clean
