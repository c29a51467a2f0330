"""One call upstream whose answer may be stored, and serve several requests while it still comes in.

It has a task of its own, so that a client that leaves fails nobody else; when the last one has left, it is cancelled.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import time
from typing import Protocol

from django.http.response import HttpResponseBase

from gateway import freshness, storing
from gateway.errors import GatewayError, Reason
from gateway.exchange import Exchange, current
from gateway.headers import Pair, Pairs
from gateway.messages import Body
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


class Keeper(Protocol):
    """Where answers are stored."""

    def keep(self, key: str, entry: Entry) -> None:
        """Store an answer."""

    def drop(self, key: str, entry: Entry) -> None:
        """Forget one."""


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
        self.pairs: Pairs = []  # as they came: some of them are for who asked first only
        self._stale = stale
        self._keeper = keeper
        self._users: set[object] = set()
        self._unattended: set[object] = set()  # those who do not read
        self._chunks: deque[bytes] = deque()
        self._first = 0  # the number of the first chunk that is still here
        self._size = 0
        self._places: dict[object, int] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._ended = False
        self._error: Exception | None = None
        self.exchange.task = self._task = asyncio.create_task(self._run(), name="portway-fill")

    def join(self, *, reads: bool = True) -> Callable[[], None]:
        """Take part; call what it returns when done with it. The last one that leaves ends the call."""
        user = object()
        self._users.add(user)
        if not reads:
            self._unattended.add(user)
        return partial(self._leave, user)

    def _leave(self, user: object) -> None:
        if user not in self._users:
            return
        self._users.discard(user)
        self._unattended.discard(user)
        self._wake()
        if not self._users:
            self._task.cancel()

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
        except asyncio.CancelledError:
            self._error = self.exchange.interruption or GatewayError(Reason.DRAIN_CUT)
        except Exception as error:  # noqa: BLE001 - of a view: it is the asker's to translate
            self._error = error
        finally:
            self._ended = True
            self.is_shared = False
            if self.outcome is None:
                self.outcome = self._error
            self._wake()
            self.exchange.request = self.exchange.task = None
            if not isinstance(self.outcome, Passed):
                self.exchange.let_go()

    async def _begin(self) -> Body:
        """Ask, and find out what comes of it. The body, where there is one to take in."""
        question, stale = self.question, self._stale
        produced, reply = await self._ask(stale)
        if reply.status == 304 and stale is not None:
            found = freshness.freshened(stale, reply, question.rule)
            if found is not None:
                entry, why = found
                self.was_validated = True
                if why is None:
                    self._keeper.keep(question.key, entry)
                    self.outcome = entry
                else:
                    self._keeper.drop(question.key, stale)
                    self.outcome = Passed(Produced(entry.status, [*entry.pairs], entry.body), why)
                    self.is_shared = False
                self._wake()
                return b""
            produced, reply = await self._ask(None)
        why = self._why_not(produced, reply)
        if why is None and produced.body is not None:
            entry = storing.entry_of(reply, question.rule)
            self.pairs = produced.pairs
            if isinstance(produced.body, bytes):
                entry = _with_body(entry, produced.body)
                self._keeper.keep(question.key, entry)
            self.outcome = entry
            self._wake()
            return produced.body
        if stale is not None and reply.status < 500:
            self._keeper.drop(question.key, stale)  # the upstream has another word on it now
        self.is_shared = False
        self.outcome = Passed(produced, why or Why.STREAMS)
        self._wake()
        return b""

    async def _ask(self, stale: Entry | None) -> tuple[Produced, Reply]:
        question, requested_s = self.question, time()
        produced = await question.produce(freshness.validating(question.pairs, stale), self.exchange)
        return produced, Reply(question.method, question.pairs, produced.status, produced.pairs, requested_s, time())

    def _why_not(self, produced: Produced, reply: Reply) -> Why | None:
        why = storing.refusal(reply, self.question.rule)
        if why is not None:
            return why
        if self._stale is not None and freshness.is_failure(reply.status):
            return Why.STATUS  # what is stored may have to stand in for it
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
        self.is_shared = False
        while self._size > self.question.rule.max_body_bytes:
            if self._users == self._unattended:
                return False
            read = min(self._places.values(), default=0)
            while self._chunks and self._first < read:
                self._size -= len(self._chunks.popleft())
                self._first += 1
            if self._size > self.question.rule.max_body_bytes:
                await self._change()
        return True

    async def read(self) -> AsyncIterator[bytes]:
        """The body as it comes in, for one of those who share it. Raises what broke it off."""
        place = object()
        number = self._places[place] = self._first
        try:
            while True:
                while number < self._first + len(self._chunks):
                    chunk = self._chunks[number - self._first]
                    yield chunk
                    number += 1
                    self._places[place] = number
                    if not self.is_shared:
                        self._wake()
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return
                await self._change()
        finally:
            del self._places[place]
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


def _length(pairs: Sequence[Pair]) -> int:
    """What Content-Length says; 0 where it says nothing."""
    said = next((value for name, value in pairs if name == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _with_body(entry: Entry, body: bytes) -> Entry:
    """The entry whole. A body that came without its length has one now."""
    if entry.status == 204 or any(name == b"content-length" for name, _ in entry.pairs):
        return replace(entry, body=body)
    return replace(entry, body=body, pairs=(*entry.pairs, (b"content-length", b"%d" % len(body))))
