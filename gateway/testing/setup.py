"""The setup of a gateway in a test: its environment, its folder, Django, and the compiled routes."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from gateway.config.django_settings import app_problem, foreign_settings, import_settings
from gateway.config.env_file import EnvFile, located
from gateway.config.loader import load
from gateway.config.records import Config, ConfigError
from gateway.routing.faults import RouteError
from gateway.text import plain_lines

ENV_FILE: Final = "gateway.env"
ROUTES_FILE: Final = "routes.py"
ONLY_ENVIRONMENT: Final = "gateway.testing.only_environment"
# How long the end of a test waits for a function that a view has left in a thread.
_DRAIN_S: Final = 1.0
# The values with which Django is set up, once in a process.
_OF_PROCESS: Final = ("GATEWAY_APPS", "GATEWAY_SETTINGS", "GATEWAY_SECRET", "GATEWAY_DATABASE_")


class SetupError(Exception):
    """The gateway of a test cannot start; the text says what to change, as `gateway check` does."""


@dataclass(frozen=True, slots=True)
class Setup:
    """`environ` is the whole environment of the gateway, `folder` the place of its files and modules."""

    environ: Mapping[str, str]
    folder: Path
    config: Config
    routes: Any  # gateway.routing.urls.Routes, which cannot be imported before Django is set up
    urlconf: ModuleType  # for Django's reverse(): it has the routes of this gateway


def prepare(environ: Mapping[str, str] | None, routes: Sequence[Any] | str | None, folder: Path) -> Setup:
    """Read, set up and compile all that a worker needs; None is the folder's own environment.

    `routes` are entries of urlpatterns, or the dotted path of a module. Raises SetupError.
    """
    if not folder.is_dir():
        raise SetupError(f"there is no folder {folder}")
    own = _folder_environment(folder)
    places: Mapping[str, str] = {}
    if environ is None:
        if own is None and not (folder / ROUTES_FILE).exists():
            raise SetupError(_NO_FOLDER.format(folder=folder))
        values = dict(own.values) if own is not None else {}
        places = own.places if own is not None else {}
        if (folder / ROUTES_FILE).exists():
            values.setdefault("GATEWAY_URLCONF", ROUTES_FILE.removesuffix(".py"))
    else:
        values = named(environ)
    if isinstance(routes, str):
        values["GATEWAY_URLCONF"] = routes
    values.setdefault("GATEWAY_URLCONF", ONLY_ENVIRONMENT)
    _put_first(folder)
    try:
        config = load(values, lambda path: (folder / path).read_text(encoding="utf-8"), import_settings)
    except ConfigError as error:
        raise SetupError(located(str(error), places)) from None
    _set_django_up({**(own.values if own is not None else {}), **values}, values, config, folder)
    return _compiled(values, folder, config, None if isinstance(routes, str) else routes)


_NO_FOLDER = (
    "the folder {folder} has neither gateway.env nor routes.py, so there is no gateway to test; say what it is, as in "
    "@pytest.mark.gateway(UPSTREAM_USERS='http://users.test', ROUTE_USERS='/users/** -> users')"
)


def named(environ: Mapping[str, object]) -> dict[str, str]:
    """An environment with whole names: `UPSTREAM_USERS` is GATEWAY_UPSTREAM_USERS. Raises SetupError."""
    found: dict[str, str] = {}
    for name, value in environ.items():
        if not isinstance(value, str):
            raise SetupError(f"{name}={value!r}: a value is a text, as in an environment: {name}={str(value)!r}")
        found[name if name.startswith("GATEWAY_") else f"GATEWAY_{name}"] = value
    return found


def _folder_environment(folder: Path) -> EnvFile | None:
    """The folder's gateway.env; None if there is none. Raises SetupError."""
    path, found = folder / ENV_FILE, EnvFile()
    try:
        found.read(path.read_text(encoding="utf-8"), ENV_FILE, os.environ)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeError) as error:
        raise SetupError(f"{path}: {error}") from None
    if found.problems:
        raise SetupError("\n".join(found.problems))
    return found


