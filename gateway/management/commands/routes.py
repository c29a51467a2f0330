"""`gateway routes`."""

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management import BaseCommand, CommandParser

from gateway.management import NOT_OURS
from gateway.routing import RouteError, load_routes
from gateway.startup import NO_ROUTES, aligned, rows


class Command(BaseCommand):
    help = "The effective routing table: each pattern as written, where it leads, and where it came from."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's attribute
    suppressed_base_arguments = NOT_OURS

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            table = rows(load_routes(settings.GATEWAY))
            if not table:
                raise RouteError(NO_ROUTES)
        except RouteError as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(2)
        if options["json"]:
            self.stdout.write(json.dumps(table, indent=2))
            return
        head = [["PATTERN", "TARGET", "NAME", "FROM"]]
        self.stdout.write(aligned(head + [list(row.values()) for row in table], indent=""))
