"""What comes after the gate goes by who was let in, never by what a client says of itself."""

from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from tests.auth.serving import Gateway, Service, field, gateway, service


@pytest.fixture
async def services() -> AsyncIterator[tuple[Service, Service]]:
    async with service() as one, service() as other:
        yield one, other


@pytest.fixture
async def gw(services: tuple[Service, Service]) -> AsyncIterator[Gateway]:
    keys = [f"{user} sha256:{sha256(f'key-of-{user}'.encode()).hexdigest()}" for user in ("ann", "bob")]
    environ = {
        "UPSTREAM_U": " ".join(each.url for each in services),
        "UPSTREAM_U__BALANCE": "hash:header:x-user",
        "AUTH_TEAM": "keys",
        "AUTH_TEAM__KEYS": "\n".join(keys),
        "AUTH_TEAM__HEADER_X_USER": "{user}",
        "HEADER_X_SEEN": "{header.x-user|nobody}",
        "ROUTE_A": "/a/** -> u:/{header.x-user|nobody}/**",
        "ROUTE_A__AUTH": "team",
        "ROUTE_A__RATE_LIMIT": "6/1h by header:x-user",
        "ROUTE_OPEN": "/open/** -> u:/{header.x-user|nobody}/**",
        "ROUTE_OPEN__RATE_LIMIT": "6/1h by header:x-user",
        "ROUTE_FAN": "/fan",
        "ROUTE_FAN__AUTH": "team",
        "ROUTE_FAN__PART_ONE": "u:/part?of={header.x-user|nobody}",
    }
    async with gateway(environ) as found:
        yield found


def key(user: str) -> tuple[str, str]:
    return ("X-API-Key", f"key-of-{user}")


async def test_limits_and_values_and_balance_go_by_who_was_let_in(
    gw: Gateway, services: tuple[Service, Service]
) -> None:
    statuses = [(await gw.ask("/a/x", key("ann"), ("X-User", f"forged-{n}"))).status for n in range(8)]
    assert statuses == [200] * 6 + [429] * 2
    assert (await gw.ask("/a/x", key("bob"), ("X-User", "ann"))).status == 200  # a count of his own
    reached = [each.reached("/ann/x") for each in services]
    assert sorted(map(len, reached)) == [0, 6]  # one service has them all
    for got in [*reached[0], *reached[1]]:
        assert (field(got, "x-user"), field(got, "x-seen")) == ("ann", "ann")
    (his,) = [got for each in services for got in each.reached("/bob/x")]
    assert (field(his, "x-user"), field(his, "x-seen")) == ("bob", "bob")


async def test_where_nobody_is_asked_for_nobody_is_known(gw: Gateway, services: tuple[Service, Service]) -> None:
    statuses = [(await gw.ask("/open/x", ("X-User", f"forged-{n}"))).status for n in range(8)]
    assert statuses == [200] * 6 + [429] * 2  # by the client, since the field is none
    reached = [got for each in services for got in each.reached("/nobody/x")]
    assert len(reached) == 6
    assert {(field(got, "x-user"), field(got, "x-seen")) for got in reached} == {(None, "nobody")}


async def test_parts_go_by_it_too(gw: Gateway, services: tuple[Service, Service]) -> None:
    for n in range(6):
        assert (await gw.ask("/fan", key("ann"), ("X-User", f"forged-{n}"))).status == 200
    assert sorted(len(each.reached("/part?of=ann")) for each in services) == [0, 6]
