"""Weights and cookies over the wire: a canary's share, what drains, who stays where, through every kind of route."""

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from gateway.upstreams.stickiness import Stickiness, key_of
from tests.live.harness import Answer, Gateway, request_bytes
from tests.live.stage import Actor, message, says, status

ROUTES = """
from django.http import JsonResponse
from django.urls import path

from gateway.routing import fetch, from_environment


async def mine(request):
    fetched = await fetch("sticky:/fetched")
    return JsonResponse({"said": fetched.body.decode()})


urlpatterns = [path("mine", mine), *from_environment()]
"""
SECRET = "one-secret-for-all-replicas"
SECURE = ("X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7")


class Scene:
    """Services that answer with their names, and two gateways of one configuration in front of them."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.actors = {name: stack.enter_context(Actor(name)) for name in "abcdef"}
        for actor in self.actors.values():
            actor.act = says(message("200 OK", json.dumps(actor.name).encode(), "Content-Type: application/json"))
        urls = {name: actor.url for name, actor in self.actors.items()}
        environment = {
            "GATEWAY_UPSTREAM_CANARY": f"{urls['a']};weight=3 {urls['b']};weight=1",
            "GATEWAY_UPSTREAM_DRAINS": f"{urls['a']};weight=1 {urls['b']};weight=0",
            "GATEWAY_UPSTREAM_FAILING": f"{urls['c']};weight=90 {urls['d']};weight=5 {urls['f']};weight=5",
            "GATEWAY_UPSTREAM_FAILING__BALANCE": "hash:header:x-user",
            "GATEWAY_UPSTREAM_STICKY": f"{urls['a']} {urls['b']} {urls['e']}",
            "GATEWAY_UPSTREAM_STICKY__BALANCE": "sticky",
            "GATEWAY_UPSTREAM_NAMED": f"{urls['a']} {urls['b']}",
            "GATEWAY_UPSTREAM_NAMED__BALANCE": "sticky:route",
            "GATEWAY_UPSTREAM_DRAINED": f"{urls['a']};weight=1 {urls['b']};weight=0",
            "GATEWAY_UPSTREAM_DRAINED__BALANCE": "sticky:route",
            "GATEWAY_UPSTREAM_HASHED": f"{urls['a']} {urls['b']} {urls['e']}",
            "GATEWAY_UPSTREAM_HASHED__BALANCE": "hash:cookie:sid",
            "GATEWAY_ROUTE_FAN": "/fan",
            "GATEWAY_ROUTE_FAN__PART_ONE": "sticky:/part",
            "GATEWAY_ROUTE_STORED": "/stored/** -> sticky",
            "GATEWAY_ROUTE_STORED__CACHE": "60s",
            "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
            "GATEWAY_SECRET": SECRET,
            "GATEWAY_ADMIN_TOKEN": "admin",
        }
        for name in ("canary", "drains", "failing", "sticky", "named", "drained", "hashed"):
            environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
        ports = [stack.enter_context(naming(name)) for name in ("one", "two")]
        environment["GATEWAY_UPSTREAM_SOCKETS"] = " ".join(f"http://127.0.0.1:{port}" for port in ports)
        environment["GATEWAY_UPSTREAM_SOCKETS__BALANCE"] = "hash:cookie:sid"
        environment["GATEWAY_ROUTE_SOCKETS"] = "/sockets/** -> sockets"
        (folder / "routes.py").write_text(ROUTES)
        self.gateway = stack.enter_context(Gateway(environment, cwd=folder))
        self.replica = stack.enter_context(Gateway(environment, cwd=folder))

    def ask(self, path: str, *fields: str, method: str = "GET", gateway: Gateway | None = None) -> Answer:
        answer = (gateway or self.gateway).ask(request_bytes(method, path, *fields))
        assert answer.status == 200, answer
        return answer

    def asked(self, path: str, count: int, *fields: str) -> Counter[str]:
        return Counter(name_in(self.ask(path, *fields)) for _ in range(count))


@contextmanager
def naming(name: str) -> Iterator[int]:
    """A WebSocket server that says its name; its port."""
    with serve(lambda socket: socket.send(name), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def name_in(answer: Answer) -> str:
    return str(answer.json())


def cookie_of(answer: Answer) -> str:
    """`name=value` of the one cookie that an answer sets."""
    return answer.one("set-cookie").partition(";")[0]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path_factory.mktemp("shares"))


# -- weights ------------------------------------------------------------------------------------------------------


def test_a_canary_has_its_share(scene: Scene) -> None:
    asked = scene.asked("/canary/x", 400)
    assert 60 <= asked["b"] <= 140  # a quarter, within four and a half standard deviations
    assert set(asked) == {"a", "b"}


def test_who_has_no_weight_gets_nothing_new(scene: Scene) -> None:
    assert scene.asked("/drains/x", 50) == {"a": 50}


def test_what_fails_at_the_canary_is_retried_at_the_others(scene: Scene) -> None:
    for canary in ("d", "f"):
        scene.actors[canary].act = status(503)
    users = [f"X-User: {number}" for number in range(60)]
    answers = [scene.ask("/failing/x", user) for user in users]
    assert {name_in(answer) for answer in answers} == {"c"}  # never the other canary
    retried = [answer for answer in answers if answer.has("proxy-status")]
    assert retried
    assert {answer.one("proxy-status") for answer in retried} == {'portway; details="attempts=2"'}


# -- cookies ------------------------------------------------------------------------------------------------------


def test_a_client_stays_by_a_cookie_that_names_no_address(scene: Scene) -> None:
    first = scene.ask("/sticky/x")
    assert re.fullmatch(r"portway-[\w-]{8}=[\w-]{20}; HttpOnly; Path=/; SameSite=Lax", first.one("set-cookie")), (
        first.all("set-cookie")
    )
    again = [scene.ask("/sticky/x", f"Cookie: a=1; {cookie_of(first)}") for _ in range(20)]
    assert {name_in(answer) for answer in again} == {name_in(first)}
    assert not any(answer.has("set-cookie") for answer in again)


def test_over_https_the_cookie_is_secure(scene: Scene) -> None:
    assert "; Secure" in scene.ask("/sticky/x", *SECURE).one("set-cookie")


def test_a_cookie_that_nobody_made_leads_nowhere_and_is_renewed(scene: Scene) -> None:
    name = cookie_of(scene.ask("/sticky/x")).partition("=")[0]
    asked = [scene.ask("/sticky/x", f"Cookie: {name}=AAAAAAAAAAAAAAAAAAAA") for _ in range(30)]
    assert len({name_in(answer) for answer in asked}) > 1
    assert all(answer.has("set-cookie") for answer in asked)


def test_replicas_agree_on_a_cookie(scene: Scene) -> None:
    for _ in range(6):
        first = scene.ask("/named/x")
        cookie = f"Cookie: {cookie_of(first)}"
        assert name_in(scene.ask("/named/x", cookie, gateway=scene.replica)) == name_in(first)


def test_a_client_goes_on_to_what_drains_and_new_ones_do_not(scene: Scene) -> None:
    stickiness = Stickiness("drained", key_of(SECRET, []), "route")
    held = stickiness.token(scene.actors["b"].url).decode()
    assert scene.asked("/drained/x", 20, f"Cookie: route={held}") == {"b": 20}
    assert scene.asked("/drained/x", 20) == {"a": 20}


def test_when_its_instance_fails_a_client_gets_another_and_stays_there(scene: Scene) -> None:
    first = scene.ask("/named/x")
    ill = scene.actors[name_in(first)]
    usual, ill.act = ill.act, status(503)
    try:
        moved = scene.ask("/named/x", f"Cookie: {cookie_of(first)}")
        assert name_in(moved) != name_in(first)
    finally:
        ill.act = usual
    after = [scene.ask("/named/x", f"Cookie: {cookie_of(moved)}") for _ in range(10)]
    assert {name_in(answer) for answer in after} == {name_in(moved)}


@pytest.mark.parametrize("path", ["/fan", "/mine"])
def test_fan_outs_and_views_of_ones_own_stay_too(scene: Scene, path: str) -> None:
    first = scene.ask("/sticky/x")
    answers = [scene.ask(path, f"Cookie: {cookie_of(first)}") for _ in range(10)]
    bodies = [answer.json() for answer in answers]
    said = {body["one"] if path == "/fan" else json.loads(body["said"]) for body in bodies}
    assert said == {name_in(first)}
    assert not any(answer.has("set-cookie") for answer in answers)
    new = scene.ask(path)
    assert cookie_of(new).partition("=")[0] == cookie_of(first).partition("=")[0]


def test_what_is_stored_for_all_sets_no_cookie(scene: Scene) -> None:
    assert not any(scene.ask("/stored/x").has("set-cookie") for _ in range(3))
    assert "hit" in scene.ask("/stored/x").one("cache-status")


# -- keys ---------------------------------------------------------------------------------------------------------


def test_a_cookie_of_the_services_own_is_a_key(scene: Scene) -> None:
    def by(sid: str) -> set[str]:
        return set(scene.asked("/hashed/x", 5, f"Cookie: other=1; sid={sid}"))

    users = [by(f"user-{number}") for number in range(20)]
    assert all(len(names) == 1 for names in users)
    assert len(set.union(*users)) == 3


def test_a_socket_goes_where_its_cookie_leads(scene: Scene) -> None:
    def named(sid: str) -> str:
        url = f"ws://127.0.0.1:{scene.gateway.port}/sockets/x"
        with connect(url, additional_headers={"Cookie": f"sid={sid}"}, proxy=None) as socket:
            return str(socket.recv(timeout=10))

    found: Sequence[tuple[str, str]] = [(named(f"s-{number}"), named(f"s-{number}")) for number in range(8)]
    assert all(one == other for one, other in found)
    assert {one for one, _ in found} == {"one", "two"}


# -- what is shown ------------------------------------------------------------------------------------------------


def test_the_start_says_the_shares(scene: Scene) -> None:
    line = scene.gateway.wait_for_log(lambda line: line["event"] == "start.upstream" and line["upstream"] == "canary")
    urls = [scene.actors[name].url for name in "ab"]
    assert line["endpoints"] == [f"{urls[0]} (75%)", f"{urls[1]} (25%)"]


def test_the_status_shows_what_is_drained(scene: Scene) -> None:
    upstreams = {
        one["name"]: one for one in scene.gateway.get("/-/status", "Authorization: Bearer admin").json()["upstreams"]
    }
    drained = {one["endpoint"]: one["drained"] for one in upstreams["drains"]["endpoints"]}
    assert drained == {scene.actors["a"].url: False, scene.actors["b"].url: True}
