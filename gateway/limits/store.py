"""The interface of every store of counts. A store decides by `gcra` and keeps one number per key."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.limits.policies import Policy


class Away(Exception):
    """The store cannot be asked now; the text says why, for the log."""


@dataclass(slots=True)
class Taken:
    """The decision about a request: whether it may pass, and for each policy how far its key is ahead of now, in
    seconds.

    If it may not pass, nothing was counted anywhere. `ahead_s` is None where it is unknown.
    """

    passed: bool
    ahead_s: tuple[float | None, ...]


class Over(NamedTuple):
    """For one policy: the number of keys that are not free, and of those that would be refused now."""

    keys: int
    over: int


class Store(Protocol):
    """Counts by policy and key. Each worker has one, and calls it in its loop."""

    @property
    def name(self) -> str:
        """`worker`, `host` or `valkey`."""

    def taken(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken | None:
        """As `take`, where the store decides without waiting; None where it must be awaited. Raises Away."""

    async def take(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        """Decide about all policies together, each with the text of its key, and count if all let it pass.

        Raises Away.
        """

    async def forget(self, policy: Policy, text: str) -> bool:
        """Free a key; returns whether it was stored. Raises Away."""

    async def over(self, policies: Sequence[Policy]) -> list[Over]:
        """How many keys each policy has now. Raises Away."""
