"""The finish that compresses answers on their way down (COMPRESS), in pieces that hold up no other request for long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from django.http.response import HttpResponseBase

from gateway.answers.coders import Coder, stream_coder, whole_coder
from gateway.answers.compression import coded_pairs, decide, forbids, promised_bytes, unchanged_pairs, varying
from gateway.http.gate import Finish
from gateway.http.headers import FieldLines, Pairs
from gateway.http.request import GatewayRequest
from gateway.http.response import GatewayResponse, pairs_of
from gateway.http.view_result import exactly
from gateway.options import Level

# The bytes coded at once: a third of a millisecond. For more, other requests run in between.
_STEP_BYTES = 64 * 1024
_AT_ONCE_BYTES = 2 * _STEP_BYTES

# The body of a streaming Django answer, as an async iterator.
Pieces = Callable[[Any], AsyncIterator[bytes]]


def compressing(level: Level, pieces: Pieces) -> Finish | None:
    """The finish of a route that compresses; None where it does not, or sets `no-transform` on its answers."""
    if not level.get("compress", False) or _is_forbidden(level):
        return None

    async def finish(request: GatewayRequest, response: HttpResponseBase) -> HttpResponseBase:
        if request.upgrade is not None:
            return response
        pairs, status, asked = pairs_of(response), response.status_code, request.raw_headers
        if status == 304:
            unchanged = unchanged_pairs(asked, pairs)
            return response if unchanged is None else GatewayResponse(304, FieldLines(unchanged))
        body = _body_of(response, pairs, pieces)
        is_head = request.method == "HEAD" and not (isinstance(body, bytes) and body)  # else the body is left out later
        size = len(body) if isinstance(body, bytes) and not is_head else promised_bytes(pairs)
        decision = decide(request.method, asked, status, pairs, size, streams=not isinstance(body, bytes))
        if not decision.varies:
            return response
        coding, coded_bytes = decision.coding, None
        if coding is None:
            return GatewayResponse(status, FieldLines(varying(pairs)), body)
        if is_head:  # only a GET can know the coded length
            return GatewayResponse(status, FieldLines(coded_pairs(pairs, coding, None)), body)
        if isinstance(body, bytes):
            coded = await _whole(body, coding)
            if len(coded) >= len(body):
                return GatewayResponse(status, FieldLines(varying(pairs)), body)
            body, coded_bytes = coded, len(coded)
        else:
            body = Coded(body, stream_coder(coding))
        return GatewayResponse(status, FieldLines(coded_pairs(pairs, coding, coded_bytes)), body)

    return finish


class Coded:
    """A coded streaming body: each piece can be decoded as soon as it arrives, as readers of events need it."""

    __slots__ = ("_body", "_coder", "_is_over", "_piece")

    def __init__(self, body: AsyncIterator[bytes], coder: Coder) -> None:
        self._body = body
        self._coder = coder
        self._piece: bytes | memoryview = b""  # the rest of the current piece
        self._is_over = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        if self._piece:
            await asyncio.sleep(0)
        while not self._piece:
            try:
                self._piece = await anext(self._body)
            except StopAsyncIteration:
                self._is_over = True
                return self._coder.end()
        step, self._piece = self._piece[:_STEP_BYTES], memoryview(self._piece)[_STEP_BYTES:]
        return self._coder.code(step)

    async def aclose(self) -> None:
        """Close the body, read or not."""
        self._is_over = True
        close = getattr(self._body, "aclose", None)
        if close is not None:
            await close()


def _is_forbidden(level: Level) -> bool:
    """Whether an option sets `no-transform`, which is on the answer only after this finish."""
    texts = (level.get("cache_control"), level.members.get("response_headers", {}).get("cache-control"))
    return forbids([(b"cache-control", text.encode()) for text in texts if text is not None])


async def _whole(body: bytes, coding: str) -> bytes:
    if len(body) <= _AT_ONCE_BYTES:
        return whole_coder(coding)(body)
    coder, left, coded = stream_coder(coding), memoryview(body), []
    while left:
        coded.append(coder.code(left[:_STEP_BYTES]))
        left = left[_STEP_BYTES:]
        await asyncio.sleep(0)
    return b"".join((*coded, coder.end()))


def _body_of(response: HttpResponseBase, pairs: Pairs, pieces: Pieces) -> bytes | AsyncIterator[bytes]:
    if isinstance(response, GatewayResponse):
        return response.body
    if response.streaming:
        return exactly(pieces(response), promised_bytes(pairs))
    content: bytes = response.content  # type: ignore[attr-defined]
    return content
