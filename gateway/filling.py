"""One call upstream whose answer may be stored, and serve several requests while it still comes in.

It has a task of its own, so that a client that leaves fails nobody else; when the last one has left, it is cancelled.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from time import time
from typing import Protocol

from django.http.response import HttpResponseBase

from gateway import freshness, storing
from gateway.errors import GatewayError, Reason
from gateway.exchange import Exchange, current
from gateway.headers import Pair, Pairs
from gateway.messages import Body, error_of_view
from gateway.storing import Entry, Reply, Rule, Why


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
    """What is asked of the cache. `produce` asks the upstream instead, with these field lines, and writes into the
    notebook that it is given."""

    key: str
    method: str
    pairs: Sequence[Pair]
    rule: Rule
    produce: Callable[[Pairs, Exchange], Awaitable[Produced]]
    exchange: Exchange  # of the request that asks
    group: str = ""  # only questions of one group wait for each other


class Keeper(Protocol):
    """Where answers are stored."""

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
        self.exchange = question.exchange.child()
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
        self._waiting: list[asyncio.Future[None]] = []
        self._ended = False
        self._error: Exception | None = None
        self.exchange.task = self._task = asyncio.create_task(self._run(), name="portway-fill")

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
        current.set(self.exchange)
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
            self.exchange.request = self.exchange.task = None
            if not isinstance(self.outcome, Passed) or self._leader not in self._seats:
                self.exchange.let_go()

    def _failure(self, error: BaseException) -> GatewayError:
        """What broke the call off. Who interrupts it cancels it, and the last one that leaves: else its view did."""
        if isinstance(error, asyncio.CancelledError) and (self.exchange.interruption or not self._seats):
            return self.exchange.interruption or GatewayError(Reason.DRAIN_CUT)
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
            entry = storing.entry_of(reply, question.rule)
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
        produced = await question.produce(freshness.validating(question.pairs, stale), self.exchange)
        return produced, Reply(question.method, question.pairs, produced.status, produced.pairs, requested_s, time())

    def _why_not(self, produced: Produced, reply: Reply) -> Why | None:
        why = storing.refusal(reply, self.question.rule)
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
        try:
            async for chunk in body:
                self._chunks.append(chunk)
                self._size += len(chunk)
                self._wake()
                if self._size > self.question.rule.max_body_bytes and not await self._has_room():
                    return
        finally:
            close = getattr(body, "aclose", None)
            if close is not None:
                await close()
        if self.is_shared:
            self._keeper.keep(self.question.key, _with_body(entry, b"".join(self._chunks)))

    async def _has_room(self) -> bool:
        """It has become too large to be stored: from now on nobody joins it, and no more of it is held than that.

        True once its readers have read enough; False where nobody reads it.
        """
        if self.is_shared:
            self.is_shared = False
            self._keeper.remember(self, Why.TOO_LARGE)
        while self._size > self.question.rule.max_body_bytes:
            readers = [seat.number for seat in self._seats if seat.reads]
            if not readers:
                return False
            while self._chunks and self._first < min(readers):
                self._size -= len(self._chunks.popleft())
                self._first += 1
            if self._size > self.question.rule.max_body_bytes:
                await self._change()
        return True

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

    __slots__ = ("_fill", "number", "reads")

    def __init__(self, fill: Fill, *, reads: bool) -> None:
        self._fill = fill
        self.number = 0
        self.reads = reads

    def leave(self) -> None:
        self._fill.left(self)

    async def read(self) -> AsyncIterator[bytes]:
        """The body as it comes in. Raises what broke it off."""
        fill = self._fill
        while True:
            chunk = fill.chunk(self.number)
            if chunk is not None:
                yield chunk
                self.number += 1
                fill.took()
            elif fill.is_over:
                return
            else:
                await fill.more()


def _length(pairs: Sequence[Pair]) -> int:
    """What Content-Length says; 0 where it says nothing."""
    said = next((value for name, value in pairs if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _with_body(entry: Entry, body: bytes) -> Entry:
    """The entry whole. A body that came without its length has one now."""
    if entry.status == 204 or any(name == b"content-length" for name, _ in entry.pairs):
        return replace(entry, body=body)
    return replace(entry, body=body, pairs=(*entry.pairs, (b"content-length", b"%d" % len(body))))
