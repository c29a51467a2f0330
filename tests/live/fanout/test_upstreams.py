"""A fan-out's parts go the way of every call: dead endpoints, limits, TLS, Host, CORS, a stop in the middle."""

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.harness import Gateway, Refuses, Wire, eventually, needs_curl, request_bytes
from tests.live.parts import EVENTS, NDJSON, Parts, all_close, begin, lines_of, parts_of, problem_of, said
from tests.live.proxy.test_tls import authority, serving, signed
from tests.live.stage import Act, silent, status

APP = "https://app.example.com"
TWENTY = [f"p{number:02}" for number in range(20)]
ROUTES: dict[str, tuple[str, dict[str, str]]] = {
    "twenty": ("/twenty/{id}", {f"PART_{name.upper()}": f"u:/{name}/{{id}}" for name in TWENTY}),
    "chain": (
        "/chain",
        {"PART_P0": "u:/p0", **{f"PART_P{at}": f"u:/p{at}/{{p{at - 1}.at}}" for at in range(1, 20)}},
    ),
    "tls": ("/tls", {"PART_A": "tls:/a", "PART_B": "u:/b"}),
    "stranger": ("/stranger", {"PART_A": "stranger:/a", "PART_B": "u:/b", "OPTIONAL": "a"}),
    "half": ("/half", {"PART_A": "half:/a", "PART_B": "half:/b"}),
    "full": ("/full/{id}", {"PART_A": "full:/a/{id}", "PART_B": "u:/b", "OPTIONAL": "a"}),
    "full_hard": ("/full-hard", {"PART_A": "full:/a/hard", "PART_B": "u:/b"}),
    "own_crowd": ("/own-crowd", {"PART_LIST": "u:/list", "PART_ITEMS": "full:/a/{list[]}", "OPTIONAL": "items"}),
    "host": ("/host", {"PART_A": "u:/a", "PART_B": "u:/b", "HOST": "preserve"}),
    "cors": ("/cors", {"PART_A": "u:/a", "CORS": APP}),
    "slow": ("/slow", {"PART_A": "u:/a", "PART_B": "u:/b"}),
    "hashed": ("/hashed", {"PART_A": "hashed:/a", "PART_B": "hashed:/b"}),
}


def environment_of(u: Parts) -> dict[str, str]:
    return {
        "GATEWAY_UPSTREAM_U": u.url,
        **{f"GATEWAY_ROUTE_{name.upper()}": line for name, (line, _) in ROUTES.items()},
        **{
            f"GATEWAY_ROUTE_{name.upper()}__{option}": text
            for name, (_, options) in ROUTES.items()
            for option, text in options.items()
        },
    }


