"""Whether the files of a generation have changed: they are checked by their resolved paths, without reading them.

A Kubernetes volume swaps a symlink, an editor renames a new file over the old one: both change the file behind the
path.
"""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

LOOK_S: Final = 0.5
_SAME_SECOND_NS: Final = 2 * 10**9

# For each path: the file that it leads to, its time of writing, its size; None if there is none.
Look = Mapping[str, tuple[str, int, int] | None]


def look(paths: Iterable[str]) -> Look:
    """The current state of the files."""
    return {path: _seen(path) for path in paths}


def _seen(path: str) -> tuple[str, int, int] | None:
    resolved = os.path.realpath(path)
    try:
        found = Path(resolved).stat()
    except OSError:
        return None
    return resolved, found.st_mtime_ns, found.st_size


def changed(before: Look, now: Look) -> list[str]:
    """The paths of files that are new, gone or different, sorted."""
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))


class Watch:
    """Reports a change once it is the same in two checks in a row: a file may be half written."""

    def __init__(self, paths: Callable[[], Iterable[str]], known: Look | None = None) -> None:
        """`paths` returns the files at each check, since a folder may get new ones; `known` is their state as read."""
        self._paths = paths
        self._known = self._last = look(paths()) if known is None else known

    def again(self) -> list[str]:
        """The files that have changed since the last report, or since the beginning."""
        now = look(self._paths())
        stands_still, self._last = now == self._last, now
        found = changed(self._known, now) if stands_still else []
        if found:
            self._known = now
        return found


def named_files(environ: Mapping[str, str]) -> list[str]:
    """The files that variables with _FILE name."""
    return sorted(
        value.strip()
        for name, value in environ.items()
        if name.startswith("GATEWAY_") and name.endswith("_FILE") and value.strip()
    )


def own_modules(modules: Iterable[ModuleType], folder: Path, without: Path) -> list[str]:
    """The files of the modules that were imported from a folder, without installed ones and those in `without`."""
    found = set()
    for module in modules:
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and _is_own(Path(path), folder, without):
            found.add(path)
    return sorted(found)


def _is_own(path: Path, folder: Path, without: Path) -> bool:
    return path.is_relative_to(folder) and not path.is_relative_to(without) and "site-packages" not in path.parts


def beside(paths: Iterable[str]) -> list[str]:
    """These files, and all Python files in their folders, which include any that could not be imported."""
    known = set(paths)
    for folder in {Path(path).parent for path in known if path.endswith(".py")}:
        known |= {str(path) for path in folder.glob("*.py")}
    return sorted(known)


def forget_compiled(paths: Iterable[str]) -> None:
    """Remove compiled files of these sources that Python could mistake for their current content.

    It compares size and time of writing, in whole seconds (reference manual, 5.4.7): a file that is saved twice in one
    second, "one" first and then "two", would stay "one".
    """
    for path in paths:
        if path.endswith(".py"):
            compiled = importlib.util.cache_from_source(path)
            with contextlib.suppress(OSError):
                if Path(compiled).stat().st_mtime_ns < Path(path).stat().st_mtime_ns + _SAME_SECOND_NS:
                    Path(compiled).unlink()
