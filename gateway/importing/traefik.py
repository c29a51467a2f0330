"""Traefik's labels in a compose file: routers become routes, loadbalancer services upstreams, middlewares options."""

import re
from dataclasses import dataclass, field
from itertools import product

from gateway.importing.draft import Draft, Weight
from gateway.importing.source import Node
from gateway.importing.values import condition, encoded, literal, looks_like_guard, number, service_name
from gateway.routing.conditions import parse_when

_MATCHER = re.compile(r"\s*(?:(?P<word>[A-Za-z]+)\((?P<args>[^()]*)\)|(?P<mark>&&|\|\||!|\(|\)))")
_ARGUMENT = re.compile(r"[`'\"]([^`'\"]*)[`'\"]")
_GUARDS = ("basicauth", "digestauth", "forwardauth", "ipwhitelist", "ipallowlist")
_ACCESS = (*_GUARDS, "inflightreq")
_CORS = {
    "headers.accesscontrolalloworiginlist": "CORS",
    "headers.accesscontrolallowmethods": "CORS_METHODS",
    "headers.accesscontrolallowheaders": "CORS_HEADERS",
}


# Any one label, as version 2 writes it: `{tenant:[a-z0-9]+}.example.com`.
_LABEL_OF = re.compile(
    r"\{([a-z][a-z0-9_]*)(?::(?:\[[a-z0-9-]+\][+*]|\.\+|\[\^\.\]\+))?\}((?:\.[a-z0-9-]+)+)", re.IGNORECASE
)


_ASKED = {"header": "header", "headers": "header", "query": "query"}


class RuleError(ValueError):
    """A rule that no route can express."""


Matchers = list[tuple[str, tuple[str, ...]]]


def is_traefik(root: Node) -> bool:
    """Whether a document is a compose file with labels for Traefik."""
    found = root.plain()
    services = found.get("services") if isinstance(found, dict) else None
    return isinstance(services, dict) and any("traefik." in str(service) for service in services.values())


@dataclass(slots=True)
class _Labels:
    """The labels of all services: routers, services and middlewares by name; each a table of options."""

    routers: dict[str, dict[str, Node]] = field(default_factory=dict)
    services: dict[str, dict[str, Node]] = field(default_factory=dict)
    middlewares: dict[str, dict[str, Node]] = field(default_factory=dict)
    containers: dict[str, tuple[str, Node]] = field(default_factory=dict)  # container of a router or service

    def table(self, kind: str) -> dict[str, dict[str, Node]] | None:
        return {"routers": self.routers, "services": self.services, "middlewares": self.middlewares}.get(kind)


def read(root: Node, draft: Draft) -> None:
    """Make the environment of a compose file; settings of containers are ignored."""
    for name, node in root.members().items():
        if name != "services":
            node.take()
    labels = _Labels()
    for container, node in root.members("services").items():
        texts = _labels_of(node)
        for name in node.members():
            if name != "labels":
                node.skip(name)
        if any(name == "traefik.enable" and value.scalar() == "false" for name, value in texts.items()):
            continue
        for name, value in texts.items():
            _sort(labels, name, value, (container, node), draft)
    for name, router in labels.routers.items():
        _router(name, router, labels, draft)
    for name, middleware in labels.middlewares.items():
        if not any(name in _names(router, labels) for router in labels.routers.values()):
            for node in middleware.values():
                draft.leave(Weight.DETAIL, node, f"middleware {name} is used by no router")


def _labels_of(service: Node) -> dict[str, Node]:
    found = service.get("labels")
    if found is None:
        return {}
    if isinstance(found.value, dict):
        return {name.lower(): node for name, node in found.members().items() if name.lower().startswith("traefik.")}
    texts = {}
    for item in service.items("labels"):
        name, _, value = item.scalar().partition("=")
        if name.lower().startswith("traefik."):
            texts[name.strip().lower()] = Node(value.strip(), item.line, item.path)
    return texts


def _sort(labels: _Labels, name: str, value: Node, container: tuple[str, Node], draft: Draft) -> None:
    value.scalar()
    words = name.split(".")
    table = labels.table(words[2]) if len(words) > 4 and words[1] == "http" else None
    if table is not None:
        table.setdefault(words[3], {})[".".join(words[4:])] = value
        labels.containers.setdefault(f"{words[2]}.{words[3]}", container)
    elif name not in {"traefik.enable", "traefik.docker.network", "traefik.docker.lbswarm"}:
        draft.leave(Weight.ROUTING, value, f"{name}={value.scalar()}")


