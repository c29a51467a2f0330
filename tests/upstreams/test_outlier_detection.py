"""Whether an endpoint may be asked: ejected by requests, taken out and brought back by probes."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.upstreams.outlier_detection import (
    FAILURES_TO_EJECT,
    FIRST_PAUSE_S,
    HEALTHY,
    LONGEST_PAUSE_S,
    MOVES,
    EndpointState,
    Event,
    Health,
    Probed,
    abandoned,
    failed,
    may_leave,
    probed,
    succeeded,
    trial_due_s,
    tried,
)

IN, OUT, TRIAL = EndpointState.HEALTHY, EndpointState.EJECTED, EndpointState.HALF_OPEN
NEVER = float("inf")


def fail(health: Health, now_s: float, *, chance: float = 1.0, sent_in: bool = True, leave: bool = True) -> Health:
    """A failure of what was sent while the endpoint was in, or (as its trial, say) while it was out."""
    return failed(health, now_s, chance, sent_in=sent_in, may_leave=leave)


def succeed(health: Health, now_s: float, *, sent_in: bool = True) -> Health:
    return succeeded(health, now_s, sent_in=sent_in)


def ejected(now_s: float = 100.0, chance: float = 1.0) -> Health:
    """An endpoint whose last failure in a row was just now."""
    health = HEALTHY
    for _ in range(FAILURES_TO_EJECT):
        health = fail(health, now_s, chance=chance)
    return health


def on_trial(now_s: float = 105.0) -> Health:
    return tried(ejected(now_s - FIRST_PAUSE_S))


# -- the table ----------------------------------------------------------------------------------------------------


def test_six_moves_are_legal_and_no_others() -> None:
    assert MOVES == {
        (IN, Event.EJECT): OUT,
        (OUT, Event.TRY): TRIAL,
        (OUT, Event.SUCCEED): IN,
        (TRIAL, Event.SUCCEED): IN,
        (TRIAL, Event.FAIL): OUT,
        (TRIAL, Event.ABANDON): OUT,
    }


HAPPENINGS: dict[Event, Callable[[Health], Health]] = {
    Event.EJECT: lambda health: fail(replace(health, failures=FAILURES_TO_EJECT - 1), 200.0),
    Event.TRY: tried,
    Event.SUCCEED: lambda health: succeed(health, 200.0, sent_in=False),
    Event.FAIL: lambda health: fail(health, 200.0, sent_in=False),
    Event.ABANDON: lambda health: abandoned(health, 200.0),
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(EndpointState, Event)))
def test_what_happens_moves_as_the_table_says_or_not_at_all(state: EndpointState, event: Event) -> None:
    if (state, event) == (IN, Event.FAIL):  # a failure that is not yet one too many
        assert HAPPENINGS[event](HEALTHY).state is IN
        return
    health = {IN: HEALTHY, OUT: ejected(), TRIAL: on_trial()}[state]
    assert HAPPENINGS[event](health).state is MOVES.get((state, event), state)


@pytest.mark.parametrize(
    "happens",
    [
        tried,
        lambda health: abandoned(health, 200.0),
        lambda health: succeed(health, 200.0),
        lambda health: succeed(health, 200.0, sent_in=False),
    ],
)
def test_nothing_that_happens_to_a_healthy_endpoint_changes_it(happens: Callable[[Health], Health]) -> None:
    assert (happens(HEALTHY).state, happens(HEALTHY).failures) == (IN, 0)
    assert trial_due_s(happens(HEALTHY), repeatable=True) == NEVER


# -- out ----------------------------------------------------------------------------------------------------------


def test_five_failures_in_a_row_eject_and_four_do_not() -> None:
    health = HEALTHY
    for number in range(1, 5):
        health = fail(health, 100.0)
        assert (health.state, health.failures) == (IN, number)
    assert fail(health, 100.0).state is OUT


def test_a_good_answer_begins_the_row_again() -> None:
    health = HEALTHY
    for _ in range(3):
        for _ in range(4):
            health = fail(health, 100.0)
        health = succeed(health, 100.0)
        assert (health.state, health.failures) == (IN, 0)


def test_an_endpoint_that_may_not_leave_stays_and_leaves_with_the_first_failure_once_it_may() -> None:
    health = HEALTHY
    for _ in range(20):
        health = fail(health, 100.0, leave=False)
    assert health.state is IN
    assert trial_due_s(health, repeatable=True) == NEVER
    assert fail(health, 100.0).state is OUT
    assert fail(succeed(health, 100.0), 100.0).state is IN


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1e6))
def test_the_first_pause_is_at_most_five_seconds_and_chance_spreads_it(chance: float, now_s: float) -> None:
    """At least four fifths of it: a spread that reached down to nothing would be no pause."""
    assert now_s + 3.999 <= ejected(now_s, chance).until_s <= now_s + 5.001
    assert ejected(now_s, 0.0).until_s < ejected(now_s, 0.5).until_s < ejected(now_s, 0.99).until_s


def test_each_trial_that_fails_doubles_the_pause_up_to_a_minute() -> None:
    health, now_s, pauses = ejected(0.0), 0.0, []
    for _ in range(7):
        pauses.append(health.until_s - now_s)
        now_s = health.until_s
        health = fail(tried(health), now_s, sent_in=False)
        assert health.state is OUT
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_an_endpoint_that_fails_again_soon_pauses_twice_as_long_and_later_as_the_first_time() -> None:
    back = succeed(on_trial(105.0), 105.0, sent_in=False)
    assert (back.state, back.failures) == (IN, 0)

    def eject_at(now_s: float) -> float:
        health = back
        for _ in range(FAILURES_TO_EJECT):
            health = fail(health, now_s)
        assert health.state is OUT
        return health.until_s - now_s

    assert eject_at(105.5) == 10.0
    assert eject_at(109.9) == 10.0
    assert eject_at(110.0) == 5.0
    assert eject_at(5000.0) == 5.0


def test_late_answers_to_what_was_sent_before_change_nothing() -> None:
    for health in (ejected(), on_trial()):
        assert succeed(health, 300.0) == health
        assert fail(health, 300.0) == health
        assert fail(health, 300.0, leave=False) == health


# -- the trial ----------------------------------------------------------------------------------------------------


def test_a_trial_is_due_when_the_pause_is_over() -> None:
    health = ejected(100.0)
    assert trial_due_s(health, repeatable=True) == health.until_s == 105.0


def test_a_request_that_cannot_be_repeated_waits_a_pause_longer_for_another_to_be_the_trial() -> None:
    assert trial_due_s(ejected(100.0), repeatable=False) == 110.0


def test_there_is_one_trial_at_a_time() -> None:
    assert trial_due_s(on_trial(), repeatable=True) == NEVER
    assert trial_due_s(on_trial(), repeatable=False) == NEVER
    assert tried(on_trial()) == on_trial()


def test_the_trial_decides() -> None:
    assert succeed(on_trial(), 106.0, sent_in=False).state is IN
    assert fail(on_trial(), 106.0, sent_in=False).state is OUT
    assert fail(on_trial(), 106.0, sent_in=False, leave=False).state is OUT, "it is out already: nobody leaves"


def test_a_trial_that_was_abandoned_is_due_again_at_once() -> None:
    health = abandoned(on_trial(), 300.0)
    assert health.state is OUT
    assert trial_due_s(health, repeatable=True) <= 300.0


def test_a_trial_that_was_abandoned_does_not_lengthen_the_pause() -> None:
    health = fail(tried(abandoned(on_trial(), 300.0)), 301.0, sent_in=False)
    assert health.until_s == 311.0


def test_a_request_that_had_nowhere_else_to_go_tells_as_much_as_a_trial_if_it_is_answered_well() -> None:
    """It was sent while the endpoint was out, all others having failed it too. Another failure is no news."""
    assert succeed(ejected(), 101.0, sent_in=False).state is IN
    assert fail(ejected(), 101.0, sent_in=False) == ejected()


# -- any sequence -------------------------------------------------------------------------------------------------

STEPS = st.tuples(
    st.sampled_from(
        [
            *["good", "bad", "bad", "bad", "bad", "kept in", "try", "trial good", "trial bad", "abandon"],
            "last resort bad",
        ]
    ),
    st.sampled_from([0.0, 0.5, 4.0, 5.0, 20.0, 61.0]),
    st.floats(0, 1, exclude_max=True),
)


@given(st.lists(STEPS, max_size=60))
@example([("bad", 0.0, 0.5)] * 5 + [("try", 5.0, 0.0), ("trial bad", 0.0, 0.5)] * 6)
def test_whatever_happens_the_rules_hold(steps: list[tuple[str, float, float]]) -> None:
    health, now_s, in_a_row, last_pause_s = HEALTHY, 1000.0, 0, 0.0
    for what, passed_s, chance in steps:
        now_s += passed_s
        before = health
        match what:
            case "good":
                health, in_a_row = succeed(health, now_s), 0
            case "bad" | "kept in":
                health, in_a_row = fail(health, now_s, chance=chance, leave=what == "bad"), in_a_row + 1
            case "try" if now_s >= trial_due_s(health, repeatable=True):
                health = tried(health)
                assert health.state is TRIAL
            case "trial good" if before.state is TRIAL:
                health, in_a_row = succeed(health, now_s, sent_in=False), 0
                assert health.state is IN
            case "trial bad" if before.state is TRIAL:
                health = fail(health, now_s, chance=chance, sent_in=False)
                assert health.state is OUT
            case "last resort bad" if before.state is OUT:
                health = fail(health, now_s, chance=chance, sent_in=False)
                assert health == before
            case "abandon":
                health = abandoned(health, now_s)
        if before.state is IN and health.state is OUT:
            assert in_a_row >= FAILURES_TO_EJECT, "it left too soon"
            assert what == "bad", "it was to stay"
        if before.state is IN and what == "bad" and in_a_row >= FAILURES_TO_EJECT:
            assert health.state is OUT, "it stays although it fails"
        if health.state is OUT and before.state is not OUT and what != "abandon":
            pause_s = health.until_s - now_s
            assert 0.8 * FIRST_PAUSE_S - 1e-6 <= pause_s <= LONGEST_PAUSE_S + 1e-6
            assert health.pause_s in {FIRST_PAUSE_S, min(LONGEST_PAUSE_S, 2 * last_pause_s)}
            last_pause_s = health.pause_s
        if (before.state, health.state) != (OUT, OUT) and before.state is not health.state:
            assert health.state in {to for (at, _), to in MOVES.items() if at is before.state}


# -- never more than half -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "total", "may"),
    [
        (0, 0, False),
        (0, 1, False),
        (0, 2, True),
        (1, 2, False),
        (0, 3, True),
        (1, 3, False),
        (1, 4, True),
        (2, 4, False),
        (4, 9, False),
        (4, 10, True),
        (5, 10, False),
    ],
)
def test_never_more_than_half_are_out_and_never_the_only_one(out: int, total: int, *, may: bool) -> None:
    assert may_leave(out, total) is may


@given(st.integers(0, 200))
def test_of_any_number_half_may_leave_and_no_more(total: int) -> None:
    out = 0
    while may_leave(out, total):
        out += 1
    assert out == total // 2


# -- probes -------------------------------------------------------------------------------------------------------


def course(results: str, rise: int, fall: int) -> str:
    """What a row of probes makes of an endpoint: `+` and `-` are good and bad ones, `u` and `d` where it then is."""
    state, found = Probed(), ""
    for result in results:
        state = probed(state, result == "+", rise, fall)
        found += "u" if state.up else "d"
    return found


@pytest.mark.parametrize(
    ("rise", "fall", "results", "found"),
    [
        (2, 3, "+++", "uuu"),
        (2, 3, "--", "uu"),
        (2, 3, "---", "uud"),
        (2, 3, "--+--+---", "uuuuuuuud"),
        (2, 3, "---+", "uudd"),
        (2, 3, "---++", "uuddu"),
        (2, 3, "---+-+-++", "uuddddddu"),
        (2, 3, "------++", "uudddddu"),
        (2, 3, "---++--", "uudduuu"),
        (2, 3, "---++---", "uudduuud"),
        (1, 1, "-+-+", "dudu"),
        (3, 1, "-++-+++", "ddddddu"),
    ],
)
def test_fall_bad_probes_in_a_row_take_out_and_rise_good_ones_bring_back(
    rise: int, fall: int, results: str, found: str
) -> None:
    assert course(results, rise, fall) == found


@given(st.text("+-", max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_probes_do_what_counting_says(results: str, rise: int, fall: int) -> None:
    up, found = True, ""
    for end in range(1, len(results) + 1):
        needed = fall if up else rise
        row = results[max(0, end - needed) : end]
        if len(row) == needed and set(row) == {"-" if up else "+"}:
            up = not up
        found += "u" if up else "d"
    assert course(results, rise, fall) == found


def test_probes_that_agree_with_what_is_known_leave_no_trace() -> None:
    assert probed(Probed(up=True, against=2), True, 2, 3) == Probed(up=True)
    assert probed(Probed(up=False, against=1), False, 2, 3) == Probed(up=False)
