"""Stock Django, as a team would write it by hand: get_asgi_application, async views, one shared aiohttp session.

MIDDLEWARE is empty and DEBUG is off: with Django's default middleware it would be several times slower still.
"""

import functools
import os

import aiohttp
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from bench.upstream import one_kilobyte

settings.configure(
    DEBUG=False,
    SECRET_KEY="bench",  # noqa: S106  it signs nothing here
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
)
django.setup()

BODY = one_kilobyte()
NOT_FORWARDED = {
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-encoding",
    "content-length",
}


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse(BODY, content_type="application/json")


async def proxy(request: HttpRequest, rest: str) -> HttpResponse:
    async with shared_session().request(
        request.method or "GET",
        os.environ["BENCH_UPSTREAM"] + request.get_full_path(),
        headers={name: value for name, value in request.headers.items() if name.lower() not in NOT_FORWARDED},
        data=request.body or None,
        allow_redirects=False,
    ) as upstream:
        response = HttpResponse(await upstream.read(), status=upstream.status)
        for name, value in upstream.headers.items():
            if name.lower() not in NOT_FORWARDED:
                response[name] = value
        return response


@functools.cache
def shared_session() -> aiohttp.ClientSession:
    """Made at the first request: Django's ASGI handler has no lifespan in which to make it."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())


urlpatterns = [path("hello", hello), path("<path:rest>", proxy)]
app = get_asgi_application()
