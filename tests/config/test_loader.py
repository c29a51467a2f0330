"""The environment becomes one frozen Config, or every problem at once."""

import copy
import dataclasses
import string
from collections.abc import Mapping
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.cache.policy import Rule
from gateway.config.django_settings import OWNED
from gateway.config.loader import NO_ROUTES_HELP, NO_TARGET, load
from gateway.config.records import Config, ConfigError, Problem, format_problems
from gateway.config.table import OPTIONS
from gateway.errors import Reason
from gateway.options import Refused
from gateway.upstreams.options import Overrides, effective, overrides
from gateway.upstreams.places import Base
from gateway.upstreams.retry_policy import DEFAULT_RETRY_ON

USERS = {"GATEWAY_UPSTREAM_USERS": "http://users:8000"}
TLS = {"GATEWAY_UPSTREAM_USERS": "https://users"}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n"
KEY = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n"


class Files(dict[str, str | Exception]):
    """What the file system holds: texts, and the exceptions that reading raises."""

    def read(self, path: str) -> str:
        text = self.get(path, FileNotFoundError(2, "No such file or directory"))
        if isinstance(text, Exception):
            raise text
        return text


def config(environ: Mapping[str, str], **files: str) -> Config:
    return load(environ, Files({f"/{name}": text for name, text in files.items()}).read)


def problems(environ: Mapping[str, str], files: Mapping[str, str | Exception] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(environ, Files(files or {}).read)
    return caught.value.problems


def problem(environ: Mapping[str, str], files: Mapping[str, str | Exception] | None = None) -> Problem:
    (only,) = problems(environ, files)
    return only


# -- what comes out -----------------------------------------------------------------------------------------------


def test_nothing_set_gives_the_defaults() -> None:
    settings = config({"PATH": "/bin", "GATEWAYS": "no", "MY_GATEWAY_X": "no"}).settings
    assert settings.bind == ("127.0.0.1", 8000)
    assert settings.workers == 1
    assert settings.database_url == "sqlite:///portway.sqlite3"
    assert (settings.urlconf, settings.log, settings.log_level, settings.disclose) == ("routes", "json", "info", "full")
    assert (settings.trusted_proxies, settings.cors) == ((), ())
    assert settings.max_headers_bytes == 65536
    assert (settings.drain_s, settings.drain_delay_s) == (8.0, 0.0)
    assert settings.reuse_port is False


def test_every_plain_setting_is_read() -> None:
    settings = config(
        {
            "GATEWAY_BIND": "[::]:80",
            "GATEWAY_WORKERS": "4",
            "GATEWAY_WORKER_TIMEOUT": "1m",
            "GATEWAY_DATABASE_URL": "postgresql://u:p@db:5432/portway",
            "GATEWAY_URLCONF": "team.routes",
            "GATEWAY_APPS": "shop, team.audit",
            "GATEWAY_SETTINGS": "team.settings",
            "GATEWAY_SECRET": "s3cret",
            "GATEWAY_LOG": "console",
            "GATEWAY_LOG_LEVEL": "debug",
            "GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8 fd00::/8",
            "GATEWAY_MAX_HEADERS": "32KiB",
            "GATEWAY_CORS": "https://a.example,https://b.example:8443",
            "GATEWAY_LOG_FIELDS": "header:User-Agent header:x-tenant",
            "GATEWAY_DISCLOSE": "minimal",
            "GATEWAY_DRAIN": "25s",
            "GATEWAY_DRAIN_DELAY": "500ms",
            "GATEWAY_RELOAD": "watch",
            "GATEWAY_RELOAD_DRAIN": "10m",
            "GATEWAY_CLIENT_IDLE": "5s",
            "GATEWAY_CLIENT_KEEPALIVE": "11m",
            "GATEWAY_MIN_UPLOAD_RATE": "1KiB/s",
            "GATEWAY_REUSE_PORT": "on",
            "GATEWAY_MAX_IN_FLIGHT": "2000",
            "GATEWAY_ADMIN_TOKEN": "hunter2",
            "GATEWAY_MAX_WEBSOCKETS": "5000",
            "GATEWAY_CACHE_MEMORY": "1MiB",
            "GATEWAY_CACHE_DISK": "0B",
            "GATEWAY_STALL": "50ms",
            "GATEWAY_RATE_LIMIT_ON_FAILURE": "closed",
            "GATEWAY_VALKEY_URL": "rediss://app:hunter3@valkey:6380/2",
            "GATEWAY_VALKEY_TIMEOUT": "20ms",
            "GATEWAY_VALKEY_CA": CERTIFICATE,
            "GATEWAY_CONSUL_URL": "http://consul:8500",
            "GATEWAY_CONSUL_TOKEN": "consul-token",
            "GATEWAY_EUREKA_URL": "http://eureka:8761/eureka/",
            "GATEWAY_TLS_CERT": CERTIFICATE,
            "GATEWAY_TLS_KEY": KEY,
            "GATEWAY_TLS_MIN": "1.3",
            "GATEWAY_TLS_CLIENT_CA": CERTIFICATE,
            "GATEWAY_TLS_REDIRECT": "[::]:8080",
            "GATEWAY_HTTPS": "redirect",
            "GATEWAY_HSTS": "365d",
            "GATEWAY_HTTP2": "off",
        }
    ).settings
    assert dataclasses.astuple(settings) == (
        ("::", 80),
        4,
        60.0,
        "postgresql://u:p@db:5432/portway",
        "team.routes",
        ("shop", "team.audit"),
        "team.settings",
        "s3cret",
        "console",
        "debug",
        ("user-agent", "x-tenant"),
        (ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        32768,
        ("https://a.example", "https://b.example:8443"),
        "minimal",
        25.0,
        0.5,
        "watch",
        600.0,
        5.0,
        660.0,
        1024,
        True,
        2000,
        "hunter2",
        None,
        (),
        (),
        2**20,
        0,
        0.05,
        5000,
        CERTIFICATE,
        KEY,
        "1.3",
        CERTIFICATE,
        ("::", 8080),
        "redirect",
        365 * 86_400.0,
        False,
        "closed",
        ("valkey", 6380, 2, True, "app", "hunter3"),
        0.02,
        CERTIFICATE,
        ((("http", "consul", 8500, "", None),), ""),
        "consul-token",
        ((("http", "eureka", 8761, "/eureka", None),), ""),
    )


# -- Django ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("shop,1x", "item 2 of 2: expected the dotted path of a Python module, such as routes or team.routes"),
        ("shop shop", "the app shop stands twice"),
        ("gateway", "the app gateway is always there; name your own"),
    ],
)
def test_an_app_that_cannot_be(value: str, message: str) -> None:
    assert problem({"GATEWAY_APPS": value}) == Problem("GATEWAY_APPS", value, message)


def test_settings_of_a_module_are_taken() -> None:
    found = load({"GATEWAY_SETTINGS": " team.settings"}, str, {"team.settings": {"USE_I18N": True}}.__getitem__)
    assert found.django == {"USE_I18N": True}


def test_each_setting_that_the_gateway_owns_is_a_problem_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        load({"GATEWAY_SETTINGS": "team.settings", "GATEWAY_LOG": "xml"}, str, lambda _: dict.fromkeys(OWNED))
    first, *others = caught.value.problems
    assert first.variable == "GATEWAY_LOG"
    assert {(one.variable, one.value) for one in others} == {("GATEWAY_SETTINGS", "team.settings")}
    assert sorted(one.message.partition(" is set by the gateway: ")[0] for one in others) == sorted(OWNED)
    named = {
        *("SECRET_KEY", "ALLOWED_HOSTS", "ROOT_URLCONF", "DATABASES", "LOGGING_CONFIG"),
        *("INSTALLED_APPS", "ASGI_APPLICATION", "GATEWAY"),
    }
    assert named == set(OWNED)


def test_a_module_of_settings_that_does_not_load_is_a_problem_among_the_others() -> None:
    def read_settings(module: str) -> dict[str, object]:
        raise Refused("there is no module team")

    with pytest.raises(ConfigError) as caught:
        load({"GATEWAY_SETTINGS": "team.settings", "GATEWAY_LOG": "xml"}, str, read_settings)
    assert [one.message for one in caught.value.problems][1:] == ["there is no module team"]


def test_an_upstream_has_a_name_in_lower_case_and_bases_in_order() -> None:
    upstream = config({"GATEWAY_UPSTREAM_USERS_V2": "http://b:8000/api/, https://[::1]"}).upstreams["users_v2"]
    assert upstream.name == "users_v2"
    assert upstream.variable == "GATEWAY_UPSTREAM_USERS_V2"
    assert upstream.bases == (Base("http", "b", 8000, "/api"), Base("https", "::1", 443))
    assert [base.authority for base in upstream.bases] == ["b:8000", "[::1]"]
    assert [base.origin for base in upstream.bases] == ["http://b:8000", "https://[::1]"]
    assert upstream.overrides == Overrides()


