"""Active probes: what they ask, whom they take out and bring back, and that no request ever waits for one."""

import time
from collections.abc import Iterator, Sequence
from itertools import count

import pytest

from tests.live.harness import OK, Refuses, Request, eventually, request_bytes
from tests.live.stage import Act, Actor, Scene, Stage, says, silent, status

QUICK = {"HEALTH": "/healthz", "HEALTH_INTERVAL": "50ms", "HEALTH_TIMEOUT": "1s"}
CALM = QUICK | {"HEALTH_INTERVAL": "200ms"}


class Watched(Actor):
    """Answers probes by `health`, all else as an actor does. `probes` are apart from what was `asked`."""

    health: Act = staticmethod(says(OK))
    probe_path = "/healthz"

    def on_request(self, request: Request) -> None:
        if request.target.startswith(self.probe_path):
            self.health(request)
        else:
            super().on_request(request)

    @property
    def probes(self) -> list[Request]:
        return [request for request in self.requests if request.target.startswith(self.probe_path)]

    @property
    def asked(self) -> list[Request]:
        return [request for request in self.requests if not request.target.startswith(self.probe_path)]


class NotYetWell(Watched):
    health = staticmethod(status(500))


SCENES = {
    "shape": Scene(
        Watched,
        path="/base",
        **CALM | {"HEALTH": "/healthz?deep=%20"},
        HEADER_AUTHORIZATION="Bearer probe",
        HEADER_USER_AGENT="probed",
        HOST="preserve",
        RESPONSE_HEADER_X="y",
    ),
    "plain": Scene(Watched, **QUICK),
    "falls": Scene(Watched, Watched, **QUICK, HEALTH_FALL="3", HEALTH_RISE="2"),
    "flickers": Scene(Watched, **QUICK, HEALTH_FALL="2"),
    "all_out": Scene(
        *[NotYetWell] * 2, **QUICK | {"HEALTH_INTERVAL": "1500ms"}, HEALTH_FALL="1", MAX_IN_FLIGHT="5", QUEUE="0"
    ),
    "comes_back": Scene(NotYetWell, **QUICK, HEALTH_FALL="1", HEALTH_RISE="1"),
    "mute": Scene(Watched, **CALM | {"HEALTH_TIMEOUT": "80ms"}, HEALTH_FALL="1"),
    "dead": Scene(Refuses, **CALM, HEALTH_FALL="1"),
    "hangs": Scene(Watched, **CALM | {"HEALTH_TIMEOUT": "60s"}, HEALTH_FALL="1"),
    "idle": Scene(Watched, Watched, **QUICK, HEALTH_FALL="1", BALANCE="round_robin"),
    "two_judges": Scene(Watched, Watched, **QUICK, BALANCE="round_robin", RETRIES="0"),
    "one_place": Scene(Watched, **QUICK | {"HEALTH_TIMEOUT": "60s"}, MAX_IN_FLIGHT="1", QUEUE="0"),
    "unprobed": Scene(Watched),
    **{f"says_{code}": Scene(Watched, **QUICK, HEALTH_FALL="1") for code in (204, 302, 399)},
    **{f"says_{code}": Scene(Watched, **CALM, HEALTH_FALL="1") for code in (400, 401, 503)},
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(SCENES, cwd=tmp_path_factory.mktemp("probes")) as stage:
        yield stage


def watched(scene: Scene) -> Sequence[Watched]:
    return [server for server in scene.servers if isinstance(server, Watched)]


def more_probes(actor: Watched, number: int) -> list[Request]:
    """The next ones that come."""
    had = len(actor.probes)
    eventually(lambda: len(actor.probes) >= had + number)
    return actor.probes[had:]


# -- what they ask ------------------------------------------------------------------------------------------------


def test_a_probe_is_a_get_of_the_whole_path_with_the_upstreams_own_header(stage: Stage) -> None:
    """Not below the base URL's prefix: a health path seldom is. `Host` is the endpoint's, there is no client's."""
    (actor,) = watched(stage["shape"])
    actor_probe = eventually(lambda: actor.probes)[0]
    assert actor_probe.start == "GET /healthz?deep=%20 HTTP/1.1"
    assert dict(actor_probe.pairs) == {
        "host": actor.authority,
        "connection": "close",
        "authorization": "Bearer probe",
        "user-agent": "probed",
    }
    assert actor_probe.body == b""


def test_a_probe_says_what_it_is(stage: Stage) -> None:
    (actor,) = watched(stage["plain"])
    assert dict(eventually(lambda: actor.probes)[0].pairs) == {
        "host": actor.authority,
        "connection": "close",
        "user-agent": "portway-probe",
    }


def test_every_probe_has_a_connection_of_its_own_that_no_request_is_given(stage: Stage) -> None:
    """It asked for the close: a service that does not say so in its answer closes all the same."""
    (actor,) = watched(stage["plain"])
    for _ in range(5):
        more_probes(actor, 1)
        assert stage["plain"].ask().status == 200
    for connection in actor.connections:
        paths = [request.target for request in connection.requests]
        assert paths in ([], ["/healthz"]) or "/healthz" not in paths
    probing = [probe.connection for probe in actor.probes[:5]]
    eventually(lambda: not any(connection.is_open for connection in probing))


def test_probes_are_no_requests_in_the_log(stage: Stage) -> None:
    (actor,) = watched(stage["plain"])
    more_probes(actor, 3)
    answer = stage["plain"].ask()
    stage["plain"].line(answer)
    assert not [line for line in stage.gateway.log if "healthz" in str(line)]


def test_without_a_health_path_nothing_is_probed(stage: Stage) -> None:
    more_probes(watched(stage["plain"])[0], 3)
    assert watched(stage["unprobed"])[0].requests == []


def test_probes_come_at_their_interval_and_not_all_at_the_same_one(stage: Stage) -> None:
    (actor,) = watched(stage["plain"])
    more_probes(actor, 1)
    began_s = time.monotonic()
    more_probes(actor, 5)
    assert 5 * 0.04 <= time.monotonic() - began_s < 5 * 0.05 * 5


# -- whom they take out and bring back ----------------------------------------------------------------------------


def test_bad_probes_in_a_row_take_an_endpoint_out_and_good_ones_bring_it_back(stage: Stage) -> None:
    scene = stage["falls"]
    bad, good = watched(scene)
    more_probes(bad, 1)
    assert {scene.ask().body for _ in range(30)} == {b"a", b"b"}
    bad.requests.clear()
    bad.health = status(500)
    down = scene.wait_for("upstream.down")
    assert (down["level"], down["endpoint"], down["cause"]) == ("warning", bad.authority, "status 500")
    assert 3 <= len(bad.probes) <= 4, "one may have begun before it fell ill"
    for _ in range(10):
        assert scene.ask().body == b"b"
    assert bad.asked == []
    assert scene.events("upstream.up") == []
    bad.requests.clear()
    bad.health = says(OK)
    up = scene.wait_for("upstream.up")
    assert (up["level"], up["endpoint"]) == ("info", bad.authority)
    assert 2 <= len(bad.probes) <= 3
    assert {scene.ask().body for _ in range(30)} == {b"a", b"b"}
    assert len(scene.events("upstream.down")) == len(scene.events("upstream.up")) == 1
    assert not [line for line in stage.gateway.log if line.get("endpoint") == good.authority and "." in line["event"]]


def test_single_bad_probes_take_nobody_out(stage: Stage) -> None:
    scene = stage["flickers"]
    (actor,) = watched(scene)
    more_probes(actor, 1)
    turn = count()

    def now_and_then(request: Request) -> None:
        every_other = says(OK) if next(turn) % 2 else status(500)
        every_other(request)

    actor.health = now_and_then
    more_probes(actor, 6)
    assert scene.events("upstream.down") == []


@pytest.mark.parametrize(("code", "is_well"), [(204, True), (302, True), (399, True)])
def test_statuses_below_400_are_good(stage: Stage, code: int, *, is_well: bool) -> None:
    scene = stage[f"says_{code}"]
    (actor,) = watched(scene)
    actor.health = says(b"HTTP/1.1 %d Just So\r\nContent-Length: 0\r\nLocation: /elsewhere\r\n\r\n" % code)
    more_probes(actor, 3)
    assert (scene.ask().status, scene.events("upstream.down")) == (200, [])


@pytest.mark.parametrize("code", [400, 401, 503])
def test_other_statuses_are_bad(stage: Stage, code: int) -> None:
    scene = stage[f"says_{code}"]
    watched(scene)[0].health = status(code)
    assert scene.wait_for("upstream.down")["cause"] == f"status {code}"


def test_a_probe_that_is_not_answered_in_time_is_a_bad_one(stage: Stage) -> None:
    scene = stage["mute"]
    (actor,) = watched(scene)
    actor.health = silent
    assert scene.wait_for("upstream.down")["cause"] == "no answer within 0.08 s"
    eventually(lambda: actor.connections_open <= 1)


def test_a_probe_that_finds_nobody_is_a_bad_one_and_says_the_word(stage: Stage) -> None:
    assert stage["dead"].wait_for("upstream.down")["cause"].startswith("connection_refused")
    answer = stage["dead"].ask()
    assert (answer.status, answer.json()["reason"]) == (503, "destination_unavailable")


def test_with_all_out_the_answer_is_503_at_once_and_nobody_is_asked(stage: Stage) -> None:
    """Also with the only one of them: what probes find out is no guess. And however often, no place is lost."""
    scene = stage["all_out"]
    eventually(lambda: len(scene.events("upstream.down")) == 2)
    for _ in range(8):
        began_s = time.monotonic()
        answer = scene.ask("POST", body=b"order")
        assert time.monotonic() - began_s < 0.5
        assert (answer.status, answer.one("retry-after")) == (503, "2")
        assert answer.json()["reason"] == "destination_unavailable"
        assert answer.one("proxy-status") == 'portway; error=destination_unavailable; next-hop="all_out"'
        line = scene.line(answer)
        assert (line["reason"], line["attempts"], line["endpoint"]) == ("destination_unavailable", 0, None)
    assert scene.seen == []
    assert scene.gateway.get("/-/ready").status == 200


def test_an_only_endpoint_that_is_out_serves_again_as_soon_as_probes_say_so(stage: Stage) -> None:
    scene = stage["comes_back"]
    (actor,) = watched(scene)
    scene.wait_for("upstream.down")
    assert scene.ask().status == 503
    actor.health = says(OK)
    eventually(lambda: scene.ask().status == 200, 2.0)


def test_what_probes_took_out_has_no_idle_connections(stage: Stage) -> None:
    scene = stage["idle"]
    bad, good = watched(scene)
    for _ in range(4):
        scene.ask()
    kept = [request.connection for actor in (bad, good) for request in actor.asked]
    assert all(connection.is_open for connection in kept)
    bad.health = status(500)
    scene.wait_for("upstream.down")
    eventually(lambda: not any(request.connection.is_open for request in bad.asked), 2.0)
    assert all(request.connection.is_open for request in good.asked)


def test_a_request_in_flight_outlives_the_probes_that_take_its_endpoint_out(stage: Stage) -> None:
    scene = stage["flickers"]
    (actor,) = watched(scene)
    scene.script(silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        actor.health = status(500)
        scene.wait_for("upstream.down")
        assert scene.ask().status == 503
        request.send(OK)
        assert wire.read_answer().status == 200
    eventually(lambda: not request.connection.is_open)


def test_good_probes_do_not_bring_back_what_requests_ejected(stage: Stage) -> None:
    """Two judges: a service may be well for its health path and for nothing else."""
    scene = stage["two_judges"]
    bad, _ = watched(scene)
    bad.act = status(503)
    while len(bad.asked) < 5:
        scene.ask()
    scene.wait_for("upstream.ejected")
    more_probes(bad, 5)
    assert {scene.ask().status for _ in range(6)} == {200}
    assert len(bad.asked) == 5
    assert scene.events("upstream.up") == []


def test_no_request_waits_for_a_probe(stage: Stage) -> None:
    scene = stage["hangs"]
    (actor,) = watched(scene)
    hanging = list[Request]()
    actor.health = hanging.append
    eventually(lambda: hanging)
    with stage.gateway.connect() as wire:
        for _ in range(20):
            began_s = time.monotonic()
            wire.send(request_bytes("GET", "/hangs/x"))
            assert wire.read_answer().status == 200
            assert time.monotonic() - began_s < 0.5
    assert [probe.connection.is_open for probe in hanging] == [True], "one hung all that time"


def test_a_probe_takes_no_place_and_needs_none(stage: Stage) -> None:
    scene = stage["one_place"]
    (actor,) = watched(scene)
    scene.script(silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        more_probes(actor, 3)
        assert scene.ask().json()["reason"] == "upstream_full"
        request.send(OK)
        assert wire.read_answer().status == 200
    hanging = list[Request]()
    actor.health = hanging.append
    eventually(lambda: hanging)
    assert {scene.ask().status for _ in range(5)} == {200}
