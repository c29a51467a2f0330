"""Fan-outs and calls in a team's own routes.py: typed parts, fetch(), and what many of them at once leave behind."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from typing_extensions import TypedDict

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway import loading
from gateway.handler import GatewayHandler
from gateway.messages import Message, Scope
from gateway.routing import RouteError, Routes, fanout, part, route

from .harness import Gateway, Refuses, Request, Upstream, eventually
from .stage import Act, message, says, silent, status

ROUTES = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import msgspec
from django.http import JsonResponse

from gateway.errors import GatewayError
from gateway.routing import fanout, fetch, from_environment, part, route


class User(msgspec.Struct):
    name: str
    team_id: int


@dataclass
class Order:
    id: int
    price: float = 0.0


class Team(TypedDict):
    id: int
    label: str


class Home(msgspec.Struct):
    hello: str
    orders: list[Order]
    team: Team | None


@fanout(timeout="2s")
async def home(
    id: str,
    user: Annotated[User, part("u:/user/{id}")],
    orders: Annotated[list[Order], part("u:/orders?user={id}", timeout="200ms", default=[])],
    team: Annotated[Team | None, part("u:/team/{user.team_id}", optional=True)],
) -> Home:
    """The start page."""
    return Home(f"{id}: {user.name}", orders, team)


@fanout
async def kinds(
    struct: Annotated[User, part("u:/struct")],
    data: Annotated[Order, part("u:/data")],
    typed: Annotated[Team, part("u:/typed")],
    many: Annotated[list[Order], part("u:/many")],
    free: Annotated[dict[str, int], part("u:/free")],
    bare: Annotated[Any, part("u:/bare")],
) -> dict[str, Any]:
    said = {"struct": struct, "data": data, "typed": typed, "many": many, "free": free, "bare": bare}
    return {name: [type(value).__name__, value] for name, value in said.items()}


@fanout
async def mapped(
    request,
    orders: Annotated[list[Order], part("u:/orders")],
    items: Annotated[list[Team], part("u:/item/{orders[].id}", headers={"X-Part": "items"})],
) -> Any:
    return {"labels": [item["label"] for item in items], "query": request.GET.get("q"), "count": len(orders)}


@fanout
async def grows(orders: Annotated[list[int], part("dead:/x", default=[])]) -> list[int]:
    orders.append(1)
    return orders


@fanout
async def fails(user: Annotated[Any, part("u:/user/1")]) -> Any:
    raise RuntimeError("a secret of the function")


@fanout
async def response(user: Annotated[Any, part("u:/user/1", optional=True)]) -> Any:
    return JsonResponse({"user": user}, status=203)


@fanout(passes=[404], forward_headers=["x-tenant"])
async def passes(user: Annotated[Any, part("u:/user/1")]) -> Any:
    return user


async def fetched(request, id):
    own = {"X-Own": "1", "authorization": "own"}
    answer = await fetch("u:/x/{id}?q={q}", params={"id": id, "q": "a&b é"}, headers=own)
    return JsonResponse({"status": answer.status, "type": answer.field("content-type"), "json": answer.json()})


async def posted(request):
    answer = await fetch("u:/post", method="POST", json={"é": [1]})
    return JsonResponse({"status": answer.status})


async def raw(request):
    answer = await fetch("u:/put", method="PUT", body=b"raw", headers={"Content-Type": "text/plain"})
    return JsonResponse({"status": answer.status, "body": answer.body.decode()})


async def slow(request):
    await fetch("u:/slow", timeout="100ms")


async def caught(request):
    try:
        await fetch("u:/slow", timeout="100ms")
    except GatewayError as error:
        return JsonResponse({"reason": error.reason.word})


async def decoded(request):
    return JsonResponse({"name": (await fetch("u:/user/1")).decode(User).name})


async def retried(request):
    return JsonResponse({"status": (await fetch("retried:/again")).status})


async def dead(request):
    await fetch("dead:/x")


async def wrong(request, kind):
    try:
        if kind == "unknown":
            await fetch("uu:/x")
        elif kind == "dots":
            await fetch("u:/x/../y")
        elif kind == "encoded":
            await fetch("u:/x/%2e%2E/y")
        elif kind == "value":
            await fetch("u:/x/{id}", params={"id": ".."})
        elif kind == "empty":
            await fetch("u:/x/{id}", params={"id": ""})
        elif kind == "unfilled":
            await fetch("u:/x/{id}")
        elif kind == "space":
            await fetch("u:/x y")
        elif kind == "url":
            await fetch("http://u/x")
        elif kind == "field":
            await fetch("u:/x", headers={"X-A": "a\\r\\nX-B: b"})
        elif kind == "host":
            await fetch("u:/x", headers={"Host": "evil"})
        elif kind == "framing":
            await fetch("u:/x", headers={"Transfer-Encoding": "chunked"})
    except ValueError as error:
        return JsonResponse({"error": str(error)})


urlpatterns = [
    *from_environment(),
    route("GET /home/{id}", home), route("/kinds", kinds), route("/mapped", mapped), route("/fails", fails),
    route("/grows", grows), route("/response", response), route("/passes", passes),
    route("/fetched/{id}", fetched), route("/posted", posted), route("/raw", raw), route("/slow", slow),
    route("/caught", caught), route("/decoded", decoded), route("/retried", retried), route("/dead", dead),
    route("/wrong/{kind}", wrong),
]
'''


def said(body: str, *fields: str) -> Act:
    return says(message("200 OK", body.encode(), "Content-Type: application/json", *fields))


class Scripted(Upstream):
    """Answers by the path, as the test scripted it; else with the target."""

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        super().__init__()

    def on_request(self, request: Request) -> None:
        act = self.acts.get(request.target.partition("?")[0])
        (act or said(json.dumps({"at": request.target})))(request)

    def script(self, acts: dict[str, Act | str]) -> None:
        self.acts |= {path: said(act) if isinstance(act, str) else act for path, act in acts.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        yield scripted


@pytest.fixture
def u(server: Scripted) -> Scripted:
    server.acts.clear()
    server.forget()
    return server


@pytest.fixture(scope="module")
def gateway(server: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, dead = tmp_path_factory.mktemp("typed"), Refuses()
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_UPSTREAM_U": server.url,
        "GATEWAY_UPSTREAM_U__RETRIES": "0",
        "GATEWAY_UPSTREAM_U__HEADER_X_ALL": "all",
        "GATEWAY_UPSTREAM_RETRIED": server.url,
        "GATEWAY_UPSTREAM_DEAD": dead.url,
        "GATEWAY_UPSTREAM_DEAD__RETRIES": "0",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running
    dead.close()


# -- typed parts --------------------------------------------------------------------------------------------------

USER = '{"name":"Ada","team_id":7,"more":1}'


def test_parts_arrive_as_their_types(gateway: Gateway, u: Scripted) -> None:
    u.script(
        {"/user/1": USER, "/orders": '[{"id":1,"price":1.5},{"id":2,"price":3}]', "/team/7": '{"id":7,"label":"é"}'}
    )
    answer = gateway.get("/home/1")
    assert answer.json() == {
        "hello": "1: Ada",
        "orders": [{"id": 1, "price": 1.5}, {"id": 2, "price": 3.0}],
        "team": {"id": 7, "label": "é"},
    }
    assert (answer.one("content-type"), answer.one("gateway-complete")) == ("application/json", "?1")
    assert [one.partition(";ms")[0] for one in answer.one("gateway-parts").split(", ")] == [
        "user;s=200",
        "orders;s=200",
        "team;s=200",
    ]
    line = gateway.request_line(answer.one("x-request-id"))
    assert ([each["part"] for each in line["parts"]], line["route"]) == (["user", "orders", "team"], "home")


def test_every_kind_of_type_is_decoded(gateway: Gateway, u: Scripted) -> None:
    team = '{"id":1,"label":"x"}'
    u.script({"/struct": USER, "/data": '{"id":3}', "/typed": team, "/many": '[{"id":1}]', "/free": '{"a":1}'})
    u.script({"/bare": "[null,1.5]"})
    kinds = {name: kind for name, (kind, _) in gateway.get("/kinds").json().items()}
    assert kinds == {"struct": "User", "data": "Order", "typed": "dict", "many": "list", "free": "dict", "bare": "list"}


def test_a_failed_validation_fails_an_optional_part_alone(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": USER, "/orders": '[{"id":1},{"id":"two"}]', "/team/7": '{"id":7}'})
    answer = gateway.get("/home/1")
    assert (answer.status, answer.json()) == (200, {"hello": "1: Ada", "orders": [], "team": None})
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")
    assert [one.partition(";ms")[0] for one in answer.one("gateway-parts").split(", ")] == [
        "user;s=200",
        "orders;s=200;e=part_invalid",
        "team;s=200;e=part_invalid",
    ]


def test_a_failed_validation_of_a_required_part_names_the_field(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": '{"name":"Ada","team_id":"x"}'})
    problem = gateway.get("/home/1").json()
    assert (problem["status"], problem["reason"], problem["part"]) == (502, "part_invalid", "user")
    assert "$.team_id" in problem["detail"]


def test_a_default_stands_for_a_slow_part(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": USER, "/orders": silent, "/team/7": status(404)})
    answer = gateway.get("/home/1")
    assert answer.json() == {"hello": "1: Ada", "orders": [], "team": None}
    assert "orders;e=response_timeout" in answer.one("gateway-parts")
    assert "team;s=404" in answer.one("gateway-parts")


def test_a_default_is_not_shared_between_requests(gateway: Gateway, u: Scripted) -> None:
    assert [gateway.get("/grows").json() for _ in range(2)] == [[1], [1]]


def test_a_mapped_part_is_a_list_of_its_type(gateway: Gateway, u: Scripted) -> None:
    u.script({"/orders": '[{"id":1},{"id":2},{"id":1}]'})
    u.script({f"/item/{number}": f'{{"id":{number},"label":"l{number}"}}' for number in (1, 2)})
    answer = gateway.get("/mapped?q=x")
    assert answer.json() == {"labels": ["l1", "l2", "l1"], "query": "x", "count": 3}
    assert u.wait_for_request("/item/1").one("x-part") == "items"
    assert not u.wait_for_request("/orders").has("x-part")


def test_a_typed_answer_is_never_a_stream(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": "1"})
    answer = gateway.get("/passes", "Accept: text/event-stream")
    assert (answer.one("content-type"), answer.body) == ("application/json", b"1")


def test_a_function_that_fails_is_a_view_that_fails(gateway: Gateway, u: Scripted) -> None:
    answer = gateway.get("/fails")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    assert b"secret" not in answer.body


def test_a_function_may_return_a_response(gateway: Gateway, u: Scripted) -> None:
    answer = gateway.get("/response")
    assert (answer.status, answer.json(), answer.one("gateway-complete")) == (203, {"user": {"at": "/user/1"}}, "?1")
    u.script({"/user/1": status(500)})
    answer = gateway.get("/response")
    assert (answer.status, answer.json()) == (203, {"user": None})
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")


def test_options_are_those_of_the_environment(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": status(404)})
    answer = gateway.get("/passes", "X-Tenant: acme")
    assert (answer.status, answer.json()["part"]) == (404, "user")
    assert u.wait_for_request("/user/1").one("x-tenant") == "acme"


# -- a test of one's own ------------------------------------------------------------------------------------------


class Person(msgspec.Struct):
    name: str


@dataclass
class Bought:
    id: int


class Page(TypedDict):
    hello: str
    bought: int


@fanout
async def page(
    user: Annotated[Person, part("u:/users/{id}")],
    orders: Annotated[list[Bought], part("u:/orders?user={id}", timeout="300ms", default=[])],
) -> Page:
    """What stands on the page."""
    return {"hello": user.name, "bought": len(orders)}


async def test_the_function_is_tested_by_calling_it() -> None:
    assert await page.function(user=Person("Ada"), orders=[]) == {"hello": "Ada", "bought": 0}
    assert await page.function(user=Person("Ada"), orders=[Bought(1)]) == {"hello": "Ada", "bought": 1}


def test_the_view_bears_the_functions_name() -> None:
    assert (page.__name__, page.__doc__, page.__module__) == ("page", "What stands on the page.", __name__)
    assert [(each.name, each.optional, each.timeout_s) for each in page.fan.parts] == [
        ("user", False, None),
        ("orders", True, 0.3),
    ]


# -- faults at the start ------------------------------------------------------------------------------------------

HEAD = """
from typing import Annotated, Any
from gateway.routing import fanout, part, route
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("@fanout\ndef home(a: Annotated[Any, part('u:/a')]): ...", "home() is synchronous: write `async def`"),
        ("@fanout\nasync def home(a: Any): ...", "home() has no part"),
        ("@fanout\nasync def home(a: Annotated[Any, part('u:a')]): ...", "begins with a slash"),
        ("@fanout\nasync def home(a: Annotated[Any, part('u:/a', timeout='3')]): ...", "unit"),
        ("@fanout(concurrency=0)\nasync def home(a: Annotated[Any, part('u:/a')]): ...", "concurrency=0"),
        ("@fanout(timeout='3')\nasync def home(a: Annotated[Any, part('u:/a')]): ...", "unit"),
    ],
)
def test_a_fault_of_a_fan_out_is_a_start_error_with_its_place(tmp_path: Path, code: str, words: str) -> None:
    source = f"{HEAD}\n{code}\n\nurlpatterns = [route('/home', home)]\n"
    (tmp_path / "routes.py").write_text(source, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        cwd=tmp_path,
        env={**inherited, "GATEWAY_UPSTREAM_U": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr + done.stdout
    assert "routes.py:" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def async_part(signature: str) -> Any:
    """A fan-out of a function with this signature."""
    space: dict[str, Any] = {"Annotated": Annotated, "Any": Any, "part": part, "fanout": fanout}
    exec(textwrap.dedent(f"@fanout\nasync def home({signature}) -> Any: ...\n"), space)
    return space["home"]


@pytest.mark.parametrize(
    ("pattern", "signature", "words"),
    [
        ("/h", "who, a: Annotated[Any, part('u:/a')]", "the parameter who of home() is neither a part nor in the path"),
        ("/h/{id}", "ident, a: Annotated[Any, part('u:/a/{id}')]", "the parameter ident of home()"),
        ("/h", "a: Annotated[Any, part('u:/a/{id}')]", "{id} is neither a parameter of the path nor a part"),
        ("/h/{a}", "a: Annotated[Any, part('u:/a')]", "a part cannot be called a"),
        ("/h", "query: Annotated[Any, part('u:/a')]", "a part cannot be called query"),
        ("/h", "a: Annotated[Any, part('u:/{b.x}')], b: Annotated[Any, part('u:/{a.x}')]", "waits for itself"),
    ],
)
def test_parameters_that_do_not_fit_the_route_are_told_with_the_place(pattern: str, signature: str, words: str) -> None:
    view = async_part(signature)
    with pytest.raises(RouteError) as caught:
        route(pattern, view)
    assert words in str(caught.value)
    assert str(caught.value).startswith("test_fanout_python.py:")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency=0: expected a whole number from 1"),
        ({"max_items": 0}, "max_items=0: expected a whole number from 1"),
        ({"passes": [200]}, "from 400 to 599"),
        ({"timeout": "0s"}, "longer than zero"),
        ({"forward_headers": ["host"]}, "the gateway's own business"),
        ({"forward_headers": ["x y"]}, "the name of a header field"),
    ],
)
def test_options_are_refused_as_in_the_environment(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fanout(**options)(page.function)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "ge t"}, "an upper-case method"),
        ({"max_body": "0B"}, "a size above zero"),
        ({"timeout": "3"}, "unit"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "no line breaks"),
        ({"headers": {"X A": "a"}}, "the name of a header field"),
        ({"headers": {"Host": "a"}}, "the gateway's own business"),
        ({"headers": {"Content-Length": "5"}}, "the gateway's own business"),
    ],
)
def test_what_a_part_cannot_be_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        part("u:/a", **options)


