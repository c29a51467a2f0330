"""The database connections and threads of views of one's own: each request has its own, and nothing is left of it.

The databases are a real PostgreSQL, once as the gateway's own with its pool, once as a further one. A query that waits
waits for a lock that the test holds, so that nothing here depends on how fast anything is.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.live.harness import Answer, Answers, Gateway, eventually, request_bytes
from tests.live.postgres import Postgres

ROUTES = """
import asyncio
import functools
import threading
from typing import Annotated

from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, models, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views import View

from gateway.messages import GatewayResponse
from gateway.routing import cached, fanout, from_environment, legacy, part, proxy, route


class Row(models.Model):
    class Meta:
        app_label = "shop"
        db_table = "rows"
        managed = False


def rows(db):
    return Row.objects.using(db).order_by("pk")


def query(db, sql, *values):
    with connections[db].cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()[0] if cursor.description else None


aquery = sync_to_async(query)


def about(db):
    return {
        "pid": query(db, "SELECT pg_backend_pid()"),
        "word": query(db, "SELECT current_setting('shop.word', true)") or "",
        "autocommit": connections[db].get_autocommit(),
        "atomic": connections[db].in_atomic_block,
        "thread": threading.current_thread().name,
    }


aabout = sync_to_async(about)

# -- one question by every kind of view: what the connection is like


async def by_async(request, db):
    await rows(db).acount()
    return JsonResponse(await aabout(db))


def by_sync(request, db):
    return JsonResponse(about(db))


def by_both(request, db):
    # A synchronous view whose helper is async: all of it in one thread.
    return JsonResponse(async_to_sync(aabout)(db) | {"same": about(db)["thread"]})


class ByClass(View):
    async def get(self, request, db):
        return JsonResponse(await aabout(db))


def by_legacy(db):
    return about(db)


@fanout
async def by_fanout(user: Annotated[dict, part("up:/user")], db) -> dict:
    return await aabout(db)


async def by_gather(request, db):
    found = await asyncio.gather(*(aabout(db) for _ in range(3)))
    return JsonResponse(found[0] | {"pids": [one["pid"] for one in found]})


# -- answers that use the ORM while they stream


async def by_stream(request, db):
    async def pieces():
        import json
        yield b""
        async for row in rows(db).aiterator(chunk_size=1):
            pass
        yield json.dumps(await aabout(db)).encode()
    return GatewayResponse(200, [(b"content-type", b"application/json")], pieces())


async def by_django_stream(request, db):
    async def pieces():
        import json
        async for row in rows(db).aiterator(chunk_size=1):
            pass
        yield json.dumps(await aabout(db))
    return StreamingHttpResponse(pieces(), content_type="application/json")


def by_sync_stream(request, db):
    def pieces():
        import json
        for row in rows(db).iterator(chunk_size=1):
            yield " "
        yield json.dumps(about(db))
    return StreamingHttpResponse(pieces(), content_type="application/json")


def by_legacy_stream(db):
    async def pieces():
        import json
        yield json.dumps(await aabout(db))
    return StreamingHttpResponse(pieces(), content_type="application/json")


kinds = {
    "async": by_async,
    "sync": by_sync,
    "both": by_both,
    "class": ByClass.as_view(),
    "gather": by_gather,
    "fanout": by_fanout,
    "legacy": legacy(by_legacy),
    "stream": by_stream,
    "django-stream": by_django_stream,
    "sync-stream": by_sync_stream,
    "legacy-stream": legacy(by_legacy_stream),
}


def guarded(view):
    @functools.wraps(view)
    async def call(request, **params):
        before = await aabout(params["db"])
        response = await view(request, **params)
        assert (await aabout(params["db"]))["pid"] == before["pid"], "a wrapper keeps its own connection"
        return response
    return call


lines = [
    route(f"/guarded/{name}/{{db}}", guarded(cached(kinds[name], "on")), name=f"guarded-{name}")
    for name in ("async", "sync", "django-stream", "sync-stream", "stream")
]
for name, view in kinds.items():
    lines.append(route(f"/{name}/{{db}}", view, name=name))
    lines.append(route(f"/cached/{name}/{{db}}", cached(view, "on"), name=f"cached-{name}"))
    if name != "fanout":
        lines.append(path(f"django/{name}/<str:db>", view))


