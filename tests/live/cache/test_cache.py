"""The cache on the wire: what is found by what, what is stored, what a stored answer answers, what is forgotten."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.live.caching import Origin, Page, cached, chunked, fresh, is_hit, said, ttl_of
from tests.live.harness import Gateway, Request, eventually
from tests.live.stage import Act, breaks_off, hangs_up, message, resets, says, status

MORE = {
    "ROUTE_SMALL": "/small/** -> u",
    "ROUTE_SMALL__CACHE": "on",
    "ROUTE_SMALL__CACHE_MAX_BODY": "1KiB",
    "ROUTE_WRITE": "POST,PUT,DELETE,PATCH /c/** -> u",
    "ROUTE_COMMAND": "POST /command/** -> u",
    "ROUTE_CROSS": "/cross/** -> u",
    "ROUTE_CROSS__CACHE": "on",
    "ROUTE_CROSS__CORS": "https://a.example,https://b.example",
    "ROUTE_STALE": "/stale/env/** -> u",
    "ROUTE_STALE__CACHE": "on",
    "ROUTE_STALE__STALE_IF_ERROR": "1h",
    "ROUTE_SET": "/set/** -> u",
    "ROUTE_SET__CACHE": "on",
    "ROUTE_SET__RESPONSE_HEADER_CACHE_CONTROL": "max-age=3600",
    "ROUTE_SET__RESPONSE_HEADER_CDN_CACHE_CONTROL": "-",
    "ROUTE_SET__RESPONSE_HEADER_X_OWN": "route",
    "ROUTE_SET__RESPONSE_HEADER_SET_COOKIE": "-",
    "UPSTREAM_SETTING__RESPONSE_HEADER_CACHE_CONTROL": "max-age=3600",
    "UPSTREAM_SETTING__RESPONSE_HEADER_CDN_CACHE_CONTROL": "-",
    "UPSTREAM_SETTING__RESPONSE_HEADER_X_OWN": "upstream",
    "UPSTREAM_SETTING__RESPONSE_HEADER_SET_COOKIE": "-",
    "UPSTREAM_SETTING__RETRIES": "0",
    "ROUTE_BELOW": "/set/below/** -> setting",
    "ROUTE_BELOW__CACHE": "on",
    "ROUTE_FAN": "GET /set/fan/{id}",
    "ROUTE_FAN__CACHE": "on",
    "ROUTE_FAN__RESPONSE_HEADER_CACHE_CONTROL": "max-age=3600",
    "ROUTE_FAN__RESPONSE_HEADER_X_OWN": "fan",
    "ROUTE_FAN__PART_P": "u:/set/fan/{id}",
    "ROUTE_FAN__OPTIONAL": "p",
}
ROUTES = """
import functools

from gateway.routing import cached, from_environment, proxy, route

FIELDS = {
    "response_header_cache_control": "max-age=3600",
    "response_header_cdn_cache_control": "-",
    "response_header_x_own": "python",
    "response_header_set_cookie": "-",
}


def counting(view):
    @functools.wraps(view)
    async def counted(request, **params):
        return await view(request, **params)

    return counted


urlpatterns = [
    *from_environment(),
    route("/stale/python/**", cached(proxy("u"), stale_if_error="1h")),
    route("/set/python/**", cached(proxy("u", **FIELDS))),
    route("/set/within/**", cached(counting(proxy("u", **FIELDS)))),
    route("/set/twice/**", cached(cached(proxy("u", **FIELDS)))),
]
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("cache")
    (folder / "routes.py").write_text(ROUTES, encoding="utf-8")
    with Gateway(cached(origin, UPSTREAM_SETTING=origin.url, **MORE), cwd=folder) as started:
        yield started


@pytest.fixture
def page(gateway: Gateway, origin: Origin) -> Page:
    return Page(gateway, origin)


def at(page: Page, under: str) -> Page:
    return Page(page.gateway, page.origin, under)


# -- the plain case -----------------------------------------------------------------------------------------------


def test_a_second_request_is_answered_from_the_cache_and_both_say_so(page: Page) -> None:
    page.answers(fresh("one", "X-Own: yes", 'ETag: "1"'), fresh("two"))
    first, second = page.get(), page.get()
    assert (first.status, first.body, said(first)) == (200, b"one", "portway; fwd=uri-miss; stored")
    assert not first.has("age")
    assert (second.status, second.body) == (200, b"one")
    assert said(second) == f"portway; hit; ttl={60 - int(second.one('age'))}"
    assert second.one("x-own") == "yes"
    assert second.one("content-length") == "3"
    assert second.one("date") == second.one("date")
    assert [page.line(answer)["cache"] for answer in (first, second)] == ["miss", "hit"]
    line = page.line(second)
    assert (line["upstream"], line["endpoint"], line["attempts"], line["bytes_out"]) == (None, None, None, 3)
    assert len(page.asked) == 1


def test_a_route_without_the_option_caches_nothing_and_says_nothing(page: Page) -> None:
    plain = at(page, "/plain")
    plain.answers(fresh("one"), fresh("two"))
    assert [plain.get().body, plain.get().body] == [b"one", b"two"]
    assert not plain.get().has("cache-status")
    assert plain.line(plain.get())["cache"] is None


def test_what_other_caches_said_stands_before_what_this_one_says(page: Page) -> None:
    page.answers(fresh("x", "Cache-Status: Inner; hit; ttl=300"))
    assert page.get().all("cache-status") == ["Inner; hit; ttl=300", "portway; fwd=uri-miss; stored"]
    assert page.get().all("cache-status")[0] == "Inner; hit; ttl=300"
    assert is_hit(page.get())


