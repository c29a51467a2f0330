"""Connections to the endpoints of an upstream: made, kept alive for the next request, closed.

aiohttp's session is not used: it resends an idempotent request by itself on a dead connection, which no log line would
show; it invents fields and upper-cases methods; and it costs two thirds of the budget of a whole proxied request. Its
connector is not used either: it connects to names, while the gateway must choose among addresses.
"""

import asyncio
import random
import ssl
from functools import partial
from typing import Final

import structlog

from gateway.errors import Reason
from gateway.observe.throttle import at_most_every
from gateway.upstreams.connection import Connection
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.errors import translated
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.retry_policy import Unsent
from gateway.upstreams.shortage import raise_for_shortage

# Behind an address that balances connections, as a Service of Kubernetes does, a connection stays with one process. It
# is closed at this age, so that new processes soon get their share.
_OLDEST_S: Final = 60.0
_COMPLAIN_S: Final = 60.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Client:
    """The connections of one upstream. Make it inside a running loop; `aclose` it there."""

    def __init__(
        self, upstream: str, tls: ssl.SSLContext | None, keepalive_s: float, network: Network = SYSTEM_NETWORK
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._upstream = upstream
        self._tls = tls
        self._keepalive_s = keepalive_s
        self._network = network
        self._throttle = at_most_every(_COMPLAIN_S)
        self._endpoints: set[Endpoint] = set()  # those with idle connections
        self._sweeper: asyncio.TimerHandle | None = None

    async def aclose(self) -> None:
        for endpoint in tuple(self._endpoints):
            self.close_idle(endpoint)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    # -- kept ---------------------------------------------------------------------------------------------------------

    def idle_connection(self, endpoint: Endpoint, reuse_idle_s: float) -> Connection | None:
        """The good connection to an endpoint that was used last, and less than `reuse_idle_s` ago."""
        idle = endpoint.idle
        now = self._loop.time()
        while idle:
            connection: Connection = idle[-1]
            idle_s = now - connection.idle_since
            if idle_s < self._keepalive_s and now < connection.retire_at and connection.is_good():
                if connection.is_silent():
                    return idle.pop() if idle_s < reuse_idle_s else None
                connection.refuse()
            idle.pop().close()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep a connection once its answer has ended, if it can be used again."""
        endpoint, now = connection.endpoint, self._loop.time()
        connection.kept(now)
        unwanted = endpoint.is_gone or not endpoint.is_in or now >= connection.retire_at or not self._keepalive_s
        if unwanted or not connection.is_good():
            connection.close()
            return
        endpoint.idle.append(connection)
        self._endpoints.add(endpoint)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keepalive_s, self._sweep)

    def close_idle(self, endpoint: Endpoint, since: float = float("inf")) -> None:
        """Close connections that have been idle since that moment or longer."""
        for connection in (old := [kept for kept in endpoint.idle if kept.idle_since <= since]):
            connection.close()
        del endpoint.idle[: len(old)]
        if not endpoint.idle:
            self._endpoints.discard(endpoint)

    def _sweep(self) -> None:
        for endpoint in tuple(self._endpoints):
            self.close_idle(endpoint, self._loop.time() - self._keepalive_s)
        again = self._endpoints
        self._sweeper = self._loop.call_later(max(0.1, self._keepalive_s / 2), self._sweep) if again else None

    # -- new ----------------------------------------------------------------------------------------------------------

    async def connect(self, endpoint: Endpoint, timeout_s: float) -> Connection:
        """A new connection, to the first address that accepts one. Raises GatewayError `Unsent`."""
        try:
            async with asyncio.timeout(timeout_s):
                for number, address in enumerate(endpoint.addresses, start=1):
                    try:
                        return await self._connect_to(endpoint, address)
                    except OSError as error:
                        raise_for_shortage(error, address, self._upstream)
                        if number == len(endpoint.addresses):
                            raise
        except TimeoutError as error:
            limit = ("connect_timeout_s", timeout_s)
            raise Unsent(Reason.CONNECT_TIMEOUT, upstream=self._upstream, limit=limit) from error
        except OSError as error:  # errors of TLS are subclasses of it
            failure = translated(error, self._upstream, Reason.CONNECTION_FAILED)
            raise Unsent(failure.reason, upstream=self._upstream, cause=failure.cause) from error
        raise AssertionError("an endpoint has an address")

    async def _connect_to(self, endpoint: Endpoint, address: str) -> Connection:
        retire_at = self._loop.time() + _OLDEST_S * random.uniform(0.8, 1.2)
        complain = partial(self._complain, endpoint.label)
        tls = self._tls if endpoint.base.scheme == "https" else None
        make = partial(Connection, endpoint, self._upstream, retire_at, complain)
        return await self._network.connect(self._upstream, endpoint, address, make, tls)

    def _complain(self, endpoint: str) -> None:
        """Warn of an upstream that sends bytes that no request asked for, at most once a minute."""
        if self._throttle.take(self._loop.time()):
            _log.warning("upstream.unasked_bytes", upstream=self._upstream, endpoint=endpoint)
