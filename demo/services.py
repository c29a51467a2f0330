"""Three small services with one story: users belong to teams and order products.

`python -m demo.services 9003 9004 9005` starts users, orders (with products) and teams, for the recipes in docs/;
`python -m demo.services users=0.0.0.0:8000` one of them, for compose.yaml.

Every answer can be played with from outside: `?delay=300ms` (also 0.3s, or 0.3) keeps it waiting, `?status=503`
replaces it. Any other word of the query filters a list by the field of that name: `/orders?user=2`.
"""

import asyncio
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from demo import soap

Row = dict[str, object]
Table = dict[int, Row]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

LONGEST_DELAY = 60.0
LISTENERS = web.AppKey("listeners", set[web.WebSocketResponse])


def table(*rows: Row) -> Table:
    return {int(str(row["id"])): row for row in rows}


USERS = table(
    {"id": 1, "name": "Ada Brandt", "email": "ada@example.com", "team_id": 10},
    {"id": 2, "name": "Ben Osei", "email": "ben@example.com", "team_id": 10},
    {"id": 3, "name": "Chiara Neri", "email": "chiara@example.com", "team_id": 20},
    {"id": 4, "name": "Dao Minh", "email": "dao@example.com", "team_id": 20},
    {"id": 5, "name": "Emil Sørensen", "email": "emil@example.com", "team_id": 30},
)
TEAMS = table(
    {"id": 10, "name": "Platform", "city": "Rotterdam", "lead": 1},
    {"id": 20, "name": "Storefront", "city": "Torino", "lead": 3},
    {"id": 30, "name": "Warehouse", "city": "Aarhus", "lead": 5},
)
PRODUCTS = table(
    {"id": 501, "name": "Desk lamp", "price_cents": 4900},
    {"id": 502, "name": "Notebook, ruled", "price_cents": 650},
    {"id": 503, "name": "Standing desk", "price_cents": 38900},
    {"id": 504, "name": "Headphones", "price_cents": 12900},
)
ORDERS = table(
    {"id": 9001, "user": 1, "product_id": 503, "quantity": 1, "placed": "2026-03-02"},
    {"id": 9002, "user": 1, "product_id": 501, "quantity": 2, "placed": "2026-03-09"},
    {"id": 9003, "user": 2, "product_id": 504, "quantity": 1, "placed": "2026-03-11"},
    {"id": 9004, "user": 3, "product_id": 502, "quantity": 12, "placed": "2026-04-01"},
    {"id": 9005, "user": 3, "product_id": 501, "quantity": 1, "placed": "2026-04-01"},
    {"id": 9006, "user": 5, "product_id": 502, "quantity": 3, "placed": "2026-04-20"},
)


def users() -> web.Application:
    return service(USERS, "users")


def orders() -> web.Application:
    app = web.Application(middlewares=[play])
    app[LISTENERS] = set()
    app.router.add_get("/orders/live", live)  # before /orders/{id}
    add_reads(app, ORDERS, "orders")
    app.router.add_post("/orders", place_order)
    app.router.add_post("/soap/stock", soap.stock)
    add_reads(app, PRODUCTS, "products")
    return app


def teams() -> web.Application:
    app = service(TEAMS, "teams")
    app.router.add_get("/clock", clock)
    app.router.add_get("/page", page("page.html"))
    app.router.add_get("/live", page("live.html"))
    return app


def service(rows: Table, name: str) -> web.Application:
    app = web.Application(middlewares=[play])
    add_reads(app, rows, name)
    return app


def add_reads(app: web.Application, rows: Table, name: str) -> None:
    """GET /name, filtered by what the query names, and GET /name/{id}."""

    async def listed(request: web.Request) -> web.Response:
        return web.json_response([row for row in rows.values() if matches(row, request.query)])

    async def one(request: web.Request) -> web.Response:
        wanted = request.match_info["id"]
        row = rows.get(int(wanted)) if wanted.isdecimal() else None
        if row is None:
            return problem(404, f"/{name} has no {wanted}; it has {', '.join(map(str, rows))}")
        return web.json_response(row)

    app.router.add_get(f"/{name}", listed)
    app.router.add_get(f"/{name}/{{id}}", one)


def matches(row: Row, query: Mapping[str, str]) -> bool:
    return all(str(row[field]) == value for field, value in query.items() if field in row)