@pytest.fixture(scope="module")
def other() -> Iterator[Parts]:
    with Parts() as parts:
        yield parts


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Parts, Parts, Path]]:
    """A service whose certificate is trusted, one whose is not, and the authority's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = authority(folder, "ours"), authority(folder, "theirs")
    good, bad = (signed(folder, name, by, "127.0.0.1") for name, by in (("good", ours), ("bad", theirs)))
    with Parts(tls=serving(good)) as trusted, Parts(tls=serving(bad)) as stranger:
        yield trusted, stranger, folder / "ours.pem"


@pytest.fixture(scope="module")
def environment(services: Parts, other: Parts, secure: tuple[Parts, Parts, Path]) -> Iterator[Mapping[str, str]]:
    trusted, stranger, certificate = secure
    refuses = Refuses()
    yield {
        **environment_of(services),
        "GATEWAY_UPSTREAM_TLS": trusted.url,
        "GATEWAY_UPSTREAM_TLS__CA_FILE": str(certificate),
        "GATEWAY_UPSTREAM_STRANGER": stranger.url,
        "GATEWAY_UPSTREAM_STRANGER__CA_FILE": str(certificate),
        "GATEWAY_UPSTREAM_HALF": f"{refuses.url},{other.url}",
        "GATEWAY_UPSTREAM_HALF__BALANCE": "round_robin",
        "GATEWAY_UPSTREAM_FULL": other.url,
        "GATEWAY_UPSTREAM_FULL__MAX_IN_FLIGHT": "1",
        "GATEWAY_UPSTREAM_FULL__QUEUE": "0",
        "GATEWAY_UPSTREAM_HASHED": f"{services.url},{other.url}",
        "GATEWAY_UPSTREAM_HASHED__BALANCE": "hash:header:x-user",
    }
    refuses.close()


@pytest.fixture(scope="module")
def gateway(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(environment, cwd=tmp_path_factory.mktemp("fan")) as running:
        yield running


# -- many parts ---------------------------------------------------------------------------------------------------


def test_twenty_parts_run_together(gateway: Gateway, u: Parts) -> None:
    acts: dict[str, Act] = {f"{name}__7": silent for name in TWENTY}
    u.script(**acts)
    with begin(gateway, "/twenty/7") as wire:
        held = [u.wait_for_request(f"/{name}/7") for name in TWENTY]
        for request in reversed(held):
            request.send(said(f'"{request.target}"'))
        answer = wire.read_answer()
    assert list(answer.json().items()) == [(name, f"/{name}/7") for name in TWENTY]
    assert parts_of(answer) == ", ".join(f"{name};s=200" for name in TWENTY)
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["attempts"], len(line["parts"])) == (20, 20)


@pytest.mark.parametrize("accept", ["*/*", NDJSON, EVENTS])
def test_a_client_that_leaves_cancels_twenty_parts(gateway: Gateway, u: Parts, accept: str) -> None:
    acts: dict[str, Act] = {f"{name}__8": silent for name in TWENTY}
    u.script(**acts)
    with begin(gateway, "/twenty/8", f"Accept: {accept}"):
        held = [u.wait_for_request(f"/{name}/8") for name in TWENTY]
    all_close(held)


def test_one_of_twenty_ends_the_others(gateway: Gateway, u: Parts) -> None:
    acts: dict[str, Act] = {f"{name}__9": silent for name in TWENTY}
    u.script(**acts)
    with begin(gateway, "/twenty/9") as wire:
        held = [u.wait_for_request(f"/{name}/9") for name in TWENTY]
        held[13].send(said("no JSON"))
        answer = wire.read_answer()
    assert (answer.status, problem_of(answer)["part"]) == (502, "p13")
    all_close([*held[:13], *held[14:]])


def test_twenty_parts_may_wait_for_one_another(gateway: Gateway, u: Parts) -> None:
    u.script(p0='{"at":"x"}')
    acts: dict[str, Act | str] = {f"p{at}__{'x' * at}": f'{{"at":"{"x" * (at + 1)}"}}' for at in range(1, 20)}
    u.script(**acts)
    answer = gateway.get("/chain")
    assert answer.json()["p19"] == {"at": "x" * 20}
    assert [request.target.split("/")[1] for request in u.requests] == [f"p{at}" for at in range(20)]


# -- endpoints ----------------------------------------------------------------------------------------------------


def test_parts_go_over_tls(gateway: Gateway, u: Parts, secure: tuple[Parts, Parts, Path]) -> None:
    secure[0].script(a="1")
    assert gateway.get("/tls").body == b'{"a":1,"b":{"at": "/b"}}'
    answer = gateway.get("/stranger")
    assert (answer.json()["a"], parts_of(answer)) == (None, "a;e=tls_certificate, b;s=200")
    assert secure[1].requests == []


def test_a_dead_endpoint_is_worked_around(gateway: Gateway, other: Parts) -> None:
    other.clear()
    answers = [gateway.get("/half") for _ in range(5)]
    assert {answer.body for answer in answers} == {b'{"a":{"at": "/a"},"b":{"at": "/b"}}'}
    assert {answer.one("gateway-complete") for answer in answers} == {"?1"}
    lines = [gateway.request_line(answer.one("x-request-id")) for answer in answers]
    assert lines[0]["attempts"] == 3  # one of the two parts began at the dead endpoint
    assert {part["endpoint"] for line in lines for part in line["parts"]} == {other.authority}


def test_parts_are_hashed_by_the_clients_word(gateway: Gateway, u: Parts) -> None:
    ends = set()
    for user in range(20):
        answer = gateway.get("/hashed", f"X-User: {user}")
        line = gateway.request_line(answer.one("x-request-id"))
        (end,) = {part["endpoint"] for part in line["parts"]}
        ends.add(end)
    assert len(ends) == 2


def test_a_full_upstream_fails_its_own_part(gateway: Gateway, u: Parts, other: Parts) -> None:
    other.clear()
    other.script(a__1=silent)
    with begin(gateway, "/full/1") as first:
        held = other.wait_for_request("/a/1")
        second = gateway.get("/full/2")
        assert (second.json(), parts_of(second)) == ({"a": None, "b": {"at": "/b"}}, "a;e=upstream_full, b;s=200")
        lines = lines_of(gateway.get("/full/3", f"Accept: {NDJSON}"))
        assert {one["part"]: one.get("reason") for one in lines[:-1]} == {"a": "upstream_full", "b": None}
        hard = gateway.get("/full-hard")
        assert (hard.status, problem_of(hard)["part"], hard.one("retry-after")) == (503, "a", "1")
        held.send(said("1"))
        assert first.read_answer().json()["a"] == 1
    assert gateway.get("/full/4").one("gateway-complete") == "?1"


def test_a_mapped_part_can_be_its_own_crowd(gateway: Gateway, u: Parts, other: Parts) -> None:
    u.script(list="[1,2,3]")
    other.clear()
    answer = gateway.get("/own-crowd")
    assert answer.json()["items"] == [{"at": "/a/1"}, None, None]
    assert parts_of(answer) == "items;n=3;ok=1;e=upstream_full, list;s=200"


# -- the request and the answer -----------------------------------------------------------------------------------


def test_the_clients_host_may_go_up(gateway: Gateway, u: Parts) -> None:
    gateway.ask(request_bytes("GET", "/host", host="shop.example.com:8443"))
    assert [request.one("host") for request in u.requests] == ["shop.example.com:8443"] * 2
    u.forget()
    gateway.ask(request_bytes("GET", "/slow", host="shop.example.com:8443"))
    assert [request.one("host") for request in u.requests] == [u.authority] * 2


@pytest.mark.parametrize("accept", ["*/*", NDJSON, EVENTS])
def test_another_origin_may_read_it(gateway: Gateway, u: Parts, accept: str) -> None:
    answer = gateway.get("/cors", f"Accept: {accept}", f"Origin: {APP}")
    assert answer.one("access-control-allow-origin") == APP
    assert {"Gateway-Parts", "Gateway-Complete"} <= set(answer.one("access-control-expose-headers").split(", "))
    assert {"Origin", "Accept"} <= set(", ".join(answer.all("vary")).split(", "))
    assert not gateway.get("/cors", "Origin: https://evil.example.com").has("access-control-allow-origin")
    assert not gateway.get("/slow", f"Origin: {APP}").has("access-control-allow-origin")


def test_a_failure_and_the_end_may_be_read_by_another_origin(gateway: Gateway, u: Parts) -> None:
    asked = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: last-event-id")
    preflight = gateway.ask(request_bytes("OPTIONS", "/cors", f"Origin: {APP}", *asked))
    assert (preflight.status, preflight.one("access-control-allow-headers"), u.requests) == (204, "last-event-id", [])
    end = gateway.get("/cors", f"Accept: {EVENTS}", "Last-Event-ID: end", f"Origin: {APP}")
    assert (end.status, end.one("access-control-allow-origin")) == (204, APP)
    u.script(a=status(500))
    failed = gateway.get("/cors", f"Origin: {APP}")
    assert (failed.status, failed.one("access-control-allow-origin")) == (502, APP)


# -- streams ------------------------------------------------------------------------------------------------------


@needs_curl
@pytest.mark.parametrize("media", [NDJSON, EVENTS])
def test_curl_shows_each_part_when_it_ends(gateway: Gateway, u: Parts, media: str) -> None:
    u.script(a=silent, b=silent)
    command = ["curl", "-sSN", "--max-time", "20", "-H", f"Accept: {media}", f"http://{gateway.authority}/slow"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        said_so_far: list[str] = []
        for name in ("b", "a"):
            u.wait_for_request(f"/{name}").send(said(f'"{name}"'))
            while f'"data":"{name}"' not in "".join(said_so_far):
                said_so_far.append(curl.stdout.readline())
                assert said_so_far[-1], "curl ended"
            assert '"complete"' not in "".join(said_so_far)
        said_so_far += curl.stdout.readlines()
        assert curl.wait(10) == 0
    assert '"complete":true' in said_so_far[-1 if media == NDJSON else -2]


@pytest.fixture
def stopped(u: Parts, tmp_path: Path) -> Iterator[tuple[Gateway, ExitStack]]:
    """A gateway that gets its SIGTERM in the test, and what is closed before it is waited for."""
    environment = {name: text for name, text in environment_of(u).items() if "_SLOW" in name or "UPSTREAM" in name}
    with Gateway({**environment, "GATEWAY_DRAIN": "500ms"}, cwd=tmp_path) as gateway, ExitStack() as stack:
        yield gateway, stack


def stop_during(gateway: Gateway, u: Parts, media: str) -> Wire:
    """Begin a stream, let one part end, and say SIGTERM while the other one is waited for."""
    u.script(a=silent, b="2")
    wire = begin(gateway, "/slow", f"Accept: {media}", "X-Request-ID: drained")
    u.wait_for_request("/a")
    wire.read_until(b'"data":2}')
    gateway.process.send_signal(signal.SIGTERM)
    gateway.wait_for_log(lambda line: line["event"] == "drain.started")
    return wire


@pytest.mark.parametrize("media", [NDJSON, EVENTS])
def test_a_stream_ends_well_while_the_gateway_drains(stopped: tuple[Gateway, ExitStack], u: Parts, media: str) -> None:
    gateway, stack = stopped
    wire = stack.enter_context(stop_during(gateway, u, media))
    u.wait_for_request("/a").send(said("1"))
    rest = wire.read_to_end()
    assert b'"data":1}' in rest
    assert b'"complete":true' in rest
    assert rest.endswith(b"0\r\n\r\n")
    assert gateway.wait() == 0
    assert gateway.request_line("drained")["status"] == 200


def test_a_stream_that_the_stop_cuts_is_seen_to_be_broken(stopped: tuple[Gateway, ExitStack], u: Parts) -> None:
    gateway, stack = stopped
    wire = stack.enter_context(stop_during(gateway, u, EVENTS))
    rest = wire.read_to_end()
    assert b"end" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
    held = u.wait_for_request("/a").connection
    eventually(lambda: not held.is_open)
    assert gateway.wait() == 0
    line = gateway.request_line("drained")
    assert (line["status"], line["reason"], [part["part"] for part in line["parts"]]) == (200, "drain_cut", ["b"])
