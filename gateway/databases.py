"""GATEWAY_DATABASE_URL as Django's DATABASES. No database is opened by being named here."""

from typing import Any
from urllib.parse import unquote, urlsplit


def databases(url: str) -> dict[str, dict[str, Any]]:
    """`sqlite:///relative`, `sqlite:////absolute` or `postgresql://user:password@host:port/name`."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(parts.path[1:])}}
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path[1:]),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or "",
            "PORT": str(parts.port or ""),
        }
    }
