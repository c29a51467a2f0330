"""The memory for bodies that are kept: what counts, when it counts no more, and what there is no room for."""

import asyncio

import pytest

from gateway.errors import GatewayError, Reason
from gateway.http.body_budget import Bodies
from gateway.http.exchange import Exchange
from gateway.http.lifetime import Lifetime


def exchange() -> Lifetime:
    return Lifetime(Exchange(0.0, "POST", "/", "192.0.2.1"))


def test_what_is_taken_counts_until_it_is_given_back() -> None:
    bodies, one = Bodies(100), exchange()
    bodies.take(one, 60)
    bodies.take(one, 40)
    assert (bodies.kept_bytes, one.kept_bytes, bodies.has_room(1)) == (100, 100, False)
    bodies.give(one, 30)
    assert (bodies.kept_bytes, bodies.has_room(30), bodies.has_room(31)) == (70, True, False)


def test_beyond_its_bound_a_request_is_told_to_come_again() -> None:
    bodies, one, other = Bodies(100), exchange(), exchange()
    bodies.take(one, 99)
    with pytest.raises(GatewayError) as raised:
        bodies.take(other, 2)
    assert (raised.value.reason, raised.value.status) == (Reason.OVERLOADED, 503)
    assert dict(raised.value.headers) == {b"retry-after": b"1"}
    assert (bodies.kept_bytes, other.kept_bytes) == (99, 0)


def test_what_is_here_already_counts_although_there_was_no_room() -> None:
    bodies, one = Bodies(100), exchange()
    bodies.count(one, 150)
    assert (bodies.kept_bytes, bodies.has_room(0)) == (150, False)


def test_at_its_end_a_request_gives_all_back_and_once() -> None:
    bodies, one, other = Bodies(100), exchange(), exchange()
    bodies.take(one, 60)
    bodies.take(other, 40)
    bodies.end(one)
    bodies.give(one, 60)  # a view lets go of an answer later
    assert (bodies.kept_bytes, one.kept_bytes) == (40, 0)


async def test_for_a_request_that_is_over_nothing_counts() -> None:
    """Nobody would give it back."""
    bodies, one = Bodies(100), exchange()
    one.task = asyncio.current_task()
    one.exchange.ended = 1.0
    bodies.take(one, 10)  # its answer is whole, but it is not done with it
    bodies.end(one)
    one.task = None
    bodies.take(one, 20)
    assert bodies.kept_bytes == 0
