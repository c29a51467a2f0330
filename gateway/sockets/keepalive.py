"""A side of a connection that is gone without a word is noticed by TCP, which asks for it now and then."""

import socket
from contextlib import suppress
from typing import Final

# After this idle time, so far apart, and so often. Not every system knows all of them.
_PROBES: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


def set_keepalive(connection: socket.socket) -> None:
    """Of a connection, or of a listener, whose connections inherit it."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
