"""KrakenD: `endpoints` become routes or fan-outs, their hosts upstreams."""

import re
from dataclasses import dataclass

from gateway.importing.draft import Draft, Weight
from gateway.importing.source import Node
from gateway.importing.values import (
    PathError,
    base_url,
    encoded,
    go_duration,
    host_hint,
    number,
    parameter,
    path_template,
    service_name,
)

_SEQUENTIAL = re.compile(r"\{resp([0-9]{1,3})_([^}]+)\}")
_PLACEHOLDER = re.compile(r"\{([^{}.]+)\}")
_JSON_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_PASSED_ANYWAY = {"authorization", "accept-language"}
# Namespaces of extra_config that only concern access, or only logs.
_ACCESS = ("auth/", "github.com/devopsfaith/krakend-jose", "security/", "validation/", "qos/ratelimit", "plugin/")
# Namespaces that keep requests out of their endpoint. In a backend they are about the call.
_GUARDS = re.compile(
    r"auth/(?!client-credentials|signer|gcp|ntlm|aws).*|github\.com/devopsfaith/krakend-jose/validator|security/policies"
    r"|validation/cel|security/ip-?filter.*"
)
_DETAIL = ("telemetry/", "documentation/", "github_com/devopsfaith/krakend-gologging", "logging")


def is_krakend(root: Node) -> bool:
    """Whether a document is a configuration of KrakenD."""
    found = root.plain()
    return isinstance(found, dict) and isinstance(found.get("endpoints"), list) and "Routes" not in found


def read(root: Node, draft: Draft) -> None:
    """Make the environment of a configuration of version 2 or 3."""
    root.skip("$schema", "version", "name", "output_encoding", "sequential_start", "disable_rest", "debug_endpoint")
    version = root.get("version")
    if version is not None and version.scalar() not in {"2", "3"}:
        draft.leave(Weight.ROUTING, version, f"version {version.scalar()} is not known; read as version 3")
    if (port := root.get("port")) is not None:
        draft.option("GATEWAY", "BIND", f"0.0.0.0:{port.scalar()}", port)
    # KrakenD's own default is 2 s, ours 30.
    _duration(draft, "GATEWAY", "TIMEOUT", root.text("timeout", default="2s"), root.get("timeout") or root)
    for name, node in root.members("extra_config").items():
        _extra(draft, "GATEWAY", name, node)
    if (tls := root.get("tls")) is not None:
        draft.leave(Weight.ROUTING, tls, "certificates are named by GATEWAY_TLS_CERT_FILE and GATEWAY_TLS_KEY_FILE")
    defaults = root.texts("host")
    for endpoint in root.items("endpoints"):
        _Endpoint(endpoint, draft, defaults, root.text("cache_ttl")).read()


@dataclass(slots=True)
class _Part:
    node: Node
    upstream: str
    target: str
    name: str
    group: str


