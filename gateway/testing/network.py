"""The network of a gateway in a test: every name resolves, and each leads to a service of the test."""

import ssl
from collections.abc import Callable, Mapping

from gateway.errors import GatewayError, Reason
from gateway.testing.connection import ServiceConnection
from gateway.testing.reply import BEFORE_THE_REQUEST
from gateway.testing.service import Service
from gateway.testing.transport import join
from gateway.upstreams.connection import Connection
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.retry_policy import Unsent

# Failures that happen at once, instead of after a time limit, or before there is a connection.
_AT_ONCE = BEFORE_THE_REQUEST | {Reason.CONNECTION_RESET, Reason.RESPONSE_TIMEOUT}


class ServiceNetwork:
    """`services` by the names of upstreams; `report` takes faults for the test."""

    def __init__(self, services: Mapping[str, Service], report: Callable[[BaseException], None]) -> None:
        self._services = services
        self._report = report
        self.connections: set[ServiceConnection] = set()

    async def look_up(self, upstream: str, host: str, port: int) -> tuple[str, ...]:
        return (host,)

    async def connect(
        self,
        upstream: str,
        endpoint: Endpoint,
        address: str,
        make: Callable[[], Connection],
        tls: ssl.SSLContext | None,
    ) -> Connection:
        connection = make()
        service = self._services[upstream.removeprefix("auth:")]

        def fail(_: ServiceConnection, reason: Reason) -> bool:
            if reason not in _AT_ONCE:
                return False
            kind = Unsent if reason in BEFORE_THE_REQUEST else GatewayError
            connection.fail(kind(reason, upstream=upstream, cause="as the test says"))
            return True

        served = ServiceConnection(service, endpoint.label, fail, self._report)
        join(connection, served)
        self.connections.add(served)
        if served.task is not None:
            served.task.add_done_callback(lambda _: self.connections.discard(served))
        return connection
