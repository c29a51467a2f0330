"""Nothing that is one tenant's reaches another one, through whatever kind of view; and who may ask what is stored."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.live.caching import Origin, Page, cached, fresh, is_hit, said
from tests.live.harness import Answer, Gateway, Request, request_bytes
from tests.live.stage import message, says

ROUTES = '''
import json
from collections import Counter
from typing import Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.cache import patch_vary_headers
from gateway.messages import GatewayResponse
from gateway.routing import cached, fanout, fetch, from_environment, legacy, part, proxy, route


def telling(*fields):
    """A view that answers with these fields of the request, and names in Vary those that it is told to."""

    def by(read, vary=()):
        async def view(request):
            response = JsonResponse({"tenant": read(request)})
            patch_vary_headers(response, vary)
            return response

        return view

    return by


own = telling()


def in_thread(request):
    response = HttpResponse(json.dumps({"tenant": request.headers.get("X-Tenant")}))
    response["Vary"] = "X-Tenant"
    return response


async def fetched(request):
    tenant = request.headers.get("X-Tenant")
    answer = await fetch("u:/echo", headers={"X-Tenant": tenant})
    return HttpResponse(answer.body)


async def fetched_and_named(request):
    response = await fetched(request)
    response["Vary"] = "X-Tenant"
    return response


async def fetched_from_cache(request):
    answer = await fetch("u:/echo", headers={"X-Tenant": request.headers["X-Tenant"]}, cache="60s")
    return HttpResponse(answer.body)


async def fetched_unnamed(request):
    headers = {"X-Tenant": request.headers.get("X-Tenant", "nobody"), "Cache-Control": "max-age=300"}
    return HttpResponse((await fetch("u:/public", headers=headers, cache="60s")).body)


async def fetched_as_oneself(request):
    headers = {"Authorization": "Bearer " + request.headers["X-Tenant"]}
    answer = await fetch("service:/echo", headers=headers, cache="60s")
    return HttpResponse(answer.body)


async def fetched_by_host(request):
    return HttpResponse((await fetch("preserving:/echo", cache="60s")).body)


@fanout(forward_headers=["x-tenant"])
async def typed(request, who: Annotated[Any, part("u:/echo", cache="60s")]):
    return who


@fanout
async def typed_alone(request, who: Annotated[Any, part("u:/public")]):
    return {"tenant": request.headers.get("X-Tenant")}


async def streaming(request):
    async def pieces():
        for piece in (b"one", b"two"):
            yield piece  # without ever waiting
        yield request.headers.get("X-User", "nobody").encode()

    return GatewayResponse(200, [], pieces())


FAILURES = {"fault": ValueError("broken"), "missing": Http404(), "denied": PermissionDenied()}
asked = Counter()


async def failing(request, kind):
    """Good once, where it is asked for that; then it raises."""
    if "once" in request.GET:
        asked[kind] += 1
    if asked[kind] == 1:
        fields = {"Cache-Control": "max-age=60, stale-if-error=600", "Age": "61", "ETag": '"1"'}
        return HttpResponse("good", headers=fields)
    raise FAILURES[kind]


THOSE = {name: cached(own(lambda r, name=name: name), "60s") for name in ("ada", "bob", "cyd")}


async def either(request):
    return await THOSE[request.headers["X-Tenant"]](request)


async def within(request):
    return await cached(own(lambda r: "ada"), "60s")(request)


async def pieces():
    yield b"x"


def by_pairs(change):
    """A response whose pairs are changed after it was made."""

    def write(name, value):
        response = GatewayResponse(200, [("Content-Type", "text/plain")], b"x")
        response.pairs = change(response.pairs, (name.encode(), value.encode())) or response.pairs
        return response

    return write


def by_item(response):
    def write(name, value):
        answer = response()
        answer[name] = value
        return answer

    return write


def by_headers(name, value):
    response = GatewayResponse(200, [], b"x")
    response.headers = {name: value}
    return response


WRITES = {
    "made": lambda name, value: GatewayResponse(200, [(name.encode(), value.encode())], b"x"),
    "text": lambda name, value: GatewayResponse(200, [(name, value)], b"x"),
    "tuple": lambda name, value: GatewayResponse(200, ((name, value),), b"x"),
    "streamed": lambda name, value: GatewayResponse(200, [(name, value)], pieces()),
    "append": by_pairs(lambda pairs, pair: pairs.append(pair)),
    "insert": by_pairs(lambda pairs, pair: pairs.insert(0, pair)),
    "extend": by_pairs(lambda pairs, pair: pairs.extend([pair])),
    "added": by_pairs(lambda pairs, pair: pairs + [pair]),
    "added-in-place": by_pairs(lambda pairs, pair: pairs.__iadd__([pair])),
    "item": by_pairs(lambda pairs, pair: pairs.__setitem__(0, pair)),
    "slice": by_pairs(lambda pairs, pair: pairs.__setitem__(slice(0, 1), [pair])),
    "replaced": by_pairs(lambda pairs, pair: [pair]),
    "mapping": by_item(lambda: GatewayResponse(200, [], b"x")),
    "headers": by_headers,
    "django": by_item(lambda: HttpResponse("x")),
    "django-headers": lambda name, value: HttpResponse("x", headers={name: value}),
    "django-streamed": lambda name, value: StreamingHttpResponse(pieces(), headers={name: value}),
    "cookie": lambda name, value: with_cookie(GatewayResponse(200, [(name, value)], b"x")),
}


def with_cookie(response):
    if "set-cookie" in response:
        response.set_cookie("b", "2")
    return response


def field_of(request):
    return request.GET["name"], request.GET["value"]


async def writing(request, how):
    return WRITES[how](*field_of(request))


def writing_in_thread(request, how):
    return WRITES[how](*field_of(request))


def writing_legacy(how, request):
    return WRITES[how](*field_of(request))


@fanout
async def writing_typed(request, how: str, who: Annotated[Any, part("u:/public")]):
    return WRITES[how](*field_of(request))


def writing_on_top(view):
    """What stands between the cache and a proxied call writes too."""

    async def written(request, how):
        response = await view(request)
        response.pairs.append(tuple(text.encode() for text in field_of(request)))
        return response

    return written


async def handed_on(request):
    answer = await fetch("u:/raw/" + request.GET["case"])
    return GatewayResponse(answer.status, answer.pairs, answer.body)


async def handed_on_from_cache(request):
    answer = await fetch("u:/raw/" + request.GET["case"], cache="60s")
    return GatewayResponse(answer.status, answer.pairs, answer.body)


def decorated(view):
    async def checks(request, **params):
        return await view(request, **params)

    return checks


urlpatterns = [
    *from_environment(),
    route("/writes/async/{how}", cached(writing, "60s")),
    route("/writes/thread/{how}", cached(writing_in_thread, "60s")),
    route("/writes/legacy/{how}", cached(legacy(writing_legacy, name="writing"), "60s")),
    route("GET /writes/typed/{how}", cached(writing_typed, "60s")),
    route("/writes/top/{how}", cached(writing_on_top(proxy("u:/public")), "60s")),
    path("writes/django/<how>", cached(writing, "60s")),
    route("/handed", cached(handed_on, "60s")),
    route("/handed/cached", cached(handed_on_from_cache, "60s")),
    route("/stream", cached(streaming, "60s")),
    route("/failing/{kind}", cached(failing, "60s")),
    route("/either", either),
    route("/within", cached(within, "60s")),
    route("/twice", cached(cached(own(lambda r: "ada"), "60s"), "30s")),
    route("/decorated", decorated(cached(own(lambda r: "ada"), "60s"))),
    path("django/within/", cached(within, "60s")),
    route("/own/named", cached(own(lambda r: r.headers.get("X-Tenant"), ["X-Tenant"]), "60s")),
    route("/own/unnamed", cached(own(lambda r: r.headers.get("X-Tenant")), "60s")),
    route("/own/misnamed", cached(own(lambda r: r.headers.get("X-Tenant"), ["Accept"]), "60s")),
    route("/own/meta", cached(own(lambda r: r.META.get("HTTP_X_TENANT")), "60s")),
    route("/own/meta/all", cached(own(lambda r: dict(r.META).get("HTTP_X_TENANT")), "60s")),
    route("/own/meta/values", cached(own(lambda r: [v for v in r.META.values() if v in TENANTS]), "60s")),
    route("/own/meta/copy", cached(own(lambda r: r.META.copy().get("HTTP_X_TENANT")), "60s")),
    route("/own/meta/merged", cached(own(lambda r: {**r.META}.get("HTTP_X_TENANT")), "60s")),
    route("/own/meta/keys", cached(own(lambda r: [r.META[k] for k in r.META if k == "HTTP_X_TENANT"]), "60s")),
    route("/own/every", cached(own(lambda r: dict(r.headers.items()).get("X-Tenant")), "60s")),
    route("/own/raw", cached(own(lambda r: dict(r.raw_headers)[b"x-tenant"].decode()), "60s")),
    route("/own/cookie", cached(own(lambda r: r.COOKIES.get("tenant")), "60s")),
    route("/own/address", cached(own(lambda r: r.META["REMOTE_ADDR"]), "60s")),
    route("/own/address/vary", cached(own(lambda r: r.META["REMOTE_ADDR"], ["X-Tenant"]), "60s")),
    route("/own/host", cached(own(lambda r: r.get_host()), "60s")),
    route("/own/query", cached(own(lambda r: r.GET.get("tenant")), "60s")),
    route("/own/thread", cached(in_thread, "60s")),
    route("/own/fetch", cached(fetched, "60s")),
    route("/own/fetch/named", cached(fetched_and_named, "60s")),
    route("/fetch", fetched_from_cache),
    route("/fetch/unnamed", fetched_unnamed),
    route("/fetch/oneself", fetched_as_oneself),
    route("/fetch/host", fetched_by_host),
    route("/typed", typed),
    route("/typed/cached", cached(typed, "60s")),
    route("/typed/alone", cached(typed_alone, "60s")),
    route("/python/proxied", cached(proxy("u"), "60s"), name="a name with spaces"),
    path("django/", cached(own(lambda r: r.headers.get("X-Tenant"), ["X-Tenant"]), "60s")),
]
TENANTS = {"ada", "bob", "cyd"}
'''
FAN = {
    "ROUTE_FAN": "GET /fan",
    "ROUTE_FAN__CACHE": "60s",
    "ROUTE_FAN__PART_WHO": "u:/echo/{header.x-tenant}",
    "ROUTE_FORWARDING": "GET /fan/forwarding",
    "ROUTE_FORWARDING__CACHE": "60s",
    "ROUTE_FORWARDING__PART_WHO": "u:/echo",
    "ROUTE_FORWARDING__FORWARD_HEADERS": "x-tenant",
    "ROUTE_PARTED": "GET /fan/parted",
    "ROUTE_PARTED__PART_WHO": "u:/echo",
    "ROUTE_PARTED__PART_WHO__CACHE": "60s",
    "ROUTE_PARTED__FORWARD_HEADERS": "x-tenant",
    "ROUTE_HOSTED": "GET /fan/host",
    "ROUTE_HOSTED__PART_WHO": "preserving:/echo",
    "ROUTE_HOSTED__PART_WHO__CACHE": "60s",
    "ROUTE_AUTHORISED": "GET /fan/authorised",
    "ROUTE_AUTHORISED__CACHE": "60s",
    "ROUTE_AUTHORISED__PART_WHO": "u:/auth",
    "ROUTE_AUTHORISED__PART_WHO__CACHE": "60s",
}
TENANTS = ("ada", "bob", "cyd")


class Echo(Origin):
    """Answers with whom it takes the client for, and what it looked at for that."""

    def on_request(self, request: Request) -> None:
        path = request.target.partition("?")[0]
        if path in self.acts:
            super().on_request(request)
            return
        named = path.rpartition("/")[2]
        tenant = named if named in TENANTS else ", ".join(request.all("x-tenant"))
        told: dict[str, Any] = {"tenant": tenant or None, "host": request.one("host")}
        told |= {"auth": request.all("authorization"), "cookie": request.all("cookie")}
        told |= {"forwarded": [request.all(f"x-forwarded-{name}") for name in ("host", "proto")]}
        vary = {"/public": [], "/auth": [], "/proxied/auth": [], "/proxied/cookie": []}.get(path, ["Vary: X-Tenant"])
        request.send(message("200 OK", json.dumps(told).encode(), *vary, "Content-Type: application/json"))


@pytest.fixture(scope="module")
def origin() -> Iterator[Echo]:
    with Echo() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(origin: Echo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("safe")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    upstreams = {
        "UPSTREAM_SERVICE": origin.url,
        "UPSTREAM_SERVICE__HEADER_AUTHORIZATION": "Bearer the-service",
        "UPSTREAM_PRESERVING": origin.url,
        "UPSTREAM_PRESERVING__HOST": "preserve",
        "ROUTE_PROXIED": "/proxied/** -> u",
        "ROUTE_PROXIED__CACHE": "60s",
        "TRUSTED_PROXIES": "127.0.0.9",
        "DISCLOSE": "minimal",
    }
    with Gateway(cached(origin, **upstreams, **FAN), cwd=folder) as started:
        yield started


# -- tenants --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of view. `whom` says where its answer tells the tenant, `stored` whether one may be answered from the
    cache."""

    path: str
    by: str = "X-Tenant: {}"
    whom: str = "tenant"
    told: str = "{}"
    stored: bool = True
    address: bool = False
    host: bool = False
    in_part: str | None = None


