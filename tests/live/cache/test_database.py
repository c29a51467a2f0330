"""What is stored outlives the process, is shared by all who use the database, and costs no answer if that fails."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.live.caching import Origin, Page, cached, fresh, is_hit, said, ttl_of, workers_of
from tests.live.harness import HOME, Answer, Gateway, eventually, request_bytes
from tests.live.postgres import Postgres


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Postgres() as started:
        yield started


def start_all(gateways: Sequence[Gateway], stack: ExitStack) -> None:
    """At the same time."""
    for gateway in gateways:
        stack.callback(gateway.kill)
        gateway.start(wait=False)
    for gateway in gateways:
        gateway.wait_until_ready()


def stop_all(gateways: Sequence[Gateway]) -> None:
    for gateway in gateways:
        gateway.process.send_signal(signal.SIGTERM)
    for gateway in gateways:
        assert gateway.wait() == 0, gateway.errors


def complaints(gateway: Gateway) -> list[dict[str, Any]]:
    return [
        line for line in list(gateway.log) if line["event"].startswith("cache.store_") or line["event"] == "library"
    ]


# -- shared by all ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database that nobody has used yet."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("server").url())
    return f"sqlite:///{tmp_path_factory.mktemp('shared') / 'cache.sqlite3'}"


@pytest.fixture(scope="module")
def gateways(database: str, origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Gateway]]:
    """Two, started at once on a database without tables; the first of them has two workers."""
    with ExitStack() as stack:
        more = {"DATABASE_URL": database, "ROUTE_TAGGED": "/tagged/** -> u", "ROUTE_TAGGED__CACHE": "on"}
        started = [
            Gateway(
                cached(origin, WORKERS=str(2 if number == 0 else 1), **more), cwd=tmp_path_factory.mktemp("gateway")
            )
            for number in range(2)
        ]
        start_all(started, stack)
        yield started
        stop_all(started)


def on_all(gateways: Sequence[Gateway], path: str, *fields: str) -> list[Answer]:
    """What every worker answers; which one of several does is chance, so it is asked often."""
    return [gateway.get(path, *fields) for gateway in gateways for _ in range(8 if gateway is gateways[0] else 1)]


def fill_all(gateways: Sequence[Gateway], page: Page) -> None:
    """Every worker has the page in its memory."""
    page.get()
    eventually(lambda: all(is_hit(answer) for answer in on_all(gateways, page.path)))


def test_several_that_start_at_once_make_the_tables_and_say_nothing_of_it(gateways: list[Gateway]) -> None:
    assert [complaints(gateway) for gateway in gateways] == [[], []]
    assert [gateway.errors for gateway in gateways] == [[], []]
    eventually(lambda: len(workers_of(gateways[0])) == 2)


def shared_memory_of(pid: int) -> set[tuple[str, int]]:
    """The anonymous memory that a process shares: what it is, and how many bytes."""
    maps = re.findall(r"^(\w+)-(\w+) rw-s \S+ \S+ (\d+) ", Path(f"/proc/{pid}/maps").read_text("ascii"), re.MULTILINE)
    return {(inode, int(end, 16) - int(begin, 16)) for begin, end, inode in maps}


def test_the_workers_of_a_gateway_share_one_filter(gateways: list[Gateway]) -> None:
    eventually(lambda: len(workers_of(gateways[0])) == 2)
    one, other = (shared_memory_of(pid) for pid in workers_of(gateways[0]))
    assert any(2**20 < size < 2 * 2**20 for _, size in one & other)


def test_what_one_has_stored_is_a_hit_for_all_others(gateways: list[Gateway], origin: Origin) -> None:
    page = Page(gateways[1], origin)
    page.answers(fresh("one", "X-Own: 1", "Age: 5"))
    page.get()
    for gateway in gateways:
        answer = Page(gateway, origin, at=page.path).wait_until_hit()
        assert (answer.body, answer.one("x-own")) == (b"one", "1")
        assert int(answer.one("age")) >= 5
        assert ttl_of(answer) == 60 - int(answer.one("age"))


@pytest.mark.parametrize("how", ["http", "command", "write"])
def test_a_purge_reaches_every_worker_within_a_second(gateways: list[Gateway], origin: Origin, how: str) -> None:
    page = Page(gateways[1], origin)
    page.answers(fresh("old"))
    fill_all(gateways, page)
    page.answers(fresh("new"))
    if how == "http":
        assert purge(gateways[1], path=page.path)["purged"] >= 1
    elif how == "command":
        assert command(gateways[1], "purge", page.path) == "Purged: 1 stored answer.\n"
    else:
        page.get(method="PUT")
    eventually(lambda: all(answer.body == b"new" for answer in on_all(gateways, page.path)), 1)
    assert page.wait_until_hit().body == b"new"


def purge(gateway: Gateway, **what: str) -> Any:
    ((kind, value),) = what.items()
    answer = gateway.ask(request_bytes("DELETE", f"/-/cache?{kind}={value}", host="localhost"))
    assert answer.status == 200, answer
    return answer.json()


def run_command(gateway: Gateway, *words: str) -> "subprocess.CompletedProcess[str]":
    """`gateway cache ...` with the gateway's environment."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", "cache", *words],
        cwd=gateway.cwd,
        env={**os.environ, **gateway.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def command(gateway: Gateway, *words: str) -> str:
    """What it prints."""
    done = run_command(gateway, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


ALL = {"plain", "query", "host", "longer"}


@pytest.mark.parametrize(
    ("what", "goes"),
    [
        ({"path": "{}"}, {"plain", "query", "host"}),
        ({"path": "{}?page=2"}, {"query"}),
        ({"path": "http://gateway.test{}"}, {"plain", "query"}),
        ({"path": "http://gateway.test{}?page=2"}, {"query"}),
        ({"path": "https://gateway.test{}"}, set()),
        ({"prefix": "{}"}, ALL),
        ({"prefix": "/TAGGED"}, set()),
        ({"tag": "Red{}"}, {"plain", "host"}),
        ({"tag": "red{}"}, set()),
        ({"tag": "%"}, set()),
        ({"tag": "blue{}"}, {"query"}),
        ({"route": "tagged"}, ALL),
        ({"route": "Tagged"}, set()),
        ({"all": ""}, ALL),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
)
def test_a_purge_takes_what_it_names_and_no_more(
    gateways: list[Gateway], origin: Origin, what: dict[str, str], goes: set[str]
) -> None:
    """From the database and from memory: the second of these gateways has but one worker."""
    gateway = gateways[1]
    page = Page(gateway, origin, "/tagged")
    origin.answers(page.path, fresh("x", f"Cache-Tag: Red{page.path},green"))
    origin.answers(page.path + "?page=2", fresh("x", f"Surrogate-Key: green blue{page.path}"))
    asked: dict[str, Callable[[], Answer]] = {
        "plain": page.get,
        "query": lambda: page.get(more="?page=2"),
        "host": lambda: page.get(host="other.test"),
        "longer": lambda: page.get(more="/longer"),
    }
    for ask in asked.values():
        ask()
    Page(gateways[0], origin, at=page.path + "/longer").wait_until_hit()  # all are written
    ((kind, value),) = what.items()
    purged = purge(gateway, **{kind: value.format(page.path)})["purged"]
    assert {name for name, ask in asked.items() if not is_hit(ask())} == goes
    assert purged == len(goes) or kind in {"prefix", "route", "all"}  # what other tests left is among these


# -- clocks that are not right ------------------------------------------------------------------------------------

# Python imports this by itself when it starts: the process's clock is off by what a file says, in seconds.
CLOCK = """
import os, time
from pathlib import Path
_real, _ahead = time.time, Path(os.environ["CLOCK_AHEAD"])
time.time = lambda: _real() + float(_ahead.read_text())
"""


class Clocks:
    """A gateway whose clock can be set, with two workers, beside another one that shares its database."""

    def __init__(self, folder: Path, origin: Origin, database: str) -> None:
        self.file = folder / "ahead"
        self.set_ahead(0)
        (folder / "sitecustomize.py").write_text(CLOCK, encoding="utf-8")
        within = ["env", f"PYTHONPATH={folder}", f"CLOCK_AHEAD={self.file}"]
        more = {"DATABASE_URL": database, "ROUTE_TAGGED": "/tagged/** -> u", "ROUTE_TAGGED__CACHE": "on"}
        more |= {"ROUTE_WRITE": "POST /tagged/** -> u"}
        self.wrong = Gateway(cached(origin, WORKERS="2", **more), cwd=folder, within=within)
        self.right = Gateway(cached(origin, **more), cwd=folder)

    def set_ahead(self, seconds: float) -> None:
        anew = self.file.with_suffix(".new")
        anew.write_text(str(seconds), encoding="ascii")
        anew.replace(self.file)  # in one step: every look at a clock reads it


@pytest.fixture(scope="module")
def clocks(database: str, origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocks]:
    with ExitStack() as stack:
        clocks = Clocks(tmp_path_factory.mktemp("clocks"), origin, database)
        start_all([clocks.wrong, clocks.right], stack)
        yield clocks
        stop_all([clocks.wrong, clocks.right])


PURGING: dict[str, Callable[[Gateway, Page], object]] = {
    "path": lambda gateway, page: purge(gateway, path=page.path),
    "prefix": lambda gateway, page: purge(gateway, prefix=page.path),
    "tag": lambda gateway, page: purge(gateway, tag=f"of{page.path}"),
    "route": lambda gateway, page: purge(gateway, route="tagged"),
    "all": lambda gateway, page: purge(gateway, all=""),
    "command": lambda gateway, page: command(gateway, "purge", page.path),
    "write": lambda gateway, page: Page(gateway, page.origin, at=page.path).get(method="POST"),
}


@pytest.mark.parametrize("how", PURGING)
@pytest.mark.parametrize("ahead_s", [3600, 5])
@pytest.mark.parametrize("is_set_back", [True, False])
def test_a_purge_reaches_what_was_stored_by_a_clock_that_is_ahead(
    clocks: Clocks, origin: Origin, how: str, ahead_s: float, *, is_set_back: bool
) -> None:
    """Both those whose clock is set back meanwhile, and those beside a machine whose clock is right."""
    clocks.set_ahead(ahead_s)
    page = Page(clocks.wrong, origin, "/tagged")
    page.answers(fresh("old", f"Cache-Tag: of{page.path}", control="max-age=86400"))
    both = [clocks.wrong, clocks.right]
    page.get()
    eventually(lambda: all(is_hit(answer) for answer in on_all(both, page.path)))
    if is_set_back:
        clocks.set_ahead(0)
    page.answers(fresh("new", control="max-age=86400"))
    PURGING[how](clocks.wrong if is_set_back else clocks.right, page)
    eventually(lambda: all(answer.body == b"new" for answer in on_all(both, page.path)), 2)
    # What is asked for from now on is after that purge.
    eventually(lambda: all(is_hit(answer) for answer in on_all(both, page.path)), 3)


def test_what_was_written_to_while_the_clock_was_ahead_is_stored_again_once_it_is_right(
    clocks: Clocks, origin: Origin
) -> None:
    clocks.set_ahead(3600)
    page = Page(clocks.wrong, origin, "/tagged")
    for _ in range(8):
        page.get(method="POST")
    clocks.set_ahead(0)
    eventually(lambda: all(is_hit(page.get()) for _ in range(8)), 3)


def test_every_kind_of_url_and_field_is_stored(gateways: list[Gateway], origin: Origin) -> None:
    """What a database could choke on: percent-encoded bytes that are no text, quotes, wildcards, long ones."""
    for more in ("/%ff%FE", "/'\"%25_%", "/" + "x" * 4000, "?q=" + "y" * 8000, "/%F0%9F%98%80", "/a;b=c,d"):
        page = Page(gateways[1], origin)
        origin.answers(page.path + more.partition("?")[0], fresh("x", "Cache-Tag: \xe9t\xe9", 'ETag: "\xff"'))
        assert page.get(more=more).status == 200
        Page(gateways[0], origin, at=page.path + more).wait_until_hit()
    assert complaints(gateways[1]) == []


def test_a_purge_is_heard_although_a_later_one_was_committed_before_it(
    server: Postgres, origin: Origin, tmp_path: Path
) -> None:
    url = server.url()
    told = "INSERT INTO gateway_cachepurge (kind, value, at_s) VALUES ('path', %s, %s)"
    with Gateway(cached(origin, DATABASE_URL=url), cwd=tmp_path) as gateway:
        page = Page(gateway, origin)
        fill_all([gateway], page)
        with server.connect(url.rpartition("/")[2]) as one, server.connect(url.rpartition("/")[2]) as other:
            one.execute("BEGIN")
            one.execute(told, (page.path, time.time()))
            later = Page(gateway, origin)
            fill_all([gateway], later)
            other.execute(told, (later.path, time.time()))
            eventually(lambda: not is_hit(later.get()), 2)
            assert is_hit(page.get())
            one.execute("COMMIT")
        eventually(lambda: not is_hit(page.get()), 2)


# -- a life of its own --------------------------------------------------------------------------------------------


def rows_of(folder: Path) -> list[tuple[str, int]]:
    """Target and size of what is stored."""
    with contextlib.closing(sqlite3.connect(folder / "portway.sqlite3", timeout=10)) as connection:
        return connection.execute("SELECT target, size FROM gateway_cachedresponse").fetchall()


def test_what_is_stored_outlives_a_stop_and_what_has_expired_goes(origin: Origin, tmp_path: Path) -> None:
    with Gateway(cached(origin), cwd=tmp_path) as gateway:
        page, short = Page(gateway, origin), Page(gateway, origin)
        page.answers(fresh("one", "Vary: X-Tenant"))
        short.answers(fresh("short", control="max-age=1"))
        for tenant in "ab":
            page.get(f"X-Tenant: {tenant}")
        short.get()
    assert len(rows_of(tmp_path)) == 3
    with Gateway(cached(origin), cwd=tmp_path) as gateway:
        for tenant in "ab":
            answer = gateway.get(page.path, f"X-Tenant: {tenant}")
            assert (is_hit(answer), answer.body) == (True, b"one")
        assert said(gateway.get(page.path, "X-Tenant: c")) == "portway; fwd=vary-miss; stored"
        eventually(lambda: {target for target, _ in rows_of(tmp_path)} == {page.path})
    assert len(page.asked) == 3


def test_what_the_version_before_has_stored_is_not_answered(origin: Origin, tmp_path: Path) -> None:
    """It may go on storing while it is replaced. A write to the URL would not find what it stored."""
    with Gateway(cached(origin, CACHE_MEMORY="0B"), cwd=tmp_path) as gateway:
        page = Page(gateway, origin)
        page.get()
        eventually(lambda: is_hit(page.get()))
        with contextlib.closing(sqlite3.connect(tmp_path / "portway.sqlite3")) as connection, connection:
            connection.execute("UPDATE gateway_cachedresponse SET target_digest = ''")
        assert not is_hit(page.get())
        eventually(lambda: is_hit(page.get()))


def test_a_write_to_a_long_url_is_told_in_a_short_row(origin: Origin, tmp_path: Path) -> None:
    def told() -> list[int]:
        with contextlib.closing(sqlite3.connect(tmp_path / "portway.sqlite3")) as connection:
            return [row[0] for row in connection.execute("SELECT length(value) FROM gateway_cachepurge")]

    with Gateway(cached(origin), cwd=tmp_path) as gateway:
        page = Page(gateway, origin)
        long = f"{page.path}?{'x' * 50_000}"
        assert [is_hit(gateway.get(long)) for _ in range(2)] == [False, True]
        assert gateway.ask(request_bytes("DELETE", long)).status == 200
        assert not is_hit(gateway.get(long))
        assert is_hit(gateway.get(long))
        assert [size < 100 for size in eventually(told)] == [True]


def test_no_file_is_made_where_nothing_caches_or_only_memory(origin: Origin, tmp_path: Path) -> None:
    plain, memory, lazily = (tmp_path / name for name in ("plain", "memory", "lazily"))
    for folder in (plain, memory, lazily):
        folder.mkdir()
    (lazily / "routes.py").write_text(
        "from django.http import HttpResponse\n"
        "from gateway.routing import fetch, from_environment, route\n"
        "async def view(request):\n"
        "    return HttpResponse((await fetch('u:/x', cache='60s')).body)\n"
        "urlpatterns = [*from_environment(), route('/own', view)]\n",
        encoding="utf-8",
    )
    uncached = {"GATEWAY_UPSTREAM_U": origin.url, "GATEWAY_ROUTE_PLAIN": "/plain/** -> u"}
    with ExitStack() as stack:
        started = [
            Gateway(uncached, cwd=plain),
            Gateway(cached(origin, CACHE_DISK="0B"), cwd=memory),
            Gateway(uncached, cwd=lazily),
        ]
        start_all(started, stack)
        for gateway in started:
            gateway.get("/plain/1")
        page = Page(started[1], origin)
        assert [is_hit(page.get()) for _ in range(2)] == [False, True]
        before = {name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("plain", "memory")}
        assert before == {"plain": [], "memory": []}
        assert not (lazily / "portway.sqlite3").exists()
        assert started[2].get("/own").status == 200
        eventually((lazily / "portway.sqlite3").exists)
        stop_all(started)


def holds(folder: Path, path: str, most: int) -> bool:
    """Whether this is stored, and all that is stored not larger than that."""
    sizes = dict(rows_of(folder))
    return path in sizes and sum(sizes.values()) <= most


def test_the_size_on_disk_and_in_memory_is_bounded(origin: Origin, tmp_path: Path) -> None:
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    for folder in (disk, memory):
        folder.mkdir()
    with ExitStack() as stack:
        started = [
            Gateway(cached(origin, CACHE_DISK="2MiB", CACHE_MEMORY="0B"), cwd=disk),
            Gateway(cached(origin, CACHE_DISK="0B", CACHE_MEMORY="2MiB"), cwd=memory),
        ]
        start_all(started, stack)
        body = os.urandom(100_000)
        for gateway in started:
            pages = [Page(gateway, origin) for _ in range(60)]
            for number, page in enumerate(pages):
                page.answers(fresh(body))
                page.get()
                if gateway is started[0] and number % 10 == 9:  # in lots, as a gateway that is not in a hurry writes
                    eventually(partial(holds, disk, page.path, 2 * 2**20))
            if gateway is started[0]:
                # 6 MB went through. What is written ahead (-wal) is some MB more, however large the rest is.
                assert (disk / "portway.sqlite3").stat().st_size < 4 * 2**20
                assert sum(path.stat().st_size for path in disk.iterdir()) < 12 * 2**20
            kept = [page for page in reversed(pages) if is_hit(page.get())]
            assert 5 <= len(kept) <= 21
        stop_all(started)


SET_UP = """
import asyncio, os, re, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from asgiref.sync import sync_to_async
from django.core.management import call_command
from gateway.cache import queries as rows
from gateway.cache.keys import Key, variant
from gateway.cache.policy import Response, Rule, entry_of
write = sync_to_async(rows.write)
"""

WRITES = """
def resident_mib():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

async def main():
    now_s, body = time.time(), os.urandom(300_000)
    response = Response("GET", [], 200, [(b"cache-control", b"max-age=60")], now_s, now_s)
    entry = entry_of(response, Rule(), body)
    before = resident_mib()
    for count in range(1, 31):  # each number of rows is another statement
        keys = [Key("r", "http", "h", f"/{count}/{number}") for number in range(count)]
        await write({variant(str(key), (), ()): (key, entry) for key in keys})
    print(resident_mib() - before)

call_command("migrate", "gateway", verbosity=0)
asyncio.run(main())
"""


def ran(script: str, folder: Path) -> str:
    """What a program prints that uses the store without a gateway around it."""
    done = subprocess.run(
        [sys.executable, "-c", SET_UP + script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HOME), "GATEWAY_UPSTREAM_U": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_written_does_not_stay_in_memory(tmp_path: Path) -> None:
    """140 MB in 30 lots."""
    assert float(ran(WRITES, tmp_path)) < 60


LOOKS = """
import json
from types import SimpleNamespace
from gateway.cache import database as store
from gateway.cache.bloom_filter import BloomFilter
from gateway.cache.cache import Cache
from gateway.cache.queries import Found

asked = []
look_up = rows.look_up

async def counted(lot):
    asked.extend(key for key, _ in lot)
    return await look_up(lot)

def entry(body, at_s):
    return entry_of(Response("GET", [], 200, [(b"cache-control", b"max-age=60")], at_s, at_s), Rule(), body)

def key(number):
    return Key("r", "http", "h", f"/{number}")

async def finds(one, number):
    found = await one.find(str(key(number)), [])
    return found.entries and found.entries[0].body.decode()

async def until(is_so):
    async with asyncio.timeout(10):
        while not await is_so():
            await asyncio.sleep(0.01)

async def main():
    told = {}
    rows.look_up = counted
    store.CAPACITY = 10
    now_s = time.time()
    one = store.Store(2**30, BloomFilter(), print)
    await one.open()
    async def is_known():
        return one._bloom_filter.is_complete
    await until(is_known)
    told["unknown"] = [await finds(one, 1), list(asked)]
    for number in range(30):
        one.put(key(number), entry(b"own", now_s))
    async def is_written():
        return not one._queue
    await until(is_written)
    told["own"] = [await finds(one, 1), asked.count(str(key(1)))]
    # Rows of somebody else, and more of them than are looked at in one go.
    others = [key(number) for number in range(100, 1300)]
    for at in range(0, 1200, 200):
        await write({variant(str(one), (), ()): (one, entry(b"other", now_s)) for one in others[at : at + 200]})
    async def is_found():
        return await finds(one, 1299) == "other"
    await until(is_found)
    told["others"] = [sum([await finds(one, number) == "other" for number in range(100, 1300)])]
    # All is looked at anew, since there is more than was thought of.
    await until(is_known)
    told["still"] = [await finds(one, 1), await finds(one, 100), await finds(one, 5000)]
    # Another worker, whose looks are only at what is new, does not say that all is known while the first looks anew.
    two = store.Store(2**30, one._bloom_filter, print)
    await two.open()
    await two._poll_rows()
    two._rows.append(two._rows[-1])
    two._rows.append(two._rows[-1])
    two._bloom_filter.clear()
    await two._poll_rows()
    told["halfway"] = two._bloom_filter.is_complete
    one._rows.clear()
    await one._poll_rows()
    told["again"] = one._bloom_filter.is_complete and await finds(one, 1)
    await two.aclose()
    # What is removed while it is looked up is not found.
    looked, go = asyncio.Event(), asyncio.Event()
    async def slow(lot):
        found = await look_up(lot)
        looked.set()
        await go.wait()
        return found
    rows.look_up = slow
    asking = asyncio.create_task(finds(one, 2))
    await looked.wait()
    one.forget(key(2), entry(b"", now_s))
    async def is_removed():
        return not one._forgotten
    await until(is_removed)
    go.set()
    told["removed"] = [await asking]
    await one.aclose()
    # What is newer in memory stays, when the database says what it was before.
    cache = Cache(memory_bytes=2**20, disk_bytes=2**20)
    async def late(text, request):
        cache.keep(text, entry(b"newer", now_s))
        return Found([entry(b"older", now_s - 30)], False)
    cache.store = SimpleNamespace(find=late, put=lambda place, entry: None)
    question = SimpleNamespace(key=str(key(3)), pairs=[], rule=Rule())
    found, _, _ = await cache._find(question, ask_database=True)
    told["newer"] = [found.body.decode(), cache.memory.get(str(key(3)))[0].body.decode()]
    print(json.dumps(told))

call_command("migrate", "gateway", verbosity=0)
asyncio.run(main())
"""


def test_the_database_is_asked_for_what_it_may_hold_and_says_nothing_older_than_memory(tmp_path: Path) -> None:
    assert json.loads(ran(LOOKS, tmp_path)) == {
        "unknown": [[], []],
        "own": ["own", 1],
        "others": [1200],
        "still": ["own", "other", []],
        "halfway": False,
        "again": "own",
        "removed": [[]],
        "newer": ["newer", "newer"],
    }


def test_a_kill_in_the_middle_of_writing_leaves_a_good_database_and_no_half_answer(
    origin: Origin, tmp_path: Path
) -> None:
    def body_of(path: str) -> bytes:
        return (path.encode() + b" ") * 3000

    gateway = Gateway(cached(origin), cwd=tmp_path)
    with ExitStack() as stack:
        stack.callback(gateway.kill)
        gateway.start()
        pages = [Page(gateway, origin) for _ in range(80)]
        for page in pages:
            page.answers(fresh(body_of(page.path)))
        with ThreadPoolExecutor(6) as pool:
            asking = pool.map(ask_and_bear_it, pages)
            eventually(lambda: (tmp_path / "portway.sqlite3").exists() and len(rows_of(tmp_path)) > 20)
            os.killpg(gateway.process.pid, signal.SIGKILL)
            list(asking)
    with contextlib.closing(sqlite3.connect(tmp_path / "portway.sqlite3")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for page in pages:
        page.answers(fresh("asked again"))
    with Gateway(cached(origin), cwd=tmp_path) as again:
        answers = [(page, again.get(page.path)) for page in pages]
        hits = [(page, answer) for page, answer in answers if is_hit(answer)]
        assert len(hits) > 20
        assert all(answer.body == body_of(page.path) for page, answer in hits)
        assert complaints(again) == []


def ask_and_bear_it(page: Page) -> None:
    with contextlib.suppress(OSError, AssertionError):  # the gateway is killed meanwhile
        page.get()


# -- SQLite that cannot be written ------------------------------------------------------------------------------------


class Broken:
    """A gateway whose database is broken in some way, and what clients got of it."""

    def __init__(self, name: str, origin: Origin, folder: Path, url: str, within: Sequence[str]) -> None:
        self.name = name
        self.gateway = Gateway(cached(origin, DATABASE_URL=url), cwd=folder, within=within)
        self.origin = origin
        self.answers: list[Answer] = []
        self.slowest_s = 0.0
        self.path = folder
        self.lock: sqlite3.Connection | None = None

    def asks(self) -> None:
        page = Page(self.gateway, self.origin)
        for _ in range(2):
            began = time.monotonic()
            self.answers.append(page.get())
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)


def make_database(folder: Path) -> Path:
    """As a gateway left it."""
    path = folder / "cache.sqlite3"
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "migrate", "gateway", "--verbosity=0"],
        cwd=folder,
        env={**os.environ, "GATEWAY_DATABASE_URL": f"sqlite:///{path}", "GATEWAY_UPSTREAM_U": "http://127.0.0.1:9"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
MAY_MOUNT = os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture(scope="module")
def broken(origin: Origin) -> Iterator[dict[str, Broken]]:
    """All of them at once, under the same load for as long as it takes to fail three times."""
    base = Path(tempfile.mkdtemp(prefix="portway-broken-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        base.chmod(0o755)
        template = make_database(base)
        made = {
            name: stack.enter_context(broken_in(name, origin, base / name, template))
            for name in BREAKS
            if can_break(name)
        }
        start_all([one.gateway for one in made.values()], stack)
        if (lock := made["locked"].lock) is not None:
            lock.execute("BEGIN EXCLUSIVE")
        until_s = time.monotonic() + 2.5
        while time.monotonic() < until_s:
            for one in made.values():
                one.asks()
        yield made
        stop_all([one.gateway for one in made.values()])


BREAKS = ("missing folder", "no database", "read-only file", "read-only folder", "locked", "full")


def can_break(name: str) -> bool:
    return name != "full" or MAY_MOUNT


def breaks(names: Iterable[str]) -> list[Any]:
    """Those that this machine lets us break: a disk that is full is a small file system, mounted for it."""
    # Why it may be left out: only root may mount, and a newcomer need not be root. `.ci/run` is, so there nothing is.
    why = "a file system of its own needs the rights of root"
    return [pytest.param(name, marks=pytest.mark.skipif(not can_break(name), reason=why)) for name in names]


@contextlib.contextmanager
def broken_in(name: str, origin: Origin, folder: Path, template: Path) -> Iterator[Broken]:
    folder.mkdir()
    path = folder / "cache.sqlite3"
    if name in {"read-only file", "read-only folder", "locked"}:
        shutil.copy(template, path)
    with ExitStack() as stack:
        if name == "full":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder], check=True)
            stack.callback(lambda: subprocess.run(["umount", "--lazy", folder], check=True))
        if name == "missing folder":
            path = folder / "missing" / "cache.sqlite3"
        elif name == "no database":
            path.write_bytes(b"this is no database\n" * 1000)
        if AS_NOBODY:
            for each in (folder, *folder.iterdir()):
                os.chown(each, 65534, 65534)
        if name == "read-only file":
            path.chmod(0o444)
        elif name == "read-only folder":
            folder.chmod(0o555)
        one = Broken(name, origin, folder, f"sqlite:///{path}", AS_NOBODY)
        one.path = path
        if name == "locked":
            one.lock = stack.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
        yield one


@pytest.mark.parametrize("name", breaks(BREAKS))
def test_a_database_that_cannot_be_written_costs_no_answer_and_is_said_once(
    broken: dict[str, Broken], name: str
) -> None:
    one = broken[name]
    assert len(one.answers) > 10
    assert all(answer.status == 200 for answer in one.answers)
    assert all(is_hit(answer) for answer in one.answers[1::2])
    assert one.slowest_s < 2
    told = [(line["event"], line["what"]) for line in complaints(one.gateway)]
    assert len(told) == len(set(told)) <= 2
    assert {event for event, _ in told} <= {"cache.store_failed"}
    assert name == "locked" or told
    assert one.gateway.errors == []


@pytest.mark.parametrize("name", breaks(["missing folder", "read-only file", "read-only folder", "locked", "full"]))
def test_it_heals_by_itself(broken: dict[str, Broken], name: str) -> None:
    one = broken[name]
    if name == "missing folder":
        one.path.parent.mkdir()
        os.chown(one.path.parent, 65534, 65534) if AS_NOBODY else None
    elif one.lock is not None:
        one.lock.execute("ROLLBACK")
    elif name == "full":
        subprocess.run(["mount", "-o", "remount,size=64m", one.path.parent], check=True)
    else:
        one.path.parent.chmod(0o755)
        for path in one.path.parent.iterdir():  # what SQLite makes beside the file has its rights
            path.chmod(0o644)
    page = Page(one.gateway, one.origin)
    page.get()

    def is_stored() -> bool:
        with contextlib.closing(sqlite3.connect(f"file:{one.path}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT 1 FROM gateway_cachedresponse WHERE target = ?", [page.path]).fetchall()
            return bool(found)

    def heals() -> bool:
        with contextlib.suppress(sqlite3.OperationalError):
            return is_stored()
        return False

    eventually(heals)
    if name != "locked":  # nothing had failed yet
        one.gateway.wait_for_log(lambda line: line["event"] == "cache.store_works")


# -- PostgreSQL that is away ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_that_is_removed_or_replaced_is_found_out(origin: Origin, tmp_path: Path, *, is_replaced: bool) -> None:
    other, environ = tmp_path / "other", {"PYTHONPATH": str(HOME), "GATEWAY_UPSTREAM_U": origin.url}
    other.mkdir()
    migrate = [sys.executable, "-m", "gateway", "migrate", "gateway"]
    subprocess.run(migrate, cwd=other, env={**os.environ, **environ}, capture_output=True, check=True)
    with Gateway(cached(origin, WORKERS="2"), cwd=tmp_path) as gateway:
        eventually(lambda: len(workers_of(gateway)) == 2)
        page = Page(gateway, origin)
        page.answers(fresh("old"))
        fill_all([gateway], page)
        page.answers(fresh("new"))
        for end in ("-wal", "-shm", ""):
            (tmp_path / f"portway.sqlite3{end}").unlink()
        if is_replaced:
            (other / "portway.sqlite3").replace(tmp_path / "portway.sqlite3")
        eventually(lambda: len(says(gateway, "cache.store_replaced")) >= 2)  # each worker; one may look in between
        eventually(lambda: all(answer.body == b"new" for answer in on_all([gateway], page.path)))
        eventually(lambda: page.path in dict(rows_of(tmp_path)))


def says(gateway: Gateway, event: str) -> list[dict[str, Any]]:
    return [line for line in gateway.log if line["event"] == event]


def test_purges_are_heard_from_a_database_whose_numbers_begin_again(origin: Origin, tmp_path: Path) -> None:
    with Gateway(cached(origin), cwd=tmp_path) as gateway:

        def purged(path: str, count: int, *, again: bool) -> None:
            """As somebody else does it: so many purges, each of them numbered."""
            with contextlib.closing(sqlite3.connect(tmp_path / "portway.sqlite3", timeout=10)) as connection:
                if again:
                    connection.execute("DELETE FROM gateway_cachepurge")
                    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'gateway_cachepurge'")
                purges = [("path", path, time.time())] * count
                connection.executemany("INSERT INTO gateway_cachepurge (kind, value, at_s) VALUES (?, ?, ?)", purges)
                connection.commit()

        for count in (3, 500):  # few: their numbers were heard already; many: they are lower than what is asked for
            for again in (False, True):
                page = Page(gateway, origin)
                page.answers(fresh("old"))
                fill_all([gateway], page)
                page.answers(fresh("new"))
                purged(page.path, 1 if again else count, again=again)
                eventually(lambda page=page: page.get().body == b"new")  # type: ignore[misc]


@pytest.fixture(scope="module")
def away() -> Iterator[Postgres]:
    """A server of its own, to be frozen and killed."""
    with Postgres() as started:
        yield started


def test_a_database_server_that_freezes_or_dies_costs_no_answer(away: Postgres, origin: Origin, tmp_path: Path) -> None:
    url = away.url()
    with Gateway(cached(origin, DATABASE_URL=url), cwd=tmp_path) as gateway:
        one = Broken("", origin, tmp_path, "", [])
        one.gateway = gateway
        kept = Page(gateway, origin)
        fill_all([gateway], kept)
        for breaks, mends in ((away.freeze, away.thaw), (away.kill, away.start)):
            breaks()
            until_s = time.monotonic() + 1.5
            while time.monotonic() < until_s:
                one.asks()
                assert is_hit(kept.get())
            mends()
            eventually(lambda: stored_soon(away, url, gateway, origin))
            eventually(lambda: "database-skipped" not in said(Page(gateway, origin).get()))
        assert all(answer.status == 200 for answer in one.answers)
        assert all(is_hit(answer) for answer in one.answers[1::2])
        assert one.slowest_s < 2
        told = [(line["event"], line.get("what")) for line in complaints(gateway)]
        assert len(told) == len(set(told)) <= 4
        away.freeze()
        gateway.get(Page(gateway, origin).path)
        began = time.monotonic()
        gateway.stop()
        assert time.monotonic() - began < 5
        away.thaw()


@pytest.mark.parametrize("breaks", ["read-only", "no tables"])
def test_a_database_that_takes_no_rows_is_said_once_and_heals(
    away: Postgres, origin: Origin, tmp_path: Path, breaks: str
) -> None:
    url = away.url()
    name = url.rpartition("/")[2]

    def does(*statements: str) -> None:
        """As its administrator, who ends every other connection then."""
        with away.connect("postgres") as connection:
            for statement in statements:
                connection.execute(statement)
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])

    with Gateway(cached(origin, DATABASE_URL=url), cwd=tmp_path) as gateway:
        eventually(lambda: stored_soon(away, url, gateway, origin))
        if breaks == "read-only":  # as a standby is that has taken over
            does(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
            for _ in range(30):
                assert Page(gateway, origin).get().status == 200
            eventually(lambda: says(gateway, "cache.store_failed"))
            does(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        else:
            with away.connect(name) as connection:
                connection.execute("DROP TABLE gateway_cachedresponse, gateway_cachepurge, django_migrations")
            for _ in range(30):
                assert Page(gateway, origin).get().status == 200
        eventually(lambda: stored_soon(away, url, gateway, origin))
        assert says(gateway, "cache.not_stored") == []
        told = [line["what"] for line in says(gateway, "cache.store_failed")]
        assert len(told) == len(set(told))
        assert gateway.errors == []


def stored_in(server: Postgres, url: str, path: str) -> bool:
    with server.connect(url.rpartition("/")[2]) as connection:
        found = connection.execute("SELECT 1 FROM gateway_cachedresponse WHERE target = %s", [path]).fetchone()
        return found is not None


def test_a_gateway_starts_without_its_database_server(away: Postgres, origin: Origin, tmp_path: Path) -> None:
    url = away.url()
    away.kill()
    with Gateway(cached(origin, DATABASE_URL=url), cwd=tmp_path) as gateway:
        page = Page(gateway, origin)
        assert [is_hit(page.get()) for _ in range(2)] == [False, True]
        eventually(lambda: says(gateway, "cache.store_failed"))
        assert "refused" in says(gateway, "cache.store_failed")[0]["cause"]
        listed = run_command(gateway, "ls")
        assert (listed.returncode, listed.stdout, listed.stderr.count("\n")) == (1, "", 1), listed.stderr
        assert "refused" in listed.stderr
        away.start()
        eventually(lambda: stored_soon(away, url, gateway, origin), 15)


def stored_soon(server: Postgres, url: str, gateway: Gateway, origin: Origin) -> bool:
    page = Page(gateway, origin)
    page.get()
    with contextlib.suppress(Exception):
        return stored_in(server, url, page.path)
    return False
