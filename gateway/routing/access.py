"""Who may ask: the requirements of a route, from AUTH, ROLES and SCOPES at its levels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from asgiref.sync import iscoroutinefunction

from gateway.answers.replacements import replacements_of
from gateway.auth.options import OF_LEVELS
from gateway.auth.records import AuthConfig
from gateway.auth.rules import Requirement, Rule, unknown_ways
from gateway.auth.ways import Check
from gateway.fanout.view import Fanout
from gateway.http.headers import as_cgi
from gateway.legacy.view import Legacy
from gateway.options import Level, Option, nearest, together
from gateway.proxy.view import Proxy
from gateway.routing.faults import RouteError, added_to, loaded
from gateway.routing.records import Declared
from gateway.upstreams.targets import Target

_AUTH, _ROLES, _SCOPES = (option.attribute for option in OF_LEVELS)


def own_level(origin: str, texts: Mapping[str, str | None], rows: Iterable[Option] = OF_LEVELS) -> Level:
    """The options that a route in Python states itself, `auth="token"`; None counts as not given. Raises ValueError."""
    values: dict[str, Any] = {}
    for option in rows:
        text = texts.get(option.name.lower())
        if text is None:
            continue
        given: Any = text  # a person may write anything here
        if not isinstance(given, str) or not text.strip():
            raise ValueError(f"{option.name.lower()}: expected a text, such as {option.example!r}")
        try:
            values[option.attribute] = None if text.strip() == "-" else option.unit.parse(text.strip())
        except ValueError as error:
            raise ValueError(f"{option.name.lower()}: {error}") from None
    return Level(values, {}, {(attribute, ""): origin for attribute in values})


def requirements_of(level: Level, endpoint: Callable[..., Any], declared: Declared) -> tuple[Requirement, ...]:
    """The requirements of a route. `level` has all that applies to it; for a fan-out, without the upstreams of its
    parts.

    A fan-out requires what each of those upstreams does, unless its route sets AUTH itself.
    """
    if isinstance(endpoint, Fanout) and not _states(level, _AUTH, declared):
        names = [name for name in endpoint.upstreams if name in declared.upstreams]
        above = [declared.upstreams[name].level for name in names]
        levels = [_under(level, one, declared) for one in above] or [level]
    else:
        levels = [level]
    found = (_requirement(one) for one in levels)
    return tuple(dict.fromkeys(requirement for requirement in found if requirement is not None))


def _states(level: Level, attribute: str, declared: Declared) -> bool:
    """Whether a route sets the option itself: its value does not come from the plain level."""
    variable = level.variable(attribute)
    return bool(variable) and variable != declared.plain.variable(attribute)


def _under(route: Level, above: Level, declared: Declared) -> Level:
    """The options that a route sets itself, over those of one upstream of its parts."""
    values = {name: route.values[name] for name in (_ROLES, _SCOPES) if _states(route, name, declared)}
    variables = {(name, ""): route.variable(name) for name in values}
    return together(Level(values, {}, variables), above)


def _requirement(level: Level) -> Requirement | None:
    rule: Rule | None = level.get(_AUTH)
    return None if rule is None else Requirement(rule, level.get(_ROLES, ()), level.get(_SCOPES, ()))


def problems(where: str, level: Level, endpoint: Callable[..., Any], declared: Declared) -> Iterator[str]:
    """Problems of the options of a route: an unknown way, roles without authentication."""
    requirements = requirements_of(level, endpoint, declared)
    for name in dict.fromkeys(name for one in requirements for name in unknown_ways(one.rule, declared.auth.ways)):
        near = nearest(name, sorted(declared.auth.ways))
        hint = f"; did you mean {near}?" if near else f"; set GATEWAY_AUTH_{name.upper()}"
        yield f"{level.variable(_AUTH) or where}: there is no way {name}{hint}"
    yield from _open_by_failing(where, level, requirements, declared)
    for field in _forgeable(level, declared.auth):
        yield f"{level.variable('when')}: {field} is set once the route is chosen: a condition would believe the client"
    if requirements:
        return
    for attribute, option in zip((_ROLES, _SCOPES), OF_LEVELS[1:], strict=True):
        place = level.variable(attribute)
        # A nearer AUTH=- removes what a farther level asks for, including roles.
        if level.get(attribute) and _nearness(level.variable(_AUTH)) <= _nearness(place):
            yield f"{place}: {option.name} means nothing where nobody is asked for: {where} has no AUTH"


def _forgeable(level: Level, auth: AuthConfig) -> list[str]:
    """Fields of WHEN that a way sets, and no client may send."""
    hidden = set(map(as_cgi, auth.hidden_fields))
    return [one.name for one in level.get("when", ()) if one.kind == "header" and as_cgi(one.name.encode()) in hidden]


def _open_by_failing(
    where: str, level: Level, requirements: Sequence[Requirement], declared: Declared
) -> Iterator[str]:
    """Problems of services that stand in for this route's answers, or get copies of its requests: they ask for a way,
    and would get requests that have not passed it.

    AUTH of the route itself applies to them too.
    """
    rules, mirror = replacements_of(level), level.get("mirror")
    if _nearness(level.variable(_AUTH)) == 2:
        return
    asked = [] if mirror is None else [(level.variable("mirror"), mirror)]
    replacing = rules.rules if rules is not None else ()
    asked += [(rule.variable, rule.replacement.upstream) for rule in replacing if isinstance(rule.replacement, Target)]
    for variable, name in asked:
        upstream = declared.upstreams.get(name)
        wanted = None if upstream is None else _requirement(upstream.level)
        if upstream is None or wanted is None or any(one.is_as_strict_as(wanted) for one in requirements):
            continue
        yield (
            f"{variable}: {upstream.name} asks for {wanted.rule}, and {where} would let others to it; say with "
            f"AUTH of the route who may ask ({wanted.rule}, or - for everybody)"
        )


def _nearness(variable: str) -> int:
    """How near a level is to a route, by a variable or place of the level: 0 plain, 1 upstream, 2 route."""
    if not variable or (variable.startswith("GATEWAY_") and "__" not in variable):
        return 0
    return 1 if variable.startswith("GATEWAY_UPSTREAM_") else 2


def load_checks(auth: AuthConfig, faults: list[str]) -> dict[str, Check]:
    """The functions of ways of kind python, by way; adds an error to `faults` for each that is no async function."""
    found: dict[str, Check] = {}
    for way in auth.ways.values():
        if way.kind == "python":
            place = f"{way.variable}=python {way.source}"
            with added_to(faults):
                found[way.name] = check = loaded(way.source, place)
                if not _is_async(check):
                    name = way.source.rpartition(".")[2]
                    raise RouteError(f"{place}: it is no async function: async def {name}(request)")
    return found


def _is_async(check: Any) -> bool:
    return callable(check) and (iscoroutinefunction(check) or iscoroutinefunction(getattr(check, "__call__", None)))  # noqa: B004 - the method


# -- what is worth a word -----------------------------------------------------------------------------------------


def hints(
    routes: Iterable[tuple[str, Callable[..., Any], Sequence[Requirement]]], declared: Declared, admin: Rule | None
) -> Iterator[str]:
    """Hints about what works but may not be intended; `routes` are places, views and their requirements."""
    routes = list(routes)
    used = {way for _, _, requirements in routes for one in requirements for way in one.rule.ways}
    used |= set() if admin is None else set(admin.ways)
    for way in declared.auth.ways.values():
        if way.name not in used:
            yield f"{way.variable}: no route asks for it; GATEWAY_AUTH={way.name} would for all of them"
    if not used:
        return
    open_routes = [place for place, _, requirements in routes if not requirements]
    if len(open_routes) == 1 and len(routes) > 2:
        yield f"{open_routes[0]}: the one route that asks for no way; all others do"
    guarded = sorted(name for name, upstream in declared.upstreams.items() if upstream.level.get(_AUTH) is not None)
    for place, endpoint, requirements in routes:
        if guarded and not requirements and not isinstance(endpoint, (Proxy, Fanout, Legacy)):
            yield (
                f"{place}: what its view asks for by fetch() nobody can see; of {', '.join(guarded)}, which ask for a "
                "way, it may give anybody the answers"
            )
