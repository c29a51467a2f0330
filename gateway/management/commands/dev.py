"""`gateway dev`."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings

from gateway.config.address import AddressInUse, resolved, try_bind
from gateway.config.checks import examine
from gateway.management import GatewayCommand
from gateway.management.dev import Broken, DevHandler
from gateway.observe import log
from gateway.observe.log import request_logger
from gateway.reload.folder import CHANGED
from gateway.server.granian import announce, serve_here
from gateway.text import plain_lines


class Command(GatewayCommand):
    help = """\
Serve while you write: one process, a log for people, and whenever a file of
this folder is saved, it starts again within half a second.

gateway.env of the folder is read unasked, beneath the environment. What is
wrong with it or with the routes module stands in the terminal, and is the
answer to every request until it is mended. A view that fails answers with
where in your code it did. breakpoint() opens the debugger in this terminal."""
    epilog = """\
examples:
  gateway dev
  GATEWAY_BIND=127.0.0.1:9000 gateway dev --env-file dev.env"""

    def handle(self, *args: Any, **options: Any) -> None:
        config = settings.GATEWAY
        own = config.settings
        log.configure(own.log, own.log_level, packages=own.own_packages)
        found = examine(config)
        for warning in found.warnings:
            self.stderr.write(f"gateway: warning: {plain_lines(warning)}")
        routes = found.routes
        if found.problems or routes is None:
            serve_broken("\n".join(found.problems))
        address = resolved(config.settings.bind)
        try:
            try_bind(address)  # Granian shares it with another gateway, and reports any other process by a backtrace
        except AddressInUse as error:
            self.stderr.write(f"gateway: {error}")
            sys.exit(1)
        if changed := os.environ.pop(CHANGED, ""):
            log.log.info("reload.done", files=changed.split(os.pathsep))
        else:
            announce(config, routes, address)
        serve_here(DevHandler(config, routes, [request_logger()]), address)
        sys.exit(0)


def serve_broken(problems: str) -> NoReturn:
    """Print the problems, and answer with them until a file is saved. Does not return."""
    sys.stderr.write(f"gateway: {plain_lines(problems)}\ngateway: waiting for a file to be saved\n")
    sys.stderr.flush()
    host, _, port = os.environ.get("GATEWAY_BIND", "127.0.0.1:8000").rpartition(":")
    address = (host.strip("[]") or "127.0.0.1", int(port) if port.isdigit() else 8000)
    try:
        try_bind(resolved(address))
        serve_here(Broken(problems), resolved(address))
    except (AddressInUse, OSError) as error:
        sys.stderr.write(f"gateway: {error}\n")
    sys.exit(2)


def folder_env() -> list[str]:
    """gateway.env, if the folder has one."""
    return ["gateway.env"] if Path("gateway.env").is_file() else []