def test_a_route_has_a_pattern_a_target_and_where_it_came_from() -> None:
    (route,) = config({**USERS, "GATEWAY_ROUTE_ONE": "GET api.example.com/u/{id} -> users:/users/{id}"}).routes
    assert (route.name, route.variable) == ("one", "GATEWAY_ROUTE_ONE")
    assert route.pattern.params == ("id",)
    assert route.target is not None
    assert route.target.upstream == "users"
    assert (route.raw_path, route.cors, route.overrides) == (False, None, Overrides())


def test_routes_are_in_the_order_of_their_variables() -> None:
    environ = {**USERS, "GATEWAY_ROUTE_B": "/b -> users", "GATEWAY_ROUTE_A": "/a -> users"}
    assert [route.name for route in config(environ).routes] == ["a", "b"]


def test_an_option_of_a_route_is_read() -> None:
    environ = {**USERS, "GATEWAY_ROUTE_A": "/a -> users", "GATEWAY_ROUTE_A__PATH": "raw", "GATEWAY_ROUTE_A__CORS": "*"}
    (route,) = config(environ).routes
    assert (route.raw_path, route.cors) == (True, ("*",))


@pytest.mark.parametrize("family", ["UPSTREAM", "ROUTE"])
def test_an_upstream_and_a_route_take_the_same_options(family: str) -> None:
    said = {
        "TIMEOUT": "2s",
        "CONNECT_TIMEOUT": "500ms",
        "IDLE_TIMEOUT": "5m",
        "TOTAL_TIMEOUT": "1h",
        "MAX_BODY": "0B",
        "HOST": "preserve",
        "REDIRECTS": "raw",
        "HEADER_X_TENANT": "acme",
        "HEADER_COOKIE": "-",
        "RESPONSE_HEADER_X_FRAME_OPTIONS": "DENY",
    }
    environ = {f"GATEWAY_{family}_USERS__{name}": text for name, text in said.items()}
    found = config({**USERS, "GATEWAY_ROUTE_USERS": "/** -> users", **environ})
    record = found.upstreams["users"] if family == "UPSTREAM" else found.routes[0]
    assert record.overrides == Overrides(
        timeout_s=2.0,
        connect_timeout_s=0.5,
        idle_timeout_s=300.0,
        total_timeout_s=3600.0,
        max_body_bytes=0,
        preserve_host=True,
        rewrite_redirects=False,
        headers=(("cookie", None), ("x-tenant", "acme")),
        response_headers=(("x-frame-options", "DENY"),),
    )


def test_config_is_frozen() -> None:
    found = config({**USERS, "GATEWAY_ROUTE_A": "/a -> users"})
    for record in (found, found.settings, found.upstreams["users"], found.routes[0], found.routes[0].overrides):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
            record.name = "x"  # type: ignore[union-attr, misc]
    with pytest.raises(TypeError):
        found.upstreams["x"] = found.upstreams["users"]  # type: ignore[index]


def test_an_environment_without_routes_is_no_problem_here() -> None:
    assert config(USERS).routes == ()


def test_the_help_for_no_routes_is_two_lines_that_work() -> None:
    pairs = [line.removeprefix("export ").split("=", 1) for line in NO_ROUTES_HELP.splitlines()]
    assert len(pairs) == 2
    assert len(config({variable: text.strip("'") for variable, text in pairs}).routes) == 1


# -- what holds for a call ----------------------------------------------------------------------------------------


def test_defaults_hold_where_nobody_says_otherwise() -> None:
    found = effective(Overrides(), Overrides())
    assert (found.timeout_s, found.connect_timeout_s, found.idle_timeout_s) == (30.0, 2.0, 60.0)
    assert found.total_timeout_s is None
    assert found.max_body_bytes == 10 * 2**20
    assert (found.preserve_host, found.rewrite_redirects) == (False, True)
    assert (found.headers, found.response_headers) == ((), ())


def test_the_route_beats_the_upstream_option_by_option() -> None:
    found = effective(Overrides(timeout_s=1.0, idle_timeout_s=9.0, preserve_host=True), Overrides(timeout_s=2.0))
    assert (found.timeout_s, found.idle_timeout_s, found.preserve_host) == (2.0, 9.0, True)
    assert effective(Overrides(preserve_host=True), Overrides(preserve_host=False)).preserve_host is False


def test_zero_bytes_lift_the_limit_of_the_body() -> None:
    assert effective(Overrides(max_body_bytes=5), Overrides(max_body_bytes=0)).max_body_bytes is None
    assert effective(Overrides(max_body_bytes=0), Overrides(max_body_bytes=5)).max_body_bytes == 5


def test_fields_are_merged_by_name() -> None:
    upstream = Overrides(headers=(("a", "1"), ("b", "1")), response_headers=(("c", "1"),))
    found = effective(upstream, Overrides(headers=(("b", None), ("d", "2"))))
    assert found.headers == (("a", "1"), ("b", None), ("d", "2"))
    assert found.response_headers == (("c", "1"),)


def test_options_in_python_are_the_words_of_the_environment() -> None:
    assert overrides({}) == Overrides()
    found = overrides({"timeout": "5s", "max_body": "1MiB", "host": "preserve", "header_x_tenant": "acme"})
    assert found == Overrides(timeout_s=5.0, max_body_bytes=2**20, preserve_host=True, headers=(("x-tenant", "acme"),))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"timeout": "5"}, "timeout: a duration needs its unit"),
        ({"timeuot": "5s"}, "timeuot: .*did you mean timeout"),
        ({"Timeout": "5s"}, "Timeout: options are lower case in Python; did you mean timeout"),
        ({"cors": "*"}, "cors: this is an option of a route in the environment"),
        ({"cache": "60s"}, r"cache: what stores answers is a view around this one: cached\(proxy\('orders'\), '60s'\)"),
        ({"cache_max_body": "1MiB"}, "cache_max_body: what stores answers is a view around this one"),
        ({"stale_if_error": "1h"}, "stale_if_error: what stores answers is a view around this one"),
        ({"legacy": "reports.build"}, "legacy: this is an option of a route in the environment"),
        ({"header_connection": "x"}, "header_connection: .*cannot be set"),
        ({"timeout": 5}, "timeout: expected a string, written as in the environment: timeout='5s'"),
        ({"timeout": "5", "max_body": "5"}, "max_body: a size needs.*; timeout: a duration needs"),
    ],
)
def test_options_in_python_are_refused_with_their_reasons(said: Mapping[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overrides(said)


# -- the parser's rules, one fact each ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("gateway_bind", "GATEWAY_BIND"),
        ("Gateway_Bind", "GATEWAY_BIND"),
        ("GATEWAY_Upstream_X", "GATEWAY_UPSTREAM_X"),
        ("GATEWAY_UPSTREAM_x", "GATEWAY_UPSTREAM_X"),
        ("gateway_upstream_x__timeuot", "GATEWAY_UPSTREAM_X__TIMEOUT"),
        ("gateway_admin_token_file", "GATEWAY_ADMIN_TOKEN_FILE"),
        ("gateway_nonsense", ""),
    ],
)
def test_a_variable_in_lower_case_is_an_error(variable: str, hint: str) -> None:
    found = problem({variable: "127.0.0.1:8000"})
    assert (found.variable, found.message, found.hint) == (variable, "variables are upper case", hint)


def test_a_lower_case_twin_is_an_error_beside_the_real_one() -> None:
    assert problem({"GATEWAY_BIND": "127.0.0.1:80", "gateway_bind": "127.0.0.1:81"}).variable == "gateway_bind"


def test_an_unknown_variable_stops_the_start_with_the_nearest_name() -> None:
    found = problem({"GATEWAY_BNID": "127.0.0.1:8000"})
    assert found == Problem("GATEWAY_BNID", "127.0.0.1:8000", "there is no such variable", "GATEWAY_BIND")


def test_an_unknown_option_stops_the_start_with_the_nearest_name() -> None:
    found = problem({**USERS, "GATEWAY_UPSTREAM_USERS__TIMEUOT": "2s"})
    assert (found.value, found.hint) == ("2s", "GATEWAY_UPSTREAM_USERS__TIMEOUT")


def test_the_nearest_name_of_a_twin_is_a_twin() -> None:
    found = problem({"GATEWAY_DATABSE_URL_FILE": "/run/secrets/db"})
    assert found.hint == "GATEWAY_DATABASE_URL_FILE"


def test_an_unknown_variable_is_an_error_also_when_it_is_empty() -> None:
    assert problem({"GATEWAY_BNID": ""}).hint == "GATEWAY_BIND"


