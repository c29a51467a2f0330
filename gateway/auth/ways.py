"""The ways of one worker while it runs: each finds its credential in a request and identifies the client.

`Ways` holds them all and counts their outcomes; gates ask it. It is made with the worker, started and closed with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import structlog

from gateway.auth import basic, signatures, tokens
from gateway.auth.ask import AskWay
from gateway.auth.basic import UserTable
from gateway.auth.credentials import Carried, find, reads_authorization
from gateway.auth.identity import fields_for, of_record
from gateway.auth.jwks import KeyLoader, KeyStore, KeysUnavailable
from gateway.auth.keys import KeyTable
from gateway.auth.keyset import KeySet
from gateway.auth.records import SIGNED_BY_SECRET, AuthConfig, Way
from gateway.auth.rules import Outcome, Verdict
from gateway.auth.verdicts import LONGEST_S, Verdicts, digest
from gateway.errors import GatewayError, Reason
from gateway.http.clock import SYSTEM_CLOCK, Clock
from gateway.http.deadline import Deadline
from gateway.http.identity import Identity
from gateway.http.request import GatewayRequest
from gateway.upstreams.network import SYSTEM_NETWORK, Network
from gateway.upstreams.pool import Pool

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

# Runs a slow function in a thread; raises GatewayError if no thread is free.
InThread = Callable[[Callable[[], bool]], Awaitable[bool]]
Check = Callable[[GatewayRequest], Awaitable[Identity | None]]

_LONGEST_LINE = 4096  # of lines that are kept as they came, for a minute


class RunningWay(Protocol):
    """A way while the gateway runs."""

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        """The outcome by which the request passes, if known without waiting: its credential was good a moment ago.

        `authorization` is the value of that field. Raises GatewayError for an ambiguous credential.
        """

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        """The outcome for a request. Raises GatewayError for an ambiguous credential."""


class Ways:
    """All ways of a worker. `counts` are requests by way and by the word of the outcome."""

    def __init__(
        self,
        config: AuthConfig,
        checks: Mapping[str, Check],
        in_thread: InThread,
        clock: Clock = SYSTEM_CLOCK,
        network: Network = SYSTEM_NETWORK,
    ) -> None:
        self.config = config
        self._clock, self._network = clock, network
        self.counts: dict[tuple[str, str], int] = {}
        self._checks = checks
        self._in_thread = in_thread
        self._running: dict[str, RunningWay] = {}
        self.stores: dict[str, KeyStore] = {}
        self._loaders: list[KeyLoader] = []

    def make(self, pools: Mapping[str, Pool]) -> None:
        """Make the ways, inside the loop that serves; `pools` are by the names of upstreams."""
        for way in self.config.ways.values():
            if way.kind != "python" or way.name in self._checks:
                self._running[way.name] = self._made(way, pools)

    def start(self, pools: Mapping[str, Pool]) -> None:
        """Make the ways, and begin to fetch keys in the background."""
        self.make(pools)
        for store in self.stores.values():
            store.start()

    async def aclose(self) -> None:
        for store in self.stores.values():
            await store.aclose()
        for loader in self._loaders:
            await loader.aclose()

    def __getitem__(self, name: str) -> RunningWay:
        return self._running[name]

    def count(self, way: str, word: str) -> None:
        self.counts[way, word] = self.counts.get((way, word), 0) + 1

    def _made(self, way: Way, pools: Mapping[str, Pool]) -> RunningWay:
        if way.kind == "jwt":
            store = None
            if way.keys_from is not None:
                loader = KeyLoader(way, pools.__getitem__, self._network)
                self._loaders.append(loader)
                store = self.stores[way.name] = KeyStore(way.name, loader, self._clock.monotonic)
            return JwtWay(way, store, self._clock.time)
        if way.kind == "keys":
            return KeysWay(way)
        if way.kind == "basic":
            return BasicWay(way, self._in_thread, self._clock.time)
        if way.kind == "ask":
            return AskWay(way, pools[way.upstream], self._clock.monotonic)
        return PythonWay(way, self._checks[way.name])


def _passed(way: Way, identity: Identity, carried: Carried | None, on_comma: Callable[[str], None]) -> Outcome:
    in_query = carried is not None and carried.carrier.kind == "query"
    return Outcome(Verdict.PASSED, way.name, identity, fields_for(way, identity, on_comma), in_query=in_query)


class _Says:
    """Logs that a member of a list was left out of a field: once for each value of a way."""

    def __init__(self, way: str) -> None:
        self._way = way
        self._logged: set[str] = set()

    def __call__(self, words: str) -> None:
        if words not in self._logged:
            self._logged.add(words)
            _log.warning("auth.value_left_out", way=self._way, value=words, cause="it holds a comma, as lists do")


class JwtWay:
    """A token of an issuer, by its keys or a secret."""

    def __init__(self, way: Way, store: KeyStore | None, now: Callable[[], float] = SYSTEM_CLOCK.time) -> None:
        self.way = way
        self.store = store
        self._reads_authorization = reads_authorization(way.carriers)
        self.verdicts = Verdicts() if store is None else store.verdicts
        self._now = now
        self._on_comma = _Says(way.name)

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        if self._reads_authorization:  # a token that is known by its line need not even be extracted
            return None if authorization is None else self.verdicts.get(authorization, self._now())
        carried = self._carried(request)
        return None if carried is None else self.verdicts.get(self._name_of(carried), self._now())

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        carried = self._carried(request)
        if carried is None:
            return Outcome(Verdict.MISSING, self.way.name)
        name = self._name_of(carried)
        kept = self.verdicts.get(name, self._now())
        return kept if kept is not None else await self._judge(carried, name)

    def _carried(self, request: GatewayRequest) -> Carried | None:
        scope = request.scope
        return find(self.way.carriers, b"bearer", scope["headers"], scope["query_string"])

    def _name_of(self, carried: Carried) -> bytes:
        """The name of a token for verdicts: its line if in Authorization, since a digest costs as much as the rest of a
        check; else a digest, with whether it was in the query, which is part of the outcome."""
        if self._reads_authorization and len(carried.line) <= _LONGEST_LINE:
            return carried.line
        return digest(carried.value) if carried.carrier.kind != "query" else digest(b"query", carried.value)

    async def _judge(self, carried: Carried, name: bytes) -> Outcome:
        way, now_s = self.way, self._now()
        keys = self._keys()
        checked = await self.examine(carried.value, now_s)
        if isinstance(checked, Outcome):
            return checked
        outcome = _passed(way, tokens.identity_of(checked, way), carried, self._on_comma)
        if keys is self._keys():  # else it may depend on keys that are gone
            self.verdicts.put(name, outcome, min(tokens.expires_s(checked) + way.leeway_s, now_s + LONGEST_S))
        return outcome

    def _keys(self) -> KeySet | None:
        return None if self.store is None else self.store.keys

    async def examine(self, text: bytes, now_s: float) -> tokens.Token | Outcome:
        """The token in a text, if it is valid at that time; else the outcome that refuses it."""
        way = self.way
        try:
            token = tokens.parse(text)
        except tokens.TokenError as error:
            return Outcome(Verdict.FOREIGN, way.name, detail="The credential is no token.", cause=str(error))
        fault = tokens.foreign(token, way) or tokens.header_fault(token, way)
        if fault is None:
            try:
                good, cause = await self._is_signed(token)
            except KeysUnavailable as error:
                detail = "The keys of the issuer are not known at the moment."
                return Outcome(
                    Verdict.UNAVAILABLE, way.name, detail=detail, cause=str(error), retry_after_s=error.retry_after_s
                )
            fault = (
                tokens.claims_fault(token, way, now_s)
                if good
                else tokens.Fault(Verdict.INVALID, "The signature of the token is not good.", cause)
            )
        if fault is not None:
            return Outcome(fault.verdict, way.name, detail=fault.detail, cause=fault.cause)
        return token

    async def _is_signed(self, token: tokens.Token) -> tuple[bool, str]:
        """Whether a key of the way signed it, and else why not, for the log. Raises KeysUnavailable."""
        algorithm = str(token.algorithm)
        if algorithm in SIGNED_BY_SECRET:
            return signatures.is_good(
                algorithm, self.way.secret, token.signed, token.signature
            ), "it is of another secret"
        if self.store is None:
            return False, f"{self.way.variable} has no keys for {algorithm}"
        candidates = await self.store.candidates(token.kid, algorithm)
        for candidate in candidates:
            key = self.store.usable(candidate)
            if key is not None and signatures.is_good(algorithm, key, token.signed, token.signature):
                return True, ""
        named = f"the key {tokens.shown(token.kid)}" if token.kid is not None else "a key that the token does not name"
        return False, f"{named} did not make it" if candidates else f"{named} is not among those of the issuer"


class KeysWay:
    """A key of a list."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self._table = KeyTable(way.keys)
        self._on_comma = _Says(way.name)
        self._passed: dict[tuple[bytes, str], Outcome] = {}  # by the key's digest and place, once used

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        found = self._found(request)
        return found if found.verdict is Verdict.PASSED else None

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        return self._found(request)

    def _found(self, request: GatewayRequest) -> Outcome:
        scope = request.scope
        carried = find(self.way.carriers, b"bearer", scope["headers"], scope["query_string"])
        if carried is None:
            return Outcome(Verdict.MISSING, self.way.name)
        key = self._table.find(carried.value)
        if key is None:
            return Outcome(Verdict.FOREIGN, self.way.name, detail="The key is not known.")
        used = (key.digest, carried.carrier.kind)
        outcome = self._passed.get(used)
        if outcome is None:
            outcome = self._passed[used] = _passed(self.way, of_record(key, self.way), carried, self._on_comma)
        return outcome


