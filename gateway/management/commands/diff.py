"""`gateway diff`: the changes that a reload would make."""

import sys
from typing import Any

from django.core.management import CommandParser

from gateway.config.describe import rows
from gateway.config.fingerprint import fingerprint
from gateway.management import GatewayCommand, difference
from gateway.management.running import ask
from gateway.server.ops import configuration_rows
from gateway.text import aligned


class Command(GatewayCommand):
    help = """\
Compare the configuration that is here (environment, --env-file, routes module)
with the one of the gateway that runs on GATEWAY_BIND, and print what a reload
would change: + comes, - goes; a changed value is one of each. ~ is a secret
with another value, which stays masked. What views do is not compared. Nothing
is changed.

Exit code 0: no change; 3: some; 2: what is here is wrong; 1: none runs."""
    epilog = """\
examples:
  gateway diff --env-file gateway.env
  gateway diff --env-file gateway.env; gateway reload"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="", help="of another gateway than the one on GATEWAY_BIND")

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = self.checked(options["env_file"])
        running = ask(config.settings, "GET", "/-/status", options["url"], member="config")
        here = configuration_rows(config, running.get("pid", 0))
        lines = [
            *difference.of_variables(running["config"], here),
            *difference.of_routes(running["routes"], rows(routes)),
        ]
        lines += difference.of_hashes(lines, running.get("config_hash", ""), fingerprint(config, routes))
        if not lines:
            self.stdout.write("No change.")
            return
        self.stdout.write(aligned([list(line) for line in lines], indent=""))
        sys.exit(3)
