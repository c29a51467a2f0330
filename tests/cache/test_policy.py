"""What may be stored, for how long it is fresh, and as what: tables, and what holds whatever an answer says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.cache.policy import (
    HEURISTIC,
    NotStored,
    Response,
    Rule,
    entry_of,
    lifetime,
    refusal,
    vary_names,
    vary_values,
)
from tests.cache.stored import AS_IT_SAYS, NOW_S, date, entry, pairs, response

FRESH = "Cache-Control: max-age=60"
TAGGED = 'ETag: "1"'
MINUTE = Rule(ttl_s=60.0)


def why(*lines: str, rule: Rule = AS_IT_SAYS, status: int = 200, request: Sequence[str] = ()) -> NotStored | None:
    return refusal(response(*lines, status=status, request=request), rule)


# -- whether (RFC 9111, section 3) --------------------------------------------------------------------------------


def test_an_answer_that_says_how_long_it_is_fresh_is_stored() -> None:
    assert why(FRESH) is None


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "get", "PROPFIND"])
def test_only_get_is_understood(method: str) -> None:
    assert refusal(response(FRESH, method=method), AS_IT_SAYS) is NotStored.METHOD


@pytest.mark.parametrize("value", ["no-store", "max-age=0, No-Store", "no-store=1", "no-store; x"])
def test_a_request_can_forbid_it(value: str) -> None:
    assert why(FRESH, request=[f"Cache-Control: {value}"]) is NotStored.REQUEST_NO_STORE
    assert why(FRESH, request=["Cache-Control: no-cache"]) is None


def test_what_is_partial_is_not_stored() -> None:
    assert why(FRESH, "Content-Range: bytes 0-1/2", status=206) is NotStored.PARTIAL
    assert why(FRESH, request=["Range: bytes=0-1"]) is NotStored.RANGE
    assert why(FRESH, request=["Range: bytes=0-1"], status=416) is NotStored.RANGE


@pytest.mark.parametrize("status", [101, 199, 304, 600, 799, 999])
def test_a_status_that_is_no_answer_of_its_own_is_not_stored(status: int) -> None:
    assert why("Cache-Control: public, max-age=60", TAGGED, status=status) is NotStored.STATUS


@pytest.mark.parametrize("status", [200, 201, 202, 203, 302, 307, 400, 403, 418, 429, 500, 503, 599])
def test_any_final_status_is_stored_if_it_says_how_long_it_is_fresh(status: int) -> None:
    assert why(FRESH, status=status) is None
    assert why(f"Expires: {date(60)}", status=status) is None
    assert why("Cache-Control: s-maxage=60", status=status) is None


@pytest.mark.parametrize("rule", [AS_IT_SAYS, MINUTE], ids=["on", "60s"])
@pytest.mark.parametrize("status", [201, 202, 205, 302, 303, 307, 400, 401, 403, 429, 500, 502, 503, 504])
def test_other_statuses_are_not_stored_by_a_guess_or_a_rule_of_ours(status: int, rule: Rule) -> None:
    assert why(f"Last-Modified: {date(-9999)}", TAGGED, rule=rule, status=status) is NotStored.STATUS


@pytest.mark.parametrize("status", sorted(HEURISTIC - {501}))
def test_the_statuses_of_which_a_lifetime_may_be_guessed(status: int) -> None:
    assert why(f"Last-Modified: {date(-9999)}", status=status) is None
    assert why(rule=MINUTE, status=status) is None


def test_the_statuses_of_which_a_lifetime_may_be_guessed_are_those_of_the_rfc() -> None:
    """RFC 9110, section 15.1, without 206."""
    assert {200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501} == HEURISTIC


def test_public_makes_any_status_but_a_failure_one_of_them() -> None:
    assert why("Cache-Control: public", f"Last-Modified: {date(-9999)}", status=201) is None
    assert lifetime(response("Cache-Control: public", status=201), MINUTE) == (60.0, "ttl")
    assert why("Cache-Control: public", f"Last-Modified: {date(-9999)}", rule=MINUTE, status=503) is NotStored.STATUS


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504])
def test_a_failure_is_stored_only_if_it_states_its_own_freshness(status: int) -> None:
    for rule in (AS_IT_SAYS, MINUTE):
        assert why(f"Last-Modified: {date(-9999)}", rule=rule, status=status) is NotStored.STATUS
        assert why(FRESH, rule=rule, status=status) is None


@pytest.mark.parametrize(
    "value",
    ["no-store", "NO-STORE", "max-age=60, no-store", "public, no-store, s-maxage=60", "no-store=0", "no-store;"],
)
def test_no_store_is_never_stored(value: str) -> None:
    assert why(f"Cache-Control: {value}", rule=MINUTE) is NotStored.NO_STORE


@pytest.mark.parametrize(
    "value", ["private", "Private, max-age=60", "public, private", 'private, private="x"', "private; x"]
)
def test_private_is_never_stored(value: str) -> None:
    assert why(f"Cache-Control: {value}", rule=MINUTE) is NotStored.PRIVATE


def test_what_is_private_of_it_may_be_left_out() -> None:
    assert why('Cache-Control: max-age=60, private="x-user"', "X-User: 7") is None


def test_no_store_and_private_may_stand_in_any_line() -> None:
    assert why(FRESH, "Cache-Control: x", "Cache-Control: no-store") is NotStored.NO_STORE
    assert why(FRESH, "Cache-Control: public", "Cache-Control: private") is NotStored.PRIVATE


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 404, 410, 500, 503])
def test_must_understand_overrides_no_store_where_the_status_is_understood(status: int) -> None:
    assert why("Cache-Control: must-understand, no-store, max-age=60", status=status) is None


@pytest.mark.parametrize("status", [201, 226, 299, 402, 418, 599])
def test_must_understand_forbids_to_store_what_is_not_understood(status: int) -> None:
    assert why("Cache-Control: must-understand, max-age=60", status=status) is NotStored.STATUS
    assert why("Cache-Control: must-understand, no-store, max-age=60", status=status) is NotStored.STATUS


def test_must_understand_does_not_lift_private() -> None:
    assert why("Cache-Control: must-understand, no-store, private, max-age=60") is NotStored.PRIVATE


def test_an_answer_that_sets_a_cookie_is_not_stored() -> None:
    assert why("Cache-Control: public, s-maxage=60", "Set-Cookie: a=b", rule=MINUTE) is NotStored.SET_COOKIE


@pytest.mark.parametrize("name", ["private", "no-cache"])
def test_a_cookie_that_the_answer_itself_takes_out_is_no_hindrance(name: str) -> None:
    lines = (f'Cache-Control: max-age=60, {name}="Set-Cookie"', "Set-Cookie: a=b")
    assert why(*lines) is None
    assert not any(field == b"set-cookie" for field, _ in entry(*lines).pairs)


@pytest.mark.parametrize("permission", ["public", "s-maxage=60", "must-revalidate"])
def test_an_answer_to_authorization_is_stored_where_it_is_allowed(permission: str) -> None:
    assert why(f"Cache-Control: max-age=60, {permission}", request=["Authorization: Bearer a"]) is None


@pytest.mark.parametrize(
    "value",
    ["max-age=60", "max-age=60, proxy-revalidate", "immutable, max-age=60", "max-age=60, public; x", "x=public"],
)
def test_an_answer_to_authorization_is_not_stored_otherwise(value: str) -> None:
    for rule in (AS_IT_SAYS, MINUTE):
        assert (
            why(f"Cache-Control: {value}", TAGGED, rule=rule, request=["Authorization: Bearer a"])
            is NotStored.AUTHORIZATION
        )
    assert why(f"Expires: {date(60)}", request=["authorization: "]) is NotStored.AUTHORIZATION


def test_an_answer_to_a_cookie_is_stored_if_it_says_how_long_it_is_fresh() -> None:
    cookie = ["Cookie: session=7"]
    assert why(FRESH, request=cookie) is None
    assert why("Cache-Control: public", rule=MINUTE, request=cookie) is NotStored.COOKIE
    assert why(rule=MINUTE, request=cookie) is NotStored.COOKIE
    assert why(f"Last-Modified: {date(-9999)}", request=cookie) is NotStored.COOKIE
    assert why("Cache-Control: max-age=0", TAGGED, request=cookie) is NotStored.COOKIE
    assert why("Cache-Control: max-age=0, public", TAGGED, request=cookie) is None


@pytest.mark.parametrize("value", ["*", "Accept, *", "*, *", "accept language", '"accept"', "a/b", "\u00e9"])
def test_what_varies_on_what_cannot_be_told_is_not_stored(value: str) -> None:
    assert why(FRESH, f"Vary: {value}") is NotStored.VARY
    assert why(FRESH, "Vary: accept", f"Vary: {value}") is NotStored.VARY


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "traceparent", "X-Request-ID"])
def test_what_varies_on_what_the_gateway_says_for_each_client_is_not_stored(name: str) -> None:
    assert why(FRESH, f"Vary: accept, {name}") is NotStored.VARY


def test_what_would_be_of_no_use_is_not_stored() -> None:
    assert why() is NotStored.NO_FRESHNESS
    assert why("Cache-Control: max-age=0") is NotStored.STALE
    assert why("Cache-Control: max-age=60", "Age: 60") is NotStored.STALE
    assert why("Cache-Control: no-cache") is NotStored.STALE
    assert why("Cache-Control: max-age=0", TAGGED) is None
    assert why("Cache-Control: no-cache", TAGGED) is None
    assert why(f"Last-Modified: {date(0)}") is None
    assert why("Cache-Control: max-age=0, stale-while-revalidate=5") is None
    assert why("Cache-Control: max-age=0, stale-if-error=5") is None


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream", "text/event-stream; charset=utf-8"])
def test_a_stream_of_events_is_stored_only_if_it_says_so(kind: str) -> None:
    assert why(f"Content-Type: {kind}", rule=MINUTE) is NotStored.STREAMS
    assert why(f"Content-Type: {kind}", FRESH) is None
    assert why("Content-Type: text/event", rule=MINUTE) is None


def test_a_validator_that_is_none_is_of_no_use() -> None:
    assert why("ETag: unquoted") is NotStored.NO_FRESHNESS
    assert why("Last-Modified: yesterday") is NotStored.NO_FRESHNESS


def test_each_reason_has_a_word_for_cache_status_and_a_sentence() -> None:
    assert NotStored.REQUEST_NO_STORE.word == "request-no-store"
    assert all(reason.word.replace("-", "").isalpha() and reason.value for reason in NotStored)


# -- how long (RFC 9111, section 4.2.1) ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Cache-Control: max-age=60"], (60.0, "max-age")),
        (["Cache-Control: max-age=60, s-maxage=5"], (5.0, "s-maxage")),
        (["Cache-Control: s-maxage=5", "Cache-Control: max-age=60"], (5.0, "s-maxage")),
        (["Cache-Control: max-age=60", f"Expires: {date(5)}"], (60.0, "max-age")),
        (["Cache-Control: s-maxage=60", f"Expires: {date(5)}"], (60.0, "s-maxage")),
        (["Cache-Control: s-maxage=0, max-age=60"], (0.0, "s-maxage")),
        ([f"Expires: {date(60)}"], (60.0, "expires")),
        ([f"Expires: {date(60)}", f"Date: {date(-30)}"], (90.0, "expires")),
        ([f"Expires: {date(60)}", f"Date: {date(30)}"], (30.0, "expires")),
        ([f"Expires: {date(60)}", "Date: now"], (60.0, "expires")),
        ([f"Expires: {date(60).upper()}"], (60.0, "expires")),
        ([f"Expires: {date(-60)}"], (0.0, "expires")),
        (["Expires: 0"], (0.0, "expires")),
        (["Expires: -1"], (0.0, "expires")),
        (["Expires: "], (0.0, "expires")),
        ([f"Expires: {date(60).replace('GMT', 'CET')}"], (0.0, "expires")),
        ([f"Expires: {date(60)}", f"Expires: {date(600)}"], (60.0, "expires")),
        (["Expires: 0", f"Expires: {date(600)}"], (0.0, "expires")),
        # Several, or none that is a number: the first, or stale.
        (["Cache-Control: max-age=60, max-age=5"], (60.0, "max-age")),
        (["Cache-Control: max-age=abc"], (0.0, "max-age")),
        (["Cache-Control: max-age=1.5"], (0.0, "max-age")),
        (["Cache-Control: max-age=-60"], (0.0, "max-age")),
        (["Cache-Control: max-age"], (0.0, "max-age")),
        (["Cache-Control: max-age = 60"], (0.0, "max-age")),
        (["Cache-Control: max-age=60; public"], (0.0, "max-age")),
        (["Cache-Control: s-maxage=abc, max-age=60"], (0.0, "s-maxage")),
        (["Cache-Control: max-age=abc", f"Expires: {date(60)}"], (0.0, "max-age")),
        (['Cache-Control: max-age="60"'], (60.0, "max-age")),
        ([f"Cache-Control: max-age={2**31}"], (2.0**31, "max-age")),
        ([f"Cache-Control: max-age={2**63}"], (2.0**31, "max-age")),
        ([f"Cache-Control: max-age={'9' * 400}"], (2.0**31, "max-age")),
        # Guessed: a tenth of the time since it was modified, at most a day.
        ([f"Last-Modified: {date(-1000)}"], (100.0, "heuristic")),
        ([f"Last-Modified: {date(-1000)}", f"Date: {date(-200)}"], (80.0, "heuristic")),
        ([f"Last-Modified: {date(-(10**9))}"], (86400.0, "heuristic")),
        ([f"Last-Modified: {date(60)}"], (0.0, "heuristic")),
        (["Last-Modified: yesterday"], (0.0, "none")),
        ([], (0.0, "none")),
        (["Cache-Control: no-cache", f"Last-Modified: {date(-1000)}"], (0.0, "no-cache")),
        (['Cache-Control: no-cache="x"', f"Last-Modified: {date(-1000)}"], (100.0, "heuristic")),
        # CDN-Cache-Control stands for Cache-Control and Expires (RFC 9213, section 2.2).
        (["CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5, s-maxage=6"], (60.0, "max-age")),
        (["CDN-Cache-Control: max-age=60", "Cache-Control: no-store"], (60.0, "max-age")),
        (["CDN-Cache-Control: none", f"Expires: {date(60)}"], (0.0, "none")),
        (["CDN-Cache-Control: none", f"Expires: {date(60)}", f"Last-Modified: {date(-1000)}"], (100.0, "heuristic")),
        (["CDN-Cache-Control: ", "Cache-Control: max-age=5"], (5.0, "max-age")),
        (["CDN-Cache-Control: max-age=60,", "Cache-Control: max-age=5"], (5.0, "max-age")),
        (["CDN-Cache-Control: max-age=60.0", "Cache-Control: max-age=5"], (0.0, "max-age")),
        (["Example-Cache-Control: max-age=60", "Cache-Control: max-age=5"], (5.0, "max-age")),
        (["Surrogate-Control: max-age=60", "Cache-Control: max-age=5"], (5.0, "max-age")),
    ],
)
def test_how_long_an_answer_is_fresh_and_what_says_so(lines: list[str], expected: tuple[float, str]) -> None:
    assert lifetime(response(*lines), AS_IT_SAYS) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], (60.0, "ttl")),
        (["Cache-Control: public"], (60.0, "ttl")),
        (["Cache-Control: must-revalidate"], (60.0, "ttl")),
        ([f"Last-Modified: {date(-1000)}"], (60.0, "ttl")),
        (["Cache-Control: max-age=5"], (5.0, "max-age")),
        (["Cache-Control: max-age=0"], (0.0, "max-age")),
        (["Cache-Control: max-age=x"], (0.0, "max-age")),
        (["Cache-Control: s-maxage=600"], (600.0, "s-maxage")),
        (["Expires: 0"], (0.0, "expires")),
        (["Cache-Control: no-cache"], (0.0, "no-cache")),
        (["CDN-Cache-Control: none"], (60.0, "ttl")),
    ],
)
def test_a_duration_of_the_route_holds_where_the_upstream_says_nothing(
    lines: list[str], expected: tuple[float, str]
) -> None:
    assert lifetime(response(*lines), MINUTE) == expected


def test_the_targeted_field_decides_of_everything() -> None:
    assert why("CDN-Cache-Control: no-store", FRESH) is NotStored.NO_STORE
    assert why("CDN-Cache-Control: private", FRESH) is NotStored.PRIVATE
    assert why("CDN-Cache-Control: max-age=60", "Cache-Control: private, no-store") is None
    assert (
        why("CDN-Cache-Control: max-age=60", "Cache-Control: public", request=["Authorization: x"])
        is NotStored.AUTHORIZATION
    )
    found = entry("CDN-Cache-Control: max-age=60, must-revalidate, no-cache, stale-if-error=5", "Cache-Control: x")
    assert (found.never_stale, found.always_validate, found.stale_if_error_s) == (True, True, 0)
    found = entry("CDN-Cache-Control: max-age=60", "Cache-Control: no-cache, must-revalidate")
    assert (found.never_stale, found.always_validate) == (False, False)


def test_targeted_fields_are_passed_on() -> None:
    found = entry("CDN-Cache-Control: max-age=60", "Cache-Control: max-age=5", "Example-Cache-Control: no-store")
    assert {b"cdn-cache-control", b"cache-control", b"example-cache-control"} <= dict(found.pairs).keys()


# -- how old (RFC 9111, section 4.2.3) ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "took_s", "expected"),
    [
        ([], 0.0, 0.0),
        (["Age: 30"], 0.0, 30.0),
        (["Age: 30"], 2.0, 32.0),
        ([], 2.0, 2.0),
        (["Age: 30, 5"], 0.0, 30.0),
        (["Age: 30", "Age: 5"], 0.0, 30.0),
        (["Age: -30"], 0.0, 0.0),
        (["Age: abc"], 0.0, 0.0),
        (["Age: 1.5"], 0.0, 0.0),
        (["Age: abc, 30"], 0.0, 0.0),
        (["Age: "], 0.0, 0.0),
        ([f"Age: {2**31}"], 0.0, 2.0**31),
        ([f"Age: {2**80}"], 0.0, 2.0**31),
        ([f"Date: {date(-20)}"], 0.0, 20.0),
        ([f"Date: {date(-20)}", "Age: 30"], 0.0, 30.0),
        ([f"Date: {date(-20)}", "Age: 10"], 0.0, 20.0),
        ([f"Date: {date(20)}"], 0.0, 0.0),
        ([f"Date: {date(20)}", "Age: 30"], 1.0, 31.0),
        (["Date: yesterday"], 0.0, 0.0),
    ],
)
def test_how_old_an_answer_is_when_it_comes(lines: list[str], took_s: float, expected: float) -> None:
    found = entry(FRESH, *lines, took_s=took_s)
    assert found.age_s == expected
    assert found.fresh_until_s == NOW_S + 60 - expected


def test_an_answer_of_the_same_second_is_not_older_by_chance() -> None:
    """Date is cut to whole seconds."""
    assert entry(FRESH, f"Date: {date()}", at_s=NOW_S + 0.9).age_s == 0.0
    assert entry(FRESH, f"Date: {date()}", at_s=NOW_S + 1.5).age_s == 1.5


def test_a_duration_of_the_route_counts_from_when_the_answer_came() -> None:
    """The clock of an upstream that says nothing of freshness may be anything."""
    late = response(f"Date: {date(-3600)}")
    assert entry_of(late, MINUTE).age_s == 0.0
    assert entry_of(response(f"Date: {date(-3600)}", "Age: 7", took_s=1.0), MINUTE).age_s == 8.0


def test_the_age_grows_with_the_clock_and_not_against_it() -> None:
    found = entry(FRESH, "Age: 10")
    assert [found.current_age_s(NOW_S + s) for s in (-5, 0, 5, 50)] == [10, 10, 15, 60]


# -- as it is stored (RFC 9111, section 3.1) ----------------------------------------------------------------------


def test_every_field_is_stored_also_what_nobody_knows_and_in_its_order() -> None:
    directives = ["X-New: 1", "Content-Type: text/plain", "X-New: 2", 'Link: </>; rel="x"', "Via: 1.1 a", FRESH]
    assert list(entry(*directives).pairs) == [*pairs(*directives), *pairs(f"Date: {date()}")]


@pytest.mark.parametrize(
    "name",
    [
        "Age",
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authentication-Info",
        "Proxy-Authorization",
        "Proxy-Status",
        "Server-Timing",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "X-Request-ID",
    ],
)
def test_what_is_of_one_hop_or_one_request_is_not_stored(name: str) -> None:
    assert entry(FRESH, f"{name}: x", "X: y").pairs == tuple(pairs(FRESH, "X: y", f"Date: {date()}"))


@pytest.mark.parametrize(
    "value", ['private="X-User, x-token"', 'no-cache="x-user",private="X-TOKEN"', "private=x-user, no-cache=x-token"]
)
def test_the_fields_that_an_answer_takes_out_are_not_stored(value: str) -> None:
    found = entry(f"Cache-Control: max-age=60, {value}", "X-User: 7", "X-TOKEN: t", "X-User: 8", "X: y")
    assert not {b"x-user", b"x-token"} & dict(found.pairs).keys()
    assert (b"x", b"y") in found.pairs
    assert not found.always_validate


def test_an_answer_without_a_date_gets_the_one_at_which_it_came() -> None:
    found = entry_of(response(FRESH, dated=False, at_s=NOW_S + 5.7), AS_IT_SAYS)
    assert dict(found.pairs)[b"date"] == date(5).encode()
    assert found.date_s == NOW_S + 5.7


def test_an_entry_knows_what_it_was_asked_for() -> None:
    found = entry(FRESH, "Vary: Accept, X", request=["Accept: a/b", "Y: 1"], took_s=2.0, body=b"body")
    assert (found.requested_s, found.received_s, found.date_s) == (NOW_S - 2, NOW_S, NOW_S)
    assert (found.vary, found.values) == ((b"accept", b"x"), (b"a/b", None))
    assert (found.status, found.body) == (200, b"body")


@pytest.mark.parametrize(
    ("lines", "etag", "modified"),
    [
        ([], None, None),
        (['ETag: "1"'], b'"1"', None),
        (['ETag: W/"1"'], b'W/"1"', None),
        (["ETag: 1"], None, None),
        ([f"Last-Modified: {date(-9)}"], None, date(-9).encode()),
        (["Last-Modified: 9"], None, None),
    ],
)
def test_an_entry_knows_its_validators(lines: list[str], etag: bytes | None, modified: bytes | None) -> None:
    found = entry(FRESH, *lines)
    assert (found.etag, found.last_modified) == (etag, modified)
    assert found.can_be_validated is bool(etag or modified)


@pytest.mark.parametrize(
    ("value", "always_validate", "never_stale"),
    [
        ("max-age=60", False, False),
        ("max-age=60, no-cache", True, False),
        ('max-age=60, no-cache="x"', False, False),
        ("max-age=60, must-revalidate", False, True),
        ("max-age=60, proxy-revalidate", False, True),
        ("s-maxage=60", False, True),
        ("max-age=60, No-Cache, MUST-REVALIDATE", True, True),
    ],
)
def test_an_entry_knows_what_forbids_to_send_it(value: str, *, always_validate: bool, never_stale: bool) -> None:
    found = entry(f"Cache-Control: {value}")
    assert (found.always_validate, found.never_stale) == (always_validate, never_stale)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=60, {}=5", 5),
        ("max-age=60, {}", 0),
        ("max-age=60, {}=x", 0),
        (f"max-age=60, {{}}={2**40}", 2**31),
        ("s-maxage=60, {}=5", 5),
        ("max-age=60, must-revalidate, {}=5", 0),
        ("max-age=60, proxy-revalidate, {}=5", 0),
        ("max-age=60, no-cache, {}=5", 0),
        ('max-age=60, no-cache="x", {}=5', 0),
    ],
)
@pytest.mark.parametrize("name", ["stale-while-revalidate", "stale-if-error"])
def test_an_entry_knows_how_stale_it_may_be_sent(name: str, value: str, seconds: int) -> None:
    found = entry(f"Cache-Control: {value.replace('{}', name)}")
    assert getattr(found, name.replace("-", "_") + "_s") == seconds


def test_an_entry_is_kept_for_as_long_as_something_can_be_answered_with_it() -> None:
    assert entry(FRESH).useful_until_s == NOW_S + 60
    assert entry(FRESH, "Age: 20").useful_until_s == NOW_S + 40
    assert entry("Cache-Control: max-age=60, stale-if-error=90, stale-while-revalidate=5").useful_until_s == NOW_S + 150
    assert entry(FRESH, TAGGED).useful_until_s == NOW_S + 60 + 3600
    assert entry("Cache-Control: max-age=86400", TAGGED).useful_until_s == NOW_S + 2 * 86400
    assert entry("Cache-Control: max-age=0", "Age: 999", TAGGED).useful_until_s == NOW_S + 3600


@pytest.mark.parametrize(
    ("lines", "tags"),
    [
        ([], ()),
        (["Cache-Tag: a,b, c"], ("a", "b", "c")),
        (["Surrogate-Key: a b"], ("a", "b")),
        (["Cache-Tag: a", "Cache-Tag: b", "Surrogate-Key: b  c"], ("a", "b", "c")),
        (["Cache-Tag: , ,"], ()),
    ],
)
def test_an_entry_has_the_tags_that_its_answer_named(lines: list[str], tags: tuple[str, ...]) -> None:
    assert entry(FRESH, *lines).tags == tags


def test_what_is_fresh_by_our_own_guess_is_for_requests_without_credentials() -> None:
    assert entry(rule=MINUTE).anonymous
    assert entry(f"Last-Modified: {date(-9999)}").anonymous
    assert entry(TAGGED).anonymous
    assert entry("Cache-Control: max-age=0", TAGGED).anonymous
    assert not entry(FRESH).anonymous
    assert not entry("Cache-Control: max-age=0, public", TAGGED).anonymous


# -- Vary (RFC 9111, section 4.1) ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["Vary: "], ()),
        (["Vary: ,"], ()),
        (["Vary: Accept"], (b"accept",)),
        (["Vary: X, accept,, X"], (b"accept", b"x")),
        (["Vary: b", "Vary: A"], (b"a", b"b")),
        (["Vary: *"], None),
        (["Vary: a", "Vary: b, *"], None),
        (["Vary: a b"], None),
    ],
)
def test_an_answer_depends_on_the_fields_of_vary(lines: list[str], names: tuple[bytes, ...] | None) -> None:
    assert vary_names(pairs(*lines)) == names


@pytest.mark.parametrize(
    ("name", "one", "other", "same"),
    [
        # Of any field: its lines together, white space around them.
        ("X", ["X: a"], ["X:  a "], True),
        ("X", ["X: a", "X: b"], ["X: a, b"], True),
        ("X", ["X: a,b"], ["X: a , \t b"], True),
        ("X", ["X: a,b", "X: c"], ["X: a, b,c"], True),
        ("X", ['X: "a, b",c'], ['X: "a, b" ,  c'], True),
        ("X", ['X: "a, b"'], ['X: "a,b"'], False),
        ("X", ['X: "a, b'], ['X: "a,b'], True),  # no quoted-string
        ("X", ["X: a b"], ["X: a  b"], False),
        ("X", ["X: ab"], ["X: a,b"], False),
        ("X", ["X: a,,b"], ["X: a, b"], False),
        ("Cookie", ["Cookie: a=1, b"], ["Cookie: a=1,b"], False),
        ("Authorization", ["Authorization: D a=1, b=2"], ["Authorization: D a=1,b=2"], False),
        ("Accept", ['Accept: a/b;p="x, y",c/d'], ['Accept: a/b;p="x, y" , c/d'], True),
        ("X", ["X: a"], ["X: A"], False),
        ("X", ["X: a, b"], ["X: b, a"], False),
        ("X", ["X: a"], [], False),
        ("X", ["X: "], [], False),
        ("X", [], [], True),
        ("X", ["Y: 1"], [], True),
        ("Cookie", ["Cookie: a=1; b=2"], ["Cookie: b=2; a=1"], False),
        ("Authorization", ["Authorization: Bearer a"], ["Authorization: Bearer A"], False),
        # Where a specification says so: white space and case, and of Accept-Encoding the order.
        ("Accept-Encoding", ["Accept-Encoding: gzip, br"], ["Accept-Encoding: br,GZIP"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip", "Accept-Encoding: br"], ["Accept-Encoding: br , gzip"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip;q=0.5, br"], ["Accept-Encoding: br, gzip ; q=0.5"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip;q=0.5, br"], ["Accept-Encoding: gzip, br;q=0.5"], False),
        ("Accept-Encoding", ["Accept-Encoding: gzip,, "], ["Accept-Encoding: gzip"], True),
        ("Accept-Encoding", ["Accept-Encoding: g zip"], ["Accept-Encoding: gzip"], False),
        ("Accept-Encoding", ["Accept-Encoding: "], [], False),
        ("Accept-Language", ["Accept-Language: de-AT, en"], ["Accept-Language: DE-at,EN"], True),
        ("Accept-Language", ["Accept-Language: de, en"], ["Accept-Language: en, de"], False),
        ("Accept", ["Accept: Text/HTML , a/b;q=1"], ["Accept: text/html,a/b ; q=1"], True),
        # A parameter may regard case; what is quoted may hold anything.
        ("Accept", ["Accept: a/b;profile=A"], ["Accept: a/b;profile=a"], False),
        ("Accept", ['Accept: a/b;p="x, Y"'], ['Accept: a/b;p="x,y"'], False),
    ],
)
def test_two_requests_match_where_their_fields_mean_the_same(
    name: str, one: list[str], other: list[str], *, same: bool
) -> None:
    names = vary_names(pairs(f"Vary: {name}"))
    assert names is not None
    assert (vary_values(names, pairs(*one)) == vary_values(names, pairs(*other))) is same


def test_a_long_value_is_compared_in_proportion() -> None:
    for piece in (b" ", b";", b",", b" ;", b'"', b", a ;"):
        values = vary_values([b"accept", b"accept-encoding"], [(b"accept", piece * 20_000), (b"accept-encoding", b"")])
        assert len(values) == 2


# -- whatever an answer says --------------------------------------------------------------------------------------

ALLOWING = ["public", "must-revalidate", "proxy-revalidate", "max-age=60", "max-age=0", "max-age=x", "s-maxage=60"]
OTHERS = [
    "no-cache",
    'no-cache="x"',
    "stale-if-error=60",
    "stale-while-revalidate=60",
    "immutable",
    "x=y",
    "",
    'x="y, z"',
]
FORBIDDING = ["no-store", "private", 'private="set-cookie"', 'private="', "max-age=60; no-store"]


def lines_of(*directives: str) -> st.SearchStrategy[list[str]]:
    """Field lines that decide about caching, with these directives in them; any of them may come twice."""
    lists = st.lists(st.sampled_from(directives), max_size=4).map(", ".join)
    moments = st.integers(-10_000, 10_000).map(date)
    return st.lists(
        st.one_of(
            lists.map("Cache-Control: {}".format),
            lists.map("Cache-Control: {}".format),
            moments.map("Expires: {}".format),
            moments.map("Last-Modified: {}".format),
            moments.map("Date: {}".format),
            st.sampled_from(['ETag: "1"', 'ETag: W/"1"', "ETag: 1", "Age: 7", "Age: x", "Expires: 0", "Vary: accept"]),
            st.sampled_from(["X: y", "Pragma: no-cache", "Content-Length: 4", "Age: 99999999999", "Vary: cookie"]),
        ),
        max_size=6,
    )


GENTLE = lines_of(*ALLOWING, *OTHERS)
ANY = lines_of(*ALLOWING, *OTHERS, *FORBIDDING, "must-understand")
TARGETED = st.lists(st.sampled_from([*ALLOWING, *OTHERS[:4], "must-understand", "none"]), max_size=3).map(
    lambda words: f"CDN-Cache-Control: {', '.join(words)}"
)
REQUESTS: st.SearchStrategy[list[str]] = st.one_of(
    st.just([]), st.lists(st.sampled_from(["Accept: a/b", "X: y", "Cookie: a=b"]), max_size=2)
)
STATUSES = st.sampled_from([200, 200, 200, 201, 204, 301, 302, 404, 418, 500, 503])
RULES = st.sampled_from([AS_IT_SAYS, MINUTE])


def replies(
    lines: st.SearchStrategy[list[str]], requests: st.SearchStrategy[list[str]] = REQUESTS
) -> st.SearchStrategy[Response]:
    return st.builds(
        lambda lines, request, status, took_s: response(*lines, request=request, status=status, took_s=took_s),
        lines,
        requests,
        STATUSES,
        st.floats(0, 30),
    )


def with_word(word: str) -> st.SearchStrategy[list[str]]:
    """Any lines, and a Cache-Control with this word somewhere among them."""
    return st.builds(
        lambda lines, at, others: [*lines[:at], f"Cache-Control: {', '.join([*others, word])}", *lines[at:]],
        ANY.map(lambda lines: [line for line in lines if "must-understand" not in line]),
        st.integers(0, 6),
        st.lists(st.sampled_from([*ALLOWING, *OTHERS]), max_size=2),
    )


@given(replies(with_word("no-store")), RULES)
def test_what_says_no_store_is_never_stored(answer: Response, rule: Rule) -> None:
    assert refusal(answer, rule) is not None


@given(replies(with_word("private")), RULES)
def test_what_says_private_is_never_stored(answer: Response, rule: Rule) -> None:
    assert refusal(answer, rule) is not None


@given(replies(ANY), st.sampled_from(["no-store", "private", "private, max-age=60", "no-store, public"]), RULES)
def test_what_says_so_to_this_cache_alone_is_never_stored(answer: Response, targeted: str, rule: Rule) -> None:
    told = replace(answer, pairs=[*answer.pairs, (b"cdn-cache-control", targeted.encode())])
    assert refusal(told, rule) is not None


@given(replies(ANY), st.integers(0, 6), RULES)
def test_a_cookie_is_never_stored(answer: Response, at: int, rule: Rule) -> None:
    sets = replace(answer, pairs=[*answer.pairs[:at], (b"set-cookie", b"a=b"), *answer.pairs[at:]])
    if refusal(sets, rule) is None:
        assert not any(name == b"set-cookie" for name, _ in entry_of(sets, rule).pairs)


@given(replies(lines_of("max-age=60", "proxy-revalidate", *OTHERS, *FORBIDDING), st.just(["Authorization: x"])), RULES)
def test_nothing_is_stored_for_authorization_without_permission(answer: Response, rule: Rule) -> None:
    assert refusal(answer, rule) is not None


@given(replies(GENTLE), RULES)
def test_requests_with_credentials_are_not_answered_by_a_guess_of_ours(answer: Response, rule: Rule) -> None:
    found = entry_of(answer, rule)
    is_a_guess = found.source in {"ttl", "heuristic", "none"}
    text = b", ".join(value for name, value in answer.pairs if name == b"cache-control")
    assert found.anonymous is (is_a_guess or not (found.lifetime_s > 0 or b"public" in text))


@given(replies(GENTLE), RULES)
def test_what_is_stored_meets_section_3(answer: Response, rule: Rule) -> None:
    assume(refusal(answer, rule) is None)
    text = b", ".join(value for name, value in answer.pairs if name == b"cache-control")
    assert (
        answer.status in HEURISTIC
        or any(word in text for word in (b"public", b"max-age", b"s-maxage"))
        or any(name == b"expires" for name, _ in answer.pairs)
    )


@given(replies(GENTLE) | replies(st.tuples(TARGETED, GENTLE).map(lambda both: [both[0], *both[1]])), RULES)
def test_what_is_stored_is_whole_in_itself(answer: Response, rule: Rule) -> None:
    assume(refusal(answer, rule) is None)
    found = entry_of(answer, rule)
    names = [name for name, _ in found.pairs]
    assert b"age" not in names
    assert b"date" in names
    assert 0 <= found.lifetime_s <= 2**31
    assert 0 <= found.age_s <= 2**31 + 30
    assert found.useful_until_s >= found.received_s
    assert found.can_be_validated or found.useful_until_s > found.received_s


@given(replies(ANY), RULES)
def test_a_duration_of_the_route_never_lasts_longer_than_it_says_nor_overrides(answer: Response, rule: Rule) -> None:
    seconds, source = lifetime(answer, rule)
    told, told_by = lifetime(answer, AS_IT_SAYS)
    if source == "ttl":
        assert seconds == rule.ttl_s
        assert told_by in {"heuristic", "none"}
    else:
        assert (seconds, source) == (told, told_by)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    b"cache-control",
                    b"cdn-cache-control",
                    b"vary",
                    b"age",
                    b"expires",
                    b"date",
                    b"etag",
                    b"last-modified",
                    b"set-cookie",
                    b"surrogate-key",
                ]
            ),
            st.binary(max_size=30),
        ),
        max_size=6,
    ),
    RULES,
)
def test_no_bytes_make_it_raise(directives: list[tuple[bytes, bytes]], rule: Rule) -> None:
    answer = Response("GET", directives, 200, directives, NOW_S, NOW_S)
    reason = refusal(answer, rule)
    found = entry_of(answer, rule)
    assert reason is None or isinstance(reason, NotStored)
    assert isinstance(found.tags, tuple)


def test_a_long_list_is_compared_as_it_came() -> None:
    """To take 60 kB to pieces for each request costs more than the answers that are found by it."""
    short, long = b"EN, de;q=0.5", b", ".join([b"EN"] * 20_000)
    assert vary_values([b"accept-language"], [(b"accept-language", short)]) == (b"en,de;q=0.5",)
    assert vary_values([b"accept-language"], [(b"accept-language", long)]) == (long,)


@pytest.mark.parametrize(("count", "is_named"), [(50, True), (51, False), (5000, False)])
def test_who_names_too_many_fields_in_vary_means_all_of_them(count: int, *, is_named: bool) -> None:
    names = vary_names(pairs("Vary: " + ",".join(f"x-{number}" for number in range(count))))
    assert (names is not None) is is_named
