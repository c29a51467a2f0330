"""The thread of a request: one for all its calls, none where it is not needed, and what is said where there is none."""

import asyncio
import gc
import os
import threading
import weakref

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.errors import GatewayError, Reason
from gateway.http import view_thread
from gateway.http.view_thread import ViewThread
from tests.live.harness import PATIENCE_S, eventually

name_of_thread = sync_to_async(lambda: threading.current_thread().name)


@pytest.fixture(autouse=True)
def nobody_has_a_thread() -> None:
    assert eventually(lambda: view_thread.busy() == 0)


class Closes(HttpResponse):
    """Notes in which thread it is closed."""

    closed_in: str | None = None

    def close(self) -> None:
        self.closed_in = threading.current_thread().name


async def test_all_calls_of_a_request_share_a_thread_and_no_other_request_has_it() -> None:
    async def request() -> set[str]:
        thread = ViewThread(lambda: None)
        thread.enter()
        names = {await name_of_thread() for _ in range(3)}
        names |= set(await asyncio.gather(*(name_of_thread() for _ in range(3))))
        await together.wait()
        thread.close()
        return names

    together = asyncio.Barrier(3)
    found = await asyncio.gather(*(request() for _ in range(3)))
    assert [len(names) for names in found] == [1, 1, 1]
    assert len(set.union(*found)) == 3


async def test_what_uses_no_thread_has_none() -> None:
    closed: list[str] = []
    thread = ViewThread(lambda: closed.append("request"))
    thread.enter()
    response = HttpResponse()
    thread.holds(response)
    assert view_thread.busy() == 0
    thread.close()
    assert (view_thread.busy(), response.closed, closed) == (0, True, ["request"])
    thread.close()
    assert closed == ["request"], "once"


async def test_what_has_something_to_close_is_closed_in_the_thread() -> None:
    thread = ViewThread(lambda: None)
    response = Closes()
    thread.holds(response)
    thread.close()
    assert eventually(lambda: response.closed_in or "").startswith("view-")
    assert eventually(lambda: view_thread.busy() == 0)


async def test_a_fault_in_closing_keeps_nothing_else_open() -> None:
    class Fails(HttpResponse):
        def close(self) -> None:
            raise ValueError("on purpose")

    closed: list[str] = []
    thread = ViewThread(lambda: closed.append("request"))
    thread.holds(Fails())
    thread.close()
    assert eventually(lambda: closed) == ["request"]
    assert eventually(lambda: view_thread.busy() == 0)


async def test_where_the_system_has_no_thread_the_request_is_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoThread:
        def __init__(self, **_: object) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(view_thread, "Thread", NoThread)
    monkeypatch.setattr(view_thread, "_threads", view_thread._Threads())
    thread = ViewThread(lambda: None)
    thread.enter()
    with pytest.raises(GatewayError) as raised:
        await name_of_thread()
    assert raised.value.reason is Reason.OVERLOADED
    response = Closes()
    thread.holds(response)
    thread.close()
    assert response.closed_in == "MainThread"


async def test_it_ends_with_the_last_task_that_uses_it() -> None:
    """A task that a view started may go on after the request has ended."""
    gate = asyncio.Event()

    async def later() -> str:
        await gate.wait()
        return await name_of_thread()

    async def request() -> "asyncio.Task[str]":
        thread = ViewThread(lambda: None)
        thread.enter()
        task = asyncio.create_task(later())
        thread.close()
        threads.append(weakref.ref(thread))
        return task

    threads: list[weakref.ref[ViewThread]] = []
    task = await asyncio.create_task(request())
    gate.set()
    assert (await task).startswith("view-")
    assert view_thread.busy() == 1
    del task

    async with asyncio.timeout(PATIENCE_S):
        while threads[0]() is not None:  # the loop has to let go of the task too
            await asyncio.sleep(0.01)
            gc.collect()
    assert eventually(lambda: view_thread.busy() == 0)
