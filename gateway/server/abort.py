"""Cutting a client's connection: the one honest end of an answer that broke off, and of one that nobody reads.

ASGI has no word for "this answer failed after it began". An application that returns or raises then makes Granian
end a chunked body in good order, and the client takes a torn answer for a whole one. So the connection itself is
shut: the client sees a chunked body without its last chunk, or fewer bytes than Content-Length states.

Which of the worker's descriptors it is, nobody tells. With thousands of them a look at each takes long. So the look is
taken in short pieces, between which the loop goes on, and what was seen is remembered: where an upstream fails that
many clients listen to, one look finds them all. What is remembered may be out of date, since numbers are used again: it
only says where to look first.
"""

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from gateway.sockets.keepalive import set_keepalive

Ends = tuple[tuple[str, int], tuple[str, int]]  # of a connection: the client's address and port, and ours

# So many descriptors are looked at before others have their turn: less than half a millisecond.
_AT_A_TIME: Final = 100
# Of an answer, in the kernel, beyond what is on its way: what more it took would look like a client that reads.
_UNSENT_BYTES: Final = 128 * 1024


class _Connections:
    """Where connections were seen last, by both their ends."""

    def __init__(self) -> None:
        self._seen: dict[Ends, int] = {}
        self._looking: asyncio.Lock | None = None
        self._looks_begun = 0
        self._last_look = 0  # of those begun, the last one that came to its end

    async def shut(self, ends: Ends, how: int = socket.SHUT_RDWR) -> bool:
        """Shut the connection, if it is open."""
        if self._shut_known(ends, how):
            return True
        if self._looking is None:
            self._looking = asyncio.Lock()
        begun = self._looks_begun
        async with self._looking:
            if self._shut_known(ends, how):  # another one has looked meanwhile
                return True
            if self._last_look > begun:  # and has looked at everything since: it is not there
                return False
            await self._look()
            return self._shut_known(ends, how)

    async def all(self) -> Iterable[Ends]:
        """Every connection that is open now."""
        if self._looking is None:
            self._looking = asyncio.Lock()
        async with self._looking:
            await self._look()
            return self._seen.keys()

    def _shut_known(self, ends: Ends, how: int) -> bool:
        descriptor = self._seen.get(ends)
        if descriptor is None:
            return False
        with contextlib.suppress(OSError), _held(descriptor) as number, _looked_at(number) as connection:
            if connection is not None and _ends_of(connection) == ends:
                connection.shutdown(how)
                return True
        return False

    async def _look(self) -> None:
        self._looks_begun += 1
        number = self._looks_begun
        seen: dict[Ends, int] = {}
        for count, descriptor in enumerate(_descriptors(), start=1):
            if (ends := _ends_at(descriptor)) is not None:
                seen[ends] = descriptor
            if count % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        self._seen, self._last_look = seen, number


_connections: Final = _Connections()


async def sever(client: Sequence[str | int], server: Sequence[str | int]) -> bool:
    """Shut the accepted TCP connection between these two (address, port) pairs of an ASGI scope; whether it was found.

    The socket belongs to Granian, which closes it when it notices.
    """
    return await _connections.shut((_key(client), _key(server)))


def ends_of(scope: Mapping[str, Any]) -> Ends:
    """Both ends of the connection that an ASGI scope came over."""
    return _key(scope["client"]), _key(scope["server"])


async def hang_up(ends: Ends) -> bool:
    """Shut what comes in over a connection: Granian takes it for a client that has left, and closes in good order."""
    return await _connections.shut(ends, socket.SHUT_RD)


async def open_connections(port: int) -> set[Ends]:
    """The connections of clients that are open at a port of this process."""
    return {ends for ends in await _connections.all() if ends[1][1] == port}


