"""What Consul is asked, and what its answers become."""

import json
from typing import Any

import pytest

from gateway.discovery.answers import MOST_ENTRIES, Away
from gateway.discovery.consul import instances_of, next_index, target_of
from gateway.upstreams.places import Base, Instance, Source

SCHOOL = Source("consul", "http", "school", "/api", ("v2", "eu & us"))


def entry(address: str, port: int, weight: int = 1, node: str = "10.9.9.9") -> dict[str, Any]:
    """As /v1/health/service has it, cut to what anybody reads."""
    return {
        "Node": {"Node": "n1", "Address": node},
        "Service": {"ID": "s", "Address": address, "Port": port, "Weights": {"Passing": weight, "Warning": 1}},
        "Checks": [{"Status": "passing"}],
    }


def test_the_first_question_waits_for_nothing_and_the_next_for_a_change() -> None:
    assert target_of(SCHOOL, 0, 60) == "/v1/health/service/school?passing=1&tag=v2&tag=eu%20%26%20us"
    assert target_of(SCHOOL, 17, 0.4).endswith("&index=17&wait=1s")


@pytest.mark.parametrize(
    ("before", "field", "after"),
    [
        (0, b"17", 17),
        (17, b"17", 17),
        (17, b"18", 18),
        (17, b"3", 0),  # a server was restored
        (0, b"0", 1),
        (17, None, 0),
        (17, b"many", 0),
    ],
)
def test_an_index_that_goes_back_begins_anew(before: int, field: bytes | None, after: int) -> None:
    assert next_index(before, field) == after


def test_instances_have_the_address_of_the_service_or_of_its_node() -> None:
    body = json.dumps([entry("10.0.0.2", 8080, 3), entry("", 8081), entry("school-3", 80), entry("fd00::7", 80)])
    assert set(instances_of(SCHOOL, body.encode())) == {
        Instance(Base("http", "10.0.0.2", 8080, "/api"), weight=3.0),
        Instance(Base("http", "10.9.9.9", 8081, "/api"), weight=1.0),
        Instance(Base("http", "school-3", 80, "/api"), weight=1.0),
        Instance(Base("http", "fd00::7", 80, "/api"), weight=1.0),
    }


def test_one_without_a_port_is_none_and_nobody_is_nobody() -> None:
    assert instances_of(SCHOOL, json.dumps([entry("10.0.0.2", 0)]).encode()) == ()
    assert instances_of(SCHOOL, b"[]") == ()


@pytest.mark.parametrize("host", ["a b", "a/b", "a/", "a\nb", "a..b", "x@b", "a?b", "::g", "a%0ab", "a" * 64 + ".test"])
def test_one_whose_address_is_none_is_left_out_of_others(host: str) -> None:
    body = json.dumps([entry(host, 80), entry("10.0.0.2", 80)]).encode()
    assert [one.base.host for one in instances_of(SCHOOL, body)] == ["10.0.0.2"]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"null", b'[{"Service": 1}]', b"[{}]", b"\xff", json.dumps([entry("a b", 80)]).encode()),
        b'[{"Other":' + b"[" * 100_000 + b"]" * 100_000 + b"}]",
    ],
)
def test_what_cannot_be_read_is_a_registry_that_is_away(body: bytes) -> None:
    with pytest.raises(Away, match="its answer is no list of instances"):
        instances_of(SCHOOL, body)


def test_of_a_list_that_is_too_long_the_first_entries_count() -> None:
    body = json.dumps([entry(f"10.0.{number >> 8}.{number & 255}", 80) for number in range(MOST_ENTRIES + 1)])
    assert len(instances_of(SCHOOL, body.encode())) == MOST_ENTRIES
