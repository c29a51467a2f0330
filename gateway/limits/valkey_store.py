"""The store `valkey`: counts shared by all gateways that name the same server.

One script decides about all policies of a request at once, by the server's own clock, so that the clocks of gateways do
not matter. The waiting time of a key is cached here for a moment: clients over the limit are refused without asking the
server.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Final, NoReturn

from gateway.limits.gcra import after, bounded, left
from gateway.limits.keys import digest
from gateway.limits.policies import Policy
from gateway.limits.resp import Refusal, Reply, command
from gateway.limits.store import Away, Over, Taken
from gateway.limits.valkey import HANDSHAKE_S, Connection, connect, expect, shown
from gateway.limits.valkey_url import ValkeyUrl

# The decision of `gcra`, by the server's time: seconds since 2025, so that a float is exact to some nanoseconds. A key
# expires when it is free again.
SCRIPT: Final = b"""
local t = redis.call('TIME')
local now = t[1] - 1735689600 + t[2] / 1000000
local cost = tonumber(ARGV[1])
local old, new, passed = {}, {}, 1
for i, key in ipairs(KEYS) do
  local interval, tolerance = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
  local ahead = (tonumber(redis.call('GET', key) or '') or 0) - now
  if not (ahead > 0) then ahead = 0 end
  if ahead > tolerance then ahead = tolerance end
  old[i] = string.format('%.9f', ahead)
  new[i] = ahead + cost * interval
  if not (new[i] <= tolerance + 0.000001) then passed = 0 end
end
if passed == 0 then return '0 ' .. table.concat(old, ' ') end
for i, key in ipairs(KEYS) do
  redis.call('SET', key, string.format('%.9f', now + new[i]), 'PX', math.ceil(new[i] * 1000))
  new[i] = string.format('%.9f', new[i])