def _names(router: dict[str, Node], labels: _Labels) -> list[str]:
    """The middlewares of a router, those of chains one by one."""
    waiting, found = _listed(router.get("middlewares")), list[str]()
    while waiting:
        name = waiting.pop(0)
        chain = labels.middlewares.get(name, {}).get("chain.middlewares")
        if name not in found:
            found.append(name)
            waiting = [*_listed(chain), *waiting]
    return found


def _listed(node: Node | None) -> list[str]:
    text = "" if node is None else node.scalar()
    return [name.strip().partition("@")[0].lower() for name in text.split(",") if name.strip()]


# -- routers ------------------------------------------------------------------------------------------------------


def _router(name: str, router: dict[str, Node], labels: _Labels, draft: Draft) -> None:
    rule = router.get("rule")
    if rule is None:
        for node in router.values():
            draft.leave(Weight.ROUTING, node, f"router {name} has no rule")
        return
    try:
        choices = alternatives(rule.scalar())
    except RuleError as error:
        *_, guards = _middlewares(name, router, labels, draft)
        is_guarded = bool(guards) or "clientip" in rule.scalar().lower()
        draft.leave_route(rule, f"router {name}", f"router {name}: {rule.scalar()}: {error}", is_guarded=is_guarded)
        return
    container, place = labels.containers[f"routers.{name}"]
    upstream = _upstream(router, container, place, labels, draft)
    prefixes, added, options, guards = _middlewares(name, router, labels, draft)
    for option, node in router.items():
        if option == "priority":
            draft.note(
                Weight.ROUTING, node, f"router {name}: priority: the most specific route wins, whatever stands here"
            )
        elif option.startswith("tls"):
            draft.note(Weight.ROUTING, node, f"router {name}: TLS: GATEWAY_TLS_CERT_FILE and GATEWAY_TLS_KEY_FILE")
        elif option not in {"rule", "middlewares", "service", "entrypoints"}:
            draft.note(Weight.BEHAVIOUR, node, f"router {name}: {option}={node.scalar()}")
    for choice in choices:
        line = _line(choice, service_name(upstream), prefixes, added)
        stem = draft.route(name, line, rule)
        if when := _when(choice):
            draft.option(stem, "WHEN", when, rule, Weight.ROUTING)
        for node, text in guards:
            draft.close(stem, node, text)
        if (
            labels.services.get(_service_of(router, container), {}).get("loadbalancer.passhostheader", rule).scalar()
            != "false"
        ):
            draft.option(stem, "HOST", "preserve", rule)
        for option, value, node in options:
            weight = Weight.ACCESS if option == "RATE_LIMIT" else Weight.BEHAVIOUR
            draft.option_of([stem, upstream], option, value, node, weight)


def _line(choice: Matchers, service: str, prefixes: list[str], added: str) -> str:
    hosts = [one for word, args in choice if word == "host" for one in args]
    methods = [one.upper() for word, args in choice if word == "method" for one in args]
    exact = [encoded(one) for word, args in choice if word == "path" for one in args]
    begins = [encoded(one) for word, args in choice if word == "pathprefix" for one in args]
    path = exact[0] if exact else (begins[0].rstrip("/") if begins else "") + "/**"
    stripped = next((one for one in map(encoded, prefixes) if path.startswith(one)), "")
    own = path.removeprefix(stripped) if stripped else path
    right = service if not stripped and not added else f"{service}:{added}{own if own.startswith('/') else '/' + own}"
    return f"{','.join(methods)} {hosts[0] if hosts else ''}{path} -> {right}".strip()


def _when(choice: Matchers) -> str:
    return " ".join(dict.fromkeys(args[0] for word, args in choice if word == "when"))


def _service_of(router: dict[str, Node], container: str) -> str:
    return router["service"].scalar().partition("@")[0].lower() if "service" in router else container.lower()


