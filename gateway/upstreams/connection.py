"""One connection to an endpoint: aiohttp's protocol and its parser of answers.

The parser reads as many messages as a piece of bytes holds, and an error in it swallows what stood before the error in
the same piece. What an answer is must not depend on how TCP cut it, so here is looked after what belongs to nobody:

- an error, or a further message, behind a whole answer is none of it: the answer stands, the connection is closed;
- where they came in one piece with the answer, the answer is read again, without what follows it;
- while no request waits, every byte is unasked: the connection is closed.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Final

import aiohttp
from aiohttp import http_exceptions
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import EMPTY_BODY_STATUS_CODES, TimerNoop
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD

from gateway.upstreams.call import MAX_RESPONSE_HEADERS_BYTES
from gateway.upstreams.endpoint import Endpoint

_MAX_RESPONSE_FIELDS: Final = 1000
# aiohttp pauses the socket when twice this is waiting to be read.
_READ_BUFFER_BYTES: Final = 64 * 1024
# A head, and empty lines before it, which the parser takes without end.
_MAX_UNREAD_BYTES: Final = 2 * MAX_RESPONSE_HEADERS_BYTES
_IDLE_TIMEOUT: Final = (b"HTTP/1.1 408", b"HTTP/1.0 408")
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(rb"\n[ \t]")

Message = tuple[RawResponseMessage, aiohttp.StreamReader]


class UpstreamProtocol(ResponseHandler):
    """aiohttp's protocol for one answer after the other. Calls `unasked` when bytes come that answer nothing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, unasked: Callable[[], object]) -> None:
        super().__init__(loop)
        self._unasked = unasked
        self._timer_none = TimerNoop()
        self._without_body = False
        self._awaits_head = False
        self._unread = b""  # of a head that came in several pieces
        self._content: aiohttp.StreamReader | None = None  # of the answer whose head is here
        self.is_asked = False  # a request was written, and the connection was not given back since

    def expect_answer(self, *, without_body: bool) -> None:
        """Read what comes now as the answer to a request; that to HEAD is `without_body`."""
        self._without_body = self._skip_payload = without_body
        self._read_bufsize = _READ_BUFFER_BYTES
        self._parser = self._new_parser()
        self._awaits_head = self.is_asked = True
        self._content = None

    def _new_parser(self) -> HttpResponseParser:
        return HttpResponseParser(
            self,
            self._loop,
            _READ_BUFFER_BYTES,
            timer=self._timer_none,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=not self._without_body,
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=MAX_RESPONSE_HEADERS_BYTES,
            max_field_size=MAX_RESPONSE_HEADERS_BYTES,
            max_headers=_MAX_RESPONSE_FIELDS,
        )

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None or self._upgraded or not self.is_asked:
            if data:
                # Many servers say 408 to an idle connection before they close it.
                self.refuse(quietly=data.startswith(_IDLE_TIMEOUT))
            return
        try:
            messages, self._upgraded, _ = parser.feed_data(data)
        except Exception as error:  # noqa: BLE001 - whatever it dislikes
            self._misread(data, error)
            return
        if messages:
            self._take(messages, data)
        elif self._awaits_head:
            self._unread += data
            if len(self._unread) > _MAX_UNREAD_BYTES:
                self._fail(http_exceptions.BadHttpMessage(f"Got more than {_MAX_UNREAD_BYTES} bytes without a head"))

    def _take(self, messages: Sequence[Message], data: bytes) -> None:
        """Hand on the heads that `data` completed, interim ones too."""
        if self._awaits_head:
            raw = self._unread + data if self._unread else data
            # One head of plain lines, as nearly always, has a line end for each of its fields before its last one.
            end = raw.find(b"\r\n\r\n")
            fields = len(messages[0][0].raw_headers)
            is_plain = len(messages) == 1 and raw.count(b"\n", 0, end) == fields and raw[raw.find(b"\n") + 1] > 0x20
            if is_plain and end > 0:
                end += 4
            else:  # a message may follow the final one: between them is a body, where no line is a field
                final = (n for n, (message, _) in enumerate(messages, 1) if not 100 <= message.code <= 199)
                end = _heads_end(raw, next(final, len(messages)))
            if end < 0:
                self._fail(http_exceptions.BadHttpMessage("A field line begins with white space"))
                return
            is_interim = 100 <= messages[-1][0].code <= 199
            self._unread = raw[end:] if is_interim else b""
        for message, payload in messages:
            if not self._awaits_head:
                self.refuse()
                return
            if message.should_close:
                self._should_close = True
            without_body = self._without_body or message.code in EMPTY_BODY_STATUS_CODES
            content = EMPTY_PAYLOAD if without_body else payload
            if not 100 <= message.code <= 199:
                self._awaits_head = False
                self._content = content
            self._payload = payload
            self.feed_data((message, content), 0)

    # -- what cannot be read ------------------------------------------------------------------------------------------

    def _misread(self, data: bytes, error: Exception) -> None:
        if self._awaits_head and (messages := self._whole_answer(self._unread + data)):
            self._take(messages, data)
        content = self._content
        if content is not None and content.is_eof():
            self.refuse()
        else:
            self._fail(error)

    def _whole_answer(self, data: bytes) -> Sequence[Message]:
        """The messages up to the first final answer, if all of that is in `data`; else none."""
        parser = self._parser = self._new_parser()
        messages: list[Message] = []
        start = 0
        try:
            for end in _HEAD_END.finditer(data):
                messages += parser.feed_data(data[start : end.end()])[0]
                start = end.end()
                if messages and not 100 <= messages[-1][0].code <= 199:
                    parser.feed_data(data[start:])
                    break
        except Exception:  # noqa: BLE001, S110 - that something follows which it dislikes was known
            pass
        return messages if messages and messages[-1][0].code >= 200 and messages[-1][1].is_eof() else ()

    def _fail(self, error: Exception) -> None:
        """The answer that is awaited cannot be read."""
        if self.transport is not None:
            self.transport.close()
        known = isinstance(error, http_exceptions.HttpProcessingError)
        self.set_exception(error if known else http_exceptions.HttpProcessingError(message=repr(error)), error)

    def refuse(self, *, quietly: bool = False) -> None:
        """Close the connection because of bytes that answer nothing: they would be the next request's answer."""
        self._should_close = True
        self._parser = None  # it would be asked again when the answer is read
        if self.transport is not None:
            self.transport.abort()
        if not quietly:
            self._unasked()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        # aiohttp tells a parser's error only to the connection.
        body = self._content
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError(str(self.exception() or "connection closed")))
        # They hold this, with what of an answer nobody has read: the collector would take its time.
        self._content, self._unasked = None, _nothing


