"""The one table of every variable: name, unit, default, example, sentence.

Parsing, error messages, masks and the page docs/configuration.md (`python -m gateway.options` writes it) all come from
`OPTIONS`. A value arrives in `config` under `Option.attribute`.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway import units
from gateway.cache.policy import Rule
from gateway.http.headers import HOP_BY_HOP, as_cgi, is_claim
from gateway.http.queries import masked_target
from gateway.patterns import parse_line
from gateway.upstreams.part_targets import parse_part
from gateway.upstreams.retry_policy import failure_of


class Refused(ValueError):
    """A name or value that cannot be taken as it is; `hint` is the nearest valid name, or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Unit:
    """How a value is written: its word in the docs, its parser, what its attribute ends in, how it is masked."""

    label: str
    parse: Callable[[str], object]
    suffix: str = ""
    mask: Callable[[str], str] = units.mask_user_info


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `families` are words; a name that ends in `*` is open, the empty name is the family's own variable."""

    families: str
    name: str
    unit: Unit
    default: str
    example: str
    sentence: str
    as_attribute: str = ""

    @property
    def attribute(self) -> str:
        """What `config` calls the value: `timeout_s`, `max_body_bytes`."""
        return self.as_attribute or self.name.lower() + self.unit.suffix


def _words(words: str) -> Unit:
    return Unit(words, partial(units.choice, words=words.split("|")))


def _either(words: str, yes: str) -> Unit:
    return Unit(words, lambda text: units.choice(text, words.split("|")) == yes)


def _listed(label: str, parse: Callable[[str], object]) -> Unit:
    return Unit(label, partial(units.items_of, parse=parse))


def _shaped(label: str, pattern: str, expected: str) -> Unit:
    return Unit(label, partial(units.matching, pattern=pattern, expected=expected))


def cache_rule(text: str) -> Rule:
    """`on` or a duration -> the rule of a cached route, part or call. Raises ValueError."""
    return Rule(None if text == "on" else units.positive_duration(text))


# RFC 9112, section 6, and RFC 9110, section 7.6.1: framing and connections are the gateway's own business on each side.
_UNSETTABLE = {name.decode() for name in HOP_BY_HOP} | {"content-length", "expect"}
# What the gateway says itself in every call, once; and what would make another answer of it than whole, plain JSON.
_OWN = _UNSETTABLE | {"host", "via", "x-request-id", "traceparent", "tracestate", "accept-encoding", "range"}
_OWN |= {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}


def settable(text: str) -> str:
    """A field that may be set in a call of the gateway's own, in lower case. Raises ValueError."""
    field = units.field_name(text)
    if as_cgi(field.encode("ascii")).decode("ascii") in _OWN:
        raise ValueError("a field that is the gateway's own business in these calls; it cannot be forwarded or set")
    return field


def forwardable(text: str) -> str:
    """A field of the client's that may go on to such a call, in lower case. Raises ValueError."""
    field = settable(text)
    if is_claim(field.encode("ascii")):
        raise ValueError("what a client says of itself would pass for the gateway's word; it can be set, not forwarded")
    return field


def mask_target(text: str) -> str:
    """A route's line or a target, or what was written in its place, as it may be shown."""
    return masked_target(units.mask_user_info(text))


