"""One call upstream whose answer may be stored, and serve several requests while it still comes in.

It has a task of its own, so that a client that leaves fails nobody else; when the last one has left, it is cancelled.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from time import time
from typing import Protocol

from django.http.response import HttpResponseBase

from gateway.cache import freshness, policy
from gateway.cache.policy import Entry, Reply, Rule, Why
from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.headers import Pair, Pairs
from gateway.http.lifetime import Lifetime, current
from gateway.http.problem import error_of_view
from gateway.http.response import Body

# What a chunk costs as an object: an upstream may send them by the byte.
_CHUNK_BYTES = 64
# What is held at least of a body on its way, so that a client and an upstream need not wait for each other.
_LEAST_BYTES = 256 * 1024
# How long those who read a body together wait for each that is behind, in all.
_PATIENCE_S = 1.0


@dataclass(slots=True)
class Produced:
    """An answer as it came. `body` is None where only `response` knows how to send it."""

    status: int
    pairs: Pairs
    body: Body | None
    response: HttpResponseBase | None = None
    unnamed_vary: bool = False  # its view read fields of the request and names none in Vary


@dataclass(slots=True)
class Question:
    """What is asked of the cache. `produce` asks the upstream instead, with these field lines, for the lifetime that
    it is given."""

    key: str
    method: str
    pairs: Sequence[Pair]
    rule: Rule
    produce: Callable[[Pairs, Lifetime], Awaitable[Produced]]
    lifetime: Lifetime  # of the request that asks
    group: str = ""  # only questions of one group wait for each other


class Keeper(Protocol):
    """Where answers are stored. What is on its way there counts in `bodies`."""

    bodies: Bodies

    def keep(self, key: str, entry: Entry) -> bool:
        """Store an answer; False where it was purged while it was under way."""

    def drop(self, key: str, entry: Entry) -> None:
        """Forget one."""

    def remember(self, fill: "Fill", why: Why) -> None:
        """The answers of such calls are not stored: nobody should wait for them."""


@dataclass(slots=True)
class Passed:
    """An answer that is not stored: for the one who asked first, who lets go of it too."""

    produced: Produced
    why: Why


class Fill:
    """The call. `outcome` is, once it is known, the Entry that it makes (its body perhaps still to come), an answer
    that is not stored, or how it failed."""

    def __init__(self, question: Question, stale: Entry | None, keeper: Keeper) -> None:
        self.question = question
        self.lifetime = question.lifetime.child()
        self.outcome: Entry | Passed | Exception | None = None
        self.is_shared = True  # whether others may still join it
        self.was_validated = False
        self.is_kept = True  # as far as is known
        self.streams = False  # the outcome lacks its body, which is read from a seat
        self.pairs: Pairs = []  # as they came: some of them are for who asked first only
        self._stale = stale
        self._keeper = keeper
        self._seats: set[Seat] = set()
        self._leader: Seat | None = None
        self._chunks: deque[bytes] = deque()
        self._first = 0  # the number of the first chunk that is still here
        self._size = 0
        self._most_bytes = question.rule.max_body_bytes  # that are held
        self._gone_bytes, self._gone = 0, blake2b()  # what is held no more: how much, and its digest
        self._waiting: list[asyncio.Future[None]] = []
        self._ended = False
        self._error: Exception | None = None
        self.lifetime.task = self._task = asyncio.create_task(self._run(), name="portway-fill")

    def join(self, *, reads: bool = True) -> "Seat":
        """Take part; leave the seat when done with it. The last one that leaves ends the call."""
        seat = Seat(self, reads=reads)
        self._leader = self._leader or seat
        self._seats.add(seat)
        return seat

    def left(self, seat: "Seat") -> None:
        """Called by a seat."""
        if seat in self._seats:
            self._seats.discard(seat)
            self._wake()
            if not self._seats:
                self._task.cancel()
            if self._ended:
                self._let_go_of_unread()

    def _let_go_of_unread(self) -> None:
        if not any(seat.reads for seat in self._seats):
            self._chunks.clear()
            self._keeper.bodies.end(self.lifetime)
        if not self._seats:
            self._leader = None  # it holds this

    def when_over(self, call: Callable[[], None]) -> None:
        """Have something called at the end of it all."""
        self._task.add_done_callback(lambda _: call())

    @property
    def is_over(self) -> bool:
        return self._ended

    async def ended(self) -> None:
        """Returns once nothing more can come. Raises what broke it off."""
        while not self._ended:
            await self._change()
        if self._error is not None:
            raise self._error

    async def begun(self) -> "Entry | Passed":
        """The outcome, once it is known. Raises the failure."""
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
        except BaseException as error:  # noqa: BLE001 - of a view: whatever it is, others wait for it
            self._error = self._failure(error)
        finally:
            self._ended = True
            self.is_shared = False
            if self.outcome is None:
                self.outcome = self._error
            self._wake()
            self._let_go_of_unread()
            self.lifetime.request = self.lifetime.task = None
            if not isinstance(self.outcome, Passed) or self._leader not in self._seats:
                self.lifetime.let_go()

    def _failure(self, error: BaseException) -> GatewayError:
        """What broke the call off. Who interrupts it cancels it, and the last one that leaves: else its view did."""
        if isinstance(error, asyncio.CancelledError) and (self.lifetime.interruption or not self._seats):
            return self.lifetime.interruption or GatewayError(Reason.DRAIN_CUT)
        return error_of_view(error)

    async def _begin(self) -> Body:
        """Ask, and find out what comes of it. The body, where there is one to take in."""
        question, stale = self.question, self._stale
        produced, reply = await self._ask(stale)
        if reply.status == 304 and stale is not None and stale.can_be_validated:
            found = freshness.freshened(stale, reply, question.rule)
            if found is not None:
                entry, why = found
                self.was_validated = True
                if why is None:
                    self.is_kept = self._keeper.keep(question.key, entry)
                    self.outcome = entry
                else:
                    self._end(stale, reply, why)
                    self.outcome = Passed(Produced(entry.status, [*entry.pairs], entry.body), why)
                    self.is_shared = False
                self._wake()
                return b""
            produced, reply = await self._ask(None)
        why = self._why_not(produced, reply)
        if why is None and produced.body is not None:
            entry = policy.entry_of(reply, question.rule)
            self.pairs = produced.pairs
            if stale is not None and (stale.vary, stale.values) != (entry.vary, entry.values):
                self._keeper.drop(question.key, stale)  # the new one does not take its place by itself
            if isinstance(produced.body, bytes):
                entry = _with_body(entry, produced.body)
                self.is_kept = self._keeper.keep(question.key, entry)
            else:
                self.streams = True
            self.outcome = entry
            self._wake()
            return produced.body
        why = why or Why.STREAMS
        if stale is not None:
            self._end(stale, reply, why)
        self.is_shared = False
        self.outcome = Passed(produced, why)
        self._wake()
        return b""

    def _end(self, stale: Entry, reply: Reply, why: Why) -> None:
        """Forget what is stored, if an answer that is not says so."""
        if freshness.ends(stale, reply, why, time()):
            self._keeper.drop(self.question.key, stale)

    async def _ask(self, stale: Entry | None) -> tuple[Produced, Reply]:
        question, requested_s = self.question, time()
        produced = await question.produce(freshness.validating(question.pairs, stale), self.lifetime)
        return produced, Reply(question.method, question.pairs, produced.status, produced.pairs, requested_s, time())

    def _why_not(self, produced: Produced, reply: Reply) -> Why | None:
        why = policy.refusal(reply, self.question.rule)
        if why is not None:
            return why
        if self._stale is not None and freshness.stands(self._stale, reply, self.question.rule, time()):
            return Why.STATUS
        if produced.unnamed_vary:
            return Why.UNNAMED_VARY
        size = len(produced.body) if isinstance(produced.body, bytes) else _length(reply.pairs)
        return Why.TOO_LARGE if size > self.question.rule.max_body_bytes else None

    # -- its body -------------------------------------------------------------------------------------------------

    async def _take_in(self, entry: Entry, body: Body) -> None:
        if isinstance(body, bytes):
            return
        bodies = self._keeper.bodies
        try:
            async for chunk in body:
                size = len(chunk) + _CHUNK_BYTES
                if not bodies.has_room(size):  # nobody is refused for that: it only is not stored
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
            self._keeper.keep(self.question.key, _with_body(entry, b"".join(self._chunks)))

    async def _has_room(self) -> bool:
        """It is not stored, too large or for want of room: from now on nobody joins it, and no more of it is held.

        True once its readers have read enough; False where nobody reads it.
        """
        if self.is_shared:
            self.is_shared = False
            if self._size > self.question.rule.max_body_bytes:  # want of room says nothing of the next answer
                self._keeper.remember(self, Why.TOO_LARGE)
        while self._size > self._most_bytes:
            readers = [seat for seat in self._seats if seat.reads]
            if not readers:
                return False
            slowest = min(seat.number for seat in readers)
            self._drop_before(slowest, is_last=len(readers) == 1)
            if self._size > self._most_bytes:
                await self._wait_for([seat for seat in readers if seat.number == slowest], readers)
        return True

    def _drop_before(self, number: int, *, is_last: bool) -> None:
        while self._chunks and self._first < number:
            chunk = self._chunks.popleft()
            self._size -= len(chunk)
            self._keeper.bodies.give(self.lifetime, len(chunk) + _CHUNK_BYTES)
            self._first += 1
            if not is_last:  # who is alone is never left behind
                self._gone_bytes += len(chunk)
                self._gone.update(chunk)

    async def _wait_for(self, slowest: "list[Seat]", readers: "list[Seat]") -> None:
        """Wait until something was read. Who is behind others has so much of their time in all; then he goes on by
        himself."""
        if len(slowest) == len(readers):
            await self._change()
            return
        end = self._first + len(self._chunks)
        behind = [seat for seat in readers if seat.number < end]
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seat.patience_s for seat in slowest)):
                await self._change()
        for seat in behind:
            seat.patience_s -= loop.time() - began_s
        for seat in slowest:
            if seat.patience_s <= 0:
                seat.left_at = LeftAt(self._gone_bytes, self._gone.copy())
                self.left(seat)

    def chunk(self, number: int) -> bytes | None:
        """That chunk of the body, if it is here already. Raises what broke the body off."""
        if number < self._first + len(self._chunks):
            return self._chunks[number - self._first]
        if self._ended and self._error is not None:
            raise self._error
        return None

    async def more(self) -> None:
        """Returns when something has changed; at once where nothing will."""
        if not self._ended:
            await self._change()

    def took(self) -> None:
        """Called by a seat that has read on."""
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


class Seat:
    """One who takes part in a call. `number` is that of the chunk that it reads next."""

    __slots__ = ("_fill", "left_at", "number", "patience_s", "reads")

    def __init__(self, fill: Fill, *, reads: bool) -> None:
        self._fill = fill
        self.number = 0
        self.reads = reads
        self.patience_s = _PATIENCE_S  # that others have with it
        self.left_at: LeftAt | None = None  # it was too slow for them

    @property
    def is_left(self) -> bool:
        return self.left_at is not None

    def leave(self) -> None:
        self._fill.left(self)

    async def read(self) -> AsyncIterator[bytes]:
        """The body as it comes in, or what of it came before the others went on. Raises what broke it off."""
        fill = self._fill
        while not self.is_left:
            chunk = fill.chunk(self.number)
            if chunk is not None:
                yield chunk
                self.number += 1
                if self.left_at is not None:
                    self.left_at.pass_by(chunk)
                fill.took()
            elif fill.is_over:
                return
            else:
                await fill.more()


@dataclass(slots=True)
class LeftAt:
    """How much of a body a reader has had, and the digest of that."""

    size: int
    digest: "blake2b"

    def pass_by(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.digest.update(chunk)


async def read_on(question: Question, seat: Seat) -> AsyncIterator[bytes]:
    """The body of a call that others take part in; by a call of its own from where it became too slow for them.

    Raises what broke it off, and GatewayError CLIENT_STALLED where what comes now is not what came before.
    """
    async for chunk in seat.read():
        yield chunk
    if seat.left_at is None:
        return
    lifetime = question.lifetime.child()
    try:
        produced = await question.produce(freshness.validating(question.pairs, None), lifetime)
    except BaseException:
        lifetime.let_go()
        raise
    question.lifetime.take_over(lifetime)
    async with contextlib.aclosing(_in_pieces(produced.body)) as body:
        async for chunk in _after(seat.left_at, body):
            yield chunk


async def _in_pieces(body: Body | None) -> AsyncGenerator[bytes, None]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        async for chunk in body:
            yield chunk


async def _after(left: LeftAt, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What of a body comes after the part that was had already, if it begins with that part."""
    had = LeftAt(0, blake2b())
    async for chunk in body:
        rest = chunk[left.size - had.size :] if had.size < left.size else chunk
        if had.size < left.size:
            had.pass_by(chunk[: left.size - had.size])
            if had.size == left.size and had.digest.digest() != left.digest.digest():
                raise GatewayError(Reason.CLIENT_STALLED)
        if rest:
            yield rest
    if had.size < left.size:
        raise GatewayError(Reason.CLIENT_STALLED)


def _length(pairs: Sequence[Pair]) -> int:
    """What Content-Length says; 0 where it says nothing."""
    said = next((value for name, value in pairs if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _with_body(entry: Entry, body: bytes) -> Entry:
    """The entry whole. A body that came without its length has one now."""
    if entry.status == 204 or any(name == b"content-length" for name, _ in entry.pairs):
        return replace(entry, body=body)
    return replace(entry, body=body, pairs=(*entry.pairs, (b"content-length", b"%d" % len(body))))