end
return '1 ' .. table.concat(new, ' ')
"""
_EPOCH_S: Final = 1_735_689_600
SHA: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()  # the name of the script in Valkey
_PREFIX: Final = "portway:limit:"
_PROBE: Final = "portway:probe:"
_NO_DECISION: Final = "an answer that the script does not give"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_REMEMBERED_S, _MOST_REMEMBERED = 1.0, 10_000  # so that a key that was freed is free everywhere a second later
_LOOK_S, _LOOK_KEYS = 2.0, 1000  # how long keys are scanned, and how many at a time


class ValkeyStore:
    """`start` it in the loop that serves. `tell` is called at each change: with the cause while it is away, with None
    once it is back. `chance` gives numbers from 0 to 1, so that gateways do not all reconnect at once."""

    name = "valkey"

    def __init__(
        self,
        url: ValkeyUrl,
        timeout_s: float,
        context: ssl.SSLContext | None,
        tell: Callable[[str | None], object],
        chance: Callable[[], float],
    ) -> None:
        self._url, self._timeout_s, self._context = url, timeout_s, context
        self._tell, self._chance = tell, chance
        self._connection: Connection | None = None
        self._cause = "not connected yet"
        self._is_told = False  # whether `tell` has the news that it is away
        self._keeper: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._refused: dict[tuple[int, str], tuple[float, float]] = {}  # free at, dropped at; by this machine's clock

    async def start(self) -> None:
        """Connect. Waits for the first try, but not for long."""
        self._keeper = asyncio.create_task(self._keep(), name="portway-valkey")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANDSHAKE_S):
                await self._tried.wait()

    async def aclose(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._connection is not None:
            self._connection.close("the worker stops")
            await asyncio.wait({self._connection.closed}, timeout=HANDSHAKE_S)

    @property
    def is_away(self) -> bool:
        return self._connection is None or self._connection.is_late

    # -- the connection -------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Connect again and again: at once, then with growing pauses."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(HANDSHAKE_S):
                    self._connection = await self._connected()
            except (OSError, TimeoutError, Away, ValueError) as error:  # ValueError: no host name for TLS
                self._went(f"no answer within {HANDSHAKE_S:g} s" if isinstance(error, TimeoutError) else _text(error))
            else:
                self._came_back()
                pause_s = _FIRST_PAUSE_S
                self._tried.set()
                await asyncio.wait({self._connection.lost})
                self._went(self._connection.lost.result())
                self._connection = None
            self._tried.set()
            await asyncio.sleep(pause_s * (0.5 + self._chance() / 2))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)

    async def _connected(self) -> Connection:
        """A connection through which the script has decided once: the server lets us in and write, and has room."""
        connection = await connect(self._url, self._context)
        try:
            await expect(connection, "SCRIPT", "LOAD", SCRIPT)
            key = f"{_PROBE}{self._chance():.12f}"  # a new key, so that it is written; it expires a millisecond later
            if _parsed(await expect(connection, "EVALSHA", SHA, 1, key, 1, "0.001", "0.001"), 1) is None:
                raise Away(_NO_DECISION)
        except BaseException as error:
            connection.close(_text(error))
            raise
        connection.wait_at_most(self._timeout_s)
        return connection

    def _went(self, cause: str) -> None:
        self._cause = cause
        if not self._is_told:
            self._is_told = True
            self._tell(cause)

    def _came_back(self) -> None:
        if self._is_told:
            self._is_told = False
            self._tell(None)

    async def _ask(self, words: bytes) -> Reply:
        connection = self._connection
        if connection is None or connection.is_late:
            raise Away(self._cause)
        try:
            reply = await connection.ask(words)
        except Away as error:
            self._went(str(error))
            raise
        if self._is_told:
            self._came_back()
        return reply

    # -- decisions ------------------------------------------------------------------------------------------------

    def taken(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken | None:
        """None: the server must be asked."""
        return None

    async def take(self, policies: Sequence[Policy], texts: Sequence[str], cost: int) -> Taken:
        names = [_name(text) for text in texts]
        if self._refused and (known := self._known(policies, names, cost)) is not None:
            return known
        sent_s = time.monotonic()
        reply = await self._ask(_decision(b"EVALSHA", SHA, policies, names, cost))
        if isinstance(reply, Refusal) and reply.startswith("NOSCRIPT"):
            reply = await self._ask(_decision(b"EVAL", SCRIPT.decode(), policies, names, cost))
        taken = _parsed(reply, len(policies)) if not isinstance(reply, Refusal) else None
        if taken is None:
            self._hang_up(shown(reply) if isinstance(reply, Refusal) else _NO_DECISION)
        if not taken.passed:
            self._remember(policies, names, taken, sent_s, cost)
        return taken

    def _hang_up(self, cause: str) -> NoReturn:
        """Close the connection: the background task reconnects, and no request does. Raises Away."""
        self._went(cause)
        if self._connection is not None:
            self._connection.close(cause)
        raise Away(cause)

    # -- refusals -------------------------------------------------------------------------------------------------

    def _known(self, policies: Sequence[Policy], names: Sequence[str], cost: int) -> Taken | None:
        """A refusal that is certain, since the waiting time of a key only grows."""
        now_s = time.monotonic()
        ahead_s: list[float | None] = []
        is_refused = False
        for policy, name in zip(policies, names, strict=True):
            free_at_s, until_s = self._refused.get((policy.number, name), (0.0, 0.0))
            if until_s <= now_s:
                ahead_s.append(None)
                continue
            one_s = bounded(free_at_s - now_s, policy.rate.tolerance_s)
            ahead_s.append(one_s)
            is_refused |= after(one_s, policy.rate.interval_s, policy.rate.tolerance_s, cost) is None
        return Taken(False, tuple(ahead_s)) if is_refused else None

    def _remember(
        self, policies: Sequence[Policy], names: Sequence[str], taken: Taken, sent_s: float, cost: int
    ) -> None:
        for policy, name, ahead_s in zip(policies, names, taken.ahead_s, strict=True):
            if ahead_s is not None and after(ahead_s, policy.rate.interval_s, policy.rate.tolerance_s, cost) is None:
                self._refused.pop((policy.number, name), None)
                self._refused[policy.number, name] = (sent_s + ahead_s, sent_s + _REMEMBERED_S)
        while len(self._refused) > _MOST_REMEMBERED:
            del self._refused[next(iter(self._refused))]

    # -- for operators --------------------------------------------------------------------------------------------

    async def forget(self, policy: Policy, text: str) -> bool:
        name = _name(text)
        self._refused.pop((policy.number, name), None)
        return await self._ask(command("DEL", f"{_PREFIX}{policy.name}:{name}")) == 1

    async def over(self, policies: Sequence[Policy]) -> list[Over]:
        keys = dict.fromkeys((policy.name for policy in policies), 0)
        over, rates = dict(keys), {policy.name: policy.rate for policy in policies}
        cursor: Reply = b"0"
        give_up_s = time.monotonic() + _LOOK_S
        while isinstance(cursor, bytes) and time.monotonic() < give_up_s:
            found = await self._ask(command("SCAN", cursor, "MATCH", f"{_PREFIX}*", "COUNT", _LOOK_KEYS))
            if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
                self._hang_up("an answer to SCAN that is none")
            for name, ahead_s in await self._aheads([key for key in found[1] if isinstance(key, bytes)]):
                if name in rates and ahead_s > 0:
                    keys[name] += 1
                    over[name] += left(bounded(ahead_s, rates[name].tolerance_s), rates[name]) == 0
            cursor = found[0]
            if cursor == b"0":
                break
        return [Over(keys[policy.name], over[policy.name]) for policy in policies]

    async def _aheads(self, keys: list[bytes]) -> list[tuple[str, float]]:
        if not keys:
            return []
        clock, values = await asyncio.gather(self._ask(command("TIME")), self._ask(command("MGET", *keys)))
        if not isinstance(clock, list) or not isinstance(values, list):
            self._hang_up("an answer to MGET that is none")
        seconds, micros = (int(one) for one in clock if isinstance(one, bytes))
        now_s = seconds - _EPOCH_S + micros / 1e6
        names = [key.decode("utf-8", "replace").removeprefix(_PREFIX).rpartition(":")[0] for key in keys]
        return [
            (name, float(value) - now_s) for name, value in zip(names, values, strict=True) if isinstance(value, bytes)
        ]


@lru_cache(maxsize=8192)
def _name(text: str) -> str:
    """The name of a key in Valkey, after its policy."""
    return digest(text).hex()


def _decision(verb: bytes, script: str, policies: Sequence[Policy], names: Sequence[str], cost: int) -> bytes:
    """The call of the script: for most requests only the name of the key differs."""
    if len(policies) > 1:
        rates = [repr(number) for one in policies for number in (one.rate.interval_s, one.rate.tolerance_s)]
        keys = [f"{_PREFIX}{policy.name}:{name}" for policy, name in zip(policies, names, strict=True)]
        return command(verb, script, len(keys), *keys, cost, *rates)
    before, after_it = _around(verb, script, policies[0], cost)
    return before + names[0].encode("ascii") + after_it


@lru_cache(maxsize=1024)
def _around(verb: bytes, script: str, policy: Policy, cost: int) -> tuple[bytes, bytes]:
    """The call with one key, up to its name and from there on."""
    name = "0" * len(_name(""))
    numbers = (repr(policy.rate.interval_s), repr(policy.rate.tolerance_s))
    before, _, after_it = command(verb, script, 1, f"{_PREFIX}{policy.name}:{name}", cost, *numbers).rpartition(
        name.encode("ascii")
    )
    return before, after_it


def _parsed(reply: Reply, count: int) -> Taken | None:
    """The decision in the answer of the script; None for anything else."""
    if not isinstance(reply, bytes):
        return None
    words = reply.split()
    try:
        passed, *ahead_s = map(float, words)
    except ValueError:
        return None
    if len(ahead_s) != count or passed not in {0.0, 1.0}:
        return None
    return Taken(passed == 1.0, tuple(ahead_s))


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__
