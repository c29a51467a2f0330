"""What must be true before a worker starts, as Django checks: `gateway check`, `serve` and `test` run them.

Each has the tag `portway`, one of its own, and an id. SILENCED_SYSTEM_CHECKS silences warnings by id, but no error: a
configuration with one cannot be served. `examine` runs them together with Django's own and those of a team's apps.
"""

import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks.registry import registry

from gateway.answers import coders
from gateway.answers.files import Files
from gateway.answers.own_answer import OwnAnswer
from gateway.answers.replacements import replacements_of
from gateway.auth.records import AuthConfig
from gateway.auth.signatures import missing_packages
from gateway.config import hints, limits, own_answers, tls
from gateway.config.address import Address, resolved
from gateway.config.loader import NO_ROUTES_HELP
from gateway.config.records import Config
from gateway.fanout.view import Fanout
from gateway.http import fields
from gateway.legacy.view import Legacy
from gateway.observe.exporters import doubt_of, exporters_of
from gateway.proxy.view import Proxy
from gateway.routing import access
from gateway.routing.faults import RouteError
from gateway.routing.loader import load_routes
from gateway.routing.urls import Routes
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Target
from gateway.upstreams.tls import tls_context

NO_ROUTES = f"there is no route yet; for a start:\n{NO_ROUTES_HELP.rstrip()}"
_PREFIX = "portway."  # of ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which checks run, and the level from which a finding is a problem.

    `needs_routes`: to have no route at all is a problem too.
    """

    apps: Sequence[AppConfig] | None = None
    tags: frozenset[str] | None = None
    deploy: bool = False
    databases: Sequence[str] | None = None
    fail_level: int = checks.ERROR
    needs_routes: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """The compiled routes if they can be served, the problems that stop the start, and warnings.

    `silenced` counts the findings that SILENCED_SYSTEM_CHECKS hides.
    """

    routes: Routes | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    silenced: int = 0


def examine(config: Config, selection: Selection = Selection()) -> Findings:
    """Run the gateway's checks, Django's, and those of a team's apps: all of them, or those that are selected."""
    routes, _ = _compiled(config)
    found = _run(selection, skips_urls=routes is None)
    shown = [message for message in found if _is_fatal(message) or not message.is_silenced()]
    problems = [_text(message) for message in shown if message.level >= selection.fail_level]
    warnings = [_text(message) for message in shown if checks.INFO < message.level < selection.fail_level]
    if routes is not None and routes.is_empty and selection.needs_routes:
        problems.append(NO_ROUTES)
    return Findings(routes, tuple(problems), tuple(warnings), len(found) - len(shown))


def known_tags(*, deploy: bool) -> frozenset[str]:
    """The tags of all checks; those of `check --deploy` only if asked for."""
    return frozenset(registry.tags_available(deploy))


def _run(selection: Selection, *, skips_urls: bool) -> list[checks.CheckMessage]:
    """The findings of the selected checks, ours first and in the order of their ids.

    Checks of Django's commands run only if asked for: they import all modules of migrations, a fifth of the time of
    `gateway check`. Checks of URLs would raise for a routes module that does not load; the gateway's own check reports
    why.
    """
    left_out = {"urls"} if skips_urls else set()
    if selection.tags is None:
        left_out.add("commands")
    found: list[checks.CheckMessage] = []
    for check in registry.get_checks(selection.deploy):
        tags = set(check.tags)
        if left_out.isdisjoint(tags) and (selection.tags is None or not selection.tags.isdisjoint(tags)):
            found += check(app_configs=selection.apps, databases=selection.databases)
    return sorted(found, key=lambda message: (not _is_own(message), message.id or "" if _is_own(message) else ""))


def _is_own(message: checks.CheckMessage) -> bool:
    return (message.id or "").startswith(_PREFIX)


def _is_fatal(message: checks.CheckMessage) -> bool:
    return _is_own(message) and message.level >= checks.ERROR


def _text(message: checks.CheckMessage) -> str:
    return message.msg if _is_own(message) else str(message)


_last: tuple[Config, Routes | None, tuple[str, ...]] | None = None


def _compiled(config: Config) -> tuple[Routes | None, tuple[str, ...]]:
    """The routes, or their faults, one text each: compiled once for all checks."""
    global _last  # noqa: PLW0603 - one process examines one configuration
    if _last is None or _last[0] is not config:
        try:
            _last = config, load_routes(config.declared), ()
        except RouteError as error:
            _last = config, None, tuple(str(error).splitlines())
    return _last[1:]


def own_problems(config: Config, routes: Routes) -> list[str]:
    """Why this configuration cannot be served with these routes, beside the problems that loading has found.

    Whether it can listen is not checked.
    """
    global _last  # noqa: PLW0603 - the checks use it
    _last = config, routes, ()
    checked = (check for name, check in _CHECKS.items() if name not in _OF_MACHINE)
    return [message.msg for check in checked for message in check(config) if message.level >= checks.ERROR]


_OF_MACHINE = frozenset({"address", "limits"})


