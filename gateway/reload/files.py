"""Whether what a generation has read has changed: files are looked at by their resolved paths, without reading them.

A Kubernetes volume swaps a symlink, an editor renames a new file over the old one: both change what the path leads to.
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

# Of each path: the file that it leads to, when that was written, its size; None where there is none.
Look = Mapping[str, tuple[str, int, int] | None]


def look(paths: Iterable[str]) -> Look:
    """How the files are now."""
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
    """Tells of a change once it has stood still from one look to the next: a file may be half written."""

    def __init__(self, paths: Callable[[], Iterable[str]], known: Look | None = None) -> None:
        """`paths` gives the files at each look, since a folder may get new ones; `known` is how they were when read."""
        self._paths = paths
        self._known = self._last = look(paths()) if known is None else known

    def again(self) -> list[str]:
        """What has changed since the last time that this told of a change, or since the beginning."""
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
    """The files of the modules that were imported from a folder; not what is installed, or lies in `without`."""
    found = set()
    for module in modules:
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and _is_own(Path(path), folder, without):
            found.add(path)
    return sorted(found)


def _is_own(path: Path, folder: Path, without: Path) -> bool:
    return path.is_relative_to(folder) and not path.is_relative_to(without) and "site-packages" not in path.parts


def beside(paths: Iterable[str]) -> list[str]:
    """These files, and all of Python in their folders: one that could not be imported is among them."""
    known = set(paths)
    for folder in {Path(path).parent for path in known if path.endswith(".py")}:
        known |= {str(path) for path in folder.glob("*.py")}
    return sorted(known)


def forget_compiled(paths: Iterable[str]) -> None:
    """Remove what Python has compiled of these sources, where it could take that for what they say now.

    It compares size and time of writing, in whole seconds (reference manual, 5.4.7): a file that is saved twice in one
    second, "one" first and then "two", would go on saying "one".
    """
    for path in paths:
        if path.endswith(".py"):
            compiled = importlib.util.cache_from_source(path)
            with contextlib.suppress(OSError):
                if Path(compiled).stat().st_mtime_ns < Path(path).stat().st_mtime_ns + _SAME_SECOND_NS:
                    Path(compiled).unlink()
