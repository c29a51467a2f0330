"""Request coalescing: one call upstream serves several requests, and its response may be stored.

The call runs in a task of its own, so that a client that disconnects breaks no other request. When the last reader has
left, the call is cancelled.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Protocol

from django.http.response import HttpResponseBase

from gateway.cache import freshness, policy
from gateway.cache.policy import Entry, NotStored, Response, Rule
from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.headers import Pair, Pairs, first_of
from gateway.http.lifetime import Lifetime, current
from gateway.http.problem import error_of_view
from gateway.http.response import Body

# Overhead of a chunk object: an upstream may send single bytes.
_CHUNK_BYTES = 64
# The least that is buffered of a body, so that client and upstream need not run in lockstep.
_LEAST_BYTES = 256 * 1024
# How long faster readers of a body wait for each slower one, in total.
_PATIENCE_S = 1.0


@dataclass(slots=True)
class OriginResponse:
    """A response as the view gave it. `body` is None where only `response` knows how to send it."""

    status: int
    pairs: Pairs
    body: Body | None
    response: HttpResponseBase | None = None
    unnamed_vary: bool = False  # the view read request fields that Vary does not name


@dataclass(slots=True)
class CacheRequest:
    """A request to the cache. `produce(pairs, lifetime)` gets the response from the origin: it sends those field lines
    and runs for that lifetime."""

    key: str
    method: str
    pairs: Sequence[Pair]
    rule: Rule
    produce: Callable[[Pairs, Lifetime], Awaitable[OriginResponse]]
    lifetime: Lifetime  # of the client's request
    group: str = ""  # only requests of the same group are coalesced


class Storage(Protocol):
    """Where responses are stored. Bodies that are still coming in count in `bodies`."""

    bodies: Bodies
    time: Callable[[], float]

    def keep(self, key: str, entry: Entry) -> bool:
        """Store a response; False if it was purged while it was coming in."""

    def drop(self, key: str, entry: Entry) -> None:
        """Remove a stored response."""

    def remember(self, fetch: "SharedFetch", why: NotStored) -> None:
        """Responses to such calls are not stored: do not coalesce the next ones."""


@dataclass(slots=True)
class Uncacheable:
    """A response that is not stored. It goes to the request that started the call, which also releases it."""

    origin: OriginResponse
    why: NotStored


class SharedFetch:
    """The call. `outcome`, once known, is the Entry to store (its body may still be coming in), an Uncacheable
    response, or the exception that it failed with."""

    def __init__(self, request: CacheRequest, stale: Entry | None, storage: Storage) -> None:
        self.request = request
        self.lifetime = request.lifetime.child()
        self.outcome: Entry | Uncacheable | Exception | None = None
        self.is_shared = True  # whether other requests may still join
        self.was_validated = False
        self.is_kept = True  # False once storing it was refused
        self.streams = False  # the entry lacks its body, which a Reader gives
        self.pairs: Pairs = []  # as received: some of them are only for the request that started the call
        self._stale = stale
        self._storage, self._now = storage, storage.time
        self._readers: set[Reader] = set()
        self._leader: Reader | None = None
        self._chunks: deque[bytes] = deque()
        self._first = 0  # the number of the first chunk that is still buffered
        self._size = 0
        self._most_bytes = request.rule.max_body_bytes  # of the buffer
        self._gone_bytes, self._gone = 0, blake2b()  # size and digest of what was dropped from the buffer
        self._waiting: list[asyncio.Future[None]] = []
        self._ended = False
        self._error: Exception | None = None
        self.lifetime.task = self._task = asyncio.create_task(self._run(), name="portway-fetch")

    def join(self, *, reads: bool = True) -> "Reader":
        """Add a reader; call its `leave()` when done. The call is cancelled when the last reader leaves."""
        reader = Reader(self, reads=reads)
        self._leader = self._leader or reader
        self._readers.add(reader)
        return reader

    def remove(self, reader: "Reader") -> None:
        """Called by `Reader.leave`."""
        if reader in self._readers:
            self._readers.discard(reader)
            self._wake()
            if not self._readers:
                self._task.cancel()
            if self._ended:
                self._let_go_of_unread()

    def _let_go_of_unread(self) -> None:
        if not any(reader.reads for reader in self._readers):
            self._chunks.clear()
            self._storage.bodies.end(self.lifetime)
        if not self._readers:
            self._leader = None  # breaks a reference cycle

    def when_over(self, call: Callable[[], None]) -> None:
        """Add a callback for the end of the task."""
        self._task.add_done_callback(lambda _: call())

    @property
    def is_over(self) -> bool:
        return self._ended

    async def wait_end(self) -> None:
        """Wait for the end of the body. Raises what broke it off."""
        while not self._ended:
            await self._change()
        if self._error is not None:
            raise self._error

    async def wait_outcome(self) -> "Entry | Uncacheable":
        """Wait for the outcome. Raises the exception that the call failed with."""
        while self.outcome is None:
            await self._change()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    # -- the call -------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        current.set(self.lifetime)
        try:
            body = await self._begin()
            if isinstance(self.outcome, Entry):
                await self._take_in(self.outcome, body)
        except BaseException as error:  # noqa: BLE001 - a view may raise anything, and other requests wait for it
            self._error = self._failure(error)
        finally:
            self._ended = True
            self.is_shared = False
            if self.outcome is None:
                self.outcome = self._error
            self._wake()
            self._let_go_of_unread()
            self.lifetime.request = self.lifetime.task = None
            if not isinstance(self.outcome, Uncacheable) or self._leader not in self._readers:
                self.lifetime.let_go()

    def _failure(self, error: BaseException) -> GatewayError:
        """What broke the call off: an interruption or the last reader's leaving cancels it; else the view raised."""
        if isinstance(error, asyncio.CancelledError) and (self.lifetime.interruption or not self._readers):
            return self.lifetime.interruption or GatewayError(Reason.DRAIN_CUT)
        return error_of_view(error)

    async def _begin(self) -> Body:
        """Ask the origin and set the outcome. Returns the body that is still to be buffered, or nothing."""
        request, stale = self.request, self._stale
        origin, response = await self._ask(stale)
        if response.status == 304 and stale is not None and stale.can_be_validated:
            found = freshness.freshened(stale, response, request.rule)
            if found is not None:
                entry, why = found
                self.was_validated = True
                if why is None:
                    self.is_kept = self._storage.keep(request.key, entry)
                    self.outcome = entry
                else:
                    self._end(stale, response, why)
                    self.outcome = Uncacheable(OriginResponse(entry.status, [*entry.pairs], entry.body), why)
                    self.is_shared = False
                self._wake()
                return b""
            origin, response = await self._ask(None)
        why = self._why_not(origin, response)
        if why is None and origin.body is not None:
            entry = policy.entry_of(response, request.rule)
            self.pairs = origin.pairs
            if stale is not None and (stale.vary, stale.values) != (entry.vary, entry.values):
                self._storage.drop(request.key, stale)  # another variant: the new entry does not replace it
            if isinstance(origin.body, bytes):
                entry = _with_body(entry, origin.body)
                self.is_kept = self._storage.keep(request.key, entry)
            else:
                self.streams = True
            self.outcome = entry
            self._wake()
            return origin.body
        why = why or NotStored.STREAMS
        if stale is not None:
            self._end(stale, response, why)
        self.is_shared = False
        self.outcome = Uncacheable(origin, why)
        self._wake()
        return b""

    def _end(self, stale: Entry, response: Response, why: NotStored) -> None:
        """Remove the stale entry if this response, which is not stored, supersedes it."""
        if freshness.is_superseded(stale, response, why, self._now()):
            self._storage.drop(self.request.key, stale)

    async def _ask(self, stale: Entry | None) -> tuple[OriginResponse, Response]:
        request, requested_s = self.request, self._now()
        origin = await request.produce(freshness.validating(request.pairs, stale), self.lifetime)
        return origin, Response(request.method, request.pairs, origin.status, origin.pairs, requested_s, self._now())

    def _why_not(self, origin: OriginResponse, response: Response) -> NotStored | None:
        why = policy.refusal(response, self.request.rule)
        if why is not None:
            return why
        if self._stale is not None and freshness.stays_stored(self._stale, response, self.request.rule, self._now()):
            return NotStored.STATUS
        if origin.unnamed_vary:
            return NotStored.UNNAMED_VARY
        size = len(origin.body) if isinstance(origin.body, bytes) else _length(response.pairs)
        return NotStored.TOO_LARGE if size > self.request.rule.max_body_bytes else None

    # -- its body -------------------------------------------------------------------------------------------------

    async def _take_in(self, entry: Entry, body: Body) -> None:
        if isinstance(body, bytes):
            return
        bodies = self._storage.bodies
        try:
            async for chunk in body:
                size = len(chunk) + _CHUNK_BYTES
                if not bodies.has_room(size):  # no request is refused for that; the response is only not stored
                    self._most_bytes = min(self._most_bytes, _LEAST_BYTES)
                bodies.count(self.lifetime, size)
                self._chunks.append(chunk)
                self._size += len(chunk)
                self._wake()
                if self._size > self._most_bytes and not await self._has_room():
                    return
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        if self.is_shared:
            self._storage.keep(self.request.key, _with_body(entry, b"".join(self._chunks)))

    async def _has_room(self) -> bool:
        """The body is too large to be stored, or there is no room: stop sharing it, and wait until the buffer drains.

        True once readers have read enough; False if there is no reader.
        """
        if self.is_shared:
            self.is_shared = False
            if self._size > self.request.rule.max_body_bytes:  # lack of room says nothing about the next response
                self._storage.remember(self, NotStored.TOO_LARGE)
        while self._size > self._most_bytes:
            readers = [reader for reader in self._readers if reader.reads]
            if not readers:
                return False
            slowest = min(reader.number for reader in readers)
            self._drop_before(slowest, is_last=len(readers) == 1)
            if self._size > self._most_bytes:
                await self._wait_for([reader for reader in readers if reader.number == slowest], readers)
        return True

    def _drop_before(self, number: int, *, is_last: bool) -> None:
        while self._chunks and self._first < number:
            chunk = self._chunks.popleft()
            self._size -= len(chunk)
            self._storage.bodies.give(self.lifetime, len(chunk) + _CHUNK_BYTES)
            self._first += 1
            if not is_last:  # a single reader is never left behind
                self._gone_bytes += len(chunk)
                self._gone.update(chunk)

    async def _wait_for(self, slowest: "list[Reader]", readers: "list[Reader]") -> None:
        """Wait until something was read; drop readers that have held up faster ones for too long (see `read_on`)."""
        if len(slowest) == len(readers):
            await self._change()
            return
        end = self._first + len(self._chunks)
        behind = [reader for reader in readers if reader.number < end]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(reader.patience_s for reader in slowest)):
                await self._change()
        for reader in behind:
            reader.patience_s -= loop.time() - began_s
        for reader in slowest:  # but for one that has read meanwhile, and so has more than what is gone
            if reader.patience_s <= 0 and reader.number == self._first:
                reader.read_so_far = ReadSoFar(self._gone_bytes, self._gone.copy())
                self.remove(reader)

    def chunk(self, number: int) -> bytes | None:
        """Chunk `number` of the body, None if it has not arrived yet. Raises what broke the body off."""
        if number < self._first + len(self._chunks):
            return self._chunks[number - self._first]
        if self._ended and self._error is not None:
            raise self._error
        return None

    async def wait_more(self) -> None:
        """Wait for a change; returns at once if the call has ended."""
        if not self._ended:
            await self._change()

    def has_read(self) -> None:
        """Called by a reader that has taken a chunk."""
        if not self.is_shared:
            self._wake()

    async def _change(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)


