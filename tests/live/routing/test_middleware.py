"""Django's middleware, and a team's own, around every kind of view, served by the real process."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.live.harness import PATIENCE_S, Answer, Answers, Gateway, Upstream, request_bytes
from tests.live.management.test_commands import run

MIDDLEWARE = """
import contextvars

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.decorators import async_only_middleware, sync_and_async_middleware
from django.utils.deprecation import MiddlewareMixin

made = []


class Tenant:
    async_capable, sync_capable = True, False

    def __init__(self, get_response):
        self.get_response = get_response
        made.append("Tenant")

    async def __call__(self, request):
        request.tenant = request.headers.get("X-Tenant", "nobody")
        if request.tenant == "banned":
            return JsonResponse({"banned": True}, status=403)
        response = await self.get_response(request)
        response["X-Tenant-Is"] = request.tenant
        response["X-Seen"] = f"{response.get('X-Seen', '')}tenant {response.status_code};"
        return response


@async_only_middleware
def counts(get_response):
    made.append("counts")

    async def middleware(request):
        response = await get_response(request)
        if response.streaming and response.is_async:
            response.streaming_content = _upper(response.streaming_content)
        elif response.streaming:
            response.streaming_content = map(bytes.upper, response.streaming_content)
        response["X-Seen"] = f"{response.get('X-Seen', '')}counts {response.status_code};"
        return response

    return middleware


async def _upper(pieces):
    async for piece in pieces:
        yield piece.upper()


@sync_and_async_middleware
def either(get_response):
    assert iscoroutinefunction(get_response)

    async def middleware(request):
        response = await get_response(request)
        response["X-Either"] = "1"
        return response

    return middleware


@async_only_middleware
def zone(get_response):
    async def middleware(request):
        with timezone.override(request.headers.get("X-Zone")):
            return await get_response(request)

    return middleware


class Hooks(MiddlewareMixin):
    def process_request(self, request):
        if request.GET.get("stop") == "request":
            return HttpResponse("stopped before the view")

    def process_view(self, request, view, args, kwargs):
        request.view_told = f"{getattr(view, '__name__', type(view).__name__)} {args} {sorted(kwargs)}"
        request.open = getattr(view, "open_to_all", False)
        if request.GET.get("stop") == "view":
            return HttpResponse("stopped at the view")

    def process_exception(self, request, error):
        if request.GET.get("rescue"):
            return HttpResponse(f"rescued from {type(error).__name__}", status=299)

    def process_response(self, request, response):
        response["X-Told"] = getattr(request, "view_told", "")
        response["X-Open"] = str(getattr(request, "open", ""))
        return response


class AsyncHooks:
    async_capable, sync_capable = True, False

    def __init__(self, get_response):
        self.get_response = get_response

    async def __call__(self, request):
        return await self.get_response(request)

    async def process_view(self, request, view, args, kwargs):
        if "n" in kwargs:
            kwargs["n"] = kwargs["n"] + "!"

    async def process_exception(self, request, error):
        if isinstance(error, ZeroDivisionError):
            return HttpResponse("divided", status=298)


class Unused:
    async_capable = True

    def __init__(self, get_response):
        raise MiddlewareNotUsed


class Fails:
    async_capable = True

    def __init__(self, get_response):
        self.get_response = get_response

    async def __call__(self, request):
        response = await self.get_response(request)
        if request.GET.get("fail") == "after":
            raise RuntimeError("of the middleware")
        if request.GET.get("fail") == "nothing":
            return None
        if request.GET.get("fail") == "field":
            response["X-Bad"] = "1"
            response.headers["X-Bad"] = "1"
        return response
"""
ROUTES = """
import time

from django.db import connection
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.utils.timezone import get_current_timezone_name
from django.views import View

from gateway.routing import cached, fanout, from_environment, legacy, part, proxy, route
from typing import Annotated, Any

from team import middleware

calls = [0]


async def tells(request, **params):
    calls[0] += 1
    return JsonResponse({"tenant": getattr(request, "tenant", None), "params": params, "calls": calls[0]})


def tells_in_thread(request, **params):
    return JsonResponse({"tenant": getattr(request, "tenant", None), "params": params})


