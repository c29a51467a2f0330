"""Where logged and printed lines go: a reader that is slow, or does not read at all, blocks nothing.

A pipe takes 64 KiB and then waits for its reader, which may stand still (docker attach, a log shipper that hangs). So
lines are written without waiting, to a descriptor of our own. What cannot be written at once is queued, up to a bound
in bytes; a thread writes it as soon as possible. Beyond the bound lines are dropped, and their number is logged.

O_NONBLOCK belongs to the open file, which is shared by all that inherited it: the shell, docker, the other end
of `2>&1`. It is therefore never set on what we were given:

- a pipe or a terminal is opened once more, through /proc/self/fd: that is an open file of our own;
- a socket (systemd's journal) is written to with MSG_DONTWAIT;
- a file waits for no reader. It is used as it is, since an open file of our own would have its own position;
- where a pipe cannot be opened again (it belongs to another user), the thread writes everything, and may wait.
"""

import asyncio
import fcntl
import io
import os
import resource
import select
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol
from weakref import WeakSet

from gateway.observe.throttle import at_most_every

# How much each process queues for a slow reader.
MOST_KEPT_BYTES: Final = 2**20
# The lowest number of our descriptors: above those that a view may close by mistake, or an old daemon in a loop.
_FAR_UP: Final = 900
_LOOK_S: Final = 1.0
# A write of up to this many bytes to a pipe is never split by another worker's.
_PIPE_BUF: Final = 4096
_COMPLAIN_AGAIN_S: Final = 10.0


class Raw(Protocol):
    """An unbuffered byte stream, as `io.FileIO`: a write may take less than it is given, or None for nothing."""

    def write(self, data: bytes, /) -> int | None: ...
    def isatty(self) -> bool: ...
    def fileno(self) -> int: ...


class Outlet:
    """Writes lines to a stream, each whole: in a pipe, a line below 4096 bytes is not torn by another process.

    `waits`: a write to the stream may block, so only the thread writes. `on_lost(count)` makes the line for dropped
    lines, written once lines can be written again; `complain(text)` reports them at once, elsewhere.
    """

    def __init__(self, stream: Raw, *, waits: bool = False, complain: Callable[[str], object] | None = None) -> None:
        self.on_lost: Callable[[int], bytes] = lambda _: b""
        self.stream = stream
        self._waits = waits
        self._complain = complain
        self._is_failing = False
        self._throttle = at_most_every(_COMPLAIN_AGAIN_S)  # for complaints about lines lost to a slow reader
        self._lost = 0
        self.begin()
        _outlets.add(self)

    def begin(self) -> None:
        """Called in a forked child too, which has neither the queue of its parent nor its thread and lock."""
        # A finalizer may log in the middle of a write, in the same thread.
        self._lock = threading.RLock()
        self._is_writing = False
        self._turn: deque[bytes] = deque()  # lines of this turn of the loop
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._thread: threading.Thread | None = None

    def write(self, line: bytes) -> None:
        """Write, queue or drop one or several lines, with their line ends. Never blocks, never raises."""
        if self._turn:
            self.write_turn()
        with self._lock:
            self._write(line)

    def write_soon(self, line: bytes) -> None:
        """As `write`, together with other lines of this turn of the running loop; at once where no loop runs.

        Lines keep their order. A process that is killed in the middle of a turn loses those of that turn.
        """
        self._turn.append(line)
        if len(self._turn) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.write_turn)
            except RuntimeError:
                self.write_turn()

    def write_turn(self) -> None:
        """Write the lines given to `write_soon`, in as few writes as a pipe keeps whole."""
        with self._lock:
            while self._turn:
                lines = [self._turn.popleft()]
                size = len(lines[0])
                while self._turn and size + len(self._turn[0]) <= _PIPE_BUF:
                    lines.append(self._turn.popleft())
                    size += len(lines[-1])
                self._write(b"".join(lines))

    def wait(self, within_s: float) -> None:
        """Wait until the queue has been written, at most `within_s`."""
        self.write_turn()
        give_up_s = time.monotonic() + within_s
        while self._kept and time.monotonic() < give_up_s:
            time.sleep(0.005)

    # -- with the lock held ---------------------------------------------------------------------------------------

    def _write(self, line: bytes) -> None:
        if not self._kept and not self._waits and not self._is_writing:
            line = self._written(line)
            if not line and self._lost and not self._is_failing:
                self._confess()
        if line:
            self._keep(line)

    def _written(self, line: bytes) -> bytes:
        """Write what the stream takes now; returns the rest, for the queue. What fails is lost."""
        self._is_writing = True
        try:
            while line and (count := self._stream_write(line)):
                line = line[count:]
            self._is_failing = self._is_failing and bool(line)
            return line
        except OSError as error:  # a full disk, a reader that is gone
            self._lose(max(1, line.count(b"\n")), str(error))
            return b""
        finally:
            self._is_writing = False

    def _stream_write(self, line: bytes) -> int:
        try:
            return self.stream.write(line) or 0
        except BlockingIOError:
            return 0

    def _keep(self, line: bytes) -> None:
        if self._kept_bytes + len(line) > MOST_KEPT_BYTES:
            # A slow reader causes this again and again: complain only now and then.
            self._is_failing |= not self._throttle.take(time.monotonic())
            self._lose(max(1, line.count(b"\n")), "nobody reads them")
            return
        self._kept.append(line)
        self._kept_bytes += len(line)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_kept, name="portway-log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads: the next line tries again
                self._thread = None

    def _lose(self, count: int, why: str) -> None:
        self._lost += count
        if not self._is_failing:
            self._is_failing = True
            if self._complain is not None:
                self._complain(f"portway: log lines are being lost: {why}\n")

    def _confess(self) -> None:
        """Lines can be written again: log how many were dropped."""
        lost, self._lost = self._lost, 0
        line = self.on_lost(lost)
        if rest := self._written(line):
            self._keep(rest)

    # -- the thread -----------------------------------------------------------------------------------------------

    def _write_kept(self) -> None:
        """The thread: runs until the queue is empty."""
        while True:
            if self._waits:
                self._write_one()
            elif _is_writable(self.stream, _LOOK_S):
                with self._lock:
                    self._write_some()
            with self._lock:
                if not self._kept:
                    self._is_failing = False
                    if self._lost:
                        self._confess()
                if not self._kept:
                    self._thread = None
                    return

    def _write_some(self) -> None:
        while self._kept:
            rest = self._written(self._kept[0])
            self._kept_bytes -= len(self._kept[0]) - len(rest)
            if rest:
                self._kept[0] = rest
                return
            self._kept.popleft()

    def _write_one(self) -> None:
        """Called without the lock, since it may block."""
        line = self._kept[0]
        failure = None
        try:
            while line:
                line = line[self._stream_write(line) :]
        except OSError as error:
            failure = str(error)
        with self._lock:
            self._kept_bytes -= len(self._kept.popleft())
            if failure is not None:
                self._lose(1, failure)


