"""An upstream at run time: its endpoints, their health, the load balancing and the connections.

The decisions are made elsewhere, as functions of values: `load_balancing`, `outlier_detection`, `retry_policy`. This
module holds the state that they work on. `members` keeps the list of endpoints.
"""

import asyncio
import contextlib
import math
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from time import time
from typing import TYPE_CHECKING, Any

import structlog

from gateway.errors import GatewayError, Reason
from gateway.http.carried import unescaped, values_in
from gateway.http.deadline import SharedTimers
from gateway.http.request import GatewayRequest
from gateway.observe import steps
from gateway.observe.histogram import Calls
from gateway.upstreams import outlier_detection, retry_policy
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.concurrency_limit import ConcurrencyLimit, LimitReached
from gateway.upstreams.endpoint import MAX_ADDRESSES, Endpoint
from gateway.upstreams.health_check import probe
from gateway.upstreams.load_balancing import METHODS, Balancer, Shares, for_retry, have_weights, of_first_priority
from gateway.upstreams.members import Members
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.outlier_detection import EndpointState
from gateway.upstreams.records import Upstream
from gateway.upstreams.shortage import overloaded
from gateway.upstreams.stickiness import Stickiness
from gateway.upstreams.tls import tls_context

if TYPE_CHECKING:
    from gateway.observe.spans import Tracer

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_NEVER = float("inf")
# The label of former endpoints in metrics, if there were too many to name each.
OTHERS = "other"


