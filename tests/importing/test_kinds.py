"""What becomes of another gateway's configuration: variables that load, and a note for each thing that is left."""

import contextlib
import copy
import json
import os
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.test import override_settings

from gateway.config.env_file import EnvFile
from gateway.config.loader import load
from gateway.importing.draft import Draft, Weight
from gateway.importing.kinds import WORDS, import_text
from gateway.importing.source import MAX_BYTES, SourceError
from gateway.routing import from_environment
from gateway.routing.urls import Routes
from tests.importing.samples import FILES

# Variables of each sample; what is not named here is not looked at.
EXPECTED = {
    "krakend": {
        "GATEWAY_BIND": "0.0.0.0:8080",
        "GATEWAY_TIMEOUT": "3s",
        "GATEWAY_CORS": "https://app.example.com",
        "GATEWAY_UPSTREAM_ORDERS": "http://orders-1:8000,http://orders-2:8000",
        "GATEWAY_ROUTE_USERS_USERID": "GET /users/{userid} -> users:/v1/users/{userid}",
        "GATEWAY_ROUTE_HOME_ID": "GET /home/{id}",
        "GATEWAY_ROUTE_HOME_ID__PART_USER": "users:/users/{id}",
        "GATEWAY_ROUTE_HOME_ID__PART_USER__PICK": "id,name",
        "GATEWAY_ROUTE_HOME_ID__PART_ORDERS": "orders:/orders?user={user.id}",
        "GATEWAY_ROUTE_HOME_ID__OPTIONAL": "user,orders",
        "GATEWAY_ROUTE_HOME_ID__TIMEOUT": "800ms",
        "GATEWAY_ROUTE_HOME_ID__CACHE_CONTROL": "public, max-age=300",
        "GATEWAY_AUTH_TOKEN": "jwt https://id.example.com/",
        "GATEWAY_AUTH_TOKEN__AUDIENCE": "shop",
        "GATEWAY_ROUTE_HOME_ID__AUTH": "token",
        "GATEWAY_ROUTE_HOME_ID__ROLES": "admin user",
        "GATEWAY_ROUTE_FILES": "GET /files/** -> files:/**",
        "GATEWAY_ROUTE_BOTH__MERGE": "flat",
    },
    "kong": {
        "GATEWAY_MAX_BODY": "8MiB",
        "GATEWAY_UPSTREAM_USERS": "http://users.internal:8000/v1",
        "GATEWAY_UPSTREAM_USERS__CONNECT_TIMEOUT": "1500ms",
        "GATEWAY_UPSTREAM_USERS__TIMEOUT": "10s",
        "GATEWAY_UPSTREAM_USERS__RETRIES": "2",
        "GATEWAY_UPSTREAM_USERS__CORS": "https://app.example.com",
        "GATEWAY_UPSTREAM_ORDERS": "http://10.0.0.1:8000,http://10.0.0.2:8000",
        "GATEWAY_UPSTREAM_ORDERS__BALANCE": "round_robin",
        "GATEWAY_UPSTREAM_ORDERS__HEALTH": "/health",
        "GATEWAY_ROUTE_USERS": "GET,POST /users/** -> 403",
        "GATEWAY_ROUTE_USERS_2": "GET,POST /people/** -> 403",
        "GATEWAY_ROUTE_RAW": "/u/{p2:int} -> users:/",
        "GATEWAY_ROUTE_ORDERS": "api.example.com/orders/** -> orders",
        "GATEWAY_ROUTE_ORDERS__HOST": "preserve",
    },
    "ocelot": {
        "GATEWAY_UPSTREAM_A": "https://a.example.com:443,https://b.example.com:443",
        "GATEWAY_UPSTREAM_A__BALANCE": "round_robin",
        "GATEWAY_ROUTE_USER": "GET /users/{id} -> users:/api/users/{id}",
        "GATEWAY_ROUTE_USER__CACHE": "15s",
        "GATEWAY_ROUTE_LEGACY_EVERYTHING": "/legacy/** -> 403",
        "GATEWAY_ROUTE_HOME_ID": "GET /home/{id}",
        "GATEWAY_ROUTE_HOME_ID__PART_USER": "users:/api/users/{id}",
        "GATEWAY_ROUTE_HOME_ID__PART_ORDERS": "orders:/orders",
    },
    "spring": {
        "GATEWAY_BIND": "0.0.0.0:8085",
        "GATEWAY_CONNECT_TIMEOUT": "1s",
        "GATEWAY_TIMEOUT": "5s",
        "GATEWAY_CORS": "https://docs.spring.io",
        "GATEWAY_ROUTE_STRIP": "/name/** -> nameservice:/**",
        "GATEWAY_ROUTE_STRIP__RESPONSE_HEADER_X_RESPONSE_DEFAULT_RED": "Default-Blue",
        "GATEWAY_ROUTE_REWRITE": "GET,POST /red/** -> red:/**",
        "GATEWAY_ROUTE_REWRITE__HEADER_X_REQUEST_RED": "blue",
        "GATEWAY_ROUTE_EXPANDED": "/foo/{segment} -> example:/{segment}",
        "GATEWAY_ROUTE_EXPANDED__TIMEOUT": "200ms",
        "GATEWAY_UPSTREAM_EXAMPLE__RETRIES": "3",
    },
    "traefik": {
        "GATEWAY_UPSTREAM_WHOAMI": "http://whoami:80",
        "GATEWAY_UPSTREAM_WHOAMI__HEALTH": "/health",
        "GATEWAY_UPSTREAM_API": "http://api:8080",
        "GATEWAY_ROUTE_WHOAMI": "GET who.test/a/** -> 403",
        "GATEWAY_ROUTE_WHOAMI_2": "GET who.test/b/** -> 403",
        "GATEWAY_ROUTE_API": "api.localhost/** -> api",
        "GATEWAY_ROUTE_API__HOST": "preserve",
        "GATEWAY_ROUTE_API__HEADER_X_TENANT": "acme",
    },
    "nginx": {
        "GATEWAY_BIND": "0.0.0.0:443",
        "GATEWAY_MAX_BODY": "1MiB",
        "GATEWAY_UPSTREAM_USERS": "http://users-1:8000,http://users-2:8000",
        "GATEWAY_UPSTREAM_USERS__RETRIES": "2",
        "GATEWAY_UPSTREAM_API": "http://10.0.0.1:80",
        "GATEWAY_UPSTREAM_API__BALANCE": "hash:client",
        "GATEWAY_ROUTE_EXAMPLE_COM_USERS": "example.com/users/** -> users",
        "GATEWAY_ROUTE_EXAMPLE_COM_USERS__TIMEOUT": "5s",
        "GATEWAY_ROUTE_EXAMPLE_COM_USERS__MAX_BODY": "20MiB",
        "GATEWAY_ROUTE_EXAMPLE_COM_USERS__HOST": "preserve",
        "GATEWAY_ROUTE_EXAMPLE_COM_USERS__HEADER_X_REAL_IP": "{client}",
        "GATEWAY_ROUTE_EXAMPLE_COM_API": "example.com/api/** -> api:/v1/**",
        "GATEWAY_ROUTE_EXAMPLE_COM_API__HEADER_AUTHORIZATION": "Basic c2VjcmV0",
        "GATEWAY_ROUTE_EXAMPLE_COM_API__RESPONSE_HEADER_X_POWERED_BY": "-",
        "GATEWAY_ROUTE_EXAMPLE_COM_API__RESPONSE_HEADER_X_FRAME_OPTIONS": "DENY",
        "GATEWAY_ROUTE_EXAMPLE_COM_EXACT": "example.com/exact -> api:/one",
        "GATEWAY_ROUTE_EXAMPLE_COM_IMG": "example.com/img/** -> api",
        "GATEWAY_ROUTE_EXAMPLE_COM_ADMIN": "example.com/admin/** -> 403",
    },
}
# What is left of each sample: weight, line, and words of the sentence.
LEFT = {
    "krakend": [
        (Weight.ACCESS, 15, "propagate_claims"),
        (Weight.BEHAVIOUR, 18, "unknown here: 7"),
        (Weight.BEHAVIOUR, 20, "deny"),
    ],
    "kong": [
        (Weight.ACCESS, 14, "plugin key-auth"),
        (Weight.ROUTING, 16, "has no leading zeros"),
        (Weight.BEHAVIOUR, 40, "unknown here: 1"),
        (Weight.DETAIL, 37, "plugin prometheus"),
    ],
    "ocelot": [(Weight.ACCESS, 10, "AuthenticationOptions"), (Weight.BEHAVIOUR, 14, "the part is called orders")],
    "spring": [(Weight.ROUTING, 18, "lb://red"), (Weight.ROUTING, 39, "predicate After")],
    "traefik": [
        (Weight.ACCESS, 13, "basicauth.users=***"),
        (Weight.ROUTING, 21, "hostregexp cannot be expressed"),
    ],
    "nginx": [
        (Weight.ACCESS, 28, "allow 10.0.0.0/8"),
        (Weight.ACCESS, 28, "deny all"),
        (Weight.ROUTING, 6, "backup: left out"),
        (Weight.ROUTING, 17, "there is no folder /var/www here"),
        (Weight.BEHAVIOUR, 24, "unknown here: on"),
    ],
}

