"""How values are distributed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.histogram import Durations, Histogram, Stalls


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
