"""The service behind every gateway, as cheap as Python can make it: `python -m bench.upstream PORT`.

GET /download/<bytes>    that many zero bytes, with Content-Length
POST /upload             swallows the body, then answers how many bytes came
GET /delay/<ms>          the 1 KB answer, after that time
GET /echo                with Upgrade: a WebSocket that sends back each message, of 126 to 65,535 bytes
anything else            the 1 KB answer at once

It reads only what the harness and the gateways send: no chunked requests (411), no pipelining.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
from typing import cast

import uvloop

from bench.machine import HOST, SECOND_HOST

HEAD_END = b"\r\n\r\n"
BLOCK = bytes(256 * 1024)
WEBSOCKET_KEY = re.compile(rb"\r\nsec-websocket-key: *(\S+)", re.IGNORECASE)
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n"
)
FRAME_HEAD_BYTES = 8  # of a masked one with its size in two bytes
CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def one_kilobyte() -> bytes:
    """Exactly 1,024 bytes of JSON: the answer that every scenario with 1 KB means."""
    empty = json.dumps({"id": 1, "name": "portway", "padding": ""}).encode()
    return empty.replace(b'""', b'"' + b"x" * (1024 - len(empty)) + b'"')


def answer(status: str, body: bytes) -> bytes:
    return head(status, len(body)) + body


def head(status: str, body_bytes: int) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nServer: upstream\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        f"Content-Type: application/json\r\nContent-Length: {body_bytes}\r\n\r\n"
    ).encode()


ONE_KILOBYTE = answer("200 OK", one_kilobyte())


class Upstream(asyncio.Protocol):
    """One connection: waiting for a head, swallowing an upload, or pumping a download out."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._unread = b""
        self._upload_bytes_left = 0
        self._upload_bytes = 0
        self._download_bytes_left = 0
        self._paused = False
        self._is_socket = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def connection_lost(self, exc: Exception | None) -> None:
        self._download_bytes_left = 0

    def data_received(self, data: bytes) -> None:
        if self._is_socket:
            self._echo(self._unread + data)
            return
        if self._upload_bytes_left:
            self._swallow(len(data))
            return
        request_head, end, rest = (self._unread + data).partition(HEAD_END)
        if not end:
            self._unread = request_head
            return
        self._unread = b""
        self._respond(request_head, len(rest))

    def _respond(self, request_head: bytes, rest_bytes: int) -> None:
        path = request_head.split(b" ", 2)[1]
        if path.startswith(b"/download/"):
            self._start_download(int(path[10:]))
        elif path.startswith(b"/upload"):
            self._start_upload(request_head, rest_bytes)
        elif path == b"/echo" and (key := WEBSOCKET_KEY.search(request_head)):
            self._is_socket = True
            accepted = hashlib.sha1(key[1] + WEBSOCKET_GUID, usedforsecurity=False).digest()
            self.transport.write(SWITCHING % base64.b64encode(accepted))
        elif path.startswith(b"/delay/"):
            asyncio.get_running_loop().call_later(int(path[7:]) / 1000, self.transport.write, ONE_KILOBYTE)
        else:
            self.transport.write(ONE_KILOBYTE)

    def _start_upload(self, request_head: bytes, rest_bytes: int) -> None:
        length = CONTENT_LENGTH.search(request_head)
        if length is None:
            self.transport.write(answer("411 Length Required", b"{}"))
            self.transport.close()
            return
        self._upload_bytes = self._upload_bytes_left = int(length[1])
        self._swallow(rest_bytes)

    def _swallow(self, received_bytes: int) -> None:
        self._upload_bytes_left -= received_bytes
        if self._upload_bytes_left <= 0:
            received = self._upload_bytes - self._upload_bytes_left
            self._upload_bytes_left = 0
            self.transport.write(answer("200 OK", json.dumps({"received": received}).encode()))

    def _start_download(self, body_bytes: int) -> None:
        self.transport.write(head("200 OK", body_bytes))
        self._download_bytes_left = body_bytes
        self._pump()

    def _echo(self, data: bytes) -> None:
        """Send back the messages that are whole (RFC 6455, section 5.2); any other frame ends the connection."""
        at = 0
        while len(data) - at >= FRAME_HEAD_BYTES:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            end = at + FRAME_HEAD_BYTES + size
            if data[at] not in (0x81, 0x82) or data[at + 1] != 0x80 | 126:
                self.transport.close()
                return
            if len(data) < end:
                break
            mask, masked = data[at + 4 : at + FRAME_HEAD_BYTES], data[at + FRAME_HEAD_BYTES : end]
            key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            message = (int.from_bytes(masked, "big") ^ key).to_bytes(size, "big")
            self.transport.write(data[at : at + 1] + b"\x7e" + data[at + 2 : at + 4] + message)
            at = end
        self._unread = data[at:]

    def _pump(self) -> None:
        while self._download_bytes_left and not self._paused:
            block = BLOCK[: self._download_bytes_left]  # no copy while a whole block is wanted
            self._download_bytes_left -= len(block)
            self.transport.write(block)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, [HOST, SECOND_HOST], port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
