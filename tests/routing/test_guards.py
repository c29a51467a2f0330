"""No spelling of a path reaches, in whatever stands behind the gateway, what another route guards."""

import os
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")

from django.http import HttpResponse
from django.urls import URLPattern, URLResolver, include, path, re_path

from gateway.config import loader
from gateway.errors import GatewayError
from gateway.http.request import GatewayRequest
from gateway.routing import route
from gateway.routing.clashes import clashes
from gateway.routing.patterns import parse_pattern
from gateway.routing.table import Miss
from gateway.routing.urls import Routes

CONFIG = loader.load({}, lambda name: "")


async def view(request: GatewayRequest, **params: str) -> HttpResponse:
    return HttpResponse()


async def first(request: GatewayRequest, **params: str) -> HttpResponse:
    return HttpResponse()


async def second(request: GatewayRequest, **params: str) -> HttpResponse:
    return HttpResponse()


@lru_cache(maxsize=512)
def routes_of(*lines: str) -> Routes:
    return Routes([route(line, view, name=line) for line in lines], CONFIG.declared)


def asked(routes: Routes, target: str, method: str = "GET", host: str = "a.test") -> str:
    """Who answers a request: a line's name, the word of a refusal, or nothing."""
    match = routes.find(method, host, target)
    try:
        routes.guards.check(method, host, target, match)
    except GatewayError as error:
        return error.reason.word
    if isinstance(match, Miss):
        line = routes.guards.django_match(target)
        return "" if line is None else line.func.__name__
    return match.route.name or ""


GUARDED = ("/public/**", "/public/secret/**", "/", "/public/{one}/{two}/end")


AMBIGUOUS = [
    *("//secret/x", "/secret%2Fx", "/secret%2fx", "//secret", "/secret;x/y", "/secret%3bx/y", "/;/secret"),
    *("/;x/secret", "/secret%5Cx", "/%2Fsecret/x", "/%73ecret%2Fx", "//%73ecret", "/%2f%2F/secret;a=1;b/"),
]
INVALID = ["/..%2fadmin", "/x%2f..%2fsecret/x", "\\secret", "/x;..", "/%00"]
PASSING = [
    *("//x", "/x%2Fy", "/x;a=1", "/x%3b", "//", "/;", "/x%5Cy", "/x/secret%2Fx", "/x//secret", "/Secret%2Fx"),
    *("/secrets;x", "/secret%252Fx"),  # nobody here decodes twice
]


@pytest.mark.parametrize(
    ("target", "answers"),
    [
        ("/public/x", "/public/**"),
        ("/public/secret/x", "/public/secret/**"),
        ("/public/secret//x;y%2Fz", "/public/secret/**"),
        ("//public/x", ""),  # no route takes it as it came
        ("//", ""),
        ("/", "/"),
        *((f"/public{spelled}", "path_ambiguous") for spelled in AMBIGUOUS),
        *((f"/public{spelled}", "path_invalid") for spelled in INVALID),
        *((f"/public{spelled}", "/public/**") for spelled in PASSING),
    ],
)
def test_a_path_that_reads_as_another_routes_is_refused_and_all_else_passes(target: str, answers: str) -> None:
    assert asked(routes_of(*GUARDED), target) == answers


@pytest.mark.parametrize(
    ("lines", "target", "answers"),
    [
        (("/projects/{id}/issues",), "/projects/group%2Fapp/issues", "/projects/{id}/issues"),
        (("/projects/{id}/issues", "/projects/**"), "/projects/group%2Fapp/issues", "/projects/{id}/issues"),
        (("/{a}/{b}", "/{a}/{b}/{c}"), "/x/y%2Fz", "/{a}/{b}"),
        (("/users/{id}", "/users/admin"), "/users/1;v=2", "/users/{id}"),
        (("/users/{id}", "/users/admin"), "/users/admin;v=2", "path_ambiguous"),
        (("/users/{id}", "/users/admin"), "/users/admin%3Bv", "path_ambiguous"),
        (("/users/{id}", "/users/admin"), "/users/admin%2F", "/users/{id}"),
        (("/projects/{id}", "/projects/secret/**"), "/projects/secret%2Fx", "path_ambiguous"),
        (("/projects/{id}", "/projects/{id}/secret"), "/projects/1%2fsecret", "path_ambiguous"),
        (("/v1/{id}", "/v1/a:delete"), "/v1/a%3Adelete", "path_ambiguous"),
        (("/v1/{id}", "/v1/a:delete"), "/v1/b%3Adelete", "/v1/{id}"),
        (("/u/{id}/x", "/u/x"), "/u//x", "path_ambiguous"),  # nothing was taken, so there is no data
        (("/u/{id}/x",), "/u//x", "/u/{id}/x"),
        (("/{page}",), "/-%2Fstatus", "path_ambiguous"),
    ],
)
def test_a_value_is_data_unless_another_routes_words_are_in_it(
    lines: tuple[str, ...], target: str, answers: str
) -> None:
    assert asked(routes_of(*lines), target) == answers