@contextlib.contextmanager
def _held(descriptor: int) -> Iterator[int]:
    """A number for what this one stands for now, until the end.

    The number itself may be another connection's at any moment, a duplicate stays what it is. Where no number is left
    for a duplicate, it is the number itself: a connection must end just then too.
    """
    copy: int | None = None
    try:
        copy = os.dup(descriptor)
    except OSError as error:
        if error.errno not in {errno.EMFILE, errno.ENFILE}:
            raise
    try:
        yield descriptor if copy is None else copy
    finally:
        if copy is not None:
            os.close(copy)


def _ends_at(descriptor: int) -> Ends | None:
    """As `_looked_at` and `_ends_of`, in half the time."""
    try:
        found = socket.SocketType(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    except OSError:
        return None
    try:
        return _ends_of(found)
    except OSError:
        return None
    finally:
        found.detach()


def _ends_of(connection: socket.SocketType) -> Ends | None:
    peer = connection.getpeername()
    if not isinstance(peer, tuple):  # a Unix socket
        return None
    return _key(peer), _key(connection.getsockname())


def _key(address: Sequence[str | int]) -> tuple[str, int]:
    host = str(address[0])
    # ip_address() is slow, and only an IPv6 address has more than one spelling.
    return (str(ip_address(host.partition("%")[0])) if ":" in host else host), int(address[1])


# -- all that is open ---------------------------------------------------------------------------------------------


def limit_unread(seconds: float) -> None:
    """Let the kernel drop clients that read nothing for so long, whatever was handed over for them already, and find
    those that are gone without a word; and let it take little more than what it can send.

    Set on the listening socket, from which accepted ones inherit it (Linux; elsewhere nothing happens).
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        for listener in own_listeners():
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
            set_keepalive(listener)


def own_listeners() -> Iterator[socket.socket]:
    """The TCP sockets on which this process listens, each to be used until the next one is asked for."""
    for descriptor in _descriptors():
        with _looked_at(descriptor) as found:
            if found is not None and _is_listener(found):
                yield found


def _is_listener(found: socket.socket) -> bool:
    with contextlib.suppress(OSError):
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) and _has_port(found)
    return False


def close_sockets_of(port: int) -> None:
    """Close this process's own descriptors of the listener on a port, and of the connections that it accepted."""
    for descriptor in list(_descriptors()):
        with _looked_at(descriptor) as found:
            is_theirs = found is not None and _has_port(found, port)
        if is_theirs:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def close_listener(port: int) -> None:
    """Listen no more on a port, while whoever accepts there goes on with the connections that there are.

    The number of the descriptor stays taken, by a socket to which nobody can connect: who closes it later closes that.
    """
    for descriptor in list(_descriptors()):
        with _looked_at(descriptor) as found:
            is_it = found is not None and _has_port(found, port) and _is_listener(found)
        if is_it:
            with socket.socket(socket.AF_UNIX) as stand_in:
                stand_in.bind("")  # unix(7): a name of the kernel's choice
                stand_in.listen(1)
                stand_in.setblocking(False)
                os.dup2(stand_in.fileno(), descriptor, inheritable=False)


def _has_port(found: socket.socket, port: int | None = None) -> bool:
    """Whether this is a TCP socket, with this port at our end if one is given."""
    try:
        own = found.getsockname()
        is_tcp = isinstance(own, tuple) and found.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        return is_tcp and port in {None, own[1]}
    except OSError:
        return False


def _descriptors() -> Iterator[int]:
    """The numbers of all that this process has open. Also where it has no number left, to open their list with."""
    try:
        entries = os.scandir("/dev/fd")
    except OSError:
        yield from range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        return
    with entries:
        for entry in entries:
            yield int(entry.name)


@contextlib.contextmanager
def _looked_at(descriptor: int) -> Iterator[socket.socket | None]:
    """The socket behind a number, if it is one, for a look: it needs no further number, and is left as it is."""
    try:
        # With all three given nothing is asked of the system yet, neither whether this is a socket. The family says
        # only how long an address may be: those of IPv4 come as what they are.
        found = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield found
    finally:
        found.detach()
