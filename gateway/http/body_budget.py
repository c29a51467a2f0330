"""The memory for bodies that are kept whole: a budget for each worker, shared by all its requests.

What streams through is bounded by the connections that it comes from and goes to. What must be kept whole is not:
bodies that views read, uploads that may have to be sent again, answers of parts and of `fetch`, answers on their way
into the cache. They count here, byte by byte as they arrive, and until their request is over.
"""

from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.http.lifetime import Lifetime

MAX_BYTES: Final = 64 * 2**20


class Bodies:
    """The bodies that one worker keeps. `Lifetime.kept_bytes` is the share of each request."""

    __slots__ = ("kept_bytes", "max_bytes")

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.kept_bytes = 0

    def take(self, owner: Lifetime, size: int) -> None:
        """Count bytes that are kept for a request from now on. Raises GatewayError OVERLOADED if there is no room."""
        if not self.has_room(size):
            raise GatewayError(Reason.OVERLOADED, headers=[(b"retry-after", b"1")])
        self.count(owner, size)

    def has_room(self, size: int) -> bool:
        return self.kept_bytes + size <= self.max_bytes

    def count(self, owner: Lifetime, size: int) -> None:
        """Count bytes that are in memory already, even beyond the budget."""
        if not owner.is_over:  # after `end` nothing would give them back
            owner.kept_bytes += size
            self.kept_bytes += size

    def give(self, owner: Lifetime, size: int) -> None:
        """Give back bytes that are no longer kept; does nothing after `end`."""
        size = min(size, owner.kept_bytes)
        owner.kept_bytes -= size
        self.kept_bytes -= size

    def end(self, owner: Lifetime) -> None:
        """The request is over: give back all that was kept for it."""
        self.give(owner, owner.kept_bytes)