async def form(request):
    return JsonResponse({"post": dict(request.POST.items()), "tenant": request.tenant})


async def missing(request):
    raise Http404


async def divides(request):
    return 1 / 0


async def lasts(request):
    async def pieces():
        yield b"a"
        yield b"b"
    return StreamingHttpResponse(pieces())


def lasts_in_thread(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


async def unread(request):
    calls[0] += 1
    return JsonResponse({"calls": calls[0]})


async def zoned(request):
    return HttpResponse(get_current_timezone_name())


tells.open_to_all = True


@fanout
async def gathered(one: Annotated[Any, part("u:/one")], two: Annotated[Any, part("u:/two")]) -> Any:
    return {"one": one, "two": two}


urlpatterns = [
    *from_environment(),
    route("/own/{n}", tells, name="own"),
    route("/thread/{n}", tells_in_thread, name="thread"),
    route("/form", form),
    route("/missing", missing),
    route("/divides", divides),
    route("/lasts", lasts),
    route("/lasts/thread", lasts_in_thread),
    route("/gathered", gathered),
    route("/old/{n}", legacy(lambda n: {"n": n}, name="old")),
    route("GET /kept/reads", cached(tells, "60s"), name="kept-reads"),
    route("GET /kept/unread", cached(unread, "60s"), name="kept-unread"),
    route("GET /kept/zone", cached(zoned, "60s"), name="kept-zone", middleware=[middleware.zone]),
    route("/other/{n}", tells, name="other", middleware=[middleware.either]),
    route("/none/{n}", tells, name="none", middleware=[]),
    path("django/form/", form, name="django-form"),
    path("django/missing/", missing, name="django-missing"),
    path("django/<n>/", tells, name="django"),
]
"""
LIST = "team.middleware.Tenant team.middleware.counts team.middleware.Unused team.middleware.Hooks"
LIST += " team.middleware.AsyncHooks team.middleware.Fails"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Answers]:
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'
    with Upstream.answering(answer) as service:
        yield service


@pytest.fixture(scope="module")
def gateway(upstream: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "team").mkdir()
    (folder / "team/__init__.py").touch()
    (folder / "team/middleware.py").write_text(MIDDLEWARE, encoding="utf-8")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_UPSTREAM_U": upstream.url,
        "GATEWAY_MIDDLEWARE": LIST,
        "GATEWAY_ROUTE_PLAIN": "/plain/** -> u",
        "GATEWAY_ROUTE_PLAIN__MIDDLEWARE": "-",
        "GATEWAY_ROUTE_EITHER": "/either/** -> u",
        "GATEWAY_ROUTE_EITHER__MIDDLEWARE": "team.middleware.either",
        "GATEWAY_ROUTE_UP": "/up/** -> u",
        "GATEWAY_ROUTE_KEPT": "/kept/up/** -> u",
        "GATEWAY_ROUTE_KEPT__CACHE": "60s",
        "GATEWAY_UPSTREAM_GONE": "http://127.0.0.1:9",
        "GATEWAY_ROUTE_GONE": "/gone/** -> gone",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running


def posted(target: str, *fields: str, body: bytes) -> bytes:
    return request_bytes("POST", target, *fields, f"Content-Length: {len(body)}", body=body)


def seen(answer: Answer) -> str:
    """What the middleware saw of the answer, from the inside out."""
    return answer.one("x-seen")


@pytest.mark.parametrize(
    "target", ["/own/1", "/thread/1", "/up/x", "/gathered", "/old/1", "/kept/up/x", "/kept/unread", "/django/1/"]
)
def test_every_kind_of_view_is_behind_the_list(gateway: Gateway, target: str) -> None:
    for _ in range(2):
        answer = gateway.get(target, "X-Tenant: acme")
        assert (answer.status, answer.one("x-tenant-is")) == (200, "acme")
        assert seen(answer) == "counts 200;tenant 200;"
    refused = gateway.get(target, "X-Tenant: banned")
    assert (refused.status, refused.json()) == (403, {"banned": True})
    assert not refused.has("x-seen")


def test_what_answers_before_the_view_sends_nothing_up(gateway: Gateway, upstream: Answers) -> None:
    upstream.forget()
    assert gateway.get("/up/x", "X-Tenant: banned").status == 403
    assert gateway.get("/up/x?stop=request").body == b"stopped before the view"
    assert gateway.get("/up/x?stop=view").body == b"stopped at the view"
    assert upstream.requests == []


@pytest.mark.parametrize("target", ["/own/1", "/django/1/", "/thread/1"])
def test_what_is_set_on_the_request_is_the_views_to_read(gateway: Gateway, target: str) -> None:
    assert gateway.get(target, "X-Tenant: acme").json()["tenant"] == "acme"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/own/1", "tells () ['n']"),
        ("/django/1/", "tells () ['n']"),
        ("/up/x", "u () []"),
        ("/kept/unread", "unread () []"),
    ],
)
def test_process_view_is_told_of_the_view_and_its_parameters(gateway: Gateway, target: str, told: str) -> None:
    answer = gateway.get(target)
    assert answer.one("x-told") == told
    assert answer.one("x-open") == ("True" if told.startswith("tells") else "False")


@pytest.mark.parametrize("target", ["/own/1", "/django/1/"])
def test_an_async_process_view_may_change_the_parameters(gateway: Gateway, target: str) -> None:
    assert gateway.get(target).json()["params"] == {"n": "1!"}


@pytest.mark.parametrize("target", ["/missing", "/django/missing/"])
def test_what_a_view_raises_is_an_answer_for_the_middleware(gateway: Gateway, target: str) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.json()["reason"]) == (404, "view_not_found")
    assert seen(answer) == "counts 404;tenant 404;"
    rescued = gateway.get(f"{target}?rescue=1")
    assert (rescued.status, rescued.body) == (299, b"rescued from Http404")


def test_an_async_process_exception_is_asked_first_as_it_stands_further_in(gateway: Gateway) -> None:
    assert gateway.get("/divides?rescue=1").status == 298


def test_a_failure_of_a_service_passes_with_its_word(gateway: Gateway) -> None:
    answer = gateway.get("/gone/x")
    assert (answer.status, answer.json()["reason"]) == (502, "connection_refused")
    assert seen(answer) == "counts 502;tenant 502;"
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["reason"], line["upstream"]) == ("connection_refused", "gone")


@pytest.mark.parametrize("target", ["/lasts", "/lasts/thread"])
def test_what_streams_may_be_passed_through_something(gateway: Gateway, target: str) -> None:
    assert gateway.get(target).body == b"AB"


@pytest.mark.parametrize(("fail", "reason"), [("after", "view_error"), ("nothing", "view_error")])
def test_a_middleware_that_fails_is_a_500_that_those_before_it_see(gateway: Gateway, fail: str, reason: str) -> None:
    answer = gateway.get(f"/up/x?fail={fail}")
    assert (answer.status, answer.json()["reason"]) == (500, reason)
    assert answer.one("x-tenant-is") == "nobody"


def test_a_route_has_another_list_or_none(gateway: Gateway) -> None:
    for target in ("/other/1", "/either/x"):
        answer = gateway.get(target, "X-Tenant: acme")
        assert answer.one("x-either") == "1"
        assert not answer.has("x-tenant-is")
    for target in ("/none/1", "/plain/x"):
        assert not gateway.get(target, "X-Tenant: acme").has("x-tenant-is")


def test_a_form_is_there_for_the_view(gateway: Gateway) -> None:
    fields = ("Content-Type: application/x-www-form-urlencoded", "X-Tenant: acme")
    for target in ("/form", "/django/form/"):
        answer = gateway.ask(posted(target, *fields, body=b"a=1&b=2"))
        assert answer.json() == {"post": {"a": "1", "b": "2"}, "tenant": "acme"}


def test_an_upload_streams_through(gateway: Gateway, upstream: Answers) -> None:
    upstream.forget()
    body = b"x" * 200_000
    answer = gateway.ask(posted("/up/x", "Content-Type: multipart/form-data; boundary=b", body=body))
    assert answer.status == 200
    assert upstream.wait_for_request("/up/x").body == body


# -- the cache stands within ----------------------------------------------------------------------------------------


def test_a_hit_is_asked_for_by_each_client(gateway: Gateway, upstream: Answers) -> None:
    gateway.get("/kept/up/hit")
    upstream.forget()
    answer = gateway.get("/kept/up/hit", "X-Tenant: other")
    assert answer.one("cache-status").startswith("portway; hit")
    assert answer.one("x-tenant-is") == "other"
    assert upstream.requests == []


def test_a_view_that_reads_what_middleware_has_set_is_not_stored(gateway: Gateway) -> None:
    for tenant in ("acme", "other"):
        answer = gateway.get("/kept/reads", f"X-Tenant: {tenant}")
        assert answer.json()["tenant"] == tenant
        assert answer.one("cache-status").endswith("detail=unnamed-vary")


def test_one_that_does_not_is_stored(gateway: Gateway) -> None:
    first, second = (gateway.get("/kept/unread?own", f"X-Tenant: {tenant}") for tenant in ("acme", "other"))
    assert first.body == second.body
    assert second.one("cache-status").startswith("portway; hit")


def test_the_time_zone_that_middleware_has_chosen_is_in_the_key(gateway: Gateway) -> None:
    for turn in range(2):
        for zone in (b"Asia/Tokyo", b"Europe/Berlin"):
            answer = gateway.get("/kept/zone", f"X-Zone: {zone.decode()}")
            hit = answer.one("cache-status").startswith("portway; hit")
            assert (answer.body, hit) == (zone, bool(turn))


def test_explain_and_routes_name_it_with_the_variable(gateway: Gateway) -> None:
    folder = Path(gateway.cwd)
    told = run(folder, "explain", "GET", "/up/x", **gateway.environment).output
    assert "Middleware, before the cache and the view" in told
    assert re.search(r"team\.middleware\.Tenant +GATEWAY_MIDDLEWARE\n", told)
    rows = {row["name"]: row for row in json.loads(run(folder, "routes", "--json", **gateway.environment).output)}
    assert rows["up"]["options"]["middleware"] == LIST.replace(" ", ",")
    assert rows["up"]["inherited"]["middleware"] == "GATEWAY_MIDDLEWARE"
    assert rows["either"]["options"]["middleware"] == "team.middleware.either"
    assert "middleware" not in rows["plain"]["options"]


# -- sockets --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    """A service that sends back what it gets."""

    def answer(socket: ServerConnection) -> None:
        for message in socket:
            socket.send(message)

    with serve(answer, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


def test_a_handshake_passes_it_as_a_get_does(gateway: Gateway, echo: str) -> None:
    environment = {**gateway.environment, "GATEWAY_UPSTREAM_U": echo}
    del environment["GATEWAY_BIND"]
    with Gateway(environment, cwd=gateway.cwd) as other:
        url = f"ws://{other.authority}/up/socket"
        with connect(url) as socket:
            socket.send("hello")
            assert socket.recv(PATIENCE_S) == "hello"
        with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers={"X-Tenant": "banned"}):
            pass
        assert caught.value.response.status_code == 403


# -- Django's own ---------------------------------------------------------------------------------------------------

SETTINGS = """
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
USE_I18N = True
LANGUAGE_CODE = "en"
"""
DJANGO_ROUTES = """
from django.contrib.auth import alogin, alogout
from django.contrib.auth.models import User
from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.csrf import csrf_exempt

from gateway.routing import cached, from_environment, route


async def start(request):
    await User.objects.filter(username="ada").adelete()
    await alogin(request, await User.objects.acreate_user("ada", password="x"))
    return JsonResponse({"token": get_token(request)})


async def who(request):
    user = await request.auser()
    seen = await request.session.aget("seen", 0)
    await request.session.aset("seen", seen + 1)
    return JsonResponse({"user": user.get_username(), "seen": seen})


def who_in_thread(request):
    return JsonResponse({"user": request.user.get_username()})


async def speaks(request):
    return HttpResponse(gettext("Yes").encode() * 200, content_type="text/plain; charset=utf-8")


async def saved(request):
    return JsonResponse({"name": request.POST.get("name")})


urlpatterns = [
    *from_environment(),
    route("/start", start),
    route("/who", who),
    path("django/who/", who_in_thread),
    route("GET /speaks", speaks),
    route("GET /kept/speaks", cached(speaks, "60s"), name="kept"),
    route("/saved", saved),
    path("django/saved/", saved),
    route("/open", csrf_exempt(saved), name="open"),
]
"""
APPS = "django.contrib.contenttypes,django.contrib.auth,django.contrib.sessions"


@pytest.fixture(scope="module")
def django(upstream: Answers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("django")
    (folder / "team_settings.py").write_text(SETTINGS, encoding="utf-8")
    (folder / "routes.py").write_text(DJANGO_ROUTES, encoding="utf-8")
    environment = {
        "GATEWAY_SETTINGS": "team_settings",
        "GATEWAY_APPS": APPS,
        "GATEWAY_SECRET": "secret-of-the-test",
        "GATEWAY_UPSTREAM_U": upstream.url,
        "GATEWAY_ROUTE_UP": "/up/** -> u",
        "GATEWAY_ROUTE_KEPT": "/kept/up -> u:/up",
        "GATEWAY_ROUTE_KEPT__CACHE": "60s",
    }
    assert run(folder, "migrate", "-v", "0", **environment).code == 0
    with Gateway(environment, cwd=folder) as running:
        yield running


def cookies_of(answer: Answer) -> str:
    pairs = [value.partition(";")[0] for value in answer.all("set-cookie")]
    return f"Cookie: {'; '.join(pairs)}"


@pytest.fixture(scope="module")
def session(django: Gateway) -> tuple[str, str]:
    """The cookies of somebody who has logged in, and the token for forms."""
    answer = django.get("/start")
    assert answer.status == 200, answer.body
    return cookies_of(answer), answer.json()["token"]


def test_sessions_and_users_are_there(django: Gateway, session: tuple[str, str]) -> None:
    assert [django.get("/who", session[0]).json() for _ in range(2)] == [
        {"user": "ada", "seen": 0},
        {"user": "ada", "seen": 1},
    ]
    assert django.get("/who").json()["user"] == ""
    assert django.get("/django/who/", session[0]).json() == {"user": "ada"}


@pytest.mark.parametrize("target", ["/speaks", "/kept/speaks"])
def test_the_language_of_a_request_is_its_own_and_in_the_cache_too(django: Gateway, target: str) -> None:
    for language, word in (("de", b"Ja"), ("fr", b"Oui"), ("en", b"Yes")) * 2:
        answer = django.get(target, f"Accept-Language: {language}")
        assert (answer.one("content-language"), answer.body) == (language, word * 200)
        assert "Accept-Language" in answer.one("vary")


def test_it_is_compressed_and_guarded(django: Gateway) -> None:
    answer = django.get("/speaks", "Accept-Encoding: gzip")
    assert gzip.decompress(answer.body) == b"Yes" * 200
    assert answer.one("x-frame-options") == "DENY"
    assert answer.one("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("target", ["/saved", "/django/saved/"])
def test_a_form_without_the_token_is_refused(django: Gateway, session: tuple[str, str], target: str) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    assert django.ask(posted(target, form, session[0], body=b"name=a")).status == 403
    body = f"name=a&csrfmiddlewaretoken={session[1]}".encode()
    assert django.ask(posted(target, form, session[0], body=body)).json() == {"name": "a"}


def test_a_view_may_be_exempt(django: Gateway) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    assert django.ask(posted("/open", form, body=b"name=a")).json() == {"name": "a"}


def test_what_is_forwarded_has_the_token_in_its_field(
    django: Gateway, session: tuple[str, str], upstream: Answers
) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    upstream.forget()
    assert django.ask(posted("/up/x", form, session[0], body=b"name=a")).status == 403
    assert upstream.requests == []
    told = f"X-CSRFToken: {session[1]}"
    assert django.ask(posted("/up/x", form, session[0], told, body=b"name=a")).status == 200
    assert upstream.wait_for_request("/up/x").body == b"name=a"


def test_what_is_forwarded_may_be_stored_all_the_same(django: Gateway) -> None:
    django.get("/kept/up")
    assert django.get("/kept/up").one("cache-status").startswith("portway; hit")
