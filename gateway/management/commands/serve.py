"""`gateway serve`."""

import os
import sys
from functools import partial
from typing import Any

from django.core.management import CommandError

from gateway.__main__ import own_module
from gateway.config.address import AddressInUse
from gateway.management import GatewayCommand
from gateway.observe import log
from gateway.reload import line
from gateway.reload.facts import facts_of
from gateway.server.granian import serve


class Command(GatewayCommand):
    help = """\
Start the gateway. All its settings come from the environment
(docs/configuration.md), and from the files of --env-file beneath it; `gateway
check` tells whether they are good, `gateway config` which hold. SIGTERM or
Ctrl-C lets requests in flight end, a second one does not.

SIGHUP, `gateway reload` or, with GATEWAY_RELOAD=watch, a changed file make it
read the files again: what is wrong with them is logged, and the old ones hold;
else a new generation takes over, and no request is lost."""
    epilog = """\
examples:
  export GATEWAY_UPSTREAM_USERS='http://127.0.0.1:9001'
  export GATEWAY_ROUTE_USERS='/users/** -> users'
  gateway serve

  gateway serve --env-file gateway.env"""

    def handle(self, *args: Any, **options: Any) -> None:
        own = line.current
        if own is None:
            raise CommandError("it has a parent process, which only `gateway serve` on a command line starts")
        config, routes = self.checked(options["env_file"])
        settings = config.settings
        warnings = own.release_stderr()
        if own.is_first:
            log.take_streams()
        log.configure(settings.log, settings.log_level, packages=settings.own_packages)
        facts = partial(facts_of, config, routes, os.environ, options["env_file"], warnings)
        try:
            sys.exit(serve(config, routes, own_module("asgi").build, own, facts))
        except AddressInUse as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(1)
        finally:
            log.flush(1.0)
