"""Kong's declarative configuration: services and upstreams become upstreams, routes routes."""

import re
from collections.abc import Iterator, Sequence
from itertools import product

from gateway.importing.draft import Draft, Weight
from gateway.importing.expressions import expression_paths
from gateway.importing.source import Node
from gateway.importing.values import (
    INT,
    PathError,
    condition,
    duration,
    encoded,
    host_hint,
    literal,
    looks_like_guard,
    number,
    service_name,
    weighted,
)

_METADATA = (
    *("id", "tags", "created_at", "updated_at", "enabled", "https_redirect_status_code", "request_buffering"),
    *("response_buffering", "path_handling", "regex_priority", "ws_id"),
)
_ACCESS_PLUGINS = frozenset(
    [
        "key-auth",
        "jwt",
        "basic-auth",
        "oauth2",
        "hmac-auth",
        "ldap-auth",
        "acl",
        "ip-restriction",
        "mtls-auth",
        "openid-connect",
        "session",
    ]
)
# Code of the team's own, and plugins that count: they may also refuse requests, which is not known here.
_OF_ACCESS = frozenset({"rate-limiting-advanced", "bot-detection", "pre-function", "post-function"})
_DETAIL_PLUGINS = re.compile(r".*-log|prometheus|datadog|statsd|zipkin|opentelemetry|loggly|correlation-id")


def is_kong(root: Node) -> bool:
    """Whether a document is a declarative configuration of Kong."""
    found = root.plain()
    return isinstance(found, dict) and "_format_version" in found


def read(root: Node, draft: Draft) -> None:
    """Make the environment of a declarative configuration of format 1 to 3."""
    root.skip("_transform", "_info", "_comment")
    version = root.text("_format_version")
    if not version.startswith(("1", "2", "3")):
        draft.note(Weight.ROUTING, root, f"format {version or '(none)'} is not known; read as 3.0")
    if (consumers := root.get("consumers")) is not None:
        draft.leave(Weight.ACCESS, consumers, "consumers and their credentials: GATEWAY_AUTH_<NAME>")
    upstreams = {one.text("name"): one for one in root.items("upstreams")}
    above = [*root.items("plugins"), *(one for each in root.items("services") for one in each.items("plugins"))]
    services: dict[str, str] = {}
    routes: dict[str, list[str]] = {}
    for service in root.items("services"):
        stem = _service(service, draft, upstreams)
        for name in {service.text("name"), service.text("id")} - {""}:
            services[name] = stem
        for route in service.items("routes"):
            routes[route.text("name")] = _route(route, draft, stem, above)
    for route in root.items("routes"):
        named = route.get("service")
        name = "" if named is None else named.text("name") or named.text("id") or named.scalar()
        if name in services:
            routes[route.text("name")] = _route(route, draft, services[name], above)
        else:
            draft.leave(Weight.ROUTING, route, f"route {route.text('name')}: it has no service")
    for plugin in root.items("plugins"):
        owner = plugin.get("route") or plugin.get("service") or plugin.get("consumer")
        name = "" if owner is None else owner.text("name") or owner.scalar()
        stems = routes.get(name) if plugin.get("route") else [services[name]] if name in services else None
        if owner is None:
            _plugin(plugin, draft, "GATEWAY")
        elif stems is None:
            draft.leave(Weight.ACCESS, plugin, f"plugin {plugin.text('name')} of {name or 'a consumer'}")
        for stem in stems or ():
            _plugin(plugin, draft, stem)


# -- services -----------------------------------------------------------------------------------------------------


