"""The entries of urlpatterns, the gateway's and Django's own: their contents, and what keeps them from being served."""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.urls import URLPattern, URLResolver
from django.urls.resolvers import RegexPattern

from gateway.answers.files import Files
from gateway.answers.own_answer import OwnAnswer
from gateway.cache.options import rule_of
from gateway.cache.view import Cached
from gateway.fanout.view import Fanout
from gateway.http import cors
from gateway.http.any_request import for_any_request
from gateway.http.gate import View
from gateway.legacy.parameters import Parameters, methods_of
from gateway.legacy.view import Legacy
from gateway.options import NO_LEVEL, Level, nearest, together
from gateway.proxy.view import Proxy
from gateway.routing import rate_limits
from gateway.routing.choosing import rule_under
from gateway.routing.clashes import Clash, clashes
from gateway.routing.faults import RouteError
from gateway.routing.patterns import Pattern, PatternError, check_names
from gateway.routing.records import Declared, Route
from gateway.routing.stack import Slots, Stack, compiled
from gateway.routing.wrapping import cache_behind, cache_of, cache_problem, innermost
from gateway.sockets.upgrade import SocketView


class _Paths(RegexPattern):
    """The paths of a route for Django, which resolves each of them and reverses the first."""

    def __init__(self, rule: Pattern, name: str) -> None:
        super().__init__(rule.regex(), name=name)
        self._others = [RegexPattern(other.regex(), name=name) for other in rule.others]

    def match(self, path: str) -> Any:
        found = (one.match(path) for one in self._others)
        return super().match(path) or next((match for match in found if match is not None), None)


class GatewayRoute(URLPattern):
    """One route of the table: a pattern, its view, and where it was written.

    `endpoint` is the view that answers, without its wrappers, and `cache` the cache before it. `view` is what the
    handler calls: the compiled stack, or before that the result of `wrap=` (`wrapped`).
    """

    stack: Stack

    def __init__(
        self,
        rule: Pattern,
        view: View,
        name: str,
        origin: str,
        given: Route | None = None,
        *,
        wrapped: View | None = None,
        own: Level = NO_LEVEL,
    ) -> None:
        self.wrapped = self.view = wrapped or view
        super().__init__(_Paths(rule, name), for_any_request(self.wrapped), name=name)
        self.rule = rule
        self.endpoint = innermost(view)
        self.cache = cache_behind(self.wrapped, view)
        self.origin = origin
        self.raw_path = given.raw_path if given is not None else False
        self.cors = given.cors if given is not None else None
        self.level = self._own = given.level if given is not None else own
        self.given = given
        self.is_of_environment = given is not None

    def under(self, declared: Declared) -> "GatewayRoute":
        """A copy with the options for all routes, and with those of its upstream for the routes that lead there.

        A route of the environment has both already. One in Python has few options of its own beside those of its view;
        where nothing wraps the view, its caching follows from inherited options.
        """
        if isinstance(self.endpoint, Fanout):
            self.endpoint.inherit(declared.plain)
        if isinstance(self.endpoint, SocketView):
            self.endpoint.inherit(declared.plain)
        if self.is_of_environment:
            return self
        route = copy.copy(self)
        route.level = level = together(self._own, level_above(self.endpoint, declared))
        route.raw_path = level.get("raw_path", False)
        route.cors = cors.rules_of(level) if "cors" in level.values else None
        route.rule = rule_under(self.rule, level)
        route.pattern = _Paths(route.rule, self.name or "")
        rule = rule_of(level)
        if rule is not None and self.wrapped is self.endpoint and isinstance(self.endpoint, (Proxy, Fanout)):
            route.wrapped = route.view = route.callback = route.cache = Cached(self.endpoint, rule)
        return route

    def with_stack(self, slots: Slots) -> "GatewayRoute":
        """A copy with its compiled stack. The routes of a module may be compiled more than once."""
        route = copy.copy(self)
        route.stack = compiled(self.wrapped, self.endpoint, self.cache, slots)
        route.view = route.stack.view
        return route

    def __repr__(self) -> str:
        return f"<GatewayRoute {self.rule.text} ({self.origin})>"


def level_above(endpoint: Callable[..., Any], declared: Declared) -> Level:
    """The options that a view inherits: of the upstream that it forwards to, if any, over the plain ones."""
    targets = endpoint.upstreams if isinstance(endpoint, Proxy) else ()
    above = [declared.upstreams[name].level for name in targets if name in declared.upstreams]
    return together(*above, declared.plain)