# -- what one leaves behind


async def leaves(request, db, what):
    def leave():
        connection = connections[db]
        if what == "word":
            query(db, "SET shop.word = 'left'")
        elif what == "autocommit":
            connection.set_autocommit(False)
            Row.objects.using(db).create()
        elif what == "atomic":
            transaction.atomic(using=db).__enter__()
            Row.objects.using(db).create()
        elif what == "broken":
            query(db, "SELECT pg_terminate_backend(pg_backend_pid())")
    await sync_to_async(leave)()
    return HttpResponse("left")


async def waits(request, db):
    await aquery(db, "SELECT pg_advisory_lock_shared(7)")
    return HttpResponse("waited")


def waits_too(request, db):
    query(db, "SELECT pg_advisory_lock_shared(7)")
    return HttpResponse("waited")


noted, notes = [], set()


async def goes_on(request, db):
    async def note():
        await asyncio.sleep(0)
        while request.exchange.ended is None:
            await asyncio.sleep(0.01)
        noted.append(await rows(db).acount())
    task = asyncio.create_task(note())
    notes.add(task)
    task.add_done_callback(notes.discard)
    return HttpResponse("goes on")


async def goes_on_noted(request):
    return JsonResponse(noted, safe=False)


async def stops(request):
    return HttpResponse(await sync_to_async(next)(iter(())))


async def count(request, db):
    return JsonResponse(await rows(db).acount(), safe=False)


async def threads(request):
    return JsonResponse(sorted(one.name for one in threading.enumerate() if one.name.startswith("view-")), safe=False)


