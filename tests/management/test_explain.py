"""What an explanation says, for requests that are answered in different places."""

import os
from typing import Annotated

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.http import HttpResponse
from django.urls import path

from gateway.config import loader
from gateway.fanout.view import Fanout
from gateway.http.request import GatewayRequest
from gateway.management.command_line import scope_of
from gateway.management.explain import explain
from gateway.routing import cached, fanout, legacy, part, proxy, route
from gateway.routing.entries import GatewayRoute
from gateway.routing.urls import Routes

CONFIG = loader.load(
    {
        "GATEWAY_UPSTREAM_USERS": "http://users-1:8000/v1,http://users-2:8000/v1",
        "GATEWAY_UPSTREAM_USERS__TIMEOUT": "2s",
        "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION": "topsecret",
        "GATEWAY_UPSTREAM_USERS__BALANCE": "hash:header:x-user",
        "GATEWAY_UPSTREAM_ORDERS": "http://orders:8000",
        "GATEWAY_UPSTREAM_ORDERS__RETRIES": "0",
        "GATEWAY_UPSTREAM_ORDERS__MAX_IN_FLIGHT": "10",
        "GATEWAY_UPSTREAM_ORDERS__COMPRESS": "on",
        "GATEWAY_CORS": "https://app.example.com",
        "GATEWAY_ROUTE_HOME": "GET /home/{id}",
        "GATEWAY_ROUTE_HOME__PART_USER": "users:/users/{id}",
        "GATEWAY_ROUTE_HOME__PART_ORDERS": "orders:/orders?user={id}&page={query.page}&tenant={header.x-tenant}",
        "GATEWAY_ROUTE_HOME__PART_ITEMS": "orders:/items/{orders[].item}?of={user.name}",
        "GATEWAY_ROUTE_HOME__PART_ITEMS__TIMEOUT": "300ms",
        "GATEWAY_ROUTE_HOME__PART_ITEMS__DEFAULT": "[]",
        "GATEWAY_ROUTE_HOME__PART_USER__CACHE": "60s",
        "GATEWAY_ROUTE_HOME__TIMEOUT": "800ms",
    },
    lambda name: "",
)
(HOME,) = CONFIG.routes
assert HOME.fan is not None


async def hello(request: GatewayRequest, name: str) -> HttpResponse:
    raise AssertionError("nobody is asked")


@fanout
async def typed(user: Annotated[dict[str, str], part("users:/users/{id}")], id: str) -> object:
    raise AssertionError("nobody is asked")


@fanout
async def optional(
    user: Annotated[dict[str, str], part("users:/users/{id}")],
    team: Annotated[object, part("orders:/teams/{header.x-tenant}", optional=True)],
) -> object:
    raise AssertionError("nobody is asked")


def report(id: int) -> object:
    raise AssertionError("nobody is asked")


ROUTES = Routes(
    [
        GatewayRoute(HOME.pattern, Fanout(HOME.fan, HOME.overrides, HOME.name), HOME.name, HOME.variable, HOME),
        route("/users/{id}", proxy("users:/people/{id}", timeout="1s"), name="one"),
        route("/users/**", proxy("users"), name="all"),
        route("POST /orders", proxy("orders"), name="order"),
        route("/hello/{name}", hello),
        route("PUT /kept/own", proxy("orders")),
        route("/optional/{id}", optional),
        route("/report/{id}", legacy(report, threads=2, timeout="3s")),
        route("/kept/**", cached(proxy("orders"), max_body="64KiB")),
        route("/typed/{id}", typed),
        path("reports/<int:year>/", hello, {"name": "x"}, name="reports"),
    ],
    CONFIG.declared,
)


async def explained(method: str, target: str, *fields: str) -> dict[str, list[list[str]]]:
    sections = await explain(CONFIG, ROUTES, scope_of(method, target, fields, CONFIG.settings.bind))
    assert "topsecret" not in str(sections)
    return {title: [[word for word in row if word] for row in rows] for title, rows in sections}