def _nothing() -> None:
    """What is called of a connection that is no more."""


def _heads_end(raw: bytes, heads: int) -> int:
    """Where that many heads at the front of `raw` end; -1 where a line of theirs begins with white space.

    Such a line goes on with the one before it (obs-fold), or is ignored after the status line: RFC 9112, sections 5.2
    and 2.2. Readers differ, so it is refused. aiohttp reads it, and what it hands on does not show it.
    """
    end = len(raw) - len(raw.lstrip(b"\r\n"))
    for _ in range(heads):
        mark = _HEAD_END.search(raw, end)
        start, end = end, len(raw) if mark is None else mark.end()
        if _FOLD.search(raw, start, end):
            return -1
    return end


class Connection:
    """One connection to an endpoint, with aiohttp's protocol on it."""

    __slots__ = ("endpoint", "idle_since", "protocol", "retire_at")

    def __init__(self, endpoint: Endpoint, protocol: UpstreamProtocol, retire_at: float) -> None:
        self.endpoint = endpoint
        self.protocol = protocol
        self.retire_at = retire_at
        self.idle_since = 0.0

    def is_good(self) -> bool:
        """Open, with nothing on it that nobody asked for."""
        return self.protocol.is_connected() and not self.protocol.should_close

    def is_silent(self) -> bool:
        """Whether not even the beginning of a message lies in the parser: the next request would get its rest."""
        try:
            return self.protocol._parser.feed_eof() is None  # type: ignore[union-attr]
        except Exception:  # noqa: BLE001 - it dislikes what lies there
            return False

    def close(self) -> None:
        """Close without waiting, be it for an upstream that does not read or for TLS."""
        self.protocol.abort()
