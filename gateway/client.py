"""The wire: one call to one endpoint. The only module that knows aiohttp.

aiohttp gives the connections (its connector: DNS, TLS, addresses), the parser of answers and the writer of bodies.
`ClientSession.request` is not used. It resends an idempotent request by itself on a dead connection, which no log
line would show; it invents fields and upper-cases methods; and it costs a third of a proxied request. So the three
steps that it takes inside are taken here: connect, write, read the head.

Foreign exceptions become `GatewayError`s here and nowhere else.
"""

import asyncio
import errno
import re
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import Final

import aiohttp
from aiohttp import http_exceptions
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http_parser import RawResponseMessage
from aiohttp.http_writer import StreamWriter
from yarl import URL

from gateway.calls import Call, StaleConnection
from gateway.config import Base
from gateway.errors import GatewayError, Reason
from gateway.exchange import Alarm
from gateway.headers import Pair

MAX_RESPONSE_HEADERS_BYTES: Final = 64 * 1024
# Below the 5 s that the usual server keeps an idle connection, so that it is seldom closed just as it is used again.
KEEPALIVE_S: Final = 4.0
_MAX_RESPONSE_FIELDS: Final = 1000
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# aiohttp pauses the socket when twice this is waiting to be read.
_READ_BUFFER_BYTES: Final = 64 * 1024


