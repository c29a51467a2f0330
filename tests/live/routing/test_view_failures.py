"""What a view's code raises, returns and promises, wherever it runs: an answer, a log line, a worker that lives."""

import re
from collections.abc import Iterator

import pytest

from tests.live.harness import Answer, Gateway, Request, Upstream, request_bytes

ROUTES = """
import asyncio
import io
import sys
from typing import Annotated

import msgspec
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.urls import path

from gateway.messages import GatewayResponse
from gateway.routing import cached, fanout, fetch, from_environment, legacy, part, proxy, route

# -- what is raised


class Odd(BaseException):
    pass


def fails(kind):
    if kind == "exit":
        sys.exit("a secret")
    if kind == "recursion":
        fails(kind)
    if kind == "itself":
        asyncio.current_task().cancel()
        return
    raise {
        "keyboard": KeyboardInterrupt("a secret"),
        "generator": GeneratorExit("a secret"),
        "stop": StopIteration("a secret"),
        "async-stop": StopAsyncIteration("a secret"),
        "cancelled": asyncio.CancelledError("a secret"),
        "group": BaseExceptionGroup("a secret", [SystemExit(1), ValueError()]),
        "memory": MemoryError("a secret"),
        "odd": Odd("a secret"),
    }[kind]


async def asynchronous(request, kind):
    fails(kind)
    await asyncio.sleep(0)


def synchronous(request, kind):
    fails(kind)


def old(kind):
    fails(kind)


@fanout
async def typed(kind: str, x: Annotated[dict, part("u:/json")]):
    fails(kind)
    await asyncio.sleep(0)


kinds = []


class Picky(msgspec.Struct):
    a: int

    def __post_init__(self):
        fails(kinds[-1])


@fanout
async def decoded(request, kind: str, x: Annotated[Picky, part("u:/json")]):
    return {}


async def choose(request, kind):
    kinds.append(kind)
    return HttpResponse()


@fanout
async def of_function(kind: str, x: Annotated[dict, part(legacy(old, name="parts"))]):
    return {}


async def tasks(request, kind):
    async def task():
        fails(kind)
        await asyncio.sleep(0)

    await asyncio.gather(task(), asyncio.sleep(0))


# -- what is raised in the middle of an answer


async def ours(request, kind):
    async def body():
        yield b"one "
        fails(kind)
        await asyncio.sleep(0)

    return GatewayResponse(200, [], body())


async def djangos(request, kind):
    return StreamingHttpResponse((await ours(request, kind)).body)


class Body:
    def __init__(self, kind):
        self.kind, self.number = kind, 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.number += 1
        if self.number > 1:
            fails(self.kind)
            await asyncio.sleep(0)
        return b"one "


async def by_hand(request, kind):
    return GatewayResponse(200, [], Body(kind))


def steps(request, kind):
    def body():
        yield b"one "
        fails(kind)

    return StreamingHttpResponse(body())


def old_steps(kind):
    return steps(None, kind)


# -- what nobody waits for


async def later(request, kind):
    asyncio.get_running_loop().call_soon(fails, kind)
    asyncio.get_running_loop().create_task(asynchronous(request, kind)).add_done_callback(lambda task: task.exception())
    await asyncio.sleep(0.01)
    return HttpResponse("fine")


async def closes(request, kind):
    response = HttpResponse("fine")
    response._resource_closers.append(lambda: fails(kind))
    return response


# -- what is returned


class Answer(SimpleTemplateResponse):
    def __init__(self, data):
        super().__init__(None, content_type="application/json")
        self.data = data
        self.add_post_render_callback(lambda response: response.headers.setdefault("X-After", "1"))

    @property
    def rendered_content(self):
        import threading

        assert threading.current_thread() is not threading.main_thread()
        return msgspec.json.encode(self.data)


class User(msgspec.Struct):
    id: int


RESULTS = {
    "none": lambda: None,
    "text": lambda: "a text",
    "number": lambda: 7,
    "tuple": lambda: ({"a": 1}, 201),
    "coroutine": lambda: asyncio.sleep(0),
    "rendered": lambda: Answer({"a": 1}),
    "dict": lambda: {"a": 1},
    "struct": lambda: User(1),
}


async def returns(request, kind):
    return RESULTS[kind]()


def returns_from_thread(request, kind):
    return RESULTS[kind]()


def old_returns(kind):
    return RESULTS[kind]()


@fanout
async def typed_returns(kind: str, x: Annotated[dict, part("u:/json")]):
    return RESULTS[kind]()


# -- what is promised


async def pieces(*pieces):
    for piece in pieces:
        yield piece


PROMISES = {
    "long": lambda: GatewayResponse(200, [(b"content-length", b"3")], b"12345"),
    "long-upper": lambda: GatewayResponse(200, [(b"Content-Length", b"3")], b"12345"),
    "long-django": lambda: HttpResponse("12345", headers={"Content-Length": "3"}),
    "twice": lambda: GatewayResponse(200, [(b"content-length", b"3"), (b"content-length", b"5")], b"12345"),
    "odd": lambda: GatewayResponse(200, [(b"content-length", b"+5")], b"12345"),
    "chunked": lambda: GatewayResponse(200, [(b"transfer-encoding", b"chunked"), (b"content-length", b"5")], b"12345"),
    "short": lambda: GatewayResponse(200, [(b"content-length", b"9")], b"12345"),
    "short-django": lambda: HttpResponse("12345", headers={"Content-Length": "9"}),
    "line": lambda: GatewayResponse(200, [(b"x-a", b"1\\r\\nx-evil: 1")], b"12345"),
    "name": lambda: GatewayResponse(200, [(b"x-a: 1\\r\\nx-evil", b"1")], b"12345"),
    "cookie": lambda: cookie(),
    "body": lambda: GatewayResponse(200, [], "12345"),
    "stream-twice": lambda: GatewayResponse(200, [(b"content-length", b"9"), (b"content-length", b"5")], pieces(b"1")),
    "stream-long": lambda: GatewayResponse(200, [(b"content-length", b"3")], pieces(b"12", b"345")),
    "stream-short": lambda: GatewayResponse(200, [(b"content-length", b"9")], pieces(b"12", b"345")),
    "stream-text": lambda: GatewayResponse(200, [], pieces(b"12", "345")),
    "django-long": lambda: StreamingHttpResponse(iter([b"12", b"345"]), headers={"Content-Length": "3"}),
    "django-short": lambda: StreamingHttpResponse(pieces(b"12", b"345"), headers={"Content-Length": "9"}),
    "file-short": lambda: short_file(),
    "empty": lambda: GatewayResponse(204, [(b"content-length", b"5")]),
    "empty-body": lambda: HttpResponse("12345", status=204, headers={"Content-Length": "5"}),
    "empty-stream": lambda: GatewayResponse(204, [(b"content-length", b"5")], endless()),
    "not-modified": lambda: GatewayResponse(304, [(b"content-length", b"5"), (b"etag", b'"a"')]),
    "not-modified-stream": lambda: GatewayResponse(304, [(b"content-length", b"5")], endless()),
    "endless": lambda: GatewayResponse(200, [], endless()),
}


def cookie():
    response = HttpResponse()
    response.set_cookie("a", "1", path="/\\r\\nx-evil: 1")
    return response


def short_file():
    response = FileResponse(io.BytesIO(b"12345"))
    response["Content-Length"] = "9"
    return response


async def endless():
    while True:
        yield b"12345"
        await asyncio.sleep(0)


async def promises(request, kind):
    return PROMISES[kind]()


def old_promises(kind):
    return PROMISES[kind]()


@fanout
async def typed_promises(kind: str, x: Annotated[dict, part("u:/json")]):
    return PROMISES[kind]()


up = proxy("u:/five")


async def changed(request, kind):
    response = await up(request)
    response.content = {"longer": b"12345678", "shorter": b"12"}[kind]
    return response


async def handed_on(request):
    fetched = await fetch("u:/chunked")
    return GatewayResponse(fetched.status, list(fetched.pairs), fetched.body)


async def other(request):
    return HttpResponse("other")


VIEWS = {
    "asynchronous": asynchronous, "synchronous": synchronous, "old": legacy(old), "typed": typed, "decoded": decoded,
    "of-function": of_function, "tasks": tasks, "later": later, "closes": closes,
    "ours": ours, "djangos": djangos, "by-hand": by_hand, "steps": steps, "old-steps": legacy(old_steps),
    "returns": returns, "returns-from-thread": returns_from_thread, "old-returns": legacy(old_returns),
    "typed-returns": typed_returns,
    "promises": promises, "old-promises": legacy(old_promises), "typed-promises": typed_promises, "changed": changed,
}
CACHED = ["asynchronous", "synchronous", "typed", "ours", "djangos", "by-hand", "steps", "returns", "promises"]

urlpatterns = [
    *from_environment(),
    *(route(f"GET /{name}/{{kind}}", view, name=name) for name, view in VIEWS.items()),
    *(route(f"GET /cached/{name}/{{kind}}", cached(VIEWS[name], "60s"), name=f"cached-{name}") for name in CACHED),
    route("GET /cached/old/{kind}", cached(legacy(old, name="olds"), "60s"), name="cached-old"),
    path("django/asynchronous/<str:kind>", asynchronous),
    path("django/synchronous/<str:kind>", synchronous),
    path("django/returns/<str:kind>", returns),
    path("django/promises/<str:kind>", promises),
    route("GET /handed-on", handed_on),
    route("GET /other", other),
    route("GET /choose/{kind}", choose),
]
"""

