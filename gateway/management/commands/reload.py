"""`gateway reload`: the running gateway reads its configuration again."""

import sys
from typing import Any

from django.conf import settings
from django.core.management import CommandParser

from gateway.management import GatewayCommand
from gateway.management.running import ask
from gateway.text import plain_lines

# A reload takes up to a minute, and waits for one that is under way.
_WITHIN_S = 150.0
_CODES = {"done": 0, "refused": 2}


class Command(GatewayCommand):
    help = """\
Have the gateway that runs here read its env file, its routes module, its
secrets and certificates again, and wait for what comes of it. What is wrong
with them is printed, and the old ones hold; else a new generation takes over,
and no request is lost. `gateway diff` shows what would change.

The environment of a process never changes: only what its files say does. What
takes a restart is GATEWAY_BIND, GATEWAY_WORKERS, GATEWAY_DATABASE_URL, and TLS
on or off. Exit code 0: done; 2: refused, something is wrong; 1: all else."""
    epilog = """\
examples:
  gateway reload --env-file gateway.env
  gateway reload --url http://10.0.0.7:8000"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="", help="of another gateway than the one on GATEWAY_BIND")

    def handle(self, *args: Any, **options: Any) -> None:
        found = ask(settings.GATEWAY.settings, "POST", "/-/reload", options["url"], _WITHIN_S, member="outcome")
        for problem in found["problems"]:
            self.stderr.write(f"gateway: {plain_lines(problem)}")
        if found["outcome"] == "done":
            self.stdout.write(f"Reloaded: generation {found['generation']}.")
        else:
            outcome, serves = _WORDS[found["outcome"]], found["generation"]
            self.stderr.write(f"gateway: the reload {outcome}; generation {serves} goes on")
        sys.exit(_CODES.get(found["outcome"], 1))


_WORDS = {"refused": "is refused", "failed": "failed"}