class _Endpoint:
    def __init__(self, node: Node, draft: Draft, default_hosts: list[str], default_ttl: str) -> None:
        self.node = node
        self.draft = draft
        self.default_hosts = default_hosts
        self.method = node.text("method", default="GET").upper()
        self.path = node.text("endpoint")
        self.ttl = node.text("cache_ttl", default=default_ttl)
        self.query = node.texts("input_query_strings") or node.texts("querystring_params")
        self.headers = node.texts("input_headers") or node.texts("headers_to_pass")

    def read(self) -> None:
        node, draft = self.node, self.draft
        encoding = node.text("output_encoding", default="json")
        try:
            pattern = path_template(self.path)
        except PathError as error:
            self._leave_out(str(error))
            return
        parts = [part for part in map(self._part, node.items("backend")) if part is not None]
        if not parts:
            self._leave_out("no backend that can be called")
            return
        backends = node.items("backend")
        shaped = any(backends[0].get(name) is not None for name in ("group", "allow", "whitelist"))
        other_method = backends[0].text("method", default=self.method).upper() != self.method
        hint = self.path if self.method == "GET" else f"{self.method} {self.path}"
        if len(parts) == 1 and not shaped and not other_method:
            stem = self._proxied(hint, f"{self.method} {pattern}", parts[0])
        elif self.method != "GET":
            self._leave_out("a body goes to one service only, unchanged")
            return
        else:
            stem = self._fan_out(hint, f"{self.method} {pattern}", parts)
        if encoding not in {"json", "no-op", "fast-json", "json-collection"}:
            draft.note(Weight.BEHAVIOUR, node, f"output_encoding {encoding}: answers keep the form that they have")
        self._options(stem)

    def _leave_out(self, text: str) -> None:
        endpoint = f"{self.method} {self.path}"
        names = self.node.members("extra_config")
        is_guarded = any(name == "auth/validator" or _GUARDS.fullmatch(name) for name in names)
        self.draft.leave_route(self.node, endpoint, f"{endpoint}: {text}", is_guarded=is_guarded)

    def _part(self, backend: Node) -> _Part | None:
        draft = self.draft
        hosts = backend.texts("host") or self.default_hosts
        backend.skip("disable_host_sanitize")
        try:
            urls = [base_url(host) for host in hosts]
            if not urls:
                raise ValueError("no host")
        except ValueError as error:
            draft.leave(Weight.ROUTING, backend, f"{self.path}: {error}")
            return None
        discovery = backend.get("sd")
        if discovery is not None and discovery.scalar() == "dns":
            scheme = backend.text("sd_scheme", default="http")
            urls = [f"srv+{scheme}://{url.partition('://')[2]}" for url in urls]
        elif discovery is not None and discovery.scalar() not in {"", "static"}:
            draft.leave(Weight.ROUTING, discovery, "hosts are looked up by A and AAAA records (DNS_TTL)")
        encoding = backend.text("encoding", default="json")
        if encoding not in {"json", "no-op", "safejson", "fast-json"}:
            draft.note(Weight.BEHAVIOUR, backend, f"encoding {encoding}: parts are JSON")
        upstream = draft.upstream(host_hint(urls[0].removeprefix("srv+")), urls, backend)
        for name, node in backend.members("extra_config").items():
            _extra(draft, upstream, name, node)
        group = backend.text("group")
        pattern = encoded(backend.text("url_pattern", default=self.path))
        words = [word for word in pattern.partition("?")[0].split("/") if word and "{" not in word]
        name = group or (words[-1] if words else service_name(upstream))
        return _Part(backend, upstream, pattern, parameter(name.replace(".", "_")), group)

    # -- one service ------------------------------------------------------------------------------------------------

    def _proxied(self, hint: str, pattern: str, part: _Part) -> str:
        node = part.node
        for name in ("deny", "blacklist", "mapping", "target", "is_collection"):
            if (found := node.get(name)) is not None and found.plain():
                self.draft.leave(Weight.BEHAVIOUR, found, f"{name}: a proxied answer goes down unchanged")
        target = _renamed(part.target)
        own = pattern.partition(" ")[2]
        path, question, query = target.partition("?")
        path = f"{path[:-1]}**" if path.endswith("/*") else path
        service = service_name(part.upstream)
        is_same = path == own and not question
        stem = self.draft.route(
            hint, f"{pattern} -> {service}" + ("" if is_same else f":{path}{question}{query}"), node
        )
        self._passed(stem)
        return stem

    def _passed(self, stem: str) -> None:
        """The fields and parameters that go up: in KrakenD only those that are listed."""
        if "*" not in self.headers:
            names = " ".join(name.lower() for name in self.headers) or "-"
            self.draft.option(stem, "FORWARD_HEADERS", names, self.node)
        if "*" not in self.query:
            self.draft.option(stem, "FORWARD_QUERY", " ".join(self.query) or "-", self.node)

    # -- several ----------------------------------------------------------------------------------------------------

    def _fan_out(self, hint: str, pattern: str, parts: list[_Part]) -> str:
        draft, node = self.draft, self.node
        stem = draft.route(hint, pattern, node)
        taken: set[str] = set()
        for part in parts:
            while part.name in taken or part.name in {"query", "header"} or f"{{{part.name}}}" in pattern:
                part.name = f"{part.name}_part"
            taken.add(part.name)
        if not all(part.group for part in parts):
            if any(part.group for part in parts):
                draft.note(
                    Weight.BEHAVIOUR, node, "some backends have a group and some have none: all members are flat"
                )
            draft.option(stem, "MERGE", "flat", node)
        for part in parts:
            self._one_part(stem, part, parts)
        # A failed backend leaves the others whole, and X-Krakend-Completed says false.
        draft.option(stem, "OPTIONAL", ",".join(part.name for part in parts), node)
        headers = [name.lower() for name in self.headers if name != "*" and name.lower() not in _PASSED_ANYWAY]
        if headers:
            draft.option(stem, "FORWARD_HEADERS", ",".join(headers), node)
        if "*" in self.headers:
            draft.note(Weight.BEHAVIOUR, node, "input_headers *: parts get the fields that FORWARD_HEADERS lists")
        return stem

    def _one_part(self, stem: str, part: _Part, parts: list[_Part]) -> None:
        draft, node = self.draft, part.node
        option = f"PART_{part.name.upper()}"
        target = _SEQUENTIAL.sub(lambda match: f"{{{_value_of(match, parts)}}}", _renamed(part.target))
        names = [name for name in self.query if re.fullmatch(r"[A-Za-z0-9_$@-]+", name)]
        if self.query:
            draft.note(
                Weight.BEHAVIOUR,
                self.node,
                f"input_query_strings: a part takes {', '.join(f'{{query.{name}}}' for name in names) or 'none'} "
                "in its target, and fails where the client sends none",
            )
        if part.group and not _JSON_NAME.fullmatch(part.group):
            draft.note(Weight.BEHAVIOUR, node, f"group {part.group}: the part is called {part.name}")
        draft.option(stem, option, f"{service_name(part.upstream)}:{target}", node, Weight.ROUTING)
        picked = node.texts("allow") or node.texts("whitelist")
        if picked:
            draft.option(stem, f"{option}__PICK", ",".join(picked), node)
        if (method := node.text("method", default="GET").upper()) != "GET":
            draft.option(stem, f"{option}__METHOD", method, node)
        for name in ("deny", "blacklist", "mapping", "target", "is_collection"):
            if (found := node.get(name)) is not None and found.plain():
                draft.leave(Weight.BEHAVIOUR, found, f"{name}: Python can, in a typed fan-out (docs/fan-out.md)")

    # -- both -------------------------------------------------------------------------------------------------------

    def _lifetime(self, stem: str) -> None:
        """The Cache-Control of good answers."""
        if self.ttl and self.method == "GET":
            try:
                value = f"public, max-age={_seconds(go_duration(self.ttl))}"
            except ValueError as error:
                self.draft.leave(Weight.BEHAVIOUR, self.node, f"cache_ttl: {error}")
            else:
                self.draft.option(stem, "CACHE_CONTROL", value, self.node)

    def _options(self, stem: str) -> None:
        node, draft = self.node, self.draft
        self._lifetime(stem)
        if (timeout := node.get("timeout")) is not None:
            _duration(draft, stem, "TIMEOUT", timeout.scalar(), timeout)
        if (calls := node.get("concurrent_calls")) is not None and calls.scalar() not in {"", "0", "1"}:
            draft.leave(Weight.DETAIL, calls, "concurrent_calls: a slow attempt is hedged by RETRIES, not always")
        for name, found in node.members("extra_config").items():
            _extra(draft, stem, name, found)


