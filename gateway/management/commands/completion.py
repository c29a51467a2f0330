"""`gateway completion`: a script that completes this command in a shell."""

from importlib import import_module
from pathlib import Path
from typing import Any

from django.core.management import CommandParser

from gateway.management import GatewayCommand
from gateway.management.completion import places_of, script


class Command(GatewayCommand):
    help = """\
Print a script that completes the gateway command in a shell: its commands,
their verbs and options. It reads no configuration, and starts nothing while
you type."""
    epilog = """\
examples:
  source <(gateway completion bash)        in ~/.bashrc
  source <(gateway completion zsh)         in ~/.zshrc, after compinit
  gateway completion fish | source         in ~/.config/fish/config.fish"""
    reads_env_file = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script")

    def handle(self, *args: Any, **options: Any) -> None:
        names = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
        commands = {name: import_module(f"gateway.management.commands.{name}").Command() for name in names}
        parsers = {name: command.create_parser("gateway", name) for name, command in commands.items()}
        self.stdout.write(script(options["shell"], places_of(parsers)), ending="")
