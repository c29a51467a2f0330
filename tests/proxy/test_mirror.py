"""Which requests are copied, and what of the call that answers holds for the copy, as values."""

import pytest

from gateway.config.loader import load
from gateway.config.records import ConfigError
from gateway.proxy.mirror import Rule, mirror_rule, shared
from gateway.upstreams.options import Overrides, effective

SERVICES = {
    "GATEWAY_UPSTREAM_U": "http://u:1",
    "GATEWAY_UPSTREAM_V": "http://v:1",
    "GATEWAY_ROUTE_A": "/a/** -> u",
    "GATEWAY_ROUTE_HOME": "GET /home",
    "GATEWAY_ROUTE_HOME__PART_X": "u:/x",
    "GATEWAY_ROUTE_OWN": "/own -> 403",
}


@pytest.mark.parametrize(
    ("rule", "method", "is_copy", "chance", "taken"),
    [
        (Rule("v"), "GET", False, 0.99, True),
        (Rule("v"), "HEAD", False, 0.99, True),
        (Rule("v"), "POST", False, 0.0, False),
        (Rule("v", unsafe=True), "POST", False, 0.99, True),
        (Rule("v", unsafe=True), "DELETE", True, 0.0, False),
        (Rule("v"), "GET", True, 0.0, False),
        (Rule("v", 0.05), "GET", False, 0.049, True),
        (Rule("v", 0.05), "GET", False, 0.05, False),
        (Rule("v", 0.0), "GET", False, 0.0, False),
    ],
)
def test_which_requests_are_copied(rule: Rule, method: str, is_copy: bool, chance: float, taken: bool) -> None:
    assert rule.takes(method, is_copy=is_copy, chance=chance) is taken


def rule_of(**variables: str) -> Rule | None:
    config = load(SERVICES | {f"GATEWAY_{name}": text for name, text in variables.items()}, lambda path: "")
    (route,) = [route for route in config.routes if route.name == "a"]
    return mirror_rule(route.level)


def test_the_nearest_level_holds() -> None:
    assert rule_of() is None
    assert rule_of(UPSTREAM_U__MIRROR="v", MIRROR_SHARE="5%") == Rule("v", 0.05)
    assert rule_of(UPSTREAM_U__MIRROR="v", ROUTE_A__MIRROR="-") is None
    assert rule_of(ROUTE_A__MIRROR="v", ROUTE_A__MIRROR_UNSAFE="on") == Rule("v", unsafe=True)
    assert rule_of(UPSTREAM_U__MIRROR="v", UPSTREAM_U__MIRROR_UNSAFE="on", ROUTE_A__MIRROR_UNSAFE="off") == Rule("v")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"ROUTE_A__MIRROR": "w"}, "there is no upstream w"),
        ({"ROUTE_A__MIRROR": "http://v:1"}, "expected a name in lower case"),
        ({"ROUTE_A__MIRROR_SHARE": "5%"}, "this means nothing without GATEWAY_ROUTE_A__MIRROR"),
        ({"MIRROR_SHARE": "5%"}, "this means nothing without GATEWAY_UPSTREAM_<NAME>__MIRROR"),
        ({"ROUTE_A__MIRROR": "v", "ROUTE_A__MIRROR_SHARE": "5"}, "a percentage needs its %"),
        ({"MIRROR": "v"}, "there is no plain one"),
        ({"ROUTE_HOME__MIRROR": "v"}, "this is for a route to an upstream"),
        ({"ROUTE_OWN__MIRROR": "v"}, "this is for a route to an upstream"),
    ],
)
def test_what_nothing_can_come_of_is_a_start_error(variables: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        rule_of(**variables)
    assert any(message in problem.message for problem in raised.value.problems), raised.value


def test_a_copy_has_what_passes_and_what_is_taken_away_and_no_secret() -> None:
    answering = effective(
        Overrides(headers=(("authorization", "secret of u"), ("cookie", None), ("x-own", "of u"))),
        Overrides(
            forward_query=("page",),
            query_list=(("Key", "secret"), ("own", "1"), ("debug", "1")),
            query=(("debug", None), ("v", "1")),
        ),
    )
    found = shared(answering, Overrides(headers=(("x-own", "of v"),), query_list=(("own", "2"),), query=(("v", "2"),)))
    assert found == Overrides(
        forward_query=("page",),
        headers=(("authorization", None), ("cookie", None)),  # the client's own too, which a secret replaces
        query=(("Key", None), ("debug", None)),
    )