urlpatterns = [
    *from_environment(),
    *lines,
    route("/leaves/{db}/{what}", leaves),
    route("/waits/{db}", waits),
    route("/waits-too/{db}", waits_too),
    route("/cached-waits/{db}", cached(waits, "on")),
    route("/goes-on/{db}", goes_on),
    route("/noted", goes_on_noted),
    route("/stops", stops),
    route("/count/{db}", count),
    route("/threads", threads),
]
"""
STREAMS = ("stream", "django-stream", "sync-stream", "legacy-stream")
KINDS = ("async", "sync", "both", "class", "gather", "fanout", "legacy", *STREAMS)
USER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as running:
        with running.connect() as connection:
            for name in ("own", "further"):
                connection.execute(f"CREATE DATABASE {name}")
        for name in ("own", "further"):
            with running.connect(name) as connection:
                connection.execute("CREATE TABLE rows (id serial PRIMARY KEY)")
                connection.execute("INSERT INTO rows DEFAULT VALUES")
                connection.execute("INSERT INTO rows DEFAULT VALUES")
        yield running


@pytest.fixture(scope="module")
def gateway(server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Answers(USER) as up:
        environment = {
            "GATEWAY_DATABASE_URL": server.url("own"),
            "GATEWAY_DATABASE_FURTHER": server.url("further"),
            "GATEWAY_UPSTREAM_UP": up.url,
            "GATEWAY_ROUTE_UP": "/up/** -> up",
        }
        with Gateway(environment, cwd=folder) as running:
            yield running


@pytest.fixture
def held(server: Postgres) -> Iterator["psycopg.Connection[Any]"]:
    """A connection to the further database that holds the lock for which `waits` waits."""
    with server.connect("further") as connection:
        connection.execute("SET application_name = 'the test'")
        connection.execute("SELECT pg_advisory_lock(7)")
        yield connection


def backends(server: Postgres, where: str = "") -> int:
    """How many connections of the gateway the further database has."""
    with server.connect() as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = 'further' AND application_name = ''"
            f" AND pid <> pg_backend_pid() {where}"
        ).fetchone()
        assert row is not None
        return int(row[0])


def about(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


paths = [
    f"{prefix}/{kind}" for prefix in ("", "/cached", "/django") for kind in KINDS if prefix + kind != "/djangofanout"
]
paths += [f"/guarded/{kind}" for kind in ("async", "sync", "django-stream", "sync-stream", "stream")]


@pytest.mark.parametrize("path", paths)
def test_each_request_has_a_connection_of_its_own(gateway: Gateway, server: Postgres, path: str) -> None:
    first = about(gateway.get(f"{path}/further?1"))
    second = about(gateway.get(f"{path}/further?2"))
    assert first["pid"] != second["pid"], "the connection is closed at the end of the request"
    assert first["thread"].startswith("legacy-" if path.endswith("legacy") else "view-")
    assert first.get("same", first["thread"]) == first["thread"]
    assert set(first.get("pids", [first["pid"]])) == {first["pid"]}
    assert eventually(lambda: backends(server) == 0)


@pytest.mark.parametrize("what", ["word", "autocommit", "atomic", "broken"])
@pytest.mark.parametrize("db", ["further", "default"])
def test_what_a_view_leaves_is_not_the_next_ones(gateway: Gateway, db: str, what: str) -> None:
    before = gateway.get(f"/count/{db}").json()
    assert gateway.get(f"/leaves/{db}/{what}").status == (500 if what == "broken" else 200)
    for kind in ("async", "sync", "async", "sync"):
        found = about(gateway.get(f"/{kind}/{db}"))
        assert (found["autocommit"], found["atomic"]) == (True, False)
        assert found["word"] == ""
    assert gateway.get(f"/count/{db}").json() == before, "nothing was committed, and nothing holds it back"


@pytest.mark.parametrize("path", ["/waits", "/waits-too", "/cached-waits"])
def test_a_query_that_waits_holds_nobody_else(
    gateway: Gateway, server: Postgres, held: "psycopg.Connection[Any]", path: str
) -> None:
    with ThreadPoolExecutor(16) as clients:
        waiting = [clients.submit(gateway.get, f"{path}/further?{number}") for number in range(12)]
        try:
            assert eventually(lambda: backends(server, "AND wait_event = 'advisory'") == 12)
            for kind in ("/async", "/sync", "/legacy", "/stream", "/fanout", "/cached/async"):
                assert gateway.get(f"{kind}/further?{path}").status == 200
            assert gateway.get("/up/x").status == 200
        finally:
            held.execute("SELECT pg_advisory_unlock(7)")
        assert {one.result().body for one in waiting} == {b"waited"}
    assert eventually(lambda: backends(server) == 0)


def test_a_view_whose_client_left_closes_its_connection(
    gateway: Gateway, server: Postgres, held: "psycopg.Connection[Any]"
) -> None:
    for path in ("/waits", "/waits-too"):
        client = gateway.connect()
        client.send(request_bytes("GET", f"{path}/further"))
        assert eventually(lambda: backends(server, "AND wait_event = 'advisory'") == 1)
        client.reset()
        held.execute("SELECT pg_advisory_unlock(7)")
        assert eventually(lambda: backends(server) == 0)
        held.execute("SELECT pg_advisory_lock(7)")


def test_a_task_that_outlives_its_request_may_use_the_orm(gateway: Gateway, server: Postgres) -> None:
    assert gateway.get("/goes-on/further").status == 200
    assert eventually(lambda: gateway.get("/noted").json()) == [2]
    assert eventually(lambda: backends(server) == 0)


def test_what_no_awaitable_can_raise_is_an_error_of_the_view(gateway: Gateway) -> None:
    answer = gateway.get("/stops")
    assert (answer.status, answer.json()["reason"]) == (500, "view_error")
    assert "StopIteration" in gateway.request_line(answer.one("x-request-id"))["cause"]


def test_threads_serve_one_request_after_the_other(gateway: Gateway) -> None:
    for _ in range(40):
        assert gateway.get("/sync/further").status == 200
    assert len(gateway.get("/threads").json()) <= 16


@pytest.mark.parametrize("db", ["further", "default"])
def test_after_a_restart_of_the_database_every_kind_of_view_works(gateway: Gateway, server: Postgres, db: str) -> None:
    for kind in KINDS:
        assert gateway.get(f"/{kind}/{db}").status == 200
    server.kill()
    server.start()
    for kind in KINDS:
        # A connection that was broken is found so by who meets it.
        assert eventually(lambda kind=kind: gateway.get(f"/{kind}/{db}").status == 200)  # type: ignore[misc]