DURATION = Unit("duration", units.duration, "_s")
TIMEOUT = Unit("duration", units.positive_duration, "_s")
SIZE = Unit("size", units.size, "_bytes")
SOME_SIZE = Unit("size", units.positive_size, "_bytes")
RATE = Unit("rate", units.rate, "_bytes_per_s")
COUNT = Unit("number", units.whole)
POSITIVE = Unit("number", partial(units.whole, least=1))
FIELD = Unit("header value", units.field_change, mask=units.mask_all)
CERTIFICATE = Unit("PEM", units.pem_certificate, "_pem", units.mask_all)
KEY = Unit("PEM", units.pem_key, "_pem", units.mask_all)
TOKEN = Unit("secret", units.printable, mask=units.mask_all)
DATABASE = Unit("database URL", units.database_url, mask=units.mask_url)
BASES = Unit("list of base URLs", partial(units.items_of, parse=units.base_url), mask=units.mask_url)
ORIGINS = Unit("list of origins", units.origins)
ROUTE = Unit("route", parse_line, mask=mask_target)
PART = Unit("target", parse_part, mask=mask_target)
CACHE = Unit("on|duration", cache_rule)
NAMES = _listed("list of names", units.name)
FIELDS = _listed("list of header names", forwardable)
METHOD = _shaped("method", r"[A-Z][A-Z-]*", "an upper-case method, such as GET")
FUNCTION = Unit("dotted path", units.function_path)
ON = _either("on|off", "on")
BALANCE = Unit("word", units.balance)
PROBE = _shaped("path", r"/[!-\"$-~]*", "a path that begins with a slash, such as /healthz, percent-encoded")
FAILURES = Unit("list of reasons and statuses", partial(units.set_of, parse=failure_of))
STATUSES = Unit("list of statuses", partial(units.set_of, parse=partial(units.whole, least=400, most=599)))
FIELD_NAMES = _listed("list of JSON names", units.member_name)

