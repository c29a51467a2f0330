"""The identity of a gateway: eight hex digits derived from its upstreams and routes."""

import hashlib
import json

from gateway.config.describe import rows
from gateway.config.records import Config
from gateway.routing.urls import Routes


def fingerprint(config: Config, routes: Routes) -> str:
    """Eight hex digits derived from upstreams and routes with their options; the same for replicas, wherever they
    listen.

    They are sent in Via, so they do not depend on secrets: a reader could try passwords until the digits match.
    """
    upstreams = {name: [str(place) for place in one.places] for name, one in config.upstreams.items()}
    text = json.dumps([upstreams, rows(routes)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
