"""What views see of a request: its body, its form and files, and who asked for what; and what is closed at its end."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Answer, Answers, Gateway, eventually, request_bytes

ROUTES = """
import threading
from typing import Annotated

from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie

from gateway.messages import GatewayResponse
from gateway.routing import cached, fanout, from_environment, legacy, part, route


def in_all_kinds(name, function, reads=True):
    '''The same by every kind of view: /async/NAME, /sync/NAME and so on.'''

    async def by_async(request):
        if reads:
            await request.read_body()
        return function(request)

    def by_sync(request):
        return function(request)

    class ByClass(View):
        async def post(self, request):
            if reads:
                await request.read_body()
            return function(request)

        get = post

    def by_legacy(request):
        return function(request)

    by_legacy.__name__ = f"{name}_by_legacy"
    return [
        route(f"/async/{name}", by_async, name=f"async-{name}"),
        route(f"/sync/{name}", by_sync, name=f"sync-{name}"),
        route(f"/class/{name}", ByClass.as_view(), name=f"class-{name}"),
        route(f"/legacy/{name}", legacy(by_legacy), name=f"legacy-{name}"),
        route(f"/cached-async/{name}", cached(by_async, "on"), name=f"cached-async-{name}"),
        route(f"/cached-sync/{name}", cached(by_sync, "on"), name=f"cached-sync-{name}"),
        path(f"django-async/{name}", by_async),
        path(f"django-sync/{name}", by_sync),
    ]


def form(request):
    return JsonResponse({
        "post": dict(request.POST.lists()),
        "files": {name: [file.name, file.read().decode()] for name, file in request.FILES.items()},
        "body": len(request.body),
        "length": request.META.get("CONTENT_LENGTH"),
    })


def query(request):
    return JsonResponse({"size": len(request.GET)})


def as_file(request):
    return JsonResponse({
        "first": request.readline().decode(), "two": request.read(2).decode(),
        "lines": [line.decode() for line in request], "rest": request.read().decode(), "readlines": request.readlines(),
        "body": request.body.decode(), "post": dict(request.POST.lists()),
    })


def who(request):
    names = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-User", "Forwarded")
    by_header = {name: request.headers[name] for name in names if name in request.headers}
    keys = {name: "HTTP_" + name.upper().replace("-", "_") for name in names}
    by_meta = {name: request.META[key] for name, key in keys.items() if key in request.META}
    raw = {}
    for name, value in request.raw_headers:
        if b"forwarded" in name:
            raw[name.decode()] = ",".join([*([raw[name.decode()]] if name.decode() in raw else []), value.decode()])
    assert by_header == by_meta and {name.lower(): value for name, value in by_meta.items()} == raw
    return JsonResponse({
        "seen": raw, "scheme": request.scheme, "secure": request.is_secure(), "host": request.get_host(),
        "url": request.build_absolute_uri("/x"), "address": request.META["REMOTE_ADDR"],
    }, headers={"Cache-Control": "no-store"})


async def names(request):
    return JsonResponse([name.decode() for name, _ in request.raw_headers], safe=False)


@fanout
async def home(request, user: Annotated[dict, part("up:/user?for={header.x-forwarded-for}")]) -> dict:
    return {"seen": request.headers.get("X-Forwarded-For")}


@ensure_csrf_cookie
def token(request):
    return HttpResponse("token")


@csrf_protect
def submit(request):
    return HttpResponse("submitted")


@csrf_protect
async def submit_async(request):
    return HttpResponse("submitted")


# -- what is open at the end

gates = {name: threading.Event() for name in ("slow", "late", "async")}
closed = []


def opens(request):
    return JsonResponse([file.size for file in request.FILES.values()], safe=False)


def fails(request):
    assert request.FILES
    raise ValueError("after the files were opened")


def streams(request):
    file = next(iter(request.FILES.values()))
    return StreamingHttpResponse(iter(file.chunks()))


async def streams_async(request):
    await request.read_body()
    file = next(iter(request.FILES.values()))
    async def pieces():
        for chunk in file.chunks():
            yield chunk
    return GatewayResponse(200, [], pieces())


def waits(request, gate):
    file = next(iter(request.FILES.values()))
    gates[gate].wait(20)
    closed.append([gate, len(file.read())])
    return HttpResponse("waited")


async def waits_async(request):
    import asyncio
    await request.read_body()
    assert request.FILES
    await asyncio.Event().wait()


async def opens_gate(request, gate):
    gates[gate].set()
    return HttpResponse("open")


