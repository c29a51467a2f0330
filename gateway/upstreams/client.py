"""The wire: one call to one endpoint.

aiohttp gives the parser of answers and the writer of bodies. Its session is not used: it resends an idempotent request
by itself on a dead connection, which no log line would show; it invents fields and upper-cases methods; and it costs a
third of a proxied request. Nor is its connector, which knows names where we must choose among addresses. So the steps
that they take inside are taken here: connect, write, read the head, keep the connection.
"""

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

import aiohttp
import structlog
from aiohttp import http_exceptions
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import StreamWriter

from gateway.errors import GatewayError, Reason
from gateway.http.deadline import Alarm
from gateway.http.headers import Pair
from gateway.observe.throttle import at_most_every
from gateway.upstreams import call as calls
from gateway.upstreams.call import Call, Outcome, StaleConnection, Unsent
from gateway.upstreams.connection import Connection, UpstreamProtocol
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.errors import translated
from gateway.upstreams.shortage import raise_for_shortage

# A connection stays with the one process behind an address that takes turns, as a Service of Kubernetes is: new ones
# get their share soon.
_OLDEST_S: Final = 60.0
# Interim answers (1xx) before the answer. Nobody sends more than a few, and each costs time.
_MAX_INTERIM: Final = 20
_COMPLAIN_S: Final = 60.0

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Answer:
    """An upstream's answer, as `calls.Answer` says it."""

    __slots__ = (
        *("_call", "_client", "_connection", "_content", "_message", "_outcome", "_protocol", "_was_kept"),
        *("_sent_s", "pairs", "status", "upload"),
    )

    _message: RawResponseMessage
    _content: aiohttp.StreamReader

    def __init__(
        self, client: "Client", call: Call, connection: Connection, outcome: Outcome, *, was_kept: bool
    ) -> None:
        self._client = client
        self._call = call
        self._connection = connection
        self._protocol = connection.protocol
        self._outcome: Outcome | None = outcome
        self._was_kept = was_kept
        self._sent_s = 0.0
        self.upload: asyncio.Task[bool] | None = None
        self.status = 0
        self.pairs: Sequence[Pair] = ()

    async def head(self) -> None:
        protocol, call = self._protocol, self._call
        try:
            message, content = await protocol.read()
            interim = 0
            while 100 <= message.code <= 199 and message.code != 101:  # nobody asked for an upgrade
                interim += 1
                if interim > _MAX_INTERIM:
                    raise self._refused((Reason.RESPONSE_INVALID, f"more than {_MAX_INTERIM} interim answers"))
                if (fault := calls.fault_of_fields(message.raw_headers)) is not None:
                    raise self._refused(fault)
                message, content = await protocol.read()
            codings = message.headers.getall("Transfer-Encoding", ())
            fault = calls.fault_of(message.code, message.raw_headers, codings, chunked=message.chunked)
            if fault is not None:
                raise self._refused(fault)
        # Not when cancelled: whoever does that decides whether to go on waiting.
        except (GatewayError, aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError) as error:
            self._outcome = None  # the exception tells
            self._abort()
            if isinstance(error, GatewayError):
                raise
            failure = translated(error, call.upstream, Reason.CONNECTION_RESET)
            if self._was_kept and failure.reason is Reason.CONNECTION_RESET:
                raise StaleConnection(failure.reason, upstream=call.upstream, cause=failure.cause) from error
            raise failure from error
        self._message, self._content = message, content
        self.status = message.code
        self.pairs = message.raw_headers
        content.on_eof(self._end)

    def _refused(self, fault: calls.Fault) -> GatewayError:
        return GatewayError(fault[0], upstream=self._call.upstream, cause=fault[1])

    def whole(self) -> bytes | None:
        content = self._content
        self._raise_if_broken(content.exception() or self._broke_off())
        if not content.is_eof():
            return None
        self._tell_end()
        return content.read_nowait()

    async def settle(self, max_bytes: int, timeout_s: float, unknown_timeout_s: float) -> bool:
        content = self._content
        length = self._message.headers.get("Content-Length")
        if content.is_eof() or (length is not None and int(length) > max_bytes):
            return True
        had_bytes = 0
        for _ in range(2):  # in its second half the time tells a slow body from one that has stopped
            had_bytes = content.total_bytes
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout((unknown_timeout_s if length is None else timeout_s) / 2):
                    await content.wait_eof()
            self._raise_if_broken(content.exception() or self._broke_off())
            if content.is_eof():
                return True
        return length is None or content.total_bytes > had_bytes

    def _raise_if_broken(self, error: BaseException | None) -> None:
        if error is not None:
            failure = translated(error, self._call.upstream, Reason.RESPONSE_INCOMPLETE)
            self._broke(failure.reason)
            raise failure from error

    async def chunks(self) -> AsyncIterator[bytes]:
        content, loop = self._content, asyncio.get_running_loop()
        asked_at: float | None = loop.time()  # None while the client takes what it was given
        too_slow = GatewayError(Reason.RESPONSE_IDLE_TIMEOUT, upstream=self._call.upstream)

        def since() -> float:  # while its request still goes up, the upstream may wait for the rest
            return max(asked_at, self._sent_s) if asked_at is not None and self._is_sent() else loop.time()

        alarm = Alarm(loop, self._call.idle_timeout_s, since, lambda: content.set_exception(too_slow))
        try:
            while chunk := await _next_chunk(content):
                asked_at = None
                yield chunk
                asked_at = loop.time()
            if (error := self._broke_off()) is not None:
                raise error
            self._tell_end()
        except GatewayError as stalled:
            self._broke(stalled.reason)
            raise
        except aiohttp.ClientError as error:
            self._raise_if_broken(error)
        finally:
            alarm.cancel()
            self.close()

    def _broke_off(self) -> aiohttp.ClientError | None:
        """A body that ends where the connection ends is whole only if the connection ended well.

        aiohttp takes a reset for the end of such a body (RFC 9112, section 8: it must count as incomplete).
        """
        error = self._protocol.exception()
        return error if isinstance(error, aiohttp.ClientOSError) and not self._is_framed() else None

    def _is_framed(self) -> bool:
        """Whether the body says itself where it ends."""
        message = self._message
        return message.chunked or "Content-Length" in message.headers or message.code in {204, 304}

    def _end(self) -> None:
        if self._outcome is None:
            return
        is_framed = self._is_framed()
        if is_framed and self._call.keep and self._is_sent():
            self._client.keep(self._connection)
        else:
            self._abort()  # an early answer: what is left of the request is not wanted any more
        if is_framed:  # else who reads it tells, once it is clear how the connection ended
            self._tell_end()

    def _tell_end(self) -> None:
        if (outcome := self._over()) is not None:
            outcome.ended(self.status)

    def send(self, upload: asyncio.Task[bool]) -> None:
        """Let the body go up meanwhile."""

        def note(_: asyncio.Task[bool]) -> None:
            self._sent_s = asyncio.get_running_loop().time()

        self.upload = upload
        upload.add_done_callback(note)

    def _is_sent(self) -> bool:
        """Whether the request went up whole. On a connection with half of one the next would be its other half."""
        upload = self.upload
        return upload is None or (upload.done() and not upload.cancelled() and upload.result())

    def _broke(self, reason: Reason) -> None:
        if (outcome := self._over()) is not None:
            self._abort()
            outcome.broke(reason)

    def close(self) -> None:
        if (outcome := self._over()) is not None:
            self._abort()
            outcome.dropped()

    def _over(self) -> Outcome | None:
        """Who is to be told, once; then forgotten, or the two would keep each other in memory."""
        outcome, self._outcome = self._outcome, None
        return outcome

    def _abort(self) -> None:
        if self.upload is not None:
            self.upload.cancel()
        self._connection.close()


