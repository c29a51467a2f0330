"""An upstream while the gateway runs: its endpoints, whose turn it is, and its connections."""

from dataclasses import dataclass

from gateway.balancing import round_robin
from gateway.client import Client, tls_context
from gateway.config import Base, Upstream


@dataclass(slots=True)
class Endpoint:
    """One address that serves an upstream, and how many requests are on their way to it."""

    base: Base
    in_flight: int = 0

    def __repr__(self) -> str:
        return f"<Endpoint {self.base.authority} in_flight={self.in_flight}>"


class Pool:
    """The endpoints of one upstream. Make it inside a running loop; `aclose` it there."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.name = upstream.name
        self.endpoints = tuple(Endpoint(base) for base in upstream.bases)
        uses_tls = any(base.scheme == "https" for base in upstream.bases)
        tls = tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem) if uses_tls else None
        self.client = Client(tls)
        self._turn = 0

    def pick(self) -> Endpoint:
        """The endpoint that answers next."""
        endpoint = self.endpoints[round_robin(len(self.endpoints), self._turn)]
        self._turn += 1
        return endpoint

    async def aclose(self) -> None:
        await self.client.aclose()

    def __repr__(self) -> str:
        return f"<Pool {self.name} {list(self.endpoints)}>"
