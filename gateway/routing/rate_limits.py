"""The limits of a route, from RATE_LIMIT and COST at its levels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from gateway.fanout.view import Fanout
from gateway.limits.gate import all_limits_gate, client_limits_gate, limits_gate
from gateway.limits.grammar import Limits
from gateway.limits.options import OF_ROUTE
from gateway.limits.policies import Policy, limit_problems
from gateway.options import Level, nearest
from gateway.routing.records import Declared
from gateway.routing.stack import Slots

_RATE_LIMIT, _COST = OF_ROUTE


def own_level(origin: str, rate_limit: str | None, cost: int | None) -> Level:
    """The options that a route in Python states itself, `rate_limit="60/1m by client", cost=5`. Raises ValueError."""
    values: dict[str, Any] = {}
    if rate_limit is not None:
        given: Any = rate_limit  # a person may write anything here
        if not isinstance(given, str) or not given.strip():
            raise ValueError(f"rate_limit: expected a text, such as {_RATE_LIMIT.example!r}")
        try:
            values["rate_limit"] = _RATE_LIMIT.unit.parse(given) or None
        except ValueError as error:
            raise ValueError(f"rate_limit: {error}") from None
    if cost is not None:
        count: object = cost
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"cost: expected a whole number of at least 1, not {cost!r}")
        values["cost"] = cost
    return Level(values, {}, {(attribute, ""): origin for attribute in values})


def limits_of(level: Level, endpoint: Callable[..., Any], declared: Declared) -> Limits:
    """The limits that apply to a route: its own, or its upstream's, or the plain ones.

    For a fan-out without its own: those of each upstream of its parts, all together.
    """
    if isinstance(endpoint, Fanout) and not _is_own(level, declared):
        above = [declared.upstreams[name].level for name in endpoint.upstreams if name in declared.upstreams]
        if any(_is_own(one, declared) for one in above):
            return tuple(dict.fromkeys(item for one in above for item in one.get("rate_limit", ())))
    limits: Limits = level.get("rate_limit", ())
    return limits


def _is_own(level: Level, declared: Declared) -> bool:
    """Whether the level has limits of its own, beside those of the plain level."""
    variable = level.variable("rate_limit")
    return bool(variable) and variable != declared.plain.variable("rate_limit")


def policies_of(level: Level, endpoint: Callable[..., Any], name: str, declared: Declared) -> tuple[Policy, ...]:
    """The policies of a route; none where one of its limits is unknown, which is reported elsewhere."""
    limits = limits_of(level, endpoint, declared)
    if any(isinstance(item, str) and item not in declared.policies.named for item in limits):
        return ()
    return declared.policies.of_route(limits, name)


def with_limits(slots: Slots, level: Level, endpoint: Callable[..., Any], name: str, declared: Declared) -> Slots:
    """The slots of a route, with its limits added.

    Where nothing is between the two slots of limits, one decision is made for both.
    """
    policies = policies_of(level, endpoint, name, declared)
    if not policies:
        return slots
    cost: int = level.get("cost", 1)
    is_open = slots.auth is None
    return replace(
        slots,
        client_limits=client_limits_gate(policies, cost) if not is_open else None,
        limits=limits_gate(policies, cost) if not is_open else all_limits_gate(policies, cost),
        policies=policies,
    )


def problems(where: str, level: Level, params: tuple[str, ...], declared: Declared) -> Iterator[str]:
    """Problems of the limits of a route in Python."""
    named: Mapping[str, Any] = declared.policies.limits
    for name in (item for item in level.get("rate_limit", ()) if isinstance(item, str) and item not in named):
        near = nearest(name, sorted(named))
        hint = f"did you mean {near}?" if near else f"set GATEWAY_RATE_LIMIT_{name.upper()}"
        yield f"{where}: there is no limit {name}; {hint}"
    yield from (f"{where}: {problem}" for problem in limit_problems(level, params, named))
