"""`gateway routes`."""

import json
import sys
from typing import Any

from django.conf import settings
from django.core.management import CommandParser

from gateway.config.checks import NO_ROUTES
from gateway.config.describe import rows
from gateway.management import GatewayCommand
from gateway.routing.faults import RouteError
from gateway.routing.loader import load_routes
from gateway.text import aligned, plain_lines


class Command(GatewayCommand):
    help = """\
Print the effective routing table: each pattern as written, where it leads, the
name that stands in the log, where it was written, and the options set for it.
What it has from its upstream or from plain variables is told by --json.
Order says nothing: the most specific route gets a request."""
    epilog = """\
examples:
  gateway routes
  gateway routes --json | jq -r '.[] | select(.options.timeout) | .name'"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            table = rows(load_routes(settings.GATEWAY.declared))
            if not table:
                raise RouteError(NO_ROUTES)
        except RouteError as error:
            self.stderr.write(f"gateway: {plain_lines(str(error))}")
            sys.exit(2)
        if options["json"]:
            self.stdout.write(json.dumps(table, indent=2))
            return
        lines = [["PATTERN", "TARGET", "NAME", "FROM", "OPTIONS"]]
        for row in table:
            words = [f"{name}={value}" for name, value in row.pop("options").items()]
            del row["inherited"]  # too much for a line
            lines.append([*row.values(), " ".join(words)])
        if not any(line[-1] for line in lines[1:]):
            lines = [line[:-1] for line in lines]
        head, *rest = aligned(lines, indent="").splitlines()
        self.stdout.write(self.style.MIGRATE_LABEL(head))
        self.stdout.write("\n".join(rest))
