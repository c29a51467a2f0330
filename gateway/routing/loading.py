"""The environment for which a routes module is imported: a test's process has several."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from django.conf import settings

from gateway.routing.records import Declared, Route

# The name under which a routes module notes the wrappers of its calls of `from_environment()`.
WRAPS = "_gateway_wraps"
# The configuration for which a routes module is imported, during the import.
loading: ContextVar[Declared | None] = ContextVar("gateway_loading", default=None)


def routes_for(module: dict[str, Any], wrap: Any) -> Sequence[Route]:
    """The routes of the environment for a module. Its globals, `module`, note the wrapper.

    Empty where a test imports the module before it has made a gateway.
    """
    wraps = module.setdefault(WRAPS, [])
    if wrap not in wraps:
        wraps.append(wrap)
    declared = loading.get() or (settings.GATEWAY if settings.configured else None)
    return () if declared is None else declared.routes
