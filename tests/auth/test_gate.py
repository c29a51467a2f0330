"""The gate in a whole application: who is let in, what is answered, what reaches the service."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import bcrypt
import orjson
import pytest

from gateway.http.request import GatewayRequest
from gateway.routing import fetch, proxy, route
from gateway.routing.faults import RouteError
from tests.auth.issuer import ISSUER, claims, jwk, key_set, part, token
from tests.auth.serving import Gateway, Service, all_of, field, gateway, reason, service

SECRET = "0123456789abcdef0123456789abcdef"
ACME, GLOBEX = sha256(b"acme-key").hexdigest(), sha256(b"globex-key").hexdigest()
KEYS = f"acme sha256:{ACME} partner tenant=acme\nglobex sha256:{GLOBEX}"
HASHED = bcrypt.hashpw("pässword".encode(), bcrypt.gensalt(4)).decode()
USERS = f"ann:{HASHED}\nbot sha256:{sha256(b'robot').hexdigest()} staff"
WAYS = {
    "AUTH_TOKEN": f"jwt {ISSUER}",
    "AUTH_TOKEN__JWKS": key_set(jwk("ES256", "1")).decode(),
    "AUTH_TOKEN__ALGORITHMS": "ES256",
    "AUTH_TOKEN__AUDIENCE": "shop-api",
    "AUTH_TOKEN__HEADER_X_USER": "{claim.sub}",
    "AUTH_TOKEN__HEADER_X_ROLES": "{roles}",
    "AUTH_KEYS": "keys",
    "AUTH_KEYS__KEYS": KEYS,
    "AUTH_KEYS__HEADER_X_TENANT": "{claim.tenant}",
    "AUTH_PAGE": "basic",
    "AUTH_PAGE__USERS": USERS,
    "AUTH_PAGE__FROM": "header:authorization header:x-basic",
    "AUTH_SSO": "ask sso:/verify",
    "AUTH_SSO__COPY": "x-auth-user x-groups",
    "AUTH_SSO__ROLES_CLAIM": "x-groups",
    "AUTH_COOKIE": f"jwt {ISSUER}",
    "AUTH_COOKIE__JWKS": key_set(jwk("ES256", "1")).decode(),
    "AUTH_COOKIE__ALGORITHMS": "ES256",
    "AUTH_COOKIE__FROM": "cookie:session header:x-session",
    "AUTH_OWN": "python tests.auth.own.check",
}
ROUTES = {
    "UPSTREAM_GUARDED": "",
    "ROUTE_OPEN": "/open/** -> u",
    **{f"ROUTE_{name}": f"/{name.lower()}/** -> u" for name in ("TOKEN", "KEYS", "PAGE", "SSO", "COOKIE", "OWN")},
    **{f"ROUTE_{name}__AUTH": name.lower() for name in ("TOKEN", "KEYS", "PAGE", "SSO", "COOKIE", "OWN")},
    "ROUTE_EITHER": "/either/** -> u",
    "ROUTE_EITHER__AUTH": "token keys",
    "ROUTE_BOTH": "/both/** -> u",
    "ROUTE_BOTH__AUTH": "token+keys",
    "ROUTE_MAYBE": "/maybe/** -> u",
    "ROUTE_MAYBE__AUTH": "token?",
    "ROUTE_ADMIN": "/admin/** -> u",
    "ROUTE_ADMIN__AUTH": "token keys",
    "ROUTE_ADMIN__ROLES": "admin partner",
    "ROUTE_SCOPED": "/scoped/** -> u",
    "ROUTE_SCOPED__AUTH": "token?",
    "ROUTE_SCOPED__SCOPES": "orders:read orders:write",
    "ROUTE_CORS": "/cors/** -> u",
    "ROUTE_CORS__AUTH": "token",
    "ROUTE_CORS__CORS": "https://app.example.com",
    "ROUTE_COOKIECORS": "/cookiecors/** -> u",
    "ROUTE_COOKIECORS__AUTH": "cookie",
    "ROUTE_COOKIECORS__CORS": "https://app.example.com",
    "ROUTE_COOKIEANY": "/cookieany/** -> u",
    "ROUTE_COOKIEANY__AUTH": "cookie",
    "ROUTE_COOKIEANY__CORS": "*",
}


@pytest.fixture
async def upstream() -> AsyncIterator[Service]:
    async with service() as found:
        yield found


@pytest.fixture
async def sso() -> AsyncIterator[Service]:
    async with service() as found:
        yield found


@pytest.fixture
async def gw(upstream: Service, sso: Service) -> AsyncIterator[Gateway]:
    urls = {"UPSTREAM_U": upstream.url, "UPSTREAM_SSO": sso.url, "UPSTREAM_GUARDED": upstream.url}
    async with gateway({**WAYS, **ROUTES, **urls}) as found:
        yield found


def bearer(text: bytes) -> tuple[str, str]:
    return ("Authorization", f"Bearer {text.decode()}")


def signed(kid: str = "1", number: int = 0, **more: Any) -> tuple[str, str]:
    return bearer(token(claims(**more), "ES256", kid=kid, number=number))


def basic(name: str, password: str) -> tuple[str, str]:
    return ("Authorization", f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}")


BEARER, INVALID = 'Bearer realm="portway"', 'Bearer error="invalid_token"'
API_KEY, BASIC = 'ApiKey realm="portway"', 'Basic realm="portway", charset="UTF-8"'


# -- way x outcome x answer ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "status", "word", "challenge", "counted"),
    [
        ("/token/", [], 401, "auth_missing", [BEARER], ("token", "missing")),
        ("/token/", [basic("ann", "x")], 401, "auth_missing", [BEARER], ("token", "missing")),
        ("/token/", [bearer(b"garbage")], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/token/", [signed(iss="https://other")], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/token/", [signed(aud="other")], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/token/", [signed(number=5)], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/token/", [signed(kid="9")], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/token/", [signed(exp=1)], 401, "auth_expired", [INVALID], ("token", "expired")),
        ("/keys/", [], 401, "auth_missing", [API_KEY], ("keys", "missing")),
        ("/keys/", [("X-Api-Key", "guess")], 401, "auth_invalid", [API_KEY], ("keys", "invalid")),
        ("/page/", [], 401, "auth_missing", [BASIC], ("page", "missing")),
        ("/page/", [basic("ann", "guess")], 401, "auth_invalid", [BASIC], ("page", "invalid")),
        ("/page/", [basic("mallory", "guess")], 401, "auth_invalid", [BASIC], ("page", "invalid")),
        ("/page/", [("Authorization", "Basic !!")], 401, "auth_invalid", [BASIC], ("page", "invalid")),
        ("/cookie/", [("Cookie", "session=x")], 401, "auth_invalid", [INVALID], ("cookie", "invalid")),
        ("/own/", [], 401, "auth_missing", [BEARER], ("own", "missing")),
        ("/own/", [("X-Own", "expired")], 401, "auth_expired", [BEARER], ("own", "expired")),
        ("/own/", [("X-Own", "away")], 503, "auth_unavailable", [], ("own", "unavailable")),
        ("/either/", [], 401, "auth_missing", [BEARER, API_KEY], ("token", "missing")),
        ("/either/", [("X-Api-Key", "guess")], 401, "auth_invalid", [BEARER, API_KEY], ("keys", "invalid")),
        ("/either/", [signed(iss="https://x")], 401, "auth_invalid", [INVALID, API_KEY], ("token", "invalid")),
        ("/both/", [signed()], 401, "auth_missing", [BEARER, API_KEY], ("keys", "missing")),
        ("/maybe/", [bearer(b"garbage")], 401, "auth_invalid", [INVALID], ("token", "invalid")),
        ("/scoped/", [], 401, "auth_missing", [BEARER], ("token", "missing")),
        ("/admin/", [signed()], 403, "auth_forbidden", ['Bearer error="insufficient_scope"'], ("token", "forbidden")),
        ("/admin/", [("X-Api-Key", "globex-key")], 403, "auth_forbidden", [], ("keys", "forbidden")),
        (
            *("/scoped/", [signed(scope="orders:read")], 403, "auth_forbidden"),
            *(['Bearer error="insufficient_scope", scope="orders:read orders:write"'], ("token", "forbidden")),
        ),
    ],
)
async def test_who_is_refused_is_told_why(
    gw: Gateway,
    upstream: Service,
    path: str,
    fields: list[Any],
    status: int,
    word: str,
    challenge: list[str],
    counted: Any,
) -> None:
    answer = await gw.ask(path, *fields)
    assert (answer.status, reason(answer)) == (status, word)
    assert all_of(answer, "www-authenticate") == challenge
    assert all_of(answer, "cache-control") == ["no-store"]
    assert all_of(answer, "content-type") == ["application/problem+json"]
    assert (gw.last.reason, gw.last.auth) == (word, counted[0])
    assert gw.counts == {counted: 1}
    assert upstream.requests == []
    if status == 503:
        assert all_of(answer, "retry-after")
    for _, value in fields:
        secret = value.rpartition(" ")[2].rpartition("=")[2]
        assert secret in {"x", "", "expired", "away"} or secret.encode() not in answer.body
        assert secret in {"x", "", "expired", "away"} or secret not in str(gw.last.cause)


@pytest.mark.parametrize(
    ("path", "fields", "way", "name"),
    [
        ("/token/", [signed()], "token", "alice"),
        ("/keys/", [("X-Api-Key", "acme-key")], "keys", "acme"),
        ("/page/", [basic("ann", "pässword")], "page", "ann"),
        ("/page/", [basic("bot", "robot")], "page", "bot"),
        ("/cookie/", [("Cookie", f"a=b; session={token(claims(), 'ES256').decode()}")], "cookie", "alice"),
        ("/own/", [("X-Own", "carol")], "own", "carol"),
        ("/either/", [("X-Api-Key", "acme-key")], "keys", "acme"),
        ("/either/", [signed(iss="https://other"), ("X-Api-Key", "acme-key")], "keys", "acme"),
        ("/both/", [signed(), ("X-Api-Key", "acme-key")], "token", "alice"),
        ("/maybe/", [signed()], "token", "alice"),
        ("/admin/", [signed(roles=["admin"])], "token", "alice"),
        ("/admin/", [("X-Api-Key", "acme-key")], "keys", "acme"),
        ("/scoped/", [signed(scp=["orders:read", "orders:write"])], "token", "alice"),
    ],
)
async def test_who_is_let_in_is_known(
    gw: Gateway, upstream: Service, path: str, fields: list[Any], way: str, name: str
) -> None:
    for _ in range(2):  # the second one by what was found a moment ago
        answer = await gw.ask(path, *fields)
        assert answer.status == 200
        assert (gw.last.auth, gw.last.identity, gw.last.reason) == (way, name, None)
    assert gw.counts[way, "passed"] == 2
    assert len(upstream.requests) == 2


async def test_nobody_need_be_known_where_a_way_may_be_missing(gw: Gateway, upstream: Service) -> None:
    assert (await gw.ask("/maybe/")).status == 200
    assert (gw.last.auth, gw.last.identity) == (None, None)
    assert gw.counts == {("-", "passed"): 1}


async def test_routes_without_a_way_ask_nobody(gw: Gateway, upstream: Service) -> None:
    assert (await gw.ask("/open/", bearer(b"garbage"))).status == 200
    assert gw.counts == {}


# -- what goes up -------------------------------------------------------------------------------------------------


async def test_fields_go_up_for_who_asks(gw: Gateway, upstream: Service) -> None:
    await gw.ask("/token/", signed(roles=["admin", "ops"]))
    await gw.ask("/keys/", ("X-Api-Key", "acme-key"))
    first, second = upstream.requests
    assert (field(first, "x-user"), field(first, "x-roles"), field(first, "x-tenant")) == ("alice", "admin,ops", None)
    assert (field(second, "x-user"), field(second, "x-tenant")) == (None, "acme")
    # A credential goes on: services may want it.
    assert (field(first, "authorization") or "").startswith("Bearer ")
    assert field(second, "x-api-key") == "acme-key"


@pytest.mark.parametrize("path", ["/token/", "/keys/", "/maybe/", "/open/", "/page/"])
@pytest.mark.parametrize(
    "name", ["X-User", "X_User", "x.user", "X-Tenant", "x_tenant", "X-Auth-User", "X_Groups", "x!roles"]
)
async def test_no_client_says_who_it_is(gw: Gateway, upstream: Service, path: str, name: str) -> None:
    """On all routes, also without a way, and where there is no value to put there."""
    credentials = {
        "/token/": [signed(sub=None)],
        "/keys/": [("X-Api-Key", "globex-key")],
        "/page/": [basic("bot", "robot")],
    }
    answer = await gw.ask(path, *credentials.get(path, []), (name, "root"), ("X-Users", "fine"))
    assert answer.status == 200
    (got,) = upstream.requests
    assert "root" not in [value for _, value in got["fields"]]
    assert field(got, "x-users") == "fine"


async def test_the_fields_of_a_credential_pass_unless_their_way_let_it_in(upstream: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "ROUTE_A": "/a/** -> u", "ROUTE_A__AUTH": "keys", "ROUTE_B": "/b/** -> u",
        "ROUTE_C": "/c/** -> u", "ROUTE_C__AUTH": "token",
        "AUTH_KEYS": "keys", "AUTH_KEYS__KEYS": KEYS, "AUTH_KEYS__HEADER_AUTHORIZATION": "Basic {user}",
        "AUTH_KEYS__HEADER_X_API_KEY": "-",
        "AUTH_TOKEN": f"jwt {ISSUER}", "AUTH_TOKEN__SECRET": SECRET, "AUTH_TOKEN__ALGORITHMS": "HS256",
    }  # fmt: skip
    async with gateway(environ) as gw:
        text = bearer(token(claims(), "HS256", key=SECRET.encode()))
        await gw.ask("/a/", ("X-Api-Key", "acme-key"), ("Authorization", "Bearer forged"))
        await gw.ask("/b/", ("X-Api-Key", "acme-key"), ("Authorization", "Bearer own"))
        await gw.ask("/c/", ("X-Api-Key", "x"), text)
    one, two, three = upstream.requests
    assert (field(one, "authorization"), field(one, "x-api-key")) == ("Basic acme", None)
    assert (field(two, "authorization"), field(two, "x-api-key")) == ("Bearer own", "acme-key")
    assert (field(three, "authorization"), field(three, "x-api-key")) == (text[1], "x")


async def test_the_field_of_a_way_beats_all_levels(upstream: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "UPSTREAM_U__HEADER_X_USER": "upstream", "ROUTE_A": "/a/** -> u",
        "ROUTE_A__HEADER_X_USER": "route", "ROUTE_A__AUTH": "keys?", "AUTH_KEYS": "keys", "AUTH_KEYS__KEYS": KEYS,
        "AUTH_KEYS__HEADER_X_USER": "{user}",
    }  # fmt: skip
    async with gateway(environ) as gw:
        await gw.ask("/a/", ("X-Api-Key", "acme-key"))
        await gw.ask("/a/", ("X-User", "root"))
    assert [field(got, "x-user") for got in upstream.requests] == ["acme", "route"]


async def test_values_that_cannot_stand_in_a_field_set_nothing(gw: Gateway, upstream: Service) -> None:
    await gw.ask("/token/", signed(sub="a\r\nx-admin: 1", roles=["a,b", "c"]), ("X-User", "root"))
    (got,) = upstream.requests
    assert (field(got, "x-user"), field(got, "x-admin"), field(got, "x-roles")) == (None, None, "c")


# -- bodies, methods, origins -------------------------------------------------------------------------------------


async def test_the_body_of_a_refused_request_is_not_read(gw: Gateway, upstream: Service) -> None:
    async def receive() -> Any:
        raise AssertionError("nobody reads the body of a refused request")

    from tests.application import Answered, scope_of

    answered = Answered()
    fields = [(b"content-length", b"20000000")]
    await gw.handler(scope_of("POST", "/token/", fields), receive, answered.take)
    assert (answered.status, upstream.requests) == (401, [])
    assert (b"connection", b"close") in answered.pairs


@pytest.mark.parametrize(
    "fields",
    [
        [signed(), basic("ann", "x")],
        [signed(), signed()],
        [("Authorization", "x"), ("Authorization", "y")],
    ],
)
async def test_two_authorization_lines_are_refused(gw: Gateway, upstream: Service, fields: list[Any]) -> None:
    for path in ("/token/", "/keys/", "/maybe/"):
        answer = await gw.ask(path, *fields)
        assert (answer.status, reason(answer)) == (400, "header_invalid")
    assert upstream.requests == []


COOKIE = ("Cookie", f"session={token(claims(), 'ES256').decode()}")


@pytest.mark.parametrize(
    ("path", "origin", "method", "status"),
    [
        ("/cookie/", None, "POST", 200),
        ("/cookie/", "http://gateway.test", "POST", 200),
        ("/cookie/", "https://gateway.test", "DELETE", 200),
        ("/cookie/", "https://evil.example", "GET", 200),
        ("/cookie/", "https://evil.example", "POST", 403),
        ("/cookie/", "https://evil.example", "DELETE", 403),
        ("/cookie/", "https://gateway.test.evil.example", "POST", 403),
        ("/cookie/", "null", "POST", 403),
        ("/cookie/", "https://app.example.com", "POST", 403),
        ("/cookiecors/", "https://app.example.com", "POST", 200),
        ("/cookiecors/", "https://evil.example", "POST", 403),
        ("/cookieany/", "https://evil.example", "POST", 403),
    ],
)
async def test_a_cookie_counts_from_pages_of_our_own(
    gw: Gateway, upstream: Service, path: str, origin: str | None, method: str, status: int
) -> None:
    fields = [COOKIE] if origin is None else [COOKIE, ("Origin", origin)]
    answer = await gw.ask(path, *fields, method=method)
    assert answer.status == status
    assert len(upstream.requests) == (status == 200)
    if status == 403:
        assert reason(answer) == "origin_refused"
        assert (gw.last.auth, gw.last.identity) == ("cookie", "alice")
        assert gw.counts == {("cookie", "forbidden"): 1}


async def test_a_token_in_a_field_counts_from_any_page(gw: Gateway, upstream: Service) -> None:
    assert (await gw.ask("/token/", signed(), ("Origin", "https://evil.example"), method="POST")).status == 200
    assert (
        await gw.ask("/page/", basic("bot", "robot"), ("Origin", "https://evil.example"), method="POST")
    ).status == 403


async def test_a_cookie_that_is_not_the_credential_does_not_matter(gw: Gateway, upstream: Service) -> None:
    evil, theme = ("Origin", "https://evil.example"), ("Cookie", "theme=dark; sessions=1")
    in_field = ("X-Session", token(claims(), "ES256").decode())
    assert (await gw.ask("/cookie/", in_field, theme, evil, method="POST")).status == 200
    assert (await gw.ask("/cookie/", COOKIE, theme, evil, method="POST")).status == 403
    assert len(upstream.requests) == 1
    own = ("X-Basic", basic("bot", "robot")[1])  # nor does Basic where no browser puts it
    assert (await gw.ask("/page/", own, evil, method="POST")).status == 200


async def test_refusals_have_the_fields_of_cors(gw: Gateway) -> None:
    answer = await gw.ask("/cors/", ("Origin", "https://app.example.com"))
    assert answer.status == 401
    assert all_of(answer, "access-control-allow-origin") == ["https://app.example.com"]


async def test_preflights_are_not_asked_for_a_credential(gw: Gateway, upstream: Service) -> None:
    asks = [("Origin", "https://app.example.com"), ("Access-Control-Request-Method", "GET")]
    answer = await gw.ask("/cors/", *asks, method="OPTIONS")
    assert (answer.status, gw.counts) == (204, {})
    # Without origins of our own OPTIONS is a request like any other.
    assert (await gw.ask("/token/", *asks, method="OPTIONS")).status == 401
    assert upstream.requests == []


# -- another service is asked -------------------------------------------------------------------------------------


async def test_a_service_is_asked_without_the_body(gw: Gateway, upstream: Service, sso: Service) -> None:
    sso.fields["/verify"] = [("X-Auth-User", "dora"), ("X-Groups", "dev,ops"), ("X-Other", "x"), ("Set-Cookie", "a=b")]
    big = b"x" * 2_000_000
    answer = await gw.ask(
        *("/sso/a?b=c", ("Cookie", "s=1"), ("Authorization", "Bearer t"), ("X-Tenant", "y"), ("X-Auth-User", "root")),
        method="POST",
        body=big,
    )
    assert answer.status == 200
    (asked,), (got,) = sso.requests, upstream.requests
    assert (asked["method"], asked["path"], asked["body"], got["method"]) == ("GET", "/verify", "", "POST")
    told = {"x-forwarded-method": "POST", "x-forwarded-uri": "/sso/a?b=c", "cookie": "s=1", "authorization": "Bearer t"}
    assert {name: field(asked, name) for name in told} == told
    assert field(asked, "x-forwarded-host") == "gateway.test"
    assert field(asked, "x-forwarded-proto") == "http"
    assert field(asked, "x-forwarded-for") == "127.0.0.1"
    for name in ("content-length", "content-type", "transfer-encoding", "x-tenant", "x-auth-user"):
        assert field(asked, name) is None
    assert (field(got, "x-auth-user"), field(got, "x-groups"), field(got, "x-other")) == ("dora", "dev,ops", None)
    assert len(got["body"]) == len(big)
    assert (gw.last.auth, gw.last.identity) == ("sso", "dora")


async def test_what_the_service_lacks_is_not_taken_from_the_client(
    gw: Gateway, upstream: Service, sso: Service
) -> None:
    await gw.ask("/sso/", ("X-Auth-User", "root"), ("X_Groups", "admin"), ("x.groups", "admin"))
    (got,) = upstream.requests
    assert not {"root", "admin"} & {value for _, value in got["fields"]}
    assert (gw.last.auth, gw.last.identity) == ("sso", None)


@pytest.mark.parametrize(
    ("status", "fields", "word", "counted"),
    [
        (401, [("WWW-Authenticate", "Custom x"), ("WWW-Authenticate", "Bearer")], "auth_missing", "missing"),
        (302, [("Location", "https://id.example/login?rd=x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
         "auth_missing", "missing"),
        (403, [], "auth_forbidden", "forbidden"),
    ],
)  # fmt: skip
async def test_what_the_service_says_goes_down_whole(
    gw: Gateway, upstream: Service, sso: Service, status: int, fields: list[Any], word: str, counted: str
) -> None:
    sso.status["/verify"] = status
    sso.fields["/verify"] = [*fields, ("Cache-Control", "public, max-age=60"), ("X-More", "1")]
    answer = await gw.ask("/sso/")
    assert answer.status == status
    for name in ("www-authenticate", "location", "set-cookie"):
        assert all_of(answer, name) == [value for found, value in fields if found.lower() == name]
    assert all_of(answer, "cache-control") == ["no-store"]
    assert orjson.loads(answer.body)["path"] == "/verify"
    assert (gw.last.reason, gw.last.auth, gw.last.status) == (word, "sso", status)
    assert gw.counts == {("sso", counted): 1}
    assert upstream.requests == []


@pytest.mark.parametrize("status", [400, 404, 405, 429, 500, 503])
async def test_anything_else_says_nothing_of_who_asks(
    gw: Gateway, upstream: Service, sso: Service, status: int
) -> None:
    sso.status["/verify"] = status
    answer = await gw.ask("/sso/", ("Authorization", "Bearer topsecret"))
    assert (answer.status, reason(answer), upstream.requests) == (503, "auth_unavailable", [])
    assert all_of(answer, "retry-after") == ["1"]
    assert gw.last.cause == f"sso answered {status}"
    assert b"topsecret" not in answer.body


async def test_a_service_that_is_away_is_not_a_refusal(upstream: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "UPSTREAM_SSO": "http://127.0.0.1:1", "AUTH_SSO": "ask sso:/verify",
        "ROUTE_A": "/** -> u", "AUTH": "sso",
    }  # fmt: skip
    async with gateway(environ) as gw:
        answer = await gw.ask("/")
        assert (answer.status, reason(answer)) == (503, "auth_unavailable")
        assert (gw.last.cause or "").startswith("connection_refused")
    assert upstream.requests == []


async def test_good_answers_hold_as_long_as_the_way_says(upstream: Service, sso: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "UPSTREAM_SSO": sso.url, "AUTH_SSO": "ask sso:/verify", "AUTH_SSO__CACHE": "1m",
        "AUTH_SSO__COPY": "x-auth-user", "ROUTE_A": "/** -> u", "AUTH": "sso",
    }  # fmt: skip
    sso.fields["/verify"] = [("X-Auth-User", "dora")]
    async with gateway(environ) as gw:
        for cookie in ("s=1", "s=1", "s=2", "s=1"):
            assert (await gw.ask("/a", ("Cookie", cookie))).status == 200
        assert len(sso.requests) == 2
        await gw.ask("/b", ("Cookie", "s=1"))  # what is asked for is a part of the question
        assert len(sso.requests) == 3
        sso.status["/verify"] = 401
        for _ in range(2):
            assert (await gw.ask("/a", ("Cookie", "s=3"))).status == 401
        assert len(sso.requests) == 5
        assert (await gw.ask("/a", ("Cookie", "s=1"))).status == 200
    assert {field(got, "x-auth-user") for got in upstream.requests} == {"dora"}


async def test_where_a_token_is_not_ours_the_service_is_asked(upstream: Service, sso: Service) -> None:
    urls = {"UPSTREAM_U": upstream.url, "UPSTREAM_SSO": sso.url, "ROUTE_A": "/** -> u", "AUTH": "token sso"}
    async with gateway(
        {**{name: value for name, value in WAYS.items() if name[:8] in {"AUTH_TOK", "AUTH_SSO"}}, **urls}
    ) as gw:
        assert (await gw.ask("/", signed())).status == 200
        assert sso.requests == []
        sso.status["/verify"] = 302
        sso.fields["/verify"] = [("Location", "/login")]
        assert (await gw.ask("/")).status == 302
        assert (await gw.ask("/", signed(exp=1))).status == 401
        assert len(sso.requests) == 1


# -- own Python ---------------------------------------------------------------------------------------------------


async def test_a_cookie_that_own_python_may_go_by_counts_from_pages_of_our_own(gw: Gateway, upstream: Service) -> None:
    fields = [("X-Own", "carol"), ("Origin", "https://evil.example")]
    assert (await gw.ask("/own/", *fields, method="POST")).status == 200
    answer = await gw.ask("/own/", *fields, ("Cookie", "session=1"), method="POST")
    assert reason(answer) == "origin_refused"
    assert len(upstream.requests) == 1


async def test_a_service_is_asked_with_the_values_that_its_upstream_sets(upstream: Service, sso: Service) -> None:
    environ = {
        **WAYS,
        "UPSTREAM_U": upstream.url,
        "UPSTREAM_SSO": sso.url,
        "UPSTREAM_SSO__HEADER_X_SHOP": "{header.x-shop|none}",
        "UPSTREAM_SSO__QUERY_PLACE": "{host}",
        "AUTH_SSO__CACHE": "60s",
        "ROUTE_A": "/a -> u",
        "ROUTE_A__AUTH": "sso",
    }
    async with gateway(environ) as gw:
        for shop in ("acme", "globex", "acme"):
            assert (await gw.ask("/a", ("X-Shop", shop), ("Cookie", "sid=1"))).status == 200
    asked = [(got["path"], field(got, "x-shop")) for got in sso.requests]
    assert asked == [("/verify?place=gateway.test", "acme"), ("/verify?place=gateway.test", "globex")]


async def test_what_own_python_raises_is_a_failure_and_lets_nobody_in(gw: Gateway, upstream: Service) -> None:
    assert (await gw.ask("/own/", ("X-Own", "raises"))).status == 500
    assert (await gw.ask("/own/", ("X-Own", "nonsense"))).status == 500
    assert upstream.requests == []
    assert (await gw.ask("/own/", ("X-Own", "denied"))).status == 403


async def test_own_python_takes_part_in_rules_and_roles(upstream: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "ROUTE_A": "/** -> u", "AUTH": "own", "ROLES": "boss",
        "AUTH_OWN": "python tests.auth.own.check", "AUTH_OWN__HEADER_X_USER": "{user}:{claim.level}",
    }  # fmt: skip
    async with gateway(environ) as gw:
        assert (await gw.ask("/", ("X-Own", "carol"))).status == 200
        assert (await gw.ask("/", ("X-Own", "clerk"))).status == 403
    assert [field(got, "x-user") for got in upstream.requests] == ["carol:7"]


@pytest.mark.parametrize(("said", "needs"), [("text", {"SCOPES": "orders:read"}), ("letters", {"ROLES": "b"})])
async def test_a_text_for_a_list_of_roles_or_scopes_lets_nobody_in(
    upstream: Service, said: str, needs: dict[str, str]
) -> None:
    """Each part of the text would be one of them."""
    environ = {"UPSTREAM_U": upstream.url, "ROUTE_A": "/** -> u", "AUTH_OWN": "python tests.auth.own.check"}
    async with gateway(environ | {"AUTH": "own"} | needs) as gw:
        assert (await gw.ask("/", ("X-Own", said))).status == 500
    assert upstream.requests == []


# -- levels, kinds of routes --------------------------------------------------------------------------------------


async def view(request: GatewayRequest) -> Any:
    who = request.identity
    return {
        "name": who and who.name,
        "way": who and who.way,
        "roles": who and who.roles,
        "x": request.headers.get("x-user"),
    }


async def asks(request: GatewayRequest) -> Any:
    return (await fetch("guarded:/fetched")).json()


def legacy_like(request: GatewayRequest) -> dict[str, Any]:
    return {"name": request.identity and request.identity.name}


async def test_views_see_who_asks(upstream: Service) -> None:
    from django.urls import path

    from gateway.routing import legacy

    lines = [
        route("/view", view), route("/mine", view, auth="token", roles="admin"), route("/free", view, auth="-"),
        route("/legacy", legacy(legacy_like)), path("django", view), route("/proxied/**", proxy("u")),
    ]  # fmt: skip
    environ = {**WAYS, "UPSTREAM_U": upstream.url, "UPSTREAM_SSO": upstream.url, "AUTH": "token keys"}
    async with gateway(environ, lines) as gw:
        for target in ("/view", "/legacy", "/django", "/mine", "/proxied/x"):
            assert (await gw.ask(target)).status == 401, target
        seen = orjson.loads((await gw.ask("/view", signed(roles=["a"]), ("X-User", "root"))).body)
        assert seen == {"name": "alice", "way": "token", "roles": ["a"], "x": "alice"}
        assert orjson.loads((await gw.ask("/django", ("X-Api-Key", "acme-key"))).body)["name"] == "acme"
        assert orjson.loads((await gw.ask("/legacy", ("X-Api-Key", "acme-key"))).body)["name"] == "acme"
        assert orjson.loads((await gw.ask("/free", ("X-User", "root"))).body) == dict.fromkeys(seen)
        assert (await gw.ask("/mine", ("X-Api-Key", "acme-key"))).status == 401
        assert (await gw.ask("/mine", signed())).status == 403
        assert (await gw.ask("/mine", signed(roles=["admin"]))).status == 200


async def test_the_nearest_level_holds_and_a_dash_takes_it_away(upstream: Service) -> None:
    environ = {
        "UPSTREAM_U": upstream.url, "UPSTREAM_V": upstream.url, "UPSTREAM_V__AUTH": "b", "UPSTREAM_W": upstream.url,
        "UPSTREAM_W__AUTH": "-", "AUTH": "a", "ROLES": "partner",
        **{f"AUTH_{name}": "keys" for name in "ABC"},
        **{f"AUTH_{name}__KEYS": KEYS for name in "ABC"},
        **{f"AUTH_{name}__FROM": f"header:x-{name.lower()}" for name in "ABC"},
        "ROUTE_U": "/u/** -> u", "ROUTE_V": "/v/** -> v", "ROUTE_W": "/w/** -> w",
        "ROUTE_VC": "/vc/** -> v", "ROUTE_VC__AUTH": "c", "ROUTE_VC__ROLES": "-",
        "ROUTE_VX": "/vx/** -> v", "ROUTE_VX__AUTH": "-",
    }  # fmt: skip
    lines = [route("/py/**", proxy("v"))]
    async with gateway(environ, lines) as gw:
        statuses = {}
        for target in ("/u/", "/v/", "/w/", "/vc/", "/vx/", "/py/"):
            found = [name for name in "abc" if (await gw.ask(target, (f"x-{name}", "acme-key"))).status == 200]
            statuses[target] = "".join(found)
        assert statuses == {"/u/": "a", "/v/": "b", "/w/": "abc", "/vc/": "c", "/vx/": "abc", "/py/": "b"}
        assert (await gw.ask("/v/", ("x-b", "globex-key"))).status == 403
        assert (await gw.ask("/vc/", ("x-c", "globex-key"))).status == 200


async def test_a_fan_out_asks_for_all_that_the_upstreams_of_its_parts_do(upstream: Service) -> None:
    ways = {
        **{f"AUTH_{name}": "keys" for name in "AB"}, **{f"AUTH_{name}__KEYS": KEYS for name in "AB"},
        **{f"AUTH_{name}__FROM": f"header:x-{name.lower()}" for name in "AB"}, "AUTH_A__HEADER_X_USER": "{user}",
    }  # fmt: skip
    environ = {
        **ways, "UPSTREAM_U": upstream.url, "UPSTREAM_U__AUTH": "a", "UPSTREAM_V": upstream.url,
        "UPSTREAM_V__AUTH": "b", "UPSTREAM_V__ROLES": "partner", "UPSTREAM_W": upstream.url,
        "ROUTE_ALL": "/all", "ROUTE_ALL__PART_ONE": "u:/one", "ROUTE_ALL__PART_TWO": "v:/two",
        "ROUTE_ALL__PART_THREE": "w:/3",
        "ROUTE_OWN": "/own", "ROUTE_OWN__PART_ONE": "u:/one", "ROUTE_OWN__PART_TWO": "v:/two",
        "ROUTE_OWN__AUTH": "a",
        "ROUTE_FREE": "/free", "ROUTE_FREE__PART_ONE": "w:/one",
    }  # fmt: skip
    a, b = ("x-a", "acme-key"), ("x-b", "acme-key")
    async with gateway(environ) as gw:
        for fields, status in (([], 401), ([a], 401), ([b], 401), ([a, ("x-b", "globex-key")], 403)):
            assert (await gw.ask("/all", *fields)).status == status
        assert upstream.requests == []
        assert (await gw.ask("/all", a, b)).status == 200
        assert {field(got, "x-user") for got in upstream.requests} == {"acme"}
        assert (await gw.ask("/own", a)).status == 200
        assert (await gw.ask("/own", b)).status == 401
        assert (await gw.ask("/free")).status == 200


@pytest.mark.parametrize(
    ("environ", "lines", "why"),
    [
        (
            {"ROLES": "admin"},
            [],
            "GATEWAY_ROLES: ROLES means nothing where nobody is asked for: GATEWAY_ROUTE_A has no AUTH",
        ),
        ({"ROUTE_A__SCOPES": "x"}, [], "GATEWAY_ROUTE_A__SCOPES: SCOPES means nothing"),
        (
            {"AUTH": "token", "ROUTE_A__AUTH": "-", "ROUTE_A__ROLES": "x"},
            [],
            "GATEWAY_ROUTE_A__ROLES: ROLES means nothing",
        ),
        ({}, [("/x", {"auth": "tokn"})], "there is no way tokn; did you mean token?"),
        ({}, [("/x", {"auth": "Token"})], "auth: 'Token' is no way"),
        ({}, [("/x", {"auth": ["token"]})], "auth: expected a text"),
        ({}, [("/x", {"roles": "admin"})], "ROLES means nothing where nobody is asked for"),
        (
            {"UPSTREAM_SSO__AUTH": "keys", "ROUTE_A__ON_5XX": "sso:/x"},
            [],
            "GATEWAY_ROUTE_A__ON_5XX: sso asks for keys, and GATEWAY_ROUTE_A would let others to it",
        ),
        (
            {"UPSTREAM_SSO__AUTH": "keys", "UPSTREAM_SSO__ROLES": "a", "UPSTREAM_U__AUTH": "keys", "ON_404": "sso:/x"},
            [],
            "GATEWAY_ON_404: sso asks for keys, and GATEWAY_ROUTE_A would let others to it",
        ),
        ({"AUTH_P": "python tests.auth.own.gone"}, [], "GATEWAY_AUTH_P=python tests.auth.own.gone"),
        ({"AUTH_P": "python tests.auth.own.synchronous"}, [], "it is no async function"),
        ({"ROUTE_A__WHEN": "header.x-user=ann"}, [], "GATEWAY_ROUTE_A__WHEN: x-user is set once the route is chosen"),
        ({}, [("/b", {"when": "!header.x_groups"})], "x_groups is set once the route is chosen"),
    ],
)
async def test_what_cannot_hold_stops_the_start(environ: dict[str, str], lines: list[Any], why: str) -> None:
    with pytest.raises(RouteError) as caught:
        async with gateway(
            {
                **WAYS,
                "UPSTREAM_U": "http://127.0.0.1:1",
                "UPSTREAM_SSO": "http://127.0.0.1:1",
                "ROUTE_A": "/a -> u",
                **environ,
            },
            [route(pattern, view, **options) for pattern, options in lines],
        ):
            pass
    assert why in str(caught.value)


async def test_roles_of_a_farther_level_go_with_the_way_that_is_taken_away(upstream: Service) -> None:
    environ = {**WAYS, "UPSTREAM_U": upstream.url, "UPSTREAM_SSO": upstream.url, "AUTH": "token", "ROLES": "admin"}
    async with gateway({**environ, "ROUTE_A": "/a -> u", "ROUTE_A__AUTH": "-"}) as gw:
        assert (await gw.ask("/a")).status == 200


NAN, TWICE = b'{"iss": NaN}', b'{"iss": 1, "iss": 2}'

# -- whatever comes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "." * 10_000,
        "a" * 40_000,
        "a.b.c",
        f"{part({'alg': 'none'}).decode()}.{part({'iss': ISSUER}).decode()}.",
        f"{part({'alg': 'ES256', 'kid': 'k' * 30_000}).decode()}.{part({'iss': ISSUER}).decode()}.AA",
        f"{part({'alg': 'ES256', 'jku': 'http://127.0.0.1:1/'}).decode()}.{part({'iss': ISSUER}).decode()}.AA",
        f"{part(b'{' * 9000).decode()}.{part({'iss': ISSUER}).decode()}.AA",
        f"{part({'alg': 'ES256'}).decode()}.{part(NAN).decode()}.AA",
        f"{part({'alg': 'ES256'}).decode()}.{part(TWICE).decode()}.AA",
    ],
    ids=["segments", "long", "short", "none", "kid", "jku", "nested", "nan", "twice"],
)
async def test_bad_tokens_are_refused_without_a_trace_of_them(
    gw: Gateway, upstream: Service, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await gw.ask("/token/", ("Authorization", f"Bearer {text}"))
    assert (answer.status, reason(answer)) == (401, "auth_invalid")
    assert upstream.requests == []
    assert text.encode() not in answer.body
    assert text not in str(gw.last.cause)
    assert len(str(gw.last.cause)) < 500
    shown = capsys.readouterr()
    assert text not in shown.out + shown.err


async def test_a_token_of_a_megabyte_is_refused_before_it_is_looked_at(gw: Gateway, upstream: Service) -> None:
    answer = await gw.ask("/token/", ("Authorization", "Bearer " + "a" * 2**20))
    assert (answer.status, reason(answer)) == (431, "headers_too_large")


async def test_many_passwords_at_once_are_hashed_two_at_a_time(gw: Gateway, upstream: Service) -> None:
    answers = await asyncio.gather(*(gw.ask("/page/", basic("ann", "pässword")) for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    answers = await asyncio.gather(*(gw.ask("/page/", basic("ann", f"guess {number}")) for number in range(200)))
    statuses = {answer.status for answer in answers}
    assert statuses <= {401, 503}
    assert 401 in statuses
    (again,) = await asyncio.gather(gw.ask("/page/", basic("ann", "pässword")))
    assert again.status == 200  # it was found good a moment ago
