"""The commands, explain.

command_line       a request as it is written on a command line
dev                answers of `gateway dev` where a view or the configuration fails
difference         the changes that a reload would make
project            the files of a project of one's own
running            requests to the running gateway
explain            what would happen to a request, and why; nothing is sent
explain_call       a proxied request on its way up
explain_fanout     the parts of a fan-out in their order
explain_route      the same for a sample request of a route, for its page
explain_auth       whether a client would be let in, and why
connect            `check --connect`: endpoints are tried
completion         scripts that complete the commands in shells
commands/auth      `gateway auth`
commands/check     `gateway check`
commands/completion  `gateway completion`
commands/config    `gateway config`
commands/routes    `gateway routes`
commands/dev       `gateway dev`
commands/diff      `gateway diff`
commands/explain   `gateway explain`
commands/cache     `gateway cache`
commands/init      `gateway init`
commands/limits    `gateway limits`
commands/reload    `gateway reload`
commands/serve     `gateway serve`
commands/import    `gateway import`
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from django.conf import settings
from django.core.management import BaseCommand, CommandError, CommandParser

from gateway.__main__ import read_env_files
from gateway.config.checks import Findings, Selection, examine
from gateway.config.env_file import located
from gateway.config.records import Config
from gateway.routing.urls import Routes
from gateway.text import plain_lines


class _Parser(CommandParser):
    def error(self, message: str) -> NoReturn:
        """Wrong usage of a command ends with 1: 2 is for the configuration."""
        self.exit(1, f"{self.format_usage()}gateway: {plain_lines(message)}\n")


def add_env_file(parser: argparse.ArgumentParser, default: Any = argparse.SUPPRESS) -> None:
    """The option that every command has, and every verb of one."""
    parser.add_argument(
        "--env-file",
        action="append",
        default=default,
        metavar="FILE",
        help="read variables from FILE, beneath the environment: what that sets wins. As `docker run --env-file` "
        "reads it: KEY=VALUE lines, # comments, quotes are part of the value; may be given more than once",
    )


class GatewayCommand(BaseCommand):
    """A command of Portway, without the options of Django that mean nothing to people who run a gateway."""

    epilog = ""
    stealth_options = ("verbosity", "settings", "pythonpath", "traceback", "skip_checks")  # for `call_command`
    reads_env_file = True

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = _Parser(
            prog=f"{Path(prog_name).name} {subcommand}",
            description=self.help,
            epilog=self.epilog or None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_arguments(parser)
        if self.reads_env_file:
            add_env_file(parser, [])
        # BaseCommand reads the values of its own options.
        plain = os.environ.get("NO_COLOR", "") != ""  # no-color.org
        parser.set_defaults(settings=None, pythonpath=None, traceback=False, verbosity=1, skip_checks=True)
        parser.set_defaults(no_color=plain, force_color=False)
        return parser

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except CommandError as error:
            self.stderr.write(f"gateway: {plain_lines(str(error))}")
            sys.exit(error.returncode)

    def examined(self, env_files: list[str], selection: Selection) -> Findings:
        """The findings of the selected checks without a problem; else all problems go to stderr, with exit code 2."""
        found, read = examine(settings.GATEWAY, selection), read_env_files(env_files)
        read.held_by(os.environ)
        for warning in (*read.warnings, *found.warnings):
            self.stderr.write(f"gateway: warning: {plain_lines(located(warning, read.places))}")
        for problem in found.problems:
            self.stderr.write(f"gateway: {plain_lines(located(problem, read.places))}")
        if found.problems:
            sys.exit(2)
        return found

    def checked(self, env_files: list[str]) -> tuple[Config, Routes]:
        """The configuration and the routes, if they can be served; else all problems on stderr, and exit code 2."""
        routes = self.examined(env_files, Selection()).routes
        assert routes is not None  # noqa: S101 - routes that cannot be served are a problem
        return settings.GATEWAY, routes
