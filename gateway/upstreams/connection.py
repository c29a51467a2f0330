"""One connection to an endpoint: what the event loop calls when bytes come, and what writes a request.

How an answer is read depends on how it came, what it is does not:

| what comes                                           | is read by                  | is                          |
|------------------------------------------------------|-----------------------------|-----------------------------|
| one piece: a plain head and all its length promises  | `heads.whole_answer`        | `pairs` and `body`, at once |
| anything else while an answer is awaited or comes in | aiohttp's parser, made anew | `pairs`, then `stream`      |
| bytes while none is awaited, or behind a whole one   | nobody: closed, and said so | nothing                     |

The parser reads as many messages as a piece of bytes holds, and an error in it swallows what stood before the error in
the same piece. So an error, or a further message, behind a whole answer is none of it: the answer stands, and where
they came in one piece with it, it is read again without what follows it.
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
# A head, and empty lines before it, which the parser takes without end.
_MAX_UNREAD_BYTES: Final = 2 * MAX_RESPONSE_HEADERS_BYTES
# Interim answers (1xx) before the answer. Nobody sends more than a few, and each costs time.
_MAX_INTERIM: Final = 20
_IDLE_TIMEOUT: Final = (b"HTTP/1.1 408", b"HTTP/1.0 408")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(rb"\n[ \t]")
_NO_TIMER: Final = TimerNoop()

Message = tuple[RawResponseMessage, aiohttp.StreamReader]
_NOTHING: Final = FieldLines()


class Connection(asyncio.Protocol):
    """For one answer after the other: `ask`, then wait for `arrival` until `status` or `failure` is set.

    `body` is the whole body where it came with the head; else `stream` gives it. `complain` is called when bytes come
    that answer nothing. `upstream` is the name of the service, for failures.

    `switches` in `ask` lets the answer be 101: then the connection is read no more, and `hand_over` gives it away.
    """

    # What aiohttp's StreamReader asks of the protocol below it, beside `pause_reading` and `resume_reading`.
    connected = True

    def __init__(self, endpoint: Endpoint, upstream: str, retire_at: float, complain: Callable[[], object]) -> None:
        self.endpoint = endpoint
        self._upstream = upstream
        self.retire_at = retire_at  # by the loop's clock, as `idle_since` is
        self.idle_since = 0.0
        self.was_kept = False  # it has been idle, so that the upstream may have closed it
        self.is_asked = False  # a request was written, and the connection was not given back since
        self.transport: asyncio.Transport | None = None
        self.lost: BaseException | None = None  # how it ended, where it did not end well
        self._complain = complain
        self._loop = asyncio.get_running_loop()
        self._may_be_kept = True
        self._reading_paused = False
        self._reads_small = False
        self._writable: asyncio.Future[None] | None = None  # while it takes no more to write
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
        self._unread = b""  # of a head that came in several pieces; behind a 101 what is not HTTP
        self._interim = 0

    # -- asking -------------------------------------------------------------------------------------------------------

    def ask(self, request: bytes, *, without_body: bool, switches: bool = False) -> None:
        """Write a request, or its beginning, and await its answer. That to HEAD is `without_body`."""
        self._forget()
        self._without_body, self._switches = without_body, switches
        self._awaits_head = self.is_asked = True
        if self.transport is None:  # it closed just now
            self._fail(self.lost or aiohttp.ServerDisconnectedError())
        else:
            self.transport.write(request)

    async def send(self, body: AsyncIterator[bytes], *, chunked: bool) -> bool:
        """Write the body of the request as it comes, no faster than it is taken; whether all of it was written.

        Where the body fails, whoever gave it has broken the request off already. Where the upstream has closed, its
        answer, or the lack of one, tells the story.
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
        """Done when the head is here, or none will come, or `wake` was called. Whoever waits no more leaves nothing."""
        arrival = self._arrival = self._loop.create_future()
        if not self._awaits_head:
            arrival.set_result(None)
        return arrival

    def wake(self) -> None:
        """Let whoever waits look."""
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
            # Many servers say 408 to an idle connection before they close it.
            self.refuse(quietly=data.startswith(_IDLE_TIMEOUT))

    def _new_parser(self) -> HttpResponseParser:
        # One that is kept would put the trailers of this answer into the head of the next one.
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
        except Exception as error:  # noqa: BLE001 - whatever it dislikes
            self._misread(data, error)
            return
        if messages:
            self._take(messages, data)
        elif self._awaits_head:
            self._unread += data
            if len(self._unread) > _MAX_UNREAD_BYTES:
                self._fail(http_exceptions.BadHttpMessage(f"Got more than {_MAX_UNREAD_BYTES} bytes without a head"))
        if upgraded:  # what follows is no HTTP
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
        """The messages up to the first final answer, if all of that is in `data`; else none."""
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
        except Exception:  # noqa: BLE001, S110 - that something follows which it dislikes was known
            pass
        return messages if messages and messages[-1][0].code >= 200 and messages[-1][1].is_eof() else ()

    def _fail(self, error: BaseException) -> None:
        """The answer that is awaited, or comes in, cannot be read."""
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
        """The answer that is awaited fails by this. For a network that makes failures."""
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
        """Close the connection because of bytes that answer nothing: they would be the next request's answer."""
        self.close()
        if not quietly:
            self._complain()

    # -- the transport ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

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
                unfinished = parser.feed_eof()  # it ends a body that has no other end
            except Exception as error:  # noqa: BLE001 - whatever is missing
                fault = error
        if self._awaits_head:
            self._fail(self.lost or aiohttp.ServerDisconnectedError(unfinished))
        body = self._reader
        if body is not None and not body.is_eof() and body.exception() is None:
            # What the parser disliked before tells most.
            why = str(self.lost or "connection closed")
            if fault is not None and (self.lost is None or exc is not None):
                why = f"Response payload is not completed: {fault!r}" + (f". {exc!r}" if exc is not None else "")
            body.set_exception(aiohttp.ClientPayloadError(why))

    def pause_reading(self) -> None:
        """Called by a stream that holds enough."""
        self._reading_paused = True
        if self._parser is not None:
            self._parser.pause_reading()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by a stream whose reader has taken some of it, or that has ended."""
        if not self._reading_paused:
            return
        self._reading_paused = False
        if resume_parser and self._parser is not None:
            self._parse(b"")  # it kept what it had not read yet
        if not self._reading_paused and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def read_freely(self) -> None:
        """From now on in pieces as large as the socket gives."""
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
        """Open, with nothing on it that nobody asked for."""
        return self._may_be_kept and self.transport is not None and not self.transport.is_closing()

    def is_silent(self) -> bool:
        """Whether not even the beginning of a message lies in the parser: the next request would get its rest."""
        if self._parser is None:
            return True
        try:
            return self._parser.feed_eof() is None
        except Exception:  # noqa: BLE001 - it dislikes what lies there
            return False

    def kept(self, now_s: float) -> None:
        """Its answer has ended; from here on it is idle."""
        self.read_freely()
        self.idle_since = now_s
        self.is_asked = False
        self.was_kept = True

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """After a 101: the transport, paused, and what has come behind the head. Set its protocol, then resume it.

        Raises ConnectionError where it was lost meanwhile.
        """
        transport, self.transport = self.transport, None
        if transport is None or transport.is_closing():
            raise ConnectionError("the connection was lost")
        return transport, self._unread

    def close(self) -> None:
        """Close without waiting, be it for an upstream that does not read or for TLS."""
        self._may_be_kept = False
        self._parser = None
        if self.transport is not None:
            self.transport.abort()


def _is_interim(message: RawResponseMessage) -> bool:
    return 100 <= message.code <= 199 and message.code != 101


def _end_of_heads(raw: bytes, messages: Sequence[Message]) -> int:
    """Where the heads at the front of `raw` end, of which the last is that of the final answer, if there is one; -1
    where a line of theirs begins with white space.

    Such a line goes on with the one before it (obs-fold), or is ignored after the status line: RFC 9112, sections 5.2
    and 2.2. Readers differ, so it is refused. aiohttp reads it, and what it hands on does not show it.
    """
    # One head of plain lines, as nearly always, has a line end for each of its fields before its last one.
    end = raw.find(b"\r\n\r\n")
    fields = len(messages[0][0].raw_headers)
    if len(messages) == 1 and end > 0 and raw.count(b"\n", 0, end) == fields and raw[raw.find(b"\n") + 1] > 0x20:
        return end + 4
    # A message may follow the final one: between them is a body, where no line is a field.
    final = next((n for n, (message, _) in enumerate(messages, 1) if not _is_interim(message)), len(messages))
    end = len(raw) - len(raw.lstrip(b"\r\n"))
    for _ in range(final):
        mark = _HEAD_END.search(raw, end)
        start, end = end, len(raw) if mark is None else mark.end()
        if _FOLD.search(raw, start, end):
            return -1
    return end
