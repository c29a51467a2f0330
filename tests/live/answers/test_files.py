"""Static files: names and links, conditions and ranges, twins, changes on the way; beside nginx where that is here."""

import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import PATIENCE_S, Answer, Gateway, Wire, eventually, free_port, request_bytes

TEXT = b"".join(b"line %05d\n" % number for number in range(1000))
LARGE = os.urandom(1024) * 3000  # 3 MB, in many pieces


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("files")
    site, outside = home / "site", home / "outside"
    for folder in (site / "a b", site / "empty", site / ".hidden", outside):
        folder.mkdir(parents=True)
    (site / "index.html").write_bytes(b"<h1>home</h1>")
    (site / "a b" / "index.html").write_bytes(b"<h1>a b</h1>")
    (site / "text.txt").write_bytes(TEXT)
    (site / "large.bin").write_bytes(LARGE)
    (site / "app.js").write_bytes(b"alert(1)\n" * 100)
    (site / "app.js.gz").write_bytes(gzip.compress(b"alert(1)\n" * 100, mtime=0))
    (site / "app.js.br").write_bytes(b"brotli, perhaps")
    (site / "only.css").write_bytes(b"a{}")
    (site / "only.css.gz").write_bytes(gzip.compress(b"a{}", mtime=0))
    (site / "nothing").write_bytes(b"")
    (site / ".env").write_bytes(b"SECRET=1")
    (site / ".hidden" / "x").write_bytes(b"SECRET=1")
    (outside / "secret").write_bytes(b"SECRET=1")
    (site / "within").symlink_to(site / "text.txt")
    (site / "out").symlink_to(outside / "secret")
    (site / "outdir").symlink_to(outside)
    (site / "dangling").symlink_to(site / "nowhere")
    (site / "loop").symlink_to(site / "loop")
    os.mkfifo(site / "pipe")
    os.utime(site / "text.txt", (1_700_000_000, 1_700_000_000))
    return site


@pytest.fixture(scope="module")
def gateway(site: Path) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_CORS": "https://app.example.com",
        "GATEWAY_RESPONSE_HEADER_X_ALL": "1",
        "GATEWAY_ROUTE_SITE": f"/site/** -> file:{site}/**",
        "GATEWAY_ROUTE_SITE__CACHE_CONTROL": "max-age=60",
        "GATEWAY_ROUTE_ROOT": f"root.test/** -> file:{site}/**",
        "GATEWAY_ROUTE_ONE": f"/one.txt -> file:{site}/text.txt",
    }
    with Gateway(environment, cwd=site.parent) as running:
        yield running


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/site/text.txt", TEXT),
        ("/site/within", TEXT),
        ("/site/large.bin", LARGE),
        ("/site/", b"<h1>home</h1>"),
        ("/site/a%20b/", b"<h1>a b</h1>"),
        ("/site/nothing", b""),
        ("/one.txt", TEXT),
        ("/site/%74ext.txt", TEXT),
    ],
)
def test_a_file_is_sent_whole(gateway: Gateway, target: str, body: bytes) -> None:
    answer = gateway.get(target)
    assert (answer.status, answer.body) == (200, body)
    assert answer.one("content-length") == str(len(body))
    assert answer.one("x-all") == "1"
    head = gateway.ask(request_bytes("HEAD", target))
    assert (head.status, head.body, head.one("etag")) == (200, b"", answer.one("etag"))
    assert head.one("content-length") == str(len(body))


@pytest.mark.parametrize(
    "target",
    [
        *("/site/missing", "/site/.env", "/site/.hidden/x", "/site/out", "/site/outdir/secret", "/site/dangling"),
        *("/site/loop", "/site/pipe", "/site/text.txt/", "/site/text.txt/x", "/site/empty/", "/site//text.txt"),
        *("/site/a%2Fb", "/site/%2e%2e/outside/secret", "/site/..%2Foutside/secret", "/site/a%00", "/site/a%5Cb"),
        *("/site/%FF", "/site/" + "x" * 300, "/site/" + "x/" * 2000, "/site/../outside/secret", "/site/outdir/"),
    ],
)
def test_what_is_no_file_of_the_folder_is_not_sent(gateway: Gateway, target: str) -> None:
    answer = gateway.get(target)
    assert answer.status in {400, 404}
    assert b"SECRET" not in answer.body
    assert answer.json()["reason"] in {"file_not_found", "path_invalid", "path_ambiguous"}


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/site", "g.test", "/site/"),
        ("/site/a%20b", "g.test", "/site/a%20b/"),
        ("/site/empty?x=1", "g.test", "/site/empty/?x=1"),
    ],
)
def test_a_folder_is_asked_for_with_a_slash(gateway: Gateway, target: str, host: str, location: str) -> None:
    answer = gateway.ask(request_bytes("GET", target, host=host))
    assert (answer.status, answer.one("location")) == (301, location)