_outlets: WeakSet[Outlet] = WeakSet()


def _begin_all() -> None:
    for outlet in list(_outlets):
        outlet.begin()


os.register_at_fork(after_in_child=_begin_all)


def _is_writable(stream: Raw, within_s: float) -> bool:
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return bool(poll.poll(within_s * 1000))


# -- what we were given -------------------------------------------------------------------------------------------


class _Socket:
    """A stream socket, such as systemd gives."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)

    def write(self, data: bytes, /) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._socket.fileno()


def outlet_of(number: int, complain: Callable[[str], object] | None = None) -> Outlet:
    """An outlet to what descriptor 1 or 2 refers to now, whatever becomes of the number. Raises OSError if closed."""
    mode = os.fstat(number).st_mode
    if stat.S_ISSOCK(mode):
        return Outlet(_Socket(_far_up(number)), complain=complain)
    if not stat.S_ISFIFO(mode) and not os.isatty(number):
        return Outlet(_file(_far_up(number)), complain=complain)
    try:
        again = os.open(f"/proc/self/fd/{number}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return Outlet(_file(_far_up(number)), waits=True, complain=complain)
    try:
        return Outlet(_file(_far_up(again)), complain=complain)
    finally:
        os.close(again)


def _file(descriptor: int) -> io.FileIO:
    return io.FileIO(descriptor, "wb", closefd=False)  # it stays open as long as the process


def _far_up(number: int) -> int:
    """A duplicate that child programs do not inherit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = _FAR_UP if soft == resource.RLIM_INFINITY else min(_FAR_UP, soft * 3 // 4)
    return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, least)


class _Bytes(io.RawIOBase):
    """The bytes below a text stream."""

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._outlet.write(bytes(data))
        return len(data)

    def isatty(self) -> bool:
        return self._outlet.stream.isatty()

    def fileno(self) -> int:
        return self._outlet.stream.fileno()


def text_of(outlet: Outlet) -> io.TextIOWrapper:
    """A text stream for `print`: whole lines go to the outlet, like those of the log."""
    below: Any = _Bytes(outlet)
    return io.TextIOWrapper(below, encoding="utf-8", errors="backslashreplace", line_buffering=True)