def _service(service: Node, draft: Draft, upstreams: dict[str, Node]) -> str:
    service.skip(*_METADATA)
    url = service.text("url")
    if not url:
        scheme = service.text("protocol", default="http")
        port = service.text("port", default="443" if scheme == "https" else "80")
        url = f"{scheme}://{service.text('host')}:{port}{service.text('path')}"
    match = re.fullmatch(r"(\w+)://([^/:]+)(:\d+)?(/.*)?", url)
    name = service.text("name") or host_hint(url)
    if match is None or match[1] not in {"http", "https"}:
        draft.note(Weight.ROUTING, service, f"service {name}: {url} is no http or https URL")
        return draft.upstream(name, [url], service)
    scheme, host, port, path = match[1], match[2], match[3] or "", (match[4] or "").rstrip("/")
    urls = [f"{scheme}://{host}{port}{path}"]
    if host in upstreams:
        found = list(_targets(upstreams[host], draft))
        named = [f"{scheme}://{target}{path}" for target, _ in found]
        urls = weighted(named, [weight for _, weight in found]) or urls
    stem = draft.upstream(name, urls, service)
    if host in upstreams:
        _balance(upstreams[host], draft, stem)
    for option, member in (("CONNECT_TIMEOUT", "connect_timeout"), ("TIMEOUT", "read_timeout")):
        if (node := service.get(member)) is not None and (limit := number(node.scalar())) is not None:
            draft.option(stem, option, duration(limit), node)
    service.skip("write_timeout")
    if (retries := service.get("retries")) is not None:
        draft.option(stem, "RETRIES", retries.scalar(), retries)
    for member in ("ca_certificates", "client_certificate", "tls_verify"):
        if (node := service.get(member)) is not None:
            draft.leave(Weight.ACCESS, node, f"{member}: {stem}__CA_FILE, __CLIENT_CERT_FILE")
    for plugin in service.items("plugins"):
        _plugin(plugin, draft, stem)
    return stem


def _targets(upstream: Node, draft: Draft) -> Iterator[tuple[str, str]]:
    """The address and the weight of each target."""
    upstream.skip("name", *_METADATA)
    for target in upstream.items("targets"):
        weight = target.text("weight", default="100")
        target.skip(*_METADATA)
        address = target.text("target")
        if weight == "0":
            draft.leave(Weight.ROUTING, target, f"target {address} has weight 0: left out")
            continue
        yield address if ":" in address else f"{address}:8000", weight


def _balance(upstream: Node, draft: Draft, stem: str) -> None:
    algorithm = upstream.text("algorithm", default="round-robin")
    upstream.skip("slots", "hash_fallback", "hash_fallback_header", "hash_on_cookie_path", "host_header")
    by = upstream.text("hash_on", default="none")
    if algorithm == "consistent-hashing" and by == "header":
        draft.option(stem, "BALANCE", f"hash:header:{upstream.text('hash_on_header').lower()}", upstream)
    elif algorithm == "consistent-hashing" and by == "cookie":
        draft.option(stem, "BALANCE", f"hash:cookie:{upstream.text('hash_on_cookie')}", upstream)
    elif algorithm == "consistent-hashing":
        draft.option(stem, "BALANCE", "hash:client", upstream)
    elif algorithm == "round-robin":
        draft.option(stem, "BALANCE", "round_robin", upstream)
    active = upstream.get("healthchecks", "active")
    if active is not None and active.get("healthy") is not None:
        path = active.text("http_path", default="/")
        interval = number(active.text("healthy", "interval", default="0"))
        active.take()
        if interval:
            draft.option(stem, "HEALTH", path, active)
            draft.option(stem, "HEALTH_INTERVAL", duration(interval * 1000), active)
    if (passive := upstream.get("healthchecks", "passive")) is not None:
        passive.take()  # failing endpoints are ejected in any case
    if (node := upstream.get("healthchecks")) is not None:
        node.skip("threshold")


# -- routes -------------------------------------------------------------------------------------------------------


