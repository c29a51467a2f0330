"""The limits of one worker: the store that decides, what applies while it is away, and counts."""

import random
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from gateway.errors import GatewayError, Reason
from gateway.limits.keys import texts_for
from gateway.limits.memory_store import Memory, MemoryStore
from gateway.limits.policies import CLOSED, LOCAL, Policies, Policy
from gateway.limits.store import Away, Over, Store, Taken
from gateway.limits.valkey_store import ValkeyStore
from gateway.limits.valkey_url import ValkeyUrl
from gateway.observe.throttle import TokenBucket, at_most_every

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_RETRY = [(b"retry-after", b"1")]


@dataclass(frozen=True, slots=True)
class ValkeyOptions:
    """Where counts are shared by all gateways; `ca_pem` None trusts the system's authorities."""

    url: ValkeyUrl
    timeout_s: float
    ca_pem: str | None = None

    def context(self) -> ssl.SSLContext | None:
        """For `rediss://`. Raises ssl.SSLError for what is no certificate."""
        return ssl.create_default_context(cadata=self.ca_pem) if self.url.is_tls else None


class Limiter:
    """`start` it in the loop that serves, after the fork; without policies it opens nothing.

    `memory` is what the workers share; None where there is one worker, which has its own.
    """

    def __init__(
        self,
        policies: Policies,
        memory: Memory | None = None,
        valkey: ValkeyOptions | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policies = policies
        self.counts: dict[tuple[str, str], int] = {}  # by limit and outcome
        self._memory, self._options, self._now = memory, valkey, now
        self._stores: list[Store] = []  # each stands in for the one before it
        self.store: Store  # the first of them, which decides
        self._valkey: ValkeyStore | None = None
        self._throttle = TokenBucket(burst=5, every_s=10.0)
        self._held_throttle = at_most_every(60.0)
        self._away_since_s: float | None = None

    async def start(self) -> None:
        if not len(self.policies):
            return
        if self._options is not None:
            options = self._options
            self._valkey = ValkeyStore(options.url, options.timeout_s, options.context(), self._changed, random.random)
            self._stores.append(self._valkey)
        self._stores.append(MemoryStore(self._memory or Memory(is_shared=False), self._now))
        self.store = self._stores[0]
        if self._valkey is not None:
            await self._valkey.start()

    async def stop(self) -> None:
        if self._valkey is not None:
            await self._valkey.aclose()

    def state(self) -> dict[str, Any]:
        """Which store decides, and whether it is away."""
        store = self._stores[0].name if self._stores else "not in use"
        return {"store": store, "is_away": self._valkey is not None and self._valkey.is_away}

    # -- decisions ------------------------------------------------------------------------------------------------

    async def take(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        """What the store decides; while it is away, what holds without it. Raises RATE_LIMIT_UNAVAILABLE."""
        try:
            return await self.store.take(policies, texts, cost)
        except Away as error:
            return await self.without(error, policies, texts, cost)

    async def without(self, error: Away, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        """What holds while the store is away, by each limit's ON_FAILURE. Raises RATE_LIMIT_UNAVAILABLE."""
        if self._valkey is None:
            self._tell_held(str(error))
        if any(policy.on_failure == CLOSED for policy in policies):
            raise GatewayError(Reason.RATE_LIMIT_UNAVAILABLE, cause=str(error), headers=_RETRY) from None
        local = [number for number, policy in enumerate(policies) if policy.on_failure == LOCAL]
        ahead_s: list[float | None] = [None] * len(policies)
        if not local:
            return Taken(True, tuple(ahead_s))
        taken = await self._locally([policies[one] for one in local], [texts[one] for one in local], cost)
        for number, one_s in zip(local, taken.ahead_s, strict=True):
            ahead_s[number] = one_s
        return Taken(taken.passed, tuple(ahead_s))

    async def _locally(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        for store in self._stores[1:]:
            try:
                return await store.take(policies, texts, cost)
            except Away as error:
                self._tell_held(str(error))
        # The workers' own memory is locked: this worker goes on by itself.
        own = MemoryStore(Memory(is_shared=False), self._now)
        self._stores.append(own)
        return await own.take(policies, texts, cost)

    def count(self, limit: str, outcome: str) -> None:
        key = (limit, outcome)
        self.counts[key] = self.counts.get(key, 0) + 1

    # -- for operators --------------------------------------------------------------------------------------------

    async def listing(self) -> list[tuple[Policy, Over | None]]:
        """Every policy, with how many keys it has; None where the store cannot tell."""
        policies = list(self.policies)
        if not self._stores:
            return []
        try:
            return list(zip(policies, await self._stores[0].over(policies), strict=True))
        except Away:
            return [(policy, None) for policy in policies]

    async def forget(self, written: str, limit: str | None) -> int:
        """Free a key, as an operator writes it, in every policy or those of one limit; returns in how many it was
        stored.

        Raises Away.
        """
        found = 0
        for policy in self.policies:
            if limit is None or limit in {policy.limit, policy.name}:
                for text in texts_for(policy.key, written):
                    for number, store in enumerate(self._stores):
                        # While Valkey works, the counts made without it are of no use.
                        found += await store.forget(policy, text) and number == 0
        return found

    # -- the log --------------------------------------------------------------------------------------------------

    def _changed(self, cause: str | None) -> None:
        """Valkey is away, or back: log a line for each, but not for every short failure."""
        now_s = time.monotonic()
        if cause is not None:
            self._away_since_s = now_s
            if self._throttle.take(now_s):
                held_back = self._throttle.take_held_back()
                _log.warning("limits.store_away", store="valkey", cause=cause, held_back=held_back)
        elif self._away_since_s is not None:
            _log.info("limits.store_back", store="valkey", away_s=round(now_s - self._away_since_s, 3))
            self._away_since_s = None

    def _tell_held(self, cause: str) -> None:
        """The workers' own memory is locked, by a stopped worker: logged once a minute."""
        if self._held_throttle.take(time.monotonic()):
            held_back = self._held_throttle.take_held_back()
            _log.warning("limits.store_away", store="host", cause=cause, held_back=held_back)