def refused(sections: dict[str, list[list[str]]]) -> list[str]:
    return sections["The gateway itself answers"][0][:2]


async def test_a_proxied_request() -> None:
    said = await explained("GET", "/users/3?a=b")
    assert said["Request"] == [["GET", "/users/3?a=b", "Host: 127.0.0.1:8000"]]
    (named, value) = said["Route"]
    assert (named[:2], value) == (["one", "/users/{id} -> users:/people/{id}"], ["{id}", "3"])
    ((loser, *_, why),) = said["Also match, and lose"]
    assert (loser, why) == ("all", "at segment 2 {} goes before **")
    assert said["Upstream"] == [
        ["users", "http://users-1:8000/v1/people/3?a=b", "one of 2, by the header x-user"],
        ["users", "http://users-2:8000/v1/people/3?a=b"],
    ]
    origins = {name: origin for name, _, origin in said["Options"]}
    assert origins["TIMEOUT"].startswith("(test_explain.py:") or origins["TIMEOUT"].startswith("test_explain.py:")
    assert origins["CONNECT_TIMEOUT"] == "default"
    assert ["set", "authorization", "***", "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION"] in said["Headers that go up"]
    assert said["Headers of the answer"] == [["set", "access-control-*", "for https://app.example.com", "GATEWAY_CORS"]]


async def test_an_option_of_the_upstream_names_its_variable() -> None:
    said = await explained("GET", "/users/3/teams")
    assert ["TIMEOUT", "2s", "GATEWAY_UPSTREAM_USERS__TIMEOUT"] in said["Options"]


@pytest.mark.parametrize(
    ("field", "word"),
    [
        ("gzip, zstd", "by zstd, for this client"),
        ("gzip", "by gzip, for this client"),
        ("br", "this client takes none"),
    ],
)
async def test_what_is_compressed_for_whom(field: str, word: str) -> None:
    said = await explained("POST", "/orders", f"Accept-Encoding: {field}")
    ((what, how, origin),) = said["Compression"]
    assert (what, origin) == ("text of 1KiB and more that comes uncoded", "GATEWAY_UPSTREAM_ORDERS__COMPRESS")
    assert how.startswith(word)
    assert "Compression" not in await explained("GET", "/users/3")


async def test_what_may_be_sent_again() -> None:
    assert (await explained("GET", "/users/1"))["Retries"][2] == [
        "GET",
        "may be sent again, with a body of up to 64KiB",
    ]
    once = ["POST", "only if no connection was made; an Idempotency-Key would allow more"]
    assert (await explained("POST", "/users/1"))["Retries"][2] == once
    keyed = await explained("POST", "/users/1", "Idempotency-Key: 1")
    assert keyed["Retries"][2] == ["POST", "may be sent again, with a body of up to 64KiB"]
    orders = await explained("POST", "/orders")
    assert orders["Retries"] == [["none", "GATEWAY_UPSTREAM_ORDERS__RETRIES=0"]]
    assert ["MAX_IN_FLIGHT", "10", "then 50 wait for up to 1s"] in orders["Options"]


async def test_a_fan_out_tells_its_parts_in_the_order_in_which_they_can_begin() -> None:
    said = await explained("GET", "/home/7?page=2", "X-Tenant: a b", "Authorization: mine", "Cookie: c=1")
    assert said["Parts, those of one number at the same time"] == [
        ["1", "orders", "GET http://orders:8000/orders?user=7&page=2&tenant=a%20b", "800ms", "required"],
        ["1", "user", "GET http://users-1:8000/v1/users/7", "800ms", "required"],
        [
            *("2", "items"),
            "GET http://orders:8000/items/{orders[].item}?of={user.name}, a call for each item",
            *("300ms", "optional: []", "after orders, user"),
        ],
    ]
    assert ["kept", "authorization", "mine"] in said["Headers that go to parts"]
    assert ["set", "authorization", "***", "for the part user"] in said["Headers that go to parts"]
    assert not any("cookie" in row for row in said["Headers that go to parts"])
    assert said["Options"] == [["TIMEOUT", "800ms", "the whole; GATEWAY_ROUTE_HOME__TIMEOUT"]]


