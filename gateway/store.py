"""Stored answers in Django's database, through the async ORM on threads of its own.

Look-ups that arrive while another one runs share the next query; writes go behind the answers, many at a time. A
database that is slow, locked, full or gone costs hits, never a request: look-ups are given up after a moment and not
tried again for a second, writes are kept as long as there is room, and what is wrong is said once a minute.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import msgspec
import structlog
from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Max, Q, Sum

from gateway.headers import Pair
from gateway.memory import Key, Purge, digest, origin_and_target, variant
from gateway.models import CachedResponse, CachePurge
from gateway.storing import Entry, vary_values

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

_LOOK_UP_S = 0.25  # how long a request waits for the database at most
_PAUSE_S = 1.0  # after a failure
_OPEN_S = 5.0  # how long the start waits for the database at most
_CLOSE_S = 1.0  # and the stop
_GATHER_S = 0.02  # how long a write waits for others
_QUEUE_BYTES, _QUEUE_ROWS, _QUEUE_PURGES, _BATCH_ROWS = 16 * 2**20, 4000, 1000, 200
_POLL_S = 0.4  # how often the purges of others are asked for
_SWEEP_S = 10.0  # how often what is of no use any more is removed
_PURGES_KEPT_S = 600.0
_COMPLAIN_S = 60.0
_FAILURES = (DatabaseError, InterfaceError, OSError)


class Store:
    """A worker's way to the stored answers. `open` it in the loop that serves; `heard` is told purges of others."""

    def __init__(self, max_bytes: int, heard: Callable[[Purge], object]) -> None:
        self.is_open = False
        self._max_bytes = max_bytes
        self._heard = heard
        self._tasks: list[asyncio.Task[None]] = []
        self._executors: list[ThreadPoolExecutor] = []
        self._loop = asyncio.get_running_loop()
        self._opened = asyncio.Event()
        self._asked = asyncio.Event()
        self._waiting: list[tuple[str, Sequence[Pair], asyncio.Future[list[Entry]]]] = []
        self._queue: dict[str, tuple[Key, Entry]] = {}
        self._queue_bytes = 0
        self._forgotten: set[str] = set()
        self._purges: list[tuple[Purge, asyncio.Future[int]]] = []
        self._is_written = asyncio.Event()
        self._has_work = asyncio.Event()
        self._pause_until_s = 0.0
        self._complain_at_s = 0.0
        self._is_failing = False
        self._last_purge = 0
        self._swept_s = 0.0
        self._size = 0

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
                    await self._is_written.wait()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)

    # -- what the cache asks for ----------------------------------------------------------------------------------

    async def find(self, key: str, request: Sequence[Pair]) -> list[Entry] | None:
        """The stored answers of a key that match the request's fields; None where the database was not asked."""
        if not self.is_open or self._loop.time() < self._pause_until_s:
            return None
        future: asyncio.Future[list[Entry]] = self._loop.create_future()
        self._waiting.append((key, request, future))
        self._asked.set()
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                return await future
        except TimeoutError:
            self._failed("a look-up took too long")
        except _FAILURES as error:
            self._failed(str(error))
        return None

    def put(self, key: Key, entry: Entry) -> None:
        """Store an answer, soon. It is forgotten where more wait than there is room for."""
        name = variant(str(key), entry.vary, entry.values)
        self._take_out(name)
        self._queue[name] = (key, entry)
        self._queue_bytes += len(entry.body)
        while self._queue_bytes > _QUEUE_BYTES or len(self._queue) > _QUEUE_ROWS:
            self._take_out(next(iter(self._queue)))
        self._has_work.set()

    def forget(self, key: Key, entry: Entry) -> None:
        """Remove one answer, soon."""
        name = variant(str(key), entry.vary, entry.values)
        self._take_out(name)
        self._forgotten.add(name)
        self._has_work.set()

    def purge(self, purge: Purge) -> "asyncio.Future[int]":
        """Remove what a purge covers, and tell the others, soon; then how many stored answers that were."""
        for name, (key, entry) in list(self._queue.items()):
            if purge.covers(key, entry):
                self._take_out(name)
        done: asyncio.Future[int] = self._loop.create_future()
        self._purges.append((purge, done))
        if len(self._purges) > _QUEUE_PURGES:  # the database is away: nothing that should go may come back with it
            self._purges = [(Purge("all", "", purge.at_s), done)]
        self._has_work.set()
        return done

    def _take_out(self, name: str) -> tuple[Key, Entry] | None:
        found = self._queue.pop(name, None)
        if found is not None:
            self._queue_bytes -= len(found[1].body)
        return found

    # -- health ---------------------------------------------------------------------------------------------------

    def _failed(self, what: str) -> None:
        now_s = self._loop.time()
        self._pause_until_s = now_s + _PAUSE_S
        self._is_failing = True
        if now_s >= self._complain_at_s:
            self._complain_at_s = now_s + _COMPLAIN_S
            _log.warning("cache.store_failed", cause=what, hint="answers are kept in memory only until it works again")

    def _worked(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._complain_at_s = 0.0
            _log.info("cache.store_works")

    # -- reading --------------------------------------------------------------------------------------------------

    async def _reading(self) -> None:
        await self._until_prepared()
        keeper = asyncio.create_task(self._listening(), name="portway-cache-listen")
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                asked, self._waiting = self._waiting, []
                await self._answer(asked)
        finally:
            keeper.cancel()

    async def _until_prepared(self) -> None:
        while not self.is_open:
            try:
                await sync_to_async(_prepare)()
                self._last_purge = await _last_purge_id()
            except _FAILURES as error:
                await _disconnect()
                self._failed(str(error))
                self._opened.set()
                await asyncio.sleep(_PAUSE_S)
            else:
                self.is_open = True
                self._opened.set()
                self._worked()

    async def _answer(self, asked: Sequence[tuple[str, Sequence[Pair], "asyncio.Future[list[Entry]]"]]) -> None:
        asked = [one for one in asked if not one[2].done()]
        if not asked:
            return
        try:
            found = await _look_up([(key, request) for key, request, _ in asked])
        except _FAILURES as error:
            await _disconnect()
            for *_, future in asked:
                if not future.done():
                    future.set_exception(error)
            return
        self._worked()
        for (*_, future), entries in zip(asked, found, strict=True):
            if not future.done():
                future.set_result(entries)

    async def _listening(self) -> None:
        """Purges by others reach the memory of this worker; one of ours comes back, and does no harm."""
        while True:
            await asyncio.sleep(_POLL_S)
            try:
                async for row in CachePurge.objects.filter(id__gt=self._last_purge).order_by("id"):
                    self._last_purge = row.id
                    purge = Purge(row.kind, row.value, row.at_s)
                    self._heard(purge)
                    # What was under way when it was made may have been written since.
                    await _covered(purge).adelete()
            except _FAILURES as error:
                await _disconnect()
                self._failed(str(error))

    # -- writing --------------------------------------------------------------------------------------------------

    async def _writing(self) -> None:
        await self._opened.wait()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_S):
                    await self._has_work.wait()
            if not self.is_open:
                await asyncio.sleep(_PAUSE_S)
                continue
            await asyncio.sleep(_GATHER_S)
            self._has_work.clear()
            try:
                await self._write()
                await self._sweep()
            except _FAILURES as error:
                await _disconnect()
                self._failed(str(error))
                await asyncio.sleep(_PAUSE_S)
                self._has_work.set()

    async def _write(self) -> None:
        while self._purges:
            purge, done = self._purges[0]
            await CachePurge.objects.acreate(kind=purge.kind, value=purge.value, at_s=purge.at_s)
            removed, _ = await _covered(purge).adelete()
            self._purges = [one for one in self._purges if one[1] is not done]
            if not done.done():
                done.set_result(removed)
        if self._forgotten:
            forgotten, self._forgotten = self._forgotten, set()
            await CachedResponse.objects.filter(variant__in=forgotten).adelete()
        while self._queue:
            names = [name for name, _ in zip(self._queue, range(_BATCH_ROWS), strict=False)]
            batch = {name: self._queue[name] for name in names}
            rows = [_row(name, key, entry) for name, (key, entry) in batch.items()]
            await CachedResponse.objects.abulk_create(
                rows, update_conflicts=True, unique_fields=["variant"], update_fields=_UPDATED
            )
            self._size += sum(row.size for row in rows)
            for name, written in batch.items():
                if self._queue.get(name) is written:
                    self._take_out(name)
            self._worked()
        self._is_written.set()

    async def _sweep(self) -> None:
        """Remove what is of no use any more; and what was stored longest ago, where all is too large."""
        now_s = self._loop.time()
        is_due = now_s - self._swept_s >= _SWEEP_S
        if not is_due and self._size <= self._max_bytes:
            return
        self._swept_s = now_s
        await CachedResponse.objects.filter(useful_until_s__lt=time.time()).adelete()
        await CachePurge.objects.filter(at_s__lt=time.time() - _PURGES_KEPT_S).adelete()
        self._size = await _total_size()
        if self._size > self._max_bytes:
            over = self._size - self._max_bytes * 9 // 10
            async for ids, size in _oldest(over):
                await CachedResponse.objects.filter(id__in=ids).adelete()
                self._size -= size