every_kind = pytest.mark.parametrize("word", WORDS)


def imported(word: str) -> Draft:
    name, text = FILES[word]
    return import_text(text, name).draft


def no_file(path: str) -> str:
    raise OSError(path)


def check(draft: Draft) -> None:
    """As `gateway check` looks at what it prints. Raises ConfigError, RouteError."""
    file = EnvFile()
    file.read("\n".join(draft.lines("", shell=False)), "gateway.env", {})
    assert (file.problems, file.values) == ([], draft.variables)
    config = load(file.values, no_file)
    with override_settings(GATEWAY=config):
        Routes(from_environment(), config.declared)


@every_kind
def test_a_kind_is_seen_from_its_content_and_becomes_these_variables(word: str) -> None:
    found = imported(word).variables
    assert {name: found.get(name) for name in EXPECTED[word]} == EXPECTED[word]


@every_kind
def test_what_it_makes_loads(word: str) -> None:
    draft = imported(word)
    check(draft)
    assert draft.has_routes


@every_kind
def test_what_is_left_is_named_with_its_place_and_what_matters_most_comes_first(word: str) -> None:
    left = imported(word).left
    for weight, line, words in LEFT[word]:
        assert any(one.weight is weight and one.line == line and words in one.text for one in left), (line, words, left)
    assert [one.weight for one in left] == sorted(one.weight for one in left)