# -- the key ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"host": "a.test"}, {"host": "b.test"}),
        ({"host": "a.test"}, {"host": "a.test:81"}),
        ({"more": "/x%2Fy"}, {"more": "/x/y"}),
        ({"more": "/%41"}, {"more": "/A"}),
        ({"more": "/%7e"}, {"more": "/%7E"}),
        ({"more": "/x"}, {"more": "/x/"}),
        ({"more": "/x"}, {"more": "//x"}),
        ({"more": "/x;v=1"}, {"more": "/x;v=2"}),
        ({"more": "/X"}, {"more": "/x"}),
        ({"more": "?a=1&b=2"}, {"more": "?b=2&a=1"}),
        ({"more": "?A=1"}, {"more": "?a=1"}),
        ({"more": "?a=%41"}, {"more": "?a=A"}),
        ({"more": "?a"}, {"more": "?a="}),
        ({"more": "?a=1"}, {"more": "?a=1&a=1"}),
        ({"more": "?a+b"}, {"more": "?a%20b"}),
    ],
    ids=str,
)
def test_requests_that_differ_there_have_an_answer_each(page: Page, one: dict[str, str], other: dict[str, str]) -> None:
    assert not is_hit(page.get(**one))
    assert not is_hit(page.get(**other))
    assert is_hit(page.get(**one))
    assert page.get(**other).body == (page.path + other.get("more", "")).encode()


@pytest.mark.parametrize(
    ("one", "other"), [({"host": "a.test"}, {"host": "A.Test"}), ({"more": "?"}, {"more": ""})], ids=str
)
def test_requests_that_differ_only_there_share_one(page: Page, one: dict[str, str], other: dict[str, str]) -> None:
    assert not is_hit(page.get(**one))
    assert is_hit(page.get(**other))


# -- Vary ---------------------------------------------------------------------------------------------------------


def varied(request_field: str) -> Act:
    """Answers with what it was asked in that field, and says that it looked."""

    def act(request: Request) -> None:
        fresh(", ".join(request.all(request_field)) or "-", f"Vary: {request_field}")(request)

    return act


