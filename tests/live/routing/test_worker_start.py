"""What a team's code does when a worker starts, and threads that it starts too early."""

from pathlib import Path

import pytest

from tests.live.harness import Gateway, eventually
from tests.live.management.test_commands import run

ROUTES = """
import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from django.http import JsonResponse

from gateway.routing import from_environment, on_worker_start, route

started = []
numbers = [0]


def count():
    while True:
        numbers[0] += 1
        time.sleep(0.005)


@on_worker_start
def in_thread():
    started.append(["in_thread", os.getpid(), threading.current_thread() is threading.main_thread()])
    threading.Thread(target=count, daemon=True).start()


async def in_loop():
    started.append(["in_loop", os.getpid(), threading.current_thread() is threading.main_thread()])
    asyncio.get_running_loop().create_task(asyncio.sleep(60))  # a team's task that runs until the end


assert on_worker_start(in_loop) is in_loop
on_worker_start(in_loop)


async def look(request):
    return JsonResponse({"started": started, "pid": os.getpid(), "number": numbers[0]})


urlpatterns = [*from_environment(), route("GET /look", look)]
"""
EARLY = """
pool = ThreadPoolExecutor(1, thread_name_prefix="early-pool")
pool.submit(int).result()
threading.Thread(target=count, daemon=True, name="early-bird").start()
ended = threading.Thread(target=int, name="over")
ended.start()
ended.join()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_functions_run_once_in_each_worker_before_it_serves(tmp_path: Path, workers: int) -> None:
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Gateway({"GATEWAY_WORKERS": str(workers)}, cwd=tmp_path) as gateway:
        seen = {}

        def all_seen() -> bool:
            answer = gateway.get("/look").json()
            seen[answer["pid"]] = answer
            return len(seen) == workers

        eventually(all_seen)
        for pid, answer in seen.items():
            assert answer["started"] == [["in_thread", pid, False], ["in_loop", pid, True]]
        eventually(lambda: all(gateway.get("/look").json()["number"] > seen[pid]["number"] for pid in [*seen][:1]))
        assert gateway.errors == []
        assert not any(line["event"] == "start.threads" for line in gateway.log)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise ValueError('no broker')", "on_worker_start: routes.failing() failed: ValueError: no broker"),
        ("sys.exit('no broker')", "on_worker_start: routes.failing() failed: SystemExit: no broker"),
    ],
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_function_that_fails_keeps_its_worker_from_serving_and_is_named(
    tmp_path: Path, kind: str, body: str, cause: str
) -> None:
    failing = f"import sys\n\n\n@on_worker_start\n{kind} failing():\n    {body}\n"
    (tmp_path / "routes.py").write_text(ROUTES + failing, encoding="utf-8")
    gateway = Gateway({}, cwd=tmp_path)
    try:
        gateway.start(wait=False)
        line = gateway.wait_for_log(lambda line: line["event"] == "start.failed")
        assert line["level"] == "error"
        assert cause in str(line)
        assert not any(line["event"] == "worker.ready" for line in gateway.log)
    finally:
        gateway.kill()


@pytest.mark.parametrize("line", ["on_worker_start(lambda x: x)", "on_worker_start(None)"])
def test_what_cannot_be_called_without_arguments_is_an_error_of_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "routes.py").write_text(ROUTES + line + "\n", encoding="utf-8")
    ran = run(tmp_path, "check")
    assert ran.code == 2
    assert ran.lines[0].startswith(f"gateway: routes.py:{ROUTES.count(chr(10)) + 1}: TypeError: on_worker_start("), ran


def test_threads_that_are_started_too_early_are_named(tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(ROUTES + EARLY, encoding="utf-8")
    warning = "gateway: warning: routes.py starts threads while it is imported: early-pool_0, early-bird; "
    ran = run(tmp_path, "check")
    assert ran.code == 0
    assert [line[: len(warning)] for line in ran.lines] == [warning]
    with Gateway({}, cwd=tmp_path) as gateway:
        line = gateway.wait_for_log(lambda line: line["event"] == "start.threads")
        assert (line["level"], line["threads"]) == ("warning", ["early-pool_0", "early-bird"])
        assert [line[: len(warning)] for line in gateway.errors] == [warning]
