"""The management commands of Portway."""

import sys

from django.conf import settings
from django.core.management import BaseCommand

from gateway.config import Config
from gateway.routing import Routes
from gateway.startup import examine

# Options that every Django command takes and that say nothing to who runs a gateway: kept out of its --help.
NOT_OURS: set[str] = {
    "--version",
    "--verbosity",
    "--settings",
    "--pythonpath",
    "--traceback",
    "--no-color",
    "--force-color",
    "--skip-checks",
}


def sound(command: BaseCommand) -> tuple[Config, Routes]:
    """The configuration and the routes, if they can be served; else all problems on stderr, and exit code 2."""
    config: Config = settings.GATEWAY
    found = examine(config)
    for warning in found.warnings:
        command.stderr.write(f"gateway: warning: {warning}")
    for problem in found.problems:
        command.stderr.write(f"gateway: {problem}")
    if found.problems or found.routes is None:
        sys.exit(2)
    return config, found.routes
