"""The cache of one worker: memory first, the database behind it, and one call upstream for all who ask at once.

What may be stored and answered is decided in `storing` and `freshness`; here is what happens then.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING

import structlog

from gateway.cache import freshness
from gateway.cache.bloom_filter import Known
from gateway.cache.coalescing import Fill, Passed, Question, Seat, read_on
from gateway.cache.freshness import CONDITIONS, CREDENTIALS, NO_WISH, Use
from gateway.cache.keys import Key, Purge, digest
from gateway.cache.memory import Memory, Purges, Unstored, fingerprint
from gateway.cache.policy import Entry, Reply, Why, vary_values
from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.headers import Pair
from gateway.http.request import GatewayRequest
from gateway.http.response import Body

if TYPE_CHECKING:
    from gateway.cache.database import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# What will be so for the next answer too, as far as anybody can tell.
_LASTING = frozenset(Why) - {Why.REQUEST_NO_STORE, Why.RANGE, Why.METHOD, Why.PURGED}
# What it costs something to take in, although it is not stored in the end.
_PASSING = frozenset({Why.TOO_LARGE, Why.STREAMS})
_MOST_REVALIDATING = 200
_RETRY_S = 1.0  # after a revalidation in the background failed


Words = dict[str, str | int | bool | None]


@dataclass(slots=True)
class Served:
    """What the cache has to say: a stored answer, with its body or that body as it comes in; or one that was not
    stored. `words` are those of Cache-Status, `outcome` that of the log."""

    entry: Entry | None
    pairs: Sequence[Pair]
    body: Body
    passed: Passed | None
    outcome: str
    words: Words
    fill: Fill | None = None


class Cache:
    """One worker's. `start` it in the loop that serves; without `database` it is in memory only."""

    def __init__(
        self,
        memory_bytes: int,
        disk_bytes: int,
        bodies: Bodies | None = None,
        known: Known | None = None,
        *,
        stores_parts: bool = False,
    ) -> None:
        self.bodies = bodies or Bodies()
        self.memory = Memory(memory_bytes)
        self.in_use = False
        self._stores_parts = stores_parts  # whether parts or fetch() store answers
        self.store: Store | None = None
        self._disk_bytes = disk_bytes
        self._known = known or Known()  # several workers share one
        self._fills: dict[str, Fill] = {}
        self._purges = Purges()
        self._unstored = Unstored()
        self._revalidating: dict[str, asyncio.Task[None]] = {}
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database, if the disk may be used: for what caches. Waits for it, but not for long."""
        self.in_use = True
        if self.store is None and self._disk_bytes:
            from gateway.cache.database import (
                Store,  # Django's models need a set-up that who only imports views has not made
            )

            self.store = Store(self._disk_bytes, self._known, self._heard)
            await self.store.open()

    async def stop(self) -> None:
        for task in self._revalidating.values():
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self.store is not None:
            await self.store.aclose()

    def state(self) -> dict[str, int | str]:
        """What it holds, and whether its database works."""
        return {
            "memory_bytes": self.memory.size_bytes,
            "memory_max_bytes": self.memory.max_bytes,
            "memory_entries": len(self.memory),
            "database_bytes": 0 if self.store is None else self.store.size_bytes,
            "database": "not in use" if self.store is None else self.store.state,
        }

    # -- asking ---------------------------------------------------------------------------------------------------

    async def stored(
        self, question: Question, *, ask_database: bool = True
    ) -> tuple[Served | None, Entry | None, Words]:
        """A stored answer that may be used as it is; else the one that would have to be validated, and why nothing
        else can be said, in words of Cache-Status. Raises NOT_CACHED where the request wants nothing else."""
        if not self.in_use and self._opening is None:  # something caches that nobody told of
            self._opening = asyncio.create_task(self.start())
        wish = freshness.wish_of(question.pairs)
        entry, is_varied, was_skipped = await self._find(question, ask_database=ask_database)
        use = None if entry is None else freshness.use_of(entry, wish, time())
        if entry is not None and use in {Use.FRESH, Use.MAX_STALE, Use.WHILE_REVALIDATE}:
            if use is Use.WHILE_REVALIDATE:
                self._revalidate(question, entry)
            return hit(entry, None if use is Use.FRESH else use.value), entry, {}
        if wish.only_if_cached:
            raise GatewayError(Reason.NOT_CACHED)
        fwd = use.value if use is not None else "vary-miss" if is_varied else "uri-miss"
        return None, entry, {"fwd": fwd, "detail": "database-skipped" if was_skipped else None}

    async def answer(self, question: Question) -> tuple[Served | None, Words]:
        """What is stored if it may be used, else what the upstream says. Raises GatewayError, and what a view does.

        None where the answer to such a request was not stored, a moment ago, and need not be looked at again: the words
        are what is to be said of it.
        """
        why = self._unstored.why(self._shared_name(question), question.pairs, monotonic())
        served, entry, words = await self.stored(question, ask_database=why is None)
        if served is not None:
            return served, served.words
        if entry is None and why is not None and (why in _PASSING or _has_conditions(question.pairs)):
            return None, {**words, "detail": why.word}
        wish = freshness.wish_of(question.pairs)
        stands_in = False
        try:
            # Nobody waits for an answer that will hardly be stored; it is stored all the same, if it may be this time.
            served = await self._forward(question, entry, words, may_share=wish == NO_WISH and why is None)
        except GatewayError as error:
            is_failure = freshness.is_failure(error.status)
            stands_in = is_failure and entry is not None and freshness.may_stand_in(entry, wish, time())
            if not stands_in:
                raise
            if error.reason is Reason.VIEW_ERROR:  # nobody else would hear of it
                _log.warning("cache.stands_in", target=question.lifetime.exchange.path, cause=error.cause)
        else:
            if served.passed is not None and freshness.is_failure(served.passed.produced.status):
                stands_in = entry is not None and freshness.may_stand_in(entry, wish, time())
        if entry is None or not stands_in:
            assert served is not None  # noqa: S101 - it has been raised else
            return served, served.words
        if served is not None and served.fill is not None:
            served.fill.lifetime.let_go()
        served = hit(entry, "stale-if-error")
        return served, served.words

    async def _find(self, question: Question, *, ask_database: bool) -> tuple[Entry | None, bool, bool]:
        """The stored answer, whether only Vary kept one from being it, and whether the database was not asked."""
        entry, is_varied = freshness.chosen(self.memory.get(question.key), question.pairs)
        entry = entry and freshness.under(question.rule, entry)
        if (
            self.store is None
            or not ask_database
            or (entry is not None and (entry.always_validate or entry.lifetime_s <= 0))
        ):
            return entry, is_varied, False  # nobody else can have a fresher one
        if entry is not None and freshness.use_of(entry, NO_WISH, time()) is Use.FRESH:
            return entry, is_varied, False
        found = await self.store.find(question.key, question.pairs)
        if found is None:
            return entry, is_varied, True
        place = Key.of(question.key)
        others = [other for other in found.entries if not self._purges.cover(place, other, time())]
        for other in others:
            self.memory.put_back(question.key, other)
        # Beside what is in memory: it may have had no room there.
        entry, is_varied = freshness.chosen([*self.memory.get(question.key), *others], question.pairs)
        return entry and freshness.under(question.rule, entry), is_varied or found.has_others, False

    async def _forward(self, question: Question, entry: Entry | None, words: Words, *, may_share: bool) -> Served:
        """Ask the upstream, or join who does. A follower whose leader failed tries once itself; and one whose leader's
        answer is not for others joins those who are left, once."""
        name = self._shared_name(question)
        failed = disappointed = False
        while True:
            fill = self._fills.get(name) if may_share else None
            follows = fill is not None and fill.is_shared
            if fill is None or not follows:
                fill = Fill(question, entry, self)
                if may_share:
                    self._fills[name] = fill
                    fill.when_over(partial(self._forget_fill, name, fill))
            seat = fill.join()
            question.lifetime.closers.append(seat.leave)
            try:
                outcome = await fill.begun()
            except asyncio.CancelledError:
                seat.leave()
                if not follows and isinstance(fill.outcome, Passed):
                    fill.lifetime.let_go()
                raise
            except Exception as error:
                if not follows or failed or (isinstance(error, GatewayError) and error.status == 504):
                    if not follows:
                        question.lifetime.exchange.note(fill.lifetime.exchange)
                    raise
                failed = True
                seat.leave()
                continue
            if isinstance(outcome, Passed):
                if not follows:
                    if entry is None and outcome.why in _LASTING and outcome.produced.status < 400:
                        self.remember(fill, outcome.why)
                    question.lifetime.take_over(fill.lifetime)
                    words["detail"] = outcome.why.word
                    words["fwd-status"] = 304 if fill.was_validated else None
                    return Served(None, outcome.produced.pairs, b"", outcome, "miss", words, fill)
                is_like_it = fingerprint(question.pairs) == fingerprint(fill.question.pairs)
                may_share, disappointed = not (disappointed or is_like_it), True
                seat.leave()
                continue
            if follows and not self._may_follow(question, outcome):
                is_varied = freshness.chosen([outcome], question.pairs)[0] is not outcome
                may_share, disappointed = is_varied and not disappointed, True
                name = self._shared_name(question, outcome.vary)
                seat.leave()
                continue
            self._unstored.discard(name)
            return self._of_fill(question, fill, seat, outcome, words, follows=follows)

    def _may_follow(self, question: Question, entry: Entry) -> bool:
        """Whether somebody else's answer may be this one's too (RFC 9111, section 4)."""
        is_fresh = freshness.use_of(entry, NO_WISH, time()) is Use.FRESH
        return is_fresh and freshness.chosen([entry], question.pairs)[0] is entry

    def _forget_fill(self, name: str, fill: Fill) -> None:
        if self._fills.get(name) is fill:
            del self._fills[name]

    def _of_fill(
        self,
        question: Question,
        fill: Fill,
        seat: Seat,
        entry: Entry,
        words: Words,
        *,
        follows: bool,
    ) -> Served:
        if follows:
            words["collapsed"] = True
        else:
            question.lifetime.exchange.note(fill.lifetime.exchange)
        if fill.was_validated:
            words["fwd-status"] = 304
        elif not follows and fill.is_kept:
            words["stored"] = True
        elif not follows:
            words["detail"] = Why.PURGED.word
        outcome = "collapsed" if follows else "revalidated" if fill.was_validated else "miss"
        body = read_on(question, seat) if fill.streams else entry.body
        pairs = entry.pairs if follows or fill.was_validated else fill.pairs
        return Served(entry, pairs, body, None, outcome, words, fill)

    def _shared_name(self, question: Question, vary: Sequence[bytes] = ()) -> str:
        """What may wait for each other: not requests that differ in what answers are known to vary on, and not those
        with credentials for those without."""
        names = {*vary, *(name for entry in self.memory.get(question.key) for name in entry.vary)}
        has_credentials = any(name in CREDENTIALS for name, _ in question.pairs)
        if not names and not has_credentials and not question.group:
            return question.key
        values = vary_values(sorted(names), question.pairs)
        return digest(question.key, repr(values), str(has_credentials), question.group)

    def remember(self, fill: Fill, why: Why) -> None:
        """The answers of such calls are not stored: for a while nobody waits for them."""
        question = fill.question
        self._unstored.add(self._shared_name(question), question.pairs, why, monotonic())

    # -- in the background ----------------------------------------------------------------------------------------

    def _revalidate(self, question: Question, entry: Entry) -> None:
        name = self._shared_name(question)
        # Of more than so many at a time the rest stays stale until somebody asks again.
        if name not in self._revalidating and len(self._revalidating) < _MOST_REVALIDATING:
            task = asyncio.create_task(self._revalidated(name, question, entry), name="portway-revalidate")
            self._revalidating[name] = task

    async def _revalidated(self, name: str, question: Question, entry: Entry) -> None:
        try:
            fill = Fill(question, entry, self)
            seat = fill.join(reads=False)
            try:
                outcome = await fill.begun()
                if isinstance(outcome, Passed):
                    failure = None if outcome.produced.status < 500 else str(outcome.produced.status)
                else:
                    failure = None
                    await fill.ended()
            except Exception as error:  # noqa: BLE001 - of a view, or of the upstream: nobody waits for it
                failure = (error.cause or error.reason.word) if isinstance(error, GatewayError) else repr(error)
            finally:
                seat.leave()
                if isinstance(fill.outcome, Passed):
                    fill.lifetime.let_go()
            if failure is not None:
                _log.warning("cache.revalidation_failed", target=question.lifetime.exchange.path, cause=failure)
                await asyncio.sleep(_RETRY_S)
        finally:
            del self._revalidating[name]

    # -- keeping --------------------------------------------------------------------------------------------------

    def keep(self, key: str, entry: Entry) -> bool:
        """Store an answer; False where it was purged while it was under way."""
        place = Key.of(key)
        if self._purges.cover(place, entry, time()):
            return False
        self.memory.put(key, entry)
        if self.store is not None:
            self.store.put(place, entry)
        return True

    def drop(self, key: str, entry: Entry) -> None:
        """Forget an answer: the upstream has another word on it."""
        self.memory.drop(key, entry)
        if self.store is not None:
            self.store.forget(Key.of(key), entry)

    def after_head(self, question: Question, status: int, pairs: Sequence[Pair], requested_s: float) -> None:
        """What a HEAD that was forwarded says of the stored answer to a GET (RFC 9111, section 4.3.5)."""
        entry, _ = freshness.chosen(self.memory.get(question.key), question.pairs)
        if status != 200 or entry is None:
            return
        reply = Reply("HEAD", question.pairs, status, pairs, requested_s, time())
        updated = freshness.after_head(entry, reply, question.rule)
        if updated is None:
            self.drop(question.key, entry)
        else:
            self.keep(question.key, updated)

    # -- forgetting -----------------------------------------------------------------------------------------------

    async def purge(self, kind: str, value: str) -> int:
        """Forget what a purge covers, here and everywhere; how many stored answers that were."""
        purge = Purge(kind, value, time())
        count = self._heard(purge)
        _log.info("cache.purged", kind=kind, value=value)
        if self.store is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S):
                    count = max(count, await asyncio.shield(self.store.purge(purge)))
        return count

    def invalidate(self, url: str) -> None:
        """Forget what is stored of this URL: it was written to."""
        purge = Purge.of_url(url, time())
        self._heard(purge)
        if self.store is not None:
            self.store.purge(purge)

    async def part(self, question: Question) -> Served | None:
        """The answer to the call of a part or of `fetch()`; None as `answer` has it."""
        self._stores_parts = True
        return (await self.answer(question))[0]

    def written(self, upstream: str, target: str, status: int) -> None:
        """An unsafe method was sent to an upstream: what parts and fetch() stored of that URL goes."""
        if self._stores_parts and 200 <= status <= 399:
            self.invalidate(f"part://{upstream}{target}")

    def _heard(self, purge: Purge) -> int:
        self._purges.add(purge)
        for fill in self._fills.values():
            if purge.covers_key(Key.of(fill.question.key)):
                fill.is_shared = False  # who asks from now on must not get what was asked for before
        return self.memory.forget(purge, time())


def _has_conditions(pairs: Sequence[Pair]) -> bool:
    return any(name in CONDITIONS for name, _ in pairs)


def hit(entry: Entry, detail: str | None = None) -> Served:
    """A stored answer as it is served. `detail` says why although it is stale."""
    words: Words = {"hit": True, "ttl": ttl_s(entry, time()), "detail": detail}
    return Served(entry, entry.pairs, entry.body, None, "stale" if detail else "hit", words)


def ttl_s(entry: Entry, now_s: float) -> int:
    """Seconds that it stays fresh, with Age its lifetime; negative once it is stale."""
    return int(entry.lifetime_s) - int(entry.current_age_s(now_s))


def cache_for(request: GatewayRequest) -> Cache:
    """The cache of the worker that serves a request."""
    return request.services.cache  # type: ignore[return-value]  # `http` cannot know what a cache is
