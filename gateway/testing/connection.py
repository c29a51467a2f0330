"""A connection to a service of a test: its requests are answered one after the other, as the test defines.

It is the protocol for sockets as well as for connections in memory. Some failures cannot be made on a connection, such
as a refused one: `fail` makes those.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import Any, Final, cast

from gateway.errors import Reason
from gateway.sockets import handshake
from gateway.testing.reply import Reply, SocketReply
from gateway.testing.service import Service
from gateway.testing.service_socket import ServiceSocket
from gateway.testing.wire import WITHOUT_BODY, Pair, Request, RequestReader, WireError, chunk_bytes, head_bytes

_BREAK_S: Final = 0.02

# Makes a failure that the connection cannot make itself; returns False if it could not be made.
Fail = Callable[["ServiceConnection", Reason], bool]


class ServiceConnection(asyncio.Protocol):
    """`endpoint` is where it leads; `report` takes faults for the test."""

    def __init__(self, service: Service, endpoint: str, fail: Fail, report: Callable[[BaseException], None]) -> None:
        self.service = service
        self._endpoint = endpoint
        self._fail = fail
        self._report = report
        self._reader = RequestReader()
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport | None = None
        self.task: asyncio.Task[None] | None = None

    # -- as asyncio calls it --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.task = asyncio.get_running_loop().create_task(self._serve(), name=f"gateway-testing-{self.service.name}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._writable.set()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for request in self._reader.feed(data):
                self._requests.put_nowait(request)
        except WireError as error:
            self._report(error)
            self.cut()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def cut(self) -> None:
        """Break it off."""
        if self.transport is not None:
            self.transport.abort()

    # -- answers --------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            while self.transport is not None:
                await self._answer(await self._requests.get())
        except ConnectionResetError:
            return
        except Exception as error:  # noqa: BLE001 - such as an exception of a body of the test
            self._report(error)
            self.cut()

    async def _answer(self, request: Request) -> None:
        answer = await self.service.answer(request, self._endpoint)
        if isinstance(answer, Reason):
            if not self._fail(self, answer):
                await self._break(answer)
        elif isinstance(answer, SocketReply):
            await self._run_socket(request, answer)
        else:
            if answer.delay_s:
                await asyncio.sleep(answer.delay_s)
            await self._write_reply(request, answer)

    async def _write_reply(self, request: Request, reply: Reply) -> None:
        has_no_body = request.method == "HEAD" or reply.status in WITHOUT_BODY
        pairs, names = reply.pairs, {name.lower() for name, _ in reply.pairs}
        if isinstance(reply.body, bytes):
            if "content-length" not in names and reply.status not in WITHOUT_BODY:
                pairs = [*pairs, ("content-length", str(len(reply.body)))]
            await self._write(head_bytes(reply.status, pairs) + (b"" if has_no_body else reply.body))
            return
        is_chunked = "content-length" not in names and not has_no_body
        if is_chunked:
            pairs = [*pairs, ("transfer-encoding", "chunked")]
        await self._write(head_bytes(reply.status, pairs))
        if has_no_body:
            return
        async with contextlib.aclosing(_pieces(reply.body)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reason):
                    await self._end_by(piece)
                elif piece:
                    await self._write(chunk_bytes(piece) if is_chunked else piece)
        if is_chunked:
            await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        if self.transport is None:
            raise ConnectionResetError
        self.transport.write(data)
        await self._writable.wait()

    async def _run_socket(self, request: Request, reply: SocketReply) -> None:
        key = request.values("sec-websocket-key")
        if not request.is_handshake or not key:
            raise TypeError(f"{self.service.name} got {request.method} {request.target}, which is no handshake")
        pairs: list[Pair] = [("connection", "Upgrade"), ("upgrade", "websocket")]
        pairs.append(("sec-websocket-accept", handshake.accept_of(key[0].encode("ascii")).decode("ascii")))
        offered = handshake.offered_by(value.encode("latin-1") for value in request.values("sec-websocket-protocol"))
        if reply.subprotocol is not None and reply.subprotocol in (offered or ()):
            pairs.append(("sec-websocket-protocol", reply.subprotocol))
        await self._write(head_bytes(101, pairs))
        transport, self.transport = self.transport, None
        if transport is None:
            raise ConnectionResetError
        async with ServiceSocket(transport, bytes(self._reader.rest), request) as socket:
            await reply.function(socket)

    # -- failures -------------------------------------------------------------------------------------------------

    async def _break(self, reason: Reason) -> None:
        """The failure, as it looks on the wire."""
        if reason is Reason.RESPONSE_INVALID:
            await self._write(b"this is no HTTP\r\n\r\n")
        elif reason is Reason.RESPONSE_HEADERS_TOO_LARGE:
            await self._write(head_bytes(200, [("content-length", "0"), ("x-large", "x" * 2**16)]))
        elif reason in {Reason.RESPONSE_INCOMPLETE, Reason.RESPONSE_IDLE_TIMEOUT}:
            await self._write(
                head_bytes(200, [("content-type", "text/plain"), ("content-length", "1000000")]) + b"half"
            )
            await self._end_by(reason)
        elif reason is not Reason.RESPONSE_TIMEOUT:
            self.cut()
            raise ConnectionResetError
        await asyncio.Event().wait()  # until the connection is closed

    async def _end_by(self, reason: Reason) -> None:
        """A body breaks off, or stalls; the bytes before that have had time to pass on."""
        await asyncio.sleep(_BREAK_S)
        if reason is not Reason.RESPONSE_IDLE_TIMEOUT and self.transport is not None:
            self.transport.close()
        await asyncio.Event().wait()


async def _pieces(body: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    if isinstance(body, AsyncGenerator):
        async with contextlib.aclosing(body):
            async for piece in body:
                yield piece
    elif isinstance(body, AsyncIterable):
        async for piece in body:
            yield piece
    else:
        for piece in body:
            yield piece