def _route(route: Node, draft: Draft, service: str, above: Sequence[Node]) -> list[str]:
    """The routes that one becomes, by the beginning of their variables; `above` are plugins that may apply to it."""
    made: list[str] = []
    route.skip(*_METADATA)
    name = route.text("name") or "route"
    methods, hosts = ",".join(route.texts("methods")), route.texts("hosts") or [""]
    paths = route.items("paths") or [route]
    strip = route.is_true("strip_path", default=True)
    preserve = route.is_true("preserve_host")
    plugins = (*route.items("plugins"), *above)
    guarded = any(one.text("name") in _ACCESS_PLUGINS or looks_like_guard(one.text("name")) for one in plugins)
    protocols = route.texts("protocols")
    if protocols and not set(protocols) & {"http", "https"}:
        draft.leave(Weight.ROUTING, route, f"route {name}: only http and https are served, not {', '.join(protocols)}")
        return made
    if protocols == ["https"]:
        draft.note(Weight.ACCESS, route, f"route {name} is for https only: GATEWAY_HTTPS=redirect holds for all")
    try:
        when = _when(route, draft, name)
    except ValueError as error:
        text = f"route {name} is for some headers only, and would be for all: {error}"
        draft.leave_route(route, f"route {name}", text, is_guarded=guarded)
        return made
    for member in ("snis", "sources", "destinations"):
        if (node := route.get(member)) is not None and node.plain():
            text = f"route {name} is for some {member} only, and would be for all: left out"
            draft.leave_route(node, f"route {name}", text, is_guarded=guarded or member == "sources")
            route.take()
            return made
    for host, node in product(hosts, paths):
        path = "/" if node is route else node.scalar()
        is_expression = path.startswith("~") or re.search(r"[\\()|?+\[\]]", path) is not None
        patterns = _expression(path.removeprefix("~")) if is_expression and not guarded else []
        if "*" in host or (is_expression and not patterns):
            what = f"path {path}" if "*" not in host else f"host {host}"
            place = node if node is not route else route
            draft.note(Weight.ROUTING, place, f"route {name}: {what} is a pattern")
            if guarded:
                draft.note(Weight.ACCESS, place, f"route {name}: other routes have its requests, and let in")
            continue
        prefix, own_host = encoded(path).rstrip("/"), host.partition(":")[0]
        right = service_name(service)
        if strip and prefix:  # for an expression, all that it matches is stripped
            right += ":/" if is_expression else ":/**"
        own_paths = " ".join(f"{own_host}{one}" for one in patterns or [f"{prefix}/**"])
        if any(":int}" in one for one in patterns):
            draft.note(Weight.ROUTING, node, f"route {name}: path {path}: {INT}")
        line = f"{methods} {own_paths} -> {right}".strip()
        stem = draft.route(name, line, node)
        made.append(stem)
        if when:
            draft.option(stem, "WHEN", when, route, Weight.ROUTING)
        if preserve:
            draft.option(stem, "HOST", "preserve", route)
        for plugin in route.items("plugins"):
            _plugin(plugin, draft, stem)
    return made


def _expression(text: str) -> list[str]:
    """The paths of a regular expression; none if no route can express it, or it matches only a part of the path."""
    try:
        return expression_paths(text) if text.endswith("$") else []
    except PathError:
        return []


def _when(route: Node, draft: Draft, name: str) -> str:
    """`headers` as WHEN. Raises ValueError for patterns and odd values."""
    found = []
    for header, node in route.members("headers").items():
        values = route.texts("headers", header)
        if not values or any(value.startswith("~") for value in values):
            raise ValueError(f"{header}: {', '.join(values)} is a pattern")
        found.append(condition("header", header, values))
        if any(value != value.upper() or value != value.lower() for value in values):
            draft.note(Weight.BEHAVIOUR, node, f"route {name}: the values of {header} are compared with their case")
    return " ".join(found)


# -- plugins ------------------------------------------------------------------------------------------------------


def _plugin(plugin: Node, draft: Draft, stem: str) -> None:
    name, config = plugin.text("name"), plugin.get("config")
    plugin.skip("id", "tags", "created_at", "protocols", "service", "route", "instance_name")
    if not plugin.is_true("enabled", default=True):
        plugin.take()
        return
    if name in _PLUGINS and config is not None:
        _PLUGINS[name](config, draft, stem)
        return
    weight = Weight.BEHAVIOUR
    if name == "request-termination":
        _termination(plugin, draft, stem)
        return
    if name in _ACCESS_PLUGINS or (looks_like_guard(name) and name not in _OF_ACCESS):
        weight = Weight.ACCESS
        draft.close(stem, plugin, f"plugin {name}")
    elif name in _OF_ACCESS:
        weight = Weight.ACCESS
    elif _DETAIL_PLUGINS.fullmatch(name):
        weight = Weight.DETAIL
    draft.leave(weight, plugin, f"plugin {name}")


