"""The routes module, named by GATEWAY_URLCONF, becomes Routes."""

import importlib
from collections.abc import Sequence
from types import ModuleType
from weakref import WeakKeyDictionary

from django.urls import URLPattern, URLResolver

from gateway.routing.entries import GatewayRoute
from gateway.routing.faults import RouteError, noting, place_of
from gateway.routing.loading import WRAPS, loading
from gateway.routing.records import Declared
from gateway.routing.urls import FaultyRoute, Routes, routes_of
from gateway.routing.worker_start import names_of_new, threads_now

UrlPatterns = Sequence[URLPattern | URLResolver]

# Faults that were noted while a module was imported, which happens once in a process.
_noted: WeakKeyDictionary[ModuleType, tuple[str, ...]] = WeakKeyDictionary()


def load_routes(declared: Declared) -> Routes:
    """Import the module named by GATEWAY_URLCONF and compile it.

    Raises RouteError with a line for each fault and its place. A fault that stops the import hides those after it.
    """
    name, before, routes = declared.urlconf, threads_now(), None
    with noting() as faults:
        try:
            module = _imported(name, declared)
            if faults:
                _noted[module] = tuple(faults)
            else:
                faults.extend(_noted.get(module, ()))
            urlpatterns, wrong = _urlpatterns(module)
            faults.extend(wrong)
            if not _are_of(urlpatterns, declared):
                faults[:] = [fault for fault in faults if not fault.startswith("GATEWAY_")]
                urlpatterns = _patterns_for(module, urlpatterns, declared)
            urlpatterns = [one for one in urlpatterns if not isinstance(one, FaultyRoute)]
            routes = Routes(urlpatterns, declared, names_of_new(before))
        except RouteError as error:
            faults.append(str(error))
        except ModuleNotFoundError as error:
            faults.append(_missing(error, name))
        except KeyboardInterrupt:  # Ctrl-C
            raise
        except BaseException as error:  # noqa: BLE001 - a module may raise anything, as CancelledError of its own loop
            faults.append(place_of(error, name))
    if routes is None or faults:
        raise RouteError("\n".join(faults))
    return routes


def _imported(name: str, declared: Declared) -> ModuleType:
    token = loading.set(declared)
    try:
        return importlib.import_module(name)
    finally:
        loading.reset(token)


def _are_of(urlpatterns: UrlPatterns, declared: Declared) -> bool:
    """Whether the environment's routes among these come from this environment. A test's process has several, but
    imports a module once."""
    known = {id(one) for one in declared.routes}
    given = {id(one.given) for one in urlpatterns if isinstance(one, GatewayRoute) and one.given is not None}
    return given <= known and (bool(given) or not known)


def _patterns_for(module: ModuleType, urlpatterns: UrlPatterns, declared: Declared) -> UrlPatterns:
    """The urlpatterns of a module, with the environment's routes replaced by those of this environment."""
    own = [one for one in urlpatterns if not (isinstance(one, GatewayRoute) and one.is_of_environment)]
    made = [one for wrap in vars(module).get(WRAPS, ()) for one in routes_of(declared.routes, wrap)]
    return [*made, *own]


def _missing(error: ModuleNotFoundError, name: str) -> str:
    if error.name is None or not f"{name}.".startswith(f"{error.name}."):
        return place_of(error, name)
    hint = f"; without .py: {name.removesuffix('.py')}" if name.endswith(".py") else ""
    return f"GATEWAY_URLCONF={name}: there is no module of that name{hint}"


def _urlpatterns(module: ModuleType) -> tuple[UrlPatterns, Sequence[str]]:
    """The entries, those of a list within the list too, and what is wrong there. Raises RouteError without a list."""
    name = f"{module.__name__}.py"
    urlpatterns = getattr(module, "urlpatterns", None)
    if not isinstance(urlpatterns, (list, tuple)):
        raise RouteError(f"{name} defines no list urlpatterns")
    entries: list[URLPattern | URLResolver] = []
    faults: list[str] = []
    for one in urlpatterns:
        if isinstance(one, list):
            faults.append(f"{name}: urlpatterns holds a list; write a star before it: *from_environment()")
            entries += (entry for entry in one if isinstance(entry, (URLPattern, URLResolver)))
        elif isinstance(one, (URLPattern, URLResolver)):
            entries.append(one)
        else:
            faults.append(f"{name}: urlpatterns holds {one!r}, which is no route() or path() line")
    return entries, faults
