"""What is in force, as text: masked, with its origin; and values that become the text they were parsed from."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cache.options import cache_rule
from gateway.config import environment
from gateway.config.effective import Row, effective, options_of_cache, options_of_call, options_of_fan, text_of
from gateway.config.loader import load
from gateway.config.table import TABLE
from gateway.options import Option
from gateway.upstreams.options import OF_CALL, Overrides, overrides

FILES = {"/run/token": "Bearer topsecret\n", "/run/users": "http://users-1:8000\n"}
SET = {
    "GATEWAY_WORKERS": "4",
    "GATEWAY_DATABASE_URL": "postgresql://portway:topsecret@db/portway",
    "GATEWAY_UPSTREAM_USERS_FILE": "/run/users",
    "GATEWAY_UPSTREAM_USERS__TIMEOUT": "2s",
    "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE": "/run/token",
    "GATEWAY_ROUTE_USERS": "/users/** -> users",
    "GATEWAY_ROUTE_HOME": "GET /home/{id}",
    "GATEWAY_ROUTE_HOME__PART_USER": "users:/users/{id}",
    "GATEWAY_ROUTE_HOME__PART_USER__PICK": "id,name",
    "GATEWAY_ROUTE_HOME__PART_USER__HEADER_X_TENANT": "topsecret",
    "GATEWAY_ROUTE_HOME__OPTIONAL": "user",
    "GATEWAY_ROUTE_HOME__PASS": "410,404",
    "GATEWAY_ROUTE_HOME__CACHE": "on",
}


def groups() -> list[list[Row]]:
    load(SET, FILES.__getitem__)
    return effective(environment.read(SET, FILES.__getitem__).entries)


def test_each_row_tells_its_value_and_where_it_came_from() -> None:
    rows = {row.variable: row[1:] for group in groups() for row in group}
    assert rows["GATEWAY_WORKERS"] == ("4", "variable")
    assert rows["GATEWAY_BIND"] == ("127.0.0.1:8000", "default")
    assert "GATEWAY_CORS" not in rows
    assert rows["GATEWAY_UPSTREAM_USERS"] == ("http://users-1:8000", "file /run/users")
    assert rows["GATEWAY_UPSTREAM_USERS__TIMEOUT"] == ("2s", "variable")
    assert rows["GATEWAY_UPSTREAM_USERS__RETRIES"] == ("1", "default")
    assert rows["GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION"] == ("***", "file /run/token")
    assert rows["GATEWAY_ROUTE_HOME__CACHE_MAX_BODY"] == ("2MiB", "default")
    assert rows["GATEWAY_ROUTE_HOME__CONCURRENCY"] == ("8", "default")
    assert rows["GATEWAY_ROUTE_HOME__PART_USER__METHOD"] == ("GET", "default")
    assert rows["GATEWAY_ROUTE_HOME__PART_USER__PICK"] == ("id,name", "variable")


def test_no_row_shows_a_secret() -> None:
    assert "topsecret" not in str(groups())


def test_every_variable_stands_once_and_groups_have_an_order() -> None:
    names = [row.variable for group in groups() for row in group]
    assert len(names) == len(set(names))
    assert {name.removesuffix("_FILE") for name in SET} <= set(names)
    firsts = [group[0].variable for group in groups()]
    assert firsts == ["GATEWAY_BIND", "GATEWAY_UPSTREAM_USERS", "GATEWAY_ROUTE_HOME", "GATEWAY_ROUTE_USERS"]


def test_a_route_without_parts_shows_no_options_of_parts_but_those_of_its_upstream() -> None:
    assert groups()[-1] == [
        Row("GATEWAY_ROUTE_USERS", "/users/** -> users", "variable"),
        Row("GATEWAY_ROUTE_USERS__TIMEOUT", "2s", "GATEWAY_UPSTREAM_USERS__TIMEOUT"),
        Row("GATEWAY_ROUTE_USERS__HEADER_AUTHORIZATION", "***", "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE"),
    ]


TEXTS = {
    "timeout": st.sampled_from(["500ms", "2s", "90s", "1h", "1.5s"]),
    "idle_timeout": st.sampled_from(["5m", "1s"]),
    "max_body": st.sampled_from(["0B", "64KiB", "10MB", "1GiB"]),
    "host": st.sampled_from(["upstream", "preserve"]),
    "redirects": st.sampled_from(["raw", "rewrite"]),
}


@given(st.fixed_dictionaries({}, optional=TEXTS))
def test_options_become_text_that_means_the_same(said: dict[str, str]) -> None:
    own = overrides(said)
    again = options_of_call(own)
    assert again.keys() == said.keys()
    assert overrides(again) == own


def test_header_values_are_masked_and_deletions_shown() -> None:
    own = Overrides(headers=(("x-tenant", "topsecret"), ("cookie", None)), response_headers=(("server", None),))
    assert options_of_call(own) == {"header_x_tenant": "***", "header_cookie": "-", "response_header_server": "-"}


def test_a_key_in_the_query_of_a_probe_is_masked() -> None:
    assert TABLE["upstream", "HEALTH"].unit.mask("/healthz?key=s3cret&deep") == "/healthz?key=***&***"


@pytest.mark.parametrize("text", ["on", "60s"])
def test_a_rule_of_the_cache_is_told_as_it_was_written(text: str) -> None:
    rule = cache_rule(text)
    assert options_of_cache(rule) == {"cache": text}
    assert options_of_cache(replace(rule, max_body_bytes=2**16)) == {"cache": text, "cache_max_body": "64KiB"}
    assert options_of_cache(replace(rule, stale_if_error_s=300.0)) == {"cache": text, "stale_if_error": "5m"}


def test_a_fan_out_tells_its_parts_and_what_is_not_the_default() -> None:
    route = next(route for route in load(SET, FILES.__getitem__).routes if route.fan is not None)
    assert route.fan is not None
    assert options_of_fan(route.fan) == {
        "part_user": "users:/users/{id}",
        "optional": "user",
        "pass": "404,410",
        "part_user__pick": "id,name",
        "part_user__header_x_tenant": "***",
    }


@pytest.mark.parametrize("option", [one for one in OF_CALL if one.default], ids=lambda one: one.name)
def test_the_text_of_a_default_is_the_default(option: Option) -> None:
    assert text_of(option, option.unit.parse(option.default)) == option.default


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({}, "-"),
        ({"GATEWAY_TLS_CERT": "-", "GATEWAY_TLS_KEY": "-"}, "2000"),
        ({"GATEWAY_TLS_CERT": "-", "GATEWAY_TLS_KEY": "-", "GATEWAY_HTTP2": "off"}, "-"),
        ({"GATEWAY_TLS_CERT": "-", "GATEWAY_TLS_KEY": "-", "GATEWAY_MAX_IN_FLIGHT": "50"}, "50"),
    ],
)
def test_a_default_that_http2_brings_is_shown(variables: dict[str, str], shown: str) -> None:
    environ = {"GATEWAY_UPSTREAM_USERS": "http://users:8000", **variables}
    (own, *_) = effective(environment.read(environ, str).entries)
    assert [row.value for row in own if row.variable == "GATEWAY_MAX_IN_FLIGHT"] == [shown]
