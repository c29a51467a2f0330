"""The address to listen on: names are resolved, and an address in use is reported, before Granian starts."""

import socket
from ipaddress import ip_address

Address = tuple[str, int]


class AddressInUse(Exception):
    """The address cannot be used; the text is the one line to show."""


def resolved(bind: Address) -> Address:
    """The address for GATEWAY_BIND. Of a name: its first IPv4 address, else its first one.

    Granian takes an IP address. Raises OSError (`socket.gaierror`) for a name without an address.
    """
    host, port = bind
    try:
        return str(ip_address(host)), port
    except ValueError:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    entries.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(entries[0][4][0]), port


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on, or the name of one."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def try_bind(address: Address) -> None:
    """Raises AddressInUse if it is taken, or not an address of this machine. Port 0 checks only the latter.

    Granian itself sets SO_REUSEPORT and would share it silently.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # So that connections in TIME_WAIT do not delay a restart.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressInUse(f"cannot listen on {shown(address)}: {(error.strerror or str(error)).lower()}") from error


def shown(address: Address) -> str:
    """`127.0.0.1:8000`, `[::1]:8000`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
