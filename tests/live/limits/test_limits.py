"""Limits over the wire: two workers of one gateway that count together; each test is a client of its own."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.live.harness import HOME, Answer, Answers, Gateway, eventually, request_bytes

_CLIENTS = itertools.count(1)
TOKEN = "s3cret"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}"
VIEWS = """
from django.http import HttpResponse
from django.urls import path
from gateway.routing import cached, from_environment, limited, proxy, route

async def bulk(request):
    await limited(request, "bulk", cost=int(request.GET["n"]))
    return HttpResponse("done")

async def hello(request):
    return HttpResponse("hello")

urlpatterns = [
    *from_environment(),
    route("POST /bulk", bulk, rate_limit="-"),
    route("GET /python", hello, rate_limit="2/1h by client", name="python"),
    route("GET /dear", hello, rate_limit="api", cost=2, name="dear"),
    route("GET /stored", cached(proxy("stored"), "60s"), rate_limit="2/1h by client", name="stored"),
    path("django/", hello),
]
"""


@pytest.fixture(scope="module")
def gateway(up: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("limits")
    (folder / "routes.py").write_text(VIEWS)
    variables = {
        "GATEWAY_WORKERS": "2",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        "GATEWAY_ADMIN_TOKEN": TOKEN,
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_STORED": up.url,
        "GATEWAY_UPSTREAM_STRICT": up.url,
        "GATEWAY_UPSTREAM_STRICT__RATE_LIMIT": "1/1h by client",
        "GATEWAY_RATE_LIMIT": "5/1h by client",
        "GATEWAY_RATE_LIMIT_API": "3/1h by client",
        "GATEWAY_RATE_LIMIT_BULK": "10/1h by client",
        "GATEWAY_RATE_LIMIT_SEVERAL": "2/1h by header:x-tenant 4/1h by client",
        "GATEWAY_ROUTE_A": "/a/** -> u",
        "GATEWAY_ROUTE_A__RATE_LIMIT": "api",
        "GATEWAY_ROUTE_A__CORS": "https://app.test",
        "GATEWAY_ROUTE_B": "/b/** -> u",
        "GATEWAY_ROUTE_B__RATE_LIMIT": "api",
        "GATEWAY_ROUTE_OWN": "/own/** -> u",
        "GATEWAY_ROUTE_PLAIN": "/plain/** -> u",
        "GATEWAY_ROUTE_FREE": "/free/** -> u",
        "GATEWAY_ROUTE_FREE__RATE_LIMIT": "-",
        "GATEWAY_ROUTE_STRICT": "/strict/** -> strict",
        "GATEWAY_ROUTE_METERED": "/metered/** -> u",
        "GATEWAY_ROUTE_METERED__RATE_LIMIT": "1/1h by client",
        "GATEWAY_ROUTE_TENANTS": "/tenants/** -> u",
        "GATEWAY_ROUTE_TENANTS__RATE_LIMIT": "2/1h by header:x-tenant",
        "GATEWAY_ROUTE_ITEMS": "GET /items/{id} -> u",
        "GATEWAY_ROUTE_ITEMS__RATE_LIMIT": "2/1h by client+{id}",
        "GATEWAY_ROUTE_COSTLY": "/costly/** -> u",
        "GATEWAY_ROUTE_COSTLY__RATE_LIMIT": "api",
        "GATEWAY_ROUTE_COSTLY__COST": "2",
        "GATEWAY_ROUTE_SEVERAL": "/several/** -> u",
        "GATEWAY_ROUTE_SEVERAL__RATE_LIMIT": "several",
        "GATEWAY_AUTH_KEYS": "keys",
        "GATEWAY_AUTH_KEYS__KEYS": f"ann sha256:{sha256(b'one').hexdigest()}\nbob sha256:{sha256(b'two').hexdigest()}",
        "GATEWAY_ROUTE_OURS": "/ours/** -> u",
        "GATEWAY_ROUTE_OURS__AUTH": "keys",
        "GATEWAY_ROUTE_OURS__RATE_LIMIT": "2/1h by identity 4/1h by client",
        "GATEWAY_ROUTE_HOME": "GET /home/{id}",
        "GATEWAY_ROUTE_HOME__PART_A": "u:/a/{id}",
        "GATEWAY_ROUTE_HOME__PART_B": "strict:/b/{id}",
        "GATEWAY_ROUTE_OTHER": "GET /other/{id}",
        "GATEWAY_ROUTE_OTHER__PART_A": "strict:/a/{id}",
        "GATEWAY_ROUTE_OTHER__RATE_LIMIT": "api",
        "GATEWAY_ROUTE_DOWN": "/down/** -> down",
        "GATEWAY_UPSTREAM_DOWN": "http://127.0.0.1:1",
    }
    with Gateway(variables, cwd=folder) as started:
        yield started


class Client:
    """Somebody whom nobody else is: an address that the trusted peer names."""

    def __init__(self, gateway: Gateway, address: str = "") -> None:
        self.gateway = gateway
        number = next(_CLIENTS)
        self.address = address or f"198.18.{number >> 8}.{number & 255}"

    def get(self, target: str, *fields: str) -> Answer:
        return self.ask("GET", target, *fields)

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
        return self.gateway.ask(request_bytes(method, target, f"X-Forwarded-For: {self.address}", *fields, body=body))

    def statuses(self, *targets: str) -> list[int]:
        return [self.get(target).status for target in targets]


@pytest.fixture
def client(gateway: Gateway) -> Client:
    return Client(gateway)


# -- answers ------------------------------------------------------------------------------------------------------


def test_what_is_let_through_says_what_is_left(client: Client) -> None:
    answers = [client.get("/a/1") for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.one("ratelimit-policy") for answer in answers} == {'"api";q=3;w=3600'}
    assert [answer.one("ratelimit") for answer in answers] == [
        '"api";r=2;t=1200',
        '"api";r=1;t=2400',
        '"api";r=0;t=1200',
    ]
    assert not any(answer.has("retry-after") for answer in answers)


def test_a_refusal_is_a_429_that_says_when(client: Client, gateway: Gateway, up: Answers) -> None:
    client.statuses("/a/1", "/a/1", "/a/1")
    before = len(up.requests)
    refused = client.get("/a/1", "Origin: https://app.test")
    assert refused.status == 429
    assert 1190 <= int(refused.one("retry-after")) <= 1200
    assert refused.one("ratelimit-policy") == '"api";q=3;w=3600'
    assert refused.one("ratelimit") == f'"api";r=0;t={refused.one("retry-after")}'
    assert refused.one("cache-control") == "no-store"
    assert refused.one("content-type") == "application/problem+json"
    assert refused.one("access-control-allow-origin") == "https://app.test"
    problem = refused.json()
    assert (problem["reason"], problem["status"]) == ("rate_limited", 429)
    assert "At most 3 in 1h" in problem["detail"]
    line = gateway.request_line(refused.one("x-request-id"))
    assert (line["status"], line["reason"], line["route"], line["client"]) == (429, "rate_limited", "a", client.address)
    assert line["upstream"] is None
    assert len(up.requests) == before


def test_browsers_may_read_the_fields(client: Client) -> None:
    exposed = client.get("/a/1", "Origin: https://app.test").one("access-control-expose-headers")
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= {name.strip() for name in exposed.split(",")}


def test_an_upload_that_is_refused_is_not_read(client: Client, up: Answers) -> None:
    client.statuses("/a/1", "/a/1", "/a/1")
    before = len(up.requests)
    with client.gateway.connect() as wire:
        fields = (f"X-Forwarded-For: {client.address}", "Content-Length: 9000000")
        wire.send(request_bytes("PUT", "/a/1", *fields))
        refused = wire.read_answer("PUT")
    assert refused.status == 429
    assert refused.one("connection") == "close"
    assert len(up.requests) == before


def test_failures_say_what_is_left_too(client: Client) -> None:
    failed = client.get("/down/1")
    assert failed.status == 502
    assert failed.one("ratelimit") == '"down";r=4;t=720'


# -- who shares what ----------------------------------------------------------------------------------------------


def test_routes_that_name_a_limit_share_it_and_their_workers_too(client: Client, gateway: Gateway) -> None:
    targets = ["/a/1", "/b/1"] * 10  # each over a connection of its own, which either worker may have
    assert client.statuses(*targets).count(200) == 3
    assert Client(gateway).statuses("/a/1", "/b/1", "/a/1", "/b/1") == [200, 200, 200, 429]


def test_a_limit_that_is_written_out_is_the_routes_own(client: Client) -> None:
    assert client.statuses(*["/own/1"] * 6) == [200] * 5 + [429]
    assert client.get("/plain/1").one("ratelimit-policy") == '"plain";q=5;w=3600'
    assert client.get("/plain/1").one("ratelimit") == '"plain";r=3;t=1440'


def test_the_nearest_level_holds(client: Client) -> None:
    assert client.statuses("/strict/1", "/strict/1") == [200, 429]
    free = client.get("/free/1")
    assert (free.status, free.has("ratelimit"), free.has("ratelimit-policy")) == (200, False, False)


def test_lines_of_python_and_of_django_have_limits(client: Client) -> None:
    assert client.statuses("/python", "/python", "/python") == [200, 200, 429]
    assert client.statuses(*["/django/"] * 6) == [200] * 5 + [429]


def test_a_request_may_cost_more(client: Client) -> None:
    assert client.statuses("/costly/1", "/costly/1", "/a/1", "/a/1") == [200, 429, 200, 429]


def test_in_python_it_may_too(client: Client) -> None:
    assert client.statuses("/dear", "/dear", "/a/1") == [200, 429, 200]


def test_a_view_counts_what_it_likes(client: Client) -> None:
    answers = [client.ask("POST", f"/bulk?n={cost}", "Content-Length: 0") for cost in (6, 5, 4)]
    assert [answer.status for answer in answers] == [200, 429, 200]
    assert answers[0].body == b"done"
    refused = answers[1]
    assert refused.json()["reason"] == "rate_limited"
    assert 355 <= int(refused.one("retry-after")) <= 360


def test_all_that_one_value_names_hold_together(client: Client) -> None:
    def status(tenant: str) -> int:
        return client.get("/several/1", f"X-Tenant: {tenant}-{client.address}").status

    assert [status("x"), status("x"), status("x")] == [200, 200, 429]
    # What was refused by one was not counted by the other.
    assert [status("y"), status("y"), status("z")] == [200, 200, 429]
    answer = Client(client.gateway).get("/several/1", f"X-Tenant: x-{client.address}")
    assert answer.one("ratelimit-policy") == ('"several/1h/header:x-tenant";q=2;w=3600, "several/1h/client";q=4;w=3600')
    assert answer.one("ratelimit").startswith('"several/1h/header:x-tenant";r=0;t=')


def test_who_was_let_in_is_counted_wherever_he_comes_from(gateway: Gateway) -> None:
    def status(key: str, client: Client) -> int:
        return client.get("/ours/1", f"X-API-Key: {key}").status

    clients = [Client(gateway) for _ in range(3)]
    assert [status("one", client) for client in clients] == [200, 200, 429]
    assert [status("two", client) for client in clients] == [200, 200, 429]


def test_limits_by_client_are_asked_before_auth_and_by_identity_after_it(client: Client) -> None:
    answers = [client.get("/ours/1") for _ in range(5)]
    assert [answer.status for answer in answers] == [401, 401, 401, 401, 429]
    # Every limit that holds is named, whether it was asked or not.
    assert answers[0].one("ratelimit-policy") == '"ours/1h/identity";q=2;w=3600, "ours/1h/client";q=4;w=3600'
    assert answers[0].one("ratelimit") == '"ours/1h/client";r=3;t=900'
    assert client.get("/ours/1", "X-API-Key: one").status == 429


# -- keys ---------------------------------------------------------------------------------------------------------


def test_a_key_that_is_missing_falls_back_to_the_client(client: Client, gateway: Gateway) -> None:
    assert client.statuses("/tenants/1", "/tenants/1", "/tenants/1") == [200, 200, 429]
    assert Client(gateway).get("/tenants/1").status == 200
    named = [client.get("/tenants/1", f"X-Tenant: {client.address}").status for _ in range(3)]
    assert named == [200, 200, 429]  # a budget of its own, not that of the address it names


def test_a_key_may_be_long(client: Client) -> None:
    long = f"X-Tenant: {client.address}{'a' * 60_000}"
    assert [client.get("/tenants/1", long).status for _ in range(3)] == [200, 200, 429]
    assert client.get("/tenants/1", long + "b").status == 200


def test_every_spelling_of_a_parameter_is_one(client: Client) -> None:
    assert client.statuses("/items/ab", "/items/%61b", "/items/a%62", "/items/c") == [200, 200, 429, 200]


def test_a_network_of_ipv6_is_one_client_in_every_spelling(gateway: Gateway) -> None:
    number = next(_CLIENTS)
    spellings = [
        f"2001:db8:{number:x}:1::1",
        f"2001:DB8:{number:04x}:0001:0000:0000:0000:0002",
        f"[2001:db8:{number:x}:1::3]",
        f"2001:db8:{number:x}:1:ffff:ffff:ffff:ffff",
    ]
    assert [Client(gateway, one).get("/a/1").status for one in spellings] == [200, 200, 200, 429]
    assert Client(gateway, f"2001:db8:{number:x}:2::1").get("/a/1").status == 200


def test_ipv4_within_ipv6_is_what_it_is(gateway: Gateway) -> None:
    address = Client(gateway).address
    spellings = [address, f"::ffff:{address}", f"::FFFF:{address}", address]
    assert [Client(gateway, one).get("/a/1").status for one in spellings] == [200, 200, 200, 429]


# -- what counts --------------------------------------------------------------------------------------------------


def test_preflights_do_not_count(client: Client) -> None:
    asks = ("Origin: https://app.test", "Access-Control-Request-Method: GET")
    assert [client.ask("OPTIONS", "/a/1", *asks).status for _ in range(5)] == [204] * 5
    assert client.statuses("/a/1", "/a/1", "/a/1", "/a/1") == [200, 200, 200, 429]
    assert client.ask("OPTIONS", "/a/1", *asks).status == 204


def test_the_gateways_own_endpoints_do_not_count(client: Client) -> None:
    assert {client.get("/-/live").status for _ in range(10)} == {200}
    assert not client.get("/-/live").has("ratelimit")


def test_hits_of_the_cache_count(client: Client, up: Answers) -> None:
    first, second, third = (client.get("/stored") for _ in range(3))
    assert (first.status, second.status, third.status) == (200, 200, 429)
    assert second.one("ratelimit") == '"stored";r=0;t=1800'
    other = Client(client.gateway).get("/stored")
    assert other.one("ratelimit") == '"stored";r=1;t=1800'


# -- for operators ------------------------------------------------------------------------------------------------


def over(client: Client, name: str) -> dict[str, Any]:
    listing = client.get("/-/limits", AUTHORIZATION).json()
    assert listing["store"] == "host"
    (found,) = [one for one in listing["limits"] if one["name"] == name]
    return dict(found)


def test_operators_see_who_is_over_and_free_a_key(client: Client) -> None:
    before = over(client, "api")
    assert (before["rate"], before["by"], before["limit"]) == ("3/1h", "client", "api")
    client.statuses("/a/1", "/a/1", "/a/1", "/a/1")
    after = over(client, "api")
    assert (after["keys"], after["over"]) == (before["keys"] + 1, before["over"] + 1)
    freed = client.ask("DELETE", f"/-/limits?key={client.address}&limit=api", AUTHORIZATION)
    assert freed.json() == {"forgotten": 1}
    assert over(client, "api")["over"] == before["over"]
    assert client.statuses(*["/a/1"] * 8).count(200) == 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?key=", 400),
        ("?key=a&key=b", 400),
        ("?key=a&what=b", 400),
        ("?key=a&limit=none", 400),
        ("?key=a", 200),
    ],
)
def test_what_cannot_be_forgotten_is_said(client: Client, query: str, status: int) -> None:
    assert client.ask("DELETE", f"/-/limits{query}", AUTHORIZATION).status == status


def test_they_want_the_token(client: Client) -> None:
    assert client.get("/-/limits").status == 401
    assert client.ask("DELETE", "/-/limits?key=a").status == 401
    assert client.ask("POST", "/-/limits", AUTHORIZATION).status == 405


def test_the_metric_counts_by_limit_and_outcome(client: Client) -> None:
    def counted(outcome: str) -> float:
        text = client.get("/-/metrics", AUTHORIZATION).body.decode()
        lines = [line for line in text.splitlines() if line.startswith("portway_rate_limit_total{")]
        wanted = f'portway_rate_limit_total{{limit="metered",outcome="{outcome}"}} '
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    assert client.statuses("/metered/1", "/metered/1", "/metered/1") == [200, 429, 429]
    # The other worker shows its counts once a second.
    eventually(lambda: (counted("passed"), counted("refused")) == (1, 2))


def test_the_status_tells_them(client: Client) -> None:
    client.statuses("/strict/1", "/strict/1")

    def shown() -> bool:
        limits = client.get("/-/status", AUTHORIZATION).json()["limits"]
        assert (limits["store"], limits["is_away"]) == ("host", False)
        return any(one["limit"] == "strict" and one["passed"] and one["refused"] for one in limits["limits"])

    assert eventually(shown)


def command(gateway: Gateway, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "gateway", *words],
        cwd=gateway.cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(HOME), **gateway.environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_lists_and_forgets(client: Client, gateway: Gateway) -> None:
    client.statuses("/a/1", "/a/1", "/a/1", "/a/1")
    listed = command(gateway, "limits")
    assert listed.returncode == 0, listed.stderr
    assert "Counted in: memory that the workers of this gateway share" in listed.stdout
    (row,) = [line.split() for line in listed.stdout.splitlines() if line.startswith("api ")]
    assert row[:3] == ["api", "3/1h", "client"]
    assert int(row[4]) >= 1
    freed = command(gateway, "limits", "forget", client.address, "--limit", "api")
    assert (freed.returncode, freed.stdout) == (0, "Forgotten: 1 count.\n")
    assert client.get("/a/1").status == 200
    assert command(gateway, "limits", "forget", "nobody", "--limit", "none").returncode == 1


def test_without_a_gateway_the_command_says_so(gateway: Gateway, tmp_path: Path) -> None:
    asked = command(gateway, "limits", "--url", "http://127.0.0.1:1")
    assert asked.returncode == 1
    assert "http://127.0.0.1:1 does not answer" in asked.stderr


def test_explain_tells_which_limits_a_request_meets(gateway: Gateway) -> None:
    said = command(gateway, "explain", "GET", "/several/1", "-H", "X-Tenant: acme").stdout
    assert "Limits" in said
    (row,) = [line.split() for line in said.splitlines() if line.split()[:1] == ["several/1h/header:x-tenant"]]
    assert row == ["several/1h/header:x-tenant", "2/1h", "by", "header:x-tenant", "header:x-tenant=acme"]


def limits_explained(gateway: Gateway, path: str) -> list[str]:
    lines = command(gateway, "explain", "GET", path).stdout.partition("\nLimits\n")[2].splitlines()
    return [line.split()[1] for line in itertools.takewhile(bool, lines)]


def test_a_fan_out_meets_the_limits_of_all_its_upstreams_unless_it_has_its_own(gateway: Gateway) -> None:
    assert sorted(limits_explained(gateway, "/home/1")) == ["1/1h", "5/1h"]
    assert limits_explained(gateway, "/other/1") == ["3/1h"]


def test_routes_tells_what_is_set(gateway: Gateway) -> None:
    rows = {row["name"]: row for row in json.loads(command(gateway, "routes", "--json").stdout)}
    assert rows["a"]["options"]["rate_limit"] == "api"
    assert rows["costly"]["options"] == {"rate_limit": "api", "cost": "2"}
    assert rows["plain"]["inherited"]["rate_limit"] == "GATEWAY_RATE_LIMIT"
    assert rows["python"]["options"]["rate_limit"] == "2/1h by client"
