"""Who may ask the endpoints that are not open, and what a purge takes; by the application as Granian calls it."""

import asyncio
import json
import os
from base64 import b64encode
from functools import lru_cache

import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import loader
from gateway.http.request import Message
from gateway.routing.urls import Routes
from gateway.server.asgi import GatewayHandler
from tests.application import PATIENCE_S, Answered, scope_of
from tests.cache.stored import entry, pairs

TOKEN = "s3cret:with=all~sorts"
PURGE = "/-/cache?path=/x"


@lru_cache(maxsize=2)
def application(token: str) -> GatewayHandler:
    loaded = loader.load({"GATEWAY_ADMIN_TOKEN": token} if token else {}, lambda name: "")
    return GatewayHandler(loaded, Routes([], loaded.declared), hooks=[])


async def ask(
    *lines: str,
    token: str = "",
    method: str = "DELETE",
    target: str = PURGE,
    host: str = "localhost:8000",
    peer: str = "127.0.0.1",
    version: str = "1.1",
) -> Answered:
    scope = scope_of(method, target)
    scope["http_version"] = version
    scope["headers"] = pairs(f"Host: {host}", *lines)
    scope["client"] = (peer, "50000")
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"", "more_body": False})
    answered = Answered()
    async with asyncio.timeout(PATIENCE_S):
        await application(token)(scope, messages.get, answered.take)
    return answered


def reason_of(answered: Answered) -> str:
    return str(json.loads(answered.body)["reason"])


def basic(user_and_password: str) -> str:
    return "Basic " + b64encode(user_and_password.encode()).decode()


# -- with a token -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN}",
        f"bearer {TOKEN}",
        f"BEARER  {TOKEN} ",
        basic(f"anyone:{TOKEN}"),
        basic(f":{TOKEN}"),
        basic(f"anyone:{TOKEN}").replace("Basic", "basic"),
    ],
)
@pytest.mark.parametrize("peer", ["127.0.0.1", "192.0.2.7", "2001:db8::7"])
async def test_who_has_the_token_is_let_in_from_anywhere(authorization: str, peer: str) -> None:
    answered = await ask(f"Authorization: {authorization}", token=TOKEN, peer=peer, host="gateway.example")
    assert answered.status == 200


async def test_who_has_the_token_may_come_through_a_proxy() -> None:
    lines = ["X-Forwarded-For: 192.0.2.1", "Via: 1.1 proxy", f"Authorization: Bearer {TOKEN}"]
    assert (await ask(*lines, token=TOKEN, host="gateway.example", peer="10.0.0.1")).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Authorization: "],
        ["Authorization: Bearer"],
        ["Authorization: Bearer "],
        ["Authorization: Bearer wrong"],
        [f"Authorization: Bearer {TOKEN}x"],
        [f"Authorization: Bearer {TOKEN[:-1]}"],
        [f"Authorization: Bearer {TOKEN.upper()}"],
        [f"Authorization: {TOKEN}"],
        [f"Authorization: Token {TOKEN}"],
        [f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"],
        ["Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"],
        ["Authorization: Bearer \u00e9"],
        [f"Authorization: Basic {TOKEN}"],
        [f"Authorization: {basic(TOKEN.partition(':')[2])}"],
        [f"Authorization: {basic(f'{TOKEN}:')}"],
        [f"Authorization: {basic(f'a:{TOKEN}')}="],
        ["Authorization: Basic " + b64encode(b"a:\xff").decode()],
        [f"X-Admin-Token: {TOKEN}"],
        [f"Cookie: token={TOKEN}"],
    ],
)
async def test_who_has_not_is_asked_for_it_also_on_this_machine(lines: list[str]) -> None:
    answered = await ask(*lines, token=TOKEN)
    assert (answered.status, reason_of(answered)) == (401, "admin_required")
    challenges = [value for name, value in answered.pairs if name == b"www-authenticate"]
    assert challenges == [b'Bearer realm="portway"', b'Basic realm="portway"']
    assert TOKEN.encode() not in answered.body


async def test_the_token_in_the_target_is_no_token() -> None:
    assert (await ask(token=TOKEN, target=f"{PURGE}&token={TOKEN}")).status == 401


# -- without one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost:8000",
        "gateway.localhost",
        "127.0.0.1:8000",
        "127.9.9.9",
        "[::1]:8000",
        "[::1]",
    ],
)
async def test_without_a_token_this_machine_is_let_in(peer: str, host: str) -> None:
    assert (await ask(peer=peer, host=host)).status == 200


async def test_who_speaks_as_nginx_does_by_default_is_a_proxy() -> None:
    assert (await ask(version="1")).status == 403
    assert (await ask("X-Real-IP: 192.0.2.1")).status == 403


@pytest.mark.parametrize(
    "peer", ["192.0.2.7", "10.0.0.1", "0.0.0.0", "::", "2001:db8::7", "::ffff:10.0.0.1", "fe80::1"]
)
async def test_without_a_token_no_other_machine_is_let_in(peer: str) -> None:
    answered = await ask(peer=peer)
    assert (answered.status, reason_of(answered)) == (403, "admin_denied")