KINDS = [
    "exit",
    "keyboard",
    "generator",
    "stop",
    "async-stop",
    "cancelled",
    "group",
    "recursion",
    "memory",
    "odd",
    "itself",
]
# Where there is no task that could cancel itself.
IN_THREADS = {"synchronous", "old", "steps", "old-steps", "of-function", "decoded", "closes"}
EMPTY = ["empty", "empty-body", "empty-stream", "not-modified", "not-modified-stream"]


class Service(Upstream):
    def on_request(self, request: Request) -> None:
        is_head = request.start.startswith("HEAD ")
        if request.target == "/chunked":
            request.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        elif request.target == "/five":
            request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + (b"" if is_head else b"12345"))
        elif request.target == "/nothing":
            request.send(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\nCache-Control: max-age=60\r\n\r\n")
        elif request.target == "/not-modified":
            request.send(b'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "a"\r\n\r\n')
        else:
            request.send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}')


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Service() as service:
        environment = {
            "GATEWAY_UPSTREAM_U": service.url,
            "GATEWAY_ROUTE_NOTHING": "/nothing -> u",
            "GATEWAY_ROUTE_CACHED_NOTHING": "/cached-nothing -> u:/nothing",
            "GATEWAY_ROUTE_CACHED_NOTHING__CACHE": "on",
            "GATEWAY_ROUTE_NOT_MODIFIED": "/not-modified -> u",
        }
        with Gateway(environment, cwd=folder) as running:
            workers = running.workers
            yield running
            assert running.workers == workers  # it outlived all this


