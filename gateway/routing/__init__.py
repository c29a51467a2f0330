"""The grammar, the table, urlpatterns: the public face.

`__all__` is what a routes module or a view imports from the gateway; what is not in it may change.

segments      literals and captures: what a segment of a pattern matches, and which of two goes first
conditions    WHEN: what must hold of a request's fields
patterns      the grammar of routes; table, mismatch and guards read its segments
table         the route that wins a request
clashes       routes that could both win, each with an example
choosing      what follows from CASE and WHEN for a route: Vary, and the path under which its answers are stored
mismatch      why a route does not get a request, in words
options       the options of a route itself
own_fields    fields that the configuration sets on every answer of a route
sticky        the cookie of sticky upstreams, on the answers of a route
iterators     functions of a team's own that give the instances of upstreams
records       a route as the environment has it, and what routes are checked against
wrapping      what stands around a view
access        authentication and authorization of a route, by its levels
middleware    Django's middleware around views, each list made once
stack         what a request passes before the view of its route, and the answer after it, compiled once
entries       the entries of urlpatterns, and what keeps them from being served
guards        no spelling of a path reaches what another route guards
rate_limits   the limits of a route
views         views of a team's own, prepared for the handler
urls          route(), from_environment(); urlpatterns become the table
dispatch      what answers a request: one order for the handler, explain and `cache why`
loader        the import of the routes module
loading       the environment that it is imported for
faults        what is wrong with a routes module, and where
worker_start  functions that each worker calls when it starts
"""

from gateway.cache.view import cached as _cached
from gateway.errors import GatewayError, Reason
from gateway.fanout.typed import fanout as _fanout
from gateway.fanout.typed import part as _part
from gateway.http.identity import Identity
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.legacy.view import legacy as _legacy
from gateway.limits.gate import limited
from gateway.proxy.fetch import Fetched, fetch
from gateway.proxy.view import proxy as _proxy
from gateway.routing.faults import has_faulty_part, is_faulty, noted
from gateway.routing.urls import from_environment, route
from gateway.routing.worker_start import on_worker_start
from gateway.sockets.client import SocketClosed
from gateway.sockets.upgrade import GatewayWebSocket

cached, legacy, proxy = noted(_cached), noted(_legacy), noted(_proxy)
fanout, part = noted(_fanout, spoils=has_faulty_part), noted(_part, spoils=is_faulty)

__all__ = ["Fetched", "GatewayError", "GatewayRequest", "GatewayResponse", "GatewayWebSocket", "Identity", "Reason"]
__all__ += ["SocketClosed", "cached", "fanout", "fetch", "from_environment", "legacy", "limited", "on_worker_start"]
__all__ += ["part", "proxy", "route"]
