"""Where lines go: whoever does not read them holds nobody up, and what is lost is counted."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.observe import outlet as outlets
from gateway.observe.outlet import MOST_KEPT_BYTES, Outlet, outlet_of, text_of
from tests.live.harness import eventually

LINE = b"x" * 999 + b"\n"


class Scripted:
    """A stream that takes what the test lets it take."""

    def __init__(self) -> None:
        self.taken = b""
        self.most = 10**9  # bytes that it takes at a time; 0 is none now
        self.error: OSError | None = None
        self._reads, self._writes = os.pipe()

    def write(self, data: bytes, /) -> int | None:
        if self.error is not None:
            raise self.error
        self.taken += data[: self.most]
        return min(self.most, len(data)) or None

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._writes

    def close(self) -> None:
        os.close(self._reads)
        os.close(self._writes)


@pytest.fixture
def stream() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.most, scripted.error = 10**9, None
    eventually(lambda: not any(thread.name == "portway-log" for thread in threading.enumerate()))
    scripted.close()


def confessing(stream: Scripted) -> tuple[Outlet, list[str]]:
    complaints: list[str] = []
    outlet = Outlet(stream, complain=complaints.append)
    outlet.on_lost = lambda count: b"lost %d\n" % count
    return outlet, complaints


def test_a_line_is_written_at_once_and_a_piece_of_one_is_followed_by_its_rest(stream: Scripted) -> None:
    outlet, complaints = confessing(stream)
    outlet.write(b"one\n")
    assert stream.taken == b"one\n"
    stream.most = 2
    outlet.write(b"two\n")
    assert (stream.taken, complaints) == (b"one\ntwo\n", [])


def test_what_is_not_taken_is_kept_and_comes_in_its_order(stream: Scripted) -> None:
    outlet, complaints = confessing(stream)
    stream.most = 0
    for number in range(100):
        outlet.write(b"%d\n" % number)
    assert stream.taken == b""
    stream.most = 3
    outlet.wait(5)
    outlet.write(b"after\n")
    assert stream.taken == b"".join(b"%d\n" % number for number in range(100)) + b"after\n"
    assert complaints == []


def test_beyond_the_bound_lines_are_lost_counted_and_said(stream: Scripted) -> None:
    outlet, complaints = confessing(stream)
    stream.most = 0
    fit = MOST_KEPT_BYTES // len(LINE)
    for _ in range(fit + 7):
        outlet.write(LINE)
    assert complaints == ["portway: log lines are being lost: nobody reads them\n"]
    stream.most = 10**9
    eventually(lambda: stream.taken.endswith(b"lost 7\n"))
    assert stream.taken == LINE * fit + b"lost 7\n"
    outlet.write(b"after\n")
    assert stream.taken.endswith(b"lost 7\nafter\n")


def test_a_reader_who_is_late_again_and_again_is_told_of_seldom(stream: Scripted) -> None:
    outlet, complaints = confessing(stream)
    for _ in range(3):
        stream.most = 0
        for _ in range(MOST_KEPT_BYTES // len(LINE) + 1):
            outlet.write(LINE)
        stream.most = 10**9
        outlet.wait(5)
    eventually(lambda: stream.taken.count(b"lost 1\n") == 3)
    assert complaints == ["portway: log lines are being lost: nobody reads them\n"]


def test_what_fails_is_lost_and_said_each_time_that_it_begins(stream: Scripted) -> None:
    outlet, complaints = confessing(stream)
    for _ in range(2):
        stream.error = OSError(errno.ENOSPC, "No space left on device")
        outlet.write(LINE)
        outlet.write(LINE)
        stream.error = None
        outlet.write(b"works\n")
    assert stream.taken == b"works\nlost 2\n" * 2
    assert complaints == ["portway: log lines are being lost: [Errno 28] No space left on device\n"] * 2


def test_a_stream_that_may_wait_is_left_to_a_thread() -> None:
    """Where a pipe cannot be opened again: nothing tells before whether a write waits."""
    reads, writes = os.pipe()
    with open(writes, "wb", buffering=0) as stream:  # noqa: PTH123 - a descriptor
        outlet = Outlet(stream, waits=True)
        for _ in range(200):  # three times what a pipe holds
            outlet.write(LINE)
        got = b""
        while len(got) < 200 * len(LINE):
            got += os.read(reads, 65536)
        outlet.wait(5)
        assert got == LINE * 200
    os.close(reads)


def test_a_line_that_is_logged_amid_a_write_follows_it() -> None:
    class Logs(Scripted):
        def write(self, data: bytes, /) -> int | None:
            if data == b"first\n":
                outlet.write(b"by a finalizer\n")
            return super().write(data)

    stream = Logs()
    outlet = Outlet(stream)
    outlet.write(b"first\n")
    eventually(lambda: stream.taken == b"first\nby a finalizer\n")
    stream.close()


def test_a_forked_child_writes_nothing_twice(stream: Scripted) -> None:
    outlet, _ = confessing(stream)
    stream.most = 0
    outlet.write(b"the parent's\n")
    outlet.begin()  # as after a fork
    stream.most = 10**9
    outlet.write(b"the child's\n")
    assert stream.taken == b"the child's\n"


@pytest.fixture
def given() -> Iterator[int]:
    """A spare number that leads where a test says."""
    number = os.dup(0)
    yield number
    os.close(number)


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_what_we_were_given_stays_as_it_is_and_nobody_waits(kind: str, given: int) -> None:
    if kind == "pipe":
        reads, writes = os.pipe()
    elif kind == "terminal":
        reads, writes = os.openpty()
    else:
        pair = socket.socketpair()
        reads, writes = (one.detach() for one in pair)
    os.dup2(writes, given)
    outlet = outlet_of(given)
    assert outlet.stream.fileno() > 500, "far up"
    assert not os.get_inheritable(outlet.stream.fileno())
    for _ in range(500):
        outlet.write(LINE)
    assert os.get_blocking(given), "others share it"
    os.close(writes)
    got = 0
    while got < 400 * len(LINE):
        got += len(os.read(reads, 65536))
    os.close(reads)
    outlet.wait(5)
    if isinstance(outlet.stream, outlets._Socket):
        outlet.stream._socket.close()


def test_a_file_is_shared_with_who_writes_to_it_too(tmp_path: Path, given: int) -> None:
    with (tmp_path / "log").open("wb", buffering=0) as file:
        os.dup2(file.fileno(), given)
        outlet = outlet_of(given)
        file.write(b"before\n")
        outlet.write(b"ours\n")
        file.write(b"after\n")
    assert (tmp_path / "log").read_bytes() == b"before\nours\nafter\n"


def test_a_pipe_of_another_user_is_left_to_the_thread(given: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    os.dup2(writes, given)

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, path)

    monkeypatch.setattr(os, "open", refuse)
    outlet = outlet_of(given)
    outlet.write(b"line\n")
    assert os.read(reads, 100) == b"line\n"
    outlet.wait(5)
    os.close(reads)
    os.close(writes)


def test_print_writes_whole_lines(stream: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet, _ = confessing(stream)
    text = text_of(outlet)
    written: list[bytes] = []
    monkeypatch.setattr(outlet, "write", written.append)
    print("two", "words", file=text)
    print("a lone \ud800", end="", file=text, flush=True)
    assert written == [b"two words\n", b"a lone \\ud800"]


# -- lines of one turn of the loop --------------------------------------------------------------------------------


class Writes(Scripted):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes, /) -> int | None:
        self.writes.append(data)
        return super().write(data)


@pytest.fixture
def writes() -> Iterator[Writes]:
    scripted = Writes()
    yield scripted
    scripted.close()


async def test_lines_of_one_turn_leave_together_and_no_write_may_be_torn(writes: Writes) -> None:
    outlet, _ = confessing(writes)
    lines = [b"%d " % number + LINE for number in range(10)]
    for line in lines:
        outlet.write_soon(line)
    assert writes.writes == []
    await asyncio.sleep(0)
    assert writes.taken == b"".join(lines)
    assert len(writes.writes) == 3
    assert max(map(len, writes.writes)) <= 4096
    outlet.write_soon(b"y" * 5000 + b"\n")  # longer than any pipe takes at once
    await asyncio.sleep(0)
    assert writes.taken.endswith(b"y\n")


async def test_lines_keep_their_order_whoever_writes_them(writes: Writes) -> None:
    outlet, _ = confessing(writes)
    outlet.write_soon(b"1\n")
    await asyncio.to_thread(outlet.write, b"2\n")
    outlet.write_soon(b"3\n")
    outlet.wait(5)
    await asyncio.sleep(0)
    assert writes.taken == b"1\n2\n3\n"


def test_where_no_loop_runs_a_line_leaves_at_once(writes: Writes) -> None:
    outlet, _ = confessing(writes)
    outlet.write_soon(b"1\n")
    assert writes.taken == b"1\n"


async def test_each_line_that_is_lost_counts(writes: Writes) -> None:
    outlet, _ = confessing(writes)
    writes.error = OSError(errno.ENOSPC, "No space left")
    for _ in range(7):
        outlet.write_soon(b"line\n")
    await asyncio.sleep(0)
    writes.error = None
    outlet.write(b"first\n")
    outlet.write(b"second\n")
    assert b"lost 7\n" in writes.taken
