"""What an upstream answers is judged by one rule, whichever way it was asked: by a route, a part, fetch(), a probe."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.live.harness import Answer, Answers, Gateway, Request, Upstream, eventually

ROUTES = """
from gateway.messages import GatewayResponse
from gateway.routing import fetch, from_environment, route

async def asks(request):
    return passed_on(await fetch("u:" + request.raw_path))

async def asks_cached(request):
    return passed_on(await fetch("u:" + request.raw_path, cache="60s"))

def passed_on(answer):
    return GatewayResponse(answer.status, list(answer.pairs), answer.body)

async def decodes(request):
    method, target = request.headers.get("x-method", "GET"), "u:/decodes?" + request.headers["x-a"]
    answer = await fetch(target, method=method)
    if request.headers.get("x-json"):
        return GatewayResponse(200, [], str(answer.json()).encode())
    return passed_on(answer)

async def decodes_cached(request):
    return passed_on(await fetch("u:/decodes?" + request.headers["x-a"], cache="on"))

async def sends(request):
    return passed_on(await fetch("u:/sends", headers={"x-a": request.headers["x-a"], "x-own": "\u20ac"}))

async def sees(request):
    seen = request.headers["x-a"]
    assert seen == request.META["HTTP_X_A"]
    return GatewayResponse(200, [(b"x-a", seen.encode("latin-1"))])

