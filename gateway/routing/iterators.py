"""Functions of a team's own that give the instances of upstreams: `__FROM=discovery.odd`."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction

from gateway.routing.faults import RouteError, place_of
from gateway.upstreams.records import Upstream


def load_iterators(upstreams: Mapping[str, Upstream]) -> dict[str, Callable[[], Any]]:
    """The functions by their paths; none is called. Raises RouteError for one that returns no async iterator."""
    found: dict[str, Callable[[], Any]] = {}
    for upstream in upstreams.values():
        for source in upstream.sources:
            if source.kind == "python":
                found[source.name] = _loaded(f"{upstream.variable.removesuffix('_FILE')}={source.name}", source.name)
    return found


def _loaded(place: str, path: str) -> Callable[[], Any]:
    module, _, name = path.rpartition(".")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:
        raise RouteError(f"{place}: {place_of(error, module)}") from error
    if not callable(function):
        raise RouteError(f"{place}: it is no function: async def {name}(): yield ['http://10.0.0.7:8000']")
    if iscoroutinefunction(function):
        raise RouteError(f"{place}: it returns, and is asked but once; `yield` the list, each time that it changes")
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise RouteError(f"{place}: it is called without arguments: {error}") from None
    except ValueError:  # functions written in C may have no signature
        pass
    return function  # type: ignore[no-any-return]  # a team may write anything there
