"""An upstream of several endpoints: who is asked, who is not any more, and which connections are kept for whom."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live.harness import OK, PATIENCE_S, NeverAccepts, Refuses, Request, eventually
from tests.live.stage import Act, Actor, Scene, Stage, breaks_off, hangs_up, message, resets, says, silent, status

TRUSTED = "127.0.0.99"


class ServesOnce(Actor):
    """Closes a kept connection when it is used for a second request."""

    def on_request(self, request: Request) -> None:
        if request is request.connection.requests[0]:
            super().on_request(request)
        else:
            request.close()


# What a bad endpoint does, and the word or status that the log has for it.
FAILURES: dict[str, tuple[type[Actor | Refuses | NeverAccepts], Act, str | int, dict[str, str]]] = {
    "refused": (Refuses, silent, "connection_refused", {}),
    "deaf": (NeverAccepts, silent, "connect_timeout", {"CONNECT_TIMEOUT": "40ms"}),
    "reset": (Actor, resets, "connection_reset", {}),
    "hung_up": (Actor, hangs_up, "connection_reset", {}),
    "late": (Actor, silent, "response_timeout", {"TIMEOUT": "60ms"}),
    "garbage": (Actor, breaks_off(b"garbage\r\n\r\n"), "response_invalid", {}),
    "half": (Actor, breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), "response_incomplete", {}),
    "bad_gateway": (Actor, status(502), 502, {}),
    "unavailable": (Actor, status(503), 503, {}),
    "gateway_timeout": (Actor, status(504), 504, {}),
}
NO_FAILURES = [400, 404, 429, 500, 501, 505]

SCENES = {
    "hashed": Scene(Actor, Actor, Actor, BALANCE="hash:header:X-User"),
    "by_client": Scene(Actor, Actor, Actor, BALANCE="hash:client"),
    "turns": Scene(Actor, Actor, Actor, BALANCE="round_robin"),
    "least_busy": Scene(),
    **{
        name: Scene(kind, Actor, BALANCE="round_robin", RETRIES="0", **options)
        for name, (kind, _, _, options) in FAILURES.items()
    },
    **{f"says_{code}": Scene(BALANCE="round_robin", RETRIES="0") for code in NO_FAILURES},
    "alone": Scene(Actor, RETRIES="0"),
    "all_fail": Scene(BALANCE="round_robin", RETRIES="0"),
    "loses": Scene(BALANCE="round_robin", TIMEOUT="150ms"),
    "now_and_then": Scene(BALANCE="hash:header:X-User", RETRIES="0"),
    "stale": Scene(ServesOnce, ServesOnce, BALANCE="round_robin", RETRIES="0"),
    "ejected_idle": Scene(BALANCE="round_robin", RETRIES="0"),
    "returns": Scene(BALANCE="round_robin", RETRIES="0"),
    "hangs_on_trial": Scene(BALANCE="round_robin", TIMEOUT="8s"),
    "keeps_briefly": Scene(Actor, KEEPALIVE="200ms"),
    "keeps_none": Scene(Actor, KEEPALIVE="0s"),
    "keeps_long": Scene(Actor, KEEPALIVE="60s"),
    "keeps_for_some": Scene(Actor, KEEPALIVE="60s"),
    "closes": Scene(Actor),
    "says_more": Scene(Actor),
    "idle_post": Scene(Actor, KEEPALIVE="60s"),
    "idle_upload": Scene(Actor, KEEPALIVE="60s"),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(SCENES, cwd=tmp_path_factory.mktemp("upstreams"), TRUSTED_PROXIES=TRUSTED) as stage:
        begin_what_takes_time(stage)
        yield stage


def who(scene: Scene, *fields: str, source: str | None = None) -> str:
    """The name of the one that answered."""
    answer = scene.ask("GET", *fields, source=source)
    assert answer.status == 200
    return answer.body.decode()


def ask_until(scene: Scene, asked: Callable[[], bool], most: int = 50) -> None:
    """Ask until that is so."""
    for _ in range(most):
        scene.ask()
        if asked():
            return
    raise AssertionError(f"not after {most} requests")


# -- what takes seconds begins with the file, and is looked at in its last tests ---------------------------------------

began_s = dict[str, float]()


def begin_what_takes_time(stage: Stage) -> None:
    for name in ("returns", "hangs_on_trial"):
        bad = stage[name].actors[0]
        bad.act = status(503)
        ask_until(stage[name], lambda bad=bad: len(bad.asked) == 5)  # type: ignore[misc]
        began_s[name] = time.monotonic()
    for name in ("keeps_long", "keeps_for_some", "idle_post", "idle_upload"):
        stage[name].ask()
        began_s[name] = time.monotonic()


def let_pass(name: str, seconds: float) -> None:
    """Time is the fact under test: so much of it since that began."""
    eventually(lambda: time.monotonic() >= began_s[name] + seconds)


# -- balancing ----------------------------------------------------------------------------------------------------


def test_a_value_of_the_header_always_goes_to_the_same_endpoint_and_many_to_all(stage: Stage) -> None:
    homes = {user: who(stage["hashed"], f"X-User: {user}") for user in range(30)}
    again = {user: who(stage["hashed"], f"x-user:{user}", f"X-Other: {user * 7}") for user in reversed(range(30))}
    assert again == homes
    assert set(homes.values()) == {"a", "b", "c"}


def test_requests_without_the_header_are_spread(stage: Stage) -> None:
    assert len({who(stage["hashed"]) for _ in range(30)}) > 1
    assert len({who(stage["hashed"], "X-User:") for _ in range(30)}) > 1


def test_a_client_always_goes_to_the_same_endpoint_and_many_to_all(stage: Stage) -> None:
    sources = [f"127.0.0.{number}" for number in range(10, 40)]
    homes = {source: who(stage["by_client"], source=source) for source in sources}
    assert {source: who(stage["by_client"], source=source) for source in reversed(sources)} == homes
    assert set(homes.values()) == {"a", "b", "c"}


def test_a_client_is_who_a_trusted_proxy_says_it_is(stage: Stage) -> None:
    scene = stage["by_client"]
    for number in range(10, 30):
        client = f"127.0.0.{number}"
        said = who(scene, f"X-Forwarded-For: 203.0.113.{number}, {client}", source=TRUSTED)
        assert said == who(scene, source=client)


def test_a_client_cannot_choose_its_endpoint_by_saying_who_it_is(stage: Stage) -> None:
    scene = stage["by_client"]
    assert len({who(scene, f"X-Forwarded-For: 127.0.0.{number}") for number in range(10, 30)}) == 1


def test_round_robin_asks_each_in_its_turn(stage: Stage) -> None:
    asked = [who(stage["turns"]) for _ in range(9)]
    assert sorted(asked[:3]) == ["a", "b", "c"]
    assert asked == asked[:3] * 3


def test_the_less_busy_one_is_asked(stage: Stage) -> None:
    scene = stage["least_busy"]
    scene.script(silent)
    with scene.begin() as wire:
        (held,) = scene.wait_until_seen()
        (busy,) = scene.met
        assert {who(scene) for _ in range(12)} == {"a", "b"} - {busy.name}
        held.send(OK)
        assert wire.read_answer().status == 200
    assert {who(scene) for _ in range(40)} == {"a", "b"}, "both again, once both are idle"


def test_a_crowd_is_spread_over_both(stage: Stage) -> None:
    scene = stage["least_busy"]
    scene.script(*[silent] * 10)
    wires = [scene.begin() for _ in range(10)]
    held = scene.wait_until_seen(10)
    assert Counter(actor.name for actor in scene.met) == {"a": 5, "b": 5}
    for request in held:
        request.send(OK)
    for wire in wires:
        assert wire.read_answer().status == 200
        wire.close()


# -- ejection -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES)
def test_five_failures_in_a_row_eject_an_endpoint_and_the_log_says_so(stage: Stage, failure: str) -> None:
    scene = stage[failure]
    bad, good = scene.servers
    _, act, word, _ = FAILURES[failure]
    if isinstance(bad, Actor):
        bad.act = act
    failed = 0
    while not failed or len(good.asked) + failed < 10:
        assert scene.events("upstream.ejected") == []
        answer = scene.ask()
        failed += answer.status != 200 or answer.broke_off
    line = scene.wait_for("upstream.ejected")
    assert (line["level"], line["endpoint"], line["failure"]) == ("warning", bad.authority, word)
    assert 3.9 <= line["pause_s"] <= 5.0
    assert failed == 5
    assert [scene.ask().body for _ in range(6)] == [b"b"] * 6
    assert not isinstance(bad, Actor) or len(bad.asked) == 5
    assert len(scene.events("upstream.ejected")) == 1


@pytest.mark.parametrize("code", NO_FAILURES)
def test_other_errors_of_the_service_eject_nobody(stage: Stage, code: int) -> None:
    scene = stage[f"says_{code}"]
    scene.actors[0].act = status(code)
    assert Counter(scene.ask().status for _ in range(14)) == {200: 7, code: 7}
    assert scene.events("upstream.ejected") == []


def test_an_endpoint_that_hangs_is_ejected_although_no_client_saw_it(stage: Stage) -> None:
    """Each time the other one was asked too, and was quicker."""
    scene = stage["loses"]
    scene.actors[0].act = silent
    assert [scene.ask().body for _ in range(10)] == [b"b"] * 10
    line = scene.wait_for("upstream.ejected")
    assert (line["endpoint"], line["failure"]) == (scene.actors[0].authority, "response_timeout")
    assert scene.line(scene.ask())["attempts"] == 1


def test_an_only_endpoint_is_never_ejected(stage: Stage) -> None:
    scene = stage["alone"]
    scene.all_do(status(503))
    assert {scene.ask().status for _ in range(15)} == {503}
    scene.all_do(resets)
    assert {scene.ask().status for _ in range(15)} == {502}
    assert len(scene.seen) >= 30
    scene.all_do(says(OK))
    assert scene.ask().status == 200
    assert scene.events("upstream.ejected") == []


def test_of_two_endpoints_at_most_one_is_ejected(stage: Stage) -> None:
    scene = stage["all_fail"]
    scene.all_do(status(503))
    assert {scene.ask().status for _ in range(30)} == {503}
    line = scene.wait_for("upstream.ejected")
    out = [actor for actor in scene.actors if actor.authority == line["endpoint"]]
    assert [len(actor.asked) for actor in out] == [5]
    assert len(scene.seen) == 30, "the other one is asked, however often it fails"
    scene.all_do(says(OK))
    assert scene.ask().status == 200
    assert len(scene.events("upstream.ejected")) == 1


def test_a_good_answer_in_between_begins_the_row_again(stage: Stage) -> None:
    scene = stage["now_and_then"]
    key = next(f"X-User: {user}" for user in range(100) if who(scene, f"X-User: {user}") == "a")
    scene.script(*[*[status(503)] * 4, says(OK)] * 4)
    statuses = [scene.ask("GET", key).status for _ in range(20)]
    assert statuses == [503, 503, 503, 503, 200] * 4
    assert {actor.name for actor in scene.met} == {"a"}
    assert scene.events("upstream.ejected") == []


def test_connections_that_died_while_they_were_idle_eject_nobody_and_use_up_no_retry(stage: Stage) -> None:
    """`__RETRIES=0` here: the choice of an old connection was the gateway's own."""
    scene = stage["stale"]
    answers = [scene.ask() for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert {scene.line(answer)["attempts"] for answer in answers[4:]} == {2}
    assert scene.events("upstream.ejected") == []


def test_a_connection_that_died_costs_a_post_with_a_key_an_attempt_too(stage: Stage) -> None:
    scene = stage["stale"]
    scene.ask(), scene.ask()
    answer = scene.ask("POST", "Idempotency-Key: 7", body=b"once")
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 2)
    assert answer.one("proxy-status") == 'portway; details="attempts=2"'


