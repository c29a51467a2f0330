"""The gateway in the process of the test and the one over a real socket agree: forty requests, and a socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest

from gateway.errors import Reason
from gateway.testing import BrokenOff, Call, Reply, SetupError, SocketRefused, SocketReply, TestGateway
from gateway.testing.gateway import AnyGateway
from gateway.testing.live import LiveGateway
from gateway.testing.service_socket import ServiceSocket

SECRET = "0123456789abcdef0123456789abcdef"
CLAIMS = {"iss": "https://issuer.test", "aud": "api", "sub": "ada", "exp": time.time() + 3600}
BEARER = {"authorization": f"Bearer {jwt.encode(CLAIMS, SECRET, algorithm='HS256')}"}
ENV = {
    "UPSTREAM_USERS": "http://users.test/base",
    "UPSTREAM_ORDERS": "http://a.orders.test,http://b.orders.test",
    "UPSTREAM_ORDERS__TIMEOUT": "400ms",
    "UPSTREAM_TEAMS": "http://teams.test",
    "ROUTE_USERS": "/users/** -> users",
    "ROUTE_API": "GET,POST /api/{id} -> users:/v2/{id}?fixed=1",
    "ROUTE_ORDERS": "/orders/** -> orders",
    "ROUTE_STORED": "/stored/** -> users:/s/**",
    "ROUTE_STORED__CACHE": "60s",
    "ROUTE_LIMITED": "/limited -> users",
    "ROUTE_LIMITED__RATE_LIMIT": "1/1h by client",
    "ROUTE_HOST": "admin.example.com/** -> teams",
    "ROUTE_HOME": "GET /home/{id}",
    "ROUTE_HOME__PART_USER": "users:/users/{id}",
    "ROUTE_HOME__PART_TEAM": "teams:/teams/{user.team_id}",
    "ROUTE_HOME__OPTIONAL": "team",
    "ROUTE_HOME__PASS": "404",
    "ROUTE_GONE": "/gone -> 410",
    "ROUTE_MOVED": "/moved -> 308 https://example.com/",
    "ROUTE_SECRET": "/secret -> users",
    "ROUTE_SECRET__AUTH": "key",
    "AUTH_KEY": "jwt https://issuer.test",
    "AUTH_KEY__ALGORITHMS": "HS256",
    "AUTH_KEY__AUDIENCE": "api",
    "AUTH_KEY__SECRET": SECRET,
    "ROUTE_SMALL": "POST /small -> users",
    "ROUTE_SMALL__MAX_BODY": "10B",
    "ROUTE_CORS": "/cors -> users",
    "ROUTE_CORS__CORS": "https://app.example.com",
}

Set = Callable[[Any], object]


def says(service: str, key: str, value: Any) -> Set:
    def act(gateway: Any) -> None:
        gateway.services[service][key] = value

    return act


def both(one: Set, other: Set) -> Set:
    return lambda gateway: (one(gateway), other(gateway))


async def pieces() -> AsyncIterator[bytes]:
    yield b"one,"
    yield b"two"


PLAIN = says("users", "*", {"id": 1})
# What the services say, the method and path, and what else is sent.
REQUESTS: list[tuple[Set, str, str, dict[str, Any]]] = [
    (PLAIN, "GET", "/users/1", {}),
    (PLAIN, "GET", "/users/%41%2e%20b?x=%20&x=2", {}),
    (PLAIN, "HEAD", "/users/1", {}),
    (PLAIN, "OPTIONS", "/users/1", {}),
    (PLAIN, "DELETE", "/users/1", {}),
    (PLAIN, "POST", "/users", {"json": {"a": [1, None]}}),
    (PLAIN, "PUT", "/users/1", {"body": b"\0\xff" * 40_000}),
    (PLAIN, "PATCH", "/users/1", {"body": "text", "headers": {"content-type": "text/plain"}}),
    (PLAIN, "GET", "/users/1", {"params": {"q": "a b&c"}}),
    (PLAIN, "GET", "/users/1", {"headers": [("x-a", "1"), ("X-A", "2"), ("cookie", "a=1")]}),
    (PLAIN, "GET", "/users/1", {"headers": {"x-forwarded-for": "9.9.9.9", "forwarded": "for=x", "connection": "x-b"}}),
    (PLAIN, "GET", "/users/..%2f", {}),
    (PLAIN, "GET", "/users/../x", {}),
    (PLAIN, "GET", "/api/7?page=2", {}),
    (PLAIN, "PUT", "/api/7", {}),
    (PLAIN, "GET", "/nowhere", {}),
    (PLAIN, "GET", "/gone", {}),
    (PLAIN, "GET", "/moved", {}),
    (PLAIN, "GET", "/-/live", {}),
    (PLAIN, "POST", "/small", {"body": "x" * 11}),
    (PLAIN, "GET", "/cors", {"headers": {"origin": "https://app.example.com"}}),
    (
        PLAIN,
        "OPTIONS",
        "/cors",
        {"headers": {"origin": "https://app.example.com", "access-control-request-method": "PUT"}},
    ),
    (PLAIN, "GET", "/secret", {}),
    (PLAIN, "GET", "/secret", {"headers": BEARER}),
    (PLAIN, "GET", "/limited", {}),
    (PLAIN, "GET", "/limited", {}),
    (says("teams", "GET /x", Reply(204)), "GET", "/x", {"headers": {"host": "admin.example.com"}}),
    (says("users", "/base/s/1", Reply(json=1, headers={"etag": '"a"', "vary": "accept"})), "GET", "/stored/1", {}),
    (PLAIN, "GET", "/stored/1", {"headers": {"if-none-match": '"a"'}}),  # stored by the one before
    (says("users", "*", Reply(302, headers={"location": "/base/users/2"})), "GET", "/users/1", {}),
    (says("users", "*", Reply(200, headers=[("set-cookie", "a=1"), ("set-cookie", "b=2")])), "GET", "/users/1", {}),
    (says("users", "*", Reply(404, body="no", headers={"content-type": "text/plain"})), "GET", "/users/1", {}),
    (says("users", "*", Reply(body=[b"a" * 70_000, b"b"])), "GET", "/users/1", {}),
    (says("orders", "*", Reply(503)), "GET", "/orders/1", {}),
    (says("orders", "*", [Reason.CONNECTION_RESET, {"n": 2}]), "GET", "/orders/1", {}),
    (says("orders", "*", Reason.RESPONSE_INVALID), "POST", "/orders/1", {}),
    (says("orders", "*", Reason.RESPONSE_TIMEOUT), "POST", "/orders/2", {}),
    (says("orders", "*", Reason.RESPONSE_HEADERS_TOO_LARGE), "GET", "/orders/1", {}),
    (says("teams", "*", Reason.CONNECTION_REFUSED), "GET", "/y", {"headers": {"host": "admin.example.com"}}),
    (both(says("users", "/base/users/2", {"team_id": 7}), says("teams", "*", {"name": "a"})), "GET", "/home/2", {}),
    (both(says("users", "/base/users/2", {"team_id": 7}), says("teams", "*", Reply(500))), "GET", "/home/2", {}),
    (says("users", "/base/users/3", Reply(404)), "GET", "/home/3", {}),
]

# What is each gateway's own: ids, the time, what HTTP/1.1 says of one connection.
OWN = {
    "x-request-id",
    "date",
    "connection",
    "server-timing",
    "via",
    "traceparent",
    "content-length",
    "transfer-encoding",
}


def sent_by(call: Call) -> list[tuple[str, str]]:
    return sorted(pair for pair in call.pairs if pair[0] not in {*OWN, "host"})


def outcome(gateway: AnyGateway, answer: Any) -> dict[str, Any]:
    """What must be the same."""
    log, body = answer.log, answer.body
    if answer.headers.get("content-type") == "application/problem+json":
        body = {name: value for name, value in answer.json().items() if name != "request_id"}
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    if "gateway-parts" in headers:
        headers["gateway-parts"] = [part.partition(";ms=")[0] for part in headers["gateway-parts"].split(", ")]
    calls = [
        (call.method, call.path, call.query, sent_by(call), call.body)
        for service in gateway.services.values()
        for call in service.calls
    ]
    told = ("route", "status", "reason", "upstream", "attempts", "cache", "auth", "identity", "method", "path", "host")
    parts = {name: (part["status"], part["reason"], part["attempts"]) for name, part in answer.parts.items()}
    return {
        "answer": (answer.status, headers, body),
        "calls": calls,
        "parts": parts,
        **{name: log[name] for name in (*told, "bytes_in", "bytes_out")},
    }


async def run(gateway: AnyGateway) -> list[dict[str, Any]]:
    found = []
    for act, method, path, options in REQUESTS:
        for service in gateway.services.values():
            service.clear()
            if service.name in {"users", "orders"}:
                service["*"] = {"any": True}
        act(gateway)
        found.append(outcome(gateway, await gateway.request(method, path, **options)))
    return found


async def test_both_agree_on_forty_requests() -> None:
    assert len(REQUESTS) >= 40
    async with TestGateway(ENV) as gateway:
        here = await run(gateway)
    async with LiveGateway(ENV) as live:
        there = await run(live)
    for (_, method, path, _), ours, theirs in zip(REQUESTS, here, there, strict=True):
        assert ours == theirs, f"{method} {path}"


async def echo(socket: ServiceSocket) -> None:
    async for message in socket:
        if message == "end":
            await socket.close(4000, "over")
        await socket.send(message)


@pytest.mark.gateway(**ENV)
async def test_sockets_streams_and_what_breaks_off(live_gateway: LiveGateway) -> None:
    live_gateway.users["/base/users/chat"] = SocketReply(echo, subprotocol="v1")
    async with live_gateway.websocket("/users/chat", subprotocols=["v1"]) as socket:
        await socket.send("hello")
        assert (await socket.receive(), socket.subprotocol) == ("hello", "v1")
    assert (socket.log["status"], socket.log["messages_in"]) == (101, 1)
    async with live_gateway.websocket("/users/chat") as socket:
        await socket.send("end")
        assert [message async for message in socket] == []
    with pytest.raises(SocketRefused) as refused:
        async with live_gateway.websocket("/nowhere"):
            raise AssertionError("let in")
    assert refused.value.answer.reason is Reason.ROUTE_NOT_FOUND
    live_gateway.users["*"] = Reply(body=[b"data: 1\n\n", Reason.RESPONSE_INCOMPLETE])
    with pytest.raises(BrokenOff) as broken:
        await live_gateway.get("/users/1")
    assert broken.value.answer.reason is Reason.RESPONSE_INCOMPLETE
    live_gateway.users["*"] = Reply(body=pieces())
    async with live_gateway.stream("PUT", "/users/1", body=pieces()) as answer:
        assert b"".join([piece async for piece in answer]) == b"one,two"
    assert live_gateway.users.calls[-1].body == b"one,two"


@pytest.mark.gateway(**ENV)
async def test_what_only_one_process_can_do_is_said(live_gateway: LiveGateway) -> None:
    with pytest.raises(RuntimeError, match="has the machine's clock: take the fixture gateway"):
        live_gateway.clock.tick("60s")
    live_gateway.teams["/x"] = Reason.CONNECTION_REFUSED
    with pytest.raises(ValueError, match="CONNECTION_REFUSED cannot be said of one call"):
        await live_gateway.get("/x", headers={"host": "admin.example.com"})
    live_gateway.orders["*"] = Reason.TLS_CERTIFICATE
    with pytest.raises(ValueError, match="TLS_CERTIFICATE cannot be made over a real socket"):
        await live_gateway.get("/orders/1")


async def test_lines_of_the_test_cannot_go_to_another_process() -> None:
    with pytest.raises(SetupError, match="name a module"):
        LiveGateway(ENV, routes=[])
    await asyncio.sleep(0)