def test_a_part_of_an_unknown_upstream_is_told() -> None:
    loaded = loading.load({"GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:1"}, lambda _: "")
    with pytest.raises(RouteError, match=r"there is no upstream user; did you mean users\?"):
        Routes([route("/h", async_part("a: Annotated[Any, part('user:/a')]"))], loaded)


# -- fetch() ------------------------------------------------------------------------------------------------------


def test_fetch_goes_the_way_of_every_call(gateway: Gateway, u: Scripted) -> None:
    answer = gateway.get(
        "/fetched/a%2Fb", "Authorization: Bearer t", "Accept-Language: de", "Cookie: a=1", "X-Request-ID: mine-7"
    )
    target = "/x/a%2Fb?q=a%26b%20%C3%A9"
    assert answer.json() == {"status": 200, "type": "application/json", "json": {"at": target}}
    (asked,) = u.requests
    assert asked.start == f"GET {target} HTTP/1.1"
    assert (asked.one("x-own"), asked.one("authorization"), asked.one("x-all")) == ("1", "own", "all")
    assert (asked.one("accept-language"), asked.one("x-request-id")) == ("de", "mine-7")
    assert asked.has("traceparent")
    assert not asked.has("cookie")
    line = gateway.request_line("mine-7")
    assert (line["upstream"], line["attempts"], line["endpoint"]) == ("u", 1, u.authority)
    assert line["upstream_ms"] is not None


