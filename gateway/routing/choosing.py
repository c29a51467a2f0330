"""What follows from CASE and WHEN for a route: what its answers depend on, and the path under which they are stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers

from gateway.cache.keys import digest, origin_and_target
from gateway.cache.policy import vary_names
from gateway.http.gate import Finish
from gateway.http.paths import normalized
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse, pairs_of
from gateway.options import Level
from gateway.routing.clashes import may_share
from gateway.routing.conditions import ALWAYS, fields_of, text_of
from gateway.routing.patterns import Pattern
from gateway.routing.segments import Capture, folded, folded_segment, takes, value_within
from gateway.routing.stack import Slots


class HasRule(Protocol):
    """An object with a pattern, such as a route of the table."""

    @property
    def rule(self) -> Pattern: ...


RouteT = TypeVar("RouteT")


def rule_under(rule: Pattern, level: Level) -> Pattern:
    """The pattern of a route with CASE and WHEN from its levels."""
    return rule.under(ignores_case=level.get("ignores_case", False), when=level.get("when", ALWAYS))


def fields_chosen_by(routes: Sequence[HasRule]) -> Mapping[int, tuple[str, ...]]:
    """The fields of requests that decide whether a route or another one answers, by the number of the route.

    They are the fields of its own WHEN, and of the WHEN of routes that match some of the same requests.
    """
    conditional = [route.rule for route in routes if route.rule.when and fields_of(route.rule.when)]
    found: dict[int, set[str]] = {}
    for number, route in enumerate(routes):
        for other in conditional:
            if other is route.rule or may_share(route.rule, other):
                found.setdefault(number, set()).update(fields_of(other.when))
    return {number: tuple(sorted(names)) for number, names in found.items()}


def with_vary(slots: Mapping[RouteT, Slots], routes: Sequence[HasRule]) -> dict[RouteT, Slots]:
    """The slots with Vary for the fields by which a route was chosen. Django's own routes come after the table."""
    chosen_by = fields_chosen_by(routes)
    if not chosen_by:
        return dict(slots)
    fields = {id(route): chosen_by.get(number, ()) for number, route in enumerate(routes)}
    of_all = tuple(sorted(set[str]().union(*chosen_by.values())))
    return {route: replace(one, vary=varying(fields.get(id(route), of_all))) for route, one in slots.items()}


def varying(names: Sequence[str]) -> Finish | None:
    """Adds these names to Vary; None where there are none."""
    if not names:
        return None
    added, title = frozenset(name.encode("ascii") for name in names), ", ".join(names).title()

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not isinstance(response, GatewayResponse):
            patch_vary_headers(response, title.split(", "))
        else:
            known = vary_names(pairs_of(response))
            if known is not None and not added.issubset(known):  # None stands for a star
                response.pairs.append((b"vary", title.encode("ascii")))
        return response

    return finish


# -- the cache ----------------------------------------------------------------------------------------------------


def key_rule_of(rule: Pattern) -> str:
    """The part of the cache's key that separates a route from others of the same name: routes in Python often share a
    name, and two with CASE and WHEN may share a path in the cache's key. Empty where no other route can."""
    text = " ".join(filter(None, ("case=ignore" if rule.ignores_case else "", text_of(rule.when))))
    return text and digest(text)


def stored_path(rule: Pattern, path: str) -> str:
    """The path under which a route that ignores case stores its answers: its literals as they are compared, all else as
    it came, since case may matter to a service in values. The path of any other route stays as it is.

    A segment that is a value in one of the route's matching paths stays as it came, even if it is a literal in another
    one.
    """
    raw = path[1:].split("/")
    found = [written for pattern in rule.paths if (written := _stored(pattern, raw)) is not None]
    if not found:
        return path
    if len(found) == 1:
        return "/" + "/".join(found[0])
    agreed = [texts[0] if len(set(texts)) == 1 else came for came, *texts in zip(raw, *found, strict=True)]
    return "/" + "/".join(agreed)


def _stored(pattern: Pattern, raw: Sequence[str]) -> list[str] | None:
    """The segments of a path as one path of a route spells them; None where it does not match."""
    count = len(pattern.segments)
    if not pattern.ignores_case or len(raw) < count or (len(raw) > count and not pattern.rest):
        return None
    found = list(raw)
    for number, (segment, came) in enumerate(zip(pattern.segments, raw, strict=False)):
        written = _written(segment, came)
        if written is None:
            return None
        found[number] = written
    return found


def stored_url(rule: Pattern, url: str) -> str:
    """As `stored_path`, for a path with its query, or a URL."""
    scheme, host, target = origin_and_target(url)
    path, mark, query = target.partition("?")
    return (f"{scheme}://{host}" if scheme else "") + stored_path(rule, path) + mark + query


def _written(segment: str | Capture, raw: str) -> str | None:
    """One segment of it; None where the route's segment does not match."""
    own, key = folded_segment(segment), folded(normalized(raw))
    if not takes(own, key, folded(raw)):
        return None
    if isinstance(own, str):
        return own
    value = value_within(len(own.before), len(own.after), None, key, raw)
    return f"{own.before}{value}{own.after}"