# -- the checks ---------------------------------------------------------------------------------------------------


def register_checks() -> None:
    """Register the checks with Django, once, when its apps are ready."""
    for tag, check in _CHECKS.items():
        registry.register(_as_check(check), "portway", tag)
    registry.register(_as_check(_signs), "portway", "secret", deploy=True)


def _as_check(check: Callable[[Config], Iterable[checks.CheckMessage]]) -> Callable[..., list[checks.CheckMessage]]:
    def run(app_configs: object, **_: Any) -> list[checks.CheckMessage]:
        return list(check(settings.GATEWAY))

    return run


def _unused(config: Config) -> Iterator[checks.CheckMessage]:
    routes, _ = _compiled(config)
    if routes is not None and not routes.is_empty:
        used = _upstreams_used(config, routes)
        found = () if used is None else hints.unused_upstreams(config.upstreams, used)
        yield from (checks.Warning(hint, id="portway.W010") for hint in found)


def _certificates(config: Config) -> Iterator[checks.CheckMessage]:
    for upstream in config.upstreams.values():
        for problem in _tls_problems(upstream):
            yield checks.Error(problem, id="portway.E001")
    problems, warnings = tls.examine(config.settings, _hosts(config, _compiled(config)[0]))
    yield from (checks.Error(problem, id="portway.E004") for problem in problems)
    yield from (checks.Warning(warning, id="portway.W007") for warning in warnings)


def _addresses(config: Config) -> Iterator[checks.CheckMessage]:
    problems = _bind_problems("GATEWAY_BIND", config.settings.bind)
    if config.settings.tls_redirect is not None:
        problems += _bind_problems("GATEWAY_TLS_REDIRECT", config.settings.tls_redirect)
    yield from (checks.Error(problem, id="portway.E002") for problem in problems)


def _routes(config: Config) -> Iterator[checks.CheckMessage]:
    routes, faults = _compiled(config)
    yield from (checks.Error(fault, id="portway.E003") for fault in faults)
    if routes is not None:
        yield from (checks.Warning(warning, id="portway.W002") for warning in routes.warnings)


def _environment(config: Config) -> Iterator[checks.CheckMessage]:
    yield from (checks.Warning(warning, id="portway.W001") for warning in config.warnings)


def _limits(config: Config) -> Iterator[checks.CheckMessage]:
    yield from (checks.Error(problem, id="portway.E005") for problem in limits.problems(config.settings))
    found = limits.warnings(config.settings, _compiled(config)[0])
    yield from (checks.Warning(warning, id="portway.W008") for warning in found)


def _fields(config: Config) -> Iterator[checks.CheckMessage]:
    yield from (checks.Warning(word, id="portway.W003") for word in _keeping_failures(config, _compiled(config)[0]))


def _own_answers(config: Config) -> Iterator[checks.CheckMessage]:
    yield from (checks.Error(problem, id="portway.E006") for problem in own_answers.missing_files(config.routes))
    found = own_answers.redirect_loops(config.routes, knows_scheme=bool(config.settings.trusted_proxies))
    yield from (checks.Warning(warning, id="portway.W009") for warning in found)


def _compression(config: Config) -> Iterator[checks.CheckMessage]:
    levels = (config.plain, *(one.level for one in config.upstreams.values()), *(one.level for one in config.routes))
    variable = next((level.variable("compress") for level in levels if level.get("compress", False)), None)
    if variable is not None and (missing := coders.missing_packages()):
        yield checks.Error(
            f"{variable}: it needs {' and '.join(missing)}, of the extra [compress] and not installed; "
            "requirements.lock has them",
            id="portway.E007",
        )


def _tracing(config: Config) -> Iterator[checks.CheckMessage]:
    try:
        exporters = exporters_of(os.environ, find_spec)
        if "otlp" in exporters and (doubt := doubt_of(os.environ)):
            yield checks.Warning(doubt, id="portway.W004")
    except ValueError as error:  # often set for a whole machine or cluster: no reason not to serve
        yield checks.Warning(f"{error}; there is no tracing", id="portway.W004")


def _settings(config: Config) -> Iterator[checks.CheckMessage]:
    if "LOGGING" in config.django:
        module = config.settings.settings_module
        problem = "LOGGING is without effect: GATEWAY_LOG and GATEWAY_LOG_LEVEL say how the log is written"
        yield checks.Warning(f"{module}: {problem}", id="portway.W005")


def _signs(config: Config) -> Iterator[checks.CheckMessage]:
    if config.settings.secret is None and (config.settings.apps or config.django):
        problem = "GATEWAY_SECRET is not set: what is signed, as sessions are, is void after a restart and elsewhere"
        yield checks.Warning(problem, id="portway.W006")


def _auth(config: Config) -> Iterator[checks.CheckMessage]:
    yield from (checks.Error(problem, id="portway.E006") for problem in _auth_problems(config.auth))
    routes, _ = _compiled(config)
    if routes is not None:
        hints = access.hints(routes.requirements(), config.declared, config.settings.admin_auth)
        yield from (checks.Warning(hint, id="portway.W009") for hint in hints)


