"""Whether a request may be sent again: what failed, what had been sent, how often, and within which budget."""

from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import Reason, Side
from gateway.upstreams.retry_policy import (
    DEFAULT_RETRY_ON,
    FAULTS,
    RETRIABLE,
    Budget,
    Failure,
    failure_of,
    is_repeatable,
    is_retriable,
    pause_s,
)

NOTHING_SENT = {"connection_refused", "connection_failed", "connect_timeout", "tls_failed", "tls_certificate"}
PERHAPS_ACTED_ON = {"connection_reset", "response_invalid", "response_incomplete", "response_timeout"}


# -- which requests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "keys", "is_so"),
    [
        ("GET", [], True),
        ("HEAD", [], True),
        ("OPTIONS", [], True),
        ("PUT", [], True),
        ("DELETE", [], True),
        ("TRACE", [], True),
        ("POST", [], False),
        ("PATCH", [], False),
        ("get", [], False),
        ("PROPFIND", [], False),
        ("POST", [b"7"], True),
        ("PATCH", [b'"8e03978e-40d5-43dd-bc93-6894a57f9324"'], True),
        ("POST", [b""], False),
        ("POST", [b" \t"], False),
        ("POST", [b"7", b"7"], False),
        ("POST", [b"7", b"8"], False),
        ("GET", [b"7", b"8"], True),
    ],
)
def test_idempotent_methods_and_one_idempotency_key_may_be_repeated(
    method: str, keys: Sequence[bytes], *, is_so: bool
) -> None:
    assert is_repeatable(method, [(b"accept", b"*/*"), *((b"idempotency-key", key) for key in keys)]) is is_so


# -- which failures -----------------------------------------------------------------------------------------------


def may_follow(
    failure: Failure, *, sent: bool, repeatable: bool, on: frozenset[Failure] = DEFAULT_RETRY_ON, later: bool = False
) -> bool:
    return is_retriable(failure, on, sent=sent, repeatable=repeatable, is_busy=later and failure == 503)


def test_failures_are_parted_by_what_had_been_sent() -> None:
    assert {reason.word for reason in RETRIABLE} == NOTHING_SENT | PERHAPS_ACTED_ON


@pytest.mark.parametrize("reason", Reason)
def test_by_default_only_failures_of_an_endpoint_may_be_retried(reason: Reason) -> None:
    assert may_follow(reason, sent=True, repeatable=True) is (reason.word in NOTHING_SENT | PERHAPS_ACTED_ON)


@pytest.mark.parametrize("reason", Reason)
def test_no_fault_of_the_client_or_of_the_gateway_counts_against_an_endpoint_or_is_retried(reason: Reason) -> None:
    assert reason.side is Side.UPSTREAM or not {reason} & (FAULTS | RETRIABLE)


def test_by_default_502_503_and_504_may_be_retried_and_no_other_status() -> None:
    assert [status for status in range(100, 600) if may_follow(status, sent=True, repeatable=True)] == [502, 503, 504]


def test_what_cannot_be_repeated_is_not_sent_again_once_it_was_sent() -> None:
    everything: frozenset[Failure] = frozenset([*Reason, *range(400, 600)])
    assert not [failure for failure in everything if may_follow(failure, sent=True, repeatable=False, on=everything)]


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason.word in NOTHING_SENT])
def test_what_was_never_sent_may_be_sent_elsewhere_whatever_it_is(reason: Reason) -> None:
    assert may_follow(reason, sent=False, repeatable=False)
    assert may_follow(reason, sent=False, repeatable=True)
    assert not may_follow(reason, sent=False, repeatable=True, on=frozenset({503}))


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_503_that_says_when_to_come_again_is_for_the_client(status: int) -> None:
    assert may_follow(status, sent=True, repeatable=True, later=True) is (status != 503)


def test_retry_on_is_all_there_is() -> None:
    only: frozenset[Failure] = frozenset({503, Reason.CONNECTION_RESET})
    assert may_follow(503, sent=True, repeatable=True, on=only)
    assert may_follow(Reason.CONNECTION_RESET, sent=True, repeatable=True, on=only)
    assert not may_follow(502, sent=True, repeatable=True, on=only)
    assert not may_follow(Reason.CONNECTION_REFUSED, sent=False, repeatable=True, on=only)


# -- the words of RETRY_ON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason in RETRIABLE])
def test_a_word_of_retry_on_is_the_reason_of_the_log(reason: Reason) -> None:
    assert failure_of(reason.word) is reason


@pytest.mark.parametrize("text", ["400", "404", "429", "500", "503", "599"])
def test_a_status_of_retry_on_is_an_error(text: str) -> None:
    assert failure_of(text) == int(text)


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in RETRIABLE])
def test_a_reason_that_cannot_be_retried_is_no_word_of_retry_on(reason: Reason) -> None:
    with pytest.raises(ValueError, match="expected statuses"):
        failure_of(reason.word)


