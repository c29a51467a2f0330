"""Attempts: what is sent again and what never is, what each side saw of it, and how an attempt gets company in time."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.live.harness import OK, PATIENCE_S, Answer, NeverAccepts, Refuses, Request, eventually, request_bytes
from tests.live.stage import Act, Actor, Scene, Server, Stage, after, breaks_off, hangs_up, resets, says, silent, status

KIB = 1024
HALF = breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
# What may have been acted on, with the status and the reason of the client's answer where nothing hides it.
FAILURES: dict[str, tuple[Act, int, str | None]] = {
    "reset": (resets, 502, "connection_reset"),
    "hung_up": (hangs_up, 502, "connection_reset"),
    "garbage": (breaks_off(b"garbage\r\n\r\n"), 502, "response_invalid"),
    "late": (silent, 504, "response_timeout"),
    "503": (status(503), 503, None),
    "502": (status(502), 502, None),
    "504": (status(504), 504, None),
}
# A kept connection that turns out dead costs an attempt of its own: where attempts are counted, none is kept.
FRESH = {"KEEPALIVE": "0s"}

SCENES = {
    "two": Scene(TIMEOUT="1s"),
    "posts": Scene(TIMEOUT="200ms"),
    "refuses": Scene(Refuses, Actor, BALANCE="round_robin"),
    "deaf": Scene(NeverAccepts, Actor, BALANCE="round_robin", CONNECT_TIMEOUT="100ms"),
    "all_refuse": Scene(Refuses, Refuses),
    "never": Scene(RETRIES="0"),
    "four": Scene(Actor, Actor, Actor, Actor, RETRIES="3", **FRESH),
    "two_of_ten": Scene(RETRIES="10", **FRESH),
    "one_of_ten": Scene(Actor, RETRIES="10", **FRESH),
    "kept": Scene(),
    "no_budget": Scene(RETRY_BUDGET="0%", **FRESH),
    "no_budget_refuses": Scene(Refuses, Actor, BALANCE="round_robin", RETRY_BUDGET="0%"),
    "small_budget": Scene(Actor, RETRY_BUDGET="1%"),
    "on_503": Scene(RETRY_ON="503", **FRESH),
    "on_500": Scene(RETRY_ON="500,connection_reset", **FRESH),
    "streams": Scene(),
    "prefix": Scene(path="/base"),
    "left": Scene(TIMEOUT="400ms"),
}


# What slow scenes have until the deadline. Whoever is early is so by a good part of it, on a busy machine too.
TIME_S = 3.0
REST_S = 5.0


def trickles(request: Request) -> None:
    request.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123")
    after(REST_S, says(b"456"))(request)


class Slow(NamedTuple):
    """A request that takes its time: the only one to an upstream of its own, so that all of them can go at once."""

    scene: Scene
    acts: Sequence[Act]
    method: str = "GET"
    body: bytes = b""


def at_most(times: float, *cast: type[Server], **options: str) -> Scene:
    return Scene(*cast, TIMEOUT=f"{times * TIME_S:g}s", **FRESH | options)


GOOD = says(OK)
SLOW = {
    "none_answers": Slow(at_most(0.6), [silent, silent]),
    "first_wins": Slow(Scene(TIMEOUT=f"{TIME_S:g}s", KEEPALIVE="10m"), [after(0.75 * TIME_S, GOOD), silent]),
    "second_wins": Slow(at_most(1), [silent]),
    "second_resets": Slow(at_most(1), [after(0.75 * TIME_S, GOOD), resets]),
    "second_says_503": Slow(at_most(1), [after(0.75 * TIME_S, GOOD), status(503)]),
    "second_says_502_and_later": Slow(at_most(1), [after(0.75 * TIME_S, GOOD), status(502, "Retry-After: 7")]),
    "second_breaks_off": Slow(at_most(1), [after(0.75 * TIME_S, GOOD), HALF]),
    "first_resets": Slow(at_most(1), [after(0.6 * TIME_S, resets), after(0.25 * TIME_S, GOOD)]),
    "first_says_503": Slow(at_most(1), [after(0.6 * TIME_S, status(503)), after(0.25 * TIME_S, GOOD)]),
    "first_breaks_off": Slow(at_most(1), [after(0.6 * TIME_S, HALF), after(0.25 * TIME_S, GOOD)]),
    "only_503": Slow(at_most(1), [silent, status(503)]),
    "only_503_late": Slow(at_most(1), [after(0.6 * TIME_S, status(503)), silent]),
    "only_503_and_later": Slow(at_most(1), [silent, status(503, "Retry-After: 7")]),
    "post": Slow(at_most(1), [after(0.75 * TIME_S, GOOD)], "POST", b"once"),
    "put": Slow(at_most(1), [after(0.75 * TIME_S, GOOD)], "PUT", b"once"),
    "kept_body": Slow(at_most(1), [after(0.75 * TIME_S, GOOD), after(0.75 * TIME_S, GOOD)], "GET", b"x"),
    "large_body": Slow(at_most(1), [after(0.75 * TIME_S, GOOD)], "GET", b"x" * 100 * KIB),
    "alone": Slow(at_most(1, Actor), [after(0.75 * TIME_S, GOOD)]),
    "no_company_for_nothing": Slow(at_most(1, RETRY_BUDGET="0%"), [after(0.75 * TIME_S, GOOD)]),
    "no_company_on_503": Slow(at_most(1, RETRY_ON="503"), [after(0.75 * TIME_S, GOOD)]),
    "three": Slow(at_most(1.2, Actor, Actor, Actor, RETRIES="2"), [silent, silent]),
    "trickles": Slow(Scene(**FRESH), [trickles]),
    "trickles_alone": Slow(Scene(Actor, **FRESH), [trickles, trickles]),
    "all_trickle": Slow(Scene(**FRESH), [trickles, trickles]),
    "trickles_on_no_budget": Slow(Scene(**FRESH, RETRY_BUDGET="0%"), [trickles]),
    "trickles_past_the_time": Slow(at_most(1.2), [trickles, silent]),
    "company_trickles_past_the_time": Slow(at_most(1.2), [silent, trickles]),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    scenes = SCENES | {f"slow_{name}": slow.scene for name, slow in SLOW.items()}
    with Stage(scenes, cwd=tmp_path_factory.mktemp("retries")) as stage, ThreadPoolExecutor(len(SLOW)) as pool:
        begun.update({name: pool.submit(ask_slowly, slow) for name, slow in SLOW.items()})
        yield stage


class Outcome(NamedTuple):
    """What a client got, and when."""

    answer: Answer
    head_s: float

    @property
    def told(self) -> tuple[int, bytes]:
        assert not self.answer.broke_off
        return self.answer.status, self.answer.body


begun = dict[str, "Future[Outcome]"]()


def ask_slowly(slow: Slow) -> Outcome:
    slow.scene.script(*slow.acts)
    began_s = time.monotonic()
    with slow.scene.begin(slow.method, body=slow.body) as wire:
        answer = wire.read_head()
        head_s = time.monotonic() - began_s
        wire.read_body(answer)
    return Outcome(answer, head_s)


@pytest.fixture(scope="module")
def outcomes(stage: Stage) -> dict[str, Outcome]:
    """All of SLOW, which began with the file."""
    return {name: outcome.result(PATIENCE_S) for name, outcome in begun.items()}


def attempts(name: str, outcomes: Mapping[str, Outcome]) -> int:
    """How many the log says there were, and the service saw."""
    scene = SLOW[name].scene
    counted: int = scene.line(outcomes[name].answer)["attempts"]
    assert counted == len(scene.seen)
    return counted


def well(scene: Scene) -> Scene:
    """With a good answer from each of its endpoints, so that what other tests did to them ejects nobody now."""
    scene.script()
    while not all(actor.asked for actor in scene.actors):
        assert scene.ask().status == 200
    return scene


def told(scene: Scene) -> list[str]:
    """The requests that the script met, as they came."""
    return [actor.name for actor in scene.met]


# -- nothing was sent: elsewhere, whatever it is ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["refuses", "deaf"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_where_no_connection_is_made_any_method_goes_elsewhere(stage: Stage, name: str, method: str) -> None:
    scene = stage[name]
    scene.script()
    body = b"" if method in {"GET", "DELETE"} else b"an order"
    answers = [scene.ask(method, body=body) for _ in range(2)]
    assert [answer.body for answer in answers] == [b"b", b"b"]
    assert [request.body for request in scene.seen] == [body, body]
    again = {scene.line(answer)["attempts"]: answer for answer in answers}
    if method == "GET":
        assert set(again) == {1, 2}, "in its turn each of them is asked first"
    if 2 in again:
        assert again[2].one("proxy-status") == 'portway; details="attempts=2"'
        line = scene.line(again[2])
        assert (line["reason"], line["endpoint"]) == (None, scene.actors[0].authority)
    if 1 in again:
        assert not again[1].has("proxy-status")


def test_a_large_upload_goes_elsewhere_as_a_whole(stage: Stage) -> None:
    scene = stage["all_refuse"]
    answer = scene.ask("POST", body=b"x")
    assert (answer.status, scene.line(answer)["attempts"]) == (502, 2)
    for name, framing in (("refuses", "length"), ("deaf", "chunked")):
        scene = stage[name]
        scene.script()
        body = bytes(range(256)) * 4 * KIB
        for _ in range(2):
            if framing == "length":
                assert scene.ask("POST", body=body).status == 200
            else:
                with scene.begin("POST", "Transfer-Encoding: chunked") as wire:
                    for start in range(0, len(body), 64 * KIB):
                        wire.send(b"%x\r\n%b\r\n" % (64 * KIB, body[start : start + 64 * KIB]))
                    wire.send(b"0\r\n\r\n")
                    assert wire.read_answer().status == 200
        assert [request.body == body for request in scene.seen] == [True, True]


def test_where_nobody_can_be_reached_the_last_failure_is_the_answer(stage: Stage) -> None:
    answer = stage["all_refuse"].ask()
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    assert answer.one("proxy-status") == 'portway; error=connection_refused; next-hop="all_refuse"'
    assert stage["all_refuse"].line(answer)["attempts"] == 2


# -- sent: only what may be repeated ----------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_post_is_never_sent_twice(stage: Stage, failure: str, method: str) -> None:
    act, code, reason = FAILURES[failure]
    scene = stage["posts"]
    scene.script(act)
    answer = scene.ask(method, body=b"an order")
    assert answer.status == code
    line = scene.line(answer)
    assert (line["attempts"], line["reason"]) == (1, reason)
    assert [request.body for request in scene.seen] == [b"an order"]
    assert answer.body == b"just so" if reason is None else answer.json()["reason"] == reason


@pytest.mark.parametrize("failure", [name for name in FAILURES if name != "late"])
def test_a_get_is_sent_once_more_to_the_other_one(stage: Stage, failure: str) -> None:
    scene = well(stage["two"])
    scene.script(FAILURES[failure][0])
    answer = scene.ask("GET", f"X-Request-ID: again-{failure}", "X-A: 1")
    assert (answer.status, answer.body) == (200, scene.met[-1].name.encode())
    assert sorted(told(scene)) == ["a", "b"]
    first, second = (request for actor in scene.met for request in actor.asked)
    assert first.start == second.start
    assert [pair for pair in first.pairs if pair[0] != "host"] == [pair for pair in second.pairs if pair[0] != "host"]
    assert answer.one("proxy-status") == 'portway; details="attempts=2"'
    line = scene.line(answer)
    assert (line["attempts"], line["reason"], line["status"]) == (2, None, 200)
    assert line["endpoint"] == scene.met[-1].authority


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
def test_so_is_every_idempotent_method(stage: Stage, method: str) -> None:
    scene = well(stage["two"])
    scene.script(resets, says(b"HTTP/1.1 204 No Content\r\n\r\n"))
    answer = scene.ask(method)
    assert (answer.status, scene.line(answer)["attempts"]) == (204, 2)
    assert [request.start.split(" ")[0] for request in scene.seen] == [method] * 2


def test_a_post_with_an_idempotency_key_is_sent_again_with_it(stage: Stage) -> None:
    scene = well(stage["two"])
    scene.script(resets)
    answer = scene.ask("POST", "Idempotency-Key: order-7", body=b"an order")
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 2)
    assert [(request.one("idempotency-key"), request.body) for request in scene.seen] == [("order-7", b"an order")] * 2


@pytest.mark.parametrize("fields", [["Idempotency-Key:"], ["Idempotency-Key: 7", "Idempotency-Key: 8"]])
def test_no_key_or_two_are_no_key(stage: Stage, fields: list[str]) -> None:
    scene = well(stage["two"])
    scene.script(resets)
    answer = scene.ask("POST", *fields, body=b"an order")
    assert (answer.status, scene.line(answer)["attempts"], len(scene.seen)) == (502, 1, 1)


@pytest.mark.parametrize(("size", "again"), [(1, True), (64 * KIB, True), (64 * KIB + 1, False), (200 * KIB, False)])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_up_to_64_kib_is_kept_to_be_sent_again(stage: Stage, size: int, framing: str, *, again: bool) -> None:
    scene = well(stage["two"])
    scene.script(resets)
    body = (b"0123456789" * (size // 10 + 1))[:size]
    if framing == "length":
        answer = scene.ask("PUT", body=body)
    else:
        raw = scene.request("PUT", "Transfer-Encoding: chunked")
        answer = scene.gateway.ask(raw + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body))
    assert answer.status == (200 if again else 502)
    assert scene.line(answer)["attempts"] == (2 if again else 1)
    assert [request.body == body for request in scene.seen] == [True] * (2 if again else 1)


def test_a_body_that_is_still_coming_is_not_sent_again(stage: Stage) -> None:
    """Half of it went to one that died: the other one would get the other half."""
    scene = well(stage["two"])
    scene.script()
    with stage.gateway.connect() as wire:
        wire.send(request_bytes("PUT", "/two/x", "Content-Length: 10", body=b"01234"))
        eventually(lambda: any(request.body == b"01234" for request in scene.seen))
        scene.seen[0].reset()
        answer = wire.read_answer()
    assert (answer.status, answer.json()["reason"]) == (502, "connection_reset")
    assert len(scene.seen) == 1


def test_the_base_path_of_the_other_endpoint_goes_with_it(stage: Stage) -> None:
    scene = stage["prefix"]
    scene.script(resets)
    assert scene.ask("GET", path="/y?q=1").status == 200
    assert [request.target for request in scene.seen] == ["/base/prefix/y?q=1"] * 2
    assert {request.one("host") for request in scene.seen} == {actor.authority for actor in scene.actors}


# -- how often ----------------------------------------------------------------------------------------------------


def test_without_retries_there_is_one_attempt(stage: Stage) -> None:
    scene = stage["never"]
    scene.script(resets)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"], len(scene.seen)) == (502, 1, 1)


def test_each_endpoint_is_tried_once_before_any_is_tried_again(stage: Stage) -> None:
    scene = stage["four"]
    scene.script(resets, status(503), hangs_up)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 4)
    assert sorted(told(scene)) == ["a", "b", "c", "d"]
    assert answer.one("proxy-status") == 'portway; details="attempts=4"'


def test_retries_are_no_more_than_were_allowed(stage: Stage) -> None:
    scene = stage["four"]
    scene.script(*[resets] * 5)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (502, 4)
    assert sorted(told(scene)) == ["a", "b", "c", "d"]


def test_where_all_were_tried_one_is_tried_again_once(stage: Stage) -> None:
    """However many retries there may be: an upstream that fails everywhere is not hammered."""
    scene = stage["two_of_ten"]
    scene.script(*[resets] * 11)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (502, 3)
    assert told(scene) in (["a", "b", "a"], ["b", "a", "b"]), "the one that had the longest time to recover"


def test_an_only_endpoint_is_tried_again_once(stage: Stage) -> None:
    scene = stage["one_of_ten"]
    scene.script(*[resets] * 11)
    assert scene.line(scene.ask())["attempts"] == 2
    scene.script(resets)
    answer = scene.ask()
    assert (answer.status, scene.line(answer)["attempts"]) == (200, 2)


def test_a_budget_of_nothing_allows_no_retry(stage: Stage) -> None:
    scene = stage["no_budget"]
    scene.script(resets)
    assert scene.line(scene.ask())["attempts"] == 1
    scene = stage["no_budget_refuses"]
    assert sorted(scene.ask("POST").status for _ in range(4)) == [200, 200, 502, 502]


def test_when_the_budget_is_spent_failures_are_passed_on(stage: Stage) -> None:
    """Fifty in ten seconds are always allowed; then a share of the requests, which here is less than one."""
    scene = stage["small_budget"]
    scene.all_do(status(503))
    attempts = [scene.line(scene.ask())["attempts"] for _ in range(60)]
    assert attempts == [2] * 50 + [1] * 10
    assert len(scene.seen) == 110


# -- which failures -----------------------------------------------------------------------------------------------


def test_retry_on_says_what_is_retried(stage: Stage) -> None:
    scene = stage["on_503"]
    for act, attempts in ((status(503), 2), (status(502), 1), (status(504), 1), (resets, 1), (HALF, 1)):
        scene.script(act)
        assert scene.line(scene.ask())["attempts"] == attempts


def test_retry_on_may_say_more_than_the_usual(stage: Stage) -> None:
    scene = stage["on_500"]
    for act, attempts in ((status(500), 2), (resets, 2), (status(503), 1), (status(404), 1)):
        scene.script(act)
        assert scene.line(scene.ask())["attempts"] == attempts


@pytest.mark.parametrize("code", [400, 404, 408, 429, 500, 501, 505])
def test_other_errors_are_the_services_answer(stage: Stage, code: int) -> None:
    scene = well(stage["two"])
    scene.script(status(code))
    answer = scene.ask()
    assert (answer.status, answer.body, scene.line(answer)["attempts"]) == (code, b"just so", 1)


def test_a_503_that_says_when_to_come_again_is_passed_on(stage: Stage) -> None:
    scene = well(stage["two"])
    scene.script(status(503, "Retry-After: 7"))
    answer = scene.ask()
    assert (answer.status, answer.one("retry-after"), answer.body) == (503, "7", b"just so")
    assert not answer.has("proxy-status")
    line = scene.line(answer)
    assert (line["attempts"], line["reason"], len(scene.seen)) == (1, None, 1)


@pytest.mark.parametrize("code", [502, 504])
def test_any_other_status_with_retry_after_is_retried(stage: Stage, code: int) -> None:
    scene = well(stage["two"])
    scene.script(status(code, "Retry-After: 7"))
    assert scene.ask().status == 200


@pytest.mark.parametrize("code", [502, 503, 504])
def test_an_error_that_all_give_is_passed_on_as_the_last_one_gave_it(stage: Stage, code: int) -> None:
    scene = well(stage["two"])
    scene.script(status(code, "X-Number: 1"), status(code, "X-Number: 2", "Proxy-Status: inner; error=dns_error"))
    answer = scene.ask()
    assert (answer.status, answer.body, answer.one("x-number")) == (code, b"just so", "2")
    assert answer.all("proxy-status") == ["inner; error=dns_error", 'portway; details="attempts=2"']
    line = scene.line(answer)
    assert (line["status"], line["attempts"], line["reason"]) == (code, 2, None)


def test_the_failure_of_the_second_attempt_is_the_one_that_is_told(stage: Stage) -> None:
    scene = well(stage["two"])
    scene.script(status(503), breaks_off(b"garbage\r\n\r\n"))
    answer = scene.ask()
    assert (answer.status, answer.json()["reason"], scene.line(answer)["attempts"]) == (502, "response_invalid", 2)


def test_connections_of_answers_that_were_not_passed_on_are_kept(stage: Stage) -> None:
    scene = stage["kept"]
    scene.script()
    while len({request.connection for request in scene.seen}) < 2:
        scene.ask()
    made = [actor.connections_made for actor in scene.actors]
    for _ in range(3):
        scene.script(status(502))
        assert scene.ask().status == 200
    assert [actor.connections_made for actor in scene.actors] == made


# -- after the first byte -----------------------------------------------------------------------------------------


def test_an_answer_that_has_begun_to_leave_is_not_tried_again(stage: Stage) -> None:
    scene = stage["streams"]
    for head in (b"Content-Length: 70000", b"Transfer-Encoding: chunked"):
        scene.script(silent)
        with scene.begin() as wire:
            (request,) = scene.wait_until_seen()
            piece = b"5\r\n12345\r\n" if b"chunked" in head else b"12345"
            request.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + piece)
            answer = wire.read_head()
            wire.read_body(answer, at_least=5)
            request.reset()
            wire.read_body(answer)
        assert (answer.status, answer.body, answer.broke_off) == (200, b"12345", True)
        line = scene.line(answer)
        assert (line["attempts"], line["reason"]) == (1, "response_incomplete")
        assert len(scene.seen) == 1


def test_a_short_answer_that_breaks_off_is_hidden(stage: Stage) -> None:
    scene = stage["streams"]
    for size in (10, 64 * KIB):
        scene.script(
            breaks_off(b"HTTP/1.1 200 OK\r\nX-Bad: 1\r\nContent-Length: %d\r\n\r\n" % size + b"1" * (size - 1))
        )
        answer = scene.ask()
        assert (answer.status, answer.body) == (200, scene.met[-1].name.encode())
        assert not answer.has("x-bad")
        assert (scene.line(answer)["attempts"], len(scene.seen)) == (2, 2)


def test_a_longer_answer_that_breaks_off_is_a_broken_transfer(stage: Stage) -> None:
    scene = stage["streams"]
    size = 64 * KIB + 1
    scene.script(breaks_off(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"1" * (size - 1)))
    answer = scene.ask()
    assert (answer.status, answer.broke_off, len(scene.seen)) == (200, True, 1)


def test_a_short_answer_to_a_post_that_breaks_off_is_no_success_and_no_second_post(stage: Stage) -> None:
    scene = stage["streams"]
    scene.script(HALF)
    answer = scene.ask("POST", body=b"once")
    assert answer.broke_off or answer.status == 502
    assert (scene.line(answer)["reason"], len(scene.seen)) == ("response_incomplete", 1)


def test_where_all_break_off_the_client_never_sees_a_whole_answer(stage: Stage) -> None:
    scene = stage["streams"]
    scene.script(HALF, HALF)
    answer = scene.ask()
    assert answer.broke_off or answer.status == 502
    assert (scene.line(answer)["attempts"], scene.line(answer)["reason"]) == (2, "response_incomplete")


def test_an_answer_that_trickles_begins_within_about_a_second(outcomes: Mapping[str, Outcome]) -> None:
    """It is short and could be whole at any moment; but its client is not kept waiting for that."""
    assert outcomes["trickles_alone"].head_s < REST_S
    assert outcomes["trickles_alone"].told == (200, b"123456")
    assert outcomes["trickles_on_no_budget"].head_s < REST_S
    assert outcomes["trickles_on_no_budget"].told == (200, b"123456")
    assert outcomes["all_trickle"].head_s < REST_S
    assert outcomes["all_trickle"].told == (200, b"123456")


@pytest.mark.parametrize("name", ["trickles_past_the_time", "company_trickles_past_the_time"])
def test_an_answer_whose_head_is_here_is_in_time(outcomes: Mapping[str, Outcome], name: str) -> None:
    """`__TIMEOUT` runs until the head of an answer: however long the gateway waits for a better one, it is no 504."""
    assert outcomes[name].told == (200, b"123456")
    assert outcomes[name].head_s < REST_S


def test_an_answer_that_trickles_has_company_that_is_whole_before(outcomes: Mapping[str, Outcome]) -> None:
    _, other = SLOW["trickles"].scene.met
    assert outcomes["trickles"].told == (200, other.name.encode())
    assert outcomes["trickles"].head_s < REST_S
    assert attempts("trickles", outcomes) == 2


@pytest.mark.parametrize("event", [b"", b"7\r\ndata: 1\r\n"])
def test_an_answer_of_unknown_length_begins_at_once(stage: Stage, event: bytes) -> None:
    """Events, as a rule: the next one may be minutes away, and the first too."""
    scene = stage["streams"]
    scene.script(silent)
    with scene.begin() as wire:
        (request,) = scene.wait_until_seen()
        began_s = time.monotonic()
        request.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + event
        )
        answer = wire.read_head()
        assert time.monotonic() - began_s < 0.9  # a short one is waited for, a second
        assert wire.read_body(answer, at_least=len(event[3:-2])) == event[3:-2]
        request.send(b"0\r\n\r\n")
        wire.read_body(answer)
        assert not answer.broke_off


# -- time ---------------------------------------------------------------------------------------------------------


def test_attempts_never_go_past_the_deadline(outcomes: Mapping[str, Outcome]) -> None:
    answer, took_s = outcomes["none_answers"]
    assert 0.58 <= took_s / TIME_S < 1.1
    assert (answer.status, answer.json()["reason"]) == (504, "response_timeout")
    assert attempts("none_answers", outcomes) == 2
    scene = SLOW["none_answers"].scene
    assert sorted(told(scene)) == ["a", "b"]
    eventually(lambda: not any(request.connection.is_open for request in scene.seen))


def test_a_slow_good_answer_still_comes_and_the_other_attempt_is_given_up(outcomes: Mapping[str, Outcome]) -> None:
    assert 0.7 <= outcomes["first_wins"].head_s / TIME_S < 1.1
    assert outcomes["first_wins"].told == (200, b"hello")
    assert attempts("first_wins", outcomes) == 2
    slow, other = SLOW["first_wins"].scene.met
    assert {slow.name, other.name} == {"a", "b"}
    line = SLOW["first_wins"].scene.line(outcomes["first_wins"].answer)
    assert (line["endpoint"], line["reason"]) == (slow.authority, None)
    assert line["upstream_ms"] >= 700 * TIME_S
    eventually(lambda: not other.asked[0].connection.is_open)
    assert slow.asked[0].connection.is_open


def test_a_second_attempt_begins_at_half_of_the_time_and_the_first_answer_wins(outcomes: Mapping[str, Outcome]) -> None:
    answer, took_s = outcomes["second_wins"]
    slow, other = SLOW["second_wins"].scene.met
    assert 0.48 <= took_s / TIME_S < 0.9
    assert outcomes["second_wins"].told == (200, other.name.encode())
    assert attempts("second_wins", outcomes) == 2
    line = SLOW["second_wins"].scene.line(answer)
    assert line["endpoint"] == other.authority
    assert line["upstream_ms"] < 400 * TIME_S
    assert answer.one("proxy-status") == 'portway; details="attempts=2"'
    eventually(lambda: not slow.asked[0].connection.is_open)


@pytest.mark.parametrize("name", ["second_resets", "second_says_503", "second_says_502_and_later", "second_breaks_off"])
def test_a_second_attempt_that_fails_leaves_the_first_its_time(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert outcomes[name].told == (200, b"hello")
    assert attempts(name, outcomes) == 2


@pytest.mark.parametrize("name", ["first_resets", "first_says_503", "first_breaks_off"])
def test_a_first_attempt_that_fails_late_leaves_the_second_its_time(outcomes: Mapping[str, Outcome], name: str) -> None:
    assert outcomes[name].told == (200, b"hello")
    assert attempts(name, outcomes) == 2


@pytest.mark.parametrize("name", ["only_503", "only_503_late"])
def test_an_error_in_hand_is_passed_on_when_time_is_up(outcomes: Mapping[str, Outcome], name: str) -> None:
    """It tells more than a 504. Until then the other attempt has its time."""
    assert outcomes[name].told == (503, b"just so")
    assert 0.9 <= outcomes[name].head_s / TIME_S < 1.3
    assert attempts(name, outcomes) == 2


def test_a_503_that_says_when_to_come_again_waits_for_nobody(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["only_503_and_later"].told == (503, b"just so")
    assert outcomes["only_503_and_later"].head_s / TIME_S < 0.9


def test_a_slow_request_with_a_body_has_company_if_that_was_kept(outcomes: Mapping[str, Outcome]) -> None:
    assert outcomes["kept_body"].told == (200, b"hello")
    assert attempts("kept_body", outcomes) == 2
    assert [request.body for request in SLOW["kept_body"].scene.seen] == [b"x", b"x"]


@pytest.mark.parametrize("name", ["post", "put", "large_body", "alone", "no_company_for_nothing", "no_company_on_503"])
def test_where_no_retry_is_allowed_a_slow_attempt_has_all_of_the_time(
    outcomes: Mapping[str, Outcome], name: str
) -> None:
    """Of a POST; of a PUT, of which two at a time could do harm; of a body that was not kept; to an only endpoint;
    without a budget; and where RETRY_ON does not name it."""
    assert outcomes[name].told == (200, b"hello")
    assert attempts(name, outcomes) == 1


def test_of_three_endpoints_each_has_a_third_of_the_time(outcomes: Mapping[str, Outcome]) -> None:
    assert 0.75 <= outcomes["three"].head_s / TIME_S < 1.2
    assert outcomes["three"].answer.status == 200
    assert attempts("three", outcomes) == 3
    assert sorted(told(SLOW["three"].scene)) == ["a", "b", "c"]


def test_a_client_that_leaves_takes_all_attempts_with_it(stage: Stage) -> None:
    scene = stage["left"]
    scene.script(silent, silent)
    with scene.begin("GET", "X-Request-ID: leaves"):
        scene.wait_until_seen(2)
    line = stage.gateway.request_line("leaves")
    assert (line["status"], line["reason"], line["attempts"]) == (499, "client_gone", 2)
    eventually(lambda: not any(request.connection.is_open for request in scene.seen))


def test_nothing_of_all_this_lost_count_of_what_is_in_flight(stage: Stage) -> None:
    """One is asked as often as the other while both are idle: an attempt that never ended would repel the rest."""
    scene = stage["left"]
    scene.script()
    for _ in range(60):
        assert scene.ask().status == 200
    assert all(len(actor.asked) > 10 for actor in scene.actors)