@pytest.mark.parametrize(
    "spelled", ["//-/status", "/%2d/status", "/%2D/", "/-%2fstatus", "/-%2f", "/-;x/status", "/;x/-/status"]
)
def test_what_belongs_to_the_gateway_is_in_no_other_spelling_a_routes(spelled: str) -> None:
    assert asked(routes_of("/**"), spelled) == "path_ambiguous"


@pytest.mark.parametrize("plain", ["/-", "/--/status", "/a/-/status", "/-a/%20", "/a//-/"])
def test_what_only_looks_like_the_gateways_own_is_not(plain: str) -> None:
    assert asked(routes_of("/**"), plain) == "/**"


def test_who_guards_depends_on_the_method_and_the_host() -> None:
    lines = ("/p/**", "POST /p/s/**", "b.test/p/t/**")
    assert asked(routes_of(*lines), "/p//s/x") == "/p/**"
    assert asked(routes_of(*lines), "/p//s/x", "POST") == "path_ambiguous"
    assert asked(routes_of(*lines), "/p//t/x") == "/p/**"
    assert asked(routes_of(*lines), "/p//t/x", host="b.test") == "path_ambiguous"
    # The path is GET's alone, and POST does not get to it by another spelling.
    assert asked(routes_of("GET /p/s", "/{a}"), "/p%2Fs", "POST") == "path_ambiguous"


# -- Django's own lines -------------------------------------------------------------------------------------------

DJANGO: list[URLPattern | URLResolver] = [
    path("open/secret", second),
    path("open/<path:rest>", first),
    path("d/admin", second),
    path("d/<str:name>", first),
    re_path(r"^re/(?P<rest>.*)$", first),
    path("in/", include([path("secret", second), path("<path:rest>", first)])),
    path("same/secret/<path:rest>", first, {"guard": "on"}),  # one view, which knows by its argument what it guards
    path("same/<path:rest>", first),
]
TABLE = ("/taken/**", "/in/table/**", "/val/{x}")


@pytest.mark.parametrize(
    ("target", "answers"),
    [
        ("/open/x", "first"),
        ("/open/secret", "second"),
        ("/open%2Fsecret", "second"),  # Django decodes: it is that view that is asked
        ("/open//secret", "path_ambiguous"),
        ("/open/;x/secret", "path_ambiguous"),
        ("/open/secret;x", "path_ambiguous"),
        ("/open/secret%5C..", "path_invalid"),
        ("/open//x", "first"),
        ("/d/x;y", "first"),
        ("/d/admin;y", "path_ambiguous"),
        ("/re//x", "first"),
        ("/in//secret", "path_ambiguous"),
        ("/same/secret/x", "first"),
        ("/same//secret/x", "path_ambiguous"),
        ("/same/secret;a/x", "path_ambiguous"),
        ("/same//x", "first"),
        ("/in//x", "first"),
        ("/in/table", "/in/table/**"),
        ("/in/table%2Fx", "path_ambiguous"),  # the table guards it
        ("/taken/x", "/taken/**"),
        ("/val/open%2Fsecret", "/val/{x}"),
        ("/%2d/x", ""),
    ],
)
def test_djangos_own_lines_are_routes_too(target: str, answers: str) -> None:
    routes = Routes([*(route(line, view, name=line) for line in TABLE), *DJANGO], CONFIG.declared)
    assert asked(routes, target) == answers


