"""What Eureka's answers become: one that is no list, texts for numbers, only those that are UP."""

import json
from typing import Any

import pytest

from gateway.discovery.answers import Away
from gateway.discovery.eureka import instances_of, target_of
from gateway.upstreams.places import Base, Instance, Source

VETS = Source("eureka", "http", "VETS-SERVICE", "/api")
SECURE = Source("eureka", "https", "VETS-SERVICE")


def instance(host: str = "vets-1", port: int | str = 8083, status: str = "UP", **other: Any) -> dict[str, Any]:
    """As /apps/NAME has it, cut to what anybody reads."""
    return {
        "instanceId": f"{host}:vets:{port}",
        "hostName": host,
        "ipAddr": "10.0.0.7",
        "status": status,
        "port": {"$": port, "@enabled": "true"},
        "securePort": {"$": 443, "@enabled": "false"},
        **other,
    }


def answer(found: Any) -> bytes:
    return json.dumps({"application": {"name": "VETS-SERVICE", "instance": found}}).encode()


def urls(source: Source, found: Any) -> list[str]:
    return [str(one.base) for one in instances_of(source, answer(found))]


def test_the_application_is_asked_for_as_it_is_written() -> None:
    assert target_of(VETS) == "/apps/VETS-SERVICE"


def test_those_that_are_up_are_instances() -> None:
    states = ["UP", "DOWN", "STARTING", "OUT_OF_SERVICE", "UNKNOWN"]
    found = [instance(f"vets-{number}", status=status) for number, status in enumerate(states)]
    assert instances_of(VETS, answer(found)) == (Instance(Base("http", "vets-0", 8083, "/api")),)


def test_a_single_one_is_no_list() -> None:
    assert urls(VETS, instance()) == ["http://vets-1:8083/api"]


def test_a_number_may_be_a_text_and_a_truth_one_of_json() -> None:
    one = {**instance("b"), "port": {"$": "1", "@enabled": True}}
    assert urls(VETS, [instance(port="8083"), one]) == ["http://b:1/api", "http://vets-1:8083/api"]


def test_without_a_host_name_it_is_the_address() -> None:
    assert urls(VETS, instance(host="")) == ["http://10.0.0.7:8083/api"]


def test_https_is_at_the_secure_port_where_that_is_open() -> None:
    ports = {"securePort": {"$": "8443", "@enabled": "true"}, "port": {"$": 80, "@enabled": "false"}}
    is_open = {**instance("a"), **ports}
    assert urls(SECURE, [is_open, instance("b")]) == ["https://a:8443"]
    assert urls(VETS, [is_open, instance("b")]) == ["http://b:8083/api"]


@pytest.mark.parametrize(
    "other",
    [
        *(instance("a b"), instance("a/b"), instance(port="many"), instance(port=0), 1, "a", None, [], {}),
        *({**instance("a"), "hostName": 5}, {**instance("a"), "port": 5}, {**instance("a"), "port": {"$": []}}),
    ],
)
def test_one_that_cannot_be_reached_is_left_out_of_others(other: Any) -> None:
    assert urls(VETS, [other, instance("b")]) == ["http://b:8083/api"]


def test_nobody_is_nobody() -> None:
    assert urls(VETS, []) == []
    assert instances_of(VETS, b'{"application": {"name": "VETS-SERVICE"}}') == ()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"application": null}', answer([1]), answer([{}]), answer(instance("a b")), b"[" * 100_000],
)
def test_what_cannot_be_read_is_a_registry_that_is_away(body: bytes) -> None:
    with pytest.raises(Away, match="its answer is no application"):
        instances_of(VETS, body)