class Answer:
    """An upstream's answer: its head, and a body that is read as it arrives. Read it to its end or `close` it."""

    __slots__ = (
        "_call",
        "_connection",
        "_content",
        "_is_over",
        "_keep",
        "_message",
        "_protocol",
        "_upload",
        "pairs",
        "status",
    )

    def __init__(
        self, call: Call, connection: Connection, head: tuple[RawResponseMessage, aiohttp.StreamReader]
    ) -> None:
        message, content = head
        self._call = call
        self._connection = connection
        self._content = content
        self._message = message
        self._protocol = connection.protocol
        self._upload: asyncio.Task[None] | None = None
        self._is_over = False
        self._keep: Callable[[Connection], None] = Connection.close
        self.status = message.code
        self.pairs: Sequence[Pair] = message.raw_headers

    def whole(self) -> bytes | None:
        """The body if all of it is here already, else None and nothing was taken.

        Raises RESPONSE_INCOMPLETE if it broke off already: nothing has left yet, so the client gets a clear answer.
        """
        content = self._content
        error = content.exception() or self._broke_off()
        if error is not None:
            self.close()
            raise _translated(error, self._call.upstream, Reason.RESPONSE_INCOMPLETE) from error
        return content.read_nowait() if content.is_eof() else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises GatewayError RESPONSE_INCOMPLETE or RESPONSE_IDLE_TIMEOUT."""
        content, loop = self._content, asyncio.get_running_loop()
        asked_at = loop.time()
        stalled = GatewayError(Reason.RESPONSE_IDLE_TIMEOUT, upstream=self._call.upstream)
        alarm = Alarm(loop, self._call.idle_timeout_s, lambda: asked_at, lambda: content.set_exception(stalled))
        if self._protocol is not None:
            _watch_closing(self._protocol, content)
        try:
            while chunk := await _next_chunk(content):
                yield chunk
                # The client may have been slow to take it: the upstream's time starts when we ask again.
                asked_at = loop.time()
            if (error := self._broke_off()) is not None:
                raise error
        except aiohttp.ClientError as error:
            raise _translated(error, self._call.upstream, Reason.RESPONSE_INCOMPLETE) from error
        finally:
            alarm.cancel()
            self.close()

    def _broke_off(self) -> aiohttp.ClientError | None:
        """A body that ends where the connection ends is whole only if the connection ended well.

        aiohttp takes a reset for the end of such a body (RFC 9112, section 8: it must count as incomplete).
        """
        error = self._protocol.exception() if self._protocol is not None else None
        if not isinstance(error, aiohttp.ClientOSError):
            return None
        return None if self._message.chunked or "Content-Length" in self._message.headers else error

    def follow(self, upload: asyncio.Task[None] | None, keep: Callable[[Connection], None]) -> None:
        """Let the connection go when the answer ends: to `keep`, if the request went up whole too."""
        self._upload = upload
        self._keep = keep
        self._content.on_eof(self._end)

    def _end(self) -> None:
        if self._upload is None or self._upload.done():
            self._is_over = True
            self._keep(self._connection)
        else:
            self.close()  # an early answer: what is left of the request is not wanted any more

    def close(self) -> None:
        """Break it off: the connection is closed, unless it was let go already. Never waits."""
        if self._upload is not None:
            self._upload.cancel()
        if not self._is_over:
            self._is_over = True
            _abort(self._connection)


def _watch_closing(protocol: ResponseHandler, content: aiohttp.StreamReader) -> None:
    """Let the body know when its connection closes: aiohttp tells an error of the parser only to the connection."""
    known = protocol.__dict__
    known["body"] = content
    if "closing_watched" in known:
        return
    known["closing_watched"] = True

    def on_closed(closed: asyncio.Future[None] | None) -> None:
        if closed is not None and not closed.cancelled():
            closed.exception()  # taken, or asyncio complains that nobody looked
        body: aiohttp.StreamReader = known["body"]
        if not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError(str(protocol.exception() or "connection closed")))

    closed = protocol.closed
    if closed is None:
        on_closed(None)
    else:
        closed.add_done_callback(on_closed)


async def _next_chunk(content: aiohttp.StreamReader) -> bytes:
    """What has arrived, waiting for something; empty at the end. An error comes after what arrived before it."""
    if content.exception() is not None:
        # aiohttp would raise at once, over the head of what it has buffered.
        rest: bytes = content._read_nowait(-1)
        if rest:
            return rest
    return await content.readany()


class Client:
    """The connections to one upstream. Make it inside a running loop; `aclose` it there."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls: ssl.SSLContext | bool = tls or True
        self._timer = TimerNoop()
        self._connector = aiohttp.TCPConnector(limit=0)
        # Idle connections, the last used one last. aiohttp keeps some itself, at 8 us a call and without telling
        # whether a connection has served before.
        self._idle: dict[Base, list[tuple[Connection, float]]] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._destinations: dict[Base, aiohttp.ClientRequest] = {}

    async def aclose(self) -> None:
        self._close_idle(since=float("inf"))
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._connector.close()

    async def send(self, call: Call) -> Answer:
        """Send a call and wait for the head of its answer.

        Raises GatewayError, `StaleConnection` where a connection that had served before was lost. Cancelling closes
        the connection, so that the upstream sees a broken request, never a whole one.
        """
        head = _head(call)
        kept = self._idle_connection(call.base)
        connection = kept or await self._connect(call)
        protocol = connection.protocol
        if protocol is None:
            raise GatewayError(Reason.CONNECTION_FAILED, upstream=call.upstream)
        upload = None
        try:
            self._expect_answer(protocol, call.method)
            if protocol.transport is None:
                raise aiohttp.ClientConnectionResetError("closed before the request was written")
            protocol.transport.write(head)
            if call.body is not None:
                upload = self._loop.create_task(_write_body(protocol, call.body, self._loop, chunked=call.chunked))
            answer = Answer(call, connection, await _read_head(protocol, call))
        except BaseException as error:
            if upload is not None:
                upload.cancel()
            _abort(connection)
            if not isinstance(error, (aiohttp.ClientError, http_exceptions.HttpProcessingError, OSError)):
                raise
            failure = _translated(error, call.upstream, Reason.CONNECTION_RESET)
            if kept and failure.reason is Reason.CONNECTION_RESET:
                raise StaleConnection(failure.reason, upstream=call.upstream, cause=failure.cause) from error
            raise failure from error
        answer.follow(upload, partial(self._keep, call.base))
        return answer

    # -- connections ----------------------------------------------------------------------------------------------

    def _idle_connection(self, base: Base) -> Connection | None:
        """The connection to a base that was used last and is still good."""
        idle = self._idle.get(base)
        oldest = self._loop.time() - KEEPALIVE_S
        while idle:
            connection, since = idle.pop()
            protocol = connection.protocol
            # One that has said something unasked, `408` and a close as a rule, `should_close`.
            if since >= oldest and protocol is not None and protocol.is_connected() and not protocol.should_close:
                return connection
            connection.close()
        return None

    def _keep(self, base: Base, connection: Connection) -> None:
        protocol = connection.protocol
        if protocol is None or protocol.should_close:
            connection.close()
            return
        self._idle.setdefault(base, []).append((connection, self._loop.time()))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(KEEPALIVE_S, self._sweep)

    def _sweep(self) -> None:
        self._close_idle(since=self._loop.time() - KEEPALIVE_S)
        self._sweeper = self._loop.call_later(KEEPALIVE_S / 2, self._sweep) if any(self._idle.values()) else None

    def _close_idle(self, since: float) -> None:
        """Close what has been idle since that moment or longer."""
        for idle in self._idle.values():
            for connection, _ in (old := [kept for kept in idle if kept[1] <= since]):
                connection.close()
            del idle[: len(old)]

    async def _connect(self, call: Call) -> Connection:
        try:
            return await self._connector.connect(
                self._destination(call.base), traces=[], timeout=_connect_timeout(call.connect_timeout_s)
            )
        except TimeoutError as error:
            raise GatewayError(Reason.CONNECT_TIMEOUT, upstream=call.upstream) from error
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error, call.upstream, Reason.CONNECTION_FAILED) from error

    def _destination(self, base: Base) -> aiohttp.ClientRequest:
        """aiohttp's connector takes a request for where to connect to; one serves for all calls to a base."""
        request = self._destinations.get(base)
        if request is None:
            request = aiohttp.ClientRequest("GET", URL(base.origin), loop=self._loop, ssl=self._tls)
            self._destinations[base] = request
        return request

    def _expect_answer(self, protocol: ResponseHandler, method: str) -> None:
        protocol.set_response_params(
            timer=self._timer,
            skip_payload=method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=None,
            read_bufsize=_READ_BUFFER_BYTES,
            max_line_size=MAX_RESPONSE_HEADERS_BYTES,
            max_field_size=MAX_RESPONSE_HEADERS_BYTES,
            max_headers=_MAX_RESPONSE_FIELDS,
        )


