"""Answers compressed on their way down, over the wire: whoever made them."""

import gzip
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import zstandard

from tests.live.harness import Answer, Gateway, Request, Upstream, Wire, request_bytes

TEXT = b'{"users": [%s]}' % b", ".join(b'{"id": %d, "name": "a name"}' % number for number in range(400))
BIG = TEXT * 40  # more than is compressed in one go
ROUTES = """\
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path
from gateway.routing import from_environment

async def page(request):
    return HttpResponse("<p>text</p>" * 500, headers={"ETag": '"page"'})

def rows():
    for number in range(3):
        yield f"row {number}\\n" * 300

def table(request):
    return StreamingHttpResponse(rows(), content_type="text/csv")

urlpatterns = [*from_environment(), path("django/page", page), path("django/table", table)]
"""


class Service(Upstream):
    """Answers by the path."""

    def on_request(self, request: Request) -> None:
        path = request.target.partition("?")[0].rpartition("/")[2]
        if path == "conditional" and request.has("if-none-match"):
            request.send(b'HTTP/1.1 304 X\r\nETag: "v1"\r\n\r\n')
        elif path == "events":  # the rest is for the test to send
            request.send(b"HTTP/1.1 200 X\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        else:
            kind, body, extra = CASES.get(path, (b"application/json", TEXT, b'ETag: "v1"\r\nAccept-Ranges: bytes\r\n'))
            if request.start.startswith("HEAD"):
                length, body = len(body), b""
            else:
                length = len(body)
            head = b"HTTP/1.1 %s X\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
            request.send(head % (b"206" if b"Content-Range" in extra else b"200", kind, length, extra) + body)


CASES = {
    "short": (b"text/plain", b"short", b""),
    "image": (b"image/png", b"\0" * 5000, b""),
    "coded": (b"text/plain", gzip.compress(TEXT), b"Content-Encoding: gzip\r\n"),
    "kept": (b"text/plain", TEXT, b"Cache-Control: no-transform\r\n"),
    "part": (b"text/plain", TEXT, b"Content-Range: bytes 0-%d/99999\r\n" % (len(TEXT) - 1)),
    "big": (b"application/json", BIG, b""),
    "stored": (b"application/json", TEXT, b'ETag: "v1"\r\nCache-Control: max-age=60\r\n'),
    "noise": (b"text/plain", random.Random(1).randbytes(1500), b""),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("compress")
    (home / "routes.py").write_text(ROUTES, encoding="ascii")
    (home / "www").mkdir()
    (home / "www" / "app.js").write_bytes(TEXT)
    (home / "www" / "twin.js").write_bytes(TEXT)
    (home / "www" / "twin.js.gz").write_bytes(gzip.compress(b"the twin"))
    (home / "404.html").write_bytes(b"<p>lost</p>" * 200)
    environment = {
        "GATEWAY_COMPRESS": "on",
        "GATEWAY_RESPONSE_HEADER_VARY": "X-Own",
        "GATEWAY_UPSTREAM_U": service.url,
        "GATEWAY_ROUTE_U": "/u/** -> u:/**",
        "GATEWAY_ROUTE_CACHED": "/cached/** -> u:/**",
        "GATEWAY_ROUTE_CACHED__CACHE": "on",
        "GATEWAY_ROUTE_OFF": "/off/** -> u:/**",
        "GATEWAY_ROUTE_OFF__COMPRESS": "off",
        "GATEWAY_ROUTE_SAYS": "/says/** -> u:/**",
        "GATEWAY_ROUTE_SAYS__CACHE_CONTROL": "no-transform",
        "GATEWAY_ROUTE_HOME": "GET /home",
        "GATEWAY_ROUTE_HOME__PART_A": "u:/json",
        "GATEWAY_ROUTE_HOME__PART_B": "u:/json",
        "GATEWAY_ROUTE_OWN": "/own -> 200",
        "GATEWAY_ROUTE_OWN__BODY": "text" * 500,
        "GATEWAY_ROUTE_FILES": "/files/** -> file:www/**",
        "GATEWAY_ON_404": f"file:{home}/404.html",
    }
    with Gateway(environment, cwd=home) as running:
        yield running


def ask(gateway: Gateway, target: str, *fields: str, method: str = "GET", accept: str = "gzip") -> Answer:
    with gateway.connect() as wire:
        wire.send(request_bytes(method, target, f"Accept-Encoding: {accept}", *fields))
        return wire.read_answer(method)


def text_of(answer: Answer) -> bytes:
    coding = (answer.all("content-encoding") or [""])[0]
    if coding == "gzip":
        return gzip.decompress(answer.body)
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(answer.body)
    return answer.body


def varies(answer: Answer) -> bool:
    return "accept-encoding" in ", ".join(answer.all("vary")).lower()


def etag(answer: Answer) -> str:
    return answer.one("etag")


# -- who takes what -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "coding"),
    [("gzip", "gzip"), ("gzip, deflate, br, zstd", "zstd"), ("zstd;q=0.1, gzip", "gzip"), ("br", None), ("", None)],
)
def test_the_client_chooses(gateway: Gateway, accept: str, coding: str | None) -> None:
    answer = ask(gateway, "/u/json", accept=accept)
    assert answer.all("content-encoding") == ([coding] if coding else [])
    assert text_of(answer) == TEXT
    assert answer.one("content-length") == str(len(answer.body))
    assert varies(answer)
    assert etag(answer) == ('W/"v1"' if coding else '"v1"')
    assert answer.has("accept-ranges") is (coding is None)


@pytest.mark.parametrize("path", ["short", "image", "coded", "kept", "part", "noise"])
def test_what_comes_so_goes_down_so(gateway: Gateway, path: str) -> None:
    kind, body, _ = CASES[path]
    answer = ask(gateway, f"/u/{path}")
    assert (answer.body, answer.one("content-type")) == (body, kind.decode())
    assert answer.has("content-encoding") is (path == "coded")


def test_a_range_is_of_the_bytes_as_they_are(gateway: Gateway) -> None:
    assert ask(gateway, "/u/json", "Range: bytes=0-5").body == TEXT
    part = ask(gateway, "/files/app.js", "Range: bytes=0-5")
    assert (part.status, part.body, part.has("content-encoding")) == (206, TEXT[:6], False)


def test_a_head_has_the_fields_of_a_get(gateway: Gateway) -> None:
    answer = ask(gateway, "/u/json", method="HEAD")
    assert (answer.one("content-encoding"), etag(answer), answer.body) == ("gzip", 'W/"v1"', b"")
    assert not answer.has("content-length")  # it would be that of another body
    assert ask(gateway, "/u/short", method="HEAD").one("content-length") == "5"
    for path in ("/cached/stored", "/home"):  # the whole body is here
        size = ask(gateway, path).one("content-length")
        answer = ask(gateway, path, method="HEAD")
        assert (answer.one("content-encoding"), answer.one("content-length"), answer.body) == ("gzip", size, b"")


def test_a_client_that_knows_the_coded_answer_gets_a_304(gateway: Gateway) -> None:
    for path in ("/u/conditional", "/cached/stored"):
        tag = etag(ask(gateway, path))
        assert tag == 'W/"v1"'
        answer = ask(gateway, path, f"If-None-Match: {tag}")
        assert (answer.status, etag(answer), varies(answer)) == (304, tag, True)


def test_options_turn_it_off(gateway: Gateway) -> None:
    assert not ask(gateway, "/off/json").has("content-encoding")
    said = ask(gateway, "/says/json")
    assert (said.one("cache-control"), said.has("content-encoding")) == ("no-transform", False)


# -- whoever made it ----------------------------------------------------------------------------------------------


def test_a_large_answer(gateway: Gateway) -> None:
    for coding in ("gzip", "zstd"):
        answer = ask(gateway, "/u/big", accept=coding)
        assert (answer.one("content-encoding"), text_of(answer)) == (coding, BIG)


def test_what_is_stored_is_uncoded_and_a_hit_is_coded_for_who_takes_it(gateway: Gateway, service: Service) -> None:
    service.forget()
    first = ask(gateway, "/cached/stored?x", accept="zstd")
    hits = {coding: ask(gateway, "/cached/stored?x", accept=coding) for coding in ("gzip", "zstd", "")}
    assert text_of(first) == TEXT
    assert len(service.requests) == 1
    for coding, hit in hits.items():
        assert hit.one("cache-status").startswith("portway; hit")
        assert hit.all("content-encoding") == ([coding] if coding else [])
        assert text_of(hit) == TEXT


def test_a_fan_out_is_compressed_as_one(gateway: Gateway) -> None:
    answer = ask(gateway, "/home")
    assert answer.one("content-encoding") == "gzip"
    assert text_of(answer) == b'{"a":%s,"b":%s}' % (TEXT, TEXT)


def test_answers_of_its_own(gateway: Gateway) -> None:
    assert text_of(ask(gateway, "/own")) == b"text" * 500
    assert ask(gateway, "/own").one("content-encoding") == "gzip"
    page = ask(gateway, "/nowhere", "Accept: text/html")
    assert (page.status, page.one("content-encoding"), text_of(page)) == (404, "gzip", b"<p>lost</p>" * 200)


def test_files_and_their_twins(gateway: Gateway) -> None:
    answer = ask(gateway, "/files/app.js")
    assert (answer.one("content-encoding"), text_of(answer)) == ("gzip", TEXT)
    assert etag(answer).startswith("W/")
    assert ask(gateway, "/files/app.js", f"If-None-Match: {etag(answer)}").status == 304
    assert text_of(ask(gateway, "/files/twin.js")) == b"the twin"


def test_views_of_a_team(gateway: Gateway) -> None:
    page = ask(gateway, "/django/page")
    assert (page.one("content-encoding"), etag(page), text_of(page)) == ("gzip", 'W/"page"', b"<p>text</p>" * 500)
    table = ask(gateway, "/django/table")
    assert table.one("content-encoding") == "gzip"
    assert text_of(table) == b"".join(b"row %d\n" % number * 300 for number in range(3))


def test_a_vary_that_is_set_keeps_the_coding(gateway: Gateway) -> None:
    answer = ask(gateway, "/u/json")
    assert answer.one("vary") == "X-Own, Accept-Encoding"


# -- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_each_event_can_be_read_when_it_has_come(gateway: Gateway, service: Service, coding: str) -> None:
    service.forget()
    decode: Any = zlib.decompressobj(31).decompress
    if coding == "zstd":
        decode = zstandard.ZstdDecompressor().decompressobj().decompress
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/u/events", f"Accept-Encoding: {coding}"))
        request = service.wait_for_request("/events")
        answer = wire.read_head()
        assert (answer.one("content-encoding"), varies(answer)) == (coding, True)
        seen = b""
        for number in range(3):
            event = b"data: %d\n\n" % number
            request.send(b"%x\r\n%s\r\n" % (len(event), event))
            seen += _more(wire, answer, decode)
            assert seen.endswith(event)
        request.send(b"0\r\n\r\n")
        wire.read_body(answer)
        assert answer.framing.is_whole


def _more(wire: Wire, answer: Answer, decode: Any) -> bytes:
    """What the next bytes that come decode to."""
    had = len(answer.framing.data)
    got = b""
    while not got:
        wire.read_body(answer, had + 1)
        got = decode(bytes(answer.framing.data[had:]))
        had = len(answer.framing.data)
    return bytes(got)


def test_a_stream_that_breaks_off_upstream_does_not_end_as_if_it_were_whole(gateway: Gateway, service: Service) -> None:
    service.forget()
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/u/events", "Accept-Encoding: gzip"))
        request = service.wait_for_request("/events")
        request.send(b"5\r\nhello\r\n")
        answer = wire.read_head()
        wire.read_body(answer, 1)
        request.reset()
        wire.read_body(answer)
        assert answer.broke_off


def test_a_client_of_http_1_0_gets_it_to_the_end_of_the_connection(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /django/table HTTP/1.0\r\nHost: g.test\r\nAccept-Encoding: gzip\r\n\r\n")
        answer = wire.read_answer()
        assert len(gzip.decompress(answer.body)) == 3 * 300 * 6