def _sources(config: Config) -> Iterator[checks.CheckMessage]:
    if find_spec("dns") is not None:
        return
    for upstream in config.upstreams.values():
        if any(source.kind == "srv" for source in upstream.sources):
            needs = "needs dnspython, which is of the extra [srv] and not installed; requirements.lock has it"
            yield checks.Error(f"{upstream.variable}: srv+ {needs}", id="portway.E007")


_CHECKS = {
    "tls": _certificates,
    "address": _addresses,
    "routes": _routes,
    "environment": _environment,
    "fields": _fields,
    "limits": _limits,
    "answers": _own_answers,
    "compression": _compression,
    "tracing": _tracing,
    "settings": _settings,
    "auth": _auth,
    "sources": _sources,
    "upstreams": _unused,
}


# -- what they look at --------------------------------------------------------------------------------------------


def _hosts(config: Config, routes: Routes | None) -> list[tuple[str, str]]:
    """The hosts that routes are for, each once, and where they are set."""
    hosts = [(route.origin, path.host) for route in routes.routes for path in route.rule.paths] if routes else []
    found = {host: origin for origin, host in reversed(hosts) if host}
    return [(origin, host) for host, origin in reversed(found.items())]


def _upstreams_used(config: Config, routes: Routes) -> set[str] | None:
    """The upstreams that routes, fallbacks and ways lead to; None where views of the team's own may call any."""
    used: set[str] = set()
    for _, view in routes.views():
        if isinstance(view, (Proxy, Fanout)):
            used.update(view.upstreams)
        elif not isinstance(view, (OwnAnswer, Files, Legacy)):
            return None
    for way in config.auth.ways.values():
        used.update({way.upstream, way.keys_from.place if way.keys_from is not None else ""})
    for route in routes.routes:
        used.add(route.level.get("mirror", ""))
        rules = replacements_of(route.level)
        services = (rule.replacement for rule in rules.rules) if rules is not None else ()
        used.update(one.upstream for one in services if isinstance(one, Target))
    return used


def _keeping_failures(config: Config, routes: Routes | None) -> Iterator[str]:
    """A warning for each field that is set on every answer and lets caches store it, even a failure."""
    places = {
        level.variable("response_headers", name): (name, value)
        for level in (config.plain, *(upstream.level for upstream in config.upstreams.values()))
        for name, value in level.members.get("response_headers", {}).items()
    }
    views = routes.views() if routes is not None else ()
    for origin, view in views:
        for name, value in view.own.response_headers if isinstance(view, (Proxy, Fanout)) else ():
            word = f"response_header_{name.replace('-', '_')}"
            places[f"{origin}__{word.upper()}" if origin.startswith("GATEWAY_") else f"{origin}: {word}"] = name, value
    for place, (name, value) in places.items():
        if value is not None and _lets_keep(name, value):
            yield (
                f"{place}: it is set on answers of every status, so that browsers and caches may keep a failure "
                "for as long as it says; __CACHE_CONTROL says it of good ones alone"
            )


def _lets_keep(name: str, value: str) -> bool:
    if name == "expires":
        return fields.http_date_s(value.encode()) is not None
    if name not in {"cache-control", "cdn-cache-control", "surrogate-control"}:
        return False
    directives = fields.directives([value.encode()])
    seconds = [fields.delta_seconds(directives.get(word)) for word in ("max-age", "s-maxage", "stale-if-error")]
    return directives.keys().isdisjoint({"no-store", "no-cache"}) and (any(seconds) or "public" in directives)


def _bind_problems(variable: str, bind: Address) -> list[str]:
    try:
        resolved(bind)
    except OSError as error:
        return [f"{variable}: the host name has no address here: {(error.strerror or str(error)).lower()}"]
    return []


def _auth_problems(auth: AuthConfig) -> Iterator[str]:
    for way in auth.ways.values():
        missing = missing_packages(way.kind, bcrypt=any(user.bcrypt for user in way.users))
        if missing:
            yield (
                f"{way.variable}: it needs {' and '.join(missing)}, which are of the extra [auth] and not installed; "
                "requirements.lock has them"
            )
        if way.ca_pem is not None and (fault := _fault_of_certificates(way.ca_pem, None, None)):
            yield f"{way.variable}__CA: a certificate of it does not load: {fault}"


def _tls_problems(upstream: Upstream) -> list[str]:
    if upstream.ca_pem is None and upstream.client_cert_pem is None:
        return []
    fault = _fault_of_certificates(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem)
    return [f"{upstream.variable}: a certificate or key of it does not load: {fault}"] if fault else []


def _fault_of_certificates(ca_pem: str | None, cert_pem: str | None, key_pem: str | None) -> str:
    """Why they do not load; empty if they do."""
    try:
        tls_context(ca_pem, cert_pem, key_pem)
    except (ssl.SSLError, OSError, ValueError) as error:
        # OpenSSL names the faulty file or key only by a code.
        return getattr(error, "reason", None) or str(error) or type(error).__name__
    return ""