@lru_cache(maxsize=64)
def _connect_timeout(seconds: float) -> aiohttp.ClientTimeout:
    # aiohttp rounds timeouts up to whole seconds above a threshold: here there is none.
    return aiohttp.ClientTimeout(total=None, connect=seconds, ceil_threshold=1e9)


# -- up and down --------------------------------------------------------------------------------------------------


def _head(call: Call) -> bytes:
    """The request's head (RFC 9112, sections 3 and 5). Raises HEADER_INVALID for a field that would break its line."""
    lines = [f"{call.method} {call.target} HTTP/1.1".encode("ascii")]
    lines += [name + b": " + value for name, value in call.pairs]
    if call.chunked:
        lines.append(b"transfer-encoding: chunked")
    head = b"\r\n".join(lines)
    # A line break within a field would begin another one. The door and the configuration let none through; this holds.
    breaks = len(lines) - 1
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks or b"\0" in head:
        raise GatewayError(Reason.HEADER_INVALID, "A field line holds a line break or NUL.")
    return head + b"\r\n\r\n"


async def _write_body(
    protocol: ResponseHandler, body: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, *, chunked: bool
) -> None:
    """Write the body as it comes, no faster than the upstream reads.

    Where the body fails, whoever gave it has broken the exchange off already, and the connection is closed without
    the end of the body. Where the upstream has closed, its answer, or the lack of one, tells the story.
    """
    writer = StreamWriter(protocol, loop)
    if chunked:
        writer.enable_chunking()
    try:
        async for chunk in body:
            await writer.write(chunk)
        await writer.write_eof()
    except Exception:  # noqa: BLE001 - see above
        return


