"""One active probe: ask an endpoint for its health path, on a connection of its own, beside the requests."""

import asyncio
from typing import TYPE_CHECKING

from gateway.errors import GatewayError, Reason
from gateway.http.headers import Pairs, encoded_changes, set_fields
from gateway.upstreams.call import Call
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.records import Upstream

if TYPE_CHECKING:
    from gateway.upstreams.client import Client


class _Nobody:
    """A probe's answer is nobody's: it counts neither as in flight nor against the endpoint."""

    def ended(self, status: int) -> None: ...
    def broke(self, reason: Reason) -> None: ...
    def dropped(self) -> None: ...


_NOBODY = _Nobody()


async def probe(client: "Client", upstream: Upstream, endpoint: Endpoint) -> str | None:
    """None where the endpoint is well: a status from 200 to 399 within the time. Else what is wrong, for the log.

    Raises GatewayError OVERLOADED where the gateway itself could not ask.

    The path is the whole one: it is not below the base URL's prefix. The upstream's own `__HEADER_*` go with it.
    """
    pairs: Pairs = [(b"host", endpoint.host_field), (b"user-agent", b"portway-probe"), (b"connection", b"close")]
    call = Call(
        upstream=upstream.name,
        endpoint=endpoint,
        method="GET",
        target=upstream.health or "/",
        pairs=set_fields(pairs, encoded_changes(upstream.overrides.headers)),
        body=None,
        chunked=False,
        idle_timeout_s=upstream.health_timeout_s,
        keep=False,
    )
    answer = None
    try:
        async with asyncio.timeout(upstream.health_timeout_s):
            answer = await client.open_new(call, _NOBODY, upstream.health_timeout_s)
            await answer.head()
            return None if 200 <= answer.status <= 399 else f"status {answer.status}"
    except TimeoutError:
        return f"no answer within {upstream.health_timeout_s:g} s"
    except GatewayError as error:
        if error.reason is Reason.OVERLOADED:
            raise
        return f"{error.reason.word}: {error.cause}" if error.cause else error.reason.word
    finally:
        if answer is not None:
            answer.close()
