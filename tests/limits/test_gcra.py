"""GCRA against lists of times, and against a plain bucket that counts units."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.gcra import EPSILON_S, Rate, after, bounded, left, reset_s, retry_after_s, wait_s

rates = st.builds(
    Rate,
    units=st.integers(1, 5000),
    window_s=st.sampled_from([0.05, 0.5, 1.0, 7.0, 60.0, 3600.0, 86400.0]),
    burst=st.integers(1, 3000),
)
gaps_s = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 100)), max_size=60)
costs = st.integers(1, 40)


class Key:
    """One key, as a store keeps it."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.free_at_s = 0.0

    def ahead_s(self, now_s: float) -> float:
        return bounded(self.free_at_s - now_s, self.rate.tolerance_s)

    def take(self, now_s: float, cost: int = 1) -> bool:
        new_s = after(self.ahead_s(now_s), self.rate.interval_s, self.rate.tolerance_s, cost)
        if new_s is None:
            return False
        self.free_at_s = now_s + new_s
        return True


def times_of(gaps: list[float]) -> list[float]:
    now_s, times = 1000.0, []
    for gap_s in gaps:
        now_s += gap_s
        times.append(now_s)
    return times


@given(rates, gaps_s, st.lists(costs, min_size=60, max_size=60))
def test_in_any_span_no_more_pass_than_the_burst_and_the_rate_allow(
    rate: Rate, gaps: list[float], each: list[int]
) -> None:
    key = Key(rate)
    passed = [(now_s, cost) for now_s, cost in zip(times_of(gaps), each, strict=False) if key.take(now_s, cost)]
    for first, (begin_s, _) in enumerate(passed):
        units = 0
        for now_s, cost in passed[first:]:
            units += cost
            allowed = rate.burst + (now_s - begin_s) / rate.interval_s
            assert units <= allowed + 0.01 + len(passed) * EPSILON_S / rate.interval_s


@given(rates, gaps_s)
def test_it_decides_as_a_bucket_of_units_that_fills_at_the_rate(rate: Rate, gaps: list[float]) -> None:
    key, units, last_s = Key(rate), float(rate.burst), 1000.0
    for now_s in times_of(gaps):
        units = min(float(rate.burst), units + (now_s - last_s) / rate.interval_s)
        last_s = now_s
        sure = 1e-6 / rate.interval_s + 1e-6  # what floats cannot tell apart
        passed = key.take(now_s)
        if abs(units - 1) > sure * 2:
            assert passed == (units >= 1)
        elif not passed and units >= 1:
            units = 1.0 - sure  # as the other side has it
        if passed:
            units = max(0.0, units - 1)


@given(rates, gaps_s, costs)
def test_who_waits_as_long_as_told_passes_and_who_comes_sooner_does_not(
    rate: Rate, gaps: list[float], cost: int
) -> None:
    key = Key(rate)
    for now_s in times_of(gaps):
        key.take(now_s, cost)
        if cost > rate.burst:
            assert not key.take(now_s, cost)
            continue
        seconds = wait_s(key.ahead_s(now_s), rate, cost)
        soon = Key(rate)
        soon.free_at_s = key.free_at_s
        if seconds > 10 * EPSILON_S:
            assert not soon.take(now_s + seconds - 5 * EPSILON_S, cost)
        assert soon.take(now_s + seconds, cost)


@given(rates, gaps_s)
def test_as_many_may_come_at_once_as_are_left(rate: Rate, gaps: list[float]) -> None:
    key = Key(rate)
    for now_s in times_of(gaps):
        key.take(now_s)
        units = left(key.ahead_s(now_s), rate)
        assert 0 <= units <= rate.burst
        other = Key(rate)
        other.free_at_s = key.free_at_s
        assert units == 0 or other.take(now_s, units)
        assert not other.take(now_s, max(1, rate.burst + 1 - units)) or units == 0


@given(st.floats(), rates)
def test_whatever_is_kept_a_key_waits_for_its_burst_at_most(kept_s: float, rate: Rate) -> None:
    ahead_s = bounded(kept_s, rate.tolerance_s)
    assert 0 <= ahead_s <= rate.tolerance_s
    assert wait_s(ahead_s, rate, 1) <= rate.tolerance_s


@pytest.mark.parametrize(
    ("ahead_s", "cost", "expected"),
    [
        (0.0, 1, 0.6),
        (59.4, 1, 60.0),
        (59.5, 1, None),
        (0.0, 100, 60.0),
        (0.0, 101, None),
        (30.0, 50, 60.0),
        (30.0, 51, None),
    ],
)
def test_a_hundred_a_minute(ahead_s: float, cost: int, expected: float | None) -> None:
    rate = Rate(100, 60.0, 100)
    found = after(ahead_s, rate.interval_s, rate.tolerance_s, cost)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_refused_one_hears_the_exact_second() -> None:
    rate = Rate(1, 60.0, 1)
    assert wait_s(47.2, rate, 1) == pytest.approx(47.2)
    assert retry_after_s(47.2) == 48
    assert retry_after_s(0.2) == 1
    assert (left(47.2, rate), reset_s(47.2, rate)) == (0, 48)


def test_with_nothing_left_the_next_unit_counts_and_else_the_whole() -> None:
    rate = Rate(60, 60.0, 10)
    assert (left(10.0, rate), reset_s(10.0, rate)) == (0, 1)
    assert (left(8.5, rate), reset_s(8.5, rate)) == (1, 9)
    assert (left(0.0, rate), reset_s(0.0, rate)) == (10, 0)


def test_more_than_the_burst_never_passes_and_is_told_when_all_is_free() -> None:
    rate = Rate(10, 10.0, 5)
    assert after(0.0, rate.interval_s, rate.tolerance_s, 6) is None
    assert wait_s(2.0, rate, 6) == pytest.approx(2.0)
