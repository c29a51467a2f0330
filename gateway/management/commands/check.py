"""`gateway check`."""

from typing import Any

from gateway.config.address import AddressInUse, resolved, try_bind
from gateway.management import Ours


class Command(Ours):
    help = """\
Validate what `gateway serve` would start with: the environment, the
certificates and the routes module. Prints every problem at once, and opens no
port, no upstream and no database. Exit code 0 if all is good, 2 if not."""
    epilog = """\
examples:
  gateway check
  gateway check --env-file production.env"""

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = self.sound(options["env_file"])
        try:
            try_bind((resolved(config.settings.bind)[0], 0))
        except AddressInUse as error:
            self.stderr.write(f"gateway: warning: on this machine: {error}")
        upstreams, lines = len(config.upstreams), len(routes.lines) + len(routes.others)
        said = f"The configuration is good: upstreams {upstreams}, routes {lines}."
        self.stdout.write(self.style.SUCCESS(said))
