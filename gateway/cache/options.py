"""The options of the cache: its sizes, and what a route or a part stores."""

from dataclasses import replace

from gateway import units
from gateway.cache.policy import Rule
from gateway.options import LEVELS, SIZE, SOME_SIZE, TIMEOUT, Level, Option, Unit


def cache_rule(text: str) -> Rule:
    """`on` or a duration -> the rule of a cached route, part or call. Raises ValueError."""
    units.as_text(text, "60s")
    try:
        return Rule(None if text == "on" else units.positive_duration(text))
    except ValueError as error:
        means_on = text.lower() in {"true", "yes", "1", "enabled", "enable"}
        raise ValueError("expected on or a duration; write on" if means_on else f"{error}, or on") from None


def rule_of(level: Level) -> Rule | None:
    """The caching rule of a route, from all its levels; None where it stores nothing."""
    rule: Rule | None = level.get("cache")
    return rule and replace(
        rule,
        max_body_bytes=level.get("cache_max_body_bytes", rule.max_body_bytes),
        stale_if_error_s=level.get("stale_if_error_s", rule.stale_if_error_s),
    )


CACHE = Unit("on|duration", cache_rule)

# fmt: off
SIZES: tuple[Option, ...] = (
    # families, name, unit, default, example, sentence
    Option("gateway", "CACHE_MEMORY", SIZE, "64MiB", "256MiB",
           "The size of the cache in memory, over all workers; `0B` is none."),
    Option("gateway", "CACHE_DISK", SIZE, "1GiB", "10GiB",
           "The size of the cache in the database, for all gateways that share it; `0B` uses memory only."),
)
OF_ROUTE: tuple[Option, ...] = (
    Option(LEVELS, "CACHE", CACHE, "", "60s",
           "Stores responses. `on`: for as long as the upstream says; a duration: also where the upstream says "
           "nothing."),
    Option(LEVELS, "CACHE_MAX_BODY", SOME_SIZE, "2MiB", "10MiB",
           "The largest response that is stored; larger ones pass through."),
    Option(LEVELS, "STALE_IF_ERROR", TIMEOUT, "", "1h",
           "How long a stale response may be sent if the upstream fails and the response has no stale-if-error."),
)
# fmt: on
