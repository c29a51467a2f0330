"""Handing a port over: a gateway that stops beside another one on its port loses no connection.

Linux distributes new connections over all sockets that listen on a port. When one closes, the connections in its queue
are reset (ip-sysctl.rst: tcp_migrate_req), and Granian drops connections that it has accepted but not read from. So no
new ones may come in before that: a filter makes the kernel choose other sockets. It needs no privilege. Where the
system does not know the option, nothing happens.

socket(7), SO_ATTACH_REUSEPORT_CBPF: the filter returns the number of a socket. They are numbered in the order in which
they began to listen; the last one takes over the number of one that closes; for a number that no socket has, the kernel
picks one by hash. There is no way to query a number: ours is known only while no earlier socket has closed, or once we
were alone.
"""

import asyncio
import contextlib
import os
import socket
import struct
from array import array
from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path

from gateway.server.abort import own_listeners

# From <asm-generic/socket.h>: Python has no names for them.
_ATTACH_REUSEPORT_CBPF, _DETACH_REUSEPORT_BPF = 51, 68
_LOOK_S = 0.3


class SharedPort:
    """The port of a gateway with `own` workers. Made before any of them listens; each worker has its copy."""

    def __init__(self, port: int, own: int) -> None:
        self._port = port
        self._own = own
        self._elders: Set[int] = listening().keys()  # later only those on our address
        self._addresses: set[str] = set()
        self._leaving = False

    @property
    def is_open(self) -> bool:
        """Whether our worker listens, or did."""
        return bool(self._addresses) or any(True for _ in self._listeners())

    def joined(self) -> bool:
        """Whether our worker listens yet. If so, an earlier filter no longer applies."""
        inodes = {os.fstat(listener.fileno()).st_ino for listener in self._listeners()}
        if inodes:
            self._addresses = {address for inode, address in listening().items() if inode in inodes}
            self._elders &= self._neighbours()
            self._leave_to_chance()
            self._watch(self._elders)
        return bool(inodes)

    def step_aside(self, *, closing: bool) -> bool:
        """Make new connections go to the other listeners; returns whether the kernel accepted that."""
        self._leaving = True
        there, older = self._neighbours(), len(self._elders)
        to = aim(older, self._own, len(there) - older - self._own, closing=closing)
        if not to or not self._elders <= there:
            return False
        # filter.rst: ld rand; mod #len(to); add #to.start; ret a
        code = [(0x20, 0, 0, 0xFFFFF038), (0x94, 0, 0, len(to)), (0x04, 0, 0, to.start), (0x16, 0, 0, 0)]
        lines = array("B", b"".join(struct.pack("=HBBI", *line) for line in code))
        self._tell(_ATTACH_REUSEPORT_CBPF, struct.pack("HP", len(code), lines.buffer_info()[0]))
        return True

    def _watch(self, before: Set[int], *, has_changed: bool = False) -> None:
        """Reset the filter whenever another socket has closed, until ours are the only ones.

        But only if no further one closes soon after it: workers that leave together exclude each other, and if the last
        of them is held up, it would get connections again right before it closes.
        """
        there = self._neighbours()
        elders = there & self._elders
        is_alone = len(there) <= self._own
        changes = elders != before
        if (has_changed and not changes) or (is_alone and (has_changed or changes)):
            self._leave_to_chance()
        if is_alone:
            self._elders = set()
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_S, lambda: self._watch(elders, has_changed=changes))

    def _leave_to_chance(self) -> None:
        if not self._leaving:
            self._tell(_DETACH_REUSEPORT_BPF, struct.pack("i", 0))

    def _tell(self, option: int, value: bytes) -> None:
        for listener in self._listeners():
            with contextlib.suppress(OSError):
                listener.setsockopt(socket.SOL_SOCKET, option, value)

    def _listeners(self) -> Iterator[socket.socket]:
        return (listener for listener in own_listeners() if listener.getsockname()[1] == self._port)

    def _neighbours(self) -> set[int]:
        return {inode for inode, address in listening().items() if address in self._addresses}


def aim(older: int, own: int, younger: int, *, closing: bool) -> range:
    """The numbers of the sockets that get new connections, the younger ones if there are any; empty: the kernel
    chooses.

    While several of ours close, the first after them keeps its number the longest.
    """
    if younger <= 0:
        return range(older)
    return range(older + own, older + own + (1 if closing else younger))


def listening() -> dict[int, str]:
    """Inode and address of every socket that listens on this machine, which come first (proc_net_tcp.rst)."""
    found = {}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError), Path("/proc/net", name).open(encoding="ascii") as table:
            for line in islice(table, 1, None):
                fields = line.split()
                if fields[3] != "0A":
                    break
                found[int(fields[9])] = fields[1]
    return found
