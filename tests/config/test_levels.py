"""Options at three levels: plain, an upstream's, a route's. The nearest wins; `-` takes away."""

import os
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.http import HttpResponse
from django.test import override_settings

from gateway.cache.policy import Rule
from gateway.config import environment
from gateway.config.describe import rows
from gateway.config.effective import effective as in_force
from gateway.config.loader import load
from gateway.config.records import Config, ConfigError
from gateway.config.table import TABLE
from gateway.fanout.view import Fanout
from gateway.http import cors
from gateway.http.request import GatewayRequest
from gateway.options import Level, Option, together
from gateway.routing import cached, from_environment, proxy, route
from gateway.routing.urls import Routes
from gateway.upstreams.options import ProxyOptions, effective

SERVICES = {
    "GATEWAY_UPSTREAM_USERS": "http://users:8000",
    "GATEWAY_UPSTREAM_ORDERS": "http://orders:8000",
    "GATEWAY_ROUTE_USERS": "/users/** -> users",
    "GATEWAY_ROUTE_ME": "/users/me -> users",
    "GATEWAY_ROUTE_ORDERS": "/orders/** -> orders",
    "GATEWAY_ROUTE_HOME": "GET /home/{id}",
    "GATEWAY_ROUTE_HOME__PART_PERSON": "users:/users/{id}",
    "GATEWAY_ROUTE_HOME__PART_ORDERS": "orders:/orders?of={id}",
}


def config(**variables: str) -> Config:
    return load(SERVICES | {f"GATEWAY_{name}": text for name, text in variables.items()}, lambda path: "")


def call(found: Config, name: str) -> ProxyOptions:
    """What holds for a call of the route."""
    (line,) = [line for line in found.routes if line.name == name]
    assert line.target is not None
    return effective(found.upstreams[line.target.upstream].overrides, line.overrides)


