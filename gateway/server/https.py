"""From http to https: where a request is sent, and Strict-Transport-Security."""

from typing import Final

from gateway.http.headers import Pair

_DEFAULT_PORT: Final = 443


def https_url(host_field: str, target: str, port: int) -> str:
    """The https URL for a request by http with this Host field and target (query included).

    A Host without a port came by port 80, perhaps forwarded from elsewhere: then https has its default port too. One
    with a port came here directly: then https is where the gateway listens, at `port`.
    """
    name, colon, own_port = host_field.rpartition(":")
    if not colon or "]" in own_port:
        return f"https://{host_field}{target}"
    is_direct = own_port not in {"", "80"} and port != _DEFAULT_PORT
    return f"https://{name}{f':{port}' if is_direct else ''}{target}"


def strict_transport_security(seconds: float) -> Pair:
    """RFC 6797, section 6.1: for this long a browser uses only https for this host; 0 revokes that."""
    return b"strict-transport-security", f"max-age={int(seconds)}".encode("ascii")
