"""Two ends of a connection in memory keep what transports of asyncio promise."""

import asyncio

from gateway.testing.transport import End, join


class Side(asyncio.Protocol):
    def __init__(self) -> None:
        self.events: list[object] = []
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.events.append(data)

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")


def joined() -> tuple[Side, Side, End, End]:
    left, right = Side(), Side()
    return (left, right, *join(left, right))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_bytes_arrive_in_the_next_turn_and_in_their_order() -> None:
    _, right, one, _ = joined()
    one.write(b"a")
    one.writelines([b"b", b"c"])
    one.write(b"")
    assert right.events == []
    await turns()
    assert right.events == [b"a", b"bc"]


async def test_what_was_written_arrives_before_the_end() -> None:
    left, right, one, other = joined()
    one.write(b"a")
    one.close()
    one.write(b"lost")
    await turns()
    assert right.events == [b"a", "eof", None]
    assert left.events == [None]
    assert other.is_closing()


async def test_an_abort_is_a_reset_for_the_other_side() -> None:
    left, right, one, other = joined()
    other.pause_reading()
    one.write(b"unread")
    one.abort()
    await turns()
    assert left.events == [None]
    assert [type(event) for event in right.events] == [ConnectionResetError]
    other.write(b"to nobody")
    other.close()
    await turns()
    assert left.events == [None]


async def test_who_writes_waits_for_who_does_not_read() -> None:
    left, right, one, other = joined()
    other.pause_reading()
    one.write(b"x" * 100_000)
    await turns()
    assert (left.events, right.events) == (["pause"], [])
    other.resume_reading()
    await turns()
    assert left.events == ["pause", "resume"]
    assert len(b"".join(right.events)) == 100_000  # type: ignore[arg-type]


async def test_a_new_protocol_gets_what_was_not_read() -> None:
    _, right, one, other = joined()
    other.pause_reading()
    one.write(b"a")
    await turns()
    later = Side()
    other.set_protocol(later)
    other.resume_reading()
    await turns()
    assert (right.events, later.events) == ([], [b"a"])
    assert other.get_protocol() is later


class Buffered(asyncio.BufferedProtocol):
    def __init__(self) -> None:
        self.buffer = bytearray(4)
        self.pieces: list[bytes] = []

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.pieces.append(bytes(self.buffer[:nbytes]))

    def eof_received(self) -> None:
        self.pieces.append(b"eof")


async def test_a_protocol_with_a_buffer_gets_what_that_takes() -> None:
    left, right = Side(), Buffered()
    one, _ = join(left, right)
    one.write(b"abcdefghij")
    one.close()
    await turns()
    assert right.pieces == [b"abcd", b"efgh", b"ij", b"eof"]
