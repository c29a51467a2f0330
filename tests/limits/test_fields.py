"""What answers say of limits: draft-ietf-httpapi-ratelimit-headers over RFC 9651."""

import pytest

from gateway.limits.fields import least, policy_field, sf_string, state_field
from gateway.limits.gcra import Rate

API, HOURLY = Rate(100, 60.0, 100), Rate(1000, 3600.0, 1000)


def test_every_limit_that_holds_is_named() -> None:
    assert policy_field([("api", API)]) == (b"ratelimit-policy", b'"api";q=100;w=60')
    both = policy_field([("api/1m", API), ("api/1h", HOURLY)])
    assert both == (b"ratelimit-policy", b'"api/1m";q=100;w=60, "api/1h";q=1000;w=3600')
    assert policy_field([("fast", Rate(5, 0.5, 5))])[1] == b'"fast";q=5;w=1'


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [
        (0.0, b'"api";r=100;t=0'),
        (0.6, b'"api";r=99;t=1'),
        (34.8, b'"api";r=42;t=35'),
        (60.0, b'"api";r=0;t=1'),
        (59.7, b'"api";r=0;t=1'),
    ],
)
def test_what_is_left_of_one(ahead_s: float, expected: bytes) -> None:
    assert state_field("api", API, ahead_s) == (b"ratelimit", expected)


def test_a_refused_one_hears_what_retry_after_says() -> None:
    assert state_field("api", Rate(1, 60.0, 1), 47.2, 48) == (b"ratelimit", b'"api";r=0;t=48')


def test_of_several_the_one_with_the_least_left_is_told() -> None:
    states = [("api/1m", API, 6.0), ("api/1h", HOURLY, 3500.0)]
    assert least(states)[0] == "api/1h"
    assert least([("a", API, 30.0), ("b", API, 30.1)])[0] == "b"


def test_a_name_is_a_string_of_rfc_9651() -> None:
    assert sf_string('a"b\\c') == '"a\\"b\\\\c"'
    assert sf_string("Bücher\n") == '"B?cher?"'
