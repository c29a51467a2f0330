"""Copies of requests to another upstream (MIRROR), sent after the answer's head; their own answers are dropped.

A copy has the method, target, fields and body of the request, rendered anew for its own upstream: configured fields of
the answering upstream, such as a secret, do not go to the other one. A copy is never retried and never waited for, and
the number under way in a worker is limited for each upstream. A copy is not copied again.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Final

import structlog
from django.http.response import HttpResponseBase

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Deadline
from gateway.http.gate import View
from gateway.http.headers import Pairs, set_fields
from gateway.http.lifetime import Lifetime
from gateway.http.methods import SAFE_METHODS
from gateway.http.request import GatewayRequest
from gateway.observe.mirror_counts import MirrorCounts
from gateway.options import Level
from gateway.proxy.outgoing import outgoing_for, proxied_pairs, rendered
from gateway.proxy.sent import Sent
from gateway.proxy.view import Proxy
from gateway.upstreams.attempts import answer_to
from gateway.upstreams.options import Overrides, ProxyOptions, effective
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.retry_policy import MAX_KEPT_BYTES

MARK: Final = b"x-portway-mirror"
MAX_IN_FLIGHT: Final = 100
# No call was made for these: the cache had the answer, or shared the call of another request.
_FROM_CACHE: Final = frozenset({"hit", "stale", "collapsed"})

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Rule:
    """Which requests are copied to which upstream; `share` is a fraction of one."""

    upstream: str
    share: float = 1.0
    unsafe: bool = False

    def takes(self, method: str, *, is_copy: bool, chance: float) -> bool:
        """Whether a request is copied; `chance` is from 0 to below 1."""
        return not is_copy and (self.unsafe or method in SAFE_METHODS) and chance < self.share


def text_of_share(fraction: float) -> str:
    """A share as the configuration writes it: `5%`."""
    return f"{fraction * 100:g}%"


def mirror_rule(level: Level) -> Rule | None:
    """The rule from the options of a route, at all levels."""
    upstream = level.get("mirror")
    if upstream is None:
        return None
    return Rule(upstream, level.get("mirror_share", 1.0), level.get("mirror_unsafe", False))


class BodyCopy:
    """A request's body while it goes up, kept as long as it is small and there is room for it."""

    def __init__(self, request: GatewayRequest) -> None:
        self._request = request
        self._kept: bytearray | None = bytearray()

    def take(self, piece: bytes) -> None:
        if self._kept is None:
            return
        bodies, size = self._request.services.bodies, len(piece)
        if len(self._kept) + size > MAX_KEPT_BYTES or not bodies.has_room(size):
            bodies.give(self._request.lifetime, len(self._kept))
            self._kept = None
            return
        bodies.count(self._request.lifetime, size)
        self._kept += piece

    def whole(self) -> bytes | None:
        """The whole body; None if it was too large, or has not arrived whole."""
        return bytes(self._kept) if self._kept is not None and self._request.inbox.complete else None


def mirrored(view: View, rule: Rule, endpoint: Proxy) -> View:
    """A view like `view` that has its requests copied. `endpoint` is the proxy within it."""
    plans = _Plans(rule, endpoint)

    async def call(request: GatewayRequest, *args: Any, **params: Any) -> HttpResponseBase:
        is_copy = any(name == MARK for name, _ in request.raw_headers)
        if request.upgrade is not None or not rule.takes(request.method, is_copy=is_copy, chance=random.random()):
            return await view(request, *args, **params)
        copy = None if request.inbox.complete else BodyCopy(request)
        request.tap = None if copy is None else copy.take
        try:
            response = await view(request, *args, **params)
        except GatewayError as error:
            _follow(request, plans, params, copy, error.status)
            raise
        _follow(request, plans, params, copy, response.status_code)
        return response

    return call


def _follow(
    request: GatewayRequest, plans: "_Plans", params: Mapping[str, Any], copy: BodyCopy | None, status: int
) -> None:
    """Begin the copy with the head of the answer, if a call was made for that."""
    exchange = request.exchange
    if exchange.attempts and exchange.cache not in _FROM_CACHE and exchange.upstream == plans.endpoint.target.upstream:
        begin = mirrors_of(request).begin
        request.on_head_sent = partial(begin, request, plans, params, copy, status)


@dataclass(frozen=True, slots=True)
class _Plan:
    pool: Pool
    options: ProxyOptions
    sent: Sent


class _Plans:
    """What copies of one route need of the configuration, computed once."""

    def __init__(self, rule: Rule, endpoint: Proxy) -> None:
        self.rule = rule
        self.endpoint = endpoint
        self._plan: _Plan | None = None

    def for_(self, request: GatewayRequest) -> _Plan:
        pools = pools_of(request)
        pool = pools[self.rule.upstream]
        if self._plan is None or self._plan.pool is not pool:
            answering = effective(pools[self.endpoint.target.upstream].upstream.overrides, self.endpoint.own)
            options = effective(pool.upstream.overrides, shared(answering, pool.upstream.overrides))
            self._plan = _Plan(pool, options, Sent(options))
        return self._plan


