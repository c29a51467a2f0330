"""Files are read in threads of their own: a disk that hangs holds up nobody but who asks for files."""

import asyncio
import threading

from gateway.answers.files import THREADS, in_file_thread


async def test_whoever_waits_for_a_disk_leaves_the_threads_of_others_alone() -> None:
    released = threading.Event()

    def hangs() -> str:
        released.wait(10)
        return threading.current_thread().name

    waiting = [asyncio.create_task(in_file_thread(hangs)) for _ in range(THREADS + 1)]
    try:
        async with asyncio.timeout(5):
            other = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert not any(task.done() for task in waiting)
    finally:
        released.set()
    names = await asyncio.gather(*waiting)
    assert all(name.startswith("portway-files") for name in names)
    assert len(set(names)) == THREADS
    assert other not in names