@pytest.mark.parametrize(
    ("field", "one", "other", "same"),
    [
        ("X-Tenant", ["X-Tenant: a"], ["X-Tenant: b"], False),
        ("X-Tenant", ["X-Tenant: a"], ["X-Tenant: A"], False),
        ("X-Tenant", ["X-Tenant: a"], [], False),
        ("X-Tenant", ["X-Tenant:"], [], False),
        ("X-Tenant", ["X-Tenant: a, b"], ["X-Tenant: a", "X-Tenant: b"], True),
        ("X-Tenant", ["X-Tenant: a, b"], ["X-Tenant: b, a"], False),
        ("X-Tenant", ["X-Tenant: a,  b"], ["X-Tenant: a ,b"], True),
        ("X-Tenant", ["x-tenant: a"], ["X-TENANT:   a  "], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip, br"], ["Accept-Encoding: BR,gzip"], True),
        ("Accept-Encoding", ["Accept-Encoding: gzip"], ["Accept-Encoding: br"], False),
        ("Accept", ["Accept: text/html, */*"], ["Accept: TEXT/HTML,*/*"], True),
        ("Accept", ["Accept: text/html"], ["Accept: text/plain"], False),
        ("Accept-Language", ["Accept-Language: de"], ["Accept-Language: en"], False),
        ("Cookie", ["Cookie: a=1"], ["Cookie: a=2"], False),
        ("Authorization", [], ["Authorization: Basic YTpi"], False),
    ],
    ids=str,
)
def test_vary_tells_apart_what_differs(page: Page, field: str, one: list[str], other: list[str], same: bool) -> None:
    page.answers(varied(field))
    assert not is_hit(page.get(*one))
    second = page.get(*other)
    assert is_hit(second) is same
    assert same or said(second).startswith("portway; fwd=vary-miss")
    assert is_hit(page.get(*one))


def test_each_of_many_variants_is_kept(page: Page) -> None:
    page.answers(varied("X-Tenant"))
    tenants = [f"X-Tenant: {number}" for number in range(12)]
    for tenant in tenants:
        page.get(tenant)
    assert [page.get(tenant).body for tenant in tenants] == [str(number).encode() for number in range(12)]
    assert len(page.asked) == 12


def test_an_answer_that_varies_on_everything_is_not_stored(page: Page) -> None:
    page.answers(fresh("x", "Vary: Accept", "Vary: *"))
    assert said(page.get()) == "portway; fwd=uri-miss; detail=vary"
    assert not is_hit(page.get())


@pytest.mark.parametrize("field", ["X-Forwarded-For", "Forwarded", "Via", "X-Request-ID", "Traceparent"])
def test_an_answer_that_varies_on_what_the_gateway_itself_sends_crosses_no_clients(page: Page, field: str) -> None:
    page.answers(varied(field))
    bodies = [page.get(source=source).body for source in ("127.0.0.2", "127.0.0.3")]
    mine = page.get(source="127.0.0.2")
    if bodies[0] != bodies[1]:
        assert not is_hit(mine) or mine.body == bodies[0]
    assert page.asked[1:] or bodies[0] == bodies[1]
    if field == "X-Forwarded-For":
        assert bodies == [b"127.0.0.2", b"127.0.0.3"]


# -- what is stored -----------------------------------------------------------------------------------------------

IN_AN_HOUR, AN_HOUR_AGO = formatdate(time.time() + 3600, usegmt=True), formatdate(time.time() - 3600, usegmt=True)
LONG_AGO = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"


def answer(control: str, *fields: str, code: str = "200 OK") -> bytes:
    return message(code, b"body", *([f"Cache-Control: {control}"] if control else []), *fields)


STORED = {
    "max-age": answer("max-age=60"),
    "s-maxage": answer("s-maxage=60, max-age=0"),
    "expires": answer("", f"Expires: {IN_AN_HOUR}"),
    "heuristic": answer("", LONG_AGO),
    "public": answer("public, max-age=60"),
    "unknown directives": answer('max-age=60, community="a, private, no-store"'),
    "upper case": answer("MAX-AGE=60"),
    "private fields only": answer('max-age=60, private="x-user"', "X-User: ada"),
    "404": answer("max-age=60", code="404 Not Found"),
    "302": answer("max-age=60", "Location: /y", code="302 Found"),
    "500 that says so": answer("max-age=60", code="500 Oops"),
    "no-store is undone by must-understand": answer("no-store, must-understand, max-age=60"),
    "targeted": answer("no-store", "CDN-Cache-Control: max-age=60"),
    "empty": message("200 OK", b"", "Cache-Control: max-age=60"),
    "no content": b"HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n",
    "chunked": chunked(b"one", b"two"),
}


@pytest.mark.parametrize("name", STORED)
def test_what_says_how_long_it_is_fresh_is_stored_and_served_as_it_came(page: Page, name: str) -> None:
    page.answers(says(STORED[name]))
    first, second = page.get(), page.get()
    assert said(first) == "portway; fwd=uri-miss; stored"
    assert is_hit(second)
    assert (second.status, second.body) == (first.status, first.body)
    assert second.broke_off is False
    changed = {"age", "cache-status", "x-request-id", "transfer-encoding", "content-length", "x-user"}
    assert second.names - changed == first.names - changed
    assert not second.has("x-user")


NOT_STORED = {
    "no-store": (answer("no-store, max-age=60"), "no-store"),
    "private": (answer("private, max-age=60"), "private"),
    "private in another case": (answer("Max-Age=60, PRIVATE"), "private"),
    "private without an argument": (answer('private="", max-age=60'), "private"),
    "private on a second line": (answer("max-age=60", "Cache-Control: private"), "private"),
    "no-store on a second line": (answer("public", "Cache-Control: max-age=60,,no-store"), "no-store"),
    "an unended quote": (answer('x="a, no-store, max-age=60'), "no-store"),
    "set-cookie": (answer("max-age=60", "Set-Cookie: s=1"), "set-cookie"),
    "set-cookie and public": (answer("public, max-age=60", "Set-Cookie: s=1"), "set-cookie"),
    "partial": (answer("max-age=60", "Content-Range: bytes 0-3/10", code="206 Partial Content"), "partial"),
    "says nothing": (answer(""), "no-freshness"),
    "stale already": (answer("max-age=0"), "stale"),
    "expired": (answer("", f"Expires: {AN_HOUR_AGO}"), "stale"),
    "an Expires that is none": (answer("", "Expires: 0"), "stale"),
    "500": (answer("", code="500 Oops"), "status"),
    "302": (answer("", "Location: /y", code="302 Found"), "status"),
    "targeted": (answer("max-age=60", "CDN-Cache-Control: no-store"), "no-store"),
    "not understood": (answer("must-understand, max-age=60", code="299 Odd"), "status"),
}


@pytest.mark.parametrize("name", NOT_STORED)
def test_what_is_not_stored_says_why(page: Page, name: str) -> None:
    raw, why = NOT_STORED[name]
    page.answers(says(raw))
    for _ in range(2):
        got = page.get()
        assert said(got) == f"portway; fwd=uri-miss; detail={why}"
        assert got.body == b"body"
        assert page.line(got)["cache"] == "miss"
    assert len(page.asked) == 2


BY_TTL = {
    "says nothing": (answer(""), True),
    "404": (answer("", code="404 Not Found"), True),
    "public only": (answer("public"), True),
    "last-modified": (answer("", LONG_AGO), True),
    "no-store": (answer("no-store"), False),
    "private": (answer("private"), False),
    "set-cookie": (answer("", "Set-Cookie: s=1"), False),
    "500": (answer("", code="500 Oops"), False),
    "503 with Retry-After": (answer("", "Retry-After: 5", code="503 Busy"), False),
    "302": (answer("", "Location: /y", code="302 Found"), False),
    "max-age=0": (answer("max-age=0"), False),
    "vary": (answer("", "Vary: *"), False),
    "expired": (answer("", f"Expires: {AN_HOUR_AGO}"), False),
}


@pytest.mark.parametrize("name", BY_TTL)
def test_a_duration_holds_only_where_the_upstream_says_nothing(page: Page, name: str) -> None:
    raw, is_stored = BY_TTL[name]
    page = at(page, "/t")
    page.answers(says(raw))
    page.get()
    second = page.get()
    assert is_hit(second) is is_stored
    if is_stored:
        assert ttl_of(second) == 60 - int(second.one("age"))


def test_a_shorter_time_of_the_upstream_beats_the_duration(page: Page) -> None:
    page = at(page, "/t")
    page.answers(fresh("x", control="max-age=7"))
    page.get()
    assert ttl_of(page.get()) <= 7


@pytest.mark.parametrize(
    ("fields", "control", "under", "is_stored"),
    [
        (["Authorization: Bearer a"], "max-age=60", "/c", False),
        (["Authorization: Bearer a"], "", "/t", False),
        (["Authorization: Bearer a"], "public, max-age=60", "/c", True),
        (["Authorization: Bearer a"], "s-maxage=60", "/c", True),
        (["Authorization: Bearer a"], "must-revalidate, max-age=60", "/c", True),
        (["Authorization: Bearer a"], "proxy-revalidate, max-age=60", "/c", False),
        (["Cookie: s=1"], "", "/t", False),
        (["Cookie: s=1"], "max-age=60", "/c", True),
        (["Cookie: s=1"], "private, max-age=60", "/c", False),
        (["Cache-Control: no-store"], "max-age=60", "/c", False),
    ],
)
def test_what_a_request_carries_decides_too(
    page: Page, fields: list[str], control: str, under: str, is_stored: bool
) -> None:
    page = at(page, under)
    page.answers(fresh("x", control=control))
    page.get(*fields)
    assert is_hit(page.get(*fields)) is is_stored


def test_an_answer_stored_for_nobody_in_particular_is_not_given_to_who_shows_who_he_is(page: Page) -> None:
    """A duration of ours is a guess; with a Cookie the upstream might have answered otherwise."""
    page = at(page, "/t")
    page.answers(fresh("for all", control=""), fresh("for ada", control=""), fresh("for all again", control=""))
    assert page.get().body == b"for all"
    assert page.get("Cookie: user=ada").body == b"for ada"
    assert page.get().body == b"for all"


def test_one_request_with_no_store_does_not_keep_the_others_from_the_cache(page: Page) -> None:
    page.answers(fresh("one"), fresh("two"))
    assert said(page.get("Cache-Control: no-store")) == "portway; fwd=uri-miss; detail=request-no-store"
    assert said(page.get()) == "portway; fwd=uri-miss; stored"
    assert is_hit(page.get())


def test_fields_of_one_hop_or_one_request_are_not_stored(page: Page) -> None:
    gone = ["X-Hop: 1", "Keep-Alive: timeout=5", "Proxy-Authenticate: Basic", "X-Request-ID: theirs"]
    gone += ["Server-Timing: db;dur=3", 'Proxy-Status: inner; error="dns_error"']
    page.answers(fresh("x", "Connection: X-Hop, keep-alive", *gone, "X-Kept: 1"))
    first, second = page.get(), page.get()
    names = {line.partition(":")[0].lower() for line in gone}
    assert is_hit(second)
    assert second.names & names == {"x-request-id"}
    assert second.one("x-request-id") != first.one("x-request-id")
    assert second.one("x-kept") == "1"


SETTING = ["/set", "/set/below", "/set/python", "/set/within", "/set/twice"]


@pytest.mark.parametrize("under", SETTING)
@pytest.mark.parametrize(
    ("act", "why"),
    [
        (fresh("x", control=""), "no-freshness"),
        (says(message("500 Broken", b"x")), "status"),
        (says(message("403 Denied", b"x")), "status"),
        (fresh("x", control="no-store"), "no-store"),
        (fresh("x", control="private"), "private"),
        (fresh("x", "CDN-Cache-Control: no-store"), "no-store"),
        (fresh("x", "Set-Cookie: a=b"), "set-cookie"),
    ],
    ids=["no-freshness", "500", "403", "no-store", "private", "cdn-no-store", "set-cookie"],
)
def test_what_the_route_sets_on_answers_is_no_word_on_what_is_stored(
    page: Page, under: str, act: Act, why: str
) -> None:
    page = at(page, under)
    page.answers(act)
    for _ in range(2):
        answer = page.get()
        assert said(answer) == f"portway; fwd=uri-miss; detail={why}"
        assert answer.all("cache-control") == ["max-age=3600"]
        assert not answer.has("cdn-cache-control")
        assert not answer.has("set-cookie")


@pytest.mark.parametrize("under", SETTING)
def test_what_the_route_sets_is_on_answers_from_the_cache_too(page: Page, under: str) -> None:
    page = at(page, under)
    page.answers(fresh("x", 'ETag: "1"', "X-Own: service"), fresh("y"))
    answers = [
        page.get(),
        page.get(),
        page.get('If-None-Match: "1"'),
        page.get(method="HEAD"),
        page.get("Range: bytes=0-0"),
    ]
    assert [answer.status for answer in answers] == [200, 200, 304, 200, 206]
    assert [is_hit(answer) for answer in answers] == [False, True, True, True, True]
    answers += [page.get(method="POST"), page.get("Range: bytes=0-0", more="?unstored")]
    own = {"/set": "route", "/set/below": "upstream"}.get(under, "python")
    for answer in answers:
        assert answer.all("x-own") == [own]
        assert answer.all("cache-control") == ["max-age=3600"]


def test_what_a_fan_out_sets_is_no_word_on_what_is_stored_either(page: Page) -> None:
    page = at(page, "/set/fan")
    json = "Content-Type: application/json"
    page.answers(fresh("1", json, control=""), says(message("500 Broken", b"")), fresh("2", json), fresh("3", json))
    silent, partial, stored, hit = (page.get() for _ in range(4))
    assert [answer.json()["p"] for answer in (silent, partial, stored, hit)] == [1, None, 2, 2]
    assert said(silent).endswith("detail=no-freshness")
    assert said(partial).endswith("detail=no-store")
    assert is_hit(hit)
    assert [answer.all("cache-control")[0] for answer in (silent, stored, hit)] == ["max-age=3600"] * 3
    assert partial.all("cache-control") == ["no-store"]
    assert page.get("Accept: application/x-ndjson").all("cache-control") == ["no-store"]
    assert {answer.one("x-own") for answer in (silent, partial, stored, hit)} == {"fan"}


# -- bodies -------------------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n"
TRUNCATED = {
    "length": breaks_off(HEAD + b"Content-Length: 100\r\n\r\n" + b"x" * 50),
    "length, large": breaks_off(HEAD + b"Content-Length: 900000\r\n\r\n" + b"x" * 800000),
    "chunked": breaks_off(chunked(b"x" * 50, end=False)),
    "chunked, within a chunk": breaks_off(HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 50),
    "chunked, without its last line": breaks_off(chunked(b"x" * 50, end=False) + b"0\r\n"),
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_a_body_that_was_cut_off_is_not_stored_and_not_passed_for_whole(page: Page, name: str) -> None:
    page.answers(TRUNCATED[name], fresh("whole"))
    first = page.get()
    assert first.status == 502 or first.broke_off
    second = page.get()
    assert (second.body, said(second)) == (b"whole", "portway; fwd=uri-miss; stored")


def test_a_body_without_length_that_ends_by_a_reset_is_not_stored(page: Page) -> None:
    def resets_later(request: Request) -> None:
        request.send(HEAD + b"Connection: close\r\n\r\n" + b"x" * 100_000)
        request.reset()

    page.answers(resets_later, fresh("whole"))
    first = page.get()
    assert first.status == 502 or first.broke_off
    assert page.get().body == b"whole"


def test_a_body_without_length_that_ends_with_its_connection_is_whole(page: Page) -> None:
    page.answers(breaks_off(HEAD + b"Connection: close\r\n\r\n" + b"x" * 300_000), fresh("another"))
    assert page.get().body == b"x" * 300_000
    second = page.get()
    assert is_hit(second)
    assert second.one("content-length") == "300000"
    assert second.body == b"x" * 300_000


@pytest.mark.parametrize("size", [1023, 1024, 1025, 200_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_are_stored_up_to_the_limit(page: Page, size: int, framing: str) -> None:
    page, body = at(page, "/small"), b"x" * size
    pieces = (body[at : at + 700] for at in range(0, size, 700))
    raw = message("200 OK", body, "Cache-Control: max-age=60") if framing == "length" else chunked(*pieces)
    page.answers(says(raw))
    first, second = page.get(), page.get()
    assert first.body == second.body == body
    assert is_hit(second) is (size <= 1024)
    if size > 1024 and framing == "length":
        assert said(first) == "portway; fwd=uri-miss; detail=too-large"


# -- a stored answer meets conditions and ranges --------------------------------------------------------------------

MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"
LATER = "Tue, 02 Jan 2024 00:00:00 GMT"
EARLIER = "Sun, 31 Dec 2023 00:00:00 GMT"
CONDITIONS = [
    ("GET", ['If-None-Match: "1"'], 304, b""),
    ("GET", ['If-None-Match: W/"1"'], 304, b""),
    ("GET", ['If-None-Match: "0", "1"'], 304, b""),
    ("GET", ["If-None-Match: *"], 304, b""),
    ("HEAD", ['If-None-Match: "1"'], 304, b""),
    ("GET", ['If-None-Match: "2"'], 200, b"0123456789"),
    ("GET", [f"If-Modified-Since: {MODIFIED}"], 304, b""),
    ("GET", [f"If-Modified-Since: {LATER}"], 304, b""),
    ("GET", [f"If-Modified-Since: {EARLIER}"], 200, b"0123456789"),
    ("GET", ["If-Modified-Since: yesterday"], 200, b"0123456789"),
    ("GET", ['If-None-Match: "2"', f"If-Modified-Since: {LATER}"], 200, b"0123456789"),
    ("HEAD", [], 200, b""),
    ("GET", ["Range: bytes=2-4"], 206, b"234"),
    ("GET", ["Range: bytes=-3"], 206, b"789"),
    ("GET", ["Range: bytes=8-"], 206, b"89"),
    ("GET", ["Range: bytes=8-99"], 206, b"89"),
    ("GET", ["Range: bytes=10-"], 416, b""),
    ("GET", ["Range: bytes=5-2"], 200, b"0123456789"),
    ("GET", ["Range: items=1-2"], 200, b"0123456789"),
    ("HEAD", ["Range: bytes=2-4"], 200, b""),
    ("GET", ["Range: bytes=2-4", 'If-Range: "1"'], 206, b"234"),
    ("GET", ["Range: bytes=2-4", 'If-Range: W/"1"'], 200, b"0123456789"),
    ("GET", ["Range: bytes=2-4", 'If-Range: "2"'], 200, b"0123456789"),
    ("GET", ["Range: bytes=2-4", f"If-Range: {MODIFIED}"], 206, b"234"),
    ("GET", ["Range: bytes=2-4", f"If-Range: {LATER}"], 200, b"0123456789"),
    ("GET", ["Range: bytes=2-4", 'If-None-Match: "1"'], 304, b""),
]


@pytest.fixture(scope="module")
def digits(gateway: Gateway, origin: Origin) -> Page:
    page = Page(gateway, origin)
    page.answers(fresh("0123456789", 'ETag: "1"', f"Last-Modified: {MODIFIED}", "Content-Type: text/plain", "X-Own: 1"))
    page.get()
    return page


@pytest.mark.parametrize(("method", "fields", "code", "body"), CONDITIONS, ids=str)
def test_a_stored_answer_meets_conditions_and_ranges(
    digits: Page, method: str, fields: list[str], code: int, body: bytes
) -> None:
    got = digits.get(*fields, method=method)
    assert (got.status, got.body, got.broke_off) == (code, body, False)
    assert is_hit(got)
    assert len(digits.asked) == 1
    assert got.one("etag") == '"1"'
    assert {"age", "date", "cache-control"} <= got.names
    if code == 206:
        first = b"0123456789".index(body)
        assert got.one("content-range") == f"bytes {first}-{first + len(body) - 1}/10"
    if code == 416:
        assert got.one("content-range") == "bytes */10"
    if code == 304:
        assert not got.names & {"content-type", "content-length"}
    if code == 200:
        assert got.one("content-length") == "10"


@pytest.mark.parametrize(
    "fields", [["Range: bytes=2-4"], ['If-Match: "1"'], [f"If-Unmodified-Since: {LATER}"]], ids=str
)
def test_without_a_stored_answer_the_upstream_decides_about_the_client_s_own(page: Page, fields: list[str]) -> None:
    page.answers(fresh("whole"))
    page.get(*fields)
    name = fields[0].partition(":")[0]
    assert page.asked[0].one(name) == fields[0].partition(": ")[2]


def test_a_partial_answer_goes_down_and_is_not_stored(page: Page) -> None:
    partial = message("206 Partial Content", b"234", "Content-Range: bytes 2-4/10", "Cache-Control: max-age=60")
    page.answers(says(partial), fresh("0123456789"))
    assert page.get("Range: bytes=2-4").body == b"234"
    assert page.get().body == b"0123456789"


def test_a_condition_of_the_client_is_met_by_an_answer_that_just_came_and_it_is_stored_whole(page: Page) -> None:
    page.answers(fresh("body", 'ETag: "1"'))
    first = page.get('If-None-Match: "1"')
    assert (first.status, said(first)) == (304, "portway; fwd=uri-miss; stored")
    assert not page.asked[0].has("if-none-match")
    assert page.get().body == b"body"
    assert len(page.asked) == 1


def test_a_condition_is_met_while_the_body_still_comes_and_it_is_stored_whole(page: Page) -> None:
    page.answers(says(chunked(b"x" * 70_000, b"y" * 70_000, head='Cache-Control: max-age=60\r\nETag: "1"')))
    assert page.get('If-None-Match: "1"').status == 304
    assert page.wait_until_hit().body == b"x" * 70_000 + b"y" * 70_000
    assert len(page.asked) == 1


@pytest.mark.parametrize("control", ["private", "no-store"])
def test_a_condition_is_met_by_an_answer_that_is_not_stored_too(page: Page, control: str) -> None:
    page.answers(fresh("body", 'ETag: "1"', control=control))
    assert page.get('If-None-Match: "1"').status == 304


# -- validation ---------------------------------------------------------------------------------------------------

STALE = "Age: 61"  # what says max-age=60 is stale from the beginning


def not_modified(*fields: str) -> Act:
    return says("\r\n".join(["HTTP/1.1 304 Not Modified", *fields, "", ""]).encode())


def test_what_is_stale_is_validated_and_freshened(page: Page) -> None:
    page.answers(
        fresh("one", STALE, 'ETag: "1"', f"Last-Modified: {MODIFIED}", "X-Round: 1", "X-Stays: 1"),
        not_modified("Cache-Control: max-age=60", 'ETag: "1"', "X-Round: 2"),
    )
    page.get()
    second = page.get('If-None-Match: "mine"')
    assert (second.status, second.body) == (200, b"one")
    assert said(second) == "portway; fwd=stale; fwd-status=304"
    assert page.line(second)["cache"] == "revalidated"
    assert (second.one("x-round"), second.one("x-stays"), second.one("content-length")) == ("2", "1", "3")
    up = page.asked[1]
    assert (up.all("if-none-match"), up.all("if-modified-since")) == (['"1"'], [MODIFIED])
    third = page.get()
    assert is_hit(third)
    assert (third.one("x-round"), third.body) == ("2", b"one")


def test_the_client_s_condition_is_met_after_the_validation(page: Page) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"'), not_modified("Cache-Control: max-age=60"))
    page.get()
    assert page.get('If-None-Match: "1"').status == 304
    assert page.asked[1].all("if-none-match") == ['"1"']


def test_another_answer_takes_the_place_of_the_stale_one(page: Page) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"'), fresh("two", 'ETag: "2"'))
    page.get()
    second = page.get()
    assert (second.body, said(second)) == (b"two", "portway; fwd=stale; stored")
    assert page.get().body == b"two"


def test_a_304_about_another_answer_is_not_believed(page: Page) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"'), not_modified('ETag: "7"'), fresh("seven", 'ETag: "7"'))
    page.get()
    assert page.get().body == b"seven"
    assert not page.asked[2].has("if-none-match")


def test_a_304_that_forbids_to_store_ends_it(page: Page) -> None:
    page.answers(
        fresh("one", STALE, 'ETag: "1"'), not_modified("Cache-Control: no-store"), fresh("two", control="no-store")
    )
    page.get()
    second = page.get()
    assert (second.status, second.body) == (200, b"one")
    assert "fwd-status=304" in said(second)
    assert page.get().body == b"two"


@pytest.mark.parametrize("control", ["no-cache", "no-cache, max-age=60", "max-age=0, must-revalidate"])
def test_an_answer_that_must_be_validated_is_each_time(page: Page, control: str) -> None:
    page.answers(fresh("one", 'ETag: "1"', control=control), not_modified('ETag: "1"'))
    page.get()
    for _ in range(2):
        again = page.get()
        assert (again.body, said(again)) == (b"one", "portway; fwd=stale; fwd-status=304")
    assert len(page.asked) == 3


FAILURES = {"500": status(500), "503": status(503), "closes": hangs_up, "resets": resets}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_while_validating_is_passed_on_and_forgets_nothing(page: Page, name: str) -> None:
    failure = FAILURES[name]
    page.answers(fresh("one", STALE, 'ETag: "1"'), failure, failure, not_modified("Cache-Control: max-age=60"))
    page.get()
    assert page.get().status in {500, 502, 503}
    for _ in range(2):  # a retry may have met the second failure
        last = page.get()
    assert (last.status, last.body) == (200, b"one")
    assert is_hit(page.get())


@pytest.mark.parametrize("name", FAILURES)
def test_a_stale_answer_stands_in_for_a_failure_every_time(page: Page, name: str) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"', control="max-age=60, stale-if-error=600"), FAILURES[name])
    page.get()
    for _ in range(3):
        got = page.get()
        assert (got.status, got.body) == (200, b"one")
        assert said(got) == f"portway; hit; ttl={60 - int(got.one('age'))}; detail=stale-if-error"
        assert ttl_of(got) < 0
        assert page.line(got)["cache"] == "stale"
    assert len(page.asked) >= 4


def test_a_stale_answer_stands_in_for_no_404_and_not_for_ever(page: Page) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"', control="max-age=60, stale-if-error=600"), status(404))
    page.get()
    assert page.get().status == 404
    late = at(page, "/c")
    late.answers(fresh("one", "Age: 700", 'ETag: "1"', control="max-age=60, stale-if-error=600"), status(503))
    late.get()
    assert late.get().status == 503


FAILING = {"500": status(500), "503": status(503), "a hang-up": hangs_up, "a reset": resets}


@pytest.mark.parametrize("under", ["/stale/env", "/stale/python"])
@pytest.mark.parametrize("name", FAILING)
def test_a_route_may_allow_a_stale_answer_in_place_of_a_failure(page: Page, under: str, name: str) -> None:
    page = at(page, under)
    page.answers(fresh("one", "Age: 100"), FAILING[name])
    assert said(page.get()).endswith("; stored")
    for _ in range(2):
        answer = page.get()
        assert (answer.status, answer.body) == (200, b"one")
        assert said(answer).endswith("; detail=stale-if-error")
        assert ttl_of(answer) < 0
        assert page.line(answer)["cache"] == "stale"
    assert len(page.asked) >= 3
    page.answers(fresh("two"))
    assert page.get().body == b"two"


@pytest.mark.parametrize(
    ("control", "age"),
    [
        ("max-age=60, must-revalidate", 100),
        ("s-maxage=60", 100),
        ("max-age=60, stale-if-error=10", 100),
        ("max-age=60", 4000),
    ],
)
def test_no_route_allows_what_the_upstream_forbids_nor_for_ever(page: Page, control: str, age: int) -> None:
    page = at(page, "/stale/env")
    page.answers(fresh("one", f"Age: {age}", 'ETag: "1"', control=control), status(503))
    page.get()
    assert page.get().status == 503


def test_a_request_may_allow_a_stale_answer_in_place_of_a_failure(page: Page) -> None:
    page.answers(fresh("one", STALE, 'ETag: "1"'), status(503))
    page.get()
    assert page.get("Cache-Control: stale-if-error=600").body == b"one"
    assert page.get().status == 503


def test_a_stale_answer_is_served_while_one_call_validates_it(page: Page, origin: Origin) -> None:
    held: list[Request] = []
    page.answers(fresh("one", STALE, 'ETag: "1"', control="max-age=60, stale-while-revalidate=600"), held.append)
    page.get()
    for _ in range(5):
        got = page.get()
        assert (got.body, ttl_of(got) < 0) == (b"one", True)
        assert said(got).endswith("; detail=stale-while-revalidate")
        assert page.line(got)["cache"] == "stale"
    eventually(lambda: held)
    assert len(page.asked) == 2
    assert page.asked[1].one("if-none-match") == '"1"'
    held[0].send(message("200 OK", b"two", "Cache-Control: max-age=60"))
    eventually(lambda: page.get().body == b"two")
    assert len(page.asked) == 2


def test_a_call_in_the_background_that_fails_leaves_the_stale_answer_and_is_logged(page: Page) -> None:
    swr = "max-age=60, stale-while-revalidate=600"
    page.answers(fresh("one", STALE, 'ETag: "1"', control=swr), status(503))
    page.get()
    assert page.get().body == b"one"
    event = page.gateway.wait_for_log(
        lambda line: line["event"] == "cache.revalidation_failed" and line["target"] == page.path
    )
    assert (event["cause"], event["level"]) == ("503", "warning")
    assert page.get().body == b"one"
    page.answers(fresh("two"))
    eventually(lambda: page.get().body == b"two")


@pytest.mark.parametrize("control", ["private", "no-store"])
def test_an_answer_that_became_somebody_s_own_ends_the_stale_one(page: Page, control: str) -> None:
    swr = "max-age=60, stale-while-revalidate=600"
    page.answers(fresh("one", STALE, control=swr), fresh("mine", control=control))
    page.get()
    assert page.get().body == b"one"
    eventually(lambda: page.get().body == b"mine")


# -- what a request asks of the cache -------------------------------------------------------------------------------

WISHES = [
    ("Cache-Control: no-cache", "portway; fwd=request"),
    ("Pragma: no-cache", "portway; fwd=request"),
    ("Cache-Control: max-age=5", "portway; fwd=request"),
    ("Cache-Control: max-age=0", "portway; fwd=request"),
    ("Cache-Control: max-age=nonsense", "portway; fwd=request"),
    ("Cache-Control: min-fresh=55", "portway; fwd=request"),
    ("Cache-Control: max-age=40", "portway; hit"),
    ("Cache-Control: min-fresh=20", "portway; hit"),
    ("Cache-Control: max-stale", "portway; hit"),
    ("Cache-Control: no-store", "portway; hit"),
    ("Cache-Control: only-if-cached", "portway; hit"),
    ("Cache-Control: no-transform", "portway; hit"),
]


@pytest.mark.parametrize(("field", "expected"), WISHES)
def test_a_request_s_directives_are_obeyed(page: Page, field: str, expected: str) -> None:
    page.answers(fresh("x", "Age: 20", 'ETag: "1"'))
    page.get()
    assert said(page.get(field)).startswith(expected)


@pytest.mark.parametrize(
    ("field", "control", "hits"),
    [
        ("max-stale", "max-age=60", True),
        ("max-stale=100", "max-age=60", True),
        ("max-stale=5", "max-age=60", False),
        ("max-stale", "max-age=60, must-revalidate", False),
        ("max-stale", "s-maxage=60", False),
    ],
)
def test_a_request_may_take_a_stale_answer(page: Page, field: str, control: str, hits: bool) -> None:
    page.answers(fresh("one", "Age: 80", 'ETag: "1"', control=control), fresh("two"))
    page.get()
    got = page.get(f"Cache-Control: {field}")
    assert is_hit(got) is hits
    if hits:
        assert said(got).endswith("detail=max-stale")


def test_who_wants_only_what_is_stored_gets_that_or_a_504(page: Page) -> None:
    page.answers(fresh("private", control="private"))
    for _ in range(2):  # also after the cache has learnt that this page is never stored
        got = page.get("Cache-Control: only-if-cached")
        assert (got.status, got.json()["reason"]) == (504, "not_cached")
        page.get()
    assert len(page.asked) == 2
    for fields, method in ((["Range: bytes=0-1"], "GET"), ([], "HEAD")):
        assert page.get("Cache-Control: only-if-cached", *fields, method=method).status == 504


NO_CONTENT = says(b"HTTP/1.1 204 No Content\r\n\r\n")


# -- what is forgotten ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PURGE"])
@pytest.mark.parametrize("code", [200, 201, 302, 404, 500])
def test_an_unsafe_method_forgets_what_was_stored_if_it_succeeded(page: Page, method: str, code: int) -> None:
    page.answers(fresh("one"), status(code), fresh("two"))
    page.get()
    written = page.get(method=method)
    assert written.status == code
    after = page.get()
    assert is_hit(after) is (code >= 400)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_a_safe_method_forgets_nothing(page: Page, method: str) -> None:
    page.answers(fresh("one"))
    page.get()
    page.get(method=method)
    assert is_hit(page.get())


def test_every_variant_of_a_written_page_goes_and_no_other_page(page: Page) -> None:
    other = at(page, "/c")
    page.answers(varied("X-Tenant"))
    for tenant in ("a", "b"):
        page.get(f"X-Tenant: {tenant}")
    page.get(host="other.test")
    other.get()
    page.get(method="PUT")
    assert not is_hit(page.get("X-Tenant: a"))
    assert not is_hit(page.get("X-Tenant: b"))
    assert is_hit(page.get(host="other.test"))
    assert is_hit(other.get())


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("written", "goes"),
    [
        ("http://gateway.test{}", True),
        ("{}", True),
        ("http://elsewhere.test{}", False),
        ("http://gateway.test:1{}", False),
    ],
)
@pytest.mark.parametrize("under", ["/c", "/command"])
def test_what_the_answer_to_a_write_points_at_goes_too(
    page: Page, name: str, written: str, goes: bool, under: str
) -> None:
    command = at(page, under)
    page.get()
    command.answers(says(message("201 Created", b"", f"{name}: {written.format(page.path)}")))
    command.get(method="POST")
    assert is_hit(page.get()) is not goes


def test_a_read_after_a_write_never_gets_what_was_asked_for_before_it(page: Page) -> None:
    held: list[Request] = []
    page.answers(held.append, NO_CONTENT, fresh("new"))
    with page.begin() as early:
        eventually(lambda: held)
        assert page.get(method="PUT").status == 204
        assert page.get().body == b"new"
        held[0].send(message("200 OK", b"old", "Cache-Control: max-age=600"))
        assert early.read_answer().body == b"old"
    assert page.get().body == b"new"


def test_an_answer_that_was_under_way_during_a_write_is_not_stored(page: Page) -> None:
    held: list[Request] = []
    page.answers(held.append, NO_CONTENT, fresh("new"))
    with page.begin() as early:
        eventually(lambda: held)
        page.get(method="PUT")
        held[0].send(message("200 OK", b"old", "Cache-Control: max-age=600"))
        got = early.read_answer()
        assert said(got) == "portway; fwd=uri-miss; detail=purged"
    assert page.get().body == b"new"


def test_a_head_that_shows_another_answer_forgets_the_stored_one(page: Page) -> None:
    head = says(b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nCache-Control: max-age=60\r\nETag: "2"\r\n\r\n')
    page.answers(fresh("one", STALE, 'ETag: "1"'), head, fresh("three"))
    page.get()
    got = page.get(method="HEAD")
    assert got.body == b""
    assert said(got).startswith("portway; fwd=stale; detail=head")
    assert not page.asked[2:]
    assert page.get().body == b"three"
    assert not page.asked[2].has("if-none-match")


# -- ages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "control", "age", "ttl"),
    [
        (["Age: 20"], "max-age=60", 20, 40),
        (["Age: 20", "Age: 50"], "max-age=60", 20, 40),
        (["Age: nonsense"], "max-age=60", 0, 60),
        (["Age: 20"], "s-maxage=100, max-age=10", 20, 80),
        (["Age: 20"], "max-age=10, stale-while-revalidate=60", 20, -10),
    ],
)
def test_age_and_ttl_add_up(page: Page, fields: list[str], control: str, age: int, ttl: int) -> None:
    page.answers(fresh("x", *fields, control=control))
    page.get()
    got = page.get()
    found = int(got.one("age"))
    assert age <= found <= age + 5
    assert ttl_of(got) == age + ttl - found


def test_a_date_in_the_past_counts_as_age(page: Page) -> None:
    page.answers(fresh("x", f"Date: {formatdate(time.time() - 30, usegmt=True)}"))
    page.get()
    assert 30 <= int(page.get().one("age")) <= 35


def test_an_upstream_whose_clock_is_behind_does_not_shorten_a_duration_of_ours(page: Page) -> None:
    page = at(page, "/t")
    page.answers(fresh("x", f"Date: {formatdate(time.time() - 3600, usegmt=True)}", control=""))
    page.get()
    assert ttl_of(page.get()) >= 55


# -- together with other things the gateway does ------------------------------------------------------------------


def test_origins_share_what_is_stored_and_get_their_own_name(page: Page) -> None:
    page = at(page, "/cross")
    answers = [page.get(f"Origin: https://{name}.example") for name in "aab"]
    assert [is_hit(got) for got in answers] == [False, True, True]
    assert [got.one("access-control-allow-origin") for got in answers] == [f"https://{name}.example" for name in "aab"]
    assert all("Origin" in got.one("vary") for got in answers)
    assert not page.get("Origin: https://evil.example").has("access-control-allow-origin")


def test_a_get_with_a_body_and_other_methods_pass_by(page: Page) -> None:
    got = page.gateway.ask(page.raw("Content-Length: 2") + b"hi")
    assert said(got) == "portway; fwd=bypass; detail=request-body"
    assert page.line(got)["cache"] == "bypass"
    posted = page.get(method="OPTIONS")
    assert said(posted) == "portway; fwd=method"
    assert not is_hit(page.get())


def test_a_stream_of_events_is_nobody_else_s(page: Page) -> None:
    page = at(page, "/t")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    page.answers(says(head + b"6\r\ndata:1\r\n"))
    with page.begin() as one, page.begin() as other:
        for wire in (one, other):
            wire.read_until(b"data:1")
        assert len(page.asked) == 2


def test_what_fails_on_a_cached_route_says_what_the_cache_did(page: Page) -> None:
    page.answers(resets)
    got = page.get()
    assert got.status == 502
    assert said(got) == "portway; detail=failed"
    assert page.line(got)["cache"] == "miss"
    missing = page.get("Cache-Control: only-if-cached")
    assert said(missing) == "portway; detail=only-if-cached"


def test_a_file_for_what_is_stored_lies_where_the_gateway_was_started(page: Page) -> None:
    assert (Path(page.gateway.cwd) / "portway.sqlite3").exists()