class BasicWay:
    """A name and a password of a list. A good one is not hashed again for a minute."""

    def __init__(self, way: Way, in_thread: InThread, now: Callable[[], float] = SYSTEM_CLOCK.time) -> None:
        self.way = way
        self.verdicts = Verdicts()
        self._users = UserTable(way.users)
        self._in_thread = in_thread
        self._now = now
        self._on_comma = _Says(way.name)
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}  # by the credential: a page sends many requests at once

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        carried = self._carried(request)
        return None if carried is None else self.verdicts.get(digest(carried.value), self._now())

    def _carried(self, request: GatewayRequest) -> Carried | None:
        scope = request.scope
        return find(self.way.carriers, b"basic", scope["headers"], scope["query_string"])

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        way, carried = self.way, self._carried(request)
        if carried is None:
            return Outcome(Verdict.MISSING, way.name)
        name = digest(carried.value)
        if (kept := self.verdicts.get(name, self._now())) is not None:
            return kept
        sent = basic.credentials(carried.value)
        if sent is None:
            return Outcome(Verdict.FOREIGN, way.name, detail="The credential is no name and password.")
        user, password = self._users.find(sent[0]), sent[1]
        try:
            good = await self._is_password(user, password, name)
        except GatewayError as error:
            return Outcome(
                Verdict.UNAVAILABLE, way.name, detail="Too many passwords are being checked.", cause=error.reason.word
            )
        if user is None or not good:
            verdict = Verdict.FOREIGN if user is None else Verdict.INVALID
            return Outcome(verdict, way.name, detail="The name or the password is wrong.")
        outcome = _passed(way, of_record(user, way), carried, self._on_comma)
        self.verdicts.put(name, outcome, self._now() + LONGEST_S)
        return outcome

    async def _is_password(self, user: basic.User | None, password: bytes, name: bytes) -> bool:
        """Raises GatewayError where no thread is free. An unknown user costs what a known one does."""
        hashed = self._users.nobody if user is None else user.bcrypt
        if not hashed:
            return user is not None and basic.is_password(user, password)
        task = self._under_way.get(name)
        if task is None:
            work = partial(signatures.is_password, password, hashed)
            task = self._under_way[name] = asyncio.ensure_future(self._in_thread(work))
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return await asyncio.shield(task) and user is not None