KINDS = [
    Kind("/proxied/x"),
    Kind("/proxied/auth", by="Authorization: Bearer {}", whom="auth", told="Bearer {}", stored=False),
    Kind("/proxied/cookie", by="Cookie: tenant={}", whom="cookie", told="tenant={}", stored=False),
    Kind("/proxied/host", host=True, whom="", stored=True),
    Kind("/fan", in_part="who"),
    Kind("/fan/forwarding", in_part="who"),
    Kind("/fan/parted", in_part="who", stored=False),
    Kind("/fan/host", host=True, in_part="who", whom="host", told="{}.test", stored=False),
    Kind("/fan/authorised", by="Authorization: Bearer {}", in_part="who", whom="auth", told="Bearer {}", stored=False),
    Kind("/own/named"),
    Kind("/own/unnamed", stored=False),
    Kind("/own/misnamed", stored=False),
    Kind("/own/meta", stored=False),
    Kind("/own/meta/all", stored=False),
    Kind("/own/meta/values", stored=False),
    Kind("/own/meta/copy", stored=False),
    Kind("/own/meta/merged", stored=False),
    Kind("/own/meta/keys", stored=False),
    Kind("/own/every", stored=False),
    Kind("/own/raw", stored=False),
    Kind("/own/cookie", by="Cookie: tenant={}", stored=False),
    Kind("/own/address", address=True, stored=False),
    Kind("/own/address/vary", address=True, stored=False),
    Kind("/own/host", host=True, told="{}.test"),
    Kind("/own/query?tenant={}"),
    Kind("/own/thread"),
    Kind("/own/fetch", stored=False),
    Kind("/own/fetch/named"),
    Kind("/fetch", stored=False),
    Kind("/fetch/unnamed", stored=False),
    Kind("/fetch/oneself", whom="auth", told="Bearer {}", stored=False),
    Kind("/fetch/host", host=True, whom="host", told="{}.test", stored=False),
    Kind("/either", stored=False),
    Kind("/typed", stored=False),
    Kind("/typed/cached"),
    Kind("/typed/alone", stored=False),
    Kind("/python/proxied"),
    Kind("/django/"),
]
ADDRESSES = {tenant: f"127.0.0.{number}" for number, tenant in enumerate(TENANTS, 2)}


