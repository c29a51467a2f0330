"""Three services on free ports, the gateway in front of them, URLs to try; Ctrl-C ends it all.

The services live in this process, the gateway is its child. No way to die leaves the other alive:
- a signal to us goes on to the gateway; when it has ended, so do we (it alone decides how to drain);
- the gateway ending by itself ends us;
- us being killed closes the pipe that the child's leash reads (the kernel's own signal for that is Linux only).
"""

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
from tempfile import TemporaryDirectory

import aiohttp

from demo import services
from gateway import units

READY_WITHIN = 20.0
DRAINED_WITHIN = 10.0

# The gateway gets a session of its own: a terminal's Ctrl-C must reach it once, through us, for a second signal means
# "at once". The leash sleeps on a pipe that only we hold open, and ends the whole session when we are gone.
LEASH = 'exec 3<&0; { cat <&3; kill -TERM $$; sleep 5; kill -KILL 0; } & exec "$@" 3<&- </dev/null'

ROUTES = {
    "GATEWAY_ROUTE_USERS": "/users/** -> users",
    "GATEWAY_ROUTE_ORDERS": "/orders/** -> orders",
    "GATEWAY_ROUTE_ORDERS__TIMEOUT": "2s",
    "GATEWAY_ROUTE_PRODUCTS": "/products/** -> orders",
    "GATEWAY_ROUTE_TEAMS": "/api/teams/** -> teams:/teams/**",
    "GATEWAY_ROUTE_ORDERS_OF_USER": "GET /users/{id}/orders -> orders:/orders?user={id}",
    "GATEWAY_ROUTE_CLOCK": "GET /clock -> teams:/clock",
    "GATEWAY_ROUTE_PAGE": "GET /page -> teams:/page",
    "GATEWAY_ROUTE_LIVE": "GET /live -> teams:/live",
    "GATEWAY_ROUTE_NOWHERE": "/nowhere -> nowhere",
    "GATEWAY_ROUTE_REPORT": "GET /reports/{year}",
    "GATEWAY_ROUTE_REPORT__LEGACY": "demo.legacy.report",
    "GATEWAY_ROUTE_STOCK": "GET /stock/{product}",
    "GATEWAY_ROUTE_STOCK__LEGACY": "demo.legacy.stock",
    "GATEWAY_ROUTE_HOME": "GET /home/{id}",
    "GATEWAY_ROUTE_HOME__PART_USER": "users:/users/{id}",
    "GATEWAY_ROUTE_HOME__PART_ORDERS": "orders:/orders?user={id}",
    "GATEWAY_ROUTE_HOME__PART_TEAM": "teams:/teams/{user.team_id}?delay=1s",
    "GATEWAY_ROUTE_HOME__OPTIONAL": "team",
    "GATEWAY_ROUTE_HOME__TIMEOUT": "2s",
    "GATEWAY_ROUTE_HOME__PART_TEAM__TIMEOUT": "300ms",
}
TRY = {
    "/users": "proxied as it is",
    "/api/teams/10": "/api is stripped: the service sees /teams/10",
    "/users/3/orders": "from a template: the service sees /orders?user=3",
    "/home/3": "three services, one answer; the slow one is left out (curl -i says so)",
    "/page": "the same as its parts come; open this one in a browser",
    "/live": "orders as they are placed, over a WebSocket; for a browser too",
    "/reports/2026": "an old report: synchronous Python and Django's ORM, in threads of its own",
    "/stock/503": "an old SOAP call, by urllib",
    "/users/99": "the service's own 404 comes through",
    "/users?delay=300ms": "a slow answer",
    "/orders?delay=5s": "too slow for this route's TIMEOUT=2s: 504",
    "/nowhere": "nobody listens there: 502, and whose fault it is",
    "/nothing": "no route: 404",
    "/clock": "a stream of events (curl -N)",
    "/-/": "what the gateway is doing, live; for a browser",
}

ORDER = '{"user": 2, "product_id": 501, "quantity": 1}'