def _put_first(folder: Path) -> None:
    """Put the folder first, so that its modules are found before others of their name, as by `gateway serve`."""
    _forget_others(folder)
    here = str(folder)
    if sys.path[:1] != [here]:
        sys.path[:] = [here, *(entry for entry in sys.path if entry != here)]


_folders: set[Path] = set()  # of gateways before this one


def _forget_others(folder: Path) -> None:
    """Forget modules of other gateways' folders that hide modules of the same name in this one."""
    others = _folders - {folder}
    _folders.add(folder)
    for path in folder.glob("*.py") if others else ():
        loaded = getattr(sys.modules.get(path.stem), "__file__", None)
        if loaded is not None and Path(loaded).parent in others:
            del sys.modules[path.stem]


# -- Django ---------------------------------------------------------------------------------------------------------

_of_process: dict[str, str] | None = None


def _set_django_up(values: Mapping[str, str], asked: Mapping[str, str], config: Config, folder: Path) -> None:
    """Set up Django, which happens once in a process. Raises SetupError for values that can no longer be changed."""
    global _of_process  # noqa: PLW0603 - like Django's settings
    import django
    from django.conf import settings

    from gateway.__main__ import own_module

    if settings.configured:
        if not hasattr(settings, "GATEWAY"):
            raise SetupError(_FOREIGN)
        known = _of_process or {}
        for name, value in asked.items() if _of_process is not None else ():
            if name.startswith(_OF_PROCESS) and value != known.get(name):
                raise SetupError(
                    f"{name}: Django is set up once in a process, and was so without this value; say it for all "
                    f"tests, in {folder / ENV_FILE}"
                )
        return
    if (problem := foreign_settings(os.environ.get("DJANGO_SETTINGS_MODULE"))) is not None:
        raise SetupError(problem)
    _of_process = {name: value for name, value in values.items() if name.startswith(_OF_PROCESS)}
    with _environment({"GATEWAY_DATABASE_URL": "sqlite:///:memory:", **_of_process}):
        own_module("settings")
        try:
            django.setup(set_prefix=False)
        except Exception as error:
            raise SetupError(plain_lines(app_problem(config.settings.apps, error, folder))) from error


_FOREIGN = (
    "Django is set up already, with settings that are not the gateway's: it has its own. Name your apps in "
    "GATEWAY_APPS and a module with your settings in GATEWAY_SETTINGS, and leave DJANGO_SETTINGS_MODULE unset"
)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Within this context the process's environment has these variables of the gateway, and no others."""
    values = {**values, "DJANGO_SETTINGS_MODULE": "settings"}
    names = [name for name in os.environ if name.upper().startswith("GATEWAY_") or name in values]
    before = {name: os.environ.pop(name) for name in names}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            del os.environ[name]
        os.environ.update(before)


# -- the routes -----------------------------------------------------------------------------------------------------


def _compiled(values: Mapping[str, str], folder: Path, config: Config, urlpatterns: Sequence[Any] | None) -> Setup:
    from gateway.config.checks import NO_ROUTES, own_problems
    from gateway.routing.loader import load_routes
    from gateway.routing.urls import Routes, routes_of

    # Responses stored by other tests must not be used, and time in a debugger is no stall.
    drain_s = min(config.settings.drain_s, _DRAIN_S)
    settings = replace(config.settings, cache_disk_bytes=0, stall_s=inf, drain_s=drain_s, workers=1)
    config = replace(config, settings=settings)
    declared = config.declared
    try:
        if urlpatterns is None:
            routes = load_routes(declared)
        else:
            routes = Routes([*routes_of(declared.routes, None), *(_not_of_environment(urlpatterns))], declared)
    except RouteError as error:
        raise SetupError(str(error)) from None
    problems = own_problems(config, routes)
    if routes.is_empty:
        problems.append(NO_ROUTES)
    if problems:
        raise SetupError("\n".join(problems))
    urlconf = ModuleType("gateway_in_a_test")
    urlconf.urlpatterns = [*routes.routes, *routes.others]  # type: ignore[attr-defined]
    return Setup(values, folder, config, routes, urlconf)


def _not_of_environment(urlpatterns: Sequence[Any]) -> Iterator[Any]:
    return (one for one in urlpatterns if not getattr(one, "is_of_environment", False))