class Reader:
    """One request's position in a shared body: `number` is the number of the next chunk."""

    __slots__ = ("_fetch", "number", "patience_s", "read_so_far", "reads")

    def __init__(self, fetch: SharedFetch, *, reads: bool) -> None:
        self._fetch = fetch
        self.number = 0
        self.reads = reads
        self.patience_s = _PATIENCE_S  # how much longer faster readers wait for it
        self.read_so_far: ReadSoFar | None = None  # set once it was dropped for being too slow

    @property
    def is_dropped(self) -> bool:
        return self.read_so_far is not None

    def leave(self) -> None:
        self._fetch.remove(self)

    async def read(self) -> AsyncIterator[bytes]:
        """The body as it comes in, up to its end or until this reader is dropped. Raises what broke it off."""
        fetch = self._fetch
        while not self.is_dropped:
            chunk = fetch.chunk(self.number)
            if chunk is not None:
                yield chunk
                self.number += 1
                if self.read_so_far is not None:
                    self.read_so_far.count(chunk)
                fetch.has_read()
            elif fetch.is_over:
                return
            else:
                await fetch.wait_more()


@dataclass(slots=True)
class ReadSoFar:
    """How much of a body a reader has received, and the digest of that."""

    size: int
    digest: "blake2b"

    def count(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.digest.update(chunk)


async def read_on(request: CacheRequest, reader: Reader) -> AsyncIterator[bytes]:
    """The body of a shared call; a reader that was dropped gets the rest by a call of its own.

    Raises what broke the body off, and GatewayError CLIENT_STALLED if the second body does not begin like the first.
    """
    async for chunk in reader.read():
        yield chunk
    if reader.read_so_far is None:
        return
    lifetime = request.lifetime.child()
    try:
        origin = await request.produce(freshness.validating(request.pairs, None), lifetime)
    except BaseException:
        lifetime.let_go()
        raise
    request.lifetime.take_over(lifetime)
    async with contextlib.aclosing(_in_pieces(origin.body)) as body:
        async for chunk in _after(reader.read_so_far, body):
            yield chunk


async def _in_pieces(body: Body | None) -> AsyncGenerator[bytes, None]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        async for chunk in body:
            yield chunk


async def _after(before: ReadSoFar, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The rest of a body after the part that was read already. Raises CLIENT_STALLED if it begins differently."""
    skipped = ReadSoFar(0, blake2b())
    async for chunk in body:
        rest = chunk[before.size - skipped.size :] if skipped.size < before.size else chunk
        if skipped.size < before.size:
            skipped.count(chunk[: before.size - skipped.size])
            if skipped.size == before.size and skipped.digest.digest() != before.digest.digest():
                raise GatewayError(Reason.CLIENT_STALLED)
        if rest:
            yield rest
    if skipped.size < before.size:
        raise GatewayError(Reason.CLIENT_STALLED)


def _length(pairs: Sequence[Pair]) -> int:
    """The value of Content-Length; 0 without one."""
    value = first_of(pairs, b"content-length") or b""
    return int(value) if value.isdigit() else 0


def _with_body(entry: Entry, body: bytes) -> Entry:
    """The entry with its body, and with a Content-Length if it had none."""
    if entry.status == 204 or any(name == b"content-length" for name, _ in entry.pairs):
        return replace(entry, body=body)
    return replace(entry, body=body, pairs=(*entry.pairs, (b"content-length", b"%d" % len(body))))
