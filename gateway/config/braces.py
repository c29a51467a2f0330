"""Values in braces, checked against the routes that use them: parameters exist, names are not ambiguous."""

from collections.abc import Iterator, Sequence

from gateway.http.field_template import FieldTemplate, Value
from gateway.http.values import KNOWN, OWN, parameters_in
from gateway.routing.records import Route

Found = tuple[str, str]  # a variable, and what is wrong with it


def problems(routes: Sequence[Route]) -> Iterator[Found]:
    """Problems of the values in braces in header fields and parameters of queries, each variable once."""
    blamed: set[str] = set()
    holding: dict[str, tuple[tuple[Value, ...], list[Route]]] = {}
    for route in routes:
        for variable, values in _used_by(route):
            holding.setdefault(variable, (values, []))[1].append(route)
            if variable not in blamed and (shadowed := _shadowed(route, values)):
                blamed.add(variable)
                yield variable, shadowed
    for variable, (values, users) in holding.items():
        for name in parameters_in(values):
            if variable not in blamed and not any(
                name in path.params for route in users for path in route.pattern.paths
            ):
                blamed.add(variable)
                yield variable, _unknown(name, users)


def _used_by(route: Route) -> Iterator[tuple[str, tuple[Value, ...]]]:
    """The variables that apply to a route, with the values in them."""
    level = route.level
    for attribute in ("headers", "query"):
        for name, value in level.members.get(attribute, {}).items():
            if isinstance(value, FieldTemplate):
                yield level.variable(attribute, name), value.values
    listed = [value.values for _, value in level.get("query_list", ()) if isinstance(value, FieldTemplate)]
    if listed:
        yield level.variable("query_list"), tuple(value for values in listed for value in values)
    for part in route.fan.parts if route.fan is not None else ():
        for name, value in part.headers:
            if isinstance(value, FieldTemplate):
                word = f"PART_{part.name.upper()}__HEADER_{name.upper().replace('-', '_')}"
                yield f"{route.variable.removesuffix('_FILE')}__{word}", value.values


def _shadowed(route: Route, values: Sequence[Value]) -> str:
    names = {name for path in route.pattern.paths for name in path.params} | {
        part.name for part in (route.fan.parts if route.fan is not None else ())
    }
    for value in values:
        if value.words[0] in OWN and value.words[0] in names:
            return (
                f"{value.text} is a value of the request, and {value.words[0]} is also a parameter or part of "
                f"{route.variable}; call that by another name"
            )
    return ""


def _unknown(name: str, routes: Sequence[Route]) -> str:
    params = dict.fromkeys(param for route in routes for path in route.pattern.paths for param in path.params)
    known = ", ".join(f"{{{param}}}" for param in params)
    return (
        f"'{{{name}}}' is no value and no parameter of the path (those: {known or 'none'}); values are {KNOWN}, "
        "{cookie.x} and {claim.x}; braces that are meant are written {{ and }}"
    )
