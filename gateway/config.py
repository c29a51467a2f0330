"""The environment becomes one frozen Config, or every problem at once.

`environment` makes entries of the variables; here the entries of one upstream or route become values, values become
records, and records are checked against each other. A step notes its problems and goes on with what is left, so that a
person mends all of them in one go.

No message holds a credential: a problem's value is masked, the text of a file is never shown, and the records hide
header values, keys and the database's URL from their repr.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any

from gateway import environment, options, units
from gateway.environment import Entry, ReadFile, Reading
from gateway.options import Option, Refused
from gateway.patterns import Pattern, PatternError, Target, clash
from gateway.retries import DEFAULT_RETRY_ON, Failure

NO_TARGET = "no target; in a shell, quote the value: > is a redirection"
NO_ROUTES_HELP = """\
export GATEWAY_UPSTREAM_USERS='http://127.0.0.1:9001'
export GATEWAY_ROUTE_USERS='/users/** -> users'
"""

Fields = tuple[tuple[str, str | None], ...]  # (lower-case field name, its value, or None where it is deleted)


# -- records ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """One base URL: the host without brackets, the prefix raw and without a trailing slash ('' if there is none)."""

    scheme: str
    host: str
    port: int
    prefix: str = ""

    @property
    def authority(self) -> str:
        """What Host says: `users:8000`, `[::1]:8000`; the scheme's own port is left out."""
        return units.authority_of(self.scheme, self.host, self.port)

    @property
    def origin(self) -> str:
        """`http://users:8000`."""
        return f"{self.scheme}://{self.authority}"


def _masked_repr(record: "Overrides | ProxyOptions") -> str:
    values = {entry.name: getattr(record, entry.name) for entry in fields(record)}
    for name in ("headers", "response_headers"):
        values[name] = {header: value if value is None else "***" for header, value in values[name]}
    return f"{type(record).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Overrides:
    """What an upstream or a route says about proxying; None, or no fields, where it says nothing."""

    timeout_s: float | None = None
    connect_timeout_s: float | None = None
    idle_timeout_s: float | None = None
    total_timeout_s: float | None = None
    max_body_bytes: int | None = None  # 0 lifts the limit
    preserve_host: bool | None = None
    rewrite_redirects: bool | None = None
    headers: Fields = ()
    response_headers: Fields = ()

    __repr__ = _masked_repr


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProxyOptions:
    """What holds for a proxied call, after `effective`; `max_body_bytes` None is no limit."""

    timeout_s: float
    connect_timeout_s: float
    idle_timeout_s: float
    total_timeout_s: float | None = None
    max_body_bytes: int | None
    preserve_host: bool
    rewrite_redirects: bool
    headers: Fields
    response_headers: Fields

    __repr__ = _masked_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The plain settings of the gateway itself."""

    bind: tuple[str, int]
    workers: int
    database_url: str = field(repr=False)
    urlconf: str
    log: str
    log_level: str
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    max_headers_bytes: int
    cors: tuple[str, ...] = ()
    disclose: str
    drain_s: float
    drain_delay_s: float
    client_idle_s: float
    reuse_port: bool
    max_in_flight: int | None = None


def _defaults(table: Iterable[Option]) -> dict[str, Any]:
    return {option.attribute: option.unit.parse(option.default) for option in table if option.default}


_OF_UPSTREAM = _defaults(options.UPSTREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service: its name in lower case, where it is, what it says about proxying, and how its endpoints are used."""

    name: str
    bases: tuple[Base, ...]
    overrides: Overrides = Overrides()
    ca_pem: str | None = field(default=None, repr=False)
    client_cert_pem: str | None = field(default=None, repr=False)
    client_key_pem: str | None = field(default=None, repr=False)
    balance: tuple[str, str] = _OF_UPSTREAM["balance"]  # the method, and the header field whose value is the key
    dns_ttl_s: float = _OF_UPSTREAM["dns_ttl_s"]
    keepalive_s: float = _OF_UPSTREAM["keepalive_s"]
    retries: int = _OF_UPSTREAM["retries"]
    retry_on: frozenset[Failure] = DEFAULT_RETRY_ON
    retry_budget: float = _OF_UPSTREAM["retry_budget"]  # a fraction of one
    health: str | None = None
    health_interval_s: float = _OF_UPSTREAM["health_interval_s"]
    health_timeout_s: float = _OF_UPSTREAM["health_timeout_s"]
    health_rise: int = _OF_UPSTREAM["health_rise"]
    health_fall: int = _OF_UPSTREAM["health_fall"]
    max_in_flight: int | None = None
    queue: int = _OF_UPSTREAM["queue"]
    queue_timeout_s: float = _OF_UPSTREAM["queue_timeout_s"]
    variable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route of the environment; `variable` is where it came from, as written: `GATEWAY_ROUTE_USERS`."""

    name: str
    pattern: Pattern
    target: Target | None
    overrides: Overrides = Overrides()
    raw_path: bool = False
    cors: tuple[str, ...] | None = None
    variable: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """All that the environment says; upstreams by name, routes in the order of their variables."""

    settings: Settings
    upstreams: Mapping[str, Upstream]
    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """A variable as it was written, its value masked, what was expected, the nearest valid name or ''."""

    variable: str
    value: str
    message: str
    hint: str = ""


class ConfigError(Exception):
    """The environment is wrong; `problems` are all of them, in the order of their variables."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return format_problems(self.problems)


