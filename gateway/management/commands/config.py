"""`gateway config`."""

import os
from typing import Any

from gateway.__main__ import read_text
from gateway.config import effective, environment
from gateway.management import GatewayCommand
from gateway.text import aligned


class Command(GatewayCommand):
    help = """\
Print the effective configuration: every variable with the value that holds,
and whether that is the default, was set in the environment, or was read from
the file that its _FILE twin names. Secrets are masked. What a route does not
say is its upstream's; `gateway explain` shows what holds for one request."""
    epilog = """\
examples:
  gateway config
  gateway config | grep -v ' default$'"""

    def handle(self, *args: Any, **options: Any) -> None:
        groups = effective.effective(environment.read(os.environ, read_text).entries)
        rows = [row for group in groups for row in group]
        lines = iter(aligned([["VARIABLE", "VALUE", "FROM"], *map(list, rows)], indent="").splitlines())
        self.stdout.write(self.style.MIGRATE_LABEL(next(lines)))
        for number, group in enumerate(groups):
            if number:
                self.stdout.write()
            for row in group:
                line = next(lines)
                self.stdout.write(line if row.origin == "default" else self.style.MIGRATE_LABEL(line))