async def said(request):
    return JsonResponse(closed, safe=False)


class Closing(HttpResponse):
    def close(self):
        super().close()
        closed.append(threading.current_thread().name.partition("-")[0])


def closing(request):
    return Closing("closing", headers={"Cache-Control": "max-age=60"})


async def closing_async(request):
    return Closing("closing")


def file(request):
    return FileResponse(open("file.bin", "rb"), headers={"Cache-Control": "max-age=60"})


async def file_async(request):
    return FileResponse(open("file.bin", "rb"))


urlpatterns = [
    *from_environment(),
    *in_all_kinds("form", form),
    *in_all_kinds("unread", form, reads=False),
    *in_all_kinds("query", query),
    *in_all_kinds("file", as_file),
    *in_all_kinds("bare", as_file, reads=False),
    *in_all_kinds("who", who),
    route("/async/names", names),
    *in_all_kinds("opens", opens),
    *in_all_kinds("fails", fails),
    route("/home", home),
    route("/token", token),
    route("/submit", submit),
    route("/submit-async", submit_async),
    path("submit-django", submit),
    route("POST /streams", streams),
    route("POST /streams-async", streams_async),
    route("POST /slow", lambda request: waits(request, "slow"), name="slow"),
    route("POST /late", legacy(lambda request: waits(request, "late"), timeout="200ms", name="late"), name="late"),
    route("POST /waits-async", waits_async),
    route("/gates/{gate}", opens_gate),
    route("/said", said),
    route("/closing", closing),
    route("/closing-async", closing_async),
    route("/closing-cached", cached(closing, "on")),
    route("/sends/sync", file, name="sends-sync"),
    route("/sends/async", file_async, name="sends-async"),
    route("/sends/cached", cached(file, "on"), name="sends-cached"),
    route("/sends/legacy", legacy(file, name="files"), name="sends-legacy"),
]
"""
KINDS = ("async", "sync", "class", "legacy", "cached-async", "cached-sync", "django-async", "django-sync")
PROXY = "127.0.0.2"
MULTIPART = "Content-Type: multipart/form-data; boundary=B"
URLENCODED = "Content-Type: application/x-www-form-urlencoded"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CRLF = "\r\n"

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def up() -> Iterator[Answers]:
    with Answers(JSON) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    (folder / "file.bin").write_bytes(b"x" * 3_000_000)
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def gateway(up: Answers, folder: Path) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_UPSTREAM_UP": up.url,
        "GATEWAY_TRUSTED_PROXIES": f"{PROXY} 10.0.0.0/8",
        "TMPDIR": str(folder / "tmp"),
    }
    with Gateway(environment, cwd=folder) as running:
        yield running
    assert left(folder) == 0, "nothing stays behind after the stop"


def left(folder: Path) -> int:
    """How many files of uploads there are."""
    return sum(".upload" in one.name for one in (folder / "tmp").iterdir())


# -- forms ------------------------------------------------------------------------------------------------------------


def field(name: str, value: str, *more: str) -> str:
    return CRLF.join([f'--B{CRLF}Content-Disposition: form-data; name="{name}"', *more, "", value, ""])


FORM = (field("a", "1") + field("a", "2") + field('f"; filename="x.txt', "hello") + f"--B--{CRLF}").encode()


def framed(how: str, target: str, body: bytes, *fields: str) -> bytes:
    """A POST whose body is framed in one of the ways that there are."""
    if how == "chunked":
        pieces = (body[:7], body[7:50], body[50:])
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece)
        return request_bytes("POST", target, "Transfer-Encoding: chunked", *fields, body=chunks + b"0\r\n\r\n")
    whole = request_bytes("POST", target, f"Content-Length: {len(body)}", *fields, body=body)
    return whole.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1) if how == "1.0" else whole


@every_kind
@pytest.mark.parametrize("how", ["length", "chunked", "1.0"])
def test_a_form_is_filled_however_it_is_framed(gateway: Gateway, kind: str, how: str) -> None:
    found = gateway.ask(framed(how, f"/{kind}/form", FORM, MULTIPART)).json()
    assert found["post"] == {"a": ["1", "2"]}
    assert found["files"] == {"f": ["x.txt", "hello"]}
    assert found["body"] == len(FORM)
    assert found["length"] == (None if how == "chunked" else str(len(FORM))), "META is what came"
    found = gateway.ask(framed(how, f"/{kind}/form", b"a=1&b=%C3%BC&a=2", URLENCODED)).json()
    assert (found["post"], found["files"]) == ({"a": ["1", "2"], "b": ["ü"]}, {})


@every_kind
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_an_empty_form_is_empty(gateway: Gateway, kind: str, how: str) -> None:
    for media in (MULTIPART, URLENCODED, "Content-Type: application/json"):
        found = gateway.ask(framed(how, f"/{kind}/form", b"", media)).json()
        assert (found["post"], found["files"], found["body"]) == ({}, {}, 0)


def test_a_form_that_nobody_has_read_is_no_empty_one(gateway: Gateway) -> None:
    """An async view of a route reads its body itself: to take what it has not read for nothing would lose data."""
    for kind in ("async", "class"):
        for media in (MULTIPART, URLENCODED):
            answer = gateway.ask(framed("chunked", f"/{kind}/unread", FORM, media))
            assert (answer.status, answer.json()["reason"]) == (500, "view_error")
            assert "await request.read_body()" in gateway.request_line(answer.one("x-request-id"))["cause"]


MALFORMED = {
    "no boundary": ("Content-Type: multipart/form-data", b"abc"),
    "an empty boundary": ("Content-Type: multipart/form-data; boundary=", b"abc"),
    "a boundary that is too long": (f"Content-Type: multipart/form-data; boundary={'x' * 300}", b"abc"),
    "base64 that is none": (
        MULTIPART,
        (field('f"; filename="x', "A", "Content-Transfer-Encoding: base64") + f"--B--{CRLF}").encode(),
    ),
    "too many fields": (MULTIPART, (field("a", "1") * 1001 + f"--B--{CRLF}").encode()),
    "too many files": (MULTIPART, (field('f"; filename="x', "1") * 101 + f"--B--{CRLF}").encode()),
    "a charset that is none of text": (f"{MULTIPART}; charset=base64", FORM),
    "a charset that is no charset": (f"{MULTIPART}; charset=idna", FORM),
    "a charset of names": (f"{MULTIPART}; charset=punycode", (field("a", "\xff") + f"--B--{CRLF}").encode("latin-1")),
    "too many values": (URLENCODED, b"a=1&" * 1001),
    "another charset than UTF-8": (f"{URLENCODED}; charset=latin-1", b"a=1"),
}


@every_kind
@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_a_form_that_is_none_is_the_clients_fault(gateway: Gateway, kind: str, what: str, how: str) -> None:
    media, body = MALFORMED[what]
    answer = gateway.ask(framed(how, f"/{kind}/form", body, media))
    assert (answer.status, answer.json()["reason"]) == (400, "request_invalid")
    assert gateway.request_line(answer.one("x-request-id"))["level"] != "error"


@every_kind
def test_a_query_of_too_many_values_is_the_clients_fault(gateway: Gateway, kind: str) -> None:
    assert gateway.get(f"/{kind}/query?{'a=1&' * 1001}").status == 400


# -- the body as a file -----------------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("how", ["length", "chunked", "1.0"])
def test_a_body_is_read_as_a_file(gateway: Gateway, kind: str, how: str) -> None:
    found = gateway.ask(framed(how, f"/{kind}/file", b"a=1\nb=2\nc", URLENCODED)).json()
    assert found == {
        "first": "a=1\n",
        "two": "b=",
        "lines": ["2\n", "c"],
        "rest": "",
        "readlines": [],
        "body": "a=1\nb=2\nc",
        "post": {"a": ["1\nb=2\nc"]},
    }


@every_kind
@pytest.mark.parametrize("view", ["file", "bare"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_has_no_body_reads_as_nothing(gateway: Gateway, kind: str, view: str, method: str) -> None:
    fields = ["Content-Length: 0"] if method == "POST" else []
    found = gateway.ask(request_bytes(method, f"/{kind}/{view}", *fields)).json()
    assert found == {"first": "", "two": "", "lines": [], "rest": "", "readlines": [], "body": "", "post": {}}


# -- who asked, and for what ------------------------------------------------------------------------------------------

CLAIMS = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-Host: evil.test",
    "X-Forwarded-Proto: https",
    "X-Forwarded-User: root",
    "Forwarded: for=6.6.6.6;host=evil.test;proto=https",
)


@pytest.mark.parametrize(
    ("field", "is_believed"),
    [("X-Real-IP", True), ("CF-Connecting-IP", True), ("X-Original-URL", True), ("X_Real_IP", False), ("Proxy", False)],
)
def test_other_names_of_claims_are_treated_alike(gateway: Gateway, field: str, is_believed: bool) -> None:
    name, line = field.lower(), f"{field}: 6.6.6.6"
    assert name not in gateway.get("/async/names", line).json()
    assert (name in gateway.get("/async/names", line, source=PROXY).json()) is is_believed


@every_kind
def test_what_a_stranger_claims_is_not_there(gateway: Gateway, kind: str) -> None:
    assert gateway.get(f"/{kind}/who?{kind}", *CLAIMS).json() == {
        "seen": {},
        "scheme": "http",
        "secure": False,
        "host": "gateway.test",
        "url": "http://gateway.test/x",
        "address": "127.0.0.1",
    }


@every_kind
def test_what_a_trusted_proxy_says_holds(gateway: Gateway, kind: str) -> None:
    found = gateway.get(f"/{kind}/who?{kind}", *CLAIMS, source=PROXY).json()
    assert found.pop("seen") == {
        "x-forwarded-for": "6.6.6.6",
        "x-forwarded-host": "evil.test",
        "x-forwarded-proto": "https",
        "x-forwarded-user": "root",
    }, "Forwarded is believed of nobody, since it is not looked at"
    assert found == {
        "scheme": "https",
        "secure": True,
        "host": "evil.test",
        "url": "https://evil.test/x",
        "address": PROXY,
    }


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ((), "http://gateway.test/x"),
        (("X-Forwarded-Proto: https",), "https://gateway.test/x"),
        (("X-Forwarded-Proto: HTTPS",), "https://gateway.test/x"),
        (("X-Forwarded-Proto: gopher",), "http://gateway.test/x"),
        (("X-Forwarded-Proto:",), "http://gateway.test/x"),
        (("X-Forwarded-Host: shop.test:8443",), "http://shop.test:8443/x"),
        (("X-Forwarded-Host: no host/",), "http://gateway.test/x"),
        # What the client wrote itself stands left of what the proxy added.
        (("X-Forwarded-Proto: https, http", "X-Forwarded-Host: evil.test, shop.test"), "http://shop.test/x"),
        (("X-Forwarded-Proto: https", "X-Forwarded-Proto: http"), "http://gateway.test/x"),
        # Of two proxies of ours each has added its own: the outer one met the client.
        (("X-Forwarded-For: 6.6.6.6, 10.0.0.1", "X-Forwarded-Proto: https, http"), "https://gateway.test/x"),
        (("X-Forwarded-For: 6.6.6.6, 10.0.0.1", "X-Forwarded-Proto: http, https, http"), "https://gateway.test/x"),
        (("X-Forwarded-For: 6.6.6.6, 10.0.0.1", "X-Forwarded-Proto: https"), "https://gateway.test/x"),
    ],
)
def test_the_scheme_and_host_are_those_that_the_outermost_trusted_proxy_says(
    gateway: Gateway, fields: tuple[str, ...], url: str
) -> None:
    assert gateway.get("/async/who", *fields, source=PROXY).json()["url"] == url


def test_parts_see_no_claims_of_strangers_either(gateway: Gateway, up: Answers) -> None:
    up.forget()
    assert gateway.get("/home", *CLAIMS).json()["reason"] == "template_value", "what is not there has no value"
    assert up.requests == []
    assert gateway.get("/home", *CLAIMS, source=PROXY).json() == {"seen": "6.6.6.6"}
    assert up.requests[-1].target == "/user?for=6.6.6.6"


def test_a_client_without_host_asks_the_server(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(b"GET /async/who HTTP/1.0\r\n\r\n")
        assert wire.read_answer().json()["host"] == gateway.authority


@pytest.mark.parametrize("target", ["/submit", "/submit-async", "/submit-django"])
def test_a_form_of_the_same_site_is_taken_behind_tls(gateway: Gateway, target: str) -> None:
    behind = ("X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test")
    cookie = gateway.get("/token", *behind, source=PROXY).one("set-cookie")
    token = cookie.partition("=")[2].partition(";")[0]
    fields = (*behind, f"Cookie: csrftoken={token}", f"X-CSRFToken: {token}", "Content-Length: 0")

    def submitted(*more: str, source: str = PROXY) -> Answer:
        return gateway.ask(request_bytes("POST", target, *fields, *more), source=source)

    assert submitted("Origin: https://shop.test").body == b"submitted"
    assert submitted("Referer: https://shop.test/form").body == b"submitted"
    assert submitted("Origin: http://shop.test").status == 403
    assert submitted("Origin: https://gateway.test").status == 403
    assert submitted("Origin: https://shop.test", source="127.0.0.1").status == 403, "nobody believes a stranger"


# -- what is closed at the end ----------------------------------------------------------------------------------------

UPLOAD = (field('f"; filename="x.bin', "h" * 3_000_000) + f"--B--{CRLF}").encode()


def posted(target: str, how: str = "length") -> bytes:
    return framed(how, target, UPLOAD, MULTIPART)


@every_kind
def test_the_files_of_a_form_are_closed(gateway: Gateway, folder: Path, kind: str) -> None:
    assert gateway.ask(posted(f"/{kind}/opens", "chunked")).json() == [3_000_000]
    answer = gateway.ask(posted(f"/{kind}/fails"))
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    assert eventually(lambda: left(folder) == 0)


@pytest.mark.parametrize("target", ["/streams", "/streams-async"])
def test_they_are_open_while_the_answer_streams(gateway: Gateway, folder: Path, target: str) -> None:
    assert gateway.ask(posted(target)).body == b"h" * 3_000_000
    with gateway.connect() as wire:
        wire.send(posted(target))
        assert wire.read_head().status == 200
    assert eventually(lambda: left(folder) == 0), "also when the client leaves in the middle"


def said(gateway: Gateway) -> list[Any]:
    found: list[Any] = gateway.get("/said").json()
    return found


@pytest.mark.parametrize("gate", ["slow", "late"])
def test_a_thread_that_nobody_waits_for_keeps_its_files_to_its_end(gateway: Gateway, folder: Path, gate: str) -> None:
    with gateway.connect() as wire:
        wire.send(posted(f"/{gate}"))
        assert eventually(lambda: left(folder) == 1)
        if gate == "late":
            assert wire.read_answer().json()["reason"] == "legacy_timeout"
        else:
            wire.reset()
            assert gateway.wait_for_log(lambda line: line.get("status") == 499 and line["path"] == "/slow")
    assert left(folder) == 1
    gateway.get(f"/gates/{gate}")
    assert eventually(lambda: left(folder) == 0)
    assert [gate, 3_000_000] in said(gateway), "it has read all of it"


def test_the_files_of_an_async_view_are_closed_when_its_client_leaves(gateway: Gateway, folder: Path) -> None:
    with gateway.connect() as wire:
        wire.send(posted("/waits-async"))
        assert eventually(lambda: left(folder) == 1)
    assert eventually(lambda: left(folder) == 0)


@pytest.mark.parametrize("path", ["/closing", "/closing-async", "/closing-cached"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_is_closed_once_in_a_thread(gateway: Gateway, path: str, method: str) -> None:
    before = said(gateway).count("view")
    assert gateway.ask(request_bytes(method, path)).status == 200
    expected = before + (0 if (path, method) == ("/closing-cached", "HEAD") else 1)  # which the stored one answers
    assert eventually(lambda: said(gateway).count("view") == expected)
    assert said(gateway).count("MainThread") == 0


@pytest.mark.parametrize("kind", ["sync", "async", "cached", "legacy"])
def test_a_file_that_was_sent_is_closed(gateway: Gateway, folder: Path, kind: str) -> None:
    def open_files() -> int:
        group = os.getpgid(gateway.process.pid)
        found = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.getpgid(int(process.name)) == group:
                    found += sum(one.readlink() == folder / "file.bin" for one in (process / "fd").iterdir())
            except OSError:
                continue
        return found

    assert len(gateway.get(f"/sends/{kind}").body) == 3_000_000
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", f"/sends/{kind}?leaves"))
        assert wire.read_head().status == 200
    gateway.ask(request_bytes("HEAD", f"/sends/{kind}?head"))
    assert eventually(lambda: open_files() == 0)


def test_a_stop_that_cuts_closes_files_and_waits_for_no_thread_for_ever(folder: Path, up: Answers) -> None:
    environment = {"GATEWAY_UPSTREAM_UP": up.url, "GATEWAY_DRAIN": "100ms", "TMPDIR": str(folder / "tmp")}
    with Gateway(environment, cwd=folder) as gateway:
        with gateway.connect() as wire:
            wire.send(posted("/waits-async"))
            assert eventually(lambda: left(folder) == 1)
            gateway.stop()
        assert left(folder) == 0
    with Gateway(environment, cwd=folder) as gateway:
        with gateway.connect() as wire:
            wire.send(posted("/slow"))
            assert eventually(lambda: left(folder) == 1)
            gateway.stop()
        assert [line["count"] for line in gateway.log if line["event"] == "view.abandoned"] == [1]
    for file in (folder / "tmp").iterdir():  # of a view that still ran when the process ended
        file.unlink()