# A table is read by its rows: let nobody break them into one argument a line.
# fmt: off
OPTIONS: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("gateway", "BIND", Unit("host:port", units.bind), "127.0.0.1:8000", "0.0.0.0:8000",
           "The address, or a name that has one, and the port to listen on; the image sets 0.0.0.0:8000."),
    Option("gateway", "WORKERS", Unit("number", partial(units.whole, least=1, most=256)), "1", "4",
           "How many worker processes serve; limits count per worker."),
    Option("gateway", "WORKER_TIMEOUT", Unit("duration", units.seconds_or_more, "_s"), "30s", "2m",
           "A worker that gives no sign of life for so long (its event loop is blocked, it is stopped) is replaced."),
    Option("gateway", "DATABASE_URL", DATABASE, "sqlite:///portway.sqlite3",
           "postgresql://portway:secret@db:5432/portway",
           "Django's database; `sqlite:///x` is relative to the working directory, `sqlite:////x` absolute."),
    Option("gateway", "URLCONF", Unit("module", units.dotted), "routes", "team.routes",
           "The Python module whose `urlpatterns` are the routes."),
    Option("gateway", "LOG", _words("json|console"), "json", "console",
           "How the log is written: JSON lines for machines, aligned columns for people."),
    Option("gateway", "LOG_LEVEL", _words("debug|info|warning|error"), "info", "debug",
           "The least level that is logged."),
    Option("gateway", "TRUSTED_PROXIES", _listed("list of IP networks", units.network), "", "10.0.0.0/8,fd00::/8",
           "Peers whose X-Forwarded-* are believed; by default nobody's are."),
    Option("gateway", "MAX_HEADERS", SOME_SIZE, "64KiB", "32KiB",
           "The largest header block of a request; above it the answer is 431."),
    Option("gateway", "CORS", ORIGINS, "", "https://app.example.com",
           "Origins that browsers may call from, on every route; `*` is any. Without it OPTIONS is proxied."),
    Option("gateway", "DISCLOSE", _words("full|minimal"), "full", "minimal",
           "Whether answers name upstreams, parts and timings."),
    Option("gateway", "DRAIN", DURATION, "8s", "25s",
           "How long requests in flight may take to end after SIGTERM."),
    Option("gateway", "DRAIN_DELAY", DURATION, "0s", "5s",
           "How long new requests are still accepted after SIGTERM, while load balancers notice."),
    Option("gateway", "REUSE_PORT", ON, "off", "on",
           "Start although the port is in use, for rolling restarts."),
    Option("gateway", "ADMIN_TOKEN", TOKEN, "", "",
           "What the status page, metrics and purges over HTTP ask for; unset, they answer this machine only."),
    Option("gateway", "CLIENT_IDLE", TIMEOUT, "30s", "1m",
           "How long a client may send nothing in the middle of a body, or read nothing of an answer."),
    Option("gateway", "CLIENT_KEEPALIVE", TIMEOUT, "75s", "11m",
           "How long a client's connection may idle between requests, or amid a head: above a balancer's idle time."),
    Option("gateway", "MIN_UPLOAD_RATE", RATE, "100B/s", "1KiB/s",
           "The least pace of a request's body: one that stays below it over CLIENT_IDLE is 408; `0B` is none."),
    Option("gateway", "MAX_IN_FLIGHT", POSITIVE, "", "2000",
           "Requests at a time, over all routes; more get 503 at once. Counts per worker."),
    Option("gateway", "CACHE_MEMORY", SIZE, "64MiB", "256MiB", "The cache in memory, over all workers; `0B` is none."),
    Option("gateway", "CACHE_DISK", SIZE, "1GiB", "10GiB",
           "The cache in the database, for all who share it; `0B` leaves it to memory, and opens no database."),
    Option("gateway", "STALL", TIMEOUT, "100ms", "50ms", "A blocked event loop is logged from here on."),

    Option("upstream", "", BASES, "", "http://users-1:8000,http://users-2:8000",
           "Where the service is: one or more base URLs; a path in one is a prefix.", "bases"),
    Option("route", "", ROUTE, "", "GET,HEAD api.example.com/u/{id} -> users:/users/{id}",
           "`[METHOD,...] [host]/path -> upstream[:/path]`; `{name}` is one segment, `/**` the rest.", "line"),

    Option("upstream route", "TIMEOUT", TIMEOUT, "30s", "2s",
           "Until the head of the answer has arrived, queue and retries included; else 504."),
    Option("upstream route", "CONNECT_TIMEOUT", TIMEOUT, "2s", "500ms", "For one connection to be made, TLS included."),
    Option("upstream route", "IDLE_TIMEOUT", TIMEOUT, "60s", "5m", "Between two reads or writes of a body, each way."),
    Option("upstream route", "TOTAL_TIMEOUT", TIMEOUT, "", "10m", "For the whole exchange, bodies included."),
    Option("upstream route", "MAX_BODY", SIZE, "10MiB", "1GiB",
           "The largest request body, above it the answer is 413; `0B` is no limit."),
    Option("upstream route", "HOST", _either("upstream|preserve", "preserve"), "upstream", "preserve",
           "Whose Host goes up: the base URL's, or the client's.", "preserve_host"),
    Option("upstream route", "REDIRECTS", _either("rewrite|raw", "rewrite"), "rewrite", "raw",
           "Whether Location and Content-Location that point at the upstream are made to point at the gateway.",
           "rewrite_redirects"),
    Option("upstream route", "HEADER_*", FIELD, "", "acme",
           "Sets a request header, replacing the client's; `_` in the name is `-`, a lone `-` as value deletes.",
           "headers"),
    Option("upstream route", "RESPONSE_HEADER_*", FIELD, "", "nosniff",
           "Sets a header of the answer; a lone `-` deletes it.", "response_headers"),

    Option("upstream", "CA", CERTIFICATE, "", "", "The certificates that https is checked against, not the system's."),
    Option("upstream", "CLIENT_CERT", CERTIFICATE, "", "", "The certificate that an https upstream is shown."),
    Option("upstream", "CLIENT_KEY", KEY, "", "", "The key of that certificate, without a passphrase."),
    Option("upstream", "BALANCE", BALANCE, "p2c", "hash:header:x-user-id",
           "Which endpoint is next: `p2c`, `round_robin`, or the same one for a client or value (`hash:client`)."),
    Option("upstream", "DNS_TTL", TIMEOUT, "10s", "1m",
           "How often host names are looked up again; every address is an endpoint."),
    Option("upstream", "KEEPALIVE", DURATION, "4s", "30s",
           "How long an idle connection is kept: less than the service itself keeps it, often 5 s. `0s` keeps none."),
    Option("upstream", "RETRIES", Unit("number", partial(units.whole, most=10)), "1", "0",
           "Further attempts after the first, at another endpoint where there is one."),
    Option("upstream", "RETRY_ON", FAILURES, "", "connection_refused connect_timeout 503",
           "Reasons and statuses that are retried; unset, every reason that can be, and 502, 503 and 504."),
    Option("upstream", "RETRY_BUDGET", Unit("percentage", units.percentage), "20%", "10%",
           "Retries at most, as a share of the requests of ten seconds; 50 are always allowed, unless it is `0%`."),
    Option("upstream", "HEALTH", PROBE, "", "/healthz",
           "The path that probes ask every endpoint for; a status from 200 to 399 is good. Unset, nothing is probed."),
    Option("upstream", "HEALTH_INTERVAL", TIMEOUT, "5s", "10s", "Between two probes of an endpoint."),
    Option("upstream", "HEALTH_TIMEOUT", TIMEOUT, "1s", "500ms", "For one probe."),
    Option("upstream", "HEALTH_RISE", POSITIVE, "2", "1", "Good probes in a row that bring an endpoint back."),
    Option("upstream", "HEALTH_FALL", POSITIVE, "3", "2", "Bad probes in a row that take an endpoint out."),
    Option("upstream", "MAX_IN_FLIGHT", POSITIVE, "", "100",
           "Requests at a time, to all endpoints together; more wait in the queue. Counts per worker."),
    Option("upstream", "QUEUE", COUNT, "50", "0", "Requests that may wait; more get 503 at once."),
    Option("upstream", "QUEUE_TIMEOUT", TIMEOUT, "1s", "200ms", "How long one may wait, then 503."),

    Option("route", "PATH", _either("strict|raw", "raw"), "strict", "raw",
           "`raw` lets paths through that are 400 elsewhere: with dot segments, or readable as another route's.",
           "raw_path"),
    Option("route", "CORS", ORIGINS, "", "https://app.example.com", "As GATEWAY_CORS, for this route alone."),
    Option("route", "CACHE", CACHE, "", "60s",
           "Stores answers. `on`: for as long as the upstream says; a duration: also where it says nothing."),
    Option("route", "CACHE_MAX_BODY", SOME_SIZE, "2MiB", "10MiB", "Larger answers pass through unstored."),
    Option("route", "STALE_IF_ERROR", TIMEOUT, "", "1h",
           "How long a stored answer may be sent stale if the upstream fails, where it says nothing of that itself."),
    Option("route", "PART_*", PART, "", "orders:/orders?user={id}",
           "A part of a fan-out: `upstream:/path`, with values of the request and of other parts in braces.", "parts"),
    Option("route", "OPTIONAL", NAMES, "", "team,orders",
           "Parts whose failure leaves the rest whole; a part with a default is one too."),
    Option("route", "MERGE", _words("keyed|flat"), "keyed", "flat",
           "How parts become one object: under their names, or all their members side by side."),
    Option("route", "CONCURRENCY", POSITIVE, "8", "16", "Calls of one mapped part at a time."),
    Option("route", "MAX_ITEMS", POSITIVE, "100", "500", "Calls of one mapped part at most."),
    Option("route", "PASS", STATUSES, "", "404,410",
           "Statuses of a required part that become the answer's own, instead of 502.", "passes"),
    Option("route", "FORWARD_HEADERS", FIELDS, "", "x-tenant,cookie",
           "Headers of the client that go to parts, beside Authorization and Accept-Language.", "forward"),
    Option("route", "LEGACY", FUNCTION, "", "reports.build", "The synchronous function that answers."),

    Option("part", "TIMEOUT", TIMEOUT, "", "300ms", "For this part, within the route's."),
    Option("part", "PICK", FIELD_NAMES, "", "id,name",
           "The members that are kept of its JSON object, or of each object of its list."),
    Option("part", "DEFAULT", Unit("JSON", units.json_text), "null", "[]", "What stands for the part if it fails."),
    Option("part", "METHOD", METHOD, "GET", "POST", "The method of the call."),
    Option("part", "HEADER_*", FIELD, "", "acme", "Sets a header of the call; a lone `-` deletes it.", "headers"),
    Option("part", "CACHE", CACHE, "", "60s", "Stores answers to this part's calls, as a route's `CACHE` does."),
    Option("part", "MAX_BODY", SOME_SIZE, "10MiB", "1MiB", "The largest answer of this part."),
    Option("part", "LEGACY", FUNCTION, "", "teams.load", "The synchronous function that makes this part."),

    Option("legacy", "THREADS", POSITIVE, "4", "8", "Calls that run at a time, per worker."),
    Option("legacy", "QUEUE", COUNT, "16", "0", "Calls that may wait for a thread; more get 503 at once."),
    Option("legacy", "TIMEOUT", TIMEOUT, "5s", "30s", "For one call, then 504."),
    Option("database", "", DATABASE, "", "postgresql://reports:secret@db:5432/reports",
           "A further Django database, by its name in lower case.", "url"),
)
# fmt: on

