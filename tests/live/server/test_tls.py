"""TLS towards clients: one port speaks it, one beside it leads there, and what is none of it changes nothing."""

import socket
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.live.harness import HOME, Answer, Answers, Gateway, Wire, free_port, request_bytes
from tests.live.management.test_commands import run
from tests.live.proxy.test_tls import authority, signed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> trustme.CA:
    return authority(folder, "ours")


def trusting(folder: Path, *, alpn: str = "http/1.1") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ours.pem"))
    context.set_alpn_protocols([alpn])
    return context


def serving(folder: Path, ca: trustme.CA, name: str = "server", *, expired: bool = False) -> dict[str, str]:
    paper = signed(folder, name, ca, "localhost", "127.0.0.1", "gateway.test", expired=expired)
    return {"GATEWAY_TLS_CERT_FILE": str(paper.certificate), "GATEWAY_TLS_KEY_FILE": str(paper.key)}


@pytest.fixture(scope="module")
def gateway(folder: Path, ca: trustme.CA, up: Answers) -> Iterator[Gateway]:
    environment = {
        **serving(folder, ca),
        "GATEWAY_TLS_REDIRECT": f"127.0.0.1:{free_port()}",
        "GATEWAY_HSTS": "365d",
        "GATEWAY_CLIENT_IDLE": "1s",
        "GATEWAY_ADMIN_TOKEN": "hunter2",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/users/** -> users",
        "GATEWAY_ROUTE_USERS__RESPONSE_HEADER_X_MARK": "1",
    }
    with Gateway(environment, cwd=folder, tls=trusting(folder)) as running:
        yield running


def plain(gateway: Gateway) -> Wire:
    return Wire("127.0.0.1", int(gateway.environment["GATEWAY_TLS_REDIRECT"].rpartition(":")[2]))


def ask_plain(gateway: Gateway, raw: bytes) -> Answer:
    with plain(gateway) as wire:
        wire.send(raw)
        answer = wire.read_answer(raw.partition(b" ")[0].decode("latin-1"))
        assert wire.is_closed()
        return answer


# -- the port that speaks TLS -------------------------------------------------------------------------------------


def test_what_goes_up_says_https_and_what_comes_down_says_to_stay_there(gateway: Gateway, up: Answers) -> None:
    up.forget()
    answer = gateway.get("/users/1")
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.one("strict-transport-security") == "max-age=31536000"
    (request,) = up.requests
    assert request.one("x-forwarded-proto") == "https"
    assert "proto=https" in request.one("forwarded")


def test_problems_say_it_too_and_an_upstreams_own_word_gives_way(gateway: Gateway, up: Answers) -> None:
    assert gateway.get("/nowhere").one("strict-transport-security") == "max-age=31536000"
    up.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=1\r\n\r\n"
    try:
        assert gateway.get("/users/1").all("strict-transport-security") == ["max-age=31536000"]
    finally:
        up.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def test_a_client_that_speaks_http_there_is_told_by_tls_and_harms_nobody(gateway: Gateway) -> None:
    with gateway.connect() as good:
        with Wire("127.0.0.1", gateway.port) as wrong:
            wrong.send(request_bytes("GET", "/users/1"))
            said = wrong.read_to_end()  # an alert of TLS, and the end
        assert said[:1] in {b"", b"\x15"}
        good.send(request_bytes("GET", "/users/1"))
        assert good.read_answer().status == 200


@pytest.mark.parametrize(
    "raw",
    [b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02", b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\0" * 1000],
    ids=["no-hello", "ssl-2", "too-long", "zeros"],
)
def test_what_is_no_handshake_is_cut(gateway: Gateway, raw: bytes) -> None:
    with Wire("127.0.0.1", gateway.port) as wrong:
        try:
            wrong.send(raw)
            wrong.read_to_end()
        except ConnectionError:
            pass
    assert gateway.get("/users/1").status == 200


def test_versions_before_1_2_are_refused(gateway: Gateway, folder: Path) -> None:
    old = trusting(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Wire("127.0.0.1", gateway.port, tls=old)


def test_1_2_is_spoken(gateway: Gateway, folder: Path) -> None:
    context = trusting(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Wire("127.0.0.1", gateway.port, tls=context) as wire:
        assert wire.socket.version() == "TLSv1.2"  # type: ignore[attr-defined]
        wire.send(request_bytes("GET", "/users/1"))
        assert wire.read_answer().status == 200


def test_the_days_left_are_a_metric(gateway: Gateway) -> None:
    text = gateway.get("/-/metrics", "Authorization: Bearer hunter2").body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("portway_tls_certificate_days_left")]
    assert 0.9 < float(line.rpartition(" ")[2]) < 1.0


def test_the_key_lies_in_no_file_that_others_read_and_is_gone_afterwards(folder: Path, ca: trustme.CA) -> None:
    given = serving(folder, ca)
    values = {name.removesuffix("_FILE"): Path(path).read_text() for name, path in given.items()}
    environment = {**values, "GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:9", "GATEWAY_ROUTE_USERS": "/** -> users"}
    before = set(Path("/dev/shm").glob("portway-tls-*"))
    with Gateway(environment, cwd=folder, tls=trusting(folder)):
        (made,) = set(Path("/dev/shm").glob("portway-tls-*")) - before
        assert made.stat().st_mode & 0o077 == 0
    assert not made.exists()


# -- the plain port beside it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "host", "location"),
    [
        ("/users/1?x=%2F", "gateway.test", "https://gateway.test/users/1?x=%2F"),
        ("/users/1", "gateway.test:8080", "https://gateway.test:{port}/users/1"),
        ("http://gateway.test/users/1", "gateway.test", "https://gateway.test/users/1"),
        ("//evil.test/", "gateway.test", "https://gateway.test//evil.test/"),
        ("/-/status", "gateway.test", "https://gateway.test/-/status"),
        ("/nowhere", "gateway.test", "https://gateway.test/nowhere"),
    ],
)
def test_plain_http_is_sent_to_https(gateway: Gateway, target: str, host: str, location: str) -> None:
    for method in ("GET", "HEAD", "POST"):
        answer = ask_plain(gateway, request_bytes(method, target, host=host))
        assert (answer.status, answer.one("location")) == (308, location.format(port=gateway.port))
        assert answer.one("connection") == "close"
        assert not answer.has("strict-transport-security"), "RFC 6797, section 7.2: never over http"
        assert gateway.request_line(answer.one("x-request-id"))["status"] == 308


def test_probes_are_answered_there(gateway: Gateway) -> None:
    for target in ("/-/live", "/-/ready"):
        assert ask_plain(gateway, request_bytes("GET", target)).status == 200


def test_a_body_is_not_taken_there_and_its_client_hears_the_answer(gateway: Gateway, up: Answers) -> None:
    up.forget()
    body = bytes(200_000)
    raw = request_bytes("POST", "/users/1", f"Content-Length: {len(body)}", body=body)
    assert ask_plain(gateway, raw).status == 308
    assert up.requests == []


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n x: folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", 308),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x00\xa0\r\n\r\n", 400),
    ],
)
def test_what_is_wrong_there_is_refused(gateway: Gateway, raw: bytes, status: int) -> None:
    assert ask_plain(gateway, raw).status == status


def test_a_head_that_does_not_come_is_not_waited_for(gateway: Gateway) -> None:
    with plain(gateway) as silent, plain(gateway) as slow:
        slow.send(b"GET / HTTP/1.1\r\nHost: ")
        assert silent.is_closed(5)
        assert slow.is_closed(5)


# -- certificates of clients ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mutual(folder: Path, ca: trustme.CA, up: Answers) -> Iterator[Gateway]:
    environment = {
        **serving(folder, ca, "mutual"),
        "GATEWAY_TLS_CLIENT_CA_FILE": str(folder / "ours.pem"),
        "GATEWAY_TLS_MIN": "1.3",
        "GATEWAY_TLS_REDIRECT": f"127.0.0.1:{free_port()}",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/** -> users",
    }
    client = trusting(folder)
    client.load_cert_chain(*signed(folder, "client", ca, "client.test"))
    with Gateway(environment, cwd=folder, tls=client) as running:
        yield running


def test_a_client_with_a_certificate_is_let_in(mutual: Gateway) -> None:
    assert mutual.get("/x").status == 200


def test_one_without_or_with_a_strangers_is_not(mutual: Gateway, folder: Path, up: Answers) -> None:
    up.forget()
    stranger = trusting(folder)
    stranger.load_cert_chain(*signed(folder, "stranger", authority(folder, "theirs"), "client.test"))
    for context in (trusting(folder), stranger):
        heard = b""
        with suppress(ssl.SSLError, ConnectionError), Wire("127.0.0.1", mutual.port, tls=context) as wire:
            wire.send(request_bytes("GET", "/x"))  # with TLS 1.3 a client hears of it after its handshake
            heard = wire.read_to_end()
        assert heard == b""
    assert up.requests == []


def test_1_2_is_too_old_there(mutual: Gateway, folder: Path) -> None:
    context = trusting(folder)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Wire("127.0.0.1", mutual.port, tls=context)


def test_probes_need_no_certificate(mutual: Gateway) -> None:
    assert ask_plain(mutual, request_bytes("GET", "/-/ready")).status == 200


@pytest.mark.parametrize("asks_for_certificates", [False, True])
def test_the_image_looks_for_it_there(
    gateway: Gateway, mutual: Gateway, tmp_path: Path, *, asks_for_certificates: bool
) -> None:
    running = mutual if asks_for_certificates else gateway
    said = {name: value for name, value in running.environment.items() if "TLS" in name or "BIND" in name}
    at = said["GATEWAY_TLS_REDIRECT"] if asks_for_certificates else said["GATEWAY_BIND"]
    command = [sys.executable, str(HOME / "deploy" / "health.py")]
    done = subprocess.run(command, env=said, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{at}: 200\n")
    if asks_for_certificates:
        del said["GATEWAY_TLS_REDIRECT"]
        done = subprocess.run(command, env=said, capture_output=True, text=True, check=False)
        assert (done.returncode, "set GATEWAY_TLS_REDIRECT" in done.stdout) == (1, True)


# -- what a trusted peer says -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind(folder: Path, up: Answers) -> Iterator[Gateway]:
    environment = {
        "GATEWAY_HTTPS": "redirect",
        "GATEWAY_HSTS": "1h",
        "GATEWAY_TRUSTED_PROXIES": "127.0.0.1",
        "GATEWAY_UPSTREAM_USERS": up.url,
        "GATEWAY_ROUTE_USERS": "/** -> users",
    }
    with Gateway(environment, cwd=folder) as running:
        yield running


def test_http_as_a_trusted_peer_has_it_is_sent_to_https(behind: Gateway) -> None:
    fields = ("X-Forwarded-Proto: http", "X-Forwarded-Host: api.example.com:8080")
    answer = behind.get("/x?y=1", *fields)
    assert (answer.status, answer.one("location")) == (308, "https://api.example.com/x?y=1")
    assert not answer.has("strict-transport-security")


@pytest.mark.parametrize("fields", [["X-Forwarded-Proto: https"], [], ["X-Forwarded-Proto: gopher"]])
def test_what_it_says_is_https_or_nothing_stays(behind: Gateway, fields: list[str]) -> None:
    answer = behind.get("/x", *fields)
    assert answer.status == 200
    assert answer.has("strict-transport-security") is ("X-Forwarded-Proto: https" in fields)


def test_a_stranger_cannot_say_it_and_probes_stay(behind: Gateway) -> None:
    assert behind.get("/x", "X-Forwarded-Proto: http", source="127.0.0.2").status == 200
    assert behind.get("/-/ready", "X-Forwarded-Proto: http").status == 200


# -- check and serve --------------------------------------------------------------------------------------------------

USERS = {"GATEWAY_UPSTREAM_USERS": "http://127.0.0.1:9", "GATEWAY_ROUTE_USERS": "other.test/** -> users"}


def test_check_reads_the_pair(folder: Path, ca: trustme.CA) -> None:
    ran = run(folder, "check", **USERS, **serving(folder, ca, "checked"))
    assert ran.code == 0
    assert "GATEWAY_TLS_CERT: the certificate of localhost ends on" in ran.errors or "renew it" in ran.errors
    assert "GATEWAY_ROUTE_USERS serves other.test, which clients will not accept" in ran.errors


def test_an_expired_certificate_is_not_served(folder: Path, ca: trustme.CA) -> None:
    expired = serving(folder, ca, "expired", expired=True)
    for command in ("check", "serve"):
        ran = run(folder, command, **USERS, **expired)
        assert ran.code == 2
        assert "ended on" in ran.errors


def test_a_key_that_does_not_fit_is_not_served(folder: Path, ca: trustme.CA) -> None:
    mixed = {**serving(folder, ca, "one"), "GATEWAY_TLS_KEY_FILE": serving(folder, ca, "two")["GATEWAY_TLS_KEY_FILE"]}
    ran = run(folder, "serve", **USERS, **mixed)
    assert (ran.code, "GATEWAY_TLS_KEY is not the key of the first certificate" in ran.errors) == (2, True)


def test_a_redirect_port_that_is_taken_is_said(folder: Path, ca: trustme.CA) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = run(folder, "serve", GATEWAY_TLS_REDIRECT=at, **USERS, **serving(folder, ca, "taken"))
    assert (ran.code, f"cannot listen on {at}" in ran.errors) == (1, True)