async def main() -> int:
    bind = os.environ.get("GATEWAY_BIND", "127.0.0.1:8000")
    try:
        host, port = units.bind(bind)
    except ValueError as error:
        return fail(f"GATEWAY_BIND={bind!r}: {error}")
    if trouble := cannot_bind(host, port):
        return fail(f"{bind}: {trouble}. Another port: GATEWAY_BIND=127.0.0.1:8001 {sys.executable} -m demo")
    async with AsyncExitStack() as stack:
        upstreams = {
            "users": await services.start(services.users(), stack),
            "orders": await services.start(services.orders(), stack),
            "teams": await services.start(services.teams(), stack),
            "nowhere": dead_end(stack),
        }
        folder = stack.enter_context(TemporaryDirectory(prefix="portway-demo-"))
        return await front(upstreams, f"sqlite:///{folder}/reports.sqlite3", bind, url_of(host, port))


def dead_end(stack: AsyncExitStack) -> str:
    """The URL of a port that is taken, so that nobody else gets it, and that refuses every connection."""
    taken = stack.enter_context(socket.socket())
    taken.bind(("127.0.0.1", 0))
    return "http://127.0.0.1:{1}".format(*taken.getsockname())


async def front(upstreams: dict[str, str], reports: str, bind: str, url: str) -> int:
    """Run the gateway until it ends; its exit code, 0 if we were asked to stop it."""
    environment = {"GATEWAY_LOG": "console", "GATEWAY_DRAIN": "1s"} | os.environ | ROUTES | {"GATEWAY_BIND": bind}
    environment["GATEWAY_DATABASE_REPORTS"] = reports
    environment |= {f"GATEWAY_UPSTREAM_{name.upper()}": base for name, base in upstreams.items()}
    command = [sys.executable, "-m", "gateway", "serve"]
    gateway = await asyncio.create_subprocess_exec(
        "sh", "-c", LEASH, "leash", *command, env=environment, stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop, gateway, asked)
    watching = asyncio.create_task(announce(url))
    try:
        code = await gateway.wait()
    finally:
        watching.cancel()
        with suppress(ProcessLookupError):
            os.killpg(gateway.pid, signal.SIGKILL)  # the leash, and workers that a crashed parent left behind
    if asked.is_set() and code == -signal.SIGTERM:  # it was too young to have a handler
        return 0
    return code if code >= 0 else fail(f"the gateway was killed by signal {-code}")


def stop(gateway: asyncio.subprocess.Process, asked: asyncio.Event) -> None:
    if not asked.is_set():
        asyncio.get_running_loop().call_later(DRAINED_WITHIN, gateway.kill)
    asked.set()
    with suppress(ProcessLookupError):
        gateway.terminate()


async def announce(url: str) -> None:
    if not await is_ready(url):
        fail(f"the gateway did not get ready within {READY_WITHIN:g} s; Ctrl-C ends it")
        return
    width = max(map(len, TRY)) + len(url)
    print("\nReady. Try:\n")
    for path, shows in TRY.items():
        print(f"  {url + path:{width}}  {shows}")
    print(f"  curl -id '{ORDER}' {url}/orders\n{'':{width}}    a write; its Location comes back as the gateway's")
    print("\nCtrl-C ends the gateway and the services.\n", flush=True)


async def is_ready(url: str) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(READY_WITHIN), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{url}/-/ready") as answer:
                        if answer.status == 200:
                            return True
                await asyncio.sleep(0.05)
    return False


def cannot_bind(host: str, port: int) -> str | None:
    """Asked before anything starts: another gateway on that port would answer our questions."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return None
    except OSError as error:  # its own text names the address again; a name that does not resolve has only that text
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)


def url_of(host: str, port: int) -> str:
    """Where to reach what listens on `host`: on every address means on loopback too."""
    with suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def fail(why: str) -> int:
    print(f"demo: {why}", file=sys.stderr)
    return 1