async def test_what_is_stored() -> None:
    assert (await explained("GET", "/users/1"))["Cache"] == [["answers are not stored"]]
    home = await explained("GET", "/home/7?page=2", "X-Tenant: a")
    assert home["Cache"] == [["part user", "stored for as long as it says, else 60s", "up to 2MiB"]]
    kept = (await explained("GET", "/kept/1"))["Cache"]
    assert kept[0] == ["the answer", "stored for as long as it says", "up to 64KiB"]
    assert (await explained("POST", "/kept/1"))["Cache"] == [
        ["this request", "goes up: nothing stored answers it (method)"],
        ["then", "what is stored of this path goes, if the answer is 2xx or 3xx"],
    ]
    assert (await explained("OPTIONS", "/kept/1"))["Cache"][1:] == []
    assert (await explained("PUT", "/kept/own"))["Cache"][-1][0] == "then", "another route stores what it answers"


@pytest.mark.parametrize(
    ("method", "field", "told"),
    [
        ("GET", "Authorization: a", "is not stored where the request has Authorization, and the answer does not"),
        ("GET", "Cookie: a=b", "is not stored where the request has a Cookie, and the answer does not say"),
        ("GET", "Cache-Control: no-store", "is not stored: the request says no-store"),
        ("GET", "Range: bytes=0-3", "is not stored if it comes from the upstream (range)"),
        ("HEAD", "Accept: a", "is not stored if it comes from the upstream (head)"),
        ("GET", 'If-Match: "x"', "goes up: nothing stored answers it (condition)"),
        ("GET", "Content-Length: 5", "goes up: nothing stored answers it (request-body)"),
        ("GET", "Accept: a", "stored for as long as it says"),
    ],
)
async def test_what_a_request_says_decides_what_is_stored(method: str, field: str, told: str) -> None:
    said = await explained(method, "/kept/1", field, 'If-None-Match: "a"')
    assert said["Cache"][0][1].startswith(told)
    goes_up = ["kept", "if-none-match", '"a"'] in said["Headers that go up"]
    assert goes_up is told.endswith(("(range)", "(head)", "(condition)", "(request-body)"))


async def test_the_cache_answers_conditions_itself() -> None:
    condition = ("if-none-match", '"a"')
    stored = await explained("GET", "/kept/1", 'If-None-Match: "a"')
    why = "is answered here: the whole is asked for, and stored"
    assert ["removed", *condition, why] in stored["Headers that go up"]
    proxied = await explained("GET", "/users/1", 'If-None-Match: "a"')
    assert ["kept", *condition] in proxied["Headers that go up"]


async def test_a_value_that_cannot_stand_in_a_part_is_refused_as_it_would_be() -> None:
    said = await explained("GET", "/home/7")  # no page, no tenant
    assert refused(said) == ["400", "template_value"]
    assert "Route" in said


async def test_an_optional_part_whose_value_cannot_stand_there_fails_alone() -> None:
    why = "template_value: The value of {header.x-tenant} cannot stand in its URL."
    said = await explained("GET", "/optional/7")
    assert said["Parts, those of one number at the same time"] == [
        ["1", "user", "GET http://users-1:8000/v1/users/7", "2s", "required"],
        ["1", "team", why, "30s", "optional: null"],
    ]


async def test_a_legacy_function() -> None:
    said = await explained("GET", "/report/7")
    assert said["A function of yours answers, in threads of its own"] == [
        ["function", "report"],
        ["threads", "2", "of the pool report"],
        ["queue", "16", "calls may wait; more get 503 at once"],
        ["timeout", "3s", "waiting included; then 504"],
    ]


async def test_a_typed_fan_out() -> None:
    said = await explained("GET", "/typed/7")
    parts = said["Parts, those of one number at the same time"]
    assert parts == [["1", "user", "GET http://users-1:8000/v1/users/7", "2s", "required"]]


