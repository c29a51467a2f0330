"""The cache behind a way: what one user was answered, no other one gets; whatever carried the credential."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from typing import Annotated, Any

import orjson
import pytest
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.http.request import GatewayRequest
from gateway.routing import cached, fanout, fetch, part, proxy, route
from tests.application import Answered
from tests.auth.issuer import ISSUER, claims, token
from tests.auth.serving import Gateway, Service, all_of, field, gateway, service
from tests.auth.test_gate import SECRET

NAMES = ("ann", "ben")
LINES = "\n".join(f"{name} sha256:{sha256(f'{name}-key'.encode()).hexdigest()}" for name in NAMES)
JWT = {"": f"jwt {ISSUER}", "__SECRET": SECRET, "__ALGORITHMS": "HS256"}
WAYS: dict[str, dict[str, str]] = {
    "token": JWT,
    "cookie": {**JWT, "__FROM": "cookie:session"},
    "query": {**JWT, "__FROM": "query:token"},
    "keys": {"": "keys", "__KEYS": LINES},
    "page": {"": "basic", "__USERS": LINES},
    "sso": {"": "ask sso:/verify", "__COPY": "x-auth-user"},
    "own": {"": "python tests.auth.own.check"},
}


@cache  # a token of another second would be another one
def credential(way: str, name: str) -> tuple[str, list[tuple[str, str]]]:
    """What somebody sends by a way: the end of the query, and the fields."""
    text = token(claims(sub=name), "HS256", key=SECRET.encode()).decode()
    match way:
        case "token":
            return "", [("Authorization", f"Bearer {text}")]
        case "cookie":
            return "", [("Cookie", f"session={text}")]
        case "query":
            return f"?token={text}", []
        case "keys":
            return "", [("X-Api-Key", f"{name}-key")]
        case "page":
            return "", [("Authorization", f"Basic {b64encode(f'{name}:{name}-key'.encode()).decode()}")]
        case "sso":
            return "", [("Cookie", f"sso={name}")]
        case _:
            return "", [("X-Own", name)]


class Verifier(Service):
    """Says that whoever has a cookie is who it says."""

    async def answer(self, request: Any) -> Any:
        from aiohttp import web

        name = request.cookies.get("sso")
        return web.Response(status=200 if name else 401, headers={"X-Auth-User": name or ""})


def environ(upstream: Service, sso: str, **more: str) -> dict[str, str]:
    ways = {f"AUTH_{name.upper()}{option}": value for name, way in WAYS.items() for option, value in way.items()}
    routes = {
        f"ROUTE_{name.upper()}{option}": value
        for name in WAYS
        for option, value in {"": f"/{name}/** -> u", "__AUTH": name, "__CACHE": "60s"}.items()
    }
    return {"UPSTREAM_U": upstream.url, "UPSTREAM_SSO": sso, **ways, **routes, **more}


async def ask(gw: Gateway, way: str, name: str, path: str) -> Answered:
    query, fields = credential(way, name)
    return await gw.ask(f"/{way}{path}{query}", *fields)


def outcome(answer: Answered) -> str:
    (status,) = all_of(answer, "cache-status")
    return "hit" if "; hit" in status else status


@pytest.mark.parametrize("way", WAYS)
async def test_two_users_of_one_route_never_share_what_is_not_said_to_be_public(way: str) -> None:
    from tests.auth.test_jwks import running

    async with service() as upstream, running(Verifier().answer) as sso, gateway(environ(upstream, sso)) as gw:
        for control in (None, "max-age=60", "private, max-age=60", "no-store", "no-cache", "max-age=60, no-cache"):
            path = f"/{control or 'nothing'}".replace(" ", "").replace(",", "-").replace("=", "-")
            upstream.fields[f"/{way}{path}"] = [("Cache-Control", control)] if control else []
            before = len(upstream.requests)
            for name in ("ann", "ben", "ann", "ben"):
                answer = await ask(gw, way, name, path)
                assert (answer.status, outcome(answer) != "hit") == (200, True), (control, outcome(answer))
            assert len(upstream.requests) == before + 4


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("control", ["public, max-age=60", "s-maxage=60", "max-age=60, must-revalidate"])
async def test_what_is_said_to_be_for_all_is_stored(way: str, control: str) -> None:
    """RFC 9111, section 3.5. What stood in the query is not, since the credential would lie in the store."""
    from tests.auth.test_jwks import running

    async with service() as upstream, running(Verifier().answer) as sso, gateway(environ(upstream, sso)) as gw:
        upstream.fields[f"/{way}/a"] = [("Cache-Control", control)]
        found = [outcome(await ask(gw, way, name, "/a")) for name in ("ann", "ben")]
        assert (found[1] == "hit") is (way not in {"query", "sso"})  # a copied field is a part of the key
        if way == "query":
            assert "detail=query-credential" in found[1]
        # Nobody is answered who was not asked.
        refused = await gw.ask(f"/{way}/a")
        assert refused.status == 401
        assert not all_of(refused, "cache-status")
        assert len(upstream.requests) == (1 if found[1] == "hit" else 2)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "query"])
async def test_fields_of_who_asks_are_a_part_of_the_key(way: str) -> None:
    from tests.auth.test_jwks import running

    value = "{user}"
    more = {f"AUTH_{way.upper()}__HEADER_X_USER": value}
    async with service() as upstream, running(Verifier().answer) as sso, gateway(environ(upstream, sso, **more)) as gw:
        upstream.fields[f"/{way}/a"] = [("Cache-Control", "public, max-age=60")]
        for turn in range(3):
            for name in NAMES:
                answer = await ask(gw, way, name, "/a")
                assert field(orjson.loads(answer.body), "x-user") == name
                assert (outcome(answer) == "hit") is (turn > 0)
        assert len(upstream.requests) == 2


PERSONAL = {
    "a field of the way": {"AUTH_{way}__HEADER_X_USER": "{{user}}"},
    "the target": {"ROUTE_{way}": "/{name}/** -> u:/of/{{user}}/**"},
    "a parameter": {"ROUTE_{way}__QUERY_WHO": "{{claim.sub}}"},
    "a redirect": {"ROUTE_MOVED": "/{name}/a/moved -> 308 /of/{{user}}", "ROUTE_MOVED__AUTH": "{name}"},
    "a part": {"ROUTE_{way}": "/{name}/a", "ROUTE_{way}__PART_ONE": "u:/of/{{user}}"},
}


@pytest.mark.parametrize("case", PERSONAL)
@pytest.mark.parametrize("way", [way for way in WAYS if way not in {"query", "own"}])
async def test_caches_in_front_learn_that_an_answer_is_for_one_credential(way: str, case: str) -> None:
    """A service may call it public: it does not know for whom it was."""
    from tests.auth.test_jwks import running

    more = {name.format(way=way.upper()): text.format(name=way) for name, text in PERSONAL[case].items()}
    (carrier,) = (name for name, _ in credential(way, "ann")[1])
    async with service() as upstream, running(Verifier().answer) as sso, gateway(environ(upstream, sso, **more)) as gw:
        for path in (f"/{way}/a", "/of/ann/a", "/of/ann"):
            upstream.fields[path] = [("Cache-Control", "public, max-age=60")]
        for _ in range(2):  # the second one may be a hit
            answer = await ask(gw, way, "ann", "/a/moved" if case == "a redirect" else "/a")
            assert answer.status == (308 if case == "a redirect" else 200), answer.body
            assert carrier in ", ".join(all_of(answer, "vary")).split(", ")


async def test_an_answer_that_is_for_all_varies_on_no_credential() -> None:
    async with service() as upstream, gateway(environ(upstream, upstream.url)) as gw:
        upstream.fields["/keys/a"] = [("Cache-Control", "public, max-age=60")]
        assert all_of(await ask(gw, "keys", "ann", "/a"), "vary") == []


async def test_an_answer_of_a_guess_is_for_those_without_a_credential_alone() -> None:
    """A route whose way may be missing: what nobody was answered, by a lifetime of ours, nobody else gets."""
    async with service() as upstream, gateway({**environ(upstream, upstream.url), "ROUTE_KEYS__AUTH": "keys?"}) as gw:
        assert outcome(await gw.ask("/keys/a")) != "hit"
        assert outcome(await gw.ask("/keys/a")) == "hit"
        answer = await ask(gw, "keys", "ann", "/a")
        assert outcome(answer) != "hit"
        assert field(orjson.loads(answer.body), "x-api-key") == "ann-key"
        assert outcome(await gw.ask("/keys/a")) == "hit"
        assert len(upstream.requests) == 2


async def greets(request: GatewayRequest) -> HttpResponse:
    return HttpResponse(
        f"hello {request.identity and request.identity.name}", headers={"Cache-Control": "public, max-age=60"}
    )


async def fetches(request: GatewayRequest) -> HttpResponse:
    got = (await fetch("u:/part", cache="60s")).json()
    return HttpResponse(orjson.dumps(got), headers={"Cache-Control": "public, max-age=60"})


async def test_what_a_view_makes_of_who_asks_is_not_stored() -> None:
    lines = [route("/greets", cached(greets, "60s"), auth="keys")]
    async with service() as upstream, gateway(environ(upstream, upstream.url), lines) as gw:
        for name in (*NAMES, *NAMES):
            answer = await gw.ask("/greets", ("X-Api-Key", f"{name}-key"))
            assert answer.body == f"hello {name}".encode()


async def test_parts_that_are_stored_are_one_users_where_fields_go_along() -> None:
    lines = [route("/fetches", fetches, auth="keys")]
    more = {
        "AUTH_KEYS__HEADER_X_USER": "{user}", "ROUTE_HOME": "/home", "ROUTE_HOME__PART_ONE": "u:/one",
        "ROUTE_HOME__PART_ONE__CACHE": "60s", "ROUTE_HOME__AUTH": "keys",
    }  # fmt: skip
    async with service() as upstream, gateway(environ(upstream, upstream.url, **more), lines) as gw:
        for path in ("/one", "/part"):
            upstream.fields[path] = [("Cache-Control", "public, max-age=60")]
        for name in (*NAMES, *NAMES):
            answer = orjson.loads((await gw.ask("/home", ("X-Api-Key", f"{name}-key"))).body)
            assert field(answer["one"], "x-user") == name
            answer = orjson.loads((await gw.ask("/fetches", ("X-Api-Key", f"{name}-key"))).body)
            assert field(answer, "x-user") == name
        assert len(upstream.requests) == 4


@fanout
async def in_a_fan(one: Annotated[dict[str, Any], part("named:/part")]) -> Any:
    return one


INSIDE: dict[str, Any] = {"field": proxy("named:/part"), "target": proxy("u:/part?of={user}"), "fan": in_a_fan}


async def asks_inside(request: GatewayRequest, kind: str) -> HttpResponseBase:
    """A view of a team's own, of whose calls the cache around it knows nothing."""
    response: HttpResponseBase = await INSIDE[kind](request)
    return response


