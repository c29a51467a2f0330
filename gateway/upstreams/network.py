"""The network below a pool and its client: names are looked up, connections are made.

There is one that uses the system, and one of the test kit, in which a service is an object of the test.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.resolver import look_up

if TYPE_CHECKING:
    from gateway.upstreams.connection import Connection


class Network(Protocol):
    """`upstream` is the name of the upstream that a call is for."""

    async def look_up(self, upstream: str, host: str, port: int) -> tuple[str, ...]:
        """Every address of a name. Raises OSError."""

    async def connect(
        self,
        upstream: str,
        endpoint: Endpoint,
        address: str,
        make: Callable[[], "Connection"],
        tls: ssl.SSLContext | None,
    ) -> "Connection":
        """The protocol that `make` returns, connected to an address of an endpoint. Raises OSError; errors of TLS are
        subclasses of it."""


class SystemNetwork:
    """Sockets, and the system's resolver."""

    async def look_up(self, upstream: str, host: str, port: int) -> tuple[str, ...]:
        return await look_up(host, port)

    async def connect(
        self,
        upstream: str,
        endpoint: Endpoint,
        address: str,
        make: Callable[[], "Connection"],
        tls: ssl.SSLContext | None,
    ) -> "Connection":
        _, connection = await asyncio.get_running_loop().create_connection(
            make,
            address,
            endpoint.base.port,
            ssl=tls,
            # A name that ends in a dot is absolute; certificates have it without the dot.
            server_hostname=endpoint.base.host.rstrip(".") if tls else None,
        )
        return connection


SYSTEM_NETWORK: Final = SystemNetwork()
