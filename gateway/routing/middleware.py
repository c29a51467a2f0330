"""Django's middleware, around the views that name or inherit it: async-capable, each made once, at the start.

Django's promises for middleware apply here too: the order of the list, `process_view` and `process_exception`,
synchronous and async hooks, `MiddlewareNotUsed`; and an exception of a view or a later middleware becomes an answer for
those before it. A GatewayError becomes its problem. Synchronous hooks run in the thread of their request, as views do.

A middleware that can only be called synchronously is refused: Django would move every request that passes it
into a thread and back, also one that is only forwarded.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http.response import HttpResponseBase

from gateway.http.gate import View
from gateway.http.problem import error_of_view, problem_of
from gateway.http.request import BUILT_LATER, GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.http.view_result import finished, name_of_view
from gateway.legacy.bulkhead import in_thread
from gateway.observe import signals
from gateway.options import Level
from gateway.routing.faults import RouteError, added_to, loaded, place_of

Middleware: TypeAlias = str | Callable[..., Any]  # a dotted path, or the class or function itself
Handler = Callable[[GatewayRequest], Awaitable[HttpResponseBase]]

# The gateway's own entry in settings.MIDDLEWARE, for the clients of django.test: it hands a request to the gateway, so
# in a stack of the gateway that would never end.
_THROUGH_GATEWAY = "gateway.server.in_process.ThroughGateway"

_SYNCHRONOUS = (
    "cannot be called asynchronously: derive it from django.utils.deprecation.MiddlewareMixin, decorate it with "
    "django.utils.decorators.sync_and_async_middleware, or set async_capable = True and make __call__ async"
)
_RENDERS = (
    "has process_template_response, for which there is no place here: a view's answer is rendered where the view ran; "
    "change the context in the view, or the answer in __call__"
)


class Call(NamedTuple):
    """The view within the middleware for one request, and its arguments."""

    view: View
    callback: Callable[..., Any]
    before: frozenset[str] | None  # the names of the request's attributes, where later ones matter
    args: tuple[Any, ...]
    params: dict[str, Any]


class Chain:
    """The middleware of one list, made once, for any number of views."""

    def __init__(self, listed: Sequence[Middleware], origin: str) -> None:
        """`origin` is where the list was written. Raises RouteError, with a line for each that cannot be used."""
        self._view_hooks: list[Callable[..., Any]] = []
        self._exception_hooks: list[Callable[..., Any]] = []
        self._outermost: Callable[[GatewayRequest], Any] = self._innermost
        faults: list[str] = []
        for one in reversed(listed):
            made = None
            with added_to(faults):
                made = _made(one, _answering(self._outermost), origin)
            if made is None:
                continue
            self._outermost = made
            if hasattr(made, "process_view"):
                self._view_hooks.insert(0, made.process_view)
            if hasattr(made, "process_exception"):
                self._exception_hooks.append(made.process_exception)
        if faults:
            raise RouteError("\n".join(reversed(faults)))

    @property
    def is_empty(self) -> bool:
        """Whether no middleware of the list is used."""
        return self._outermost == self._innermost

    def around(self, view: View, callback: Callable[..., Any], *, reads_form: bool, is_cached: bool) -> View:
        """The view behind this middleware. `callback` is the view as it stands in urlpatterns, which hooks are given.

        `reads_form`: the body of a form is read first, so that middleware may look into it. `is_cached`: attributes set
        on the request are noted, since a cache within must know of them.
        """

        async def behind_middleware(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
            if reads_form and not request.inbox.complete and request.is_form():
                await request.read_body()
            thread = request.lifetime.enter_view_thread(request.lend)
            before = frozenset(vars(request)) if is_cached else None
            request.middleware_call = Call(view, callback, before, args, params)
            response = await _asked(self._outermost, request)
            # A GatewayResponse has nothing to close: resources of its body are released at the end of the request.
            if isinstance(response, HttpResponseBase) and not isinstance(response, GatewayResponse):
                thread.holds(response)
            return await finished(response, self._outermost, is_head=request.method == "HEAD", in_thread=in_thread)

        return behind_middleware

    async def _innermost(self, request: GatewayRequest) -> Any:
        call: Call = request.middleware_call
        for hook in self._view_hooks:
            response = await _called(hook, request, call.callback, call.args, call.params)
            if response is not None:
                return response
        if call.before is not None:
            names = vars(request).keys() - call.before - BUILT_LATER
            request.added = {name: getattr(request, name) for name in names}
        try:
            return await call.view(request, *call.args, **call.params)
        except Exception as error:
            for hook in self._exception_hooks:
                response = await _called(hook, request, error)
                if response is not None:
                    return response
            raise


def listed_in_python(middleware: Sequence[Middleware]) -> tuple[Middleware, ...]:
    """A list of `middleware=`, without the entry of the gateway that `[*settings.MIDDLEWARE, Tenant]` holds."""
    return tuple(one for one in middleware if one != _THROUGH_GATEWAY)


def name_of_middleware(one: Middleware) -> str:
    return one if isinstance(one, str) else name_of_view(one)


class Chains:
    """The chains of one table of routes: each list is made once, for all routes that share it."""

    def __init__(self, levels: Iterable[Level], faults: list[str]) -> None:
        """`levels` are those of all routes; errors of middleware are added to `faults`."""
        self._made: dict[tuple[Middleware, ...], Chain] = {}
        for level in levels:
            key = tuple(level.get("middleware", ()))
            if key not in self._made:
                with added_to(faults):
                    self._made[key] = Chain(key, level.variable("middleware"))

    def of(self, level: Level) -> Chain | None:
        """The chain of what a route has; None where none of it is used."""
        chain = self._made[tuple(level.get("middleware", ()))]
        return None if chain.is_empty else chain


def _made(one: Middleware, get_response: Handler, origin: str) -> Callable[[GatewayRequest], Any] | None:
    """A middleware around `get_response`; None for one that is not used. Raises RouteError."""
    name = name_of_middleware(one)
    place = f"{origin}: {name}"
    factory: Any = loaded(one, place) if isinstance(one, str) else one
    if not callable(factory):
        raise RouteError(f"{place} is no middleware: it cannot be called")
    if not getattr(factory, "async_capable", False):
        raise RouteError(f"{place} {_SYNCHRONOUS}")
    try:
        made: Any = factory(get_response)
    except MiddlewareNotUsed:
        return None
    except (Exception, SystemExit) as error:
        raise RouteError(f"{place}: {place_of(error, factory.__module__)}") from error
    if not callable(made):
        raise RouteError(f"{place} is no middleware: it returned {made!r} for get_response")
    if hasattr(made, "process_template_response"):
        raise RouteError(f"{place} {_RENDERS}")
    return made  # type: ignore[no-any-return]


def _answering(handler: Callable[[GatewayRequest], Any]) -> Handler:
    """The handler within a middleware. As in Django, an exception in it becomes an answer: a problem."""

    async def get_response(request: GatewayRequest) -> HttpResponseBase:
        try:
            response: HttpResponseBase = await _asked(handler, request)
        except Exception as error:  # noqa: BLE001 - a view may raise anything
            failure = request.lifetime.interruption or error_of_view(error)
            if failure.raised is not None:
                await signals.view_failed(request, failure)
            return problem_of(request, failure)
        return response

    return get_response


async def _asked(handler: Callable[[GatewayRequest], Any], request: GatewayRequest) -> Any:
    answer = handler(request)
    return await answer if inspect.isawaitable(answer) else answer


async def _called(hook: Callable[..., Any], *args: Any) -> Any:
    """The result of a hook; a synchronous one runs in the thread of the request."""
    return await hook(*args) if iscoroutinefunction(hook) else await in_thread(functools.partial(hook, *args))