TABLE = {(family, option.name): option for option in OPTIONS for family in option.families.split()}
PLAIN = tuple(option for option in OPTIONS if option.families == "gateway")
SHARED = tuple(option for option in OPTIONS if option.families == "upstream route")
PART_OPTIONS = tuple(option for option in OPTIONS if option.families == "part" and option.name != "LEGACY")
FAN = tuple(
    option for option in OPTIONS if option.name in {"MERGE", "CONCURRENCY", "MAX_ITEMS", "PASS", "FORWARD_HEADERS"}
)
LEGACY = tuple(option for option in OPTIONS if option.families == "legacy")
UPSTREAM = tuple(option for option in OPTIONS if option.families == "upstream" and option.name)

# What the environment may call something. The end `_FILE` marks the twin that reads a file, so no name has it.
_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_A = {"gateway": "the gateway itself", "upstream": "an upstream", "route": "a route", "part": "a part"}
_A |= {"legacy": "a legacy pool", "database": "a database"}


# -- look-up ------------------------------------------------------------------------------------------------------


def lookup(family: str, word: str) -> tuple[Option, str]:
    """An option's word within a family -> the option, and what stands for the `*` of an open one; raises Refused."""
    option = TABLE.get((family, word))
    if option is not None:
        return option, ""
    for open_name in names_of(family):
        stem = open_name.removesuffix("*")
        if stem != open_name and word.startswith(stem):
            check_name(word.removeprefix(stem), stem.rstrip("_").lower().replace("_", " "))
            return TABLE[family, open_name], word.removeprefix(stem)
    near = nearest(word, [_filled(name, word) for name in names_of(family)])
    for other in ("upstream", "route", "part", "gateway"):
        if (other, word) in TABLE:
            raise Refused(f"{word} is an option of {_A[other]}, not of {_A[family]}", near)
    raise Refused(f"{_A[family]} has no such option", near)


