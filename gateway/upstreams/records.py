"""A service as the configuration has it."""

from dataclasses import dataclass, field

from gateway.options import NO_LEVEL, Level, defaults_of
from gateway.upstreams.load_balancing import Balance
from gateway.upstreams.options import OF_UPSTREAM, Overrides
from gateway.upstreams.places import Base, Place, Source
from gateway.upstreams.retry_policy import DEFAULT_RETRY_ON, Failure

_DEFAULTS = defaults_of(OF_UPSTREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A service: its name in lower case, where it is, its options for proxying, and how its endpoints are used."""

    name: str
    bases: tuple[Base, ...] = ()
    sources: tuple[Source, ...] = ()  # of further instances
    overrides: Overrides = field(default_factory=Overrides)
    ca_pem: str | None = field(default=None, repr=False)
    client_cert_pem: str | None = field(default=None, repr=False)
    client_key_pem: str | None = field(default=None, repr=False)
    balance: Balance = _DEFAULTS["balance"]
    sticky_key: bytes = field(default=b"", repr=False)  # the key of the cookies of `sticky`
    dns_ttl_s: float = _DEFAULTS["dns_ttl_s"]
    keepalive_s: float = _DEFAULTS["keepalive_s"]
    retries: int = _DEFAULTS["retries"]
    retry_on: frozenset[Failure] = DEFAULT_RETRY_ON
    retry_budget: float = _DEFAULTS["retry_budget"]  # a fraction of one
    health: str | None = None
    health_interval_s: float = _DEFAULTS["health_interval_s"]
    health_timeout_s: float = _DEFAULTS["health_timeout_s"]
    health_rise: int = _DEFAULTS["health_rise"]
    health_fall: int = _DEFAULTS["health_fall"]
    max_in_flight: int | None = None
    queue: int = _DEFAULTS["queue"]
    queue_timeout_s: float = _DEFAULTS["queue_timeout_s"]
    variable: str = ""
    level: Level = NO_LEVEL  # its options, also those for the routes that lead there, upon the plain ones

    @property
    def places(self) -> tuple[Place, ...]:
        """Where it is, as it may be shown."""
        return (*self.bases, *self.sources)
