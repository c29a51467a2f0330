"""From http to https: where a request is sent, and Strict-Transport-Security."""

from typing import Final

from gateway.http.headers import Pair

_DEFAULT_PORT: Final = 443


def https_url(host_field: str, target: str, port: int) -> str:
    """The https URL of what was asked for by http, with this Host field and target (its query with it).

    A Host without a port came by port 80, be it one that leads here from elsewhere: then https has its usual port too.
    One with a port came here directly: then https is where the gateway listens, at `port`.
    """
    name, colon, own_port = host_field.rpartition(":")
    if not colon or "]" in own_port:
        return f"https://{host_field}{target}"
    is_direct = own_port not in {"", "80"} and port != _DEFAULT_PORT
    return f"https://{name}{f':{port}' if is_direct else ''}{target}"


def strict_transport_security(seconds: float) -> Pair:
    """RFC 6797, section 6.1: for so long a browser asks this host by https only; 0 takes that back."""
    return b"strict-transport-security", f"max-age={int(seconds)}".encode("ascii")
