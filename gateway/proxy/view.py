"""The view that forwards a request: what goes up, what comes down.

`proxy("users")` is an async view like any other; what the environment says compiles to the very same one.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Unpack, overload
from urllib.parse import quote

from asgiref.sync import markcoroutinefunction

from gateway.cache.cache import cache_for
from gateway.errors import GatewayError, Reason
from gateway.http import location
from gateway.http.exchange import Exchange
from gateway.http.forwarding import forwarding_pairs
from gateway.http.headers import HTTP_1_0, FieldLines, Pairs, encoded_changes, set_fields, strip_hop_by_hop
from gateway.http.inbox import too_large
from gateway.http.methods import SAFE_METHODS
from gateway.http.queries import joined
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.http.trace_context import new_traceparent
from gateway.proxy.keywords import ProxyKeywords
from gateway.upstreams.attempts import Outgoing, answer_to
from gateway.upstreams.call import Answer
from gateway.upstreams.options import Overrides, ProxyOptions, effective, overrides
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.records import Base, Upstream
from gateway.upstreams.retry_policy import is_repeatable
from gateway.upstreams.targets import Target, TargetValueError, parse_target
from gateway.upstreams.upload import Upload

_LOCATIONS = frozenset({b"location", b"content-location"})
_VIA_1_1, _VIA_1_0 = (b"via", b"1.1 portway"), (b"via", b"1.0 portway")


Changes = tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a view needs of the configuration, worked out once."""

    upstream: Upstream
    options: ProxyOptions
    set_up: Changes
    set_down: Changes
    origins: frozenset[tuple[str, str, int]]


def plan_for(upstream: Upstream, own: Overrides) -> Plan:
    """The plan of a view with these options of its own for this upstream."""
    options = effective(upstream.overrides, own)
    return Plan(
        upstream,
        options,
        encoded_changes(options.headers),
        encoded_changes(options.response_headers),
        frozenset((base.scheme, base.host, base.port) for base in upstream.bases),
    )


class Proxy:
    """An async Django view that sends the request to an upstream and its answer back."""

    def __init__(self, target: Target, own: Overrides) -> None:
        self.target = target
        self.own = own
        self.__name__ = self.__qualname__ = target.upstream  # Django's resolver asks for both
        self._plan: Plan | None = None
        markcoroutinefunction(self)

    @property
    def upstreams(self) -> tuple[str, ...]:
        return (self.target.upstream,)

    async def __call__(self, request: GatewayRequest, **params: str) -> GatewayResponse:
        pool = pools_of(request)[self.target.upstream]
        plan = self._plan
        if plan is None or plan.upstream is not pool.upstream:
            plan = self._plan_anew(pool)
        options, exchange = plan.options, request.exchange
        exchange.upstream = pool.name
        path, query = self.target_of(request, params)
        pairs = upward_pairs(request, plan, self.stripped_prefix(request))
        upload = _open_upload(request, options, pool.name)
        if options.total_timeout_s is not None:
            _limit_total(exchange, options.total_timeout_s, pool.name)
        outgoing = Outgoing(
            method=request.method,
            target=path + query,
            pairs=pairs,
            options=options,
            timeout_s=options.timeout_s,
            host=request.fields.first(b"host") if options.preserve_host else None,
            key=pool.balance_key(request),
            repeatable=is_repeatable(request.method, request.scope["headers"]),
            too_late=partial(_too_late, request, pool),
            upload=upload,
            chunked=upload is not None and request.content_length is None,
        )
        answer, endpoint = await answer_to(outgoing, pool, exchange)
        if request.method not in SAFE_METHODS:
            cache_for(request).written(pool.name, path + query, answer.status)
        return self._response(request, plan, answer, endpoint.base)

    def _plan_anew(self, pool: Pool) -> Plan:
        self._plan = plan = plan_for(pool.upstream, self.own)
        return plan

    def fields_set(self, pools: Mapping[str, Pool]) -> Changes:
        """The fields that its options and its upstream's set on every answer."""
        return self._plan_anew(pools[self.target.upstream]).set_down

    def target_of(self, request: GatewayRequest, params: Mapping[str, str]) -> tuple[str, str]:
        """The raw path below the upstream's base, and the query with its question mark (or nothing)."""
        template = self.target.template
        query = request.query
        if template is None:
            return request.raw_path, "?" + query if query else ""
        values = request.raw_values
        if values is None:  # one of Django's own path() lines
            values = {name: quote(str(value), safe="") for name, value in params.items()}
        try:
            path = template.path(values, request.raw_rest)
            own_query = template.query(values)
        except TargetValueError as error:
            raise GatewayError(
                Reason.TEMPLATE_VALUE,
                f"The value of {error.reference.text} in the path is empty, or has a piece '.' or '..'.",
            ) from error
        whole = joined(own_query, query)
        return path, "?" + whole if whole else ""

    def _response(self, request: GatewayRequest, plan: Plan, answer: Answer, base: Base) -> GatewayResponse:
        pairs = strip_hop_by_hop(answer.pairs)
        if plan.options.rewrite_redirects and any(name in _LOCATIONS for name, _ in pairs):
            pairs = FieldLines(_redirected(pairs, request, plan, self._path_map(request, base)))
        if plan.set_down and request.defers_fields_of is not self:
            pairs = FieldLines(set_fields(pairs, plan.set_down))
        attempts = request.exchange.attempts or 0
        if attempts > 1:
            pairs.append((b"proxy-status", b'portway; details="attempts=%d"' % attempts))
        body = answer.whole()
        if body is not None:
            return GatewayResponse(answer.status, pairs, body)
        request.exchange.closers.append(answer.close)
        response = GatewayResponse(answer.status, pairs, answer.chunks())
        response.relayed = response.body
        return response

    def _path_map(self, request: GatewayRequest, base: Base) -> location.PathMap | None:
        """How this request's path moved, where a fixed prefix was put for another one."""
        template = self.target.template
        if template is None:
            return location.PathMap(base.prefix, "")
        if not template.rest:
            return None
        prefix = template.path(request.raw_values or {}).rstrip("/")
        return location.PathMap(base.prefix + prefix, _matched_prefix(request))

    def stripped_prefix(self, request: GatewayRequest) -> str:
        """What X-Forwarded-Prefix says: the start of the client's path that the upstream does not see."""
        template = self.target.template
        if template is None or not template.rest:
            return ""
        prefix = template.path(request.raw_values or {}).rstrip("/")
        matched = _matched_prefix(request)
        return matched.removesuffix(prefix) if matched.endswith(prefix) else ""


