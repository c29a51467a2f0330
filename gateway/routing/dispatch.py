"""What answers a request: one order for the handler, for `gateway explain` and for `gateway cache why`.

    1. Own           the gateway itself: `*`, and what lies under /-/
    2. Preflight     a browser's request for permission, for a route that has origins
    3. Match         the most specific route of the table
    4. DjangoMatch   one of Django's own path() routes
    5. Refusal       no route, or the path could be read as another route's: a problem

`decide` looks at values and changes nothing. Its result is all that its caller needs to go on; where the table has a
route, it is the table's own result, so that the common case makes no further object.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, TypeAlias

from gateway.errors import GatewayError, Reason
from gateway.http import cors
from gateway.http.exchange import is_own
from gateway.http.gate import View
from gateway.http.headers import Pair, first_text
from gateway.http.paths import is_plain
from gateway.routing.conditions import Holds, hold
from gateway.routing.entries import GatewayRoute
from gateway.routing.table import Match, Miss, none_hold
from gateway.routing.urls import DjangoMatch, Routes


class Own(NamedTuple):
    """The gateway itself answers; `path` is `*`, or lies under /-/."""

    path: str


class Preflight(NamedTuple):
    """The stack of a route answers a browser's preflight."""

    route: GatewayRoute | DjangoMatch
    view: View


class Refusal(NamedTuple):
    """A problem answers; `found` is the result of the table."""

    error: GatewayError
    found: Match[GatewayRoute] | Miss


Decision: TypeAlias = Own | Preflight | Match[GatewayRoute] | DjangoMatch | Refusal


def decide(
    routes: Routes,
    method: str,
    host: str,
    path: str,
    pairs: Sequence[Pair],
    *,
    query: bytes = b"",
    trusted: bool = False,
) -> Decision:
    """Decide what answers a request that has passed the checks; `path` is raw, `host` in lower case without its port.

    `pairs` are its fields; with `trusted` the claims of its peer count.
    """
    if path == "*" or is_own(path):
        return Own(path)
    holds = partial(hold, pairs=pairs, query=query, trusted=trusted) if routes.has_conditions else none_hold
    if method == "OPTIONS" and cors.is_preflight(method, pairs):
        preflight = _preflight(routes, host, path, pairs, holds)
        if preflight is not None:
            return preflight
    match = routes.find(method, host, path, holds)
    try:
        if isinstance(match, Miss) or not (is_plain(path) or match.route.raw_path):
            routes.guards.check(method, host, path, match, holds)
    except GatewayError as error:
        return Refusal(error, match)
    if not isinstance(match, Miss):
        return match
    return routes.find_django(path) or Refusal(_nobody(match), match)


def _preflight(routes: Routes, host: str, path: str, pairs: Sequence[Pair], holds: Holds) -> Preflight | None:
    """None where the upstream is to answer: the route has no origins, or there is no route for the method.

    Django's own routes count too, unless one of the table takes OPTIONS. A preflight comes without the fields of the
    request itself, so a route with conditions that do not hold yet answers where no other one does.
    """
    method = first_text(pairs, b"access-control-request-method") or ""
    match = routes.find(method, host, path, holds)
    if isinstance(match, Miss) and match.is_conditional:
        match = routes.find(method, host, path, lambda when: True)
    route: GatewayRoute | DjangoMatch | None = None
    if not isinstance(match, Miss):
        route = match.route
    elif isinstance(routes.find("OPTIONS", host, path, holds), Miss):
        route = routes.find_django(path)
    return None if route is None or route.stack.preflight is None else Preflight(route, route.stack.preflight)


def _nobody(miss: Miss) -> GatewayError:
    if not miss.allowed:
        return GatewayError(Reason.ROUTE_NOT_FOUND)
    allow = ", ".join(sorted(miss.allowed)).encode("ascii")
    return GatewayError(Reason.METHOD_NOT_ALLOWED, headers=[(b"allow", allow)])
