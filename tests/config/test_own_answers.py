"""What is said at the start of the gateway's own answers."""

import pytest

from gateway.config.loader import load
from gateway.config.own_answers import redirect_loops


@pytest.mark.parametrize(
    ("route", "loops"),
    [
        ("/** -> 308 https://a.example/**", True),
        ("a.example/** -> 308 https://a.example/**", True),
        ("/one -> 301 https://a.example/one", True),
        ("/old/** -> 308 https://a.example/**", False),  # it leads to another path
        ("www.a.example/** -> 308 https://a.example/**", False),  # to another host
        ("/** -> 308 http://a.example/**", False),
        ("/one -> 301 https://a.example", False),
    ],
)
def test_a_redirect_to_https_of_the_same_route_is_warned_of(route: str, *, loops: bool) -> None:
    config = load({"GATEWAY_ROUTE_R": route}, lambda path: "")
    assert bool(list(redirect_loops(config.routes, knows_scheme=False))) is loops
    assert not list(redirect_loops(config.routes, knows_scheme=True))
