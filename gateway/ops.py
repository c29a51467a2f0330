"""The gateway's own endpoints under `/-/`."""

from collections.abc import Callable

from gateway.errors import GatewayError, Reason
from gateway.messages import GatewayRequest, GatewayResponse, json_response
from gateway.runtime import Runtime

PREFIX = "/-/"


def live(runtime: Runtime) -> GatewayResponse:
    """200 while the process works."""
    return json_response({"status": "live"})


def ready(runtime: Runtime) -> GatewayResponse:
    """200; 503 only before start-up has ended and while draining, never because of an upstream."""
    if runtime.draining:
        return json_response({"status": "draining"}, 503)
    if not runtime.ready:
        return json_response({"status": "starting"}, 503)
    return json_response({"status": "ready"})


_ENDPOINTS: dict[str, Callable[[Runtime], GatewayResponse]] = {"/-/live": live, "/-/ready": ready}


def options(request: GatewayRequest) -> GatewayResponse:
    """The answer to `OPTIONS *`, which asks the server and no resource (RFC 9110, section 9.3.7)."""
    request.exchange.route = "*"
    return GatewayResponse(204, [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")])


def answer(runtime: Runtime, request: GatewayRequest) -> GatewayResponse:
    """The answer to a request under `/-/`. Raises ROUTE_NOT_FOUND or METHOD_NOT_ALLOWED."""
    endpoint = _ENDPOINTS.get(request.raw_path)
    if endpoint is None:
        raise GatewayError(Reason.ROUTE_NOT_FOUND, "The gateway has no such endpoint of its own.")
    request.exchange.route = request.raw_path
    if request.method not in {"GET", "HEAD"}:
        raise GatewayError(Reason.METHOD_NOT_ALLOWED, headers=[(b"allow", b"GET, HEAD")])
    return endpoint(runtime)
