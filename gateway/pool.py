"""An upstream while the gateway runs: its endpoints, whose turn it is, and its connections."""

from gateway.balancing import round_robin
from gateway.calls import Answer, Call
from gateway.config import Base, Upstream
from gateway.tls import tls_context


class Endpoint:
    """One address that serves an upstream."""

    __slots__ = ("authority", "base", "host_field")

    def __init__(self, base: Base) -> None:
        self.base = base
        self.authority = base.authority
        self.host_field = base.authority.encode("ascii")

    def __repr__(self) -> str:
        return f"<Endpoint {self.base.origin}{self.base.prefix}>"


class Pool:
    """The endpoints of one upstream. Make it inside a running loop; `aclose` it there."""

    def __init__(self, upstream: Upstream) -> None:
        from gateway.client import Client  # aiohttp takes a third of the time of `gateway check`, which calls nobody

        self.upstream = upstream
        self.name = upstream.name
        self.endpoints = tuple(Endpoint(base) for base in upstream.bases)
        uses_tls = any(base.scheme == "https" for base in upstream.bases)
        tls = tls_context(upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem) if uses_tls else None
        self._client = Client(tls)
        self._turn = 0

    def pick(self) -> Endpoint:
        """The endpoint that answers next."""
        endpoint = self.endpoints[round_robin(len(self.endpoints), self._turn)]
        self._turn += 1
        return endpoint

    async def send(self, call: Call) -> Answer:
        """Send a call to an endpoint and wait for the head of its answer. Raises GatewayError."""
        return await self._client.send(call)

    async def aclose(self) -> None:
        await self._client.aclose()

    def __repr__(self) -> str:
        return f"<Pool {self.name} {list(self.endpoints)}>"
