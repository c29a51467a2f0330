"""The table of scenarios. A row is a target, a path and, for Portway, environment variables of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.load import GET, Request
from bench.measures import BESIDE_STUCK, DOWNLOAD, ECHOES, IDLE, START, UNDER_LOAD, UNREAD, UPLOAD, Measure
from bench.tokens import WAY, token
from bench.upstream import one_kilobyte


@dataclass(frozen=True)
class Row:
    """Nothing is measured unless `path` answers 200 and, where `body` is not None, exactly that body."""

    target: str
    path: str = "/1k"
    label: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = one_kilobyte()
    endpoints: int = 1
    request: Request = GET
    counts_in_valkey: bool = False
    first_path: str = ""  # where its first answer is looked for, if not at the path itself

    @property
    def name(self) -> str:
        return self.label or self.target


@dataclass(frozen=True)
class Bar:
    """What a row's figure must be: its median, its worst round, its ratio to the row `to`, or how far `above` that."""

    row: str
    figure: str
    at_most: float | None = None
    at_least: float | None = None
    to: str = ""
    worst: bool = False
    above: bool = False


@dataclass(frozen=True)
class Scenario:
    name: str
    says: str
    measure: Measure
    rows: tuple[Row, ...]
    baseline: str = ""
    bars: tuple[Bar, ...] = ()
    connections: int | None = None  # where it is not how many the others have


def many_routes(count: int) -> dict[str, str]:
    """Routes that share their first segments, so that the first one alone does not decide."""
    return {f"GATEWAY_ROUTE_R{n:04}": f"/api/v1/service-{n:04}/items/{{id}} -> b" for n in range(1, count + 1)}


def parts(count: int) -> dict[str, str]:
    """A fan-out whose parts take 20 ms each. Parts stand in the order of their names: hence p01, not p1."""
    wanted = {f"GATEWAY_ROUTE_FAN__PART_P{n:02}": "b:/delay/20" for n in range(1, count + 1)}
    return {"GATEWAY_ROUTE_FAN": "GET /fan", **wanted}


def merged(count: int) -> bytes:
    """What `parts` come to: the answers as they are, under the names p01, p02, ..."""
    return b"{%b}" % b",".join(b'"p%02d":%b' % (n, one_kilobyte()) for n in range(1, count + 1))


LEGACY = {"GATEWAY_URLCONF": "bench.apps.legacy"}
LEGACY_BODY = b'{"report":7,"state":"done"}'
NO_WATCHDOG = {"GATEWAY_STALL": "1h"}
NO_BODY_LIMIT = {"GATEWAY_UPSTREAM_B__MAX_BODY": "0B"}

# What Firefox says of itself with each request for something on the page of a shop.
BROWSER = Request(
    fields="""\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0
Accept: */*
Accept-Language: en-GB,en;q=0.5
Accept-Encoding: gzip, deflate, br, zstd
Referer: https://shop.example.com/orders
Connection: keep-alive
Cookie: session=0f4c9a1e7b2d4c6f8a90; theme=dark; consent=essential
Sec-Fetch-Dest: empty
Sec-Fetch-Mode: cors
Sec-Fetch-Site: same-origin
Priority: u=4"""
)
WITH_TOKEN = Request(fields=f"Authorization: Bearer {token()}")
NEW_TOKENS = Request(new_tokens=30_000)  # more than a gateway remembers
LIMIT = {"GATEWAY_RATE_LIMIT": "100000/1s by client"}
TWO_WORKERS = {"GATEWAY_WORKERS": "2"}
POST = Request("POST", "Content-Type: application/json", 10_240)