def _renamed(pattern: str) -> str:
    """A target with the route's names for its parameters; those of other backends stay for now."""

    def one(match: re.Match[str]) -> str:
        name = match[1]
        return match[0] if re.match(r"resp\d+_", name) else f"{{{parameter(name)}}}"

    return _PLACEHOLDER.sub(one, pattern)


def _value_of(match: re.Match[str], parts: list[_Part]) -> str:
    number = int(match[1])
    return f"{parts[number].name if number < len(parts) else 'x'}.{match[2]}"


def _seconds(text: str) -> int:
    """`90s`, `2m`, `1500ms` -> seconds."""
    number = int(text.rstrip("ms"))
    return -(-number // 1000) if text.endswith("ms") else number * 60 if text.endswith("m") else number


def _duration(draft: Draft, stem: str, option: str, text: str, node: Node) -> None:
    try:
        draft.option(stem, option, go_duration(text), node)
    except ValueError as error:
        draft.leave(Weight.BEHAVIOUR, node, f"{option.lower()}: {error}")


def _extra(draft: Draft, stem: str, name: str, node: Node) -> None:
    """One namespace of `extra_config`."""
    if name == "security/cors":
        _cors(draft, stem, node)
    elif name == "qos/http-cache":
        node.take()
        draft.option(stem, "CACHE", "on", node)
    elif name in {"qos/ratelimit/router", "qos/ratelimit/service"}:
        _rate_limit(draft, stem, node)
    elif name == "auth/validator" and node.text("issuer").startswith(("http://", "https://")):
        _validator(draft, stem, node)
    elif name == "proxy" and node.plain() in ({"sequential": True}, {"sequential": False}):
        node.take()  # the order follows from the references of parts
    elif name in {"qos/circuit-breaker", "qos/ratelimit/proxy"}:
        draft.leave(Weight.DETAIL, node, f"{name}: endpoints that fail are ejected by themselves; MAX_IN_FLIGHT limits")
    else:
        weight = (
            Weight.ACCESS
            if name.startswith(_ACCESS)
            else Weight.DETAIL
            if name.startswith(_DETAIL)
            else Weight.BEHAVIOUR
        )
        draft.leave(weight, node, f"extra_config {name}")
        if _GUARDS.fullmatch(name) and not stem.startswith("GATEWAY_UPSTREAM_"):
            draft.close(stem, node, f"extra_config {name}")


def _cors(draft: Draft, stem: str, node: Node) -> None:
    if origins := node.texts("allow_origins"):
        draft.option(stem, "CORS", ",".join(origins), node, Weight.ACCESS)
        for member, option in (("allow_methods", "CORS_METHODS"), ("allow_headers", "CORS_HEADERS")):
            if found := node.texts(member):
                draft.option(stem, option, ",".join(found), node)
        if node.is_true("allow_credentials"):
            draft.option(stem, "CORS_CREDENTIALS", "on", node)
        if age := node.text("max_age"):
            _duration(draft, stem, "CORS_MAX_AGE", age, node)
    node.skip("allow_methods", "allow_headers", "expose_headers", "max_age", "allow_credentials", "debug")


def _validator(draft: Draft, stem: str, node: Node) -> None:
    """Tokens of an issuer. What cannot be expressed of them leaves the check itself in place."""
    options = {
        "JWKS": node.text("jwk_url"),
        "ALGORITHMS": node.text("alg"),
        "AUDIENCE": " ".join(node.texts("audience")),
        "ROLES_CLAIM": node.text("roles_key"),
    }
    way = draft.way(
        "token", f"jwt {node.text('issuer')}", node, {name: value for name, value in options.items() if value}
    )
    if not way:
        node.take()
        draft.close(stem, node, "auth/validator: an option of it is refused")
        return
    draft.option(stem, "AUTH", way.removeprefix("GATEWAY_AUTH_").lower(), node, Weight.ACCESS)
    if roles := node.texts("roles"):
        draft.option(stem, "ROLES", " ".join(roles), node, Weight.ACCESS)
    if scopes := node.texts("scopes"):
        draft.option(stem, "SCOPES", " ".join(scopes), node, Weight.ACCESS)
    node.skip(
        "cache", "cache_duration", "roles_key_is_nested", "jwk_local_ca", "disable_jwk_security", "operation_debug"
    )
    for found in node.members().values():
        for left in found.unused():
            draft.leave(Weight.ACCESS, left, f"auth/validator {left.path.rpartition('.')[2]}")


def _rate_limit(draft: Draft, stem: str, node: Node) -> None:
    every = node.text("every", default="1s")
    limits = []
    for name, by in (("max_rate", "all"), ("client_max_rate", "client")):
        if rate := number(node.text(name)):
            limits.append(f"{rate}/{every} by {by}")
    node.take()
    if limits:
        draft.option(stem, "RATE_LIMIT", " ".join(limits), node, Weight.ACCESS)
