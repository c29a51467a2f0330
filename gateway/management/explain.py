"""What the gateway would do with a request, and why, decided by the code that would do it. Nothing is sent."""

from collections.abc import AsyncIterator, Iterator, Sequence

from gateway.answers import compression
from gateway.answers.files import Files
from gateway.answers.own_answer import OwnAnswer
from gateway.answers.replacements import replacements_of
from gateway.cache.policy import NotStored, Response, Rule, refusal
from gateway.cache.view import not_stored
from gateway.config.records import Config
from gateway.errors import GatewayError
from gateway.fanout.view import Fanout
from gateway.http import cors, methods
from gateway.http.headers import Pair
from gateway.http.queries import masked_line
from gateway.http.request import GatewayRequest, Message, Scope
from gateway.legacy.view import Legacy
from gateway.limits.grammar import IDENTITY, KeyPart, text_of_key, text_of_rate
from gateway.limits.keys import text_of
from gateway.management.explain_auth import asking, who_asks
from gateway.management.explain_call import Section, is_handshake, passes_cache_by, proxied
from gateway.management.explain_fanout import fanned_out
from gateway.options import Level
from gateway.proxy.mirror import MARK, text_of_share
from gateway.proxy.view import Proxy
from gateway.routing import mismatch
from gateway.routing.conditions import hold
from gateway.routing.conditions import text_of as text_of_when
from gateway.routing.dispatch import Own, Preflight, Refusal, decide
from gateway.routing.entries import GatewayRoute, describe
from gateway.routing.middleware import name_of_middleware
from gateway.routing.stack import Stack
from gateway.routing.table import Match, Miss
from gateway.routing.urls import DjangoMatch, Routes, decoded, raw_values
from gateway.server import ops
from gateway.server.asgi import GatewayHandler
from gateway.server.opening import open_request
from gateway.server.websocket import taken_by
from gateway.units import format_duration, format_size

_NEAR_MISSES = 5


async def explain(config: Config, routes: Routes, scope: Scope) -> list[Section]:
    """Everything that is decided before a byte would leave. Runs in a loop, because requests live in one."""
    handler = GatewayHandler(config, routes, ())
    request = open_request(scope, _nothing_comes, handler.worker, config.settings.client_idle_s)
    target = request.raw_path + ("?" + request.query if request.query else "")
    target = target.encode("latin-1").decode("utf-8", "replace")
    sections = [Section("Request", [[request.method, target, f"Host: {request.host_field}"]])]
    try:
        async for section in _course(handler, request):
            sections.append(section)  # noqa: PERF401 - the sections before a failure are kept
    except GatewayError as error:
        sections.append(_refused(error))
    return [Section(title, _even(rows)) for title, rows in sections if rows]


async def _nothing_comes() -> Message:
    raise RuntimeError("nothing is read to explain a request")


def _refused(error: GatewayError) -> Section:
    reason = error.reason
    rows = [[str(error.status), reason.word, reason.title]]
    if error.is_specific:
        rows.append(["", "", error.detail])
    rows += [["", "", f"{name.decode().title()}: {value.decode()}"] for name, value in error.headers]
    return Section("The gateway itself answers", rows)


async def _course(handler: GatewayHandler, request: GatewayRequest) -> AsyncIterator[Section]:
    """The way through the handler, to the view. Raises GatewayError where the gateway would answer with a problem."""
    path, host = handler.enter(request)
    query, trusted = request.scope["query_string"], request.from_trusted_peer
    decision = decide(handler.routes, request.method, host, path, request.raw_headers, query=query, trusted=trusted)
    if isinstance(decision, Own):
        if path != "*":
            ops.check_path(path)
            ops.check_method(path, request.method)
        yield Section("The gateway itself answers", [["under /-/ are its own endpoints; no route is asked"]])
    elif isinstance(decision, Preflight):
        pairs = cors.preflight_pairs(decision.route.stack.origins, request.raw_headers)
        rows = [[name.decode(), value.decode()] for name, value in pairs]
        yield Section("The gateway itself answers the preflight, with 204", rows)
    elif isinstance(decision, DjangoMatch):
        yield _nearest(handler.routes, request, host)
        shown = [decision.name, str(decision.params or "")]
        yield Section("Django's own path() line answers", [shown])
        decision.assign(request)
        async for section in _who_asks(handler, request):
            yield section
        yield _limits(decision.stack, request, 1)
        yield _middleware(handler.config.plain)
    elif isinstance(decision, Refusal):
        if isinstance(decision.found, Miss):
            yield _nearest(handler.routes, request, host)
        else:
            for section in _route(handler.routes, request, host, decision.found):
                yield section
        raise decision.error
    else:
        route = decision.route
        for section in _route(handler.routes, request, host, decision):
            yield section
        request.matched(route, raw_values(decision), decision.rest)
        came = request.raw_headers
        async for section in _who_asks(handler, request):
            yield section
        yield _limits(route.stack, request, route.level.get("cost", 1))
        for section in _view(handler, request, host, decision, came):
            yield section


