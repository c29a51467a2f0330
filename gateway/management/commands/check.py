"""`gateway check`."""

from typing import Any

from django.core.management import BaseCommand

from gateway.management import NOT_OURS, sound


class Command(BaseCommand):
    help = "Validate the environment and the routes module, and run Django's own checks; exit 0 or 2."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute; `sound` runs them
    suppressed_base_arguments = NOT_OURS

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = sound(self)
        upstreams, lines = len(config.upstreams), len(routes.lines) + len(routes.others)
        self.stdout.write(f"The configuration is good: upstreams {upstreams}, routes {lines}.")
