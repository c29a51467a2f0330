"""Opens a request and its exchange from an ASGI scope."""

import asyncio
from time import perf_counter

from gateway.http.exchange import Exchange
from gateway.http.forwarding import peer_address
from gateway.http.headers import RequestFields, read_fields
from gateway.http.inbox import Inbox, Receive
from gateway.http.lifetime import Lifetime
from gateway.http.request import GatewayRequest, Scope
from gateway.http.services import Services
from gateway.http.trace_context import is_request_id, new_trace_id, trace_id_of

_ZERO = [b"0"]


def open_request(
    scope: Scope, receive: Receive, services: Services, client_idle_s: float, min_upload_rate_bytes_per_s: int = 0
) -> GatewayRequest:
    """Create a request and its exchange from an ASGI scope."""
    fields = read_fields(scope["headers"], services.field_kinds)
    own = fields.own
    plain = fields.end_to_end()
    if len(plain) < len(fields.plain):
        # Fields that `Connection` names are not sent to the upstream, so no view and no cache may see them: the cache
        # would store the response to one request for another, and a view would trust what its service never gets.
        names = {name for name, _ in fields.plain} - {name for name, _ in plain}
        fields.nominated = [pair for pair in fields.plain if pair[0] in names]
        scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in names]}
        fields.plain = plain
    exchange = Exchange(
        perf_counter(), scope["method"], scope["raw_path"].decode("latin-1"), peer_address(scope["client"][0])
    )
    if services.added_fields is not None:
        exchange.fields = services.added_fields([*fields.nominated, *scope["headers"]])
    lifetime = Lifetime(exchange, asyncio.current_task())
    expects_body = b"transfer-encoding" in own or own.get(b"content-length", _ZERO) != _ZERO
    inbox = Inbox(receive, exchange, client_idle_s, min_upload_rate_bytes_per_s, expects_body=expects_body)
    traceparent = _identify(exchange, fields)
    request = lifetime.request = GatewayRequest(
        scope, lifetime, inbox, fields, services=services, traceparent=traceparent
    )
    return request


def _identify(exchange: Exchange, fields: RequestFields) -> bytes | None:
    """Set the ids of the exchange: the client's if they are valid, else new ones, which are equal if both are new.

    Returns the client's `traceparent`, if it is valid.
    """
    traceparent = fields.only(b"traceparent")
    trace_id = trace_id_of(traceparent) if traceparent is not None else None
    exchange.trace_id = trace_id or new_trace_id()
    sent = fields.only(b"x-request-id")
    if sent is not None and is_request_id(sent):
        exchange.request_id = sent.decode("ascii")
    else:
        exchange.request_id = exchange.trace_id if trace_id is None else new_trace_id()
    return None if trace_id is None else traceparent
