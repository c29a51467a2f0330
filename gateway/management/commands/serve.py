"""`gateway serve`."""

import sys
from typing import Any

from django.core.management import BaseCommand

from gateway import telemetry
from gateway.__main__ import own_module
from gateway.management import NOT_OURS, sound
from gateway.serve import AddressInUse, serve


class Command(BaseCommand):
    help = "Start the gateway. All its settings come from the environment; `gateway check` tells if they are good."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute; `sound` runs them
    suppressed_base_arguments = NOT_OURS

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = sound(self)
        telemetry.configure(config.settings.log, config.settings.log_level)
        try:
            sys.exit(serve(config, routes, lambda: own_module("asgi").application))
        except AddressInUse as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(1)
