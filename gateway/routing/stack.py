"""The stack of a route: what a request passes before the view, and its answer after it, compiled once, at the start.

A request passes the slots from the top down; an answer passes the first four on its way out, COMPRESS first:

    sticky cookie                finish   on answers that move a client to another instance
    own fields, ON_*, COMPRESS   finish   the answer as it leaves, problems of the gateway too; Vary by WHEN
    maintenance                  gate
    preflight                             preflights of browsers, for routes that have origins, end here
    limits by client or host     gate
    auth, roles, scopes          gate
    all other limits             gate
    middleware                            Django's, async-capable
    MIRROR                                has requests copied once their answers are sent
    wrap=                                 code of the team's own around the view, outside of its cache
    cache, view                           as they stand in urlpatterns, with their decorators

What happens before a route is known (the checks of `http.validation`, the redirect to https) is done by the handler.

Where a capability plugs in: only `slots_of` in `urls` fills the `Slots` of each route, and those of answers without a
known route. A capability has a function that makes a gate or a finish, or None where nothing is configured, which costs
a request nothing:

- auth: `auth_gate(...)` of its room, for `Slots.auth`; it asks for roles and scopes too.
- limits: `client_limits_gate(...)` and `limits_gate(...)` of its room, for `Slots.client_limits` and `Slots.limits`.
  The handler adds their fields to the answer.
- the language of routes: `maintenance_gate(...)` for `Slots.maintenance`; `own_fields(...)` (RESPONSE_HEADER_X),
  `replacing(...)` (ON_*) and `compressing(...)` for `Slots.fields`, `Slots.replace` and `Slots.compress`.
- upstreams: `sticky_cookies(...)` for `Slots.sticky`: cookies for the endpoints that were chosen.
- sockets: a handshake is a GET for `Stack.view`, so that it passes all that a GET does, decorators of the view too.
  The endpoint answers it, and recognises it by the scope of the request; the cache lets it through.

A gate is asked after the checks, with `request.route` (None on Django's own routes), `request.stack` and
`exchange.route` set, and before a byte of the body is read. It may set what `GatewayRequest` declares. A GatewayError
that it raises becomes a problem, which passes `finish` like an answer.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http.response import HttpResponseBase

from gateway.auth.rules import Requirement
from gateway.cache.view import Cached
from gateway.http import cors
from gateway.http.any_request import direct
from gateway.http.gate import Finish, Gate, View
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.limits.policies import Policy
from gateway.proxy.mirror import Rule, mirrored
from gateway.proxy.view import Proxy
from gateway.routing.middleware import Chain
from gateway.routing.wrapping import without_caches


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """The contents of the slots of one route; None or empty for nothing."""

    maintenance: Gate | None = None
    origins: Sequence[str] = ()  # pages of these origins may ask (CORS)
    client_limits: Gate | None = None
    auth: Gate | None = None
    requirements: Sequence[Requirement] = ()  # what that gate requires
    limits: Gate | None = None
    middleware: Chain | None = None
    mirror: Rule | None = None  # to which upstream requests are copied
    compress: Finish | None = None
    replace: Finish | None = None
    fields: Finish | None = None
    sticky: Finish | None = None
    vary: Finish | None = None  # adds the fields to Vary by which this route is chosen
    key_words: Sequence[Sequence[str]] = ()  # values of the request in the cache's key, in words of `http.values`
    key_path: Callable[[str], str] | None = None  # makes the path in the cache's key from the raw one
    key_rule: str = ""  # separates it in the cache's key from routes of the same name
    policies: tuple[Policy, ...] = ()  # the limits of both slots, to be shown


@dataclass(frozen=True, slots=True)
class Stack:
    """The compiled stack of a route, with the view and the cache that stand in it."""

    view: View  # all of it: what the handler calls
    endpoint: Callable[..., Any]  # the view that answers, without its wrappers
    cache: Cached | None  # before the endpoint
    is_wrapped: bool  # whether code of a team's own stands around the cache
    preflight: View | None  # None: OPTIONS goes to the view
    finish: Finish | None  # for problems; `view` and `preflight` call it by themselves
    origins: Sequence[str]  # pages of these origins may read the answers (CORS)
    policies: tuple[Policy, ...]  # its limits
    requirements: Sequence[Requirement]  # what authentication requires
    compresses: bool  # whether answers are compressed
    mirror: Rule | None  # to which upstream requests are copied
    key_words: Sequence[Sequence[str]] = ()
    key_path: Callable[[str], str] | None = None
    key_rule: str = ""


def compiled(
    view: View, endpoint: Callable[..., Any], cache: Cached | None, slots: Slots, *, reads_body: bool = False
) -> Stack:
    """The stack around `view`, which is the cache or the endpoint with the team's own wrappers.

    `reads_body`: the whole body is read after the gates, before middleware and view, as in Django.
    """
    is_wrapped, callback, view = cache is not None and view is not cache, without_caches(view), direct(view)
    if slots.mirror is not None and isinstance(endpoint, Proxy):
        view = mirrored(view, slots.mirror, endpoint)
    if slots.replace is not None:
        view = _noted(view)
    if slots.middleware is not None:
        # A form is read for the team's own code; a request to a service streams, and does not wait to be looked at.
        is_own, is_cached = not isinstance(endpoint, Proxy), cache is not None
        view = slots.middleware.around(view, callback, reads_form=is_own, is_cached=is_cached)
        is_wrapped = is_cached
    if reads_body:
        view = _after_body(view)
    gates = _present(slots.maintenance, slots.client_limits, slots.auth, slots.limits)
    finish = finish_of(slots)
    preflight: View | None = None
    if slots.origins:
        preflight = _finishing(_gated(_preflight(slots.origins), _present(slots.maintenance)), finish)
    whole = _finishing(_gated(view, gates), finish)
    return Stack(
        view=whole,
        endpoint=endpoint,
        cache=cache,
        is_wrapped=is_wrapped,
        preflight=preflight,
        finish=finish,
        origins=slots.origins,
        policies=slots.policies,
        requirements=slots.requirements,
        compresses=slots.compress is not None,
        mirror=slots.mirror,
        key_words=slots.key_words,
        key_path=slots.key_path,
        key_rule=slots.key_rule,
    )


def finish_of(slots: Slots) -> Finish | None:
    """All finishes of a route as one; None where there are none."""
    finishes: tuple[Finish, ...] = _present(slots.compress, slots.replace, slots.vary, slots.fields, slots.sticky)
    if len(finishes) < 2:
        return finishes[0] if finishes else None

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        for one in finishes:
            response = await one(request, response)
        return response

    return finish


def _present(*slots: Any) -> tuple[Any, ...]:
    return tuple(slot for slot in slots if slot is not None)


def _gated(view: View, gates: Sequence[Gate]) -> View:
    """The view behind gates, the first one outermost; a gate that need not wait costs no coroutine."""
    for gate in reversed(gates):
        view = _behind(gate, view)
    return view


def _behind(gate: Gate, view: View) -> View:
    def gated(request: GatewayRequest, *args: Any, **params: Any) -> Awaitable[HttpResponseBase]:
        waiting = gate(request)
        return view(request, *args, **params) if waiting is None else _after(waiting, view, request, args, params)

    return gated


async def _after(
    waiting: Awaitable[HttpResponseBase | None],
    view: View,
    request: GatewayRequest,
    args: tuple[Any, ...],
    params: Mapping[str, Any],
) -> HttpResponseBase:
    response = await waiting
    return await view(request, *args, **params) if response is None else response


def _noted(view: View) -> View:
    """The view, noted as reached: a client that was refused before must not get a stand-in for its answer."""

    async def noted(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        request.reached_view = True
        return await view(request, *args, **params)

    return noted


def _finishing(view: View, finish: Finish | None) -> View:
    if finish is None:
        return view

    async def finishing(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        return await finish(request, await view(request, *args, **params))

    return finishing


def _after_body(view: View) -> View:
    async def after_body(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        if not request.inbox.complete:
            await request.read_body()
        return await view(request, *args, **params)

    return after_body


def _preflight(origins: Sequence[str]) -> View:
    async def preflight(request: GatewayRequest) -> HttpResponseBase:
        return GatewayResponse(204, cors.preflight_pairs(origins, request.raw_headers))

    return preflight