@pytest.mark.parametrize(
    "host",
    [
        "gateway.example",
        "localhost.example",
        "notlocalhost",
        "127.0.0.1.example",
        "192.0.2.7:8000",
        "0.0.0.0:8000",
        "[::]:8000",
        "2130706433",
        "127.1",
    ],
)
async def test_a_page_in_a_browser_of_this_machine_under_another_name_is_not_let_in(host: str) -> None:
    """DNS can lead any name here; the browser says which one the page has."""
    answered = await ask(host=host)
    assert (answered.status, reason_of(answered)) == (403, "admin_denied")


@pytest.mark.parametrize(
    "line",
    [
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: localhost",
        "X-Forwarded-Anything: x",
        "Forwarded: for=127.0.0.1",
        "Via: 1.1 x",
    ],
)
async def test_what_came_through_a_proxy_of_this_machine_is_not_let_in(line: str) -> None:
    assert (await ask(line)).status == 403


async def test_without_a_token_no_token_lets_anyone_in() -> None:
    assert (await ask("Authorization: Bearer ", peer="192.0.2.7")).status == 403
    assert (await ask("Authorization: Bearer None", peer="192.0.2.7")).status == 403


# -- Origin -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("origin", ["http://localhost:8000", "HTTP://LOCALHOST:8000", "https://localhost:8000"])
async def test_an_unsafe_method_may_come_from_the_same_origin(origin: str) -> None:
    """Behind TLS the gateway does not know its own scheme: the host decides."""
    assert (await ask(f"Origin: {origin}")).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["Origin: http://evil.example"],
        ["Origin: http://localhost:9000"],
        ["Origin: http://localhost"],
        ["Origin: http://localhost:8000.evil.example"],
        ["Origin: http://localhost:8000@evil.example"],
        ["Origin: null"],
        ["Origin: "],
        ["Origin: localhost:8000"],
        ["Origin: http://["],
        ["Origin: http://localhost:8000", "Origin: http://localhost:8000"],
    ],
)
@pytest.mark.parametrize("token", ["", TOKEN])
async def test_an_unsafe_method_from_another_origin_is_refused_also_with_the_token(
    lines: list[str], token: str
) -> None:
    authorization = [f"Authorization: Bearer {token}"] if token else []
    answered = await ask(*lines, *authorization, token=token)
    assert (answered.status, reason_of(answered)) == (403, "admin_denied")


# -- which endpoints ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize("target", ["/-/live", "/-/ready"])
async def test_live_and_ready_are_open(target: str, token: str) -> None:
    answered = await ask(
        "Via: 1.1 x", token=token, method="GET", target=target, host="gateway.example", peer="192.0.2.7"
    )
    assert answered.status in {200, 503}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_the_cache_takes_delete_alone_and_says_so_only_to_who_may_ask(method: str) -> None:
    answered = await ask(method=method)
    assert (answered.status, dict(answered.pairs)[b"allow"]) == (405, b"DELETE")
    assert (await ask(method=method, peer="192.0.2.7")).status == 403


@pytest.mark.parametrize("target", ["/-/", "/-/cache", "/-/metrics", "/-/status"])
async def test_all_others_ask_who_comes_also_for_reading(target: str) -> None:
    assert (await ask(method="GET", target=target, peer="192.0.2.7")).status == 403
    assert (await ask(method="GET", target=target, host="gateway.example")).status == 403
    assert (await ask(method="GET", target=target, token=TOKEN)).status == 401


@pytest.mark.parametrize("target", ["/-/cache/", "/-/Cache", "/-/live/x", "/-/nothing"])
async def test_there_is_nothing_else(target: str) -> None:
    assert (await ask(target=target)).status == 404


# -- purges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "path=",
        "path=x",
        "path=ftp://a/x",
        "prefix=x",
        "prefix=http://a/x",
        "route=",
        "tag=",
        "unheard=of",
        "Path=/x",
        "uri=http://a/x",
        "path=/x&path=/y",
        "path=/x&tag=y",
        "all&tag=y",
    ],
)
async def test_a_purge_says_one_thing(query: str) -> None:
    answered = await ask(target=f"/-/cache?{query}")
    assert (answered.status, reason_of(answered)) == (400, "request_invalid")


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("path=/users/1", {"/users/2", "/orders/1"}),
        ("path=/users/1%3Fx=1", {"/users/1", "/users/2", "/orders/1"}),
        ("path=http://a/users/1", {"/users/2", "/orders/1"}),
        ("path=http://b/users/1", {"/users/1", "/users/1?x=1", "/users/2", "/orders/1"}),
        ("prefix=/users", {"/orders/1"}),
        ("route=orders", {"/users/1", "/users/1?x=1", "/users/2"}),
        ("tag=red", {"/users/1", "/users/1?x=1", "/users/2"}),
        ("all", set()),
        ("all=", set()),
        ("all=1", set()),
    ],
)
async def test_a_purge_forgets_what_it_names(query: str, left: set[str]) -> None:
    memory = application("").worker.cache.memory
    for target in ("/users/1", "/users/1?x=1", "/users/2", "/orders/1"):
        name, tags = ("orders", ["Cache-Tag: red"]) if "orders" in target else ("users", [])
        memory.put(f"{name} http://a{target}", entry("Cache-Control: max-age=60", *tags))
    answered = await ask(target=f"/-/cache?{query}")
    kept = {"/" + key.partition("://a/")[2] for key in memory._kept}
    assert (answered.status, kept) == (200, left)
    kind, _, value = query.replace("%3F", "?").partition("=")
    assert json.loads(answered.body) == {"purged": 4 - len(left), kind: value}
