"""A side of a connection that vanished is noticed by TCP, which probes it now and then."""

import socket
from contextlib import suppress
from typing import Final

# The idle time before the first probe, the interval, and the count. Not every system has all of them.
_PROBES: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def set_keepalive(connection: socket.socket) -> None:
    """Set it on a connection, or on a listener, from which connections inherit it."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
