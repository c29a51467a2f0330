"""What goes up: however it is rendered, the lines are the same, and nothing of them is sent twice."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.http.exchange import Exchange
from gateway.http.headers import Pairs, field_block, read_fields
from gateway.http.inbox import Inbox
from gateway.http.lifetime import Lifetime
from gateway.http.request import GatewayRequest
from gateway.http.via import Via
from gateway.proxy.outgoing import proxied_fields, proxied_pairs, rendered
from gateway.proxy.sent import Sent
from gateway.upstreams.options import Overrides, effective, overrides

PLAIN = Sent(effective(Overrides(), Overrides()))

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
LINES = st.sampled_from([
    *((b"accept", b"*/*"), (b"cookie", b"a=1"), (b"via", b"1.1 first"), (b"via", b"1.0 second"), (b"te", b"trailers")),
    *((b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"x-a", b""), (b"x-a", b"\xe9"), (b"x-request-id", b"mine")),
    *((b"x-forwarded-for", b"1.2.3.4"), (b"forwarded", b"for=1.2.3.4"), (b"x-real-ip", b"1.2.3.4")),
])  # fmt: skip


def request_of(pairs: Pairs, *, version: str, length: int | None, traceparent: bytes | None) -> GatewayRequest:
    exchange = Exchange(0.0, "POST", "/a", "192.0.2.1")
    exchange.request_id, exchange.trace_id = "r-1", "4bf92f3577b34da6a3ce929d0e0e4736"
    scope: dict[str, Any] = {"method": "POST", "scheme": "http", "client": ("192.0.2.1", 1), "http_version": version}
    scope["headers"] = pairs
    inbox = Inbox(None, exchange, 30.0, 0, expects_body=False)  # type: ignore[arg-type]  # nothing is read of it
    services: Any = SimpleNamespace(via=Via("1f0c3a9e"))
    request = GatewayRequest(
        scope, Lifetime(exchange), inbox, read_fields(pairs), services=services, traceparent=traceparent
    )
    request.content_length = length
    return request


@given(
    st.lists(LINES, max_size=8),
    st.sampled_from(["1.1", "1", "2"]),
    st.none() | st.integers(0, 10**9),
    st.sampled_from([None, TRACE]),
    st.sampled_from(["", "/api"]),
)
def test_lines_are_the_same_however_they_are_rendered(
    pairs: Pairs, version: str, length: int | None, traceparent: bytes | None, prefix: str
) -> None:
    request = request_of([(b"host", b"a.example"), *pairs], version=version, length=length, traceparent=traceparent)
    block, trace = proxied_fields(request, PLAIN, prefix)
    wanted, wanted_trace = rendered(proxied_pairs(request, PLAIN, prefix))
    assert sorted(block.splitlines()) == sorted(wanted.splitlines())
    assert [line for line in block.splitlines() if line.startswith(b"via")] == [
        line for line in wanted.splitlines() if line.startswith(b"via")
    ]
    assert (trace[:35], len(trace)) == (wanted_trace[:35], len(wanted_trace))
    if traceparent is not None:
        assert trace == wanted_trace == TRACE
    assert block.count(b"x-request-id: ") == 1


@pytest.mark.parametrize("peer_is_trusted", [False, True])
def test_what_is_configured_replaces_what_came(*, peer_is_trusted: bool) -> None:
    pairs = [(b"host", b"a.example"), (b"X-User", b"me"), (b"x_user", b"me"), (b"x-b", b"2")]
    request = request_of(
        [(name.lower(), value) for name, value in pairs], version="1.1", length=None, traceparent=TRACE
    )
    request.from_trusted_peer = peer_is_trusted
    sent = Sent(effective(overrides({"header_x_user": "configured"}), Overrides()))
    sent.changes = (*sent.changes, (b"x-forwarded-for", None), (b"traceparent", None))
    block, trace = proxied_fields(request, sent, "")
    lines = block.splitlines()
    assert [line for line in lines if line.startswith((b"x-user", b"x_user", b"x-forwarded-for"))] == [
        b"x-user: configured"
    ]
    assert (b"x-b: 2" in lines, trace) == (True, b"")


def test_traceparent_is_rendered_apart() -> None:
    pairs = [(b"a", b"1"), (b"traceparent", TRACE), (b"b", b"2")]
    assert rendered(pairs) == (field_block([pairs[0], pairs[2]]), TRACE)
