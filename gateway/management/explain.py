"""What the gateway would do with a request, and why, told by the very code that would do it. Nothing is sent."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import quote

from gateway.cache import freshness
from gateway.cache.cache import Words
from gateway.cache.policy import Reply, Rule, Why, refusal
from gateway.cache.view import goes_past, not_stored
from gateway.config.effective import text_of
from gateway.config.records import Config
from gateway.errors import GatewayError, Reason
from gateway.fanout.run import Gathering, Step, steps_for
from gateway.fanout.view import Fanout
from gateway.http import cors, methods
from gateway.http.headers import HOP_BY_HOP, Pair, connection_options, is_claim
from gateway.http.request import GatewayRequest, Message, Scope
from gateway.legacy.view import Legacy
from gateway.options import FIELD
from gateway.proxy.outgoing import own_pairs, proxied_pairs
from gateway.proxy.view import Plan, Proxy, plan_for
from gateway.routing import mismatch
from gateway.routing.lines import GatewayRoute, describe
from gateway.routing.table import Miss
from gateway.routing.urls import Routes, decoded, raw_values
from gateway.server import ops
from gateway.server.asgi import GatewayHandler, open_request
from gateway.units import format_duration, format_size
from gateway.upstreams.options import OF_CALL, Overrides, effective
from gateway.upstreams.records import Upstream
from gateway.upstreams.retry_policy import DEFAULT_RETRY_ON, MAX_KEPT_BYTES, is_repeatable
from gateway.upstreams.targets import Reference, TargetValueError

_NEAR_MISSES = 5


class Section(NamedTuple):
    """A heading, and rows of words below it."""

    title: str
    rows: list[list[str]]


async def explain(config: Config, routes: Routes, scope: Scope) -> list[Section]:
    """Everything that is decided before a byte would leave. Runs in a loop, because requests live in one."""
    handler = GatewayHandler(config, routes, ())
    request = open_request(scope, _nothing_comes, handler.runtime, config.settings.client_idle_s)
    target = request.raw_path + ("?" + request.query if request.query else "")
    target = target.encode("latin-1").decode("utf-8", "replace")
    sections = [Section("Request", [[request.method, target, f"Host: {request.host_field}"]])]
    try:
        for section in _course(handler, request):
            sections.append(section)  # noqa: PERF402 - those before a failure are kept
    except GatewayError as error:
        sections.append(_refused(error))
    return [Section(title, _even(rows)) for title, rows in sections if rows]


async def _nothing_comes() -> Message:
    raise RuntimeError("nothing is read to explain a request")


def _refused(error: GatewayError) -> Section:
    reason = error.reason
    rows = [[str(error.status), reason.word, reason.title]]
    if error.detail != reason.title:
        rows.append(["", "", error.detail])
    rows += [["", "", f"{name.decode().title()}: {value.decode()}"] for name, value in error.headers]
    return Section("The gateway itself answers", rows)


def _course(handler: GatewayHandler, request: GatewayRequest) -> Iterator[Section]:
    """The way through the handler, to the view. Raises GatewayError where the gateway would answer with a problem."""
    routes = handler.routes
    path, host = handler.enter(request)
    if path == "*" or path.startswith(ops.PREFIX):
        if path != "*":
            ops.check_path(path)
            ops.check_method(path, request.method)
        yield Section("The gateway itself answers", [["under /-/ are its own endpoints; no route is asked"]])
        return
    if cors.is_preflight(request.method, request.raw_headers) and handler.preflight(request, host, path) is not None:
        origins = () if request.stack is None else request.stack.origins
        pairs = cors.preflight_pairs(origins, request.raw_headers)
        rows = [[name.decode(), value.decode()] for name, value in pairs]
        yield Section("The gateway itself answers the preflight, with 204", rows)
        return
    match = routes.find(request.method, host, path)
    if isinstance(match, Miss):
        yield from _no_route(routes, request, match, host)
        return
    line = match.route
    values = raw_values(match)
    yield Section("Route", [_named(line), *([f"{{{name}}}", value] for name, value in values.items())])
    yield Section("Also match, and lose", list(_losers(routes, line, request.method, host, path)))
    if not line.raw_path:
        routes.guards.check(request.method, host, path, match)
    request.matched(line, values, match.rest)
    decoded(values)  # refuses what is not UTF-8
    view = line.endpoint
    if isinstance(view, Proxy):
        yield from _proxied(handler.config, request, line, view)
    elif isinstance(view, Fanout):
        request.hide_claims()
        yield from _fanned_out(handler.config, request, line, view)
    elif isinstance(view, Legacy):
        yield Section("A function of yours answers, in threads of its own", _threads(view))
    else:
        yield Section("Your own view answers", [[describe(line), line.origin, "what it asks for is known to it alone"]])
    yield Section("Cache", [*_cache(line, request), *_forgets(routes, request, host)])


# -- routes -----------------------------------------------------------------------------------------------------------
def _named(line: GatewayRoute) -> list[str]:
    return [line.name or "", f"{line.rule.text} -> {describe(line)}", f"({line.origin})"]


def _losers(routes: Routes, winner: GatewayRoute, method: str, host: str, path: str) -> Iterator[list[str]]:
    """The other lines that match host and path, each with what it lost by."""
    for line in routes.lines:
        if line is not winner and not mismatch.mismatch(line.rule, host, path):
            why = mismatch.refusal(line.rule, method) or mismatch.beaten(line.rule, winner.rule)
            yield [*_named(line), why]


def _no_route(routes: Routes, request: GatewayRequest, miss: Miss, host: str) -> Iterator[Section]:
    """Raises ROUTE_NOT_FOUND or METHOD_NOT_ALLOWED, unless one of Django's own lines has the path."""
    path, method = request.raw_path, request.method
    near = sorted(routes.lines, key=lambda line: mismatch.nearness(line.rule, host, path), reverse=True)
    rows = [
        [*_named(line), mismatch.mismatch(line.rule, host, path) or mismatch.refusal(line.rule, method)]
        for line in near[:_NEAR_MISSES]
    ]
    rows += [[f"and {len(near) - _NEAR_MISSES} more"]] if len(near) > _NEAR_MISSES else []
    yield Section("No route() line or GATEWAY_ROUTE_* matches; the nearest", rows)
    routes.guards.check(method, host, path, miss)
    found = routes.find_django(request)
    if found is not None:
        yield Section("Django's own path() line answers", [[found[3], str(found[2] or "")]])
        return
    if not miss.allowed:
        raise GatewayError(Reason.ROUTE_NOT_FOUND)
    raise GatewayError(Reason.METHOD_NOT_ALLOWED, headers=[(b"allow", ", ".join(sorted(miss.allowed)).encode())])


