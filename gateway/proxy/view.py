"""The view that forwards a request to an upstream and passes the response on.

`proxy("users")` is an async view like any other; routes from the environment compile to the very same view.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Unpack, overload
from urllib.parse import quote

from asgiref.sync import markcoroutinefunction

from gateway.cache.cache import cache_for
from gateway.errors import GatewayError, Reason
from gateway.http.any_request import GatewayView
from gateway.http.headers import FieldLines, Pairs, encoded_changes, set_fields
from gateway.http.inbox import too_large
from gateway.http.methods import SAFE_METHODS
from gateway.http.queries import joined
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse
from gateway.http.values import WORDS, vary_of
from gateway.proxy import location
from gateway.proxy.keywords import ProxyKeywords
from gateway.proxy.outgoing import outgoing_for, proxied_fields
from gateway.proxy.sent import Changes, Sent
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.attempts import answer_to
from gateway.upstreams.options import Overrides, ProxyOptions, effective, overrides
from gateway.upstreams.places import Base
from gateway.upstreams.pool import Pool, pools_of
from gateway.upstreams.records import Upstream
from gateway.upstreams.retry_policy import MAX_KEPT_BYTES, is_repeatable
from gateway.upstreams.targets import Target, TargetValueError, parse_target, text_of
from gateway.upstreams.upload import Upload

_LOCATIONS = frozenset({b"location", b"content-location"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a view needs of the configuration, worked out once."""

    upstream: Upstream
    options: ProxyOptions
    sent: Sent
    set_down: Changes
    vary: bytes  # the request fields that its calls depend on
    origins: frozenset[tuple[str, str, int]]


def plan_for(upstream: Upstream, own: Overrides, words: Sequence[Sequence[str]] = ()) -> Plan:
    """The plan for an upstream, and for a view with these options of its own and these words in its target."""
    options = effective(upstream.overrides, own)
    sent = Sent(options)
    return Plan(
        upstream,
        options,
        sent,
        encoded_changes(options.response_headers),
        ", ".join(vary_of((*sent.words, *words))).title().encode("ascii"),
        frozenset((base.scheme, base.host, base.port) for base in upstream.bases),
    )


class Proxy(GatewayView):
    """An async Django view that sends the request to an upstream and passes the response back."""

    def __init__(self, target: Target, own: Overrides) -> None:
        self.target = target
        self.own = own
        self.__name__ = self.__qualname__ = target.upstream  # Django's resolver asks for both
        self._plan: Plan | None = None
        self.keeps_small_bodies = False  # if another service may have to get the same request
        markcoroutinefunction(self)

    @property
    def upstreams(self) -> tuple[str, ...]:
        return (self.target.upstream,)

    async def serve(self, request: GatewayRequest, **params: str) -> GatewayResponse:
        if request.upgrade is not None:
            return await request.upgrade(self, request, params)  # type: ignore[no-any-return]  # as `sockets` has it
        pool = pools_of(request)[self.target.upstream]
        plan = self._plan
        if plan is None or plan.upstream is not pool.upstream:
            plan = self.plan_anew(pool)
        options, exchange = plan.options, request.exchange
        exchange.upstream = pool.name
        path, query = self.target_of(request, params, plan.sent)
        if self.keeps_small_bodies and 0 < (request.content_length or 0) <= MAX_KEPT_BYTES:
            await request.read_body()
        upload = _open_upload(request, options, pool.name)
        if options.total_timeout_s is not None:
            too_long = GatewayError(
                Reason.TOTAL_TIMEOUT, upstream=pool.name, limit=("total_timeout_s", options.total_timeout_s)
            )
            request.lifetime.limit(options.total_timeout_s, too_long)
        outgoing = outgoing_for(
            request,
            pool,
            options,
            method=request.method,
            target=path + query,
            fields=proxied_fields(request, plan.sent, self.stripped_prefix(request)),
            repeatable=is_repeatable(request.method, request.scope["headers"]),  # not read by a view
            timeout_s=options.timeout_s,
            too_late=partial(_too_late, request, pool, options.timeout_s),
            upload=upload,
            chunked=upload is not None and request.content_length is None,
        )
        answer = await answer_to(outgoing, pool, exchange)
        if request.method not in SAFE_METHODS:
            cache_for(request).written(pool.name, path + query, answer.status)
        return self.response(request, plan, answer)

    def plan_anew(self, pool: Pool) -> Plan:
        """Make the plan for a pool, to be used from now on."""
        self._plan = plan = plan_for(pool.upstream, self.own, self._words_of_target)
        return plan

    def fields_set(self, pools: Mapping[str, Pool]) -> Changes:
        """The fields that the options of the view and its upstream set on every response."""
        return self.plan_anew(pools[self.target.upstream]).set_down

    def words_read(self, pools: Mapping[str, Pool]) -> tuple[Sequence[str], ...]:
        """The words of the values that its calls depend on, except path parameters."""
        sent = self.plan_anew(pools[self.target.upstream]).sent
        return (*sent.words, *self._words_of_target)

    @property
    def _words_of_target(self) -> tuple[Sequence[str], ...]:
        template = self.target.template
        references = () if template is None else template.references
        return tuple((one.owner, *one.fields) for one in references if one.fields or one.owner in WORDS)

    def target_of(self, request: GatewayRequest, params: Mapping[str, str], sent: Sent) -> tuple[str, str]:
        """The raw path below the upstream's base, and the query with its question mark (or nothing)."""
        template = self.target.template
        query = request.query
        if template is None:
            if sent.changes_query:
                query = sent.query_for(request, "", query)
            return request.raw_path, "?" + query if query else ""
        values = request.raw_values
        if values is None:  # matched by one of Django's own path() entries
            values = {name: quote(str(value), safe="") for name, value in params.items()}
        try:
            value = partial(text_of, request)
            path = template.path(values, request.raw_rest, value)
            own_query = template.query(values, value)
        except TargetValueError as error:
            raise GatewayError(
                Reason.TEMPLATE_VALUE,
                f"The value of {error.reference.text} in the path is empty, or has a piece '.' or '..'.",
            ) from error
        whole = sent.query_for(request, own_query, query) if sent.changes_query else joined(own_query, query)
        return path, "?" + whole if whole else ""

    def response(self, request: GatewayRequest, plan: Plan, answer: Attempt) -> GatewayResponse:
        """The response to the client, made from the upstream's."""
        pairs = answer.pairs
        if plan.options.rewrite_redirects and not _LOCATIONS.isdisjoint(dict(pairs)):
            base = answer.endpoint.base
            pairs = FieldLines(_redirected(pairs, request, plan, self._path_map(request, base), base))
        if plan.set_down and request.defers_fields_of is not self:
            pairs = FieldLines(set_fields(pairs, plan.set_down))
        if plan.vary:
            pairs.append((b"vary", plan.vary))
        attempts = request.exchange.attempts or 0
        if attempts > 1:
            pairs.append((b"proxy-status", b'portway; details="attempts=%d"' % attempts))
        body = answer.whole()
        if body is not None:
            return GatewayResponse(answer.status, pairs, body)
        request.lifetime.closers.append(answer.close)
        response = GatewayResponse(answer.status, pairs, answer.chunks())
        response.relayed = response.body
        return response

    def _path_map(self, request: GatewayRequest, base: Base) -> location.PathMap | None:
        """How this request's path was mapped, if one fixed prefix replaced another."""
        template = self.target.template
        if template is None:
            return location.PathMap(base.prefix, "")
        if not template.rest:
            return None
        prefix = template.path(request.raw_values or {}, "", partial(text_of, request)).rstrip("/")
        return location.PathMap(base.prefix + prefix, _matched_prefix(request))

    def stripped_prefix(self, request: GatewayRequest) -> str:
        """The value of X-Forwarded-Prefix: the start of the client's path that the upstream does not see."""
        template = self.target.template
        if template is None or not template.rest:
            return ""
        prefix = template.path(request.raw_values or {}, "", partial(text_of, request)).rstrip("/")
        matched = _matched_prefix(request)
        return matched.removesuffix(prefix) if matched.endswith(prefix) else ""


