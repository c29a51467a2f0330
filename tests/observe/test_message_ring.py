"""What one worker says, the others know at once; what cannot be read any more is known to be missed."""

import os
import signal

import pytest

from gateway.observe.message_ring import PLACE_BYTES, PLACES, MessageRing


def said_by_another(ring: MessageRing, *messages: bytes) -> None:
    """In a process of its own, which has ended when this returns."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ring.join()
            for message in messages:
                ring.publish(message)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.fixture
def ring() -> MessageRing:
    made = MessageRing()
    made.join()
    return made


def has_news(ring: MessageRing) -> bool:
    return ring.has_news


def test_what_another_one_says_is_news_once(ring: MessageRing) -> None:
    assert not has_news(ring)
    said_by_another(ring, b"one", b"", b"three")
    assert has_news(ring)
    assert ring.receive() == [b"one", b"", b"three"]
    assert not has_news(ring)
    assert ring.receive() == []


def test_what_it_says_itself_is_no_news(ring: MessageRing) -> None:
    ring.publish(b"mine")
    said_by_another(ring, b"theirs")
    ring.publish(b"mine again")
    assert ring.receive() == [b"theirs"]


def test_who_joins_later_hears_what_is_said_from_then_on(ring: MessageRing) -> None:
    said_by_another(ring, b"before")
    ring.join()
    assert not has_news(ring)


@pytest.mark.parametrize("count", [1, PLACES - 1])
def test_a_ring_full_is_heard(ring: MessageRing, count: int) -> None:
    said_by_another(ring, *[b"%d" % number for number in range(count)])
    assert ring.receive() == [b"%d" % number for number in range(count)]


@pytest.mark.parametrize("count", [PLACES, PLACES + 1, 5 * PLACES])
def test_what_was_overwritten_is_known_to_be_missed(ring: MessageRing, count: int) -> None:
    said_by_another(ring, *[b"%d" % number for number in range(count)])
    assert ring.receive() is None
    assert not has_news(ring)
    said_by_another(ring, b"next")
    assert ring.receive() == [b"next"]


def test_a_message_that_is_too_long_counts_as_missed(ring: MessageRing) -> None:
    said_by_another(ring, b"a" * PLACE_BYTES)
    assert ring.receive() is None
    said_by_another(ring, b"a" * (PLACE_BYTES - 8))
    assert ring.receive() == [b"a" * (PLACE_BYTES - 8)]


def test_whoever_is_killed_while_it_speaks_holds_nobody_up(ring: MessageRing) -> None:
    pid = os.fork()
    if pid == 0:
        ring.join()
        ring._locks.take(0)
        signal.pause()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    ring.publish(b"on")
    said_by_another(ring, b"and on")
    assert ring.receive() == [b"and on"]