urlpatterns = [
    *from_environment(),
    route("/fetch", asks),
    route("/fetch-cached", asks_cached),
    route("/sends", sends),
    route("/decodes", decodes),
    route("/decodes-cached", decodes_cached),
    route("/sees", sees),
]
"""
LATIN_1 = "Zo\xeb \xa0\x85\xff\xb2\xa0"  # no UTF-8, with what str takes for white space and digits
WAYS = ["/proxied", "/cached", "/part", "/part-cached", "/fetch", "/fetch-cached"]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=60\r\n"
GOOD = OK + b"Content-Length: 1\r\n\r\n7"


class Ups(NamedTuple):
    u: Answers
    probed: Answers


@pytest.fixture(scope="module")
def ups() -> Iterator[Ups]:
    with Answers() as u, Answers() as probed:
        yield Ups(u, probed)


def started(ups: Ups, folder: Path) -> Gateway:
    (folder / "routes.py").write_text(ROUTES)
    environment = {
        "GATEWAY_UPSTREAM_U": ups.u.url,
        "GATEWAY_UPSTREAM_PROBED": ups.probed.url,
        "GATEWAY_UPSTREAM_PROBED__HEALTH": "/healthz",
        "GATEWAY_UPSTREAM_PROBED__HEALTH_INTERVAL": "100ms",
        "GATEWAY_ROUTE_PROBED": "/probed -> probed",
        "GATEWAY_ROUTE_PROXIED": "/proxied -> u",
        "GATEWAY_ROUTE_CACHED": "/cached -> u",
        "GATEWAY_ROUTE_CACHED__CACHE": "60s",
        "GATEWAY_ROUTE_PART": "GET /part",
        "GATEWAY_ROUTE_PART__PART_A": "u:/part",
        "GATEWAY_ROUTE_TEMPLATE": "GET /template",
        "GATEWAY_ROUTE_TEMPLATE__PART_A": "u:/template?a={header.x-a}",
        "GATEWAY_ROUTE_TEMPLATE__FORWARD_HEADERS": "x-a",
        "GATEWAY_ROUTE_DECODED": "GET /decoded/{id}",
        "GATEWAY_ROUTE_DECODED__PART_A": "u:/decoded/{id}",
        "GATEWAY_ROUTE_DECODED__PART_A__MAX_BODY": "100KiB",
        "GATEWAY_ROUTE_DECODED_CACHED": "GET /decoded-cached/{id}",
        "GATEWAY_ROUTE_DECODED_CACHED__PART_A": "u:/decoded-cached/{id}",
        "GATEWAY_ROUTE_DECODED_CACHED__PART_A__CACHE": "60s",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8",
        "GATEWAY_ADMIN_TOKEN": "secret",
        "GATEWAY_ROUTE_PART_CACHED": "GET /part-cached",
        "GATEWAY_ROUTE_PART_CACHED__PART_A": "u:/part-cached",
        "GATEWAY_ROUTE_PART_CACHED__PART_A__CACHE": "60s",
    }
    return Gateway(environment, cwd=folder)


@pytest.fixture(scope="module")
def gateway(ups: Ups, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with started(ups, tmp_path_factory.mktemp("upstream_answers")) as running:
        yield running


def ask(gateway: Gateway, ups: Ups, answer: bytes, way: str, method: str = "GET") -> Answer:
    """What a client gets when the upstream answers so, however it is asked."""
    ups.u.answer = answer
    return gateway.ask(f"{method} {way} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())


def reason_of(gateway: Gateway, answer: Answer) -> Any:
    return gateway.request_line(answer.one("x-request-id"))["reason"]


# -- names of fields ----------------------------------------------------------------------------------------------

NAMES = [
    *(b"Content-Length : 1", b"Content-Length\t: 1", b"Content-Length  : 1", b"content-length :1"),
    *(b"Transfer-Encoding : chunked", b"Connection : close", b"Upgrade : x", b"Proxy-Connection : close"),
    *(b"Keep-Alive : x", b"Set-Cookie : a=1", b"Cache-Control : no-store", b"X-A : b", b"X A: b", b"X\x0b: b"),
    *(b"X\0: b", b"X\x01: b", b"X\x7f: b", b"X(: b", b'X"Y: b', b"X@Y: b", b"X\xe9: b", b"X\xc3\xa9: b", b": b"),
    *(b" X-A: b", b"\tX-A: b", b"X-A: b\r\n folded", b"Content-Length:\r\n 1", b"X-A"),
]


@pytest.mark.parametrize("way", WAYS)
def test_a_field_name_that_is_no_token_is_refused_and_never_stored(gateway: Gateway, ups: Ups, way: str) -> None:
    for line in NAMES:
        for framing in (b"", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n"):
            body = b"1\r\n7\r\n0\r\n\r\n" if b"hunked" in line + framing else b"7"
            answer = ask(gateway, ups, OK + line + b"\r\n" + framing + b"\r\n" + body, way)
            assert (answer.status, reason_of(gateway, answer)) == (502, "response_invalid"), (line, framing)
            answer = ask(gateway, ups, OK + framing + line + b"\r\n\r\n" + body, way)
            assert (answer.status, reason_of(gateway, answer)) == (502, "response_invalid"), (line, framing)
    asked = len(ups.u.requests)
    assert ask(gateway, ups, GOOD, way).status == 200
    assert len(ups.u.requests) == asked + 1, "one of them was stored"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified", "103 Early Hints", "404 Not Found"])
def test_it_is_so_for_answers_without_a_body_too(gateway: Gateway, ups: Ups, method: str, status: str) -> None:
    for line in NAMES:
        raw = b"HTTP/1.1 " + status.encode() + b"\r\n" + line + b"\r\nContent-Length: 0\r\n\r\n"
        answer = ask(gateway, ups, raw + (GOOD if status.startswith("103") else b""), "/proxied", method)
        assert (answer.status, reason_of(gateway, answer)) == (502, "response_invalid"), line


def test_a_validation_that_is_answered_so_brings_no_such_field_into_the_store(gateway: Gateway, ups: Ups) -> None:
    first = OK.replace(b"max-age=60", b"no-cache") + b'ETag: "a"\r\nContent-Length: 1\r\n\r\n7'
    assert ask(gateway, ups, first, "/cached").status == 200
    broken = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nConnection : close\r\nX-New: 1\r\n\r\n'
    answer = ask(gateway, ups, broken, "/cached")
    assert not answer.has("x-new")
    answer = ask(gateway, ups, b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', "/cached")
    assert (answer.status, answer.body, answer.has("x-new")) == (200, b"7", False)


def test_a_trailer_goes_nowhere_whatever_its_name(gateway: Gateway, ups: Ups) -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n"
    for line in NAMES:
        answer = ask(gateway, ups, chunked + line + b"\r\n\r\n", "/proxied")
        assert answer.status in {200, 502}
        if answer.status == 200:
            assert (answer.body, answer.broke_off) == (b"7", False)
            assert answer.names.isdisjoint({"x-a", "set-cookie", "upgrade", "keep-alive"})
        after = ask(gateway, ups, GOOD, "/proxied")
        assert (after.status, after.body, after.names & {"x-a", "set-cookie", "keep-alive"}) == (200, b"7", set())


def test_a_probe_judges_by_the_same_rule(gateway: Gateway, ups: Ups) -> None:
    assert eventually(lambda: gateway.get("/probed").status == 200)
    ups.probed.answer = OK + b"Content-Length : 1\r\n\r\n7"
    event = gateway.wait_for_log(lambda line: line["event"] == "upstream.down")
    assert "response_invalid" in event["cause"]


# -- interim answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints", "199 Odd"])
@pytest.mark.parametrize("way", ["/proxied", "/part", "/fetch"])
def test_twenty_interim_answers_are_enough(gateway: Gateway, ups: Ups, way: str, interim: str) -> None:
    one = b"HTTP/1.1 " + interim.encode() + b"\r\nLink: </x>\r\n\r\n"
    answer = ask(gateway, ups, one * 21 + GOOD, way)
    assert (answer.status, reason_of(gateway, answer)) == (502, "response_invalid")
    answer = ask(gateway, ups, one * 20 + GOOD, way)
    assert (answer.status, answer.body) == (200, b'{"a":7}' if way == "/part" else b"7")


class NeverAnswers(Upstream):
    """Says 1xx for ever."""

    def on_request(self, request: Request) -> None:
        while True:
            request.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 1000)


def test_interim_answers_without_end_hold_nobody_up(tmp_path: Path) -> None:
    with NeverAnswers() as up:
        environment = {"GATEWAY_UPSTREAM_U": up.url, "GATEWAY_ROUTE_U": "/** -> u", "GATEWAY_UPSTREAM_U__RETRIES": "0"}
        with Gateway(environment, cwd=tmp_path) as gateway:
            for method in ("GET", "HEAD", "POST"):
                raw = f"{method} /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                answer = gateway.ask(raw.encode())
                assert (answer.status, reason_of(gateway, answer)) == (502, "response_invalid")
            assert eventually(lambda: up.connections_open == 0)
            assert not [line for line in gateway.log if line["event"] == "loop.stalled"]


# -- bytes after the answer ---------------------------------------------------------------------------------------


def test_bytes_after_an_answer_are_nobodys_and_are_said_once(ups: Ups, tmp_path: Path) -> None:
    head = OK.replace(b"max-age=60", b"no-store")
    evil = OK + b"Content-Length: 4\r\nSet-Cookie: evil=1\r\n\r\n6666"
    answers = (b"Content-Length: 1\r\n\r\n7", b"Transfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n")
    with started(ups, tmp_path) as gateway:
        for way, raw, extra in product(WAYS, answers, (b"X", b"and more\r\n\r\n", evil, evil + b"X", b"\0")):
            made = ups.u.connections_made
            for _ in range(2):
                answer = ask(gateway, ups, head + raw + extra, way)
                assert (answer.status, answer.has("set-cookie")) == (200, False), (way, extra)
                assert answer.body in (b"7", b'{"a":7}'), (way, extra)
            assert ups.u.connections_made == made + 2, "the connection was used again"
        assert eventually(lambda: ups.u.connections_open == 0)
        said = [line for line in gateway.log if line["event"] == "upstream.unasked_bytes"]
        assert [(line["level"], line["upstream"]) for line in said] == [("warning", "u")]


def test_bytes_after_an_answer_that_has_no_body(gateway: Gateway, ups: Ups) -> None:
    for status, method in (("204 No Content", "GET"), ("304 Not Modified", "GET"), ("200 OK", "HEAD")):
        raw = b"HTTP/1.1 " + status.encode() + b"\r\nX-A: b\r\n\r\n"
        answer = ask(gateway, ups, raw + b"7777", "/proxied", method)
        assert (answer.status, answer.body, answer.broke_off) == (int(status[:3]), b"", False)
        assert ask(gateway, ups, GOOD, "/proxied").body == b"7"


# -- values that are no UTF-8 -------------------------------------------------------------------------------------


def test_a_value_of_any_bytes_goes_up_whoever_sends_it(gateway: Gateway, ups: Ups) -> None:
    ups.u.answer = GOOD.replace(b"max-age=60", b"no-store")
    for target in ("/proxied?latin", "/cached?latin", "/template", "/sends"):
        ups.u.forget()
        assert gateway.get(target, f"X-A: {LATIN_1}").status == 200
        assert ups.u.requests[0].raw_head.count(f"\r\nx-a: {LATIN_1}\r\n".encode("latin-1")) == 1, target
    assert "\r\nx-own: \u20ac\r\n".encode() in ups.u.requests[0].raw_head
    gateway.get("/template", f"X-A: {LATIN_1}")
    assert ups.u.requests[1].target == "/template?a=Zo%EB%20%A0%85%FF%B2%A0"


def test_a_view_sees_it_as_django_does(gateway: Gateway) -> None:
    assert f"x-a: {LATIN_1}" in gateway.get("/sees", f"X-A: {LATIN_1}").lines


def test_what_a_trusted_proxy_says_goes_up_byte_for_byte(gateway: Gateway, ups: Ups) -> None:
    ups.u.forget()
    said = [f"X-Forwarded-{name}: {LATIN_1}" for name in ("For", "Host", "Proto", "Prefix", "Tenant")]
    assert gateway.get("/proxied?forwarded", *said).status == 200
    raw = ups.u.requests[0].raw_head
    value = LATIN_1.encode("latin-1")
    assert b"x-forwarded-for: " + value + b", 127.0.0.1\r\n" in raw
    for name in (b"host", b"proto", b"prefix", b"tenant"):
        assert b"x-forwarded-" + name + b": " + value + b"\r\n" in raw


@pytest.mark.parametrize("way", ["/proxied", "/cached", "/fetch"])
def test_a_value_of_any_bytes_comes_down(gateway: Gateway, ups: Ups, way: str) -> None:
    ups.u.answer = OK + f"X-A: {LATIN_1}\r\nVary: X-A\r\nContent-Length: 1\r\n\r\n7".encode("latin-1")
    for _ in range(2):
        answer = gateway.get(f"{way}?down", f"X-A: {LATIN_1}")
        assert (answer.status, f"\r\nx-a: {LATIN_1}\r\n".encode("latin-1") in answer.raw_head) == (200, True)


def test_variants_differ_by_their_bytes(gateway: Gateway, ups: Ups) -> None:
    ups.u.answer = OK + b"Vary: X-A\r\nContent-Length: 1\r\n\r\n7"
    ups.u.forget()
    for value in ("Zo\xeb", "Zo\xc3\xab", "Zo\xea", "Zo\xeb", "Zo\xea"):
        assert gateway.get("/cached?variants", f"X-A: {value}").status == 200
    assert len(ups.u.requests) == 3


def test_no_field_of_the_gateways_own_fails_over_it(gateway: Gateway) -> None:
    names = [
        "Authorization",
        "Accept",
        "Accept-Language",
        "Cookie",
        "Origin",
        "If-None-Match",
        "Range",
        "Cache-Control",
    ]
    names += ["X-Request-ID", "Traceparent", "Tracestate", "Via", "Forwarded", "X-Forwarded-For", "Connection", "TE"]
    names += ["Content-Type", "Access-Control-Request-Method", "If-Modified-Since", "Idempotency-Key"]
    for name in names:
        for value in ("\xeb", "Basic \xeb", "a\xa0, \xb2;q=\xb2", "http://\xbd/", '"\xeb"'):
            for target in ("/cached?names", "/part", "/sees", "/-/status", "/nothing"):
                answer = gateway.get(target, f"{name}: {value}", "X-A: b")
                assert answer.status in {200, 304, 401, 403, 404}, (name, value, target, answer)


# -- content codings ----------------------------------------------------------------------------------------------

CODED = {
    "gzip": gzip.compress(b'{"a":1}'),
    "x-gzip": gzip.compress(b'{"a":1}'),
    "GZIP": gzip.compress(b'{"a"') + gzip.compress(b":1}") + b"\0" * 8,
    "deflate": zlib.compress(b'{"a":1}'),
    "gzip, identity, deflate": zlib.compress(gzip.compress(b'{"a":1}')),
    "identity": b'{"a":1}',
}


def coded(coding: str, body: bytes, *lines: bytes, chunked: bool = False) -> bytes:
    head = OK + b"Content-Encoding: " + coding.encode() + b"\r\n" + b"".join(line + b"\r\n" for line in lines)
    if chunked:
        pieces = [body[start : start + 7000] for start in range(0, len(body), 7000)]
        return (
            head
            + b"Transfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        )
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("coding", CODED)
def test_a_part_that_is_coded_unasked_is_decoded(gateway: Gateway, ups: Ups, coding: str, chunked: bool) -> None:
    ups.u.answer = coded(coding, CODED[coding], chunked=chunked)
    number = f"{list(CODED).index(coding)}-{chunked}"
    for way in ("/decoded", "/decoded-cached", "/decoded-cached"):
        answer = gateway.get(f"{way}/{number}")
        assert (answer.status, answer.body, answer.has("content-encoding")) == (200, b'{"a":{"a":1}}', False)


@pytest.mark.parametrize("coding", CODED)
def test_what_fetch_gives_is_decoded_and_its_fields_agree(gateway: Gateway, ups: Ups, coding: str) -> None:
    ups.u.answer = coded(coding, CODED[coding], b'ETag: "x"', b"Accept-Ranges: bytes", b"Content-MD5: abc=")
    assert gateway.get("/decodes", "X-A: 1", "X-JSON: 1").body == b"{'a': 1}"
    answer = gateway.get("/decodes", "X-A: 1")
    assert (answer.status, answer.body, answer.one("content-length")) == (200, b'{"a":1}', "7")
    if coding != "identity":
        assert answer.one("etag") == 'W/"x"'
        assert answer.names.isdisjoint({"content-encoding", "accept-ranges", "content-md5"})


def test_what_is_not_in_its_coding_is_the_parts_failure(gateway: Gateway, ups: Ups) -> None:
    whole = gzip.compress(b'{"a":1}' * 100)
    for coding, body in (("gzip", b'{"a":1}'), ("gzip", whole[:-1]), ("gzip", whole + b"junk"), ("deflate", whole)):
        ups.u.answer = coded(coding, body)
        for target, more in (("/decoded/bad", "X-B: 1"), ("/decodes", "X-JSON: 1")):
            answer = gateway.get(target, "X-A: 1", more)
            assert (answer.status, answer.json()["reason"]) == (502, "part_invalid"), (coding, body)
        answer = gateway.get("/decodes", "X-A: 1")
        assert (answer.status, answer.one("content-encoding"), answer.body) == (200, coding, body)


def test_a_bomb_is_bounded_by_what_it_holds(gateway: Gateway, ups: Ups) -> None:
    zeros = b"0" * 50_000_000
    bombs = {
        "gzip": gzip.compress(zeros),
        "deflate": zlib.compress(zeros),
        "gzip, gzip": gzip.compress(gzip.compress(zeros)),
    }
    for coding, bomb in bombs.items():
        ups.u.answer = coded(coding, bomb)
        for target in ("/decoded/bomb", "/decodes"):
            answer = gateway.get(target, "X-A: bomb")
            assert (answer.status, answer.json()["reason"]) == (502, "part_too_large"), (coding, target)


def test_a_coding_that_is_not_known_passes_as_it_is_and_is_no_json(gateway: Gateway, ups: Ups) -> None:
    ups.u.answer = coded("compress", b"\x1f\x9d", b'ETag: "x"')
    answer = gateway.get("/decodes", "X-A: 2")
    assert (answer.body, answer.one("content-encoding"), answer.one("etag")) == (b"\x1f\x9d", "compress", '"x"')
    assert gateway.get("/decoded/unknown").json()["reason"] == "part_invalid"


def test_a_part_of_a_coded_answer_is_left_alone(gateway: Gateway, ups: Ups) -> None:
    ups.u.answer = coded("gzip", CODED["gzip"][:5], b"Content-Range: bytes 0-4/99").replace(b"200 OK", b"206 Partial")
    answer = gateway.get("/decodes", "X-A: 3")
    assert (answer.status, answer.body, answer.one("content-encoding")) == (206, CODED["gzip"][:5], "gzip")


def test_an_answer_without_a_body_is_said_as_the_one_with_a_body(gateway: Gateway, ups: Ups) -> None:
    ups.u.answer = OK + b'Content-Encoding: gzip\r\nETag: "x"\r\nContent-Length: 999\r\n\r\n'
    answer = gateway.get("/decodes", "X-A: 4", "X-Method: HEAD")
    assert (answer.has("content-encoding"), answer.one("etag")) == (False, 'W/"x"')


@pytest.mark.parametrize("line", [b"", b"Content-Encoding: gzip\r\n"])
def test_a_decoded_answer_is_validated_with_its_own_tag(gateway: Gateway, ups: Ups, line: bytes) -> None:
    value = f"valid{len(line)}"
    ups.u.answer = coded("gzip", CODED["gzip"], b'ETag: "x"').replace(b"max-age=60", b"no-cache")
    assert gateway.get("/decodes-cached", f"X-A: {value}").body == b'{"a":1}'
    ups.u.forget()
    ups.u.answer = b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n' + line + b"\r\n"
    answer = gateway.get("/decodes-cached", f"X-A: {value}")
    assert [request.one("if-none-match") for request in ups.u.requests] == ['W/"x"']
    assert (answer.status, answer.body, answer.has("content-encoding")) == (200, b'{"a":1}', False)
