"""A client of HTTP/2 that shows and scripts every frame: `h2` keeps the state, the test decides what is sent.

with Http2(gateway) as client:
    stream = client.request("GET", "/x")
    answer = client.answer(stream)          # status, fields, body, how it ended
"""

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import ProtocolError

from tests.live.harness import PATIENCE_S, Gateway

Pairs = list[tuple[str, str]]


@dataclass
class Stream:
    """What came on a stream so far."""

    fields: Pairs = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    reset: int | None = None  # the error code

    @property
    def status(self) -> int:
        return int(dict(self.fields)[":status"])

    @property
    def is_over(self) -> bool:
        return self.is_whole or self.reset is not None

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.fields if found == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value


class Http2:
    """One connection. With `reads=False` no window is opened again: a client that does not read."""

    def __init__(self, gateway: Gateway, *, sound: bool = True, reads: bool = True) -> None:
        assert gateway.tls is not None
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_S)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        assert self.socket.selected_alpn_protocol() == "h2"
        config = H2Configuration(
            header_encoding="latin-1",
            validate_outbound_headers=sound,
            normalize_outbound_headers=sound,
            validate_inbound_headers=False,
        )
        self.h2 = H2Connection(config)
        self.reads = reads
        self.streams: dict[int, Stream] = {}
        self.goaway: int | None = None  # the error code
        self.is_closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def request(
        self, method: str, path: str, *fields: tuple[str, str], body: bytes | None = None, end: bool = True
    ) -> int:
        """Send a request's head, and its body where there is one; the number of its stream."""
        pseudo = [(":method", method), (":scheme", "https"), (":authority", "gateway.test"), (":path", path)]
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.h2.send_headers(number, [*pseudo, *fields], end_stream=end and body is None)
        if body is not None:
            self.send(number, body, end=end)
        self.flush()
        return number

    def send(self, number: int, data: bytes, *, end: bool = False) -> None:
        """A body, or a piece of it, as far and as fast as the windows let it."""
        view = memoryview(data)
        while view:
            size = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(view))
            if size == 0:
                self.flush()
                assert self.receive(), "the connection ended"
                continue
            self.h2.send_data(number, bytes(view[:size]), end_stream=end and size == len(view))
            view = view[size:]
        if not data and end:
            self.h2.end_stream(number)
        self.flush()

    def receive(self) -> list[Event]:
        """What comes next; nothing at the end."""
        try:
            data = self.socket.recv(65536)
            if data:
                events = self.h2.receive_data(data)
                for event in events:
                    self._take(event)
                self.flush()
                return events or [Event()]
        except TimeoutError:
            raise
        except (OSError, ProtocolError):  # it was ended amid what is said, or answered what `h2` did not send
            pass
        self.is_closed = True
        return []

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.streams[event.stream_id].fields += event.headers  # type: ignore[arg-type]
        elif isinstance(event, DataReceived):
            self.streams[event.stream_id].body += event.data
            if self.reads and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.streams[event.stream_id].is_whole = True
        elif isinstance(event, StreamReset):
            self.streams[event.stream_id].reset = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goaway = None if event.error_code is None else int(event.error_code)

    def answer(self, number: int) -> Stream:
        """The answer on a stream, once it is over, in whichever way."""
        stream = self.streams[number]
        while not stream.is_over and self.receive():
            pass
        return stream

    def to_end(self) -> int | None:
        """Wait for the end of the connection; the code of its GOAWAY."""
        while self.receive():
            pass
        return self.goaway

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
