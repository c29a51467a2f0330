"""One connection to an endpoint: the asyncio protocol that writes requests and reads responses.

How a response is read depends on how it arrives; what it means does not:

| what arrives                                          | is read by           | result                      |
|-------------------------------------------------------|----------------------|-----------------------------|
| in one piece: a plain head and the whole body         | `heads.whole_answer` | `pairs` and `body`, at once |
| anything else, while a response is awaited or read    | aiohttp, new parser  | `pairs`, then `stream`      |
| bytes while none is awaited, or after a complete one  | not read             | closed, with a complaint    |

aiohttp's parser reads all messages in a piece of bytes, and an error discards what came before it in the same piece.
An error, or a further message, after a whole response is not part of it, so the response is kept. If both came in one
piece, the response is parsed again without what follows it.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final, cast

import aiohttp
from aiohttp import http_exceptions
from aiohttp.helpers import EMPTY_BODY_STATUS_CODES, TimerNoop
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.errors import GatewayError, Reason
from gateway.http.headers import FieldLines, strip_hop_by_hop
from gateway.upstreams import heads
from gateway.upstreams.body import StreamedBody
from gateway.upstreams.endpoint import Endpoint
from gateway.upstreams.errors import translated
from gateway.upstreams.heads import MAX_RESPONSE_HEADERS_BYTES
from gateway.upstreams.retry_policy import StaleConnection
from gateway.upstreams.small_reads import SmallReads

_MAX_RESPONSE_FIELDS: Final = 1000
# The socket is paused when twice this is waiting to be read.
_READ_BUFFER_BYTES: Final = 32 * 1024
# A head, and the empty lines before it, of which the parser accepts any number.
_MAX_UNREAD_BYTES: Final = 2 * MAX_RESPONSE_HEADERS_BYTES
# Interim responses (1xx) before the final one. No server sends more than a few, and each costs time.
_MAX_INTERIM: Final = 20
_IDLE_TIMEOUT: Final = (b"HTTP/1.1 408", b"HTTP/1.0 408")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(rb"\n[ \t]")
_NO_TIMER: Final = TimerNoop()

Message = tuple[RawResponseMessage, aiohttp.StreamReader]
_NOTHING: Final = FieldLines()


class Connection(asyncio.Protocol):
    """Reads one response after another: call `ask`, then wait for `arrival` until `status` or `failure` is set.

    `body` is the whole body if it came with the head; otherwise read `stream`. `complain` is called for bytes that
    belong to no response. `upstream` is the name of the service, for failures.

    `switches` in `ask` permits a 101 response. Then the connection reads no more, and `hand_over` gives it away.
    """

    # What aiohttp's StreamReader needs of its protocol, besides `pause_reading` and `resume_reading`.
    connected = True

    def __init__(self, endpoint: Endpoint, upstream: str, retire_at: float, complain: Callable[[], object]) -> None:
        self.endpoint = endpoint
        self._upstream = upstream
        self.retire_at = retire_at  # by the loop's clock, as `idle_since` is
        self.idle_since = 0.0
        self.was_kept = False  # it has been idle, so the upstream may have closed it
        self.is_asked = False  # a request was written, and the connection has not been returned since
        self.transport: asyncio.Transport | None = None
        self.lost: BaseException | None = None  # the error that ended it, if any
        self._complain = complain
        self._loop = asyncio.get_running_loop()
        self._may_be_kept = True
        self._reading_paused = False
        self._reads_small = False
        self._writable: asyncio.Future[None] | None = None  # while the write buffer is full
        self._forget()

    def _forget(self) -> None:
        self.status = 0
        self.pairs = _NOTHING
        self.body: bytes | None = None
        self.stream: StreamedBody | None = None
        self._reader: aiohttp.StreamReader | None = None
        self.failure: GatewayError | None = None  # why no head will come
        self._arrival: asyncio.Future[None] | None = None
        self._awaits_head = False
        self._without_body = self._switches = False
        self._parser: HttpResponseParser | None = None
        self._unread = b""  # the start of an incomplete head; after a 101, what is not HTTP
        self._interim = 0

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, request: bytes, *, without_body: bool, switches: bool = False) -> None:
        """Write a request, or its beginning, and expect its response. `without_body`: the request is HEAD."""
        self._forget()
        self._without_body, self._switches = without_body, switches
        self._awaits_head = self.is_asked = True
        if self.transport is None:  # it closed just now
            self._fail(self.lost or aiohttp.ServerDisconnectedError())
        else:
            self.transport.write(request)

    async def send(self, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
        """Write the request body as it comes, no faster than the upstream reads; returns whether all was written.

        If the body fails, its source has already aborted the request. If the upstream has closed, its response, or
        the lack of one, decides the outcome.
        """
        try:
            async for piece in body:
                if not await self._write((b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,)):
                    return False
            return await self._write((b"0\r\n\r\n",)) if chunked else self.transport is not None
        except Exception:  # noqa: BLE001 - see above
            return False

    async def _write(self, pieces: Sequence[bytes]) -> bool:
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        transport.writelines(pieces)
        if self._writable is not None:
            await self._writable
        return self.transport is not None

    def arrival(self) -> asyncio.Future[None]:
        """Done when the head is here, none will come, or `wake` was called. A cancelled wait needs no clean-up."""
        arrival = self._arrival = self._loop.create_future()
        if not self._awaits_head:
            arrival.set_result(None)
        return arrival

    def wake(self) -> None:
        """Wake the task that waits for `arrival`."""
        arrival, self._arrival = self._arrival, None
        if arrival is not None and not arrival.done():
            arrival.set_result(None)

    # -- reading ------------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._awaits_head and self._parser is None:
            whole = heads.whole_answer(data, without_body=self._without_body)
            if whole is not None:
                self._awaits_head = False
                self.status, self.pairs, self.body, closes = whole
                if closes:
                    self._may_be_kept = False
                self.wake()
                return
            self._parser = self._new_parser()
        if self._parser is not None and self.is_asked:
            self._parse(data)
        elif data:
            # Many servers send 408 on an idle connection before they close it.
            self.refuse(quietly=data.startswith(_IDLE_TIMEOUT))

    def _new_parser(self) -> HttpResponseParser:
        # A reused parser would put the trailers of this response into the head of the next one.
        return HttpResponseParser(
            self,  # type: ignore[arg-type]  # as far as its streams look at it
            self._loop,
            _READ_BUFFER_BYTES,
            timer=_NO_TIMER,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=not self._without_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=MAX_RESPONSE_HEADERS_BYTES,
            max_field_size=MAX_RESPONSE_HEADERS_BYTES,
            max_headers=_MAX_RESPONSE_FIELDS,
        )

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - `data_received` has looked
        try:
            messages, upgraded, rest = self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - any parse error
            self._misread(data, error)
            return
        if messages:
            self._take(messages, data)
        elif self._awaits_head:
            self._unread += data
            if len(self._unread) > _MAX_UNREAD_BYTES:
                self._fail(http_exceptions.BadHttpMessage(f"Got more than {_MAX_UNREAD_BYTES} bytes without a head"))
        if upgraded:  # what follows is not HTTP
            self._parser, self._unread = None, rest
            self._may_be_kept = False
            if self.status == 101:
                self.pause_reading()

    def _take(self, messages: Sequence[Message], data: bytes) -> None:
        """Read the heads that `data` completed, interim ones too."""
        if self._awaits_head:
            raw = self._unread + data if self._unread else data
            end = _end_of_heads(raw, messages)
            if end < 0:
                self._fail(http_exceptions.BadHttpMessage("A field line begins with white space"))
                return
            self._unread = raw[end:] if _is_interim(messages[-1][0]) else b""
        for message, payload in messages:
            if not self._awaits_head:
                self.refuse()
                break
            if message.should_close:
                self._may_be_kept = False
            if _is_interim(message):
                self._interim += 1
                fault = heads.fault_of_fields(message.raw_headers)
                if self._interim > _MAX_INTERIM:
                    fault = Reason.RESPONSE_INVALID, f"more than {_MAX_INTERIM} interim answers"
            else:
                self._take_head(message, payload)
                fault = self._fault_of(message)
            if fault is not None:
                self._fail(GatewayError(fault[0], upstream=self._upstream, cause=fault[1]))
                return
        if not self._awaits_head:
            self.wake()

    def _take_head(self, message: RawResponseMessage, payload: aiohttp.StreamReader) -> None:
        without_body = self._without_body or message.code in EMPTY_BODY_STATUS_CODES
        self._awaits_head = False
        self._reader = EMPTY_PAYLOAD if without_body else payload
        length = message.headers.get("Content-Length")
        is_framed = message.chunked or length is not None or message.code in {204, 304}
        number = None if length is None else int(length)
        self.stream = StreamedBody(self._reader, self, self._upstream, is_framed=is_framed, length=number)
        if not without_body and self.transport is not None and not self._reader.is_eof():
            self._reads_small = True
            self.transport.set_protocol(SmallReads(self))
        self.status, self.pairs = message.code, strip_hop_by_hop(message.raw_headers)

    def _fault_of(self, message: RawResponseMessage) -> heads.Fault | None:
        status = message.code
        if status == 101 and self._switches and message.upgrade:
            return heads.fault_of_fields(message.raw_headers)
        codings = message.headers.getall("Transfer-Encoding", ())
        return heads.fault_of(status, message.raw_headers, codings, chunked=message.chunked)

    # -- what cannot be read ------------------------------------------------------------------------------------------

    def _misread(self, data: bytes, error: Exception) -> None:
        if self._awaits_head and (messages := self._answer_before_error(self._unread + data)):
            self._take(messages, data)
        if not self._awaits_head and self._reader is not None and self._reader.is_eof():
            self.refuse()
        else:
            self._fail(error)

    def _answer_before_error(self, data: bytes) -> Sequence[Message]:
        """The messages up to the first final response, if `data` holds all of it; otherwise none."""
        parser = self._parser = self._new_parser()
        messages: list[Message] = []
        start = 0
        try:
            for end in _HEAD_END.finditer(data):
                messages += parser.feed_data(data[start : end.end()])[0]
                start = end.end()
                if messages and not _is_interim(messages[-1][0]):
                    parser.feed_data(data[start:])
                    break
        except Exception:  # noqa: BLE001, S110 - the error that follows is known already
            pass
        return messages if messages and messages[-1][0].code >= 200 and messages[-1][1].is_eof() else ()

    def _fail(self, error: BaseException) -> None:
        """The response that is awaited or being read cannot be read."""
        self._may_be_kept = False
        if self.failure is None and (self._awaits_head or isinstance(error, GatewayError)):
            self._awaits_head = False
            self.status = 0
            self.failure = self._translated(error)
            self.wake()
        elif self.lost is None:
            self.lost = error
        if self.transport is not None:
            self.transport.close()

    def fail(self, failure: GatewayError) -> None:
        """Fail the awaited response with this failure. For a network that injects failures."""
        self._fail(failure)

    def _translated(self, error: BaseException) -> GatewayError:
        if isinstance(error, GatewayError):
            return error
        known = isinstance(error, (http_exceptions.HttpProcessingError, aiohttp.ClientError))
        failure = translated(
            error if known else http_exceptions.HttpProcessingError(message=repr(error)),
            self._upstream,
            Reason.CONNECTION_RESET,
        )
        if self.was_kept and failure.reason is Reason.CONNECTION_RESET:
            failure = StaleConnection(failure.reason, upstream=self._upstream, cause=failure.cause)
        failure.__cause__ = error
        return failure

    def refuse(self, *, quietly: bool = False) -> None:
        """Close the connection over bytes that belong to no response: they would be read as the next one."""
        self.close()
        if not quietly:
            self._complain()

    # -- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's class is not a subclass

    def eof_received(self) -> None:
        """`connection_lost` follows."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._may_be_kept = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if isinstance(exc, OSError) and self.lost is None:
            self.lost = aiohttp.ClientOSError(*exc.args)
        parser, self._parser = self._parser, None
        unfinished: RawResponseMessage | None = None
        fault: Exception | None = None
        if parser is not None:
            try:
                unfinished = parser.feed_eof()  # it completes a body that ends with the connection
            except Exception as error:  # noqa: BLE001 - whatever is missing
                fault = error
        if self._awaits_head:
            self._fail(self.lost or aiohttp.ServerDisconnectedError(unfinished))
        body = self._reader
        if body is not None and not body.is_eof() and body.exception() is None:
            # The parser's own error tells most.
            why = str(self.lost or "connection closed")
            if fault is not None and (self.lost is None or exc is not None):
                why = f"Response payload is not completed: {fault!r}" + (f". {exc!r}" if exc is not None else "")
            body.set_exception(aiohttp.ClientPayloadError(why))

    def pause_reading(self) -> None:
        """Called by a stream whose buffer is full."""
        self._reading_paused = True
        if self._parser is not None:
            self._parser.pause_reading()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by a stream that was read from or has ended."""
        if not self._reading_paused:
            return
        self._reading_paused = False
        if resume_parser and self._parser is not None:
            self._parse(b"")  # the parser kept what it had not parsed yet
        if not self._reading_paused and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def read_freely(self) -> None:
        """From now on, read pieces as large as the socket gives."""
        if self._reads_small and self.transport is not None:
            self._reads_small = False
            self.transport.set_protocol(self)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    # -- again, or not ------------------------------------------------------------------------------------------------

    def is_good(self) -> bool:
        """Whether it is open and may be kept: nothing came that belongs to no response."""
        return self._may_be_kept and self.transport is not None and not self.transport.is_closing()

    def is_silent(self) -> bool:
        """Whether the parser holds no partial message: the next request would get the rest of it."""
        if self._parser is None:
            return True
        try:
            return self._parser.feed_eof() is None
        except Exception:  # noqa: BLE001 - the parser rejects what it holds
            return False

    def kept(self, now_s: float) -> None:
        """Its response has ended; from now on it is idle."""
        self.read_freely()
        self.idle_since = now_s
        self.is_asked = False
        self.was_kept = True

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the paused transport, and the bytes after the head. Set its protocol, then resume it.

        Raises ConnectionError if the connection was lost meanwhile.
        """
        transport, self.transport = self.transport, None
        if transport is None or transport.is_closing():
            raise ConnectionError("the connection was lost")
        return transport, self._unread

    def close(self) -> None:
        """Close without waiting, neither for an upstream that does not read nor for TLS."""
        self._may_be_kept = False
        self._parser = None
        if self.transport is not None:
            self.transport.abort()