@every_kind
def test_no_secret_of_a_middleware_stands_in_a_comment(word: str) -> None:
    assert not any("$apr1$" in str(one) or "c2VjcmV0" in str(one) for one in imported(word).left)


@every_kind
def test_a_key_that_nobody_knows_is_never_dropped_in_silence(word: str) -> None:
    name, text = FILES[word]
    strange = {
        "krakend": text.replace('"method"', '"method"').replace('"version": 3,', '"version": 3, "warp": 9,'),
        "kong": f"warp: 9\n{text}",
        "ocelot": text.replace('"Routes": [', '"warp": 9, "Routes": ['),
        "spring": text.replace("      routes:\n", "      warp: 9\n      routes:\n"),
        "traefik": text.replace('- "traefik.enable=true"', '- "traefik.warp=9"'),
        "nginx": text.replace("http {", "http {\n warp 9;"),
    }[word]
    assert strange != text
    assert any("warp" in f"{one.path} {one.text}" for one in import_text(strange, name).draft.left)


def test_all_of_a_plain_file_is_said() -> None:
    text = "server { listen 8080; location /users/ { proxy_pass http://users:8000; } }"
    draft = import_text(text, "a.conf").draft
    assert draft.left == []
    assert draft.variables["GATEWAY_ROUTE_USERS"] == "/users/** -> users"


