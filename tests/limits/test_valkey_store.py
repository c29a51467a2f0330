"""The store `valkey` against a real server, and against everything that may be wrong with one."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trustme

from gateway.limits.grammar import NamedLimit, groups
from gateway.limits.policies import Policies, Policy
from gateway.limits.store import Away
from gateway.limits.valkey_store import ValkeyStore
from gateway.limits.valkey_url import ValkeyUrl, valkey_url
from tests.live.harness import free_port
from tests.live.valkey import Valkey

TIMEOUT_S = 0.05  # where something is wrong
PATIENCE_S = 30.0  # elsewhere: a busy machine is no wrong decision


def policies_of(text: str, name: str = "api") -> tuple[Policy, ...]:
    return Policies({name: NamedLimit(name=name, groups=groups(text))}).named[name]


@pytest.fixture(scope="module")
def shared() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def server(shared: Valkey) -> Valkey:
    shared.say("FLUSHALL")
    return shared


class Opened(ValkeyStore):
    """A store with what it has told, and how often it paused before it tried again."""

    def __init__(self, url: ValkeyUrl | str, context: ssl.SSLContext | None, timeout_s: float) -> None:
        url = valkey_url(url) if isinstance(url, str) else url
        self.told: list[str | None] = []
        self.pauses = 0
        super().__init__(url, timeout_s, context, self.told.append, self._half)

    def _half(self) -> float:
        self.pauses += 1
        return 0.5


@contextlib.asynccontextmanager
async def opened(
    url: str, context: ssl.SSLContext | None = None, timeout_s: float = PATIENCE_S
) -> AsyncIterator[Opened]:
    store = Opened(url, context, timeout_s)
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()


impatient = partial(opened, timeout_s=TIMEOUT_S)


async def until(question: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> None:
    give_up_s = time.monotonic() + within_s
    while True:
        if await question():
            return
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.01)


async def passes(store: ValkeyStore, policy: Policy, text: str = "a") -> bool | None:
    """Whether it passes; None where the store is away."""
    try:
        return (await store.take([policy], [text], 1)).passed
    except Away:
        return None


async def has_told(store: Opened) -> bool:
    return len(store.told) == 1


async def works(store: ValkeyStore) -> bool:
    (policy,) = policies_of("100000/1s", "works")
    return await passes(store, policy) is True


# -- as it should be ----------------------------------------------------------------------------------------------


async def test_gateways_count_together(server: Valkey) -> None:
    (policy,) = policies_of("3/1h")
    async with opened(server.url) as one, opened(server.url) as other:
        assert [await passes(store, policy) for store in (one, other, one, other, one)] == [True] * 3 + [False] * 2
        assert one.told == other.told == []


async def test_it_decides_as_the_pure_decision_does(server: Valkey) -> None:
    both = policies_of("10/10s burst 4 by client 100/1h by all")
    async with opened(server.url) as store:
        taken = await store.take(both, ["a", "all"], 3)
        assert taken.passed
        assert taken.ahead_s == pytest.approx((3.0, 108.0))
        refused = await store.take(both, ["a", "all"], 3)
        assert not refused.passed
        assert refused.ahead_s == pytest.approx((3.0, 108.0), abs=0.5)
        assert (await store.take(both, ["b", "all"], 1)).ahead_s == pytest.approx((1.0, 144.0), abs=0.5)


async def test_a_key_ends_when_it_is_free_again_and_is_a_digest(server: Valkey) -> None:
    (policy,) = policies_of("1/1h")
    async with opened(server.url) as store:
        await store.take([policy], ["client=203.0.113.7" * 4000], 1)
    said = server.say("KEYS", "portway:limit:*")
    assert "203.0.113.7" not in said
    (key,) = [line for line in said.split("\r\n") if line.startswith("portway:limit:api:")]
    assert len(key) == len("portway:limit:api:") + 32
    assert 3_500_000 < int(server.say("PTTL", key).strip()[1:]) <= 3_600_000


async def test_who_is_over_is_refused_without_asking(server: Valkey) -> None:
    (policy,) = policies_of("1/1h")
    async with opened(server.url) as store:
        await store.take([policy], ["a"], 1)
        assert not (await store.take([policy], ["a"], 1)).passed
        before = commands_of(server)
        for _ in range(100):
            taken = await store.take([policy], ["a"], 1)
            assert not taken.passed
            assert taken.ahead_s[0] == pytest.approx(3600, abs=5)
        assert commands_of(server) - before < 5  # the server counts this question too


def commands_of(server: Valkey) -> int:
    return int(server.say("INFO", "stats").partition("total_commands_processed:")[2].partition("\r\n")[0])


async def test_a_key_that_is_forgotten_is_free_here_at_once(server: Valkey) -> None:
    (policy,) = policies_of("1/1h")
    async with opened(server.url) as store:
        assert [await passes(store, policy) for _ in range(3)] == [True, False, False]
        assert await store.forget(policy, "a")
        assert not await store.forget(policy, "a")
        assert await passes(store, policy)


async def test_who_is_over_is_counted_among_many_keys(server: Valkey) -> None:
    one, other = policies_of("2/1h by client 5000/1h by all")
    async with opened(server.url) as store:
        for first in range(0, 2500, 250):
            await asyncio.gather(
                *(store.take([one, other], [f"{number}", "all"], 1) for number in range(first, first + 250))
            )
        await store.take([one, other], ["0", "all"], 1)
        assert await store.over([one, other]) == [(2500, 1), (1, 0)]


# -- what may be wrong --------------------------------------------------------------------------------------------


async def test_nobody_listens() -> None:
    (policy,) = policies_of("1/1h")
    async with impatient(f"redis://127.0.0.1:{free_port()}") as store:
        began_s = time.monotonic()
        assert [await passes(store, policy) for _ in range(100)] == [None] * 100
        assert time.monotonic() - began_s < 100 * TIMEOUT_S  # none of them waits
        assert len(store.told) == 1
        assert "Connect call failed" in str(store.told[0]) or "refused" in str(store.told[0]).lower()


async def test_it_restarts_without_its_scripts_and_is_found_again() -> None:
    (policy,) = policies_of("1/1h")
    with Valkey() as server:
        async with impatient(server.url) as store:
            assert await passes(store, policy)
            server.say("SCRIPT", "FLUSH")
            assert await passes(store, policy, "b")
            server.kill()
            assert await passes(store, policy, "c") is None
            assert await passes(store, policy, "c") is None
            server.start()
            await until(lambda: works(store))
            assert await passes(store, policy)  # what it counted is gone with it
            assert len(store.told) == 2
            assert store.told[1] is None


async def test_it_is_frozen_and_only_those_who_were_asking_wait() -> None:
    (policy,) = policies_of("1000/1h")
    with Valkey() as server:
        async with impatient(server.url) as store:
            assert await passes(store, policy)
            server.freeze()
            began_s = time.monotonic()
            assert await asyncio.gather(*(passes(store, policy) for _ in range(20))) == [None] * 20
            assert TIMEOUT_S <= time.monotonic() - began_s < 10 * TIMEOUT_S
            began_s = time.monotonic()
            assert [await passes(store, policy) for _ in range(1000)] == [None] * 1000
            assert time.monotonic() - began_s < 10 * TIMEOUT_S
            assert store.told == ["no answer within 50 ms"]
            server.thaw()
            await until(lambda: works(store))
            assert store.told == ["no answer within 50 ms", None]


async def test_it_is_frozen_for_long_and_comes_back() -> None:
    with Valkey() as server:
        async with impatient(server.url) as store:
            assert await works(store)
            server.freeze()
            assert not await works(store)
            await until(lambda: hung_up(store))
            server.thaw()
            await until(lambda: works(store))
            assert store.told == ["no answer within 50 ms", None]


async def hung_up(store: Opened) -> bool:
    return store._connection is None


@pytest.mark.parametrize(
    ("options", "url", "cause"),
    [
        (["--requirepass", "secret"], "redis://:wrong@", "WRONGPASS"),
        (["--requirepass", "secret"], "redis://", "NOAUTH"),
        ([], "redis://nobody:secret@", "WRONGPASS"),
        (["--replicaof", "127.0.0.1", "1"], "redis://", "READONLY"),
        (["--maxmemory", "1", "--maxmemory-policy", "noeviction"], "redis://", "OOM"),
        (["--databases", "1"], "redis://", "DB index is out of range"),
        (["--rename-command", "TIME", ""], "redis://", "ERR"),
    ],
    ids=["wrong password", "no password", "no such user", "read-only", "full", "no such database", "no TIME"],
)
async def test_it_lets_nobody_write(options: list[str], url: str, cause: str) -> None:
    (policy,) = policies_of("1/1h")
    with Valkey(*options) as server:
        database = "/5" if "index" in cause else ""
        async with impatient(f"{url}127.0.0.1:{server.port}{database}") as store:
            assert [await passes(store, policy) for _ in range(3)] == [None] * 3
            assert len(store.told) == 1
            assert cause in str(store.told[0])
            pauses = store.pauses
            await until(lambda: has_tried_again(store, pauses))
            assert len(store.told) == 1, "the log says it once"


async def has_tried_again(store: Opened, pauses: int) -> bool:
    return store.pauses > pauses


async def test_it_becomes_full_or_read_only_and_recovers(server: Valkey) -> None:
    (policy,) = policies_of("1000/1h")
    async with impatient(server.url) as store:
        for bad, good, cause in (
            (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM"),
            (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY"),
        ):
            store.told.clear()
            server.say(*bad)
            assert await passes(store, policy) is None
            assert cause in str(store.told[0])
            server.say(*good)
            await until(lambda: works(store))
            assert len(store.told) == 2


async def test_with_a_password_and_a_database() -> None:
    with Valkey("--requirepass", "s@cret") as server:
        async with impatient(f"redis://:s%40cret@127.0.0.1:{server.port}/3") as store:
            assert await works(store)


async def test_over_tls_by_a_named_authority(tmp_path: Path) -> None:
    authority, certificate = trustme.CA(), None
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    with Valkey(tls=tmp_path) as server:
        trusting = ssl.create_default_context(cadata=(tmp_path / "ca.pem").read_text())
        async with impatient(server.url, trusting) as store:
            assert await works(store)
        async with impatient(server.url, ssl.create_default_context()) as store:
            assert not await works(store)
            assert "certificate verify failed" in str(store.told[0])
        async with impatient(server.url.replace("rediss", "redis")) as store:
            assert not await works(store)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"+OK\r\n" * 50,
        b":1\r\n",
        b"$3\r\nabc\r\n" * 3,
        b"\x00" * 100,
        b"*1\r\n" * 40,
    ],
)
async def test_it_answers_garbage(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(100)
            writer.write(answer)
            await reader.read()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    (policy,) = policies_of("1/1h")
    listener = await asyncio.start_server(talk, "127.0.0.1", free_port())
    port = listener.sockets[0].getsockname()[1]
    async with listener, impatient(f"redis://127.0.0.1:{port}") as store:
        assert [await passes(store, policy) for _ in range(3)] == [None] * 3
        await until(lambda: has_told(store))


async def test_garbage_in_the_middle_is_away_and_nothing_worse(server: Valkey) -> None:
    """A server behind a proxy that begins to answer something else."""
    is_mad = False

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            while data := await reader.read(65536):
                to_server.write(data)
                answered = await upstream.read(65536)
                writer.write(b"$9\r\nno number\r\n" if is_mad else answered)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            to_server.transport.abort()
            writer.transport.abort()

    listener = await asyncio.start_server(relay, "127.0.0.1", free_port())
    port = listener.sockets[0].getsockname()[1]
    async with listener, impatient(f"redis://127.0.0.1:{port}") as store:
        assert await works(store)
        is_mad = True
        assert not await works(store)
        assert store.told == ["an answer that the script does not give"]
        is_mad = False
        await until(lambda: works(store))


async def test_a_key_of_another_type_stops_nobody_for_ever(server: Valkey) -> None:
    (policy,) = policies_of("1/1h")
    async with impatient(server.url) as store:
        await store.take([policy], ["a"], 1)
        key = next(line for line in server.say("KEYS", "*").split("\r\n") if line.startswith("portway:limit"))
        server.say("SET", key, "no number")
        assert await passes(store, policy) is True
        server.say("SET", key, "1e300")
        taken = await store.take([policy], ["a"], 1)
        assert taken.ahead_s == (3600.0,)


async def test_its_clock_goes_back_and_a_key_waits_for_its_burst_at_most(server: Valkey) -> None:
    """What was kept by a clock an hour ahead counts as a full burst: one second, not an hour."""
    (policy,) = policies_of("10/1s")
    async with impatient(server.url) as store:
        await store.take([policy], ["a"], 1)
        key = next(line for line in server.say("KEYS", "*").split("\r\n") if line.startswith("portway:limit"))
        server.say("SET", key, f"{time.time() - 1735689600 + 3600}")
        assert await passes(store, policy) is False
        await store.forget(policy, "a")
        assert await passes(store, policy) is True


async def test_a_request_that_is_cancelled_leaves_the_others_their_answers(server: Valkey) -> None:
    (policy,) = policies_of("1000/1h")
    async with impatient(server.url) as store:
        tasks = [asyncio.create_task(store.take([policy], [f"{number}"], 1)) for number in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in done[::2])
        assert all(not isinstance(one, BaseException) and one.passed for one in done[1::2])
        assert await works(store)