async def _on(executor: ThreadPoolExecutor, work: Callable[[], Awaitable[None]]) -> None:
    """Every thread-sensitive call within runs on this one thread, with the connection that the thread has."""
    async with ThreadSensitiveContext(executor=executor):
        await work()


# -- queries ------------------------------------------------------------------------------------------------------

_UPDATED = [field.name for field in CachedResponse._meta.concrete_fields if field.name not in {"id", "variant"}]


def _prepare() -> None:
    """Make or change the tables. Several may do so at once: who comes second finds it done, or tries again."""
    for left in (3, 2, 1, 0):
        try:
            call_command("migrate", "gateway", verbosity=0, interactive=False, skip_checks=True)
        except _FAILURES:
            connection.close()
            if not left:
                raise
            time.sleep(0.2)
        else:
            return


async def _disconnect() -> None:
    """The next query makes a new connection."""
    with contextlib.suppress(Exception):
        await sync_to_async(connection.close)()


async def _last_purge_id() -> int:
    return (await CachePurge.objects.aaggregate(last=Max("id")))["last"] or 0


async def _total_size() -> int:
    return (await CachedResponse.objects.aaggregate(total=Sum("size")))["total"] or 0


async def _oldest(size: int) -> AsyncIterator[tuple[list[int], int]]:
    """The ids of what was stored longest ago, in lots, until they make up that many bytes."""
    lot: list[int] = []
    lot_size = 0
    async for row_id, row_size in CachedResponse.objects.order_by("received_s").values_list("id", "size"):
        lot.append(row_id)
        lot_size += row_size
        size -= row_size
        if len(lot) == _BATCH_ROWS or size <= 0:
            yield lot, lot_size
            lot, lot_size = [], 0
        if size <= 0:
            return


