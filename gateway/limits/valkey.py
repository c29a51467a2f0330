"""One connection to Valkey: all decisions of a worker go through it, one after the other, without waiting in between.

No decision waits longer than the timeout. After one has, nothing is sent until the server has answered all earlier
commands; if it does not within a second, the connection is replaced.
"""

import asyncio
import ssl
from collections import deque
from typing import Final

from gateway.limits.resp import Garbage, Reader, Refusal, Reply, command
from gateway.limits.store import Away
from gateway.limits.valkey_url import ValkeyUrl

HANDSHAKE_S: Final = 1.0
_SILENT_S: Final = 1.0  # how long a server may owe answers before the connection is closed
_SECOND_LOOK_S: Final = 0.001


class Connection(asyncio.Protocol):
    """Send with `ask`; `lost` is done, with the reason, once it is of no more use, `closed` once its socket is
    closed."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.is_late = False  # an answer is owed for longer than the timeout
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._asked: deque[tuple[float, asyncio.Future[Reply]]] = deque()  # the oldest first
        self._unsent: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            for reply in self._reader.feed(data):
                if not self._asked:
                    raise Garbage("an answer that nobody asked for")
                _, future = self._asked.popleft()
                if not future.done():
                    future.set_result(reply)
        except Garbage as error:
            self.close(str(error))
            return
        if self.is_late and (not self._asked or not self._asked[0][1].done()):
            self.is_late = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("the connection ended" if exc is None else str(exc) or type(exc).__name__)
        if not self.closed.done():
            self.closed.set_result(None)

    def ask(self, words: bytes) -> "asyncio.Future[Reply]":
        """The answer to a command. It raises Away, after the timeout at the latest."""
        if self._transport is None or self.lost.done():
            raise Away("the connection ended")
        now_s = self._loop.time()
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._asked.append((now_s, future))
        if not self._unsent:  # all commands of one turn of the loop are one write
            self._loop.call_soon(self._send)
        self._unsent.append(words)
        if self._timer is None:
            self._timer = self._loop.call_at(now_s + self._timeout_s, self._look)
        return future

    def _send(self) -> None:
        words, self._unsent = self._unsent, []
        if self._transport is not None and not self.lost.done():
            self._transport.write(b"".join(words))

    def close(self, cause: str) -> None:
        """Close it; waiting callers go on without an answer."""
        if self.lost.done():
            return
        self.lost.set_result(cause)
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        for _, future in self._asked:
            if not future.done():
                future.set_exception(Away(cause))
        self._asked.clear()

    def wait_at_most(self, timeout_s: float) -> None:
        """Set how long answers are waited for."""
        self._timeout_s = timeout_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._loop.call_later(timeout_s, self._look)

    def _look(self) -> None:
        """Check whether an answer is overdue.

        A loop that was busy for that long calls its timers before it reads: the answer may have arrived already. So an
        overdue answer is checked again once the loop has read.
        """
        self._timer = None
        if self._asked:
            sent_s = self._asked[0][0]
            is_due = sent_s + self._timeout_s <= self._loop.time()
            wait_s = _SECOND_LOOK_S if is_due else sent_s + self._timeout_s - self._loop.time()
            self._timer = self._loop.call_later(wait_s, self._give_up if is_due else self._look)

    def _give_up(self) -> None:
        """Callers that have waited for longer than the timeout go on without an answer."""
        self._timer = None
        now_s = self._loop.time()
        for sent_s, future in self._asked:
            if sent_s + self._timeout_s > now_s:
                self._timer = self._loop.call_at(sent_s + self._timeout_s, self._give_up)
                return
            self.is_late = True
            if not future.done():
                future.set_exception(Away(f"no answer within {self._timeout_s * 1000:g} ms"))
        if self._asked:
            if now_s - self._asked[0][0] > _SILENT_S:
                self.close(f"no answer within {_SILENT_S:g} s")
            else:
                self._timer = self._loop.call_later(_SILENT_S / 4, self._give_up)


async def connect(url: ValkeyUrl, context: ssl.SSLContext | None) -> Connection:
    """An authenticated connection, made within HANDSHAKE_S. Raises Away, OSError, ssl.SSLError."""
    loop = asyncio.get_running_loop()
    name = url.host if context is not None else None
    _, connection = await loop.create_connection(
        lambda: Connection(HANDSHAKE_S), url.host, url.port, ssl=context, server_hostname=name
    )
    try:
        if url.password or url.user:
            words = [url.user, url.password] if url.user else [url.password]
            await expect(connection, "AUTH", *words)
        if url.database:
            await expect(connection, "SELECT", url.database)
    except BaseException:
        connection.close("the connection was not needed")
        raise
    return connection


async def expect(connection: Connection, *words: bytes | str | float) -> Reply:
    """The answer to a command that cannot fail on a proper server. Raises Away."""
    reply = await connection.ask(command(*words))
    if isinstance(reply, Refusal):
        raise Away(shown(reply))
    return reply


def shown(refusal: Refusal) -> str:
    """The error of Valkey, for the log."""
    return "".join(one if one.isprintable() else "?" for one in refusal[:200])
