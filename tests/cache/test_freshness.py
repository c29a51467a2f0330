"""Whether a stored answer answers a request, how it is validated, what must be forgotten."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.cache import freshness
from gateway.cache.freshness import (
    INFINITE,
    NO_DIRECTIVES,
    RequestDirectives,
    Reuse,
    after_head,
    freshened,
    invalidated,
    is_failure,
    limited_by,
    may_stand_in,
    request_directives,
    reuse_of,
    select,
    status_field,
    validating,
)
from gateway.cache.policy import Entry, NotStored, Rule, entry_of, refusal, vary_values
from gateway.http import fields, methods
from gateway.http.headers import Pair
from tests.cache.stored import AS_IT_SAYS, NOW_S, date, entry, pairs, response

FRESH = "Cache-Control: max-age=60"
TAGGED = 'ETag: "1"'
MODIFIED = f"Last-Modified: {date(-1000)}"


def directives(value: str) -> RequestDirectives:
    return request_directives(pairs(f"Cache-Control: {value}"))


# -- what a request says (RFC 9111, section 5.2.1) ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", NO_DIRECTIVES),
        ("x", NO_DIRECTIVES),
        ("no-transform", NO_DIRECTIVES),
        ("no-store", RequestDirectives(no_store=True)),
        ("No-Cache", RequestDirectives(no_cache=True)),
        ("only-if-cached", RequestDirectives(only_if_cached=True)),
        ("max-age=5", RequestDirectives(max_age_s=5)),
        ('max-age="5"', RequestDirectives(max_age_s=5)),
        ("max-age=0, max-age=5", RequestDirectives(max_age_s=0)),
        ("min-fresh=5", RequestDirectives(min_fresh_s=5)),
        ("max-stale=5", RequestDirectives(max_stale_s=5)),
        ("max-stale", RequestDirectives(max_stale_s=INFINITE)),
        ("stale-if-error=5", RequestDirectives(stale_if_error_s=5)),
        (
            "max-age=5, max-stale, only-if-cached",
            RequestDirectives(max_age_s=5, max_stale_s=INFINITE, only_if_cached=True),
        ),
        (f"max-age={2**40}", RequestDirectives(max_age_s=2**31)),
        # No number: the strictest that it could mean.
        ("max-age", RequestDirectives(max_age_s=0)),
        ("max-age=x", RequestDirectives(max_age_s=0)),
        ("max-age=-1", RequestDirectives(max_age_s=0)),
        ("max-age = 5", RequestDirectives(max_age_s=0)),
        ("min-fresh", RequestDirectives(min_fresh_s=2**31)),
        ("min-fresh=x", RequestDirectives(min_fresh_s=2**31)),
        ("max-stale=", RequestDirectives()),
        ("max-stale=x", RequestDirectives()),
        ("stale-if-error", RequestDirectives()),
        ("stale-if-error=x", RequestDirectives()),
    ],
)
def test_a_request_says_what_it_takes(value: str, expected: RequestDirectives) -> None:
    assert directives(value) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Pragma: no-cache"], RequestDirectives(no_cache=True)),
        (["Pragma: x, No-Cache"], RequestDirectives(no_cache=True)),
        (["Pragma: x"], NO_DIRECTIVES),
        (["Pragma: no-cache", "Cache-Control: max-age=5"], RequestDirectives(max_age_s=5)),
        (["Pragma: no-cache", "Cache-Control: "], NO_DIRECTIVES),
    ],
)
def test_pragma_counts_where_there_is_no_cache_control(lines: list[str], expected: RequestDirectives) -> None:
    assert request_directives(pairs(*lines)) == expected


# -- whether it may be used (RFC 9111, sections 4 and 4.2) --------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "asked", "later_s", "expected"),
    [
        # freshness_lifetime > current_age
        ("max-age=60", "", 0, Reuse.FRESH),
        ("max-age=60", "", 59.9, Reuse.FRESH),
        ("max-age=60", "", 60, Reuse.STALE),
        ("max-age=60", "", 10**9, Reuse.STALE),
        ("max-age=0", "", 0, Reuse.STALE),
        ("max-age=60", "", -3600, Reuse.FRESH),  # the clock was set back
        ("s-maxage=60, max-age=0", "", 59, Reuse.FRESH),
        ("must-revalidate, max-age=60", "", 59, Reuse.FRESH),
        # no-cache: never without validation
        ("max-age=60, no-cache", "", 0, Reuse.STALE),
        ("max-age=60, no-cache", "max-stale", 0, Reuse.STALE),
        ("max-age=60, no-cache, stale-while-revalidate=60", "", 0, Reuse.STALE),
        ('max-age=60, no-cache="x"', "", 59, Reuse.FRESH),
        # what the request says: no-cache and max-age
        ("max-age=60", "no-cache", 0, Reuse.REQUEST),
        ("max-age=60", "no-cache", 60, Reuse.STALE),
        ("max-age=60", "max-age=10", 10, Reuse.FRESH),
        ("max-age=60", "max-age=10", 10.1, Reuse.REQUEST),
        ("max-age=60", "max-age=0", 0.1, Reuse.REQUEST),
        ("max-age=60", "max-age=100", 60, Reuse.STALE),
        ("max-age=60", "max-age=10, max-stale", 30, Reuse.REQUEST),
        # min-fresh
        ("max-age=60", "min-fresh=10", 50, Reuse.FRESH),
        ("max-age=60", "min-fresh=10", 50.1, Reuse.REQUEST),
        ("max-age=60", "min-fresh=x", 0, Reuse.REQUEST),
        ("max-age=60, stale-while-revalidate=60", "min-fresh=1", 60, Reuse.STALE),
        ("max-age=60", "min-fresh=1, max-stale", 60, Reuse.STALE),
        # max-stale
        ("max-age=60", "max-stale", 10**9, Reuse.MAX_STALE),
        ("max-age=60", "max-stale=10", 70, Reuse.MAX_STALE),
        ("max-age=60", "max-stale=10", 70.1, Reuse.STALE),
        ("max-age=60", "max-stale=0", 60, Reuse.MAX_STALE),
        ("max-age=60", "max-stale=10", 59, Reuse.FRESH),
        ("max-age=60", "max-stale=x", 61, Reuse.STALE),
        ("max-age=60", "max-stale=10, max-age=65", 65, Reuse.MAX_STALE),  # each of the two is a limit of its own
        ("max-age=60", "max-stale=10, max-age=65", 66, Reuse.STALE),
        ("max-age=60", "max-stale=10, max-age=99", 71, Reuse.STALE),
        ("max-age=60, must-revalidate", "max-stale", 60, Reuse.STALE),
        ("max-age=60, proxy-revalidate", "max-stale", 60, Reuse.STALE),
        ("s-maxage=60", "max-stale", 60, Reuse.STALE),
        ("max-age=60", "max-stale, no-cache", 60, Reuse.STALE),
        # stale-while-revalidate (RFC 5861, section 3)
        ("max-age=60, stale-while-revalidate=30", "", 59, Reuse.FRESH),
        ("max-age=60, stale-while-revalidate=30", "", 60, Reuse.WHILE_REVALIDATE),
        ("max-age=60, stale-while-revalidate=30", "", 89.9, Reuse.WHILE_REVALIDATE),
        ("max-age=60, stale-while-revalidate=30", "", 90, Reuse.STALE),
        ("s-maxage=60, stale-while-revalidate=30", "", 60, Reuse.WHILE_REVALIDATE),
        ("s-maxage=60, stale-while-revalidate=30", "max-stale=20", 80, Reuse.WHILE_REVALIDATE),
        ("max-age=60, stale-while-revalidate=30", "max-stale=5", 60, Reuse.MAX_STALE),
        ("max-age=60, stale-while-revalidate=30", "max-stale=5", 70, Reuse.STALE),
        ("max-age=60, stale-while-revalidate=30", "max-age=100", 60, Reuse.STALE),
        ("max-age=60, stale-while-revalidate=30", "no-cache", 60, Reuse.STALE),
        ("max-age=60, stale-while-revalidate=30, must-revalidate", "", 60, Reuse.STALE),
        ("max-age=60, stale-while-revalidate=30, proxy-revalidate", "", 60, Reuse.STALE),
        ("max-age=60, stale-if-error=30", "", 60, Reuse.STALE),
    ],
)
def test_whether_a_stored_answer_may_be_used_now(said: str, asked: str, later_s: float, expected: Reuse) -> None:
    assert reuse_of(entry(f"Cache-Control: {said}"), directives(asked), NOW_S + later_s) is expected


@pytest.mark.parametrize(
    ("age_s", "later_s", "expected"), [(30, 29.9, Reuse.FRESH), (30, 30, Reuse.STALE), (60, 0, Reuse.STALE)]
)
def test_the_age_that_it_came_with_counts(age_s: int, later_s: float, expected: Reuse) -> None:
    assert reuse_of(entry(FRESH, f"Age: {age_s}"), NO_DIRECTIVES, NOW_S + later_s) is expected
    assert reuse_of(entry(FRESH, f"Date: {date(-age_s)}"), NO_DIRECTIVES, NOW_S + later_s) is expected


def test_what_is_fresh_for_ever_does_not_overflow() -> None:
    found = entry("Cache-Control: max-age=99999999999999999999")
    assert reuse_of(found, NO_DIRECTIVES, NOW_S + 2**31 - 1) is Reuse.FRESH
    assert reuse_of(found, NO_DIRECTIVES, NOW_S + 2**31) is Reuse.STALE


def test_an_answer_older_than_for_ever_is_stale() -> None:
    assert (
        reuse_of(entry("Cache-Control: max-age=99999999999", "Age: 99999999999"), NO_DIRECTIVES, NOW_S) is Reuse.STALE
    )


def test_the_duration_of_the_route_that_asks_is_the_most_for_what_has_one_of_ours() -> None:
    minute, hour = Rule(ttl_s=60.0), Rule(ttl_s=3600.0)
    assert limited_by(minute, entry(rule=hour)).lifetime_s == 60
    assert limited_by(hour, entry(rule=minute)).lifetime_s == 60
    assert limited_by(AS_IT_SAYS, entry(rule=minute)).lifetime_s == 0
    assert limited_by(minute, entry("Cache-Control: max-age=600")).lifetime_s == 600


# -- in the place of a failure (RFC 5861, section 4) --------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "asked", "later_s", "is_so"),
    [
        ("max-age=600, stale-if-error=1200", "", 900, True),
        ("max-age=600, stale-if-error=1200", "", 1800, True),
        ("max-age=600, stale-if-error=1200", "", 1800.1, False),
        ("max-age=600", "", 600, False),
        ("max-age=600, must-revalidate", "", 600, False),
        ("max-age=600", "max-age=0", 599, True),
        ("max-age=600", "stale-if-error=60", 660, True),
        ("max-age=600", "stale-if-error=60", 660.1, False),
        ("max-age=600, stale-if-error=60", "max-age=0", 300, True),
        ("max-age=600, stale-if-error=60", "no-cache", 601, False),
        ("max-age=600, stale-if-error=60, no-cache", "", 300, False),
        ("max-age=600, stale-if-error=60, must-revalidate", "", 601, False),
        ("max-age=600, must-revalidate", "stale-if-error=60", 601, False),
        ("max-age=600, stale-if-error=60, proxy-revalidate", "", 601, False),
        ("s-maxage=600", "stale-if-error=60", 601, False),
        ("s-maxage=600, stale-if-error=60", "", 601, True),
    ],
)
def test_whether_a_stale_answer_may_stand_in_for_a_failure(
    said: str, asked: str, later_s: float, *, is_so: bool
) -> None:
    assert may_stand_in(entry(f"Cache-Control: {said}"), directives(asked), NOW_S + later_s) is is_so


@pytest.mark.parametrize(
    ("said", "asked", "later_s", "is_so"),
    [
        ("max-age=600", "", 1200, True),
        ("max-age=600", "", 1200.1, False),
        ("", "", 660, True),  # as long as the rule says, too
        ("", "", 660.1, False),
        ("max-age=600", "no-cache", 601, False),
        ("max-age=600", "stale-if-error=900", 1500, True),  # the longer one
        # What the upstream says itself counts, and nothing overrules what forbids it.
        ("max-age=600, stale-if-error=60", "", 661, False),
        ("max-age=600, stale-if-error=0", "", 601, False),
        ("max-age=600, stale-if-error=900", "", 1500, True),
        ("max-age=600, must-revalidate", "", 601, False),
        ("max-age=600, proxy-revalidate", "", 601, False),
        ("s-maxage=600", "", 601, False),
        ("max-age=600, no-cache", "", 601, False),
        ('max-age=600, no-cache="x"', "", 601, False),
    ],
)
def test_how_long_a_route_lets_a_stale_answer_stand_in(said: str, asked: str, later_s: float, *, is_so: bool) -> None:
    rule = Rule(ttl_s=60.0, stale_if_error_s=600.0)
    stored = entry(*([f"Cache-Control: {said}"] if said else []), rule=rule)
    assert may_stand_in(stored, directives(asked), NOW_S + later_s) is is_so
    assert not is_so or stored.useful_until_s >= NOW_S + later_s or asked
    assert reuse_of(stored, NO_DIRECTIVES, NOW_S + later_s) in {Reuse.STALE, Reuse.FRESH}, "it is validated first"


def test_a_route_that_lets_it_no_longer_counts_at_once() -> None:
    stored = entry(FRESH, rule=Rule(stale_if_error_s=600.0))
    assert may_stand_in(limited_by(Rule(stale_if_error_s=600.0), stored), NO_DIRECTIVES, NOW_S + 600)
    assert not may_stand_in(limited_by(Rule(stale_if_error_s=10.0), stored), NO_DIRECTIVES, NOW_S + 600)
    assert not may_stand_in(limited_by(Rule(), stored), NO_DIRECTIVES, NOW_S + 600)


def test_what_is_stale_when_it_comes_is_stored_where_it_may_stand_in() -> None:
    lines = ["Cache-Control: max-age=0"]
    assert refusal(response(*lines), Rule()) is NotStored.STALE
    assert refusal(response(*lines), Rule(stale_if_error_s=600.0)) is None
    assert (
        refusal(response("Cache-Control: max-age=0, must-revalidate"), Rule(stale_if_error_s=600.0)) is NotStored.STALE
    )
    assert refusal(response(), Rule(stale_if_error_s=600.0)) is NotStored.NO_FRESHNESS


@pytest.mark.parametrize(
    ("status", "is_so"), [(500, True), (501, False), (502, True), (503, True), (504, True), (404, False)]
)
def test_a_failure_is_what_rfc_5861_calls_one(status: int, *, is_so: bool) -> None:
    assert is_failure(status) is is_so


# -- which one (RFC 9111, sections 4 and 4.1) ---------------------------------------------------------------------


def varied(language: str | None, *lines: str, at_s: float = NOW_S) -> Entry:
    request = [] if language is None else [f"Accept-Language: {language}"]
    return entry("Cache-Control: max-age=60", "Vary: accept-language", *lines, request=request, at_s=at_s)


DE, EN = pairs("Accept-Language: de"), pairs("Accept-Language: en")


def test_nothing_is_chosen_of_nothing() -> None:
    assert select([], DE) == (None, False)


def test_only_what_was_asked_for_with_the_same_values_is_chosen() -> None:
    german, english, plain = varied("de"), varied("en"), varied(None)
    assert select([german, english, plain], DE) == (german, False)
    assert select([german, english, plain], []) == (plain, False)
    assert select([english, plain], DE) == (None, True)
    assert select([german], []) == (None, True)


def test_every_field_of_vary_must_match() -> None:
    found = entry(FRESH, "Vary: a, b", request=["A: 1", "B: 2"])
    assert select([found], pairs("A: 1", "B: 2", "C: 3"))[0] is found
    assert select([found], pairs("A: 1")) == (None, True)
    assert select([found], pairs("A: 1", "B: 3")) == (None, True)


def test_of_several_the_most_recent_by_date_is_chosen() -> None:
    older, newer = varied("de", f"Date: {date(-20)}"), varied("de", f"Date: {date(-10)}", at_s=NOW_S - 5)
    assert select([older, newer], DE)[0] is newer
    assert select([newer, older], DE)[0] is newer
    first, second = varied("de", f"Date: {date()}"), varied("de", f"Date: {date()}", at_s=NOW_S + 0.5)
    assert select([second, first], DE)[0] is second


def test_an_answer_without_vary_stands_back_behind_one_that_matches_with_it() -> None:
    """ "The cache SHOULD choose the most recent stored response with a valid Vary field value", also an older one."""
    german, default = varied("de"), entry(FRESH, at_s=NOW_S + 30)
    assert select([german, default], DE) == (german, False)
    assert select([german, default], EN) == (default, False)


def test_an_answer_without_vary_stands_back_behind_what_the_upstream_has_said_since() -> None:
    default, german = entry(FRESH), varied("de", at_s=NOW_S + 30)
    assert select([default, german], EN) == (None, True)
    assert select([default, german], []) == (None, True)
    assert select([default, german], DE) == (german, False)


def test_an_upstream_that_varies_no_more_is_believed() -> None:
    """Else what varied would be validated for ever, and what has come since never be used."""
    german, default = varied("de"), entry(FRESH, at_s=NOW_S + 60)
    assert select([german, default], DE) == (default, False)


@pytest.mark.parametrize("credentials", ["Authorization: Bearer a", "Cookie: a=b"])
def test_a_guess_of_ours_is_not_given_to_who_has_credentials(credentials: str) -> None:
    guessed, told = entry(rule=Rule(ttl_s=60.0)), entry(FRESH)
    assert select([guessed], pairs(credentials)) == (None, True)
    assert select([guessed], []) == (guessed, False)
    assert select([told], pairs(credentials)) == (told, False)


# -- validation (RFC 9111, section 4.3) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "conditions"),
    [
        ([], []),
        ([TAGGED], ['If-None-Match: "1"']),
        (['ETag: W/"1"'], ['If-None-Match: W/"1"']),
        ([MODIFIED], [f"If-Modified-Since: {date(-1000)}"]),
        ([TAGGED, MODIFIED], ['If-None-Match: "1"', f"If-Modified-Since: {date(-1000)}"]),
        (["ETag: 1"], []),
    ],
)
def test_a_stored_answer_is_validated_by_what_it_has(lines: list[str], conditions: list[str]) -> None:
    assert validating(pairs("Accept: a/b"), entry(FRESH, *lines)) == pairs("Accept: a/b", *conditions)


def test_the_conditions_of_the_client_do_not_go_up() -> None:
    asked = pairs('If-None-Match: "7"', f"If-Modified-Since: {date()}", 'If-Range: "7"', "Accept: a/b")
    assert validating(asked, None) == pairs("Accept: a/b")
    assert validating(asked, entry(FRESH, TAGGED)) == pairs("Accept: a/b", 'If-None-Match: "1"')


def test_every_directive_of_the_client_goes_up() -> None:
    asked = pairs("Cache-Control: no-cache, x=y", "Pragma: no-cache")
    assert validating(asked, None) == asked


@pytest.mark.parametrize(
    ("stored", "said", "is_so"),
    [
        # A strong validator names what it is about: nothing else may be updated.
        (['ETag: "1"'], ['ETag: "1"'], True),
        (['ETag: "1"'], ['ETag: "2"'], False),
        (['ETag: W/"1"'], ['ETag: "1"'], False),
        ([MODIFIED], ['ETag: "1"'], False),
        ([TAGGED, MODIFIED], [TAGGED, f"Last-Modified: {date(-5)}"], True),
        # A weak one, by weak comparison.
        (['ETag: "1"'], ['ETag: W/"1"'], True),
        (['ETag: W/"1"'], ['ETag: W/"1"'], True),
        (['ETag: W/"1"'], ['ETag: W/"2"'], False),
        ([MODIFIED], ['ETag: W/"1"'], False),
        ([MODIFIED], [MODIFIED], True),
        ([MODIFIED], [f"Last-Modified: {date(-5)}"], False),
        ([TAGGED], [MODIFIED], False),
        ([TAGGED, MODIFIED], [MODIFIED], True),
        ([TAGGED, MODIFIED], [f"Last-Modified: {date(-5)}"], False),
        # None at all: it can only be about the one that was asked about.
        ([TAGGED], [], True),
        ([MODIFIED], [], True),
        ([MODIFIED], ["ETag: 1"], True),
    ],
)
def test_which_stored_answer_a_304_is_about(stored: list[str], said: list[str], *, is_so: bool) -> None:
    found = freshened(entry(FRESH, *stored), response(*said, status=304), AS_IT_SAYS)
    assert (found is not None) is is_so


def test_a_304_brings_the_fields_up_to_date() -> None:
    stored = entry(FRESH, TAGGED, "X: 1", "X: 2", "Y: 1", "Content-Length: 4", "Content-Type: a/b", body=b"body")
    said = response(
        "Cache-Control: max-age=120", TAGGED, "X: 3", "Z: 4", "Content-Length: 0", "Age: 7", status=304, at_s=NOW_S + 90
    )
    found = freshened(stored, said, AS_IT_SAYS)
    assert found is not None
    updated, why = found
    assert why is None
    assert sorted(updated.pairs) == sorted(
        pairs(
            "Cache-Control: max-age=120",
            TAGGED,
            "X: 3",
            "Y: 1",
            "Z: 4",
            "Content-Length: 4",
            "Content-Type: a/b",
            f"Date: {date(90)}",
        )
    )
    assert (updated.status, updated.body) == (200, b"body")
    assert (updated.received_s, updated.age_s, updated.lifetime_s) == (NOW_S + 90, 7, 120)


def test_after_a_304_without_a_date_it_is_as_old_as_that() -> None:
    stored = entry(FRESH, TAGGED, "Age: 30")
    found = freshened(stored, response(TAGGED, status=304, at_s=NOW_S + 90, dated=False), AS_IT_SAYS)
    assert found is not None
    assert (found[0].age_s, found[0].date_s) == (0.0, NOW_S + 90)
    assert reuse_of(found[0], NO_DIRECTIVES, NOW_S + 149) is Reuse.FRESH


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["Cache-Control: no-store"], NotStored.NO_STORE),
        (["Cache-Control: private"], NotStored.PRIVATE),
        (["Set-Cookie: a=b"], NotStored.SET_COOKIE),
        (["Vary: *"], NotStored.VARY),
    ],
)
def test_a_304_can_forbid_to_keep_it(lines: list[str], why: NotStored) -> None:
    found = freshened(entry(FRESH, TAGGED), response(TAGGED, *lines, status=304), AS_IT_SAYS)
    assert found is not None
    assert found[1] is why


def test_a_304_can_change_what_it_varies_on() -> None:
    stored = entry(FRESH, TAGGED, "Vary: accept", request=["Accept: a/b"])
    found = freshened(stored, response(TAGGED, "Vary: x", request=["X: 1", "Accept: c/d"], status=304), AS_IT_SAYS)
    assert found is not None
    assert (found[0].vary, found[0].values) == ((b"x",), (b"1",))


def test_a_304_of_what_is_not_200_updates_it_too() -> None:
    found = freshened(entry(FRESH, TAGGED, status=404), response(TAGGED, status=304), AS_IT_SAYS)
    assert found is not None
    assert found[0].status == 404


# -- HEAD (RFC 9111, section 4.3.5) -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "said", "is_so"),
    [
        ([], [], True),
        ([TAGGED], [TAGGED], True),
        ([TAGGED], [], True),
        ([TAGGED], ['ETag: "2"'], False),
        ([], [TAGGED], False),
        ([MODIFIED], [MODIFIED], True),
        ([MODIFIED], [f"Last-Modified: {date()}"], False),
        (["Content-Length: 4"], ["Content-Length: 4"], True),
        (["Content-Length: 4"], ["Content-Length: 5"], False),
        ([TAGGED, "Content-Length: 4"], [TAGGED, "Content-Length: 5"], False),
        ([], ["Set-Cookie: a=b"], False),
        ([], ["Cache-Control: no-store"], False),
    ],
)
def test_whether_a_stored_answer_stands_after_a_head(stored: list[str], said: list[str], *, is_so: bool) -> None:
    found = after_head(entry(FRESH, *stored), response(*said, method="HEAD"), AS_IT_SAYS)
    assert (found is not None) is is_so


def test_a_head_brings_the_fields_up_to_date() -> None:
    stored = entry(FRESH, "X: 1", "Content-Length: 4", body=b"body")
    found = after_head(stored, response("Cache-Control: max-age=5", "X: 2", method="HEAD", at_s=NOW_S + 30), AS_IT_SAYS)
    assert found is not None
    said = dict(found.pairs)
    assert (said[b"x"], said[b"content-length"], found.body) == (b"2", b"4", b"body")
    assert (found.lifetime_s, found.received_s) == (5, NOW_S + 30)


def test_a_head_of_another_status_says_that_the_stored_answer_is_no_more() -> None:
    assert after_head(entry(FRESH, status=404), response(FRESH, method="HEAD"), AS_IT_SAYS) is None


# -- invalidation (RFC 9111, section 4.4) -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 204, 299, 301, 303, 399])
def test_an_unsafe_method_that_succeeds_makes_its_target_invalid(status: int) -> None:
    assert invalidated("http", "a.example", "/x?y=1", status, []) == ["/x?y=1"]


@pytest.mark.parametrize("status", [400, 404, 405, 409, 500, 503])
def test_one_that_fails_makes_nothing_invalid(status: int) -> None:
    assert invalidated("http", "a.example", "/x", status, pairs("Location: /y")) == []


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("/y", ["/y"]),
        ("/y?z=1#part", ["/y?z=1"]),
        ("y", ["/a/y"]),
        ("../y", ["/y"]),
        ("?z=2", ["/a/x?z=2"]),
        ("", []),
        ("http://a.example/y", ["/y"]),
        ("http://A.Example/y", ["/y"]),
        ("HTTP://a.example/y", ["/y"]),
        ("http://a.example", ["/"]),
        ("//a.example/y", ["/y"]),
        # of another origin: no
        ("https://a.example/y", []),
        ("http://a.example:8080/y", []),
        ("http://b.example/y", []),
        ("//b.example/y", []),
        ("http://user@a.example/y", []),
        ("http://a.example.evil/y", []),
        ("http://[::1/y", []),
        ("mailto:a@b", []),
    ],
)
def test_what_it_says_of_other_places_counts_if_they_are_of_the_same_origin(
    name: str, value: str, found: list[str]
) -> None:
    assert invalidated("http", "a.example", "/a/x", 201, pairs(f"{name}: {value}")) == ["/a/x", *found]


def test_each_target_is_told_once() -> None:
    said = pairs("Location: /x", "Content-Location: /y", "Content-Location: /y")
    assert invalidated("https", "a.example:8443", "/x", 303, said) == ["/x", "/y"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPPATCH", "UNHEARD-OF", "get"])
def test_a_method_that_is_not_known_to_be_safe_is_unsafe(method: str) -> None:
    assert method not in methods.SAFE_METHODS


# -- Cache-Status (RFC 9211) --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"hit": True, "ttl": 37}, b"portway; hit; ttl=37"),
        ({"hit": True, "ttl": -3, "detail": "stale-if-error"}, b"portway; hit; ttl=-3; detail=stale-if-error"),
        ({"fwd": "uri-miss", "stored": True, "collapsed": False}, b"portway; fwd=uri-miss; stored"),
        ({"fwd": "stale", "fwd-status": 304, "detail": None}, b"portway; fwd=stale; fwd-status=304"),
        ({"fwd": "uri-miss", "collapsed": True}, b"portway; fwd=uri-miss; collapsed"),
        ({"hit": True, "ttl": 0}, b"portway; hit; ttl=0"),
    ],
)
def test_cache_status_is_an_item_with_parameters(words: dict[str, str | int | bool | None], expected: bytes) -> None:
    assert status_field(words) == expected


def test_every_use_and_every_reason_is_a_token() -> None:
    """Cache-Status has them bare (RFC 9211, section 2.8)."""
    words = [reuse.value for reuse in Reuse] + [why.word for why in NotStored]
    for word in words:
        assert fields.targeted([f"a={word}".encode()]) == {"a": ""}


# -- whatever is said ---------------------------------------------------------------------------------------------

SAID = st.lists(
    st.sampled_from(
        ["max-age=60", "max-age=0", "s-maxage=30", "public", "must-revalidate", "proxy-revalidate", "no-cache"]
    )
    | st.sampled_from(["stale-while-revalidate=20", "stale-if-error=40", 'no-cache="x"', "max-age=x", ""]),
    max_size=4,
).map(lambda words: f"Cache-Control: {', '.join(words)}")
LINES = st.tuples(
    SAID,
    st.sampled_from(["X: y", 'ETag: "1"', 'ETag: W/"1"', MODIFIED]),
    st.sampled_from(["X: y", "Age: 20", "Age: 99999999999", "Expires: 0", f"Expires: {date(45)}"]),
    st.sampled_from(["X: y", f"Date: {date(-15)}", f"Date: {date(15)}"]),
)
ENTRIES = st.builds(
    lambda lines, rule, took_s: entry(*lines, rule=rule, took_s=took_s),
    LINES,
    st.sampled_from([AS_IT_SAYS, Rule(ttl_s=50.0)]),
    st.floats(0, 10),
)
WISHES = st.lists(
    st.sampled_from(
        ["no-cache", "max-age=10", "max-age=0", "min-fresh=10", "max-stale", "max-stale=15", "max-stale=x"]
    ),
    max_size=3,
).map(lambda words: directives(", ".join(words)))
LATER = st.floats(0, 200)
WITHOUT_VALIDATION = {Reuse.FRESH, Reuse.MAX_STALE, Reuse.WHILE_REVALIDATE}


@given(ENTRIES, WISHES, LATER)
def test_an_entry_is_never_fresh_after_its_lifetime(stored: Entry, asked: RequestDirectives, later_s: float) -> None:
    age_s = stored.current_age_s(NOW_S + later_s)
    if reuse_of(stored, asked, NOW_S + later_s) is Reuse.FRESH:
        assert age_s < stored.lifetime_s
        assert asked.max_age_s is None or age_s <= asked.max_age_s
        assert age_s + asked.min_fresh_s <= stored.lifetime_s


@given(ENTRIES, LATER)
def test_what_no_request_asks_for_is_not_sent_stale_without_the_upstreams_word(stored: Entry, later_s: float) -> None:
    reuse = reuse_of(stored, NO_DIRECTIVES, NOW_S + later_s)
    assert reuse in {Reuse.FRESH, Reuse.STALE, Reuse.WHILE_REVALIDATE}
    if reuse is Reuse.WHILE_REVALIDATE:
        assert stored.current_age_s(NOW_S + later_s) <= stored.lifetime_s + stored.stale_while_revalidate_s


@given(ENTRIES, WISHES, LATER)
def test_what_forbids_stale_answers_is_never_overruled_by_a_request(
    stored: Entry, asked: RequestDirectives, later_s: float
) -> None:
    said = {word for name, value in stored.pairs if name == b"cache-control" for word in value.decode().split(", ")}
    is_stale = stored.current_age_s(NOW_S + later_s) >= stored.lifetime_s
    if said & {"must-revalidate", "proxy-revalidate"} and is_stale:
        assert reuse_of(stored, asked, NOW_S + later_s) is Reuse.STALE
        assert not may_stand_in(stored, replace(asked, stale_if_error_s=2**31), NOW_S + later_s)
    if "no-cache" in said:
        assert reuse_of(stored, asked, NOW_S + later_s) not in WITHOUT_VALIDATION


@given(ENTRIES, WISHES, LATER, LATER)
def test_what_is_used_later_could_have_been_used_before(
    stored: Entry, asked: RequestDirectives, one_s: float, other_s: float
) -> None:
    sooner_s, later_s = sorted([one_s, other_s])
    assume(not asked.min_fresh_s)
    if reuse_of(stored, asked, NOW_S + later_s) in WITHOUT_VALIDATION:
        assert reuse_of(stored, asked, NOW_S + sooner_s) in WITHOUT_VALIDATION
    assert stored.current_age_s(NOW_S + sooner_s) <= stored.current_age_s(NOW_S + later_s)


@given(ENTRIES, WISHES, LATER)
def test_a_request_that_wants_more_never_gets_less(stored: Entry, asked: RequestDirectives, later_s: float) -> None:
    """no-cache: nothing without validation; no wish but for freshness makes an answer usable that was not."""
    now_s = NOW_S + later_s
    assert reuse_of(stored, replace(asked, no_cache=True), now_s) not in WITHOUT_VALIDATION
    strict = replace(asked, max_stale_s=-1.0)
    if reuse_of(stored, strict, now_s) in WITHOUT_VALIDATION:
        assert reuse_of(stored, NO_DIRECTIVES, now_s) in WITHOUT_VALIDATION


@given(ENTRIES, LATER)
def test_what_is_forgotten_could_not_have_been_used(stored: Entry, later_s: float) -> None:
    now_s = NOW_S + later_s
    if now_s > stored.useful_until_s:
        assert reuse_of(stored, NO_DIRECTIVES, now_s) is Reuse.STALE
        assert not may_stand_in(stored, NO_DIRECTIVES, now_s)


@given(ENTRIES, LINES, LATER)
def test_a_304_makes_it_what_a_whole_answer_with_those_fields_would_be(
    stored: Entry, lines: Sequence[str], later_s: float
) -> None:
    said = response(*lines, status=304, at_s=NOW_S + later_s)
    found = freshened(stored, said, AS_IT_SAYS)
    assume(found is not None and found[1] is None)
    assert found is not None
    updated = found[0]
    names = {name for name, _ in said.pairs} | {b"date"}
    merged = [*(pair for pair in stored.pairs if pair[0] not in names), *said.pairs]
    whole = replace(said, status=200, pairs=merged)
    assert updated == entry_of(whole, AS_IT_SAYS, stored.body)
    assert refusal(whole, AS_IT_SAYS) is None


@given(
    st.lists(
        st.tuples(st.sampled_from([b"cache-control", b"pragma", b"authorization", b"cookie"]), st.binary(max_size=40))
    )
)
def test_no_bytes_of_a_request_make_it_raise(request: list[tuple[bytes, bytes]]) -> None:
    asked = request_directives(request)
    assert reuse_of(entry(FRESH), asked, NOW_S) in Reuse
    select([entry(FRESH), entry("Vary: cookie", FRESH)], request)


@given(st.binary(max_size=60), st.text(max_size=20))
def test_no_bytes_of_a_location_make_it_raise_or_name_another_origin(value: bytes, target: str) -> None:
    found = invalidated("http", "a.example", "/" + target, 201, [(b"location", value)])
    assert found[0] == "/" + target
    assert all(each.startswith("/") for each in found)


def test_a_field_is_read_once_however_many_variants_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends 60 kB of Accept-Language pays for it once, and so does everybody else."""
    variants = [entry(FRESH, "Vary: accept-language", request=[f"Accept-Language: x-{one}"]) for one in range(32)]
    asked: list[object] = []

    def counted(names: Iterable[bytes], request: Sequence[Pair]) -> tuple[bytes | None, ...]:
        asked.extend(names)
        return vary_values(names, request)

    monkeypatch.setattr(freshness, "vary_values", counted)
    assert select(variants, pairs("Accept-Language: x-7")) == (variants[7], False)
    assert asked == [b"accept-language"]