@dataclass(frozen=True, eq=False, slots=True)
class DjangoRoute:
    """One of Django's own routes, as far as its stack needs it."""

    origin: str
    name: str
    endpoint: Callable[..., Any]
    cache: Cached | None
    level: Level  # the plain options, and those of its upstream for a view of proxy()

    @property
    def cors(self) -> Sequence[str] | None:
        return cors.rules_of(self.level) if "cors" in self.level.values else None


class Params(NamedTuple):
    """The arguments of a view from one of Django's patterns: by keyword, or, from unnamed groups, by position."""

    names: tuple[str, ...] = ()
    has_unnamed: bool = False


_NO_PARAMS = Params()


def flat(url_pattern: URLPattern | URLResolver, outer: Params = _NO_PARAMS) -> Iterator[tuple[URLPattern, Params]]:
    """The URL patterns of one entry, those of an include() one by one, and the arguments that each gives its view."""
    regex = url_pattern.pattern.regex
    names = (*outer.names, *regex.groupindex)
    unnamed = regex.groups > 0 and not regex.groupindex
    if isinstance(url_pattern, URLPattern):
        names = (*names, *url_pattern.default_args)
        # Django drops the unnamed groups of an include() where there is a named one.
        yield url_pattern, Params(names, unnamed or (outer.has_unnamed and not names))
    else:
        for inner in url_pattern.url_patterns:
            yield from flat(inner, Params((*names, *url_pattern.default_kwargs), unnamed or outer.has_unnamed))


def _outermost(
    routes: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every view with its wrappers, and where it was written."""
    yield from ((route.origin, route.wrapped) for route in routes)
    yield from ((str(one.pattern), one.callback) for other in others for one, _ in flat(other))


def views_of(
    routes: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every view without its wrappers, and where it was written."""
    yield from ((route.origin, route.endpoint) for route in routes)
    yield from ((str(one.pattern), innermost(one.callback)) for other in others for one, _ in flat(other))


def legacies(
    routes: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]
) -> Iterator[tuple[str, Legacy]]:
    """Every legacy function, as a view or as a part, with where it was written."""
    for origin, view in views_of(routes, others):
        if isinstance(view, Legacy):
            yield origin, view
        elif isinstance(view, Fanout):
            yield from ((origin, function) for function in view.functions.values())


def caches_parts(endpoint: Callable[..., Any]) -> bool:
    return isinstance(endpoint, Fanout) and any(part.cache for part in endpoint.fan.parts)


def describe(route: URLPattern) -> str:
    """The target of a route, as `gateway routes` and the start-up summary show it."""
    view = route.endpoint if isinstance(route, GatewayRoute) else innermost(route.callback)
    if isinstance(view, Fanout):
        return ", ".join(part.name for part in view.fan.parts)
    if isinstance(view, OwnAnswer):
        return view.answer.shown
    if isinstance(view, Files):
        return view.folder.text
    return view.target.shown().text if isinstance(view, Proxy) else f"{name_of(inspect.unwrap(view))}()"


def name_of(view: Callable[..., Any]) -> str:
    """The name of a view; of one that `as_view()` made, that of its class, as Django has it."""
    view = getattr(view, "view_class", view)
    return str(getattr(view, "__name__", type(view).__name__))


def is_async(view: Callable[..., Any]) -> bool:
    return iscoroutinefunction(view) or iscoroutinefunction(getattr(view, "__call__", None))  # noqa: B004 - the method


