"""Stored responses in Django's database, through the async ORM on two threads of its own.

Look-ups that arrive while another one runs share the next query; writes happen in the background, in batches. A
database that is slow, locked, full or gone costs hits, never a request: a look-up is given up after 0.25 s and none is
tried for the next second, writes wait as long as there is room for them, and a failure is logged once a minute.
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
from gateway.cache.bloom_filter import CAPACITY, BloomFilter
from gateway.cache.keys import Key, Purge, digest, variant
from gateway.cache.memory import Index, size_of
from gateway.cache.notices import Wakeup, listen
from gateway.cache.policy import Entry
from gateway.cache.queries import BATCH_ROWS, MOST_PURGES, STORED_ROWS, Found
from gateway.cache.store_health import PAUSE_S, StoreHealth, is_away
from gateway.http.headers import Pair
from gateway.observe import steps

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_LOOK_UP_S = 0.25  # how long a request waits for the database at most
_OPEN_S = 5.0  # how long the start waits for the database at most
_CLOSE_S = 1.0  # and the stop
_BATCH_S = 0.1  # how long a write waits for others to share its batch
_QUEUE_BYTES, _QUEUE_ROWS, _QUEUE_PURGES, _QUEUE_REMOVALS = 16 * 2**20, 4000, 1000, 10_000
_POLL_S = 0.4  # how often rows and purges of other workers and replicas are read
_SILENCE_S = 30.0  # without a successful poll for that long, everything in memory is dropped
_PURGES_KEPT_S = 60.0  # how long rows of purges are kept for other workers
_OVERLAP = 200  # transactions may commit in another order than their rows are numbered: this many are read again
_SWEEP_S = 5.0  # how often useless rows are removed


class Store:
    """One worker's access to the database. `open` it in the loop that serves; `on_purge` gets the purges of others."""

    def __init__(self, max_bytes: int, bloom_filter: BloomFilter, on_purge: Callable[[Purge], object]) -> None:
        self.is_open = False
        self._bloom_filter, self._max_bytes, self._on_purge = bloom_filter, max_bytes, on_purge
        self._tasks: list[asyncio.Task[None]] = []
        self._executors: list[ThreadPoolExecutor] = []
        self._loop = asyncio.get_running_loop()
        self._reads, self._writes = StoreHealth("look-ups"), StoreHealth("writes")
        self._opened, self._asked, self._news, self._urgent = asyncio.Event(), asyncio.Event(), Wakeup(), Wakeup()
        self._waiting: dict[asyncio.Future[Found], tuple[str, Sequence[Pair]]] = {}
        self._queue: dict[str, tuple[Key, Entry]] = {}
        self._queue_index = Index()
        self._queue_bytes = self._purges_chars = 0
        self._forgotten: set[str] = set()
        self._removals = 0  # batches removed so far
        self._purges: list[tuple[Purge, asyncio.Future[int]]] = []
        self._others_purges: list[Purge] = []
        self._has_work, self._is_written = asyncio.Event(), asyncio.Event()
        self._file: object = None  # identifies the file of an SQLite database
        self._is_written_elsewhere = False  # the writer is connected to a database file that was replaced
        self._seen_purges: set[tuple[int, float]] = set()  # numbers and times of purges that were applied already
        self._last_purge, self._last_poll_s = 0, 0.0
        self._last_purge_at_sweeps: deque[int] = deque(maxlen=1 + int(_PURGES_KEPT_S / _SWEEP_S))
        self._rows: deque[int] = deque(maxlen=3)  # the number of the last row, at each of the last polls
        self._new_rows = 0  # since all rows were read
        self._swept_s, self._size = 0.0, 0
        self._has_grown = True  # since the total size was queried

    @property
    def size_bytes(self) -> int:
        """Size of the stored responses, as far as this worker knows."""
        return self._size

    @property
    def state(self) -> str:
        """`works`, `failing` or `not reached`."""
        if not self.is_open:
            return "not reached"
        return "failing" if self._reads.is_failing or self._writes.is_failing else "works"

    async def open(self) -> None:
        """Create missing tables and start the threads. Waits for the database 5 s at most."""
        for name, work in (("read", self._read_loop), ("write", self._write_loop)):
            executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"cache-{name}")
            self._executors.append(executor)
            self._tasks.append(asyncio.create_task(_on(executor, work), name=f"portway-cache-{name}"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_OPEN_S):
                await self._opened.wait()

    async def aclose(self) -> None:
        """Write what is queued, for 1 s at most, and end."""
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
        """The stored responses of a key that match the request's fields; None if the database was not asked."""
        if not self.is_open or self._reads.is_paused:
            return None
        if not self._bloom_filter.may_hold(digest(key)):
            return Found([], has_others=False)
        removals = self._removals
        future: asyncio.Future[Found] = self._loop.create_future()
        self._waiting[future] = key, request
        self._asked.set()
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                found = await (future if steps.traced is None else steps.traced("cache lookup", {}, future))
            if removals != self._removals:  # it may have been read before those were removed
                return Found([], found.has_others)
            if not self._forgotten:
                return found
            # Responses with a queued removal may still be there.
            left = [one for one in found.entries if variant(key, one.vary, one.values) not in self._forgotten]
            return Found(left, found.has_others)
        except TimeoutError:
            self._reads.failed(f"no answer within {_LOOK_UP_S:g} s")
            return None
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, the request goes on
            self._reads.failed(str(error))
            return None
        finally:
            self._waiting.pop(future, None)  # a hanging database must not keep the request

    def put(self, key: Key, entry: Entry) -> None:
        """Queue a response for storing. Where the queue is full, the oldest ones are given up."""
        name = variant(str(key), entry.vary, entry.values)
        self._unqueue(name)
        self._forgotten.discard(name)
        self._bloom_filter.add(digest(str(key)))
        self._queue[name] = (key, entry)
        self._queue_index.add(name, key)
        self._queue_bytes += size_of(str(key), entry)
        while self._queue_bytes > _QUEUE_BYTES or len(self._queue) > _QUEUE_ROWS:
            self._unqueue(next(iter(self._queue)))
        self._has_work.set()

    def forget(self, key: Key, entry: Entry) -> None:
        """Queue the removal of one response."""
        name = variant(str(key), entry.vary, entry.values)
        self._unqueue(name)
        self._forgotten.add(name)
        if len(self._forgotten) > _QUEUE_REMOVALS:  # as below: the database is away
            self._forgotten.clear()
            self.purge(Purge("all", "", time.time()))
        self._has_work.set()

    def purge(self, purge: Purge) -> "asyncio.Future[int]":
        """Queue a purge, for the database and for other workers. The result is the number of responses removed."""
        self._unqueue_covered(purge)
        done: asyncio.Future[int] = self._loop.create_future()
        self._purges.append((purge, done))
        self._purges_chars += len(purge.value)
        # The database is away: nothing that was purged may come back with it.
        if len(self._purges) > _QUEUE_PURGES or self._purges_chars > _QUEUE_BYTES:
            self._purges = [(Purge("all", "", purge.at_s), done)]
            self._purges_chars = 0
        self._has_work.set()
        if purge.kind != "uri":  # a caller waits for it; purges by unsafe methods may be many
            self._urgent.wake()
        return done

    def _unqueue(self, name: str) -> None:
        found = self._queue.pop(name, None)
        if found is not None:
            self._queue_index.discard(name, found[0])
            self._queue_bytes -= size_of(str(found[0]), found[1])

    def _unqueue_covered(self, purge: Purge) -> None:
        place = purge.place
        for name in list(self._queue) if place is None else self._queue_index.at(place):
            if purge.covers(*self._queue[name], time.time()):
                self._unqueue(name)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read_loop(self) -> None:
        await self._prepare(anew=True)
        polling = asyncio.create_task(self._polling(), name="portway-cache-poll")
        listening = asyncio.create_task(listen(self._news), name="portway-cache-listen")
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                asked, self._waiting = self._waiting, {}
                await self._answer([(*one, future) for future, one in asked.items() if not future.done()])
        finally:
            polling.cancel()
            listening.cancel()

    async def _prepare(self, *, anew: bool) -> None:
        """Wait until the tables exist. Several workers may create them at once; one that fails tries again.

        `anew`: this is the first contact with this database, so purges made before are skipped.
        """
        failures = 0
        while not self.is_open:
            try:
                await sync_to_async(_migrate)()
                if anew:
                    self._last_purge, self._file = await queries.last_purge(), queries.file_of()
                    self._last_poll_s = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, the gateway serves
                await _disconnect()
                failures += 1
                if failures > 2:  # before that, another worker may be creating them: the start waits for it
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
        except Exception as error:  # noqa: BLE001 - `find` reports it
            await _disconnect()
            for *_, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        self._reads.worked()
        for (*_, future), one in zip(asked, found, strict=True):
            if not future.done():
                future.set_result(one)

    async def _polling(self) -> None:
        """Poll for rows and purges of other workers and replicas."""
        while True:
            try:
                asking = asyncio.ensure_future(self._new_purges())
                if not (await asyncio.wait({asking}, timeout=PAUSE_S))[0]:
                    self._reads.failed(f"no answer within {PAUSE_S:g} s")
                purges = await asking
                if purges is None:
                    await self._start_over()
                    continue
                await self._poll_rows()
                now_s = time.monotonic()
                if now_s - self._last_poll_s > _SILENCE_S:
                    self._on_purge(Purge("all", "", time.time()))
                self._last_poll_s = now_s
                self._apply_purges(purges)
                self._reads.worked()
            except Exception as error:  # noqa: BLE001 - whatever is wrong, with the database or here, polling goes on
                await _disconnect()
                self._reads.failed(str(error))
                self.is_open = False  # its tables may be gone, too
                await asyncio.sleep(_POLL_S)
                await self._prepare(anew=False)
                continue
            if len(purges) < MOST_PURGES:  # else there are more
                await self._news.wait(_POLL_S)

    def _apply_purges(self, purges: Sequence[tuple[int, Purge]]) -> None:
        for number, purge in purges:
            self._last_purge = max(self._last_purge, number)
            if (number, purge.at_s) not in self._seen_purges:
                # By our own clock: that of another machine may differ. Responses requested in between are removed too.
                ours = replace(purge, at_s=time.time())
                self._on_purge(ours)
                self._unqueue_covered(ours)
                self._others_purges.append(ours)  # responses under way may have been written since
                self._has_work.set()
                self._seen_purges.add((number, purge.at_s))
        if len(self._others_purges) > _QUEUE_PURGES:  # nothing can be written
            self._others_purges = [Purge("all", "", max(purge.at_s for purge in self._others_purges))]
        self._seen_purges = {one for one in self._seen_purges if one[0] > self._last_purge - 2 * _OVERLAP}

    async def _new_purges(self) -> list[tuple[int, Purge]] | None:
        """Recent purges; None if the database was replaced: by another file, or by a backup with lower numbers than
        those seen."""
        if self._file != queries.file_of() or 0 < await queries.last_purge() < self._last_purge - _OVERLAP:
            return None
        return await queries.purges_since(self._last_purge - _OVERLAP)

    async def _start_over(self) -> None:
        """The database was replaced: forget everything about it. What is queued is written to the new one."""
        _log.warning("cache.store_replaced")
        self.is_open, self._is_written_elsewhere = False, True
        self._on_purge(Purge("all", "", time.time()))
        self._bloom_filter.clear()
        self._rows.clear()
        self._seen_purges.clear()
        self._last_purge_at_sweeps.clear()
        await _disconnect()
        await self._prepare(anew=True)

    async def _poll_rows(self) -> None:
        """Add the keys of new rows to the Bloom filter, and those of some polls ago again: transactions may commit in
        another order than their rows are numbered."""
        if self._new_rows > CAPACITY and self._bloom_filter.is_complete:
            self._bloom_filter.clear()
            self._rows.clear()
        if not self._rows:
            self._rows.append(await queries.last_stored() if self._bloom_filter.is_complete else 0)
        at, newest, found = self._rows[0], self._rows[-1], [(0, "")] * STORED_ROWS
        is_whole = at == 0
        while len(found) == STORED_ROWS:
            found = await queries.stored_since(at)
            for number, name in found:
                self._bloom_filter.add(name)
                self._new_rows += number > newest
            at = found[-1][0] if found else at
        self._rows.append(max(at, newest))
        if is_whole:  # only a poll that began with the first row has seen all of them
            self._bloom_filter.completed()
            self._new_rows = 0

    # -- writing --------------------------------------------------------------------------------------------------

    async def _write_loop(self) -> None:
        await self._opened.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S + _BATCH_S):
                    await self._has_work.wait()
            if not self.is_open:
                await asyncio.sleep(PAUSE_S)
                continue
            await self._urgent.wait(_BATCH_S)
            self._has_work.clear()
            try:
                if self._is_written_elsewhere:
                    await _disconnect()
                    self._is_written_elsewhere = False
                await self._purge()
                await self._write()
                await self._sweep()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the database, there is more to write
                await _disconnect()
                self._writes.failed(str(error))
                await asyncio.sleep(PAUSE_S)
                self._has_work.set()

    async def _purge(self) -> None:
        while self._purges or self._others_purges:
            lot, others = self._purges[:BATCH_ROWS], self._others_purges[:BATCH_ROWS]
            if lot:
                self._seen_purges |= await _publish([purge for purge, _ in lot])
                if len(self._seen_purges) > _QUEUE_REMOVALS:  # polling fails for long: then they are applied twice
                    self._seen_purges.clear()
            # A caller waits for the number of most purges, but not for that of unsafe methods, which may be many.
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
                await self._write_singly(batch)  # one of them cannot be stored: find out which
            self._has_grown = True
            for name, written in batch.items():
                if self._queue.get(name) is written:
                    self._unqueue(name)
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
        """Remove expired rows, and the oldest ones if the total is too large."""
        now_s = time.monotonic()
        is_due = now_s - self._swept_s >= _SWEEP_S
        if not is_due and self._size <= self._max_bytes:
            return
        self._swept_s = now_s
        if is_due:
            self._last_purge_at_sweeps.append(self._last_purge)
        is_long_ago = len(self._last_purge_at_sweeps) == self._last_purge_at_sweeps.maxlen
        await queries.remove_expired(self._last_purge_at_sweeps[0] if is_long_ago else 0, time.time() - _PURGES_KEPT_S)
        self._writes.worked()
        if self._has_grown:
            self._has_grown = False
            self._size = await queries.total_size()
            if self._size > self._max_bytes:
                await queries.remove_oldest(self._size - self._max_bytes * 9 // 10)
                self._size = await queries.total_size()


async def _on(executor: ThreadPoolExecutor, work: Callable[[], Awaitable[None]]) -> None:
    """Run `work` so that its ORM calls all use this executor's thread and its connection."""
    async with ThreadSensitiveContext(executor=executor):
        await work()


def _migrate() -> None:
    call_command("migrate", "gateway", verbosity=0, interactive=False, skip_checks=True)


_write, _publish = sync_to_async(queries.write), sync_to_async(queries.publish)


async def _disconnect() -> None:
    """Close the thread's connection; the next query opens a new one."""
    await sync_to_async(_close)()


def _close() -> None:
    with contextlib.suppress(Exception):
        connection.close()  # `connection` is that of the current thread