# The first is what editors complete; the second takes header_x_tenant="acme" and other names that are not known here.
@overload
def proxy(target: str, **options: Unpack[ProxyKeywords]) -> Proxy: ...
@overload
def proxy(target: str, **options: str) -> Proxy: ...
def proxy(target: str, **options: str) -> Proxy:
    """A view that forwards to an upstream: `proxy("orders")`, `proxy("orders:/v2/**", timeout="5s")`.

    Options are those of `GATEWAY_ROUTE_*`, in lower case. Raises ValueError for a target or option that is not.
    """
    return Proxy(parse_target(target), overrides(options))


def _matched_prefix(request: GatewayRequest) -> str:
    path, rest = request.raw_path, request.raw_rest
    return path[: len(path) - len(rest)] if rest else path.rstrip("/")


# -- up -----------------------------------------------------------------------------------------------------------


def _open_upload(request: GatewayRequest, options: ProxyOptions, upstream: str) -> Upload | None:
    inbox = request.inbox
    request.check_unread()
    if inbox.complete and not getattr(request, "_body", b""):
        return None
    inbox.max_bytes = options.max_body_bytes
    inbox.idle_timeout_s = min(inbox.idle_timeout_s, options.idle_timeout_s)
    length = request.content_length
    if options.max_body_bytes is not None and length is not None and length > options.max_body_bytes:
        raise too_large(options.max_body_bytes)
    return Upload(request, options.idle_timeout_s, upstream)


def _too_late(request: GatewayRequest, pool: Pool) -> GatewayError:
    """Whose time was up: a body that is not all up there yet was not taken."""
    reason = Reason.RESPONSE_TIMEOUT if request.inbox.complete else Reason.REQUEST_WRITE_TIMEOUT
    return GatewayError(reason, upstream=pool.name)


def _limit_total(exchange: Exchange, seconds: float, upstream: str) -> None:
    error = GatewayError(Reason.TOTAL_TIMEOUT, upstream=upstream)
    if exchange.timer is not None:
        exchange.timer.cancel()
    exchange.timer = asyncio.get_running_loop().call_later(seconds, exchange.interrupt, error)


def upward_pairs(request: GatewayRequest, plan: Plan, prefix: str) -> Pairs:
    """The field lines for the upstream but Host: the client's in their order, then ours."""
    incoming, exchange = request.fields, request.exchange
    own = incoming.own
    pairs = [*incoming.plain, *((b"via", value) for value in own.get(b"via", ()))]
    if request.traceparent is None:
        pairs.append((b"traceparent", new_traceparent(exchange.trace_id)))
    else:
        pairs.append((b"traceparent", request.traceparent))
        pairs.extend((b"tracestate", value) for value in own.get(b"tracestate", ()))
    if request.content_length is not None:
        pairs.append((b"content-length", b"%d" % request.content_length))
    pairs.append((b"x-request-id", exchange.request_id.encode("ascii")))
    pairs.append(_VIA_1_0 if request.scope["http_version"] in HTTP_1_0 else _VIA_1_1)
    trusted = None
    if request.from_trusted_peer:
        trusted = incoming.x_forwarded
        pairs.extend(incoming.claims)
    asked = (request.forwarded_scheme, request.forwarded_host)
    pairs.extend(
        forwarding_pairs(request.peer, request.scope["scheme"], request.host_field, prefix, trusted, asked=asked)
    )
    return set_fields(pairs, plan.set_up) if plan.set_up else pairs


# -- down ---------------------------------------------------------------------------------------------------------


def _redirected(pairs: Pairs, request: GatewayRequest, plan: Plan, paths: location.PathMap | None) -> Pairs:
    """The pairs with Location and Content-Location said as the client must see them."""
    if paths is None:
        return pairs
    asked: frozenset[location.Origin] = frozenset()
    if plan.options.preserve_host:  # an upstream says Host, or what X-Forwarded-Proto and -Host have of it
        schemes = (request.scope["scheme"], request.forwarded_scheme)
        hosts = (request.host_field, request.forwarded_host)
        asked = location.asked_origins(filter(None, schemes), [host for host in hosts if host])

    def moved(value: bytes) -> bytes:
        return location.rewritten(value.decode("latin-1"), plan.origins, paths, asked).encode("latin-1")

    return [(name, moved(value) if name in _LOCATIONS else value) for name, value in pairs]
