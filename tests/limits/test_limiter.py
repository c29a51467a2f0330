"""Which store decides, and what holds while it is away."""

import os
import signal
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import GatewayError, Reason
from gateway.limits.grammar import NamedLimit, groups
from gateway.limits.limiter import Limiter, ValkeyOptions
from gateway.limits.memory_store import Memory
from gateway.limits.policies import Policies
from gateway.limits.store import Away, Taken
from gateway.limits.table import STRIPES
from gateway.limits.valkey_url import valkey_url
from tests.live.harness import free_port


def policies(**on_failure: str) -> Policies:
    """Limits by these names, each one an hour."""
    limits = {
        name: NamedLimit(name=name, groups=groups("1/1h"), on_failure=choice) for name, choice in on_failure.items()
    }
    return Policies(limits)


async def take(limiter: Limiter, *names: str, text: str = "a") -> Taken:
    """As a gate does."""
    asked = [policy for name in names for policy in limiter.policies.named[name]]
    try:
        return await limiter.store.take(asked, [text] * len(asked), 1)
    except Away as error:
        return await limiter.without(error, asked, [text] * len(asked), 1)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_without_limits_nothing_is_opened() -> None:
    before = open_files()
    limiter = Limiter(Policies({}), None, ValkeyOptions(valkey_url("redis://127.0.0.1:1"), 0.05))
    await limiter.start()
    assert limiter.state() == {"store": "not in use", "is_away": False}
    assert await limiter.listing() == []
    assert open_files() == before
    await limiter.stop()


async def test_each_limit_goes_by_its_own_choice_while_valkey_is_away() -> None:
    made = policies(safe="closed", lax="open", api="local")
    with capture_logs() as log:
        limiter = Limiter(made, None, ValkeyOptions(valkey_url(f"redis://127.0.0.1:{free_port()}"), 0.05))
        await limiter.start()
        assert limiter.state() == {"store": "valkey", "is_away": True}
        assert [(await take(limiter, "lax")) for _ in range(3)] == [Taken(True, (None,))] * 3
        assert [(await take(limiter, "api")).passed for _ in range(3)] == [True, False, False]
        both = await take(limiter, "lax", "api", text="b")
        assert both.passed
        assert [None if one is None else round(one) for one in both.ahead_s] == [None, 3600]
        for names in (["safe"], ["lax", "safe"], ["safe", "api"]):
            with pytest.raises(GatewayError) as refused:
                await take(limiter, *names, text="c")
            assert refused.value.reason is Reason.RATE_LIMIT_UNAVAILABLE
            assert refused.value.cause
        assert (await take(limiter, "api", text="c")).passed  # what was refused for another one was not counted
        assert [over for _, over in await limiter.listing()] == [None] * 3
        await limiter.stop()
    assert [line["event"] for line in log] == ["limits.store_away"]


def holder_of_all_locks(memory: Memory) -> int:
    """A process that holds them until it ends."""
    ready, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        assert memory.stripes is not None
        memory.stripes.open()
        for number in range(STRIPES):
            memory.stripes.take(number)
        os.write(said, b"held")
        signal.pause()
    assert os.read(ready, 4) == b"held"
    return pid


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


async def test_a_worker_that_was_stopped_with_all_locks_holds_nobody_up() -> None:
    memory, made = Memory(is_shared=True), policies(api="local", safe="closed")
    pid = holder_of_all_locks(memory)
    with capture_logs() as log:
        limiter = Limiter(made, memory)
        await limiter.start()
        began_s = time.monotonic()
        assert [(await take(limiter, "api")).passed for _ in range(100)] == [True] + [False] * 99
        with pytest.raises(GatewayError):
            await take(limiter, "safe")
        assert time.monotonic() - began_s < 1.0
    assert [(line["event"], line["store"]) for line in log] == [("limits.store_away", "host")]
    end(pid)
    other = Limiter(made, memory)
    await other.start()
    assert (await take(other, "api")).passed  # nothing was counted in what is shared
    memory.close()


async def test_a_forgotten_key_is_free_in_what_stands_in_too() -> None:
    limiter = Limiter(policies(api="local", other="local"))
    await limiter.start()
    for name in ("api", "other"):
        await take(limiter, name, text="client=10.0.0.1")
    assert await limiter.forget("10.0.0.1", "api") == 1
    assert (await take(limiter, "api", text="client=10.0.0.1")).passed
    assert not (await take(limiter, "other", text="client=10.0.0.1")).passed
    assert await limiter.forget("10.0.0.1", None) == 2
    assert await limiter.forget("10.0.0.9", None) == 0
