"""A route of the environment, and what routes are checked against."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.answers.targets import Answer, Folder
from gateway.auth.records import NO_AUTH, AuthConfig
from gateway.cache.policy import Rule
from gateway.fanout.plan import Fan
from gateway.limits.policies import Policies
from gateway.options import NO_LEVEL, Level
from gateway.routing.patterns import Pattern
from gateway.upstreams.options import Overrides
from gateway.upstreams.records import Upstream
from gateway.upstreams.targets import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the environment; `variable` is where it came from, as written: `GATEWAY_ROUTE_USERS`."""

    name: str
    pattern: Pattern
    target: Target | None
    answer: Answer | Folder | None = None  # where it does not lead to an upstream
    body: str | None = field(default=None, repr=False)
    media_type: str | None = None
    fan: Fan | None = None
    legacy: str | None = None  # the dotted path of the function that answers
    overrides: Overrides = field(default_factory=Overrides)
    raw_path: bool = False
    cors: tuple[str, ...] | None = None
    cache: Rule | None = None
    variable: str = ""
    level: Level = NO_LEVEL  # its options, over those of its upstream (unless it is a fan-out) and the plain ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the environment declares. The routes of urlpatterns are checked against it.

    `pools` are the options of legacy pools by name, `cors` the origins of GATEWAY_CORS; `first_route` is the variable
    of the first route, or empty; `plain` are the options for all upstreams and routes; `routes` are those of the
    environment; `policies` are the limits that have a name and, once routes are compiled, those of routes.
    """

    urlconf: str
    upstreams: Mapping[str, Upstream]
    pools: Mapping[str, Mapping[str, Any]]
    cors: Sequence[str] = ()
    first_route: str = ""
    plain: Level = NO_LEVEL
    routes: tuple[Route, ...] = ()
    policies: Policies = field(default_factory=lambda: Policies({}))
    auth: AuthConfig = NO_AUTH
