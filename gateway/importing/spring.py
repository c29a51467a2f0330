"""Spring Cloud Gateway: `routes` with their predicates and filters."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product

from gateway.importing.draft import Draft, Weight
from gateway.importing.source import Node
from gateway.importing.values import (
    PathError,
    PathTemplate,
    base_url,
    condition,
    duration,
    host_hint,
    literal,
    looks_like_guard,
    number,
    path_template,
    service_name,
    weighted,
    without_kinds,
)
from gateway.routing.conditions import parse_when

_ROOTS: tuple[tuple[str, ...], ...] = (
    ("spring", "cloud", "gateway", "server", "webflux"),
    ("spring", "cloud", "gateway", "server", "webmvc"),
    ("spring", "cloud", "gateway", "mvc"),
    ("spring", "cloud", "gateway"),
)
_STRIPPED = re.compile(r"\^?(?P<prefix>(?:/[\w.~-]+)+)/?\??\(\?<(?P<name>\w+)>/?\.\*\)\$?")
_PLAIN_VALUES = re.compile(r"[\w-]+(?:\|[\w-]+)*", re.ASCII)  # expressions that are plain values
_SPRING_TIME = re.compile(r"([0-9]{1,12})\s*(ns|us|ms|s|m|h|d)?")
_MS = {
    "ns": Fraction(1, 10**6),
    "us": Fraction(1, 1000),
    "ms": Fraction(1),
    "s": Fraction(1000),
    "m": Fraction(60_000),
    "h": Fraction(3_600_000),
    "d": Fraction(86_400_000),
}


def is_spring(root: Node) -> bool:
    """Whether a document is an application.yml with routes of Spring Cloud Gateway."""
    return _gateway(root) is not None


def _gateway(root: Node) -> Node | None:
    for path in _ROOTS:
        found: object = root.plain()
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        if isinstance(found, dict) and "routes" in found:
            return root.get(*path)
    return None


def read(root: Node, draft: Draft) -> None:
    """Make the environment of an application.yml; other settings of Spring are ignored."""
    found = _gateway(root)
    if found is None:
        draft.leave(Weight.ROUTING, root, "no spring.cloud.gateway.routes")
        return
    if (port := root.get("server", "port")) is not None and number(port.scalar()):
        draft.option("GATEWAY", "BIND", f"0.0.0.0:{port.scalar()}", port)
    _security(root, draft)
    for name, node in (*root.members().items(), *root.members("spring").items(), *root.members("server").items()):
        if name not in {"spring", "server", "cloud", "port"}:
            node.take()  # settings of the application itself
    for name, node in root.members("spring", "cloud").items():
        if name != "gateway":
            node.take()
    client = found.get("httpclient")
    if client is not None:
        for member, option, unit in (
            ("connect-timeout", "CONNECT_TIMEOUT", "ms"),
            ("response-timeout", "TIMEOUT", "ms"),
        ):
            if (limit := client.get(member)) is not None:
                _time(draft, "GATEWAY", option, limit, unit)
    _cors(found, draft)
    defaults = found.items("default-filters")
    routes = sorted(found.items("routes"), key=lambda route: number(route.text("order")) or 0)
    eureka = root.text("eureka", "client", "serviceUrl", "defaultZone") or root.text(
        "eureka", "client", "service-url", "defaultZone"
    )
    has_eureka = eureka.startswith(("http://", "https://")) and any(
        route.text("uri").startswith("lb://") for route in routes
    )
    if has_eureka:
        first = eureka.partition(",")[0].strip().rstrip("/")
        has_eureka = draft.option("GATEWAY", "EUREKA_URL", first, root.get("eureka") or root, Weight.ROUTING)
    for route, shares in _with_shares(routes):
        _Route(route, draft, has_eureka, shares=shares).read(defaults)


def _with_shares(routes: list[Node]) -> Iterator[tuple[Node, list[str]]]:
    """Routes with the base URLs that share their requests: of those that differ only by `Weight`, the first one."""
    groups: dict[str, list[tuple[Node, str, str]]] = {}
    for route in routes:
        weight, others = "", list[object]()
        for predicate in route.items("predicates"):
            name, values = _shortcut(predicate)
            if name == "Weight" and len(values) == 2:
                weight, others = values[1], [*others, values[0]]
            else:
                others.append(predicate.plain())
        rest = {name: one.plain() for name, one in route.members().items() if name not in {"id", "uri", "predicates"}}
        key = repr((others, rest) if weight else id(route))
        groups.setdefault(key, []).append((route, route.text("uri"), weight))
    for group in groups.values():
        first, weights = group[0][0], [weight for _, _, weight in group]
        shares = weighted([uri.rstrip("/") for _, uri, _ in group], weights)
        is_said = all(uri.startswith(("http://", "https://")) for _, uri, _ in group) and all(
            map(str.isdecimal, weights)
        )
        if len(group) < 2 or not is_said:
            yield from ((route, []) for route, _, _ in group)
            continue
        for route, _, _ in group[1:]:
            route.take()
        yield first, shares


def _security(root: Node, draft: Draft) -> None:
    """Spring Security: a resource server of one issuer is a way for all routes; all else closes them."""
    security = root.get("spring", "security")
    if security is None or security.plain() in ({}, None, ""):
        return
    issuer = security.text("oauth2", "resourceserver", "jwt", "issuer-uri")
    security.take()
    if not issuer.startswith(("http://", "https://")):
        draft.close("GATEWAY", security, "spring.security: which paths it guards, and how, is said in Java")
        return
    way = draft.way("token", f"jwt {issuer}", security)
    draft.option("GATEWAY", "AUTH", way.removeprefix("GATEWAY_AUTH_").lower(), security, Weight.ACCESS)
    draft.note(
        Weight.BEHAVIOUR, security, "spring.security: which paths are open is said in Java; AUTH=- opens a route"
    )


def _cors(found: Node, draft: Draft) -> None:
    for pattern, node in found.members("globalcors", "cors-configurations").items():
        origins = node.texts("allowedOrigins") or node.texts("allowed-origins")
        if not origins or pattern.strip("[]'") not in {"/**", "/*"}:
            draft.leave(Weight.ACCESS, node, f"globalcors of {pattern}")
            continue
        draft.option("GATEWAY", "CORS", ",".join(origins), node, Weight.ACCESS)
        for names, option in (
            (("allowedMethods", "allowed-methods"), "CORS_METHODS"),
            (("allowedHeaders", "allowed-headers"), "CORS_HEADERS"),
        ):
            found_there = [text for name in names for text in node.texts(name)]
            if found_there and "*" not in found_there:
                draft.option("GATEWAY", option, ",".join(found_there), node)
        if node.is_true("allowCredentials") or node.is_true("allow-credentials"):
            draft.option("GATEWAY", "CORS_CREDENTIALS", "on", node)
        if age := number(node.text("maxAge") or node.text("max-age")):
            draft.option("GATEWAY", "CORS_MAX_AGE", duration(age * 1000), node)
        node.take()


def _time(draft: Draft, stem: str, option: str, node: Node, unit: str) -> None:
    match = _SPRING_TIME.fullmatch(node.scalar().strip())
    if match is None:
        draft.note(Weight.BEHAVIOUR, node, f"{node.path}: {node.scalar()} is not a duration")
    else:
        draft.option(stem, option, duration(int(match[1]) * _MS[match[2] or unit]), node)


@dataclass(slots=True)
class _Route:
    node: Node
    draft: Draft
    has_eureka: bool  # `lb://` names an application in Eureka
    shares: list[str] = field(default_factory=list)  # base URLs with weights, instead of its own
    paths: list[str] = field(default_factory=lambda: ["/**"])
    methods: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=lambda: [""])
    when: list[str] = field(default_factory=list)
    change: Callable[[PathTemplate], str] | None = None  # change of the path that goes up
    options: list[tuple[str, str, Node]] = field(default_factory=list)
    guards: list[tuple[Node, str]] = field(default_factory=list)  # guards that cannot be expressed
    answer: str = ""  # the answer instead of the service's
    is_left: bool = False
    is_of_some: bool = False  # for some clients only

    def read(self, defaults: list[Node]) -> None:
        node, draft, name = self.node, self.draft, self.node.text("id") or "route"
        uri = node.text("uri")
        if uri.startswith("lb://") and self.has_eureka:
            uri = f"eureka+http://{uri.removeprefix('lb://')}"
        elif uri.startswith("lb://"):
            draft.note(Weight.ROUTING, node, f"route {name}: {uri} is taken for the host name of a service")
            uri = f"http://{uri.removeprefix('lb://')}"
        try:
            url = uri if uri.startswith("eureka+") else base_url(re.sub("^ws", "http", uri))
        except ValueError as error:
            is_guarded = any(looks_like_guard(_shortcut(one)[0]) for one in node.items("filters"))
            draft.leave_route(node, f"route {name}", f"route {name}: {error}", is_guarded=is_guarded)
            return
        let_in = f"route {name}: other routes have its requests, and let in"
        for predicate in node.items("predicates"):
            self._predicate(predicate, name)
        for one in (*defaults, *node.items("filters")):
            self._filter(one, name)
        if self.is_left:
            node.take()
            if self.guards or self.is_of_some:
                draft.note(Weight.ACCESS, node, let_in)
            return
        stem = draft.upstream(host_hint(url), self.shares or [url], node)
        for host, path in product(self.hosts, self.paths):
            try:
                pattern = path_template(path)
            except PathError as error:
                draft.note(Weight.ROUTING, node, f"route {name}: {path}: {error}")
                if self.guards:
                    draft.note(Weight.ACCESS, node, let_in)
                continue
            target = "" if self.change is None else f":{without_kinds(self.change(pattern))}"
            right = self.answer or f"{service_name(stem)}{target}"
            route = draft.route(name, f"{','.join(self.methods)} {host}{pattern} -> {right}".strip(), node)
            if self.when:
                draft.option(route, "WHEN", " ".join(self.when), node, Weight.ROUTING)
            for place, text in self.guards:
                draft.close(route, place, text)
            if self.answer:
                continue
            for option, value, place in self.options:
                draft.option_of([route, stem], option, value, place, Weight.BEHAVIOUR)
            for member, option in (("response-timeout", "TIMEOUT"), ("connect-timeout", "CONNECT_TIMEOUT")):
                if (found := node.get("metadata", member)) is not None:
                    _time(draft, route, option, found, "ms")

    def _predicate(self, node: Node, route: str) -> None:
        name, values = _shortcut(node)
        if name == "Path":
            self.paths = values
        elif name == "Method":
            self.methods = [value.upper() for value in values]
        elif name == "Host" and not any("*" in value or "{" in value for value in values):
            self.hosts = [value.partition(":")[0] for value in values]
        elif not (name == "Weight" and self.shares) and not self._condition(name, values):
            self.draft.leave(
                Weight.ROUTING, node, f"route {route}: predicate {name}={','.join(values)}: the route is left out"
            )
            self.is_left = True
            self.is_of_some |= name.endswith("RemoteAddr")
            return
        node.take()

    def _condition(self, name: str, values: list[str]) -> bool:
        """`Header=X-Version, 2|3`, `Cookie=beta, on`, `Query=debug`, where the expression is no pattern."""
        if name not in {"Header", "Cookie", "Query"} or len(values) not in {1, 2}:
            return False
        if len(values) == 2 and not _PLAIN_VALUES.fullmatch(values[1]):
            return False
        try:
            found = condition(name.lower(), values[0], values[1].split("|") if len(values) == 2 else [])
            parse_when(" ".join([*self.when, found]))
        except ValueError:
            return False
        self.when.append(found)
        return True

    def _filter(self, node: Node, route: str) -> None:
        name, values = _shortcut(node)
        known = _FILTERS.get(name)
        if known is not None and known(self, values, node):
            node.take()
            return
        weight = Weight.BEHAVIOUR
        if name in {"TokenRelay", "RequestRateLimiter", "SecureHeaders"}:
            weight = Weight.ACCESS
        elif looks_like_guard(name):
            weight = Weight.ACCESS
            self.guards.append((node, f"route {route}: filter {name}"))
        elif name in {"RewritePath", "RedirectTo", "SetStatus", "SetPath", "SetRequestUri"}:
            weight = Weight.ROUTING
        self.draft.leave(weight, node, f"route {route}: filter {name}={', '.join(values)}")

    def _strip(self, values: list[str], node: Node) -> bool:
        count = int(values[0]) if values and values[0].isdecimal() and len(values[0]) < 4 else 1
        self.change = lambda path: str(PathTemplate(path.segments[count:], path.rest))
        return True

    def _prefix(self, values: list[str], node: Node) -> bool:
        before = self.change or str
        self.change = lambda path: values[0].rstrip("/") + before(path)
        return len(values) == 1

    def _set_path(self, values: list[str], node: Node) -> bool:
        try:
            template = path_template(values[0])
        except (PathError, IndexError):
            return False
        self.change = lambda path: str(template)
        return True

    def _rewrite(self, values: list[str], node: Node) -> bool:
        """A prefix that is removed, or replaced by another one."""
        match = _STRIPPED.fullmatch(values[0]) if len(values) == 2 else None
        if match is None:
            return False
        replaced = re.sub(r"\$\\?\{" + match["name"] + r"\}", "**", values[1])
        if replaced.count("**") != 1 or not replaced.endswith("**"):
            return False
        prefix = replaced.removesuffix("**").rstrip("/")
        self.change = lambda path: f"{prefix}/**"
        return all(path.startswith(match["prefix"]) and path.endswith("/**") for path in self.paths)

    def _field(self, option: str, values: list[str], node: Node) -> bool:
        if len(values) != 2 or "{" in values[1]:
            return False
        self.options.append(
            (
                f"{option}_{values[0].upper().replace('-', '_')}",
                literal(values[1]) if option == "HEADER" else values[1],
                node,
            )
        )
        return True

    def _no_field(self, option: str, values: list[str], node: Node) -> bool:
        self.options.append((f"{option}_{values[0].upper().replace('-', '_')}", "-", node))
        return len(values) == 1

    def _redirect(self, values: list[str], node: Node) -> bool:
        if len(values) != 2 or values[0] not in {"301", "302", "303", "307", "308"} or "{" in values[1]:
            return False
        self.answer = f"{values[0]} {values[1]}"
        return True

    def _set(self, option: str, value: str, node: Node) -> bool:
        self.options.append((option, value, node))
        return True


_FILTERS: dict[str, Callable[[_Route, list[str], Node], bool]] = {
    "StripPrefix": _Route._strip,
    "PrefixPath": _Route._prefix,
    "SetPath": _Route._set_path,
    "RewritePath": _Route._rewrite,
    "AddRequestHeader": lambda route, values, node: route._field("HEADER", values, node),
    "SetRequestHeader": lambda route, values, node: route._field("HEADER", values, node),
    "AddResponseHeader": lambda route, values, node: route._field("RESPONSE_HEADER", values, node),
    "SetResponseHeader": lambda route, values, node: route._field("RESPONSE_HEADER", values, node),
    "RemoveRequestHeader": lambda route, values, node: route._no_field("HEADER", values, node),
    "RemoveResponseHeader": lambda route, values, node: route._no_field("RESPONSE_HEADER", values, node),
    "RedirectTo": _Route._redirect,
    "PreserveHostHeader": lambda route, values, node: route._set("HOST", "preserve", node),
    "Retry": lambda route, values, node: route._set("RETRIES", values[0] if values else "3", node),
    "RequestSize": lambda route, values, node: route._set("MAX_BODY", f"{values[0]}".replace("MB", "MiB"), node),
    "CircuitBreaker": lambda route, values, node: not any("forward" in value for value in values),
    "DedupeResponseHeader": lambda route, values, node: True,
    "SaveSession": lambda route, values, node: True,
}


def _shortcut(node: Node) -> tuple[str, list[str]]:
    """Name and values of `Path=/a/**,/b/**`, or of `name` with `args`."""
    if isinstance(node.value, dict):
        name = node.text("name")
        args = node.get("args")
        if args is not None and isinstance(args.value, dict):
            return name, [
                text
                for one in args.members().values()
                for text in (
                    [one.scalar()] if not isinstance(one.value, list) else [item.scalar() for item in one.value]
                )
            ]
        return name, node.texts("args")
    name, _, values = node.scalar().partition("=")
    return name.strip(), [value.strip() for value in values.split(",")] if values else []
