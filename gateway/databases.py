"""GATEWAY_DATABASE_URL as Django's DATABASES. No database is opened by being named here."""

import re
from typing import Any
from urllib.parse import parse_qsl, unquote

# Not urlsplit: it refuses a password with a bracket.
_POSTGRESQL = re.compile(
    r"postgresql://(?:(?P<user>[^:/?#]*)(?::(?P<password>[^/?#]*))?@)?"
    r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:/?#@]*))(?::(?P<port>[0-9]*))?/(?P<name>[^?#]*)(?:\?(?P<options>.*))?"
)

# Readers do not wait for a writer, and who will write says so at once, instead of failing in the middle.
_SQLITE = {
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    "transaction_mode": "IMMEDIATE",
}
# A server that is away is noticed soon: requests do not wait for it, but what is written behind them does.
_POSTGRESQL_OPTIONS = {
    "connect_timeout": "2",
    "tcp_user_timeout": "10000",
    "pool": {"min_size": 1, "max_size": 16, "timeout": 2.0, "reconnect_timeout": 2.0},
}


def databases(url: str) -> dict[str, dict[str, Any]]:
    """`sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:port/name?sslmode=require`."""
    match = _POSTGRESQL.fullmatch(url)
    if match is None:
        name = unquote(url.removeprefix("sqlite:///"))
        return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "OPTIONS": _SQLITE}}
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(match["name"]),
            "USER": unquote(match["user"] or ""),
            "PASSWORD": unquote(match["password"] or ""),
            "HOST": match["ipv6"] or match["host"],
            "PORT": match["port"] or "",
            "OPTIONS": _POSTGRESQL_OPTIONS | dict(parse_qsl(match["options"] or "")),
        }
    }