# -- words of this gateway's ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "variables"),
    [
        (
            "a.conf",
            (
                "upstream u { server a:1 weight=3; server b:1; hash $cookie_sid; } "
                "server { listen 80; location /r/ { proxy_pass http://u; } }"
            ),
            {"UPSTREAM_U": "http://a:1;weight=3,http://b:1;weight=1", "UPSTREAM_U__BALANCE": "hash:cookie:sid"},
        ),
        (
            "a.yml",
            (
                "_format_version: '3.0'\nupstreams: [{name: h, targets: [{target: 'a:1', weight: 95}, {target: 'b:1', "
                "weight: 5}]}]\nservices: [{name: u, host: h, routes: [{name: r, paths: [/r]}]}]\n"
            ),
            {"UPSTREAM_U": "http://a:1;weight=95,http://b:1;weight=5"},
        ),
        (
            "a.json",
            (
                '{"Routes": [{"UpstreamPathTemplate": "/r/{id}.json", "DownstreamPathTemplate": "/{id}.json", '
                '"DownstreamHostAndPorts": [{"Host": "u", "Port": 1}, {"Host": "v", "Port": 1}], '
                '"LoadBalancerOptions": {"Type": "CookieStickySessions", "Key": "sid"}}]}'
            ),
            {"ROUTE_R_ID_JSON": "/r/{id}.json -> u:/{id}.json", "UPSTREAM_U__BALANCE": "sticky:sid"},
        ),
        (
            "a.json",
            (
                '{"version": 3, "endpoints": [{"endpoint": "/r", "backend": [{"sd": "dns", '
                '"host": ["_http._tcp.u.test"], "url_pattern": "/r"}]}]}'
            ),
            {"UPSTREAM_HTTP": "srv+http://_http._tcp.u.test"},
        ),
        (
            "a.yml",
            (
                "eureka: {client: {serviceUrl: {defaultZone: 'http://eureka:8761/eureka/'}}}\n"
                "spring: {cloud: {gateway: {routes: [{id: r, uri: 'lb://VETS', predicates: ['Path=/r/**']}]}}}"
            ),
            {"EUREKA_URL": "http://eureka:8761/eureka", "UPSTREAM_VETS": "eureka+http://VETS"},
        ),
        (
            "a.yml",
            (
                "services: {u: {labels: {traefik.http.routers.r.rule: 'HostRegexp(`{tenant:[a-z]+}.example.com`)', "
                "traefik.http.services.u.loadbalancer.sticky.cookie: 'true', "
                "traefik.http.services.u.loadbalancer.sticky.cookie.name: sid, "
                "traefik.http.services.u.loadbalancer.sticky.cookie.secure: 'true'}}}"
            ),
            {"ROUTE_R": "{tenant}.example.com/** -> u", "UPSTREAM_U__BALANCE": "sticky:sid"},
        ),
    ],
)
def test_shares_cookies_registries_and_labels_are_said(name: str, text: str, variables: dict[str, str]) -> None:
    draft = import_text(text, name).draft
    found = {word: draft.variables.get(f"GATEWAY_{word}") for word in variables}
    assert found == variables
    check(draft)


# -- guards -------------------------------------------------------------------------------------------------------

