"""The gateway's own endpoints under `/-/`."""

from collections.abc import Callable
from urllib.parse import parse_qs

from gateway import admin
from gateway.errors import GatewayError, Reason
from gateway.memory import KINDS
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


async def purge(runtime: Runtime, request: GatewayRequest) -> GatewayResponse:
    """DELETE: forget stored answers, by one of path, prefix, route, tag and all. Raises REQUEST_INVALID."""
    asked = parse_qs(request.query, keep_blank_values=True)
    kind, values = next(iter(asked.items()), ("", []))
    if len(asked) != 1 or kind not in KINDS or len(values) != 1 or (kind != "all" and not values[0]):
        raise GatewayError(Reason.REQUEST_INVALID, f"Say what: one of {', '.join(f'{word}=...' for word in KINDS)}.")
    begins = ("/", "http://", "https://") if kind == "path" else "/"
    if kind in {"path", "prefix"} and not values[0].startswith(begins):
        raise GatewayError(Reason.REQUEST_INVALID, f"A {kind} begins with a slash.")
    count = await runtime.cache.purge(kind, values[0])
    return json_response({"purged": count, kind: values[0]})


_ENDPOINTS: dict[str, Callable[[Runtime], GatewayResponse]] = {"/-/live": live, "/-/ready": ready}
_CACHE = "/-/cache"


def options(request: GatewayRequest) -> GatewayResponse:
    """The answer to `OPTIONS *`, which asks the server and no resource (RFC 9110, section 9.3.7)."""
    request.exchange.route = "*"
    return GatewayResponse(204, [(b"allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")])


async def answer(runtime: Runtime, request: GatewayRequest) -> GatewayResponse:
    """The answer to a request under `/-/`. Raises ROUTE_NOT_FOUND, METHOD_NOT_ALLOWED, ADMIN_REQUIRED or _DENIED."""
    endpoint, allowed = _ENDPOINTS.get(request.raw_path), {"GET", "HEAD"}
    if endpoint is None and request.raw_path != _CACHE:
        raise GatewayError(Reason.ROUTE_NOT_FOUND, "The gateway has no such endpoint of its own.")
    request.exchange.route = request.raw_path
    if endpoint is None:
        allowed = {"DELETE"}
        admin.admit(request, runtime.config.settings.admin_token)
    if request.method not in allowed:
        raise GatewayError(Reason.METHOD_NOT_ALLOWED, headers=[(b"allow", ", ".join(sorted(allowed)).encode())])
    return await purge(runtime, request) if endpoint is None else endpoint(runtime)
