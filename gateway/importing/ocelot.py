"""Ocelot: `Routes` become routes, `Aggregates` fan-outs of those that have a key."""

import re
from dataclasses import dataclass

from gateway.importing.draft import Draft, Weight
from gateway.importing.source import Node
from gateway.importing.values import (
    PathError,
    PathTemplate,
    condition,
    duration,
    host_hint,
    number,
    parameter,
    path_template,
    service_name,
)

# Names that people give to a placeholder for the whole rest of the path.
_REST = ("everything", "all", "url", "path", "catchall", "catchAll", "any", "rest", "route")
_NO_MEANING = ("DangerousAcceptAnyServerCertificateValidator", "Metadata", "Timeout")
_ACCESS = (
    "AuthenticationOptions",
    "RouteClaimsRequirement",
    "SecurityOptions",
    "AddClaimsToRequest",
    "ChangeDownstreamPathTemplate",
)
_GUARDS = ("AuthenticationOptions", "RouteClaimsRequirement", "SecurityOptions")
_BEHAVIOUR = (
    "AddHeadersToRequest",
    "AddQueriesToRequest",
    "DelegatingHandlers",
    "HttpHandlerOptions",
)


def is_ocelot(root: Node) -> bool:
    """Whether a document is a configuration of Ocelot."""
    found = root.plain()
    routes = isinstance(found, dict) and (found.get("Routes") or found.get("ReRoutes"))
    return isinstance(routes, list) and any(isinstance(one, dict) and "UpstreamPathTemplate" in one for one in routes)


@dataclass(frozen=True, slots=True)
class _Read:
    node: Node
    upstream: str
    path: PathTemplate  # path of the request
    target: str
    guard: str = ""  # a guard that cannot be expressed


def read(root: Node, draft: Draft) -> None:
    """Make the environment of an ocelot.json."""
    keyed: dict[str, _Read] = {}
    routes = root.items("Routes") or root.items("ReRoutes")
    if not all(node.is_true("RouteIsCaseSensitive") for node in (*routes, *root.items("Aggregates"))):
        draft.option("GATEWAY", "CASE", "ignore", root, Weight.ROUTING)
    for node in routes:
        found = _route(node, draft)
        if found is not None and (key := node.text("Key")):
            keyed[key] = found
    for node in root.items("Aggregates"):
        _aggregate(node, draft, keyed)
    if (settings := root.get("GlobalConfiguration")) is not None:
        _settings(settings, draft)


def _settings(settings: Node, draft: Draft) -> None:
    settings.skip("BaseUrl", "RequestIdKey")
    for name, node in settings.members().items():
        if name == "RateLimitOptions" or name in _ACCESS:
            if name in _GUARDS and _says_something(node):
                draft.close("GATEWAY", node, f"GlobalConfiguration.{name}")
            draft.leave(Weight.ACCESS, node, f"GlobalConfiguration.{name}")
        elif name == "ServiceDiscoveryProvider":
            draft.leave(Weight.ROUTING, node, "services are found by DNS: name their hosts in GATEWAY_UPSTREAM_<NAME>")
        elif name not in {"BaseUrl", "RequestIdKey"}:
            draft.leave(Weight.BEHAVIOUR, node, f"GlobalConfiguration.{name}")


def _route(node: Node, draft: Draft) -> _Read | None:
    up, down = node.text("UpstreamPathTemplate"), node.text("DownstreamPathTemplate")
    node.skip(*_NO_MEANING)
    guards = [name for name in _GUARDS if (one := node.get(name)) is not None and _says_something(one)]
    try:
        pattern, target = path_template(up, _REST), path_template(down, _REST)
    except PathError as error:
        draft.leave_route(node, up, f"{up}: {error}", is_guarded=bool(guards))
        return None
    scheme = node.text("DownstreamScheme", default="http")
    urls = [_base(scheme, one) for one in node.items("DownstreamHostAndPorts")]
    service = node.text("ServiceName")
    if not urls and service:
        urls = [f"{scheme}://{service}"]
        draft.note(Weight.ROUTING, node, f"{up}: ServiceName {service} is taken for a host name")
    if not urls or scheme not in {"http", "https", "ws", "wss"}:
        draft.leave_route(node, up, f"{up}: no http or https service", is_guarded=bool(guards))
        return None
    urls = [re.sub("^ws", "http", url) for url in urls]
    try:
        when = " ".join(condition("header", name, [one.scalar()]) for name, one in _headers(node).items())
    except ValueError as error:
        text = f"{up} is for some headers only, and would be for all: {error}"
        draft.leave_route(node, up, text, is_guarded=bool(guards))
        return None
    stem = draft.upstream(service or host_hint(urls[0]), urls, node)
    _balance(node, draft, stem)
    found = _Read(node, stem, pattern, str(target), ", ".join(guards))
    methods = ",".join(method.upper() for method in node.texts("UpstreamHttpMethod"))
    host = node.text("UpstreamHost")
    right = service_name(stem) + ("" if str(pattern) == str(target) else f":{target}")
    route = draft.route(node.text("Key") or up, f"{methods} {host}{pattern} -> {right}".strip(), node)
    if when:
        draft.option(route, "WHEN", when, node, Weight.ROUTING)
    _case(node, draft, route)
    _options(node, draft, route)
    for name in guards:
        draft.close(route, node.get(name) or node, f"{name} of {up}")
    return found


def _headers(node: Node) -> dict[str, Node]:
    """`UpstreamHeaderTemplates`. Raises ValueError for a value that is a pattern."""
    found = node.members("UpstreamHeaderTemplates")
    for name, one in found.items():
        if "{" in one.scalar():
            raise ValueError(f"{name}: {one.scalar()} is a pattern")
    return found