def format_problems(problems: Sequence[Problem]) -> str:
    """What a person reads on stderr, lines without control characters; ends without a newline."""
    lines = [f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the environment:"]
    for problem in problems:
        lines.append(f"  {_printable(problem.variable)} = {_printable(problem.value)}")
        lines.append(f"      {_printable(problem.message, most=1000)}")
        if problem.hint:
            lines.append(f"      did you mean {_printable(problem.hint)}?")
    return "\n".join(lines)


def _printable(text: str, most: int = 120) -> str:
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= most else f"{shown[:most]}..."


# -- options of a call --------------------------------------------------------------------------------------------


_DEFAULTS = _defaults(options.SHARED)


def effective(upstream: Overrides, route: Overrides) -> ProxyOptions:
    """What holds for a call: the route's word, else the upstream's, else the default; fields are merged by name."""
    values = _DEFAULTS | _said(upstream) | _said(route)
    values["max_body_bytes"] = values["max_body_bytes"] or None
    values["headers"] = _merged(upstream.headers, route.headers)
    values["response_headers"] = _merged(upstream.response_headers, route.response_headers)
    return ProxyOptions(**values)


def _said(layer: Overrides) -> dict[str, Any]:
    values = {entry.name: getattr(layer, entry.name) for entry in fields(layer)}
    return {name: value for name, value in values.items() if value is not None}


def _merged(below: Fields, above: Fields) -> Fields:
    return tuple(sorted({**dict(below), **dict(above)}.items()))


def overrides(said: Mapping[str, str]) -> Overrides:
    """Options in Python, as `proxy("orders", timeout="5s", header_x_tenant="acme")` has them: the environment's words
    with keys in lower case -> Overrides. Raises ValueError that tells every fault."""
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, text in sorted(said.items()):
        try:
            _put(values, *_option_of_call(key), _text_of_call(text))
        except ValueError as error:
            hint = error.hint.lower() if isinstance(error, Refused) else ""
            faults.append(f"{key}: {error}; did you mean {hint}?" if hint else f"{key}: {error}")
    if faults:
        raise ValueError("; ".join(faults))
    return _overrides(values)


def _option_of_call(key: str) -> tuple[Option, str]:
    if key != key.lower():
        raise Refused("options are lower case in Python", key)
    option, member = options.lookup("route", key.upper())
    if option not in options.SHARED and not option.later:
        raise Refused("this is an option of a route in the environment, not of a call")
    return option, member


def _text_of_call(text: object) -> str:
    if not isinstance(text, str):
        raise Refused("expected a string, written as in the environment: timeout='5s'")
    return text


def _overrides(values: Mapping[str, Any]) -> Overrides:
    return Overrides(
        **{option.attribute: values[option.attribute] for option in options.SHARED if option.attribute in values}
    )


# -- parsing: entries become values -------------------------------------------------------------------------------


def _put(values: dict[str, Any], option: Option, member: str, text: str, from_file: bool = False) -> None:
    """Parses one option's text into `values`, by its attribute. Raises ValueError."""
    if option.later:
        raise Refused("is not available yet")
    is_field = option.unit is options.FIELD
    text = text.strip(" \t") if is_field else text.strip()
    name = options.field_of(option, member) if is_field else ""
    if not from_file:
        _refuse_quotes(option, text)
    value = option.unit.parse(text)
    values[option.attribute] = (*values.get(option.attribute, ()), (name, value)) if is_field else value


def _refuse_quotes(option: Option, text: str) -> None:
    bare = text[1:-1]
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0] or option.unit.label == "JSON":
        return
    if option.unit is not options.FIELD:
        raise Refused(f"the value is still in quotes; without them it is {option.unit.mask(bare)}")
    if text[0] not in bare:
        raise Refused("the value is still in quotes; if they are meant, give it by the _FILE twin")


