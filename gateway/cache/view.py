"""`cached(proxy("orders"), "60s")`: a view that stores the responses of another view."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from asgiref.sync import markcoroutinefunction
from django.conf import settings
from django.http.response import HttpResponseBase
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

from gateway import units
from gateway.cache import conditional, freshness
from gateway.cache.cache import CacheResult, Words, cache_for
from gateway.cache.coalescing import CacheRequest, OriginResponse
from gateway.cache.keys import digest, quoted
from gateway.cache.options import cache_rule
from gateway.cache.policy import CREDENTIAL, Entry, Response, Rule, entry_of, vary_names
from gateway.cache.tracked_request import TrackedRequest
from gateway.errors import GatewayError, Reason
from gateway.http.any_request import GatewayView
from gateway.http.headers import URL_CLAIMS, FieldLines, Pair, Pairs, ends_in_dot, same_authority
from gateway.http.lifetime import Lifetime
from gateway.http.problem import error_of_view
from gateway.http.request import BUILT_LATER, GatewayRequest
from gateway.http.response import GatewayResponse, change_fields, pairs_of
from gateway.http.values import beyond_url, value_of
from gateway.http.view_result import finished

View = Callable[..., Awaitable[HttpResponseBase]]

# A request with one of these needs more than a look into memory.
_SPECIAL = freshness.CONDITIONS | {b"cache-control", b"if-match", b"if-unmodified-since", b"pragma", b"range"}
# Conditions that only the upstream can evaluate (RFC 9111, section 4.3.2).
_UPSTREAM_CONDITIONS = frozenset({b"if-match", b"if-unmodified-since"})
_PARTIAL = frozenset({b"range", b"if-range"})
_PLAIN = "=,:/[] "  # not escaped in a key


class Cached(GatewayView):
    """An async Django view around another one."""

    def __init__(self, view: View, rule: Rule) -> None:
        self.view = self.__wrapped__ = view
        self.rule = rule
        self._pools: Mapping[str, Any] | None = None  # the pools for which `_changes` were looked up
        self._setter: Any = None
        self._changes: Sequence[tuple[bytes, bytes | None]] = ()
        self._words: Sequence[Sequence[str]] = ()  # values of a request, beyond its URL, that responses depend on
        self.__name__ = self.__qualname__ = getattr(view, "__name__", type(view).__name__)
        markcoroutinefunction(self)

    def serve(self, request: GatewayRequest, **params: Any) -> Awaitable[HttpResponseBase]:
        if request.upgrade is not None:  # a handshake is never stored
            return self.view(request, **params)
        why_not = self._unkeyed(request, params)
        if why_not is not None:
            return self._forward(request, params, {"fwd": "bypass", "detail": why_not})
        pools = request.services.pools
        if pools is not self._pools:
            self._find_fields(pools)
        if self._changes:
            request.defers_fields_of = self._setter
            return self._with_fields(self._look_up(request, params))
        return self._look_up(request, params)

    def _look_up(self, request: GatewayRequest, params: dict[str, Any]) -> Awaitable[HttpResponseBase]:
        cache = cache_for(request)
        past = goes_past(request.method, request.raw_headers, has_body=not request.inbox.complete)
        if past is not None:
            return self._forward(request, params, past)
        key = key_of(request, self._words)
        entries = cache.memory.get(key)
        # Hot path: a plain hit, with the same result as `freshness` would give.
        if len(entries) == 1 and entries[0].fresh_until_s > cache.time() and _is_plain(request, entries[0], self.rule):
            return _hit_response(request, entries[0], cache.time())
        return self._note_failure(request, self._answer(request, params, key))

    def _unkeyed(self, request: GatewayRequest, params: dict[str, Any]) -> str | None:
        """Why a key made from the client's request would not identify the response; else None.

        `nested`: this is not the route's own cache, but one around a view that another view calls.
        """
        stack = request.stack
        if isinstance(request, TrackedRequest) or (stack is not None and stack.cache is not self):
            return "nested"
        if request.credential_in_query:  # it would be in the database, as part of the key
            return "query-credential"
        return "request-changed" if stack and stack.is_wrapped and not _is_unchanged(request, params) else None

    # -- response fields set by options ----------------------------------------------------------------------------

    def _find_fields(self, pools: Mapping[str, Any]) -> None:
        """Look up which response fields the wrapped view's options set: they go to the client and are not stored."""
        view: Any = self.view
        while view is not None and not hasattr(view, "fields_set"):
            view = getattr(view, "__wrapped__", None)
        self._pools, self._setter = pools, view
        self._changes = () if view is None else view.fields_set(pools)
        self._words = () if view is None else beyond_url(view.words_read(pools))

    async def _with_fields(self, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        response, changes = await answer, self._changes
        pairs = pairs_of(response)
        if hasattr(self._setter, "fitting"):
            changes = self._setter.fitting(changes, pairs)
        change_fields(response, changes)
        return response

    async def _note_failure(self, request: GatewayRequest, answer: Awaitable[HttpResponseBase]) -> HttpResponseBase:
        """The response; a failure gets a Cache-Status to say that no stored response could stand in."""
        try:
            return await answer
        except GatewayError as error:
            request.exchange.cache = request.exchange.cache or "miss"
            detail = "only-if-cached" if error.reason is Reason.NOT_CACHED else "failed"
            raise _error_with_cache_status(error, {"detail": detail}) from None

    async def _answer(self, request: GatewayRequest, params: dict[str, Any], key: str) -> HttpResponseBase:
        cache = cache_for(request)
        produce = partial(self._ask_origin, request, params)
        pairs = request.raw_headers if request.asked_by is None else [*request.raw_headers, CREDENTIAL]
        cache_request = CacheRequest(key, "GET", pairs, self.rule, produce, request.lifetime)
        unstorable = not_stored(request)
        if unstorable is not None:
            result, _, words = await cache.stored(cache_request)
            if result is None:
                words["detail"] = unstorable
                requested_s = cache.time()
                response = await self._forward(request, params, words)
                if request.method == "HEAD":
                    cache.after_head(cache_request, response.status_code, pairs_of(response), requested_s)
                return response
        else:
            result, words = await cache.answer(cache_request)
            if result is None:
                return await self._forward(request, params, words)
        return _response(request, result, cache.time())

    async def _ask_origin(
        self, request: GatewayRequest, params: dict[str, Any], pairs: Pairs, lifetime: Lifetime
    ) -> OriginResponse:
        pairs = [pair for pair in pairs if pair[0] != CREDENTIAL[0]]
        detached = request.detached(TrackedRequest, pairs, lifetime)
        detached.words_in_key = self._words
        response = await self._finished(await self.view(detached, **params), request)
        request.used_identity |= detached.used_identity
        pairs = pairs_of(response)
        body = response.body if isinstance(response, GatewayResponse) else getattr(response, "content", None)
        if not isinstance(body, bytes) and getattr(response, "relayed", None) is not body:
            body = None  # while it streams, the team's code may still read fields of the request
        unnamed = detached.unnamed(vary_names(pairs) or ())
        if detached.forwarded_by_fetch:
            pairs = [*pairs, (b"vary", b"Authorization, Accept-Language")]
        return OriginResponse(response.status_code, pairs, body, response, unnamed)

    async def _forward(self, request: GatewayRequest, params: dict[str, Any], words: Words) -> HttpResponseBase:
        request.exchange.cache = "bypass" if words["fwd"] in {"method", "bypass"} else "miss"
        try:
            return _with_cache_status(await self._finished(await self.view(request, **params), request), words)
        except Exception as error:  # noqa: BLE001 - a view may raise anything
            raise _error_with_cache_status(error_of_view(error), words) from None

    async def _finished(self, result: object, request: GatewayRequest) -> HttpResponseBase:
        """The view's response. A cache that no route can see has a team's own view, which may have returned a dict."""
        if isinstance(result, HttpResponseBase):
            return result
        return await finished(result, self.view, is_head=request.method == "HEAD")


def cached(view: View, ttl: str = "on", *, max_body: str = "2MiB", stale_if_error: str | None = None) -> Cached:
    """Store the responses of a view: `cached(proxy("orders"), "60s")`.

    `ttl` is `on`, which stores responses that state a lifetime, or a duration for those that state none. A view of your
    own must name in Vary the request fields that it reads. `stale_if_error` is a duration: how long a stale response
    may stand in for a failure, if it does not state that itself. Raises ValueError.
    """
    stale_s = 0.0 if stale_if_error is None else units.positive_duration(stale_if_error)
    most = units.positive_size(max_body)
    return Cached(view, replace(cache_rule(ttl), max_body_bytes=most, stale_if_error_s=stale_s))


def goes_past(method: str, pairs: Iterable[Pair], *, has_body: bool) -> Words | None:
    """Why a request bypasses the cache, as parameters of Cache-Status; None if it does not."""
    if method not in {"GET", "HEAD"}:
        return {"fwd": "method"}
    if has_body:  # the key does not contain it
        return {"fwd": "bypass", "detail": "request-body"}
    if any(name in _UPSTREAM_CONDITIONS for name, _ in pairs):
        return {"fwd": "bypass", "detail": "condition"}
    return None


def not_stored(request: GatewayRequest) -> str | None:
    """Why the response to a request is not stored, although a stored one may answer it; else None."""
    if request.method == "HEAD":
        return "head"
    # The dot is sent in Host, and may select another site there.
    if ends_in_dot(request.host_field) or ends_in_dot(request.forwarded_host):
        return "host-dot"
    return "range" if any(name in _PARTIAL for name, _ in request.raw_headers) else None


def key_of(request: GatewayRequest, words: Sequence[Sequence[str]] = ()) -> str:
    """The key of a request: route, scheme, host, raw path and query, as the client sent them; a route that ignores case
    has one spelling of its path.

    X-Forwarded fields of a trusted proxy go up and may show in the response, so they are part of the key. So are the
    values of these words, which the route's calls depend on; the values by which the route was chosen; the fields that
    go up with the client's identity; and the language and the time zone that code before the cache has chosen.
    """
    scope, host = request.scope, same_authority(request.forwarded_host or request.host_field)
    scheme = request.forwarded_scheme or scope["scheme"]
    query = scope["query_string"]
    path, stack = request.raw_path, request.stack
    if stack is not None:
        if stack.key_path is not None:
            path = stack.key_path(path)
        if stack.key_words:
            words = (*words, *stack.key_words)
    target = f"{path}?{query.decode('latin-1')}" if query else path
    key = f"{quoted(request.exchange.route or '')} {scheme}://{host}{target}"
    extra: list[bytes] = []
    if request.from_trusted_peer:
        extra += [name + b"=" + value for name, value in request.fields.x_forwarded if name != b"x-forwarded-for"]
        extra += [name + b"=" + value for name, value in request.fields.claims if name in URL_CLAIMS]
        if request.forwarded_host:  # Host may go up too
            extra.append(b"host=" + request.host_field.encode("latin-1"))
    if words:
        extra.append(b"values=" + digest(*(value_of(request, one) for one in words)).encode("ascii"))
    if request.identity_fields:
        extra.append(b"identity=" + digest(repr(request.identity_fields)).encode("ascii"))
    if stack is not None and stack.key_rule:
        extra.append(b"rule=" + stack.key_rule.encode("ascii"))
    if stack is not None and stack.is_wrapped:
        language, zone = get_language(), get_current_timezone_name()
        extra += [f"language={language}".encode()] if language != settings.LANGUAGE_CODE else []
        extra += [f"zone={zone}".encode()] if zone != settings.TIME_ZONE else []
    if extra:
        key += " " + ";".join(quote(one.decode("latin-1"), safe=_PLAIN) for one in extra)  # no `;` stays within one
    return key


def _is_unchanged(request: GatewayRequest, params: dict[str, Any]) -> bool:
    """Whether a wrapper passes on the request as it came: anything that it adds, perhaps for one user, is not in the
    key. Attributes that middleware has set may be there: the answer of a view that reads one is not stored."""
    if request.raw_values is not None:
        given: dict[str, Any] = {name: unquote(value) for name, value in request.raw_values.items()}
    else:
        given = request.resolver_match.kwargs if request.resolver_match is not None else {}
    fresh = GatewayRequest(request.scope, request.lifetime, request.inbox, request.fields, services=request.services)
    fresh.from_trusted_peer = request.from_trusted_peer
    seen, added = vars(request), request.added
    return (
        params == given
        and not seen.keys() - vars(fresh).keys() - BUILT_LATER - added.keys()
        and all(seen.get(name) is value for name, value in added.items())
        and request.method == fresh.method
        and all(
            seen[name] == getattr(fresh, name)
            for name in ("META", "GET", "COOKIES", "path", "path_info")
            if name in seen
        )
    )


# -- answers ------------------------------------------------------------------------------------------------------


def _is_plain(request: GatewayRequest, entry: Entry, rule: Rule) -> bool:
    """Whether a fresh stored response can be sent without any further check."""
    if entry.vary or entry.always_validate or (entry.source == "ttl" and entry.lifetime_s != rule.ttl_s):
        return False
    names = [name for name, _ in request.raw_headers]
    if entry.anonymous and (request.asked_by is not None or not freshness.CREDENTIALS.isdisjoint(names)):
        return False
    return _SPECIAL.isdisjoint(names)


async def _hit_response(request: GatewayRequest, entry: Entry, now_s: float) -> GatewayResponse:
    """A fresh stored response, for the hot path."""
    request.exchange.cache = "hit"
    age_s = int(entry.current_age_s(now_s))
    value = b"portway; hit; ttl=%d" % (int(entry.lifetime_s) - age_s)
    pairs = FieldLines((*entry.pairs, (b"age", b"%d" % age_s), (b"cache-status", value)))
    return GatewayResponse(entry.status, pairs, entry.body)


def _response(request: GatewayRequest, result: CacheResult, now_s: float) -> HttpResponseBase:
    request.exchange.cache = result.outcome
    entry = result.entry
    if entry is None:
        assert result.uncacheable is not None  # noqa: S101 - a result has one of the two
        return _with_cache_status(_uncached_response(request, result.uncacheable.origin, now_s), result.words)
    status, pairs, body = conditional.applied(entry, result.pairs, request.method, request.raw_headers)
    age_s = int(entry.current_age_s(now_s))
    if age_s or "hit" in result.words:
        pairs = [pair for pair in pairs if pair[0] != b"age"]
        pairs.append((b"age", b"%d" % age_s))
    pairs.append((b"cache-status", freshness.status_field(result.words)))
    pairs = FieldLines(pairs)
    if isinstance(result.body, bytes):
        return GatewayResponse(status, pairs, body)
    if status == 304:
        if result.fetch is not None:
            result.fetch.join(reads=False)  # so that the call goes on and its response is stored
        return GatewayResponse(status, pairs, b"")
    return GatewayResponse(status, pairs, result.body)


def _uncached_response(request: GatewayRequest, origin: OriginResponse, now_s: float) -> HttpResponseBase:
    """A response that is not stored. The request's conditions did not go up, so they are applied here."""
    body = origin.body
    if origin.status == 200 and isinstance(body, bytes):
        response = Response("GET", request.raw_headers, 200, origin.pairs, now_s, now_s)
        status, pairs, _ = conditional.applied(
            entry_of(response, Rule(), body), origin.pairs, "GET", request.raw_headers
        )
        if status == 304:
            return GatewayResponse(status, pairs)
    return origin.response or GatewayResponse(origin.status, origin.pairs, body or b"")


def _error_with_cache_status(error: GatewayError, words: Words) -> GatewayError:
    """The error with a Cache-Status. Requests that were coalesced share one error, which may have it already."""
    if not any(name == b"cache-status" for name, _ in error.headers):
        error.headers = (*error.headers, (b"cache-status", freshness.status_field(words)))
    return error


def _with_cache_status(response: HttpResponseBase, words: Words) -> HttpResponseBase:
    """The response with this cache's Cache-Status after those of other caches (RFC 9211, section 2)."""
    value = freshness.status_field(words)
    if isinstance(response, GatewayResponse):
        response.pairs.append((b"cache-status", value))
    else:
        before = response.get("Cache-Status")
        response["Cache-Status"] = f"{before}, {value.decode()}" if before else value.decode()
    return response