def test_fetch_sends_json_and_bytes(gateway: Gateway, u: Scripted) -> None:
    u.script({"/post": status(201), "/put": status(409)})
    assert gateway.get("/posted").json() == {"status": 201}
    assert gateway.get("/raw").json() == {"status": 409, "body": "just so"}
    post, put = u.requests
    eventually(lambda: post.is_whole and put.is_whole)
    assert (post.body, post.one("content-type")) == ('{"é":[1]}'.encode(), "application/json")
    assert (put.body, put.one("content-type"), put.one("content-length")) == (b"raw", "text/plain", "3")


def test_a_call_over_its_time_is_the_views_504(gateway: Gateway, u: Scripted) -> None:
    u.script({"/slow": silent})
    problem = gateway.get("/slow").json()
    assert (problem["status"], problem["reason"], problem["upstream"]) == (504, "response_timeout", "u")
    asked = u.wait_for_request("/slow")
    eventually(lambda: not asked.connection.is_open)
    assert gateway.get("/caught").json() == {"reason": "response_timeout"}


def test_a_call_that_finds_nobody_is_the_views_502(gateway: Gateway, u: Scripted) -> None:
    problem = gateway.get("/dead").json()
    assert (problem["status"], problem["reason"], problem["upstream"]) == (502, "connection_refused", "dead")