def messages(**variables: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        config(**variables)
    return {problem.variable: problem.message for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("variables", "users", "me", "orders"),
    [
        ({}, 30, 30, 30),
        ({"TIMEOUT": "5s"}, 5, 5, 5),
        ({"TIMEOUT": "5s", "UPSTREAM_USERS__TIMEOUT": "2s"}, 2, 2, 5),
        ({"TIMEOUT": "5s", "UPSTREAM_USERS__TIMEOUT": "2s", "ROUTE_ME__TIMEOUT": "1s"}, 2, 1, 5),
        ({"TIMEOUT": "5s", "ROUTE_ME__TIMEOUT": "1s"}, 5, 1, 5),
        ({"TIMEOUT": "5s", "UPSTREAM_USERS__TIMEOUT": "-"}, 30, 30, 5),
        ({"TIMEOUT": "5s", "UPSTREAM_USERS__TIMEOUT": "2s", "ROUTE_ME__TIMEOUT": "-"}, 2, 30, 5),
        ({"TIMEOUT": "-", "ROUTE_ME__TIMEOUT": "-"}, 30, 30, 30),
    ],
)
def test_the_nearest_level_wins_and_a_dash_takes_away(
    variables: Mapping[str, str], users: float, me: float, orders: float
) -> None:
    found = config(**variables)
    assert [call(found, name).timeout_s for name in ("users", "me", "orders")] == [users, me, orders]


def test_a_dash_lifts_a_limit_that_has_no_default() -> None:
    found = config(TOTAL_TIMEOUT="10m", ROUTE_ME__TOTAL_TIMEOUT="-", UPSTREAM_ORDERS__TOTAL_TIMEOUT="-")
    assert [call(found, name).total_timeout_s for name in ("users", "me", "orders")] == [600, None, None]


def test_fields_are_merged_one_by_one_and_a_dash_goes_on_meaning_that_the_message_has_none() -> None:
    found = config(HEADER_X_A="plain", HEADER_X_B="plain", UPSTREAM_USERS__HEADER_X_B="users", ROUTE_ME__HEADER_X_A="-")
    assert dict(call(found, "orders").headers) == {"x-a": "plain", "x-b": "plain"}
    assert dict(call(found, "users").headers) == {"x-a": "plain", "x-b": "users"}
    assert dict(call(found, "me").headers) == {"x-a": None, "x-b": "users"}


def test_what_stores_answers_has_levels() -> None:
    found = config(CACHE="60s", STALE_IF_ERROR="1h", ROUTE_ME__CACHE="-", UPSTREAM_ORDERS__CACHE_MAX_BODY="1MiB")
    rules = {line.name: line.cache for line in found.routes}
    assert rules["me"] is None
    assert rules["users"] == rules["home"] == Rule(60, stale_if_error_s=3600)
    assert rules["orders"] == Rule(60, stale_if_error_s=3600, max_body_bytes=2**20)


def test_an_upstreams_cache_holds_for_the_routes_that_lead_there_and_no_fan_out() -> None:
    rules = {line.name: line.cache for line in config(UPSTREAM_USERS__CACHE="on").routes}
    assert [name for name, rule in rules.items() if rule is not None] == ["me", "users"]


def test_origins_have_levels_and_a_dash_is_none() -> None:
    found = config(CORS="https://a.example", UPSTREAM_ORDERS__CORS="*", ROUTE_ME__CORS="-")
    assert {line.name: line.cors for line in found.routes} == {
        "users": ("https://a.example",),
        "home": ("https://a.example",),
        "me": (),
        "orders": ("*",),
    }
    assert found.settings.cors == ("https://a.example",)


@pytest.mark.parametrize(
    ("variables", "blamed"),
    [
        ({"CORS": "*", "CORS_CREDENTIALS": "on"}, "GATEWAY_CORS_CREDENTIALS"),
        ({"CORS": "https://a.b", "CORS_CREDENTIALS": "on", "ROUTE_ME__CORS": "*"}, "GATEWAY_CORS_CREDENTIALS"),
        ({"CORS": "*", "ROUTE_ME__CORS_CREDENTIALS": "on"}, "GATEWAY_ROUTE_ME__CORS_CREDENTIALS"),
        ({"CORS_METHODS": "GET"}, "GATEWAY_CORS_METHODS"),
    ],
)
def test_what_no_browser_would_take_is_a_start_error(variables: Mapping[str, str], blamed: str) -> None:
    assert list(messages(**variables)) == [blamed]


def test_what_pages_may_do_has_levels() -> None:
    found = config(CORS="*", CORS_CREDENTIALS="off", CORS_MAX_AGE="1h", ROUTE_ME__CORS_METHODS="GET,PUT")
    (me,) = [line for line in found.routes if line.name == "me"]
    assert isinstance(me.cors, cors.Rules)
    assert (me.cors, me.cors.methods, me.cors.max_age_s, me.cors.credentials) == (("*",), ("GET", "PUT"), 3600, False)
    assert found.settings.cors == ("*",)


def test_options_of_upstreams_may_be_plain() -> None:
    found = config(RETRIES="0", BALANCE="round_robin", HEALTH="/healthz", UPSTREAM_USERS__RETRIES="2")
    users, orders = found.upstreams["users"], found.upstreams["orders"]
    assert (users.retries, orders.retries) == (2, 0)
    assert (users.balance, orders.health) == (("round_robin", "", ""), "/healthz")
    assert config(HEALTH="/healthz", UPSTREAM_USERS__HEALTH="-").upstreams["users"].health is None
    assert config(RETRIES="0", UPSTREAM_USERS__RETRIES="-").upstreams["users"].retries == 1


def test_the_gateways_own_limit_is_none_of_upstreams() -> None:
    found = config(MAX_IN_FLIGHT="7")
    assert found.settings.max_in_flight == 7
    assert found.upstreams["users"].max_in_flight is None


@pytest.mark.parametrize(
    "word",
    [
        *("PATH", "CA", "CLIENT_CERT", "CLIENT_KEY", "OPTIONAL", "BODY", "TYPE", "MIRROR", "MIRROR_UNSAFE", "WHEN"),
        *("PART_A", "PART_A__TIMEOUT"),
    ],
)
def test_what_means_nothing_for_all_is_an_error_with_a_sentence(word: str) -> None:
    (message,) = messages(**{word: "x"}).values()
    assert "there is no plain one for all of them" in message


def test_plain_functions_have_names() -> None:
    assert "the name is missing, as in GATEWAY_LEGACY_USERS" in messages(LEGACY="team.load")["GATEWAY_LEGACY"]


@pytest.mark.parametrize(
    ("variables", "blamed"),
    [
        ({"HEALTH_INTERVAL": "5s"}, {"GATEWAY_HEALTH_INTERVAL": "GATEWAY_HEALTH;"}),
        ({"QUEUE": "5"}, {"GATEWAY_QUEUE": "GATEWAY_UPSTREAM_<NAME>__MAX_IN_FLIGHT;"}),
        ({"CACHE_MAX_BODY": "1MiB"}, {"GATEWAY_CACHE_MAX_BODY": "GATEWAY_CACHE;"}),
        (
            {"RETRIES": "0", "UPSTREAM_USERS__RETRY_ON": "503"},
            {"GATEWAY_UPSTREAM_USERS__RETRY_ON": "RETRIES=0"},
        ),
        ({"ROUTE_ME__CACHE": "-", "ROUTE_ME__CACHE_MAX_BODY": "1MiB"}, {"GATEWAY_ROUTE_ME__CACHE_MAX_BODY": "CACHE;"}),
    ],
)
def test_an_option_that_means_nothing_without_another_is_blamed_where_it_stands(
    variables: Mapping[str, str], blamed: Mapping[str, str]
) -> None:
    found = messages(**variables)
    assert found.keys() == blamed.keys()
    assert all(blamed[name] in found[name] for name in blamed)


@pytest.mark.parametrize(
    "variables",
    [
        {"HEALTH": "/healthz", "UPSTREAM_USERS__HEALTH_INTERVAL": "5s"},
        {"HEALTH_INTERVAL": "5s", "UPSTREAM_USERS__HEALTH": "/healthz"},
        {"UPSTREAM_USERS__CACHE_MAX_BODY": "1MiB", "ROUTE_ME__CACHE": "60s"},
        {"QUEUE": "5", "UPSTREAM_USERS__MAX_IN_FLIGHT": "5"},
        {"RETRY_ON": "503", "UPSTREAM_USERS__RETRIES": "0"},
        {"CACHE_CONTROL": "no-store", "ROUTE_ME__CACHE_CONTROL": "max-age=60"},
        {"CONCURRENCY": "4", "MERGE": "keyed", "PASS": "404", "MAX_ITEMS": "5", "FORWARD_HEADERS": "x-a"},
    ],
)
def test_the_other_option_may_stand_at_another_level(variables: Mapping[str, str]) -> None:
    config(**variables)


def test_a_fan_out_takes_what_is_plain_and_its_parts_what_is_their_upstreams() -> None:
    found = config(TIMEOUT="5s", CONCURRENCY="2", UPSTREAM_USERS__TIMEOUT="1s", RESPONSE_HEADER_X_A="1")
    with override_settings(GATEWAY=found):
        routes = Routes(from_environment(), found.declared)
    (fan,) = [view for _, view in routes.views() if isinstance(view, Fanout)]
    assert (fan.whole.timeout_s, fan.fan.concurrency) == (5, 2)
    assert fan.whole.response_headers == ()  # those of plain variables stand on every answer, problems too
    assert routes.plain_fields == ((b"x-a", b"1"),)
    assert all(line.stack.finish is not None for line in routes.routes)


async def hello(request: GatewayRequest) -> HttpResponse:
    raise AssertionError("nobody is asked")


def test_lines_of_python_have_the_same_levels_above_them() -> None:
    found = config(UPSTREAM_ORDERS__CORS="*", UPSTREAM_ORDERS__PATH="raw", CACHE="60s", TIMEOUT="5s")
    lines = [
        route("/p/orders", proxy("orders", timeout="1s")),
        route("/p/users", proxy("users")),
        route("/p/own", hello),
        route("/p/stored", cached(proxy("users"), "5s")),
    ]
    for _ in range(2):  # compiled anew, it is the same
        routes = Routes([*lines], replace(config().declared, first_route=""))
        assert [line.cache is not None for line in routes.routes] == [False, False, False, True]
        routes = Routes([*lines], replace(found.declared, first_route=""))
        orders, users, own, stored = routes.routes
        assert (orders.cors, users.cors, orders.raw_path, users.raw_path) == (("*",), None, True, False)
        assert orders.cache is not None
        assert orders.cache.rule.ttl_s == 60
        assert own.cache is None
        assert stored.cache is not None
        assert stored.cache.rule.ttl_s == 5
    by_name = {row["pattern"]: row for row in rows(routes)}
    assert by_name["/p/users"]["inherited"] == {"cache": "GATEWAY_CACHE", "timeout": "GATEWAY_TIMEOUT"}
    assert "timeout" not in by_name["/p/orders"]["inherited"]
    assert by_name["/p/orders"]["inherited"]["cors"] == "GATEWAY_UPSTREAM_ORDERS__CORS"


def test_the_effective_configuration_tells_which_variable_gives_a_value() -> None:
    environ = SERVICES | {
        "GATEWAY_TIMEOUT": "5s",
        "GATEWAY_HEADER_X_A": "topsecret",
        "GATEWAY_UPSTREAM_USERS__TIMEOUT": "2s",
        "GATEWAY_UPSTREAM_USERS__CACHE": "60s",
        "GATEWAY_ROUTE_ME__CACHE": "-",
        "GATEWAY_MERGE": "keyed",
    }
    load(environ, str)
    groups = in_force(environment.read(environ, str).entries)
    found = {row.variable: (row.value, row.origin) for group in groups for row in group}
    assert found["GATEWAY_TIMEOUT"] == ("5s", "variable")
    assert found["GATEWAY_UPSTREAM_USERS__TIMEOUT"] == ("2s", "variable")
    assert found["GATEWAY_UPSTREAM_ORDERS__TIMEOUT"] == ("5s", "GATEWAY_TIMEOUT")
    assert found["GATEWAY_UPSTREAM_ORDERS__RETRIES"] == ("1", "default")
    assert found["GATEWAY_ROUTE_USERS__TIMEOUT"] == ("2s", "GATEWAY_UPSTREAM_USERS__TIMEOUT")
    assert found["GATEWAY_ROUTE_ORDERS__TIMEOUT"] == ("5s", "GATEWAY_TIMEOUT")
    assert found["GATEWAY_ROUTE_USERS__CACHE"] == ("60s", "GATEWAY_UPSTREAM_USERS__CACHE")
    assert found["GATEWAY_ROUTE_ME__CACHE"] == ("-", "variable")
    assert found["GATEWAY_ROUTE_ORDERS__HEADER_X_A"] == ("***", "GATEWAY_HEADER_X_A")
    assert found["GATEWAY_ROUTE_HOME__MERGE"] == ("keyed", "GATEWAY_MERGE")
    assert "GATEWAY_ROUTE_USERS__MERGE" not in found
    assert "GATEWAY_BALANCE" not in found
    assert "topsecret" not in str(groups)


# -- levels as values -------------------------------------------------------------------------------------------------

VALUES = st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(0, 9))
LEVELS = st.builds(
    lambda values, members: Level(
        values, {"h": members}, {(name, ""): "V" for name in values} | {("h", name): "M" for name in members}
    ),
    VALUES,
    VALUES,
)