# -- whatever stands behind it --------------------------------------------------------------------------------------


def merged(text: str) -> str:
    return re.sub("//+", "/", text)


def cut(text: str) -> str:
    return re.sub(";[^/]*", "", text)


SERVERS: dict[str, Callable[[str], str]] = {
    "nginx": lambda raw: merged(unquote(raw)),
    "tomcat": lambda raw: merged(unquote(cut(raw))),
    "tomcat that keeps encoded slashes": lambda raw: merged(
        "/".join(unquote(part).replace("/", "%2F") for part in cut(raw).split("/"))
    ),
    "jetty": lambda raw: unquote(cut(raw)),
    "cuts what it has decoded": lambda raw: cut(unquote(raw)),
    "iis": lambda raw: merged(unquote(raw).replace("\\", "/")),
    "iis in front of tomcat": lambda raw: cut(merged(unquote(raw).replace("\\", "/"))),
    "merges alone": merged,
    "cuts alone": cut,
    "a framework": unquote,
    "a framework that decodes segments": lambda raw: "/".join(
        unquote(part).replace("/", "%2F") for part in raw.split("/")
    ),
}

words = st.sampled_from(["a", "b", "secret", "a:b"])


def line_of(method: str, words: list[str], rest: bool) -> str:
    named = [word.replace("{x", f"{{x{number}") for number, word in enumerate(words)]
    return method + "".join(f"/{word}" for word in named) + ("/**" if rest or not words else "")


lines = st.builds(
    line_of,
    st.sampled_from(["", "GET ", "POST "]),
    st.lists(words | st.sampled_from(["{x}", "{x}", "a{x}", "{x}:b", "{x:word}"]), max_size=3),
    st.booleans(),
)
tables = st.lists(lines, min_size=1, max_size=5, unique=True)
slashes = st.sampled_from(["/", "/", "//", "%2F", "%2f", "%5C", "/;x/", ";x/", "%3b/", "/%2F"])
spelled_words = st.sampled_from(
    ["a", "b", "secret", "%73ecret", "a:b", "a%3Ab", "a%3ab", "x", "", "secret;v=1", "a%3Bb"]
)
targets = st.lists(st.tuples(slashes, spelled_words), min_size=1, max_size=4).map(
    lambda parts: "/" + "".join(slash + word for slash, word in parts).removeprefix("/")
)


# Escaped slashes and semicolons stay; all that a word could be becomes one that no route has.
_WORDS = re.compile(r"(%2[Ff]|%5[Cc]|%3[Bb])|(?:%3[Aa]|%73|[a-z:])+")


def harmless(value: str) -> str:
    return _WORDS.sub(lambda found: found[1] or "z", value)


def as_requested(seen: str) -> str:
    """The plain request for what a server saw."""
    return quote(seen, safe="/:;%")


@settings(max_examples=400)
@given(tables, targets)
def test_no_server_sees_what_another_route_guards(table: list[str], target: str) -> None:
    if clashes([parse_pattern(line) for line in table]):
        return
    routes = routes_of(*table)
    match = routes.find("GET", "a.test", target)
    if isinstance(match, Miss) or asked(routes, target).startswith("path_"):
        return
    segments = match.pattern.segments
    raw, came = target[1:].split("/", len(segments)), iter(match.values)
    values = [not isinstance(part, str) and text != "" for part, text in zip(segments, raw, strict=False)]
    # The same request with words in its values that no route writes out.
    innocent = "".join(
        f"/{text}" if isinstance(part, str) else f"/{part.before}{harmless(next(came))}{part.after}"
        for text, part in zip(raw, segments, strict=False)
    )
    innocent += match.rest
    for name, reads in SERVERS.items():
        seen = routes.find("GET", "a.test", as_requested(reads(target)))
        if isinstance(seen, Miss) or seen.route is match.route:
            continue
        other = routes.find("GET", "a.test", as_requested(reads(innocent)))
        assert not isinstance(other, Miss), (name, reads(target))
        assert other.route is seen.route, (name, reads(target))
        assert any(values), (name, reads(target))