# The first overload is for completion in editors; the second takes names not known here, as header_x_tenant="acme".
@overload
def proxy(target: str, **options: Unpack[ProxyKeywords]) -> Proxy: ...
@overload
def proxy(target: str, **options: str) -> Proxy: ...
def proxy(target: str, **options: str) -> Proxy:
    """A view that forwards to an upstream: `proxy("orders")`, `proxy("orders:/v2/**", timeout="5s")`.

    Options are those of `GATEWAY_ROUTE_*`, in lower case. Raises ValueError for an invalid target or option.
    """
    return Proxy(parse_target(target), overrides(options))


def _matched_prefix(request: GatewayRequest) -> str:
    path, rest = request.raw_path, request.raw_rest
    return path[: len(path) - len(rest)] if rest else path.rstrip("/")


# -- the request --------------------------------------------------------------------------------------------------


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


def _too_late(request: GatewayRequest, pool: Pool, timeout_s: float) -> GatewayError:
    """The failure of a timeout: while the request body is incomplete, the upstream has not taken it in time."""
    reason = Reason.RESPONSE_TIMEOUT if request.inbox.complete else Reason.REQUEST_WRITE_TIMEOUT
    return GatewayError(reason, upstream=pool.name, limit=("timeout_s", timeout_s))


# -- the response -------------------------------------------------------------------------------------------------


def _redirected(pairs: Pairs, request: GatewayRequest, plan: Plan, paths: location.PathMap | None, base: Base) -> Pairs:
    """The pairs with Location and Content-Location rewritten for the client; `base` is the endpoint's."""
    if paths is None:
        return pairs
    origins = plan.origins
    if plan.upstream.sources:  # an instance knows its own address
        origins |= {(base.scheme, base.host, base.port)}
    asked: frozenset[location.Origin] = frozenset()
    if plan.options.preserve_host:  # an upstream then uses Host, or X-Forwarded-Proto and -Host
        schemes = (request.scope["scheme"], request.forwarded_scheme)
        hosts = (request.host_field, request.forwarded_host)
        asked = location.asked_origins(filter(None, schemes), [host for host in hosts if host])

    def moved(value: bytes) -> bytes:
        return location.rewritten(value.decode("latin-1"), origins, paths, asked).encode("latin-1")

    return [(name, moved(value) if name in _LOCATIONS else value) for name, value in pairs]
