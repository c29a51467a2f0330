"""Paths that could be read in two ways, for every kind of view: the gateway, `explain` and `cache why` agree."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import Answers, Gateway, request_bytes
from tests.live.management.test_commands import run

ROUTES = """
from django.http import HttpResponse
from django.urls import include, path, re_path
from gateway.routing import cached, fetch, from_environment, legacy, proxy, route

async def answer(request, **params):
    return HttpResponse("async")

def slow(request, **params):
    return HttpResponse("sync")

async def fetched(request, id):
    return HttpResponse((await fetch("u:/fetched/{id}", params={"id": id})).body)

def old(rest=""):
    return "legacy"

urlpatterns = [
    *from_environment(),
    route("/async/**", answer),
    route("/sync/**", slow),
    route("/legacy/**", legacy(old)),
    route("/python/**", cached(proxy("u"), "60s")),
    route("/fetched/{id}", fetched),
    path("django/guarded", slow),
    path("django/<path:rest>", answer),
    path("included/", include([path("guarded", slow), re_path(r"^(?P<rest>.*)$", answer)])),
    path("moved/<str:id>", proxy("u:/moved/{id}")),
]
"""
KINDS = ("proxied", "cached", "fan", "async", "sync", "legacy", "python", "django", "included")
DJANGOS = ("django", "included")  # lines of Django's own, which has the escapes decoded already
SPELLED = ("//guarded", "/guarded;a=1", "/;/guarded", "/%67uarded%2F")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("paths")
    (home / "routes.py").write_text(ROUTES)
    return home


@pytest.fixture(scope="module")
def environment(up: Answers, home: Path) -> dict[str, str]:
    found = {
        "GATEWAY_UPSTREAM_U": up.url,
        "GATEWAY_UPSTREAM_CLOSED": "http://127.0.0.1:9",
        "GATEWAY_ROUTE_PROXIED": "/proxied/** -> u:/**",
        "GATEWAY_ROUTE_CACHED": "/cached/** -> u",
        "GATEWAY_ROUTE_CACHED__CACHE": "60s",
        "GATEWAY_ROUTE_FAN": "GET /fan/**",
        "GATEWAY_ROUTE_FAN__PART_ONE": "u:/one",
        "GATEWAY_ROUTE_FAN__PART_ONE__DEFAULT": "null",
        "GATEWAY_ROUTE_FANNED": "GET /fanned/{id}",
        "GATEWAY_ROUTE_FANNED__PART_ONE": "u:/one/{id}/{query.x}",
        "GATEWAY_ROUTE_FANNED__PART_ONE__DEFAULT": "null",
        "GATEWAY_DATABASE_URL": f"sqlite:///{home}/portway.sqlite3",
    }
    guarded = {
        f"GATEWAY_ROUTE_{kind.upper()}_GUARDED": f"/{kind}/guarded/** -> closed"
        for kind in KINDS
        if kind not in DJANGOS
    }
    return found | guarded


@pytest.fixture(scope="module")
def gateway(environment: dict[str, str], home: Path) -> Iterator[Gateway]:
    with Gateway(environment, cwd=home) as running:
        yield running


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_no_kind_of_view_answers_for_another_routes_path(
    gateway: Gateway, up: Answers, kind: str, version: str
) -> None:
    up.forget()
    spelled = SPELLED[:-1] if kind in DJANGOS else SPELLED
    for one, reason in (*((one, "path_ambiguous") for one in spelled), ("/x%2f..%2fguarded", "path_invalid")):
        target = f"/{kind}{one}"
        answer = gateway.ask(request_bytes("GET", target).replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        assert (answer.status, answer.json()["reason"]) == (400, reason), target
    assert up.requests == []
    assert gateway.get(f"/{kind}//other;a=1").status == 200


def test_what_django_decodes_is_what_its_view_is_asked_for(gateway: Gateway) -> None:
    assert gateway.get("/django%2Fguarded").body == b"sync"
    assert gateway.get("/django/x").body == b"async"
    assert gateway.get("/proxied%2Fguarded").status == 404


@pytest.mark.parametrize("value", ["..%2fadmin", "..%5Cadmin", "..;x", "x%2f..", "x;..", "%2e%2e%2f", "%00"])
def test_no_value_of_a_fan_out_or_a_fetch_leaves_its_place(gateway: Gateway, up: Answers, value: str) -> None:
    up.forget()
    for target in (f"/fanned/{value}?x=1", f"/fetched/{value}", f"/moved/{value}"):
        answer = gateway.get(target)
        assert (answer.status, answer.json()["reason"]) == (400, "path_invalid"), target
    answer = gateway.get(f"/fanned/1?x={value}")
    assert answer.one("gateway-parts").startswith("one;e=template_value")
    assert up.requests == []


@pytest.mark.parametrize("value", ["group%2Fapp", "a%5Cb", "a;v=1", "a%40b", "a..b", "..."])
def test_a_value_of_a_fan_out_is_data(gateway: Gateway, up: Answers, value: str) -> None:
    up.forget()
    gateway.get(f"/fanned/{value}?x={value}")
    assert [request.target.startswith(f"/one/{value}/") for request in up.requests] == [True]


def test_explain_and_cache_why_say_the_same(environment: dict[str, str], home: Path) -> None:
    for target in ("/cached//guarded/x", "/django//guarded"):
        ran = run(home, "explain", "GET", target, **environment)
        assert "path_ambiguous" in ran.output, ran
    ran = run(home, "cache", "why", "GET", "/cached//guarded/x", **environment)
    assert ran.output.splitlines()[-1] == "Answer   from the gateway itself: 400 path_ambiguous"
    ran = run(home, "cache", "why", "GET", "/cached/x%2f..", **environment)
    assert ran.output.splitlines()[-1] == "Answer   from the gateway itself: 400 path_invalid"
