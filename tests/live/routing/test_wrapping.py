"""Wrappers of a team's own around views of ours: they are looked through, and turn no cache off in silence."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway, eventually, request_bytes
from tests.live.management.test_commands import Ran, run

ROUTES = """
import functools

from django.http import HttpResponse
from django.urls import path, re_path
from django.views import View
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET
from django.views.decorators.vary import vary_on_headers

from gateway.routing import cached, from_environment, legacy, proxy, route

counted = [0]


async def counts(request, **params):
    counted[0] += 1
    return HttpResponse(f"{counted[0]} " + "x" * 300)


def counts_in_thread(request):
    counted[0] += 1
    return HttpResponse(str(counted[0]))


def wrapper(before=lambda request, params: None, wraps=functools.wraps):
    def decorate(view):
        @wraps(view)
        async def inner(request, **params):
            if "X-Deny" in request.headers:
                return HttpResponse(status=403)
            before(request, params)
            response = await view(request, **params)
            response["X-Wrapped"] = "1"
            return response

        return inner

    return decorate


guard = wrapper()


def reads(request, params):
    return (
        request.META.get("REMOTE_ADDR"), request.GET.get("a"), request.COOKIES, request.get_host(), request.body,
        request.content_type, request.path, request.is_secure(), request.POST,
    )


def plain(view):
    @functools.wraps(view)
    def inner(request, **params):
        return view(request, **params)

    return inner


CACHED = {
    "guarded": guard, "twice": lambda view: guard(guard(view)), "plain": plain, "reads": wrapper(reads),
    "get-only": require_GET, "gzipped": gzip_page,
}
hides = wrapper(wraps=lambda view: lambda inner: inner)
adds = wrapper(lambda request, params: setattr(request, "tenant", request.GET.get("t")))
UNCACHED = {
    "adds": adds,
    "passes": wrapper(lambda request, params: params.update(tenant="a")),
    "writes": wrapper(lambda request, params: request.META.update(HTTP_X_TENANT="a")),
    "hides": hides,
    "varies": vary_on_headers("X-Tenant"), "never": never_cache, "csrf": csrf_protect,
    "private": lambda view: guard(cache_control(private=True)(view)),
}


@method_decorator(guard, name="dispatch")
class Classy(View):
    async def get(self, request, id):
        return HttpResponse(id)


async def states(request):
    return {"a": [1]} if "list" not in request.GET else [1]


stored = cached(states, "60s")


async def asks(request):
    return await stored(request)


WRAPPED = {"by-guard": guard, "by-hiding": hides, "by-adds": adds, "by-never": never_cache}


