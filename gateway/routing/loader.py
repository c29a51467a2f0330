"""The routes module, named by GATEWAY_URLCONF, becomes Routes."""

import importlib
from collections.abc import Sequence
from types import ModuleType

from django.urls import URLPattern, URLResolver

from gateway.routing.faults import RouteError, place_of
from gateway.routing.records import Declared
from gateway.routing.urls import Routes
from gateway.routing.worker_start import names_of_new, threads_now


def load_routes(declared: Declared) -> Routes:
    """Import the module named by GATEWAY_URLCONF and compile it. Raises RouteError, with the place, for any fault."""
    name, before = declared.urlconf, threads_now()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise RouteError(place_of(error, name)) from error
        hint = f"; without .py: {name.removesuffix('.py')}" if name.endswith(".py") else ""
        raise RouteError(f"GATEWAY_URLCONF={name}: there is no module of that name{hint}") from error
    except (Exception, SystemExit) as error:
        raise RouteError(place_of(error, name)) from error
    return Routes(_urlpatterns(module), declared, names_of_new(before))


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
