"""What is believed of a source: the last list outlives one that is away, and nothing is believed only twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery.last_known import CONFIRM_S, LONGEST_PAUSE_S, LastKnown, pause_s, updated
from gateway.upstreams.places import Base, Instance

A, B = (Instance(Base("http", host, 80)) for host in "ab")

Said = tuple[float, tuple[Instance, ...]]


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ([], ()),
        ([(0, (A,))], (A,)),
        ([(0, ())], ()),  # nothing was known
        ([(0, (A,)), (5, (B,))], (B,)),
        ([(0, (A,)), (5, ())], (A,)),
        ([(0, (A,)), (5, ()), (64, ())], (A,)),  # not a minute apart
        ([(0, (A,)), (5, ()), (65, ())], ()),
        ([(0, (A,)), (5, ()), (64, ()), (66, ())], ()),
        ([(0, (A,)), (5, ()), (30, (B,)), (66, ())], (B,)),  # it had found itself again
        ([(0, (A,)), (5, ()), (65, ()), (66, (A, B))], (A, B)),
    ],
)
def test_nothing_is_believed_when_it_is_said_twice_a_minute_apart(
    said: list[Said], believed: tuple[Instance, ...]
) -> None:
    known = LastKnown()
    for now_s, found in said:
        known = updated(known, found, now_s)
    assert known.instances == believed


def test_while_nothing_is_said_the_source_is_asked_again_when_it_would_be_believed() -> None:
    known = updated(LastKnown(), (A,), 0)
    assert known.confirms_in_s(0) is None
    known = updated(known, (), 10)
    assert known.confirms_in_s(10) == CONFIRM_S
    assert known.confirms_in_s(40) == 30
    assert known.confirms_in_s(100) == 0
    assert updated(known, (), 100).confirms_in_s(100) is None


@given(st.lists(st.tuples(st.floats(0, 1e6), st.lists(st.sampled_from([A, B]), max_size=2).map(tuple)), max_size=20))
def test_whatever_is_said_what_was_known_is_dropped_only_for_something_or_after_a_minute(said: list[Said]) -> None:
    known, last_s = LastKnown(), 0.0
    for now_s, found in sorted(said, key=lambda one: one[0]):
        before, known = known, updated(known, found, now_s)
        if before.instances and not known.instances:
            assert not found
            assert now_s - last_s >= CONFIRM_S
        if found:
            last_s = now_s


def test_the_pauses_after_failures_double_and_have_a_bound() -> None:
    assert [pause_s(failures) for failures in (1, 2, 3, 9, 10_000)] == [1, 2, 4, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