def _even(rows: list[list[str]]) -> list[list[str]]:
    longest = max(map(len, rows), default=0)
    return [row + [""] * (longest - len(row)) for row in rows]


# -- a proxied route --------------------------------------------------------------------------------------------------
def _proxied(config: Config, request: GatewayRequest, line: GatewayRoute, view: Proxy) -> Iterator[Section]:
    upstream = config.upstreams[view.target.upstream]
    plan = plan_for(upstream, view.own)
    path, query = Proxy(view.target.shown(), view.own).target_of(request, {})
    yield Section("Upstream", _urls(upstream, path + query))
    pairs = proxied_pairs(request, plan.set_up, view.stripped_prefix(request))
    if line.cache is not None and not _goes_past(request) and not not_stored(request):
        pairs = [pair for pair in pairs if pair[0] not in freshness.CONDITIONS]  # the whole is stored
    host = request.host_field if plan.options.preserve_host else upstream.bases[0].authority
    pairs = [(b"host", host.encode()), *pairs]
    yield Section("Headers that go up", _changes(request, pairs, _places_of_fields(view.own, line, upstream)))
    yield Section("Options", _options(plan.options, view.own, line, upstream))
    yield Section("Retries", _retries(upstream, is_repeatable(request.method, request.raw_headers), request.method))
    yield Section("Headers of the answer", [*_set_down(plan), *_cors(line)])


def _threads(view: Legacy) -> list[list[str]]:
    said = view.bulkhead.options
    return [
        ["function", view.__name__],
        ["threads", str(said.threads), f"of the pool {view.bulkhead.name}"],
        ["queue", str(said.queue), "calls may wait; more get 503 at once"],
        ["timeout", format_duration(said.timeout_s), "waiting included; then 504"],
    ]


def _urls(upstream: Upstream, target: str) -> list[list[str]]:
    method, field = upstream.balance
    how = {
        "p2c": "the less busy of two at random",
        "round_robin": "in turn",
        "hash": f"by the {f'header {field}' if field else 'client'}",
    }
    urls = [base.origin + base.prefix + target for base in upstream.bases]
    note = f"one of {len(urls)}, {how[method]}" if len(urls) > 1 else ""
    return [[upstream.name, url, note if not number else ""] for number, url in enumerate(urls)]


