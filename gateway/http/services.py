"""What a worker has for the views of its requests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.http.body_budget import Bodies
from gateway.http.headers import Kinds, Pair
from gateway.http.via import Via
from gateway.options import Level


class Services(Protocol):
    """The services of one worker. Their types belong to later rooms, which cast them: `pools_of`, `cache_for`."""

    @property
    def bodies(self) -> Bodies: ...

    @property
    def pools(self) -> Mapping[str, object]: ...

    @property
    def cache(self) -> object: ...

    @property
    def limits(self) -> object:
        """Its limits, for `limiter_of`."""

    @property
    def mirrors(self) -> object:
        """Copies of requests that are under way, for `mirrors_of`."""

    @property
    def field_kinds(self) -> Kinds:
        """How the fields of requests are treated."""

    @property
    def ways(self) -> object:
        """Ways to authenticate, for `ways_of`."""

    @property
    def disclose_names(self) -> bool:
        """Whether a client may read the names of upstreams."""

    @property
    def added_fields(self) -> Callable[[Sequence[Pair]], dict[str, str] | None] | None:
        """The function that picks the fields of a request for its log line; None where none are configured."""

    def note_in_flight(self) -> None:
        """Called before code of a team's own, which may end the process, runs for a request."""

    @property
    def via(self) -> Via:
        """The Via lines for its calls."""


class MatchedRoute(Protocol):
    """The route of a request, as far as other rooms look at it."""

    @property
    def name(self) -> str | None: ...

    @property
    def rule(self) -> "HasPath": ...

    @property
    def origin(self) -> str:
        """Where it is written: its variable, or file and line in Python."""

    @property
    def level(self) -> Level:
        """The options that apply to it, and where they are given."""

    @property
    def stack(self) -> "RouteStack": ...


class HasPath(Protocol):
    """A pattern, as its text."""

    @property
    def template(self) -> str: ...


class RouteStack(Protocol):
    """What a request passes on its route, as far as other rooms look at it."""

    @property
    def endpoint(self) -> Callable[..., Any]:
        """The view that answers."""

    @property
    def cache(self) -> object:
        """The cache before the view that answers; None without one."""

    @property
    def is_wrapped(self) -> bool:
        """Whether code of a team's own stands around that cache."""

    @property
    def origins(self) -> Sequence[str]:
        """Pages of these may read the answers, by CORS."""

    @property
    def key_words(self) -> Sequence[Sequence[str]]:
        """Values of the request that are part of the cache's key, in words of `values`."""

    @property
    def key_path(self) -> Callable[[str], str] | None:
        """Turns the raw path into the path of the cache's key, where they differ."""

    @property
    def key_rule(self) -> str:
        """What distinguishes the route in the cache's key from others of the same name, where that is needed."""

    @property
    def finish(self) -> Callable[..., Any] | None:
        """What changes a problem as it leaves."""
