"""The grammar of limits: what is one, what it means, and what is said of what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.gcra import Rate
from gateway.limits.grammar import Group, KeyPart, NamedLimit, groups, key, limits, text_of, text_of_key
from gateway.limits.policies import Policies, Policy

MINUTE, HOUR = 60.0, 3600.0
CLIENT = (KeyPart("client"),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100/1m", [Group((Rate(100, MINUTE, 100),), CLIENT)]),
        ("100/1m burst 20 by client", [Group((Rate(100, MINUTE, 20),), CLIENT)]),
        ("60/1m 1000/1h by client", [Group((Rate(60, MINUTE, 60), Rate(1000, HOUR, 1000)), CLIENT)]),
        (
            "60/1m 1000/1h by client 5000/1m by all",
            [
                Group((Rate(60, MINUTE, 60), Rate(1000, HOUR, 1000)), CLIENT),
                Group((Rate(5000, MINUTE, 5000),), (KeyPart("all"),)),
            ],
        ),
        ("api", ["api"]),
        ("api, per_user", ["api", "per_user"]),
        ("api 5/1s", ["api", Group((Rate(5, 1.0, 5),), CLIENT)]),
        ("5/1s api", [Group((Rate(5, 1.0, 5),), CLIENT), "api"]),
        ("-", []),
        ("1/500ms by header:X-Tenant", [Group((Rate(1, 0.5, 1),), (KeyPart("header", "x-tenant"),))]),
        ("1/1s by client+{id}", [Group((Rate(1, 1.0, 1),), (KeyPart("client"), KeyPart("path", "id")))]),
        ("1/1s by cookie:Sid", [Group((Rate(1, 1.0, 1),), (KeyPart("cookie", "Sid"),))]),
        ("1/1s by query:q", [Group((Rate(1, 1.0, 1),), (KeyPart("query", "q"),))]),
        ("1/1s by identity", [Group((Rate(1, 1.0, 1),), (KeyPart("identity"),))]),
        ("1/1s by host+route", [Group((Rate(1, 1.0, 1),), (KeyPart("host"), KeyPart("route")))]),
    ],
)
def test_what_a_value_means(text: str, expected: list[Group | str]) -> None:
    assert limits(text) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("100", "expected limits such as"),
        ("100/", "expected limits such as"),
        ("100/60", "a duration needs its unit"),
        ("100/1x", "expected a duration"),
        ("0/1m", "at least 1"),
        ("100/0s", "longer than zero"),
        ("1000000/1s", "at most 100000 a second"),
        ("100/1m burst", "how many may come at once"),
        ("100/1m burst 0", "how many may come at once"),
        ("100/1m burst many", "how many may come at once"),
        ("burst 20", "`burst` follows a limit"),
        ("by client", "`by` closes the limits before it"),
        ("100/1m by", "expected by client, identity"),
        ("100/1m by ip", "expected by client, identity"),
        ("100/1m by header", "expected by client, identity"),
        ("100/1m by header:", "expected a name after header:"),
        ("100/1m by client+client", "stands twice"),
        ("100/1m by client api by", "`by` closes"),
        ("API", "expected limits such as"),
        ("api -", "expected limits such as"),
        ("100/1m; by client", "expected a duration"),
        ('["api"]', "never as JSON"),
    ],
)
def test_what_is_said_of_a_value_that_is_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("(", "\\(")):
        limits(text)


def test_a_named_limit_is_not_made_of_others() -> None:
    assert groups("100/1m") == limits("100/1m")
    with pytest.raises(ValueError, match="not made of other limits"):
        groups("100/1m api")


parts = st.sampled_from(["client", "identity", "host", "route", "all", "header:x-a", "cookie:s", "query:q", "{id}"])
keys = st.lists(parts, min_size=1, max_size=3, unique=True).map("+".join)
one = st.builds(
    lambda units, window, burst: f"{units}/{window}" + (f" burst {burst}" if burst else ""),
    st.integers(1, 9999),
    st.sampled_from(["1s", "500ms", "1m", "90s", "1h", "24h"]),
    st.integers(0, 50),
)
group = st.builds(lambda rates, key: f"{' '.join(rates)} by {key}", st.lists(one, min_size=1, max_size=3), keys)


@given(st.lists(st.one_of(group, st.sampled_from(["api", "per_user"])), min_size=1, max_size=3))
def test_what_is_shown_reads_as_what_it_was(words: list[str]) -> None:
    parsed = limits(" ".join(words))
    assert limits(text_of(parsed)) == parsed


@given(keys)
def test_a_key_reads_as_what_it_was(text: str) -> None:
    assert text_of_key(key(text)) == text


# -- names of policies --------------------------------------------------------------------------------------------


def named(**values: str) -> Policies:
    return Policies({name: NamedLimit(name=name, groups=groups(value)) for name, value in values.items()})


def names_of(policies: tuple[Policy, ...]) -> list[str]:
    return [policy.name for policy in policies]


def test_one_rate_is_called_by_its_limit_and_several_by_their_windows_too() -> None:
    policies = named(
        api="100/1m", both="60/1m 1000/1h", keys="60/1m by client 5000/1m by all", same="5/1m 9/1m burst 2"
    )
    assert names_of(policies.named["api"]) == ["api"]
    assert names_of(policies.named["both"]) == ["both/1m", "both/1h"]
    assert names_of(policies.named["keys"]) == ["keys/1m/client", "keys/1m/all"]
    assert names_of(policies.named["same"]) == ["same/5/1m/client", "same/9/1m-burst-2/client"]


def test_a_limit_without_a_name_is_called_by_its_route_and_counts_for_it_alone() -> None:
    policies = named(api="100/1m")
    one, other = policies.of_route(limits("5/1s"), "users"), policies.of_route(limits("5/1s"), "orders")
    assert names_of(one) == ["users"]
    assert one[0].number != other[0].number
    assert policies.of_route(limits("api"), "users") == policies.of_route(limits("api"), "orders")


def test_all_that_one_value_names_hold_together_each_once() -> None:
    policies = named(api="100/1m")
    assert names_of(policies.of_route(limits("api 5/1s api"), "users")) == ["api", "users"]
    assert policies.of_route((), "users") == ()


@pytest.mark.parametrize(
    ("by", "is_before"),
    [
        ("client", True),
        ("host", True),
        ("client+host", True),
        ("client+route", True),
        ("route", False),
        ("all", False),
        ("identity", False),
        ("client+identity", False),
        ("header:x-key", False),
        ("{id}", False),
    ],
)
def test_what_counts_addresses_or_hosts_is_asked_before_auth(by: str, *, is_before: bool) -> None:
    (policy,) = named(api=f"100/1m by {by}").named["api"]
    assert policy.is_before_auth is is_before