def ask_as(gateway: Gateway, kind: Kind, tenant: str) -> Answer:
    fields = [] if kind.host or kind.address else [kind.by.format(tenant)]
    raw = request_bytes("GET", kind.path.format(tenant), *fields, host=f"{tenant}.test" if kind.host else "all.test")
    return gateway.ask(raw, source=ADDRESSES[tenant] if kind.address else None)


def whom(kind: Kind, answer: Answer) -> Any:
    told = answer.json()
    found = (told[kind.in_part] if kind.in_part else told).get(kind.whom)
    return found[0] if isinstance(found, list) and found else found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.path)
def test_tenants_who_ask_at_the_same_time_and_again_get_their_own(gateway: Gateway, kind: Kind) -> None:
    order = [tenant for tenant in TENANTS for _ in range(2)] * 2
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda tenant: ask_as(gateway, kind, tenant), order))
    for tenant, answer in zip(order, answers, strict=True):
        assert answer.status == 200
        if kind.whom:
            assert whom(kind, answer) == (ADDRESSES[tenant] if kind.address else kind.told.format(tenant))
    again = ask_as(gateway, kind, TENANTS[0])
    assert (again.has("cache-status") and is_hit(again)) is kind.stored


def test_who_shows_nothing_gets_nobody_s(gateway: Gateway) -> None:
    for kind in KINDS:
        if kind.host or kind.address or "{}" in kind.path or kind.path in {"/fetch", "/fetch/oneself", "/fan"}:
            continue
        answer = gateway.get(kind.path, f"X-Nothing: {kind.path}")
        if answer.status == 200:
            assert not any(tenant in answer.body.decode() for tenant in TENANTS), kind.path


