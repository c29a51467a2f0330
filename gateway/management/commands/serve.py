"""`gateway serve`."""

import sys
from typing import Any

from gateway.__main__ import own_module
from gateway.config.address import AddressInUse
from gateway.management import GatewayCommand
from gateway.observe import log
from gateway.server.granian import serve


class Command(GatewayCommand):
    help = """\
Start the gateway. All its settings come from the environment
(docs/configuration.md); `gateway check` tells whether they are good, `gateway
config` which hold. SIGTERM or Ctrl-C lets requests in flight end, a second
one does not."""
    epilog = """\
example:
  export GATEWAY_UPSTREAM_USERS='http://127.0.0.1:9001'
  export GATEWAY_ROUTE_USERS='/users/** -> users'
  gateway serve"""

    def handle(self, *args: Any, **options: Any) -> None:
        config, routes = self.checked(options["env_file"])
        log.take_streams()
        own = config.settings
        log.configure(own.log, own.log_level, packages=own.own_packages)
        try:
            sys.exit(serve(config, routes, own_module("asgi").build))
        except AddressInUse as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(1)
        finally:
            log.flush(1.0)
