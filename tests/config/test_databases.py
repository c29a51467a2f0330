"""GATEWAY_DATABASE_URL and GATEWAY_DATABASE_* as Django's DATABASES."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import units
from gateway.config.databases import as_new, databases
from gateway.config.table import OPTIONS

SQLITE = "django.db.backends.sqlite3"
POSTGRESQL = "django.db.backends.postgresql"
# What a server that is away may cost, unless the URL says otherwise.
WAITS = {
    "connect_timeout": "2",
    "tcp_user_timeout": "10000",
    "pool": {"min_size": 1, "max_size": 16, "timeout": 2.0, "reconnect_timeout": 2.0, "reset": as_new},
}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///portway.sqlite3", "portway.sqlite3"),
        ("sqlite:///data/portway.sqlite3", "data/portway.sqlite3"),
        ("sqlite:////var/lib/portway.sqlite3", "/var/lib/portway.sqlite3"),
        ("sqlite:///with%20space.sqlite3", "with space.sqlite3"),
        ("sqlite:///:memory:", ":memory:"),
    ],
)
def test_three_slashes_are_relative_and_four_absolute(url: str, name: str) -> None:
    found = databases(url)["default"]
    assert (found["ENGINE"], found["NAME"]) == (SQLITE, name)


def test_readers_of_sqlite_do_not_wait_for_who_writes(tmp_path: Path) -> None:
    options = databases("sqlite:///x")["default"]["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    with closing(sqlite3.connect(tmp_path / "x")) as connection:
        connection.executescript(options["init_command"])
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_postgresql_url_says_everything() -> None:
    assert databases("postgresql://portway:s3cret@db:5433/gate") == {
        "default": {
            "ENGINE": POSTGRESQL,
            "NAME": "gate",
            "USER": "portway",
            "PASSWORD": "s3cret",
            "HOST": "db",
            "PORT": "5433",
            "OPTIONS": WAITS,
            "CONN_HEALTH_CHECKS": True,
        }
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://db/gate", {"USER": "", "PASSWORD": "", "HOST": "db", "PORT": "", "NAME": "gate"}),
        ("postgresql://u@db/gate", {"USER": "u", "PASSWORD": "", "HOST": "db"}),
        ("postgresql://u@[fd00::1]:5432/gate", {"HOST": "fd00::1", "PORT": "5432"}),
        ("postgresql://u:p%40%2F%3F%23@db/gate", {"PASSWORD": "p@/?#"}),
        ("postgresql://u:p@q:r@db/gate", {"USER": "u", "PASSWORD": "p@q:r", "HOST": "db"}),
        ("postgresql://u:p[q@db/gate", {"PASSWORD": "p[q", "HOST": "db"}),  # urlsplit takes it for half an IPv6
        ("postgresql://u:p\u2100@db/gate", {"PASSWORD": "p\u2100", "HOST": "db"}),
        ("postgresql://u@db/my%20gate", {"NAME": "my gate"}),
        ("postgresql://u@DB/gate", {"HOST": "DB"}),
        (
            "postgresql://u@db/gate?sslmode=verify-full&connect_timeout=3",
            {"NAME": "gate", "OPTIONS": WAITS | {"sslmode": "verify-full", "connect_timeout": "3"}},
        ),
    ],
)
def test_a_postgresql_url_means(url: str, expected: dict[str, object]) -> None:
    assert units.database_url(url) == url
    found = databases(url)["default"]
    assert found["ENGINE"] == POSTGRESQL
    assert {key: found[key] for key in expected} == expected


def test_further_databases_stand_beside_the_default_one() -> None:
    found = databases("sqlite:///a.sqlite3", {"reports": "postgresql://u@db/reports", "old": "sqlite:////b.sqlite3"})
    assert {name: (one["ENGINE"], one["NAME"]) for name, one in found.items()} == {
        "default": (SQLITE, "a.sqlite3"),
        "reports": (POSTGRESQL, "reports"),
        "old": (SQLITE, "/b.sqlite3"),
    }


@given(st.text(), st.text())
def test_any_password_arrives_percent_encoded(user: str, password: str) -> None:
    def encoded(text: str) -> str:
        return "".join(f"%{octet:02X}" for octet in text.encode())

    found = databases(f"postgresql://{encoded(user)}:{encoded(password)}@db/gate")["default"]
    assert (found["USER"], found["PASSWORD"], found["HOST"]) == (user, password, "db")


@given(st.from_regex(r"(sqlite:///|postgresql://)[!-~]{0,40}", fullmatch=True))
def test_what_the_environment_takes_django_can_be_told(url: str) -> None:
    try:
        units.database_url(url)
    except ValueError:
        return
    found = databases(url)["default"]
    assert found["ENGINE"] == (SQLITE if url.startswith("sqlite:") else POSTGRESQL)


def test_the_default_is_a_file_in_the_working_directory() -> None:
    (option,) = (option for option in OPTIONS if (option.families, option.name) == ("gateway", "DATABASE_URL"))
    assert databases(option.default)["default"]["NAME"] == "portway.sqlite3"
