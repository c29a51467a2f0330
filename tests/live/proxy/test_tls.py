"""https upstreams: whom the gateway trusts, what it shows of itself, and the word for each way a handshake fails."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from tests.live.harness import Answers, Connection, Gateway, Upstream, request_bytes


class Paper(NamedTuple):
    """A certificate and its key."""

    certificate: Path
    key: Path


def authority(folder: Path, name: str) -> trustme.CA:
    made = trustme.CA(organization_name=name)
    made.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    return made


def signed(folder: Path, name: str, by: trustme.CA, *names: str, expired: bool = False) -> Paper:
    now = datetime.now(UTC)
    made = by.issue_cert(
        *names, not_before=now - timedelta(days=2), not_after=now + timedelta(days=-1 if expired else 1)
    )
    paper = Paper(folder / f"{name}.pem", folder / f"{name}.key")
    made.private_key_pem.write_to_path(str(paper.key))
    made.cert_chain_pems[0].write_to_path(str(paper.certificate))
    return paper


def serving(paper: Paper, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paper)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


class SpeaksNoTls(Upstream):
    """Takes a handshake for a bad request, as a plain HTTP server does."""

    def on_connect(self, connection: Connection) -> None:
        connection.socket.recv(1)
        connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.close()


class Ups(NamedTuple):
    good: Answers
    mutual: Answers
    other_name: Answers
    stranger: Answers
    expired: Answers
    plain: SpeaksNoTls


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ups(folder: Path) -> Iterator[Ups]:
    ours, theirs = authority(folder, "ours"), authority(folder, "theirs")
    here = ("127.0.0.1", "localhost")
    good = signed(folder, "good", ours, *here)
    signed(folder, "portway", ours, "portway.test")
    signed(folder, "impostor", theirs, "portway.test")
    with ExitStack() as stack:
        yield Ups(
            stack.enter_context(Answers(tls=serving(good))),
            stack.enter_context(Answers(tls=serving(good, folder / "ours.pem"))),
            stack.enter_context(Answers(tls=serving(signed(folder, "other", ours, "other.test")))),
            stack.enter_context(Answers(tls=serving(signed(folder, "stranger", theirs, *here)))),
            stack.enter_context(Answers(tls=serving(signed(folder, "expired", ours, *here, expired=True)))),
            stack.enter_context(SpeaksNoTls()),
        )


@pytest.fixture(scope="module")
def gateway(ups: Ups, folder: Path) -> Iterator[Gateway]:
    bases = {f"{name}": upstream.url.replace("http:", "https:") for name, upstream in ups._asdict().items()}
    # The same servers, met by other gateways' configurations.
    bases |= {"no_paper": ups.mutual.url, "wrong_paper": ups.mutual.url, "system": ups.good.url}
    bases |= {"by_name": ups.good.url.replace("127.0.0.1", "localhost")}
    environment: dict[str, str] = {}
    for name, base in bases.items():
        environment[f"GATEWAY_UPSTREAM_{name.upper()}"] = base
        environment[f"GATEWAY_ROUTE_{name.upper()}"] = f"/{name}/** -> {name}"
        if name != "system":
            environment[f"GATEWAY_UPSTREAM_{name.upper()}__CA_FILE"] = str(folder / "ours.pem")
    for upstream, paper in (("MUTUAL", "portway"), ("WRONG_PAPER", "impostor")):
        environment[f"GATEWAY_UPSTREAM_{upstream}__CLIENT_CERT_FILE"] = str(folder / f"{paper}.pem")
        environment[f"GATEWAY_UPSTREAM_{upstream}__CLIENT_KEY_FILE"] = str(folder / f"{paper}.key")
    environment["GATEWAY_ROUTE_PRESERVE"] = "/preserve/** -> good"
    environment["GATEWAY_ROUTE_PRESERVE__HOST"] = "preserve"
    with Gateway(environment, cwd=folder) as running:
        yield running


def test_an_https_upstream_is_trusted_by_its_ca_file(gateway: Gateway, ups: Ups) -> None:
    answer = gateway.get("/good/a%2Fb?q=%2F")
    assert (answer.status, answer.body) == (200, b"hello")
    assert ups.good.requests[-1].target == "/good/a%2Fb?q=%2F"
    assert ups.good.requests[-1].one("host") == ups.good.authority
    assert ups.good.requests[-1].one("x-forwarded-proto") == "http"  # it is the client's connection that is told


def test_an_https_upstream_may_be_called_by_a_name_of_its_certificate(gateway: Gateway, ups: Ups) -> None:
    assert gateway.get("/by_name/x").status == 200
    assert ups.good.requests[-1].one("host") == f"localhost:{ups.good.port}"


def test_a_preserved_host_does_not_change_whom_tls_checks(gateway: Gateway, ups: Ups) -> None:
    assert gateway.get("/preserve/x").status == 200
    assert ups.good.requests[-1].one("host") == "gateway.test"


def test_a_tls_connection_is_kept(gateway: Gateway, ups: Ups) -> None:
    gateway.get("/good/x")
    made = ups.good.connections_made
    for _ in range(3):
        assert gateway.get("/good/x").status == 200
    assert ups.good.connections_made == made


def test_a_large_body_passes_each_way_over_tls(gateway: Gateway, ups: Ups) -> None:
    body = bytes(range(256)) * 4096
    ups.good.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    try:
        answer = gateway.ask(request_bytes("POST", "/good/x", f"Content-Length: {len(body)}", body=body))
    finally:
        ups.good.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    assert answer.body == body
    assert ups.good.requests[-1].body == body


def test_the_client_certificate_is_shown(gateway: Gateway, ups: Ups) -> None:
    assert gateway.get("/mutual/x").status == 200
    connection = ups.mutual.requests[-1].connection.socket
    assert isinstance(connection, ssl.SSLSocket)
    shown = connection.getpeercert()
    assert shown is not None
    assert ("DNS", "portway.test") in shown["subjectAltName"]


@pytest.mark.parametrize("upstream", ["stranger", "other_name", "expired", "system"])
def test_a_certificate_that_is_not_trusted_is_502(gateway: Gateway, ups: Ups, upstream: str) -> None:
    """Signed by somebody else, for another name, too old; and ours, where no CA file says to trust it."""
    answer = gateway.get(f"/{upstream}/x")
    assert (answer.status, answer.json()["reason"]) == (502, "tls_certificate")
    assert answer.one("proxy-status") == f'portway; error=tls_certificate_error; next-hop="{upstream}"'
    line = gateway.request_line(answer.one("x-request-id"))
    assert (line["status"], line["reason"]) == (502, "tls_certificate")
    assert ups.stranger.requests == ups.other_name.requests == ups.expired.requests == []


def test_an_upstream_that_speaks_no_tls_is_502(gateway: Gateway, ups: Ups) -> None:
    answer = gateway.get("/plain/x")
    assert (answer.status, answer.json()["reason"]) == (502, "tls_failed")
    assert answer.one("proxy-status") == 'portway; error=tls_protocol_error; next-hop="plain"'
    assert ups.plain.requests == []


@pytest.mark.parametrize("upstream", ["no_paper", "wrong_paper"])
def test_an_upstream_that_does_not_accept_our_certificate_is_502(gateway: Gateway, ups: Ups, upstream: str) -> None:
    """With TLS 1.3 the refusal comes after the handshake, in place of the answer."""
    before = len(ups.mutual.requests)
    answer = gateway.get(f"/{upstream}/x")
    assert (answer.status, answer.json()["reason"]) == (502, "tls_failed")
    assert len(ups.mutual.requests) == before