def test_an_answer_is_decoded_and_checked(gateway: Gateway, u: Scripted) -> None:
    u.script({"/user/1": USER})
    assert gateway.get("/decoded").json() == {"name": "Ada"}
    u.script({"/user/1": '{"name":1,"team_id":1}'})
    problem = gateway.get("/decoded").json()
    assert (problem["status"], problem["reason"]) == (502, "part_invalid")


def test_retries_of_a_call_are_counted(gateway: Gateway, u: Scripted) -> None:
    acts = iter([status(503), said("1")])

    def act(request: Request) -> None:
        next(acts)(request)

    u.script({"/again": act})
    answer = gateway.get("/retried")
    assert answer.json() == {"status": 200}
    assert gateway.request_line(answer.one("x-request-id"))["attempts"] == 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unknown", "there is no upstream uu"),
        ("dots", "'.' or '..' segment"),
        ("encoded", "'.' or '..' segment"),
        ("value", "the value of {id}"),
        ("empty", "the value of {id}"),
        ("unfilled", "percent-encoded"),
        ("space", "percent-encoded"),
        ("url", "there is no upstream http"),
        ("field", "header"),
        ("host", "the gateway's own business"),
        ("framing", "the gateway's own business"),
    ],
)
def test_what_cannot_be_asked_for_is_not(gateway: Gateway, u: Scripted, kind: str, words: str) -> None:
    assert words in gateway.get(f"/wrong/{kind}").json()["error"]
    assert u.requests == []


