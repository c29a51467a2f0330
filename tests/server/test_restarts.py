"""When a worker that died is started again, and when a silent one counts as hung."""

import pytest

from gateway.server.restarts import LONGEST_PAUSE_S, Silence, deaths_in_a_row, is_hopeless, listened, pause_s


def test_the_pause_grows_up_to_a_bound() -> None:
    assert [pause_s(deaths) for deaths in (1, 2, 3, 4, 5, 6, 7, 10**6)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]
    assert LONGEST_PAUSE_S == 2


@pytest.mark.parametrize(("before", "lived_s", "deaths"), [(0, 0.1, 1), (3, 0.1, 4), (3, 9.9, 4), (3, 10.0, 1)])
def test_who_lived_for_long_begins_anew(before: int, lived_s: float, deaths: int) -> None:
    assert deaths_in_a_row(before, lived_s) == deaths


def test_where_none_was_ever_ready_each_has_its_try_and_one_a_second_one() -> None:
    assert [is_hopeless(failed, 1) for failed in (1, 2)] == [False, True]
    assert [is_hopeless(failed, 3) for failed in (1, 3, 4)] == [False, False, True]


def heard(*looks: tuple[int, float]) -> float:
    """For how long nothing was heard after these looks: signs of life so far, and seconds since the look before."""
    silence = Silence()
    for beats, passed_s in looks:
        silence = listened(silence, beats, passed_s, 1.0)
    return silence.seconds


def test_silence_lasts_until_a_sign_of_life() -> None:
    assert heard((1, 1.0), (1, 1.0), (1, 1.5)) == 2.5
    assert heard((1, 1.0), (1, 1.0), (2, 1.0)) == 0
    assert heard((2**32 - 1, 1.0), (0, 1.0)) == 0, "the number begins again"


def test_a_worker_that_never_began_is_silent_from_its_start() -> None:
    assert heard((0, 1.0), (0, 1.0)) == 2.0


def test_time_in_which_nobody_listened_does_not_count() -> None:
    """The machine was suspended, or all processes of the group were stopped."""
    assert heard((1, 1.0), (1, 3600.0)) == 2.0