@pytest.mark.parametrize("kind", ["field", "target", "fan"])
async def test_what_a_view_asks_for_with_values_of_who_asks_is_not_stored(kind: str) -> None:
    more = {"UPSTREAM_NAMED__HEADER_X_NAME": "{user}"}
    lines = [route("/asks/{kind}", cached(asks_inside, "60s"), auth="keys")]
    async with service() as upstream:
        environment = environ(upstream, upstream.url, UPSTREAM_NAMED=upstream.url, **more)
        async with gateway(environment, lines) as gw:
            for path in ("/part", f"/asks/{kind}"):
                upstream.fields[path] = [("Cache-Control", "public, max-age=60")]
            for name in (*NAMES, *NAMES):
                answer = await gw.ask(f"/asks/{kind}", ("X-Api-Key", f"{name}-key"))
                assert answer.status == 200
                assert name.encode() in answer.body
            assert len(upstream.requests) == 2 * len(NAMES)


async def test_a_route_with_values_of_who_asks_stores_an_answer_for_each() -> None:
    more = {"ROUTE_MINE": "/mine -> u:/of/{user}", "ROUTE_MINE__AUTH": "keys", "ROUTE_MINE__CACHE": "60s"}
    more |= {"ROUTE_MINE__HEADER_X_NAME": "{user}", "ROUTE_MINE__QUERY_NAME": "{claim.tenant|none}"}
    async with service() as upstream, gateway(environ(upstream, upstream.url, **more)) as gw:
        for name in NAMES:
            upstream.fields[f"/of/{name}"] = [("Cache-Control", "public, max-age=60")]
        for name in (*NAMES, *NAMES):
            answer = orjson.loads((await gw.ask("/mine", ("X-Api-Key", f"{name}-key"))).body)
            assert (answer["path"], field(answer, "x-name")) == (f"/of/{name}?name=none", name)
        assert len(upstream.requests) == len(NAMES)


