"""The keys of an issuer while the gateway runs: fetched in the background, and anew when a token names an unknown one.

These keys, and the verdicts that depend on them, are the only part of authentication that changes by itself. The issuer
is asked every five minutes; on an unknown key at once, but at most every ten seconds, and with one call for all that
wait. While it is away, its last answer is used.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from gateway.auth import signatures
from gateway.auth.keyset import MOST_BYTES, KeySet, KeySetError, PublicKey, jwks_uri_of, parse_key_set
from gateway.auth.records import KeySource, Way
from gateway.auth.verdicts import Verdicts
from gateway.errors import GatewayError
from gateway.upstreams import calls
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.pool import Pool

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

REFRESH_S = 300.0
AGAIN_S = 10.0  # the least time between two calls, whatever keys tokens name and however the last call ended
TIMEOUT_S = 5.0
_DISCOVERY = "/.well-known/openid-configuration"
_ACCEPT = [(b"accept", b"application/jwk-set+json, application/json"), (b"user-agent", b"portway")]


class KeysUnavailable(Exception):
    """No keys were ever fetched; `retry_after_s` is when it is tried again."""

    def __init__(self, cause: str, retry_after_s: int) -> None:
        super().__init__(cause)
        self.retry_after_s = retry_after_s


class KeyStore:
    """The keys of one way. `start` it in the loop that serves; `aclose` it there.

    `load` fetches the document (see `loader_of`); `now` is a clock in seconds that never goes back.
    """

    def __init__(self, way: str, load: Callable[[], Awaitable[bytes]], now: Callable[[], float]) -> None:
        self.way = way
        self.verdicts = Verdicts()
        self.keys: KeySet | None = None
        self.failure = "they were not fetched yet"
        self.fetches = 0  # so far
        self._load = load
        self._now = now
        self._document = b""
        self._made: dict[PublicKey, Any] = {}
        self._fetched_s = -AGAIN_S
        self._fetch: asyncio.Task[None] | None = None
        self._refresher: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fetch, without waiting for it."""
        self._refresher = asyncio.create_task(self._keep_fetching(), name=f"portway-keys-{self.way}")

    async def aclose(self) -> None:
        for task in (self._refresher, self._fetch):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def candidates(self, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """The keys that may have signed a token. Raises KeysUnavailable."""
        found = () if self.keys is None else self.keys.candidates(kid, algorithm)
        if not found:
            await self._fetch_unless_just_done()
            found = () if self.keys is None else self.keys.candidates(kid, algorithm)
        if self.keys is None:
            raise KeysUnavailable(self.failure, max(1, round(self._fetched_s + AGAIN_S - self._now())))
        return found

    def usable(self, key: PublicKey) -> Any:
        """The library's key, made at first use; None if the material makes none."""
        if key not in self._made:
            try:
                self._made[key] = signatures.public_key(key)
            except signatures.Unusable as error:
                _log.warning("auth.key_unusable", way=self.way, cause=str(error))
                self._made[key] = None
        return self._made[key]

    async def _fetch_unless_just_done(self) -> None:
        """Wait for the call that is under way, or for a new one if none was made a moment ago."""
        if self._fetch is None and self._now() - self._fetched_s >= AGAIN_S:
            self._begin()
        if self._fetch is not None:
            await asyncio.shield(self._fetch)

    async def _keep_fetching(self) -> None:
        while True:
            if self._fetch is None:
                self._begin()
            assert self._fetch is not None  # noqa: S101 - begun above
            await asyncio.shield(self._fetch)
            due_s = self._fetched_s + (AGAIN_S if self.keys is None or self.failure else REFRESH_S)
            await asyncio.sleep(max(0.0, due_s - self._now()))

    def _begin(self) -> None:
        self._fetched_s = self._now()
        self.fetches += 1
        self._fetch = asyncio.create_task(self._fetch_once(), name=f"portway-keys-{self.way}-fetch")

    async def _fetch_once(self) -> None:
        try:
            document = await self._load()
            if document != self._document:
                self._take(document)
            self.failure = ""
        except (KeySetError, GatewayError, OSError, ValueError) as error:
            self.failure = _words(error)
            held = 0 if self.keys is None else len(self.keys.keys)
            _log.warning("auth.keys_failed", way=self.way, cause=self.failure, keys=held)
        finally:
            self._fetched_s = self._now()
            self._fetch = None

    def _take(self, document: bytes) -> None:
        self.keys, self._document = parse_key_set(document), document
        self._made.clear()
        self.verdicts.clear()
        _log.info("auth.keys_loaded", way=self.way, keys=len(self.keys.keys))


def _words(error: Exception) -> str:
    if isinstance(error, GatewayError):
        return f"{error.reason.word}: {error.cause}" if error.cause else error.reason.word
    return str(error) or type(error).__name__


# -- where the document comes from --------------------------------------------------------------------------------


class KeyLoader:
    """Fetches the document of a way: from a file, through an upstream, by URL, or from the URL that discovery gives."""

    def __init__(self, way: Way, pools: Callable[[str], Pool], network: Network = SYSTEM_NETWORK) -> None:
        assert way.keys_from is not None  # noqa: S101 - only ways with keys have a loader
        self._source: KeySource = way.keys_from
        self._way = way
        self._pools, self._network = pools, network
        self._timeout_s = way.timeout_s or TIMEOUT_S
        self._own: dict[str, tuple[Pool, str]] = {}  # by URL

    async def __call__(self) -> bytes:
        """The document. Raises KeySetError, GatewayError, OSError, ValueError."""
        source = self._source
        if source.kind == "document":
            return source.place.encode()
        if source.kind == "file":
            return _read(Path(source.place))
        if source.kind == "upstream":
            pool = self._pools(source.place)
            timeout_s = self._way.timeout_s or pool.upstream.overrides.timeout_s or TIMEOUT_S
            return await _get(pool, source.path, timeout_s)
        if source.kind == "url":
            return await self._get(source.place)
        return await self._get(jwks_uri_of(await self._get(source.place.rstrip("/") + _DISCOVERY), source.place))

    async def _get(self, url: str) -> bytes:
        if url not in self._own:
            if len(self._own) > 1:  # discovery names another URL than before
                await self.aclose()
            pool, target = calls.pool_of_url(url, f"auth:{self._way.name}", self._way.ca_pem, self._network)
            pool.start()
            self._own[url] = (pool, target)
        return await _get(*self._own[url], self._timeout_s)

    async def aclose(self) -> None:
        for pool, _ in self._own.values():
            await pool.aclose()
        self._own.clear()


def _read(path: Path) -> bytes:
    """Read no more of a file than a document may have: a file may be endless."""
    with path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


async def _get(pool: Pool, target: str, timeout_s: float) -> bytes:
    reply = await calls.get(pool, target, list(_ACCEPT), timeout_s=timeout_s, max_bytes=MOST_BYTES)
    if 300 <= reply.status <= 399:
        raise KeySetError(f"the answer is a redirect ({reply.status}), which is not followed")
    if reply.status != 200:
        raise KeySetError(f"the answer has status {reply.status}")
    return reply.body
