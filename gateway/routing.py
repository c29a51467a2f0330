"""Patterns and views become Django's urlpatterns, and urlpatterns become the table that the handler asks.

`route()` lines and those of the environment are one table, matched by `patterns`; each of them is also a Django URL
pattern, so that `reverse`, `resolve` and the system checks know it. Django's own `path()` and `include()` lines are
tried in order after the table.
"""

import contextlib
import importlib
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any
from urllib.parse import unquote

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.db import close_old_connections
from django.http.response import FileResponse, HttpResponseBase
from django.urls import Resolver404, URLPattern, URLResolver
from django.urls.resolvers import RegexPattern

from gateway.cached import Cached, cached
from gateway.config import Config, Overrides, Route, effective
from gateway.errors import GatewayError, Reason
from gateway.fanout import Fanout
from gateway.fetching import fetch
from gateway.legacy import Legacy, assign_pools, legacy
from gateway.messages import GatewayRequest
from gateway.options import nearest
from gateway.patterns import Match, Miss, Pattern, PatternError, Table, check_names, clash, parse_pattern
from gateway.proxy import Proxy, proxy
from gateway.typed import fanout, part

__all__ = ["RouteError", "Routes", "cached", "fanout", "fetch", "from_environment", "legacy", "part", "proxy", "route"]

View = Callable[..., Awaitable[HttpResponseBase]]


class RouteError(Exception):
    """A routes module that cannot be served; the text says where and why."""


class GatewayRoute(URLPattern):
    """One line of the table: a pattern, its view, and where it was written."""

    def __init__(self, rule: Pattern, view: View, name: str, origin: str, given: Route | None = None) -> None:
        super().__init__(RegexPattern(rule.regex(), name=name), view, name=name)
        self.rule = rule
        self.view = view
        self.origin = origin
        self.raw_path = given.raw_path if given is not None else False
        self.cors = given.cors if given is not None else None

    def __repr__(self) -> str:
        return f"<GatewayRoute {self.rule.text} ({self.origin})>"


def route(pattern: str, view: Callable[..., Any], name: str | None = None) -> GatewayRoute:
    """A line of urlpatterns in the grammar of the environment: `route("GET /home/{id}", home)`.

    The view is Django's: async, with the path parameters by keyword; a synchronous one runs in a thread. The name
    defaults to the view's and stands in the log. Raises RouteError, with the place, for what is no pattern or view.
    """
    caller = sys._getframe(1)
    origin = f"{_file(caller.f_code.co_filename)}:{caller.f_lineno}"
    try:
        rule = parse_pattern(pattern)
    except PatternError as error:
        raise RouteError(f"{origin}: route({pattern!r}): {error}") from None
    given: Any = view  # a person may write anything here
    if not callable(given):
        hint = f"; proxy({given!r}) forwards to an upstream" if isinstance(given, str) else ""
        raise RouteError(f"{origin}: route({pattern!r}): the view is {view!r}, which cannot be called{hint}")
    inner = innermost(view)
    if isinstance(inner, Fanout):
        rule = rule.or_get()
        if problem := next(inner.problems(rule.params), None):
            raise RouteError(f"{origin}: route({pattern!r}): {problem}")
    else:
        _check_fit(inner, rule, f"{origin}: route({pattern!r})", f"{_name_of(view)}()")
    return GatewayRoute(rule, as_async(view), name or _name_of(view), origin)


def _check_fit(view: Callable[..., Any], rule: Pattern, place: str, name: str) -> None:
    """Raises RouteError unless the view takes the pattern's parameters."""
    with contextlib.suppress(ValueError):  # what is written in C may not tell its signature
        try:
            inspect.signature(view).bind(None, **dict.fromkeys(rule.params))
        except TypeError as error:
            raise RouteError(f"{place}: {name} does not fit: {error}") from None


def from_environment() -> list[GatewayRoute]:
    """The routes of `GATEWAY_ROUTE_*`, for `urlpatterns = [*from_environment(), ...]`."""
    config: Config = settings.GATEWAY
    return [_from_config(line) for line in config.routes]


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
        raise RouteError(f"{variable}__LEGACY={path}: {_place(error, module)}") from error


def is_async(view: Callable[..., Any]) -> bool:
    return iscoroutinefunction(view) or iscoroutinefunction(getattr(view, "__call__", None))  # noqa: B004 - the method