def test_parts_and_calls_of_a_view_are_answered_from_the_cache(gateway: Gateway, origin: Echo) -> None:
    """Else that nothing is crossed would say little."""
    for path, field in (
        ("/fan/parted", "X-Tenant: dan"),
        ("/fetch", "X-Tenant: eve"),
        ("/fetch/unnamed", "X-Tenant: eve"),
        ("/typed", "X-Tenant: fay"),
    ):
        gateway.get(path, field)
        origin.forget()
        assert gateway.get(path, field).status == 200
        assert origin.requests == []


def test_a_view_that_names_what_it_reads_is_stored_and_says_why_if_it_does_not(gateway: Gateway) -> None:
    assert said(gateway.get("/own/unnamed", "X-Tenant: x")).endswith("; detail=unnamed-vary")


def test_what_the_service_is_told_by_the_configuration_is_not_taken_for_the_client_s(
    gateway: Gateway, origin: Echo
) -> None:
    answer = gateway.get("/fetch/oneself", "X-Tenant: gil")
    assert answer.json()["auth"] == ["Bearer gil"]


@pytest.mark.parametrize("path", ["/within", "/twice", "/django/within/"])
def test_a_cached_view_within_another_one_does_not_wait_for_itself(gateway: Gateway, path: str) -> None:
    first, second = gateway.get(path), gateway.get(path)
    assert first.json() == second.json() == {"tenant": "ada"}
    assert said(first) == "portway; fwd=uri-miss; stored"
    assert is_hit(second)


