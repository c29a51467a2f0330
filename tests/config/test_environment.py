"""A variable's name and text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import environment
from gateway.config.environment import Name, find
from gateway.config.table import TABLE
from gateway.options import Refused


def test_a_name_says_whose_option_it_is() -> None:
    assert find("GATEWAY_BIND") == Name(TABLE["gateway", "BIND"])
    assert find("GATEWAY_UPSTREAM_USERS") == Name(TABLE["upstream", ""], "upstream", "USERS")
    assert find("GATEWAY_ROUTE_A_1__TIMEOUT") == Name(TABLE["route", "TIMEOUT"], "route", "A_1")
    assert find("GATEWAY_ROUTE_A__HEADER_X_Y") == Name(TABLE["route", "HEADER_*"], "route", "A", "X_Y")
    assert find("GATEWAY_ROUTE_A__PART_B__PICK") == Name(TABLE["part", "PICK"], "route", "A", "", "b")
    assert find("GATEWAY_TIMEOUT") == Name(TABLE["route", "TIMEOUT"])
    assert find("GATEWAY_HEADER_X_Y") == Name(TABLE["route", "HEADER_*"], member="X_Y")
    assert find("GATEWAY_DATABASE_URL") == Name(TABLE["gateway", "DATABASE_URL"])
    assert find("GATEWAY_DATABASE_REPORTS") == Name(TABLE["database", ""], "database", "REPORTS")


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("GATEWAY_BNID", "GATEWAY_BIND"),
        ("GATEWAY_LOGLEVEL", "GATEWAY_LOG_LEVEL"),
        ("GATEWAY_PORT", "GATEWAY_BIND"),
        ("GATEWAY_TIMEUOT", "GATEWAY_TIMEOUT"),
        ("GATEWAY_HAEDER_X_TENANT", "GATEWAY_HEADER_X_TENANT"),
        ("GATEWAY_CA", "GATEWAY_UPSTREAM_<NAME>__CA"),
        ("GATEWAY_PATH", "GATEWAY_UPSTREAM_<NAME>__PATH"),
        ("GATEWAY_OPTIONAL", "GATEWAY_ROUTE_<NAME>__OPTIONAL"),
        ("GATEWAY_PART_USER", "GATEWAY_ROUTE_<NAME>__PART_USER"),
        ("GATEWAY_UPSTREAM_USERS__MERGE", ""),
        ("GATEWAY_ROUTE_USERS__RETRIES", ""),
        ("GATEWAY_UPSTREM_USERS", "GATEWAY_UPSTREAM_USERS"),
        ("GATEWAY_ROUTES_USERS__TIMEOUT", "GATEWAY_ROUTE_USERS__TIMEOUT"),
        ("GATEWAY_UPSTREAM_USERS__TIMEUOT", "GATEWAY_UPSTREAM_USERS__TIMEOUT"),
        ("GATEWAY_ROUTE_HOME__PART_USER__TIMEUOT", "GATEWAY_ROUTE_HOME__PART_USER__TIMEOUT"),
        ("GATEWAY_XYZZY", ""),
        ("GATEWAY_", ""),
        ("GATEWAY_UPSTREAM", ""),
        ("GATEWAY_UPSTREAM_", ""),
        ("GATEWAY_UPSTREAM__TIMEOUT", ""),
        ("GATEWAY_UPSTREAM_USERS__", ""),
        ("GATEWAY_DATABASE_URL__", ""),
        ("GATEWAY_DATABASE_REPORTS__TIMEOUT", ""),
        ("GATEWAY_UPSTREAM_USERS__A__B", ""),
        ("GATEWAY_ROUTE_A__PART_B__PICK__C", ""),
        ("GATEWAY_LEGACY_X", ""),
    ],
)
def test_an_unknown_name_leads_to_the_nearest(variable: str, hint: str) -> None:
    with pytest.raises(Refused) as caught:
        find(variable)
    assert caught.value.hint == hint


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"))
def test_every_name_is_found_or_refused(tail: str) -> None:
    for prefix in ("", "UPSTREAM_", "ROUTE_X__", "ROUTE_X__PART_", "LEGACY_", "DATABASE_"):
        try:
            find(f"GATEWAY_{prefix}{tail}")
        except Refused:
            continue


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("GATEWAY_UPSTREAM_USERS_CONNECT_TIMEOUT", "GATEWAY_UPSTREAM_USERS__CONNECT_TIMEOUT"),
        ("GATEWAY_UPSTREAM_USERS_RESPONSE_HEADER_X_Y", "GATEWAY_UPSTREAM_USERS__RESPONSE_HEADER_X_Y"),
        ("GATEWAY_ROUTE_USERS_CACHE", "GATEWAY_ROUTE_USERS__CACHE"),
        ("GATEWAY_UPSTREAM_USERS_CACHE", "GATEWAY_UPSTREAM_USERS__CACHE"),
        ("GATEWAY_UPSTREAM_USERS_MERGE", ""),
        ("GATEWAY_UPSTREAM_TIMEOUT", ""),
    ],
)
def test_a_single_underscore_is_seen_where_two_were_meant(variable: str, hint: str) -> None:
    assert environment.single_underscore(find(variable)) == hint


@pytest.mark.parametrize(
    ("variable", "text", "shown"),
    [
        ("GATEWAY_BIND", "x", "x"),
        ("GATEWAY_UPSTREAM_X", "http://u:p@h", "http://***@h"),
        ("GATEWAY_UPSTREAM_X__HEADER_A", "secret", "***"),
        ("GATEWAY_UPSTREAM_X__RESPONSE_HEADER_A", "-", "-"),
        ("GATEWAY_UPSTREAM_X_HEADER_A", "secret", "***"),
        ("GATEWAY_UPSTREAM_X_TOKEN", "secret", "***"),
        ("GATEWAY_UPSTREAM_TOKENS", "http://tokens:x", "http://tokens:x"),
        ("GATEWAY_UPSTREAM_X__CLIENT_KEY", "secret", "***"),
        ("GATEWAY_ADMIN_TOKEN", "secret", "***"),
        ("GATEWAY_ADMIN_TOKN", "secret", "***"),
        ("GATEWAY_UPSTREAM_X__HAEDER_A", "secret", "***"),
        ("GATEWAY_UPSTREAM_X__TIMEUOT", "5s", "5s"),
        ("GATEWAY_FOO", "secret", "***"),
        ("GATEWAY_DATABASE_URL", "postgresql://u:p@h/d", "postgresql://***@h/d"),
        ("GATEWAY_ADMIN_TOKEN_FILE", "/run/secrets/token", "/run/secrets/token"),
        ("GATEWAY_ADMIN_TOKEN_FILE", "secret", "***"),
    ],
)
def test_a_value_is_shown_without_its_secret(variable: str, text: str, shown: str) -> None:
    assert environment.shown(variable, text) == shown


def links(service: str, host: str, ports: dict[str, int], protocol: str = "TCP") -> dict[str, str]:
    """What a kubelet sets for a Service (kubernetes, pkg/kubelet/envvars/envvars.go); `ports` by name."""
    name = service.upper().replace("-", "_")
    first = next(iter(ports.values()))
    joined = f"[{host}]" if ":" in host else host
    found = {f"{name}_SERVICE_HOST": host, f"{name}_SERVICE_PORT": str(first)}
    found |= {f"{name}_SERVICE_PORT_{port.upper().replace('-', '_')}": str(number) for port, number in ports.items()}
    found[f"{name}_PORT"] = f"{protocol.lower()}://{joined}:{first}"
    for number in ports.values():
        stem = f"{name}_PORT_{number}_{protocol}"
        found |= {stem: f"{protocol.lower()}://{joined}:{number}", f"{stem}_PROTO": protocol.lower()}
        found |= {f"{stem}_PORT": str(number), f"{stem}_ADDR": host}
    return found


SERVICES = ["gateway", "gateway-db", "gateway-upstream-users", "gateway-route-x", "gateway-x--y", "gateway-bind"]
PORTS = {"http": 80, "https": 443, "web-api": 8080, "a--b": 81, "file": 9000, "8-x": 82}


@pytest.mark.parametrize("protocol", ["TCP", "UDP", "SCTP"])
@pytest.mark.parametrize("host", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("service", SERVICES)
def test_the_links_of_a_service_are_ignored(service: str, host: str, protocol: str) -> None:
    found = links(service, host, PORTS, protocol)
    assert len(found) == 3 + 5 * len(PORTS)
    reading = environment.read(found, lambda path: pytest.fail(f"opened {path}"))
    assert reading == environment.Reading()


def test_the_links_are_those_of_the_kubernetes_documentation() -> None:
    """https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables"""
    assert (
        links("redis-primary", "10.0.0.11", {"x": 6379}).items()
        >= {
            "REDIS_PRIMARY_SERVICE_HOST": "10.0.0.11",
            "REDIS_PRIMARY_SERVICE_PORT": "6379",
            "REDIS_PRIMARY_PORT": "tcp://10.0.0.11:6379",
            "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.0.0.11:6379",
            "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
            "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
            "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.0.0.11",
        }.items()
    )


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("GATEWAY_UPSTREAM_USERS_PORT", "http://users:8000"),
        ("GATEWAY_UPSTREAM_MAIL_SERVICE_HOST", "http://mail"),
        ("GATEWAY_ROUTE_X_SERVICE_PORT", "/x -> users"),
        ("GATEWAY_PORT", "8000"),
        ("GATEWAY_HEADER_X_SERVICE_HOST", "shop"),
        ("GATEWAY_HEADER_X_SERVICE_PORT", "8000"),
        ("GATEWAY_PORT", "tcp://10.0.0.1"),
        ("GATEWAY_DB_PORT_X_TCP", "tcp://10.0.0.1:80"),
        ("GATEWAY_UPSTREAM_USERS__TIMEOUT", "5s"),
    ],
)
def test_what_only_resembles_a_link_is_a_persons(variable: str, text: str) -> None:
    assert not environment.is_service_link(variable, text)
