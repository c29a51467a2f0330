"""The gateway as a Django app."""

from django.apps import AppConfig


class GatewayConfig(AppConfig):
    """Its models are the cache's tables; its checks are `gateway check`'s."""

    name = "gateway"
    verbose_name = "Portway"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Django's apps are loaded: make the checks known."""
        from gateway.config.checks import register_checks

        register_checks()
