"""The view that answers a route and the cache before it, behind the team's own wrappers.

`functools.wraps` shows what a wrapper wraps; a wrapper without it counts as a view of its own.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from gateway.cache.view import Cached
from gateway.fanout.view import Fanout
from gateway.legacy.view import Legacy
from gateway.proxy.view import Proxy

# These decide about caching of the answer that leaves: a cache within them has stored it by then.
_ABOUT_CACHING = frozenset({"django.views.decorators.cache", "django.views.decorators.vary"})
# Middleware of Django that may be used as a wrapper, and after which an answer still suits other requests.
_HARMLESS = frozenset({"GZipMiddleware", "ConditionalGetMiddleware", "XFrameOptionsMiddleware", "SecurityMiddleware"})

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]  # a value of `wrap=`: takes a view and returns one


def layers(view: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A view and the views that it wraps, from the outside in."""
    seen: set[int] = set()
    while id(view) not in seen:
        yield view
        # Attributes of a team's own function below these are not views; nor is a class's `dispatch`.
        if isinstance(view, (Proxy, Fanout, Legacy)) or hasattr(view, "view_class"):
            return
        seen.add(id(view))
        view = view.view if isinstance(view, Cached) else getattr(view, "__wrapped__", view)


def without_caches(view: Callable[..., Any]) -> Callable[..., Any]:
    """A view without caches around it: decorators set attributes on the view, which a cache does not have."""
    return next(layer for layer in layers(view) if not isinstance(layer, Cached))


def innermost(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view that answers."""
    *_, last = layers(view)
    return last


def cache_of(view: Callable[..., Any]) -> Cached | None:
    """The cache before the view that answers, if it stays valid within its wrappers."""
    for layer in layers(view):
        if isinstance(layer, Cached):
            return layer
        if decorator_about_caching(layer) is not None:
            return None
    return None


def cache_behind(wrapped: Callable[..., Any], view: Callable[..., Any]) -> Cached | None:
    """The cache before the view that answers, if it stays valid within what `wrap=` put around `view`."""
    for layer in layers(wrapped):
        if layer is view:
            break
        if decorator_about_caching(layer) is not None:
            return None
    return cache_of(view)


def decorator_about_caching(layer: Callable[..., Any]) -> str | None:
    """The name of the decorator of Django's that made this wrapper, if it is about caching, or about one user."""
    if not inspect.isfunction(layer):
        return None
    module = layer.__globals__.get("__name__")
    if module in _ABOUT_CACHING:
        return layer.__code__.co_qualname.partition(".")[0]
    if module == "django.utils.decorators":
        # A wrapper of a middleware has it in a function that it calls before the view.
        calls = [call for call in inspect.getclosurevars(layer).nonlocals.values() if inspect.isfunction(call)]
        kinds = {type(inspect.getclosurevars(call).nonlocals.get("middleware")).__name__ for call in calls}
        return next(iter(sorted(kinds - _HARMLESS - {"NoneType"})), None)
    return None


def cache_problem(view: Callable[..., Any]) -> str | None:
    """Why a view that contains a cache is not stored, in words."""
    for layer in layers(view):
        if isinstance(layer, Cached):
            return None
        if (name := decorator_about_caching(layer)) is not None and any(
            isinstance(one, Cached) for one in layers(layer)
        ):
            return (
                f"{name} stands outside of cached(), which cannot see what it says of caching: nothing is stored; "
                "put it inside, cached(decorated(view))"
            )
    if any(isinstance(value, Cached) for value in _held_by(innermost(view))):
        return "what is wrapped around cached() hides it: nothing is stored; it needs functools.wraps(view)"
    return None


def _held_by(view: Callable[..., Any]) -> Iterator[object]:
    """The places where a wrapper without `functools.wraps` may keep its view."""
    if isinstance(view, functools.partial):
        yield from (view.func, *view.args, *view.keywords.values())
    for cell in getattr(view, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    if not inspect.isfunction(view) and not isinstance(view, (Proxy, Fanout, Legacy)):
        yield from getattr(view, "__dict__", {}).values()