KONG_HEAD = "_format_version: '3.0'\nservices: [{name: u, url: 'http://u:1', routes: [{name: r, paths: [/r]}]}]\n"
GUARDED = {
    "nginx: of the location": ("a.conf", "location /r/ { auth_basic x; proxy_pass http://u; }"),
    "nginx: of the server": ("a.conf", "auth_request /auth; location /r/ { proxy_pass http://u; }"),
    "nginx: of the outer one": ("a.conf", "location /a/ { deny 1.2.3.4; location /r/ { proxy_pass http://u; } }"),
    "nginx: by an if": ("a.conf", 'location /r/ { if ($http_x_key != "s") { return 403; } proxy_pass http://u; }'),
    "nginx: by a word nobody knows": ("a.conf", "location /r/ { auth_pam x; proxy_pass http://u; }"),
    "nginx: of files": ("a.conf", "location /r/ { auth_basic x; root /srv; }"),
    "nginx: for some methods": ("a.conf", "location /r/ { limit_except GET { deny all; } proxy_pass http://u; }"),
    "kong: of the route": (
        "a.yml",
        KONG_HEAD.replace("paths: [/r]", "paths: [/r], plugins: [{name: key-auth}]"),
    ),
    "kong: of all": ("a.yml", KONG_HEAD + "plugins: [{name: basic-auth}]\n"),
    "kong: of a service by its name": ("a.yml", KONG_HEAD + "plugins: [{name: acl, service: u}]\n"),
    "kong: of a route by its name": ("a.yml", KONG_HEAD + "plugins: [{name: my-oidc, route: r}]\n"),
    "krakend: of the endpoint": (
        "a.json",
        (
            '{"version": 3, "endpoints": [{"endpoint": "/r", "backend": [{"host": ["http://u"], "url_pattern": "/r"}], '
            '"extra_config": {"auth/validator": {"alg": "RS256", "jwk_url": "http://x/k"}}}]}'
        ),
    ),
    "krakend: an algorithm that is refused": (
        "a.json",
        (
            '{"version": 3, "endpoints": [{"endpoint": "/r", "backend": [{"host": ["http://u"], "url_pattern": "/r"}], '
            '"extra_config": {"auth/validator": {"alg": "ROT13", "issuer": "https://x/"}}}]}'
        ),
    ),
    "ocelot: of all": (
        "a.json",
        (
            '{"Routes": [{"UpstreamPathTemplate": "/r", "DownstreamPathTemplate": "/r", "DownstreamHostAndPorts": '
            '[{"Host": "u", "Port": 1}]}], "GlobalConfiguration": {"SecurityOptions": {"IPAllowedList": ["1.2.3.4"]}}}'
        ),
    ),
    "spring: a filter of one's own": (
        "a.yml",
        (
            "spring: {cloud: {gateway: {routes: [{id: r, uri: 'http://u', predicates: ['Path=/r/**'], "
            "filters: ['AuthenticationFilter']}]}}}"
        ),
    ),
    "spring: security": (
        "a.yml",
        (
            "spring: {security: {user: {name: x}}, cloud: {gateway: {routes: [{id: r, uri: 'http://u', "
            "predicates: ['Path=/r/**']}]}}}"
        ),
    ),
    "traefik: in a chain": (
        "a.yml",
        (
            "services: {u: {labels: {traefik.http.routers.r.rule: 'PathPrefix(`/r`)', "
            "traefik.http.routers.r.middlewares: c, traefik.http.middlewares.c.chain.middlewares: 'x,a', "
            "traefik.http.middlewares.x.compress: 'true', "
            "traefik.http.middlewares.a.forwardauth.address: 'http://auth'}}}"
        ),
    ),
    "traefik: of another file": (
        "a.yml",
        (
            "services: {u: {labels: {traefik.http.routers.r.rule: 'PathPrefix(`/r`)', "
            "traefik.http.routers.r.middlewares: 'auth@file'}}}"
        ),
    ),
}


@pytest.mark.parametrize("case", GUARDED)
def test_a_route_whose_guard_cannot_be_said_is_closed_and_says_why(case: str) -> None:
    name, text = GUARDED[case]
    if name == "a.conf":
        text = f"server {{ listen 80; {text} location / {{ proxy_pass http://rest; }} }}"
    draft = import_text(text, name).draft
    check(draft)
    lines = [value for name, value in draft.variables.items() if "_ROUTE_" in name and "/r" in value.split(" ->")[0]]
    assert [line.partition(" -> ")[2] for line in lines] == ["403"], draft.variables
    assert draft.left[0].weight is Weight.ACCESS
    printed = "\n".join(draft.lines("title", shell=False))
    assert "# closed: [access] line " in printed
    assert not [name for name in draft.variables if name.startswith("GATEWAY_ROUTE_R_")]


