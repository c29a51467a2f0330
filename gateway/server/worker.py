"""The state of a running worker: the pools, the requests in flight, and whether it drains.

`build` assembles it, in the worker's process; it starts with the worker's lifespan and stops with it. One ticker
watches all requests in flight, so that a request that ends quickly, as nearly all do, pays nothing for it.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from time import time
from typing import TYPE_CHECKING, Any

from gateway.auth.gate import auth_gate
from gateway.auth.rules import Requirement
from gateway.auth.ways import Ways
from gateway.cache.bloom_filter import BloomFilter
from gateway.cache.cache import Cache
from gateway.config.certificate import ends_s
from gateway.config.fingerprint import fingerprint
from gateway.config.records import Config, Settings
from gateway.config.tls import chain_of
from gateway.discovery.watching import Discovery, Registries
from gateway.errors import GatewayError, Reason
from gateway.http import view_thread
from gateway.http.body_budget import Bodies
from gateway.http.clock import SYSTEM_CLOCK, Clock
from gateway.http.gate import Gate
from gateway.http.headers import Kinds
from gateway.http.inbox import Inbox
from gateway.http.lifetime import Lifetime, current
from gateway.http.via import Via
from gateway.legacy.bulkhead import Bulkhead, Call
from gateway.legacy.options import LegacyOptions
from gateway.limits.limiter import Limiter
from gateway.limits.memory_store import Memory
from gateway.observe.added_fields import added_fields
from gateway.observe.counters import Counters
from gateway.observe.exporters import exporters_of
from gateway.observe.history import History
from gateway.observe.log import log
from gateway.observe.message_ring import MessageRing
from gateway.observe.process import ProcessMeter
from gateway.observe.shared_memory import SharedMemory
from gateway.observe.snapshot import Counts
from gateway.observe.watchdog import Watchdog
from gateway.proxy.mirror import Mirrors
from gateway.reload.board import Board
from gateway.routing.urls import Routes
from gateway.sockets.open import OpenSockets
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.pool import Pool

if TYPE_CHECKING:
    from gateway.observe.spans import Tracer

# A client that left is noticed after at most two ticks: the wait for `receive` starts at the first tick that finds the
# request still open.
TICK_S = 0.2
_TICKS_A_SECOND = 5
_LOOK_S = 0.02
_LOOKS_AT_CLOSING = 10


@dataclass(frozen=True, slots=True)
class Parent:
    """The process that a worker was forked from: when it began, how many workers have died since."""

    started_s: float = field(default_factory=time)
    restarts: Callable[[], int] = int


@dataclass(frozen=True, slots=True)
class Shared:
    """The arguments of a worker: what it shares with the other workers, set by the parent, and its clock and network,
    set only by the test kit."""

    shared_memory: SharedMemory | None = None  # where workers see each other's counts
    past: Counts | None = None  # the counts of those before it in its slot
    bloom_filter: BloomFilter | None = None  # the keys that are stored
    limits: Memory | None = None  # the counts of all workers
    purges: MessageRing | None = None  # the purges of all workers
    board: Board | None = None  # which generation serves, and what came of reloads
    generation: int = 1  # of this worker
    on_started: Callable[["Worker"], None] | None = None  # called when all is open, before it serves
    on_stopped: Callable[[], None] | None = None  # called when all is closed
    parent: Parent = field(default_factory=Parent)
    note_in_flight: Callable[[int, Iterable[str]], None] | None = None  # how many requests there are, and their ids
    clock: Clock = SYSTEM_CLOCK
    network: Network = SYSTEM_NETWORK


ALONE = Shared()


def build(config: Config, routes: Routes, shared: Shared = ALONE) -> "Worker":
    """A complete worker, not started: all its parts, made once and in this order."""
    bodies = Bodies()
    settings = config.settings
    memory_bytes = settings.cache_memory_bytes // settings.workers
    cache = Cache(
        memory_bytes,
        settings.cache_disk_bytes,
        bodies,
        shared.bloom_filter,
        shared.purges,
        stores_parts=routes.caches_parts,
        clock=shared.clock,
    )
    limits = Limiter(routes.policies, shared.limits, settings.valkey, shared.clock.monotonic)
    passwords = Bulkhead("auth.passwords", _PASSWORDS)
    ways = Ways(config.auth, routes.checks, partial(_check_password, passwords), shared.clock, shared.network)
    bulkheads = routes.bulkheads
    if config.auth.hashes_passwords:
        bulkheads = {**bulkheads, passwords.name: passwords}
    return Worker(
        config,
        shared,
        bodies,
        cache,
        ways=ways,
        limits=limits,
        bulkheads=bulkheads,
        discovery=Discovery(
            Registries(settings.consul_url, settings.consul_token, settings.eureka_url, routes.iterators)
        ),
        caches=routes.caches,
        via=Via(fingerprint(config, routes)),
    )


def _admin_gate(settings: Settings) -> Gate | None:
    """The gate for reading under /-/, beside the admin's token."""
    if settings.admin_auth is None:
        return None
    return auth_gate([Requirement(settings.admin_auth, settings.admin_roles, settings.admin_scopes)])


