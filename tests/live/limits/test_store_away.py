"""Valkey is away: no request fails for it but by the chosen ON_FAILURE, none waits longer than the timeout, and the log
says it once."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import Answer, Answers, Gateway, eventually, free_port, request_bytes
from tests.live.valkey import Valkey

ADMIN = "Authorization: Bearer s3cret"
_AWAY = "limits.store_away"
_CLIENTS = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as started:
        yield started


def variables(up: Answers, valkey_url: str) -> dict[str, str]:
    return {
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        "GATEWAY_ADMIN_TOKEN": "s3cret",
        "GATEWAY_VALKEY_URL": valkey_url,
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_RATE_LIMIT_SAFE": "2/1h by client",
        "GATEWAY_RATE_LIMIT_SAFE__ON_FAILURE": "closed",
        "GATEWAY_RATE_LIMIT_LAX": "2/1h by client",
        "GATEWAY_RATE_LIMIT_LAX__ON_FAILURE": "open",
        "GATEWAY_RATE_LIMIT_API": "2/1h by client",
        "GATEWAY_ROUTE_SAFE": "/safe -> u",
        "GATEWAY_ROUTE_SAFE__RATE_LIMIT": "safe",
        "GATEWAY_ROUTE_LAX": "/lax -> u",
        "GATEWAY_ROUTE_LAX__RATE_LIMIT": "lax",
        "GATEWAY_ROUTE_API": "/api -> u",
        "GATEWAY_ROUTE_API__RATE_LIMIT": "api",
        "GATEWAY_ROUTE_MIXED": "/mixed -> u",
        "GATEWAY_ROUTE_MIXED__RATE_LIMIT": "api lax",
        "GATEWAY_ROUTE_PLAIN": "/plain -> u",
    }


@pytest.fixture(scope="module")
def gateway(up: Answers, server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(variables(up, server.url), cwd=tmp_path_factory.mktemp("away")) as started:
        yield started


class Client:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway, number = gateway, next(_CLIENTS)
        self._field = f"X-Forwarded-For: 198.19.{number >> 8}.{number & 255}"

    def get(self, target: str) -> Answer:
        return self._gateway.ask(request_bytes("GET", target, self._field))

    def statuses(self, *targets: str) -> list[int]:
        return [self.get(target).status for target in targets]


def told(gateway: Gateway) -> list[dict[str, Any]]:
    return [line for line in list(gateway.log) if line["event"].startswith("limits.store_")]


def is_counting_in_valkey(gateway: Gateway) -> bool:
    return Client(gateway).get("/safe").status == 200


def while_it_is_away(gateway: Gateway) -> None:
    """Every choice does what it says, and nobody waits."""
    closed = Client(gateway).get("/safe")
    assert (closed.status, closed.json()["reason"]) == (503, "rate_limit_unavailable")
    assert closed.one("retry-after") == "1"
    assert closed.one("ratelimit-policy") == '"safe";q=2;w=3600'
    line = gateway.request_line(closed.one("x-request-id"))
    assert (line["reason"], line["upstream"]) == ("rate_limit_unavailable", None)
    assert line["cause"]
    client = Client(gateway)
    assert client.statuses(*["/lax"] * 5) == [200] * 5
    assert not client.get("/lax").has("ratelimit")
    assert client.statuses(*["/api"] * 3) == [200, 200, 429]
    assert int(client.get("/api").one("retry-after")) > 1790
    other = Client(gateway)
    assert other.statuses(*["/mixed"] * 3) == [200, 200, 429]
    assert other.get("/plain").status == 200


def gateway_of(request: pytest.FixtureRequest) -> Gateway:
    found: Gateway = request.getfixturevalue("gateway")
    return found


@pytest.fixture(autouse=True)
def together_again(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "gateway" in request.fixturenames:
        eventually(lambda: is_counting_in_valkey(gateway_of(request)))
        eventually(lambda: not told(gateway_of(request)) or told(gateway_of(request))[-1]["event"] != _AWAY)


def since(gateway: Gateway, before: int) -> list[str]:
    return [line["event"] for line in told(gateway)[before:]]


def test_it_is_killed_and_started_again(gateway: Gateway, server: Valkey) -> None:
    assert is_counting_in_valkey(gateway)
    before = len(told(gateway))
    server.kill()
    eventually(lambda: not is_counting_in_valkey(gateway))
    while_it_is_away(gateway)
    assert since(gateway, before) == ["limits.store_away"]
    server.start()
    eventually(lambda: is_counting_in_valkey(gateway))
    eventually(lambda: since(gateway, before) == ["limits.store_away", "limits.store_back"])


def test_it_is_frozen(gateway: Gateway, server: Valkey) -> None:
    assert is_counting_in_valkey(gateway)
    before = len(told(gateway))
    server.freeze()
    try:
        took_s = []
        for _ in range(100):
            began_s = time.monotonic()
            assert Client(gateway).get("/api").status == 200
            took_s.append(time.monotonic() - began_s)
        assert sum(seconds > 0.045 for seconds in took_s) < 20, took_s  # one waited; the machine may have been busy
        while_it_is_away(gateway)
        assert since(gateway, before) == ["limits.store_away"]
        assert "no answer within 50 ms" in told(gateway)[before]["cause"]
    finally:
        server.thaw()
    eventually(lambda: is_counting_in_valkey(gateway))
    eventually(lambda: since(gateway, before) == ["limits.store_away", "limits.store_back"])


@pytest.mark.parametrize(
    ("bad", "good", "cause"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        (("SCRIPT", "FLUSH"), None, ""),
    ],
    ids=["full", "read-only", "its scripts are gone"],
)
def test_it_takes_nothing(
    gateway: Gateway, server: Valkey, bad: tuple[str, ...], good: tuple[str, ...] | None, cause: str
) -> None:
    assert is_counting_in_valkey(gateway)
    before = len(told(gateway))
    server.say(*bad)
    try:
        if good is None:
            assert is_counting_in_valkey(gateway)
            assert since(gateway, before) == []
        else:
            while_it_is_away(gateway)
            assert since(gateway, before) == ["limits.store_away"]
            assert cause in told(gateway)[before]["cause"]
    finally:
        if good is not None:
            server.say(*good)


def test_it_was_never_there(up: Answers, tmp_path: Path) -> None:
    with Gateway(variables(up, f"redis://:secret@127.0.0.1:{free_port()}"), cwd=tmp_path) as gateway:
        while_it_is_away(gateway)
        assert since(gateway, 0) == ["limits.store_away"]
        text = gateway.get("/-/metrics", ADMIN).body.decode()
        assert "portway_rate_limit_store_away 1.0" in text
        assert gateway.get("/-/status", ADMIN).json()["limits"]["is_away"] is True
        listing = gateway.get("/-/limits", ADMIN).json()
        assert (listing["store"], listing["is_away"]) == ("valkey", True)
        assert listing["limits"][0]["over"] is None
        assert gateway.ask(request_bytes("DELETE", "/-/limits?key=a", ADMIN)).status == 503
    assert ":secret@" not in "\n".join(gateway.output + gateway.errors)


def test_it_has_another_password(up: Answers, tmp_path: Path) -> None:
    with Valkey("--requirepass", "right") as server:
        wrong = f"redis://:wrong@127.0.0.1:{server.port}"
        with Gateway(variables(up, wrong), cwd=tmp_path) as gateway:
            while_it_is_away(gateway)
            assert since(gateway, 0) == ["limits.store_away"]
            assert "WRONGPASS" in told(gateway)[0]["cause"]
        assert ":wrong@" not in "\n".join(gateway.output + gateway.errors)


def test_its_url_may_come_by_a_file(up: Answers, server: Valkey, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(server.url + "\n")
    given = variables(up, "") | {"GATEWAY_VALKEY_URL_FILE": str(tmp_path / "url")}
    del given["GATEWAY_VALKEY_URL"]
    with Gateway(given, cwd=tmp_path) as gateway:
        assert is_counting_in_valkey(gateway)
        assert gateway.get("/-/limits", ADMIN).json()["store"] == "valkey"
