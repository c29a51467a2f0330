"""`gateway check --connect`: what it says of endpoints that answer, refuse, speak something else."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.harness import OK, Answers, Refuses
from tests.live.management.test_commands import Ran, run
from tests.live.proxy.test_tls import SpeaksNoTls, authority, serving, signed

FAILS = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def tls_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Answers, Path]]:
    folder = tmp_path_factory.mktemp("tls")
    paper = signed(folder, "up", authority(folder, "ca"), "localhost")
    with Answers(OK, tls=serving(paper)) as upstream:
        yield upstream, folder / "ca.pem"


def check(folder: Path, url: str, **options: str) -> Ran:
    environment = {"GATEWAY_UPSTREAM_U": url, "GATEWAY_ROUTE_U": "/u/** -> u"}
    environment |= {f"GATEWAY_UPSTREAM_U__{name}": value for name, value in options.items()}
    return run(folder, "check", "--connect", **environment)


def test_an_endpoint_that_answers_is_good(up: Answers, tmp_path: Path) -> None:
    done = check(tmp_path, up.url, HEALTH="/healthz")
    assert done.code == 0, done.errors
    row = done.output.splitlines()[-1]
    assert f"u  {up.url}  127.0.0.1  tcp " in row
    assert "GET /healthz 200" in row
    assert row.endswith(" ms")


def test_without_a_health_path_nothing_is_asked(up: Answers, tmp_path: Path) -> None:
    up.forget()
    assert check(tmp_path, up.url).code == 0
    assert not up.requests


def test_each_base_url_has_a_row_and_one_bad_one_is_a_failure(up: Answers, tmp_path: Path) -> None:
    refuses = Refuses()
    done = check(tmp_path, f"{up.url} {refuses.url}", HEALTH="/healthz")
    refuses.close()
    first, second = done.output.splitlines()[-2:]
    assert done.code == 1
    assert "GET /healthz 200" in first
    assert second.endswith("tcp: connection refused")


@pytest.mark.parametrize(
    ("answer", "fault"), [(FAILS, "GET /healthz: 503"), (b"220 smtp\r\n", "the answer is no HTTP")]
)
def test_a_bad_answer_is_named(tmp_path: Path, answer: bytes, fault: str) -> None:
    with Answers(answer) as upstream:
        done = check(tmp_path, upstream.url, HEALTH="/healthz")
    assert (done.code, done.output.splitlines()[-1].endswith(fault)) == (1, True), done.output


def test_a_name_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    done = check(tmp_path, "http://nobody.invalid")
    assert done.code == 1
    assert "  dns: " in done.output


def test_plain_http_to_a_port_of_tls_is_told(tls_up: tuple[Answers, Path], tmp_path: Path) -> None:
    done = check(tmp_path, f"http://127.0.0.1:{tls_up[0].port}", HEALTH="/healthz")
    assert done.code == 1
    assert "TLS is spoken there: write https://" in done.output or "is TLS spoken there?" in done.output


def test_and_tls_to_a_port_of_plain_http(tmp_path: Path) -> None:
    with SpeaksNoTls() as upstream:
        done = check(tmp_path, f"https://127.0.0.1:{upstream.port}")
    assert done.code == 1
    assert done.output.splitlines()[-1].endswith("tls: no TLS is spoken there: write http://")


def test_a_service_that_accepts_and_never_speaks_is_named_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        done = check(tmp_path, f"https://127.0.0.1:{deaf.getsockname()[1]}", CONNECT_TIMEOUT="200ms")
    assert (done.code, done.output.rstrip().endswith("tls: no answer in time")) == (1, True), done.output


def test_a_certificate_that_nobody_trusts_says_what_to_set(tls_up: tuple[Answers, Path], tmp_path: Path) -> None:
    url = f"https://localhost:{tls_up[0].port}"
    done = check(tmp_path, url)
    assert done.code == 1
    assert "__CA_FILE names its authority" in done.output
    trusted = check(tmp_path, url, CA_FILE=str(tls_up[1]), HEALTH="/healthz")
    assert (trusted.code, "tls " in trusted.output, "GET /healthz 200" in trusted.output) == (0, True, True)