def as_async(view: Callable[..., Any]) -> View:
    """The view itself, or a synchronous one moved off the loop: it must not stop every other request."""
    if isinstance(view, Cached):
        view.view = as_async(view.view)
        return view
    if is_async(view):
        return view

    def with_fresh_connections(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        # Django closes stale database connections around a request, in the thread that uses them.
        close_old_connections()
        try:
            return view(request, *args, **params)  # type: ignore[no-any-return]
        finally:
            close_old_connections()

    in_thread = sync_to_async(with_fresh_connections, thread_sensitive=False)

    async def call(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        await request.read_body()
        return await in_thread(request, *args, **params)

    call.__name__ = _name_of(view)
    call.synchronous = view  # type: ignore[attr-defined]
    return call


async def pieces(response: Any) -> AsyncIterator[bytes]:
    """The pieces of a StreamingHttpResponse; a synchronous iterator takes each of its steps off the loop."""
    if response.is_async:
        async for piece in response:
            yield piece
        return
    if isinstance(response, FileResponse):
        response.block_size = 64 * 1024  # Django's 4 KiB would be a hop each
    iterator = iter(response)
    step = sync_to_async(lambda: next(iterator, None), thread_sensitive=False)
    while (piece := await step()) is not None:
        yield piece


def innermost(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view that answers, out of those that only store what it says."""
    while isinstance(view, Cached):
        view = view.view
    return view


def _name_of(view: Callable[..., Any]) -> str:
    return str(getattr(view, "__name__", type(view).__name__))


class Routes:
    """Everything that can answer: the table of `route()` lines, and Django's own lines after it."""

    def __init__(self, urlpatterns: Sequence[URLPattern | URLResolver], config: Config) -> None:
        self.lines = [line for line in urlpatterns if isinstance(line, GatewayRoute)]
        self.others = [line for line in urlpatterns if not isinstance(line, GatewayRoute)]
        self.warnings = tuple(_synchronous(self.lines, self.others))
        self.bulkheads, faults = assign_pools(_legacies(self.lines, self.others), config.legacy)
        _check(self.lines, self.others, config, faults)
        self._table = Table((line.rule, line) for line in self.lines)
        self._django = URLResolver(RegexPattern(r"^/"), self.others) if self.others else None
        self._views: dict[Callable[..., Any], View] = {}
        plain = [line.callback for other in self.others for line, _ in _flat(other)]
        self._caches_plain = any(_caches(view) for view in plain)
        self.caches = self._caches_plain or any(_caches(line.view) for line in self.lines)
        self.caches_parts = any(_caches_parts(view) for view in (*plain, *(line.view for line in self.lines)))

    def caches_at(self, host: str, path: str) -> bool:
        """Whether what a GET of this URL is answered with may be stored."""
        match = self._table.find("GET", host, path)
        return self._caches_plain if isinstance(match, Miss) else isinstance(match.route.view, Cached)

    def views(self) -> Iterator[tuple[str, Callable[..., Any]]]:
        """The views that answer, out of those that stand around them, with where they were written."""
        return _views(self.lines, self.others)

    @property
    def is_empty(self) -> bool:
        return not self.lines and not self.others

    def find(self, method: str, host: str, path: str) -> Match[GatewayRoute] | Miss:
        """The winning line of the table for a raw path."""
        return self._table.find(method, host, path)

    def find_django(self, request: GatewayRequest) -> tuple[View, tuple[Any, ...], dict[str, Any], str] | None:
        """What Django's own lines say of the decoded path: view, arguments, name; None for nothing."""
        if self._django is None:
            return None
        try:
            match = self._django.resolve(request.path)
        except Resolver404:
            return None
        request.resolver_match = match
        view = self._views.get(match.func)
        if view is None:
            view = self._views[match.func] = as_async(match.func)
        return view, match.args, match.kwargs, match.view_name or match._func_path


def raw_values(match: Match[GatewayRoute]) -> dict[str, str]:
    return dict(zip(match.route.rule.params, match.values, strict=True))


def decoded(values: dict[str, str]) -> dict[str, str]:
    """Path parameters as a view gets them: percent-decoded UTF-8. Raises PATH_INVALID for what is not."""
    try:
        return {name: unquote(value, errors="strict") if "%" in value else value for name, value in values.items()}
    except UnicodeDecodeError as error:
        raise GatewayError(Reason.PATH_INVALID, "A path parameter is not valid UTF-8.") from error


# -- the routes module --------------------------------------------------------------------------------------------


def load_routes(config: Config) -> Routes:
    """Import the module named by GATEWAY_URLCONF and compile it. Raises RouteError, with the place, for any fault."""
    name = config.settings.urlconf
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise RouteError(_place(error, name)) from error
        hint = f"; without .py: {name.removesuffix('.py')}" if name.endswith(".py") else ""
        raise RouteError(f"GATEWAY_URLCONF={name}: there is no module of that name{hint}") from error
    except (Exception, SystemExit) as error:
        raise RouteError(_place(error, name)) from error
    return Routes(_urlpatterns(module), config)


def _urlpatterns(module: ModuleType) -> Sequence[URLPattern | URLResolver]:
    name = f"{module.__name__}.py"
    lines = getattr(module, "urlpatterns", None)
    if not isinstance(lines, (list, tuple)):
        raise RouteError(f"{name} defines no list urlpatterns")
    for line in lines:
        if isinstance(line, list):
            raise RouteError(f"{name}: urlpatterns holds a list; write a star before it: *from_environment()")
        if not isinstance(line, (URLPattern, URLResolver)):
            raise RouteError(f"{name}: urlpatterns holds {line!r}, which is no route() or path() line")
    return lines


def _place(error: BaseException, name: str) -> str:
    """Where a module failed to load, in one line: the innermost frame of the user's own file if there is one."""
    if isinstance(error, RouteError):  # it names its place
        return str(error)
    if isinstance(error, SyntaxError):
        return f"{_file(error.filename or name)}:{error.lineno}: {type(error).__name__}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _file(frame.filename) == f"{name.rpartition('.')[2]}.py"]
    at = (own or frames)[-1]
    return f"{_file(at.filename)}:{at.lineno}: {type(error).__name__}: {error}"


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _views(
    lines: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]
) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every view without what is wrapped around it, with where it was written."""
    yield from ((line.origin, innermost(line.view)) for line in lines)
    yield from ((str(line.pattern), innermost(line.callback)) for other in others for line, _ in _flat(other))


def _legacies(
    lines: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]
) -> Iterator[tuple[str, Legacy]]:
    """Every legacy function, as a view or as a part, with where it was written."""
    for origin, view in _views(lines, others):
        if isinstance(view, Legacy):
            yield origin, view
        elif isinstance(view, Fanout):
            yield from ((origin, function) for function in view.functions.values())


def _synchronous(lines: Iterable[GatewayRoute], others: Iterable[URLPattern | URLResolver]) -> Iterator[str]:
    """A word for each synchronous function that stands where an async view belongs."""
    found: dict[Callable[..., Any], str] = {}
    for origin, view in _views(lines, others):
        function = getattr(view, "synchronous", None) or (None if is_async(view) else view)
        if function is not None:
            found.setdefault(function, origin)
    for function, origin in found.items():
        name = _name_of(function)
        yield (
            f"{origin}: {name}() is synchronous: it runs in threads that all such views share, without a time limit; "
            f"legacy({name}) gives it some of its own"
        )


def _check(
    lines: Sequence[GatewayRoute],
    others: Sequence[URLPattern | URLResolver],
    config: Config,
    faults: Iterable[str],
) -> None:
    """Raises RouteError for lines that cannot all be served; `faults` are those of their pools."""
    problems = [
        f"{lines[first].rule.text!r} stands twice: {lines[first].origin} and {lines[second].origin}"
        for first, second in clash([line.rule for line in lines])
    ]
    problems.extend(
        f"{line.origin}: {line.rule.text!r} lies under /-/, which belongs to the gateway"
        for line in lines
        if line.rule.segments[:1] == ("-",)
    )
    given = {line: params for other in others for line, params in _flat(other)}
    plain = list(given)
    problems.extend(
        f"{line.pattern}: {problem}"
        for line in plain
        if isinstance(view := innermost(line.callback), Fanout)
        for problem in view.problems(given[line])
    )
    problems.extend(
        f"{origin}: there is no upstream {upstream}{_meant(upstream, config)}"
        for origin, view in _views(lines, others)
        if isinstance(view, (Proxy, Fanout))
        for upstream in view.upstreams
        if upstream not in config.upstreams
    )
    problems.extend(faults)
    problems.extend(_name_problems(lines))
    if config.routes and not any(line.origin == config.routes[0].variable for line in lines):
        problems.append(
            f"{config.settings.urlconf}.py leaves out *from_environment(), so GATEWAY_ROUTE_* would be without effect"
        )
    problems.extend(
        f"{line.origin}: route() lines do not work inside include(); write them into urlpatterns"
        for line in plain
        if isinstance(line, GatewayRoute)
    )
    if problems:
        raise RouteError("\n".join(problems))


def _meant(name: str, config: Config) -> str:
    near = nearest(name, sorted(config.upstreams))
    return f"; did you mean {near}?" if near else f"; set GATEWAY_UPSTREAM_{name.upper()} to its base URL"


def _name_problems(lines: Sequence[GatewayRoute]) -> Iterable[str]:
    for line in lines:
        view = innermost(line.view)
        if isinstance(view, Proxy):
            try:
                check_names(line.rule, view.target)
            except PatternError as error:
                yield f"{line.origin}: {error}"


def _caches(view: Callable[..., Any]) -> bool:
    return isinstance(view, Cached) or _caches_parts(view)


def _caches_parts(view: Callable[..., Any]) -> bool:
    inner = innermost(view)
    return isinstance(inner, Fanout) and any(part.cache for part in inner.fan.parts)


def _flat(line: URLPattern | URLResolver, params: tuple[str, ...] = ()) -> Iterable[tuple[URLPattern, tuple[str, ...]]]:
    """The patterns of one of Django's lines, those of an include() one by one, and the parameters that each gives."""
    params = (*params, *line.pattern.regex.groupindex)
    if isinstance(line, URLPattern):
        yield line, (*params, *line.default_args)
    else:
        for inner in line.url_patterns:
            yield from _flat(inner, (*params, *line.default_kwargs))


def describe(line: URLPattern) -> str:
    """Where a line leads, as `gateway routes` and the start-up summary say it."""
    view = innermost(line.callback)
    if isinstance(view, Fanout):
        return ", ".join(part.name for part in view.fan.parts)
    return view.target.text if isinstance(view, Proxy) else f"{_name_of(inspect.unwrap(view))}()"