@pytest.mark.parametrize("path", ["/either", "/decorated"])
def test_a_cached_view_that_is_not_the_route_s_own_stores_nothing_and_says_so(gateway: Gateway, path: str) -> None:
    for _ in range(2):
        assert said(gateway.get(path, "X-Tenant: ada")) == "portway; fwd=bypass; detail=nested"


# -- what Connection names -------------------------------------------------------------------------------------------

NAMED = [
    *("/proxied/named", "/python/proxied", "/fan", "/fan/forwarding", "/own/named", "/own/thread", "/django/"),
    *("/own/fetch/named", "/typed/cached", "/fan/parted", "/typed"),
]


@pytest.mark.parametrize("path", NAMED)
@pytest.mark.parametrize("connection", ["close, X-Tenant", "x-tenant", "keep-alive,, X-TENANT\r\nConnection: close"])
def test_who_takes_a_field_back_by_connection_gets_and_leaves_the_answer_to_none(
    gateway: Gateway, path: str, connection: str
) -> None:
    # In quotes: the id of a request may hold these three digits.
    mark = f"?{path}&{connection[:5].strip(', ')}"
    taken_back = gateway.get(path + mark, "X-Tenant: ada", f"Connection: {connection}")
    assert b'"ada"' not in taken_back.body
    kept = gateway.get(path + mark, "X-Tenant: ada")
    assert b'"ada"' in kept.body
    gateway.get(path + mark, "X-Tenant: ada", "Cache-Control: no-cache", f"Connection: {connection}")
    assert b'"ada"' in gateway.get(path + mark, "X-Tenant: ada").body
    assert b'"ada"' not in gateway.get(path + mark).body