async def place_order(request: web.Request) -> web.Response:
    """A write, kept until the demo ends. Its Location names this service; the gateway makes it its own."""
    try:
        wish = await request.json()
        order = {field: int(wish[field]) for field in ("user", "product_id", "quantity")}
    except (ValueError, KeyError, TypeError):
        return problem(400, 'send JSON like {"user": 1, "product_id": 501, "quantity": 1}')
    if order["product_id"] not in PRODUCTS:
        return problem(422, f"no product {order['product_id']}; there are {', '.join(map(str, PRODUCTS))}")
    row: Row = {"id": max(ORDERS) + 1, **order, "placed": datetime.now(UTC).date().isoformat()}
    ORDERS.update(table(row))
    listeners = request.app[LISTENERS]
    for listener in [*listeners]:
        with suppress(ConnectionError):
            await listener.send_json(row)
    where = request.url.origin().with_path(f"/orders/{row['id']}")
    return web.json_response(row, status=201, headers={"Location": str(where)})


async def live(request: web.Request) -> web.StreamResponse:
    """A WebSocket that tells of every order as it is placed; the newest one comes first."""
    listener = web.WebSocketResponse()
    await listener.prepare(request)
    request.app[LISTENERS].add(listener)
    try:
        await listener.send_json(ORDERS[max(ORDERS)])
        async for _ in listener:
            pass  # nothing is asked of a page
    finally:
        request.app[LISTENERS].discard(listener)
    return listener


async def clock(request: web.Request) -> web.StreamResponse:
    """Server-sent events without end: one a second, each sent as it comes."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    while True:
        await answer.write(f"event: tick\ndata: {datetime.now(UTC).isoformat(timespec='milliseconds')}\n\n".encode())
        await asyncio.sleep(1)


def page(name: str) -> Handler:
    """A view of a page that lies beside this file."""
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")

    async def view(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type="text/html")

    return view


@web.middleware
async def play(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        await asyncio.sleep(delay(request.query.get("delay", "0")))
        if "status" in request.query:
            status = HTTPStatus(int(request.query["status"]))
            if status < 200:
                raise ValueError(f"status={status}: an answer's status is 200 or more")
            return problem(status, f"{status.phrase}, as you asked")
        return await handler(request)
    except ValueError as error:
        return problem(400, str(error))
    except web.HTTPException as refusal:  # no such path or method: aiohttp's own, in plain text
        return problem(
            refusal.status, f"{refusal.reason}: {request.method} {request.path}", refusal.headers.get("Allow")
        )


def delay(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)?", text)
    if found is None:
        raise ValueError(f"delay={text!r}: expected a time like 300ms, 0.3s or 0.3")
    seconds = float(found[1]) / (1000 if found[2] == "ms" else 1)
    return min(seconds, LONGEST_DELAY)


def problem(status: int, detail: str, allow: str | None = None) -> web.Response:
    return web.json_response({"error": detail}, status=status, headers={"Allow": allow} if allow else None)


async def start(app: web.Application, stack: AsyncExitStack, port: int = 0, host: str = "127.0.0.1") -> str:
    """Serve on a port of loopback, a free one if none is named; the URL."""
    listener = socket.create_server((host, port))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()
    return "http://127.0.0.1:{1}".format(*listener.getsockname())


APPS = {"users": users, "orders": orders, "teams": teams}
USAGE = "usage: python -m demo.services USERS_PORT ORDERS_PORT TEAMS_PORT, or NAME=HOST:PORT ..."


async def main(arguments: list[str]) -> int:
    if len(arguments) == 3 and all(port.isdecimal() for port in arguments):
        arguments = [f"{name}=127.0.0.1:{port}" for name, port in zip(APPS, arguments, strict=True)]
    wanted = [re.fullmatch(rf"({'|'.join(APPS)})=([^:]+):(\d+)", argument) for argument in arguments]
    places = [match.groups() for match in wanted if match is not None]
    if not wanted or None in wanted:
        print(USAGE, file=sys.stderr)
        return 2
    async with AsyncExitStack() as stack:
        try:
            urls = [(name, await start(APPS[name](), stack, int(port), host)) for name, host, port in places]
        except (OSError, OverflowError) as error:
            print(f"services: {error}", file=sys.stderr)
            return 1
        print(f"{', '.join(f'{name} on {url}' for name, url in urls)}; Ctrl-C ends them.", flush=True)
        await asyncio.Event().wait()
    return 0


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main(sys.argv[1:])))
