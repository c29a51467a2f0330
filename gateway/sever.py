"""Cutting a client's connection: the one honest end of an answer that broke off, and of one that nobody reads.

ASGI has no word for "this answer failed after it began". An application that returns or raises then makes Granian
end a chunked body in good order, and the client takes a torn answer for a whole one. So the connection itself is
shut: the client sees a chunked body without its last chunk, or fewer bytes than Content-Length said.
"""

import contextlib
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path


def sever(client: Sequence[str | int], server: Sequence[str | int]) -> bool:
    """Shut the accepted TCP connection between these two (address, port) pairs of an ASGI scope; whether it was found.

    The socket belongs to Granian, which closes it when it notices. Costs some microseconds per open descriptor.
    """
    wanted = _key(client), _key(server)
    for connection in _tcp_sockets():
        with contextlib.suppress(OSError):
            if (_key(connection.getpeername()), _key(connection.getsockname())) == wanted:
                connection.shutdown(socket.SHUT_RDWR)
                return True
    return False


def limit_unread(seconds: float) -> None:
    """Let the kernel drop clients that read nothing for so long, whatever was handed over for them already.

    Set on the listening socket, from which accepted ones inherit it (Linux; elsewhere nothing happens).
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listener in own_listeners():
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def own_listeners() -> Iterator[socket.socket]:
    """The sockets on which this process listens."""
    for found in _tcp_sockets():
        with contextlib.suppress(OSError):
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield found


def _tcp_sockets() -> Iterator[socket.socket]:
    """This process's TCP sockets, each as a duplicate, so that closing ours never closes its owner's."""
    for entry in Path("/dev/fd").iterdir():
        descriptor = int(entry.name)
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as found:
                    if found.family in {socket.AF_INET, socket.AF_INET6} and found.type == socket.SOCK_STREAM:
                        yield found


def _key(address: Sequence[str | int]) -> tuple[str, int]:
    return str(ip_address(str(address[0]).partition("%")[0])), int(address[1])
