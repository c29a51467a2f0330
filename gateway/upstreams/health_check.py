"""One active probe: ask an endpoint for its health path, on a connection of its own, beside the requests."""

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pairs, encoded_changes, field_block, set_fields
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.records import Upstream

if TYPE_CHECKING:
    from gateway.upstreams.client import Client


async def probe(client: "Client", upstream: Upstream, endpoint: Endpoint) -> str | None:
    """None if the endpoint is healthy: a status from 200 to 399 within the time. Else what is wrong, for the log.

    Raises GatewayError OVERLOADED where the gateway itself could not ask.

    The path is whole: the base URL's prefix is not put before it. The upstream's own `__HEADER_*` are sent with it.
    """
    pairs: Pairs = [(b"host", endpoint.host_field), (b"user-agent", b"portway-probe"), (b"connection", b"close")]
    fields = field_block(set_fields(pairs, encoded_changes(upstream.overrides.headers)))
    connection = None
    try:
        async with asyncio.timeout(upstream.health_timeout_s):
            connection = await client.connect(endpoint, upstream.health_timeout_s)
            connection.ask(
                b"GET %b HTTP/1.1\r\n%b\r\n" % ((upstream.health or "/").encode("ascii"), fields), without_body=False
            )
            await connection.arrival()
        if connection.failure is not None:
            raise connection.failure
        return None if 200 <= connection.status <= 399 else f"status {connection.status}"
    except TimeoutError:
        return f"no answer within {upstream.health_timeout_s:g} s"
    except GatewayError as error:
        if error.reason is Reason.OVERLOADED:
            raise
        return f"{error.reason.word}: {error.cause}" if error.cause else error.reason.word
    finally:
        if connection is not None:
            connection.close()
