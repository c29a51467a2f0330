"""Shortages of the gateway itself: descriptors, ports, memory for sockets. They do not count against an upstream."""

import contextlib
import errno
import os
import socket
from typing import Final

from gateway.errors import Reason
from gateway.upstreams.retry_policy import Unsent

# No descriptors in this process, or on this machine; no memory for a socket.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_shortage(error: OSError, address: str | None = None) -> bool:
    """Whether the system refused because of a shortage of the gateway itself; `address` is where it tried to connect.

    EADDRNOTAVAIL is a shortage where all our ports towards the address are in use. The system reports the same for an
    IPv6 address if this machine has no IPv6 address itself. In that case UDP, which has ports of its own, has no route
    to it either.
    """
    if error.errno != errno.EADDRNOTAVAIL or address is None:
        return error.errno in _SHORTAGES
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        return True
    return False


def raise_if_short_of_descriptors() -> None:
    """Raises OSError where nothing can be opened. For failures without a cause, such as those of look-ups."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if is_shortage(error):
            raise


def raise_for_shortage(error: OSError, address: str, upstream: str) -> None:
    """Raises OVERLOADED where no connection could be made because of a shortage of the gateway itself."""
    if is_shortage(error, address):
        raise overloaded(error, upstream) from error


def overloaded(error: OSError, upstream: str) -> Unsent:
    """The failure of a call for which no connection could be made because of a shortage."""
    cause = f"{type(error).__name__}: {error}"[:300]
    return Unsent(Reason.OVERLOADED, upstream=upstream, cause=cause, headers=[(b"retry-after", b"1")])
