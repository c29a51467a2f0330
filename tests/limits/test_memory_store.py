"""The stores in memory: bounded, exact between processes, and never held up by one that was killed."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.limits.grammar import NamedLimit, groups
from gateway.limits.memory_store import Memory, MemoryStore
from gateway.limits.policies import Policies, Policy
from gateway.limits.store import Away
from gateway.limits.table import BUCKETS, PLACES, SIZE_BYTES, place_of
from gateway.observe.process_locks import LockHeld, ProcessLocks

MEBIBYTE = 2**20


def policies_of(text: str) -> tuple[Policy, ...]:
    return Policies({"api": NamedLimit(name="api", groups=groups(text))}).named["api"]


@pytest.fixture(params=[False, True], ids=["worker", "host"])
def memory(request: pytest.FixtureRequest) -> Iterator[Memory]:
    made = Memory(is_shared=request.param)
    yield made
    made.close()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_it_counts_each_key_by_itself(memory: Memory, clock: Clock) -> None:
    store, (policy,) = MemoryStore(memory, clock.monotonic), policies_of("2/1s")
    passed = [(await store.take([policy], [text], 1)).passed for text in ("a", "a", "a", "b")]
    assert passed == [True, True, False, True]
    clock.now_s += 0.5
    assert [(await store.take([policy], ["a"], 1)).passed for _ in range(2)] == [True, False]


async def test_of_several_policies_all_must_let_it_pass_or_none_counts(memory: Memory, clock: Clock) -> None:
    store, both = MemoryStore(memory, clock.monotonic), policies_of("1/1s 3/1m")
    assert (await store.take(both, ["a", "a"], 1)).passed
    refused = [await store.take(both, ["a", "a"], 1) for _ in range(5)]
    assert not any(taken.passed for taken in refused)
    assert refused[-1].ahead_s == pytest.approx((1.0, 20.0))  # the minute's was not counted
    clock.now_s += 1.0
    assert (await store.take(both, ["a", "a"], 1)).ahead_s == pytest.approx((1.0, 39.0))


async def test_a_key_that_is_forgotten_is_free(memory: Memory) -> None:
    store, (policy,) = MemoryStore(memory), policies_of("1/1h")
    await store.take([policy], ["a"], 1)
    assert not (await store.take([policy], ["a"], 1)).passed
    assert await store.forget(policy, "a")
    assert not await store.forget(policy, "a")
    assert not await store.forget(policy, "never seen")
    assert (await store.take([policy], ["a"], 1)).passed


async def test_who_is_over_is_counted(memory: Memory) -> None:
    store = MemoryStore(memory)
    (policy, other) = policies_of("2/1h by client 5/1h by all")
    for text in ("a", "a", "b", "c", "c"):
        await store.take([policy], [text], 1)
    assert await store.over([policy, other]) == [(3, 2), (0, 0)]


async def test_nobody_is_over_where_nothing_was_counted(memory: Memory) -> None:
    assert await MemoryStore(memory).over(policies_of("2/1h")) == [(0, 0)]
    assert list(memory.written()) == []


@pytest.mark.timeout(180)
async def test_a_million_keys_take_32_mebibytes_and_keep_their_counts() -> None:
    memory = Memory(is_shared=False)
    store, (policy,) = MemoryStore(memory), policies_of("1/24h")
    before = resident_bytes()
    for number in range(1_000_000):
        await store.take([policy], [f"client={number}"], 1)
    assert resident_bytes() - before < SIZE_BYTES + 4 * MEBIBYTE
    assert SIZE_BYTES == 32 * MEBIBYTE
    again = sum([(await store.take([policy], [f"client={number}"], 1)).passed for number in range(0, 1_000_000, 100)])
    assert again < 100, f"{again} of 10000 keys were pushed out"
    memory.close()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_in_a_full_bucket_the_key_goes_that_is_free_soonest(clock: Clock) -> None:
    memory = Memory(is_shared=False)
    (policy,) = policies_of("10/10s")
    crowd = [place_of(policy.number, bytes(6) + number.to_bytes(2, "big") + bytes(8)) for number in range(1)]
    table, start = memory.table, crowd[0]
    places = [
        start._replace(tag=number << 16 | 1, tag_bytes=(number << 16 | 1).to_bytes(8, "little"))
        for number in range(1, PLACES + 2)
    ]
    for number, place in enumerate(places[:PLACES]):
        table.add(place, clock.now_s + 10 + number)
    table.add(places[PLACES], clock.now_s + 1)
    assert table.find(places[0]) is None
    assert all(table.find(place) is not None for place in places[1:])
    memory.close()


def test_two_policies_of_one_client_lie_in_different_buckets() -> None:
    digest = bytes(range(16))
    assert len({place_of(number, digest).start for number in range(1, 100)}) == 99
    assert all(0 <= place_of(number, digest).start < BUCKETS * 256 for number in range(1, 1000))


# -- several processes --------------------------------------------------------------------------------------------


def forked(work: Callable[[], int]) -> int:
    """The pid of a process that does this, and exits with what it returns."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_four_processes_let_pass_what_one_would(tmp_path: Path) -> None:
    memory, (policy,) = Memory(is_shared=True), policies_of("3000/1h")

    def work() -> int:
        async def take() -> int:
            store = MemoryStore(memory)
            passed = sum([(await store.take([policy], ["one key"], 1)).passed for _ in range(2000)])
            (tmp_path / str(os.getpid())).write_text(str(passed))
            return 0

        return asyncio.run(take())

    assert [code_of(pid) for pid in [forked(work) for _ in range(4)]] == [0] * 4
    passed = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(passed) == 4
    assert 3000 <= sum(passed) <= 3000 * 1.01  # an hour's rate gives one in 1.2 s
    memory.close()