def cause_of(gateway: Gateway, answer: Answer) -> str:
    """What the log says of an answer that failed in a view's code."""
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["reason"], line["level"]) == ("view_error", "error"), line
    return str(line["cause"])


# -- what is raised ---------------------------------------------------------------------------------------------------

WHOLE = ["asynchronous", "synchronous", "old", "typed", "decoded", "of-function", "tasks"]
WHOLE += [f"cached/{name}" for name in ("asynchronous", "synchronous", "old", "typed")]
WHOLE += ["django/asynchronous", "django/synchronous"]
STREAMS = ["ours", "djangos", "by-hand", "steps", "old-steps"]
STREAMS += [f"cached/{name}" for name in ("ours", "djangos", "by-hand", "steps")]


def cases(places: list[str]) -> list[tuple[str, str]]:
    """What may be raised where: nothing in a thread cancels its own task, and StopAsyncIteration ends a body."""
    every = [(place, kind, place.rpartition("/")[2]) for place in places for kind in KINDS]
    left_out = {*((name, "itself") for name in IN_THREADS), ("by-hand", "async-stop")}
    return [(place, kind) for place, kind, name in every if (name, kind) not in left_out]


@pytest.mark.parametrize(("place", "kind"), cases(WHOLE))
def test_whatever_a_view_raises_is_a_500(gateway: Gateway, place: str, kind: str) -> None:
    if place == "decoded":
        gateway.get(f"/choose/{kind}")
    answer = gateway.get(f"/{place}/{kind}")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error"), answer
    assert b"secret" not in answer.body
    assert "Traceback" in cause_of(gateway, answer)


