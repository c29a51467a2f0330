"""Looking into the cache and purging it: `gateway cache`, and DELETE /-/cache with its door."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.caching import Origin, Page, cached, fresh, is_hit
from tests.live.harness import Gateway, eventually, request_bytes
from tests.live.stage import status

TOKEN = "a-token-of-32-bytes-or-so-for-this"


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateways(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gateway]]:
    """One with a token, one without."""
    write = {"ROUTE_WRITE": "POST,PUT /c/** -> u"}
    with ExitStack() as stack:
        made = {
            "open": Gateway(cached(origin, **write), cwd=tmp_path_factory.mktemp("open")),
            "token": Gateway(cached(origin, ADMIN_TOKEN=TOKEN), cwd=tmp_path_factory.mktemp("token")),
        }
        for gateway in made.values():
            stack.callback(gateway.kill)
            gateway.start(wait=False)
        for gateway in made.values():
            gateway.wait_until_ready()
        yield made
        for gateway in made.values():
            gateway.stop()


@pytest.fixture
def gateway(gateways: dict[str, Gateway]) -> Gateway:
    return gateways["open"]


# -- the command ----------------------------------------------------------------------------------------------------


# Many commands in one process: most of what one takes is to start it.
SEVERAL = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from gateway.__main__ import main

def run(words):
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["cache", *words])
    return code, out.getvalue(), err.getvalue()

json.dump([run(words) for words in json.load(sys.stdin)], sys.__stdout__)
"""
Result = tuple[int, str, str]


