"""Fan-outs and calls in a team's own routes.py: typed parts, and fetch()."""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from django.urls import include, path
from typing_extensions import TypedDict

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import loader
from gateway.fanout.view import Fanout
from gateway.http.exchange import Exchange
from gateway.http.request import Message
from gateway.routing import fanout, part, route
from gateway.routing.faults import RouteError
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from tests.application import lifespan, scope_of
from tests.live.harness import Gateway, Refuses, Request, eventually
from tests.live.parts import NDJSON, Parts, all_close, begin, parts_of, said
from tests.live.stage import says, silent, status

ROUTES = '''
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import msgspec
from django.http import JsonResponse
from django.urls import include, path

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


@fanout
async def filled(
    user: Annotated[User, part("dead:/x", default={"name": "nobody", "team_id": 0})],
    tags: Annotated[list[str], msgspec.Meta(max_length=2), part("u:/tags", default=["none"])],
    page: str | None = None,
    size: int = 5,
) -> Any:
    return [user.name, tags, page, size]


@fanout
async def own_word(user: Annotated[Any, part("u:/user/1?t={header.x-tenant}", optional=True)]) -> Any:
    return JsonResponse({}, headers={"Vary": "Cookie, accept-language", "Cache-Control": "max-age=5"})


@fanout
async def waits(user: Annotated[Any, part("u:/user/1")], team: Annotated[Any, part("u:/team/1")]) -> Any:
    return [user, team]


@fanout
async def listed(
    number: str, user: Annotated[Any, part("u:/user/{number}")], tag: Annotated[Any, part("u:/tag?is={tag_name}")]
) -> Any:
    return {"number": number, "user": user["at"], "tag": tag["at"]}


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
        elif kind == "climbs":
            await fetch("u:/x/{id}", params={"id": "a/../b"})
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
    route("/filled", filled), route("/filled/{page}", filled, name="filled_page"),
    route("/wrong/{kind}", wrong), route("/own-word", own_word), route("/waits", waits),
    path("django/<slug:tag_name>/", include([path("<int:number>", listed, name="listed")])),
]
'''


