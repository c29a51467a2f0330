"""What Eureka is asked, and its answers: GET /apps/NAME.

Its JSON is made of XML, so a list of one is no list, numbers may be texts, and an attribute has an `@`.
"""

from functools import partial
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.discovery.answers import Away, instance_at, instances_among
from gateway.upstreams.places import Instance, Source


def target_of(source: Source) -> str:
    """The query for an application."""
    return f"/apps/{quote(source.name, safe='')}"


def instances_of(source: Source, body: bytes) -> tuple[Instance, ...]:
    """The instances that are UP and have a port for the scheme. Raises Away for what cannot be read."""
    try:
        application = msgspec.json.decode(body, type=dict[str, Any])["application"]
        found = application.get("instance") or []
        listed = found if isinstance(found, list) else [found]
        return instances_among([one for one in listed if one["status"] == "UP"], partial(_instance, source))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Away(f"its answer is no application: {type(error).__name__}: {error}"[:300]) from error


def _instance(source: Source, found: dict[str, Any]) -> Instance | None:
    port = found["securePort" if source.scheme == "https" else "port"]
    if str(port.get("@enabled", "true")).lower() != "true":
        return None
    return instance_at(source.scheme, found.get("hostName") or found["ipAddr"], int(port["$"]), source.prefix)