def _changes(request: GatewayRequest, pairs: Sequence[Pair], places: Mapping[str, str]) -> list[list[str]]:
    """Field by field what became of the client's on the way up, and what came to them; masked where it was set."""
    came, goes = _by_name([*request.raw_headers, *request.fields.nominated]), _by_name(pairs)
    rows = []
    for name, values in goes.items():
        shown = ", ".join(values)
        if name in places:
            rows.append(["set", name, "***", places[name]])
        elif name not in came:
            is_made = name in {"traceparent", "x-request-id"}
            rows.append(["added", name, "(made for each request)" if is_made else shown, ""])
        elif came[name] != values:
            rows.append(["changed", name, shown, f"came as {', '.join(came[name])}"])
        else:
            rows.append(["kept", name, shown, ""])
    named = connection_options(request.fields.own.get(b"connection", ()))
    rows += [
        ["removed", name, ", ".join(values), places.get(name) or _why_removed(name.encode(), named)]
        for name, values in came.items()
        if name not in goes
    ]
    order = ("kept", "changed", "set", "added", "removed")
    return sorted(rows, key=lambda row: (order.index(row[0]), row[1]))


def _why_removed(name: bytes, named: Collection[bytes]) -> str:
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


def _place(line: GatewayRoute, option: str) -> str:
    """Where a route's option stands: its variable, or the line in Python."""
    variable = line.origin.removesuffix("_FILE")
    return f"{variable}__{option}" if variable.startswith("GATEWAY_") else line.origin


def _places_of_fields(own: Overrides, line: GatewayRoute, upstream: Upstream) -> dict[str, str]:
    """The request fields that the configuration sets or deletes, and where that is written."""
    places = {
        name: f"{upstream.variable.removesuffix('_FILE')}__{_word(name)}" for name, _ in upstream.overrides.headers
    }
    return places | {name: _place(line, _word(name)) for name, _ in own.headers}


def _word(field: str) -> str:
    return f"HEADER_{field.upper().replace('-', '_')}"


def _options(holds: Any, own: Overrides, line: GatewayRoute, upstream: Upstream | None) -> list[list[str]]:
    rows = []
    for option in OF_CALL:
        if option.unit is FIELD:
            continue
        value, origin = getattr(holds, option.attribute), "default"
        if getattr(own, option.attribute) is not None:
            origin = _place(line, option.name)
        elif upstream is not None and getattr(upstream.overrides, option.attribute) is not None:
            origin = f"{upstream.variable.removesuffix('_FILE')}__{option.name}"
        is_size = option.attribute == "max_body_bytes"
        rows.append([option.name, "no limit" if is_size and value is None else text_of(option, value), origin])
    if upstream is not None and upstream.max_in_flight is not None:
        wait = f"then {upstream.queue} wait for up to {format_duration(upstream.queue_timeout_s)}"
        rows.append(["MAX_IN_FLIGHT", str(upstream.max_in_flight), wait])
    return rows


def _retries(upstream: Upstream, repeatable: bool, method: str) -> list[list[str]]:
    if not upstream.retries:
        return [["none", f"{upstream.variable.removesuffix('_FILE')}__RETRIES=0"]]
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


def _cors(line: GatewayRoute) -> list[list[str]]:
    allowed = line.stack.origins
    return [["set", "access-control-*", f"for {', '.join(allowed)}"]] if allowed else []


def _cache(line: GatewayRoute, request: GatewayRequest) -> list[list[str]]:
    """What is stored, and for how long; what there is in the store is for `gateway cache why` to tell."""
    cache, rows = line.cache, []
    inner = line.endpoint
    if isinstance(inner, Fanout):
        rows = [[f"part {part.name}", *_stored(part.cache)] for part in inner.fan.parts if part.cache is not None]
    if cache is None:
        return rows or [["answers are not stored"]]
    past, unstorable = _goes_past(request), not_stored(request)
    if past is not None:
        return [["this request", f"goes up: nothing stored answers it ({past.get('detail', past['fwd'])})"], *rows]
    why = refusal(Reply("GET", request.raw_headers, 200, _SAYS_NOTHING, 0.0, 0.0), cache.rule)
    answer = ["the answer", *_stored(cache.rule)]
    if unstorable is not None:
        answer = ["the answer", f"is not stored if it comes from the upstream ({unstorable})"]
    elif why is Why.REQUEST_NO_STORE:
        answer = ["the answer", f"is not stored: {why.value}"]
    elif why in {Why.AUTHORIZATION, Why.COOKIE}:
        answer = ["the answer", f"is not stored where {why.value}"]
    return [answer, *rows, ["now", "`gateway cache why` tells what is stored of this"]]


