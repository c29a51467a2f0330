"""What lives while a worker runs: the pools, the requests in flight, and whether it drains.

Made when the worker's lifespan starts and closed at its end. One ticker looks after all requests in flight, so that
a request that ends quickly, as nearly all do, pays nothing for being watched.
"""

import asyncio
import contextlib

from gateway.cache import Cache
from gateway.config import Config
from gateway.errors import GatewayError, Reason
from gateway.exchange import Exchange
from gateway.messages import Inbox
from gateway.pool import Pool

# A client that left is noticed after at most two ticks: the wait for `receive` starts with the first that finds the
# request still open.
TICK_S = 0.2


class Runtime:
    """One worker's state. `start` it inside the loop that serves; `stop` it there."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pools: dict[str, Pool] = {}
        self.cache = Cache(config.settings)
        self.caches = False  # whether a route does
        self.in_flight: dict[Exchange, Inbox] = {}
        self.ready = False
        self.draining = False
        self._ticker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the pools. Raises OSError or ssl.SSLError when a certificate cannot be loaded."""
        self.pools = {name: Pool(upstream) for name, upstream in self.config.upstreams.items()}
        for pool in self.pools.values():
            pool.start()
        if self.caches:
            await self.cache.start()
        self._ticker = asyncio.create_task(self._tick(), name="portway-ticker")
        self.ready = True

    async def stop(self) -> None:
        self.ready = False
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self.cache.stop()
        for pool in self.pools.values():
            await pool.aclose()

    # -- requests in flight ---------------------------------------------------------------------------------------

    def opened(self, exchange: Exchange, inbox: Inbox) -> None:
        self.in_flight[exchange] = inbox

    def closed(self, exchange: Exchange) -> None:
        del self.in_flight[exchange]
        exchange.let_go()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for exchange, inbox in self.in_flight.items():
                # While a body is being read, its reader is who hears of a client that leaves.
                if exchange.watch is None and inbox.complete:
                    exchange.watch = asyncio.create_task(_watch(exchange, inbox))

    # -- draining -------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """From now on `/-/ready` says 503 and answers carry `Connection: close`."""
        self.draining = True

    def cut(self) -> int:
        """Break off what is still in flight; how many that were."""
        open_now = list(self.in_flight)
        for exchange in open_now:
            exchange.interrupt(GatewayError(Reason.DRAIN_CUT, headers=[(b"retry-after", b"1")]))
        return len(open_now)


async def _watch(exchange: Exchange, inbox: Inbox) -> None:
    await inbox.gone()
    exchange.interrupt(GatewayError(Reason.CLIENT_GONE))
