"""Which endpoint answers next: each balancer by its spread, and by what it promises."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstreams.load_balancing import BALANCERS, p2c, rendezvous, round_robin

LARGEST_CHANCE = 1 - 2**-53  # what `random.random` gives at most


@dataclass(eq=False)
class Endpoint:
    label: str
    in_flight: int = 0


def endpoints(*loads: int) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{number}:8000", load) for number, load in enumerate(loads, start=1)]


def every_draw(count: int) -> list[float]:
    """One chance in the middle of each share that an ordered pair of different candidates has."""
    pairs = count * (count - 1)
    return [(number + 0.5) / pairs for number in range(pairs)]


def keys(count: int) -> list[bytes]:
    return [b"user-%d" % number for number in range(count)]


# -- all of them --------------------------------------------------------------------------------------------------


def test_a_balancer_has_its_name_in_one_table() -> None:
    assert {"p2c": p2c, "round_robin": round_robin, "hash": rendezvous} == BALANCERS


@given(
    st.sampled_from(sorted(BALANCERS)),
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(0, 10**12),
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=8),
)
@example("p2c", [0] * 2, 0, LARGEST_CHANCE, b"")
@example("p2c", [0] * 3, 0, LARGEST_CHANCE, b"")
@example("p2c", [0] * 7, 0, LARGEST_CHANCE, b"")
@example("hash", [0], 0, LARGEST_CHANCE, b"")
def test_whatever_comes_a_candidate_is_chosen(
    name: str, loads: list[int], turn: int, chance: float, key: bytes
) -> None:
    candidates = endpoints(*loads)
    assert BALANCERS[name](candidates, turn, chance, key) in candidates


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_the_only_candidate_is_always_chosen(name: str) -> None:
    (only,) = endpoints(7)
    assert all(BALANCERS[name]([only], turn, turn / 10, b"k" * turn) is only for turn in range(10))


@pytest.mark.parametrize("name", sorted(BALANCERS))
def test_a_choice_changes_no_candidate_and_is_the_same_for_the_same_arguments(name: str) -> None:
    candidates = endpoints(3, 1, 2)
    first = BALANCERS[name](candidates, 5, 0.4, b"k")
    assert [one.in_flight for one in candidates] == [3, 1, 2]
    assert BALANCERS[name](candidates, 5, 0.4, b"k") is first


# -- p2c ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_of_equals_p2c_draws_each_as_often(count: int) -> None:
    candidates = endpoints(*[4] * count)
    drawn = Counter(p2c(candidates, 0, chance, b"").label for chance in every_draw(count))
    assert set(drawn.values()) == {count - 1}
    assert len(drawn) == count


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_less_busy_of_any_two_wins(count: int) -> None:
    """Drawn is every ordered pair, once: so the r-th busiest wins against those that are busier, from both sides."""
    candidates = endpoints(*range(count))
    random.Random(count).shuffle(candidates)
    drawn = Counter(p2c(candidates, 0, chance, b"").in_flight for chance in every_draw(count))
    assert drawn == {load: 2 * (count - 1 - load) for load in range(count - 1)}


@given(st.lists(st.integers(0, 5), min_size=2, max_size=12), st.floats(0, 1, exclude_max=True))
def test_p2c_never_draws_the_busiest_of_all(loads: list[int], chance: float) -> None:
    candidates = endpoints(*loads, 6)
    assert p2c(candidates, 0, chance, b"").in_flight < 6


def loaded(choose_at_random: bool, count: int, requests: int) -> list[int]:
    """What each has in flight after so many requests that all stay."""
    chance, candidates = random.Random(4), endpoints(*[0] * count)
    for _ in range(requests):
        chosen = chance.choice(candidates) if choose_at_random else p2c(candidates, 0, chance.random(), b"")
        chosen.in_flight += 1
    return [one.in_flight for one in candidates]


def test_p2c_spreads_load_far_better_than_chance_does() -> None:
    """Mitzenmacher: the fullest of n is above the mean by about log log n, by chance alone by the root of the mean."""
    at_random, by_p2c = loaded(True, 50, 5000), loaded(False, 50, 5000)
    assert sum(at_random) == sum(by_p2c) == 5000
    assert max(by_p2c) - 100 <= 4
    assert max(at_random) - 100 >= 15


def test_p2c_gives_a_slow_endpoint_what_it_can_take() -> None:
    """Nine answer after one step, the tenth after fifty: it holds hardly more than the others, so it gets few."""
    chance, candidates = random.Random(4), endpoints(*[0] * 10)
    slow, ends, given_to = candidates[0], list[tuple[int, Endpoint]](), Counter[str]()
    for step in range(2000):
        for one in [one for at, one in ends if at == step]:
            one.in_flight -= 1
        for _ in range(10):
            chosen = p2c(candidates, 0, chance.random(), b"")
            chosen.in_flight += 1
            given_to[chosen.label] += 1
            ends.append((step + (50 if chosen is slow else 1), chosen))
        ends = [end for end in ends if end[0] > step]
        assert slow.in_flight <= 5
    assert given_to[slow.label] < 0.02 * 20_000


# -- round robin --------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(0, 10**9), st.integers(1, 10))
def test_round_robin_gives_each_exactly_as_many(count: int, first: int, rounds: int) -> None:
    candidates = endpoints(*[0] * count)
    turns = range(first, first + count * rounds)
    chosen = [round_robin(candidates, turn, 0.5, b"").label for turn in turns]
    assert set(Counter(chosen).values()) == {rounds}
    assert chosen == (chosen[:count] * rounds), "and always in the same order"


# -- hash ---------------------------------------------------------------------------------------------------------


def homes(candidates: Sequence[Endpoint], wanted: Sequence[bytes]) -> dict[bytes, str]:
    return {key: rendezvous(candidates, 0, 0.0, key).label for key in wanted}


def test_many_keys_spread_evenly() -> None:
    counts = Counter(homes(endpoints(*[0] * 5), keys(10_000)).values())
    assert len(counts) == 5
    assert all(1850 <= count <= 2150 for count in counts.values()), counts


@given(
    st.binary(min_size=1, max_size=40),
    st.permutations(range(6)),
    st.lists(st.integers(0, 9), min_size=6, max_size=6),
    st.integers(0, 100),
    st.floats(0, 1, exclude_max=True),
)
def test_the_same_key_goes_to_the_same_endpoint_whatever_else_is_different(
    key: bytes, order: list[int], loads: list[int], turn: int, chance: float
) -> None:
    candidates = endpoints(*[0] * 6)
    busy = endpoints(*loads)
    chosen = rendezvous([busy[place] for place in order], turn, chance, key)
    assert chosen.label == rendezvous(candidates, 0, 0.0, key).label


@pytest.mark.parametrize("leaver", range(5))
def test_an_endpoint_that_goes_moves_only_its_own_keys_and_evenly(leaver: int) -> None:
    candidates, wanted = endpoints(*[0] * 5), keys(5000)
    before = homes(candidates, wanted)
    after = homes(candidates[:leaver] + candidates[leaver + 1 :], wanted)
    moved = [key for key in wanted if before[key] != after[key]]
    assert {before[key] for key in moved} == {candidates[leaver].label}
    assert all(count > len(moved) / 4 * 0.8 for count in Counter(after[key] for key in moved).values())


def test_an_endpoint_that_joins_takes_its_share_and_moves_no_other_keys() -> None:
    six, wanted = endpoints(*[0] * 6), keys(6000)
    before, after = homes(six[:5], wanted), homes(six, wanted)
    moved = [key for key in wanted if before[key] != after[key]]
    assert {after[key] for key in moved} == {six[5].label}
    assert 900 <= len(moved) <= 1100


def test_endpoints_and_keys_that_are_nearly_alike_spread_as_evenly() -> None:
    candidates = [Endpoint(label) for label in ("10.0.0.1:80", "10.0.0.1:8", "10.0.0.11:80", "10.0.0.1:800")]
    counts = Counter(homes(candidates, [b"%04d" % number for number in range(4000)]).values())
    assert all(850 <= count <= 1150 for count in counts.values()), counts


def test_requests_without_the_key_do_not_all_meet_at_one_endpoint() -> None:
    candidates = endpoints(*[0] * 5)
    drawn = Counter(rendezvous(candidates, 0, chance, b"").label for chance in every_draw(5))
    assert set(drawn.values()) == {4}
    assert len(drawn) == 5


def test_requests_without_the_key_avoid_the_busy() -> None:
    candidates = endpoints(0, 9, 0)
    assert all(rendezvous(candidates, 0, chance, b"") is not candidates[1] for chance in every_draw(3))