@pytest.fixture(scope="module")
def gateway(services: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder, dead = tmp_path_factory.mktemp("typed"), Refuses()
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_UPSTREAM_U": services.url,
        "GATEWAY_UPSTREAM_U__RETRIES": "0",
        "GATEWAY_UPSTREAM_U__HEADER_X_ALL": "all",
        "GATEWAY_UPSTREAM_RETRIED": services.url,
        "GATEWAY_UPSTREAM_DEAD": dead.url,
        "GATEWAY_UPSTREAM_DEAD__RETRIES": "0",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running
    dead.close()


# -- typed parts --------------------------------------------------------------------------------------------------

USER = '{"name":"Ada","team_id":7,"more":1}'


def test_parts_arrive_as_their_types(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=USER, orders='[{"id":1,"price":1.5},{"id":2,"price":3}]', team__7='{"id":7,"label":"é"}')
    answer = gateway.get("/home/1")
    assert answer.json() == {
        "hello": "1: Ada",
        "orders": [{"id": 1, "price": 1.5}, {"id": 2, "price": 3.0}],
        "team": {"id": 7, "label": "é"},
    }
    assert (answer.one("content-type"), answer.one("gateway-complete")) == ("application/json", "?1")
    assert parts_of(answer) == "user;s=200, orders;s=200, team;s=200"
    line = gateway.request_line(answer.one("x-request-id"))
    assert ([each["part"] for each in line["parts"]], line["route"]) == (["user", "orders", "team"], "home")


def test_every_kind_of_type_is_decoded(gateway: Gateway, u: Parts) -> None:
    team = '{"id":1,"label":"x"}'
    u.script(struct=USER, data='{"id":3}', typed=team, many='[{"id":1}]', free='{"a":1}')
    u.script(bare="[null,1.5]")
    kinds = {name: kind for name, (kind, _) in gateway.get("/kinds").json().items()}
    assert kinds == {"struct": "User", "data": "Order", "typed": "dict", "many": "list", "free": "dict", "bare": "list"}


def test_a_failed_validation_fails_an_optional_part_alone(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=USER, orders='[{"id":1},{"id":"two"}]', team__7='{"id":7}')
    answer = gateway.get("/home/1")
    assert (answer.status, answer.json()) == (200, {"hello": "1: Ada", "orders": [], "team": None})
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")
    assert parts_of(answer) == "user;s=200, orders;s=200;e=part_invalid, team;s=200;e=part_invalid"


def test_a_failed_validation_of_a_required_part_names_the_field(gateway: Gateway, u: Parts) -> None:
    u.script(user__1='{"name":"Ada","team_id":"x"}')
    problem = gateway.get("/home/1").json()
    assert (problem["status"], problem["reason"], problem["part"]) == (502, "part_invalid", "user")
    assert "$.team_id" in problem["detail"]


def test_a_default_stands_for_a_slow_part(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=USER, orders=silent, team__7=status(404))
    answer = gateway.get("/home/1")
    assert answer.json() == {"hello": "1: Ada", "orders": [], "team": None}
    assert "orders;e=response_timeout" in answer.one("gateway-parts")
    assert "team;s=404" in answer.one("gateway-parts")


def test_a_default_is_of_the_type_and_the_rest_have_their_own(gateway: Gateway, u: Parts) -> None:
    u.script(tags='["a","b"]')
    assert gateway.get("/filled").json() == ["nobody", ["a", "b"], None, 5]
    u.script(tags='["a","b","c"]')
    answer = gateway.get("/filled/3")
    assert (answer.json(), parts_of(answer)) == (
        ["nobody", ["none"], "3", 5],
        "user;e=connection_refused, tags;s=200;e=part_invalid",
    )


def test_a_default_is_not_shared_between_requests(gateway: Gateway, u: Parts) -> None:
    assert [gateway.get("/grows").json() for _ in range(2)] == [[1], [1]]


def test_a_mapped_part_is_a_list_of_its_type(gateway: Gateway, u: Parts) -> None:
    u.script(orders='[{"id":1},{"id":2},{"id":1}]')
    u.script(**{f"item__{number}": f'{{"id":{number},"label":"l{number}"}}' for number in (1, 2)})
    answer = gateway.get("/mapped?q=x")
    assert answer.json() == {"labels": ["l1", "l2", "l1"], "query": "x", "count": 3}
    assert u.wait_for_request("/item/1").one("x-part") == "items"
    assert not u.wait_for_request("/orders").has("x-part")


def test_a_typed_answer_is_never_a_stream(gateway: Gateway, u: Parts) -> None:
    u.script(user__1="1")
    answer = gateway.get("/passes", "Accept: text/event-stream")
    assert (answer.one("content-type"), answer.body) == ("application/json", b"1")


def test_what_never_streams_does_not_vary_by_accept(gateway: Gateway, u: Parts) -> None:
    assert gateway.get("/kinds").has("vary") is False  # a problem
    assert gateway.get("/passes").one("vary") == "Authorization, Accept-Language, X-Tenant"


def test_it_stands_in_djangos_own_lines_too(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/django/a-b/7")
    assert answer.json() == {"number": "7", "user": "/user/7", "tag": "/tag?is=a-b"}
    assert parts_of(answer) == "user;s=200, tag;s=200"
    assert gateway.request_line(answer.one("x-request-id"))["route"] == "listed"
    assert gateway.get("/django/a-b/x").status == 404


def test_a_client_that_leaves_cancels_every_typed_part(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=silent, team__1=silent)
    with begin(gateway, "/waits", "X-Request-ID: left-typed"):
        held = [u.wait_for_request(path) for path in ("/user/1", "/team/1")]
    all_close(held)
    assert gateway.request_line("left-typed")["reason"] == "client_gone"


async def test_a_client_that_leaves_while_it_is_sent_to_is_told_of_in_the_log(services: Parts, u: Parts) -> None:
    u.script(b=silent)
    named = {"GATEWAY_ROUTE_X": "/x", "GATEWAY_ROUTE_X__PART_A": "u:/a", "GATEWAY_ROUTE_X__PART_B": "u:/b"}
    loaded = loader.load({"GATEWAY_UPSTREAM_U": services.url, **named}, lambda _: "")
    (line,) = loaded.routes
    loaded = replace(loaded, routes=())
    assert line.fan is not None
    finished: list[Exchange] = []
    view = Fanout(line.fan, line.overrides, line.name)
    application = GatewayHandler(loaded, Routes([route("/x", view)], loaded.declared), hooks=[finished.append])
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})

    async def send(message: Message) -> None:
        if message.get("body"):  # the first line, which the client does not take
            messages.put_nowait({"type": "http.disconnect"})
            await asyncio.Event().wait()

    async with lifespan(application):
        await application(scope_of("GET", "/x", [(b"accept", NDJSON.encode())]), messages.get, send)
        (exchange,) = finished
        assert (exchange.reason, [part["part"] for part in exchange.parts or ()]) == ("client_gone", ["a"])
    held = u.wait_for_request("/b").connection
    await asyncio.to_thread(eventually, lambda: not held.is_open)


