"""The output of `gateway explain` for a route, for the page of that route: for a sample request."""

from collections.abc import Iterator
from typing import Any

from gateway.config.records import Config
from gateway.management.command_line import scope_of
from gateway.management.explain import explain
from gateway.routing.entries import GatewayRoute
from gateway.routing.patterns import ANY_LABEL
from gateway.routing.segments import Segment
from gateway.routing.urls import Routes


async def explain_route(config: Config, routes: Routes, name: str) -> list[dict[str, Any]]:
    """For each route of that name a sample request and its treatment, as titles and rows of words; nothing is sent.

    Names of parameters are used as their values: `/users/{id}` is requested as `/users/id`.
    """
    return [
        {"request": f"{_method(route)} {_target(route)}", "sections": await _explained(config, routes, route)}
        for route in routes.routes
        if route.name == name
    ]


async def _explained(config: Config, routes: Routes, route: GatewayRoute) -> list[dict[str, Any]]:
    scope = scope_of(_method(route), _target(route), [], config.settings.bind)
    return [{"title": one.title, "rows": one.rows} for one in await explain(config, routes, scope)]


def _method(route: GatewayRoute) -> str:
    return "GET" if not route.rule.methods or "GET" in route.rule.methods else min(route.rule.methods)


def _target(route: GatewayRoute) -> str:
    """A URL that the route's first path matches; without its host a path."""
    rule = route.rule
    names = iter(rule.params)
    host = rule.host.replace(ANY_LABEL, next(names).replace("_", "-")) if ANY_LABEL in rule.host else rule.host
    path = "".join(f"/{_taken(segment, names)}" for segment in rule.segments) or "/"
    return f"http://{host}{path}" if host else path


def _taken(segment: Segment, names: Iterator[str]) -> str:
    """A value that a segment matches: one of its kind between its literals."""
    if isinstance(segment, str):
        return segment
    name = next(names)
    return f"{segment.before}{_OF_KIND.get(segment.kind, name)}{segment.after}"


_OF_KIND = {"int": "1", "hex": "1f", "uuid": "00000000-0000-4000-8000-000000000000"}
