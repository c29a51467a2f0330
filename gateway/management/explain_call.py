"""A proxied request on its way up: URL, header fields, options, retries; and the fields of its answer."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.auth.ways import Ways
from gateway.cache import freshness
from gateway.cache.cache import Words
from gateway.cache.view import goes_past, not_stored
from gateway.config.effective import text_of
from gateway.config.records import Config
from gateway.http.headers import HOP_BY_HOP, Pair, as_cgi, connection_options, first_text, is_claim
from gateway.http.request import GatewayRequest
from gateway.proxy.outgoing import proxied_pairs
from gateway.proxy.view import Plan, Proxy, plan_for
from gateway.routing.entries import GatewayRoute
from gateway.sockets.origins import may_open
from gateway.units import format_duration, format_size
from gateway.upstreams.options import OF_CALL, Overrides, ProxyOptions
from gateway.upstreams.places import Source
from gateway.upstreams.records import Upstream
from gateway.upstreams.retry_policy import DEFAULT_RETRY_ON, MAX_KEPT_BYTES, is_repeatable


class Section(NamedTuple):
    """A heading, and rows of words below it."""

    title: str
    rows: list[list[str]]


def passes_cache_by(request: GatewayRequest) -> Words | None:
    """Why a request bypasses the cache, in words of Cache-Status; None if it does not."""
    return goes_past(request.method, request.raw_headers, has_body=not request.inbox.complete)


def proxied(
    config: Config, request: GatewayRequest, route: GatewayRoute, view: Proxy, came: Sequence[Pair]
) -> Iterator[Section]:
    upstream = config.upstreams[view.target.upstream]
    plan = plan_for(upstream, view.own)
    path, query = Proxy(view.target.shown(), view.own).target_of(request, {}, plan.sent.shown())
    yield Section("Upstream", _urls(upstream, path + query))
    pairs = proxied_pairs(request, plan.sent, view.stripped_prefix(request))
    if route.cache is not None and not passes_cache_by(request) and not not_stored(request):
        pairs = [pair for pair in pairs if pair[0] not in freshness.CONDITIONS]  # the whole response is stored
    place = upstream.places[0]
    host = "(the instance's)" if isinstance(place, Source) else place.authority
    host = request.host_field if plan.options.preserve_host else host
    pairs = [(b"host", host.encode()), *pairs]
    places = _places_of_fields(view.own, route, upstream)
    yield Section("Headers that go up", changes_rows(request, pairs, places, came))
    yield Section("Options", options_rows(plan.options, view.own, route, upstream))
    yield Section("Retries", _retries(upstream, is_repeatable(request.method, request.raw_headers), request.method))
    yield Section("Headers of the answer", [*_set_down(plan), *cors_rows(route)])
    if is_handshake(request):
        yield Section("WebSocket", _socket_rows(request, plan.options, route))


def is_handshake(request: GatewayRequest) -> bool:
    """Whether a request asks for a WebSocket."""
    return b"websocket" in [value.lower() for value in request.fields.own.get(b"upgrade", ())]


def _socket_rows(request: GatewayRequest, options: ProxyOptions, route: GatewayRoute) -> list[list[str]]:
    """How a handshake is treated."""
    if not options.websocket:
        return [["the handshake", "501 websocket_unsupported: WEBSOCKET is off"]]
    allowed, cors = options.websocket_origins or None, route.stack.origins
    sent = first_text(request.raw_headers, b"origin")
    passes = may_open(sent, request.forwarded_host or request.host_field, allowed, cors)
    own = ["its own host", *(origin for origin in cors if origin != "*")]
    return [
        ["the handshake", "passes, in HTTP/1.1" if passes else f"403 origin_refused: {sent}"],
        ["pages that may open one", ", ".join(own if allowed is None else allowed)],
        ["a message at most", format_size(options.websocket_max_message_bytes)],
        ["without one, closed after", format_duration(options.websocket_idle_s)],
    ]


def _urls(upstream: Upstream, target: str) -> list[list[str]]:
    places, several = upstream.places, len(upstream.places) > 1 or bool(upstream.sources)
    total = sum(place.weight or 0 for place in places)
    how = f"one of {len(places)}, {upstream.balance.sentence}" if len(places) > 1 else upstream.balance.sentence
    rows = []
    for number, place in enumerate(places):
        share = f"{100 * place.weight / total:.3g}% of the requests" if place.weight is not None and total else ""
        if isinstance(place, Source):
            words = ["an instance of", f"{place}, asked for {target}"]
        else:
            words = ["", f"{place}{target}"]
        row = [upstream.name, " ".join(filter(None, words)), how if several and not number else ""]
        rows.append([*row, share] if share else row)
    return rows


def changes_rows(
    request: GatewayRequest, pairs: Sequence[Pair], places: Mapping[str, str], sent: Sequence[Pair]
) -> list[list[str]]:
    """Field by field, the changes to those that the client `sent` on the way up, and the added ones; masked if set by
    the configuration, or if a way to authenticate reads it."""
    came, goes = _by_name([*sent, *request.fields.nominated]), _by_name(pairs)
    of_way = {name.decode() for name, _ in request.identity_fields}
    ways = request.services.ways
    credentials = ways.config.credential_fields if isinstance(ways, Ways) else frozenset()
    rows = []
    for name, values in goes.items():
        shown = ", ".join(values)
        if name in of_way:
            rows.append(["set", name, shown, "for who asks"])
        elif name in places:
            rows.append(["set", name, "***", places[name]])
        elif name not in came:
            is_made = name in {"traceparent", "x-request-id"}
            rows.append(["added", name, "(made for each request)" if is_made else shown, ""])
        elif came[name] != values:
            rows.append(["changed", name, shown, f"came as {'***' if name in credentials else ', '.join(came[name])}"])
        else:
            rows.append(["kept", name, shown, ""])
    named = connection_options(request.fields.own.get(b"connection", ()))
    rows += [
        ["removed", name, ", ".join(values), places.get(name) or _why_removed(request, name.encode(), named)]
        for name, values in came.items()
        if name not in goes
    ]
    rows = [[row[0], row[1], "***", *row[3:]] if row[1] in credentials else row for row in rows]
    order = ("kept", "changed", "set", "added", "removed")
    return sorted(rows, key=lambda row: (order.index(row[0]), row[1]))


def _why_removed(request: GatewayRequest, name: bytes, named: Collection[bytes]) -> str:
    if as_cgi(name) in request.services.field_kinds.hidden or name in {one for one, _ in request.identity_fields}:
        return "is said by a way to authenticate only"
    if name in HOP_BY_HOP:
        return "is about one connection"
    if name in named:
        return "is named by Connection"
    if name == b"proxy":
        return "would become HTTP_PROXY where CGI is spoken"
    if is_claim(name):
        return "is believed of GATEWAY_TRUSTED_PROXIES only"
    return "is answered here: the whole is asked for, and stored" if name in freshness.CONDITIONS else ""


def _by_name(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("utf-8", "replace"))
    return found


def _place(route: GatewayRoute, option: str) -> str:
    """Where a route's option is set: its variable, or the line in Python."""
    variable = route.origin.removesuffix("_FILE")
    return f"{variable}__{option}" if variable.startswith("GATEWAY_") else route.origin


