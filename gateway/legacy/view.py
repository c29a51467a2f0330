"""The view that calls old synchronous code, in a bulkhead.

Around the call, in the same thread: Django's connections, the answer's bytes, and a streaming answer's own iterator.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar, copy_context
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db.backends.signals import connection_created
from django.http.response import FileResponse, HttpResponseBase

from gateway import units
from gateway.errors import GatewayError, Reason
from gateway.http.any_request import GatewayView
from gateway.http.headers import Pair
from gateway.http.problem import error_of_view
from gateway.http.request import DEFAULT_MAX_BODY_BYTES, GatewayRequest
from gateway.http.response import GatewayResponse, pairs_of
from gateway.http.view_result import described, exactly, name_of_view, promised_bytes, rendered_in_thread, sendable
from gateway.http.view_thread import ViewThread, close_connections
from gateway.legacy.bulkhead import Bulkhead, Call
from gateway.legacy.options import OF_POOL, LegacyOptions
from gateway.legacy.parameters import NoSuchValue, Parameters, methods_of, not_found
from gateway.observe import steps
from gateway.options import Option, nearest

Answered = tuple[int, Sequence[Pair], bytes]


_JSON = (b"content-type", b"application/json")


# The database connections that the call in this context has made: most calls make none, and asking Django costs 5 us.
_opened: ContextVar[list[object]] = ContextVar("gateway_connections")


def _note_connection(connection: object, **_: Any) -> None:
    if (opened := _opened.get(None)) is not None:
        opened.append(connection)


connection_created.connect(_note_connection)


class Legacy(GatewayView):
    """An async Django view around a synchronous function. `bulkhead` is its pool, perhaps shared by name."""

    def __init__(self, function: Callable[..., Any], pool: str, own_name: bool, options: LegacyOptions) -> None:
        self.function = self.__wrapped__ = function
        self.__name__ = self.__qualname__ = str(getattr(function, "__name__", pool))
        self.__doc__ = function.__doc__
        self.own_name = own_name  # given by name=, so the pool is meant to be shared
        self.options = options
        self.bulkhead = Bulkhead(pool, options)
        self.max_body_bytes = DEFAULT_MAX_BODY_BYTES
        signature = _signature(function)
        self.parameters = signature.parameters if signature is not None else {}
        self.takes_request = "request" in self.parameters
        self._converts = Parameters(function)
        self._by_method = {name: Parameters(method) for name, method in (methods_of(function) or {}).items()}
        if signature is not None:  # route() checks it against its pattern
            self.__signature__ = _signature_of_view(signature)
        markcoroutinefunction(self)

    def __repr__(self) -> str:
        return f"<Legacy {self.__name__} in {self.bulkhead.name}>"

    def asks_for(self, parts: Iterable[str]) -> list[str]:
        """The parts that the function needs beside `parts`; parameters with a default may be missing."""
        known = set(parts)
        return [
            name
            for name, one in self.parameters.items()
            if name != "request"
            and one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}
            and (one.default is one.empty or name in known)
        ]

    async def serve(self, request: GatewayRequest, **params: Any) -> HttpResponseBase:
        try:
            values = self._by_method.get(request.method, self._converts).converted(params)
        except NoSuchValue as error:
            raise not_found(error) from None
        if not request.inbox.complete:
            request.inbox.max_bytes = self.max_body_bytes
            await (request.read_body() if self.takes_request else request.drop_body())
        return await self.answer(request, values, self.bulkhead.options.timeout_s)

    async def answer(self, request: GatewayRequest, values: dict[str, Any], timeout_s: float) -> HttpResponseBase:
        """Call the function in its pool. Raises GatewayError, and what the function raises."""
        call = Call(self.__name__, request.exchange.request_id, partial(self._work, values, request.method == "HEAD"))
        closers = request.lifetime.closers
        closers.append(call.close)
        if self.takes_request:
            values["request"] = request
            # A call that was given up may still read the files of its request.
            closers.append(partial(call.when_over, request.lend()))
        request.services.note_in_flight()
        run = self.bulkhead.run(call, timeout_s)
        if steps.traced is not None:
            attributes = {"portway.pool": self.bulkhead.name, "code.function.name": self.__name__}
            answer: HttpResponseBase = await steps.traced(f"legacy {self.bulkhead.name}", attributes, run)
        else:
            answer = await run
        if not isinstance(answer, GatewayResponse):  # an async iterator, which runs in the loop
            request.lifetime.enter_view_thread(request.lend).holds(answer)
        return answer

    async def as_service(self, request: GatewayRequest, params: Mapping[str, Any], timeout_s: float) -> Answered:
        """Status, field lines and body of the function's result. Exceptions such as Http404 become a status.

        Raises GatewayError: PART_INVALID for an answer that streams, and as `Bulkhead.run`; NoSuchValue.
        """
        values = self._converts.converted(params)
        try:
            answer = await self.answer(request, values, min(timeout_s, self.bulkhead.options.timeout_s))
        except GatewayError:
            raise
        except Exception as error:
            failure = error_of_view(error)
            if failure.status >= 500:
                raise failure from error
            return failure.status, (), b""
        if not isinstance(answer, GatewayResponse) or not isinstance(answer.body, bytes):
            raise GatewayError(Reason.PART_INVALID, "It streams.")
        return answer.status_code, answer.pairs, answer.body

    # -- in the thread --------------------------------------------------------------------------------------------

    def _work(self, values: Mapping[str, Any], is_head: bool, call: Call) -> HttpResponseBase:
        opened: list[object] = []
        _opened.set(opened)
        try:
            result = rendered_in_thread(self.function(**values))
            if not isinstance(result, HttpResponseBase):
                return GatewayResponse(200, [_JSON], self._encoded(result))
            result = sendable(result, self.function, is_head=is_head)
            if isinstance(result, GatewayResponse):
                return result
            if not result.streaming:
                answer = GatewayResponse(result.status_code, pairs_of(result), result.content)  # type: ignore[attr-defined]
                ViewThread.close_response(result)
                return answer
            if result.is_async:  # type: ignore[attr-defined]
                return result
            # The iterator may use objects of this thread, such as a database cursor, so it stays here.
            if isinstance(result, FileResponse):
                result.block_size = 64 * 1024  # each of Django's 4 KiB would be a switch of threads
            context = copy_context()
            call.rest, call.at_end = (
                partial(context.run, next, iter(result), None),
                partial(context.run, ViewThread.close_response, result),
            )
            pairs = pairs_of(result)
            body = exactly(self.bulkhead.pieces(call), promised_bytes(pairs))
            answer = GatewayResponse(result.status_code, pairs, body)
            if not self.takes_request:
                answer.relayed = body
            return answer
        finally:
            if opened and call.rest is None:
                close_connections()

    def _encoded(self, result: Any) -> bytes:
        if isinstance(result, (bytes, bytearray, memoryview)):
            raise TypeError(f"{self.__name__}() returned bytes: say what they are, HttpResponse(..., content_type=...)")
        if inspect.iscoroutine(result) or inspect.isasyncgen(result):
            raise TypeError(f"the function {name_of_view(self.function)} returned {described(result)}")
        return msgspec.json.encode(result, enc_hook=_listed)


def _listed(value: Any) -> Any:
    """Make lists of types that msgspec does not know: querysets, generators and deques."""
    if isinstance(value, Iterable) and not isinstance(value, (list, tuple)):
        return list(value)
    raise TypeError(f"a {type(value).__name__} cannot become JSON")


# -- what a function's signature says -----------------------------------------------------------------------------
def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except ValueError:  # functions written in C may have no signature
        return None


def _signature_of_view(signature: inspect.Signature) -> inspect.Signature:
    """The signature of the view: the request, and everything else by keyword."""
    request = inspect.Parameter("request", inspect.Parameter.POSITIONAL_ONLY)
    named = [
        one.replace(kind=one.KEYWORD_ONLY) if one.kind is one.POSITIONAL_OR_KEYWORD else one
        for one in signature.parameters.values()
        if one.name != "request" and one.kind is not one.VAR_POSITIONAL
    ]
    return inspect.Signature([request, *named])


# -- routes and pools ---------------------------------------------------------------------------------------------
def legacy(
    function: Callable[..., Any], threads: int = 4, queue: int = 16, timeout: str = "5s", name: str | None = None
) -> Legacy:
    """A view that calls a synchronous function in threads of its own: `legacy(build_report, threads=4, timeout="5s")`.

    The function gets the path's parameters by keyword, and `request` if it names it; it returns an HttpResponse, or a
    value that becomes JSON. `name` is the pool's, by default the function's name: functions that name the same pool
    share it. Raises TypeError for anything but a synchronous function, ValueError for options.
    """
    if not callable(function):
        raise TypeError(f"legacy({function!r}): give it the function itself")
    own = str(getattr(function, "__name__", type(function).__name__))
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise TypeError(f"{own}() is async: it is a view already, and needs no legacy()")
    try:
        pool = units.name(name if name is not None else own.strip("_").lower())
    except ValueError as error:
        raise ValueError(f"legacy({own}): {error}; name the pool: legacy(..., name='reports')") from None
    given: dict[str, object] = {"threads": threads, "queue": queue, "timeout": timeout}
    values = {f"{option.attribute}": _value(option, given[option.name.lower()]) for option in OF_POOL}
    return Legacy(function, pool, name is not None, LegacyOptions(**values))


def _value(option: Option, value: object) -> Any:
    try:
        return option.unit.parse(str(value))
    except ValueError as error:
        raise ValueError(f"{option.name.lower()}={value!r}: {error}") from None


def assign_pools(
    views: Iterable[tuple[str, Legacy]], options: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Bulkhead], list[str]]:
    """Give every view its pool, with the options of the environment; returns the pools by name, and conflicts.

    `views` are pairs of place and view. Views of one function share a pool, and so do those that name the same one.
    """
    firsts: dict[str, tuple[str, Legacy]] = {}
    pools: dict[str, Bulkhead] = {}
    problems = []
    for origin, view in views:
        name = view.bulkhead.name
        first, other = firsts.setdefault(name, (origin, view))
        if view.function is not other.function and not (view.own_name and other.own_name):
            problems.append(f"{origin}: {first} has a legacy pool {name} too; name one of them: legacy(..., name=...)")
        elif view.options != other.options:
            problems.append(f"{origin}: the legacy pool {name} has other options than at {first}")
        elif name not in pools:
            pools[name] = Bulkhead(name, replace(view.options, **options.get(name, {})))
        view.bulkhead = pools.get(name, view.bulkhead)
    for name in options.keys() - pools.keys():
        near = nearest(name, pools).upper()
        for option in OF_POOL:
            if option.attribute in options[name]:
                hint = f"; did you mean GATEWAY_LEGACY_{near}__{option.name}?" if near else ""
                problems.append(f"GATEWAY_LEGACY_{name.upper()}__{option.name}: there is no legacy pool {name}{hint}")
    return pools, sorted(problems)