def test_a_duration_needs_a_unit() -> None:
    found = problem({"GATEWAY_DRAIN": "30"})
    assert (found.variable, found.value) == ("GATEWAY_DRAIN", "30")
    assert "500ms, 60s, 5m or 1h; a bare number says none" in found.message


def test_a_size_needs_a_unit() -> None:
    assert "64KiB, 10MiB or 1GiB; a bare number says none" in problem({"GATEWAY_MAX_HEADERS": "65536"}).message


def test_a_list_is_never_json() -> None:
    assert "never as JSON" in problem({"GATEWAY_CORS": '["https://a"]'}).message
    assert "never as JSON" in problem({"GATEWAY_UPSTREAM_USERS": '["http://a"]'}).message


def test_an_empty_value_is_unset_with_a_warning() -> None:
    found = config({"GATEWAY_DRAIN": "", "GATEWAY_BIND": "  ", "GATEWAY_ADMIN_TOKEN": "", **USERS})
    assert found.settings.drain_s == 8.0
    assert found.warnings == (
        "GATEWAY_ADMIN_TOKEN is empty, which counts as not set",
        "GATEWAY_BIND is empty, which counts as not set",
        "GATEWAY_DRAIN is empty, which counts as not set",
    )


def test_an_empty_upstream_is_not_declared() -> None:
    environ = {"GATEWAY_UPSTREAM_USERS": "", "GATEWAY_UPSTREAM_USERS__TIMEOUT": "2s"}
    assert "GATEWAY_UPSTREAM_USERS is not set" in problem(environ).message


def test_white_space_around_a_value_does_not_count() -> None:
    assert config({"GATEWAY_DRAIN": " 5s\n"}).settings.drain_s == 5.0


