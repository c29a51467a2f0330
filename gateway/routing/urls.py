"""Patterns and views become Django's urlpatterns, and urlpatterns become the table that the handler uses.

The routes of `route()` and of the environment are one table, matched by `table`; each of them is also a Django URL
pattern, so that `reverse`, `resolve` and the system checks know it. Django's own `path()` and `include()` are tried in
order after the table.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote

from django.urls import ResolverMatch, URLPattern, URLResolver
from django.urls.resolvers import RegexPattern

from gateway import units
from gateway.answers.compress import compressing
from gateway.answers.fallback import replacing
from gateway.answers.files import Files
from gateway.answers.maintenance import maintenance_gate
from gateway.answers.own_answer import OwnAnswer
from gateway.answers.replacements import replacements_of
from gateway.answers.targets import Folder
from gateway.auth.gate import auth_gate
from gateway.auth.options import OF_LEVELS
from gateway.auth.rules import Requirement
from gateway.cache.view import Cached
from gateway.errors import GatewayError, Reason
from gateway.fanout.view import Fanout
from gateway.http.gate import View
from gateway.http.queries import masked_target
from gateway.http.request import GatewayRequest
from gateway.legacy.view import Legacy, assign_pools
from gateway.options import Level, together
from gateway.proxy.mirror import mirror_rule
from gateway.proxy.view import Proxy
from gateway.routing import access, rate_limits
from gateway.routing.choosing import key_rule_of, rule_under, stored_path, stored_url, with_vary
from gateway.routing.conditions import Holds, words_of
from gateway.routing.entries import (
    DjangoRoute,
    GatewayRoute,
    caches_parts,
    caches_without_effect,
    check_routes,
    flat,
    hint_problem,
    is_async,
    legacies,
    level_above,
    misfit,
    name_of,
    synchronous_views,
    views_of,
)
from gateway.routing.faults import RouteError, faulty, file_name, note
from gateway.routing.guards import Guards
from gateway.routing.iterators import load_iterators
from gateway.routing.loading import routes_for
from gateway.routing.middleware import Chains, Middleware, listed_in_python
from gateway.routing.mismatch import mismatch
from gateway.routing.options import CASE, WHEN
from gateway.routing.own_fields import own_fields, plain_changes
from gateway.routing.patterns import Pattern, PatternError, parse_pattern
from gateway.routing.records import Declared, Route
from gateway.routing.stack import Slots, Stack, compiled, finish_of
from gateway.routing.sticky import sticky_cookies
from gateway.routing.table import Match, Miss, Table, none_hold
from gateway.routing.views import as_async, legacy_from, pieces, socket_view
from gateway.routing.worker_start import thread_warning
from gateway.routing.wrapping import Wrap, cache_of, innermost
from gateway.sockets.upgrade import SocketView
from gateway.upstreams.options import Overrides, effective, overrides_of


class FaultyRoute(GatewayRoute):
    """Stands for a route that could not be made."""


_NO_PATH = parse_pattern("/")


def route(
    pattern: str,
    view: Callable[..., Any],
    name: str | None = None,
    *,
    wrap: Wrap | None = None,
    rate_limit: str | None = None,
    cost: int | None = None,
    auth: str | None = None,
    roles: str | None = None,
    scopes: str | None = None,
    middleware: Sequence[Middleware] | None = None,
    websocket: bool = False,
    case: str | None = None,
    when: str | None = None,
) -> GatewayRoute:
    """A route for urlpatterns, in the grammar of the environment: `route("GET /home/{id}", home)`.

    The view is Django's: async, with the path parameters by keyword; a synchronous one runs in a thread. The name
    defaults to the view's and stands in the log. `wrap` is called once, with the view and its cache, and returns the
    async view that is called instead: a guard outside of the cache. `auth`, `roles` and `scopes` set who may ask, and
    `rate_limit` how much, as in the environment: `rate_limit="60/1m by client"`; `cost` is a number. `middleware` are
    Django's, as classes or dotted paths, instead of those of GATEWAY_MIDDLEWARE; empty for none. With `websocket` the
    view takes WebSockets: `async def view(socket: GatewayWebSocket)`. `case="ignore"` compares the literals of the path
    without case, `when="header.x-version=2"` selects the requests that the route takes. Raises RouteError, with the
    place, for an invalid pattern, view, wrapper, rule or limit.
    """
    caller = sys._getframe(1)
    origin = f"{file_name(caller.f_code.co_filename)}:{caller.f_lineno}"
    options: dict[str, Any] = {"name": name, "wrap": wrap, "rate_limit": rate_limit, "cost": cost}
    options |= {"texts": {"auth": auth, "roles": roles, "scopes": scopes, "case": case, "when": when}}
    options |= {"websocket": websocket}
    try:
        return _route(pattern, view, origin, middleware=middleware, **options)
    except RouteError as error:
        if not note(str(error)):
            raise
        return FaultyRoute(_NO_PATH, faulty, "", origin)


def _route(
    pattern: str,
    view: Callable[..., Any],
    origin: str,
    *,
    name: str | None,
    wrap: Wrap | None,
    rate_limit: str | None,
    cost: int | None,
    texts: Mapping[str, str | None],
    middleware: Sequence[Middleware] | None,
    websocket: bool,
) -> GatewayRoute:
    """Raises RouteError."""
    try:
        place = f"{origin}: route({masked_target(units.as_text(pattern, 'GET /home/{id}'))!r})"
        units.as_text(name or "", "home")
    except ValueError as error:
        raise RouteError(f"{origin}: route(): {error}") from None
    try:
        rule = parse_pattern(pattern)
    except PatternError as error:
        raise RouteError(f"{place}: {error}") from None
    given: Any = view  # a person may write anything here
    if not callable(given):
        shown = masked_target(given) if isinstance(given, str) else given
        hint = f"; proxy({shown!r}) forwards to an upstream" if isinstance(given, str) else ""
        raise RouteError(f"{place}: the view is {shown!r}, which cannot be called{hint}")
    if websocket:
        view = given = socket_view(view, place)
    inner = innermost(view)
    if isinstance(inner, SocketView):
        rule = rule.or_get()
        _check_fit(inner.view, rule, place, f"{name_of(view)}()")
    elif isinstance(inner, Fanout):
        rule = rule.or_get()
        if problem := next(inner.problems(rule.shared_params), None):
            raise RouteError(f"{place}: {problem}")
    else:
        _check_fit(inner, rule, place, f"{name_of(view)}()")
    try:
        own = together(
            access.own_level(origin, texts, (*OF_LEVELS, CASE, WHEN)),
            rate_limits.own_level(origin, rate_limit, cost),
        )
    except ValueError as error:
        raise RouteError(f"{place}: {error}") from None
    given = as_async(view)
    wrapped = _wrapped(given, wrap, rule, place)
    if isinstance(middleware, str):
        raise RouteError(f"{place}: middleware={middleware!r} is no list; write [{middleware!r}]")
    if middleware is not None:
        own = together(
            Level({"middleware": listed_in_python(middleware)}, {}, {("middleware", ""): f"{origin}: middleware"}), own
        )
    return GatewayRoute(rule_under(rule, own), given, name or name_of(view), origin, wrapped=wrapped, own=own)


def _wrapped(view: View, wrap: Wrap | None, rule: Pattern, place: str) -> View:
    """The result of `wrap=` for a view. Raises RouteError if it is no wrapper, or makes anything but a view."""
    if wrap is None:
        return view
    given: Any = wrap  # a person may write anything here
    if not callable(given):
        raise RouteError(f"{place}: wrap={given!r} cannot be called: it takes a view and returns one")
    wrapped: Any = given(view)
    place = f"{place}: wrap={name_of(wrap)}"
    if inspect.iscoroutine(wrapped):
        wrapped.close()
        raise RouteError(f"{place}: returned a coroutine for a view: it is no async function itself")
    if not callable(wrapped):
        raise RouteError(f"{place}: returned {wrapped!r} for a view: it takes a view and returns one")
    if not is_async(wrapped):
        raise RouteError(f"{place}: made a synchronous view: what it returns must be async")
    for path in rule.paths:
        if (problem := misfit(wrapped, path.params, is_wrapper=True)) is not None:
            raise RouteError(f"{place}: what it made of the view does not fit: {problem}")
    return as_async(wrapped)


def _check_fit(view: Callable[..., Any], rule: Pattern, place: str, name: str) -> None:
    """Raises RouteError unless the view takes the parameters of each path."""
    for path in rule.paths:
        if (problem := misfit(view, path.params)) is not None:
            raise RouteError(f"{place}: {name} does not fit: {problem}")
        if not isinstance(view, (Proxy, Legacy)) and (problem := hint_problem(view, path.params)) is not None:
            raise RouteError(f"{place}: {problem}")


def from_environment(*, wrap: Wrap | None = None) -> list[GatewayRoute]:
    """The routes of `GATEWAY_ROUTE_*`, for `urlpatterns = [*from_environment(), ...]`.

    `wrap` is called with the view of each of them, as that of `route()`. Raises RouteError, with the variable.
    """
    return routes_of(routes_for(sys._getframe(1).f_globals, wrap), wrap)


def routes_of(records: Iterable[Route], wrap: Wrap | None) -> list[GatewayRoute]:
    """The routes that these records of the environment become. Raises RouteError, with the variable."""
    routes = []
    for record in records:
        try:
            routes.append(_from_config(record, wrap))
        except RouteError as error:
            if not note(str(error)):
                raise
            routes.append(GatewayRoute(record.pattern, faulty, record.name, record.variable, record))
    return routes


def _from_config(record: Route, wrap: Wrap | None) -> GatewayRoute:
    if record.fan is not None:
        variable = f"{record.variable}__PART_"
        functions = {
            part.name: legacy_from(part.target.text, variable + part.name.upper())
            for part in record.fan.parts
            if part.target.is_function
        }
        fan = Fanout(record.fan, record.overrides, record.name, functions)
        if functions and (problem := next(fan.problems(record.pattern.shared_params), None)):
            raise RouteError(f"{record.variable}: {problem}")
        view: View = fan
    elif record.target is not None:
        view = Proxy(record.target, record.overrides)
    elif isinstance(record.answer, Folder):
        view = Files(record.answer, record.name)
    elif record.answer is not None:
        view = OwnAnswer(record.answer, record.body, record.media_type, record.name)
    elif record.legacy is not None:
        view = function = legacy_from(record.legacy, record.variable)
        options = effective(Overrides(), overrides_of(record.level.flat()))
        function.max_body_bytes = options.max_body_bytes or sys.maxsize
        _check_fit(function, record.pattern, record.variable, record.legacy)
    else:
        raise RouteError(f"{record.variable}: no target")
    if record.cache is not None:
        view = Cached(view, record.cache)
    wrapped = _wrapped(view, wrap, record.pattern, record.variable)
    return GatewayRoute(record.pattern, view, record.name, record.variable, record, wrapped=wrapped)


AnyRoute = GatewayRoute | DjangoRoute


def slots_of(route: AnyRoute | None, declared: Declared, chains: Chains) -> Slots:
    """The slots of a route; of answers without a known route for None."""
    if route is None:
        rules = replacements_of(declared.plain)
        compress = compressing(declared.plain, pieces)
        return Slots(
            origins=declared.cors,
            compress=compress,
            replace=replacing(rules, None, {}, compress),
            fields=own_fields(declared.plain, declared.plain, None),
        )
    level, endpoint = route.level, route.endpoint
    origins = declared.cors if route.cors is None else route.cors
    requirements = access.requirements_of(level, endpoint, declared)
    rules = replacements_of(level)
    if isinstance(endpoint, Proxy):
        endpoint.keeps_small_bodies = rules is not None and rules.asks_services
    compress = compressing(level, pieces)
    rule = route.rule if isinstance(route, GatewayRoute) else None
    slots = Slots(
        key_words=words_of(rule.when) if rule is not None else (),
        key_rule=key_rule_of(rule) if rule is not None else "",
        key_path=partial(stored_path, rule) if rule is not None and rule.ignores_case else None,
        origins=origins,
        compress=compress,
        mirror=mirror_rule(level) if isinstance(endpoint, Proxy) else None,
        auth=auth_gate(requirements, origins),
        requirements=requirements,
        middleware=chains.of(level),
        replace=replacing(rules, endpoint, level.members.get("response_headers", {}), compress),
        maintenance=maintenance_gate(level.get("maintenance")),
        fields=own_fields(level, declared.plain, endpoint),
        sticky=sticky_cookies(endpoint, declared, asks_others=rules is not None and rules.asks_services),
    )
    return rate_limits.with_limits(slots, level, route.endpoint, route.name or "", declared)


_GROUP = re.compile(r"\(\?P<(\w+)>")


class Routes:
    """Everything that can answer: the table of routes, and Django's own routes after it.

    `threads` are the names of threads that the import of the routes module started; `slots` fills a route's stack.
    """

    def __init__(
        self,
        urlpatterns: Sequence[URLPattern | URLResolver],
        declared: Declared,
        threads: Sequence[str] = (),
        slots: Callable[[AnyRoute | None, Declared, Chains], Slots] = slots_of,
    ) -> None:
        self.routes = [route.under(declared) for route in urlpatterns if isinstance(route, GatewayRoute)]
        self.others = [one for one in urlpatterns if not isinstance(one, GatewayRoute)]
        self.threads = tuple(threads)
        self.warnings = (*synchronous_views(self.routes, self.others), *caches_without_effect(self.routes, self.others))
        if threads:
            self.warnings = (*self.warnings, thread_warning(declared.urlconf, threads))
        self.policies = declared.policies
        self.bulkheads, faults = assign_pools(legacies(self.routes, self.others), declared.pools)
        faults += self._access_problems(declared)
        self.checks = access.load_checks(declared.auth, faults)
        self.iterators = load_iterators(declared.upstreams, faults)
        plain = {one.callback: one for other in self.others for one, _ in flat(other)}
        django = {view: django_route(route, declared) for view, route in plain.items()}
        every: list[AnyRoute] = [*self.routes, *django.values()]
        chains = Chains((route.level for route in every), faults)
        check_routes(self.routes, self.others, declared, faults)
        found = with_vary({route: slots(route, declared, chains) for route in [*every, None]}, self.routes)
        self.routes = [route.with_stack(found[route]) for route in self.routes]
        self._stacks = {view: _django_stack(view, route, found[route]) for view, route in django.items()}
        self.plain_fields = plain_changes(declared.plain)
        self.finish = finish_of(found[None])  # where no route is known
        self._table = Table((route.rule, route) for route in self.routes)
        self.has_conditions = self._table.has_conditions
        self._conditional = [route for route in self.routes if route.rule.when and route.cache is not None]
        self._django = URLResolver(RegexPattern(r"^/"), self.others) if self.others else None
        self.guards = Guards(self._table, self._django)
        stacks = self._stacks.values()
        self._caches_plain = any(stack.cache or caches_parts(stack.endpoint) for stack in stacks)
        self.caches = self._caches_plain or any(route.cache or caches_parts(route.endpoint) for route in self.routes)
        self.caches_parts = any(caches_parts(one.endpoint) for one in [*stacks, *(each.stack for each in self.routes)])

    def _access_problems(self, declared: Declared) -> Iterator[str]:
        """Problems of authentication and authorization."""
        for route in self.routes:
            yield from access.problems(route.origin, route.level, route.endpoint, declared)
        for origin, view in views_of((), self.others):
            yield from access.problems(origin, level_above(view, declared), view, declared)

    def requirements(self) -> Iterator[tuple[str, Callable[..., Any], Sequence[Requirement]]]:
        """Each route's place, the view that answers, and its requirements."""
        yield from ((route.origin, route.endpoint, route.stack.requirements) for route in self.routes)
        for other in self.others:
            for one, _ in flat(other):
                stack = self._stacks[one.callback]
                yield str(one.pattern), stack.endpoint, stack.requirements

    def stored_at(self, host: str, path: str) -> set[str]:
        """The paths under which the answer to a GET of this URL may be stored; empty where it is not stored."""
        match = self._table.find("GET", host, path)
        if isinstance(match, Miss):
            found = {path} if self._caches_plain else set()
        else:
            found = {stored_path(match.route.rule, path)} if match.route.cache is not None else set()
        # Which of these would answer depends on the fields of a request.
        others = (route.rule for route in self._conditional if not mismatch(route.rule, host, path))
        return found.union(stored_path(rule, path) for rule in others)

    def spellings_of(self, url: str) -> set[str]:
        """A path or URL, and its spellings under which routes that ignore case store its answers."""
        return {url, *(stored_url(route.rule, url) for route in self.routes if route.rule.ignores_case and route.cache)}

    def views(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The views that answer, without their wrappers, with where they were written."""
        return views_of(self.routes, self.others)

    @property
    def is_empty(self) -> bool:
        return not self.routes and not self.others

    def find(self, method: str, host: str, path: str, holds: Holds = none_hold) -> Match[GatewayRoute] | Miss:
        """The winning route of the table for a raw path; `holds` returns whether the conditions of WHEN hold."""
        return self._table.find(method, host, path, holds)

    def find_django(self, path: str) -> "DjangoMatch | None":
        """The match of Django's own routes for a raw path, which they see decoded; None if there is none."""
        match = self.guards.django_match(path)
        if match is None:
            return None
        stack = self._stacks[match.func]
        params = match.kwargs
        if "(?P<" in match.route and isinstance(stack.endpoint, (Proxy, Fanout)):
            # Django leaves out a group that matched nothing; for a target it is an empty value, which is refused there.
            params = {**dict.fromkeys(_GROUP.findall(match.route), ""), **params}
        return DjangoMatch(stack, match, params)


def django_route(url_pattern: URLPattern, declared: Declared) -> DjangoRoute:
    view, place = url_pattern.callback, str(url_pattern.pattern)
    endpoint = innermost(view)
    return DjangoRoute(place, name_of(view), endpoint, cache_of(view), level_above(endpoint, declared))


class DjangoMatch(NamedTuple):
    """The match of one of Django's own routes, and the keyword arguments of its view."""

    stack: Stack
    match: ResolverMatch
    params: dict[str, Any]

    @property
    def name(self) -> str:
        return self.match.view_name or self.match._func_path

    def assign(self, request: GatewayRequest) -> None:
        """Set this route on the request."""
        request.exchange.route, request.stack, request.resolver_match = self.name, self.stack, self.match


def _django_stack(view: Callable[..., Any], route: DjangoRoute, slots: Slots) -> Stack:
    return compiled(as_async(view), route.endpoint, route.cache, slots, reads_body=True)


def raw_values(match: Match[GatewayRoute]) -> dict[str, str]:
    return dict(zip(match.pattern.params, match.values, strict=True))


def decoded(values: dict[str, str]) -> dict[str, str]:
    """Path parameters as a view gets them: percent-decoded UTF-8. Raises PATH_INVALID for bytes that are not UTF-8."""
    try:
        return {name: unquote(value, errors="strict") if "%" in value else value for name, value in values.items()}
    except UnicodeDecodeError as error:
        raise GatewayError(Reason.PATH_INVALID, "A path parameter is not valid UTF-8.") from error
