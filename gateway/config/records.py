"""What the environment says, as frozen records, and which option holds for a call. `loading` makes them.

The records hide header values, keys and the database's URL from their repr.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gateway import units
from gateway.cache.policy import Rule
from gateway.config import table as options
from gateway.config.table import Option
from gateway.fanout.plan import Fan
from gateway.patterns import Pattern, Target
from gateway.upstreams.retry_policy import DEFAULT_RETRY_ON, Failure

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
    worker_timeout_s: float
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
    client_keepalive_s: float
    min_upload_rate_bytes_per_s: int
    reuse_port: bool
    max_in_flight: int | None = None
    admin_token: str | None = field(default=None, repr=False)
    cache_memory_bytes: int
    cache_disk_bytes: int
    stall_s: float


def defaults_of(table: Iterable[Option]) -> dict[str, Any]:
    return {option.attribute: option.unit.parse(option.default) for option in table if option.default}


_OF_UPSTREAM = defaults_of(options.UPSTREAM)


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
    fan: Fan | None = None
    legacy: str | None = None  # the dotted path of the function that answers
    overrides: Overrides = Overrides()
    raw_path: bool = False
    cors: tuple[str, ...] | None = None
    cache: Rule | None = None
    variable: str = ""


_OF_LEGACY = defaults_of(options.LEGACY)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyOptions:
    """How many threads a pool of legacy functions has, how many calls may wait for one, how long one may take."""

    threads: int = _OF_LEGACY["threads"]
    queue: int = _OF_LEGACY["queue"]
    timeout_s: float = _OF_LEGACY["timeout_s"]


@dataclass(frozen=True, slots=True)
class Config:
    """All that the environment says; upstreams, legacy pools and further databases by name, routes in the order of
    their variables. Of a pool it says some options, by their attributes; the others are Python's."""

    settings: Settings
    upstreams: Mapping[str, Upstream]
    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()
    legacy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)


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


_DEFAULTS = defaults_of(options.SHARED)


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