def _abort(connection: Connection) -> None:
    """Close without writing what is buffered: towards an upstream that does not read, that would never end."""
    if connection.protocol is not None:
        connection.protocol.abort()
    connection.close()


async def _read_head(protocol: ResponseHandler, call: Call) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    """The head of the final answer and its body; interim ones (1xx) are skipped. Raises GatewayError."""
    while True:
        message, content = await protocol.read()
        if not 100 <= message.code <= 199 or message.code == 101:  # nobody asked for an upgrade
            break
    fault = _fault_of(message)
    if fault is not None:
        reason, cause = fault
        raise GatewayError(reason, upstream=call.upstream, cause=cause)
    return message, content


def _fault_of(message: RawResponseMessage) -> tuple[Reason, str] | None:
    """Why a head that aiohttp parsed may not go down, if so: it would not survive the way, or mean something else."""
    block = b"".join(chain.from_iterable(message.raw_headers))
    size = len(block) + 4 * len(message.raw_headers)
    if size > MAX_RESPONSE_HEADERS_BYTES:
        return Reason.RESPONSE_HEADERS_TOO_LARGE, f"{size} bytes of header fields"
    if not 200 <= message.code <= 599:
        return Reason.RESPONSE_INVALID, f"status {message.code}"
    if _CONTROL.search(block):
        return Reason.RESPONSE_INVALID, "a control character in a header field"
    coding = message.headers.get("Transfer-Encoding")
    if coding is not None and coding.strip().lower() != "chunked":
        # It is taken off here, and nobody below could know that the body is still coded (RFC 9112, section 6.1).
        return Reason.RESPONSE_INVALID, f"Transfer-Encoding: {coding}"
    return None


# -- foreign exceptions -------------------------------------------------------------------------------------------


def _translated(error: BaseException, upstream: str, otherwise: Reason) -> GatewayError:
    """The word for what aiohttp or the system raised; `otherwise` is the word of the phase it was raised in."""
    return GatewayError(_reason(error, otherwise), upstream=upstream, cause=_cause(error))


def _reason(error: BaseException, otherwise: Reason) -> Reason:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Reason.DNS_FAILED
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Reason.TLS_CERTIFICATE
    if isinstance(error, aiohttp.ClientSSLError) or _is_tls(error):
        return Reason.TLS_FAILED
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connect_reason(error.os_error)
    if isinstance(error, http_exceptions.HttpProcessingError):
        return Reason.RESPONSE_HEADERS_TOO_LARGE if _is_too_long(error) else Reason.RESPONSE_INVALID
    return otherwise


def _connect_reason(error: OSError) -> Reason:
    # Where several addresses were tried, asyncio joins their errors into one text without a number.
    refused = f"Errno {errno.ECONNREFUSED}"
    text = str(error)
    if error.errno == errno.ECONNREFUSED or (
        "Multiple exceptions" in text and text.count("Errno") == text.count(refused)
    ):
        return Reason.CONNECTION_REFUSED
    return Reason.CONNECT_TIMEOUT if error.errno == errno.ETIMEDOUT else Reason.CONNECTION_FAILED


def _is_tls(error: BaseException) -> bool:
    """With TLS 1.3 a peer's refusal of our certificate comes after the handshake, as an error of the connection."""
    return isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and "[SSL" in str(error))


def _is_too_long(error: http_exceptions.HttpProcessingError) -> bool:
    """aiohttp says so by an error of its own, but hands on only its text."""
    return "Got more than" in error.message or "Too many headers" in error.message


def _cause(error: BaseException) -> str:
    """What a log line says of it: the kind and the text, on one line, bounded."""
    text = str(error).replace(" ssl:default", "")  # said of plain http too
    return " ".join(f"{type(error).__name__}: {text}".split())[:300]