@pytest.mark.parametrize(
    "text",
    [
        "location /r/ { auth_basic off; proxy_pass http://u; }",
        "auth_basic x; location /r/ { auth_basic off; proxy_pass http://u; }",
        "deny all; location /r/ { allow all; proxy_pass http://u; }",
        "location /r/ { limit_conn x 5; proxy_pass http://u; }",
        "location /other/ { deny 1.2.3.4; proxy_pass http://u; } location /r/ { proxy_pass http://u; }",
    ],
)
def test_who_is_let_in_there_is_let_in_here(text: str) -> None:
    draft = import_text(f"server {{ listen 80; {text} }}", "a.conf").draft
    assert draft.variables["GATEWAY_ROUTE_R"] == "/r/** -> u"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("location /r/ { deny all; }", "/r/** -> 403"),
        ("location = /r { internal; proxy_pass http://u; }", "/r -> 404"),
        ("location /r/ { return 301 https://example.com$request_uri; }", "/r/** -> 301 https://example.com/r/**"),
    ],
)
def test_what_is_refused_there_is_refused_here(text: str, line: str) -> None:
    draft = import_text(f"server {{ listen 80; {text} }}", "a.conf").draft
    assert draft.variables["GATEWAY_ROUTE_R"] == line
    check(draft)


