"""The cache of one worker: memory first, the database behind it, and one call upstream for all who ask at once.

What may be stored and answered is decided in `storing` and `freshness`; here is what happens then.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

import structlog

from gateway import freshness
from gateway.config import Settings
from gateway.errors import GatewayError, Reason
from gateway.filling import Fill, Passed, Question
from gateway.freshness import CREDENTIALS, NO_WISH, Use, Wish
from gateway.headers import Pair
from gateway.memory import Key, Memory, Purge, Purges
from gateway.messages import Body
from gateway.storing import Entry, Reply, Why, vary_values

_UNSTORED_S, _UNSTORED_KEYS = 10.0, 10_000
if TYPE_CHECKING:
    from gateway.store import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

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

    def __init__(self, settings: Settings) -> None:
        self.memory = Memory(settings.cache_memory_bytes // settings.workers)
        self.in_use = False
        self.store: Store | None = None
        self._disk_bytes = settings.cache_disk_bytes
        self._fills: dict[str, Fill] = {}
        self._purges = Purges()
        self._unstored: OrderedDict[str, tuple[float, Why]] = OrderedDict()  # until when, and why
        self._revalidating: dict[str, asyncio.Task[None]] = {}
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database, if the disk may be used: for what caches. Waits for it, but not for long."""
        self.in_use = True
        if self.store is None and self._disk_bytes:
            from gateway.store import Store  # Django's models need a set-up that who only imports views has not made

            self.store = Store(self._disk_bytes, self._heard)
            await self.store.open()

    async def stop(self) -> None:
        for task in self._revalidating.values():
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self.store is not None:
            await self.store.aclose()

    # -- asking ---------------------------------------------------------------------------------------------------

    async def stored(self, question: Question) -> tuple[Served | None, Entry | None, Words]:
        """A stored answer that may be used as it is; else the one that would have to be validated, and why nothing
        else can be said, in words of Cache-Status. Raises NOT_CACHED where the request wants nothing else."""
        if not self.in_use and self._opening is None:  # something caches that nobody told of
            self._opening = asyncio.create_task(self.start())
        wish = freshness.wish_of(question.pairs)
        entry, is_varied, was_skipped = await self._find(question)
        use = None if entry is None else freshness.use_of(entry, wish, time())
        if entry is not None and use in {Use.FRESH, Use.MAX_STALE, Use.WHILE_REVALIDATE}:
            if use is Use.WHILE_REVALIDATE:
                self._revalidate(question, entry)
            return hit(entry, None if use is Use.FRESH else use.value), entry, {}
        if wish.only_if_cached:
            raise GatewayError(Reason.NOT_CACHED)
        fwd = use.value if use is not None else "vary-miss" if is_varied else "uri-miss"
        return None, entry, {"fwd": fwd, "detail": "database-skipped" if was_skipped else None}

    async def answer(self, question: Question) -> Served:
        """What is stored if it may be used, else what the upstream says. Raises GatewayError, and what a view does."""
        served, entry, words = await self.stored(question)
        if served is not None:
            return served
        wish = freshness.wish_of(question.pairs)
        stands_in = False
        try:
            served = await self._forward(question, entry, wish, words)
        except GatewayError:
            stands_in = entry is not None and freshness.may_stand_in(entry, wish, time())
            if not stands_in:
                raise
        else:
            if served.passed is not None and freshness.is_failure(served.passed.produced.status):
                stands_in = entry is not None and freshness.may_stand_in(entry, wish, time())
        if entry is None or not stands_in:
            assert served is not None  # noqa: S101 - it has been raised else
            return served
        if served is not None and served.fill is not None:
            served.fill.exchange.let_go()
        return hit(entry, "stale-if-error")

    async def _find(self, question: Question) -> tuple[Entry | None, bool, bool]:
        """The stored answer, whether only Vary kept one from being it, and whether the database was not asked."""
        entry, is_varied = freshness.chosen(self.memory.get(question.key), question.pairs)
        entry = entry and freshness.under(question.rule, entry)
        if self.store is None or (entry is not None and freshness.use_of(entry, NO_WISH, time()) is Use.FRESH):
            return entry, is_varied, False
        found = await self.store.find(question.key, question.pairs)
        if found is None:
            return entry, is_varied, True
        for other in found:
            if not self._purges.cover(Key.of(question.key), other):
                self.memory.put(question.key, other)
        entry, is_varied = freshness.chosen(self.memory.get(question.key) or found, question.pairs)
        return entry and freshness.under(question.rule, entry), is_varied, False

    async def _forward(self, question: Question, entry: Entry | None, wish: Wish, words: Words) -> Served:
        """Ask the upstream, or join who does. A follower whose leader failed tries once itself."""
        stale = entry if entry is not None and entry.can_be_validated else None
        name = self._shared_name(question)
        may_share = wish == NO_WISH
        failed = False
        while True:
            fill = self._fills.get(name) if may_share else None
            follows = fill is not None and fill.is_shared
            if fill is None or not follows:
                fill = Fill(question, stale, self)
                if may_share:
                    self._fills[name] = fill
            leave = fill.join()
            question.exchange.closers.append(leave)
            try:
                outcome = await fill.begun()
            except asyncio.CancelledError:
                leave()
                if not follows and isinstance(fill.outcome, Passed):
                    fill.exchange.let_go()
                raise
            except Exception as error:
                if not follows or failed or (isinstance(error, GatewayError) and error.status == 504):
                    if not follows:
                        question.exchange.note(fill.exchange)
                    raise
                failed = True
                continue
            finally:
                if self._fills.get(name) is fill and not fill.is_shared:
                    del self._fills[name]
            if isinstance(outcome, Passed):
                if not follows:
                    self._remember_unstored(name, outcome.why)
                    question.exchange.take_over(fill.exchange)
                    words["detail"] = outcome.why.word
                    words["fwd-status"] = 304 if fill.was_validated else None
                    return Served(None, outcome.produced.pairs, b"", outcome, "miss", words, fill)
                may_share = False
                continue
            if follows and outcome.values != vary_values(outcome.vary, question.pairs):
                may_share = False
                continue
            return self._of_fill(question, fill, outcome, words, follows=follows)

    def _of_fill(
        self,
        question: Question,
        fill: Fill,
        entry: Entry,
        words: Words,
        *,
        follows: bool,
    ) -> Served:
        if follows:
            words["collapsed"] = True
        else:
            question.exchange.note(fill.exchange)
        if fill.was_validated:
            words["fwd-status"] = 304
        elif not follows:
            words["stored"] = True
        outcome = "collapsed" if follows else "revalidated" if fill.was_validated else "miss"
        body = entry.body if entry.body or fill.is_over else fill.read()
        pairs = entry.pairs if follows or fill.was_validated else fill.pairs
        return Served(entry, pairs, body, None, outcome, words, fill)

    def _shared_name(self, question: Question) -> str:
        """What may wait for each other: not requests that differ in what answers are known to vary on, and not those
        with credentials for those without."""
        names = {name for entry in self.memory.get(question.key) for name in entry.vary}
        has_credentials = any(name in CREDENTIALS for name, _ in question.pairs)
        if not names and not has_credentials:
            return question.key
        return f"{question.key} {vary_values(sorted(names), question.pairs)} {has_credentials}"

    def why_unstored(self, question: Question) -> Why | None:
        """Why the last answer to such a request was not stored, if that was a moment ago: then nobody waits for it."""
        until_s, why = self._unstored.get(self._shared_name(question), (0.0, None))
        return why if until_s > time() else None

    def _remember_unstored(self, name: str, why: Why) -> None:
        self._unstored[name] = time() + _UNSTORED_S, why
        self._unstored.move_to_end(name)
        while len(self._unstored) > _UNSTORED_KEYS:
            self._unstored.popitem(last=False)

    # -- in the background ----------------------------------------------------------------------------------------

    def _revalidate(self, question: Question, entry: Entry) -> None:
        name = self._shared_name(question)
        if name not in self._revalidating:
            task = asyncio.create_task(self._revalidated(name, question, entry), name="portway-revalidate")
            self._revalidating[name] = task

    async def _revalidated(self, name: str, question: Question, entry: Entry) -> None:
        try:
            fill = Fill(question, entry if entry.can_be_validated else None, self)
            leave = fill.join(reads=False)
            try:
                outcome = await fill.begun()
                if isinstance(outcome, Passed):
                    fill.exchange.let_go()
                    failure = None if outcome.produced.status < 500 else str(outcome.produced.status)
                else:
                    failure = None
                    await fill.ended()
            except Exception as error:  # noqa: BLE001 - of a view, or of the upstream: nobody waits for it
                failure = error.reason.word if isinstance(error, GatewayError) else repr(error)
            finally:
                leave()
            if failure is not None:
                _log.warning("cache.revalidation_failed", target=question.exchange.path, cause=failure)
                await asyncio.sleep(_RETRY_S)
        finally:
            del self._revalidating[name]

    # -- keeping --------------------------------------------------------------------------------------------------

    def keep(self, key: str, entry: Entry) -> None:
        """Store an answer, unless it was purged while it was under way."""
        place = Key.of(key)
        if self._purges.cover(place, entry):
            return
        self.memory.put(key, entry)
        if self.store is not None:
            self.store.put(place, entry)

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

    def invalidate(self, scheme: str, host: str, target: str, status: int, pairs: Sequence[Pair]) -> None:
        """What an unsafe method that succeeded makes invalid (RFC 9111, section 4.4)."""
        for one in freshness.invalidated(scheme, host, target, status, pairs):
            purge = Purge("path", f"{scheme}://{host}{one}", time())
            self._heard(purge)
            if self.store is not None:
                self.store.purge(purge)

    def _heard(self, purge: Purge) -> int:
        self._purges.add(purge)
        return self.memory.forget(purge)


def hit(entry: Entry, detail: str | None = None) -> Served:
    """A stored answer as it is served. `detail` says why although it is stale."""
    words: Words = {"hit": True, "ttl": ttl_s(entry, time()), "detail": detail}
    return Served(entry, entry.pairs, entry.body, None, "stale" if detail else "hit", words)


def ttl_s(entry: Entry, now_s: float) -> int:
    """Seconds that it stays fresh, with Age its lifetime; negative once it is stale."""
    return int(entry.lifetime_s) - int(entry.current_age_s(now_s))
