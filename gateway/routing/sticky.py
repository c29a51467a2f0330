"""The cookie of `BALANCE=sticky`, on answers that move a client to another instance."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase

from gateway.http.gate import Finish
from gateway.http.request import GatewayRequest
from gateway.routing.records import Declared


def sticky_cookies(endpoint: Callable[..., Any], declared: Declared, *, asks_others: bool) -> Finish | None:
    """A finish for a view that may ask a sticky upstream; None for one that does not.

    A view of a team's own may call any upstream. `asks_others`: another service may stand in for the view's own.
    """
    sticky = {upstream.name for upstream in declared.upstreams.values() if upstream.balance.method == "sticky"}
    known = getattr(endpoint, "upstreams", None)
    if not sticky or (known is not None and not asks_others and sticky.isdisjoint(known)):
        return None

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        for name, token in request.cookies_set.items():
            is_secure = (request.forwarded_scheme or request.scope["scheme"]) == "https"
            response.set_cookie(name.decode(), token.decode(), secure=is_secure, httponly=True, samesite="Lax")
        return response

    return finish
