"""Fan-out in Python: the parts are parameters of a function, and arrive as values of the types in its signature.

@fanout
async def home(user: Annotated[User, part("users:/users/{id}")],
               orders: Annotated[list[Order], part("orders:/orders?user={id}", default=[])]) -> Home: ...
"""

import copy
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, get_origin, get_type_hints, overload

import msgspec
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from gateway import units
from gateway.cache.options import cache_rule
from gateway.cache.policy import Rule
from gateway.fanout.options import OF_FAN, OF_PART
from gateway.fanout.plan import Fan, Part
from gateway.fanout.run import Gathering
from gateway.fanout.view import Fanout
from gateway.http.problem import error_of_view
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.http.settable import forwardable, settable
from gateway.http.view_result import finished, response_of
from gateway.legacy.bulkhead import in_thread
from gateway.legacy.parameters import NoSuchValue, Parameters, not_found
from gateway.legacy.view import Legacy
from gateway.options import check_name
from gateway.upstreams.options import Overrides, overrides
from gateway.upstreams.targets import PartTarget, function_target, parse_part

_UNSET: Final = object()
_OPTIONS: Final = {option.name: option for option in (*OF_FAN, *OF_PART)}
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class PartSpec:
    """The target and options of a part, as given to `part()`."""

    target: PartTarget
    function: Legacy | None
    timeout_s: float | None
    optional: bool
    default: Any
    method: str
    headers: tuple[tuple[str, str | None], ...]
    max_body_bytes: int
    cache: Rule | None


def part(
    target: str | Legacy,
    *,
    timeout: str | None = None,
    optional: bool = False,
    default: Any = _UNSET,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    max_body: str = "10MiB",
    cache: str | None = None,
) -> PartSpec:
    """A part of a fan-out, as in the environment: `part("orders:/orders?user={id}", timeout="300ms", default=[])`.

    With a default, or `optional` (then it is None), the response is sent without it. Raises ValueError; TypeError for a
    default that cannot be copied, since each failure copies it. `part(legacy(load_team))` calls a synchronous function;
    its parameters name parameters of the path and other parts.
    """
    if isinstance(target, Legacy) and (method != "GET" or headers or cache):
        raise ValueError("method, headers and cache mean nothing for a function")
    return PartSpec(
        target=function_target(target.__name__) if isinstance(target, Legacy) else parse_part(target),
        function=target if isinstance(target, Legacy) else None,
        timeout_s=None if timeout is None else _timeout(timeout),
        optional=optional or default is not _UNSET,
        default=None if default is _UNSET else copy.deepcopy(default),
        method=str(_checked("METHOD", method)),
        headers=tuple((settable(name), units.field_value(value)) for name, value in _fields(headers)),
        max_body_bytes=units.positive_size(max_body),
        cache=None if cache is None else cache_rule(cache),
    )


def _fields(headers: Mapping[str, str] | None) -> Iterable[tuple[str, str]]:
    given: Any = {} if headers is None else headers  # a person may write anything here
    if not isinstance(given, Mapping):
        raise ValueError(f"headers={given!r}: expected names and values, such as {{'x-tenant': 'acme'}}")
    return given.items()


def _timeout(text: str) -> float:
    try:
        return units.positive_duration(text)
    except ValueError as error:
        raise ValueError(f"timeout={text!r}: {error}") from None


class TypedFanout(Fanout, Generic[ParamsT, ResultT]):
    """An async Django view around a function with parts as parameters. `function` is the decorated one."""

    streams = False  # the client must not see what the function leaves out
    function: Callable[ParamsT, Coroutine[Any, Any, ResultT]]

    def __init__(
        self,
        function: Callable[ParamsT, Coroutine[Any, Any, ResultT]],
        specs: Mapping[str, PartSpec],
        hints: Mapping[str, Any],
        **options: Any,
    ) -> None:
        own: Overrides = options.pop("own")
        parts = tuple(_part_of(name, spec) for name, spec in specs.items())
        functions = {name: spec.function for name, spec in specs.items() if spec.function is not None}
        super().__init__(Fan(parts=parts, **options), own, function.__name__, functions)
        self.function = self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.decoders = {name: _Decoder(hints[name]) for name in specs}
        self.defaults = {name: _default_of(name, spec, hints[name]) for name, spec in specs.items()}
        # A parameter with a default is left to that default, unless the path has it.
        signature = inspect.signature(function)
        signature.bind(**dict.fromkeys(signature.parameters))
        self.others = {
            name: one.default is one.empty for name, one in signature.parameters.items() if name not in specs
        }
        self.reads_body |= "request" in self.others
        self._converts = Parameters(function)

    def problems(self, params: Sequence[str]) -> Iterator[str]:
        """Why it cannot serve a route with these path parameters."""
        yield from super().problems(params)
        for name, is_needed in self.others.items():
            if is_needed and name != "request" and name not in params:
                yield f"the parameter {name} of {self.__name__}() is neither a part nor in the path"
        for name in self.others:
            if name in params and (problem := self._converts.problem(name)) is not None:
                yield f"the parameter {name} of {self.__name__}() has a type that is of no use in a path: {problem}"

    async def serve(self, request: GatewayRequest, **params: Any) -> HttpResponseBase:
        try:
            self._converts.converted(params, texts_only=True)  # before any call
        except NoSuchValue as error:
            raise not_found(error) from None
        return await super().serve(request, **params)

    async def answer(self, request: GatewayRequest, gathering: Gathering) -> HttpResponseBase:
        values = {name: result.value for name, result in gathering.results.items()}
        raw = request.raw_values or {}
        of_path = {name: gathering.parameter(name) for name in raw if name != "request"}
        known = {"request": request, **self._converts.converted(of_path, texts_only=True)}
        function: Callable[..., Coroutine[Any, Any, ResultT]] = self.function
        thread = request.lifetime.enter_view_thread(request.lend)
        result = await function(**values, **{name: known[name] for name in self.others if name in known})
        if not isinstance(result, HttpResponseBase):
            if inspect.iscoroutine(result):
                response_of(result, self.function)  # raises TypeError
            return GatewayResponse(200, self.pairs(request, gathering), msgspec.json.encode(result))
        thread.holds(result)
        response = await finished(result, self.function, is_head=request.method == "HEAD", in_thread=in_thread)
        for key, value in self.pairs(request, gathering):
            name, text = key.decode("ascii"), value.decode("ascii")
            # The function may set these fields itself; not those about caching if a part is missing.
            own = {"content-type", "cache-control"} if gathering.is_complete else {"content-type"}
            if name == "vary":
                patch_vary_headers(response, text.split(", "))
            elif name not in own or not response.has_header(name):
                response[name] = text
        return response


