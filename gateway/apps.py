"""The gateway as a Django app."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from django.apps import AppConfig
from django.http import HttpRequest

View = Callable[..., Awaitable[Any]]


class GatewayConfig(AppConfig):
    """Its models are the cache's tables; its checks are `gateway check`'s."""

    name = "gateway"
    verbose_name = "Portway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Django's apps are loaded: register the checks, and how views answer plain Django requests."""
        from gateway.config.checks import register_checks
        from gateway.http.any_request import adopt_with

        register_checks()
        adopt_with(_adopt)


async def _adopt(view: View, request: HttpRequest, args: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
    from gateway.server import in_process  # it imports the server room, which only tests need here

    return await in_process.call(view, request, args, params)
