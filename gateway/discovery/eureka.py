"""Queries for Eureka, and its answers: GET /apps/NAME.

Its JSON is made from XML, so a list with one member is no list, numbers may be texts, and an attribute has an `@`.
"""

from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.discovery.answers import Away, instance_at, instances_among
from gateway.upstreams.places import Instance, Source

_UNREADABLE = (msgspec.DecodeError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def target_of(source: Source) -> str:
    """The query for an application."""
    return f"/apps/{quote(source.name, safe='')}"


def instances_of(source: Source, body: bytes) -> tuple[Instance, ...]:
    """The instances that are UP and have a port for the scheme. Raises Away for an unreadable answer."""
    try:
        application = msgspec.json.decode(body, type=dict[str, Any])["application"]
        found = application.get("instance") or []
        listed = found if isinstance(found, list) else [found]
        return instances_among(listed, partial(_instance, source))
    except _UNREADABLE as error:
        raise Away(f"its answer is no application: {type(error).__name__}: {error}"[:300]) from error


def _instance(source: Source, found: dict[str, Any]) -> Instance | None:
    """None for one that is not UP, or has no port for the scheme. Raises ValueError for an invalid one."""
    try:
        if found["status"] != "UP":
            return None
        port = found["securePort" if source.scheme == "https" else "port"]
        if str(port.get("@enabled", "true")).lower() != "true":
            return None
        return instance_at(source.scheme, found.get("hostName") or found["ipAddr"], int(port["$"]), source.prefix)
    except _UNREADABLE as error:
        raise ValueError(f"an instance is none: {type(error).__name__}: {error}") from error
