"""Stored answers in Django's database, through the async ORM on threads of its own.

Look-ups that arrive while another one runs share the next query; writes go behind the answers, many at a time. A
database that is slow, locked, full or gone costs hits, never a request: look-ups are given up after a moment and not
tried again for a second, writes are kept as long as there is room, and what is wrong is said once a minute.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import structlog
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.management import call_command
from django.db import connection

from gateway.cache import queries
from gateway.cache.bloom_filter import CAPACITY, Known
from gateway.cache.keys import Key, Purge, digest, variant
from gateway.cache.memory import Index, size_of
from gateway.cache.policy import Entry
from gateway.cache.queries import BATCH_ROWS, MOST_PURGES, STORED_ROWS, Found
from gateway.cache.store_health import PAUSE_S, Health, is_away
from gateway.http.headers import Pair

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_LOOK_UP_S = 0.25  # how long a request waits for the database at most
_OPEN_S = 5.0  # how long the start waits for the database at most
_CLOSE_S = 1.0  # and the stop
_GATHER_S = 0.1  # how long a write waits for others
_QUEUE_BYTES, _QUEUE_ROWS, _QUEUE_PURGES, _QUEUE_REMOVALS = 16 * 2**20, 4000, 1000, 10_000
_POLL_S = 0.4  # how often others are asked what they stored and purged
_DEAF_S = 30.0  # who has not heard of purges for so long does not know what is still true
_TOLD_S = 60.0  # how long purges are kept for the others
_OVERLAP = 200  # transactions end in another order than they are numbered in: so many are asked for again
_SWEEP_S = 5.0  # how often what is of no use any more is removed


class Store:
    """A worker's way to the stored answers. `open` it in the loop that serves; `heard` is told purges of others."""

    def __init__(self, max_bytes: int, known: Known, heard: Callable[[Purge], object]) -> None:
        self.is_open = False
        self._known = known
        self._max_bytes = max_bytes
        self._heard = heard
        self._tasks: list[asyncio.Task[None]] = []
        self._executors: list[ThreadPoolExecutor] = []
        self._loop = asyncio.get_running_loop()
        self._opened = asyncio.Event()
        self._reads, self._writes = Health("look-ups"), Health("writes")
        self._asked = asyncio.Event()
        self._waiting: dict[asyncio.Future[Found], tuple[str, Sequence[Pair]]] = {}
        self._queue: dict[str, tuple[Key, Entry]] = {}
        self._queue_index = Index()
        self._queue_bytes = 0
        self._forgotten: set[str] = set()
        self._removals = 0  # so many so far
        self._purges: list[tuple[Purge, asyncio.Future[int]]] = []
        self._purges_chars = 0
        self._others_purges: list[Purge] = []
        self._has_work, self._is_written = asyncio.Event(), asyncio.Event()
        self._file: object = None  # what the database was in when the tables were made
        self._is_written_elsewhere = False  # the writer's connection is of a database that is no more
        self._told: set[tuple[int, float]] = set()  # the numbers and times of purges that need no hearing
        self._last_told = 0
        self._heard_by: deque[int] = deque(maxlen=1 + int(_TOLD_S / _SWEEP_S))  # as it was at the last sweeps
        self._heard_s = 0.0
        self._rows: deque[int] = deque(maxlen=3)  # the number of the last row, as it was at the last looks
        self._new_rows = 0  # since all were looked at
        self._swept_s = 0.0
        self._size = 0
        self._has_grown = True  # since the last look at it all

    @property
    def size_bytes(self) -> int:
        """What is stored, as far as this worker knows."""
        return self._size

    @property
    def state(self) -> str:
        """In a word, whether the database works."""
        if not self.is_open:
            return "not reached"
        return "failing" if self._reads.is_failing or self._writes.is_failing else "works"

    async def open(self) -> None:
        """Make the tables where they are missing, and begin. Waits for the database, but not for long."""
        for name, work in (("read", self._reading), ("write", self._writing)):
            executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"cache-{name}")
            self._executors.append(executor)
            self._tasks.append(asyncio.create_task(_on(executor, work), name=f"portway-cache-{name}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                await self._opened.wait()

    async def aclose(self) -> None:
        """Write what is still to be written, for a moment, and end."""
        if self.is_open and (self._queue or self._purges):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    self._is_written.clear()
                    self._has_work.set()
                    await self._is_written.wait()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)

    # -- what the cache asks for ----------------------------------------------------------------------------------

    async def find(self, key: str, request: Sequence[Pair]) -> Found | None:
        """The stored answers of a key that match the request's fields; None where the database was not asked."""
        if not self.is_open or self._reads.is_paused:
            return None
        if not self._known.may_hold(digest(key)):
            return Found([], has_others=False)
        removals = self._removals
        future: asyncio.Future[Found] = self._loop.create_future()
        self._waiting[future] = key, request
        self._asked.set()
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                found = await future
            if removals != self._removals:  # it was read before that, perhaps
                return Found([], found.has_others)
            if not self._forgotten:
                return found
            # What is to be removed may still be there.
            left = [one for one in found.entries if variant(key, one.vary, one.values) not in self._forgotten]
            return Found(left, found.has_others)
        except TimeoutError:
            self._reads.failed(f"no answer within {_LOOK_UP_S:g} s")
            return None
        except Exception as error:  # noqa: BLE001 - whatever the database has, the request goes on
            self._reads.failed(str(error))
            return None
        finally:
            self._waiting.pop(future, None)  # a database that hangs keeps nobody's request

    def put(self, key: Key, entry: Entry) -> None:
        """Store an answer, soon. It is forgotten where more wait than there is room for."""
        name = variant(str(key), entry.vary, entry.values)
        self._take_out(name)
        self._forgotten.discard(name)
        self._known.add(digest(str(key)))
        self._queue[name] = (key, entry)
        self._queue_index.add(name, key)
        self._queue_bytes += size_of(str(key), entry)
        while self._queue_bytes > _QUEUE_BYTES or len(self._queue) > _QUEUE_ROWS:
            self._take_out(next(iter(self._queue)))
        self._has_work.set()

    def forget(self, key: Key, entry: Entry) -> None:
        """Remove one answer, soon."""
        name = variant(str(key), entry.vary, entry.values)
        self._take_out(name)
        self._forgotten.add(name)
        if len(self._forgotten) > _QUEUE_REMOVALS:  # as below: the database is away
            self._forgotten.clear()
            self.purge(Purge("all", "", time.time()))
        self._has_work.set()

    def purge(self, purge: Purge) -> "asyncio.Future[int]":
        """Remove what a purge covers, and tell the others, soon; then how many stored answers that were."""
        self._take_out_covered(purge)
        done: asyncio.Future[int] = self._loop.create_future()
        self._purges.append((purge, done))
        self._purges_chars += len(purge.value)
        # The database is away: nothing that should go may come back with it.
        if len(self._purges) > _QUEUE_PURGES or self._purges_chars > _QUEUE_BYTES:
            self._purges = [(Purge("all", "", purge.at_s), done)]
            self._purges_chars = 0
        self._has_work.set()
        return done

    def _take_out(self, name: str) -> None:
        found = self._queue.pop(name, None)
        if found is not None:
            self._queue_index.discard(name, found[0])
            self._queue_bytes -= size_of(str(found[0]), found[1])

    def _take_out_covered(self, purge: Purge) -> None:
        place = purge.place
        for name in list(self._queue) if place is None else self._queue_index.at(place):
            if purge.covers(*self._queue[name], time.time()):
                self._take_out(name)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _reading(self) -> None:
        await self._until_prepared(anew=True)
        keeper = asyncio.create_task(self._listening(), name="portway-cache-listen")
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                asked, self._waiting = self._waiting, {}
                await self._answer([(*one, future) for future, one in asked.items() if not future.done()])
        finally:
            keeper.cancel()

    async def _until_prepared(self, *, anew: bool) -> None:
        """The tables are there. Several may make them at once: who comes second finds it done, or tries again.

        `anew` where nothing is known of this database: then what was purged before is no news.
        """
        failures = 0
        while not self.is_open:
            try:
                await sync_to_async(_migrate)()
                if anew:
                    self._last_told, self._file = await queries.last_told(), queries.file_of()
                    self._heard_s = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever the database has, the gateway serves
                await _disconnect()
                failures += 1
                if failures > 2:
                    self._reads.failed(str(error))
                self._opened.set()
                await asyncio.sleep(0.1 if failures < 3 else PAUSE_S)
            else:
                self.is_open = True
                self._opened.set()
                self._reads.worked()

    async def _answer(self, asked: Sequence[tuple[str, Sequence[Pair], "asyncio.Future[Found]"]]) -> None:
        if not asked:
            return
        try:
            found = await queries.look_up([(key, request) for key, request, _ in asked])
        except Exception as error:  # noqa: BLE001 - it is whoever asked that says so
            await _disconnect()
            for *_, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        self._reads.worked()
        for (*_, future), one in zip(asked, found, strict=True):
            if not future.done():
                future.set_result(one)

    async def _listening(self) -> None:
        """What others store is known; their purges reach what this worker has in memory and has still to write."""
        while True:
            try:
                asking = asyncio.ensure_future(self._ask_others())
                if not (await asyncio.wait({asking}, timeout=PAUSE_S))[0]:
                    self._reads.failed(f"no answer within {PAUSE_S:g} s")
                told = await asking
                if told is None:
                    await self._begin_anew()
                    continue
                await self._learn()
                self._reads.worked()
            except Exception as error:  # noqa: BLE001 - whatever the database has, the worker listens on
                await _disconnect()
                self._reads.failed(str(error))
                self.is_open = False  # its tables may be gone, too
                await asyncio.sleep(_POLL_S)
                await self._until_prepared(anew=False)
                continue
            now_s = time.monotonic()
            if now_s - self._heard_s > _DEAF_S:
                self._heard(Purge("all", "", time.time()))
            self._heard_s = now_s
            self._hear(told)
            if len(told) < MOST_PURGES:  # else there are more
                await asyncio.sleep(_POLL_S)

    def _hear(self, told: Sequence[tuple[int, Purge]]) -> None:
        for number, purge in told:
            self._last_told = max(self._last_told, number)
            if (number, purge.at_s) not in self._told:
                self._told.add((number, purge.at_s))
                # By our own clock: who made it may have another one. What was asked for in between goes too.
                purge = replace(purge, at_s=time.time())
                self._heard(purge)
                self._take_out_covered(purge)
                self._others_purges.append(purge)  # what was under way may have been written since
                self._has_work.set()
        if len(self._others_purges) > _QUEUE_PURGES:  # nothing can be written
            self._others_purges = [Purge("all", "", max(purge.at_s for purge in self._others_purges))]
        self._told = {one for one in self._told if one[0] > self._last_told - 2 * _OVERLAP}

    async def _ask_others(self) -> list[tuple[int, Purge]] | None:
        """The purges of late; None where the database is not the one that it was: a file put in the place of its file,
        or a backup whose numbers are lower than those that were heard."""
        if self._file != queries.file_of() or 0 < await queries.last_told() < self._last_told - _OVERLAP:
            return None
        return await queries.told_since(self._last_told - _OVERLAP)

    async def _begin_anew(self) -> None:
        """Nothing that is known is known of this database. What waits to be written is written to it."""
        _log.warning("cache.store_replaced")
        self.is_open, self._is_written_elsewhere = False, True
        self._heard(Purge("all", "", time.time()))
        self._known.clear()
        self._rows.clear()
        self._told.clear()
        self._heard_by.clear()
        await _disconnect()
        await self._until_prepared(anew=True)

    async def _learn(self) -> None:
        """Know of the rows that were added: by whatever gateway, and those of some looks ago again, since transactions
        end in another order than their rows are numbered in."""
        if self._new_rows > CAPACITY and self._known.is_complete:
            self._known.clear()
            self._rows.clear()
        if not self._rows:
            self._rows.append(await queries.last_stored() if self._known.is_complete else 0)
        at, newest, found = self._rows[0], self._rows[-1], [(0, "")] * STORED_ROWS
        is_whole = at == 0
        while len(found) == STORED_ROWS:
            found = await queries.stored_since(at)
            for number, name in found:
                self._known.add(name)
                self._new_rows += number > newest
            at = found[-1][0] if found else at
        self._rows.append(max(at, newest))
        if is_whole:  # another worker's look may be on its way: only who began with the first row has seen all
            self._known.completed()
            self._new_rows = 0

    # -- writing --------------------------------------------------------------------------------------------------

    async def _writing(self) -> None:
        await self._opened.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S + _GATHER_S):
                    await self._has_work.wait()
            if not self.is_open:
                await asyncio.sleep(PAUSE_S)
                continue
            await asyncio.sleep(_GATHER_S)
            self._has_work.clear()
            try:
                if self._is_written_elsewhere:
                    await _disconnect()
                    self._is_written_elsewhere = False
                await self._purge()
                await self._write()
                await self._sweep()
            except Exception as error:  # noqa: BLE001 - whatever the database has, there is more to write
                await _disconnect()
                self._writes.failed(str(error))
                await asyncio.sleep(PAUSE_S)
                self._has_work.set()

    async def _purge(self) -> None:
        while self._purges or self._others_purges:
            lot, others = self._purges[:BATCH_ROWS], self._others_purges[:BATCH_ROWS]
            if lot:
                self._told |= await queries.tell([purge for purge, _ in lot])
                if len(self._told) > _QUEUE_REMOVALS:  # whoever listens hears nothing: they are news once more
                    self._told.clear()
            # What is waited for is counted by itself; writes through the gateway, of which there may be many, are not.
            counted = {done: await queries.remove_covered([purge]) for purge, done in lot if purge.kind != "uri"}
            if many := [*others, *(purge for purge, _ in lot if purge.kind == "uri")]:
                await queries.remove_covered(many)
            self._others_purges = [one for one in self._others_purges if one not in set(others)]
            over = {done for _, done in lot}
            self._purges = [one for one in self._purges if one[1] not in over]
            self._purges_chars = sum(len(purge.value) for purge, _ in self._purges)
            for _, done in lot:
                if not done.done():
                    done.set_result(counted.get(done, 0))
            self._writes.worked()

    async def _write(self) -> None:
        if self._forgotten:
            forgotten = frozenset(self._forgotten)
            await queries.remove(forgotten)
            self._forgotten -= forgotten
            self._removals += 1
        while self._queue:
            names = [name for name, _ in zip(self._queue, range(BATCH_ROWS), strict=False)]
            batch = {name: self._queue[name] for name in names}
            try:
                self._size += await _write(batch)
            except Exception as error:
                if is_away(error):
                    raise
                await self._write_singly(batch)  # one of them cannot be stored: which one is found out by itself
            self._has_grown = True
            for name, written in batch.items():
                if self._queue.get(name) is written:
                    self._take_out(name)
            self._writes.worked()
        self._is_written.set()

    async def _write_singly(self, batch: dict[str, tuple[Key, Entry]]) -> None:
        for name, (key, entry) in batch.items():
            try:
                self._size += await _write({name: (key, entry)})
            except Exception as error:
                if is_away(error):
                    raise
                _log.warning("cache.not_stored", target=key.target, cause=str(error))

    async def _sweep(self) -> None:
        """Remove what is of no use any more; and what was stored longest ago, where all is too large."""
        now_s = time.monotonic()
        is_due = now_s - self._swept_s >= _SWEEP_S
        if not is_due and self._size <= self._max_bytes:
            return
        self._swept_s = now_s
        if is_due:
            self._heard_by.append(self._last_told)
        is_long_ago = len(self._heard_by) == self._heard_by.maxlen
        await queries.remove_expired(self._heard_by[0] if is_long_ago else 0, time.time() - _TOLD_S)
        if self._has_grown:
            self._has_grown = False
            self._size = await queries.total_size()
            if self._size > self._max_bytes:
                await queries.remove_oldest(self._size - self._max_bytes * 9 // 10)
                self._size = await queries.total_size()


async def _on(executor: ThreadPoolExecutor, work: Callable[[], Awaitable[None]]) -> None:
    """Every thread-sensitive call within runs on this one thread, with the connection that the thread has."""
    async with ThreadSensitiveContext(executor=executor):
        await work()


def _migrate() -> None:
    call_command("migrate", "gateway", verbosity=0, interactive=False, skip_checks=True)


_write = sync_to_async(queries.write)


async def _disconnect() -> None:
    """The next query makes a new connection."""
    await sync_to_async(_close)()


def _close() -> None:
    with contextlib.suppress(Exception):
        connection.close()  # which connection that is depends on the thread that asks
