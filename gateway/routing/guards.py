"""No spelling of a path reaches, in whatever stands behind the gateway, what another route guards.

`paths` knows how other servers read a path; here the table of routes and Django's own lines are asked about each one.
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
    """The routes of the table and, after them, Django's own lines, asked about paths that are not plain."""

    def __init__(self, table: Table[RouteT], django: URLResolver | None) -> None:
        self._table = table
        self._django = django

    def check(self, method: str, host: str, path: str, match: Match[RouteT] | Miss, holds: Holds = none_hold) -> None:
        """Raises PATH_INVALID, and PATH_AMBIGUOUS where another server could read a path that is somebody else's.

        `match` is what the table says of the raw path with these conditions; a Miss leaves it to Django's own lines.
        """
        if is_plain(path):
            return
        validation.check_path(path)
        django = self.django_match(path) if isinstance(match, Miss) else None
        if isinstance(match, Miss) and django is None:
            return  # nobody answers it
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
        """Whether what is read is for somebody else than `answers`.

        What a `{name}` took is data, whatever it would be with its slashes decoded: where it is read all the same,
        only a pattern counts that writes out what stands in it.
        """
        if _is_own(reading.path):
            return True
        found = self._table.find(method, host, reading.path, holds)
        if isinstance(found, Miss) and found.allowed:  # for no such method: somebody guards it all the same
            found = self._table.find(min(found.allowed), host, reading.path, holds)
        if not isinstance(found, Miss):
            if found.route is answers:
                return False
            spelled = zip(found.pattern.segments, reading.from_values, strict=False)
            return not reading.from_values or any(part != ANY and is_value for part, is_value in spelled)
        if found.is_conditional:
            return True
        django = self.django_match(reading.path)
        # Two lines may name one view, and one of them guard it by its arguments.
        if django is None or (
            isinstance(answers, ResolverMatch) and (django.func, django.route) == (answers.func, answers.route)
        ):
            return False
        return not reading.from_values or not {"<", "("} & set(django.route)

    def django_match(self, path: str) -> ResolverMatch | None:
        """What Django's own lines say of a raw path."""
        try:
            return None if self._django is None else self._django.resolve(unquote(path, errors="replace"))
        except Resolver404:
            return None


def _is_own(path: str) -> bool:
    first, slash, _ = path[1:].partition("/")
    return slash != "" and normalized(first) == _OWN_SEGMENT
