"""Limits and Valkey in the environment: what is refused, with what is expected, and what is worth a word."""

import os

import pytest
import trustme

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from gateway.config import limits
from gateway.config.loader import load
from gateway.config.records import Config, ConfigError, Problem
from gateway.routing import proxy, route
from gateway.routing.urls import Routes
from tests.config.test_loader import Files

BASE = {"GATEWAY_UPSTREAM_U": "http://u:1", "GATEWAY_ROUTE_R": "/r/{id} -> u"}


def config(**variables: str) -> Config:
    return load({**BASE, **{f"GATEWAY_{name}": value for name, value in variables.items()}}, Files({}).read)


def problem(**variables: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        config(**variables)
    (only,) = caught.value.problems
    return only


@pytest.mark.parametrize(
    ("variables", "variable", "message", "hint"),
    [
        ({"RATE_LIMIT": "100"}, "GATEWAY_RATE_LIMIT", "expected limits such as 100/1m", ""),
        ({"RATE_LIMIT": "100/1m by ip"}, "GATEWAY_RATE_LIMIT", "expected by client, identity", ""),
        ({"ROUTE_R__RATE_LIMIT": "100/60"}, "GATEWAY_ROUTE_R__RATE_LIMIT", "a duration needs its unit", ""),
        ({"RATE_LIMIT": "apy", "RATE_LIMIT_API": "1/1s"}, "GATEWAY_RATE_LIMIT", "there is no limit apy", "api"),
        ({"UPSTREAM_U__RATE_LIMIT": "none"}, "GATEWAY_UPSTREAM_U__RATE_LIMIT", "there is no limit none", ""),
        ({"RATE_LIMIT_API": "other"}, "GATEWAY_RATE_LIMIT_API", "a limit is not made of other limits", ""),
        ({"RATE_LIMIT_BY": "1/1s"}, "GATEWAY_RATE_LIMIT_BY", "no limit can be called by", ""),
        (
            {"RATE_LIMIT_A__ON_FAILURE": "open"},
            "GATEWAY_RATE_LIMIT_A__ON_FAILURE",
            "GATEWAY_RATE_LIMIT_A is not set",
            "",
        ),
        ({"RATE_LIMIT_ON_FAILURE": "shut"}, "GATEWAY_RATE_LIMIT_ON_FAILURE", "expected local or open or closed", ""),
        (
            {"ROUTE_R__RATE_LIMIT": "1/1s by {no}"},
            "GATEWAY_ROUTE_R",
            "counts by {no}, which this path does not have",
            "",
        ),
        (
            {"ROUTE_R__RATE_LIMIT": "9/1s burst 2", "ROUTE_R__COST": "3"},
            "GATEWAY_ROUTE_R",
            "a request costs 3, more than GATEWAY_ROUTE_R__RATE_LIMIT ever lets through at once: 9/1s burst 2",
            "",
        ),
        ({"ROUTE_R__COST": "0"}, "GATEWAY_ROUTE_R__COST", "expected a whole number from 1", ""),
        ({"VALKEY_URL": "http://valkey"}, "GATEWAY_VALKEY_URL", "expected redis://", ""),
        ({"VALKEY_TIMEOUT": "0s"}, "GATEWAY_VALKEY_TIMEOUT", "longer than zero", ""),
        ({"VALKEY_TIMEOT": "1s"}, "GATEWAY_VALKEY_TIMEOT", "there is no such variable", "GATEWAY_VALKEY_TIMEOUT"),
        ({"RATE_LIMTI": "1/1s"}, "GATEWAY_RATE_LIMTI", "there is no such variable", "GATEWAY_RATE_LIMIT"),
    ],
)
def test_what_cannot_be_is_said(variables: dict[str, str], variable: str, message: str, hint: str) -> None:
    found = problem(**variables)
    assert found.variable == variable
    assert message in found.message
    assert found.hint == hint


def test_the_password_of_a_url_is_shown_nowhere() -> None:
    found = problem(VALKEY_URL="redis://app:hunter2@valkey:6379/x")
    assert "hunter2" not in f"{found.value} {found.message}"


def test_limits_come_with_their_names_and_what_holds_when_the_store_is_away() -> None:
    found = config(RATE_LIMIT_API="100/1m burst 20", RATE_LIMIT_API__ON_FAILURE="closed", RATE_LIMIT_ON_FAILURE="open")
    assert found.limits["api"].on_failure == "closed"
    (policy,) = found.declared.policies.named["api"]
    assert (policy.on_failure, str(policy)) == ("closed", "api: 100/1m burst 20 by client")
    other = config(RATE_LIMIT_API="100/1m", RATE_LIMIT_ON_FAILURE="open")
    assert other.declared.policies.named["api"][0].on_failure == "open"


# -- what check says ----------------------------------------------------------------------------------------------


def said(**variables: str) -> list[str]:
    """Of a gateway with one route, `r`."""
    environ = {"GATEWAY_UPSTREAM_U": "http://u:1", **{f"GATEWAY_{name}": value for name, value in variables.items()}}
    found = load(environ, Files({}).read)
    routes = Routes([route("/r/{id}", proxy("u:/r/{id}"), name="r")], found.declared)
    return [*limits.problems(found.settings), *limits.warnings(found.settings, routes)]


def test_by_client_where_nobody_is_trusted_and_others_can_reach_it() -> None:
    (warning,) = said(BIND="0.0.0.0:8000", RATE_LIMIT="1/1s by client")
    assert warning.startswith("r: counted by client, and nobody is trusted")
    assert not said(BIND="0.0.0.0:8000", RATE_LIMIT="1/1s by client", TRUSTED_PROXIES="10.0.0.0/8")
    assert not said(BIND="0.0.0.0:8000", RATE_LIMIT="1/1s by all")
    for loopback in ("127.0.0.1:8000", "[::1]:8000", "localhost:8000"):
        assert not said(BIND=loopback, RATE_LIMIT="1/1s by client")


def test_a_valkey_for_nothing() -> None:
    assert said(VALKEY_URL="redis://valkey") == [
        "GATEWAY_VALKEY_URL: no limit is counted there; GATEWAY_RATE_LIMIT sets one"
    ]
    assert not said(VALKEY_URL="redis://valkey", RATE_LIMIT="1/1s")


def test_an_authority_is_for_tls_and_must_load() -> None:
    pem = trustme.CA().cert_pem.bytes().decode()
    limited = {"RATE_LIMIT": "1/1s", "VALKEY_CA": pem}
    assert said(VALKEY_URL="redis://valkey", **limited) == [
        "GATEWAY_VALKEY_CA: only GATEWAY_VALKEY_URL=rediss://... takes this"
    ]
    assert not said(VALKEY_URL="rediss://valkey", **limited)
    broken = pem.replace("MII", "XII", 1)
    (problem,) = said(VALKEY_URL="rediss://valkey", RATE_LIMIT="1/1s", VALKEY_CA=broken)
    assert problem.startswith("GATEWAY_VALKEY_CA: a certificate of it does not load: ")
