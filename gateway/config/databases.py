"""GATEWAY_DATABASE_URL and GATEWAY_DATABASE_* as Django's DATABASES. No database is opened by being named here."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

# Not urlsplit: it refuses a password with a bracket.
_POSTGRESQL = re.compile(
    r"postgresql://(?:(?P<user>[^:/?#]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:/?#@]*))(?::(?P<port>[0-9]*))?/(?P<name>[^?#]*)(?:\?(?P<options>.*))?"
)

_SQLITE_ENGINE = "django.db.backends.sqlite3"
# Readers do not wait for a writer, and a transaction that will write locks at its start, so that it cannot fail in its
# middle. A cached statement keeps its last parameters: hundreds of megabytes of bodies.
_SQLITE = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    "transaction_mode": "IMMEDIATE",
    "cached_statements": 0,
}
# An unreachable server is noticed soon: requests do not wait for it, but writes in the background do.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": "2",
    "tcp_user_timeout": "10000",
}
_POOL = {"min_size": 1, "max_size": 16, "timeout": 2.0, "reconnect_timeout": 2.0}


def as_new(connection: Any) -> None:
    """Reset a connection that goes back to the pool: another request uses it next."""
    connection.autocommit = True
    connection.execute("DISCARD ALL")
    connection.execute("SET TIME ZONE 'UTC'")  # as Django sets it, once, when it connects


def databases(url: str, further: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """The default database, and further ones by their names.

    `sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:port/name?sslmode=require`. Only the
    default one is the gateway's own: a further one is taken as it is.
    """
    found = {name: _database(text) for name, text in {"default": url, **(further or {})}.items()}
    own = found["default"]
    if own["ENGINE"] == _SQLITE_ENGINE:
        own["OPTIONS"] = _SQLITE | own["OPTIONS"]
    else:
        own["OPTIONS"] = {"pool": _POOL | {"reset": as_new}} | own["OPTIONS"]
        own["CONN_HEALTH_CHECKS"] = True  # a broken connection leaves the pool before it is used
    return found


def _database(url: str) -> dict[str, Any]:
    match = _POSTGRESQL.fullmatch(url)
    if match is None:
        return {"ENGINE": _SQLITE_ENGINE, "NAME": unquote(url.removeprefix("sqlite:///")), "OPTIONS": {}}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(match["name"]),
        "USER": unquote(match["user"] or ""),
        "PASSWORD": unquote(match["password"] or ""),
        "HOST": match["ipv6"] or match["host"],
        "PORT": match["port"] or "",
        "OPTIONS": _POSTGRESQL_OPTIONS | dict(parse_qsl(match["options"] or "")),
    }