def _upstream(router: dict[str, Node], container: str, place: Node, labels: _Labels, draft: Draft) -> str:
    name = _service_of(router, container)
    service = labels.services.get(name) or next(
        (one for key, one in labels.services.items() if labels.containers[f"services.{key}"][0] == container), {}
    )
    port = service["loadbalancer.server.port"].scalar() if "loadbalancer.server.port" in service else _port(place)
    scheme = service["loadbalancer.server.scheme"].scalar() if "loadbalancer.server.scheme" in service else "http"
    host = labels.containers[f"services.{name}"][0] if f"services.{name}" in labels.containers else container
    stem = draft.upstream(name, [f"{scheme}://{host}:{port}"], place)
    if "loadbalancer.sticky.cookie.name" in service:
        service = {name: node for name, node in service.items() if name != "loadbalancer.sticky.cookie"}
    for option, node in service.items():
        if option == "loadbalancer.healthcheck.path":
            draft.option(stem, "HEALTH", node.scalar(), node)
        elif option == "loadbalancer.healthcheck.interval":
            draft.option(stem, "HEALTH_INTERVAL", node.scalar(), node)
        elif option == "loadbalancer.sticky.cookie" and node.scalar() == "true":
            draft.option(stem, "BALANCE", "sticky", node)
        elif option == "loadbalancer.sticky.cookie.name":
            draft.option(stem, "BALANCE", f"sticky:{node.scalar()}", node)
        elif option.startswith("loadbalancer.sticky.cookie"):
            continue  # the cookie is HttpOnly, and Secure where the scheme is
        elif option not in {"loadbalancer.server.port", "loadbalancer.server.scheme", "loadbalancer.passhostheader"}:
            draft.note(Weight.BEHAVIOUR, node, f"service {name}: {option}={node.scalar()}")
    return stem


def _port(service: Node) -> str:
    for member in ("expose", "ports"):
        for item in service.items(member):
            text = item.scalar() or item.text("target")
            return text.rpartition(":")[2].partition("/")[0]
    return "80"


# -- middlewares --------------------------------------------------------------------------------------------------


def _middlewares(
    name: str, router: dict[str, Node], labels: _Labels, draft: Draft
) -> tuple[list[str], str, list[tuple[str, str, Node]], list[tuple[Node, str]]]:
    """Prefixes to remove, one to add, options, and guards that cannot be expressed."""
    prefixes: list[str] = []
    guards: list[tuple[Node, str]] = []
    added = ""
    options: list[tuple[str, str, Node]] = []
    for used in _names(router, labels):
        if used not in labels.middlewares:  # whatever it is, it may keep requests out
            guards.append((router["middlewares"], f"router {name}: there is no middleware {used} in this file"))
        limits: dict[str, Node] = {}
        for option, node in labels.middlewares.get(used, {}).items():
            kind, _, rest = option.partition(".")
            if option == "stripprefix.prefixes":
                prefixes += [one.strip().rstrip("/") for one in node.scalar().split(",")]
            elif option == "addprefix.prefix":
                added = node.scalar().rstrip("/")
            elif kind == "ratelimit":
                limits[rest] = node
            elif found := _option(option, node):
                options.append((*found, node))
            elif kind in _GUARDS or (kind == "plugin" and looks_like_guard(option)):
                value = "***" if "pass" not in option and kind != "forwardauth" else node.scalar()
                guards.append((node, f"middleware {used} of router {name}: {option}={value}"))
            elif option not in {"stripprefix.forceslash", "chain.middlewares"}:
                weight = Weight.ACCESS if kind in _ACCESS else Weight.BEHAVIOUR
                value = "***" if weight is Weight.ACCESS else node.scalar()
                draft.note(weight, node, f"middleware {used} of router {name}: {option}={value}")
        if "average" in limits:
            period = limits["period"].scalar() if "period" in limits else "1s"
            period = period if period[:1].isdecimal() else f"1{period}"
            burst = f" burst {limits['burst'].scalar()}" if "burst" in limits else ""
            options.append(("RATE_LIMIT", f"{limits['average'].scalar()}/{period}{burst} by client", limits["average"]))
    return prefixes, added, options, guards


def _option(option: str, node: Node) -> tuple[str, str] | None:
    value = node.scalar()
    for prefix, name in (
        ("headers.customrequestheaders.", "HEADER"),
        ("headers.customresponseheaders.", "RESPONSE_HEADER"),
    ):
        if option.startswith(prefix):
            return f"{name}_{option.removeprefix(prefix).upper().replace('-', '_')}", (
                literal(value) if name == "HEADER" else value
            ) or "-"
    if option in _CORS:
        return _CORS[option], value
    if option == "headers.accesscontrolmaxage" and number(value):
        return "CORS_MAX_AGE", f"{value}s"
    if option == "headers.accesscontrolallowcredentials":
        return "CORS_CREDENTIALS", "on" if value == "true" else "off"
    if option == "headers.stsseconds" and number(value):
        return "RESPONSE_HEADER_STRICT_TRANSPORT_SECURITY", f"max-age={value}"
    if option == "retry.attempts" and (attempts := number(value)):
        return "RETRIES", str(max(0, int(attempts) - 1))
    if option == "buffering.maxrequestbodybytes" and number(value) is not None:
        return "MAX_BODY", f"{value}B"
    if option == "compress" and value == "true":
        return "COMPRESS", "on"
    if option == "headers.framedeny" and value == "true":
        return "RESPONSE_HEADER_X_FRAME_OPTIONS", "DENY"
    if option == "headers.contenttypenosniff" and value == "true":
        return "RESPONSE_HEADER_X_CONTENT_TYPE_OPTIONS", "nosniff"
    return None


