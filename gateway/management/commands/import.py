"""`gateway import`."""

import sys
from pathlib import Path
from typing import Any

from django.core.management import CommandError, CommandParser

from gateway.importing.kinds import WORDS, Imported, import_text
from gateway.importing.source import MAX_BYTES, SourceError
from gateway.management import GatewayCommand
from gateway.text import plain_lines

# Something could not be expressed.
_LEFT = 3


class Command(GatewayCommand):
    help = """\
Make an environment of another gateway's configuration: of KrakenD, Kong, Ocelot,
Spring Cloud Gateway, Traefik labels or nginx. What it cannot say is a comment
with its place in the file, what matters most first. Reads no environment, sends
nothing. Exit code 0 if all was said, 3 if something is left, 2 if the file cannot
be read."""
    epilog = """\
examples:
  gateway import krakend.json > gateway.env
  gateway import --shell nginx.conf
  gateway import --from kong --output portway/ declarative.yml
  gateway check --env-file gateway.env"""
    reads_env_file = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the configuration; - reads it from stdin")
        parser.add_argument("--from", dest="kind", choices=WORDS, help="what it is; else that is seen from its content")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--shell", action="store_true", help="print export NAME='value' lines")
        form.add_argument("--output", metavar="DIR", help="write DIR/gateway.env instead of printing")

    def handle(self, *args: Any, **options: Any) -> None:
        path = options["file"]
        try:
            imported = import_text(_text_of(path), path, options["kind"] or "", _is_there)
        except SourceError as error:
            raise CommandError(f"{path}: {error}", returncode=2) from error
        title = f"Made by `gateway import` from {Path(path).name}, a configuration of {imported.product}."
        text = "\n".join(imported.draft.lines(title, shell=options["shell"])) + "\n"
        if options["output"]:
            self._write(Path(options["output"]), text, imported)
        else:
            self.stdout.write(text, ending="")
        if imported.draft.left:
            sys.exit(_LEFT)

    def _write(self, folder: Path, text: str, imported: Imported) -> None:
        target = folder / "gateway.env"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            if not folder.is_dir():
                raise CommandError(f"{folder} is no folder", returncode=1) from error
            raise CommandError(f"{target} is there already; move it away first", returncode=1) from error
        except OSError as error:
            raise CommandError(f"{target}: {error.strerror}", returncode=1) from error
        left = len(imported.draft.left)
        self.stdout.write(plain_lines(f"{target}: {len(imported.draft.variables)} variables; {left} things are left"))


def _is_there(path: str, is_folder: bool) -> bool:
    return Path(path).is_dir() if is_folder else Path(path).is_file()


def _text_of(path: str) -> str:
    """The file's text. Raises SourceError."""
    try:
        if path == "-":
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SourceError(error.strerror or str(error)) from error
    if len(raw) > MAX_BYTES:
        raise SourceError(f"larger than {MAX_BYTES // 2**20} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError("this is not UTF-8 text") from error