def _termination(plugin: Node, draft: Draft, stem: str) -> None:
    """All requests get one answer."""
    config = plugin.get("config") or plugin
    status, body = config.text("status_code", default="503"), config.text("body")
    draft.answer(stem, status if re.fullmatch(r"[2-5][0-9]{2}", status) else "503")
    if body and stem.startswith("GATEWAY_ROUTE_"):
        draft.option(stem, "BODY", body, plugin)
        if media := config.text("content_type"):
            draft.option(stem, "TYPE", media, plugin)
    elif body or config.text("message"):
        draft.note(Weight.BEHAVIOUR, plugin, "request-termination: its text is left out; BODY of the route")
    plugin.take()


def _rate_limiting(config: Node, draft: Draft, stem: str) -> None:
    by = {"ip": "client", "service": "all", "header": f"header:{config.text('header_name').lower()}"}
    limited = by.get(config.text("limit_by", default="consumer"), "client")
    limits = []
    for unit, word in (("second", "1s"), ("minute", "1m"), ("hour", "1h"), ("day", "1d")):
        if count := config.text(unit):
            limits.append(f"{count}/{word}")
    for unit in ("month", "year"):
        if (node := config.get(unit)) is not None and node.value is not None:
            draft.leave(Weight.ACCESS, node, f"a limit for each {unit}")
    config.skip("policy", "fault_tolerant", "hide_client_headers", "redis", "error_code", "error_message", "sync_rate")
    if limits:
        draft.option(stem, "RATE_LIMIT", f"{' '.join(limits)} by {limited}", config, Weight.ACCESS)


def _cors(config: Node, draft: Draft, stem: str) -> None:
    origins = config.texts("origins") or ["*"]
    draft.option(stem, "CORS", ",".join(origins), config, Weight.ACCESS)
    for member, option in (("methods", "CORS_METHODS"), ("headers", "CORS_HEADERS")):
        if found := config.texts(member):
            draft.option(stem, option, ",".join(found), config)
    if config.is_true("credentials"):
        draft.option(stem, "CORS_CREDENTIALS", "on", config)
    if age := config.text("max_age"):
        draft.option(stem, "CORS_MAX_AGE", f"{age}s", config)
    config.skip("exposed_headers", "credentials", "preflight_continue", "private_network")


def _size_limiting(config: Node, draft: Draft, stem: str) -> None:
    unit = {"megabytes": "MiB", "kilobytes": "KiB", "bytes": "B"}[config.text("size_unit", default="megabytes")]
    draft.option(stem, "MAX_BODY", f"{config.text('allowed_payload_size', default='128')}{unit}", config)
    config.skip("require_content_length")


def _cache(config: Node, draft: Draft, stem: str) -> None:
    draft.option(stem, "CACHE", f"{config.text('cache_ttl', default='300')}s", config)
    config.take()


def _request_transformer(config: Node, draft: Draft, stem: str) -> None:
    _transformer(config, draft, stem, "HEADER")


def _response_transformer(config: Node, draft: Draft, stem: str) -> None:
    _transformer(config, draft, stem, "RESPONSE_HEADER")


def _transformer(config: Node, draft: Draft, stem: str, option: str) -> None:
    for verb in ("add", "append", "replace"):
        for item in config.items(verb, "headers"):
            name, _, value = item.scalar().partition(":")
            draft.option(
                stem, f"{option}_{name.strip().upper().replace('-', '_')}", _value(option, value.strip()), item
            )
    for item in config.items("remove", "headers"):
        draft.option(stem, f"{option}_{item.scalar().strip().upper().replace('-', '_')}", "-", item)


def _value(option: str, value: str) -> str:
    return (literal(value) if option == "HEADER" else value) or "-"


_PLUGINS = {
    "rate-limiting": _rate_limiting,
    "cors": _cors,
    "request-size-limiting": _size_limiting,
    "proxy-cache": _cache,
    "request-transformer": _request_transformer,
    "response-transformer": _response_transformer,
}