def test_a_function_that_fails_is_a_view_that_fails(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/fails")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    assert b"secret" not in answer.body


def test_a_function_may_return_a_response(gateway: Gateway, u: Parts) -> None:
    answer = gateway.get("/response")
    assert (answer.status, answer.json(), answer.one("gateway-complete")) == (203, {"user": {"at": "/user/1"}}, "?1")
    u.script(user__1=status(500))
    answer = gateway.get("/response")
    assert (answer.status, answer.json()) == (203, {"user": None})
    assert (answer.one("gateway-complete"), answer.one("cache-control")) == ("?0", "no-store")


def test_a_response_has_its_own_word_where_nothing_is_left_out(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=says(said("1", "Cache-Control: private, max-age=60")))
    assert gateway.get("/response").one("cache-control") == "private, max-age=60"
    answer = gateway.get("/own-word", "X-Tenant: acme")
    assert answer.one("cache-control") == "max-age=5"
    assert set(answer.one("vary").split(", ")) == {"Cookie", "accept-language", "Authorization", "X-Tenant"}
    assert answer.one("content-type") == "application/json"
    u.script(user__1=status(500))
    assert gateway.get("/own-word", "X-Tenant: acme").one("cache-control") == "no-store"


def test_options_are_those_of_the_environment(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=status(404))
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
        (
            "@fanout\nasync def home(a: Annotated[int, part('u:/a', optional=True)]): ...",
            "the default of the part a does not fit its type: Expected `int`, got `null`; without one it is None",
        ),
        (
            "@fanout\nasync def home(a: Annotated[list[int], part('u:/a', default=[1, 'x'])]): ...",
            "the default of the part a does not fit its type: Expected `int`, got `str` - at `$[1]`",
        ),
        ("@fanout\nasync def home(a: Annotated[Any, part('u:/a')], /): ...", "TypeError"),
        ("@fanout\nasync def home(a: Annotated[Any, part('u:/a')], *more): ...", "TypeError"),
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
        timeout=60,
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
        ("/h", "end: Annotated[Any, part('u:/a')]", "a part cannot be called end"),
        (
            "/h/{id}",
            "id: list[int], a: Annotated[Any, part('u:/a')]",
            "the parameter id of home() has a type that is of no use in a path: no text becomes a list",
        ),
        ("/h", "query: Annotated[Any, part('u:/a')]", "a part cannot be called query"),
        ("/h", "a: Annotated[Any, part('u:/{b.x}')], b: Annotated[Any, part('u:/{a.x}')]", "waits for itself"),
    ],
)
def test_parameters_that_do_not_fit_the_route_are_told_with_the_place(pattern: str, signature: str, words: str) -> None:
    view = async_part(signature)
    with pytest.raises(RouteError) as caught:
        route(pattern, view)
    assert words in str(caught.value)
    assert str(caught.value).startswith("test_python.py:")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency=0: expected a whole number from 1"),
        ({"max_items": 0}, "max_items=0: expected a whole number from 1"),
        ({"passes": [200]}, "from 400 to 599"),
        ({"timeout": "0s"}, "longer than zero"),
        ({"forward_headers": ["host"]}, "the gateway's own business"),
        ({"forward_headers": ["x y"]}, "the name of a header field"),
        ({"forward_headers": ["x-forwarded-for"]}, "what a client says of itself"),
        ({"forward_headers": ["Forwarded"]}, "what a client says of itself"),
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