class PythonWay:
    """A function of the team's own."""

    def __init__(self, way: Way, check: Check) -> None:
        self.way = way
        self._check = check

    def known(self, request: GatewayRequest, authorization: bytes | None) -> Outcome | None:
        """None: the function is called each time."""
        return None

    async def outcome(self, request: GatewayRequest, *, is_optional: bool = False) -> Outcome:
        """The result of the function: an Identity, or None. It may raise GatewayError AUTH_* itself."""
        way = self.way
        try:
            if way.timeout_s is None:
                found: Any = await self._check(request)
            else:
                with Deadline(
                    way.timeout_s, partial(GatewayError, Reason.AUTH_UNAVAILABLE, cause=f"{way.source} is slow")
                ):
                    found = await self._check(request)
        except GatewayError as error:
            verdict = _VERDICTS.get(error.reason)
            if verdict is None or request.lifetime.interruption is not None:
                raise
            return Outcome(verdict, way.name, detail=error.detail, cause=error.cause)
        finally:
            request.forget_fields()
        if found is None:
            return Outcome(Verdict.MISSING, way.name)
        if not isinstance(found, Identity):
            raise TypeError(f"{way.source} gave {type(found).__name__}; a way gives an Identity, or None for nobody")
        roles, scopes = _words(way.source, "roles", found.roles), _words(way.source, "scopes", found.scopes)
        identity = replace(found, way=way.name, roles=roles, scopes=scopes)
        return Outcome(Verdict.PASSED, way.name, identity, fields_for(way, identity))


def _words(source: str, what: str, given: object) -> tuple[str, ...]:
    """Roles or scopes. Raises TypeError for what is no list of texts: in a text, `orders:read` would be found in
    `orders:read-own`."""
    if not isinstance(given, (list, tuple, AbstractSet)) or not all(isinstance(word, str) for word in given):
        kind = type(given).__name__
        raise TypeError(f"{source} gave an Identity with {what} of type {kind}, not a list of texts such as ['a', 'b']")
    return tuple(given)


_VERDICTS = {
    Reason.AUTH_MISSING: Verdict.MISSING,
    Reason.AUTH_INVALID: Verdict.INVALID,
    Reason.AUTH_EXPIRED: Verdict.EXPIRED,
    Reason.AUTH_FORBIDDEN: Verdict.FORBIDDEN,
    Reason.AUTH_UNAVAILABLE: Verdict.UNAVAILABLE,
}


def ways_of(request: GatewayRequest) -> Ways:
    """The ways of the worker that serves a request."""
    ways = request.services.ways
    assert isinstance(ways, Ways)  # noqa: S101 - a gate exists only where there are ways
    return ways