@given(LEVELS, LEVELS, LEVELS)
def test_levels_lie_one_above_the_other_in_any_grouping(route_: Level, upstream: Level, plain: Level) -> None:
    whole = together(route_, upstream, plain)
    assert whole == together(route_, together(upstream, plain)) == together(together(route_, upstream), plain)
    for name in "abc":
        nearest = [level.values[name] for level in (route_, upstream, plain) if name in level.values]
        assert whole.get(name, "default") == (nearest[0] if nearest and nearest[0] is not None else "default")
        assert whole.variable(name) == ("V" if nearest else "")
        nearest = [level.members["h"][name] for level in (route_, upstream, plain) if name in level.members["h"]]
        assert (name in whole.members["h"]) is bool(nearest)
        assert not nearest or whole.members["h"][name] == nearest[0]


PLAIN = [option for (family, _), option in TABLE.items() if family == "gateway" and option.has_levels]


@pytest.mark.parametrize("option", [one for one in PLAIN if not one.is_open], ids=lambda one: one.name)
def test_every_plain_option_may_be_given_and_taken_away(option: Option) -> None:
    """Alone it may mean nothing without another one; its value is taken."""
    families = option.families.split()
    owners = ["UPSTREAM_USERS__"] if "upstream" in families else []
    owners += ["ROUTE_HOME__"] if "route" in families else []
    for owner in owners:
        ways = {f"GATEWAY_AUTH_{name}": "python team.check" for name in ("TOKEN", "KEYS")}
        environ = SERVICES | ways | {f"GATEWAY_{option.name}": option.example, f"GATEWAY_{owner}{option.name}": "-"}
        try:
            load(environ, str)
        except ConfigError as error:
            found = str(error)
        else:
            found = "means nothing without"
        assert found.count("means nothing without") == max(1, found.count(" = ")), found


def test_a_route_that_is_guarded_by_what_holds_for_all_does_not_look_open() -> None:
    found = config(
        ROUTE_USERS__ROLES="admin ops",
        ROUTE_ORDERS__AUTH="-",
        AUTH="ours",
        AUTH_OURS="jwt https://issuer.example",
        AUTH_OURS__ALGORITHMS="HS256",
        AUTH_OURS__SECRET="a secret of thirty-two bytes, or more",
        AUTH_OURS__AUDIENCE="api",
    )
    with override_settings(GATEWAY=found):
        routes = Routes(from_environment(), found.declared)
    options = {row["name"]: row["options"] for row in rows(routes)}
    assert options["users"] == {"auth": "ours", "roles": "admin,ops"}
    assert options["me"] == {"auth": "ours"}
    assert options["orders"] == {}