async def _who_asks(handler: GatewayHandler, request: GatewayRequest) -> AsyncIterator[Section]:
    """Whether the request would be let in, if its route requires that; if so, it gets its identity."""
    stack = request.stack
    if request.fields.has_claims and handler.config.auth.ways:
        request.hide_claims()
    if isinstance(stack, Stack) and stack.requirements:
        if is_handshake(request) and (options := taken_by(handler, stack.endpoint)) is not None:
            request.scope["type"], request.page_is_named = "websocket", options.names_pages  # as Granian says it
        async with asking(handler.worker.ways, handler.config) as ways:
            yield await who_asks(request, ways, stack.requirements, stack.origins)


def _route(routes: Routes, request: GatewayRequest, host: str, match: Match[GatewayRoute]) -> Iterator[Section]:
    """The winning route of the table, and those that lose to it."""
    values = raw_values(match)
    route, rows = match.route, [_named(match.route)]
    if route.rule.others:
        rows.append(["path", match.pattern.host + match.pattern.path])
    if route.rule.when:
        rows.append(["WHEN", text_of_when(route.rule.when), route.level.variable("when")])
    if route.rule.ignores_case:
        rows.append(["CASE", "ignore", route.level.variable("ignores_case")])
    yield Section("Route", [*rows, *([f"{{{name}}}", value] for name, value in values.items())])
    losers = _losers(routes, match, request, host)
    yield Section("Also match, and lose", list(losers))


def _view(
    handler: GatewayHandler, request: GatewayRequest, host: str, match: Match[GatewayRoute], came: Sequence[Pair]
) -> Iterator[Section]:
    """What the view of a route would do, and the cache before it; `came` are the client's fields. Raises GatewayError
    where it could not be called."""
    route, view = match.route, match.route.endpoint
    decoded(raw_values(match))  # refuses what is not UTF-8
    yield _middleware(route.level)
    if isinstance(view, Proxy):
        yield from proxied(handler.config, request, route, view, came)
    elif isinstance(view, Fanout):
        request.hide_claims()
        yield from fanned_out(handler.config, request, route, view)
    elif isinstance(view, Legacy):
        yield Section("A function of yours answers, in threads of its own", _threads(view))
    elif isinstance(view, (OwnAnswer, Files)):
        yield Section("The gateway itself answers", [[describe(route), route.origin]])
    else:
        yield Section(
            "Your own view answers", [[describe(route), route.origin, "what it asks for is known to it alone"]]
        )
    yield Section("Instead of an answer", _instead(route))
    yield Section("A copy", _mirrored(route, request))
    yield Section("Compression", _compression(route, request))
    yield Section("Cache", [*_cache(route, request), *_forgets(handler.routes, request, host)])


def _instead(route: GatewayRoute) -> list[list[str]]:
    """The replacement for each status or reason, in the order of the search."""
    rules = replacements_of(route.level)
    rows = [
        [rule.word, "stays as it is" if rule.replacement is None else masked_line(rule.replacement.text), rule.variable]
        for rule in (rules.rules if rules is not None else ())
        if not isinstance(rule.replacement, str)
    ]
    closed = route.level.get("maintenance")
    if closed:
        what = "while it is on" if closed is True else f"while there is {closed}"
        rows.insert(0, ["503", what, route.level.variable("maintenance")])
    return rows


def _compression(route: GatewayRoute, request: GatewayRequest) -> list[list[str]]:
    """The compression of a text answer for this client."""
    variable = route.level.variable("compress")
    if not route.stack.compresses:
        return [["answers go down as they come", variable]] if variable else []
    decision = compression.decide(request.method, request.raw_headers, 200, _TEXT, None, streams=False)
    coding = f"by {decision.coding}, for this client" if decision.coding else "this client takes none of it"
    return [[f"text of {format_size(compression.MIN_BYTES)} and more that comes uncoded", coding, variable]]


def _mirrored(route: GatewayRoute, request: GatewayRequest) -> list[list[str]]:
    """The upstream for a copy of the request, once its answer is sent."""
    rule, variable = route.stack.mirror, route.level.variable("mirror")
    if rule is None:
        return []
    is_copy = any(name == MARK for name, _ in request.raw_headers)
    if not rule.takes(request.method, is_copy=is_copy, chance=0.0):
        why = "its share is 0%" if not rule.share else f"{request.method} is unsafe; MIRROR_UNSAFE is off"
        return [["none", "the request is a copy itself" if is_copy else why, variable]]
    share = text_of_share(rule.share)
    return [[rule.upstream, f"of {share} of such requests, once the answer goes down", variable]]


_TEXT = [(b"content-type", b"text/plain")]


def _limits(stack: Stack, request: GatewayRequest, cost: int) -> Section:
    """The limits that a request meets, in their order, and its keys."""
    asked = sorted(stack.policies, key=lambda policy: not policy.is_before_auth)
    rows = [
        [
            policy.name,
            text_of_rate(policy.rate),
            f"by {text_of_key(policy.key)}",
            "who is let in, else the client" if KeyPart(IDENTITY) in policy.key else text_of(policy.key, request),
            f"costs {cost}" if cost > 1 else "",
        ]
        for policy in asked
    ]
    return Section("Limits", rows)


