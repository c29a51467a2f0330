"""How values are distributed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.histogram import Calls, Durations, Histogram, Stalls


@pytest.mark.parametrize("kind", [Durations, Stalls])
@given(values=st.lists(st.floats(min_value=0, max_value=100)))
def test_every_value_is_counted_in_one_bucket(kind: type[Histogram], values: list[float]) -> None:
    histogram = kind()
    for seconds in values:
        histogram.observe(seconds)
    assert histogram.count == sum(histogram.counts) == len(values)
    assert histogram.sum_s == pytest.approx(sum(values))
    below = 0
    for bound, count in zip(histogram.BOUNDS_S, histogram.counts, strict=False):
        below += count
        assert below == sum(seconds <= bound for seconds in values)


def test_added_up_they_are_what_one_would_have_counted() -> None:
    one, other, both = Stalls(), Stalls(), Stalls()
    for histogram, seconds in ((one, 0.2), (other, 0.3), (other, 60.0)):
        histogram.observe(seconds)
        both.observe(seconds)
    one.add(other)
    assert one == both
    assert other.count == 2


def test_prometheus_counts_what_is_at_most_each_bound() -> None:
    histogram = Stalls()
    for seconds in (0.1, 0.2, 60.0):
        histogram.observe(seconds)
    buckets = histogram.buckets()
    assert buckets[:2] == [("0.1", 1.0), ("0.25", 2.0)]
    assert buckets[-2:] == [("10.0", 2.0), ("+Inf", 3.0)]


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([], 0.5, None),
        ([0.001] * 4, 0.5, 0.0025),  # even within the first bucket
        ([0.02] * 99 + [3.0], 0.5, pytest.approx(0.0176, abs=0.0001)),
        ([0.02] * 9 + [60.0], 0.99, 30.0),  # above all bounds it is the last one
    ],
)
def test_a_quantile_lies_in_its_bucket(seconds: list[float], share: float, expected: float | None) -> None:
    histogram = Durations()
    for one in seconds:
        histogram.observe(one)
    assert histogram.quantile_s(share) == expected


@given(
    values=st.lists(st.floats(min_value=0, max_value=100), min_size=1),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_quantiles_rise_with_their_share(values: list[float], shares: tuple[float, float]) -> None:
    histogram = Durations()
    for seconds in values:
        histogram.observe(seconds)
    low, high = (histogram.quantile_s(share) for share in sorted(shares))
    assert low is not None
    assert high is not None
    assert low <= high


def test_calls_remember_the_last_failure_of_any_worker() -> None:
    one, other = Calls(), Calls()
    one.failed("connection_refused", 10.0)
    one.failed("503", 20.0)
    other.failed("connection_refused", 15.0)
    other.add(one)
    assert other.failures == {"connection_refused": 2, "503": 1}
    assert (other.last_failure, other.last_failure_s) == ("503", 20.0)