_KRAKEND = {
    "endpoint": "/a",
    "method": "POST",
    "backend": [{"url_pattern": "/a", "method": "PUT", "host": ["http://a"]}],
}
_OCELOT = {"UpstreamPathTemplate": "/a{x}b{y}", "DownstreamPathTemplate": "/", "ServiceName": "a"}
_SPRING = "spring: {cloud: {gateway: {routes: [{id: w, uri: 'http://w', predicates: [Path=/w]}, "
_TRAEFIK = "services: {a: {labels: ['traefik.http.routers.w.rule=Path(`/w`)', "
_KONG = "_format_version: '3.0'\nservices: [{name: w, url: 'http://w', routes: [{name: w, paths: [/w]}, "
LEFT_OUT = {
    "krakend": (
        json.dumps({"version": 3, "endpoints": [_KRAKEND | {"extra_config": {"auth/validator": {}}}]}),
        "POST /a",
    ),
    "krakend without a guard": (json.dumps({"version": 3, "endpoints": [_KRAKEND]}), ""),
    "ocelot": (json.dumps({"Routes": [_OCELOT | {"AuthenticationOptions": {"Key": "b"}}]}), "/a{x}b{y}"),
    "ocelot without a guard": (json.dumps({"Routes": [_OCELOT]}), ""),
    "spring": (
        f"{_SPRING}{{id: a, uri: 'http://a', predicates: [After=x], filters: [JwtAuthentication]}}]}}}}}}",
        "route a",
    ),
    "spring, some clients": (
        f"{_SPRING}{{id: a, uri: 'http://a', predicates: [RemoteAddr=10.0.0.0/8]}}]}}}}}}",
        "route a",
    ),
    "spring without a guard": (f"{_SPRING}{{id: a, uri: 'http://a', predicates: [After=x]}}]}}}}}}", ""),
    "traefik": (
        f"{_TRAEFIK}'traefik.http.routers.a.rule=PathRegexp(`a.`)', 'traefik.http.routers.a.middlewares=m']}}}}",
        "router a",
    ),
    "traefik, some clients": (f"{_TRAEFIK}'traefik.http.routers.a.rule=ClientIP(`10.0.0.1`)']}}}}", "router a"),
    "traefik without a guard": (f"{_TRAEFIK}'traefik.http.routers.a.rule=PathRegexp(`a.`)']}}}}", ""),
    "kong": (
        f"{_KONG}{{name: a, paths: [/a], headers: {{x: ['~*a']}}, plugins: [{{name: basic-auth}}]}}]}}]",
        "route a",
    ),
    "kong, some clients": (f"{_KONG}{{name: a, paths: [/a], sources: [{{ip: 10.0.0.0/8}}]}}]}}]", "route a"),
    "kong without a guard": (f"{_KONG}{{name: a, paths: [/a], headers: {{x: ['~*a']}}}}]}}]", ""),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_a_guarded_route_that_is_left_out_is_about_access(case: str) -> None:
    """A wider route may get its requests, and asks nothing."""
    text, route = LEFT_OUT[case]
    kind = case.partition(",")[0].partition(" ")[0]
    wide = json.loads(text) if kind in {"krakend", "ocelot"} else None
    if kind == "krakend" and wide:
        wide["endpoints"].append({"endpoint": "/w", "backend": [{"url_pattern": "/w", "host": ["http://w"]}]})
    elif wide:
        wide["Routes"].append({"UpstreamPathTemplate": "/w", "DownstreamPathTemplate": "/w", "ServiceName": "w"})
    left = import_text(json.dumps(wide) if wide else text, "x", kind).draft.left
    assert [one for one in left if one.weight is Weight.ROUTING]
    told = [one.text for one in left if one.text.endswith("other routes have its requests, and let in")]
    assert told == ([f"{route}: other routes have its requests, and let in"] if route else [])


def test_a_folder_is_sent_where_it_is_there() -> None:
    text = "server { listen 80; root /srv; location /r/ { index index.html; } location = /x.txt { } }"
    there = import_text(text, "a.conf", is_there=lambda path, is_folder: True).draft
    assert there.variables["GATEWAY_ROUTE_R"] == "GET /r/** -> file:/srv/r/**"
    assert there.variables["GATEWAY_ROUTE_X_TXT"] == "GET /x.txt -> file:/srv/x.txt"
    with pytest.raises(SourceError):
        import_text(text, "a.conf")


def test_a_page_stands_in_where_it_is_there() -> None:
    text = "server { listen 80; root /srv; error_page 502 503 /50x.html; location /r/ { proxy_pass http://u; } }"
    there = import_text(text, "a.conf", is_there=lambda path, is_folder: True).draft
    assert there.variables["GATEWAY_ROUTE_R__ON_502"] == "file:/srv/50x.html"
    assert there.left == []
    away = import_text(text, "a.conf").draft
    assert "GATEWAY_ROUTE_R__ON_502" not in away.variables
    assert "# GATEWAY_ROUTE_R__ON_502=file:/srv/50x.html" in away.lines("title", shell=False)
    check(away)


def test_a_termination_of_kong_is_a_status() -> None:
    text = KONG_HEAD + "plugins: [{name: request-termination, route: r, config: {status_code: 410, body: gone}}]\n"
    draft = import_text(text, "a.yml").draft
    assert draft.variables["GATEWAY_ROUTE_R"] == "/r/** -> 410"
    assert draft.variables["GATEWAY_ROUTE_R__BODY"] == "gone"
    check(draft)


def test_an_issuer_of_spring_security_guards_all() -> None:
    text = (
        "spring: {security: {oauth2: {resourceserver: {jwt: {issuer-uri: 'https://id.test/'}}}}, cloud: {gateway: "
        "{routes: [{id: r, uri: 'http://u', predicates: ['Path=/r/**'], filters: ['RedirectTo=302, https://x.test/']}]}}}"
    )
    draft = import_text(text, "a.yml").draft
    assert draft.variables["GATEWAY_AUTH"] == "token"
    assert draft.variables["GATEWAY_AUTH_TOKEN"] == "jwt https://id.test/"
    assert draft.variables["GATEWAY_ROUTE_R"] == "/r/** -> 302 https://x.test/"
    check(draft)


# -- files that cannot be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", "expected a name in quotes, found 'the end of the file'"),
        ("a.json", '{"endpoints": [,]}', "line 1: expected a value"),
        ("a.json", "\x00", "this is not"),
        ("a.json", '{"a": 1}', "not recognised"),
        ("a.yml", "a: [1", "this is not YAML"),
        ("a.yml", "a: &b [*b]", "refers to itself"),
        ("a.yml", "just text", "not recognised"),
        ("a.yml", "", "not recognised"),
        ("a.json", "[" * 5000, "nested more than"),
        ("a.conf", "server { location / { proxy_pass http://a;", "does not end"),
        ("a.conf", "server {\n listen 80\n}", "line 2: listen does not end in ;"),
        ("a.conf", "server { location / { return 200; } ", "does not end"),
        ("a.conf", "server { location ~ x { proxy_pass http://a; } }", "no route of this nginx configuration"),
        ("a.json", '{"version": 3, "endpoints": []}', "no route of this KrakenD configuration"),
        ("a.yml", " " * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, text: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        import_text(text, name)
    assert words in str(caught.value)


def test_a_small_file_of_aliases_does_not_become_a_large_one() -> None:
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(SourceError) as caught:
        import_text("\n".join(lines), "a.yml")
    assert "values, aliases counted" in str(caught.value)


def test_another_version_is_read_and_told() -> None:
    _, text = FILES["krakend"]
    draft = import_text(text.replace('"version": 3', '"version": 9'), "a.json").draft
    assert any("version 9 is not known" in one.text for one in draft.left)


@pytest.mark.parametrize("name", ["a.json", "a.yml", "a.conf"])
@given(text=st.one_of(st.text(max_size=200), st.text("{}[]:;,\"'#&*!- \n\tserver location/proxy_pass0", max_size=200)))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_text_is_read_or_refused(name: str, text: str) -> None:
    for word in WORDS:
        with contextlib.suppress(SourceError):
            check(import_text(text, name, word).draft)


AS_READ = {
    "krakend": '{"endpoints": [{"endpoint": "/a b/é", "backend": [{"host": ["http://u"]}]}]}',
    "kong": "services: [{name: u, url: 'http://u', routes: [{paths: [/a b/é], strip_path: false}]}]",
    "ocelot": """{"Routes": [{"UpstreamPathTemplate": "/a b/é", "DownstreamPathTemplate": "/a b/é",
                 "DownstreamHostAndPorts": [{"Host": "u", "Port": 80}]}]}""",
    "spring": "spring: {cloud: {gateway: {routes: [{uri: 'http://u', predicates: [Path=/a b/é]}]}}}",
    "traefik": """services: {u: {labels: {traefik.http.routers.u.rule: "Path(`/a b/é`)",
                  traefik.http.services.u.loadbalancer.server.port: 80}}}""",
    "nginx": 'http { server { listen 80; location = "/a b/é" { proxy_pass http://u; } } }',
}


@pytest.mark.parametrize("word", AS_READ)
def test_a_path_with_a_space_is_one_path(word: str) -> None:
    draft = import_text(AS_READ[word], "a.yml", word).draft
    check(draft)
    routes = [
        value for name, value in draft.variables.items() if name.startswith("GATEWAY_ROUTE_") and "__" not in name
    ]
    assert [route.partition(" -> ")[0].removeprefix("GET ") for route in routes] == [
        "/a%20b/%C3%A9" + ("/**" if word == "kong" else "")
    ]


# -- files that somebody has changed ------------------------------------------------------------------------------

ODD: list[Any] = [
    None,
    True,
    -1,
    3.5,
    "",
    "x",
    "{",
    "a b\nc",
    "http://",
    "lb://x",
    "/{id",
    "0",
    "9" * 30,
    [],
    {},
    [[]],
    {"a": [{}]},
]


def places_of(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [above, *(place for key, child in children for place in places_of(child, (*above, key)))]


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    if not place:
        return odd
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = odd
    return value


@pytest.mark.parametrize("word", ["krakend", "kong", "ocelot", "spring", "traefik"])
def test_an_odd_value_anywhere_is_left_or_refused_and_what_is_made_loads(word: str) -> None:
    _, text = FILES[word]
    comments = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//"))
    document = yaml.safe_load(comments)
    for number, place in enumerate(places_of(document)[1:]):
        for odd in (ODD[(5 * number + step) % len(ODD)] for step in (0, 4, 9)):  # every one meets many places
            try:
                draft = import_text(json.dumps(changed(document, place, odd)), "a.json", word).draft
            except SourceError:
                continue
            check(draft)


def test_words_of_nginx_may_be_missing_or_odd_anywhere() -> None:
    _, text = FILES["nginx"]
    words = text.split(" ")
    for number, word in enumerate(words):
        for odd in (("", "x", "$a", "9999999999", "http://", "-1", '""')[number % 7], "x y"):
            if word.strip() and not set(word) & set("{};"):
                try:
                    draft = import_text(" ".join([*words[:number], odd, *words[number + 1 :]]), "a.conf", "nginx").draft
                except SourceError:
                    continue
                check(draft)