async def _next_chunk(content: aiohttp.StreamReader) -> bytes:
    """What has arrived, waiting for something; empty at the end. An error comes after what arrived before it."""
    if content.exception() is not None:
        # aiohttp would raise at once, over the head of what it has buffered.
        rest: bytes = content._read_nowait(-1)
        if rest:
            return rest
    return await content.readany()


class Client:
    """Makes calls, and keeps connections alive for the next ones. Make it inside a running loop; `aclose` it there."""

    def __init__(self, tls: ssl.SSLContext | None, keepalive_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._keepalive_s = keepalive_s
        self._throttle = at_most_every(_COMPLAIN_S)
        self._endpoints: set[Endpoint] = set()  # those with idle connections
        self._sweeper: asyncio.TimerHandle | None = None

    async def aclose(self) -> None:
        for endpoint in tuple(self._endpoints):
            self.close_idle(endpoint)
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.sleep(0)  # the transports close in the loop's next turn

    def open_kept(self, call: Call, outcome: Outcome) -> Answer | None:
        """As `open_new`, where a connection was kept for it; else None."""
        connection = self._idle_connection(call) if call.endpoint.idle else None
        return None if connection is None else self._open(call, outcome, connection, was_kept=True)

    async def open_new(self, call: Call, outcome: Outcome, connect_timeout_s: float) -> Answer:
        """Connect and write a call; its body follows while the answer is waited for. Raises GatewayError, `Unsent`.

        Closing the answer before its head closes the connection, so that the upstream sees a broken request.
        """
        return self._open(call, outcome, await self._connect(call, connect_timeout_s), was_kept=False)

    def _open(self, call: Call, outcome: Outcome, connection: Connection, *, was_kept: bool) -> Answer:
        try:
            head = calls.head_of(call)
        except GatewayError:
            connection.close()
            raise
        protocol = connection.protocol
        protocol.expect_answer(without_body=call.method == "HEAD")
        answer = Answer(self, call, connection, outcome, was_kept=was_kept)
        if protocol.transport is not None:  # else it closed just now, which waiting for the head will tell
            body = call.body
            if isinstance(body, bytes):
                protocol.transport.write(head + (calls.one_chunk(body) if call.chunked else body))
            else:
                protocol.transport.write(head)
                if body is not None:
                    writing = _write_body(protocol, body, self._loop, chunked=call.chunked)
                    answer.send(self._loop.create_task(writing))
        return answer

    # -- connections ----------------------------------------------------------------------------------------------

    def _idle_connection(self, call: Call) -> Connection | None:
        """The connection to the endpoint that was used last and is still good."""
        idle = call.endpoint.idle
        now = self._loop.time()
        while idle:
            connection: Connection = idle[-1]
            for_how_long = now - connection.idle_since
            is_fresh = for_how_long < self._keepalive_s and now < connection.retire_at
            if is_fresh and connection.is_good():
                if connection.is_silent():
                    return idle.pop() if for_how_long < call.reuse_idle_s else None
                connection.protocol.refuse()
            idle.pop().close()
        return None

    def keep(self, connection: Connection) -> None:
        """Keep a connection whose answer has ended, if it is worth it."""
        endpoint, now = connection.endpoint, self._loop.time()
        connection.idle_since = now
        connection.protocol.is_asked = False
        unwanted = endpoint.is_gone or not endpoint.is_in or now >= connection.retire_at or not self._keepalive_s
        if unwanted or not connection.is_good():
            connection.close()
            return
        endpoint.idle.append(connection)
        self._endpoints.add(endpoint)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._keepalive_s, self._sweep)

    def close_idle(self, endpoint: Endpoint, since: float = float("inf")) -> None:
        """Close what has been idle since that moment or longer."""
        for connection in (old := [kept for kept in endpoint.idle if kept.idle_since <= since]):
            connection.close()
        del endpoint.idle[: len(old)]
        if not endpoint.idle:
            self._endpoints.discard(endpoint)

    def _sweep(self) -> None:
        for endpoint in tuple(self._endpoints):
            self.close_idle(endpoint, self._loop.time() - self._keepalive_s)
        again = self._endpoints
        self._sweeper = self._loop.call_later(max(0.1, self._keepalive_s / 2), self._sweep) if again else None

    async def _connect(self, call: Call, timeout_s: float) -> Connection:
        """A new connection, to the first address that takes one. Raises Unsent."""
        endpoint = call.endpoint
        try:
            async with asyncio.timeout(timeout_s):
                for number, address in enumerate(endpoint.addresses, start=1):
                    try:
                        protocol = await self._connect_to(endpoint, address, call.upstream)
                        break
                    except OSError as error:
                        raise_for_shortage(error, address, call.upstream)
                        if number == len(endpoint.addresses):
                            raise
        except TimeoutError as error:
            raise Unsent(Reason.CONNECT_TIMEOUT, upstream=call.upstream) from error
        except OSError as error:  # TLS has its errors below it
            failure = translated(error, call.upstream, Reason.CONNECTION_FAILED)
            raise Unsent(failure.reason, upstream=call.upstream, cause=failure.cause) from error
        return Connection(endpoint, protocol, self._loop.time() + _OLDEST_S * random.uniform(0.8, 1.2))

    async def _connect_to(self, endpoint: Endpoint, address: str, upstream: str) -> UpstreamProtocol:
        unasked = partial(self._complain, upstream, endpoint.label)
        tls = self._tls if endpoint.base.scheme == "https" else None
        _, protocol = await self._loop.create_connection(
            lambda: UpstreamProtocol(self._loop, unasked),
            address,
            endpoint.base.port,
            ssl=tls,
            # A name that ends in a dot is absolute; certificates have it without.
            server_hostname=endpoint.base.host.rstrip(".") if tls else None,
        )
        return protocol

    def _complain(self, upstream: str, endpoint: str) -> None:
        """Warn of an upstream that sends what answers nothing, at most once a minute."""
        if self._throttle.take(self._loop.time()):
            _log.warning("upstream.unasked_bytes", upstream=upstream, endpoint=endpoint)


# -- up and down --------------------------------------------------------------------------------------------------


async def _write_body(
    protocol: UpstreamProtocol, body: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, *, chunked: bool
) -> bool:
    """Write the body as it comes, no faster than the upstream reads; whether all of it was written.

    Where the body fails, whoever gave it has broken the exchange off already. Where the upstream has closed, its
    answer, or the lack of one, tells the story.
    """
    writer = StreamWriter(protocol, loop)
    if chunked:
        writer.enable_chunking()
    try:
        async for chunk in body:
            await writer.write(chunk)
        await writer.write_eof()
    except Exception:  # noqa: BLE001 - see above
        return False
    return True
