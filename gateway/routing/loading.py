"""Which environment a routes module is imported for, and what it makes of that: a test's process has several."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from django.conf import settings

from gateway.routing.records import Declared, Route

# Where a routes module notes the wrappers that it has called `from_environment()` with.
WRAPS = "_gateway_wraps"
# What a routes module is imported for, while it is.
loading: ContextVar[Declared | None] = ContextVar("gateway_loading", default=None)


def routes_for(module: dict[str, Any], wrap: Any) -> Sequence[Route]:
    """The routes of the environment for a module, by its globals, which note the wrapper that it gives them.

    Empty where a test imports the module before it has made a gateway.
    """
    wraps = module.setdefault(WRAPS, [])
    if wrap not in wraps:
        wraps.append(wrap)
    declared = loading.get() or (settings.GATEWAY if settings.configured else None)
    return () if declared is None else declared.routes