async def _look_up(asked: Sequence[tuple[str, Sequence[Pair]]]) -> list[list[Entry]]:
    """For each key the answers that match its request's fields: two queries, however many are asked for."""
    digests = [digest(key) for key, _ in asked]
    varies: dict[str, set[str]] = {}
    rows = CachedResponse.objects.filter(digest__in=set(digests)).values_list("digest", "vary").distinct()
    async for name, vary in rows:
        varies.setdefault(name, set()).add(vary)
    wanted = [
        [_variant_for(key, vary, request) for vary in varies.get(name, ())]
        for name, (key, request) in zip(digests, asked, strict=True)
    ]
    names = {name for several in wanted for name in several}
    found: dict[str, Entry] = {}
    if names:
        async for name, record, body in CachedResponse.objects.filter(variant__in=names).values_list(
            "variant", "record", "body"
        ):
            with contextlib.suppress(msgspec.DecodeError):  # of another version of ours
                found[name] = replace(_DECODER.decode(record), body=bytes(body))
    return [[found[name] for name in several if name in found] for several in wanted]


def _variant_for(key: str, vary: str, request: Sequence[Pair]) -> str:
    names = tuple(name.encode("latin-1") for name in vary.split(",") if name)
    return variant(key, names, vary_values(names, request))


_DECODER = msgspec.msgpack.Decoder(Entry)


