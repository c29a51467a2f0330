"""What the gateway does with a request, seen through the test kit: each capability, and each kind of answer."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from msgspec import Struct

from gateway.routing import GatewayWebSocket, cached, fanout, fetch, legacy, part, proxy, route
from gateway.testing import (
    BrokenOff,
    Call,
    Reason,
    Reply,
    ServiceSocket,
    SocketClosed,
    SocketRefused,
    SocketReply,
    TestGateway,
    UnexpectedCall,
)
from gateway.testing.reply import FAILURES

USERS = {"UPSTREAM_USERS": "http://users.test", "ROUTE_USERS": "/users/** -> users"}
HOME = {
    "UPSTREAM_USERS": "http://users.test",
    "UPSTREAM_TEAMS": "http://teams.test",
    "ROUTE_HOME": "GET /home/{id}",
    "ROUTE_HOME__PART_USER": "users:/users/{id}",
    "ROUTE_HOME__PART_TEAM": "teams:/teams/{user.team_id}",
    "ROUTE_HOME__OPTIONAL": "team",
}
pytestmark = pytest.mark.gateway(**USERS)


@pytest.mark.gateway(**HOME)
async def test_a_team_that_fails_is_left_out(gateway: TestGateway) -> None:
    gateway.users["/users/2"] = {"id": 2, "team_id": 7}
    gateway.teams["/teams/7"] = Reply(503)
    answer = await gateway.get("/home/2", headers={"authorization": "Bearer x"})
    assert answer.status == 200
    assert answer.json()["team"] is None
    assert answer.headers["gateway-complete"] == "?0"
    assert answer.reason is None
    assert gateway.users.calls[0].headers["authorization"] == "Bearer x"
    assert answer.route == "home"
    assert answer.parts["team"]["reason"] == "part_status"


async def test_an_answer_has_its_line_of_the_log(gateway: TestGateway) -> None:
    gateway.users["*"] = Reply(201, body="made", headers=[("x-a", "1"), ("X-A", "2"), ("set-cookie", "a=1")])
    answer = await gateway.post("/users/1?page=2", json={"name": "Ada"}, headers={"X-Request-ID": "me"})
    assert (answer.status, answer.text, answer.body) == (201, "made", b"made")
    assert answer.headers["X-A"] == "1, 2"
    assert ("set-cookie", "a=1") in answer.pairs
    assert (answer.route, answer.attempts, answer.reason) == ("users", 1, None)
    assert answer.log["request_id"] == "me"
    assert answer.log["bytes_in"] == len(b'{"name":"Ada"}')
    (call,) = gateway.users.calls
    assert (call.method, call.path, call.query, call.params) == ("POST", "/users/1", "page=2", {"page": "2"})
    assert call.json() == {"name": "Ada"}
    assert call.endpoint == "users.test"
    assert call.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("word", [*Reason], ids=lambda one: one.word)
@pytest.mark.gateway(UPSTREAM_USERS__IDLE_TIMEOUT="100ms", UPSTREAM_USERS__RETRIES="0")
async def test_a_failure_is_said_by_its_word(gateway: TestGateway, word: Reason) -> None:
    """Each word that a service can fail by comes out as itself, with its status; the others are refused."""
    if word not in FAILURES:
        with pytest.raises(ValueError, match=f"{word.name} is no failure of a service; there are DNS_FAILED"):
            gateway.users["*"] = word
        return
    gateway.users["*"] = word
    if word in {Reason.RESPONSE_INCOMPLETE, Reason.RESPONSE_IDLE_TIMEOUT}:
        with pytest.raises(BrokenOff) as broken:
            await gateway.get("/users/1")
        assert broken.value.answer.reason is word
        assert broken.value.answer.body == b"half"
        return
    answer = await gateway.get("/users/1")
    assert answer.reason is word
    assert answer.status == word.status
    assert answer.json()["reason"] == word.word


@pytest.mark.gateway(UPSTREAM_USERS="http://a.test, http://b.test:8080/v1")
async def test_a_retry_goes_to_the_other_endpoint(gateway: TestGateway) -> None:
    gateway.users["*"] = [Reason.CONNECTION_REFUSED, {"id": 1}]
    answer = await gateway.post("/users/1", json={})
    assert answer.json() == {"id": 1}
    assert answer.attempts == 2
    (call,) = gateway.users.calls  # the refused one never came
    assert (call.endpoint, call.path) in {("a.test", "/users/1"), ("b.test:8080", "/v1/users/1")}
    assert answer.log["endpoint"] == call.endpoint


@pytest.mark.gateway(UPSTREAM_USERS="http://a.test,http://b.test", UPSTREAM_USERS__TIMEOUT="200ms")
async def test_a_slow_attempt_is_hedged(gateway: TestGateway) -> None:
    gateway.users["*"] = [Reply(json="slow", delay="150ms"), {"quick": True}]
    answer = await gateway.get("/users/1")
    assert answer.json() == {"quick": True}
    assert answer.attempts == 2


async def test_lists_functions_and_the_closest_key(gateway: TestGateway) -> None:
    async def later(call: Call) -> Any:
        await asyncio.sleep(0)
        return Reply(json={"later": call.path})

    gateway.users["*"] = lambda call: {"any": call.method}
    gateway.users["/users/1"] = later
    gateway.users["/users/1?page=2"] = {"page": 2}
    gateway.users["GET /users/1?page=2"] = [{"n": 1}, [1, 2], Reply(404)]
    gateway.users["/users/none"] = None
    assert (await gateway.delete("/users/9")).json() == {"any": "DELETE"}
    assert (await gateway.get("/users/1")).json() == {"later": "/users/1"}
    assert (await gateway.get("/users/1", params={"page": "3"})).json() == {"later": "/users/1"}
    assert (await gateway.put("/users/1?page=2")).json() == {"page": 2}
    assert [(await gateway.get("/users/1?page=2")).body for _ in range(2)] == [b'{"n":1}', b"[1,2]"]
    assert (await gateway.head("/users/1?page=2")).status == 404
    assert (await gateway.get("/users/none")).json() is None
    assert [call.method for call in gateway.users.calls[:2]] == ["DELETE", "GET"]
    await gateway.get("/users/1", params={"tag": ["a", "b c"]})
    assert gateway.users.calls[-1].query == "tag=a&tag=b+c"


async def test_a_call_that_the_test_does_not_expect_fails_it(gateway: TestGateway) -> None:
    with pytest.raises(UnexpectedCall, match=r"GET /users/1\?a=b, and gateway.users has no answer to that, nor any"):
        await gateway.get("/users/1?a=b")
    gateway.users["GET /users/2"] = [{}]
    with pytest.raises(UnexpectedCall, match=r"it has some for 'GET /users/2'; did you mean /users/2\?"):
        await gateway.get("/users/3")
    with pytest.raises(UnexpectedCall, match=r"it has some for 'GET /users/2'$"):  # the path is the right one
        await gateway.put("/users/2")
    await gateway.get("/users/2")
    with pytest.raises(UnexpectedCall, match=r"GET /users/2 2 times, and the list of .* has one answer"):
        await gateway.get("/users/2")


async def test_what_a_function_of_the_test_raises_fails_it(gateway: TestGateway) -> None:
    def wrong(call: Call) -> None:
        assert call.method == "POST", "not a POST"

    gateway.users["*"] = wrong
    with pytest.raises(AssertionError, match="not a POST"):
        await gateway.get("/users/1")
    gateway.users["*"] = lambda call: Reason.DRAIN_CUT
    with pytest.raises(ValueError, match=r"gateway.users\['\*'\]: what <lambda>\(\) returned: DRAIN_CUT is no failure"):
        await gateway.get("/users/1")


async def test_a_call_behind_the_last_request_fails_the_test_too() -> None:
    """Here a stored response is asked for anew in the background."""
    gateway = TestGateway({**USERS, "ROUTE_USERS__CACHE": "on"})
    gateway.users["*"] = [Reply(headers={"cache-control": "max-age=60, stale-while-revalidate=60"})]
    await gateway.get("/users/1")
    gateway.clock.tick("90s")
    assert (await gateway.get("/users/1")).log["cache"] == "stale"
    while len(gateway.users.calls) < 2:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0)
    with pytest.raises(UnexpectedCall, match=r"the list of .* has one answer"):
        await gateway.__aexit__(None, None, None)


async def test_a_failure_of_the_test_itself_stands_before_what_services_were_asked_for() -> None:
    gateway, error = TestGateway(USERS), LookupError("mine")
    gateway.users.report(UnexpectedCall("users was asked"))
    await gateway.__aexit__(type(error), error, None)
    assert error.__notes__ == ["And UnexpectedCall: users was asked"]


# -- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.gateway(ROUTE_USERS__CACHE="60s", ROUTE_USERS__STALE_IF_ERROR="1h")
async def test_the_cache_by_the_clock(gateway: TestGateway) -> None:
    gateway.users["*"] = [{"n": 1}, {"n": 2}, Reply(503), Reply(503)]
    first, again = await gateway.get("/users/1"), await gateway.get("/users/1")
    assert (first.log["cache"], again.log["cache"], again.headers["age"]) == ("miss", "hit", "0")
    gateway.clock.tick("59s")
    hit = await gateway.get("/users/1")
    assert (hit.json(), hit.headers["cache-status"]) == ({"n": 1}, "portway; hit; ttl=1")
    gateway.clock.tick("2s")
    assert (await gateway.get("/users/1")).json() == {"n": 2}
    gateway.clock.tick("5m")
    stale = await gateway.get("/users/1")
    assert (stale.status, stale.json(), stale.log["cache"]) == (200, {"n": 2}, "stale")
    assert len(gateway.users.calls) == 4


@pytest.mark.gateway(ROUTE_USERS__RATE_LIMIT="2/1m by client")
async def test_limits_by_the_clock(gateway: TestGateway) -> None:
    gateway.users["*"] = {}
    answers = [await gateway.get("/users/1") for _ in range(3)]
    assert [one.status for one in answers] == [200, 200, 429]
    assert answers[-1].reason is Reason.RATE_LIMITED
    gateway.clock.tick("30s")
    assert [(await gateway.get("/users/1")).status for _ in range(2)] == [200, 429]


async def test_time_is_said_with_its_unit(gateway: TestGateway) -> None:
    wrong: Any = 60
    with pytest.raises(ValueError, match=r"tick\(60\): write the time with its unit"):
        gateway.clock.tick(wrong)
    with pytest.raises(ValueError, match="needs its unit"):
        Reply(delay="1")


# -- Python ---------------------------------------------------------------------------------------------------------


class User(Struct):
    name: str


@fanout
async def hello(id: int, user: Annotated[User, part("users:/users/{id}")]) -> dict[str, Any]:
    return {"hello": user.name, "id": id}


async def view(request: HttpRequest, id: str) -> Any:
    answer = await fetch("users:/users/{id}", params={"id": id})
    return {"asked": answer.json(), "here": reverse("view", kwargs={"id": "7"})}


def report(year: int) -> Any:
    return {"year": year}


async def breaks(request: HttpRequest) -> Any:
    raise LookupError("secret")


async def chat(socket: GatewayWebSocket) -> None:
    await socket.accept()
    async for message in socket:
        if message == "leave":
            await socket.close(3000, "as asked")
        await socket.send(f"said {message!r}")


ROUTES = [
    route("GET /hello/{id}", hello),
    route("GET /view/{id}", view),
    route("GET /reports/{year}", legacy(report, threads=1)),
    route("GET /breaks", breaks),
    route("/chat", chat, websocket=True),
    route("GET /stored/{id}", cached(proxy("users:/users/{id}"), "60s")),
    path("plain/<int:number>", lambda request, number: HttpResponse(f"{request.method} {number}")),
]
with_routes = pytest.mark.gateway(routes=ROUTES)


@with_routes
async def test_python_routes(gateway: TestGateway) -> None:
    gateway.users["/users/7"] = {"name": "Ada"}
    assert (await gateway.get("/hello/7")).json() == {"hello": "Ada", "id": 7}
    assert (await gateway.get("/hello/x")).reason is Reason.VIEW_NOT_FOUND
    assert (await gateway.get("/view/7")).json() == {"asked": {"name": "Ada"}, "here": "/view/7"}
    assert (await gateway.get("/reports/2026")).json() == {"year": 2026}
    assert (await gateway.get("/plain/3")).text == "GET 3"
    assert [(await gateway.get("/stored/7")).log["cache"] for _ in range(2)] == ["miss", "hit"]
    broken = await gateway.get("/breaks")
    assert (broken.status, broken.reason) == (500, Reason.VIEW_ERROR)
    assert "secret" in broken.log["cause"]
    assert b"secret" not in broken.body
    assert (await gateway.get("/nowhere")).reason is Reason.ROUTE_NOT_FOUND


@with_routes
@pytest.mark.gateway(
    AUTH_TOKEN="jwt https://issuer.test", AUTH_TOKEN__AUDIENCE="api", ROUTE_USERS__AUTH="token", ROUTE_USERS__ROLES="-"
)
async def test_keys_of_an_issuer_are_asked_for_at_a_service_of_the_way(gateway: TestGateway) -> None:
    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "1", "alg": "ES256"}
    gateway.token["/.well-known/openid-configuration"] = {
        "issuer": "https://issuer.test",
        "jwks_uri": "https://issuer.test/keys",
    }
    gateway.token["/keys"] = {"keys": [public]}
    gateway.users["*"] = {}
    claims = {"iss": "https://issuer.test", "aud": "api", "sub": "ada", "exp": time.time() + 300}
    signed = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "1"})
    bearer = {"authorization": f"Bearer {signed}"}
    answer = await gateway.get("/users/1", headers=bearer)
    assert (answer.status, answer.log["identity"]) == (200, "ada")
    assert (await gateway.get("/users/1")).reason is Reason.AUTH_MISSING
    gateway.clock.tick("10m")
    assert (await gateway.get("/users/1", headers=bearer)).reason is Reason.AUTH_EXPIRED


# -- bodies that stream -----------------------------------------------------------------------------------------------


async def test_an_upload_of_any_length(gateway: TestGateway) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % (number % 10) * 10_000

    gateway.users["*"] = lambda call: {"bytes": len(call.body), "coding": call.headers.get("transfer-encoding")}
    assert (await gateway.put("/users/1", body=pieces())).json() == {"bytes": 1_000_000, "coding": "chunked"}
    assert (await gateway.put("/users/1", body=b"x" * 300_000)).json() == {"bytes": 300_000, "coding": None}
    assert (await gateway.put("/users/1", body="x" * 11 * 2**20)).reason is Reason.CLIENT_BODY_TOO_LARGE


async def test_events_as_they_come(gateway: TestGateway) -> None:
    open_gate = asyncio.Event()

    async def events() -> AsyncIterator[bytes]:
        yield b"id: 1\ndata: a\ndata: b\n\n"
        await open_gate.wait()
        yield b"event: last\ndata: c\n\n"

    gateway.users["*"] = Reply(body=events(), headers={"content-type": "text/event-stream"})
    async with gateway.stream("GET", "/users/events") as answer:
        found = answer.events()
        assert answer.headers["content-type"] == "text/event-stream"
        assert await anext(found) == {"id": "1", "data": "a\nb"}
        open_gate.set()
        assert [one async for one in found] == [{"event": "last", "data": "c"}]


async def test_who_leaves_a_stream_hangs_up(gateway: TestGateway) -> None:
    left = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
        finally:
            left.set()

    gateway.users["*"] = Reply(body=endless())
    began_s = time.monotonic()
    async with gateway.stream("GET", "/users/endless") as answer:
        assert (await anext(aiter(answer))).startswith(b"x")
    async with asyncio.timeout(5):
        await left.wait()
    assert time.monotonic() - began_s < 1


async def test_an_answer_that_breaks_off_is_none(gateway: TestGateway) -> None:
    gateway.users["*"] = Reply(body=[b"one", b"two", Reason.RESPONSE_INCOMPLETE])
    with pytest.raises(BrokenOff, match="the answer broke off: response_incomplete; <Answer 200") as broken:
        await gateway.get("/users/1")
    assert broken.value.answer.body == b"onetwo"


# -- sockets ----------------------------------------------------------------------------------------------------------


async def echo(socket: ServiceSocket) -> None:
    assert socket.headers["x-tenant"] == "acme"
    async for message in socket:
        if message == "end":
            await socket.close(4000, "over")
        await socket.send(message)


async def test_a_socket_of_a_service(gateway: TestGateway) -> None:
    gateway.users["GET /users/chat"] = SocketReply(echo, subprotocol="v1")
    async with gateway.websocket("/users/chat", headers={"X-Tenant": "acme"}, subprotocols=["v1", "v2"]) as socket:
        assert socket.subprotocol == "v1"
        for message in ("hello", b"\0bytes", "x" * 100_000):
            await socket.send(message)
            assert await socket.receive() == message
        await socket.send("end")
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
        assert (closed.value.code, closed.value.reason) == (4000, "over")
    assert (socket.log["status"], socket.log["close_code"], socket.log["messages_in"]) == (101, 4000, 4)


@with_routes
async def test_a_socket_of_a_view(gateway: TestGateway) -> None:
    async with gateway.websocket("/chat") as socket:
        await socket.send("hello")
        assert await socket.receive() == "said 'hello'"
    assert (socket.log["close_code"], socket.log["closed_by"]) == (1000, "client")
    async with gateway.websocket("/chat") as socket:
        await socket.send("leave")
        assert [message async for message in socket] == []


async def test_a_socket_that_is_not_let_in(gateway: TestGateway) -> None:
    gateway.users["*"] = Reply(403, body="no")
    with pytest.raises(SocketRefused) as refused:
        async with gateway.websocket("/users/chat"):
            raise AssertionError("let in")
    assert (refused.value.answer.status, refused.value.answer.text) == (403, "no")
    with pytest.raises(SocketRefused) as refused:
        async with gateway.websocket("/nowhere"):
            raise AssertionError("let in")
    assert refused.value.answer.reason is Reason.ROUTE_NOT_FOUND


# -- several, and what is wrong ---------------------------------------------------------------------------------------


async def test_two_gateways_at_once_share_nothing() -> None:
    other = {**USERS, "ROUTE_USERS": "GET /users/** -> users:/v2/**", "ROUTE_USERS__CACHE": "60s"}
    async with TestGateway(USERS, routes=ROUTES) as one, TestGateway(other, routes=ROUTES) as two:
        one.users["*"], two.users["*"] = {"name": "one"}, {"name": "two"}
        two.clock.tick("1h")
        for gateway, name in ((one, "one"), (two, "two"), (one, "one")):
            assert (await gateway.get("/hello/1")).json()["hello"] == name
            assert (await gateway.get("/stored/1")).json()["name"] == name
            assert (await gateway.get("/users/1")).json() == {"name": name}
            assert (await gateway.get("/reports/1")).json() == {"year": 1}
        assert (await one.post("/users/1")).status == 200
        assert (await two.post("/users/1")).status == 405
        assert two.users.calls[-1].path == "/v2/1"
        assert len(two.users.calls) == 3


async def test_a_name_that_is_no_upstream_is_said(gateway: TestGateway) -> None:
    with pytest.raises(AttributeError, match=r"the gateway has no upstream user; did you mean gateway.users\?"):
        gateway.user["/"] = {}
    with pytest.raises(AttributeError, match="the gateway has no upstream teams; there are users"):
        gateway.teams["/"] = {}


async def test_a_request_that_is_none_is_said(gateway: TestGateway) -> None:
    wrong: Any = {"a": 1}
    with pytest.raises(ValueError, match=r"'users/1': a path begins with a slash"):
        await gateway.get("users/1")
    with pytest.raises(TypeError, match="the header a has the value 1: it is a text"):
        await gateway.get("/users/1", headers=wrong)
    with pytest.raises(ValueError, match="json= or body=, not both"):
        await gateway.post("/users/1", json={}, body=b"")


async def test_a_body_that_is_no_json_is_shown(gateway: TestGateway) -> None:
    gateway.users["*"] = Reply(body="<html>")
    with pytest.raises(ValueError, match=r"<Answer 200 GET /users/1> is no JSON .*b'<html>'"):
        (await gateway.get("/users/1")).json()


async def test_what_a_test_leaves_behind_ends_with_it() -> None:
    before = asyncio.all_tasks()
    async with TestGateway(USERS) as gateway:
        gateway.users["*"] = Reply(delay="10m")
        left = asyncio.create_task(gateway.get("/users/1"))
        while not gateway.users.calls:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it is, it is over
        await left
    assert asyncio.all_tasks() == before


@pytest.mark.gateway(UPSTREAM_USERS__HEALTH="/health", UPSTREAM_USERS__HEALTH_INTERVAL="1s")
async def test_probes_are_answered_by_themselves(gateway: TestGateway) -> None:
    gateway.users["/users/1"] = {}
    assert (await gateway.get("/users/1")).status == 200
    assert [call.path for call in gateway.users.calls] == ["/users/1"]