def test_the_idle_connections_of_an_ejected_endpoint_are_closed(stage: Stage) -> None:
    scene = stage["ejected_idle"]
    bad, good = scene.actors
    scene.script(*[silent] * 6)
    wires = [scene.begin() for _ in range(6)]
    for request in scene.wait_until_seen(6):
        request.send(OK)
    for wire in wires:
        assert wire.read_answer().status == 200
        wire.close()
    assert (bad.connections_open, good.connections_open) == (3, 3)
    scene.script()
    bad.act = status(503)
    ask_until(scene, lambda: len(bad.asked) == 5)
    eventually(lambda: bad.connections_open == 0, 2.0)
    assert good.connections_open == 3


# -- connections --------------------------------------------------------------------------------------------------


def test_connections_are_kept_for_as_long_as_keepalive_says(stage: Stage) -> None:
    scene = stage["keeps_briefly"]
    (actor,) = scene.actors
    for _ in range(3):
        scene.ask()
    assert actor.connections_made == 1
    last_s = time.monotonic()
    eventually(lambda: actor.connections_open == 0)
    assert 0.18 <= time.monotonic() - last_s < 2.0
    assert scene.ask().status == 200
    assert actor.connections_made == 2


def test_a_connection_that_the_service_closed_is_used_no_more(stage: Stage) -> None:
    scene = stage["closes"]
    scene.ask()
    scene.seen[0].close()
    assert stage["turns"].ask().status == stage["turns"].ask().status == 200  # so the gateway has heard of it
    answer = scene.ask("POST", body=b"once")
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 1)
    assert scene.actors[0].connections_made == 2


