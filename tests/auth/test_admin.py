"""Who may read the status page beside the admin."""

from collections.abc import AsyncIterator

import pytest

from tests.auth.serving import Gateway, all_of, gateway, reason
from tests.auth.test_gate import KEYS

ENVIRON = {
    "UPSTREAM_U": "http://127.0.0.1:1", "ROUTE_U": "/** -> u", "ADMIN_TOKEN": "the-admin-token",
    "AUTH_KEYS": "keys", "AUTH_KEYS__KEYS": KEYS, "ADMIN_AUTH": "keys", "ADMIN_ROLES": "partner",
}  # fmt: skip


@pytest.fixture
async def gw() -> AsyncIterator[Gateway]:
    async with gateway(ENVIRON) as found:
        yield found


ADMIN = ("Authorization", "Bearer the-admin-token")
PARTNER, OTHER = ("X-Api-Key", "acme-key"), ("X-Api-Key", "globex-key")


@pytest.mark.parametrize("path", ["/-/status", "/-/metrics", "/-/"])
async def test_who_passes_the_rule_and_has_a_role_reads(gw: Gateway, path: str) -> None:
    for fields, status in (
        ([ADMIN], 200),
        ([PARTNER], 200),
        ([OTHER], 403),
        ([("X-Api-Key", "guess")], 401),
        ([], 401),
    ):
        assert (await gw.ask(path, *fields)).status == status
    refused = await gw.ask(path)
    assert reason(refused) == "auth_missing"
    challenges = all_of(refused, "www-authenticate")
    assert challenges == ['ApiKey realm="portway"', 'Bearer realm="portway"', 'Basic realm="portway"']


async def test_who_passes_the_rule_changes_nothing(gw: Gateway) -> None:
    refused = await gw.ask("/-/cache?all=", PARTNER, method="DELETE")
    assert (refused.status, reason(refused)) == (401, "admin_required")
    assert (await gw.ask("/-/cache?all=", ADMIN, method="DELETE")).status == 200


async def test_the_rest_stays_open_or_the_admins(gw: Gateway) -> None:
    assert (await gw.ask("/-/live")).status == 200
    # The rule of the admin is none of routes.
    assert (await gw.ask("/x")).status == 502


async def test_without_a_token_others_than_this_machine_are_asked_for_the_rule() -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != "ADMIN_TOKEN"}
    async with gateway(environ) as gw:  # Host is gateway.test: no name of this machine
        assert (await gw.ask("/-/status", PARTNER)).status == 200
        assert (await gw.ask("/-/status")).status == 401
        assert (await gw.ask("/-/cache?all=", PARTNER, method="DELETE")).status == 403


async def test_the_status_shows_ways_and_no_secret(gw: Gateway) -> None:
    await gw.ask("/-/status", OTHER)
    answer = await gw.ask("/-/status", ADMIN)
    assert b'"name":"keys","kind":"keys"' in answer.body
    assert b'"forbidden":1' in answer.body
    for secret in (
        b"acme-key",
        b"globex-key",
        b"the-admin-token",
        *(line.split()[1].encode() for line in KEYS.splitlines()),
    ):
        assert secret not in answer.body
    metrics = await gw.ask("/-/metrics", ADMIN)
    assert b'portway_auth_total{outcome="forbidden",way="keys"} 1.0' in metrics.body