class _Decoder:
    """Decodes a part's JSON. An exception in a `__post_init__` of the team's own counts as an error of the view."""

    def __init__(self, kind: Any) -> None:
        self._decode = msgspec.json.Decoder(kind).decode

    def decode(self, text: bytes) -> Any:
        """Raises DecodeError, RecursionError for JSON that is too deep, and GatewayError VIEW_ERROR."""
        try:
            return self._decode(text)
        except msgspec.DecodeError:
            raise
        except BaseException as error:
            frames = error.__traceback__
            if isinstance(error, RecursionError) and (frames is None or frames.tb_next is None):
                raise  # no Python below this: the JSON is too deep
            raise error_of_view(error) from None


def _default_of(name: str, spec: PartSpec, hint: Any) -> Any:
    """The default as the function will get it. Raises TypeError if it does not fit the type."""
    if not spec.optional:
        return None
    try:
        return msgspec.convert(spec.default, hint)
    except msgspec.ValidationError as error:
        advice = "; without one it is None: write `... | None`" if spec.default is None else ""
        raise TypeError(f"the default of the part {name} does not fit its type: {error}{advice}") from None


def _part_of(name: str, spec: PartSpec) -> Part:
    return Part(
        name=name,
        target=spec.target,
        optional=spec.optional,
        timeout_s=spec.timeout_s,
        method=spec.method,
        headers=spec.headers,
        max_body_bytes=spec.max_body_bytes,
        cache=spec.cache,
    )


class Decorator(Protocol):
    """The result of `fanout(timeout=...)`."""

    def __call__(
        self, function: Callable[ParamsT, Coroutine[Any, Any, ResultT]], /
    ) -> TypedFanout[ParamsT, ResultT]: ...


@overload
def fanout(function: Callable[ParamsT, Coroutine[Any, Any, ResultT]], /) -> TypedFanout[ParamsT, ResultT]: ...
@overload
def fanout(
    *,
    timeout: str = "30s",
    concurrency: int = 8,
    max_items: int = 100,
    passes: Sequence[int] = (),
    forward_headers: Sequence[str] = (),
) -> Decorator: ...
def fanout(
    function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    /,
    *,
    timeout: str = "30s",
    concurrency: int = 8,
    max_items: int = 100,
    passes: Sequence[int] = (),
    forward_headers: Sequence[str] = (),
) -> TypedFanout[..., Any] | Decorator:
    """Make a view of a function; its parameters are parts, path parameters, or `request`.

    Options are those of `GATEWAY_ROUTE_*`. The function's result becomes JSON: it may be a Struct, a dataclass, a
    TypedDict. Raises TypeError for a function that is not async or has no part, ValueError for options.
    """

    def decorate(function: Callable[ParamsT, Coroutine[Any, Any, ResultT]], /) -> TypedFanout[ParamsT, ResultT]:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(f"{function.__name__}() is synchronous: write `async def`; legacy() is for old code")
        hints = get_type_hints(function, include_extras=True)
        specs = {name: spec for name, hint in hints.items() if (spec := _spec_of(hint)) is not None}
        for name in specs:
            check_name(name.upper(), "part")
        if not specs:
            raise TypeError(
                f"{function.__name__}() has no part, as in user: Annotated[User, part('users:/users/{{id}}')]"
            )
        return TypedFanout(
            function,
            specs,
            hints,
            own=overrides({"timeout": timeout}),
            concurrency=_checked("CONCURRENCY", concurrency),
            max_items=_checked("MAX_ITEMS", max_items),
            passes=_checked("PASS", " ".join(map(str, passes))) if passes else frozenset(),
            forward=_names(forward_headers) or None,
        )

    return decorate if function is None else decorate(function)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of fields. Raises ValueError for a single text, in which each letter would count as a name."""
    if isinstance(given, str):
        raise ValueError(f"forward_headers={given!r}: expected a list of names, such as {[given]!r}")
    return tuple(forwardable(name) for name in given)


def _checked(name: str, value: object) -> Any:
    """Parse a value as in the environment. Raises ValueError."""
    try:
        return _OPTIONS[name].unit.parse(str(value))
    except ValueError as error:
        raise ValueError(f"{name.lower()}={value!r}: {error}") from None


def _spec_of(hint: Any) -> PartSpec | None:
    extras = getattr(hint, "__metadata__", ()) if get_origin(hint) is not None or hasattr(hint, "__metadata__") else ()
    return next((extra for extra in extras if isinstance(extra, PartSpec)), None)