def _filled(name: str, word: str) -> str:
    """`HEADER_*` as it would be for `HAEDER_X_TENANT`: `HEADER_X_TENANT`."""
    tail = word.split("_", name.count("_"))[name.count("_") :]
    return name.replace("*", tail[0] if tail and tail[0] else "X")


def check_name(name: str, family: str) -> None:
    """Raises Refused unless `name`, in upper case, is one that an upstream, a route or a part may have."""
    if name == "FILE" or name.endswith("_FILE"):
        raise Refused("no name is or ends in _FILE, which marks the twin that reads a file")
    if not _NAME.fullmatch(name):
        raise Refused(f"the name of a {family} is upper-case words, digits and single underscores, such as USERS_V2")


def names_of(family: str) -> list[str]:
    """The options of a family, open ones with their `*`; not the family's own variable."""
    return [name for owner, name in TABLE if owner == family and name]


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that `word` was probably meant to be, or nothing."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    return close[0] if close else ""


def field_of(option: Option, member: str) -> str:
    """The field name of a `HEADER_X_Y` option: `x-y`. Raises Refused for what nobody but the gateway may set."""
    field = member.lower().replace("_", "-")
    if field in _UNSETTABLE:
        raise Refused("the gateway frames messages and manages connections itself; this header cannot be set")
    if field == "host" and option.attribute == "headers":
        raise Refused("Host is chosen by __HOST=upstream or __HOST=preserve", "HOST")
    return field


