"""An upstream while the gateway runs: its endpoints, their health, whose turn it is, and its connections.

The decisions are made elsewhere, as functions of values: `balancing`, `ejection`, `retries`. Here is what they move.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import SharedTimers
from gateway.http.request import GatewayRequest
from gateway.upstreams import outlier_detection, retry_policy
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.concurrency_limit import ConcurrencyLimit, LimitReached
from gateway.upstreams.endpoint import MAX_ADDRESSES, Endpoint, grouped, literal
from gateway.upstreams.health_check import probe
from gateway.upstreams.load_balancing import BALANCERS, Balancer
from gateway.upstreams.outlier_detection import EndpointState
from gateway.upstreams.records import Base, Upstream
from gateway.upstreams.resolver import look_up
from gateway.upstreams.shortage import is_shortage, overloaded
from gateway.upstreams.tls import tls_context

if TYPE_CHECKING:
    from gateway.observe.spans import Tracer

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# While a name has never been looked up with success, it is tried again this soon.
_FIRST_LOOK_UP_S = 1.0
_NEVER = float("inf")


class Pool:
    """The endpoints of one upstream. Make and `start` it inside a running loop; `aclose` it there."""

    def __init__(self, upstream: Upstream, tracer: "Tracer | None" = None) -> None:
        from gateway.upstreams.client import (
            Client,  # aiohttp takes a third of the time of `gateway check`, which calls nobody
        )

        self.upstream = upstream
        self.name = upstream.name
        self.endpoints: tuple[Endpoint, ...] = ()
        self.budget = retry_policy.Budget(upstream.retry_budget)
        self.limit = (
            None if upstream.max_in_flight is None else ConcurrencyLimit(upstream.max_in_flight, upstream.queue)
        )
        self.retries_late = Reason.RESPONSE_TIMEOUT in upstream.retry_on
        self._key_field = upstream.balance[1].encode("ascii") or None
        self._uses_key = upstream.balance[0] == "hash"
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.timers = SharedTimers(loop)  # of those who wait for the head of an answer
        uses_tls = any(base.scheme == "https" for base in upstream.bases)
        tls = tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem) if uses_tls else None
        self.client = Client(upstream.name, tls, upstream.keepalive_s)
        self._balance: Balancer[Endpoint] = BALANCERS[upstream.balance[0]]
        self._turn = 0
        self.attempts = self.retries = self.ejections = 0  # so far
        self.tracer = tracer  # while spans are exported
        self._tasks: dict[object, asyncio.Task[None]] = {}
        # Worked out when something changes: who may be asked, and when a trial is due.
        self.candidates: tuple[Endpoint, ...] = ()
        self._due_s = _NEVER
        self._up: tuple[Endpoint, ...] = ()  # those that probes let in
        self._look_ups = 0
        self._shortage: OSError | None = None  # why the last look-up could not be made
        self._known = asyncio.Event()  # every name was looked up once

    def start(self) -> None:
        """Begin to look names up and to probe."""
        for base in self.upstream.bases:
            addresses = literal(base)
            if addresses is not None:
                self._set_endpoints(base, [addresses])
            else:
                self._look_ups += 1
                self._tasks[base] = asyncio.create_task(self._keep_looking_up(base), name=f"portway-dns-{self.name}")
        if not self._look_ups:
            self._known.set()

    async def aclose(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.client.aclose()

    def __repr__(self) -> str:
        return f"<Pool {self.name} {list(self.endpoints)}>"

    # -- one request ----------------------------------------------------------------------------------------------

    async def enter(self, timeout_s: float) -> None:
        """Wait for a request's place. Raises GatewayError: UPSTREAM_FULL, QUEUE_TIMEOUT, DNS_TIMEOUT."""
        if not self.endpoints and not self._known.is_set():
            await self._first_look_up(timeout_s)
        if self.limit is None:
            return
        retry_later = [(b"retry-after", b"1")]
        try:
            # Who comes in at the last moment only makes work for an upstream that is full already.
            await self.limit.acquire(min(timeout_s / 2, self.upstream.queue_timeout_s))
        except LimitReached:
            raise GatewayError(Reason.UPSTREAM_FULL, upstream=self.name, headers=retry_later) from None
        except TimeoutError:
            raise GatewayError(Reason.QUEUE_TIMEOUT, upstream=self.name, headers=retry_later) from None

    @property
    def has_wait(self) -> bool:
        """Whether a request must `enter` before its first attempt."""
        return self.limit is not None or not self.endpoints

    def leave(self) -> None:
        """Give the place back."""
        if self.limit is not None:
            self.limit.release()

    def pick(self, key: bytes, tried: Collection[Endpoint], *, repeatable: bool, also_ejected: bool = False) -> Attempt:
        """The endpoint that answers next; one not tried yet if there is one, `also_ejected` ones at last.

        Raises GatewayError: DESTINATION_UNAVAILABLE when probes took all out, DNS_FAILED when there is no address,
        OVERLOADED when none could be looked up.
        """
        candidates = self.candidates
        if not tried and self.now() >= self._due_s:
            now = self.now()
            for endpoint in self._up:
                if now >= outlier_detection.trial_due_s(endpoint.health, repeatable=repeatable):
                    endpoint.health = outlier_detection.tried(endpoint.health)
                    self._changed()
                    return Attempt(self, endpoint)
        if not candidates:
            raise self._nobody()
        if tried:
            untried = self.untried(tried, also_ejected=also_ejected)
            # The last resort is whoever was tried first: it had the longest time to recover.
            candidates = tuple(untried or [one for one in tried if one in candidates][:1] or candidates)
        chosen = candidates[0] if len(candidates) == 1 else self._balanced(candidates, key)
        return Attempt(self, chosen)

    def balance_key(self, request: GatewayRequest) -> bytes:
        """What `__BALANCE=hash:...` chooses by: the client's address, or the value of a field (empty without it)."""
        if not self._uses_key:
            return b""
        if self._key_field is None:
            return request.exchange.client.encode("ascii")
        return request.believed(self._key_field)

    def untried(self, tried: Collection[Endpoint], *, also_ejected: bool) -> list[Endpoint]:
        """Who else could be asked: those that are in come first."""
        found = [one for one in self.candidates if one not in tried]
        return found or [one for one in self._up if also_ejected and one not in tried]

    def _balanced(self, candidates: tuple[Endpoint, ...], key: bytes) -> Endpoint:
        self._turn += 1
        return self._balance(candidates, self._turn, random.random(), key)

    def _nobody(self) -> GatewayError:
        if not self.endpoints:
            if self._shortage is not None:
                return overloaded(self._shortage, self.name)
            return GatewayError(Reason.DNS_FAILED, upstream=self.name)
        wait_s = max(1, math.ceil(self.upstream.health_interval_s))
        headers = [(b"retry-after", b"%d" % wait_s)]
        return GatewayError(Reason.DESTINATION_UNAVAILABLE, upstream=self.name, headers=headers)

    # -- health ---------------------------------------------------------------------------------------------------

    def judge(self, endpoint: Endpoint, failure: retry_policy.Failure | None, *, sent_in: bool) -> None:
        """Count how an attempt ended: a failure, or None for a good answer."""
        before = endpoint.health
        if failure is None:
            if before is outlier_detection.HEALTHY or not before.failures:
                return
            endpoint.health = outlier_detection.succeeded(before, self.now(), sent_in=sent_in)
        else:
            out = sum(one.health.state is not EndpointState.HEALTHY for one in self._up)
            endpoint.health = outlier_detection.failed(
                before,
                self.now(),
                random.random(),
                sent_in=sent_in,
                may_leave=not endpoint.is_gone and outlier_detection.may_leave(out, len(self._up)),
            )
        if endpoint.health.state is before.state:
            return
        if endpoint.health.state is EndpointState.EJECTED:
            self.client.close_idle(endpoint)
            because = failure.word if isinstance(failure, Reason) else failure
            pause_s = round(endpoint.health.until_s - self.now(), 1)
            self.ejections += 1
            self._say("warning", "upstream.ejected", endpoint, failure=because, pause_s=pause_s)
        else:
            self._say("info", "upstream.returned", endpoint)
        self._changed()

    def abandoned(self, endpoint: Endpoint) -> None:
        """A trial ended without a verdict."""
        endpoint.health = outlier_detection.abandoned(endpoint.health, self.now())
        self._changed()

    def _changed(self) -> None:
        """Work out anew who may be asked. Where requests ejected all that probes let in, that counts for nothing."""
        up = self._up = tuple(one for one in self.endpoints if one.probed.up)
        self.candidates = tuple(one for one in up if one.health.state is EndpointState.HEALTHY) or up
        due = [outlier_detection.trial_due_s(one.health, repeatable=True) for one in up]
        self._due_s = min(due, default=_NEVER)

    async def _keep_probing(self, endpoint: Endpoint) -> None:
        upstream = self.upstream
        # Not all at once, neither those of one gateway nor those of several that started together.
        await asyncio.sleep(random.uniform(0, min(1.0, upstream.health_interval_s)))
        while True:
            with contextlib.suppress(GatewayError):  # it could not ask: that is no verdict
                self._probed(endpoint, await probe(self.client, upstream, endpoint))
            await asyncio.sleep(upstream.health_interval_s * random.uniform(0.9, 1.1))

    def _probed(self, endpoint: Endpoint, fault: str | None) -> None:
        before, upstream = endpoint.probed, self.upstream
        endpoint.probed = outlier_detection.probed(before, fault is None, upstream.health_rise, upstream.health_fall)
        if endpoint.probed.up is not before.up:
            self._changed()
            if endpoint.probed.up:
                self._say("info", "upstream.up", endpoint)
            else:
                self.client.close_idle(endpoint)
                self._say("warning", "upstream.down", endpoint, cause=fault)

    # -- names ----------------------------------------------------------------------------------------------------

    async def _first_look_up(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._known.wait()
        except TimeoutError:
            raise GatewayError(Reason.DNS_TIMEOUT, upstream=self.name) from None

    async def _keep_looking_up(self, base: Base) -> None:
        first, failing, known, most = True, False, False, 0
        while True:
            try:
                found = await look_up(base.host, base.port)
            except OSError as error:  # what was known stays
                self._shortage = error if is_shortage(error) else None
                if not failing:
                    _log.warning("upstream.lookup_failed", upstream=self.name, host=base.host, cause=str(error))
                failing = True
            else:
                self._set_endpoints(base, grouped(found))
                if len(found) > MAX_ADDRESSES > most:
                    counts = {"addresses": len(found), "used": MAX_ADDRESSES}
                    _log.warning("upstream.too_many_addresses", upstream=self.name, host=base.host, **counts)
                most = len(found)
                if failing:
                    _log.info("upstream.lookup_works", upstream=self.name, host=base.host)
                failing, known = False, True
            if first:
                first = False
                self._look_ups -= 1
                if not self._look_ups:
                    self._known.set()
            ttl_s = self.upstream.dns_ttl_s
            await asyncio.sleep((ttl_s if known else min(ttl_s, _FIRST_LOOK_UP_S)) * random.uniform(0.9, 1.1))

    def _set_endpoints(self, base: Base, groups: list[tuple[str, ...]]) -> None:
        """The endpoints of a base are these from now on; those that it had already keep their state."""
        had = {one.addresses: one for one in self.endpoints if one.base == base}
        joined = [Endpoint(base, addresses) for addresses in groups if addresses not in had]
        gone = [one for addresses, one in had.items() if addresses not in groups]
        if not joined and not gone:
            return
        others = [one for one in self.endpoints if one not in gone]
        self.endpoints = (*others, *joined)
        for endpoint in gone:
            endpoint.is_gone = True
            self.client.close_idle(endpoint)
            if (task := self._tasks.pop(endpoint, None)) is not None:
                task.cancel()
        for endpoint in joined if self.upstream.health is not None else ():
            self._tasks[endpoint] = asyncio.create_task(self._keep_probing(endpoint), name=f"portway-probe-{self.name}")
        if had:
            names = {"joined": [one.label for one in joined], "gone": [one.label for one in gone]}
            _log.info("upstream.changed", upstream=self.name, host=base.host, **names)
        self._changed()

    def _say(self, level: str, event: str, endpoint: Endpoint, **values: Any) -> None:
        getattr(_log, level)(event, upstream=self.name, endpoint=endpoint.label, **values)


def pools_of(request: GatewayRequest) -> Mapping[str, Pool]:
    """The upstreams of the worker that serves a request, by name."""
    return request.services.pools  # type: ignore[return-value]  # `http` cannot know what a pool is