# -- records out of entries ---------------------------------------------------------------------------------------


def load(environ: Mapping[str, str], read_file: ReadFile) -> Config:
    """The environment -> Config; `read_file` takes a path and returns its text, or raises OSError or UnicodeError.

    Raises ConfigError with all problems. Whether there is any route at all is not asked here: Python may have some.
    """
    reading = environment.read(environ, read_file)
    owners: dict[tuple[str, str], list[Entry]] = {}
    for entry in reading.entries:
        owners.setdefault((entry.name.family, entry.name.owner), []).append(entry)
    draft = _Draft(reading)
    settings = draft.settings(owners.pop(("gateway", ""), []))
    for (family, owner), entries in sorted(owners.items()):
        draft.add(family, owner, entries)
    draft.check_routes()
    if draft.problems or settings is None:
        raise ConfigError(sorted(draft.problems))
    upstreams = {upstream.name: upstream for upstream in draft.upstreams}
    routes = tuple(route for _, route in draft.routes)
    warnings = [*reading.warnings, *_doubtful_hosts(routes)]
    return Config(settings, MappingProxyType(upstreams), routes, tuple(warnings))


def _doubtful_hosts(routes: Iterable[Route]) -> Iterator[str]:
    """A path without its first slash is a host by the grammar, and then no request ever finds it."""
    for route in routes:
        host = route.pattern.host
        if host and "." not in host and host != "localhost":
            yield f"{route.variable}: '{host}' is taken for a host; a path begins with a slash: '/{host}/...'"


