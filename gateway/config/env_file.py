"""A file of variables, read as `docker run --env-file` and `podman run --env-file` read it.

`KEY=VALUE` to the end of the line, quotes included; a `#` begins a comment only where the line does; a name alone takes
its value from the environment, if it is set there. The `env_file:` of compose reads some values in another way, which
gives a warning: a file without warnings means the same to all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_VARIABLE = re.compile(r"\bGATEWAY_\w+")


@dataclass(slots=True)
class EnvFile:
    """The content of env files together: values, the place of each (`prod.env:3`), problems and warnings."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    places: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, text: str, name: str, environ: Mapping[str, str]) -> None:
        """Add the text of the file of that name; later values win."""
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            line, place = line.removesuffix("\r").lstrip(), f"{name}:{number}"
            if not line or line.startswith("#"):
                continue
            variable, equals, value = line.partition("=")
            if not variable or variable.split() != [variable]:
                self.problems.append(f"{place}: expected KEY=VALUE, without spaces around the = and without `export`")
            elif equals:
                self._set(variable, value, place)
            elif variable in environ:
                self._set(variable, environ[variable], place)

    def beneath(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables that the environment does not set, by the same name or by its variant with `_FILE`.

        `places` keeps only their places. An empty value counts as not set.
        """
        taken = {name: value for name, value in self.values.items() if not _is_set(name, environ)}
        self.places = {name: place for name, place in self.places.items() if name in taken}
        return taken

    def held_by(self, environ: Mapping[str, str]) -> None:
        """Keep in `places` only variables in force, once those of the file are in the environment."""
        self.places = {name: at for name, at in self.places.items() if environ.get(name) == self.values[name]}

    def _set(self, variable: str, value: str, place: str) -> None:
        if variable in self.values:
            self.warnings.append(f"{place}: {variable} again: what {self.places[variable]} says is without effect")
        if variable.startswith("GATEWAY_") and (otherwise := _by_compose(value)):
            self.warnings.append(f"{place}: {variable}: compose {otherwise}, docker does not (`format: raw` helps)")
        self.values[variable], self.places[variable] = value, place


def _is_set(variable: str, environ: Mapping[str, str]) -> bool:
    twin = variable.removesuffix("_FILE") if variable.endswith("_FILE") else f"{variable}_FILE"
    names = (variable, twin) if variable.startswith("GATEWAY_") else (variable,)
    return any(environ.get(name, "").strip() for name in names)


def _by_compose(value: str) -> str:
    """How compose would change a value that docker takes as it is."""
    if value[:1] in {"'", '"'}:
        return "takes the quotes off"
    if re.search(r"\s#", value):
        return "ends the value before ' #'"
    return "puts variables in for $" if "$" in value else ""


def located(text: str, places: Mapping[str, str]) -> str:
    """A text with its place behind each variable that a file set: `GATEWAY_WORKERS (prod.env:3)`."""
    return _VARIABLE.sub(lambda found: f"{found[0]} ({places[found[0]]})" if found[0] in places else found[0], text)