def shared(answering: ProxyOptions, mirror: Overrides) -> Overrides:
    """The options of the answering call that also apply to its copy: which of the client's fields pass, and which are
    deleted, unless the upstream of the copy sets them itself.

    A field that is set is for the answering upstream alone; the client's field of that name, which it replaces, goes to
    neither.
    """

    def taken_away(fields: Any, own: Any) -> Any:
        set_there = {name for name, _ in own}
        return tuple((name, None) for name, _ in fields if name not in set_there)

    return Overrides(
        forward_headers=answering.forward_headers,
        forward_query=answering.forward_query,
        headers=taken_away(answering.headers, mirror.headers),
        query=taken_away(
            dict((*(answering.query_list or ()), *answering.query)).items(), (*(mirror.query_list or ()), *mirror.query)
        ),
    )


class Mirrors:
    """The copies that are under way in a worker, and counts of their results."""

    def __init__(self) -> None:
        self.counts = MirrorCounts()
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}  # by upstream

    def begin(
        self, request: GatewayRequest, plans: _Plans, params: Mapping[str, Any], copy: BodyCopy | None, status: int
    ) -> None:
        """Send a copy, unless too many are under way, or the body was not kept."""
        route, rule = request.exchange.route or "none", plans.rule
        body = _kept(request) if copy is None else copy.whole()
        under_way = self._tasks.setdefault(rule.upstream, set())
        if body is None or len(under_way) >= MAX_IN_FLIGHT:
            self.counts.skipped(route, rule.upstream, "body" if body is None else "full")
            return
        task = asyncio.create_task(self._send(request, plans, params, body, status), name="portway-mirror")
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def _send(
        self, request: GatewayRequest, plans: _Plans, params: Mapping[str, Any], body: bytes, status: int
    ) -> None:
        exchange, rule = request.exchange, plans.rule
        record, began_s = exchange.child(), perf_counter()
        mirror_status: int | None = None
        cause: str | None = None
        try:
            mirror_status = await _answered(request, plans, params, body, Lifetime(record))
        except GatewayError as error:
            cause = error.reason.word
        except Exception as error:  # noqa: BLE001 - no client waits for it
            cause = Reason.INTERNAL_ERROR.word
            _log.warning("mirror.failed", mirror=rule.upstream, cause=repr(error), request_id=exchange.request_id)
        mirror_ms = record.upstream_ms or round((perf_counter() - began_s) * 1000, 2)
        outcome = cause if mirror_status is None else f"{mirror_status // 100}xx"
        key = (exchange.route or "none", rule.upstream, f"{status // 100}xx", outcome or "")
        self.counts.sent(key, answer_s=(exchange.upstream_ms or 0.0) / 1000, mirror_s=mirror_ms / 1000)
        _log.debug(
            "mirror.answered",
            request_id=exchange.request_id,
            route=exchange.route,
            upstream=exchange.upstream,
            status=status,
            upstream_ms=exchange.upstream_ms,
            mirror=rule.upstream,
            mirror_status=mirror_status,
            mirror_ms=mirror_ms,
            cause=cause,
        )

    def _all(self) -> set[asyncio.Task[None]]:
        return {task for tasks in self._tasks.values() for task in tasks}

    def cut(self) -> None:
        """Break off all copies that are under way."""
        for task in self._all():
            task.cancel()

    async def stop(self, within_s: float) -> None:
        """Wait this long for the copies that are under way, then break them off."""
        tasks = self._all()
        if tasks and within_s > 0:
            await asyncio.wait(tasks, timeout=within_s)
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)


def mirrors_of(request: GatewayRequest) -> Mirrors:
    """The copies of the worker that serves this request."""
    mirrors: Any = request.services.mirrors
    return mirrors  # type: ignore[no-any-return]


def _kept(request: GatewayRequest) -> bytes | None:
    """The body of a request that had arrived whole before its view was called; None if it was not kept."""
    if not request.may_be_sent_again:
        return None
    body = request.body
    return body if len(body) <= MAX_KEPT_BYTES else None


async def _answered(
    request: GatewayRequest, plans: _Plans, params: Mapping[str, Any], body: bytes, lifetime: Lifetime
) -> int:
    """Make the call and read its whole answer, within TIMEOUT; returns the status. Raises GatewayError."""
    plan, endpoint = plans.for_(request), plans.endpoint
    pool, options = plan.pool, plan.options
    path, query = endpoint.target_of(request, params, plan.sent)
    too_late = partial(GatewayError, Reason.RESPONSE_TIMEOUT, upstream=pool.name)
    outgoing = outgoing_for(
        request,
        pool,
        options,
        method=request.method,
        target=path + query,
        fields=rendered(_pairs(request, plan.sent, endpoint.stripped_prefix(request), body)),
        repeatable=False,
        timeout_s=options.timeout_s,
        too_late=too_late,
        body=body or None,
        lifetime=lifetime,
    )
    with Deadline(options.timeout_s, too_late):
        answer = await answer_to(replace(outgoing, once=True), pool, lifetime.exchange)
        if answer.whole() is None:
            try:
                async for _ in answer.chunks():
                    pass
            finally:
                answer.close()
    return answer.status


def _pairs(request: GatewayRequest, sent: Sent, prefix: str, body: bytes) -> Pairs:
    pairs = [pair for pair in proxied_pairs(request, sent, prefix) if pair[0] not in {MARK, b"content-length"}]
    if body or request.content_length is not None:
        pairs.append((b"content-length", b"%d" % len(body)))
    return set_fields(pairs, [(MARK, b"1")])
