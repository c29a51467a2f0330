"""How often the same thing is logged."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.throttle import TokenBucket, at_most_every


def test_a_burst_is_let_through_and_then_one_in_ten_seconds() -> None:
    bucket = TokenBucket(burst=3, every_s=10.0)
    assert [bucket.take(now) for now in (100.0, 100.1, 100.2, 100.3, 104.0)] == [True] * 3 + [False] * 2
    assert bucket.take(110.1)
    assert (bucket.take_held_back(), bucket.take_held_back()) == (2, 0)
    assert not bucket.take(111.0)
    assert [bucket.take(1000.0 + n) for n in range(4)] == [True] * 3 + [False]


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1))
def test_no_more_lines_than_the_time_allows(steps: list[float]) -> None:
    bucket, now, granted = TokenBucket(burst=5, every_s=10.0), 0.0, 0
    for step in steps:
        now += step
        granted += bucket.take(now)
    assert granted <= 5 + now / 10.0 + 1e-6
    assert granted + bucket.held_back == len(steps)


@given(st.lists(st.floats(min_value=0, max_value=200), min_size=1))
def test_at_most_one_line_in_a_minute(steps: list[float]) -> None:
    bucket, now, last = at_most_every(60.0), 0.0, float("-inf")
    for step in steps:
        now += step
        assert bucket.take(now) == (now >= last + 60.0)
        last = now if now >= last + 60.0 else last
