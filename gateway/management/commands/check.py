"""`gateway check`: Django's command of that name, which runs the gateway's checks too."""

import asyncio
import sys
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.management import CommandError, CommandParser
from django.core.management.commands.check import Command as DjangoCommand

from gateway.config.address import AddressInUse, resolved, try_bind
from gateway.config.checks import Selection, known_tags
from gateway.config.describe import own_file_of
from gateway.management import GatewayCommand
from gateway.management.connect import are_good, connect
from gateway.text import aligned, plain, plain_lines


class Command(GatewayCommand):
    help = """\
Validate what `gateway serve` would start with: the environment, the
certificates and the routes module, and what Django and its apps check. Prints
every problem at once, and opens no port, no upstream and, without --database,
no database. With --connect each endpoint is looked up, connected to and, where
it has a health path, asked. Exit code 0 if all is good, 2 if not, 1 if an
endpoint cannot be used."""
    epilog = """\
examples:
  gateway check
  gateway check --env-file production.env
  gateway check --connect
  gateway check --tag routes --tag models
  gateway check --deploy --fail-level WARNING"""
    is_typed = False

    def add_arguments(self, parser: CommandParser) -> None:
        DjangoCommand.add_arguments(self, parser)
        parser.add_argument("--connect", action="store_true", help="try to reach every endpoint, from here")

    def run_from_argv(self, argv: list[str]) -> None:
        self.is_typed = True
        super().run_from_argv(argv)

    def handle(self, *labels: str, **options: Any) -> None:
        deploy = options["deploy"]
        known = known_tags(deploy=deploy)
        if options["list_tags"]:
            self.stdout.write("\n".join(sorted(known)))
            return
        tags = options["tags"] and frozenset(options["tags"])
        for tag in tags or ():
            if tag not in known:
                raise CommandError(f"there is no check with the tag {tag}; `gateway check --list-tags` shows them")
        selection = Selection(
            apps=[apps.get_app_config(label) for label in labels] or None,
            tags=tags or None,
            deploy=deploy,
            databases=options["databases"],
            fail_level=getattr(checks, options["fail_level"]),
            needs_routes=self.is_typed and not tags and not labels,
        )
        if selection.needs_routes:
            self._whole(options["env_file"], selection)
            if options["connect"]:
                self._connect()
        else:
            found = self.examined(options["env_file"], selection)
            self.stdout.write(self.style.SUCCESS(f"The checks found no problem ({found.silenced} silenced)."))

    def _connect(self) -> None:
        """Whether every endpoint can be reached from here; exit code 1 if not."""
        tried = asyncio.run(connect(settings.GATEWAY.upstreams))
        lines = aligned([one.row for one in tried]).splitlines()
        for line, one in zip(lines, tried, strict=True):
            self.stdout.write((self.style.ERROR if one.fault else str)(plain_lines(line)))
        if not are_good(tried):
            sys.exit(1)

    def _whole(self, env_files: list[str], selection: Selection) -> None:
        """Whether `gateway serve` would start."""
        config, routes = settings.GATEWAY, self.examined(env_files, selection).routes
        try:
            try_bind((resolved(config.settings.bind)[0], 0))
        except AddressInUse as error:
            self.stderr.write(f"gateway: warning: on this machine: {error}")
        upstreams = len(config.upstreams)
        count = 0 if routes is None else len(routes.routes) + len(routes.others)
        file = own_file_of(config.settings.urlconf)
        by = f", of {plain(file)}" if file else ""
        self.stdout.write(self.style.SUCCESS(f"The configuration is good: upstreams {upstreams}, routes {count}{by}."))