def test_a_default_that_cannot_be_copied_is_refused_before_a_request_needs_it() -> None:
    with pytest.raises(TypeError, match="generator"):
        part("u:/a", default=(number for number in [1]))


def test_what_a_client_may_not_say_of_itself_can_be_said_of_it() -> None:
    assert part("u:/a", headers={"X-Forwarded-For": "10.0.0.1"}).headers == (("x-forwarded-for", "10.0.0.1"),)


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("a: Annotated[Any, part('u:/a/{id}')]", "x/: {id} is neither a parameter of the path nor a part"),
        ("a: Annotated[Any, part('u:/{b.x}')], b: Annotated[Any, part('u:/{a.x}')]", "x/: the part a waits for itself"),
        ("who, a: Annotated[Any, part('u:/a')]", "x/: the parameter who of home() is neither a part nor in the path"),
    ],
)
def test_djangos_own_lines_are_checked_too(signature: str, words: str) -> None:
    loaded = loader.load({"GATEWAY_UPSTREAM_U": "http://127.0.0.1:1"}, lambda _: "")
    with pytest.raises(RouteError) as caught:
        Routes([path("v1/", include([path("x/", async_part(signature))]))], loaded.declared)
    assert words in str(caught.value)
    Routes(
        [path("<slug:id>/", include([path("x/", async_part("id, a: Annotated[Any, part('u:/{id}')]"))]))],
        loaded.declared,
    )


def test_a_part_of_an_unknown_upstream_is_told() -> None:
    loaded = loader.load({"GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:1"}, lambda _: "")
    with pytest.raises(RouteError, match=r"there is no upstream user; did you mean users\?"):
        Routes([route("/h", async_part("a: Annotated[Any, part('user:/a')]"))], loaded.declared)


# -- fetch() ------------------------------------------------------------------------------------------------------


def test_fetch_goes_the_way_of_every_call(gateway: Gateway, u: Parts) -> None:
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


def test_fetch_sends_json_and_bytes(gateway: Gateway, u: Parts) -> None:
    u.script(post=status(201), put=status(409))
    assert gateway.get("/posted").json() == {"status": 201}
    assert gateway.get("/raw").json() == {"status": 409, "body": "just so"}
    post, put = u.requests
    eventually(lambda: post.is_whole and put.is_whole)
    assert (post.body, post.one("content-type")) == ('{"é":[1]}'.encode(), "application/json")
    assert (put.body, put.one("content-type"), put.one("content-length")) == (b"raw", "text/plain", "3")


def test_a_call_over_its_time_is_the_views_504(gateway: Gateway, u: Parts) -> None:
    u.script(slow=silent)
    problem = gateway.get("/slow").json()
    assert (problem["status"], problem["reason"], problem["upstream"]) == (504, "response_timeout", "u")
    asked = u.wait_for_request("/slow")
    eventually(lambda: not asked.connection.is_open)
    assert gateway.get("/caught").json() == {"reason": "response_timeout"}


def test_a_call_that_finds_nobody_is_the_views_502(gateway: Gateway, u: Parts) -> None:
    problem = gateway.get("/dead").json()
    assert (problem["status"], problem["reason"], problem["upstream"]) == (502, "connection_refused", "dead")


def test_an_answer_is_decoded_and_checked(gateway: Gateway, u: Parts) -> None:
    u.script(user__1=USER)
    assert gateway.get("/decoded").json() == {"name": "Ada"}
    u.script(user__1='{"name":1,"team_id":1}')
    problem = gateway.get("/decoded").json()
    assert (problem["status"], problem["reason"]) == (502, "part_invalid")


def test_retries_of_a_call_are_counted(gateway: Gateway, u: Parts) -> None:
    acts = iter([status(503), says(said("1"))])

    def act(request: Request) -> None:
        next(acts)(request)

    u.script(again=act)
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
        ("climbs", "the value of {id}"),
        ("unfilled", "no value for {id}"),
        ("space", "no white space"),
        ("url", "there is no upstream http"),
        ("field", "header"),
        ("host", "the gateway's own business"),
        ("framing", "the gateway's own business"),
    ],
)
def test_what_cannot_be_asked_for_is_not(gateway: Gateway, u: Parts, kind: str, words: str) -> None:
    assert words in gateway.get(f"/wrong/{kind}").json()["error"]
    assert u.requests == []
