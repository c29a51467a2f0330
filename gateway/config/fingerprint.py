"""What a gateway is known by: eight hex digits of what it serves, and to where."""

import hashlib
import json

from gateway.config.describe import rows
from gateway.config.records import Config
from gateway.routing.urls import Routes


def fingerprint(config: Config, routes: Routes) -> str:
    """Eight hex digits of upstreams and routes with their options; the same for replicas, wherever they listen.

    They go up in Via, so secrets have no share in them: whoever reads them could try passwords until they fit.
    """
    upstreams = {name: [str(place) for place in one.places] for name, one in config.upstreams.items()}
    text = json.dumps([upstreams, rows(routes)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