@pytest.mark.parametrize(
    "field",
    [
        *("Authorization: Bearer x", "Cookie: a=b", "Range: bytes=0-0", 'If-Match: "1"', 'If-None-Match: "1"'),
        *("Cache-Control: no-store", "Cache-Control: no-cache", "Cache-Control: only-if-cached", "Pragma: no-cache"),
        "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT",
    ],
)
def test_what_connection_names_says_nothing_to_the_cache_either(page: Page, field: str) -> None:
    page.answers(fresh("x", 'ETag: "1"', "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT", control=""), fresh("second"))
    named = (field, f"Connection: {field.partition(':')[0]}")
    first, second, plain = page.get(*named), page.get(*named), page.get()
    assert [(answer.status, answer.body) for answer in (first, second, plain)] == [(200, b"x")] * 3
    assert said(first) == "portway; fwd=uri-miss; stored"
    assert is_hit(second)
    assert is_hit(plain)


def test_connection_cannot_name_what_the_gateway_itself_needs_to_know(page: Page) -> None:
    named = "Connection: host, x-forwarded-host, x-forwarded-proto, via, x-request-id, traceparent"
    page.get("X-Forwarded-Host: a.test", named, source=PROXY)
    assert is_hit(page.get("X-Forwarded-Host: a.test", source=PROXY))
    assert not is_hit(page.get(source=PROXY))


# -- what a view writes -----------------------------------------------------------------------------------------------

WAYS = [
    *("made", "text", "tuple", "streamed", "append", "insert", "extend", "added", "added-in-place", "item", "slice"),
    *("replaced", "mapping", "headers", "django", "django-headers", "cookie"),
]
WRITERS = [
    *(f"/writes/async/{way}" for way in (*WAYS, "django-streamed")),
    *(f"/writes/{kind}/{way}" for kind in ("thread", "legacy", "typed") for way in ("append", "django")),
    *("/writes/top/x", "/writes/django/append", "/writes/django/django"),
]
FORBIDDING = [
    ("Set-Cookie", "sid=1", "set-cookie"),
    ("CACHE-CONTROL", "private", "private"),
    ("Cache-control", "no-store", "no-store"),
    ("CDN-Cache-Control", "no-store", "no-store"),
    ("VARY", "*", "vary"),
]


@pytest.mark.parametrize("path", WRITERS)
def test_whatever_case_a_view_writes_a_field_in_it_keeps_the_answer_out_of_the_cache(
    gateway: Gateway, path: str
) -> None:
    for name, value, why in FORBIDDING:
        for _ in range(2):
            answer = gateway.get(f"{path}?name={name}&value={value}")
            assert said(answer) == f"portway; fwd=uri-miss; detail={why}", name
            assert value in answer.all(name)


@pytest.mark.parametrize("path", [path for path in WRITERS if not path.endswith("streamed")])
def test_whatever_case_a_view_writes_vary_and_max_age_in_they_are_heeded(gateway: Gateway, path: str) -> None:
    varied = f"{path}?name=VARY&value=X-Tenant"
    assert not is_hit(gateway.get(varied, "X-Tenant: ada"))
    assert is_hit(gateway.get(varied, "X-Tenant: ada"))
    assert "fwd=vary-miss" in said(gateway.get(varied, "X-Tenant: bob"))
    if "/top/" not in path:  # the proxied call below reads what its service, which says nothing of Vary, may look at
        assert "ttl=600" in said([gateway.get(f"{path}?name=Cache-CONTROL&value=max-age=600") for _ in range(2)][1])


