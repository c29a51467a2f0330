"""Instances that Consul, Eureka and Python of a team's own know, over the wire, and registries that are away."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.live.discovery.registries import TOKEN, Consul, Eureka
from tests.live.harness import Answer, Gateway, eventually, request_bytes
from tests.live.stage import Actor, message, says

DISCOVERY = """
import asyncio
from pathlib import Path


async def odd():
    seen = None
    while True:
        text = Path(__file__).with_name("odd.txt").read_text()
        if text != seen:
            seen = text
            if text == "fail":
                raise RuntimeError("the database is away")
            yield text.split()
        await asyncio.sleep(0.02)


async def returns():
    return ["http://127.0.0.1:1"]


def takes(what):
    yield []
"""


class Scene:
    """Four services, the registries, and the gateway."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.actors = {name: stack.enter_context(Actor(name)) for name in "abcd"}
        for actor in self.actors.values():
            actor.act = says(message("200 OK", json.dumps(actor.name).encode(), "Content-Type: application/json"))
        self.consul, self.eureka = stack.enter_context(Consul()), stack.enter_context(Eureka())
        self.consul.say("school", self.at("a", "b"), tags=("v2",))
        self.consul.say("heavy", self.at("a"), weight=9)
        self.eureka.say("VETS", [("localhost", self.port("a"), "UP"), ("localhost", self.port("b"), "DOWN")])
        (folder / "discovery.py").write_text(DISCOVERY)
        self.odd("a")
        self.environment = {
            "GATEWAY_CONSUL_URL": f"http://127.0.0.1:{self.consul.port}",
            "GATEWAY_CONSUL_TOKEN": TOKEN,
            "GATEWAY_EUREKA_URL": f"http://me:pass%21@127.0.0.1:{self.eureka.port}/eureka/",
            "GATEWAY_UPSTREAM_SCHOOL": "consul+http://school?tag=v2",
            "GATEWAY_UPSTREAM_NOBODY": "consul+http://nobody",
            "GATEWAY_UPSTREAM_MIXED": f"consul+http://school;weight=0 {self.actors['d'].url};weight=1",
            "GATEWAY_UPSTREAM_PROBED": "consul+http://school",
            "GATEWAY_UPSTREAM_PROBED__HEALTH": "/healthz",
            "GATEWAY_UPSTREAM_PROBED__HEALTH_INTERVAL": "50ms",
            "GATEWAY_UPSTREAM_VETS": "eureka+http://VETS/api",
            "GATEWAY_UPSTREAM_VETS__DNS_TTL": "50ms",
            "GATEWAY_UPSTREAM_ODD__FROM": "discovery.odd",
            "GATEWAY_ADMIN_TOKEN": "admin",
            "GATEWAY_ROUTE_FAN": "/fan",
            "GATEWAY_ROUTE_FAN__PART_ONE": "school:/one",
            "GATEWAY_ROUTE_FAN__PART_TWO": "odd:/two",
        }
        for name in ("school", "nobody", "mixed", "probed", "vets", "odd"):
            self.environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}:/**"
        self.gateway = stack.enter_context(Gateway(self.environment, cwd=folder))

    def port(self, name: str) -> int:
        return self.actors[name].port

    def at(self, *names: str) -> list[tuple[str, int]]:
        return [("127.0.0.1", self.port(name)) for name in names]

    def odd(self, *names: str) -> None:
        self.write(" ".join(self.actors[name].url for name in names))

    def write(self, text: str) -> None:
        fresh = self.folder / "odd.new"
        fresh.write_text(text)
        fresh.rename(self.folder / "odd.txt")

    def ask(self, path: str) -> Answer:
        return self.gateway.ask(request_bytes("GET", path))

    def asked(self, path: str, count: int = 20) -> set[str]:
        answers = [self.ask(path) for _ in range(count)]
        assert {answer.status for answer in answers} == {200}, answers
        return set(Counter(answer.json() for answer in answers))

    def gets(self, path: str, *names: str) -> None:
        """Wait until these instances, and no others, are asked."""
        eventually(lambda: self.asked(path) == set(names))

    def all_wait(self) -> None:
        """Until each upstream waits for Consul."""
        eventually(lambda: len(self.consul.waiting) == 4)

    def says(self, event: str, upstream: str, **values: Any) -> dict[str, Any]:
        wanted = {"event": event, "upstream": upstream, **values}
        return self.gateway.wait_for_log(lambda line: wanted.items() <= line.items())

    def upstream(self, name: str) -> dict[str, Any]:
        upstreams = self.own("/-/status").json()["upstreams"]
        return next(one for one in upstreams if one["name"] == name)

    def own(self, path: str) -> Answer:
        return self.gateway.get(path, "Authorization: Bearer admin")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path_factory.mktemp("registries"))


# -- Consul -------------------------------------------------------------------------------------------------------


def test_instances_join_and_go_as_consul_says_so(scene: Scene) -> None:
    scene.gets("/school/x", "a", "b")
    began_s = time.monotonic()
    scene.consul.say("school", scene.at("b", "c"), tags=("v2",))
    scene.gets("/school/x", "b", "c")
    assert time.monotonic() - began_s < 5  # the query that waited was answered: nobody slept until then
    line = scene.says("upstream.changed", "school")
    assert line["host"] == "consul+http://school?tag=v2"
    assert (line["joined"], line["gone"]) == ([f"127.0.0.1:{scene.port('c')}"], [f"127.0.0.1:{scene.port('a')}"])


def test_a_question_waits_for_a_change_by_the_last_index(scene: Scene) -> None:
    queries = [one.rel_url.query for one in scene.consul.asked if one.path.endswith("/school") and "tag" in one.query]
    first, *others = queries
    assert "index" not in first
    assert others
    assert all(int(query["index"]) > 0 and query["wait"] == "60s" for query in others)
    assert all(query["passing"] == "1" for query in queries)


def test_after_an_index_that_went_back_changes_are_heard_of_all_the_same(scene: Scene) -> None:
    scene.all_wait()
    scene.consul.restore()
    scene.consul.say("school", scene.at("a", "b"), tags=("v2",))
    scene.gets("/school/x", "a", "b")


@pytest.mark.parametrize("ill", [500, 403])
def test_the_last_list_outlives_a_consul_that_is_ill(scene: Scene, ill: int) -> None:
    scene.all_wait()
    before = len(scene.gateway.log)
    scene.consul.ill = ill
    scene.consul.loop.call_soon_threadsafe(scene.consul.wake)  # who waits is answered, and asks again
    try:
        eventually(
            lambda: any(
                line["event"] == "upstream.lookup_failed"
                and line["upstream"] == "school"
                and line["cause"] == f"status {ill}"
                for line in scene.gateway.log[before:]
            )
        )
        assert scene.asked("/school/x") == {"a", "b"}
        (source,) = eventually(lambda: [one for one in scene.upstream("school")["sources"] if one["away"]])
        assert source == {"source": "consul+http://school?tag=v2", "failure": f"status {ill}", "away": 1}
        assert 'portway_upstream_sources_away{upstream="school"} 1.0' in scene.own("/-/metrics").body.decode()
        scene.consul.say("school", scene.at("c"), tags=("v2",))
    finally:
        scene.consul.ill = None
    scene.gets("/school/x", "c")
    scene.consul.say("school", scene.at("a", "b"), tags=("v2",))
    scene.gets("/school/x", "a", "b")
    assert [one["away"] for one in scene.upstream("school")["sources"]] == [0]


def test_the_last_list_outlives_a_consul_that_is_gone(scene: Scene) -> None:
    scene.consul.go()
    scene.says("upstream.lookup_failed", "nobody")
    assert scene.asked("/school/x") == {"a", "b"}
    scene.consul.come_back()
    scene.says("upstream.lookup_works", "nobody")


def test_a_consul_that_forgets_everything_is_not_believed_at_once(scene: Scene) -> None:
    scene.consul.say("school", [], tags=("v2",))
    line = scene.says("upstream.lookup_empty", "school")
    assert (line["kept"], line["level"]) == (2, "warning")
    assert scene.asked("/school/x") == {"a", "b"}
    # It is asked again in time for a second word, not only after the usual wait.
    eventually(lambda: [one for one in scene.consul.asked if one.query.get("wait") not in {None, "60s"}])
    scene.consul.say("school", scene.at("a", "b"), tags=("v2",))


def test_who_nobody_knows_is_503(scene: Scene) -> None:
    answer = scene.ask("/nobody/x")
    assert answer.status == 503
    assert answer.json()["reason"] == "destination_unavailable"
    assert answer.one("retry-after") == "1"
    assert scene.gateway.request_line(answer.one("x-request-id"))["upstream"] == "nobody"


def test_a_source_may_be_drained_beside_a_base_url(scene: Scene) -> None:
    assert scene.asked("/mixed/x") == {"d"}
    drained = {one["endpoint"]: one["drained"] for one in scene.upstream("mixed")["endpoints"]}
    assert sorted(drained.values()) == [False, True, True]


def test_instances_are_probed_as_any_endpoint(scene: Scene) -> None:
    eventually(lambda: any(request.target == "/healthz" for request in scene.actors["a"].requests))


def test_fan_outs_ask_instances_too(scene: Scene) -> None:
    scene.gets("/odd/x", "a")
    found = scene.ask("/fan").json()
    assert found["one"] in {"a", "b"}
    assert found["two"] == "a"


# -- Eureka -------------------------------------------------------------------------------------------------------


def test_only_those_that_are_up_are_asked_and_one_is_no_list(scene: Scene) -> None:
    scene.gets("/vets/x", "a")
    assert scene.actors["a"].requests[-1].target.startswith(("/api/x", "/healthz"))
    scene.eureka.say("VETS", [("localhost", scene.port(name), "UP") for name in "ab"])
    scene.gets("/vets/x", "a", "b")
    scene.eureka.say("VETS", [("127.0.0.1", scene.port("c"), "UP")])
    scene.gets("/vets/x", "c")


def test_eureka_is_asked_with_its_user_and_password(scene: Scene) -> None:
    assert {one.headers["Authorization"] for one in scene.eureka.asked} == {"Basic bWU6cGFzcyE="}


def test_the_last_list_outlives_a_eureka_that_is_away_or_knows_nobody(scene: Scene) -> None:
    scene.gets("/vets/x", "c")
    scene.eureka.ill = 503
    scene.says("upstream.lookup_failed", "vets", cause="status 503")
    assert scene.asked("/vets/x") == {"c"}
    scene.eureka.ill = None
    scene.says("upstream.lookup_works", "vets")
    scene.eureka.applications.clear()
    scene.says("upstream.lookup_empty", "vets", kept=1)
    assert scene.asked("/vets/x") == {"c"}


# -- Python -------------------------------------------------------------------------------------------------------


def test_an_iterator_of_ones_own_tells_who_there_is(scene: Scene) -> None:
    scene.gets("/odd/x", "a")
    scene.odd("b", "c")
    scene.gets("/odd/x", "b", "c")


def test_an_iterator_that_fails_is_begun_anew(scene: Scene) -> None:
    scene.odd("b")
    scene.gets("/odd/x", "b")
    scene.write("fail")
    line = scene.says("upstream.lookup_failed", "odd")
    assert (line["host"], line["cause"]) == ("discovery.odd()", "RuntimeError: the database is away")
    assert scene.asked("/odd/x") == {"b"}
    scene.odd("c")
    scene.gets("/odd/x", "c")


def test_a_list_of_what_is_no_base_url_is_not_taken(scene: Scene) -> None:
    scene.odd("c")
    scene.gets("/odd/x", "c")
    before = len(scene.gateway.log)
    scene.write("http://127.0.0.1:1 nonsense")
    eventually(
        lambda: any(
            line["event"] == "upstream.lookup_failed" and "item 2 is no base URL" in line["cause"]
            for line in scene.gateway.log[before:]
        )
    )
    assert scene.asked("/odd/x") == {"c"}
    scene.odd("a")
    scene.gets("/odd/x", "a")


# -- before it serves ---------------------------------------------------------------------------------------------


def command(scene: Scene, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        env={"PATH": "/usr/bin:/bin", **scene.environment, **environment},
        cwd=scene.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_check_opens_no_connection_and_a_gateway_starts_without_its_registries(scene: Scene) -> None:
    with Consul() as silent:
        silent.ill = "hangs"
        away = {
            "GATEWAY_CONSUL_URL": f"http://127.0.0.1:{silent.port}",
            "GATEWAY_EUREKA_URL": "http://127.0.0.1:9/eureka",
        }
        done = command(scene, "check", **away)
        assert (done.returncode, silent.asked) == (0, []), done.stderr
        environment = {name: text for name, text in scene.environment.items() if name != "GATEWAY_BIND"} | away
        with Gateway({**environment, "GATEWAY_UPSTREAM_SCHOOL__TIMEOUT": "300ms"}, cwd=scene.folder) as gateway:
            answer = gateway.get("/school/x")  # nobody has answered yet: it waits for its time, no longer
            assert (answer.status, answer.json()["reason"]) == (503, "destination_unavailable")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"GATEWAY_CONSUL_URL": ""}, "consul+ asks a registry; set GATEWAY_CONSUL_URL to where it is"),
        ({"GATEWAY_EUREKA_URL": ""}, "eureka+ asks a registry; set GATEWAY_EUREKA_URL to where it is"),
        ({"GATEWAY_CONSUL_URL": "http://a http://b"}, "expected one URL, that of an agent"),
        ({"GATEWAY_EUREKA_URL": "http://u:secret@a http://b"}, "the servers of a registry take the same user"),
        ({"GATEWAY_UPSTREAM_ODD": "http://a"}, "its instances come from Python or from GATEWAY_UPSTREAM_ODD; set one"),
        ({"GATEWAY_UPSTREAM_ODD__FROM": "discovery"}, "expected the dotted path of a Python function"),
        ({"GATEWAY_UPSTREAM_ODD__FROM": "discovery.none"}, "discovery.none"),
        ({"GATEWAY_UPSTREAM_ODD__FROM": "discovery.returns"}, "it returns, and is asked but once; `yield` the list"),
        ({"GATEWAY_UPSTREAM_ODD__FROM": "discovery.takes"}, "it is called without arguments"),
        ({"GATEWAY_UPSTREAM_ODD__FROM": "discovery.DISCOVERY"}, "discovery.DISCOVERY"),
    ],
)
def test_what_is_missing_or_wrong_is_said_before_it_serves(
    scene: Scene, environment: dict[str, str], message: str
) -> None:
    done = command(scene, "check", **environment)
    assert done.returncode == 2
    assert message in done.stderr + done.stdout
    assert "secret" not in done.stderr + done.stdout


def test_explain_and_config_show_where_instances_come_from(scene: Scene) -> None:
    explained = command(scene, "explain", "GET", "/school/x").stdout
    assert "an instance of consul+http://school?tag=v2, asked for /x" in explained
    assert "0% of the requests" in command(scene, "explain", "GET", "/mixed/x").stdout
    shown = command(scene, "config").stdout
    assert "consul+http://school?tag=v2" in shown
    assert "discovery.odd" in shown
    assert TOKEN not in shown
    assert "pass" not in shown.partition("GATEWAY_EUREKA_URL")[2].partition("\n")[0]
