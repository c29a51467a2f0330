"""Files are read in threads of their own: a disk that hangs holds up nobody but who asks for files."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from gateway.answers.files import THREADS, in_file_thread, read_page


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


def test_a_page_that_is_a_pipe_or_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.html"
    os.mkfifo(pipe)  # nobody will ever write to it
    for path in (pipe, tmp_path):
        with pytest.raises(OSError, match=r"regular file|Is a directory"):
            read_page(str(path))
