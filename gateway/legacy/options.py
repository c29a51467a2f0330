"""The options of legacy functions: those of a pool, and the route that one answers."""

from dataclasses import dataclass

from gateway.options import COUNT, FUNCTION, POSITIVE, TIMEOUT, Option, defaults_of

# fmt: off
OF_ROUTE: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("route", "LEGACY", FUNCTION, "", "reports.build", "The synchronous function that makes the response."),
)
OF_POOL: tuple[Option, ...] = (
    Option("legacy", "THREADS", POSITIVE, "4", "8", "How many calls run at a time, per worker."),
    Option("legacy", "QUEUE", COUNT, "16", "0", "How many calls may wait for a thread; more get 503 at once."),
    Option("legacy", "TIMEOUT", TIMEOUT, "5s", "30s", "The time for one call; then 504."),
)
# fmt: on

_DEFAULTS = defaults_of(OF_POOL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyOptions:
    """The options of a pool: how many threads it has, how many calls may wait for one, how long one may take."""

    threads: int = _DEFAULTS["threads"]
    queue: int = _DEFAULTS["queue"]
    timeout_s: float = _DEFAULTS["timeout_s"]
