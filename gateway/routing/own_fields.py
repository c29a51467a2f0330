"""Fields that the configuration sets on every answer of a route, also on problems: RESPONSE_HEADER_*, CACHE_CONTROL."""

from collections.abc import Callable
from typing import Any

from django.http.response import HttpResponseBase

from gateway.fanout.view import Fanout
from gateway.http.gate import Finish
from gateway.http.headers import encoded_changes
from gateway.http.request import GatewayRequest
from gateway.http.response import change_fields, pairs_of
from gateway.options import Level
from gateway.proxy.sent import Changes
from gateway.proxy.view import Proxy

_CACHE_CONTROL = b"cache-control"


def own_fields(level: Level, plain: Level, endpoint: Callable[..., Any] | None) -> Finish | None:
    """The last finish of a route with the options of `level`; None where nothing is set.

    Fields that upstream and route set on answers of a service are on them already (`endpoint` is then a proxy or
    fan-out). This adds the fields that plain variables set on all answers, also on problems and redirects of the
    gateway.
    """
    given = level.members.get("response_headers", {})
    if isinstance(endpoint, (Proxy, Fanout)):
        given = {name: value for name, value in given.items() if _is_plain(name, level, plain)}
    changes = encoded_changes(sorted(given.items()))
    if level.get("compress", False):
        changes = tuple((name, _with_codings(name, value)) for name, value in changes)
    text = level.get("cache_control")
    good = ((_CACHE_CONTROL, text.encode()),) if text is not None else ()
    if not changes and not good:
        return None
    fitting = endpoint.fitting if isinstance(endpoint, Fanout) else None

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        status = response.status_code
        now: Changes = (*changes, *good) if 200 <= status <= 299 or status == 304 else changes
        if fitting is not None:
            now = fitting(now, pairs_of(response))
        change_fields(response, now)
        return response

    return finish


def _with_codings(name: bytes, value: bytes | None) -> bytes | None:
    """A Vary that is set on answers that may be compressed: a cache must tell those apart too."""
    if name != b"vary" or value is None or value == b"*" or b"accept-encoding" in value.lower():
        return value
    return value + b", Accept-Encoding"


def plain_changes(plain: Level) -> Changes:
    """The fields that plain variables set on answers without a route."""
    return encoded_changes(sorted(plain.members.get("response_headers", {}).items()))


def _is_plain(name: str, level: Level, plain: Level) -> bool:
    return level.variable("response_headers", name) == plain.variable("response_headers", name) != ""
