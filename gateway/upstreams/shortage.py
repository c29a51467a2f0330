"""What the gateway itself has run out of: descriptors, ports, memory for sockets. That says nothing of anybody else."""

import contextlib
import errno
import os
import socket
from typing import Final

from gateway.errors import Reason
from gateway.upstreams.retry_policy import Unsent

# Of descriptors in this process, or on this machine; of memory for a socket.
_SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def is_shortage(error: OSError, address: str | None = None) -> bool:
    """Whether the system refused for want of something of the gateway's own; `address` is where it wanted to connect.

    EADDRNOTAVAIL is such a want where all our ports towards the address are in use. The system says the same of an IPv6
    address where this machine has none itself. Then there is no way to it for UDP either, whose ports are others.
    """
    if error.errno != errno.EADDRNOTAVAIL or address is None:
        return error.errno in _SHORTAGES
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # sends nothing
        return True
    return False


def raise_if_short_of_descriptors() -> None:
    """Raises OSError where nothing can be opened. For failures that do not tell why, such as those of look-ups."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        if is_shortage(error):
            raise


def raise_for_shortage(error: OSError, address: str, upstream: str) -> None:
    """Raises OVERLOADED where no connection could be made for want of something of the gateway's own."""
    if is_shortage(error, address):
        raise overloaded(error, upstream) from error


def overloaded(error: OSError, upstream: str) -> Unsent:
    """The failure of a call for which no connection could be made for want of something."""
    cause = f"{type(error).__name__}: {error}"[:300]
    return Unsent(Reason.OVERLOADED, upstream=upstream, cause=cause, headers=[(b"retry-after", b"1")])
