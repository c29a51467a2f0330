"""What people write who come from elsewhere, and what they are told instead."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from typing import Annotated

import pytest

from gateway.config.hints import unused_upstreams
from gateway.fanout.typed import fanout, part
from gateway.proxy.view import proxy
from tests.config.test_loader import USERS, config, problem, problems

TO_USERS = {**USERS, "GATEWAY_ROUTE_USERS": "/users/** -> users"}


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("GATEWAY_UPSTREAM_USERS__READ_TIMEOUT", "GATEWAY_UPSTREAM_USERS__IDLE_TIMEOUT"),
        ("GATEWAY_ROUTE_USERS__READ_TIMEOUT", "GATEWAY_ROUTE_USERS__IDLE_TIMEOUT"),
        ("GATEWAY_READ_TIMEOUT", "GATEWAY_IDLE_TIMEOUT"),
        ("GATEWAY_UPSTREAM_USERS__RETRY", "GATEWAY_UPSTREAM_USERS__RETRIES"),
        ("GATEWAY_UPSTREAM_USERS__HAEDER_X_TENANT", "GATEWAY_UPSTREAM_USERS__HEADER_X_TENANT"),
        ("GATEWAY_UPSTREAM_USERS__HEALTHCHECK", "GATEWAY_UPSTREAM_USERS__HEALTH"),
        ("GATEWAY_ROUTE_USERS__MAX_BODY_SIZE", "GATEWAY_ROUTE_USERS__MAX_BODY"),
    ],
)
def test_a_word_of_another_program_leads_to_ours(variable: str, hint: str) -> None:
    assert problem({**TO_USERS, variable: "2s"}).hint == hint


@pytest.mark.parametrize("word", ["TLS_VERIFY", "INSECURE", "SSL_VERIFY", "INSECURE_SKIP_VERIFY", "VERIFY"])
@pytest.mark.parametrize("prefix", ["GATEWAY_UPSTREAM_USERS__", "GATEWAY_ROUTE_USERS__", "GATEWAY_"])
def test_certificates_are_always_checked(prefix: str, word: str) -> None:
    found = problem({**TO_USERS, prefix + word: "false"})
    assert found.message == "certificates are always checked; name the authority with __CA_FILE"
    assert found.hint.endswith("CA_FILE")


@pytest.mark.parametrize("text", ["true", "yes", "1", "True"])
def test_a_cache_that_is_true_is_on(text: str) -> None:
    found = problem({**TO_USERS, "GATEWAY_ROUTE_USERS__CACHE": text})
    assert found.message == "expected on or a duration; write on"


def test_a_cache_that_is_neither_is_told_both() -> None:
    assert problem({**TO_USERS, "GATEWAY_ROUTE_USERS__CACHE": "often"}).message.endswith("1h, or on")


@pytest.mark.parametrize(
    ("text", "meant"),
    [("10/min", "10/1m"), ("10/m", "10/1m"), ("5/second", "5/1s"), ("5/s", "5/1s"), ("100/Hour", "100/1h")],
)
def test_a_limit_has_a_number_before_its_unit(text: str, meant: str) -> None:
    found = problem({**TO_USERS, "GATEWAY_ROUTE_USERS__RATE_LIMIT": text})
    assert found.message == f"a limit is written as NUMBER/DURATION; write {meant}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/users/<id> -> users", "a value is written in braces: '{id}', not '<id>'"),
        ("/users/<int:id> -> users", "a value is written in braces: '{id:int}', not '<int:id>'"),
        ("/users/<str:id> -> users", "a value is written in braces: '{id}', not '<str:id>'"),
        ("/users/** => users", "the arrow of a route is ->, not =>"),
    ],
)
def test_a_route_in_the_grammar_of_others_is_told_ours(line: str, message: str) -> None:
    assert problem({**USERS, "GATEWAY_ROUTE_USERS": line}).message == message


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("/users/:id -> users", "':id' stands for itself; a value is written in braces: '{id}'"),
        ("/api/** -> users:/v1", "all of '/api/**' becomes one path, users:/v1; did you mean users:/v1/**?"),
        ("/api/** -> users:/", "all of '/api/**' becomes one path, users:/; did you mean users:/**?"),
        ("users/{id} -> users", "'users' is taken for a host; a path begins with a slash: '/users/...'"),
    ],
)
def test_a_line_that_is_valid_and_not_meant_is_warned_of(line: str, warning: str) -> None:
    assert config({**USERS, "GATEWAY_ROUTE_X": line}).warnings == (f"GATEWAY_ROUTE_X: {warning}",)


@pytest.mark.parametrize(
    "line",
    [
        "/users/{id}:stop -> users",
        "/v1/a:b -> users",
        "/app/** -> users:/index.html",
        "/old/{id}/** -> users:/new/{id}",
        "/old/** -> users:/search?q=all",
        "/api/** -> users:/v1/**",
    ],
)
def test_a_line_that_may_be_meant_is_not(line: str) -> None:
    assert config({**USERS, "GATEWAY_ROUTE_X": line}).warnings == ()


@pytest.mark.parametrize(
    ("url", "bind", "is_itself"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", True),
        ("http://localhost:8000/api", "0.0.0.0:8000", True),
        ("http://[::1]:8000", "[::]:8000", True),
        ("http://gateway:8000", "gateway:8000", True),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", False),
        ("http://users:8000", "0.0.0.0:8000", False),
        ("http://127.0.0.1:8000", "10.0.0.1:8000", False),
    ],
)
def test_an_upstream_that_is_the_gateway_itself_is_warned_of(url: str, bind: str, is_itself: bool) -> None:
    environment = {"GATEWAY_UPSTREAM_ME": url, "GATEWAY_BIND": bind, "GATEWAY_ROUTE_ME": "/me -> me"}
    warnings = config(environment).warnings
    assert len(warnings) == is_itself
    assert not is_itself or warnings[0].startswith("GATEWAY_UPSTREAM_ME: http://")
    assert not is_itself or "is the gateway itself" in warnings[0]


def test_an_upstream_that_nothing_leads_to_is_named() -> None:
    upstreams = config({**USERS, "GATEWAY_UPSTREAM_SPARE": "http://spare"}).upstreams
    assert list(unused_upstreams(upstreams, {"users", ""})) == [
        "GATEWAY_UPSTREAM_SPARE: no route leads there, so that nothing reaches it"
    ]


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("GATEWAY_AUTH_PARTNER", "keys"),
        ("GATEWAY_AUTH_PARTNER", "basic"),
    ],
)
def test_a_file_that_is_missing_is_one_problem(variable: str, message: str) -> None:
    option = "KEYS" if message == "keys" else "USERS"
    found = problems({**TO_USERS, variable: message, f"{variable}__{option}_FILE": "/none"})
    assert [(one.variable, one.message) for one in found] == [
        (f"{variable}__{option}_FILE", "cannot read the file /none: No such file or directory")
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {"GATEWAY_TLS_CERT_FILE": "/none", "GATEWAY_TLS_REDIRECT": "0.0.0.0:80"},
        {"GATEWAY_ROUTE_B": "/b -> 200", "GATEWAY_ROUTE_B__BODY_FILE": "/none", "GATEWAY_ROUTE_B__TYPE": "text/plain"},
        {"GATEWAY_ROUTE_H": "GET /h", "GATEWAY_ROUTE_H__PART_U_FILE": "/none"},
    ],
)
def test_nor_is_what_follows_from_it(environment: dict[str, str]) -> None:
    found = problems({**TO_USERS, **environment})
    assert {one.message for one in found} == {"cannot read the file /none: No such file or directory"}


def test_what_does_not_follow_stands() -> None:
    found = problems(
        {**TO_USERS, "GATEWAY_AUTH_A": "keys", "GATEWAY_AUTH_B": "keys", "GATEWAY_AUTH_A__KEYS_FILE": "/x"}
    )
    assert [one.variable for one in found] == ["GATEWAY_AUTH_A__KEYS_FILE", "GATEWAY_AUTH_B"]


@pytest.mark.parametrize(("text", "shown"), [("key", "key"), ("bearer", "***"), ("s3cret-of-mine", "***")])
def test_a_slip_is_shown_and_a_secret_is_not(text: str, shown: str) -> None:
    assert problem({**TO_USERS, "GATEWAY_AUTH_PARTNER": text}).value == shown


# -- in Python ----------------------------------------------------------------------------------------------------


def test_a_time_limit_in_python_is_a_text() -> None:
    with pytest.raises(ValueError, match=r"timeout=300: expected a text such as '300ms', not 300"):
        part("users:/x", timeout=300)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        proxy("users", timeout=5)  # type: ignore[call-overload]


def test_one_text_is_no_list_of_names() -> None:
    with pytest.raises(ValueError, match=r"forward_headers='cookie': expected a list of names, such as \['cookie'\]"):

        @fanout(forward_headers="cookie")
        async def home(user: Annotated[dict[str, str], part("users:/x")]) -> dict[str, str]:
            return user
