"""Calls that the gateway makes by itself, through pools: for keys, to services that authenticate, to registries."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from gateway import units
from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Deadline
from gateway.http.exchange import Exchange
from gateway.http.headers import Pair, Pairs, field_block, first_of
from gateway.http.lifetime import Lifetime
from gateway.http.trace_context import new_trace_id, new_traceparent
from gateway.upstreams.attempt import Attempt
from gateway.upstreams.attempts import Outgoing, answer_to
from gateway.upstreams.network import Network
from gateway.upstreams.options import Overrides, effective
from gateway.upstreams.places import Base
from gateway.upstreams.pool import Pool
from gateway.upstreams.records import Upstream

_URL = re.compile(r"(https?://[^/?#\s]+)([/?][!-~]*)?")


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """A whole answer; names of fields in lower case, hop-by-hop fields included."""

    status: int
    pairs: Sequence[Pair]
    body: bytes


async def get(
    pool: Pool, target: str, pairs: Pairs, *, timeout_s: float, max_bytes: int, lifetime: Lifetime | None = None
) -> UpstreamResponse:
    """GET a target and read its whole answer, on behalf of the request of `lifetime`, or of none.

    Raises GatewayError; PART_TOO_LARGE above `max_bytes`.
    """
    began_s, exchange = pool.now(), Exchange(perf_counter(), "GET", target, "")

    def too_late() -> GatewayError:
        return GatewayError(
            Reason.RESPONSE_TIMEOUT, upstream=pool.name, cause=f"after {units.format_duration(round(timeout_s, 3))}"
        )

    traceparent = first_of(pairs, b"traceparent")
    outgoing = Outgoing(
        method="GET",
        target=target,
        fields=field_block(pair for pair in pairs if pair[0] != b"traceparent"),
        traceparent=traceparent or new_traceparent(new_trace_id()),
        options=effective(pool.upstream.overrides, Overrides()),
        timeout_s=timeout_s,
        host=None,
        key=b"",
        repeatable=True,
        lifetime=lifetime or Lifetime(exchange),
        too_late=too_late,
    )
    answer = await answer_to(outgoing, pool, exchange)
    body = answer.whole()
    if body is None:
        with Deadline(max(0.0, timeout_s - (pool.now() - began_s)), too_late):
            body = await _whole(answer, max_bytes)
    if len(body) > max_bytes:
        raise GatewayError(Reason.PART_TOO_LARGE, upstream=pool.name)
    return UpstreamResponse(answer.status, [(name.lower(), value) for name, value in answer.pairs], body)


async def _whole(answer: Attempt, max_bytes: int) -> bytes:
    """The body, or enough of it to show that it is too large."""
    arrived = bytearray()
    try:
        async for chunk in answer.chunks():
            arrived += chunk
            if len(arrived) > max_bytes:
                break
    finally:
        answer.close()
    return bytes(arrived)


def pool_of_url(url: str, name: str, ca_pem: str | None, network: Network) -> tuple[Pool, str]:
    """A pool, not started, for the host of a URL, and the raw target there. Raises ValueError for what is no URL."""
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("expected a URL that begins with https:// or http://")
    origin, target = match[1], match[2]
    scheme, host, port, _ = units.base_url(origin)
    upstream = Upstream(name=name, bases=(Base(scheme, host, port),), ca_pem=ca_pem if scheme == "https" else None)
    return Pool(upstream, network=network), target if target and target.startswith("/") else f"/{target or ''}"
