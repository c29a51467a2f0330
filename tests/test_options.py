"""The one table of every variable."""

import dataclasses
import re
from pathlib import Path

import pytest

from docs import reference
from gateway.auth import records as auth_records
from gateway.cache import policy
from gateway.config import records as config
from gateway.config.table import OPTIONS, TABLE, lookup
from gateway.fanout import plan
from gateway.legacy import options
from gateway.limits import grammar
from gateway.options import Option, Refused, check_name
from gateway.routing import records as routing_records
from gateway.upstreams import options as upstreams_options
from gateway.upstreams import records as upstreams_records

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"


def ids(option: Option) -> str:
    return f"{option.families}:{option.name}"


@pytest.mark.parametrize("option", OPTIONS, ids=ids)
def test_every_default_and_example_is_valid_by_its_own_parser(option: Option) -> None:
    for text in filter(None, (option.default, option.example)):
        option.unit.parse(text)


@pytest.mark.parametrize("option", OPTIONS, ids=ids)
def test_every_option_has_one_short_sentence(option: Option) -> None:
    assert re.fullmatch(r"[A-Z`].{5,110}\.", option.sentence)


def test_an_option_without_example_is_one_for_a_file() -> None:
    without = {option.name for option in OPTIONS if not option.example}
    assert without == {
        *("ADMIN_TOKEN", "CA", "CLIENT_CERT", "CLIENT_KEY", "SECRET", "TLS_CERT", "TLS_CLIENT_CA", "TLS_KEY"),
        *("CONSUL_TOKEN", "KEYS", "USERS", "VALKEY_CA"),
    }


def test_each_option_of_a_family_is_declared_once() -> None:
    assert len(TABLE) == sum(len(option.families.split()) for option in OPTIONS)


def test_every_available_option_has_its_place_in_the_config() -> None:
    def attributes(*records: type) -> set[str]:
        return {field.name for record in records for field in dataclasses.fields(record)}

    homes = {
        "gateway": attributes(config.Settings),
        "upstream": attributes(upstreams_records.Upstream, upstreams_options.Overrides) | {"places"},
        "route": attributes(routing_records.Route, upstreams_options.Overrides, plan.Fan)
        | {"line", "optional", "cache_max_body_bytes", "stale_if_error_s", "rate_limit", "cost"}
        # `Route.level` has them
        | {"cache_control", "auth", "roles", "scopes", "middleware", "on", "maintenance", "compress"}
        | {"mirror", "mirror_share", "mirror_unsafe", "ignores_case", "when"}
        | {"cors_methods", "cors_headers", "cors_max_age_s", "cors_credentials"},
        "part": attributes(plan.Part) | {"legacy"},
        "legacy": attributes(options.LegacyOptions),
        "auth": attributes(auth_records.Way) | {"way", "headers"},
        "database": {"url"},
        "rate_limit": attributes(grammar.NamedLimit),
    }
    # Where CACHE_MAX_BODY and STALE_IF_ERROR go, within `cache`; MIDDLEWARE stays in `level`.
    assert attributes(policy.Rule) >= {"max_body_bytes", "stale_if_error_s"}
    for (family, name), option in TABLE.items():
        # A level holds what may be given at several; what becomes of it is a route's, or an upstream's.
        at_home = {family} if not option.has_levels else {"upstream", "route"}
        assert any(option.attribute in homes[home] for home in at_home), f"{family} {name}"


def test_an_option_at_several_levels_has_an_attribute_of_its_own() -> None:
    attributes = [option.attribute for option in OPTIONS if option.has_levels]
    assert len(attributes) == len(set(attributes))
    assert "level" not in attributes


NO_PLAIN = {
    "PATH",
    "BODY",
    "FROM",
    "TYPE",
    "CLIENT_CERT",
    "CLIENT_KEY",
    "CA",
    "LEGACY",
    "OPTIONAL",
    "PART_*",
    "MAX_IN_FLIGHT",
} | {
    *("MIRROR", "MIRROR_UNSAFE", "WHEN"),
}


def test_every_option_of_an_upstream_or_a_route_is_a_plain_one_too_but_for_those_that_mean_nothing_there() -> None:
    words = {name for family, name in TABLE if family in {"upstream", "route"} and name}
    with_levels = {name for (family, name), option in TABLE.items() if family == "gateway" and option.has_levels}
    assert words - with_levels == NO_PLAIN


def test_options_in_python_know_every_option_of_a_route() -> None:
    """What is one of a call, and what they say of the others."""
    elsewhere = upstreams_options.STORES_ANSWERS | upstreams_options.NOT_OF_CALL
    called = {option.name for option in upstreams_options.OF_CALL}
    assert sorted([*called, *elsewhere]) == sorted(name for family, name in TABLE if family == "route" and name)