def test_a_killed_process_keeps_no_lock() -> None:
    stripes = ProcessLocks(1)
    ready, said = os.pipe()

    def work() -> int:
        stripes.open()
        stripes.take(0)
        os.write(said, b"held")
        signal.pause()
        return 0

    for _ in range(2):
        pid = forked(work)
        assert os.read(ready, 4) == b"held"
        mine = ProcessLocks.__new__(ProcessLocks)
        mine.__dict__.update(vars(stripes))
        mine.open()
        with pytest.raises(LockHeld):
            mine.take(0)
        os.kill(pid, signal.SIGKILL)
        assert code_of(pid) == -signal.SIGKILL
        mine.free(mine.take(0))
        mine.close()


def test_a_process_that_a_worker_forks_holds_none_of_its_locks() -> None:
    stripes = ProcessLocks(1)
    ready, said = os.pipe()

    def child() -> int:
        os.write(said, b"forked")
        signal.pause()
        return 0

    def work() -> int:
        stripes.open()
        stripes.take(0)
        os.write(said, forked(child).to_bytes(4, "little"))
        signal.pause()
        return 0

    pid = forked(work)
    said_of_both = b""
    while len(said_of_both) < 10:
        said_of_both += os.read(ready, 10)
    grandchild = int.from_bytes(said_of_both.replace(b"forked", b""), "little")
    os.kill(pid, signal.SIGKILL)
    code_of(pid)
    stripes.open()
    stripes.free(stripes.take(0))
    stripes.close()
    os.kill(grandchild, signal.SIGKILL)


async def test_a_stopped_process_that_holds_a_lock_holds_nobody_up() -> None:
    memory, (policy,) = Memory(is_shared=True), policies_of("5/1h")
    assert memory.stripes is not None
    ready, said = os.pipe()

    def work() -> int:
        assert memory.stripes is not None
        memory.stripes.open()
        for number in range(16):
            memory.stripes.take(number)
        os.write(said, b"held")
        signal.pause()
        return 0

    pid = forked(work)
    assert os.read(ready, 4) == b"held"
    store = MemoryStore(memory)
    began_s = time.monotonic()
    for _ in range(1000):  # one waits for a moment, the others not at all
        with pytest.raises(Away, match="holds"):
            await store.take([policy], ["a"], 1)
        with pytest.raises(Away, match="holds"):
            await store.take([policy] * 2, ["a", "b"], 1)
    assert time.monotonic() - began_s < 1
    os.kill(pid, signal.SIGKILL)
    code_of(pid)
    assert (await MemoryStore(memory).take([policy], ["a"], 1)).passed
    memory.close()
