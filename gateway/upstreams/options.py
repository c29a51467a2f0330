"""The options of upstreams and of calls to them, and which of them apply to a call.

A call's options may be an upstream's or a route's: `effective` merges them. `overrides` reads them as written in
Python.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from gateway import units
from gateway.http.field_template import FieldTemplate, parse_template
from gateway.http.queries import masked_target
from gateway.http.request import DEFAULT_MAX_BODY_BYTES
from gateway.http.settable import UNSETTABLE, passing
from gateway.http.values import problem_of
from gateway.options import (
    COUNT,
    DURATION,
    FIELD,
    LEVELS,
    ON,
    ORIGINS,
    POSITIVE,
    SIZE,
    TIMEOUT,
    Level,
    Option,
    Refused,
    Unit,
    defaults_of,
    either,
    find,
    matching,
    nearest_row,
)
from gateway.upstreams.load_balancing import balance
from gateway.upstreams.places import Source, mask_places, parse_places
from gateway.upstreams.retry_policy import failure_of


def query_value(text: str) -> str | None:
    """What to do with a parameter of the query: its value, or None where a lone `-` deletes it."""
    return None if text == "-" else text


def query_parameters(text: str) -> tuple[tuple[str, str | FieldTemplate | None], ...]:
    """`apiKey={user} page-size=10` -> names and values; `-` as a value deletes a parameter. Raises ValueError."""

    def parameter(word: str) -> tuple[str, str | FieldTemplate | None]:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise ValueError("expected parameters with values, such as apiKey={user} page-size=10")
        return name, template_or_text(query_value(value))

    return units.items_of(text, parameter)


def template_or_text(text: str | None) -> str | FieldTemplate | None:
    """A text with values of the request in braces: its template, or the text if it has none. Raises ValueError."""
    if text is None or not ("{" in text or "}" in text):
        return text
    template = parse_template(text, problem_of)
    return template if template.values else "".join(str(piece) for piece in template.pieces)


CERTIFICATE = Unit("PEM", units.pem_certificate, "_pem", units.mask_all)
KEY = Unit("PEM", units.pem_key, "_pem", units.mask_all)
PLACES = Unit("list of base URLs and sources", parse_places, mask=mask_places)
ITERATOR = Unit("dotted path", lambda text: (Source("python", "", units.function_path(text)),))
BALANCE = Unit("word", balance)
PROBE = replace(
    matching("path", r"/[!-\"$-~]*", "a path that begins with a slash, such as /healthz, percent-encoded"),
    mask=masked_target,
)
FAILURES = Unit("list of reasons and statuses", partial(units.set_of, parse=failure_of))
PASSING_FIELDS = Unit("list of header names", passing, has_dash=True)
PASSING_NAMES = Unit("list of names", units.passing_names, has_dash=True)
PARAMETERS = Unit("list of name=value", query_parameters, mask=units.mask_all)
PARAMETER = Unit("value", query_value, mask=units.mask_all, has_dash=True)
_MAX_BODY = units.format_size(DEFAULT_MAX_BODY_BYTES)

# fmt: off
# families, name, unit, default, example, sentence
UPSTREAM = Option("upstream", "", PLACES, "", "http://users-1:8000,http://users-2:8000",
                  "Where the service is: base URLs, `srv+http://`, `consul+http://`, `eureka+http://`, shares "
                  "(`;weight=95`).",
                  "places")
FROM = Option("upstream", "FROM", ITERATOR, "", "discovery.odd",
              "Instead of base URLs: your own Python function that returns an async iterator of lists of base "
              "URLs.", "places")
OF_CALL: tuple[Option, ...] = (
    Option(LEVELS, "TIMEOUT", TIMEOUT, "30s", "2s",
           "The time until the head of the response has arrived, with queue and retries; else 504."),
    Option(LEVELS, "CONNECT_TIMEOUT", TIMEOUT, "2s", "500ms", "The time to make one connection, TLS included."),
    Option(LEVELS, "IDLE_TIMEOUT", TIMEOUT, "60s", "5m",
           "The longest pause between two reads or writes of a body, each way."),
    Option(LEVELS, "TOTAL_TIMEOUT", TIMEOUT, "", "10m", "The time for the whole exchange, bodies included."),
    Option(LEVELS, "MAX_BODY", SIZE, _MAX_BODY, "1GiB",
           "The largest request body; a larger one gets 413; `0B` is no limit."),
    Option(LEVELS, "HOST", either("upstream|preserve", "preserve"), "upstream", "preserve",
           "Which Host is sent upstream: the base URL's, or the client's.", "preserve_host"),
    Option(LEVELS, "REDIRECTS", either("rewrite|raw", "rewrite"), "rewrite", "raw",
           "Whether Location and Content-Location that point to the upstream are rewritten to point to the gateway.",
           "rewrite_redirects"),
    Option(LEVELS, "WEBSOCKET", ON, "on", "off", "Whether WebSocket handshakes pass; with `off` they get 501."),
    Option(LEVELS, "WEBSOCKET_ORIGINS", ORIGINS, "", "https://app.example.com",
           "Origins whose pages may open a WebSocket; others get 403. If unset: the requested host, and those "
           "of `__CORS`."),
    Option(LEVELS, "WEBSOCKET_MAX_MESSAGE", SIZE, "1MiB", "16MiB",
           "The largest WebSocket message, each way; a larger one closes the socket with 1009."),
    Option(LEVELS, "WEBSOCKET_IDLE", DURATION, "1h", "0s",
           "A WebSocket without a message for this long is closed with 1001; `0s` is no limit."),
    Option(LEVELS, "HEADER_*", FIELD, "", "acme",
           "Sets a request header, replacing the client's: text, values in braces (`{client}`); a lone `-` deletes.",
           "headers", has_values=True),
    Option(LEVELS, "FORWARD_HEADERS", PASSING_FIELDS, "", "authorization content-* accept*",
           "Client headers that are sent upstream, by default all; to parts in addition to Authorization, "
           "Accept-Language."),
    Option(LEVELS, "FORWARD_QUERY", PASSING_NAMES, "", "page limit",
           "Parameters of the client's query that are sent upstream; `-` is none, `*` is all (as if unset)."),
    Option(LEVELS, "QUERY", PARAMETERS, "", "apiKey={user} page-size=10",
           "Sets query parameters that are sent upstream, as `QUERY_*` does, with names of any "
           "spelling.", "query_list"),
    Option(LEVELS, "QUERY_*", PARAMETER, "", "{claim.sub}",
           "Sets a query parameter that is sent upstream, its name in lower case; a lone `-` removes the client's.",
           "query", has_values=True),
    Option(LEVELS, "RESPONSE_HEADER_*", FIELD, "", "nosniff",
           "Sets a header of the response; a lone `-` deletes it.", "response_headers"),
)
OF_UPSTREAM: tuple[Option, ...] = (
    Option("upstream", "CA", CERTIFICATE, "", "",
           "The CA certificates to verify https upstreams with, instead of the system's."),
    Option("upstream", "CLIENT_CERT", CERTIFICATE, "", "", "The client certificate to show to https upstreams."),
    Option("upstream", "CLIENT_KEY", KEY, "", "", "The private key of that certificate, without a passphrase."),
    Option("gateway upstream", "BALANCE", BALANCE, "p2c", "hash:header:x-user-id",
           "How endpoints are chosen: `p2c`, `round_robin`, `sticky`, or by a hash of the client or a value "
           "(`hash:client`)."),
    Option("gateway upstream", "DNS_TTL", TIMEOUT, "10s", "1m",
           "How often host names are resolved again; every address is an endpoint."),
    Option("gateway upstream", "KEEPALIVE", DURATION, "4s", "30s",
           "How long an idle connection is kept; set it below the service's own idle time, often 5 s. `0s` "
           "keeps none."),
    Option("gateway upstream", "RETRIES", Unit("number", partial(units.whole, most=10)), "1", "0",
           "Further attempts after the first, at another endpoint where there is one."),
    Option("gateway upstream", "RETRY_ON", FAILURES, "", "connection_refused connect_timeout 503",
           "Reasons and statuses that are retried; if unset, every reason that can be, and 502, 503 and 504."),
    Option("gateway upstream", "RETRY_BUDGET", Unit("percentage", units.percentage), "20%", "10%",
           "Most retries, as a share of the requests of ten seconds; 50 are always allowed, except with `0%`."),
    Option("gateway upstream", "HEALTH", PROBE, "", "/healthz",
           "The path that probes request of every endpoint; statuses 200 to 399 are good. If unset, there are "
           "no probes."),
    Option("gateway upstream", "HEALTH_INTERVAL", TIMEOUT, "5s", "10s", "The time between two probes of an endpoint."),
    Option("gateway upstream", "HEALTH_TIMEOUT", TIMEOUT, "1s", "500ms", "The time limit of one probe."),
    Option("gateway upstream", "HEALTH_RISE", POSITIVE, "2", "1",
           "How many good probes in a row bring an endpoint back."),
    Option("gateway upstream", "HEALTH_FALL", POSITIVE, "3", "2", "How many bad probes in a row take an endpoint out."),
    Option("upstream", "MAX_IN_FLIGHT", POSITIVE, "", "100",
           "Requests at a time per worker, to all endpoints together; more wait in the queue."),
    Option("gateway upstream", "QUEUE", COUNT, "50", "0",
           "How many requests may wait in the queue; more get 503 at once."),
    Option("gateway upstream", "QUEUE_TIMEOUT", TIMEOUT, "1s", "200ms",
           "How long a request may wait in the queue; then it gets 503."),
)
# fmt: on

# The other options of a route in the environment: used in Python, `overrides` says where each belongs.
STORES_ANSWERS = frozenset({"CACHE", "CACHE_MAX_BODY", "STALE_IF_ERROR"})
NOT_OF_CALL = frozenset({"PATH", "CORS", "CACHE_CONTROL", "RATE_LIMIT", "COST", "MIDDLEWARE", "LEGACY", "PART_*"}) | {
    *("OPTIONAL", "MERGE", "CONCURRENCY", "MAX_ITEMS", "PASS", "AUTH", "ROLES", "SCOPES"),
    *("BODY", "TYPE", "ON_*", "MAINTENANCE", "CORS_METHODS", "CORS_HEADERS", "CORS_MAX_AGE", "CORS_CREDENTIALS"),
    *("COMPRESS", "MIRROR", "MIRROR_SHARE", "MIRROR_UNSAFE"),
    *("CASE", "WHEN"),
}
_CALL = {option.name: option for option in OF_CALL}
_UPSTREAM = {option.name for option in OF_UPSTREAM}


# -- what holds ---------------------------------------------------------------------------------------------------

# (lower-case name of a field or parameter, its value, or None where it is deleted)
Fields = tuple[tuple[str, str | FieldTemplate | None], ...]


def _masked_repr(record: "Overrides | ProxyOptions") -> str:
    values = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    for name in ("headers", "response_headers", "query", "query_list"):
        values[name] = {key: value if value is None else "***" for key, value in values[name] or ()}
    return f"{type(record).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Overrides:
    """The options of an upstream or a route for proxying; None, or no fields, where nothing is set."""

    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    total_timeout_s: float | None = None  # 0 lifts the limit
    max_body_bytes: int | None = None  # 0 lifts the limit
    preserve_host: bool | None = None
    rewrite_redirects: bool | None = None
    forward_headers: tuple[str, ...] | None = None
    forward_query: tuple[str, ...] | None = None
    query_list: Fields | None = None
    query: Fields = ()
    websocket: bool | None = None
    websocket_origins: tuple[str, ...] | None = None
    websocket_max_message_bytes: int | None = None
    websocket_idle_s: float | None = None
    headers: Fields = ()
    response_headers: Fields = ()

    __repr__ = _masked_repr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProxyOptions:
    """The options that apply to a proxied call, from `effective`; `max_body_bytes` None is no limit."""

    timeout_s: float
    connect_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float | None = None
    max_body_bytes: int | None
    preserve_host: bool
    rewrite_redirects: bool
    forward_headers: tuple[str, ...] | None = None  # None and `*` are all
    forward_query: tuple[str, ...] | None = None
    query_list: Fields | None = None
    query: Fields = ()
    websocket: bool = True
    websocket_origins: tuple[str, ...] | None = None
    websocket_max_message_bytes: int = 0
    websocket_idle_s: float = 0.0
    headers: Fields
    response_headers: Fields

    __repr__ = _masked_repr


_DEFAULTS = defaults_of(OF_CALL)
_TAKEN_AWAY = {**_DEFAULTS, "total_timeout_s": 0.0, "query_list": ()}


def effective(upstream: Overrides, route: Overrides) -> ProxyOptions:
    """The options of a call: the route's, else the upstream's, else the default; fields are merged by name."""
    values = _DEFAULTS | _set_by(upstream) | _set_by(route)
    values["max_body_bytes"] = values["max_body_bytes"] or None
    values["total_timeout_s"] = values.get("total_timeout_s") or None
    values["query"] = _merged(upstream.query, route.query)
    values["headers"] = _merged(upstream.headers, route.headers)
    values["response_headers"] = _merged(upstream.response_headers, route.response_headers)
    return ProxyOptions(**values)


def _set_by(layer: Overrides) -> dict[str, Any]:
    values = {entry.name: getattr(layer, entry.name) for entry in fields(layer)}
    return {name: value for name, value in values.items() if value is not None}


def _merged(below: Fields, above: Fields) -> Fields:
    return tuple(sorted({**dict(below), **dict(above)}.items(), key=lambda one: one[0]))


# -- options as Python and the environment write them -------------------------------------------------------------


def overrides(texts: Mapping[str, str]) -> Overrides:
    """Options in Python, as `proxy("orders", timeout="5s", header_x_tenant="acme")` has them: the names of the
    environment in lower case -> Overrides. Raises ValueError that lists every fault."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, text in sorted(texts.items()):
        try:
            parse_into(values, *_option_of_call(key), _text_of_call(text))
        except ValueError as error:
            hint = error.hint.lower() if isinstance(error, Refused) else ""
            faults.append(f"{key}: {error}; did you mean {hint}?" if hint else f"{key}: {error}")
    if faults:
        raise ValueError("; ".join(faults))
    return overrides_of(values)


