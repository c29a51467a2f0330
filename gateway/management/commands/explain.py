"""`gateway explain`."""

import asyncio
from typing import Any

from django.core.management import CommandError, CommandParser

from gateway.management import GatewayCommand
from gateway.text import aligned, plain


class Command(GatewayCommand):
    help = """\
Tell what the gateway would do with a request, and why: the route and those
that lose to it, the URL and the headers that go up, timeouts and where they
are written, retries, the cache, and the parts of a fan-out in their order.
It reads the configuration as `gateway serve` does, and sends nothing."""
    epilog = """\
examples:
  gateway explain GET '/users/3?full=1'
  gateway explain POST https://api.example.com/orders -H 'X-Tenant: acme'
  gateway explain GET /home/2 --env-file production.env"""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("method", metavar="METHOD", help="GET, POST, ...")
        parser.add_argument(
            "target", metavar="PATH-OR-URL", help="what the client asks for, percent-encoded, with query"
        )
        parser.add_argument(
            *("-H", "--header"),
            action="append",
            default=[],
            metavar="'NAME: VALUE'",
            help="a header of the request, such as 'Host: api.example.com'; may be given more than once",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        from gateway.management import (
            command_line,
            explain,  # it imports all that serves, which the other commands do not need
        )

        config, routes = self.checked(options["env_file"])
        try:
            scope = command_line.scope_of(options["method"], options["target"], options["header"], config.settings.bind)
        except ValueError as error:
            raise CommandError(str(error)) from None
        sections = asyncio.run(explain.explain(config, routes, scope))
        for number, section in enumerate(sections):
            self.stdout.write(("\n" if number else "") + self.style.MIGRATE_LABEL(plain(section.title)))
            self.stdout.write(aligned(section.rows))
