"""The `gateway` command: a console script over Django's management commands.

Home is the folder that holds this package: `settings` and `asgi` always come from there, whatever the working directory
contains. The working directory then goes first on the path, so that the routes module can be the user's.

Exit codes: 0 good, also after a drain; 2 bad configuration; 1 everything else.
"""

import argparse
import contextlib
import gc
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from gateway import __version__
from gateway.config.env_file import EnvFile, located
from gateway.text import plain_lines

HOME = Path(__file__).resolve().parent.parent

HELP = """\
Portway, an API gateway, configured by the environment (docs/configuration.md).

  gateway serve               start the gateway
  gateway init [FOLDER]       a project of your own, with a test
  gateway dev                 serve while you write: starts again at each save
  gateway check               what is wrong with the environment and the routes
  gateway config              what holds, and where it came from; secrets masked
  gateway routes [--json]     the effective routing table
  gateway explain METHOD URL  what would become of a request; sends nothing
  gateway cache ls|why|purge  look into the cache, and purge it
  gateway diff                what a reload would change
  gateway reload              the running gateway reads its files again
  gateway limits [forget KEY] the rate limits, and who is over
  gateway import FILE         an environment of another gateway's configuration
  gateway auth key|token      a key for a partner; what is in a token
  gateway completion SHELL    completes these in bash, zsh or fish
  gateway version             the version

The smallest configuration is an upstream and a route:
  export GATEWAY_UPSTREAM_USERS='http://127.0.0.1:9001'
  export GATEWAY_ROUTE_USERS='/users/** -> users'
  gateway serve

`gateway COMMAND --help` shows options. Django's own commands work too (migrate,
makemigrations, shell, test, and those of GATEWAY_APPS).
Exit codes: 0 good, also after a drain; 2 bad configuration; 1 everything else.
"""


# Thresholds of the garbage collector, in this process and in the workers that come from it. Neither modules nor
# requests leave reference cycles, so it finds next to nothing; with Python's defaults (700, 10, 10) it takes a twelfth
# of the time of `gateway check` and a twentieth of that of a request (the latter not from Python 3.13 on).
_COLLECT_AFTER = (10_000, 20, 50)