def test_only_get_and_head_are_answered(gateway: Gateway) -> None:
    answer = gateway.ask(request_bytes("DELETE", "/site/text.txt"))
    assert (answer.status, answer.one("allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, deflate, br", "br"),
        ("gzip", "gzip"),
        ("br;q=0, gzip;q=0.5", "gzip"),
        ("*", "br"),
        ("identity", None),
        ("", None),
        ("gzip;q=0, br;q=0", None),
    ],
)
def test_a_twin_is_sent_to_who_takes_it(gateway: Gateway, site: Path, accept: str, coding: str | None) -> None:
    answer = gateway.get("/site/app.js", f"Accept-Encoding: {accept}")
    name = {"br": "app.js.br", "gzip": "app.js.gz", None: "app.js"}[coding]
    assert answer.body == (site / name).read_bytes()
    assert answer.one("content-type") == "text/javascript; charset=utf-8"
    assert (answer.one("content-encoding") if coding else None) == coding
    assert answer.has("content-encoding") is (coding is not None)
    assert "Accept-Encoding" in answer.all("vary")
    assert (
        gateway.get("/site/app.js", f"Accept-Encoding: {accept}", f"If-None-Match: {answer.one('etag')}").status == 304
    )


def test_twins_have_tags_of_their_own(gateway: Gateway) -> None:
    tags = {gateway.get("/site/app.js", f"Accept-Encoding: {one}").one("etag") for one in ("br", "gzip", "identity")}
    assert len(tags) == 3
    assert "Accept-Encoding" not in gateway.get("/site/text.txt").all("vary")


def test_cache_control_is_of_good_answers(gateway: Gateway) -> None:
    assert gateway.get("/site/text.txt").one("cache-control") == "max-age=60"
    assert gateway.get("/site/missing").one("cache-control") == "no-store"


def test_a_file_that_becomes_shorter_breaks_the_transfer_off(gateway: Gateway, site: Path) -> None:
    path = site / "shrinks.bin"
    path.write_bytes(bytes(64 * 2**20))
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/site/shrinks.bin"))
        head = wire.read_head()
        assert (head.status, head.one("content-length")) == (200, str(64 * 2**20))
        path.write_bytes(b"short")
        wire.read_body(head)
        assert head.broke_off
    answer = gateway.get("/site/shrinks.bin")
    assert (answer.status, answer.body) == (200, b"short")


def test_a_file_that_is_replaced_is_sent_as_it_was(gateway: Gateway, site: Path) -> None:
    path = site / "replaced.bin"
    path.write_bytes(b"a" * (8 * 2**20))
    with gateway.connect() as wire:
        wire.send(request_bytes("GET", "/site/replaced.bin"))
        head = wire.read_head()
        (site / "new").write_bytes(b"b" * 10)
        (site / "new").replace(path)
        wire.read_body(head)
        assert head.body == b"a" * (8 * 2**20)


def test_descriptors_are_closed_whatever_the_client_does(gateway: Gateway) -> None:
    (pid,) = [line["pid"] for line in gateway.log if line["event"] == "worker.ready"][-1:]
    folder = Path(f"/proc/{pid}/fd")

    def files() -> int:
        return sum(1 for one in folder.iterdir() if os.path.realpath(one).endswith("large.bin"))

    for _ in range(5):
        with gateway.connect() as wire:
            wire.send(request_bytes("GET", "/site/large.bin"))
            wire.read_head()
        gateway.ask(request_bytes("HEAD", "/site/large.bin"))
        gateway.get("/site/large.bin", "Range: bytes=0-10")
    eventually(lambda: files() == 0)


# -- beside nginx -----------------------------------------------------------------------------------------------------

