"""Cutting a client's connection: the one honest end of an answer that broke off.

ASGI has no word for "this answer failed after it began". An application that returns or raises then makes Granian
end a chunked body in good order, and the client takes a torn answer for a whole one. So the connection itself is
shut: the client sees a chunked body without its last chunk, or fewer bytes than Content-Length said.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path


def sever(client: Sequence[str | int], server: Sequence[str | int]) -> bool:
    """Shut the accepted TCP connection between these two (address, port) pairs of an ASGI scope; whether it was found.

    The socket belongs to Granian, which closes it when it notices. Costs some microseconds per open descriptor.
    """
    wanted = _key(client), _key(server)
    for entry in Path("/dev/fd").iterdir():
        descriptor = int(entry.name)
        with contextlib.suppress(OSError, ValueError):
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            # A duplicate, so that closing our handle never closes Granian's.
            with socket.socket(fileno=os.dup(descriptor)) as connection:
                if connection.family not in {socket.AF_INET, socket.AF_INET6}:
                    continue
                if (_key(connection.getpeername()), _key(connection.getsockname())) == wanted:
                    connection.shutdown(socket.SHUT_RDWR)
                    return True
    return False


def _key(address: Sequence[str | int]) -> tuple[str, int]:
    return str(ip_address(str(address[0]).partition("%")[0])), int(address[1])
