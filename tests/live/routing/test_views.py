"""Views of a team's own routes.py: Django's, and ours by route(), served by the real process."""

import base64
import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.harness import Answer, Gateway, Upstream, eventually, request_bytes

ROUTES = """
import asyncio
import logging
import sys
import threading
import time
from pathlib import Path

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import (
    FileResponse, Http404, HttpResponse, HttpResponseNotModified, HttpResponseRedirect, JsonResponse,
    StreamingHttpResponse,
)
from django.urls import include, path, re_path, resolve, reverse
from django.views import View
from django.views.decorators.http import require_GET

from gateway.messages import GatewayResponse
from gateway.routing import from_environment, proxy, route

# -- what a view sees


async def home(request, id):
    return JsonResponse({
        "id": id, "method": request.method, "path": request.path, "path_info": request.path_info,
        "raw_path": request.raw_path, "full_path": request.get_full_path(), "host": request.get_host(),
        "absolute": request.build_absolute_uri(), "secure": request.is_secure(),
        "get": dict(request.GET.lists()), "cookies": request.COOKIES,
        "agent": request.headers["User-Agent"], "double": request.headers["X-Double"],
        "meta": {key: request.META[key] for key in ("REMOTE_ADDR", "QUERY_STRING", "HTTP_X_DOUBLE", "REQUEST_METHOD")},
        "content_type": request.content_type,
    })


async def form(request):
    return JsonResponse({
        "post": dict(request.POST.lists()),
        "files": {name: file.read().decode() for name, file in request.FILES.items()},
        "size": len(request.body), "content_type": request.content_type,
    })


async def raw(request):
    return HttpResponse(request.body, content_type="application/octet-stream")


async def report(request, **params):
    return JsonResponse({"params": {name: [type(value).__name__, value] for name, value in params.items()},
                         "view_name": request.resolver_match.view_name})


async def urls(request):
    return JsonResponse({
        "home": reverse("home", kwargs={"id": "7"}),
        "report": reverse("report", args=[2024, "q1"]),
        "included": reverse("api:item", kwargs={"id": 5}),
        "proxied": reverse("b"),
        "resolved": [resolve("/home/7").view_name, resolve("/reports/2024/q1/").view_name],
        "kwargs": [resolve("/home/7").kwargs, resolve("/reports/2024/q1/").kwargs],
    })


class Item(View):
    async def get(self, request, id):
        return JsonResponse({"item": id})

    async def post(self, request, id):
        return JsonResponse({"posted": request.body.decode()}, status=201)


# -- synchronous ones

gate, second = threading.Event(), threading.Event()


def blocks(request):
    opened = gate.wait(20)
    return JsonResponse({"opened": opened, "thread": threading.current_thread() is threading.main_thread()})


async def opens(request, which):
    {"gate": gate, "second": second}[which].set()
    return HttpResponse("open")


def plain(request, name):
    return HttpResponse(f"{name}: {request.method} {request.body.decode()}")


def plain_fails(request):
    raise ValueError("a secret of the synchronous view")


@require_GET
async def only_get(request):
    return HttpResponse("got")


# -- failures


async def fails(request, kind):
    if kind == "none":
        return None
    if kind == "text":
        return "a str is no response"
    if kind == "cancelled":
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task
    if kind == "exit":
        sys.exit("a secret exit")
    raise {
        "http404": Http404("a secret of Http404"),
        "denied": PermissionDenied("a secret of PermissionDenied"),
        "bad": BadRequest("a secret of BadRequest"),
        "suspicious": SuspiciousOperation("a secret of SuspiciousOperation"),
        "runtime": RuntimeError("a secret of RuntimeError"),
        "key": KeyError("a secret key"),
        "timeout": TimeoutError("a secret of TimeoutError"),
    }[kind]


async def body_too_soon(request):
    return HttpResponse(request.body)


# -- answers


async def cookies(request):
    response = HttpResponse("cookies", headers={"X-Own": "1"})
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2", samesite="Lax")
    response.delete_cookie("c")
    return response


async def answers(request, kind):
    async def pieces():
        for piece in ("one ", "two ", "three"):
            yield piece
            await asyncio.sleep(0)

    def sync_pieces():
        yield b"one "
        yield b"loop " if threading.current_thread() is threading.main_thread() else b"thread "
        yield b"end"

    def sync_waits():
        yield b"first "
        yield b"opened" if second.wait(20) else b"late"

    async def broken():
        yield "one "
        raise RuntimeError("a secret in the middle")

    async def endless():
        try:
            while True:
                yield "tick "
                await asyncio.sleep(0.02)
        finally:
            left.append("endless")

    if kind == "file":
        return FileResponse(Path("file.txt").open("rb"), as_attachment=True)
    return {
        "json": lambda: JsonResponse({"a": [1, None, "\\u00fc"]}),
        "async": lambda: StreamingHttpResponse(pieces(), content_type="text/plain"),
        "sync": lambda: StreamingHttpResponse(sync_pieces()),
        "sync-waits": lambda: StreamingHttpResponse(sync_waits()),
        "broken": lambda: StreamingHttpResponse(broken()),
        "endless": lambda: StreamingHttpResponse(endless()),
        "redirect": lambda: HttpResponseRedirect("/elsewhere"),
        "not-modified": lambda: HttpResponseNotModified(),
        "empty": lambda: HttpResponse(status=204),
        "latin": lambda: HttpResponse("gr\\u00fc\\u00dfe", content_type="text/plain; charset=latin-1"),
        "ours": lambda: GatewayResponse(201, [(b"x-twice", b"1"), (b"x-twice", b"2")], b"ours"),
        "teapot": lambda: HttpResponse("short", status=418),
        "own-server": lambda: HttpResponse("x", headers={"Server": "own", "X-Request-ID": "other", "Via": "1.0 own"}),
        "length": lambda: HttpResponse("four", headers={"Content-Length": "4"}),
    }[kind]()


# -- streaming requests, and clients that leave

left = []
here = []


async def echo(request):
    async def chunks():
        async for chunk in request.stream():
            yield b"got " + chunk

    return GatewayResponse(200, [], chunks())


async def reads(request):
    body = await request.read_body()
    return JsonResponse({"size": len(body), "again": len(request.body), "post": dict(request.POST.lists())})


async def waits(request, name):
    here.append(name)
    try:
        await asyncio.Event().wait()  # for ever
    except asyncio.CancelledError:
        left.append("cancelled " + name)
        raise
    finally:
        left.append(name)


async def who(request):
    return JsonResponse({"here": here, "left": left})


async def says(request):
    logging.getLogger("team.views").warning("a %s word", "wise", extra={"x": 1})
    return HttpResponse("said")


api = [path("items/<int:id>", Item.as_view(), name="item")]

urlpatterns = [
    *from_environment(),
    route("GET /home/{id}", home),
    route("/urls", urls),
    route("/fails/{kind}", fails),
    route("/cookies", cookies),
    route("/answers/{kind}", answers),
    route("/echo", echo),
    route("POST,GET /reads", reads),
    route("/soon", body_too_soon),
    route("/waits/{name}", waits),
    route("/who", who),
    route("/says", says),
    route("/plain/{name}", plain),
    route("/slow/**", proxy("b:/**", timeout="100ms"), name="slow"),
    path("form/", form),
    path("raw/", raw),
    path("blocks/", blocks),
    path("opens/<str:which>", opens),
    path("plain-fails/", plain_fails),
    path("only-get/", only_get),
    path("django-waits/<str:name>", waits),
    path("reports/<int:year>/<slug:quarter>/", report, name="report"),
    re_path(r"^codes/(?P<code>[A-Z]{3})$", report, name="code"),
    path("api/", include((api, "api"))),
    path("py/<path:rest>", proxy("b:/from-django"), name="py"),
]
"""

