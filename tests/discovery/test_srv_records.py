"""SRV records become instances: ports, priorities, weights of 0, several addresses of a target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.discovery.srv_records import Record, instances_of, targets_of
from gateway.upstreams.places import Base, Instance

ONE, TWO = {"a": ["10.0.0.1"], "b": ["10.0.0.2"]}, {"a": ["10.0.0.1", "10.0.0.9"], "b": ["10.0.0.2"]}


def weights(records: list[Record], addresses: dict[str, list[str]] = ONE) -> dict[str, float]:
    return {one.addresses[0]: one.weight or 0 for one in instances_of(records, addresses, "http", "")}


def test_a_record_is_an_instance_at_its_port_below_the_prefix() -> None:
    found = instances_of([Record(1, 10, 8080, "a")], ONE, "https", "/api")
    assert found == (Instance(Base("https", "a", 8080, "/api"), ("10.0.0.1",), 10.0, 1),)


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([Record(1, 3, 80, "a"), Record(1, 1, 80, "b")], {"10.0.0.1": 3, "10.0.0.2": 1}),
        ([Record(1, 0, 80, "a"), Record(1, 0, 80, "b")], {"10.0.0.1": 0.5, "10.0.0.2": 0.5}),
        ([Record(1, 0, 80, "a"), Record(1, 50, 80, "b")], {"10.0.0.1": 1, "10.0.0.2": 50}),
        ([Record(1, 0, 80, "a"), Record(2, 0, 80, "b")], {"10.0.0.1": 1, "10.0.0.2": 1}),
    ],
)
def test_weights_are_beside_those_of_a_priority_and_0_is_a_small_chance(
    records: list[Record], found: dict[str, float]
) -> None:
    assert weights(records) == found


def test_a_target_with_two_addresses_has_the_weight_of_one_record() -> None:
    records = [Record(1, 10, 80, "a"), Record(1, 10, 80, "b")]
    assert weights(records, TWO) == {"10.0.0.1": 5, "10.0.0.9": 5, "10.0.0.2": 10}


@pytest.mark.parametrize(
    "records",
    [
        [],
        [Record(0, 0, 80, "")],  # "." is: there is no such service
        [Record(0, 0, 0, "a")],
        [Record(0, 0, 80, "elsewhere")],  # it has no address
    ],
)
def test_what_cannot_be_reached_is_no_instance(records: list[Record]) -> None:
    assert instances_of(records, ONE, "http", "") == ()


@pytest.mark.parametrize("target", ["a/b", "a\\010b", "a b", "a:80", "a\\@b", "a..b", "*", "x" * 254])
def test_a_target_that_is_no_host_name_is_no_instance(target: str) -> None:
    assert targets_of([Record(1, 1, 80, target)]) == []
    assert instances_of([Record(1, 1, 80, target)], {target: ["10.0.0.1"]}, "http", "") == ()


def test_each_target_is_looked_up_once() -> None:
    records = [Record(0, 0, 80, "a"), Record(0, 0, 81, "a"), Record(0, 0, 80, "b"), Record(0, 0, 80, "")]
    assert targets_of(records) == ["a", "b"]


@given(
    st.lists(
        st.builds(Record, st.integers(0, 3), st.integers(0, 65_535), st.integers(0, 65_535), st.sampled_from("ab")),
        max_size=20,
    )
)
def test_the_order_of_records_changes_nothing_and_every_weight_is_above_0(records: list[Record]) -> None:
    found = instances_of(records, TWO, "http", "")
    assert found == instances_of(records[::-1], TWO, "http", "")
    assert all(one.weight and one.weight > 0 for one in found)