def _middleware(level: Level) -> Section:
    """Django's middleware before the view, from the outside in."""
    names = map(name_of_middleware, level.get("middleware", ()))
    origin = level.variable("middleware")
    return Section("Middleware, before the cache and the view", [[name, origin] for name in names])


def _threads(view: Legacy) -> list[list[str]]:
    options = view.bulkhead.options
    return [
        ["function", view.__name__],
        ["threads", str(options.threads), f"of the pool {view.bulkhead.name}"],
        ["queue", str(options.queue), "calls may wait; more get 503 at once"],
        ["timeout", format_duration(options.timeout_s), "waiting included; then 504"],
    ]


# -- routes -----------------------------------------------------------------------------------------------------------
def _named(route: GatewayRoute) -> list[str]:
    return [route.name or "", f"{route.rule.text} -> {describe(route)}", f"({route.origin})"]


def _losers(routes: Routes, match: Match[GatewayRoute], request: GatewayRequest, host: str) -> Iterator[list[str]]:
    """The other routes that match host and path, each with the reason why it lost."""
    path = request.raw_path
    for route in routes.routes:
        if route is not match.route and not mismatch.mismatch(route.rule, host, path):
            why = _refused_by(route, request)
            yield [*_named(route), why or mismatch.beaten(mismatch.nearest(route.rule, host, path), match.pattern)]


def _refused_by(route: GatewayRoute, request: GatewayRequest) -> str:
    """Why a route that matches host and path does not take a request; empty if it does."""
    pairs, query, trusted = request.raw_headers, request.scope["query_string"], request.from_trusted_peer
    if refused := mismatch.refusal(route.rule, request.method):
        return refused
    return "" if hold(route.rule.when, pairs, query, trusted=trusted) else mismatch.unmet(route.rule)


def _nearest(routes: Routes, request: GatewayRequest, host: str) -> Section:
    """The routes nearest to a request that no route takes, and why they do not take it."""
    path = request.raw_path
    near = sorted(routes.routes, key=lambda route: mismatch.nearness(route.rule, host, path), reverse=True)
    rows = [
        [*_named(route), mismatch.mismatch(route.rule, host, path) or _refused_by(route, request)]
        for route in near[:_NEAR_MISSES]
    ]
    rows += [[f"and {len(near) - _NEAR_MISSES} more"]] if len(near) > _NEAR_MISSES else []
    return Section("No route() line or GATEWAY_ROUTE_* matches; the nearest", rows)


def _even(rows: list[list[str]]) -> list[list[str]]:
    longest = max(map(len, rows), default=0)
    return [row + [""] * (longest - len(row)) for row in rows]


# -- the cache ----------------------------------------------------------------------------------------------------
def _cache(route: GatewayRoute, request: GatewayRequest) -> list[list[str]]:
    """What would be stored, and for how long; `gateway cache why` shows what is in the store."""
    cache, rows = route.cache, []
    inner = route.endpoint
    if isinstance(inner, Fanout):
        rows = [[f"part {part.name}", *_stored(part.cache)] for part in inner.fan.parts if part.cache is not None]
    if cache is None:
        return rows or [["answers are not stored"]]
    past, unstorable = passes_cache_by(request), not_stored(request)
    if past is not None:
        return [["this request", f"goes up: nothing stored answers it ({past.get('detail', past['fwd'])})"], *rows]
    why = refusal(Response("GET", request.raw_headers, 200, _SAYS_NOTHING, 0.0, 0.0), cache.rule)
    answer = ["the answer", *_stored(cache.rule), route.level.variable("cache")]
    if unstorable is not None:
        answer = ["the answer", f"is not stored if it comes from the upstream ({unstorable})"]
    elif why is NotStored.REQUEST_NO_STORE:
        answer = ["the answer", f"is not stored: {why.value}"]
    elif why in {NotStored.AUTHORIZATION, NotStored.COOKIE}:
        answer = ["the answer", f"is not stored where {why.value}"]
    return [answer, *rows, ["now", "`gateway cache why` tells what is stored of this"]]


def _forgets(routes: Routes, request: GatewayRequest, host: str) -> list[list[str]]:
    if request.method in methods.SAFE_METHODS or not routes.stored_at(host, request.raw_path):
        return []
    return [["then", "what is stored of this path goes, if the answer is 2xx or 3xx"]]


# An answer that could be stored, without a stated lifetime.
_SAYS_NOTHING = [(b"etag", b'"1"')]


def _stored(rule: Rule) -> list[str]:
    lasts = "" if rule.ttl_s is None else f", else {format_duration(rule.ttl_s)}"
    stale = f", stale for {format_duration(rule.stale_if_error_s)} after a failure" if rule.stale_if_error_s else ""
    return [f"stored for as long as it says{lasts}{stale}", f"up to {format_size(rule.max_body_bytes)}"]