def _goes_past(request: GatewayRequest) -> Words | None:
    return goes_past(request.method, request.raw_headers, has_body=not request.inbox.complete)


def _forgets(routes: Routes, request: GatewayRequest, host: str) -> list[list[str]]:
    if request.method in methods.SAFE_METHODS or not routes.caches_at(host, request.raw_path):
        return []
    return [["then", "what is stored of this path goes, if the answer is 2xx or 3xx"]]


# An answer that could be stored, and says nothing of how long.
_SAYS_NOTHING = [(b"etag", b'"1"')]


def _stored(rule: Rule) -> list[str]:
    lasts = "" if rule.ttl_s is None else f", else {format_duration(rule.ttl_s)}"
    stale = f", stale for {format_duration(rule.stale_if_error_s)} after a failure" if rule.stale_if_error_s else ""
    return [f"stored for as long as it says{lasts}{stale}", f"up to {format_size(rule.max_body_bytes)}"]


# -- a fan-out --------------------------------------------------------------------------------------------------------
def _fanned_out(config: Config, request: GatewayRequest, line: GatewayRoute, view: Fanout) -> Iterator[Section]:
    pools: Any = {name: SimpleNamespace(upstream=upstream) for name, upstream in config.upstreams.items()}
    steps = steps_for(view, pools)
    whole = effective(Overrides(), view.own)
    gathering = Gathering(view.fan, steps, whole.timeout_s, request)
    yield Section("Parts, those of one number at the same time", _parts(gathering, steps, whole.timeout_s))
    pairs = own_pairs(request, view.fan.forward)
    kept = [row for row in _changes(request, pairs, {}) if row[0] != "removed"]
    kept += [
        ["set", name.decode(), "***", f"for the part {step.part.name}"] for step in steps for name, _ in step.changes
    ]
    yield Section("Headers that go to parts", kept)
    deadline = [
        ["TIMEOUT", format_duration(whole.timeout_s), "the whole; " + _options(whole, view.own, line, None)[0][2]]
    ]
    yield Section("Options", deadline)
    retried = {step.upstream.name: step.upstream for step in steps if step.upstream is not None}
    yield Section("Retries", [[name, f"at most {upstream.retries} more"] for name, upstream in retried.items()])
    changes = [
        ["set" if value else "removed", name, "***" if value else ""] for name, value in view.own.response_headers
    ]
    yield Section("Headers of the answer", [*changes, *_cors(line)])


def _parts(gathering: Gathering, steps: Sequence[Step], deadline_s: float) -> list[list[str]]:
    """In the order in which they can begin; placeholders stand for what other parts will say."""
    begun: dict[str, int] = {}
    waiting = list(steps)
    rows = []
    while waiting:
        ready = [step for step in waiting if step.needs <= begun.keys()]
        turn = max(begun.values(), default=0) + 1
        for step in ready:
            part = step.part
            try:
                url = _asked(gathering, step)
            except GatewayError as error:
                if not part.optional:
                    raise
                url = f"{error.reason.word}: {error.detail}"
            after = f"after {', '.join(sorted(step.needs))}" if step.needs else ""
            fails = f"optional: {part.default.decode()}" if part.optional else "required"
            limit = min(part.timeout_s or deadline_s, step.timeout_s)
            each = ", a call for each item" if part.target.mapped else ""
            rows.append([str(turn), part.name, url + each, format_duration(limit), fails, after])
        begun |= dict.fromkeys((step.part.name for step in ready), turn)
        waiting = [step for step in waiting if step not in ready]
    return rows


def _asked(gathering: Gathering, step: Step) -> str:
    """The call that makes a part."""
    if step.upstream is None:
        return f"{step.function.__name__}()" if step.function is not None else ""
    base = step.upstream.bases[0]
    return f"{step.part.method} {base.origin}{base.prefix}{_filled(gathering, step)}"


def _filled(gathering: Gathering, step: Step) -> str:
    target, unknown = step.part.target.shown(), set[str]()

    def text_of(reference: Reference) -> str:
        if reference.owner in step.needs:
            unknown.add(reference.text)
            return reference.text
        return gathering.text_of(reference)

    try:
        text = target.template.fill(gathering.raw, text_of)
    except TargetValueError as error:
        raise GatewayError(
            Reason.TEMPLATE_VALUE, f"The value of {error.reference.text} cannot stand in its URL."
        ) from None
    for placeholder in unknown:
        text = text.replace(quote(placeholder, safe=""), placeholder)
    return text