@pytest.mark.parametrize("path", ["/handed", "/handed/cached"])
def test_what_a_service_forbids_holds_where_a_view_hands_its_answer_on(
    gateway: Gateway, origin: Echo, path: str
) -> None:
    for number, (name, value, why) in enumerate(FORBIDDING):
        case = f"{path.strip('/').replace('/', '-')}-{number}"
        origin.answers(
            f"/raw/{case}", says(message("200 OK", b"x", f"{name}: {value}", "Connection: X-Hop", "X-Hop: 1"))
        )
        for _ in range(2):
            answer = gateway.get(f"{path}?case={case}")
            assert answer.status == 200
            assert said(answer) == f"portway; fwd=uri-miss; detail={why}", name
            assert answer.all(name) == [value]
            assert not answer.has("x-hop")


def test_a_field_that_is_none_is_the_view_s_own_fault_and_is_not_stored(gateway: Gateway) -> None:
    for name, value in (
        ("Set-Cookie%20", "x"),
        ("X%0d%0aSet-Cookie", "x"),
        ("", "x"),
        ("X", "a%0d%0aSet-Cookie:%20a=b"),
    ):
        for _ in range(2):
            assert gateway.get(f"/writes/async/text?name={name}&value={value}").status == 500


def test_a_view_that_streams_without_ever_waiting_is_answered_whole(gateway: Gateway) -> None:
    assert [gateway.get("/stream").body for _ in range(2)] == [b"onetwonobody", b"onetwonobody"]


def test_what_a_view_reads_of_the_request_while_it_streams_is_for_nobody_else(gateway: Gateway) -> None:
    for name in ("ada", "bob", "ada"):
        answer = gateway.get("/stream", f"X-User: {name}")
        assert answer.body == b"onetwo" + name.encode()
        assert answer.one("cache-status") == "portway; fwd=uri-miss; detail=streams"


# -- behind a proxy that is trusted ---------------------------------------------------------------------------------


@pytest.fixture
def page(gateway: Gateway, origin: Echo) -> Page:
    return Page(gateway, origin, "/t")


PROXY, STRANGER = "127.0.0.9", "127.0.0.8"


def forwarded(answer: Answer) -> Any:
    return answer.json()["forwarded"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["X-Forwarded-Host: a.test"], ["X-Forwarded-Host: b.test"]),
        (["X-Forwarded-Proto: https"], ["X-Forwarded-Proto: http"]),
        (["X-Forwarded-Proto: https"], []),
        (["X-Forwarded-Prefix: /v1"], ["X-Forwarded-Prefix: /v2"]),
        (["X-Forwarded-Host: a;x-forwarded-proto=https"], ["X-Forwarded-Host: a", "X-Forwarded-Proto: https"]),
        (["X-Forwarded-Host: a", "X-Forwarded-Host: b"], ["X-Forwarded-Host: a, b"]),
        (["X-Original-URL: /a"], ["X-Original-URL: /b"]),
        (["X-Host: a"], []),
        (["X-Forwarded-Host: a", "X-Forwarded-Host: b"], ["X-Forwarded-Host: b", "X-Forwarded-Host: b"]),
    ],
    ids=str,
)
def test_what_a_trusted_proxy_says_of_the_request_is_in_the_key(page: Page, one: list[str], other: list[str]) -> None:
    first = page.get(*one, source=PROXY)
    second = page.get(*other, source=PROXY)
    assert not is_hit(second)
    assert is_hit(page.get(*one, source=PROXY))
    assert forwarded(page.get(*one, source=PROXY)) == forwarded(first)


BEHIND_TLS = ("X-Forwarded-Host: shop.test", "X-Forwarded-Proto: https")