def run(folder: Path | str, environment: Mapping[str, str], *commands: Sequence[str]) -> list[Result]:
    """Of each `gateway cache ...` the exit code, and what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("GATEWAY_")}
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL],
        input=json.dumps(commands),
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [(code, out, err) for code, out, err in json.loads(done.stdout)]


LS = """\
ROUTE URL STATUS SIZE AGE FRESH VARIES ON
c http://gateway.test/c/mine 200 N A s T s authorization: ***, cookie: ***, x-api-key: (absent)
c http://gateway.test/c/red 200 N A s T s accept-language: de, x-tenant: (absent)
c http://gateway.test/c/red 200 N A s T s accept-language: (absent), x-tenant: a
c http://other.test:81/c/red 200 N A s T s accept-language: (absent), x-tenant: (absent)
c http://gateway.test/c/red?p=2 404 N A s T s
c http://gateway.test/c/stale 200 N A s stale since T s
c http://gateway.test/c/validate 200 N A s validated each time
t http://gateway.test/t/guess 200 N A s T s
"""
WHY = {
    "masked": (
        ["GET", "http://gateway.test/c/mine"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Cache    as the upstream says; bodies of up to 2097152 bytes
Key      c http://gateway.test/c/mine
Stored   200, A s old, fresh for 60 s by max-age: T s; for authorization: ***, cookie: ***, x-api-key: (absent)
Answer   from the upstream: what is stored is for requests with other fields (fwd=vary-miss)
""",
    ),
    "hit": (
        ["GET", "http://gateway.test/c/red", "-H", "X-Tenant: a"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Cache    as the upstream says; bodies of up to 2097152 bytes
Key      c http://gateway.test/c/red
Stored   200, A s old, fresh for 60 s by max-age: T s; for accept-language: de, x-tenant: (absent)
Stored   200, A s old, fresh for 60 s by max-age: T s; for accept-language: (absent), x-tenant: a
Answer   from the cache: it is fresh (hit)
""",
    ),
    "vary": (
        ["GET", "/c/red", "-H", "Host: gateway.test"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Cache    as the upstream says; bodies of up to 2097152 bytes
Key      c http://gateway.test/c/red
Stored   200, A s old, fresh for 60 s by max-age: T s; for accept-language: de, x-tenant: (absent)
Stored   200, A s old, fresh for 60 s by max-age: T s; for accept-language: (absent), x-tenant: a
Answer   from the upstream: what is stored is for requests with other fields (fwd=vary-miss)
""",
    ),
    "stale": (
        ["GET", "/c/stale"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Cache    as the upstream says; bodies of up to 2097152 bytes
Key      c http://gateway.test/c/stale
Stored   200, A s old, fresh for 60 s by max-age: stale since T s
Answer   from the upstream: what is stored must be validated first (fwd=stale)
         by its ETag and Last-Modified
         if the upstream fails, the stored one is sent (stale-if-error)
""",
    ),
    "wish": (
        ["HEAD", "/t/guess", "-H", "Cache-Control: no-cache"],
        """\
Route    t (GATEWAY_ROUTE_T): /t/**
Cache    as the upstream says, else for 60 s; bodies of up to 2097152 bytes
Key      t http://gateway.test/t/guess
Stored   200, A s old, fresh for 60 s by ttl: T s
         for requests without Cookie and Authorization: how long it is fresh is our guess
Request  asks for no-cache
Answer   from the upstream: what is stored is fresh, the request wants it validated (fwd=request)
         it has neither ETag nor Last-Modified: all of it
""",
    ),
    "nothing": (
        ["GET", "http://gateway.test/c/nothing", "-H", "Authorization: Bearer x"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Cache    as the upstream says; bodies of up to 2097152 bytes
Key      c http://gateway.test/c/nothing
Answer   from the upstream: nothing is stored (fwd=uri-miss)
Then     not even an answer with Cache-Control: max-age=60 is stored: the request has Authorization, and the answer \
does not say public, s-maxage or must-revalidate
""",
    ),
    "write": (
        ["POST", "/c/red"],
        """\
Route    write (GATEWAY_ROUTE_WRITE): POST,PUT /c/**
Then     what is stored of /c/red goes, if the upstream answers with 2xx or 3xx
Cache    off: set GATEWAY_ROUTE_WRITE__CACHE=on, or to a duration
""",
    ),
    "method": (
        ["DELETE", "/c/red"],
        """\
Route    c (GATEWAY_ROUTE_C): /c/**
Then     what is stored of /c/red goes, if the upstream answers with 2xx or 3xx
Cache    as the upstream says; bodies of up to 2097152 bytes
Answer   from the upstream: nothing stored answers such a request (fwd=method)
""",
    ),
    "plain": (
        ["GET", "/plain/x"],
        """\
Route    plain (GATEWAY_ROUTE_PLAIN): /plain/**
Cache    off: set GATEWAY_ROUTE_PLAIN__CACHE=on, or to a duration
""",
    ),
    "own": (
        ["GET", "/-/status"],
        "Answer   from the gateway itself: /-/status is its own to answer, and nothing of it is stored\n",
    ),
    "refused": (["GET", "/c//..%2fx"], "Answer   from the gateway itself: 400 path_invalid\n"),
    "no route": (
        ["GET", "/nowhere"],
        "No route matches GET /nowhere: the gateway answers by itself, and stores nothing.\n",
    ),
}
USAGE = "usage: gateway cache purge"
WRONG: dict[str, tuple[list[str], int, str]] = {
    "no verb": ([], 1, "usage: gateway cache"),
    "nothing to purge": (["purge"], 1, USAGE),
    "two things to purge": (["purge", "/x", "--all"], 1, USAGE),
    "a path without its slash": (["purge", "c/x"], 1, "gateway: a path begins with a slash: /c/x\n"),
    "a prefix that is a URL": (["purge", "--prefix", "http://x/c"], 1, "gateway: a prefix begins with a slash: "),
    "why without a slash": (["why", "GET", "c/x"], 1, "gateway: a path begins with a slash: /c/x\n"),
    "a header without a colon": (
        ["why", "GET", "/c/x", "-H", "bad"],
        1,
        "gateway: -H 'bad': write it as 'Name: value'",
    ),
}


@pytest.fixture(scope="module")
def said(gateways: dict[str, Gateway], origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """What every command says, by its name here."""
    gateway = gateways["open"]
    origin.answers("/c/red", fresh("x", "Vary: X-Tenant, Accept-Language", "Cache-Tag: red"))
    origin.answers("/c/red?p=2", status(404, "Cache-Control: max-age=60"))
    mine = fresh("x", "Vary: Cookie, Authorization, X-Api-Key", control="public, max-age=60")
    origin.answers("/c/mine", mine)
    origin.answers("/c/validate", fresh("x", 'ETag: "1"', control="no-cache"))
    late = ("Age: 61", 'ETag: "1"', "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT")
    origin.answers("/c/stale", fresh("x", *late, control="max-age=60, stale-if-error=900"))
    origin.answers("/t/guess", fresh("x", control=""))
    gateway.get("/c/mine", "Cookie: sid=topsecret", "Authorization: Bearer topsecret")
    gateway.get("/c/red", "Accept-Language: de")
    gateway.get("/c/red", "X-Tenant: a")
    gateway.ask(request_bytes("GET", "/c/red", host="other.test:81"))
    for path in ("/c/red?p=2", "/c/stale", "/c/validate", "/t/guess"):
        gateway.get(path)
    eventually(lambda: run(gateway.cwd, gateway.environment, ["ls"])[0][1].count("\n") == 9)
    new, unusable = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("unusable")
    (unusable / "portway.sqlite3").write_bytes(b"no database" * 100)
    here: dict[str, Sequence[str]] = {
        "ls": ["ls"],
        "ls prefix": ["ls", "--prefix", "/c/r"],
        "ls route": ["ls", "--route", "t"],
        "ls host": ["ls", "--host", "other.test:81"],
        "ls none": ["ls", "--prefix", "/C"],
        **{name: ["why", *words] for name, (words, _) in WHY.items()},
        **{name: words for name, (words, *_) in WRONG.items()},
    }
    afresh: dict[str, Sequence[str]] = {
        "new ls": ["ls"],
        "new why": ["why", "GET", "/c/red"],
        "new purge": ["purge", "--all"],
    }
    memory = {**gateway.environment, "GATEWAY_CACHE_DISK": "0B"}
    found = dict(zip(here, run(gateway.cwd, gateway.environment, *here.values()), strict=True))
    found |= zip(afresh, run(new, gateway.environment, *afresh.values()), strict=True)
    found["unusable"] = run(unusable, gateway.environment, ["ls"])[0]
    found["memory only"] = run(new, memory, ["ls"])[0]
    assert list(new.iterdir()) == [], "looking makes no file"
    return found


def timeless(text: str) -> str:
    """Without sizes, ages and what is left, and without the spaces that align them."""
    text = re.sub(r"(\b\d{3}) +\d+ +(?=\d+ s)", r"\1 N ", text)
    text = re.sub(r"\b\d+ s old", "A s old", text)
    text = re.sub(r"(?<=: )\d+ s\b|(?<=since )\d+ s\b", "T s", text)
    text = re.sub(r"(?<=N )\d+ s +\d+ s", "A s T s", text)
    text = re.sub(r"(?<=N )\d+ s", "A s", text)
    return "\n".join(re.sub(r" {2,}", " ", line).rstrip() for line in text.splitlines())


def test_ls_lists_what_is_stored(said: dict[str, Result]) -> None:
    code, out, err = said["ls"]
    assert (code, err) == (0, "")
    assert sorted(timeless(out).splitlines()) == sorted(timeless(LS).replace("N A s T s", "N A s T s").splitlines())


@pytest.mark.parametrize(("name", "count"), [("ls prefix", 4), ("ls route", 1), ("ls host", 1)])
def test_ls_lists_a_part_of_it(said: dict[str, Result], name: str, count: int) -> None:
    code, out, _ = said[name]
    assert (code, len(out.splitlines())) == (0, 1 + count)


def test_ls_says_that_nothing_is_stored(said: dict[str, Result]) -> None:
    assert said["ls none"] == (0, "Nothing is stored.\n", "")
    assert said["new ls"] == (0, "Nothing is stored.\n", "")
    assert said["new purge"] == (0, "Purged: 0 stored answers.\n", "")
    assert said["new why"][0] == 0
    assert "nothing is stored (fwd=uri-miss)" in said["new why"][1]


@pytest.mark.parametrize("name", WHY)
def test_why_says_each_rule_that_decides(said: dict[str, Result], name: str) -> None:
    code, out, err = said[name]
    assert (code, err) == (0, "")
    assert timeless(out) == timeless(WHY[name][1])


@pytest.mark.parametrize("name", WRONG)
def test_what_is_asked_wrongly_is_said_in_a_line(said: dict[str, Result], name: str) -> None:
    code, out, err = said[name]
    _, expected_code, expected = WRONG[name]
    assert (code, out) == (expected_code, "")
    assert err.startswith(expected), err
    assert "Traceback" not in err


def test_a_database_that_cannot_be_read_is_said_in_a_line(said: dict[str, Result]) -> None:
    code, out, err = said["unusable"]
    assert (code, out) == (1, "")
    assert err == "gateway: the database of the cache cannot be used: file is not a database\n"
    assert said["memory only"] == (
        1,
        "",
        "gateway: GATEWAY_CACHE_DISK=0B: each worker has its cache in memory only\n",
    )


# -- who may purge ---------------------------------------------------------------------------------------------------


def basic(name: str, password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


DOOR = [
    ("open", "localhost", [], 200),
    ("open", "localhost:8000", [], 200),
    ("open", "127.0.0.1:8000", [], 200),
    ("open", "[::1]", [], 200),
    ("open", "gateway.localhost", [], 200),
    ("open", "gateway.test", [], 403),
    ("open", "localhost.evil.example", [], 403),
    ("open", "10.0.0.1", [], 403),
    ("open", "localhost", ["X-Forwarded-For: 192.0.2.1"], 403),
    ("open", "localhost", ["X-Forwarded-Proto: https"], 403),
    ("open", "localhost", ["Forwarded: for=192.0.2.1"], 403),
    ("open", "localhost", ["Via: 1.1 proxy"], 403),
    ("open", "localhost", ["Origin: http://evil.example"], 403),
    ("open", "localhost", ["Origin: http://localhost:81"], 403),
    ("open", "localhost", ["Origin: null"], 403),
    ("open", "localhost", ["Origin: http://localhost", "Origin: http://localhost"], 403),
    ("open", "localhost", ["Origin: http://localhost"], 200),
    ("open", "localhost", [f"Authorization: Bearer {TOKEN}"], 200),
    ("token", "localhost", [], 401),
    ("token", "gateway.test", [], 401),
    ("token", "localhost", [f"Authorization: Bearer {TOKEN}x"], 401),
    ("token", "localhost", ["Authorization: Bearer"], 401),
    ("token", "localhost", ["Authorization: Bearer \xe9"], 401),
    ("token", "localhost", [f"Authorization: Token {TOKEN}"], 401),
    ("token", "localhost", [basic(TOKEN, "")], 401),
    ("token", "localhost", ["Authorization: Basic !"], 401),
    ("token", "localhost", [f"Authorization: Bearer {TOKEN}", "Authorization: Bearer x"], 401),
    ("token", "gateway.test", [f"Authorization: Bearer {TOKEN}"], 200),
    ("token", "gateway.test", [f"authorization: bearer {TOKEN}"], 200),
    ("token", "gateway.test", [basic("anybody", TOKEN)], 200),
    ("token", "gateway.test", [basic("", TOKEN), "Via: 1.1 proxy", "X-Forwarded-For: 192.0.2.1"], 200),
    ("token", "gateway.test", [f"Authorization: Bearer {TOKEN}", "Origin: https://evil.example"], 403),
    ("token", "gateway.test", [f"Authorization: Bearer {TOKEN}", "Origin: https://gateway.test"], 200),
]


@pytest.mark.parametrize(("which", "host", "fields", "code"), DOOR, ids=str)
def test_who_may_purge(gateways: dict[str, Gateway], which: str, host: str, fields: list[str], code: int) -> None:
    answer = gateways[which].ask(request_bytes("DELETE", "/-/cache?tag=nothing", *fields, host=host))
    assert answer.status == code, answer
    assert answer.one("cache-control") == "no-store"
    if code == 200:
        assert answer.json() == {"purged": 0, "tag": "nothing"}
    else:
        assert answer.json()["reason"] == {401: "admin_required", 403: "admin_denied"}[code]
    if code == 401:
        assert answer.all("www-authenticate") == ['Bearer realm="portway"', 'Basic realm="portway"']


@pytest.mark.parametrize("which", ["open", "token"])
def test_who_comes_from_elsewhere_needs_the_token(gateways: dict[str, Gateway], which: str) -> None:
    """The loopback has many addresses, and all of them are this machine's; nobody else can ask here."""
    answer = gateways[which].ask(request_bytes("DELETE", "/-/cache?all", host="localhost"), source="127.0.0.7")
    assert answer.status == {"open": 200, "token": 401}[which]


# -- what may be purged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?",
        "?path=",
        "?path=x",
        "?path=ftp://x/y",
        "?prefix=http://gateway.test/c",
        "?nothing=1",
        "?path=/a&tag=b",
        "?path=/a&path=/b",
        "?tag=",
        "?route=",
        "?uri=http://gateway.test/c/1",
    ],
)
def test_a_purge_that_does_not_say_what_is_refused(gateway: Gateway, query: str) -> None:
    answer = gateway.ask(request_bytes("DELETE", f"/-/cache{query}", host="localhost"))
    assert (answer.status, answer.json()["reason"]) == (400, "request_invalid")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
def test_other_methods_do_nothing_there(gateway: Gateway, method: str) -> None:
    answer = gateway.ask(request_bytes(method, "/-/cache?all", host="localhost"))
    assert (answer.status, answer.one("allow")) == (405, "DELETE")


@pytest.mark.parametrize(
    ("more", "query"),
    [
        ("", "?path={}"),
        ("?a=1&b=2", "?path={}%3Fa=1%26b=2"),
        ("/x%2Fy", "?path={}/x%252Fy"),
        ("/caf%C3%A9", "?path={}/caf%25C3%25A9"),
        ("", "?path=http://gateway.test{}"),
        ("", "?prefix={}"),
        ("", "?route=c"),
        ("", "?all"),
        ("", "?all=1"),
    ],
)
def test_a_purge_is_told_in_the_query_percent_encoded_once_more(
    gateway: Gateway, origin: Origin, more: str, query: str
) -> None:
    page = Page(gateway, origin)
    page.get(more=more)
    assert is_hit(page.get(more=more))
    answer = gateway.ask(request_bytes("DELETE", "/-/cache" + query.format(page.path), host="localhost"))
    assert answer.status == 200
    assert answer.json()["purged"] >= 1
    assert not is_hit(page.get(more=more))
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["route"], line["path"]) == ("/-/cache", "/-/cache")
    purged = gateway.wait_for_log(
        lambda line: line["event"] == "cache.purged" and line["request_id"] == answer.one("x-request-id")
    )
    assert purged["kind"] in query
