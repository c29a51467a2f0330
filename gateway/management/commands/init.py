"""`gateway init`: a project of one's own."""

from pathlib import Path
from typing import Any

from django.core.management import CommandError, CommandParser

from gateway import __version__
from gateway.management import GatewayCommand
from gateway.management.project import files_of


class Command(GatewayCommand):
    help = """\
Write a project that works at once: routes.py with an aggregation of two
services, gateway.env, a test, a Containerfile that adds packages to the image,
compose.yaml and a README. A file that is there already is left as it is, and
then nothing is written at all."""
    epilog = """\
examples:
  gateway init
  gateway init shop-gateway && cd shop-gateway && gateway dev"""
    reads_env_file = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help="made if it is not there")

    def handle(self, *args: Any, **options: Any) -> None:
        folder, files = Path(options["folder"]), files_of(__version__)
        there = sorted(name for name in files if (folder / name).exists() or (folder / name).is_symlink())
        if there:
            raise CommandError(f"{folder / there[0]} is there already: nothing is overwritten, and nothing was written")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                with (folder / name).open("x", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None
        self.stdout.write("".join(f"{folder / name}\n" for name in files), ending="")
        place = "" if options["folder"] == "." else f"cd {folder}; "
        self.stdout.write(f"Next: {place}gateway dev")