def test_a_twin_reads_a_file() -> None:
    found = config({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE": "/token"}, token="Bearer hunter2\n")
    assert found.upstreams["users"].overrides.headers == (("authorization", "Bearer hunter2"),)


def test_every_variable_has_a_twin() -> None:
    environ = {"GATEWAY_BIND_FILE": "/bind", "GATEWAY_UPSTREAM_USERS_FILE": "/users", "GATEWAY_ROUTE_A_FILE": "/a"}
    found = config(environ, bind="0.0.0.0:80\n", users="http://a\nhttp://b\n", a="/a -> users\n")
    assert found.settings.bind == ("0.0.0.0", 80)
    assert len(found.upstreams["users"].bases) == 2
    assert found.routes[0].variable == "GATEWAY_ROUTE_A_FILE"


@pytest.mark.parametrize("text", ["a", "a\n", "a\r\n"])
def test_one_trailing_newline_of_a_file_is_stripped(text: str) -> None:
    found = config({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_X_FILE": "/x"}, x=text)
    assert found.upstreams["users"].overrides.headers == (("x", "a"),)


@pytest.mark.parametrize("text", ["\ufeffa", "\ufeffa\n", "\ufeffa\r\n"])
def test_a_byte_order_mark_is_no_part_of_a_value(text: str) -> None:
    twin = config({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_X_FILE": "/x"}, x=text)
    assert twin.upstreams["users"].overrides.headers == (("x", "a"),)
    by_value = config({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_X": "\ufeffa"})  # of `$(cat x)`
    assert by_value.upstreams["users"].overrides.headers == (("x", "a"),)


def test_a_mark_alone_is_an_empty_file() -> None:
    assert config({"GATEWAY_DRAIN_FILE": "/d"}, d="\ufeff\n").settings.drain_s == 8.0


@pytest.mark.parametrize("variable", ["GATEWAY_ADMIN_TOKEN", "GATEWAY_UPSTREAM_USERS__HEADER_X", "GATEWAY_ROUTE_USERS"])
def test_a_file_of_nuls_is_no_text(variable: str) -> None:
    """UTF-16 without its mark reads as UTF-8: ASCII with a NUL beside each character."""
    environ = {name: value for name, value in USERS.items() if name != variable} | {f"{variable}_FILE": "/x"}
    assert "UTF-16" in problems(environ, {"/x": "s\0e\0"})[0].message


@pytest.mark.parametrize("text", ["a\n\n", "\na\n", "a\nb", "a\r"])
def test_a_second_newline_of_a_file_belongs_to_the_value(text: str) -> None:
    found = problem({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_X_FILE": "/x"}, {"/x": text})
    assert (found.value, "no line breaks" in found.message) == ("/x", True)


def test_both_twins_set_is_an_error() -> None:
    found = problem({"GATEWAY_BIND": "127.0.0.1:1", "GATEWAY_BIND_FILE": "/bind"}, {"/bind": "127.0.0.1:2"})
    assert (found.variable, found.value) == ("GATEWAY_BIND_FILE", "/bind")
    assert found.message == "GATEWAY_BIND is set too; keep one of the two"


def test_an_empty_twin_is_no_twin() -> None:
    assert config({"GATEWAY_DRAIN": "5s", "GATEWAY_DRAIN_FILE": ""}).settings.drain_s == 5.0
    assert config({"GATEWAY_DRAIN": "", "GATEWAY_DRAIN_FILE": "/d"}, d="5s").settings.drain_s == 5.0


def test_an_empty_file_is_unset_with_a_warning() -> None:
    found = config({"GATEWAY_DRAIN_FILE": "/d"}, d="\n")
    assert found.settings.drain_s == 8.0
    assert found.warnings == ("GATEWAY_DRAIN_FILE names an empty file, which counts as not set",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file or directory"), "No such file or directory"),
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (IsADirectoryError(21, "Is a directory"), "Is a directory"),
        (OSError(), "OSError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "it is not UTF-8 text"),
        (ValueError("embedded null byte"), "this is no path"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_problem_with_path_and_reason(error: Exception, reason: str) -> None:
    found = problem({"GATEWAY_BIND_FILE": "/run/bind"}, {"/run/bind": error})
    assert found == Problem("GATEWAY_BIND_FILE", "/run/bind", f"cannot read the file /run/bind: {reason}")


@pytest.mark.parametrize("variable", ["BIND", "UPSTREAM_X", "ROUTE_X", "DATABASE_URL", "CORS", "TRUSTED_PROXIES"])
@pytest.mark.parametrize("text", ["hunter2", "'hunter2'", "GET /hunter2 -> hunter2", "http://hunter2:hunter2@h"])
def test_the_content_of_a_file_is_never_shown(variable: str, text: str) -> None:
    found = problems({f"GATEWAY_{variable}_FILE": "/f"}, {"/f": text})
    assert "hunter2" not in format_problems(found)
    assert "hunter2" not in repr(found)


def test_a_secret_where_a_path_belongs_is_not_shown() -> None:
    found = problem({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION_FILE": "Bearer hunter2"})
    assert (found.value, found.message) == ("***", "cannot read the file ***: No such file or directory")


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_value_still_in_quotes_is_an_error_that_shows_it_without(quote: str) -> None:
    found = problem({"GATEWAY_UPSTREAM_USERS": f"{quote}http://x{quote}"})
    assert found.value == f"{quote}http://x{quote}"
    assert found.message == "the value is still in quotes; without them it is http://x"


def test_a_quoted_header_value_is_an_error_that_does_not_show_it() -> None:
    found = problem({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION": '"Bearer hunter2"'})
    assert found.message == "the value is still in quotes; if they are meant, give it by the _FILE twin"


def test_a_header_value_may_have_quotes_that_are_meant() -> None:
    found = config({**USERS, "GATEWAY_UPSTREAM_USERS__HEADER_A": '"a", "b"'})
    assert found.upstreams["users"].overrides.headers == (("a", '"a", "b"'),)
    found = config({**USERS, "GATEWAY_UPSTREAM_USERS__RESPONSE_HEADER_CLEAR_SITE_DATA_FILE": "/f"}, f='"cache"\n')
    assert found.upstreams["users"].overrides.response_headers == (("clear-site-data", '"cache"'),)


@pytest.mark.parametrize("text", ["/users/**", "GET /users/{id}", "/users/** -"])
def test_a_route_without_target_says_that_the_shell_may_have_taken_it(text: str) -> None:
    found = problem({**USERS, "GATEWAY_ROUTE_USERS": text})
    assert found.message == "no target; in a shell, quote the value: > is a redirection"
    assert found.message == NO_TARGET


def test_a_route_has_a_target_or_parts() -> None:
    parts = {**USERS, "GATEWAY_ROUTE_HOME": "/home", "GATEWAY_ROUTE_HOME__PART_USER": "users:/me"}
    (route,) = config(parts).routes
    assert route.target is None
    assert route.fan is not None
    assert [(part.name, part.target.text) for part in route.fan.parts] == [("user", "users:/me")]
    assert (
        problem({**parts, "GATEWAY_ROUTE_HOME": "/home -> users"}).message == "a route has a target or parts, not both"
    )


def test_a_malformed_route_says_why() -> None:
    found = problem({**USERS, "GATEWAY_ROUTE_USERS": "users -> users"})
    assert "slash" in found.message


def test_an_option_of_nobody_is_an_error() -> None:
    environ = {**USERS, "GATEWAY_UPSTREAM_USRES__TIMEOUT": "2s", "GATEWAY_ROUTE_X__HEADER_A_FILE": "/token"}
    route, upstream = problems(environ, {"/token": "x"})
    assert upstream.message == "an option of upstream usres, but GATEWAY_UPSTREAM_USRES is not set"
    assert upstream.hint == "GATEWAY_UPSTREAM_USERS__TIMEOUT"
    assert (route.message, route.hint) == ("an option of route x, but GATEWAY_ROUTE_X is not set", "")


def test_an_option_of_a_declared_but_malformed_upstream_is_no_second_problem() -> None:
    environ = {"GATEWAY_UPSTREAM_USERS": "users", "GATEWAY_UPSTREAM_USERS__TIMEOUT": "2s"}
    assert problem({**environ, "GATEWAY_ROUTE_A": "/a -> users"}).variable == "GATEWAY_UPSTREAM_USERS"


def test_a_route_to_an_upstream_that_nobody_defined_leads_to_the_nearest() -> None:
    found = problem({**USERS, "GATEWAY_ROUTE_A": "/a -> usres"})
    assert "there is no upstream usres" in found.message
    assert found.hint == "users"


@pytest.mark.parametrize("name", ["2FA", "_X", "X_", "X___Y"])
def test_a_name_is_upper_case_words_digits_and_single_underscores(name: str) -> None:
    assert problem({f"GATEWAY_UPSTREAM_{name}": "http://x"}).variable == f"GATEWAY_UPSTREAM_{name}"


@pytest.mark.parametrize(
    "variable", ["UPSTREAM_FILE", "ROUTE_FILE", "UPSTREAM_A_FILE__TIMEOUT", "ROUTE_A__PART_FILE__PICK"]
)
def test_no_name_is_or_ends_in_file(variable: str) -> None:
    assert "_FILE" in problem({f"GATEWAY_{variable}": "http://x"}).message


def test_a_single_underscore_before_an_option_leads_to_two() -> None:
    environ = {
        **USERS,
        "GATEWAY_UPSTREAM_USERS_TIMEOUT": "2s",
        "GATEWAY_UPSTREAM_USERS_HEADER_AUTHORIZATION": "hunter2",
    }
    header, timeout = problems(environ)
    assert timeout.hint == "GATEWAY_UPSTREAM_USERS__TIMEOUT"
    assert (header.hint, header.value) == ("GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION", "***")


def test_two_equal_routes_name_both_variables() -> None:
    environ = {**USERS, "GATEWAY_ROUTE_A": "/u/{id} -> users", "GATEWAY_ROUTE_B": "/u/{name} -> users"}
    found = problem(environ)
    assert found.variable == "GATEWAY_ROUTE_B"
    assert "GATEWAY_ROUTE_A" in found.message


@pytest.mark.parametrize("path", ["/-/", "/-/live", "/-/**", "/%2D/x", "/-/{x}"])
def test_what_is_under_the_dash_belongs_to_the_gateway(path: str) -> None:
    assert "/-/ belongs to the gateway" in problem({**USERS, "GATEWAY_ROUTE_A": f"{path} -> users"}).message


@pytest.mark.parametrize("path", ["/--/x", "/x/-/y", "/**", "/{x}/y", "/-"])
def test_what_only_resembles_the_dash_is_free(path: str) -> None:
    assert config({**USERS, "GATEWAY_ROUTE_A": f"{path} -> users"}).routes


@pytest.mark.parametrize("field", ["CONNECTION", "CONTENT_LENGTH", "TRANSFER_ENCODING", "TE", "EXPECT"])
def test_framing_and_hop_by_hop_fields_cannot_be_set(field: str) -> None:
    assert "cannot be set" in problem({**USERS, f"GATEWAY_UPSTREAM_USERS__HEADER_{field}": "x"}).message


def test_host_is_not_set_as_a_header() -> None:
    environ = {**USERS, "GATEWAY_ROUTE_A": "/a -> users", "GATEWAY_ROUTE_A__HEADER_HOST": "x"}
    assert problem(environ).hint == "GATEWAY_ROUTE_A__HOST"


def test_credentials_in_a_base_url_are_refused_and_masked() -> None:
    found = problem({"GATEWAY_UPSTREAM_USERS": "http://user:hunter2@users"})
    assert found.value == "http://***@users"
    assert "__HEADER_AUTHORIZATION_FILE" in found.message


# -- TLS towards an upstream --------------------------------------------------------------------------------------


def test_an_https_upstream_takes_a_ca_and_a_client_certificate() -> None:
    twins = {f"GATEWAY_UPSTREAM_USERS__{name}_FILE": f"/{name}" for name in ("CA", "CLIENT_CERT", "CLIENT_KEY")}
    upstream = config({**TLS, **twins}, CA=CERTIFICATE, CLIENT_CERT=CERTIFICATE, CLIENT_KEY=KEY).upstreams["users"]
    assert (upstream.ca_pem, upstream.client_cert_pem, upstream.client_key_pem) == (CERTIFICATE, CERTIFICATE, KEY)
    assert "hunter2" not in repr(upstream)


@pytest.mark.parametrize(("name", "pem", "other"), [("CERT", CERTIFICATE, "KEY"), ("KEY", KEY, "CERT")])
def test_a_client_certificate_and_its_key_come_together(name: str, pem: str, other: str) -> None:
    found = problem({**TLS, f"GATEWAY_UPSTREAM_USERS__CLIENT_{name}": pem})
    assert f"set GATEWAY_UPSTREAM_USERS__CLIENT_{other}_FILE too" in found.message
    assert found.value == "***"


@pytest.mark.parametrize("name", ["CA", "CLIENT_CERT"])
def test_a_plain_http_upstream_takes_no_certificates(name: str) -> None:
    found = problem({**USERS, f"GATEWAY_UPSTREAM_USERS__{name}": CERTIFICATE})
    assert found.message == "only an https upstream takes this; the base URL is plain http"


# -- how the endpoints of an upstream are used --------------------------------------------------------------------


def with_options(**said: str) -> dict[str, str]:
    return {**USERS, **{f"GATEWAY_UPSTREAM_USERS__{name}": text for name, text in said.items()}}


def test_the_defaults_of_an_upstream_are_those_of_the_page() -> None:
    upstream = config(USERS).upstreams["users"]
    assert (upstream.balance, upstream.dns_ttl_s, upstream.keepalive_s) == (("p2c", "", ""), 10.0, 4.0)
    assert (upstream.retries, upstream.retry_on, upstream.retry_budget) == (1, DEFAULT_RETRY_ON, 0.2)
    assert (upstream.health, upstream.health_interval_s, upstream.health_timeout_s) == (None, 5.0, 1.0)
    assert (upstream.health_rise, upstream.health_fall) == (2, 3)
    assert (upstream.max_in_flight, upstream.queue, upstream.queue_timeout_s) == (None, 50, 1.0)


def test_every_option_of_an_upstream_is_read() -> None:
    upstream = config(
        with_options(
            BALANCE="hash:header:X-User-ID",
            DNS_TTL="30s",
            KEEPALIVE="1500ms",
            RETRIES="3",
            RETRY_ON="connection_refused, connect_timeout 503",
            RETRY_BUDGET="12.5%",
            HEALTH="/healthz?deep=1",
            HEALTH_INTERVAL="2s",
            HEALTH_TIMEOUT="300ms",
            HEALTH_RISE="1",
            HEALTH_FALL="4",
            MAX_IN_FLIGHT="100",
            QUEUE="7",
            QUEUE_TIMEOUT="200ms",
        )
    ).upstreams["users"]
    assert (upstream.balance, upstream.dns_ttl_s, upstream.keepalive_s) == (("hash", "header", "x-user-id"), 30.0, 1.5)
    assert (upstream.retries, upstream.retry_budget) == (3, 0.125)
    assert upstream.retry_on == {Reason.CONNECTION_REFUSED, Reason.CONNECT_TIMEOUT, 503}
    assert (upstream.health, upstream.health_interval_s, upstream.health_timeout_s) == ("/healthz?deep=1", 2.0, 0.3)
    assert (upstream.health_rise, upstream.health_fall) == (1, 4)
    assert (upstream.max_in_flight, upstream.queue, upstream.queue_timeout_s) == (100, 7, 0.2)


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("RETRIES", "0", "retries", 0),
        ("RETRIES", "10", "retries", 10),
        ("RETRY_BUDGET", "0%", "retry_budget", 0.0),
        ("RETRY_BUDGET", "100%", "retry_budget", 1.0),
        ("KEEPALIVE", "0s", "keepalive_s", 0.0),
        ("KEEPALIVE", "5m", "keepalive_s", 300.0),
        ("HEALTH", "/", "health", "/"),
        ("HEALTH", "/a/b?c=d&e=%20", "health", "/a/b?c=d&e=%20"),
        ("BALANCE", "round_robin", "balance", ("round_robin", "", "")),
        ("BALANCE", "hash:client", "balance", ("hash", "client", "")),
    ],
)
def test_what_is_at_the_edge_is_taken(name: str, text: str, attribute: str, value: object) -> None:
    assert getattr(config(with_options(**{name: text})).upstreams["users"], attribute) == value


def test_a_queue_of_nobody_is_taken_and_the_limits_of_the_gateway_and_of_an_upstream_are_two() -> None:
    found = config({**with_options(MAX_IN_FLIGHT="1", QUEUE="0"), "GATEWAY_MAX_IN_FLIGHT": "5"})
    assert (found.upstreams["users"].max_in_flight, found.upstreams["users"].queue) == (1, 0)
    assert found.settings.max_in_flight == 5


NONSENSE = [
    ("RETRIES", "-1", "whole number from 0 to 10"),
    ("RETRIES", "11", "whole number from 0 to 10"),
    ("RETRIES", "1.5", "whole number"),
    ("RETRIES", "on", "whole number"),
    ("RETRY_ON", "nonsense", "expected statuses from 400 to 599 and any of connect_timeout"),
    ("RETRY_ON", "connection_reset,5xx", "item 2 of 2: expected statuses"),
    ("RETRY_ON", "200", "expected statuses from 400 to 599"),
    ("RETRY_ON", "600", "expected statuses from 400 to 599"),
    ("RETRY_ON", "client_gone", "expected statuses"),
    ("RETRY_ON", '["503"]', "never as JSON"),
    ("RETRY_ON", ",", "at least one item"),
    ("RETRY_BUDGET", "20", "a percentage needs its %"),
    ("RETRY_BUDGET", "0.2", "a percentage needs its %"),
    ("RETRY_BUDGET", "200%", "from 0% to 100%"),
    ("RETRY_BUDGET", "-5%", "from 0% to 100%"),
    ("BALANCE", "hash", "hash needs a key: hash:client, hash:header:NAME or hash:cookie:NAME"),
    ("BALANCE", "hash:", "hash needs a key"),
    ("BALANCE", "hash:header", "hash needs a key"),
    ("BALANCE", "hash:header:", "hash needs a key"),
    ("BALANCE", "hash:header:x user", "name of a header field"),
    ("BALANCE", "hash:header:x-user:id", "name of a header field"),
    ("BALANCE", "hash:header:ü", "name of a header field"),
    ("BALANCE", "hash:client:x", "hash needs a key"),
    (
        "BALANCE",
        "round-robin",
        "expected p2c, round_robin, hash:client, hash:header:NAME, hash:cookie:NAME, sticky or sticky:NAME",
    ),
    ("BALANCE", "p2c:x", "expected p2c, round_robin"),
    ("BALANCE", "P2C", "expected p2c, round_robin"),
    ("BALANCE", "random", "expected p2c, round_robin"),
    ("HEALTH", "healthz", "begins with a slash"),
    ("HEALTH", "http://users:8000/healthz", "begins with a slash"),
    ("HEALTH", "on", "begins with a slash"),
    ("HEALTH", "/health z", "begins with a slash"),
    ("HEALTH", "/healthz#here", "begins with a slash"),
    ("HEALTH", "/hälth", "percent-encoded"),
    ("KEEPALIVE", "5", "a duration needs its unit"),
    ("KEEPALIVE", "-1s", "expected a duration"),
    ("DNS_TTL", "0s", "longer than zero"),
    ("DNS_TTL", "10", "a duration needs its unit"),
    ("MAX_IN_FLIGHT", "0", "whole number from 1"),
    ("MAX_IN_FLIGHT", "-1", "whole number from 1"),
    ("MAX_IN_FLIGHT", "10%", "whole number from 1"),
]


@pytest.mark.parametrize(("name", "text", "message"), NONSENSE)
def test_a_nonsensical_option_of_an_upstream_is_a_start_error_with_its_name(name: str, text: str, message: str) -> None:
    found = problem(with_options(**{name: text}))
    assert (found.variable, found.value) == (f"GATEWAY_UPSTREAM_USERS__{name}", text)
    assert message in found.message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("HEALTH_INTERVAL", "0s", "longer than zero"),
        ("HEALTH_INTERVAL", "5", "a duration needs its unit"),
        ("HEALTH_TIMEOUT", "0ms", "longer than zero"),
        ("HEALTH_RISE", "0", "whole number from 1"),
        ("HEALTH_FALL", "0", "whole number from 1"),
        ("HEALTH_FALL", "2.5", "whole number from 1"),
        ("QUEUE", "-1", "whole number from 0"),
        ("QUEUE", "10s", "whole number from 0"),
        ("QUEUE_TIMEOUT", "0s", "longer than zero"),
        ("QUEUE_TIMEOUT", "1", "a duration needs its unit"),
    ],
)
def test_so_is_one_of_those_that_need_another(name: str, text: str, message: str) -> None:
    found = problem(with_options(HEALTH="/healthz", MAX_IN_FLIGHT="5", **{name: text}))
    assert found.variable == f"GATEWAY_UPSTREAM_USERS__{name}"
    assert message in found.message


@pytest.mark.parametrize(
    ("name", "text", "partner"),
    [
        ("HEALTH_INTERVAL", "5s", "HEALTH"),
        ("HEALTH_TIMEOUT", "1s", "HEALTH"),
        ("HEALTH_RISE", "2", "HEALTH"),
        ("HEALTH_FALL", "3", "HEALTH"),
        ("QUEUE", "50", "MAX_IN_FLIGHT"),
        ("QUEUE", "0", "MAX_IN_FLIGHT"),
        ("QUEUE_TIMEOUT", "1s", "MAX_IN_FLIGHT"),
    ],
)
def test_an_option_that_means_nothing_without_another_names_it(name: str, text: str, partner: str) -> None:
    """Also with the value that it has anyway: whoever sets it believes that it works."""
    found = problem(with_options(**{name: text}))
    assert (found.variable, found.value) == (f"GATEWAY_UPSTREAM_USERS__{name}", text)
    assert found.message == f"this means nothing without GATEWAY_UPSTREAM_USERS__{partner}; set that too"


@pytest.mark.parametrize(("name", "text"), [("RETRY_ON", "503"), ("RETRY_BUDGET", "20%")])
def test_what_rules_retries_is_no_option_where_there_are_none(name: str, text: str) -> None:
    found = problem(with_options(RETRIES="0", **{name: text}))
    assert found.variable == f"GATEWAY_UPSTREAM_USERS__{name}"
    assert found.message == "GATEWAY_UPSTREAM_USERS__RETRIES=0 switches retries off; drop one of the two"
    assert config(with_options(RETRIES="2", **{name: text})).upstreams["users"].retries == 2


def test_an_empty_partner_is_no_partner() -> None:
    found = problem(with_options(HEALTH="", HEALTH_RISE="2"))
    assert found.variable == "GATEWAY_UPSTREAM_USERS__HEALTH_RISE"


def test_a_partner_may_come_from_a_file_and_a_fault_in_it_is_the_only_problem() -> None:
    environ = with_options(HEALTH_FILE="/health", HEALTH_RISE="1")
    assert config(environ, health="/healthz\n").upstreams["users"].health == "/healthz"
    assert problem(environ, {"/health": "healthz"}).variable == "GATEWAY_UPSTREAM_USERS__HEALTH_FILE"


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_limit_of_the_gateway_that_lets_nobody_in_is_a_start_error(text: str) -> None:
    found = problem({"GATEWAY_MAX_IN_FLIGHT": text})
    assert (found.variable, found.message) == ("GATEWAY_MAX_IN_FLIGHT", "expected a whole number from 1")


def test_nonsense_of_several_options_comes_all_at_once() -> None:
    said = {name: text for name, text, _ in NONSENSE} | {"HEALTH_RISE": "0", "QUEUE": "-1"}
    found = problems(with_options(**said))
    assert {entry.variable for entry in found} == {f"GATEWAY_UPSTREAM_USERS__{name}" for name in said}


# -- caching ------------------------------------------------------------------------------------------------------

CACHED = {**USERS, "GATEWAY_ROUTE_A": "/a -> users"}


def test_a_route_stores_nothing_unless_it_says_so() -> None:
    assert config(CACHED).routes[0].cache is None


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({"CACHE": "on"}, Rule(ttl_s=None, max_body_bytes=2 * 2**20)),
        ({"CACHE": "60s"}, Rule(ttl_s=60.0, max_body_bytes=2 * 2**20)),
        ({"CACHE": "500ms", "CACHE_MAX_BODY": "1KiB"}, Rule(ttl_s=0.5, max_body_bytes=1024)),
        ({"CACHE": "on", "STALE_IF_ERROR": "1h"}, Rule(stale_if_error_s=3600)),
    ],
)
def test_a_route_that_stores_has_a_rule(said: Mapping[str, str], rule: Rule) -> None:
    environ = {f"GATEWAY_ROUTE_A__{name}": text for name, text in said.items()}
    assert config({**CACHED, **environ}).routes[0].cache == rule


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("CACHE", "0s", "longer than zero"),
        ("CACHE", "60", "a duration needs its unit"),
        ("CACHE", "off", "duration"),
        ("CACHE_MAX_BODY", "1MiB", "this means nothing without GATEWAY_ROUTE_A__CACHE; set that too"),
        ("STALE_IF_ERROR", "1h", "this means nothing without GATEWAY_ROUTE_A__CACHE; set that too"),
    ],
)
def test_a_route_that_stores_in_a_way_that_cannot_be_is_refused(name: str, text: str, message: str) -> None:
    found = problem({**CACHED, f"GATEWAY_ROUTE_A__{name}": text})
    assert found.variable == f"GATEWAY_ROUTE_A__{name}"
    assert message in found.message


def test_no_body_at_all_is_no_limit_of_what_is_stored() -> None:
    found = problem({**CACHED, "GATEWAY_ROUTE_A__CACHE": "on", "GATEWAY_ROUTE_A__CACHE_MAX_BODY": "0B"})
    assert (found.variable, "a size above zero" in found.message) == ("GATEWAY_ROUTE_A__CACHE_MAX_BODY", True)


# -- credentials --------------------------------------------------------------------------------------------------


def test_no_repr_of_the_config_shows_a_credential() -> None:
    found = config(
        {
            **TLS,
            "GATEWAY_ADMIN_TOKEN": "hunter2",
            "GATEWAY_DATABASE_URL": "postgresql://portway:hunter2@db/x",
            "GATEWAY_UPSTREAM_USERS__HEADER_AUTHORIZATION": "Bearer hunter2",
            "GATEWAY_UPSTREAM_USERS__RESPONSE_HEADER_X": "hunter2",
            "GATEWAY_UPSTREAM_USERS__HEADER_COOKIE": "-",
            "GATEWAY_UPSTREAM_USERS__CLIENT_CERT": CERTIFICATE,
            "GATEWAY_UPSTREAM_USERS__CLIENT_KEY": KEY,
            "GATEWAY_UPSTREAM_USERS__CA": CERTIFICATE,
            "GATEWAY_ROUTE_A": "/a -> users",
            "GATEWAY_ROUTE_A__HEADER_B": "hunter2",
        }
    )
    options = effective(found.upstreams["users"].overrides, found.routes[0].overrides)
    assert "hunter2" not in repr(found) + str(found) + repr(options)
    assert "'authorization': '***'" in repr(options)
    assert "'cookie': None" in repr(options)


@pytest.mark.parametrize(
    "variable",
    [
        "GATEWAY_ADMIN_TOKN",
        "gateway_admin_token",
        "GATEWAY_SECRETS",
        "GATEWAY_UPSTREAM_USERS__HEADER_CONNECTION",
        "GATEWAY_UPSTREAM_USERS__HAEDER_AUTHORIZATION",
        "GATEWAY_UPSTREAM_OTHER__HEADER_AUTHORIZATION",
        "GATEWAY_UPSTREAM_USERS__CLIENT_KEY",
        "GATEWAY_UPSTREAM_USERS_PASSWORD",
        "GATEWAY_ROUTE_A__PART_B__HEADER_AUTHORIZATION",
    ],
)
def test_no_problem_shows_a_credential(variable: str) -> None:
    found = problems({**TLS, variable: "hunter2"})
    assert "hunter2" not in repr(found) + format_problems(found)


@pytest.mark.parametrize("text", ["'hunter2'", "hunter2\x7f"])
def test_no_problem_shows_the_admin_token(text: str) -> None:
    found = problem({"GATEWAY_ADMIN_TOKEN": text})
    assert (found.variable, found.value) == ("GATEWAY_ADMIN_TOKEN", "***")
    assert "hunter2" not in repr(found)


def test_a_database_password_is_masked() -> None:
    assert problem({"GATEWAY_DATABASE_URL": "postgres://u:hunter2@db/x"}).value == "postgres://***@db/x"


# -- all at once --------------------------------------------------------------------------------------------------

FAULTS = {
    "GATEWAY_BIND": "8000",
    "GATEWAY_BNID": "127.0.0.1:8000",
    "GATEWAY_LOG": "'json'",
    "GATEWAY_ADMIN_TOKEN": "'hunter2'",
    "GATEWAY_WORKERS_FILE": "/missing",
    "GATEWAY_UPSTREAM_USERS": "http://users:8000",
    "GATEWAY_UPSTREAM_USERS__TIMEOUT": "30",
    "GATEWAY_UPSTREAM_USERS__TIMEUOT": "30s",
    "GATEWAY_ROUTE_A": "/a -> usres",
    "GATEWAY_ROUTE_B": "/b",
    "gateway_drain": "8s",
}


def test_all_problems_come_together_in_the_order_of_their_variables() -> None:
    found = problems(FAULTS)
    assert [entry.variable for entry in found] == [
        "GATEWAY_ADMIN_TOKEN",
        "GATEWAY_BIND",
        "GATEWAY_BNID",
        "GATEWAY_LOG",
        "GATEWAY_ROUTE_A",
        "GATEWAY_ROUTE_B",
        "GATEWAY_UPSTREAM_USERS__TIMEOUT",
        "GATEWAY_UPSTREAM_USERS__TIMEUOT",
        "GATEWAY_WORKERS_FILE",
        "gateway_drain",
    ]
    assert found == problems(dict(reversed(FAULTS.items())))


def test_a_person_reads_variable_value_wish_and_nearest_name() -> None:
    chosen = ("GATEWAY_BIND", "GATEWAY_BNID", "GATEWAY_ADMIN_TOKEN")
    found = problems({variable: FAULTS[variable] for variable in chosen})
    assert format_problems(found) == (
        "3 problems in the environment:\n"
        "  GATEWAY_ADMIN_TOKEN = ***\n"
        "      the value is still in quotes; without them it is ***\n"
        "  GATEWAY_BIND = 8000\n"
        "      expected an address and a port, such as 127.0.0.1:8000, 0.0.0.0:8000 or [::]:8000\n"
        "  GATEWAY_BNID = 127.0.0.1:8000\n"
        "      there is no such variable\n"
        "      did you mean GATEWAY_BIND?"
    )
    assert str(ConfigError(found)) == format_problems(found)


def test_what_a_person_reads_holds_no_control_characters_and_no_novels() -> None:
    found = format_problems([Problem("GATEWAY_\x1b[31m", "\udcff\r\n" + "x" * 500, "a\0b")])
    assert all(character.isprintable() or character == "\n" for character in found)
    assert max(map(len, found.splitlines())) < 200


def test_an_error_survives_copying() -> None:
    error = ConfigError(problems({"GATEWAY_BIND": "x"}))
    assert copy.copy(error).problems == error.problems


# -- whatever comes -----------------------------------------------------------------------------------------------

WORDS = sorted(
    {option.name.strip("_*") for option in OPTIONS} | {"UPSTREAM", "ROUTE", "LEGACY", "DATABASE", "A", "FILE"}
)
NAMES = st.lists(st.sampled_from(WORDS) | st.text(string.ascii_letters + "_-é", max_size=4), min_size=1, max_size=5)
VARIABLES = st.builds(lambda words, glue: "GATEWAY_" + glue.join(words), NAMES, st.sampled_from(["_", "__"]))
DECLARED = st.sampled_from(
    ["GATEWAY_UPSTREAM_A", "GATEWAY_ROUTE_A", *(f"GATEWAY_UPSTREAM_A__{word}" for word in WORDS), "GATEWAY_BIND_FILE"]
)
EXAMPLES = sorted({text for option in OPTIONS for text in (option.example, option.default)})
TEXTS = st.sampled_from([*EXAMPLES, "/a -> a", "/a/{b}/** -> a:/{b}/**", "/ ->", "http://[::1", "-", "'"]) | st.text()


@given(st.dictionaries(VARIABLES | DECLARED | st.text().map("GATEWAY_".__add__), TEXTS, max_size=8), TEXTS)
@example({"GATEWAY_UPSTREAM_A": "http://\ud800"}, "")
def test_whatever_is_set_gives_a_config_or_its_problems(environ: dict[str, str], content: str) -> None:
    try:
        found = load(environ, lambda _: content)
    except ConfigError as error:
        assert error.problems == tuple(sorted(error.problems))  # noqa: PT017  hypothesis decides whether it raises
        assert {entry.variable for entry in error.problems} <= environ.keys()  # noqa: PT017
        assert format_problems(error.problems).replace("\n", "").isprintable()  # noqa: PT017
    else:
        assert isinstance(found, Config)


# -- fan-outs -----------------------------------------------------------------------------------------------------

HOME = {**USERS, "GATEWAY_ROUTE_HOME": "GET /home/{id}", "GATEWAY_ROUTE_HOME__PART_USER": "users:/users/{id}"}


def test_a_fan_out_is_read_with_all_its_options() -> None:
    (route,) = config(
        {
            **HOME,
            "GATEWAY_ROUTE_HOME__PART_USER__TIMEOUT": "300ms",
            "GATEWAY_ROUTE_HOME__PART_USER__PICK": "id,name",
            "GATEWAY_ROUTE_HOME__PART_USER__METHOD": "POST",
            "GATEWAY_ROUTE_HOME__PART_USER__HEADER_X_TENANT": "acme",
            "GATEWAY_ROUTE_HOME__PART_USER__HEADER_AUTHORIZATION": "-",
            "GATEWAY_ROUTE_HOME__PART_USER__MAX_BODY": "1KiB",
            "GATEWAY_ROUTE_HOME__PART_TEAM": "users:/teams/{user.team_id}",
            "GATEWAY_ROUTE_HOME__PART_ORDERS": "users:/orders?user={id}",
            "GATEWAY_ROUTE_HOME__PART_ORDERS__DEFAULT": " [1.10, {}] ",
            "GATEWAY_ROUTE_HOME__OPTIONAL": "team",
            "GATEWAY_ROUTE_HOME__TIMEOUT": "800ms",
            "GATEWAY_ROUTE_HOME__MERGE": "flat",
            "GATEWAY_ROUTE_HOME__CONCURRENCY": "3",
            "GATEWAY_ROUTE_HOME__MAX_ITEMS": "7",
            "GATEWAY_ROUTE_HOME__PASS": "404,410",
            "GATEWAY_ROUTE_HOME__FORWARD_HEADERS": "X-Tenant,cookie",
        }
    ).routes
    fan = route.fan
    assert fan is not None
    assert (fan.merge, fan.concurrency, fan.max_items, sorted(fan.passes)) == ("flat", 3, 7, [404, 410])
    assert fan.forward == ("x-tenant", "cookie")
    assert route.overrides.timeout_s == 0.8
    parts = {part.name: part for part in fan.parts}
    user, team, orders = parts["user"], parts["team"], parts["orders"]
    assert (user.timeout_s, user.pick, user.method, user.max_body_bytes) == (0.3, ("id", "name"), "POST", 1024)
    assert {name.lower(): value for name, value in user.headers} == {"x-tenant": "acme", "authorization": None}
    assert (user.optional, team.optional, orders.optional) == (False, True, True)
    assert (team.default, orders.default) == (b"null", b"[1.10, {}]")


@pytest.mark.parametrize(
    ("said", "variable", "words", "hint"),
    [
        ({"OPTIONAL": "usr"}, "OPTIONAL", "there is no part usr", "user"),
        ({"PART_TEAM__PICK": "id"}, "PART_TEAM__PICK", "an option of the part team, which is not set", ""),
        ({"PART_USER": "usrs:/x"}, "PART_USER", "there is no upstream usrs", "users"),
        ({"PART_USER": "users:/{user.id}"}, "PART_USER", "the part user waits for itself, through user", ""),
        ({"PART_USER": "users:/{ident}"}, "PART_USER", "{ident} is neither a parameter of the path nor a part", ""),
        ({"PART_USER": "users:/{id"}, "PART_USER", "a brace without its partner", ""),
        ({"PART_USER": "users:/a/../b"}, "PART_USER", "no '.' or '..' segment", ""),
        ({"PART_QUERY": "users:/x"}, "PART_QUERY", "a part cannot be called query", ""),
        ({"PART_HEADER": "users:/x"}, "PART_HEADER", "a part cannot be called header", ""),
        ({"PART_ID": "users:/x"}, "PART_ID", "a part cannot be called id", ""),
        ({"PART_END": "users:/x"}, "PART_END", "a part cannot be called end", ""),
        ({"MERGE": "flat", "PART_X": "users:/{user.ids[]}"}, "PART_X", "is a list, which has no members", ""),
        ({"PART_USER__DEFAULT": "{"}, "PART_USER__DEFAULT", "expected JSON", ""),
        ({"PART_USER__DEFAULT": "NaN"}, "PART_USER__DEFAULT", "expected JSON", ""),
        ({"PART_USER__DEFAULT": "none"}, "PART_USER__DEFAULT", "expected JSON", ""),
        ({"PART_USER__PICK": ","}, "PART_USER__PICK", "at least one item", ""),
        ({"PART_USER__MAX_BODY": "0B"}, "PART_USER__MAX_BODY", "a size above zero", ""),
        ({"PART_USER__TIMEOUT": "0s"}, "PART_USER__TIMEOUT", "longer than zero", ""),
        ({"PART_USER__TIMEOUT": "300"}, "PART_USER__TIMEOUT", "unit", ""),
        ({"PART_USER__METHOD": "get"}, "PART_USER__METHOD", "an upper-case method", ""),
        ({"PART_USER__HEADER_HOST": "x"}, "PART_USER__HEADER_HOST", "Host is chosen by", "GATEWAY_ROUTE_HOME__HOST"),
        ({"PART_USER__COLOUR": "red"}, "PART_USER__COLOUR", "a part has no such option", ""),
        ({"CONCURRENCY": "0"}, "CONCURRENCY", "a whole number from 1", ""),
        ({"MAX_ITEMS": "0"}, "MAX_ITEMS", "a whole number from 1", ""),
        ({"MERGE": "deep"}, "MERGE", "keyed or flat", ""),
        ({"PASS": "200"}, "PASS", "from 400 to 599", ""),
        ({"FORWARD_HEADERS": "x:"}, "FORWARD_HEADERS", "the name of a header field", ""),
        ({"FORWARD_HEADERS": "Content-Length"}, "FORWARD_HEADERS", "is the gateway's own business in these calls", ""),
        ({"FORWARD_HEADERS": "x-tenant host"}, "FORWARD_HEADERS", "is the gateway's own business in these calls", ""),
        ({"FORWARD_HEADERS": "range"}, "FORWARD_HEADERS", "is the gateway's own business in these calls", ""),
        ({"FORWARD_HEADERS": "accept-encoding"}, "FORWARD_HEADERS", "is the gateway's own business in these calls", ""),
        (
            {"FORWARD_HEADERS": "transfer-encoding"},
            "FORWARD_HEADERS",
            "is the gateway's own business in these calls",
            "",
        ),
        ({"FORWARD_HEADERS": "traceparent"}, "FORWARD_HEADERS", "is the gateway's own business in these calls", ""),
        ({"FORWARD_HEADERS": "Forwarded"}, "FORWARD_HEADERS", "what a client says of itself would pass", ""),
        ({"FORWARD_HEADERS": "x-tenant,X-Forwarded-For"}, "FORWARD_HEADERS", "what a client says of itself", ""),
        ({"FORWARD_HEADERS": "x-forwarded-user"}, "FORWARD_HEADERS", "what a client says of itself would pass", ""),
        ({"FORWARD_HEADERS": "X-Real-IP"}, "FORWARD_HEADERS", "what a client says of itself would pass", ""),
        ({"FORWARD_HEADERS": "x.original_url"}, "FORWARD_HEADERS", "what a client says of itself would pass", ""),
        ({"FORWARD_HEADERS": "content_length"}, "FORWARD_HEADERS", "the gateway's own business", ""),
    ],
)
def test_a_fault_of_a_fan_out_names_its_variable(said: Mapping[str, str], variable: str, words: str, hint: str) -> None:
    found = problem({**HOME, **{f"GATEWAY_ROUTE_HOME__{name}": text for name, text in said.items()}})
    assert found.variable == f"GATEWAY_ROUTE_HOME__{variable}"
    assert words in found.message
    assert not hint or found.hint == hint


def test_what_a_client_may_not_say_of_itself_can_be_said_of_it() -> None:
    said = {"PART_USER__HEADER_X_FORWARDED_FOR": "10.0.0.1", "HEADER_FORWARDED": "for=unknown"}
    (route,) = config({**HOME, **{f"GATEWAY_ROUTE_HOME__{name}": text for name, text in said.items()}}).routes
    assert route.fan is not None
    assert (route.fan.parts[0].headers, route.overrides.headers) == (
        (("x-forwarded-for", "10.0.0.1"),),
        (("forwarded", "for=unknown"),),
    )


@pytest.mark.parametrize("length", [2, 3])
def test_each_part_of_a_cycle_is_named(length: int) -> None:
    names = "ABC"[:length]
    targets = {
        f"GATEWAY_ROUTE_HOME__PART_{name}": f"users:/{{{names[(at + 1) % length].lower()}.x}}"
        for at, name in enumerate(names)
    }
    found = problems({**HOME, **targets})
    assert [each.variable for each in found] == sorted(targets)
    assert all("waits for itself, through" in each.message for each in found)


@pytest.mark.parametrize("line", ["/home", "/home -> users"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OPTIONAL", "user"),
        ("MERGE", "flat"),
        ("CONCURRENCY", "2"),
        ("MAX_ITEMS", "2"),
        ("PASS", "404"),
    ],
)
def test_an_option_of_a_fan_out_means_nothing_without_parts(line: str, name: str, text: str) -> None:
    found = problems({**USERS, "GATEWAY_ROUTE_HOME": line, f"GATEWAY_ROUTE_HOME__{name}": text})
    (about,) = (each for each in found if each.variable == f"GATEWAY_ROUTE_HOME__{name}")
    assert about.message == "this means nothing without parts; set GATEWAY_ROUTE_HOME__PART_<NAME>"


def test_all_faults_of_a_fan_out_come_together() -> None:
    found = problems(
        {
            **HOME,
            "GATEWAY_ROUTE_HOME__OPTIONAL": "team",
            "GATEWAY_ROUTE_HOME__PART_USER__MAX_BODY": "0B",
            "GATEWAY_ROUTE_HOME__PART_USER__DEFAULT": "x",
            "GATEWAY_ROUTE_HOME__PART_TEA": "tea:/{usr.id}",
        }
    )
    assert {each.variable.removeprefix("GATEWAY_ROUTE_HOME__") for each in found} == {
        "OPTIONAL",
        "PART_USER__MAX_BODY",
        "PART_USER__DEFAULT",
        "PART_TEA",
    }


# -- legacy functions and further databases -----------------------------------------------------------------------

REPORT = {"GATEWAY_ROUTE_REPORT": "/reports/{year}", "GATEWAY_ROUTE_REPORT__LEGACY": "reports.build"}


def test_a_route_may_lead_to_a_function() -> None:
    (route,) = config({**REPORT, "GATEWAY_ROUTE_REPORT__MAX_BODY": "1KiB"}).routes
    assert (route.legacy, route.target, route.fan) == ("reports.build", None, None)
    assert (route.pattern.text, route.overrides.max_body_bytes) == ("/reports/{year}", 1024)


def test_a_part_may_be_made_by_a_function() -> None:
    fan = {**USERS, "GATEWAY_ROUTE_HOME": "/home/{id}", "GATEWAY_ROUTE_HOME__PART_USER": "users:/u/{team.lead}"}
    fan |= {"GATEWAY_ROUTE_HOME__PART_TEAM__LEGACY": "teams.load", "GATEWAY_ROUTE_HOME__PART_TEAM__TIMEOUT": "300ms"}
    (route,) = config(fan).routes
    assert route.fan is not None
    team, user = route.fan.parts
    assert (team.name, team.target.text, team.target.is_function, team.timeout_s) == ("team", "teams.load", True, 0.3)
    assert (user.name, user.target.is_function) == ("user", False)


def test_what_is_said_of_a_pool_is_kept_for_python() -> None:
    found = config(
        {
            "GATEWAY_LEGACY_BUILD_REPORT__THREADS": "8",
            "GATEWAY_LEGACY_BUILD_REPORT__TIMEOUT": "30s",
            "GATEWAY_LEGACY_SOAP__QUEUE": "0",
        }
    )
    assert found.legacy == {"build_report": {"threads": 8, "timeout_s": 30.0}, "soap": {"queue": 0}}


def test_further_databases_have_names_and_are_not_shown() -> None:
    found = config({"GATEWAY_DATABASE_REPORTS": "postgresql://u:hunter2@db/reports"})
    assert found.databases == {"reports": "postgresql://u:hunter2@db/reports"}
    assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    ("environ", "variable", "message", "hint"),
    [
        ({**REPORT, **USERS, "GATEWAY_ROUTE_REPORT": "/r -> users"}, "REPORT__LEGACY", "a function or a target", ""),
        ({**REPORT, **USERS, "GATEWAY_ROUTE_REPORT__PART_A": "users:/x"}, "REPORT__LEGACY", "one of them", ""),
        ({**REPORT, "GATEWAY_ROUTE_REPORT__LEGACY": "build"}, "REPORT__LEGACY", "path of a Python function", ""),
        ({**REPORT, "GATEWAY_ROUTE_REPORT__LEGACY": "a-b.c"}, "REPORT__LEGACY", "path of a Python function", ""),
        (
            {**REPORT, "GATEWAY_ROUTE_REPORT__TIMEOUT": "5s"},
            *("REPORT__TIMEOUT", "means nothing for a legacy function", "GATEWAY_LEGACY_BUILD__TIMEOUT"),
        ),
        ({**REPORT, "GATEWAY_ROUTE_REPORT__HOST": "preserve"}, "REPORT__HOST", "means nothing for a legacy", ""),
        ({**REPORT, "GATEWAY_ROUTE_REPORT__OPTIONAL": "a"}, "REPORT__OPTIONAL", "means nothing without parts", ""),
        (
            {**HOME, "GATEWAY_ROUTE_HOME__PART_USER__LEGACY": "users.load"},
            *("HOME__PART_USER__LEGACY", "a part has a function or a target, not both", ""),
        ),
        (
            {
                **HOME,
                "GATEWAY_ROUTE_HOME__PART_T__LEGACY": "t.load",
                "GATEWAY_ROUTE_HOME__PART_T__METHOD": "POST",
            },
            *("HOME__PART_T__METHOD", "this means nothing for a function", ""),
        ),
        ({**HOME, "GATEWAY_ROUTE_HOME__PART_T__LEGACY": "load"}, "HOME__PART_T__LEGACY", "path of a Python", ""),
        ({**HOME, "GATEWAY_ROUTE_HOME__PART_ID__LEGACY": "t.load"}, "HOME__PART_ID__LEGACY", "cannot be called id", ""),
    ],
)
def test_a_function_that_cannot_be_is_blamed_with_its_name(
    environ: Mapping[str, str], variable: str, message: str, hint: str
) -> None:
    found = problem(environ)
    assert found.variable == f"GATEWAY_ROUTE_{variable}"
    assert message in found.message
    assert found.hint == hint


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("GATEWAY_LEGACY_A__THREADS", "0", "whole number from 1"),
        ("GATEWAY_LEGACY_A__QUEUE", "-1", "whole number from 0"),
        ("GATEWAY_LEGACY_A__TIMEOUT", "5", "a duration needs its unit"),
        ("GATEWAY_LEGACY_A__TIMEOUT", "0s", "longer than zero"),
        ("GATEWAY_DATABASE_A", "mysql://db/a", "expected sqlite:///"),
        ("GATEWAY_DATABASE_DEFAULT", "sqlite:///a", "set by GATEWAY_DATABASE_URL"),
        ("GATEWAY_STALL", "0s", "longer than zero"),
        ("GATEWAY_STALL", "100", "a duration needs its unit"),
    ],
)
def test_nonsense_of_a_pool_or_a_database_is_a_start_error(variable: str, text: str, message: str) -> None:
    found = problem({variable: text})
    assert found.variable == variable
    assert message in found.message


def test_cache_control_of_good_answers_needs_no_cache_of_ours() -> None:
    environ = {
        "GATEWAY_UPSTREAM_USERS": "http://users:8000",
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
        "GATEWAY_ROUTE_USERS__CACHE_CONTROL": "public, max-age=60",
    }
    assert load(environ, lambda path: "").routes


# -- cookies of sticky upstreams ------------------------------------------------------------------------------------


def sticky_key(**environ: str) -> bytes:
    given = {f"GATEWAY_{name}": text for name, text in environ.items()}
    config = load({"GATEWAY_UPSTREAM_USERS": "http://users", **given}, lambda path: "")
    return config.upstreams["users"].sticky_key


def test_the_key_of_sticky_cookies_is_the_secret_or_what_configures_the_upstream_without_its_secrets() -> None:
    plain = sticky_key()
    assert plain == sticky_key(BIND="127.0.0.1:1", WORKERS="3", UPSTREAM_OTHER="http://other")
    assert plain != sticky_key(UPSTREAM_USERS__TIMEOUT="2s")
    assert sticky_key(UPSTREAM_USERS__HEADER_X_KEY="one") == sticky_key(UPSTREAM_USERS__HEADER_X_KEY="other")
    assert plain != sticky_key(SECRET="s3cret") == sticky_key(SECRET="s3cret", UPSTREAM_USERS__TIMEOUT="2s")
