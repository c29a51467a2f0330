"""Cutting a client's connection: the right one, and no other, without holding the loop up."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from gateway.server import abort

Pair = tuple[socket.socket, socket.socket]  # the client's and ours


@contextlib.contextmanager
def connected(count: int, host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, list[Pair]]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), family=family, backlog=1000))
        pairs = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
            client.settimeout(0.5)
            pairs.append((client, stack.enter_context(listener.accept()[0])))
        yield listener, pairs


async def cut(client: socket.socket, listener: socket.socket) -> bool:
    return await abort.sever(client.getsockname()[:2], listener.getsockname()[:2])


def is_open(client: socket.socket) -> bool:
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abort, "_connections", abort._Connections())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_one_connection_is_shut(host: str) -> None:
    with connected(3, host) as (listener, pairs):
        assert await cut(pairs[1][0], listener)
        assert [is_open(client) for client, _ in pairs] == [True, False, True]
        assert pairs[1][1].fileno() >= 0, "its owner closes it"


async def test_one_that_is_gone_is_not_found() -> None:
    with connected(1) as (listener, pairs):
        client, ours = pairs[0]
        name = client.getsockname()
        ours.close()
        assert not await abort.sever(name, listener.getsockname())


async def test_a_number_that_was_used_again_cuts_nobody_else() -> None:
    with connected(2) as (listener, pairs):
        (first, ours), (second, _) = pairs
        assert await cut(second, listener)  # now all have been seen
        with connected(1) as (_, [(third, its)]):
            os.dup2(its.fileno(), ours.fileno())
            assert not await cut(first, listener)
            assert is_open(third)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with each look at all descriptors."""
    looks: list[None] = []
    real = abort._descriptors

    def counted() -> Iterator[int]:
        looks.append(None)
        yield from real()

    monkeypatch.setattr(abort, "_descriptors", counted)
    return looks


async def test_one_look_finds_all_that_were_there(looks: list[None]) -> None:
    with connected(50) as (listener, pairs):
        assert all(await asyncio.gather(*(cut(client, listener) for client, _ in pairs)))
        assert len(looks) == 1
        assert not any(is_open(client) for client, _ in pairs)


async def test_one_more_look_is_enough_for_all_that_asked_during_the_first_and_are_gone(looks: list[None]) -> None:
    with connected(100) as (listener, _):
        ours = listener.getsockname()
        found = await asyncio.gather(*(abort.sever(("192.0.2.1", number), ours) for number in range(50)))
        assert not any(found)
        assert len(looks) == 2


async def test_a_look_that_was_broken_off_is_none(looks: list[None]) -> None:
    with connected(100) as (listener, pairs):
        first = asyncio.create_task(abort.sever(("192.0.2.1", 1), listener.getsockname()))
        await asyncio.sleep(0)
        waits = asyncio.create_task(cut(pairs[0][0], listener))
        await asyncio.sleep(0)
        first.cancel()
        assert await waits
        assert len(looks) == 2


async def test_a_look_lets_others_have_their_turn() -> None:
    with connected(400) as (listener, pairs):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        await asyncio.sleep(0)
        assert await cut(pairs[-1][0], listener)
        task.cancel()
        assert turns >= 8, "800 descriptors, 100 at a time"


@contextlib.contextmanager
def nothing_left_to_open() -> Iterator[None]:
    """Every number that the process may have is taken."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(abort._descriptors()) + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_where_nothing_can_be_opened_it_is_found_all_the_same() -> None:
    with connected(2) as (listener, pairs), nothing_left_to_open():
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(listener.fileno())
        assert await cut(pairs[0][0], listener)
        assert [is_open(client) for client, _ in pairs] == [False, True]
        assert listener.fileno() in [found.fileno() for found in abort.own_listeners()]


async def test_a_number_that_is_no_socket_any_more_leaves_nothing_open() -> None:
    with connected(2) as (listener, [(first, ours), (second, _)]):
        assert await cut(second, listener)  # now all have been seen
        no_socket = os.open(os.devnull, os.O_RDONLY)
        os.dup2(no_socket, ours.fileno())
        os.close(no_socket)
        before = list(abort._descriptors())
        assert not await cut(first, listener)
        assert list(abort._descriptors()) == before


def test_a_child_closes_what_belongs_to_a_port_and_nothing_else() -> None:
    with connected(2) as (listener, pairs), connected(1) as (other, others):
        numbers = [listener.fileno(), *(ours.fileno() for _, ours in pairs)]
        copies = [os.dup(number) for number in numbers]
        abort.close_sockets_of(listener.getsockname()[1])
        for one in (listener, *(ours for _, ours in pairs)):
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(one.detach())
        for copy in copies:
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(copy)
        for one in (other, *others[0], *(client for client, _ in pairs)):
            os.fstat(one.fileno())