class _Draft:
    """A Config on its way: the records so far, and every problem so far."""

    def __init__(self, reading: Reading) -> None:
        self.declared = reading.declared
        self.problems = [
            Problem(variable, value, str(error), error.hint) for variable, value, error in reading.refusals
        ]
        self.upstreams: list[Upstream] = []
        self.routes: list[tuple[Entry, Route]] = []

    def blame(self, entry: Entry, message: str, hint: str = "") -> None:
        self.problems.append(Problem(entry.variable, entry.shown, message, hint))

    def values(self, entries: Iterable[Entry]) -> dict[str, Any]:
        """What the entries say, by attribute; what does not parse is left out."""
        values: dict[str, Any] = {}
        for entry in entries:
            option = entry.name.option
            try:
                _put(values, option, entry.name.member, entry.text, entry.from_file)
            except PatternError as error:
                self.blame(entry, _about_pattern(entry, error), environment.single_underscore(entry.name))
            except Refused as error:
                self.blame(entry, str(error), error.hint and f"{entry.name.declaration}__{error.hint}")
            except ValueError as error:
                self.blame(entry, str(error), "" if option.name else environment.single_underscore(entry.name))
        return values

    def settings(self, entries: Iterable[Entry]) -> Settings | None:
        values = _defaults(options.PLAIN) | self.values(entries)
        return None if self.problems else Settings(**values)

    def add(self, family: str, owner: str, entries: Sequence[Entry]) -> None:
        """An upstream or route as far as it parses; options of one that nobody declared."""
        given = {entry.name.option.name: entry for entry in entries}
        values = self.values(entries)
        if owner not in self.declared.get(family, {owner}):
            self._blame_undeclared(family, owner, entries)
        elif "bases" in values:
            self._check_tls(given, values["bases"])
            self._check_together(given, values)
            self.upstreams.append(_upstream(owner, given[""].variable, values))
        elif "line" in values:
            route = _route(owner, given[""].variable, values)
            self._check_route(route, given)
            self.routes.append((given[""], route))

    def _blame_undeclared(self, family: str, owner: str, entries: Iterable[Entry]) -> None:
        near = options.nearest(owner, sorted(self.declared[family]))
        for entry in entries:
            declaration = entry.name.declaration
            hint = entry.variable.replace(f"_{owner}__", f"_{near}__", 1) if near else ""
            self.blame(entry, f"an option of {family} {owner.lower()}, but {declaration} is not set", hint)

    def _check_tls(self, given: Mapping[str, Entry], bases: Iterable[tuple[str, str, int, str]]) -> None:
        is_plain = all(scheme == "http" for scheme, *_ in bases)
        for name, partner in (("CA", "CA"), ("CLIENT_CERT", "CLIENT_KEY"), ("CLIENT_KEY", "CLIENT_CERT")):
            if name in given and is_plain:
                self.blame(given[name], "only an https upstream takes this; the base URL is plain http")
            elif name in given and partner not in given:
                missing = f"{given[name].name.declaration}__{partner}_FILE"
                self.blame(given[name], f"a client certificate and its key come together; set {missing} too")

    def _check_together(self, given: Mapping[str, Entry], values: Mapping[str, Any]) -> None:
        """Options that mean nothing without another one: whoever sets them believes that they work."""
        for name, entry in given.items():
            for stem, partner in (("HEALTH_", "HEALTH"), ("QUEUE", "MAX_IN_FLIGHT")):
                if name.startswith(stem) and partner not in given:
                    self.blame(entry, f"this means nothing without {entry.name.declaration}__{partner}; set that too")
            if name.startswith("RETRY_") and values.get("retries") == 0:
                self.blame(entry, f"{entry.name.declaration}__RETRIES=0 switches retries off; drop one of the two")

    def _check_route(self, route: Route, given: Mapping[str, Entry]) -> None:
        line, target, segments = given[""], route.target, route.pattern.segments
        if segments[:1] == ("-",) and (route.pattern.rest or len(segments) > 1):
            self.blame(line, "/-/ belongs to the gateway itself; no route can begin with it")
        if target is None and not given.keys() & {"PART_*", "LEGACY"}:
            self.blame(line, NO_TARGET)
        if target is not None and target.upstream.upper() not in self.declared["upstream"]:
            near = options.nearest(target.upstream, sorted(name.lower() for name in self.declared["upstream"]))
            # A file's text is not shown, and here it would be.
            name, known = ("of that name", "<NAME>") if line.from_file else (target.upstream, target.upstream.upper())
            self.blame(line, f"there is no upstream {name}; set GATEWAY_UPSTREAM_{known} to its base URL", near)

    def check_routes(self) -> None:
        for first, second in clash([route.pattern for _, route in self.routes]):
            other = self.routes[first][1].variable
            self.blame(self.routes[second][0], f"the same route as {other}: no request could tell them apart")


def _about_pattern(entry: Entry, error: PatternError) -> str:
    if entry.from_file:  # the parser's message may quote the text
        return "the file does not hold a route: [METHOD,...] [host]/path -> upstream[:/path]"
    # `/users/** -> users` without quotes: the shell took `> users` for a redirection and left the dash.
    return NO_TARGET if entry.text.rstrip().endswith(" -") else str(error)


def _upstream(owner: str, variable: str, values: Mapping[str, Any]) -> Upstream:
    return Upstream(
        name=owner.lower(),
        bases=tuple(Base(*parts) for parts in values["bases"]),
        overrides=_overrides(values),
        variable=variable,
        **{option.attribute: values[option.attribute] for option in options.UPSTREAM if option.attribute in values},
    )


def _route(owner: str, variable: str, values: Mapping[str, Any]) -> Route:
    pattern, target = values["line"]
    return Route(
        name=owner.lower(),
        pattern=pattern,
        target=target,
        overrides=_overrides(values),
        raw_path=values.get("raw_path", False),
        cors=values.get("cors"),
        variable=variable,
    )
