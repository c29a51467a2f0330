"""`gateway serve`."""

import sys
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand

from gateway import telemetry
from gateway.__main__ import own_module
from gateway.config import Config
from gateway.management import NOT_OURS
from gateway.serve import AddressInUse, serve
from gateway.startup import examine


class Command(BaseCommand):
    help = "Start the gateway. All its settings come from the environment; `gateway check` tells if they are good."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute; `examine` runs them
    suppressed_base_arguments = NOT_OURS

    def handle(self, *args: Any, **options: Any) -> None:
        config: Config = settings.GATEWAY
        found = examine(config)
        for warning in found.warnings:
            self.stderr.write(f"gateway: warning: {warning}")
        if found.routes is None or found.problems:
            for problem in found.problems:
                self.stderr.write(f"gateway: {problem}")
            sys.exit(2)
        telemetry.configure(config.settings.log, config.settings.log_level)
        try:
            sys.exit(serve(config, found.routes, lambda: own_module("asgi").application))
        except AddressInUse as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(1)