# -- the page -----------------------------------------------------------------------------------------------------

_INTRODUCTION = """\
# Configuration

<!-- Written by `python -m gateway.options` from the table in gateway/options.py; a test holds it current. -->

Portway reads environment variables, one for each thing; options follow a double underscore:

```sh
export GATEWAY_UPSTREAM_USERS='http://users-1:8000,http://users-2:8000'   # a service, at one or more base URLs
export GATEWAY_UPSTREAM_USERS__TIMEOUT=2s                                 # an option of it
export GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE=/run/secrets/users_token
export GATEWAY_ROUTE_USERS='/users/** -> users'                           # what the gateway answers, and from where
export GATEWAY_ROUTE_USERS__TIMEOUT=500ms                                 # the route's option beats the upstream's
```

- Variables are upper case. The name of an upstream or a route is words, digits and single underscores (`USERS_V2`); it
  is referred to in lower case (`-> users_v2`).
- **Every variable has a twin that ends in `_FILE`** and names a file of UTF-8 to read the value from, less one trailing
  newline and a byte order mark. Secrets belong there. Setting both is an error; no name ends in `_FILE`.
- Durations have a unit (`500ms`, `60s`, `5m`, `1h`), sizes too (`64KiB`, `10MiB`, `1GiB`; also `kB`, `MB`, `GB`),
  percentages a `%`; a rate is a size a second (`1KiB/s`). Lists are separated by commas or white space.
- An empty value is the same as none, and is warned about. Quotes that arrive inside a value are an error: the shell
  takes them away, but `docker --env-file` does not.
- In `HEADER_X_Y` a `_` is a `-`: the field is `x-y`. Header values are never printed.
- What Kubernetes sets for a Service called `gateway` or `gateway-x` is ignored (`GATEWAY_PORT=tcp://...`).
- An unknown `GATEWAY_*` stops the start, with the nearest valid name; `gateway check` shows all problems at once.
- Spans are exported as the standard `OTEL_*` variables say: [Tracing](operating.md#tracing).
"""

_SECTIONS = {
    "gateway": ("The gateway itself", "GATEWAY_"),
    "upstream": ("Upstreams", "GATEWAY_UPSTREAM_<NAME>"),
    "route": ("Routes", "GATEWAY_ROUTE_<NAME>"),
    "part": ("Parts of a fan-out", "GATEWAY_ROUTE_<NAME>__PART_<PART>"),
    "legacy": ("Legacy pools", "GATEWAY_LEGACY_<NAME>"),
    "database": ("Further databases", "GATEWAY_DATABASE_<NAME>"),
}


def reference() -> str:
    """The whole of docs/configuration.md."""
    return "\n".join([_INTRODUCTION, *(line for family in _SECTIONS for line in _section(family))])


def _section(family: str) -> Iterator[str]:
    title, prefix = _SECTIONS[family]
    yield f"## {title}\n"
    yield "| variable | value | default | example | meaning |"
    yield "|---|---|---|---|---|"
    for (owner, name), option in TABLE.items():
        if owner == family:
            default = option.default and f"`{option.default}`"
            separator = "__" if name and family != "gateway" else ""
            inherits = family == "route" and option in SHARED
            yield _row(prefix + separator + name.replace("*", "<X>"), option, "the upstream's" if inherits else default)
    yield ""


def _row(variable: str, option: Option, default: str) -> str:
    # What is a secret or a whole PEM file is shown the way it should be given.
    example = option.example or f"{option.name}_FILE=/run/secrets/{option.name.lower()}"
    cells = (f"`{variable}`", option.unit.label, default, f"`{example}`", option.sentence)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    page.write_text(reference(), encoding="utf-8")