def test_what_a_service_says_unasked_is_no_answer(stage: Stage) -> None:
    """A `408` on an idle connection, as a rule."""
    scene = stage["says_more"]
    scene.ask()
    scene.seen[0].send(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nslow")
    assert stage["turns"].ask().status == stage["turns"].ask().status == 200
    for method in ("GET", "POST"):
        answer = scene.ask(method)
        assert (answer.status, answer.body, scene.line(answer)["attempts"]) == (200, b"a", 1)
    assert scene.actors[0].connections_made == 2


def test_a_keepalive_of_nothing_keeps_nothing(stage: Stage) -> None:
    scene = stage["keeps_none"]
    (actor,) = scene.actors
    for number in range(1, 4):
        assert scene.ask().status == 200
        assert actor.connections_made == number
        eventually(lambda: actor.connections_open == 0)


def test_a_post_takes_no_connection_that_was_idle_for_over_a_second(stage: Stage) -> None:
    """The service may be closing it just now, and then nobody knows whether it acted on the request."""
    scene = stage["idle_post"]
    (actor,) = scene.actors
    let_pass("idle_post", 1.1)
    assert scene.ask("POST", body=b"once").status == 200
    assert actor.connections_made == 2
    assert scene.ask("POST", body=b"again").status == 200
    assert actor.connections_made == 2, "one that was used just now is good enough"


def test_nor_does_an_upload_that_is_too_large_to_be_sent_again(stage: Stage) -> None:
    scene = stage["idle_upload"]
    let_pass("idle_upload", 1.1)
    assert scene.ask("PUT", body=b"x" * 100_000).status == 200
    assert scene.actors[0].connections_made == 2


@pytest.mark.parametrize(("method", "field"), [("GET", ""), ("PUT", ""), ("POST", "Idempotency-Key: 7")])
def test_what_may_be_repeated_takes_any_connection(stage: Stage, method: str, field: str) -> None:
    scene = stage["keeps_for_some"]
    let_pass("keeps_for_some", 1.1)
    assert scene.ask(method, *filter(None, [field])).status == 200
    assert scene.actors[0].connections_made == 1


def test_requests_at_a_time_have_connections_of_their_own(stage: Stage) -> None:
    scene = stage["keeps_none"]
    scene.script(*[silent] * 3)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(scene.ask) for _ in range(3)]
        held = scene.wait_until_seen(3)
        assert len({id(request.connection) for request in held}) == 3
        for number, request in enumerate(held):
            request.send(message("200 OK", b"%d" % number))
        assert sorted(answer.result(PATIENCE_S).body for answer in answers) == [b"0", b"1", b"2"]