# -- rules --------------------------------------------------------------------------------------------------------


def alternatives(rule: str) -> list[Matchers]:
    """A rule as alternatives of matchers that must all hold, each with one host and one path. Raises RuleError."""
    tokens: list[tuple[str, tuple[str, ...]]] = []
    at = 0
    while at < len(rule.rstrip()):
        match = _MATCHER.match(rule, at)
        if match is None:
            raise RuleError(f"not understood at {rule[at : at + 20]!r}")
        at = match.end()
        if match["mark"]:
            tokens.append((match["mark"], ()))
        else:
            tokens.append((match["word"].lower(), tuple(_ARGUMENT.findall(match["args"]))))
    found, rest = _either(tokens)
    if rest:
        raise RuleError(f"not understood at {rest[0][0]!r}")
    if len(found) > 200:
        raise RuleError("it has more than 200 alternatives")
    return found


def _either(tokens: Matchers) -> tuple[list[Matchers], Matchers]:
    found, rest = _both(tokens)
    while rest and rest[0][0] == "||":
        more, rest = _both(rest[1:])
        found += more
    return found, rest


def _both(tokens: Matchers) -> tuple[list[Matchers], Matchers]:
    found, rest = _one(tokens)
    while rest and rest[0][0] == "&&":
        more, rest = _one(rest[1:])
        found = [[*left, *right] for left, right in product(found, more)]
        for choice in found:
            words = [word for word, _ in choice]
            if words.count("host") > 1 or sum(word in {"path", "pathprefix"} for word in words) > 1:
                raise RuleError("two hosts or two paths must hold at once")
            _check_when(_when(choice))
    return found, rest


def _conditions(word: str, args: tuple[str, ...]) -> list[str]:
    """``Header(`X`, `v`)``, ``Query(`k`, `v`)``; of version 2 ``Headers``, and ``Query(`k=v`)``. Raises RuleError."""
    pairs = [(one, two) for one, _, two in (arg.partition("=") for arg in args)]
    if word != "query" or not all("=" in arg for arg in args):
        pairs = [(args[0], args[1])] if len(args) == 2 else []
    try:
        found = [condition(_ASKED[word], name, [value]) for name, value in pairs]
    except ValueError as error:
        raise RuleError(str(error)) from None
    if not found:
        raise RuleError(f"{word} cannot be expressed")
    return found


def _check_when(when: str) -> None:
    """Raises RuleError for conditions that never hold together: without them the route would match all requests."""
    try:
        if when:
            parse_when(when)
    except ValueError as error:
        raise RuleError(str(error)) from None


def _one(tokens: Matchers) -> tuple[list[Matchers], Matchers]:
    if not tokens:
        raise RuleError("it ends too early")
    (word, args), rest = tokens[0], tokens[1:]
    if word == "(":
        found, rest = _either(rest)
        if not rest or rest[0][0] != ")":
            raise RuleError("a ) is missing")
        return found, rest[1:]
    if word == "!" and rest and rest[0][0] in _ASKED:
        (found, rest) = _one(rest)
        if len(found[0]) == 1:
            return [[("when", (f"!{found[0][0][1][0]}",))]], rest
    if word in _ASKED:
        return [[("when", (one,)) for one in _conditions(word, args)]], rest
    if word == "hostregexp":
        word = "host" if all(map(_LABEL_OF.fullmatch, args)) else word
    if word not in {"host", "path", "pathprefix", "method"} or not args:
        raise RuleError(f"{word} cannot be expressed")
    if word == "host" and all(_LABEL_OF.fullmatch(arg) for arg in args):
        return [[(word, (_LABEL_OF.sub(r"{\1}\2", arg),))] for arg in args], rest
    if any("{" in arg for arg in args):
        raise RuleError("it holds a pattern")
    if word == "method":
        return [[(word, args)]], rest
    return [[(word, (arg,))] for arg in args], rest