def overrides_of(values: Mapping[str, Any]) -> Overrides:
    """Parsed values by attribute -> Overrides; values of other options are left out.

    A value removed by a lone `-` (None) becomes the default again, or, where there is none, no limit.
    """
    own: dict[str, Any] = {}
    for option in OF_CALL:
        if option.attribute in values:
            value = values[option.attribute]
            own[option.attribute] = _TAKEN_AWAY.get(option.attribute) if value is None else value
    return Overrides(**own)


def _option_of_call(key: str) -> tuple[Option, str]:
    if key != key.lower():
        raise Refused("options are lower case in Python", key)
    word = key.upper()
    if (option := find(_CALL, word)) is not None:
        return option
    if word in STORES_ANSWERS:
        raise Refused("what stores answers is a view around this one: cached(proxy('orders'), '60s')")
    if word in NOT_OF_CALL or word.startswith("PART_"):
        raise Refused("this is an option of a route in the environment, not of a call")
    near = nearest_row([*_CALL, *STORES_ANSWERS, *NOT_OF_CALL], word)
    if word in _UPSTREAM:
        raise Refused(f"{word} is an option of an upstream, not of a route", near)
    raise Refused("a route has no such option", near)


def _text_of_call(text: object) -> str:
    if not isinstance(text, str):
        raise Refused("expected a string, written as in the environment: timeout='5s'")
    return text