def synchronous_views(routes: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """A warning for each synchronous function in place of an async view."""
    found: dict[Callable[..., Any], str] = {}
    for origin, outermost in _outermost(routes, others):
        cache = cache_of(outermost)
        for view in {outermost, outermost if cache is None else cache.view}:
            function = getattr(view, "synchronous", None) or (None if is_async(view) else view)
            if function is not None:
                found.setdefault(function, origin)
    for function, origin in found.items():
        name = name_of(function)
        own = f"{name}.as_view(), name=..." if hasattr(function, "view_class") else name
        yield (
            f"{origin}: {name}() is synchronous: it runs in threads, as many as there are requests for it, without a "
            f"time limit; legacy({own}) sets limits"
        )


def caches_without_effect(routes: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """A warning for each cache without effect."""
    for origin, view in _outermost([route for route in routes if route.cache is None], others):
        if (problem := cache_problem(view)) is not None:
            yield f"{origin}: {problem}"


def check_routes(
    routes: Sequence[GatewayRoute],
    others: Sequence[URLPattern | URLResolver],
    declared: Declared,
    faults: Iterable[str],
) -> None:
    """Raises RouteError for routes that cannot all be served; `faults` are further ones, known already."""
    problems = [
        _problem_of(clash, routes[clash.first], routes[clash.second])
        for clash in clashes([route.rule for route in routes])
    ]
    problems.extend(
        f"{route.origin}: {route.rule.text!r} lies under /-/, which belongs to the gateway"
        for route in routes
        if any(path.segments[:1] == ("-",) for path in route.rule.paths)
    )
    plain = [one for other in others for one in flat(other)]
    problems.extend(f"{one.pattern}: {problem}" for one, params in plain for problem in _misfits(one, params))
    problems.extend(
        f"{origin}: there is no upstream {upstream}{_meant(upstream, declared.upstreams)}"
        for origin, view in views_of(routes, others)
        if isinstance(view, (Proxy, Fanout))
        for upstream in view.upstreams
        if upstream not in declared.upstreams
    )
    problems.extend(
        problem
        for route in routes
        if not route.is_of_environment
        for problem in rate_limits.problems(route.origin, route.level, route.rule.shared_params, declared)
    )
    problems.extend(faults)
    problems.extend(_name_problems(routes))
    if declared.first_route and not any(route.origin == declared.first_route for route in routes):
        problems.append(
            f"{declared.urlconf}.py leaves out *from_environment(), so GATEWAY_ROUTE_* would be without effect"
        )
    problems.extend(
        f"{one.origin}: route() lines do not work inside include(); write them into urlpatterns"
        for one, _ in plain
        if isinstance(one, GatewayRoute)
    )
    if problems:
        raise RouteError("\n".join(problems))


def _problem_of(clash: Clash, first: GatewayRoute, second: GatewayRoute) -> str:
    if first is second:
        return f"{first.origin}: two paths of {first.rule.text!r} take {clash.example}"
    if clash.are_equal:
        return f"{first.rule.text!r} stands twice: {first.origin} and {second.origin}; both take {clash.example}"
    return (
        f"{first.rule.text!r} ({first.origin}) and {second.rule.text!r} ({second.origin}) both take {clash.example}, "
        "and neither is more specific"
    )


def _misfits(url_pattern: URLPattern, params: Params) -> Iterator[str]:
    """Why a view of the gateway does not fit one of Django's URL patterns: requests would fail, or go elsewhere."""
    view, cache = innermost(url_pattern.callback), cache_of(url_pattern.callback)
    if params.has_unnamed and (cache is not None or isinstance(view, (Proxy, Fanout, Legacy))):
        yield f"{name_of(view)} takes parameters by name: write (?P<id>...) instead of (...)"
    elif isinstance(view, Fanout):
        yield from view.problems(params.names)
    elif isinstance(view, Legacy):
        if (problem := misfit(view, params.names)) is not None:
            yield f"{view.__name__}() does not fit: {problem}"
    elif isinstance(view, Proxy) and view.target.template is not None:
        template, text = view.target.template, view.target.shown().text
        known = ", ".join(f"{{{name}}}" for name in params.names) or "none"
        for name in template.names:
            if name not in params.names:
                yield f"'{{{name}}}' of the target {text} is not in the pattern (its parameters: {known})"
        if template.rest:  # the rest is raw, and Django's patterns match the decoded path
            yield f'the target {text} ends in \'**\', for which there is route(): route("/.../**", proxy("{text}"))'


def hint_problem(view: Callable[..., Any], params: Iterable[str]) -> str | None:
    """A type hint of a view that does not fit a parameter of the path, and why."""
    functions = methods_of(view)
    for function in [view] if functions is None else functions.values():
        parameters = Parameters(function)
        for name in params:
            if (problem := parameters.problem(name)) is not None:
                return f"the parameter {name} of {name_of(view)}() has a type that is of no use in a path: {problem}"
    return None


def misfit(view: Callable[..., Any], params: Iterable[str], *, is_wrapper: bool = False) -> str | None:
    """Why a view, or a wrapper around one, cannot be called with the request and these parameters by keyword."""
    try:
        # A decorator of a method does not change the signature of the view that `as_view()` made of its class.
        signature = inspect.signature(view, follow_wrapped=not is_wrapper and not hasattr(view, "view_class"))
    except ValueError:  # functions written in C may have no signature
        return None
    try:
        signature.bind(None, **dict.fromkeys(params))
    except TypeError as error:
        return str(error)
    return None


def _meant(name: str, upstreams: Iterable[str]) -> str:
    near = nearest(name, sorted(upstreams))
    return f"; did you mean {near}?" if near else f"; set GATEWAY_UPSTREAM_{name.upper()} to its base URL"


def _name_problems(routes: Sequence[GatewayRoute]) -> Iterable[str]:
    for route in routes:
        if isinstance(route.endpoint, Proxy):
            try:
                check_names(route.rule, route.endpoint.target)
            except PatternError as error:
                yield f"{route.origin}: {error}"