@pytest.mark.parametrize(("place", "kind"), cases(STREAMS))
def test_whatever_a_body_raises_breaks_the_answer_off(gateway: Gateway, place: str, kind: str) -> None:
    for _ in range(2):  # and what broke off is not stored
        answer = gateway.get(f"/{place}/{kind}")
        assert (answer.status, answer.body, answer.broke_off) == (200, b"one ", True), answer
        assert "Traceback" in cause_of(gateway, answer)


@pytest.mark.parametrize("kind", ["exit", "keyboard", "odd"])
@pytest.mark.parametrize("place", ["later", "closes"])
def test_what_fails_beside_an_answer_ends_nobody(gateway: Gateway, place: str, kind: str) -> None:
    assert gateway.get(f"/{place}/{kind}").body == b"fine"
    if place == "later" and kind != "odd":
        gateway.wait_for_log(lambda line: line["event"] == "loop.exit_refused")


def test_a_view_that_exits_fails_no_other_request(gateway: Gateway) -> None:
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/endless/x", "X-Request-ID: beside"))  # no route: it only holds a connection
        assert wire.read_answer().status == 404
        for number in range(3):  # misses, each in a task of its own
            assert gateway.get(f"/cached/synchronous/exit?{number}").status == 500
        wire.send(request_bytes("GET", "/other"))
        assert wire.read_answer().body == b"other"


# -- what is returned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "text", "number", "tuple", "coroutine"])
@pytest.mark.parametrize("place", ["returns", "returns-from-thread", "cached/returns", "django/returns"])
def test_what_is_no_answer_is_a_500_whose_cause_names_the_view(gateway: Gateway, place: str, kind: str) -> None:
    answer = gateway.get(f"/{place}/{kind}")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    name = place.rpartition("/")[2].replace("-", "_")
    assert f"TypeError: the view routes.{name} returned " in cause_of(gateway, answer)


@pytest.mark.parametrize("place", ["old-returns", "typed-returns"])
def test_a_coroutine_that_nobody_awaited_is_named_elsewhere_too(gateway: Gateway, place: str) -> None:
    answer = gateway.get(f"/{place}/coroutine")
    assert answer.status == 500
    assert f"routes.{place.replace('-', '_')} returned a coroutine" in cause_of(gateway, answer)
    assert gateway.errors == [line for line in gateway.errors if "never awaited" not in line]


@pytest.mark.parametrize("kind", ["dict", "struct"])
@pytest.mark.parametrize(
    "place", ["returns", "returns-from-thread", "cached/returns", "django/returns", "old-returns", "typed-returns"]
)
def test_a_document_becomes_json(gateway: Gateway, place: str, kind: str) -> None:
    answer = gateway.get(f"/{place}/{kind}")
    assert (answer.status, answer.one("content-type")) == (200, "application/json")
    assert answer.json() == {"dict": {"a": 1}, "struct": {"id": 1}}[kind]


@pytest.mark.parametrize(
    "place", ["returns", "returns-from-thread", "cached/returns", "django/returns", "old-returns", "typed-returns"]
)
def test_a_response_that_renders_itself_is_rendered_in_a_thread(gateway: Gateway, place: str) -> None:
    answer = gateway.get(f"/{place}/rendered")
    assert (answer.status, answer.body, answer.one("x-after")) == (200, b'{"a":1}', "1"), answer


# -- what is promised -------------------------------------------------------------------------------------------------