SCENARIOS = (
    Scenario(
        "proxy-1k",
        "a GET of 1 KB through the gateway",
        UNDER_LOAD,
        (
            *(Row("floor"), Row("limit"), Row("django"), Row("nginx"), Row("haproxy"), Row("envoy"), Row("caddy")),
            *(Row("fastify"), Row("http-proxy"), Row("before"), Row("portway")),
            Row("portway", label="portway, 2 endpoints", endpoints=2),
        ),
        baseline="floor",
        bars=(
            Bar("portway", "cpu_s_per_10k", to="floor", at_most=0.82),
            Bar("portway, 2 endpoints", "cpu_s_per_10k", to="floor", at_most=0.86),
            Bar("portway", "cpu_s_per_10k", to="django", at_most=0.25),
        ),
    ),
    Scenario(
        "proxy-browser",
        "the same with the field lines of a browser",
        UNDER_LOAD,
        tuple(Row(target, request=BROWSER) for target in ("floor", "nginx", "envoy", "caddy", "fastify", "portway")),
        baseline="floor",
        bars=(Bar("portway", "cpu_s_per_10k", to="floor", at_most=0.9),),
    ),
    *(
        Scenario(
            f"proxy-{connections}",
            f"a GET of 1 KB at {connections} connections",
            UNDER_LOAD,
            (Row("floor"), Row("portway")),
            baseline="floor",
            bars=(Bar("portway", "cpu_s_per_10k", to="floor", at_most=0.82),),
            connections=connections,
        )
        for connections in (128, 512)
    ),
    Scenario(
        "post-10k",
        "a POST of 10 KB",
        UNDER_LOAD,
        tuple(
            Row(target, "/upload", request=POST)
            for target in ("floor", "nginx", "envoy", "caddy", "fastify", "http-proxy", "portway")
        ),
        baseline="floor",
        bars=(Bar("portway", "cpu_s_per_10k", to="floor", at_most=1.0),),
    ),
    Scenario(
        "proxy-1mib",
        "a GET of 1 MiB at 8 connections",
        UNDER_LOAD,
        tuple(
            Row(target, "/download/1048576", body=None)
            for target in ("floor", "nginx", "haproxy", "envoy", "caddy", "fastify", "http-proxy", "portway")
        ),
        baseline="floor",
        bars=(Bar("portway", "cpu_s_per_10k", to="floor", at_most=1.1),),
        connections=8,
    ),
    Scenario(
        "unread",
        "an answer of 8 MiB that its client does not read",
        UNREAD,
        (Row("floor"), Row("nginx"), Row("portway")),
        bars=(Bar("portway", "mib_a_client", at_most=0.5),),
    ),
    Scenario(
        "own-answer",
        "an answer of the gateway's own, no upstream call",
        UNDER_LOAD,
        (
            Row("hello"),
            Row("django", "/hello", "django-hello"),
            Row("portway", "/-/live", "portway /-/live", body=None),
        ),
        baseline="hello",
        bars=(Bar("portway /-/live", "cpu_s_per_10k", to="hello", at_most=2.5),),
    ),
    Scenario(
        "cache-hit",
        "1 KB that is stored, no upstream call",
        UNDER_LOAD,
        (
            Row("hello"),
            Row("nginx-cache"),
            Row("varnish"),
            Row("portway", env={"GATEWAY_ROUTE_B__CACHE": "600s"}),
        ),
        baseline="hello",
        bars=(Bar("portway", "cpu_s_per_10k", to="hello", at_most=2.2),),
    ),
    Scenario(
        "auth",
        "a GET of 1 KB with a token: taken for any field, seen before, never seen before (HS256)",
        UNDER_LOAD,
        (
            Row("portway", label="portway, no way", request=WITH_TOKEN),
            Row("portway", label="token seen before", env=WAY, request=WITH_TOKEN, body=None, first_path="/-/live"),
            Row("portway", label="new token", env=WAY, request=NEW_TOKENS, body=None, first_path="/-/live"),
        ),
        baseline="portway, no way",
        bars=(Bar("token seen before", "cpu_s_per_10k", to="portway, no way", at_most=1.03),),
    ),
    Scenario(
        "limits",
        "a GET of 1 KB under a limit by client, in the memory of one worker and in Valkey",
        UNDER_LOAD,
        (
            Row("portway", label="portway, no limit"),
            Row("portway", label="limit, worker", env=LIMIT),
            Row("portway", label="limit, Valkey", env=LIMIT, counts_in_valkey=True),
        ),
        baseline="portway, no limit",
        bars=(
            Bar("limit, worker", "cpu_s_per_10k", to="portway, no limit", at_most=1.03),
            Bar("limit, Valkey", "cpu_s_per_10k", to="portway, no limit", at_most=1.1),
        ),
    ),
    Scenario(
        "limits-host",
        "the same through two workers on one core, in the memory that they share",
        UNDER_LOAD,
        (
            Row("portway", label="2 workers, no limit", env=TWO_WORKERS),
            Row("portway", label="limit, host", env={**TWO_WORKERS, **LIMIT}),
        ),
        baseline="2 workers, no limit",
        bars=(Bar("limit, host", "cpu_s_per_10k", to="2 workers, no limit", at_most=1.03),),
    ),
    Scenario(
        "websocket",
        "round trips of 1 KiB: a bare echo, a relay by hand, nginx, and through the gateway",
        ECHOES,
        (
            Row("echo", "/echo"),
            Row("relay", "/echo"),
            Row("nginx-socket", "/echo"),
            Row("portway", "/echo", env={"GATEWAY_ROUTE_B__WEBSOCKET": "on"}),
        ),
        baseline="echo",
        bars=(
            Bar("portway", "cpu_s_per_10k", to="echo", at_most=1.5),
            Bar("portway", "cpu_s_per_10k", to="relay", at_most=1.0),
        ),
    ),
    Scenario(
        "fan-out-3",
        "three services of 20 ms each, one answer",
        UNDER_LOAD,
        (
            Row("gather", "/delay/20?parts=3", body=merged(3)),
            Row("portway", "/fan", env=parts(3), body=merged(3)),
            Row("portway", "/delay/20", "portway proxied"),
        ),
        baseline="gather",
        bars=(
            Bar("portway", "p50_ms", at_most=22.0),
            Bar("portway", "cpu_s_per_10k", to="gather", at_most=0.9),
            Bar("portway", "cpu_s_per_10k", to="portway proxied", at_most=3.6),
        ),
    ),
    Scenario(
        "fan-out-20",
        "twenty services of 20 ms each, one answer",
        UNDER_LOAD,
        (
            Row("gather", "/delay/20?parts=20", body=merged(20)),
            Row("portway", "/fan", env=parts(20), body=merged(20)),
        ),
        baseline="gather",
        bars=(Bar("portway", "cpu_s_per_10k", to="gather", at_most=1.4),),
    ),
    Scenario(
        "legacy",
        "an answer from a thread, beside the same one from an async view: 0.6 is 60 us of CPU a call",
        UNDER_LOAD,
        (
            Row("portway", "/own", "portway, async view", LEGACY, LEGACY_BODY),
            Row("portway", "/legacy", "portway, legacy", LEGACY, LEGACY_BODY),
        ),
        baseline="portway, async view",
        bars=(Bar("portway, legacy", "cpu_s_per_10k", to="portway, async view", at_most=0.6, above=True),),
    ),
    Scenario(
        "legacy-stuck",
        "a GET of 1 KB through the gateway while all threads of a legacy route are stuck and asked 50 times a second",
        BESIDE_STUCK,
        (
            Row("portway", "/1k", "portway proxied", LEGACY),
            Row("portway", "/1k?beside=stuck", "portway, beside stuck threads", LEGACY),
        ),
        baseline="portway proxied",
        bars=(Bar("portway, beside stuck threads", "p99_ms", to="portway proxied", at_most=1.1),),
    ),
    Scenario(
        "watchdog",
        "the least answer of the gateway's own, with the watchdog and with one that looks every quarter of an hour",
        UNDER_LOAD,
        (
            Row("portway", "/-/live", "without watchdog", NO_WATCHDOG, None),
            Row("portway", "/-/live", "with watchdog", body=None),
        ),
        baseline="without watchdog",
        bars=(Bar("with watchdog", "cpu_s_per_10k", to="without watchdog", at_most=1.03),),
    ),
    Scenario(
        "idle",
        "a gateway that nobody asks",
        IDLE,
        (
            Row("portway", "/-/live", "without watchdog", NO_WATCHDOG, None),
            Row("portway", "/-/live", "with watchdog", body=None),
        ),
    ),
    Scenario(
        "routes",
        "a GET of 1 KB on the last of many routes",
        UNDER_LOAD,
        tuple(
            Row("portway", f"/api/v1/service-{count:04}/items/7", f"portway, {count:,} routes", many_routes(count))
            for count in (10, 1000)
        ),
        baseline="portway, 10 routes",
        bars=(Bar("portway, 1,000 routes", "cpu_s_per_10k", to="portway, 10 routes", at_most=1.05),),
    ),
    Scenario(
        "download-1gib",
        "1 GiB from the upstream to the client",
        DOWNLOAD,
        (Row("floor"), Row("portway", env=NO_BODY_LIMIT)),
        baseline="floor",
        bars=(
            Bar("portway", "mb_per_s", to="floor", at_least=0.7),
            Bar("portway", "growth_mib", at_most=32, worst=True),
        ),
    ),
    Scenario(
        "upload-1gib",
        "1 GiB from the client to the upstream",
        UPLOAD,
        (Row("floor"), Row("portway", env=NO_BODY_LIMIT)),
        baseline="floor",
        bars=(
            Bar("portway", "mb_per_s", to="floor", at_least=0.7),
            Bar("portway", "growth_mib", at_most=32, worst=True),
        ),
    ),
    Scenario(
        "start",
        "from the start of the process to the first proxied answer, and one second later",
        START,
        (Row("floor"), Row("django"), Row("nginx"), Row("portway")),
        bars=(
            Bar("portway", "first_answer_s", at_most=1.5),
            Bar("portway", "worker_rss_mib", at_most=80),
        ),
    ),
)
