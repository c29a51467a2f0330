"""`gateway check`."""

import sys
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand

from gateway.config import Config
from gateway.management import NOT_OURS
from gateway.startup import examine


class Command(BaseCommand):
    help = "Validate the environment and the routes module, and run Django's own checks; exit 0 or 2."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute; `examine` runs them
    suppressed_base_arguments = NOT_OURS

    def handle(self, *args: Any, **options: Any) -> None:
        config: Config = settings.GATEWAY
        found = examine(config)
        for warning in found.warnings:
            self.stderr.write(f"gateway: warning: {warning}")
        for problem in found.problems:
            self.stderr.write(f"gateway: {problem}")
        if found.problems or found.routes is None:
            sys.exit(2)
        upstreams, routes = len(config.upstreams), len(found.routes.lines) + len(found.routes.others)
        self.stdout.write(f"The configuration is good: upstreams {upstreams}, routes {routes}.")
