"""No spelling of a path reaches, behind the gateway, a path that another route guards.

`paths` knows how other servers read a path; here each reading is looked up in the table and among Django's own routes.
"""

from typing import Any, Generic, TypeVar
from urllib.parse import unquote

from django.urls import Resolver404, ResolverMatch, URLResolver

from gateway.errors import GatewayError, Reason
from gateway.http import validation
from gateway.http.paths import Reading, is_plain, is_read_otherwise, normalized, readings
from gateway.routing.conditions import Holds
from gateway.routing.segments import ANY
from gateway.routing.table import Match, Miss, Table, none_hold

_OWN_SEGMENT = "-"  # paths under `/-/` belong to the gateway


RouteT = TypeVar("RouteT")


class Guards(Generic[RouteT]):
    """Looks paths that are not plain up in the table and, after it, among Django's own routes."""

    def __init__(self, table: Table[RouteT], django: URLResolver | None) -> None:
        self._table = table
        self._django = django

    def check(self, method: str, host: str, path: str, match: Match[RouteT] | Miss, holds: Holds = none_hold) -> None:
        """Raises PATH_INVALID, and PATH_AMBIGUOUS where another server could read the path of another route.

        `match` is the result of the table for the raw path with these conditions; after a Miss, Django's own routes
        decide.
        """
        if is_plain(path):
            return
        validation.check_path(path)
        django = self.django_match(path) if isinstance(match, Miss) else None
        if isinstance(match, Miss) and django is None:
            return  # there is no route for it
        if not is_read_otherwise(path):
            if _is_own(path):
                raise GatewayError(Reason.PATH_AMBIGUOUS)
            return
        answers: Any
        if isinstance(match, Miss):
            answers, found = django, readings([], path)
        else:
            answers, segments = match.route, match.pattern.segments
            raw = path[1:].split("/", len(segments))
            taken = [(text, not isinstance(part, str)) for text, part in zip(raw, segments, strict=False)]
            found = readings(taken, match.rest)
        if any(self._is_anothers(method, host, reading, answers, holds) for reading in found):
            raise GatewayError(Reason.PATH_AMBIGUOUS)

    def _is_anothers(self, method: str, host: str, reading: Reading, answers: object, holds: Holds) -> bool:
        """Whether a reading belongs to another route than `answers`.

        The value of a `{name}` is data, even if its decoded slashes would make a path. For a reading that decodes it
        all the same, only patterns count that spell its segments out as literals.
        """
        if _is_own(reading.path):
            return True
        found = self._table.find(method, host, reading.path, holds)
        if isinstance(found, Miss) and found.allowed:  # for other methods: a route guards it all the same
            found = self._table.find(min(found.allowed), host, reading.path, holds)
        if not isinstance(found, Miss):
            if found.route is answers:
                return False
            spelled = zip(found.pattern.segments, reading.from_values, strict=False)
            return not reading.from_values or any(part != ANY and is_value for part, is_value in spelled)
        if found.is_conditional:
            return True
        django = self.django_match(reading.path)
        # Two routes may share one view, and one of them may guard it by its arguments.
        if django is None or (
            isinstance(answers, ResolverMatch) and (django.func, django.route) == (answers.func, answers.route)
        ):
            return False
        return not reading.from_values or not {"<", "("} & set(django.route)

    def django_match(self, path: str) -> ResolverMatch | None:
        """The match of Django's own routes for a raw path."""
        try:
            return None if self._django is None else self._django.resolve(unquote(path, errors="replace"))
        except Resolver404:
            return None


def _is_own(path: str) -> bool:
    first, slash, _ = path[1:].partition("/")
    return slash != "" and normalized(first) == _OWN_SEGMENT
