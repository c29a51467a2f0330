"""The options of limits, at their levels, and of Valkey, where gateways count together."""

from gateway import units
from gateway.limits import grammar
from gateway.limits.valkey_url import valkey_url
from gateway.options import LEVELS, POSITIVE, TIMEOUT, Option, Unit, one_of

ON_FAILURE = one_of("local|open|closed")
VALKEY = Unit("URL", valkey_url, mask=units.mask_url)
CERTIFICATE = Unit("PEM", units.pem_certificate, "_pem", units.mask_all)

# fmt: off
# families, name, unit, default, example, sentence
LIMIT = Option("rate_limit", "", Unit("limits", grammar.groups), "", "100/1m burst 20 by client",
               "A limit with a name: routes that name it share its counts.", "groups")
OF_LIMIT: tuple[Option, ...] = (
    Option("rate_limit", "ON_FAILURE", ON_FAILURE, "", "closed",
           "While the store is away: each gateway counts alone (`local`), no limit (`open`), or 503 (`closed`)."),
)
PLAIN: tuple[Option, ...] = (
    Option("gateway", "RATE_LIMIT_ON_FAILURE", ON_FAILURE, "local", "open",
           "The ON_FAILURE of limits that do not set their own."),
    Option("gateway", "VALKEY_URL", VALKEY, "", "redis://valkey:6379/0",
           "The Valkey that counts limits for all gateways that name it (`rediss://`: TLS); else each gateway "
           "counts alone."),
    Option("gateway", "VALKEY_TIMEOUT", TIMEOUT, "50ms", "20ms",
           "How long a request waits for Valkey at most; after that Valkey counts as away."),
    Option("gateway", "VALKEY_CA", CERTIFICATE, "", "",
           "The CA certificates to verify Valkey with (`rediss://`), instead of the system's."),
)
OF_ROUTE: tuple[Option, ...] = (
    Option(LEVELS, "RATE_LIMIT", Unit("limits or names", grammar.limits), "", "60/1m 1000/1h by client",
           "Limits that all apply, written out or by name: `N/DURATION [burst N] ... [by KEY]`."),
    Option(LEVELS, "COST", POSITIVE, "1", "5", "How many units of its limits one request takes."),
)
# fmt: on
