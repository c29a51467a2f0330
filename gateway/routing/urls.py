"""Patterns and views become Django's urlpatterns, and urlpatterns become the table that the handler asks.

`route()` lines and those of the environment are one table, matched by `table`; each of them is also a Django URL
pattern, so that `reverse`, `resolve` and the system checks know it. Django's own `path()` and `include()` lines are
tried in order after the table.
"""

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from django.urls import URLPattern, URLResolver
from django.urls.resolvers import RegexPattern

from gateway.cache.view import Cached
from gateway.errors import GatewayError, Reason
from gateway.fanout.view import Fanout
from gateway.http.queries import masked_target
from gateway.http.request import GatewayRequest
from gateway.legacy.view import Legacy, assign_pools, legacy
from gateway.proxy.view import Proxy
from gateway.routing.faults import RouteError, file_name, place_of
from gateway.routing.guards import Guards
from gateway.routing.lines import (
    GatewayRoute,
    View,
    caches_parts,
    caches_without_effect,
    check_lines,
    flat,
    legacies,
    misfit,
    name_of,
    standing_before,
    synchronous_views,
    views_of,
)
from gateway.routing.patterns import Pattern, PatternError, parse_pattern
from gateway.routing.records import Declared, Route
from gateway.routing.table import Match, Miss, Table
from gateway.routing.views import as_async
from gateway.routing.worker_start import thread_warning
from gateway.routing.wrapping import innermost
from gateway.upstreams.options import Overrides, effective


def route(pattern: str, view: Callable[..., Any], name: str | None = None) -> GatewayRoute:
    """A line of urlpatterns in the grammar of the environment: `route("GET /home/{id}", home)`.

    The view is Django's: async, with the path parameters by keyword; a synchronous one runs in a thread. The name
    defaults to the view's and stands in the log. Raises RouteError, with the place, for what is no pattern or view.
    """
    caller = sys._getframe(1)
    origin = f"{file_name(caller.f_code.co_filename)}:{caller.f_lineno}"
    place = f"{origin}: route({masked_target(pattern)!r})"
    try:
        rule = parse_pattern(pattern)
    except PatternError as error:
        raise RouteError(f"{place}: {error}") from None
    given: Any = view  # a person may write anything here
    if not callable(given):
        shown = masked_target(given) if isinstance(given, str) else given
        hint = f"; proxy({shown!r}) forwards to an upstream" if isinstance(given, str) else ""
        raise RouteError(f"{place}: the view is {shown!r}, which cannot be called{hint}")
    inner = innermost(view)
    if isinstance(inner, Fanout):
        rule = rule.or_get()
        if problem := next(inner.problems(rule.params), None):
            raise RouteError(f"{place}: {problem}")
    else:
        _check_fit(inner, rule, place, f"{name_of(view)}()")
    return GatewayRoute(rule, as_async(view), name or name_of(view), origin)


def _check_fit(view: Callable[..., Any], rule: Pattern, place: str, name: str) -> None:
    """Raises RouteError unless the view takes the pattern's parameters."""
    if (problem := misfit(view, rule.params)) is not None:
        raise RouteError(f"{place}: {name} does not fit: {problem}")


def from_environment() -> list[GatewayRoute]:
    """The routes of `GATEWAY_ROUTE_*`, for `urlpatterns = [*from_environment(), ...]`."""
    declared: Sequence[Route] = settings.GATEWAY.routes
    return [_from_config(line) for line in declared]


def _from_config(line: Route) -> GatewayRoute:
    if line.fan is not None:
        variable = f"{line.variable}__PART_"
        functions = {
            part.name: _legacy_from(part.target.text, variable + part.name.upper())
            for part in line.fan.parts
            if part.target.is_function
        }
        fan = Fanout(line.fan, line.overrides, line.name, functions)
        if functions and (problem := next(fan.problems(line.pattern.params), None)):
            raise RouteError(f"{line.variable}: {problem}")
        view: View = fan
    elif line.target is not None:
        view = Proxy(line.target, line.overrides)
    elif line.legacy is not None:
        view = function = _legacy_from(line.legacy, line.variable)
        function.max_body_bytes = effective(Overrides(), line.overrides).max_body_bytes or sys.maxsize
        _check_fit(function, line.pattern, line.variable, line.legacy)
    else:
        raise RouteError(f"{line.variable}: no target")
    if line.cache is not None:
        view = Cached(view, line.cache)
    return GatewayRoute(line.pattern, view, line.name, line.variable, line)


