"""The configuration as frozen records; `loader` makes them of the environment.

The records hide header values, keys and the database's URL from their repr.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from gateway.auth.records import NO_AUTH, AuthConfig
from gateway.auth.rules import Rule
from gateway.config.environment import Entry
from gateway.discovery.options import Registry
from gateway.limits.grammar import NamedLimit
from gateway.limits.limiter import ValkeyOptions
from gateway.limits.policies import Policies
from gateway.limits.valkey_url import ValkeyUrl
from gateway.options import NO_LEVEL, Level
from gateway.routing.records import Declared, Route
from gateway.upstreams.records import Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The plain settings of the gateway itself."""

    bind: tuple[str, int]
    workers: int
    worker_timeout_s: float
    database_url: str = field(repr=False)
    urlconf: str
    apps: tuple[str, ...] = ()
    settings_module: str | None = None
    secret: str | None = field(default=None, repr=False)
    log: str
    log_level: str
    log_fields: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    max_headers_bytes: int
    cors: tuple[str, ...] = ()
    disclose: str
    drain_s: float
    drain_delay_s: float
    reload: str
    reload_drain_s: float
    client_idle_s: float
    client_keepalive_s: float
    min_upload_rate_bytes_per_s: int
    reuse_port: bool
    max_in_flight: int | None = None
    admin_token: str | None = field(default=None, repr=False)
    admin_auth: Rule | None = None
    admin_roles: tuple[str, ...] = ()
    admin_scopes: tuple[str, ...] = ()
    cache_memory_bytes: int
    cache_disk_bytes: int
    stall_s: float
    max_websockets: int
    tls_cert_pem: str | None = field(default=None, repr=False)
    tls_key_pem: str | None = field(default=None, repr=False)
    tls_min: str = "1.2"
    tls_client_ca_pem: str | None = field(default=None, repr=False)
    tls_redirect: tuple[str, int] | None = None
    https: str = "off"
    hsts_s: float | None = None
    http2: bool = True

    @property
    def speaks_http2(self) -> bool:
        """Whether HTTP/2 is offered: with TLS, unless it is switched off."""
        return self.http2 and self.tls_cert_pem is not None

    @property
    def own_packages(self) -> frozenset[str]:
        """The packages that a team names as its own."""
        named = [self.urlconf, *self.apps, *([self.settings_module] if self.settings_module else [])]
        return frozenset(name.partition(".")[0] for name in named)

    rate_limit_on_failure: str
    valkey_url: ValkeyUrl | None = None
    valkey_timeout_s: float
    valkey_ca_pem: str | None = field(default=None, repr=False)
    consul_url: Registry | None = None
    consul_token: str | None = field(default=None, repr=False)
    eureka_url: Registry | None = None

    @property
    def valkey(self) -> ValkeyOptions | None:
        """The Valkey that counts limits for all gateways together, if any."""
        if self.valkey_url is None:
            return None
        return ValkeyOptions(self.valkey_url, self.valkey_timeout_s, self.valkey_ca_pem)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration: upstreams, legacy pools and further databases by name, routes in the order of their
    variables. For a legacy pool they hold the options from the environment, by attribute; the others are set in Python.
    `django` are the settings of the module that GATEWAY_SETTINGS names."""

    settings: Settings
    upstreams: Mapping[str, Upstream]
    routes: tuple[Route, ...]
    warnings: tuple[str, ...] = ()
    legacy: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    databases: Mapping[str, str] = field(default_factory=dict, repr=False)
    django: Mapping[str, Any] = field(default_factory=dict, repr=False)
    plain: Level = NO_LEVEL  # options for all upstreams and routes
    limits: Mapping[str, NamedLimit] = field(default_factory=dict)  # those with a name
    auth: AuthConfig = NO_AUTH
    entries: Sequence[Entry] = field(default=(), repr=False)  # the entries that were read, one per variable

    @property
    def declared(self) -> Declared:
        """The declarations that routes are checked against, and that their stacks are made from."""
        return Declared(
            urlconf=self.settings.urlconf,
            upstreams=self.upstreams,
            pools=self.legacy,
            cors=self.settings.cors,
            first_route=self.routes[0].variable if self.routes else "",
            plain=self.plain,
            routes=self.routes,
            policies=Policies(self.limits, self.settings.rate_limit_on_failure),
            auth=self.auth,
        )


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
    """The text for a person on stderr, lines without control characters; ends without a newline."""
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