@pytest.mark.parametrize(
    "text",
    [
        *["", "5xx", "200", "302", "399", "600", "50", "5030", "0503", "-503", "+503", "٥٠٣", "5 3"],
        *["CONNECTION_RESET", "Connection_Reset", "connection_reset ", "reset", "gateway-error", "connect-failure"],
    ],
)
def test_anything_else_is_refused_with_the_words_there_are(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"from 400 to 599 and any of connect_timeout, connection_failed, .*tls_failed"
    ):
        failure_of(text)


# -- pauses -------------------------------------------------------------------------------------------------------


def test_pauses_double_from_20_to_320_milliseconds() -> None:
    assert [round(pause_s(retry, 1.0) * 1000) for retry in range(1, 8)] == [20, 40, 80, 160, 320, 320, 320]


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_chance_spreads_a_pause_from_nothing_to_all_of_it(retry: int, chance: float) -> None:
    assert 0 <= pause_s(retry, chance) <= 0.32
    assert pause_s(retry, 0.0) == 0
    assert pause_s(retry, chance) == pytest.approx(pause_s(retry, 1.0) * chance)


# -- the budget ---------------------------------------------------------------------------------------------------

MINIMUM = Budget.MINIMUM


def spent(budget: Budget, now_s: float, most: int = 10_000) -> int:
    """How many retries it still allows."""
    count = 0
    while count < most and budget.spend(now_s):
        count += 1
    return count


def busy(share: float, requests: int, now_s: float = 1000.0) -> Budget:
    budget = Budget(share)
    for _ in range(requests):
        budget.request(now_s)
    return budget


def test_a_few_retries_are_always_allowed() -> None:
    assert spent(Budget(0.2), 1000.0) == MINIMUM
    assert spent(busy(0.2, 1), 1000.0) == MINIMUM
    assert spent(busy(0.01, 1000), 1000.0) == MINIMUM
    assert 0 < MINIMUM <= 100


@pytest.mark.parametrize(("share", "allowed"), [(0.2, 2000), (0.5, 5000), (1.0, 10_000), (0.333, 3330)])
def test_of_many_requests_a_share_may_be_retried(share: float, allowed: int) -> None:
    assert spent(busy(share, 10_000), 1000.0, most=20_000) == allowed


def test_a_budget_of_nothing_allows_nothing() -> None:
    assert spent(busy(0.0, 10_000), 1000.0) == 0


def test_a_retry_that_was_refused_costs_nothing() -> None:
    budget = busy(0.2, 1000)
    assert spent(budget, 1000.0) == 200
    assert not any(budget.spend(1000.0) for _ in range(500))
    for _ in range(500):
        budget.request(1000.0)
    assert spent(budget, 1000.0) == 100


def test_what_is_older_than_ten_seconds_is_forgotten() -> None:
    budget = busy(0.2, 1000, now_s=1000.0)
    assert spent(budget, 1009.9) == 200, "requests of ten seconds count"
    assert spent(budget, 1010.0) == 0, "those requests do not, their retries still do"
    assert spent(budget, 1018.9) == 0
    assert spent(budget, 1019.0) == MINIMUM


def test_the_budget_moves_on_second_by_second() -> None:
    budget = Budget(0.2)
    for second in range(60):
        for _ in range(100):
            budget.request(1000.0 + second)
        if second == 20:
            assert spent(budget, 1000.0 + second) == 200
        if second == 29:
            assert spent(budget, 1000.0 + second) == 0
        if second in {30, 40}:
            assert spent(budget, 1000.0 + second) == 200


def test_after_a_silence_of_any_length_it_begins_again() -> None:
    budget = busy(0.2, 10_000, now_s=5.0)
    assert spent(budget, 5.0, most=100) == 100
    assert spent(budget, 1e6) == MINIMUM


@settings(max_examples=50)
@given(
    st.floats(0.01, 1),
    st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0, 4.5, 9.0, 12.0]), st.integers(0, 300), st.integers(0, 80))),
)
@example(0.5, [(0.0, 300, 80), (9.0, 0, 80), (1.0, 0, 80)])
def test_no_more_than_the_share_of_ten_seconds_is_ever_retried(
    share: float, steps: list[tuple[float, int, int]]
) -> None:
    """Against a list of all that happened; it counts in whole seconds."""
    budget, now_s = Budget(share), 1000.0
    requests, retries = list[int](), list[int]()
    for passed_s, asked, tried in steps:
        now_s += passed_s
        for _ in range(asked):
            budget.request(now_s)
        requests += [int(now_s)] * asked
        allowed = max(MINIMUM, share * sum(second > int(now_s) - 10 for second in requests))
        left = max(0, int(allowed) - sum(second > int(now_s) - 10 for second in retries))
        assert spent(budget, now_s, most=tried) == min(tried, left)
        retries += [int(now_s)] * min(tried, left)
