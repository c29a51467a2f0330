"""What the gateway itself has run out of."""

import errno
import os

import pytest

from gateway.errors import Reason
from gateway.upstreams import shortage
from gateway.upstreams.retry_policy import Unsent


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_descriptors_and_memory_are_our_own_want(number: int) -> None:
    with pytest.raises(Unsent) as raised:
        shortage.raise_for_shortage(OSError(number, "text"), "127.0.0.1", "users")
    failure = raised.value
    assert (failure.reason, failure.upstream) == (Reason.OVERLOADED, "users")
    assert failure.headers == ((b"retry-after", b"1"),)
    assert f"[Errno {number}] text" in str(failure.cause)


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES])
def test_what_the_other_side_or_the_network_says_is_none(number: int) -> None:
    shortage.raise_for_shortage(OSError(number, "text"), "127.0.0.1", "users")


def test_no_port_left_is_our_own_want_where_there_is_a_way_at_all() -> None:
    no_port = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
    assert shortage.is_shortage(no_port, "127.0.0.1")
    assert not shortage.is_shortage(no_port, "2001:db8::1%nowhere"), "this machine has no such interface"


def test_a_failure_that_does_not_tell_is_asked_by_opening_something(monkeypatch: pytest.MonkeyPatch) -> None:
    shortage.raise_if_short_of_descriptors()

    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.ENFILE, "Too many open files in system", path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="in system"):
        shortage.raise_if_short_of_descriptors()
