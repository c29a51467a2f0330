"""Whoever is not let in is not answered by the service that stands in either."""

from collections.abc import AsyncIterator

import pytest

from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.routing import route
from tests.auth.serving import Gateway, Service, gateway, reason, service

KINDS = ("ASK", "CALLS", "OWN")


@pytest.fixture
async def spare() -> AsyncIterator[Service]:
    async with service() as found:
        yield found


async def fails(request: GatewayRequest) -> GatewayResponse:
    return GatewayResponse(503, [])


@pytest.fixture
async def gw(spare: Service) -> AsyncIterator[Gateway]:
    environ = {
        "UPSTREAM_SPARE": spare.url,
        "UPSTREAM_DEAD": "http://127.0.0.1:1",
        "AUTH_ASK": "ask dead:/verify",
        "AUTH_CALLS": "python tests.auth.own.calls_dead",
        "AUTH_OWN": "python tests.auth.own.check",
        **{f"ROUTE_{name}": f"/{name.lower()} -> dead" for name in KINDS},
        **{f"ROUTE_{name}__AUTH": name.lower() for name in KINDS},
        "ON_4XX": "spare:/stands-in",
        "ON_5XX": "spare:/stands-in",
        **{f"ROUTE_{name}__ON_4XX": "spare:/stands-in" for name in KINDS},
        **{f"ROUTE_{name}__ON_5XX": "spare:/stands-in" for name in KINDS},
    }
    lines = [route(f"/view/{name.lower()}", fails, auth=name.lower()) for name in KINDS]
    async with gateway(environ, lines) as found:
        yield found


@pytest.mark.parametrize("before", ["/", "/view/"])
@pytest.mark.parametrize(
    ("way", "own", "word"),
    [
        ("ask", "", "auth_unavailable"),
        ("calls", "", "connection_refused"),
        ("own", "", "auth_missing"),
        ("own", "expired", "auth_expired"),
        ("own", "away", "auth_unavailable"),
        ("own", "raises", "view_error"),
        ("own", "nonsense", "view_error"),
    ],
)
async def test_a_refusal_is_not_answered_by_another_service(
    gw: Gateway, spare: Service, before: str, way: str, own: str, word: str
) -> None:
    answer = await gw.ask(f"{before}{way}", *([("X-Own", own)] if own else []))
    assert reason(answer) == word
    assert not spare.requests


@pytest.mark.parametrize("path", ["/own", "/view/own"])
async def test_who_is_let_in_is_answered_by_it(gw: Gateway, spare: Service, path: str) -> None:
    answer = await gw.ask(path, ("X-Own", "carol"))
    assert answer.status == 200
    assert [one["path"] for one in spare.requests] == ["/stands-in"]


@pytest.mark.parametrize(
    "said",
    [
        {"AUTH": "own"},
        {"UPSTREAM_DEAD__AUTH": "own", "UPSTREAM_DEAD__ROLES": "boss", "UPSTREAM_SPARE__ROLES": "boss owner"},
        {"ROUTE_A__AUTH": "-"},  # said so
    ],
)
async def test_a_guarded_service_stands_in_where_the_route_lets_nobody_else_in(
    spare: Service, said: dict[str, str]
) -> None:
    environ = {
        "UPSTREAM_SPARE": spare.url,
        "UPSTREAM_SPARE__AUTH": "own",
        "UPSTREAM_DEAD": "http://127.0.0.1:1",
        "AUTH_OWN": "python tests.auth.own.check",
        "ROUTE_A": "/a -> dead",
        "ROUTE_A__ON_5XX": "spare:/stands-in",
    }
    async with gateway({**environ, **said}) as gw:
        assert (await gw.ask("/a", ("X-Own", "carol"))).status == 200
