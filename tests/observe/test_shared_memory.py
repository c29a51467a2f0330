"""Where workers see each other's counts."""

import os

import pytest

from gateway.observe import shared_memory as module
from gateway.observe.shared_memory import SharedMemory


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_HALF_BYTES", 4096)
    monkeypatch.setattr(module, "_PLACE_BYTES", 8192)


def copied(shared_memory: SharedMemory) -> SharedMemory:
    """As a forked worker has it."""
    copy = SharedMemory.__new__(SharedMemory)
    copy.__dict__.update(shared_memory.__dict__)
    return copy


@pytest.mark.usefixtures("small")
def test_a_place_is_used_again_however_often() -> None:
    shared_memory = SharedMemory(2)
    watcher = copied(shared_memory)
    assert watcher.join(0) is None
    for number in range(300):
        worker = copied(shared_memory)
        assert worker.join(1) == (b"%d" % (number - 1) if number else None)
        worker.publish(b"%d" % number)
        assert list(watcher.others()) == [(os.getpid(), b"%d" % number)]


@pytest.mark.usefixtures("small")
def test_a_worker_that_is_killed_as_it_writes_leaves_what_it_showed_before() -> None:
    shared_memory = SharedMemory(2)
    worker, watcher = copied(shared_memory), copied(shared_memory)
    worker.join(1)
    watcher.join(0)
    for data in (b"first", b"second"):
        worker.publish(data)
    place = module._PLACE_BYTES + 3 % 2 * module._HALF_BYTES  # where the third would go
    shared_memory._memory[place : place + 8] = b"\xff" * 8  # and as far as it came
    assert list(watcher.others()) == [(os.getpid(), b"second")]
    assert copied(shared_memory).join(1) == b"second"


@pytest.mark.usefixtures("small")
def test_what_is_too_large_is_not_shown() -> None:
    shared_memory = SharedMemory(2)
    worker, watcher = copied(shared_memory), copied(shared_memory)
    worker.join(1)
    watcher.join(0)
    worker.publish(b"fits")
    worker.publish(b"x" * 4096)
    assert [data for _, data in watcher.others()] == [b"fits"]