def parse_into(values: dict[str, Any], option: Option, member: str, text: str, from_file: bool = False) -> None:
    """Parse one option's text into `values`, by its attribute. Raises ValueError."""
    text = text.strip(" \t") if option.unit is FIELD else text.strip()
    name = member_of(option, member)
    if not from_file:
        _refuse_quotes(option, text)
    is_taken_away = text == "-" and option.has_levels and not option.unit.has_dash
    if is_taken_away:
        value = None
    else:
        value = option.unit.parse(text) if option.by_member is None else option.by_member(member, text)
    if option.has_values and isinstance(value, str) and not from_file:
        value = template_or_text(value)
    values[option.attribute] = (*values.get(option.attribute, ()), (name, value)) if option.is_open else value


def member_of(option: Option, member: str) -> str:
    """The member for the `*` of an open option, in the form of its values. Raises Refused for a field that may not be
    set."""
    return field_of(option, member) if option.unit is FIELD else member.lower()


def _refuse_quotes(option: Option, text: str) -> None:
    bare = text[1:-1]
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0] or option.unit.label == "JSON":
        return
    if option.unit is not FIELD:
        raise Refused(f"the value is still in quotes; without them it is {option.unit.mask(bare)}")
    if text[0] not in bare:
        raise Refused("the value is still in quotes; if they are meant, give it by the _FILE twin")


def field_of(option: Option, member: str) -> str:
    """The field name of a `HEADER_X_Y` option: `x-y`. Raises Refused for a field that only the gateway may set."""
    field = member.lower().replace("_", "-")
    if field in UNSETTABLE:
        raise Refused("the gateway frames messages and manages connections itself; this header cannot be set")
    if field == "host" and option.attribute == "headers":
        raise Refused("Host is chosen by __HOST=upstream or __HOST=preserve", "HOST")
    return field


def place_of(origin: str, level: Level, own: Any, attribute: str) -> str:
    """Where an option of a route is set; `own` are the route's own options. Empty for a default."""
    if not origin.startswith("GATEWAY_") and getattr(own, attribute, None) is not None:
        return f"{origin}: {attribute.removesuffix('_s')}="
    variable: str = level.variable(attribute)
    return variable