def test_what_a_client_asked_for_behind_tls_is_forgotten_by_its_own_url(gateway: Gateway, page: Page) -> None:
    def purged(origin: str) -> Any:
        target = f"/-/cache?path={origin}{page.path}"
        return gateway.ask(request_bytes("DELETE", target, host="localhost")).json()["purged"]

    page.get(*BEHIND_TLS, source=PROXY)
    assert purged("http://gateway.test") == purged("http://shop.test") == purged("https://gateway.test") == 0
    assert is_hit(page.get(*BEHIND_TLS, source=PROXY))
    assert purged("https://shop.test") == 1
    assert not is_hit(page.get(*BEHIND_TLS, source=PROXY))
    page.get(*BEHIND_TLS, method="POST", source=PROXY)
    assert not is_hit(page.get(*BEHIND_TLS, source=PROXY)), "it was written to"


def test_what_a_stranger_says_of_it_is_not(page: Page) -> None:
    page.get(source=STRANGER)
    lines = (
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Proto: https",
        "X-Original-URL: /evil.test",
        "X.Host: evil.test",
    )
    spoofed = page.get(*lines, source=STRANGER)
    assert is_hit(spoofed)
    assert "evil" not in spoofed.body.decode()
    assert all("evil.test" not in request.raw_head.decode() for request in page.asked)


def test_clients_behind_a_trusted_proxy_share(page: Page) -> None:
    page.get("X-Forwarded-For: 192.0.2.1", "X-Real-IP: 192.0.2.1", source=PROXY)
    second = page.get("X-Forwarded-For: 192.0.2.2", "X-Real-IP: 192.0.2.2", source=PROXY)
    assert is_hit(second)
    assert page.line(second)["client"] == "192.0.2.2"


# -- names that are not disclosed -----------------------------------------------------------------------------------


def test_minimal_answers_tell_what_the_cache_did_and_no_names(gateway: Gateway) -> None:
    for path in ("/proxied/minimal", "/fan/parted", "/fan", "/own/named"):
        for _ in range(2):
            answer = gateway.get(path, "X-Tenant: min")
            told = "\n".join(answer.lines).lower()
            assert not any(word in told for word in ("who", "route", "upstream", "gateway-parts", "server-timing"))
    assert is_hit(gateway.get("/proxied/minimal", "X-Tenant: min"))


def test_an_answer_for_all_is_for_all(page: Page) -> None:
    page.answers(fresh("x"))
    answers = [page.get(), page.get("Authorization: Bearer x"), page.get("Cookie: a=b")]
    assert [is_hit(answer) for answer in answers] == [False, True, True]


# -- views that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "status"), [("fault", 500), ("missing", 404), ("denied", 403)])
@pytest.mark.parametrize(
    ("method", "told"),
    [("GET", "detail=failed"), ("HEAD", "fwd=uri-miss; detail=head"), ("POST", "fwd=method")],
)
def test_a_view_that_fails_says_what_the_cache_did(
    gateway: Gateway, origin: Origin, kind: str, status: int, method: str, told: str
) -> None:
    page = Page(gateway, origin, at=f"/failing/{kind}")
    answer = page.get(method=method)
    assert answer.status == status
    assert said(answer) == f"portway; {told}"
    line = page.line(answer)
    assert line["cache"] == ("bypass" if method == "POST" else "miss")
    assert ("ValueError: broken" in line.get("cause", "")) is (kind == "fault")


@pytest.mark.parametrize(("kind", "status"), [("fault", 200), ("missing", 404), ("denied", 403)])
def test_a_stale_answer_stands_in_for_a_view_that_has_a_fault(gateway: Gateway, kind: str, status: int) -> None:
    path = f"/failing/{kind}?once"
    assert gateway.get(path).body == b"good"
    second = gateway.get(path)
    assert second.status == status
    assert ("stale-if-error" in said(second)) is (status == 200)
    gateway.request_line(second.one("x-request-id"))  # what was logged before it is here then, too
    told = [line["cause"] for line in gateway.log if line["event"] == "cache.stands_in" and kind in line["target"]]
    assert len(told) == (status == 200)
    assert all("ValueError: broken" in cause for cause in told)