async def test_views_of_ones_own() -> None:
    said = await explained("GET", "/hello/Ada")
    ((name, where, _),) = said["Your own view answers"]
    assert (name, where.partition(":")[0]) == ("hello()", "test_explain.py")
    assert (await explained("GET", "/reports/2026/"))["Django's own path() line answers"][0][0] == "reports"


async def test_no_route_tells_the_nearest() -> None:
    said = await explained("GET", "/users")
    assert "Also match, and lose" not in said  # /users/** matches it
    said = await explained("GET", "/hello/Ada/Lovelace")
    assert refused(said) == ["404", "route_not_found"]
    nearest, *_, more = said["No route() line or GATEWAY_ROUTE_* matches; the nearest"]
    assert (nearest[0], nearest[-1]) == ("hello", "the path goes on after segment 2")
    assert more == ["and 5 more"]


async def test_another_method_tells_which() -> None:
    said = await explained("GET", "/orders")
    assert refused(said) == ["405", "method_not_allowed"]
    assert ["Allow: POST"] in said["The gateway itself answers"]
    assert said["No route() line or GATEWAY_ROUTE_* matches; the nearest"][0][-1] == "answers only POST"


@pytest.mark.parametrize(
    ("method", "target", "field", "word"),
    [
        ("GET", "/users/../secret", "Host: a", "path_invalid"),
        ("GET", "/users/1", "Host: a,b", "host_invalid"),
        ("TRACE", "/users/1", "Host: a", "method_unsupported"),
        ("GET", "/users/é", "Host: a", "target_invalid"),
        ("GET", "/typed/%FF", "Host: a", "path_invalid"),
    ],
)
async def test_what_the_door_refuses(method: str, target: str, field: str, word: str) -> None:
    assert refused(await explained(method, target, field))[1] == word


async def test_what_the_gateway_answers_itself() -> None:
    assert len(await explained("GET", "/-/ready")) == 2
    assert refused(await explained("OPTIONS", "/-/")) == ["405", "method_not_allowed"]
    assert refused(await explained("GET", "/-/nothing")) == ["404", "route_not_found"]
    preflight = ("Origin: https://app.example.com", "Access-Control-Request-Method: GET")
    said = await explained("OPTIONS", "/users/1", *preflight)
    rows = said["The gateway itself answers the preflight, with 204"]
    assert ["access-control-allow-origin", "https://app.example.com"] in rows


@pytest.mark.parametrize(
    ("target", "host", "raw_path", "query"),
    [
        ("/a?b=c", b"127.0.0.1:8000", b"/a", b"b=c"),
        ("http://api.example.com", b"api.example.com", b"/", b""),
        ("https://api.example.com:8443/a/b#c", b"api.example.com:8443", b"/a/b", b""),
        ("http://[::1]:8000?q", b"[::1]:8000", b"/", b"q"),
        ("//a", b"127.0.0.1:8000", b"//a", b""),
    ],
)
def test_a_path_or_url_is_what_a_client_would_send(target: str, host: bytes, raw_path: bytes, query: bytes) -> None:
    scope = scope_of("GET", target, [], ("0.0.0.0", 8000))
    assert (dict(scope["headers"])[b"host"], scope["raw_path"], scope["query_string"]) == (host, raw_path, query)


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(ValueError, match="no method"):
        scope_of("G ET", "/", [], ("127.0.0.1", 8000))


async def test_a_path_is_shown_as_it_was_given() -> None:
    assert (await explained("GET", "/users/ü"))["Request"][0][1] == "/users/ü"


@pytest.mark.parametrize(
    ("target", "field"), [("users", "A: b"), ("", "A: b"), ("?a", "A: b"), ("/", "A"), ("/", "A b: c")]
)
def test_what_is_neither_path_nor_url_nor_header_is_refused(target: str, field: str) -> None:
    with pytest.raises(ValueError, match=r"neither a path|no header"):
        scope_of("GET", target, [field], ("127.0.0.1", 8000))
