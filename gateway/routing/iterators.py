"""Functions of a team's own that give the instances of upstreams: `__FROM=discovery.odd`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from asgiref.sync import iscoroutinefunction

from gateway.routing.faults import RouteError, added_to, loaded
from gateway.upstreams.records import Upstream


def load_iterators(upstreams: Mapping[str, Upstream], faults: list[str]) -> dict[str, Callable[[], Any]]:
    """The functions by their paths; none is called. Adds an error to `faults` for each that is no async iterator."""
    found: dict[str, Callable[[], Any]] = {}
    for upstream in upstreams.values():
        for source in upstream.sources:
            if source.kind == "python":
                with added_to(faults):
                    place = f"{upstream.variable.removesuffix('_FILE')}={source.name}"
                    found[source.name] = function = loaded(source.name, place)
                    _check(function, place, source.name.rpartition(".")[2])
    return found


def _check(function: Callable[..., Any], place: str, name: str) -> None:
    """Raises RouteError."""
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