def _is_interim(message: RawResponseMessage) -> bool:
    return 100 <= message.code <= 199 and message.code != 101


def _end_of_heads(raw: bytes, messages: Sequence[Message]) -> int:
    """The end of the heads at the start of `raw`, up to the head of the final response, if there is one; -1 if one of
    their lines begins with white space.

    Such a line continues the one before it (obs-fold), or is ignored after the status line: RFC 9112, sections 5.2
    and 2.2. Parsers differ, so it is refused. aiohttp accepts it, and its result does not show it.
    """
    # The usual case, one head of plain lines: before its end it has as many line ends as fields.
    end = raw.find(b"\r\n\r\n")
    fields = len(messages[0][0].raw_headers)
    if len(messages) == 1 and end > 0 and raw.count(b"\n", 0, end) == fields and raw[raw.find(b"\n") + 1] > 0x20:
        return end + 4
    # Another message may follow the final one. Between them is a body, and its lines are not fields.
    final = next((n for n, (message, _) in enumerate(messages, 1) if not _is_interim(message)), len(messages))
    end = len(raw) - len(raw.lstrip(b"\r\n"))
    for _ in range(final):
        mark = _HEAD_END.search(raw, end)
        start, end = end, len(raw) if mark is None else mark.end()
        if _FOLD.search(raw, start, end):
            return -1
    return end
