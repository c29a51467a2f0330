"""The finish that replaces answers: by pages, redirects, statuses, another service (ON_*)."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog
from django.http.response import HttpResponseBase

from gateway.answers.files import in_file_thread, read_page
from gateway.answers.own_answer import answered
from gateway.answers.replacements import Replacements, Rule, suits
from gateway.answers.static import type_of
from gateway.answers.targets import Answer, Page
from gateway.errors import GatewayError, Reason, Side
from gateway.fanout.view import Fanout
from gateway.http.gate import Finish
from gateway.http.headers import Pairs, all_of
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse, change_fields, pairs_of
from gateway.proxy.sent import Changes
from gateway.proxy.view import Proxy
from gateway.upstreams.options import Overrides
from gateway.upstreams.targets import Target, TargetValueError

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# Fields of the replaced body, which are dropped.
_OF_THE_BODY = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"content-language", b"content-range", b"etag"}
    | {b"last-modified", b"accept-ranges", b"content-location", b"transfer-encoding"}
)
# Fields that a client acts on, whatever the body: they are kept.
_KEPT = frozenset({b"retry-after", b"www-authenticate", b"proxy-status", b"allow", b"cache-status"})
_RECORDED = ("upstream", "endpoint", "attempts", "upstream_ms", "cause", "reason")


def replacing(
    rules: Replacements | None,
    endpoint: Callable[..., Any] | None,
    response_headers: Mapping[str, Any],
    compress: Finish | None = None,
) -> Finish | None:
    """The finish of a route with such rules. `response_headers` are those that are set on its answers.

    A replacement passes `compress`, as the replaced answer did.
    """
    if rules is None:
        return None
    changes: Changes = tuple(
        (name.encode("ascii"), None if value is None else value.encode()) for name, value in response_headers.items()
    )
    services = {
        rule.word: Proxy(rule.replacement, Overrides()) for rule in rules.rules if isinstance(rule.replacement, Target)
    }

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        status = response.status_code
        if status < 300:
            return response
        exchange = request.exchange
        rule = rules.find(status, exchange.reason)
        if rule is None or rule.replacement is None:
            return response
        accept = all_of(request.raw_headers, b"accept")
        if not suits(rule, accept):
            return _varying(response)
        other: HttpResponseBase | None
        if isinstance(rule.replacement, Target):
            other = await _of_service(request, services[rule.word], endpoint)
        else:
            other = await _own(request, rule, response)
        if other is None:
            return response
        exchange.fallback = rule.replacement.upstream if isinstance(rule.replacement, Target) else rule.word
        await _let_go(response)
        change_fields(other, changes)
        return other if compress is None else await compress(request, other)

    return finish


async def _own(request: GatewayRequest, rule: Rule, response: HttpResponseBase) -> HttpResponseBase | None:
    """The page, redirect or status; None if it cannot be made, so that the first answer is sent."""
    kept: Pairs = [pair for pair in pairs_of(response) if pair[0] in _KEPT]
    replacement = rule.replacement
    try:
        if isinstance(replacement, Page):
            body, name = await in_file_thread(partial(read_page, replacement.path))
            pairs = [pair for pair in pairs_of(response) if pair[0] not in _OF_THE_BODY]
            pairs += [(b"content-type", type_of(name)), (b"content-length", b"%d" % len(body)), (b"vary", b"Accept")]
            return GatewayResponse(response.status_code, pairs, body)
        assert isinstance(replacement, Answer)  # noqa: S101 - services are handled elsewhere
        answer = answered(request, replacement, rule.body)
    except (OSError, TargetValueError) as error:
        _log.warning("fallback.failed", variable=rule.variable, cause=str(error), route=request.exchange.route)
        return None
    if replacement.template is None:
        answer.pairs = [*answer.pairs, *kept]
    elif not any(name == b"cache-control" for name, _ in answer.pairs):
        answer.pairs = [*answer.pairs, (b"cache-control", b"no-store")]
    return answer


async def _of_service(
    request: GatewayRequest, service: Proxy, endpoint: Callable[..., Any] | None
) -> HttpResponseBase | None:
    """The answer of another service; None if none may be asked, or it fails too."""
    exchange = request.exchange
    if not _came_from_view(request, endpoint) or not request.may_be_sent_again:
        return None
    before = {name: getattr(exchange, name) for name in _RECORDED}
    try:
        other: HttpResponseBase = await service(request)
    except GatewayError as error:
        _restore(request, before)
        _log.warning("fallback.failed", upstream=service.target.upstream, cause=error.reason.word, route=exchange.route)
        return None
    if other.status_code >= 500:
        _restore(request, before)
        await _let_go(other)
        return None
    exchange.reason, exchange.cause = before["reason"], before["cause"]
    return other


def _came_from_view(request: GatewayRequest, endpoint: Callable[..., Any] | None) -> bool:
    """Whether the replaced answer is an answer or failure of the view, and no refusal before it."""
    exchange = request.exchange
    if not request.reached_view or request.lifetime.interruption is not None or endpoint is None:
        return False
    if exchange.reason is not None:
        reason = next((reason for reason in Reason if reason.word == exchange.reason), None)
        if reason is None or reason.side is Side.CLIENT or reason in _BEFORE_THE_VIEW:
            return False
    if not isinstance(endpoint, (Proxy, Fanout)):
        return True
    return exchange.upstream is not None or exchange.cache is not None or bool(exchange.parts)


_BEFORE_THE_VIEW = frozenset(
    {Reason.MAINTENANCE, Reason.OVERLOADED, Reason.RATE_LIMIT_UNAVAILABLE, Reason.METHOD_UNSUPPORTED}
    | {Reason.CODING_UNSUPPORTED, Reason.WEBSOCKET_UNSUPPORTED, Reason.DRAIN_CUT}
)


def _restore(request: GatewayRequest, before: Mapping[str, Any]) -> None:
    for name, value in before.items():
        setattr(request.exchange, name, value)


def _varying(response: HttpResponseBase) -> HttpResponseBase:
    """The answer of a route that sends other clients a page instead, with Vary: caches must tell them apart."""
    if isinstance(response, GatewayResponse):
        response.pairs.append((b"vary", b"Accept"))
    return response


async def _let_go(response: HttpResponseBase) -> None:
    """Close an answer that is not sent."""
    close = getattr(getattr(response, "body", None), "aclose", None)
    if close is not None:
        await close()