# What the start warns of, beside the line of each.
SYNCHRONOUS = ["plain()", "blocks()", "plain_fails()"]
FORM = "Content-Type: application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as silent:
        yield silent


@pytest.fixture(scope="module")
def gateway(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    (folder / "file.txt").write_text("what stands in the file", encoding="utf-8")
    environment = {"GATEWAY_UPSTREAM_B": upstream.url, "GATEWAY_ROUTE_B": "/b/** -> b"}
    with Gateway(environment, cwd=folder) as running:
        yield running
    plain = [line.partition(": warning: ")[2] for line in running.errors]
    assert all("is synchronous" in line and "legacy(" in line for line in plain), running.errors
    assert [line.split(" ")[1] for line in plain] == SYNCHRONOUS
    assert [line for line in running.log if line["event"] == "library" and line["logger"] != "team.views"] == []


def post(gateway: Gateway, target: str, body: bytes, *fields: str) -> Answer:
    return gateway.ask(request_bytes("POST", target, f"Content-Length: {len(body)}", *fields, body=body))


def line_of(gateway: Gateway, answer: Answer) -> dict[str, Any]:
    return gateway.request_line(answer.one("x-request-id"))


# -- what a view sees -------------------------------------------------------------------------------------------------


def test_a_view_sees_the_request_as_django_has_it(gateway: Gateway) -> None:
    answer = gateway.get(
        "/home/a%20b?x=1&x=%C3%BC&y=",
        "User-Agent: test",
        "X-Double: 1",
        "X-Double: 2",
        "X_Double: 3",
        "Cookie: c=1; d=%20",
        "Cookie: e=2",
        "Content-Type: text/plain; charset=utf-8",
    )
    assert answer.status == 200, answer
    assert answer.json() == {
        "id": "a b",
        "method": "GET",
        "path": "/home/a b",
        "path_info": "/home/a b",
        "raw_path": "/home/a%20b",
        "full_path": "/home/a%20b?x=1&x=%C3%BC&y=",
        "host": "gateway.test",
        "absolute": "http://gateway.test/home/a%20b?x=1&x=%C3%BC&y=",
        "secure": False,
        "get": {"x": ["1", "ü"], "y": [""]},
        "cookies": {"c": "1", "d": "%20", "e": "2"},
        "agent": "test",
        "double": "1,2",
        "meta": {
            "REMOTE_ADDR": "127.0.0.1",
            "QUERY_STRING": "x=1&x=%C3%BC&y=",
            "HTTP_X_DOUBLE": "1,2",
            "REQUEST_METHOD": "GET",
        },
        "content_type": "text/plain",
    }
    line = line_of(gateway, answer)
    assert (line["route"], line["status"], line["path"]) == ("home", 200, "/home/a%20b")


def test_get_implies_head_without_a_body(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        for method in ("HEAD", "GET"):  # on one connection: a body of HEAD would be read as the next answer
            wire.send(request_bytes(method, "/home/1", "User-Agent: test", "X-Double: 1"))
            answer = wire.read_answer(method)
            assert answer.status == 200
            assert answer.has("content-length")
        assert answer.json()["method"] == "GET"


def test_a_path_view_has_the_body_and_the_form(gateway: Gateway) -> None:
    body = b"a=1&a=2&b=%C3%BC"
    assert post(gateway, "/form/", body, FORM).json() == {
        "post": {"a": ["1", "2"], "b": ["ü"]},
        "files": {},
        "size": len(body),
        "content_type": "application/x-www-form-urlencoded",
    }


def test_a_path_view_has_files(gateway: Gateway) -> None:
    body = (
        b'--cut\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--cut\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nin the file\r\n--cut--\r\n'
    )
    answer = post(gateway, "/form/", body, "Content-Type: multipart/form-data; boundary=cut")
    assert (answer.json()["post"], answer.json()["files"]) == ({"a": ["1"]}, {"f": "in the file"})


def test_a_path_view_has_a_chunked_body(gateway: Gateway) -> None:
    answer = gateway.ask(
        request_bytes("POST", "/raw/", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    )
    assert (answer.status, answer.body) == (200, b"abcde")
    assert line_of(gateway, answer)["bytes_in"] == 5


@pytest.mark.parametrize(
    ("target", "params", "name"),
    [
        ("/reports/2024/q-1/", {"year": ["int", 2024], "quarter": ["str", "q-1"]}, "report"),
        ("/codes/ABC", {"code": ["str", "ABC"]}, "code"),
    ],
)
def test_path_converters(gateway: Gateway, target: str, params: dict[str, Any], name: str) -> None:
    answer = gateway.get(target)
    assert answer.json() == {"params": params, "view_name": name}
    assert line_of(gateway, answer)["route"] == name


@pytest.mark.parametrize("target", ["/reports/abcd/q/", "/codes/abc", "/reports/2024/q", "/api/items/x", "/api/"])
def test_what_no_converter_takes_is_not_found(gateway: Gateway, target: str) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.json()["reason"]) == (404, "route_not_found")


def test_included_class_based_views(gateway: Gateway) -> None:
    assert gateway.get("/api/items/5").json() == {"item": 5}
    answer = post(gateway, "/api/items/5", b"new")
    assert (answer.status, answer.json()) == (201, {"posted": "new"})
    refused = gateway.ask(request_bytes("DELETE", "/api/items/5"))
    assert (refused.status, refused.one("allow")) == (405, "GET, POST, HEAD, OPTIONS")


def test_decorators_of_django(gateway: Gateway) -> None:
    assert gateway.get("/only-get/").body == b"got"
    assert post(gateway, "/only-get/", b"").status == 405


def test_reverse_and_resolve_know_every_line(gateway: Gateway) -> None:
    assert gateway.get("/urls").json() == {
        "home": "/home/7",
        "report": "/reports/2024/q1/",
        "included": "/api/items/5",
        "proxied": "/b",
        "resolved": ["home", "report"],
        "kwargs": [{"id": "7"}, {"year": 2024, "quarter": "q1"}],
    }


# -- synchronous views ------------------------------------------------------------------------------------------------


def test_a_synchronous_view_blocks_nobody(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/blocks/"))
        assert gateway.get("/-/live").status == 200
        assert gateway.get("/opens/gate").body == b"open"
        assert wire.read_answer().json() == {"opened": True, "thread": False}


def test_a_synchronous_view_by_route_has_the_body(gateway: Gateway) -> None:
    answer = post(gateway, "/plain/%C3%BC", b"hello")
    assert answer.body.decode() == "ü: POST hello"
    assert line_of(gateway, answer)["route"] == "plain"


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/fails/http404", 404, "view_not_found"),
        ("/fails/denied", 403, "request_denied"),
        ("/fails/bad", 400, "request_invalid"),
        ("/fails/suspicious", 400, "request_invalid"),
        ("/fails/runtime", 500, "view_error"),
        ("/fails/key", 500, "view_error"),
        ("/fails/timeout", 500, "view_error"),
        ("/fails/none", 500, "view_error"),
        ("/fails/text", 500, "view_error"),
        ("/fails/cancelled", 500, "view_error"),
        ("/fails/exit", 500, "view_error"),
        ("/plain-fails/", 500, "view_error"),
        ("/soon", 500, "view_error"),
    ],
)
def test_a_failure_is_a_problem_and_its_text_stays_inside(
    gateway: Gateway, target: str, status: int, reason: str
) -> None:
    body = b"something"
    answer = post(gateway, target, body)
    assert (answer.status, answer.one("content-type")) == (status, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["reason"]) == (status, reason)
    assert problem["request_id"] == answer.one("x-request-id")
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body
    line = line_of(gateway, answer)
    assert (line["status"], line["reason"]) == (status, reason)
    if status == 500:
        assert line["level"] == "error"
        assert "Error" in line["cause"] or "Exception" in line["cause"] or "SystemExit" in line["cause"]
        if target not in {"/fails/none", "/fails/text"}:
            assert "routes.py" in line["cause"]
        if target in {"/fails/runtime", "/plain-fails/"}:
            assert "a secret of" in line["cause"]
    assert gateway.get("/-/live").status == 200


def test_a_stream_that_fails_is_a_broken_transfer(gateway: Gateway) -> None:
    answer = gateway.get("/answers/broken")
    assert (answer.status, answer.body, answer.broke_off) == (200, b"one ", True)
    line = line_of(gateway, answer)
    assert (line["status"], line["reason"], line["bytes_out"]) == (200, "view_error", 4)
    assert "a secret in the middle" in line["cause"]


# -- answers ----------------------------------------------------------------------------------------------------------


def test_every_cookie_arrives(gateway: Gateway) -> None:
    answer = gateway.get("/cookies")
    assert [cookie.partition(";")[0] for cookie in answer.all("set-cookie")] == ["a=1", "b=2", 'c=""']
    assert "HttpOnly" in answer.all("set-cookie")[0]
    assert (answer.one("x-own"), answer.body) == ("1", b"cookies")


@pytest.mark.parametrize(
    ("kind", "status", "body", "content_type"),
    [
        ("json", 200, b'{"a": [1, null, "\\u00fc"]}', "application/json"),
        ("async", 200, b"one two three", "text/plain"),
        ("sync", 200, b"one thread end", "text/html; charset=utf-8"),
        ("file", 200, b"what stands in the file", "text/plain"),
        ("redirect", 302, b"", "text/html; charset=utf-8"),
        ("latin", 200, "grüße".encode("latin-1"), "text/plain; charset=latin-1"),
        ("teapot", 418, b"short", "text/html; charset=utf-8"),
        ("length", 200, b"four", "text/html; charset=utf-8"),
    ],
)
def test_an_answer_of_django_arrives(gateway: Gateway, kind: str, status: int, body: bytes, content_type: str) -> None:
    answer = gateway.get(f"/answers/{kind}")
    assert (answer.status, answer.body, answer.one("content-type")) == (status, body, content_type)
    assert not answer.broke_off
    assert answer.has("x-request-id")
    assert answer.one("via") == "1.1 portway"
    line = line_of(gateway, answer)
    assert (line["status"], line["reason"], line["bytes_out"], "cause" in line) == (status, None, len(body), False)


def test_a_synchronous_stream_leaves_piece_by_piece(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/answers/sync-waits"))
        answer = wire.read_head()
        assert wire.read_body(answer, at_least=6) == b"first "
        assert gateway.get("/opens/second").status == 200
        assert wire.read_body(answer) == b"first opened"


def test_a_file_has_its_length_and_name(gateway: Gateway) -> None:
    answer = gateway.get("/answers/file")
    assert answer.one("content-length") == "23"
    assert answer.one("content-disposition") == 'attachment; filename="file.txt"'


@pytest.mark.parametrize(("kind", "status"), [("empty", 204), ("not-modified", 304)])
def test_an_answer_without_a_body(gateway: Gateway, kind: str, status: int) -> None:
    with gateway.connect() as wire:
        for _ in range(2):
            wire.send(request_bytes("GET", f"/answers/{kind}"))
            assert wire.read_answer().status == status


def test_an_answer_of_ours_keeps_repeated_fields(gateway: Gateway) -> None:
    answer = gateway.get("/answers/ours")
    assert (answer.status, answer.all("x-twice"), answer.body) == (201, ["1", "2"], b"ours")


def test_a_view_may_name_its_server_but_not_the_request_id(gateway: Gateway) -> None:
    answer = gateway.get("/answers/own-server", "X-Request-ID: mine")
    assert (answer.one("server"), answer.one("x-request-id")) == ("own", "mine")
    assert answer.all("via") == ["1.0 own", "1.1 portway"]


# -- bodies that stream -----------------------------------------------------------------------------------------------


def test_a_view_gets_the_first_chunk_before_the_upload_is_complete(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/echo", "Transfer-Encoding: chunked", body=b"3\r\none\r\n"))
        answer = wire.read_head()
        assert wire.read_body(answer, at_least=7) == b"got one"
        wire.send(b"3\r\ntwo\r\n")
        assert wire.read_body(answer, at_least=14) == b"got onegot two"
        wire.send(b"0\r\n\r\n")
        assert wire.read_body(answer) == b"got onegot two"
        assert not answer.broke_off
    line = line_of(gateway, answer)
    assert (line["bytes_in"], line["bytes_out"], line["reason"]) == (6, 14, None)


def test_read_body_gives_all_of_it_and_then_django_has_it_too(gateway: Gateway) -> None:
    body = b"a=1&rest=" + b"x" * 200_000
    answer = post(gateway, "/reads", body, FORM)
    assert answer.json() == {"size": len(body), "again": len(body), "post": {"a": ["1"], "rest": ["x" * 200_000]}}
    assert gateway.get("/reads").json() == {"size": 0, "again": 0, "post": {}}


@pytest.mark.parametrize("target", ["/raw/", "/reads", "/plain/x"])
def test_a_body_over_the_default_limit_is_refused(gateway: Gateway, target: str) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", target, f"Content-Length: {11 * 1024 * 1024}"))
        with contextlib.suppress(ConnectionError):  # it need not take all of it
            wire.send(b"x" * (11 * 1024 * 1024))
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (413, "client_body_too_large")


def test_an_upload_that_breaks_off_is_an_error_of_the_client(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("POST", "/reads", "X-Request-ID: broken-upload", "Content-Length: 10", body=b"half"))
        wire.close()
    line = gateway.request_line("broken-upload")
    assert (line["status"], line["reason"], line["bytes_in"]) == (499, "client_body_broken", 4)


# -- clients that leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/waits/one", "/django-waits/two"])
def test_a_client_that_leaves_cancels_the_view(gateway: Gateway, target: str) -> None:
    name = target.rpartition("/")[2]
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", target, f"X-Request-ID: leaves-{name}"))
        eventually(lambda: name in gateway.get("/who").json()["here"])
    eventually(lambda: {name, f"cancelled {name}"} <= set(gateway.get("/who").json()["left"]), 2)
    line = gateway.request_line(f"leaves-{name}")
    assert (line["status"], line["reason"], line["level"]) == (499, "client_gone", "info")


def test_a_client_that_leaves_ends_a_stream(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/answers/endless", "X-Request-ID: leaves-endless"))
        wire.read_body(wire.read_head(), at_least=15)
    eventually(lambda: "endless" in gateway.get("/who").json()["left"], 2)
    line = gateway.request_line("leaves-endless")
    assert (line["status"], line["reason"]) == (499, "client_gone")


# -- proxying from Python ---------------------------------------------------------------------------------------------


def test_proxy_in_routes_has_its_own_options(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.get("/slow/never")
    assert (answer.status, answer.json()["reason"]) == (504, "response_timeout")
    assert upstream.wait_for_request("/never").start == "GET /never HTTP/1.1"
    line = line_of(gateway, answer)
    assert (line["route"], line["upstream"]) == ("slow", "b")
    assert line["ms"] < 2000


def test_proxy_under_djangos_path(gateway: Gateway, upstream: Upstream) -> None:
    with gateway.connect() as wire:
        body = b"hello"
        wire.send(request_bytes("POST", "/py/x?y=1", f"Content-Length: {len(body)}", body=body))
        request = upstream.wait_for_request("/from-django")
        eventually(lambda: request.is_whole)
        assert (request.start, request.body) == ("POST /from-django?y=1 HTTP/1.1", body)
        request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nok")
        answer = wire.read_answer()
        assert (answer.status, answer.body, answer.all("x-a")) == (200, b"ok", ["1", "2"])


# -- the rest of ASGI -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status", "reason"),
    [
        ("/urls", 501, "websocket_unsupported"),
        ("/-/live", 501, "websocket_unsupported"),
        ("/nothing", 404, "route_not_found"),
    ],
)
def test_a_websocket_is_refused_with_a_word(gateway: Gateway, target: str, status: int, reason: str) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", target, *fields))
        answer = wire.read_answer()
    assert (answer.status, answer.one("content-type")) == (status, "application/problem+json")
    assert answer.json()["reason"] == reason
    line = line_of(gateway, answer)
    assert (line["status"], line["reason"], line["path"]) == (status, reason, target)


def test_a_client_that_leaves_during_its_handshake_is_no_error_of_ours(gateway: Gateway, upstream: Upstream) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    fields = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/slow/leaves", *fields))
        upstream.wait_for_request("/leaves")
    line = gateway.wait_for_log(lambda line: line.get("path") == "/slow/leaves")
    assert (line["event"], line["reason"], line["bytes_out"]) == ("request", "response_timeout", 0)


def test_what_a_view_logs_carries_the_request_id(gateway: Gateway) -> None:
    answer = gateway.get("/says", "X-Request-ID: says-1")
    line = gateway.wait_for_log(lambda line: line.get("logger") == "team.views")
    assert (line["event"], line["level"], line["message"]) == ("app.log", "warning", "a wise word")
    assert (line["request_id"], answer.body) == ("says-1", b"said")


def test_the_worker_outlived_all_this(gateway: Gateway) -> None:
    assert [line for line in gateway.log if line["level"] == "error" and line["event"] != "request"] == []
    assert len(gateway.workers) == 1
