"""Copies of requests to another upstream, over the wire."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.harness import Answer, Gateway, Refuses, Request, Slow, Upstream, eventually, request_bytes


class Says(Upstream):
    """Answers with its own name, or the status that the path ends in."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        super().__init__()

    def on_request(self, request: Request) -> None:
        last = request.target.partition("?")[0].rpartition("/")[2]
        status = last if last.isdigit() else "200"
        head = b"HTTP/1.1 %s X\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n"
        request.send(
            head % (status.encode(), len(self.name)) + (b"" if request.start.startswith("HEAD") else self.name)
        )


@pytest.fixture(scope="module")
def main() -> Iterator[Says]:
    with Says(b"main") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def shadow() -> Iterator[Says]:
    with Says(b"shadow") as upstream:
        yield upstream


@pytest.fixture(scope="module")
def silent() -> Iterator[Slow]:
    with Slow() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def held() -> Iterator[Slow]:
    with Slow() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(
    main: Says, shadow: Says, silent: Slow, held: Slow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    refuses = Refuses()
    environment = {
        "GATEWAY_LOG_LEVEL": "debug",
        "GATEWAY_UPSTREAM_MAIN": main.url,
        "GATEWAY_UPSTREAM_MAIN__HEADER_X_KEY": "secret-of-main",
        "GATEWAY_UPSTREAM_SHADOW": f"{shadow.url}/v2",
        "GATEWAY_UPSTREAM_SHADOW__HEADER_X_SHADOW": "{client}",
        "GATEWAY_UPSTREAM_SILENT": silent.url,
        "GATEWAY_UPSTREAM_SILENT__TIMEOUT": "3s",
        "GATEWAY_UPSTREAM_DEAD": f"{refuses.url} http://127.0.0.2:{refuses.port}",
        "GATEWAY_ROUTE_A": "/a/** -> main:/b/**?own=1",
        "GATEWAY_ROUTE_A__MIRROR": "shadow",
        "GATEWAY_ROUTE_A__HEADER_COOKIE": "-",
        "GATEWAY_ROUTE_ALL": "/all/** -> main",
        "GATEWAY_ROUTE_ALL__MIRROR": "shadow",
        "GATEWAY_ROUTE_ALL__MIRROR_UNSAFE": "on",
        "GATEWAY_ROUTE_NONE": "/none/** -> main",
        "GATEWAY_ROUTE_NONE__MIRROR": "shadow",
        "GATEWAY_ROUTE_NONE__MIRROR_SHARE": "0%",
        "GATEWAY_ROUTE_CACHED": "/cached/** -> main",
        "GATEWAY_ROUTE_CACHED__CACHE": "on",
        "GATEWAY_ROUTE_CACHED__MIRROR": "shadow",
        "GATEWAY_ROUTE_SILENT": "/silent/** -> main",
        "GATEWAY_ROUTE_SILENT__MIRROR": "silent",
        "GATEWAY_ROUTE_DEAD": "/dead/** -> main",
        "GATEWAY_ROUTE_DEAD__MIRROR": "dead",
        "GATEWAY_UPSTREAM_HELD": held.url,
        "GATEWAY_ROUTE_HELD": "/held/** -> held",
        "GATEWAY_ROUTE_HELD__MIRROR": "shadow",
        "GATEWAY_ROUTE_FAILS": "/fails/** -> dead",
        "GATEWAY_ROUTE_FAILS__MIRROR": "shadow",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("mirror")) as running:
        yield running
    refuses.close()


def ask(gateway: Gateway, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    return gateway.request(method, target, *fields, body=body)


def copy_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    """The line of the copy of a request, waited for."""
    ident = answer.one("x-request-id")
    return gateway.wait_for_log(lambda line: line["event"] == "mirror.answered" and line["request_id"] == ident)


def own(gateway: Gateway, target: str) -> Answer:
    return gateway.ask(request_bytes("GET", target, host="127.0.0.1"))


def metric(gateway: Gateway, start: str) -> float:
    lines = own(gateway, "/-/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(start))


def test_the_copy_is_the_request_rendered_for_its_own_upstream(gateway: Gateway, main: Says, shadow: Says) -> None:
    main.forget()
    shadow.forget()
    answer = ask(gateway, "/a/x%2Fy?q=1&q=2", "X-One: 1", "X-One: 2", "Cookie: c=1", "Accept: text/html", "X-Key: mine")
    assert answer.body == b"main"
    request, copy = main.wait_for_request(), shadow.wait_for_request()
    assert request.target == "/b/x%2Fy?own=1&q=1&q=2"
    assert copy.start == "GET /v2/b/x%2Fy?own=1&q=1&q=2 HTTP/1.1"
    assert copy.all("x-one") == ["1", "2"]
    assert copy.one("x-portway-mirror") == "1"
    assert copy.one("x-shadow") == "127.0.0.1"
    assert copy.one("host") == shadow.authority
    for name in ("accept", "x-request-id", "x-forwarded-for", "forwarded", "via"):
        assert copy.one(name) == request.one(name)
    assert copy.one("traceparent")[:36] == request.one("traceparent")[:36]  # the trace; each call is one of its own
    assert request.all("x-key") == ["secret-of-main"]
    assert not copy.has("x-key")  # nor that of the client, in whose place it stands
    assert not copy.has("cookie")
    line = copy_of(gateway, answer)
    assert (line["route"], line["upstream"], line["mirror"]) == ("a", "main", "shadow")
    assert (line["status"], line["mirror_status"], line["cause"]) == (200, 200, None)
    assert line["upstream_ms"] > 0
    assert line["mirror_ms"] > 0


def test_a_copy_begins_when_the_head_of_the_answer_has_gone_down(gateway: Gateway, held: Slow, shadow: Says) -> None:
    shadow.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/held/x"))
        request = held.wait_for_request()
        copy_of(gateway, ask(gateway, "/a/meanwhile"))  # copies of others go
        assert [copy.target for copy in shadow.requests] == ["/v2/b/meanwhile?own=1"]
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        answer = wire.read_head()
        copy = shadow.wait_for_request("/v2/held/x")  # though the body has still to come
        request.send(b"123456789")
        wire.read_body(answer)
    assert (answer.body, copy.one("x-portway-mirror")) == (b"123456789", "1")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_unsafe_methods_only_where_it_is_said(gateway: Gateway, shadow: Says, method: str) -> None:
    shadow.forget()
    ask(gateway, "/a/x", method=method, body=b"hello")
    answer = ask(gateway, "/all/x", method=method, body=b"hello")
    copy_of(gateway, answer)
    (copy,) = shadow.requests
    assert (copy.start, copy.body, copy.one("content-length")) == (f"{method} /v2/all/x HTTP/1.1", b"hello", "5")


def test_a_body_in_chunks_is_kept_too(gateway: Gateway, shadow: Says) -> None:
    shadow.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/all/chunks", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n"))
        wire.send(b"2\r\nde\r\n0\r\n\r\n")
        assert wire.read_answer().status == 200
    copy = shadow.wait_for_request()
    eventually(lambda: copy.is_whole)
    assert (copy.body, copy.one("content-length")) == (b"abcde", "5")


def test_a_large_body_has_no_copy(gateway: Gateway, shadow: Says) -> None:
    shadow.forget()
    before = metric(gateway, 'portway_mirror_skipped_total{mirror="shadow",route="all",why="body"}')
    assert ask(gateway, "/all/large", method="POST", body=b"x" * (64 * 1024 + 1)).status == 200
    eventually(
        lambda: metric(gateway, 'portway_mirror_skipped_total{mirror="shadow",route="all",why="body"}') == before + 1
    )
    assert not shadow.requests


def test_what_has_no_copy(gateway: Gateway, shadow: Says) -> None:
    shadow.forget()
    ask(gateway, "/none/x")
    ask(gateway, "/a/x", "X-Portway-Mirror: 1")  # one itself
    first = ask(gateway, "/cached/x")
    copy_of(gateway, first)
    assert ask(gateway, "/cached/x").one("cache-status").startswith("portway; hit")
    last = ask(gateway, "/a/last")
    copy_of(gateway, last)
    assert [copy.target for copy in shadow.requests] == ["/v2/cached/x", "/v2/b/last?own=1"]


def test_a_mark_that_came_goes_on(gateway: Gateway, main: Says) -> None:
    main.forget()
    ask(gateway, "/a/marked", "X-Portway-Mirror: 1")
    assert main.wait_for_request().one("x-portway-mirror") == "1"


def test_a_copy_that_is_slow_delays_nobody(gateway: Gateway) -> None:
    began_s = time.monotonic()
    answers = [ask(gateway, "/silent/x") for _ in range(20)]
    assert all(answer.body == b"main" for answer in answers)
    assert time.monotonic() - began_s < 2.5  # TIMEOUT of that upstream is 3 s, for one
    line = copy_of(gateway, answers[0])
    assert (line["mirror_status"], line["cause"]) == (None, "response_timeout")


def test_so_many_are_under_way_at_most(gateway: Gateway) -> None:
    skipped = 'portway_mirror_skipped_total{mirror="silent",route="silent",why="full"}'
    for _ in range(130):
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", "/silent/x"))
            assert wire.read_answer().body == b"main"
        if metric(gateway, skipped):
            break
    assert metric(gateway, skipped) >= 1


def test_a_copy_that_fails_is_not_tried_again(gateway: Gateway) -> None:
    answer = ask(gateway, "/dead/x")
    assert answer.body == b"main"
    assert copy_of(gateway, answer)["cause"] == "connection_refused"
    assert metric(gateway, 'portway_upstream_attempts_total{upstream="dead"}') == 1
    assert metric(gateway, 'portway_mirrored_total{mirror="dead",mirror_status="connection_refused"') == 1


def test_a_request_that_fails_has_its_copy_all_the_same(gateway: Gateway) -> None:
    answer = ask(gateway, "/fails/x")
    assert answer.status == 502
    line = copy_of(gateway, answer)
    assert (line["status"], line["mirror_status"]) == (502, 200)


def test_status_and_metrics_tell_both(gateway: Gateway) -> None:
    copy_of(gateway, ask(gateway, "/a/500"))
    (row,) = [row for row in own(gateway, "/-/status").json()["mirrors"] if row["route"] == "a"]
    assert row["mirror"] == "shadow"
    assert row["sent"] == row["same"] > 0
    assert row["answer_s"] > 0
    assert row["mirror_s"] > 0
    assert metric(gateway, 'portway_mirrored_total{mirror="shadow",mirror_status="5xx",route="a",status="5xx"}') == 1
    assert metric(gateway, "portway_mirror_duration_seconds_count") > 0


def test_copies_are_waited_for_at_the_end(main: Says, tmp_path: Any) -> None:
    with Slow() as slow:
        environment = {
            "GATEWAY_LOG_LEVEL": "debug",
            "GATEWAY_UPSTREAM_MAIN": main.url,
            "GATEWAY_UPSTREAM_SLOW": slow.url,
            "GATEWAY_ROUTE_A": "/** -> main",
            "GATEWAY_ROUTE_A__MIRROR": "slow",
        }
        with Gateway(environment, cwd=tmp_path) as gateway:
            answer = ask(gateway, "/x")
            copy = slow.wait_for_request()
            gateway.process.terminate()
            gateway.wait_for_log(lambda line: line["event"].startswith("drain"))
            copy.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            assert copy_of(gateway, answer)["mirror_status"] == 200
            assert gateway.wait() == 0