NGINX = shutil.which("nginx")
DATE, BEFORE, AFTER = "Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"
TAG = "{tag}"
REQUESTS = [
    ("GET",),
    ("HEAD",),
    ("GET", f"If-None-Match: {TAG}"),
    ("HEAD", f"If-None-Match: {TAG}"),
    ("GET", f"If-None-Match: W/{TAG}"),
    ("GET", 'If-None-Match: "other"'),
    ("GET", f'If-None-Match: "other", {TAG}'),
    ("GET", "If-None-Match: *"),
    ("GET", f"If-Modified-Since: {DATE}"),
    ("GET", f"If-Modified-Since: {BEFORE}"),
    ("GET", f"If-Modified-Since: {AFTER}"),
    ("GET", "If-Modified-Since: rubbish"),
    ("GET", 'If-None-Match: "other"', f"If-Modified-Since: {DATE}"),
    ("GET", f"If-Range: {TAG}"),
    ("GET", f"If-Match: {TAG}"),
    ("GET", 'If-Match: "other"'),
    ("GET", "If-Match: *"),
    ("GET", f"If-Match: W/{TAG}"),
    ("GET", f"If-Unmodified-Since: {DATE}"),
    ("GET", f"If-Unmodified-Since: {BEFORE}"),
    ("GET", f"If-Unmodified-Since: {AFTER}"),
    ("GET", "Range: bytes=0-0"),
    ("GET", "Range: bytes=0-99"),
    ("GET", "Range: bytes=100-"),
    ("GET", "Range: bytes=-100"),
    ("GET", "Range: bytes=-99999999"),
    ("GET", "Range: bytes=0-99999999"),
    ("GET", "Range: bytes=10999-10999"),
    ("GET", "Range: bytes=11000-"),
    ("GET", "Range: bytes=99999999-"),
    ("GET", "Range: bytes=5-5", f"If-Range: {TAG}"),
    ("GET", "Range: bytes=5-5", 'If-Range: "other"'),
    ("GET", "Range: bytes=5-5", f"If-Range: W/{TAG}"),
    ("GET", "Range: bytes=5-5", f"If-Range: {DATE}"),
    ("GET", "Range: bytes=5-5", f"If-Range: {BEFORE}"),
    ("GET", "Range: bytes=5-5", f"If-None-Match: {TAG}"),
    ("GET", "Range: bytes=5-5", 'If-Match: "other"'),
    ("GET", "Range: lines=1-2"),
    ("GET", "Range: bytes=0-4", f"If-Modified-Since: {BEFORE}"),
    ("GET", "Range: bytes=-0"),
]


@pytest.fixture(scope="module")
def nginx(site: Path) -> Iterator[int]:
    port, home = free_port(), site.parent
    (home / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/nginx.log;\n"
        "events {}\n"
        f"http {{ access_log off; client_body_temp_path {home}/t1; proxy_temp_path {home}/t2;\n"
        f"  fastcgi_temp_path {home}/t3; uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;\n"
        "  types { text/plain txt; } if_modified_since before;\n"
        f"  server {{ listen 127.0.0.1:{port}; location /site/ {{ alias {site}/; }} }} }}\n",
        encoding="ascii",
    )
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-c", str(home / "nginx.conf"), "-p", str(home)])
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _listens(port: int) -> bool:
    try:
        Wire("127.0.0.1", port).close()
    except OSError:
        return False
    return True


def shape(answer: Answer) -> tuple[object, ...]:
    ranges = answer.one("content-range") if answer.has("content-range") else None
    body = answer.body if answer.status in {200, 206} else b""
    return answer.status, body, ranges, answer.has("last-modified") if answer.status in {200, 206, 304} else None


# Why it may be left out: only make and Python may be assumed of a newcomer's machine; `.ci/run` installs nginx.
@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_the_same_answer_as_nginx(gateway: Gateway, nginx: int, number: int) -> None:
    method, *fields = REQUESTS[number]
    found = []
    for port in (gateway.port, nginx):

        def ask(*lines: str, method: str = method, port: int = port) -> Answer:
            with Wire("127.0.0.1", port) as wire:
                wire.send(request_bytes(method, "/site/text.txt", *lines, "Connection: close"))
                return wire.read_answer(method)

        tag = ask(method="HEAD").one("etag")
        found.append(shape(ask(*(field.replace(TAG, tag) for field in fields))))
    assert found[0] == found[1], (method, fields)


def test_where_nginx_joins_both_conditions_the_tag_decides_alone(gateway: Gateway) -> None:
    """RFC 9110, section 13.1.3: If-Modified-Since is ignored where If-None-Match came."""
    tag = gateway.get("/site/text.txt").one("etag")
    assert gateway.get("/site/text.txt", f"If-None-Match: {tag}", f"If-Modified-Since: {BEFORE}").status == 304


def test_forty_requests_are_compared() -> None:
    assert len(REQUESTS) == 40