def test_a_shared_option_has_its_place_in_what_holds_for_a_call() -> None:
    names = [field.name for field in dataclasses.fields(upstreams_options.ProxyOptions)]
    assert sorted(option.attribute for option in upstreams_options.OF_CALL) == sorted(names)


def test_the_page_of_all_options_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference.configuration(), "run: python -m docs.reference"


def test_the_page_has_a_row_for_every_variable() -> None:
    rows = [line for line in reference.configuration().splitlines() if line.startswith("| `GATEWAY_")]
    assert len(rows) == len(TABLE)
    assert "| `GATEWAY_UPSTREAM_<NAME>__TIMEOUT` | duration | `30s` | `2s` | " in "\n".join(rows)
    assert "| `GATEWAY_ROUTE_<NAME>__TIMEOUT` | duration | the upstream's | `2s` | " in "\n".join(rows)
    assert r"| `GATEWAY_REUSE_PORT` | on\|off | `off` | `on` | " in "\n".join(rows)


def test_an_open_option_takes_a_member() -> None:
    assert lookup("upstream", "HEADER_X_TENANT") == (TABLE["upstream", "HEADER_*"], "X_TENANT")
    assert lookup("route", "RESPONSE_HEADER_X") == (TABLE["route", "RESPONSE_HEADER_*"], "X")
    assert lookup("route", "PART_USER") == (TABLE["route", "PART_*"], "USER")


@pytest.mark.parametrize(
    ("family", "word", "hint"),
    [
        ("upstream", "TIMEUOT", "TIMEOUT"),
        ("upstream", "HAEDER_X_TENANT", "HEADER_X_TENANT"),
        ("upstream", "RESPONSE_HAEDER_X_TENANT", "RESPONSE_HEADER_X_TENANT"),
        ("upstream", "MAXBODY", "MAX_BODY"),
        ("route", "CROS", "CORS"),
        ("route", "TIMEOUTS", "TIMEOUT"),
        ("part", "TIME_OUT", "TIMEOUT"),
        ("legacy", "THREAD", "THREADS"),
        ("upstream", "WHATEVER", ""),
    ],
)
def test_an_unknown_option_leads_to_the_nearest(family: str, word: str, hint: str) -> None:
    with pytest.raises(Refused, match="has no such option") as caught:
        lookup(family, word)
    assert caught.value.hint == hint


def test_an_option_of_another_family_says_whose_it_is() -> None:
    with pytest.raises(Refused, match="MERGE is an option of a route, not of an upstream"):
        lookup("upstream", "MERGE")
    with pytest.raises(Refused, match="DNS_TTL is an option of an upstream, not of a route"):
        lookup("route", "DNS_TTL")
    with pytest.raises(Refused, match="RETRIES is an option of an upstream, not of a route"):
        lookup("route", "RETRY")  # as other programs call it


@pytest.mark.parametrize("name", ["", "2FA", "_X", "X_", "X__Y", "x", "X-Y", "Ü"])
def test_a_name_is_upper_case_words_and_digits(name: str) -> None:
    with pytest.raises(Refused, match="upper-case words, digits and single underscores"):
        check_name(name, "upstream")


@pytest.mark.parametrize("name", ["FILE", "X_FILE"])
def test_no_name_is_or_ends_in_file(name: str) -> None:
    with pytest.raises(Refused, match="marks the twin that reads a file"):
        check_name(name, "upstream")


def test_an_underscore_in_a_header_option_is_a_dash() -> None:
    assert upstreams_options.field_of(TABLE["route", "HEADER_*"], "X_TENANT_ID") == "x-tenant-id"


@pytest.mark.parametrize("member", ["CONNECTION", "CONTENT_LENGTH", "TRANSFER_ENCODING", "TE", "UPGRADE", "KEEP_ALIVE"])
@pytest.mark.parametrize("name", ["HEADER_*", "RESPONSE_HEADER_*"])
def test_framing_and_hop_by_hop_fields_cannot_be_set(name: str, member: str) -> None:
    with pytest.raises(Refused, match="cannot be set"):
        upstreams_options.field_of(TABLE["upstream", name], member)


def test_host_is_not_set_as_a_header() -> None:
    with pytest.raises(Refused, match="__HOST=preserve") as caught:
        upstreams_options.field_of(TABLE["upstream", "HEADER_*"], "HOST")
    assert caught.value.hint == "HOST"
