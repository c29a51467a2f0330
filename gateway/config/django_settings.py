"""Django settings and apps of a team's own: GATEWAY_SETTINGS names a module, GATEWAY_APPS names apps."""

import importlib
import secrets
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.apps import AppConfig

from gateway.options import NO_LEVEL, Level, Refused
from gateway.routing.faults import place_of

# Settings of the gateway itself, and the variables to use instead.
OWNED = MappingProxyType(
    {
        "SECRET_KEY": "GATEWAY_SECRET or GATEWAY_SECRET_FILE sets it",
        "ALLOWED_HOSTS": "routes name the hosts that they serve",
        "ROOT_URLCONF": "GATEWAY_URLCONF sets it",
        "DATABASES": "GATEWAY_DATABASE_URL and GATEWAY_DATABASE_<NAME> set it",
        "LOGGING_CONFIG": "GATEWAY_LOG and GATEWAY_LOG_LEVEL say how the log is written",
        "INSTALLED_APPS": "GATEWAY_APPS sets it",
        "ASGI_APPLICATION": "`gateway serve` knows its application",
        "GATEWAY": "it is the gateway's configuration",
    }
)
# Made when this is imported: by the parent of all generations, before the first one.
MADE_SECRET = secrets.token_hex(32)
# Modules of the gateway: importing these names would not find a team's module.
_HOME = frozenset({"asgi", "gateway", "settings"})

# A module's dotted path -> its upper-case names; raises Refused.
ReadSettings = Callable[[str], Mapping[str, Any]]


def settings_problems(values: Mapping[str, Any]) -> list[str]:
    """A problem for each name that the gateway sets itself, and for an invalid MIDDLEWARE."""
    problems = [f"{name} is set by the gateway: {instead}" for name, instead in OWNED.items() if name in values]
    if "MIDDLEWARE" in values and not _are_paths(values["MIDDLEWARE"]):
        problems.append("its MIDDLEWARE is no list of dotted paths, each a text")
    return problems


def middleware_level(values: Mapping[str, Any], module: str) -> Level:
    """MIDDLEWARE of a settings module, used where GATEWAY_MIDDLEWARE is not set."""
    listed: Any = values.get("MIDDLEWARE")
    if not _are_paths(listed):
        return NO_LEVEL
    return Level({"middleware": tuple(listed)}, {}, {("middleware", ""): f"MIDDLEWARE of {module}"})


def _are_paths(listed: Any) -> bool:
    return isinstance(listed, (list, tuple)) and all(isinstance(one, str) for one in listed)


def import_settings(module: str) -> dict[str, Any]:
    """Import a settings module; its upper-case names. Raises Refused, with the place, for one that does not load."""
    if module.partition(".")[0] in _HOME:
        raise Refused(f"{module} is the gateway's own module; call yours otherwise, such as team.settings")
    try:
        values = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            raise Refused(f"there is no module {error.name}") from error
        raise Refused(place_of(error, module)) from error
    except (Exception, SystemExit) as error:
        raise Refused(place_of(error, module)) from error
    return {name: value for name, value in values.items() if name.isupper()}


def foreign_settings(module: str | None) -> str | None:
    """What is wrong with a DJANGO_SETTINGS_MODULE, or with --settings; None for the gateway's own, or none at all."""
    if module in {None, "", "settings"}:
        return None
    return (
        f"DJANGO_SETTINGS_MODULE={module}: the gateway has Django settings of its own; unset it, name your apps in "
        f"GATEWAY_APPS=shop,team.audit and a module with your settings in GATEWAY_SETTINGS={module}"
    )


def app_problem(apps: Sequence[str], error: BaseException, folder: Path) -> str:
    """Which of GATEWAY_APPS keeps Django from starting, why, and where in `folder`."""
    for app in apps:
        try:
            AppConfig.create(app)
        except ModuleNotFoundError as missing:
            if missing.name is not None and f"{app}.".startswith(f"{missing.name}."):
                return f"GATEWAY_APPS: {app}: there is no module {missing.name}"
            return f"GATEWAY_APPS: {app}: {_place(missing, folder)}"
        except Exception as found:  # noqa: BLE001 - a module may raise anything
            return f"GATEWAY_APPS: {app}: {_place(found, folder)}"
    return f"GATEWAY_APPS: {_place(error, folder)}"


def _place(error: BaseException, folder: Path) -> str:
    """The exception as text, after its innermost place in `folder`."""
    if isinstance(error, SyntaxError):
        return place_of(error, "")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    text = f"{type(error).__name__}: {error}"
    return f"{Path(own[-1].filename).relative_to(folder)}:{own[-1].lineno}: {text}" if own else text


def no_settings(module: str) -> Mapping[str, Any]:
    """Reads no settings: for callers that only look at the environment."""
    return {}