def _case(node: Node, draft: Draft, stem: str) -> None:
    """In Ocelot paths ignore case, unless a route sets that."""
    if node.is_true("RouteIsCaseSensitive") and "GATEWAY_CASE" in draft.variables:
        draft.option(stem, "CASE", "strict", node, Weight.ROUTING)


def _says_something(node: Node) -> bool:
    """Whether there is any value within that is not empty."""
    if isinstance(node.value, dict):
        return any(map(_says_something, node.value.values()))
    return any(map(_says_something, node.value)) if isinstance(node.value, list) else bool(node.value)


def _base(scheme: str, node: Node) -> str:
    host, port = node.text("Host"), node.text("Port")
    return f"{scheme}://{host}" + (f":{port}" if port and port != "0" else "")


def _balance(node: Node, draft: Draft, stem: str) -> None:
    options = node.get("LoadBalancerOptions")
    if options is None:
        return
    kind, cookie = options.text("Type"), options.text("Key")
    options.take()
    if kind == "RoundRobin":
        draft.option(stem, "BALANCE", "round_robin", options)
    elif kind == "CookieStickySessions":
        draft.option(stem, "BALANCE", f"sticky:{cookie}" if cookie else "sticky", options)


def _options(node: Node, draft: Draft, stem: str) -> None:
    if (priority := node.get("Priority")) is not None:
        priority.take()
        if priority.scalar() not in {"0", "1"}:
            draft.note(Weight.ROUTING, priority, "Priority: the most specific route wins, whatever stands here")
    if (cache := node.get("FileCacheOptions")) is not None:
        seconds = cache.text("TtlSeconds", default="0")
        cache.take()
        if seconds != "0":
            draft.option(stem, "CACHE", f"{seconds}s", cache)
    if (quality := node.get("QoSOptions")) is not None:
        timeout = quality.text("TimeoutValue", default="0") or "0"
        quality.take()  # failing endpoints are ejected in any case
        if milliseconds := number(timeout):
            draft.option(stem, "TIMEOUT", duration(milliseconds), quality)
    if (limit := node.get("RateLimitOptions")) is not None:
        _rate_limit(limit, draft, stem)
    for member, option in (("UpstreamHeaderTransform", "HEADER"), ("DownstreamHeaderTransform", "RESPONSE_HEADER")):
        for name, value in node.members(member).items():
            if "{" in value.scalar() or re.search(r"\S, \S", value.scalar()):
                draft.leave(Weight.BEHAVIOUR, value, f"{member} {name}: it replaces a part of the value, or holds one")
            else:
                draft.option(stem, f"{option}_{name.upper().replace('-', '_')}", value.scalar() or "-", value)
    for name in (*_ACCESS, *_BEHAVIOUR):
        if (found := node.get(name)) is not None and _says_something(found):
            weight = Weight.ACCESS if name in _ACCESS else Weight.BEHAVIOUR
            draft.leave(weight, found, f"{name} of {node.text('UpstreamPathTemplate')}")
    node.skip("DownstreamHttpVersion", "DownstreamHttpVersionPolicy")
    if (method := node.get("DownstreamHttpMethod")) is not None:
        draft.leave(Weight.BEHAVIOUR, method, "DownstreamHttpMethod: a proxied request keeps its method")


def _rate_limit(limit: Node, draft: Draft, stem: str) -> None:
    enabled = limit.is_true("EnableRateLimiting")
    count, period = limit.text("Limit"), limit.text("Period")
    whitelist = limit.get("ClientWhitelist")
    limit.take()
    if not enabled:
        return
    if whitelist is not None and whitelist.plain():
        draft.note(Weight.BEHAVIOUR, whitelist, "ClientWhitelist: nobody is exempt")
    draft.option(stem, "RATE_LIMIT", f"{count}/{period} by client", limit, Weight.ACCESS)


def _aggregate(node: Node, draft: Draft, keyed: dict[str, _Read]) -> None:
    up = node.text("UpstreamPathTemplate")
    keys = node.texts("RouteKeys") or node.texts("ReRouteKeys")
    node.skip("Priority", "UpstreamHttpMethod")
    if (aggregator := node.get("Aggregator")) is not None:
        draft.leave(
            Weight.BEHAVIOUR, aggregator, "Aggregator: write it in Python, as a typed fan-out (docs/fan-out.md)"
        )
    if (more := node.get("RouteKeysConfig")) is not None:
        draft.leave(Weight.BEHAVIOUR, more, "RouteKeysConfig: a part may use values of another, as {user.team_id}")
    missing = [key for key in keys if key not in keyed]
    try:
        pattern = path_template(up, ())
    except PathError as error:
        draft.leave(Weight.ROUTING, node, f"{up}: {error}")
        return
    if missing or not keys:
        draft.leave(Weight.ROUTING, node, f"{up}: there is no route with the key {', '.join(missing) or '(none)'}")
        return
    stem = draft.route(up, f"GET {node.text('UpstreamHost')}{pattern}", node)
    _case(node, draft, stem)
    for key in keys:
        if guard := keyed[key].guard:
            draft.close(stem, node, f"{guard} of the route {key}")
        name = parameter(key)
        if name != key:
            draft.note(Weight.BEHAVIOUR, node, f"RouteKey {key}: the part is called {name}")
        target = f"{service_name(keyed[key].upstream)}:{keyed[key].target}"
        draft.option(stem, f"PART_{name.upper()}", target, node, Weight.ROUTING)