# Commands that read no configuration of ours, so that a wrong one does not stop them.
_WITHOUT_ENVIRONMENT = {"completion", "import", "init"}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    gc.set_threshold(*_COLLECT_AFTER)
    _open_standard_streams()
    try:
        code = _command(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has stopped
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    return code


def _command(arguments: list[str]) -> int:
    if not arguments or (arguments[0] in {"help", "--help", "-h"} and len(arguments) == 1):
        sys.stdout.write(HELP)
        return 0
    if arguments[0] in {"version", "--version"}:
        sys.stdout.write(f"{__version__}\n")
        return 0
    asks_for_help = arguments[0] == "help" or not {"--help", "-h"}.isdisjoint(arguments)
    command = arguments[1] if arguments[0] == "help" else arguments[0]
    early = _early_options(arguments)
    # The help of a command of ours is shown with any environment; a command of an app has its own help.
    is_ours = command in _own_commands()
    needs_apps = not is_ours and bool(os.environ.get("GATEWAY_APPS") or early.env_file)
    # The first key is made for a way that has none yet.
    makes_key = arguments[:2] == ["auth", "key"]
    reads_environment = (needs_apps or not asks_for_help) and not makes_key and command not in _WITHOUT_ENVIRONMENT
    if command == "serve" and not asks_for_help:
        code = _become_parent(early.env_file)
        if code is not None:
            return code
    if command == "dev" and not asks_for_help:
        return _develop(arguments, early)
    code = 2 if reads_environment and not (_settings(early.env_file, early.settings) and _apps()) else 0
    code = code or _run(arguments if is_ours else early.others)
    if command == "serve" and code:
        _tell_parent()
    return code


def _become_parent(env_files: list[str]) -> int | None:
    """Become the parent of all generations of the gateway: returns its exit code, and None in each generation."""
    from gateway.config import environment
    from gateway.reload import line
    from gateway.reload.facts import workers_of
    from gateway.reload.parent import Parent

    for name in ("gateway.management.commands.serve", "django.core.management", "gateway.upstreams.client"):
        importlib.import_module(name)  # once for all of them
    environ = {**os.environ, **read_env_files(env_files).beneath(os.environ)}
    workers = workers_of(environment.read(environ, read_text).entries)
    outcome = Parent(workers).run()
    if isinstance(outcome, int):
        return outcome
    line.current = outcome
    if not outcome.is_first:
        outcome.capture_stderr()
    return None


def _develop(arguments: list[str], early: argparse.Namespace) -> int:
    """`gateway dev`: a process that watches, and serving processes one after the other."""
    from gateway.management.commands.dev import folder_env, serve_broken
    from gateway.reload.folder import Folder

    for name in ("django.core.management", "gateway.upstreams.client", "gateway.sockets.upstream"):
        importlib.import_module(name)  # once for all of them
    code = Folder(Path.cwd()).run()
    if code is not None:
        return code
    files = [*folder_env(), *(file for file in early.env_file if file not in folder_env())]
    for name, value in (("GATEWAY_LOG", "console"), ("GATEWAY_STALL", "1h")):  # a debugger blocks the loop
        os.environ.setdefault(name, value)
    problems = io.StringIO()
    with contextlib.redirect_stderr(problems):
        is_good = _settings(files, early.settings) and _apps()
    if not is_good:
        serve_broken(problems.getvalue())
    return _run(arguments)


def _tell_parent() -> None:
    """Report the stderr of a failed generation to the parent, if that captures it."""
    from gateway.reload import line

    if line.current is not None and (problems := line.current.release_stderr()):
        line.current.report(problems=problems)


def _own_commands() -> set[str]:
    return {path.stem for path in (HOME / "gateway" / "management" / "commands").glob("[a-z]*.py")}


def read_text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def read_env_files(paths: Iterable[str]) -> EnvFile:
    """Read env files, a later one over those before it, all beneath the environment.

    One that cannot be read is a problem among the others.
    """
    found = EnvFile()
    for path in paths:
        try:
            text = read_text(path)
            if "\0" in text:  # UTF-16 without its mark; no environment holds one
                raise UnicodeError
            found.read(text, path, os.environ)
        except OSError as error:
            found.problems.append(f"{path}: {error.strerror}")
        except UnicodeError:
            found.problems.append(f"{path}: this is not UTF-8 text")
    return found


def _early_options(arguments: list[str]) -> argparse.Namespace:
    """The values of --env-file and of Django's --settings, which must be known before the settings are.

    `others` are the words without them: Django's commands know no --env-file.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--env-file", action="append", default=[])
    parser.add_argument("--settings")
    with contextlib.suppress(argparse.ArgumentError):  # the command's own parser reports it with its usage
        found, others = parser.parse_known_args(arguments)
        found.others = others
        return found
    return argparse.Namespace(env_file=[], settings=None, others=arguments)


def _open_standard_streams() -> None:
    """Reopen a closed stdin, stdout or stderr: else the next file or socket would get its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the process
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _settings(env_files: list[str], named: str | None) -> bool:
    """Load home's settings, which read the environment; False, with all problems on stderr, if it cannot be used.

    Variables of the environment win over those of files. `named` is the value of Django's option --settings.
    """
    from gateway.config.django_settings import foreign_settings
    from gateway.config.records import ConfigError, format_problems

    found = read_env_files(env_files)
    os.environ.update(found.beneath(os.environ))
    problems = [f"gateway: {problem}" for problem in found.problems]
    foreign = foreign_settings(named or os.environ.get("DJANGO_SETTINGS_MODULE"))
    if foreign is not None:
        problems.append(f"gateway: {foreign}")
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    _working_directory_first()  # the place of a team's own apps and settings
    try:
        own_module("settings")
    except ConfigError as error:
        problems.append(located(format_problems(error.problems).rstrip(), found.places))
    if problems:
        sys.stderr.write(plain_lines("\n".join(problems)) + "\n")
    return not problems


def _apps() -> bool:
    """Have Django load its apps; False, with the reason on stderr, if one of GATEWAY_APPS does not load."""
    import django
    from django.conf import settings

    from gateway.config.django_settings import app_problem

    try:
        django.setup()
    except Exception as error:
        if os.environ.get("GATEWAY_LOG_LEVEL") == "debug":
            raise
        problem = app_problem(settings.GATEWAY.settings.apps, error, Path.cwd())
        sys.stderr.write(f"gateway: {plain_lines(problem)}\n")
        return False
    return True


def _working_directory_first() -> None:
    """Have modules of the working directory found before others of their name."""
    here = str(Path.cwd())
    sys.path[:] = [here, *(entry for entry in sys.path if entry not in {"", here})]


def _forget_variables() -> None:
    for name in [name for name in os.environ if name.upper().startswith("GATEWAY_")]:
        del os.environ[name]


def own_module(name: str) -> ModuleType:
    """Home's module of that name, under that name, even if the working directory has one."""
    loaded = sys.modules.get(name)
    path = HOME / f"{name}.py"
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _run(arguments: list[str]) -> int:
    from django.core.management import CommandError, ManagementUtility

    from gateway.routing.faults import RouteError

    if "settings" not in sys.modules:  # --help alone: Django needs some settings to find the commands
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        _forget_variables()
        own_module("settings")
    _working_directory_first()
    try:
        ManagementUtility(["gateway", *arguments]).execute()
    except CommandError as error:
        sys.stderr.write(f"gateway: {plain_lines(str(error))}\n")
        return error.returncode
    except RouteError as error:  # Django's commands load the routes too
        sys.stderr.write(f"gateway: {plain_lines(str(error))}\n")
        return 2
    except BrokenPipeError:  # no failure: `main` handles it
        raise
    except Exception as error:
        if os.environ.get("GATEWAY_LOG_LEVEL") == "debug":
            raise
        text = plain_lines(f"{type(error).__name__}: {error}")
        sys.stderr.write(f"gateway: {text} (GATEWAY_LOG_LEVEL=debug tells where)\n")
        return 1
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
