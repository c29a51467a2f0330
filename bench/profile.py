"""Where the time of a proxied GET goes, by room: `python -m bench.profile [SECONDS] [UPSTREAM_URL]`.

The handler runs in this process, without Granian, before the upstream of the benchmark. After each half of a
millisecond of CPU time the file that runs is noted; what C does for that file counts for it too.
"""

import asyncio
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from bench.machine import HOST, free_port
from bench.targets import HOME

EVERY_S = 0.0005
AT_ONCE = 32
HEADERS = [(b"host", b"bench.test")]
SCOPE = {
    "type": "http",
    "method": "GET",
    "http_version": "1.1",
    "scheme": "http",
    "path": "/1k",
    "raw_path": b"/1k",
    "query_string": b"",
    "client": (HOST, 1),
    "server": (HOST, 8000),
}

Application = Callable[..., Awaitable[None]]


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    with tempfile.TemporaryDirectory(prefix="portway-profile-") as folder, upstream() as url:
        url = sys.argv[2] if len(sys.argv) > 2 else url
        application = handler(url, Path(folder))
        requests, cpu_s, places = uvloop_run(measured(application, seconds))
    print(f"{requests:,} requests, {cpu_s / requests * 1e6:.1f} us of CPU each, Granian left out\n")
    total = sum(places.values())
    for room, count in Counter(_rooms(places)).most_common():
        print(f"{room:<24} {100 * count / total:5.1f} %  {cpu_s / requests * 1e6 * count / total:5.1f} us")
    print("\nby file")
    for place, count in places.most_common(20):
        print(f"{place:<40} {100 * count / total:5.1f} %")


def _rooms(places: Counter[str]) -> dict[str, int]:
    rooms: Counter[str] = Counter()
    for place, count in places.items():
        rooms[place.partition("/")[0] if not place.startswith("gateway/") else "/".join(place.split("/")[:2])] += count
    return dict(rooms)


@contextmanager
def upstream() -> Iterator[str]:
    port = free_port()
    child = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(port)], cwd=HOME)
    try:
        yield f"http://{HOST}:{port}"
    finally:
        child.terminate()
        child.wait()


def handler(url: str, folder: Path) -> Application:
    """The application with one route, its log line written to nowhere."""
    os.environ.update({
        "DJANGO_SETTINGS_MODULE": "settings",
        "GATEWAY_UPSTREAM_B": url,
        "GATEWAY_ROUTE_B": "/** -> b",
        "GATEWAY_DATABASE_URL": f"sqlite:///{folder}/cache.sqlite3",
    })  # fmt: skip
    import django

    django.setup()
    from gateway.config import loader
    from gateway.observe import log
    from gateway.routing.loader import load_routes
    from gateway.server.asgi import GatewayHandler

    log.configure("json", "info", io.FileIO(os.devnull, "wb"))
    loaded = loader.load({name: value for name, value in os.environ.items() if name.startswith("GATEWAY_")}, _no_file)
    return GatewayHandler(loaded, load_routes(loaded.declared), hooks=[log.request_logger()])


def _no_file(name: str) -> str:
    raise FileNotFoundError(name)


async def measured(application: Application, seconds: float) -> tuple[int, float, Counter[str]]:
    """How many requests were answered, the CPU time, and how often which file ran."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    started: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    events.put_nowait({"type": "lifespan.startup"})
    life = asyncio.ensure_future(application({"type": "lifespan"}, events.get, started.put))
    await started.get()
    await load(application, 0.5)
    places: Counter[str] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: places.update([_place(frame)]))
    began_s = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    requests = await load(application, seconds)
    signal.setitimer(signal.ITIMER_PROF, 0)
    cpu_s = time.process_time() - began_s
    events.put_nowait({"type": "lifespan.shutdown"})
    await life
    return requests, cpu_s, places


async def load(application: Application, seconds: float) -> int:
    """AT_ONCE requests at a time, for so long; how many that were."""
    until_s, count = time.monotonic() + seconds, 0
    never: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, Any]:
        return await asyncio.shield(never)

    async def send(message: dict[str, Any]) -> None:
        if message.get("status", 200) != 200:
            raise RuntimeError(f"answered {message['status']}")

    async def client() -> None:
        nonlocal count
        while time.monotonic() < until_s:
            await asyncio.create_task(_request(application, receive, send))
            count += 1

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return count


async def _request(application: Application, receive: object, send: object) -> None:
    await application({**SCOPE, "headers": list(HEADERS)}, receive, send)


def _place(frame: FrameType | None) -> str:
    """The file of ours that runs, or the library; the loop where nothing of Python does."""
    while frame is not None and frame.f_code.co_filename.startswith("<"):  # what a dataclass has generated
        frame = frame.f_back
    if frame is None:
        return "loop and kernel"
    path = Path(frame.f_code.co_filename)
    if path.is_relative_to(HOME / "gateway"):
        return str(path.relative_to(HOME))
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    return "loop and kernel" if path.name in {"profile.py", "runners.py", "__init__.py"} else f"python/{path.name}"


def uvloop_run(task: Any) -> Any:
    import uvloop

    return uvloop.run(task)


if __name__ == "__main__":
    main()
