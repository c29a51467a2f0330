"""What may be said of a pool of legacy functions."""

from dataclasses import dataclass

from gateway.config import table as options
from gateway.options import defaults_of

_OF_LEGACY = defaults_of(options.LEGACY)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyOptions:
    """How many threads a pool of legacy functions has, how many calls may wait for one, how long one may take."""

    threads: int = _OF_LEGACY["threads"]
    queue: int = _OF_LEGACY["queue"]
    timeout_s: float = _OF_LEGACY["timeout_s"]