# -- many at once -------------------------------------------------------------------------------------------------


def scope_of(target: str) -> Scope:
    """The scope that Granian gives for such a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": target,
        "raw_path": target.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"gateway.test")],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
        "state": {},
    }


@asynccontextmanager
async def lifespan(application: GatewayHandler) -> AsyncIterator[None]:
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    task = asyncio.create_task(application({"type": "lifespan"}, incoming.get, outgoing.put))
    for phase in ("startup", "shutdown"):
        incoming.put_nowait({"type": f"lifespan.{phase}"})
        assert (await outgoing.get())["type"] == f"lifespan.{phase}.complete"
        if phase == "startup":
            yield
    await task


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """`/never` is not answered, all else is `1`."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b"/never" in head:
                await reader.read()
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


@fanout(timeout="5s")
async def soft(
    a: Annotated[int, part("u:/a")],
    b: Annotated[int | None, part("dead:/b", optional=True)],
    c: Annotated[int | None, part("u:/never", optional=True, timeout="50ms")],
) -> list[int | None]:
    return [a, b, c]


@fanout
async def hard(
    a: Annotated[int, part("u:/never")],
    b: Annotated[int, part("dead:/b")],
) -> list[int]:
    return [a, b]


def open_sockets() -> int:
    gc.collect()
    names = [name for name in Path("/proc/self/fd").iterdir() if name.is_symlink()]
    count = 0
    for name in names:
        try:
            count += str(name.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


async def turns_until(question: Callable[[], bool]) -> None:
    """Let the loop turn until the answer is yes."""
    async with asyncio.timeout(5):
        while not question():  # noqa: ASYNC110 - nobody tells when a task is gone
            await asyncio.sleep(0)


async def ask(application: GatewayHandler, target: str) -> tuple[int, bytes]:
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await application(scope_of(target), messages.get, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_300_fan_outs_with_one_dead_upstream_leave_nothing_behind() -> None:
    sockets, tasks = open_sockets(), len(asyncio.all_tasks())
    dead = Refuses()
    upstream = await asyncio.start_server(answers, "127.0.0.1", 0, backlog=1024)
    port = upstream.sockets[0].getsockname()[1]
    loaded = loading.load(
        {"GATEWAY_UPSTREAM_U": f"http://127.0.0.1:{port}", "GATEWAY_UPSTREAM_DEAD": dead.url}, lambda _: ""
    )
    application = GatewayHandler(loaded, Routes([route("/soft", soft), route("/hard", hard)], loaded), hooks=[])
    async with lifespan(application):
        found = await asyncio.gather(*(ask(application, "/hard" if at % 3 == 0 else "/soft") for at in range(300)))
        assert {status for status, _ in found[::3]} == {502}
        assert {one for at, one in enumerate(found) if at % 3} == {(200, b"[1,null,null]")}
        await turns_until(lambda: not any(task.get_name().startswith("portway-part") for task in asyncio.all_tasks()))
    upstream.close()
    await upstream.wait_closed()
    dead.close()
    await turns_until(lambda: len(asyncio.all_tasks()) <= tasks and open_sockets() <= sockets)