class Pool:
    """The endpoints of one upstream. Create and `start` it inside a running loop; `aclose` it there."""

    def __init__(self, upstream: Upstream, tracer: "Tracer | None" = None, network: Network = SYSTEM_NETWORK) -> None:
        from gateway.upstreams.client import (
            Client,  # importing aiohttp is a third of the time of `gateway check`, which makes no calls
        )

        self.upstream = upstream
        self.name = upstream.name
        self.endpoints: tuple[Endpoint, ...] = ()
        self.budget = retry_policy.Budget(upstream.retry_budget)
        self.limit = (
            None if upstream.max_in_flight is None else ConcurrencyLimit(upstream.max_in_flight, upstream.queue)
        )
        self.retries_late = Reason.RESPONSE_TIMEOUT in upstream.retry_on
        self._key_of = _key_of(upstream)
        loop = asyncio.get_running_loop()
        self.now = loop.time
        self.timers = SharedTimers(loop)  # of requests that wait for a response head
        uses_tls = any(place.scheme != "http" for place in upstream.places)
        tls = tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem) if uses_tls else None
        self.client = Client(upstream.name, tls, upstream.keepalive_s, network)
        self._method = upstream.balance.method
        self._balance: Balancer[Endpoint] = METHODS[self._method].choose
        self._has_shares = any(place.weight is not None for place in upstream.places)
        self._asks_registries = any(source.kind != "srv" for source in upstream.sources)
        self._turn = 0
        self.stickiness: Stickiness | None = None
        if self._method == "sticky":
            self.stickiness = Stickiness(upstream.name, upstream.sticky_key, upstream.balance.name)
        self._holders: dict[bytes, Endpoint] = {}  # endpoints in use, by their value in the sticky cookie
        self.attempts = self.retries = self.ejections = 0  # so far
        self.calls: dict[str, Calls] = {}  # to each present or former endpoint, by its URL
        self.tracer = tracer  # while spans are exported
        self._tasks: dict[object, asyncio.Task[None]] = {}
        # Updated when something changes: the endpoints that may be used, and when a trial is due.
        self.candidates: tuple[Endpoint, ...] = ()
        self._due_s = _NEVER
        self._up: tuple[Endpoint, ...] = ()  # those that pass their health checks
        self._in: tuple[Endpoint, ...] = ()  # the candidates, and their substitutes if no candidate is left
        self.members = Members(upstream, self._members_changed, network)

    def start(self) -> None:
        """Start the name look-ups and the health checks."""
        self.members.start()

    async def aclose(self) -> None:
        await self.members.aclose()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.client.aclose()

    def __repr__(self) -> str:
        return f"<Pool {self.name} {list(self.endpoints)}>"

    # -- one request ----------------------------------------------------------------------------------------------

    async def enter(self, timeout_s: float) -> None:
        """Wait for the first look-up and for a concurrency slot. Raises GatewayError: UPSTREAM_FULL, QUEUE_TIMEOUT,
        DNS_TIMEOUT, DESTINATION_UNAVAILABLE."""
        if not self.endpoints and not self.members.known.is_set():
            await self._first_look_up(timeout_s)
        if self.limit is None:
            return
        try:
            # A request admitted at the last moment only adds work to an upstream that is full already.
            place: Awaitable[None] = self.limit.acquire(min(timeout_s / 2, self.upstream.queue_timeout_s))
            if steps.traced is not None and not self.limit.free:
                place = steps.traced(f"queue {self.name}", {"portway.upstream": self.name}, place)
            await place
        except LimitReached:
            raise self._refusal(Reason.UPSTREAM_FULL, 1) from None
        except TimeoutError:
            limit = ("queue_timeout_s", self.upstream.queue_timeout_s)
            raise self._refusal(Reason.QUEUE_TIMEOUT, 1, limit=limit) from None

    @property
    def has_wait(self) -> bool:
        """Whether a request must `enter` before its first attempt."""
        return self.limit is not None or not self.endpoints

    def leave(self) -> None:
        """Release the concurrency slot."""
        if self.limit is not None:
            self.limit.release()

    def pick(self, key: bytes, tried: Collection[Endpoint], *, repeatable: bool, also_ejected: bool = False) -> Attempt:
        """An attempt at the next endpoint: one not tried yet if there is one, an ejected one last (`also_ejected`).

        Raises GatewayError: DESTINATION_UNAVAILABLE when no endpoint passes its health checks, DNS_FAILED when there
        is no address, OVERLOADED when none could be looked up.
        """
        candidates = self.candidates
        if key and self.stickiness is not None:
            holder = self._holders.get(key)
            if holder is not None and holder not in tried:
                return Attempt(self, holder)
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
            if self._has_shares:
                untried = for_retry(untried, tried)
            # The last resort is the endpoint tried first: it had the longest time to recover.
            candidates = tuple(untried or [one for one in tried if one in candidates][:1] or candidates)
        chosen = candidates[0] if len(candidates) == 1 else self._balanced(candidates, key)
        return Attempt(self, chosen)

    def balance_key(self, request: GatewayRequest) -> bytes:
        """What `__BALANCE` chooses by: the client's address, or the value of a field or cookie; empty if missing."""
        return b"" if self._key_of is None else self._key_of(request, self)

    def cookie_of(self, request: GatewayRequest) -> bytes:
        """The value of a request's `sticky` cookie: as received, or as an earlier call for the request has set it."""
        stickiness = self.stickiness
        assert stickiness is not None  # noqa: S101 - only `sticky` asks
        return request.cookies_set.get(stickiness.name) or stickiness.held_by(request.scope["headers"])

    def keep_to(self, endpoint: Endpoint, key: bytes, request: GatewayRequest | None) -> None:
        """Point the client's cookie at the endpoint that has responded."""
        if self.stickiness is not None and request is not None:
            token = self.stickiness.token(endpoint.url)
            if token != key:
                request.cookies_set = {**request.cookies_set, self.stickiness.name: token}

    def untried(self, tried: Collection[Endpoint], *, also_ejected: bool) -> list[Endpoint]:
        """The endpoints not tried yet: candidates, else substitutes, else (`also_ejected`) any."""
        found = [one for one in self.candidates if one not in tried] or [one for one in self._in if one not in tried]
        return found or [one for one in self._up if also_ejected and one not in tried and not one.is_drained]

    def _balanced(self, candidates: tuple[Endpoint, ...], key: bytes) -> Endpoint:
        self._turn += 1
        if candidates is not self.candidates and have_weights(candidates):
            return Shares(candidates, self._method)(candidates, self._turn, random.random(), key)
        return self._balance(candidates, self._turn, random.random(), key)

    def _nobody(self) -> GatewayError:
        if not self.endpoints:
            if self.members.shortage is not None:
                return overloaded(self.members.shortage, self.name)
            if self._asks_registries:
                return self._unknown("no registry knows an instance")
            return self._refusal(Reason.DNS_FAILED)
        return self._refusal(Reason.DESTINATION_UNAVAILABLE, max(1, math.ceil(self.upstream.health_interval_s)))

    def _refusal(
        self,
        reason: Reason,
        retry_after_s: int | None = None,
        cause: str | None = None,
        limit: tuple[str, float] | None = None,
    ) -> GatewayError:
        """A failure before any endpoint was tried: counted under none."""
        self.calls.setdefault("", Calls()).failed(reason.word, time())
        headers = [] if retry_after_s is None else [(b"retry-after", b"%d" % retry_after_s)]
        return GatewayError(reason, upstream=self.name, headers=headers, cause=cause, limit=limit)

    def _unknown(self, cause: str) -> GatewayError:
        return self._refusal(Reason.DESTINATION_UNAVAILABLE, 1, cause)

    # -- health ---------------------------------------------------------------------------------------------------

    def judge(self, endpoint: Endpoint, failure: retry_policy.Failure | None, *, sent_in: bool) -> None:
        """Count how an attempt ended: a failure, or None for a good response."""
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
        """Update the endpoints that may be used. If all that pass their checks are ejected, ejection is ignored."""
        up = self._up = tuple(one for one in self.endpoints if one.probed.up)
        well = tuple(one for one in up if one.health.state is EndpointState.HEALTHY)
        self._in = tuple(one for one in well or up if not one.is_drained)
        if not self._in and well:  # all healthy ones are drained
            self._in = tuple(one for one in up if not one.is_drained)
        self.candidates = of_first_priority(self._in)
        is_weighed = have_weights(self.candidates)
        self._balance = Shares(self.candidates, self._method) if is_weighed else METHODS[self._method].choose
        if self.stickiness is not None:
            self._holders = {self.stickiness.token(one.url): one for one in well or up}
        due = [outlier_detection.trial_due_s(one.health, repeatable=True) for one in up]
        self._due_s = min(due, default=_NEVER)

    async def _keep_probing(self, endpoint: Endpoint) -> None:
        upstream = self.upstream
        # Spread the probes: of one gateway, and of several that started together.
        await asyncio.sleep(random.uniform(0, min(1.0, upstream.health_interval_s)))
        while True:
            with contextlib.suppress(GatewayError):  # the probe could not be sent: no verdict
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
                await self.members.known.wait()
        except TimeoutError:
            if self._asks_registries:
                raise self._unknown("no registry has answered yet") from None
            raise self._refusal(Reason.DNS_TIMEOUT, limit=("timeout_s", timeout_s)) from None

    def _members_changed(self, joined: Sequence[Endpoint], gone: Sequence[Endpoint]) -> None:
        self.endpoints = self.members.endpoints
        for endpoint in joined:  # it may be a former one
            endpoint.calls = self.calls.setdefault(endpoint.url, endpoint.calls)
        if len(self.calls) > 2 * MAX_ADDRESSES:
            self._forget_calls()
        for endpoint in gone:
            self.client.close_idle(endpoint)
            if (task := self._tasks.pop(endpoint, None)) is not None:
                task.cancel()
        for endpoint in joined if self.upstream.health is not None else ():
            self._tasks[endpoint] = asyncio.create_task(self._keep_probing(endpoint), name=f"portway-probe-{self.name}")
        self._changed()

    def _forget_calls(self) -> None:
        """Count former endpoints as one: a name with ever new addresses must not make ever new metric series."""
        here = {one.url for one in self.endpoints} | {OTHERS, ""}
        others = self.calls.setdefault(OTHERS, Calls())
        for url in [url for url in self.calls if url not in here]:
            others.add(self.calls.pop(url))

    def _say(self, level: str, event: str, endpoint: Endpoint, **values: Any) -> None:
        getattr(_log, level)(event, upstream=self.name, endpoint=endpoint.label, **values)


def _key_of(upstream: Upstream) -> "Callable[[GatewayRequest, Pool], bytes] | None":
    """How to get the balancing key of a request; None if the method needs none."""
    method, source, name = upstream.balance
    raw = name.encode("ascii")
    if method == "sticky":
        return lambda request, pool: pool.cookie_of(request)
    if source == "client":
        return lambda request, _: request.exchange.client.encode("ascii")
    if source == "header":
        return lambda request, _: request.believed(raw)
    if source == "cookie":
        return lambda request, _: unescaped(next(values_in("cookie", raw, request.raw_headers, b""), b""))
    return None


def pools_of(request: GatewayRequest) -> Mapping[str, Pool]:
    """The upstreams of the worker that serves a request, by name."""
    return request.services.pools  # type: ignore[return-value]  # `http` cannot know what a pool is
