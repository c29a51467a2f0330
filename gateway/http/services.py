"""What a worker has for the views of its requests."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.http.body_budget import Bodies


class Services(Protocol):
    """Of one worker. What a pool or a cache is, later rooms know: `pools_of`, `cache_for`."""

    @property
    def bodies(self) -> Bodies: ...

    @property
    def pools(self) -> Mapping[str, object]: ...

    @property
    def cache(self) -> object: ...

    @property
    def disclose_names(self) -> bool:
        """Whether a client may read the names of upstreams."""


class MatchedRoute(Protocol):
    """The line of the table that a request is for, as far as others look at it."""

    @property
    def name(self) -> str | None: ...

    @property
    def view(self) -> Callable[..., Any]: ...

    @property
    def cors(self) -> Sequence[str] | None:
        """The origins that it has of its own."""

    @property
    def rule(self) -> "HasPath": ...


class HasPath(Protocol):
    """A pattern, as its text."""

    @property
    def path(self) -> str: ...