async def _check_password(passwords: Bulkhead, work: Callable[[], bool]) -> bool:
    """The result of the work, from a thread. Raises GatewayError if all threads are busy."""
    good: bool = await passwords.run(Call("password", "", lambda _: work()), _PASSWORDS.timeout_s)
    return good


# For hashes of passwords: one or two cores at most, however many are tried.
_PASSWORDS = LegacyOptions(threads=2, queue=64, timeout_s=5.0)


class Worker:
    """One worker's state. `start` it inside the loop that serves; `stop` it there."""

    def __init__(
        self,
        config: Config,
        shared: Shared,
        bodies: Bodies,
        cache: Cache,
        *,
        ways: Ways,
        limits: Limiter,
        bulkheads: Mapping[str, Bulkhead],
        discovery: Discovery,
        caches: bool,
        via: Via,
    ) -> None:
        self.config = config
        self.shared_memory, self.past = shared.shared_memory, shared.past
        self.clock, self._network = shared.clock, shared.network
        self.bodies = bodies
        self.cache = cache
        self.limits = limits
        self.ways = ways
        self.discovery = discovery
        self.admin_gate = _admin_gate(config.settings)
        self.field_kinds = Kinds(config.auth.hidden_fields)
        self.added_fields = added_fields(config.settings.log_fields, config.auth.credential_fields)
        self.caches = caches  # whether a route caches
        self.via = via
        self.bulkheads = bulkheads
        self.disclose_names = config.settings.disclose == "full"
        self.watchdog = Watchdog(config.settings.stall_s, self._request_of)
        self.pools: dict[str, Pool] = {}
        self.counters = Counters()
        self.mirrors = Mirrors()
        self.history = History()
        self.meter = ProcessMeter()
        self.parent = shared.parent
        self.explain: Callable[[str], Awaitable[Any]] | None = None  # the output of `gateway explain` for a route
        self.started_s = time()
        pem = config.settings.tls_cert_pem
        self.certificate_ends_s = None if pem is None else ends_s(chain_of(pem))
        self.tracer: Tracer | None = None  # where spans are exported
        self.in_flight: dict[Lifetime, Inbox] = {}
        self.sockets = OpenSockets(config.settings.max_websockets)
        self.watchers = 0  # those that follow the status page
        self.ready = False
        self.draining = False
        self.is_replaced = False  # by a worker of the next generation: the gateway itself goes on
        self.on_port_left: Callable[[], None] = lambda: None  # called where a next generation has it
        self.board, self.generation = shared.board, shared.generation
        self._drain_s = config.settings.drain_s
        self._shared = shared
        self._cut = False
        self._ticker: asyncio.Task[None] | None = None

    async def start(self, publish: Callable[["Worker"], object]) -> None:
        """Open the pools; `publish` shows this worker's counts to the others, now and every second.

        Raises OSError or ssl.SSLError when a certificate cannot be loaded.
        """
        self.tracer = _tracer()
        upstreams = self.config.upstreams.items()
        self.pools = {name: Pool(upstream, self.tracer, self._network) for name, upstream in upstreams}
        for pool in self.pools.values():
            pool.start()
        self.discovery.start(self.pools)
        self.ways.start(self.pools)
        if self.caches:
            await self.cache.start()
        await self.limits.start()
        self._ticker = asyncio.create_task(self._tick(publish), name="portway-ticker")
        self.watchdog.start()
        self.ready = True
        if self._shared.on_started is not None:
            self._shared.on_started(self)
        publish(self)

    async def stop(self) -> None:
        self.ready = False
        await self.mirrors.stop(0.0 if self._cut else self.config.settings.drain_s)
        await self._threads_ended()
        for bulkhead in self.bulkheads.values():
            bulkhead.close()
        self.watchdog.stop()
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self.cache.stop()
        await self.limits.stop()
        await self.ways.aclose()
        await self.discovery.aclose()
        for pool in self.pools.values():
            await pool.aclose()
        if self.tracer is not None:
            self.tracer.stop(self.config.settings.drain_s)
        if self._shared.on_stopped is not None:
            self._shared.on_stopped()

    # -- requests in flight ---------------------------------------------------------------------------------------

    def opened(self, lifetime: Lifetime, inbox: Inbox) -> None:
        self.in_flight[lifetime] = inbox

    def upgraded(self, lifetime: Lifetime) -> None:
        """A handshake has become a socket: it is no longer a request in flight, and is not waited for or timed."""
        del self.in_flight[lifetime]
        for waiting in (lifetime.watch, lifetime.timer):
            if waiting is not None:
                waiting.cancel()
        lifetime.watch = lifetime.timer = None

    def closed(self, lifetime: Lifetime) -> None:
        self.in_flight.pop(lifetime, None)  # an open socket is none of them any more
        lifetime.let_go()
        if lifetime.kept_bytes and (lifetime.request is None or not lifetime.request.lent):
            self.bodies.end(lifetime)

    def note_in_flight(self) -> None:
        """Record the requests in flight for the parent: before code of a team's own, which may end the process, and at
        every tick. A proxied request that ends sooner pays nothing for it."""
        if self._shared.note_in_flight is not None:
            ids = (lifetime.exchange.request_id for lifetime in reversed(self.in_flight))
            self._shared.note_in_flight(len(self.in_flight), ids)

    async def _tick(self, publish: Callable[["Worker"], object]) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            self.note_in_flight()
            if ticks % _TICKS_A_SECOND == 0:
                publish(self)
            self.watch_clients()

    def watch_clients(self) -> None:
        """Begin to watch for clients that leave, for all requests that are still open."""
        for lifetime, inbox in self.in_flight.items():
            # While a body is being read, its reader notices a client that leaves.
            if lifetime.watch is None and inbox.complete:
                lifetime.watch = asyncio.create_task(_watch(lifetime, inbox))

    # -- draining -------------------------------------------------------------------------------------------------

    def drain(self, within_s: float, *, is_replaced: bool = False) -> None:
        """From now on answers carry `Connection: close`, and `/-/ready` says 503 unless a next generation serves."""
        self.draining, self.is_replaced, self._drain_s = True, is_replaced, within_s

    def cut(self) -> int:
        """Break off all requests in flight; returns how many there were."""
        open_now = list(self.in_flight)
        self.mirrors.cut()
        for lifetime in open_now:
            lifetime.interrupt(GatewayError(Reason.DRAIN_CUT, headers=[(b"retry-after", b"1")]))
        self._abandon()
        return len(open_now)

    async def _threads_ended(self) -> None:
        """Wait for the calls in threads, also for abandoned ones, as long as a drain lasts."""
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + self._drain_s
        while not self._cut and (view_thread.busy() or any(pool.running for pool in self.bulkheads.values())):
            if loop.time() >= give_up_s:
                self._abandon()
            await asyncio.sleep(_LOOK_S)
        # A request that was cut closes its resources, such as uploaded files, in the thread of its view.
        for _ in range(_LOOKS_AT_CLOSING):
            if view_thread.busy():
                await asyncio.sleep(_LOOK_S)

    def _abandon(self) -> None:
        """Log the calls that the end of the process breaks off. Threads cannot be killed, and do not delay the exit."""
        self._cut = True
        calls = {pool.name: pool.describe_running() for pool in self.bulkheads.values() if pool.running}
        if calls:
            log.warning("legacy.abandoned", count=sum(map(len, calls.values())), calls=calls)
        if view_thread.busy():
            log.warning("view.abandoned", count=view_thread.busy())

    # -- for watchdog and spans -----------------------------------------------------------------------------------

    def _request_of(self, task: asyncio.Task[object]) -> str | None:
        """The id of the request that a task serves. Called by the watchdog, from its thread."""
        if hasattr(task, "get_context"):  # from Python 3.12 on, also for a task that a view started
            lifetime = task.get_context().get(current)
        else:
            lifetime = next((one for one in list(self.in_flight) if one.task is task), None)
        return None if lifetime is None else lifetime.exchange.request_id


def _tracer() -> "Tracer | None":
    """The tracer, if spans are configured. Whatever is wrong with that, the gateway serves."""
    try:
        if exporters := exporters_of(os.environ, find_spec):
            from gateway.observe.spans import Tracer  # 10 MB and a tenth of a second, only where it is configured

            return Tracer(exporters)
    except Exception as error:  # noqa: BLE001
        log.warning("tracing.off", cause=str(error))
    return None


async def _watch(lifetime: Lifetime, inbox: Inbox) -> None:
    await inbox.gone()
    lifetime.interrupt(GatewayError(Reason.CLIENT_GONE))
