"""Which endpoint answers next: each balancer by its spread, and by what it promises."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstreams.load_balancing import (
    METHODS,
    Balance,
    Shares,
    balance,
    for_retry,
    have_weights,
    of_first_priority,
    p2c,
    rendezvous,
    round_robin,
)

LARGEST_CHANCE = 1 - 2**-53  # what `random.random` gives at most


@dataclass(frozen=True)
class Group:
    """A base URL, or a source of instances."""

    name: str
    weight: int | None = None

    def __str__(self) -> str:
        return self.name


GROUP = Group("users")


@dataclass(eq=False)
class Endpoint:
    label: str
    in_flight: int = 0
    group: Group = GROUP
    weight: float = 1.0
    priority: int = 0


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
    chosen = {name: method.choose for name, method in METHODS.items()}
    assert chosen == {"p2c": p2c, "round_robin": round_robin, "hash": rendezvous, "sticky": p2c}


@given(
    st.sampled_from(sorted(METHODS)),
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
    assert METHODS[name].choose(candidates, turn, chance, key) in candidates


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_only_candidate_is_always_chosen(name: str) -> None:
    (only,) = endpoints(7)
    assert all(METHODS[name].choose([only], turn, turn / 10, b"k" * turn) is only for turn in range(10))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_choice_changes_no_candidate_and_is_the_same_for_the_same_arguments(name: str) -> None:
    candidates = endpoints(3, 1, 2)
    first = METHODS[name].choose(candidates, 5, 0.4, b"k")
    assert [one.in_flight for one in candidates] == [3, 1, 2]
    assert METHODS[name].choose(candidates, 5, 0.4, b"k") is first


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


# -- weights ------------------------------------------------------------------------------------------------------

MAIN, CANARY, DRAINED = Group("users", 95), Group("users-next", 5), Group("old", 0)


def canary(main: int = 9, next_: int = 1) -> list[Endpoint]:
    """One canary among nine, whatever they do."""
    own = [Endpoint(f"10.0.0.{number}:8000", group=MAIN) for number in range(1, main + 1)]
    return [*own, *(Endpoint(f"10.0.1.{number}:8000", group=CANARY) for number in range(1, next_ + 1))]


def shares(method: str, candidates: Sequence[Endpoint], count: int = 100_000) -> Counter[str]:
    """How often each group is chosen."""
    chance, choose = random.Random(7), Shares(candidates, method)
    keyed = method == "hash"
    chosen = (choose(candidates, turn, chance.random(), b"user-%d" % turn if keyed else b"") for turn in range(count))
    return Counter(one.group.name for one in chosen)


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(("main", "next_"), [(9, 1), (1, 1), (2, 8)])
def test_a_weight_is_a_share_of_requests_however_many_endpoints_have_it(method: str, main: int, next_: int) -> None:
    """100,000 requests: one of twenty goes to the canary, within four standard deviations."""
    assert abs(shares(method, canary(main, next_))["users-next"] - 5_000) < 4 * (100_000 * 0.05 * 0.95) ** 0.5


def test_in_turn_the_share_is_even_all_the_time() -> None:
    candidates = canary()
    choose = Shares(candidates, "round_robin")
    chosen = [choose(candidates, turn, 0.0, b"").group.name for turn in range(2_000)]
    assert all(3 <= chosen[first : first + 100].count("users-next") <= 7 for first in range(1_900))


def test_in_turn_each_endpoint_of_a_group_has_its_part() -> None:
    candidates = canary()
    choose = Shares(candidates, "round_robin")
    counts = Counter(choose(candidates, turn, 0.0, b"").label for turn in range(9_000))
    assert all(900 <= counts[one.label] <= 1_000 for one in candidates if one.group is MAIN)


def test_the_load_changes_nothing_of_a_share() -> None:
    candidates = canary()
    for one in candidates:
        one.in_flight = 50 if one.group is CANARY else 0
    assert 4_700 < shares("p2c", candidates)["users-next"] < 5_300


def test_within_a_group_the_less_busy_one_is_taken() -> None:
    candidates = canary(2, 1)
    candidates[0].in_flight = 3
    choose = Shares(candidates, "p2c")
    assert choose(candidates, 1, 0.3, b"") is choose(candidates, 1, 0.6, b"") is candidates[1]


def test_a_key_stays_with_its_choice_and_most_keys_do_when_weights_change() -> None:
    before, changed = canary(), Group("users-next", 10)
    after = [
        one if one.group is MAIN else Endpoint(one.label, group=changed) for one in before
    ]  # the canary has twice its share
    first, second = Shares(before, "hash"), Shares(after, "hash")
    moved = sum(first(before, 0, 0.0, key).label != second(after, 0, 0.5, key).label for key in keys(2_000))
    assert 50 < moved < 200  # the 4.8 percent that the canary gains


def test_instances_of_a_source_are_drawn_by_their_weights_and_load_counts_by_weight() -> None:
    large, small = Endpoint("a:1", weight=9), Endpoint("b:1", weight=1)
    assert have_weights([large, small])
    choose, chance = Shares([large, small], "p2c"), random.Random(3)
    idle = Counter(choose([large, small], 0, chance.random(), b"").label for _ in range(20_000))
    assert 1_800 < idle["b:1"] < 2_200
    large.in_flight, small.in_flight = 9, 2  # of its weight the small one has more
    busy = Counter(choose([large, small], 0, chance.random(), b"").label for _ in range(20_000))
    assert busy["b:1"] < 400


@given(
    st.sampled_from(sorted(METHODS)),
    st.lists(st.tuples(st.sampled_from([MAIN, CANARY, GROUP]), st.floats(0.001, 1e6)), min_size=1, max_size=20),
    st.integers(0, 10**9),
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=8),
)
@example("p2c", [(MAIN, 0.1), (MAIN, 0.7)], 0, LARGEST_CHANCE, b"")
def test_whatever_the_weights_a_candidate_is_chosen(
    method: str, weights: list[tuple[Group, float]], turn: int, chance: float, key: bytes
) -> None:
    candidates = [
        Endpoint(f"10.0.0.{number}:1", group=group, weight=weight) for number, (group, weight) in enumerate(weights)
    ]
    assert Shares(candidates, method)(candidates, turn, chance, key) in candidates


def test_without_weights_nothing_is_weighed() -> None:
    assert not have_weights(endpoints(1, 2, 3))
    assert not have_weights([])


def test_a_retry_leaves_the_canary_for_the_others() -> None:
    *others, first, second = canary(2, 2)
    assert for_retry([*others, second], [first]) == others
    assert for_retry([second], [first]) == [second]  # there is nobody else
    assert for_retry([others[1], first], [others[0]]) == [others[1], first]
    third = Endpoint("d:1", group=Group("another canary", weight=first.group.weight))
    assert for_retry([*others, third], [first]) == others
    assert for_retry([third], [first]) == [third]


def test_only_those_of_the_least_priority_of_their_group_are_candidates() -> None:
    one, other = Endpoint("a:1", priority=10), Endpoint("b:1", priority=20)
    alone = Endpoint("c:1", group=MAIN, priority=20)
    assert of_first_priority((one, other, alone)) == (one, alone)
    assert of_first_priority((other, alone)) == (other, alone)


# -- words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "sentence"),
    [
        ("p2c", ("p2c", "", ""), "the less busy of two at random"),
        ("round_robin", ("round_robin", "", ""), "in turn"),
        ("hash:client", ("hash", "client", ""), "by the client"),
        ("hash:header:X-User-ID", ("hash", "header", "x-user-id"), "by the header x-user-id"),
        ("hash:header:client", ("hash", "header", "client"), "by the header client"),
        ("hash:cookie:Sid", ("hash", "cookie", "Sid"), "by the cookie Sid"),
        ("sticky", ("sticky", "cookie", ""), "the one that its cookie leads to, else as by p2c"),
        ("sticky:route", ("sticky", "cookie", "route"), "the one that its cookie route leads to, else as by p2c"),
    ],
)
def test_a_balance_is_a_method_and_its_key(text: str, value: tuple[str, str, str], sentence: str) -> None:
    assert balance(text) == Balance(*value)
    assert balance(text).sentence == sentence


@pytest.mark.parametrize("text", ["hash", "hash:", "hash:header", "hash:header:", "hash:client:", "hash:ip", "hash::x"])
def test_a_hash_needs_a_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"^hash needs a key: hash:client, hash:header:NAME or hash:cookie:NAME$"):
        balance(text)


@pytest.mark.parametrize("text", ["", "p2c:", "p2c:x", "round_robin:x", "Hash:client", "least", "sticky:"])
def test_any_other_balance_is_refused_with_the_words_there_are(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected p2c, round_robin, hash:client, .*, sticky or sticky:NAME$"):
        balance(text)


@pytest.mark.parametrize(
    ("text", "what"), [("sticky:a b", "cookie"), ("hash:cookie:a;", "cookie"), ("hash:header:é", "field")]
)
def test_a_name_is_one_that_can_be_sent(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"the name of a (header )?{what}"):
        balance(text)
