"""What must hold before a worker starts, found all at once: for `gateway check` and `gateway serve`."""

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

from django.core import checks
from django.core.checks.registry import registry

from gateway.config import tls
from gateway.config.address import Address, resolved
from gateway.config.loader import NO_ROUTES_HELP
from gateway.config.records import Config
from gateway.fanout.view import Fanout
from gateway.http import fields
from gateway.observe.exporters import exporters_of
from gateway.proxy.view import Proxy
from gateway.routing.faults import RouteError
from gateway.routing.loader import load_routes
from gateway.routing.urls import Routes
from gateway.upstreams.records import Upstream
from gateway.upstreams.tls import tls_context

NO_ROUTES = f"there is no route yet; for a start:\n{NO_ROUTES_HELP.rstrip()}"


@dataclass(frozen=True, slots=True)
class Findings:
    """The compiled routes if they can be served, what stops the start, and what is worth a word."""

    routes: Routes | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def examine(config: Config) -> Findings:
    """Compile the routes, load the certificates, run Django's own checks."""
    problems = [problem for upstream in config.upstreams.values() for problem in _tls_problems(upstream)]
    problems += _bind_problems("GATEWAY_BIND", config.settings.bind)
    if config.settings.tls_redirect is not None:
        problems += _bind_problems("GATEWAY_TLS_REDIRECT", config.settings.tls_redirect)
    routes = None
    try:
        routes = load_routes(config.declared)
    except RouteError as error:
        problems.extend(str(error).splitlines())
    else:
        if routes.is_empty:
            problems.append(NO_ROUTES)
    tls_problems, tls_warnings = tls.examine(config.settings, _hosts(config, routes))
    problems += tls_problems
    found = checks.run_checks(tags=_checks()) if routes is not None else []
    problems.extend(str(message) for message in found if message.level >= checks.ERROR)
    warnings = [*config.warnings, *(routes.warnings if routes is not None else ())]
    warnings += [*(str(message) for message in found if message.level == checks.WARNING)]
    warnings += tls_warnings
    warnings += _keeping_failures(config, routes)
    try:
        exporters_of(os.environ, find_spec)
    except ValueError as error:  # often set for all that runs somewhere: no reason not to serve
        warnings.append(f"{error}; there is no tracing")
    return Findings(routes, tuple(problems), tuple(warnings))


def _hosts(config: Config, routes: Routes | None) -> list[tuple[str, str]]:
    """The hosts that routes are for, each once, and where they are set."""
    lines = [(line.origin, line.rule.host) for line in routes.lines] if routes is not None else []
    found = {host: origin for origin, host in reversed(lines) if host}
    return [(origin, host) for host, origin in reversed(found.items())]


def _keeping_failures(config: Config, routes: Routes | None) -> Iterator[str]:
    """A word for each field that is set on every answer and lets caches keep it, be it a failure."""
    given = [(upstream.variable, upstream.overrides) for upstream in config.upstreams.values()]
    views = routes.views() if routes is not None else ()
    given += [(origin, view.own) for origin, view in views if isinstance(view, (Proxy, Fanout))]
    for origin, own in given:
        for name, value in own.response_headers:
            if value is not None and _lets_keep(name, value):
                word = f"response_header_{name.replace('-', '_')}"
                place = f"{origin}__{word.upper()}" if origin.startswith("GATEWAY_") else f"{origin}: {word}"
                yield (
                    f"{place}: it is set on answers of every status, so that browsers and caches may keep a failure "
                    "for as long as it says; let the service say it of what is good"
                )


def _lets_keep(name: str, value: str) -> bool:
    if name == "expires":
        return fields.http_date_s(value.encode()) is not None
    if name not in {"cache-control", "cdn-cache-control", "surrogate-control"}:
        return False
    said = fields.directives([value.encode()])
    seconds = [fields.delta_seconds(said.get(word)) for word in ("max-age", "s-maxage", "stale-if-error")]
    return said.keys().isdisjoint({"no-store", "no-cache"}) and (any(seconds) or "public" in said)


def _checks() -> list[str]:
    """All but those of Django's commands, which import all that migrates: a fifth of the time of `gateway check`."""
    return [tag for tag in registry.tags_available() if tag != "commands"]


def _bind_problems(variable: str, bind: Address) -> list[str]:
    try:
        resolved(bind)
    except OSError as error:
        return [f"{variable}: the host name has no address here: {(error.strerror or str(error)).lower()}"]
    return []


def _tls_problems(upstream: Upstream) -> list[str]:
    if upstream.ca_pem is None and upstream.client_cert_pem is None:
        return []
    try:
        tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem)
    except (ssl.SSLError, OSError, ValueError) as error:
        # OpenSSL says which file or key it dislikes only by a code.
        detail = getattr(error, "reason", None) or str(error) or type(error).__name__
        return [f"{upstream.variable}: a certificate or key of it does not load: {detail}"]
    return []
