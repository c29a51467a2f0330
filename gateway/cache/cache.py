"""The cache of one worker: memory, then the database, then one call upstream for all concurrent requests.

`policy` and `freshness` decide what may be stored and served; this module acts on their decisions.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from gateway.cache import freshness
from gateway.cache.bloom_filter import BloomFilter
from gateway.cache.coalescing import CacheRequest, Reader, SharedFetch, Uncacheable, read_on
from gateway.cache.freshness import CONDITIONS, CREDENTIALS, NO_DIRECTIVES, Reuse
from gateway.cache.keys import Key, Purge, digest
from gateway.cache.memory import Memory, Purges, Unstored, fingerprint
from gateway.cache.policy import Entry, NotStored, Response, vary_values
from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.clock import SYSTEM_CLOCK, Clock
from gateway.http.headers import Pair
from gateway.http.request import GatewayRequest
from gateway.http.response import Body
from gateway.observe.message_ring import MessageRing
from gateway.observe.process_locks import LockHeld
from gateway.observe.signals import view_failed

if TYPE_CHECKING:
    from gateway.cache.database import Store

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# Reasons that will most likely hold for the next response too.
_LASTING = frozenset(NotStored) - {NotStored.REQUEST_NO_STORE, NotStored.RANGE, NotStored.METHOD, NotStored.PURGED}
_PASSING = frozenset({NotStored.TOO_LARGE, NotStored.STREAMS})  # they show after some of the body has been buffered
_MOST_REVALIDATING = 200
_RETRY_S = 1.0  # after a revalidation in the background failed

_encode_purge: Final = msgspec.msgpack.Encoder().encode
_decode_purge: Final = msgspec.msgpack.Decoder(Purge).decode

Words = dict[str, str | int | bool | None]


@dataclass(slots=True)
class CacheResult:
    """What the cache answers with: a stored response (its body may still be coming in), or one that was not stored.

    `words` are the parameters of Cache-Status, `outcome` is the word for the log.
    """

    entry: Entry | None
    pairs: Sequence[Pair]
    body: Body
    uncacheable: Uncacheable | None
    outcome: str
    words: Words
    fetch: SharedFetch | None = None


class Cache:
    """One worker's cache. Call `start` in the loop that serves; with `disk_bytes` 0 there is no database."""

    def __init__(
        self,
        memory_bytes: int,
        disk_bytes: int,
        bodies: Bodies | None = None,
        bloom_filter: BloomFilter | None = None,
        ring: MessageRing | None = None,
        *,
        stores_parts: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.bodies = bodies or Bodies()
        self.memory = Memory(memory_bytes)
        self.time, self.monotonic = clock
        self.in_use = False
        self._stores_parts = stores_parts  # whether parts or fetch() store answers
        self.store: Store | None = None
        self._disk_bytes = disk_bytes
        self._bloom_filter = bloom_filter or BloomFilter()  # several workers share one
        self._ring = ring  # where the workers of this gateway publish their purges
        self._fetches: dict[str, SharedFetch] = {}
        self._purges, self._unstored = Purges(), Unstored()
        self._revalidating: dict[str, asyncio.Task[None]] = {}
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the database, if there is to be one. Waits for it a few seconds at most."""
        self.in_use = True
        if self._ring is not None:
            self._ring.join()
        if self.store is None and self._disk_bytes:
            from gateway.cache.database import (
                Store,  # Django's models need a set-up that a mere import of views has not made
            )

            self.store = Store(self._disk_bytes, self._bloom_filter, self._apply_purge)
            await self.store.open()

    async def stop(self) -> None:
        for task in self._revalidating.values():
            task.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self.store is not None:
            await self.store.aclose()

    def state(self) -> dict[str, int | str]:
        """Sizes, and whether the database works, for `/-/status`."""
        return {
            "memory_bytes": self.memory.size_bytes,
            "memory_max_bytes": self.memory.max_bytes,
            "memory_entries": len(self.memory),
            "database_bytes": 0 if self.store is None else self.store.size_bytes,
            "database": "not in use" if self.store is None else self.store.state,
        }

    # -- asking ---------------------------------------------------------------------------------------------------

    async def stored(
        self, request: CacheRequest, *, ask_database: bool = True
    ) -> tuple[CacheResult | None, Entry | None, Words]:
        """A stored response that may be sent as it is; else the entry to validate, and the Cache-Status of a miss.

        Raises GatewayError NOT_CACHED for `only-if-cached`.
        """
        if not self.in_use and self._opening is None:  # a cached view that the start did not see
            self._opening = asyncio.create_task(self.start())
        directives = freshness.request_directives(request.pairs)
        entry, is_varied, was_skipped = await self._find(request, ask_database=ask_database)
        reuse = None if entry is None else freshness.reuse_of(entry, directives, self.time())
        if entry is not None and reuse in {Reuse.FRESH, Reuse.MAX_STALE, Reuse.WHILE_REVALIDATE}:
            if reuse is Reuse.WHILE_REVALIDATE:
                self._revalidate(request, entry)
            return hit(entry, self.time(), None if reuse is Reuse.FRESH else reuse.value), entry, {}
        if directives.only_if_cached:
            raise GatewayError(Reason.NOT_CACHED)
        fwd = reuse.value if reuse is not None else "vary-miss" if is_varied else "uri-miss"
        return None, entry, {"fwd": fwd, "detail": "database-skipped" if was_skipped else None}

    async def answer(self, request: CacheRequest) -> tuple[CacheResult | None, Words]:
        """The stored response if it may be sent, else the origin's. Raises GatewayError, and whatever the view raises.

        None where the response to such a request could not be stored a moment ago: then the caller asks the origin
        itself, and `words` are its Cache-Status.
        """
        why = self._unstored.why(self._shared_name(request), request.pairs, self.monotonic())
        result, entry, words = await self.stored(request, ask_database=why is None)
        if result is not None:
            return result, result.words
        if entry is None and why is not None and (why in _PASSING or _has_conditions(request.pairs)):
            return None, {**words, "detail": why.word}
        directives = freshness.request_directives(request.pairs)
        stands_in = False
        try:
            # No coalescing for a response that will hardly be stored; if this one may be, it is.
            result = await self._forward(request, entry, words, may_share=directives == NO_DIRECTIVES and why is None)
        except GatewayError as error:
            is_failure = freshness.is_failure(error.status)
            stands_in = is_failure and entry is not None and freshness.may_stand_in(entry, directives, self.time())
            if not stands_in:
                raise
            if error.reason is Reason.VIEW_ERROR:  # the client gets a good response, so only this shows the error
                await view_failed(request.lifetime.request, error)
                _log.warning("cache.stands_in", target=request.lifetime.exchange.path, cause=error.cause)
        else:
            if result.uncacheable is not None and freshness.is_failure(result.uncacheable.origin.status):
                stands_in = entry is not None and freshness.may_stand_in(entry, directives, self.time())
        if entry is None or not stands_in:
            assert result is not None  # noqa: S101 - else the exception was raised
            return result, result.words
        if result is not None and result.fetch is not None:
            result.fetch.lifetime.let_go()
        result = hit(entry, self.time(), "stale-if-error")
        return result, result.words

    async def _find(self, request: CacheRequest, *, ask_database: bool) -> tuple[Entry | None, bool, bool]:
        """The stored response, whether only variants of it are stored, and whether the database was skipped."""
        entry, is_varied = freshness.select(self.memory.get(request.key), request.pairs)
        entry = entry and freshness.limited_by(request.rule, entry)
        if (
            self.store is None
            or not ask_database
            or (entry is not None and (entry.always_validate or entry.lifetime_s <= 0))
        ):
            return entry, is_varied, False  # no other worker can have a fresher one
        if entry is not None and freshness.reuse_of(entry, NO_DIRECTIVES, self.time()) is Reuse.FRESH:
            return entry, is_varied, False
        found = await self.store.find(request.key, request.pairs)
        if found is None:
            return entry, is_varied, True
        place = Key.of(request.key)
        others = [other for other in found.entries if not self._purges.cover(place, other, self.time())]
        for other in others:
            self.memory.put_back(request.key, other)
        # Together with those of memory, where not all of `others` may have found room.
        entry, is_varied = freshness.select([*self.memory.get(request.key), *others], request.pairs)
        return entry and freshness.limited_by(request.rule, entry), is_varied or found.has_others, False

    async def _forward(
        self, request: CacheRequest, entry: Entry | None, words: Words, *, may_share: bool
    ) -> CacheResult:
        """Ask the origin, or join a call that is under way.

        A follower tries once itself if the call failed. If the response turns out not to be for it, it joins the other
        followers in a second call, once.
        """
        name = self._shared_name(request)
        failed = disappointed = False
        while True:
            fetch = self._fetches.get(name) if may_share else None
            follows = fetch is not None and fetch.is_shared
            if fetch is None or not follows:
                fetch = SharedFetch(request, entry, self)
                if may_share:
                    self._fetches[name] = fetch
                    fetch.when_over(partial(self._forget_fetch, name, fetch))
            reader = fetch.join()
            request.lifetime.closers.append(reader.leave)
            try:
                outcome = await fetch.wait_outcome()
            except asyncio.CancelledError:
                reader.leave()
                if not follows and isinstance(fetch.outcome, Uncacheable):
                    fetch.lifetime.let_go()
                raise
            except Exception as error:
                if not follows or failed or (isinstance(error, GatewayError) and error.status == 504):
                    if not follows:
                        request.lifetime.exchange.note(fetch.lifetime.exchange)
                    raise
                failed = True
                reader.leave()
                continue
            if isinstance(outcome, Uncacheable):
                if not follows:
                    if entry is None and outcome.why in _LASTING and outcome.origin.status < 400:
                        self.remember(fetch, outcome.why)
                    request.lifetime.take_over(fetch.lifetime)
                    words["detail"] = outcome.why.word
                    words["fwd-status"] = 304 if fetch.was_validated else None
                    return CacheResult(None, outcome.origin.pairs, b"", outcome, "miss", words, fetch)
                is_like_it = fingerprint(request.pairs) == fingerprint(fetch.request.pairs)
                may_share, disappointed = not (disappointed or is_like_it), True
                reader.leave()
                continue
            if follows and not self._may_follow(request, outcome):
                is_varied = freshness.select([outcome], request.pairs)[0] is not outcome
                may_share, disappointed = is_varied and not disappointed, True
                name = self._shared_name(request, outcome.vary)
                reader.leave()
                continue
            if fetch.is_shared:  # else it has turned out too large already, which must be remembered
                self._unstored.discard(name)
            return self._result_of(request, fetch, reader, outcome, words, follows=follows)

    def _may_follow(self, request: CacheRequest, entry: Entry) -> bool:
        """Whether the response to another request answers this one too (RFC 9111, section 4)."""
        is_fresh = freshness.reuse_of(entry, NO_DIRECTIVES, self.time()) is Reuse.FRESH
        return is_fresh and freshness.select([entry], request.pairs)[0] is entry

    def _forget_fetch(self, name: str, fetch: SharedFetch) -> None:
        if self._fetches.get(name) is fetch:
            del self._fetches[name]

    def _result_of(
        self,
        request: CacheRequest,
        fetch: SharedFetch,
        reader: Reader,
        entry: Entry,
        words: Words,
        *,
        follows: bool,
    ) -> CacheResult:
        if follows:
            words["collapsed"] = True
        else:
            request.lifetime.exchange.note(fetch.lifetime.exchange)
        if fetch.was_validated:
            words["fwd-status"] = 304
        elif not follows and fetch.is_kept:
            words["stored"] = True
        elif not follows:
            words["detail"] = NotStored.PURGED.word
        outcome = "collapsed" if follows else "revalidated" if fetch.was_validated else "miss"
        body = read_on(request, reader) if fetch.streams else entry.body
        pairs = entry.pairs if follows or fetch.was_validated else fetch.pairs
        return CacheResult(entry, pairs, body, None, outcome, words, fetch)

    def _shared_name(self, request: CacheRequest, vary: Sequence[bytes] = ()) -> str:
        """The name under which requests are coalesced. Those that differ in a field that stored responses vary on have
        different names, and so have requests with and without credentials."""
        names = {*vary, *(name for entry in self.memory.get(request.key) for name in entry.vary)}
        has_credentials = any(name in CREDENTIALS for name, _ in request.pairs)
        if not names and not has_credentials and not request.group:
            return request.key
        values = vary_values(sorted(names), request.pairs)
        return digest(request.key, repr(values), str(has_credentials), request.group)

    def remember(self, fetch: SharedFetch, why: NotStored) -> None:
        """Responses to such calls are not stored: for a while the next ones are not coalesced."""
        request = fetch.request
        self._unstored.add(self._shared_name(request), request.pairs, why, self.monotonic())

    # -- in the background ----------------------------------------------------------------------------------------

    def _revalidate(self, request: CacheRequest, entry: Entry) -> None:
        name = self._shared_name(request)
        # Beyond that number entries stay stale until the next request for them.
        if name not in self._revalidating and len(self._revalidating) < _MOST_REVALIDATING:
            task = asyncio.create_task(self._revalidated(name, request, entry), name="portway-revalidate")
            self._revalidating[name] = task

    async def _revalidated(self, name: str, request: CacheRequest, entry: Entry) -> None:
        try:
            fetch = SharedFetch(request, entry, self)
            reader = fetch.join(reads=False)
            try:
                outcome = await fetch.wait_outcome()
                if isinstance(outcome, Uncacheable):
                    failure = None if outcome.origin.status < 500 else str(outcome.origin.status)
                else:
                    failure = None
                    await fetch.wait_end()
            except Exception as error:  # noqa: BLE001 - whatever the view raises: no request waits for it
                failure = (error.cause or error.reason.word) if isinstance(error, GatewayError) else repr(error)
            finally:
                reader.leave()
                if isinstance(fetch.outcome, Uncacheable):
                    fetch.lifetime.let_go()
            if failure is not None:
                _log.warning("cache.revalidation_failed", target=request.lifetime.exchange.path, cause=failure)
                await asyncio.sleep(_RETRY_S)
        finally:
            del self._revalidating[name]

    # -- keeping --------------------------------------------------------------------------------------------------

    def keep(self, key: str, entry: Entry) -> bool:
        """Store a response; False if it was purged while it was coming in."""
        place = Key.of(key)
        self.catch_up()
        if self._purges.cover(place, entry, self.time()):
            return False
        self.memory.put(key, entry)
        if self.store is not None:
            self.store.put(place, entry)
        return True

    def drop(self, key: str, entry: Entry) -> None:
        """Remove a stored response that a newer one supersedes."""
        self.memory.drop(key, entry)
        if self.store is not None:
            self.store.forget(Key.of(key), entry)

    def after_head(self, request: CacheRequest, status: int, pairs: Sequence[Pair], requested_s: float) -> None:
        """Update or drop the stored response to a GET after a forwarded HEAD (RFC 9111, section 4.3.5)."""
        entry, _ = freshness.select(self.memory.get(request.key), request.pairs)
        if status != 200 or entry is None:
            return
        response = Response("HEAD", request.pairs, status, pairs, requested_s, self.time())
        updated = freshness.after_head(entry, response, request.rule)
        if updated is None:
            self.drop(request.key, entry)
        else:
            self.keep(request.key, updated)

    # -- forgetting -----------------------------------------------------------------------------------------------

    async def purge(self, kind: str, value: str) -> int:
        """Remove what a purge covers, in all workers and replicas; returns the number of stored responses."""
        purge = Purge(kind, value, self.time())
        count = self._apply_purge(purge)
        self._tell_workers(purge)
        _log.info("cache.purged", kind=kind, value=value)
        if self.store is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S):
                    count = max(count, await asyncio.shield(self.store.purge(purge)))
        return count

    def invalidate(self, url: str) -> None:
        """Remove what is stored for this URL: an unsafe method changed it."""
        purge = Purge.of_url(url, self.time())
        self._apply_purge(purge)
        self._tell_workers(purge)
        if self.store is not None:
            self.store.purge(purge)

    async def part(self, request: CacheRequest) -> CacheResult | None:
        """The response to a call of a part or of `fetch()`; None as for `answer`."""
        self._stores_parts = True
        return (await self.answer(request))[0]

    def written(self, upstream: str, target: str, status: int) -> None:
        """After an unsafe method to an upstream: remove what parts and fetch() stored for that URL."""
        if self._stores_parts and 200 <= status <= 399:
            self.invalidate(f"part://{upstream}{target}")

    def catch_up(self) -> None:
        """Apply what the other workers of this gateway have purged: they go on only once it can be seen here."""
        if self._ring is not None and self._ring.has_news:
            messages = self._ring.receive()
            missed = [Purge("all", "", self.time())] if messages is None else []  # too many, or too long
            for purge in missed or map(_decode_purge, messages or ()):
                self._apply_purge(purge)

    def _tell_workers(self, purge: Purge) -> None:
        if self._ring is not None and self.in_use:
            try:
                self._ring.publish(_encode_purge(purge))
            except LockHeld as error:
                _log.warning("cache.purge_late", cause=str(error))  # they read it in the database, if there is one

    def _apply_purge(self, purge: Purge) -> int:
        self._purges.add(purge)
        for fetch in self._fetches.values():
            if purge.covers_key(Key.of(fetch.request.key)):
                fetch.is_shared = False  # later requests must not get a response that was asked for before the purge
        return self.memory.forget(purge, self.time())


def _has_conditions(pairs: Sequence[Pair]) -> bool:
    return any(name in CONDITIONS for name, _ in pairs)


def hit(entry: Entry, now_s: float, detail: str | None = None) -> CacheResult:
    """The result for a stored response. `detail` says why it is sent although it is stale."""
    words: Words = {"hit": True, "ttl": ttl_s(entry, now_s), "detail": detail}
    return CacheResult(entry, entry.pairs, entry.body, None, "stale" if detail else "hit", words)


def ttl_s(entry: Entry, now_s: float) -> int:
    """Seconds that it stays fresh; with Age they add up to its lifetime. Negative once it is stale."""
    return int(entry.lifetime_s) - int(entry.current_age_s(now_s))


def cache_for(request: GatewayRequest) -> Cache:
    """The cache of the worker that serves a request, with what other workers have purged by now."""
    cache: Cache = request.services.cache  # type: ignore[assignment]  # the `http` room does not know the type
    cache.catch_up()
    return cache
