"""Django's ORM inside legacy functions: the default database and a further one, SQLite and PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import Gateway, eventually

OLD = """
import threading

from django.db import connections, models, transaction
from gateway.routing import legacy, route

opens = threading.Event()


class Order(models.Model):
    customer = models.TextField()
    cents = models.IntegerField()

    class Meta:
        app_label = "shop"
        db_table = "orders"
        managed = False


def setup(db):
    with connections[db].schema_editor() as editor:
        editor.create_model(Order)
    return connections[db].vendor


def place(db, customer, cents: int):
    return Order.objects.using(db).create(customer=customer, cents=cents).pk


def report(db):
    return Order.objects.using(db).order_by("pk").values("customer", "cents")


def together(db, fails: bool):
    with transaction.atomic(using=db):
        Order.objects.using(db).create(customer="together", cents=1)
        if fails:
            raise ValueError("in the middle")
    return Order.objects.using(db).filter(customer="together").count()


def leaves_a_transaction_open(db):
    connections[db].set_autocommit(False)
    Order.objects.using(db).create(customer="never", cents=1)
    return "left"


def streams(db):
    from django.http import StreamingHttpResponse
    rows = Order.objects.using(db).order_by("pk").iterator(chunk_size=1)
    return StreamingHttpResponse(f"{row.customer} " for row in rows)


def breaks(db):
    connection = connections[db]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
            other = connection.copy()
            with other.cursor() as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", [pid])
            other.close()
        else:
            connection.connection.close()
    return Order.objects.using(db).count()


def open_connections(db):
    return [one.alias for one in connections.all(initialized_only=True) if one.connection is not None]


def counts(db):
    if connections[db].vendor != "postgresql":
        return 0
    with connections[db].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        return cursor.fetchone()[0]


functions = [setup, place, report, together, leaves_a_transaction_open, streams, breaks, open_connections, counts]
paths = {place: "/{customer}/{cents}", together: "/{fails}"}
# One thread, and one for all of them: each call meets what the one before it left in the thread.
urlpatterns = [
    route(f"/{one.__name__}/{{db}}{paths.get(one, '')}", legacy(one, threads=1, name="orm")) for one in functions
]
"""


@pytest.fixture(scope="module")
def gateway(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(OLD, encoding="utf-8")
    environment = {"GATEWAY_DATABASE_URL": "sqlite:///shop.sqlite3", "GATEWAY_DATABASE_REPORTS": postgres_url}
    with Gateway(environment, cwd=folder) as running:
        yield running


@pytest.fixture(scope="module", params=["default", "reports"])
def db(request: pytest.FixtureRequest, gateway: Gateway) -> str:
    name = str(request.param)
    assert gateway.get(f"/setup/{name}").json() == {"default": "sqlite", "reports": "postgresql"}[name]
    return name


def test_rows_are_written_and_read(gateway: Gateway, db: str) -> None:
    assert gateway.get(f"/place/{db}/Ada/4900").json() == 1
    assert gateway.get(f"/place/{db}/Ben/650").json() == 2
    rows = [{"customer": "Ada", "cents": 4900}, {"customer": "Ben", "cents": 650}]
    assert gateway.get(f"/report/{db}").json() == rows
    assert gateway.get(f"/streams/{db}").body == b"Ada Ben "


def test_atomic_holds_together(gateway: Gateway, db: str) -> None:
    assert gateway.get(f"/together/{db}/true").status == 500
    assert gateway.get(f"/together/{db}/false").json() == 1
    assert gateway.get(f"/together/{db}/true").status == 500
    assert gateway.get(f"/together/{db}/false").json() == 2


def test_what_a_call_leaves_open_is_not_the_next_ones(gateway: Gateway, db: str) -> None:
    assert gateway.get(f"/leaves_a_transaction_open/{db}").json() == "left"
    assert gateway.get(f"/open_connections/{db}").json() == []
    assert "never" not in [row["customer"] for row in gateway.get(f"/report/{db}").json()]
    assert gateway.get(f"/place/{db}/Chiara/1").status == 200


def test_a_broken_connection_heals(gateway: Gateway, db: str) -> None:
    broken = gateway.get(f"/breaks/{db}")
    assert (broken.status, broken.json()["reason"]) == (500, "view_error")
    assert gateway.get(f"/report/{db}").status == 200


def test_no_connection_is_left_behind(gateway: Gateway, db: str) -> None:
    for _ in range(20):
        assert gateway.get(f"/report/{db}").status == 200
    assert eventually(lambda: int(gateway.get(f"/counts/{db}").json()) <= 1)


def test_a_further_database_may_be_sqlite_too(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(OLD, encoding="utf-8")
    with Gateway({"GATEWAY_DATABASE_ARCHIVE": "sqlite:///archive.sqlite3"}, cwd=tmp_path) as gateway:
        assert gateway.get("/setup/archive").json() == "sqlite"
        assert gateway.get("/place/archive/Ada/5").json() == 1
    with sqlite3.connect(tmp_path / "archive.sqlite3") as connection:
        assert connection.execute("SELECT customer, cents FROM orders").fetchall() == [("Ada", 5)]
    connection.close()
    assert not (tmp_path / "portway.sqlite3").exists(), "no database is opened that nobody uses"