# -- seconds later ------------------------------------------------------------------------------------------------


def test_after_its_pause_one_request_tries_an_ejected_endpoint_and_brings_it_back(stage: Stage) -> None:
    scene = stage["returns"]
    bad, _ = scene.actors
    ejected = scene.wait_for("upstream.ejected")
    bad.forget()
    bad.act = says(message("200 OK", b"a"))
    over_s = began_s["returns"] + ejected["pause_s"]
    at_once_s = max(time.monotonic(), over_s) + 1.5
    eventually(lambda: who(scene) == "a")
    assert over_s - 0.5 <= time.monotonic() < at_once_s
    returned = scene.wait_for("upstream.returned")
    assert (returned["level"], returned["endpoint"]) == ("info", bad.authority)
    assert len(bad.asked) == 1
    assert sorted(who(scene) for _ in range(6)) == ["a", "a", "a", "b", "b", "b"]


def test_a_trial_that_hangs_keeps_its_client_for_about_a_second(stage: Stage) -> None:
    """One that was ejected is a suspect: the other one is asked long before half of the time, 4 s here, is over."""
    scene = stage["hangs_on_trial"]
    scene.actors[0].act = silent
    let_pass("hangs_on_trial", scene.wait_for("upstream.ejected")["pause_s"] + 0.1)
    asked_s = time.monotonic()
    answer = scene.ask()
    assert 0.9 <= time.monotonic() - asked_s < 3.0
    assert (answer.body, scene.line(answer)["attempts"]) == (b"b", 2)
    eventually(lambda: len(scene.events("upstream.ejected")) == 2)


def test_a_keepalive_longer_than_the_usual_one_is_kept_to(stage: Stage) -> None:
    let_pass("keeps_long", 5.2)
    scene = stage["keeps_long"]
    assert scene.actors[0].connections_open == 1
    assert scene.ask().status == 200
    assert scene.actors[0].connections_made == 1
