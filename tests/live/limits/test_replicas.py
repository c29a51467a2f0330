"""Two replicas on one PostgreSQL and one Valkey, under load, while each of them is stopped and started: none fails."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway, eventually, request_bytes
from tests.live.limits.crowd import Crowd
from tests.live.postgres import Postgres
from tests.live.valkey import Valkey

PAGE = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=1\r\nContent-Length: 5\r\n\r\nhello"
AWAY_S = 1.5
ADMIN = "Authorization: Bearer s3cret"


@pytest.mark.timeout(120)
def test_no_request_fails_while_each_backing_service_is_stopped_and_started(tmp_path: Path) -> None:
    with ExitStack() as stack:
        origin = stack.enter_context(Answers(PAGE))
        postgres, valkey = stack.enter_context(Postgres()), stack.enter_context(Valkey())
        variables = {
            "GATEWAY_WORKERS": "2",
            "GATEWAY_ADMIN_TOKEN": "s3cret",
            "GATEWAY_DATABASE_URL": postgres.url(),
            "GATEWAY_VALKEY_URL": valkey.url,
            "GATEWAY_UPSTREAM_U": origin.url,
            "GATEWAY_RATE_LIMIT": "50000/1s by client 90000/1s by all",
            "GATEWAY_ROUTE_X": "/x/** -> u",
            "GATEWAY_ROUTE_X__CACHE": "on",
        }
        gateways = [Gateway(variables, cwd=tmp_path) for _ in range(2)]
        for gateway in gateways:
            stack.callback(gateway.kill)
            gateway.start()
        crowd = Crowd([gateway.port for gateway in gateways], connections=3, request=request_bytes("GET", "/x"))
        with crowd:
            time.sleep(AWAY_S)
            for stop, start in (
                (valkey.kill, valkey.start),
                (postgres.kill, postgres.start),
                (valkey.freeze, valkey.thaw),
                (postgres.freeze, postgres.thaw),
            ):
                away(stop, start)
                eventually(lambda: all(are_well(gateway) for gateway in gateways), 20.0)
        assert set(crowd.statuses) == {200}, crowd.statuses
        assert crowd.broken == 0
        assert crowd.passed > 500
        for gateway in gateways:
            gateway.stop()
            events = [line["event"] for line in gateway.log]
            assert "limits.store_away" in events
            assert "limits.store_back" in events


def away(stop: Callable[[], None], start: Callable[[], None]) -> None:
    stop()
    try:
        time.sleep(AWAY_S)
    finally:
        start()


def are_well(gateway: Gateway) -> bool:
    """Whether both are in use again, as far as the worker that answers and the others tell."""
    status = gateway.get("/-/status", ADMIN).json()
    return status["cache"]["database"] == "works" and not status["limits"]["is_away"]
