"""What comes down: status, fields and body bytes as the upstream sent them, streaming where it streams."""

import contextlib
import gzip
import hashlib
import threading
from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Answers, AnswersAndCloses, Gateway, Upstream, request_bytes

# What the gateway adds to every answer, and what Granian does.
OURS = {"x-request-id", "via", "server", "date"}
PROXY = "127.0.0.2"


@pytest.fixture(scope="module")
def closing() -> Iterator[AnswersAndCloses]:
    with AnswersAndCloses() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def puppet() -> Iterator[Upstream]:
    """Says what the test says, when it says it."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(
    up: Answers, closing: AnswersAndCloses, puppet: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_CLOSING": closing.url,
        "GATEWAY_UPSTREAM_PUPPET": puppet.url,
        "GATEWAY_UPSTREAM_BASED": f"{up.url}/v1",
        "GATEWAY_UPSTREAM_SETS": up.url,
        "GATEWAY_UPSTREAM_SETS__RESPONSE_HEADER_X_FRAME_OPTIONS": "DENY",
        "GATEWAY_UPSTREAM_SETS__RESPONSE_HEADER_X_LAYER": "upstream",
        "GATEWAY_TRUSTED_PROXIES": PROXY,
        "GATEWAY_ROUTE_ALL": "/** -> u",
        "GATEWAY_ROUTE_CLOSING": "/closing/** -> closing",
        "GATEWAY_ROUTE_PUPPET": "/puppet/** -> puppet",
        "GATEWAY_ROUTE_STRIP": "/strip/** -> u:/**",
        "GATEWAY_ROUTE_MOVE": "/move/** -> u:/inner/**",
        "GATEWAY_ROUTE_BASED": "/based/** -> based:/**",
        "GATEWAY_ROUTE_PRESERVE": "/preserve/** -> u:/**",
        "GATEWAY_ROUTE_PRESERVE__HOST": "preserve",
        "GATEWAY_ROUTE_UNTOUCHED": "/untouched/** -> u:/**",
        "GATEWAY_ROUTE_UNTOUCHED__REDIRECTS": "raw",
        "GATEWAY_ROUTE_SETS": "/sets/** -> sets",
        "GATEWAY_ROUTE_SETS__RESPONSE_HEADER_X_LAYER": "route",
        "GATEWAY_ROUTE_SETS__RESPONSE_HEADER_SET_COOKIE": "-",
    }
    with Gateway(environment, cwd=tmp_path_factory.mktemp("answers")) as running:
        yield running


def response(*fields: str, status: str = "200 OK", body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode("latin-1") + body


def got(gateway: Gateway, upstream: Answers, answer: bytes, target: str = "/x", *fields: str) -> Answer:
    """What a client gets when the upstream answers so."""
    upstream.answer = answer
    return gateway.get(target, *fields)


# -- status and fields --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "226 IM Used", "299 Odd", "404 Not Found", "418 Teapot"])
def test_the_status_comes_down(gateway: Gateway, up: Answers, status: str) -> None:
    assert got(gateway, up, response("Content-Length: 0", status=status)).status == int(status[:3])


@pytest.mark.parametrize("status", ["500 Internal Server Error", "502 Bad Gateway", "503 Service Unavailable", "599 X"])
def test_an_upstreams_own_failure_comes_down_as_it_is(gateway: Gateway, up: Answers, status: str) -> None:
    raw = response("Content-Length: 4", "Retry-After: 7", "Content-Type: text/x", status=status, body=b"sick")
    answer = got(gateway, up, raw)
    assert (answer.status, answer.body) == (int(status[:3]), b"sick")
    assert (answer.one("retry-after"), answer.one("content-type")) == ("7", "text/x")
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["status"], line["reason"]) == (int(status[:3]), None)


def test_two_set_cookie_lines_are_kept(gateway: Gateway, up: Answers) -> None:
    raw = response("Set-Cookie: a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "Set-Cookie: b=2", "Content-Length: 0")
    assert got(gateway, up, raw).all("set-cookie") == ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]


def test_nothing_is_invented_and_nothing_is_lost(gateway: Gateway, up: Answers) -> None:
    raw = response(
        "X-A: 1", "x-b: 2", "X-A: 3", 'ETag: W/"x"', "Vary: Accept", "X-Empty:", "Content-Length: 2", body=b"hi"
    )
    answer = got(gateway, up, raw)
    assert sorted(pair for pair in answer.pairs if pair[0] not in OURS) == [
        ("content-length", "2"),
        ("etag", 'W/"x"'),
        ("vary", "Accept"),
        ("x-a", "1"),
        ("x-a", "3"),
        ("x-b", "2"),
        ("x-empty", ""),
    ]
    assert answer.names & OURS == OURS


def test_field_values_come_down_byte_for_byte(gateway: Gateway, up: Answers) -> None:
    values = {
        "x-utf8": "Zoë €".encode().decode("latin-1"),
        "x-latin1": "Zo\xeb",
        "x-inner": "a  b\tc",
        "content-disposition": "attachment; filename=\"a,b\"; filename*=UTF-8''%e2%82%ac",
        "x-long": "v" * 20_000,
    }
    raw = response(*(f"{name}: {value}" for name, value in values.items()), "Content-Length: 0")
    answer = got(gateway, up, raw)
    assert {name: answer.one(name) for name in values} == values


def test_hop_by_hop_and_connection_named_fields_do_not_come_down(gateway: Gateway, up: Answers) -> None:
    raw = response(
        "Connection: keep-alive, X-Secret",
        "X-Secret: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Authenticate: Basic",
        "Proxy-Connection: keep-alive",
        "Trailer: X-Sum",
        "Upgrade: h2c",
        "TE: trailers",
        "X-Kept: 1",
        "Content-Length: 0",
    )
    assert got(gateway, up, raw).names - OURS == {"x-kept", "content-length"}


def test_the_upstreams_server_and_date_are_kept(gateway: Gateway, up: Answers) -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    answer = got(gateway, up, response("Server: theirs/1.0", f"Date: {date}", "Content-Length: 0"))
    assert (answer.one("server"), answer.one("date")) == ("theirs/1.0", date)


def test_where_the_upstream_names_no_server_the_gateways_is_a_constant(gateway: Gateway, up: Answers) -> None:
    assert got(gateway, up, response("Content-Length: 0")).one("server") == "portway"


def test_via_is_appended(gateway: Gateway, up: Answers) -> None:
    answer = got(gateway, up, response("Via: 1.1 inner", "Content-Length: 0"))
    assert ", ".join(answer.all("via")) == "1.1 inner, 1.1 portway"


def test_response_fields_are_set_replaced_and_deleted(gateway: Gateway, up: Answers) -> None:
    raw = response(
        "X-Frame-Options: ALLOW", "x-frame-options: MAYBE", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 0"
    )
    answer = got(gateway, up, raw, "/sets/x")
    assert answer.one("x-frame-options") == "DENY"
    assert answer.one("x-layer") == "route"
    assert not answer.has("set-cookie")


# -- bodies -------------------------------------------------------------------------------------------------------


def test_an_encoded_body_is_not_touched(gateway: Gateway, up: Answers) -> None:
    packed = gzip.compress(b"hello " * 1000)
    fields = ["Content-Encoding: gzip", f"Content-Length: {len(packed)}"]
    answer = got(gateway, up, response(*fields, body=packed))
    assert answer.body == packed
    assert (answer.one("content-encoding"), answer.one("content-length")) == ("gzip", str(len(packed)))


def test_a_body_that_claims_an_encoding_it_does_not_have_is_not_touched(gateway: Gateway, up: Answers) -> None:
    assert got(gateway, up, response("Content-Encoding: br", "Content-Length: 2", body=b"hi")).body == b"hi"


def test_a_chunked_body_comes_down_whole(gateway: Gateway, up: Answers) -> None:
    raw = response("Transfer-Encoding: chunked", body=b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n")
    answer = got(gateway, up, raw)
    assert (answer.body, answer.broke_off) == (b"abcde", False)


def test_an_encoded_chunked_body_is_not_touched(gateway: Gateway, up: Answers) -> None:
    packed = gzip.compress(b"hello")
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    answer = got(gateway, up, response("Content-Encoding: gzip", "Transfer-Encoding: chunked", body=chunk))
    assert (answer.body, answer.one("content-encoding")) == (packed, "gzip")


def test_a_body_without_a_length_ends_with_the_connection(gateway: Gateway, closing: AnswersAndCloses) -> None:
    answer = got(gateway, closing, response("Content-Type: text/x", body=b"until the end"), "/closing/x")
    assert (answer.body, answer.broke_off) == (b"until the end", False)
    assert gateway.request_line(answer.one("x-request-id"))["reason"] is None


def test_an_http10_answer_comes_down(gateway: Gateway, closing: AnswersAndCloses) -> None:
    answer = got(gateway, closing, b"HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nold", "/closing/x")
    assert (answer.start, answer.body, answer.one("x-old")) == ("HTTP/1.1 200 OK", b"old", "1")
    answer = got(gateway, closing, b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", "/closing/x")
    assert (answer.body, answer.broke_off) == (b"old", False)


def test_an_answer_with_connection_close_comes_down_and_its_connection_is_not_used_again(
    gateway: Gateway, up: Answers
) -> None:
    first = got(gateway, up, response("Connection: close", "Content-Length: 2", body=b"hi"))
    assert (first.body, first.has("connection")) == (b"hi", False)
    connection = up.requests[-1].connection
    got(gateway, up, response("Content-Length: 0"))
    assert up.requests[-1].connection is not connection


def test_a_large_body_comes_down_byte_for_byte(gateway: Gateway, up: Answers) -> None:
    body = bytes(range(256)) * 16_384  # 4 MiB
    answer = got(gateway, up, response(f"Content-Length: {len(body)}", body=body))
    assert answer.body == body
    assert gateway.request_line(answer.one("x-request-id"))["bytes_out"] == len(body)


def test_bytes_after_the_answer_are_no_answer_to_the_next_request(gateway: Gateway, up: Answers) -> None:
    extra = response("Content-Length: 4", "X-Smuggled: 1", body=b"evil")
    answer = got(gateway, up, response("Content-Length: 2", body=b"hi" + extra))
    assert answer.body == b"hi"
    for _ in range(3):
        answer = got(gateway, up, response("Content-Length: 2", body=b"ok"))
        assert (answer.body, answer.has("x-smuggled")) == (b"ok", False)


# -- answers without a body ---------------------------------------------------------------------------------------


def test_head_keeps_its_content_length_and_has_no_body(gateway: Gateway, up: Answers) -> None:
    up.answer = response("Content-Length: 12345", "ETag: x")
    with gateway.connect() as wire:
        wire.send(request_bytes("HEAD", "/x"))
        answer = wire.read_answer("HEAD")
        assert (answer.status, answer.one("content-length"), answer.one("etag")) == (200, "12345", "x")
        wire.send(request_bytes("HEAD", "/x"))  # nothing of a body stood between the two answers
        assert wire.read_answer("HEAD").one("content-length") == "12345"


def test_head_without_a_length_gets_none(gateway: Gateway, up: Answers) -> None:
    up.answer = response("Transfer-Encoding: chunked")
    with gateway.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes("HEAD", "/x"))
            answer = wire.read_answer("HEAD")
            assert (answer.status, answer.has("content-length")) == (200, False)


@pytest.mark.parametrize("fields", [["ETag: x"], ["ETag: x", "Content-Length: 0"]])
def test_204_has_no_body_and_no_framing(gateway: Gateway, up: Answers, fields: list[str]) -> None:
    up.answer = response(*fields, status="204 No Content")
    with gateway.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes("DELETE", "/x"))
            answer = wire.read_answer()
            assert (answer.status, answer.one("etag")) == (204, "x")
            assert not answer.names & {"transfer-encoding", "content-length"}


def test_304_keeps_its_fields_and_has_no_body(gateway: Gateway, up: Answers) -> None:
    up.answer = response("ETag: x", "Content-Length: 999", "Cache-Control: max-age=1", status="304 Not Modified")
    with gateway.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes("GET", "/x", "If-None-Match: x"))
            answer = wire.read_answer()
            assert (answer.status, answer.one("etag"), answer.one("cache-control")) == (304, "x", "max-age=1")
            assert not answer.has("transfer-encoding")
            assert answer.all("content-length") in (["999"], [])


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n",
    ],
)
def test_an_interim_answer_before_the_answer_does_no_harm(gateway: Gateway, up: Answers, interim: bytes) -> None:
    answer = got(gateway, up, interim + response("Content-Length: 5", body=b"final"))
    assert (answer.status, answer.body, answer.has("link")) == (200, b"final", False)
    assert got(gateway, up, response("Content-Length: 4", body=b"next")).body == b"next"


# -- as it comes --------------------------------------------------------------------------------------------------


def test_server_sent_events_pass_one_by_one(gateway: Gateway, puppet: Upstream) -> None:
    """Each event reaches the client before the upstream says the next one."""
    puppet.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/events", "Accept: text/event-stream", "X-Request-ID: sse"))
        request = puppet.wait_for_request("/puppet/events")
        request.send(response("Content-Type: text/event-stream", "Transfer-Encoding: chunked"))
        answer = wire.read_head()  # the head comes before the first event
        assert answer.one("content-type") == "text/event-stream"
        said = b""
        for number in range(5):
            event = b"data: %d\n\n" % number
            request.send(b"%x\r\n%s\r\n" % (len(event), event))
            said += event
            assert wire.read_body(answer, at_least=len(said)) == said
        request.send(b"0\r\n\r\n")
        wire.read_body(answer)
        assert not answer.broke_off
    line = gateway.request_line("sse")
    assert (line["status"], line["reason"], line["bytes_out"]) == (200, None, len(said))


def test_the_request_line_is_written_when_the_last_byte_has_left(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/long", "X-Request-ID: long"))
        request = puppet.wait_for_request("/puppet/long")
        request.send(response("Content-Length: 10", body=b"01234"))
        answer = wire.read_head()
        wire.read_body(answer, at_least=5)
        gateway.get("/x", "X-Request-ID: meanwhile")
        gateway.request_line("meanwhile")
        assert not [line for line in gateway.log if line.get("request_id") == "long"]
        request.send(b"56789")
        assert wire.read_body(answer) == b"0123456789"
    assert gateway.request_line("long")["bytes_out"] == 10


def test_a_body_with_a_length_streams(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/length"))
        request = puppet.wait_for_request("/puppet/length")
        request.send(response("Content-Length: 10", body=b"01234"))
        answer = wire.read_head()
        assert answer.one("content-length") == "10"
        assert wire.read_body(answer, at_least=5) == b"01234"
        request.send(b"56789")
        assert (wire.read_body(answer), answer.broke_off) == (b"0123456789", False)


def test_a_body_without_a_length_streams(gateway: Gateway, puppet: Upstream) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/puppet/endless"))
        request = puppet.wait_for_request("/puppet/endless")
        request.send(response("Content-Type: text/x", body=b"first"))
        answer = wire.read_head()
        assert wire.read_body(answer, at_least=5) == b"first"
        request.send(b"second")
        assert wire.read_body(answer, at_least=11) == b"firstsecond"
        request.close()
        wire.read_body(answer)
        assert not answer.broke_off


def test_a_client_that_does_not_read_holds_the_upstream_back(gateway: Gateway, puppet: Upstream) -> None:
    """The gateway does not pile up what its client does not take; when it takes it, all of it is there."""
    size, piece = 64 * 1024 * 1024, bytes(range(256)) * 256
    with gateway.connect(receive_buffer_bytes=64 * 1024) as wire:
        wire.send(request_bytes("GET", "/puppet/flood"))
        request = puppet.wait_for_request("/puppet/flood")
        request.send(response(f"Content-Length: {size}"))
        answer = wire.read_head()
        upstream = request.connection.socket
        upstream.settimeout(0.5)
        said = 0
        with contextlib.suppress(TimeoutError):
            while said < size:
                said += upstream.send(piece[said % len(piece) :])
        assert said < size // 2
        rest = threading.Thread(target=request.send, args=[(piece * (size // len(piece)))[said:]])
        upstream.settimeout(20)
        rest.start()
        wire.read_body(answer)
        rest.join(20)
    assert not answer.broke_off
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(piece * (size // len(piece))).digest()


# -- redirects ----------------------------------------------------------------------------------------------------


def location(gateway: Gateway, up: Answers, said: str, target: str, field: str = "Location") -> str:
    raw = response(f"{field}: {said.replace('UP', up.url)}", "Content-Length: 0", status="302 Found")
    return got(gateway, up, raw, target).one(field)


@pytest.mark.parametrize("field", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("target", "said", "seen"),
    [
        ("/x", "UP/login?next=%2Fx#top", "/login?next=%2Fx#top"),
        ("/x", "UP", "/"),
        ("/x", "/login", "/login"),
        ("/strip/x", "UP/login", "/strip/login"),
        ("/strip/x", "/login?q", "/strip/login?q"),
        ("/strip/x", "UP", "/strip/"),
        ("/move/x", "UP/inner/login", "/move/login"),
        ("/move/x", "/inner/login", "/move/login"),
        ("/based/x", "UP/v1/login", "/based/login"),
        ("/based/x", "/v1/login", "/based/login"),
    ],
)
def test_a_location_at_the_upstreams_own_base_points_at_the_gateway(
    gateway: Gateway, up: Answers, *, target: str, said: str, seen: str, field: str
) -> None:
    assert location(gateway, up, said, target, field) == seen


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/strip/x", "https://login.example.com/x"),
        ("/strip/x", "http://127.0.0.1:1/x"),
        ("/strip/x", "//cdn.example.com/x"),
        ("/strip/x", "login"),
        ("/strip/x", "?page=2"),
        ("/strip/x", "../up"),
        ("/strip/x", "mailto:a@example.com"),
        ("/strip/x", "UP.example.com/x"),  # another host's name that begins with ours
        ("/move/x", "/elsewhere"),  # no path of the gateway leads there
        ("/based/x", "UP/v10/login"),
    ],
)
def test_a_location_that_points_elsewhere_is_left_alone(gateway: Gateway, up: Answers, target: str, said: str) -> None:
    assert location(gateway, up, said, target) == said.replace("UP", up.url)


def test_a_location_without_a_scheme_at_the_upstreams_own_host_points_at_the_gateway(
    gateway: Gateway, up: Answers
) -> None:
    assert location(gateway, up, f"//{up.authority}/login", "/strip/x") == "/strip/login"


def test_where_the_clients_host_goes_up_a_location_that_names_it_is_rewritten(gateway: Gateway, up: Answers) -> None:
    assert location(gateway, up, "http://gateway.test/login", "/preserve/x") == "/preserve/login"
    assert location(gateway, up, "http://gateway.test/login", "/strip/x") == "http://gateway.test/login"


@pytest.mark.parametrize(
    ("fields", "said", "expected"),
    [
        (("Proto: https",), "https://gateway.test/login", "/preserve/login"),
        (("Proto: https",), "http://gateway.test/login", "/preserve/login"),
        (("Proto: https", "Host: shop.test"), "https://shop.test/login", "/preserve/login"),
        (("Proto: https", "Host: shop.test:8443"), "https://shop.test:8443/login", "/preserve/login"),
        (("Proto: https", "Host: shop.test"), "https://gateway.test/login", "/preserve/login"),
        (("Proto: http", "Host: shop.test"), "https://shop.test/login", "https://shop.test/preserve/login"),
        ((), "https://gateway.test/login", "https://gateway.test/preserve/login"),
        (("Proto: https", "Host: shop.test"), "https://evil.test/login", "https://evil.test/login"),
    ],
)
def test_an_upstream_that_knows_what_the_client_asked_for_may_say_so(
    gateway: Gateway, up: Answers, fields: tuple[str, ...], said: str, expected: str
) -> None:
    up.answer = response(f"Location: {said}", "Content-Length: 0", status="302 Found")
    forwarded = [f"X-Forwarded-{field}" for field in fields]
    assert gateway.get("/preserve/x", *forwarded, source=PROXY).one("location") == expected
    named_here = said.partition("/login")[0].endswith("//gateway.test")
    assert named_here or gateway.get("/preserve/x", *forwarded).one("location") == said, "nobody believes a stranger"


def test_redirects_raw_leaves_every_location_alone(gateway: Gateway, up: Answers) -> None:
    assert location(gateway, up, "UP/login", "/untouched/x") == f"{up.url}/login"
    assert location(gateway, up, "/login", "/untouched/x", "Content-Location") == "/login"