# -- a property ---------------------------------------------------------------------------------------------------

words = st.sampled_from(
    ["max-age=60", "no-cache", "private", "stale-while-revalidate=9", "stale-if-error=9", "immutable"]
)
for_all = st.sampled_from(["public", "s-maxage=60", "must-revalidate"])
others = st.sampled_from([
    ("Expires", "Thu, 01 Jan 2099 00:00:00 GMT"), ("Last-Modified", "Thu, 01 Jan 2004 00:00:00 GMT"), ("ETag", '"a"'),
    ("Vary", "Accept"), ("Vary", "Cookie"), ("CDN-Cache-Control", "max-age=60"),
])  # fmt: skip
users = st.lists(st.sampled_from([*NAMES, None]), min_size=2, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(sorted(WAYS)),
    st.lists(words, max_size=3),
    st.lists(others, max_size=3),
    users,
    st.booleans(),
    st.data(),
)
async def test_nobody_sees_what_another_one_was_answered(
    way: str, said: list[str], more: list[tuple[str, str]], order: list[str | None], sets: bool, data: st.DataObject
) -> None:
    """Whatever the service says of caching, short of that its answer is for all; and also then, where fields of who
    asks go up. `None` asks without a credential: such a request is never answered by what is stored."""
    from tests.auth.test_jwks import running

    if sets:
        said = [*said, *data.draw(st.lists(for_all, max_size=1))]
    environment = {f"AUTH_{way.upper()}__HEADER_X_USER": "{user}"} if sets else {}
    async with (
        service() as upstream,
        running(Verifier().answer) as sso,
        gateway(environ(upstream, sso, **environment)) as gw,
    ):
        upstream.fields[f"/{way}/a"] = [*([("Cache-Control", ", ".join(said))] if said else []), *more]
        for name in order:
            if name is None:
                assert (await gw.ask(f"/{way}/a")).status == 401
                continue
            answer = await ask(gw, way, name, "/a")
            assert answer.status == 200
            got = orjson.loads(answer.body)
            if sets:
                assert field(got, "x-user") == name
            query, fields = credential(way, name)
            for sent, value in fields:
                assert field(got, sent.lower()) == value
            assert got["path"].endswith(query)
