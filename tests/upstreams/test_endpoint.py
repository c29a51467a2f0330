"""One address that serves an upstream: which there are, what they are called, what they tell of themselves."""

from dataclasses import replace

import pytest

from gateway.upstreams.endpoint import MAX_ADDRESSES, Endpoint, grouped, literal
from gateway.upstreams.outlier_detection import EndpointState, Health, Probed
from gateway.upstreams.places import Base

USERS = Base("http", "users", 8000)


def endpoint(base: Base = USERS, *addresses: str) -> Endpoint:
    return Endpoint(base, addresses or ("10.0.0.7",))


# -- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("127.0.0.1", ("127.0.0.1",)),
        ("::1", ("::1",)),
        ("fd00::a", ("fd00::a",)),
        ("localhost", None),
        ("users", None),
        ("10.0.0.7.example.com", None),
    ],
)
def test_a_base_url_with_an_address_needs_no_look_up(host: str, addresses: tuple[str, ...] | None) -> None:
    assert literal(Base("http", host, 8000)) == addresses


@pytest.mark.parametrize(
    ("found", "groups"),
    [
        (["10.0.0.1"], [("10.0.0.1",)]),
        (["10.0.0.2", "10.0.0.1", "10.0.0.2"], [("10.0.0.1",), ("10.0.0.2",)]),
        (["fd00::1", "10.0.0.1"], [("10.0.0.1",), ("fd00::1",)]),
        (["127.0.0.1"], [("127.0.0.1",)]),
        (["::1"], [("::1",)]),
        (["::1", "127.0.0.1"], [("127.0.0.1", "::1")]),
        (["10.0.0.1", "::1", "127.0.0.1"], [("127.0.0.1", "::1"), ("10.0.0.1",)]),
        (["127.0.0.1", "127.0.0.2"], [("127.0.0.1",), ("127.0.0.2",)]),
        ([], []),
    ],
)
def test_every_address_is_an_endpoint_but_the_two_of_this_machine_are_one(
    found: list[str], groups: list[tuple[str, ...]]
) -> None:
    assert grouped(found) == groups
    assert grouped(reversed(found)) == groups, "the order in which a name server tells them means nothing"


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "addresses", "label"),
    [
        (Base("http", "users", 8000), ("10.0.0.7",), "10.0.0.7:8000"),
        (Base("http", "users", 8000), ("fd00::7",), "[fd00::7]:8000"),
        (Base("http", "users", 80), ("10.0.0.7",), "10.0.0.7"),
        (Base("https", "users", 443), ("fd00::7",), "[fd00::7]"),
        (Base("http", "users", 443), ("10.0.0.7",), "10.0.0.7:443"),
        (Base("http", "10.0.0.7", 8000), ("10.0.0.7",), "10.0.0.7:8000"),
        (Base("http", "localhost", 8000), ("127.0.0.1", "::1"), "localhost:8000"),
        (Base("http", "localhost", 80), ("127.0.0.1", "::1"), "localhost"),
        (Base("http", "users", 8000, "/api"), ("10.0.0.7",), "10.0.0.7:8000"),
    ],
)
def test_a_label_is_the_address_and_a_port_that_is_not_the_schemes_own(
    base: Base, addresses: tuple[str, ...], label: str
) -> None:
    assert endpoint(base, *addresses).label == label


def test_the_host_field_is_the_name_in_the_base_url_and_not_the_address() -> None:
    assert endpoint(USERS).host_field == b"users:8000"
    assert endpoint(Base("https", "users", 443)).host_field == b"users"
    assert endpoint(Base("http", "::1", 8000), "::1").host_field == b"[::1]:8000"


# -- what is known of it ------------------------------------------------------------------------------------------


def test_a_new_endpoint_is_in_and_knows_nothing() -> None:
    new = endpoint()
    assert new.is_in
    assert (new.in_flight, new.latency_s, new.health.failures) == (0, None, 0)


@pytest.mark.parametrize("state", EndpointState)
@pytest.mark.parametrize("up", [True, False])
def test_requests_go_to_one_that_neither_requests_nor_probes_took_out(*, state: EndpointState, up: bool) -> None:
    one = endpoint()
    one.health, one.probed = Health(state), Probed(up)
    assert one.is_in is (state is EndpointState.HEALTHY and up)


def test_latency_follows_the_answers_slowly() -> None:
    one = endpoint()
    one.answered_after(0.1)
    assert one.latency_s == pytest.approx(0.1)
    one.answered_after(0.2)
    assert one.latency_s == pytest.approx(0.12)
    for _ in range(50):
        one.answered_after(0.5)
    assert one.latency_s == pytest.approx(0.5, rel=0.01)


def test_a_line_tells_all_of_it() -> None:
    one = endpoint(Base("https", "users", 8443, "/api"))
    assert repr(one) == "<Endpoint https://10.0.0.7:8443/api in_flight=0 up>"
    one.in_flight = 3
    one.answered_after(0.0123)
    one.health = Health(failures=2)
    assert repr(one) == "<Endpoint https://10.0.0.7:8443/api in_flight=3 latency=12.3ms failures=2 up>"
    one.health = Health(EndpointState.EJECTED, failures=5, pause_s=5.0, until_s=1234.56)
    one.probed = Probed(up=False)
    assert repr(one).endswith(" in_flight=3 latency=12.3ms failures=5 out until=1234.6 down>")
    one.health = replace(one.health, state=EndpointState.HALF_OPEN)
    one.is_gone = True
    assert repr(one).endswith(" failures=5 trial until=1234.6 down gone>")
    assert "\n" not in repr(one)


def test_a_name_with_thousands_of_addresses_has_as_many_endpoints_as_can_be_looked_after() -> None:
    found = [f"10.{number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(10_000)]
    groups = grouped(found)
    assert len(groups) == MAX_ADDRESSES
    assert groups == grouped(reversed(found)), "the same ones each time"