def _row(name: str, key: Key, entry: Entry) -> CachedResponse:
    record = msgspec.msgpack.encode(replace(entry, body=b""))
    return CachedResponse(
        digest=digest(str(key)),
        variant=name,
        vary=",".join(name.decode("latin-1") for name in entry.vary),
        path_digest=digest(key.path),
        route=key.route,
        scheme=key.scheme,
        host=key.host,
        target=key.target,
        extra=key.extra,
        tags="".join(f" {tag}" for tag in entry.tags) + " ",
        requested_s=entry.requested_s,
        received_s=entry.received_s,
        useful_until_s=entry.useful_until_s,
        size=len(entry.body) + len(record) + len(key.target) + 500,
        record=record,
        body=entry.body,
    )


def _covered(purge: Purge) -> Any:
    """The rows that a purge is about."""
    rows = CachedResponse.objects.filter(requested_s__lte=purge.at_s)
    if purge.path is not None:
        scheme, host, target = origin_and_target(purge.value)
        rows = rows.filter(path_digest=digest(purge.path))
        if host:
            rows = rows.filter(scheme=scheme, host=host)
        return rows.filter(target=target) if "?" in target or purge.kind == "uri" else rows
    if purge.kind == "prefix":
        return rows.filter(target__startswith=purge.value)
    if purge.kind == "route":
        return rows.filter(route=purge.value)
    return rows if purge.kind == "all" else rows.filter(tags__contains=f" {purge.value} ")


# -- for the command: in its own process, without a loop --------------------------------------------------------------


def listing(route: str = "", host: str = "", prefix: str = "") -> Iterable[tuple[Key, Entry, int]]:
    """What is stored, by target: key, answer without its body, size of the body. Raises DatabaseError."""
    wanted = Q()
    for name, value in (("route", route), ("host", host), ("target__startswith", prefix)):
        wanted &= Q(**{name: value}) if value else Q()
    columns = ("route", "scheme", "host", "target", "extra", "record", "size")
    for *key, record, size in (
        CachedResponse.objects.filter(wanted).order_by("target", "id").values_list(*columns).iterator()
    ):
        with contextlib.suppress(msgspec.DecodeError):
            yield Key(*key), _DECODER.decode(record), size


def keys_at(route: str, target: str) -> list[Key]:
    """The keys of a route that something is stored under for this target, whatever their origin."""
    rows = CachedResponse.objects.filter(path_digest=digest(target.partition("?")[0]), route=route, target=target)
    return [Key(*row) for row in rows.values_list("route", "scheme", "host", "target", "extra").distinct()]


def variants(key: Key) -> list[Entry]:
    """Every stored answer of a key, without its body. Raises DatabaseError."""
    rows = CachedResponse.objects.filter(digest=digest(str(key))).values_list("record", flat=True)
    return [_DECODER.decode(record) for record in rows]


def purge_now(purge: Purge) -> int:
    """Make a purge and tell every worker; how many stored answers it removed. Raises DatabaseError."""
    CachePurge.objects.create(kind=purge.kind, value=purge.value, at_s=purge.at_s)
    removed, _ = _covered(purge).delete()
    return int(removed)
