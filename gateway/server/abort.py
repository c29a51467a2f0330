"""Cutting a client's connection: the only honest end of an answer that broke off, or that its client does not read.

ASGI has no message for "this answer failed after it began". An application that returns or raises then makes Granian
end a chunked body in good order, and the client takes a torn answer for a whole one. So the connection itself is shut:
the client sees a chunked body without its last chunk, or fewer bytes than Content-Length states.

The descriptor of a connection is not known, and a search through thousands of descriptors takes long. So the search
runs in short steps, between which the loop goes on, and its findings are cached: if an upstream fails in the middle of
many answers, one search finds all of their connections. A cached number may be out of date, since numbers are reused:
it only tells where to look first.
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

Ends = tuple[tuple[str, int], tuple[str, int]]  # both ends of a connection: the client's address and port, and ours

# The number of descriptors per step, before other tasks run: less than half a millisecond.
_AT_A_TIME: Final = 100
# Unsent bytes of an answer in the kernel: any more would look like a client that reads.
_UNSENT_BYTES: Final = 128 * 1024


class _Connections:
    """Cached descriptors of connections, by both their ends."""

    def __init__(self) -> None:
        self._seen: dict[Ends, int] = {}
        self._looking: asyncio.Lock | None = None
        self._looks_begun = 0
        self._last_look = 0  # the number of the last search that has ended

    async def shut(self, ends: Ends, how: int = socket.SHUT_RDWR) -> bool:
        """Shut the connection, if it is open."""
        if self._shut_known(ends, how):
            return True
        if self._looking is None:
            self._looking = asyncio.Lock()
        begun = self._looks_begun
        async with self._looking:
            if self._shut_known(ends, how):  # another search has found it meanwhile
                return True
            if self._last_look > begun:  # a whole search has run since: it is not there
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
    """Both ends of the connection of an ASGI scope."""
    return _key(scope["client"]), _key(scope["server"])


async def hang_up(ends: Ends) -> bool:
    """Shut the read side of a connection: Granian takes that for a client that left, and closes in good order."""
    return await _connections.shut(ends, socket.SHUT_RD)


async def open_connections(port: int) -> set[Ends]:
    """The open connections of clients at a port of this process."""
    return {ends for ends in await _connections.all() if ends[1][1] == port}


@contextlib.contextmanager
def _held(descriptor: int) -> Iterator[int]:
    """A duplicate of a descriptor, closed at the end.

    The number itself may belong to another connection at any moment, a duplicate may not. Where there is no free number
    for a duplicate, the number itself is used: connections must end then, too.
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
    """Let the kernel drop clients that read nothing for this long, even if Granian has written the whole answer, and
    detect those that vanished; and let it accept little more than it can send.

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
    """Stop listening on a port, without closing its accepted connections.

    A socket that accepts nothing takes over the number of the descriptor, so that closing that later closes nothing
    else.
    """
    for descriptor in list(_descriptors()):
        with _looked_at(descriptor) as found:
            is_it = found is not None and _has_port(found, port) and _is_listener(found)
        if is_it:
            with socket.socket(socket.AF_UNIX) as stand_in:
                stand_in.bind("")  # unix(7): the kernel chooses a name
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
    """The numbers of all open descriptors, even if none is free to open their list with."""
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
    """The socket behind a number, if it is one: takes no further descriptor, and does not close it."""
    try:
        # With all three arguments Python does not ask the system, not even whether this is a socket. The family only
        # limits the length of an address: IPv4 addresses come as they are.
        found = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield found
    finally:
        found.detach()