PLACES = ["promises", "old-promises", "typed-promises", "cached/promises", "django/promises"]


def on_one_connection(gateway: Gateway, target: str, method: str = "GET") -> Answer:
    """An answer, after which the next one on the connection begins where it should."""
    with gateway.connect() as wire:
        wire.send(request_bytes(method, target))
        answer = wire.read_answer(method)
        wire.send(request_bytes("GET", "/other"))
        assert wire.read_answer().body == b"other"
    return answer


@pytest.mark.parametrize("kind", ["long", "long-upper", "long-django", "twice", "odd", "chunked"])
@pytest.mark.parametrize("place", PLACES)
def test_a_whole_body_gets_its_length(gateway: Gateway, place: str, kind: str) -> None:
    for method in ("GET", "HEAD"):
        answer = on_one_connection(gateway, f"/{place}/{kind}", method)
        assert (answer.status, answer.one("content-length")) == (200, "5"), answer
        assert not answer.has("transfer-encoding")
        assert answer.body == (b"12345" if method == "GET" else b"")


@pytest.mark.parametrize("kind", ["short", "short-django", "line", "name", "cookie", "body", "stream-twice"])
@pytest.mark.parametrize("place", PLACES)
def test_what_cannot_be_sent_is_a_500(gateway: Gateway, place: str, kind: str) -> None:
    for _ in range(2):  # it is not stored
        answer = on_one_connection(gateway, f"/{place}/{kind}")
        assert (answer.status, answer.json()["reason"]) == (500, "view_error"), answer
        assert not answer.has("x-evil")
        # A field line is refused where the view makes it, anything else when the view has answered.
        place_of = (
            r"routes\.py\", line \d+, in \w*promises"
            if kind in {"line", "name"}
            else r"routes\.\w*promises answered with"
        )
        assert re.search(place_of, cause_of(gateway, answer))


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("stream-long", b"12"),
        ("stream-short", b"12345"),
        ("stream-text", b"12"),
        ("django-long", b"12"),
        ("django-short", b"12345"),
        ("file-short", b"12345"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_a_stream_that_breaks_its_promise_breaks_off(gateway: Gateway, place: str, kind: str, sent: bytes) -> None:
    for _ in range(2):
        answer = gateway.get(f"/{place}/{kind}")
        assert (answer.status, answer.body, answer.broke_off) == (200, sent, True), answer
        assert "a body" in cause_of(gateway, answer)


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_has_no_body_has_no_length(gateway: Gateway, place: str, kind: str) -> None:
    for method in ("GET", "HEAD"):
        answer = on_one_connection(gateway, f"/{place}/{kind}", method)
        assert (answer.status, answer.has("content-length")) == (204 if kind.startswith("empty") else 304, False)
        assert not answer.has("transfer-encoding")
        assert gateway.request_line(answer.one("x-request-id"))["bytes_out"] == 0


@pytest.mark.parametrize("target", ["/nothing", "/cached-nothing", "/not-modified"])
def test_nor_has_one_of_an_upstream(gateway: Gateway, target: str) -> None:
    for method in ("GET", "HEAD", "GET", "POST"):
        answer = on_one_connection(gateway, target, method)
        assert (answer.status, answer.has("content-length")) == (304 if "mod" in target else 204, False)


def test_a_head_takes_nothing_of_a_stream(gateway: Gateway) -> None:
    answer = on_one_connection(gateway, "/promises/endless", "HEAD")
    assert (answer.status, answer.has("content-length")) == (200, False)


def test_a_wrapper_may_change_what_came_from_an_upstream(gateway: Gateway) -> None:
    for kind, body in (("longer", b"12345678"), ("shorter", b"12")):
        answer = on_one_connection(gateway, f"/changed/{kind}")
        assert (answer.body, answer.one("content-length")) == (body, str(len(body)))


def test_the_fields_of_a_fetch_may_be_handed_on(gateway: Gateway) -> None:
    answer = on_one_connection(gateway, "/handed-on")
    assert (answer.status, answer.body, answer.has("transfer-encoding")) == (200, b"hello", False)