def _legacy_from(path: str, variable: str) -> Legacy:
    """The view of a function named by its dotted path. Raises RouteError."""
    module, _, name = path.rpartition(".")
    try:
        return legacy(getattr(importlib.import_module(module), name))
    except (Exception, SystemExit) as error:
        raise RouteError(f"{variable}__LEGACY={path}: {place_of(error, module)}") from error


_GROUP = re.compile(r"\(\?P<(\w+)>")


class Routes:
    """Everything that can answer: the table of `route()` lines, and Django's own lines after it.

    `threads` are the names of those that were started while the lines were imported.
    """

    def __init__(
        self, urlpatterns: Sequence[URLPattern | URLResolver], declared: Declared, threads: Sequence[str] = ()
    ) -> None:
        self.lines = [line for line in urlpatterns if isinstance(line, GatewayRoute)]
        self.others = [line for line in urlpatterns if not isinstance(line, GatewayRoute)]
        self.threads = tuple(threads)
        self.warnings = (*synchronous_views(self.lines, self.others), *caches_without_effect(self.lines, self.others))
        if threads:
            self.warnings = (*self.warnings, thread_warning(declared.urlconf, threads))
        self.bulkheads, faults = assign_pools(legacies(self.lines, self.others), declared.pools)
        check_lines(self.lines, self.others, declared, faults)
        self._table = Table((line.rule, line) for line in self.lines)
        self._django = URLResolver(RegexPattern(r"^/"), self.others) if self.others else None
        self.guards = Guards(self._table, self._django)
        self._views: dict[Callable[..., Any], View] = {}
        plain = [line.callback for other in self.others for line, _ in flat(other)]
        caches = [standing_before(view) for view in plain]
        self._caches_plain = any(caches) or any(caches_parts(view) for view in plain)
        self.caches = self._caches_plain or any(line.cache or caches_parts(line.view) for line in self.lines)
        self.caches_parts = any(caches_parts(view) for view in (*plain, *(line.view for line in self.lines)))

    def caches_at(self, host: str, path: str) -> bool:
        """Whether what a GET of this URL is answered with may be stored."""
        match = self._table.find("GET", host, path)
        return self._caches_plain if isinstance(match, Miss) else match.route.cache is not None

    def views(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The views that answer, out of those that stand around them, with where they were written."""
        return views_of(self.lines, self.others)

    @property
    def is_empty(self) -> bool:
        return not self.lines and not self.others

    def find(self, method: str, host: str, path: str) -> Match[GatewayRoute] | Miss:
        """The winning line of the table for a raw path."""
        return self._table.find(method, host, path)

    def find_django(self, request: GatewayRequest) -> tuple[View, tuple[Any, ...], dict[str, Any], str] | None:
        """What Django's own lines say of the decoded path: view, arguments, name; None for nothing."""
        match = self.guards.django_match(request.raw_path)
        if match is None:
            return None
        request.resolver_match = match
        view = self._views.get(match.func)
        if view is None:
            view = self._views[match.func] = as_async(match.func)
        params = match.kwargs
        if "(?P<" in match.route and isinstance(innermost(match.func), (Proxy, Fanout)):
            # Django leaves out a group that took nothing; in a target that is an empty value, which cannot stand there.
            params = {**dict.fromkeys(_GROUP.findall(match.route), ""), **params}
        return view, match.args, params, match.view_name or match._func_path


def raw_values(match: Match[GatewayRoute]) -> dict[str, str]:
    return dict(zip(match.route.rule.params, match.values, strict=True))


def decoded(values: dict[str, str]) -> dict[str, str]:
    """Path parameters as a view gets them: percent-decoded UTF-8. Raises PATH_INVALID for what is not."""
    try:
        return {name: unquote(value, errors="strict") if "%" in value else value for name, value in values.items()}
    except UnicodeDecodeError as error:
        raise GatewayError(Reason.PATH_INVALID, "A path parameter is not valid UTF-8.") from error
