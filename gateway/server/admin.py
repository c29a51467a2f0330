"""Access to the endpoints under `/-/` that are not open: with the token; if none is set, only from this machine.

A client that passes GATEWAY_ADMIN_AUTH and has one of its roles may read there too, and change nothing.

A page in a browser on this machine could send requests too, under a host name of its own that resolves to this machine,
or through a proxy on it. So Host must be a name of the loopback, and the request must not be marked as forwarded.
"""

import hmac
from base64 import b64decode
from ipaddress import ip_address

from gateway.errors import GatewayError, Reason
from gateway.http.cors import is_own_origin
from gateway.http.gate import Gate
from gateway.http.headers import HTTP_1_0, all_of, is_claim
from gateway.http.methods import SAFE_METHODS
from gateway.http.request import GatewayRequest

_CHALLENGE = [(b"www-authenticate", b'Bearer realm="portway"'), (b"www-authenticate", b'Basic realm="portway"')]


async def admit(request: GatewayRequest, token: str | None, reading: Gate | None = None) -> None:
    """Raises ADMIN_REQUIRED, ADMIN_DENIED or AUTH_* if the request is not allowed.

    `reading` is the gate of GATEWAY_ADMIN_AUTH, for requests that change nothing.
    """
    is_safe = request.method in SAFE_METHODS
    if not _is_admin(request, token):
        if reading is not None and is_safe:
            await _pass(request, reading, offers_token=token is not None)
        elif token is not None:
            raise GatewayError(Reason.ADMIN_REQUIRED, headers=_CHALLENGE)
        else:
            raise GatewayError(Reason.ADMIN_DENIED)
    if not is_safe and not is_own_origin(request.raw_headers, [request.forwarded_host or request.host_field], ()):
        raise GatewayError(Reason.ADMIN_DENIED, "The Origin of the request is another one.")


def _is_admin(request: GatewayRequest, token: str | None) -> bool:
    if token is None:
        return _is_local(request)
    return hmac.compare_digest(_presented(request).encode(), token.encode())


async def _pass(request: GatewayRequest, reading: Gate, *, offers_token: bool) -> None:
    """Raises what the gate does; with `offers_token` the challenge includes the token."""
    try:
        waiting = reading(request)
        response = None if waiting is None else await waiting
    except GatewayError as error:
        if error.status == 401 and offers_token:
            error.headers = tuple(dict.fromkeys((*error.headers, *_CHALLENGE)))
        raise
    if response is not None:  # the answer of an authenticating service is for its own pages
        raise GatewayError(Reason.ADMIN_REQUIRED, headers=_CHALLENGE)


def _presented(request: GatewayRequest) -> str:
    """The token of Bearer (RFC 6750), or the password of Basic (RFC 7617); empty without one."""
    values = all_of(request.raw_headers, b"authorization")
    scheme, _, credentials = values[0].decode("latin-1").partition(" ") if len(values) == 1 else ("", "", "")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # no base64, no ASCII, no UTF-8
        return ""


def _is_local(request: GatewayRequest) -> bool:
    forwarded = any(name == b"via" or is_claim(name) for name, _ in request.raw_headers)
    # nginx's plain proxy_pass adds no field about the client, and sets Host to our address; but it speaks HTTP/1.0.
    forwarded = forwarded or request.scope["http_version"] in HTTP_1_0
    return not forwarded and _is_loopback(request.peer) and _is_loopback(request.exchange.host or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