def _places_of_fields(own: Overrides, route: GatewayRoute, upstream: Upstream) -> dict[str, str]:
    """The request fields that the configuration sets or deletes, and where that is written."""
    places = {name: upstream.level.variable("headers", name) for name, _ in upstream.overrides.headers}
    return places | {name: _place(route, _word(name)) for name, _ in own.headers}


def _word(field: str) -> str:
    return f"HEADER_{field.upper().replace('-', '_')}"


def options_rows(holds: Any, own: Overrides, route: GatewayRoute, upstream: Upstream | None) -> list[list[str]]:
    rows = []
    for option in OF_CALL:
        if option.is_open:
            continue
        value, origin = getattr(holds, option.attribute), "default"
        if getattr(own, option.attribute) is not None:
            origin = _place(route, option.name)
        elif variable := (route if upstream is None else upstream).level.variable(option.attribute):
            origin = variable
        text = text_of(option, value)
        if value is None and (option.attribute == "max_body_bytes" or option.unit.has_dash):
            text = "all" if option.unit.has_dash else "no limit"
        rows.append([option.name, text, origin])
    if upstream is not None and upstream.max_in_flight is not None:
        wait = f"then {upstream.queue} wait for up to {format_duration(upstream.queue_timeout_s)}"
        rows.append(["MAX_IN_FLIGHT", str(upstream.max_in_flight), wait])
    return rows


def _retries(upstream: Upstream, repeatable: bool, method: str) -> list[list[str]]:
    if not upstream.retries:
        return [["none", f"{upstream.level.variable('retries')}=0"]]
    on = ", ".join(sorted(str(getattr(one, "word", one)) for one in upstream.retry_on))
    again = "may be sent again, with a body of up to " + format_size(MAX_KEPT_BYTES)
    return [
        ["at most", f"{upstream.retries} more, at another endpoint where there is one"],
        [
            "after",
            "any failure of the connection or in time, and 502, 503, 504"
            if upstream.retry_on == DEFAULT_RETRY_ON
            else on,
        ],
        [method, again if repeatable else "only if no connection was made; an Idempotency-Key would allow more"],
        ["budget", f"{upstream.retry_budget:.0%} of the requests of ten seconds" if upstream.retry_budget else "none"],
    ]


def _set_down(plan: Plan) -> list[list[str]]:
    return [["set" if value else "removed", name.decode(), "***" if value else ""] for name, value in plan.set_down]


def cors_rows(route: GatewayRoute) -> list[list[str]]:
    allowed = route.stack.origins
    return [["set", "access-control-*", f"for {', '.join(allowed)}", route.level.variable("cors")]] if allowed else []