urlpatterns = [
    *from_environment(wrap=guard),
    *(route(f"GET /{name}", cached(counts, "60s"), name=name, wrap=how) for name, how in WRAPPED.items()),
    *(route(f"GET /{name}", how(cached(counts, "60s")), name=name) for name, how in {**CACHED, **UNCACHED}.items()),
    route("GET /thread", guard(cached(counts_in_thread, "60s")), name="thread"),
    route("/proxied/{id}", guard(cached(proxy("u:/users/{id}"), "60s")), name="proxied"),
    route("GET /function/{id}", guard(legacy(lambda id: {"id": id}, threads=2, name="functions")), name="function"),
    route("GET /class/{id}", Classy.as_view()),
    route("GET /asks", asks),
    path("django/<int:id>", guard(cached(counts, "60s")), name="django"),
    re_path("^optional/(?:(?P<id>[a-z]+)/)?$", proxy("u:/users/{id}"), name="optional"),
]
"""
CACHED = ["guarded", "twice", "plain", "reads", "get-only", "gzipped", "thread", "proxied/1", "django/1"]
CACHED += ["by-guard", "by-hiding", "of-environment"]
UNCACHED = ["hides", "varies", "never", "private", "csrf", "by-never"]
CHANGED = ["adds", "passes", "writes", "by-adds"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Answers]:
    with Answers() as service:
        yield service


@pytest.fixture(scope="module")
def gateway(upstream: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {"GATEWAY_UPSTREAM_U": upstream.url, "GATEWAY_LEGACY_FUNCTIONS__THREADS": "3"}
    environment["GATEWAY_TRUSTED_PROXIES"] = "127.0.0.1"
    environment |= {"GATEWAY_ROUTE_OF_ENV": "GET /of-environment -> u:/", "GATEWAY_ROUTE_OF_ENV__CACHE": "60s"}
    with Gateway(environment, cwd=folder) as running:
        yield running


@pytest.mark.parametrize("name", CACHED)
def test_a_wrapper_leaves_the_cache_its_meaning_and_is_asked_itself_each_time(gateway: Gateway, name: str) -> None:
    first, second = gateway.get(f"/{name}"), gateway.get(f"/{name}")
    assert first.one("cache-status") == "portway; fwd=uri-miss; stored"
    assert second.one("cache-status").startswith("portway; hit; ttl=")
    assert first.body == second.body
    if name not in {"plain", "get-only", "gzipped"}:
        assert second.one("x-wrapped") == "1"
        assert gateway.get(f"/{name}", "X-Deny: 1").status == 403


def test_behind_a_trusted_proxy_it_does_so_too(gateway: Gateway) -> None:
    said = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: shop.test")
    first, second = gateway.get("/guarded?proxied", *said), gateway.get("/guarded?proxied", *said)
    assert first.one("cache-status") == "portway; fwd=uri-miss; stored"
    assert second.one("cache-status").startswith("portway; hit; ttl=")


@pytest.mark.parametrize("name", CHANGED)
def test_what_a_wrapper_adds_to_the_request_is_in_no_key(gateway: Gateway, name: str) -> None:
    first, second = gateway.get(f"/{name}"), gateway.get(f"/{name}")
    assert first.body != second.body
    assert second.one("cache-status") == "portway; fwd=bypass; detail=request-changed"


@pytest.mark.parametrize("name", UNCACHED)
def test_a_cache_that_cannot_have_its_meaning_stores_nothing(gateway: Gateway, name: str) -> None:
    first, second = gateway.get(f"/{name}"), gateway.get(f"/{name}")
    assert first.body != second.body
    assert second.one("cache-status") == "portway; fwd=bypass; detail=nested"


@pytest.mark.parametrize(("target", "body"), [("/asks", b'{"a":[1]}'), ("/asks?list", b"[1]")])
def test_a_cached_view_that_another_view_calls_may_return_what_becomes_json(
    gateway: Gateway, target: str, body: bytes
) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.body) == (200, body)
    assert answer.one("cache-status") == "portway; fwd=bypass; detail=nested"


def test_a_class_of_views_has_its_own_name(gateway: Gateway) -> None:
    assert gateway.request_line(gateway.get("/class/1").one("x-request-id"))["route"] == "Classy"


def test_and_the_start_warns_of_it(gateway: Gateway) -> None:
    said = "\n".join(gateway.errors)
    assert said.count("never_cache stands outside of cached()") == 2  # as a decorator, and by wrap=
    for name in ("vary_on_headers", "never_cache", "cache_control", "CsrfViewMiddleware"):
        assert f"{name} stands outside of cached(), which cannot see what it says of caching" in said
    assert said.count("what is wrapped around cached() hides it: nothing is stored") == 1
    assert "counts_in_thread() is synchronous" in said
    assert len(gateway.errors) == 7, said


def test_a_compressed_answer_is_stored_as_it_was_before(gateway: Gateway) -> None:
    assert gateway.get("/gzipped", "Accept-Encoding: gzip").one("content-encoding") == "gzip"
    assert not gateway.get("/gzipped").has("content-encoding")


def test_what_stands_behind_a_wrapper_is_known_by_name(gateway: Gateway) -> None:
    assert gateway.get("/function/7").json() == {"id": "7"}
    status = gateway.ask(b"GET /-/status HTTP/1.1\r\nHost: localhost\r\n\r\n").json()
    assert [(pool["name"], pool["threads"]) for pool in status["bulkheads"]] == [("functions", 3)]


def test_what_stands_behind_wrap_is_seen_by_routes_and_explain(gateway: Gateway) -> None:
    folder = Path(gateway.cwd)
    rows = {row["name"]: row for row in json.loads(run(folder, "routes", "--json", **gateway.environment).output)}
    assert (rows["of_env"]["target"], rows["of_env"]["options"]) == ("u:/", {"cache": "60s"})
    assert (rows["by-hiding"]["target"], rows["by-hiding"]["options"]) == ("counts()", {"cache": "60s"})
    told = run(folder, "explain", "GET", "/of-environment", **gateway.environment).output
    assert "stored for as long as it says, else 60s" in told
    gateway.get("/django/1")
    why = eventually(lambda: _stored_by(run(folder, "cache", "why", "GET", "/django/1", **gateway.environment)))
    assert why.startswith("Route    django (urlpatterns): django/<int:id>\n")


def _stored_by(ran: Ran) -> str:
    """What `cache why` says, once the answer is in the database."""
    return ran.output if "Answer   from the cache: it is fresh (hit)" in ran.output else ""


def test_a_class_whose_dispatch_is_decorated_is_a_view(gateway: Gateway) -> None:
    answer = gateway.get("/class/7")
    assert (answer.body, answer.one("x-wrapped")) == (b"7", "1")


def test_an_optional_group_that_took_nothing_cannot_stand_in_a_target(gateway: Gateway, upstream: Answers) -> None:
    assert gateway.get("/optional/ada/").body == b"hello"
    assert upstream.requests[-1].target == "/users/ada"
    answer = gateway.get("/optional/")
    assert (answer.status, answer.json()["reason"]) == (400, "template_value")


def test_an_unsafe_method_forgets_what_a_wrapped_cache_holds(gateway: Gateway) -> None:
    gateway.get("/proxied/9")
    assert gateway.get("/proxied/9").one("cache-status").startswith("portway; hit")
    assert gateway.ask(request_bytes("DELETE", "/proxied/9")).one("cache-status") == "portway; fwd=method"
    assert gateway.get("/proxied/9").one("cache-status") == "portway; fwd=uri-miss; stored"


def test_what_stands_before_a_wrapper_turns_no_cache_off(upstream: Answers, tmp_path: Path) -> None:
    (tmp_path / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_UPSTREAM_U": upstream.url,
        "GATEWAY_UPSTREAM_COPIES": upstream.url,
        "GATEWAY_RATE_LIMIT": "1000/1m by client",
        "GATEWAY_AUTH_TEAM": "keys",
        "GATEWAY_AUTH_TEAM__KEYS": f"ann sha256:{hashlib.sha256(b'pw_test').hexdigest()}",
        "GATEWAY_ROUTE_OF_ENV": "GET /of-environment -> u:/",
        "GATEWAY_ROUTE_OF_ENV__CACHE": "60s",
        "GATEWAY_ROUTE_OF_ENV__MIRROR": "copies",
        "GATEWAY_ROUTE_FOR_ANN": "GET /for-ann -> u:/",
        "GATEWAY_ROUTE_FOR_ANN__CACHE": "60s",
        "GATEWAY_ROUTE_FOR_ANN__AUTH": "team",
    }
    with Gateway(environment, cwd=tmp_path) as running:
        first, second = running.get("/of-environment"), running.get("/of-environment")
        for_ann = running.get("/for-ann", "X-Api-Key: pw_test")
    assert first.one("cache-status") == "portway; fwd=uri-miss; stored"
    assert second.one("cache-status").startswith("portway; hit; ttl=")
    # A wrapper is not what keeps this one out: the service says nowhere that all who may ask get the same.
    assert for_ann.one("cache-status") == "portway; fwd=uri-miss; detail=authorization"
