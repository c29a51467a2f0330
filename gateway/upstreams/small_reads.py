"""An answer is read in small pieces until its client has taken some of it.

What a client does not read waits in memory: in the server, which takes several pieces ahead, and here. A socket
delivers up to 256 KiB at a time, which makes downloads cheap and clients that read nothing expensive. So each answer
begins with small pieces, and gets large ones once its client has taken `FREELY_AFTER_BYTES`.
"""

import asyncio
from typing import Final

PIECE_BYTES: Final = 32 * 1024
FREELY_AFTER_BYTES: Final = 512 * 1024

# Bytes read into it are copied before the next read: all connections of a process share it.
_buffer: Final = memoryview(bytearray(PIECE_BYTES))


class SmallReads(asyncio.BufferedProtocol):
    """Stands between a transport and a protocol, which gets at most PIECE_BYTES at a time."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._data_received = protocol.data_received
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._data_received(bytes(_buffer[:nbytes]))
