"""Kong's declarative configuration: services and upstreams become upstreams, routes routes."""

import re
from collections.abc import Iterator
from itertools import product

from gateway.importing.draft import Draft, Weight
from gateway.importing.source import Node
from gateway.importing.values import duration, host_hint, literal, number, service_name

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
        "bot-detection",
        "mtls-auth",
        "openid-connect",
        "session",
        "rate-limiting-advanced",
        "request-termination",
    ]
)
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
    services: dict[str, str] = {}
    for service in root.items("services"):
        stem = _service(service, draft, upstreams)
        for name in {service.text("name"), service.text("id")} - {""}:
            services[name] = stem
        for route in service.items("routes"):
            _route(route, draft, stem)
    for route in root.items("routes"):
        named = route.get("service")
        name = "" if named is None else named.text("name") or named.text("id") or named.scalar()
        if name in services:
            _route(route, draft, services[name])
        else:
            draft.leave(Weight.ROUTING, route, f"route {route.text('name')}: it has no service")
    for plugin in root.items("plugins"):
        owner = plugin.get("service") or plugin.get("route") or plugin.get("consumer")
        name = "" if owner is None else owner.text("name") or owner.scalar()
        if owner is None or name in services:
            _plugin(plugin, draft, "GATEWAY" if owner is None else services[name])
        else:
            draft.leave(Weight.BEHAVIOUR, plugin, f"plugin {plugin.text('name')} of {name}")


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
        urls = [f"{scheme}://{target}{path}" for target in found] or urls
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


def _targets(upstream: Node, draft: Draft) -> Iterator[str]:
    upstream.skip("name", *_METADATA)
    weights = set()
    for target in upstream.items("targets"):
        weight = target.text("weight", default="100")
        target.skip(*_METADATA)
        address = target.text("target")
        if weight == "0":
            draft.leave(Weight.ROUTING, target, f"target {address} has weight 0: left out")
            continue
        weights.add(weight)
        yield address if ":" in address else f"{address}:8000"
    if len(weights) > 1:
        draft.note(Weight.BEHAVIOUR, upstream, "weights differ: requests go to the endpoint with the fewest of them")


def _balance(upstream: Node, draft: Draft, stem: str) -> None:
    algorithm = upstream.text("algorithm", default="round-robin")
    upstream.skip("slots", "hash_fallback", "hash_fallback_header", "hash_on_cookie_path", "host_header")
    by = upstream.text("hash_on", default="none")
    if algorithm == "consistent-hashing" and by == "header":
        draft.option(stem, "BALANCE", f"hash:header:{upstream.text('hash_on_header').lower()}", upstream)
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
        passive.take()  # endpoints that fail are ejected by themselves
    if (node := upstream.get("healthchecks")) is not None:
        node.skip("threshold")


# -- routes -------------------------------------------------------------------------------------------------------


def _route(route: Node, draft: Draft, service: str) -> None:
    route.skip(*_METADATA)
    name = route.text("name") or "route"
    methods, hosts = ",".join(route.texts("methods")), route.texts("hosts") or [""]
    paths = route.items("paths") or [route]
    strip = route.is_true("strip_path", default=True)
    preserve = route.is_true("preserve_host")
    protocols = route.texts("protocols")
    if protocols and not set(protocols) & {"http", "https"}:
        draft.leave(Weight.ROUTING, route, f"route {name}: only http and https are served, not {', '.join(protocols)}")
        return
    if protocols == ["https"]:
        draft.note(Weight.ACCESS, route, f"route {name} is for https only: GATEWAY_HTTPS=redirect holds for all")
    for member in ("headers", "snis", "sources", "destinations"):
        if (node := route.get(member)) is not None and node.plain():
            draft.leave(Weight.ROUTING, node, f"route {name} is for some {member} only, and would be for all: left out")
            route.take()
            return
    for host, node in product(hosts, paths):
        path = "/" if node is route else node.scalar()
        if "*" in host or path.startswith("~") or re.search(r"[\\()|?+\[\]]", path):
            what = f"path {path}" if "*" not in host else f"host {host}"
            draft.note(Weight.ROUTING, node if node is not route else route, f"route {name}: {what} is a pattern")
            continue
        prefix = path.rstrip("/")
        right = f"{service_name(service)}:/**" if strip and prefix else service_name(service)
        line = f"{methods} {host.partition(':')[0]}{prefix}/** -> {right}".strip()
        stem = draft.route(name, line, node)
        if preserve:
            draft.option(stem, "HOST", "preserve", route)
        for plugin in route.items("plugins"):
            _plugin(plugin, draft, stem)


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
    if name in _ACCESS_PLUGINS:
        weight = Weight.ACCESS
    elif _DETAIL_PLUGINS.fullmatch(name):
        weight = Weight.DETAIL
    draft.leave(weight, plugin, f"plugin {name}")


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
    config.skip(
        "methods", "headers", "exposed_headers", "credentials", "max_age", "preflight_continue", "private_network"
    )


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
