"""The gateway's own certificate: what is read of it, and what is said about it at a moment."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gateway.config import certificate, loader, tls
from gateway.config.certificate import DAY_S, Certificate
from gateway.config.records import ConfigError, Settings
from gateway.server.https import https_url, strict_transport_security
from gateway.server.tls import PemFiles, pem_files

NOW = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def made(*names: str, begins_days: float = -1, ends_days: float = 90) -> Certificate:
    return Certificate(names[0], names, NOW + begins_days * DAY_S, NOW + ends_days * DAY_S)


@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [
        (-1, 90, []),
        (-1, 0.5, []),
        (-90, -29.5, ["the certificate of a.example ended on 2026-11-01 12:00 UTC, 29 days ago"]),
        (-90, 0, ["the certificate of a.example ended on 2026-12-01 00:00 UTC, 0 days ago"]),
        (0.25, 90, ["the certificate of a.example is valid from 2026-12-01 06:00 UTC on, not yet"]),
    ],
)
def test_what_is_not_valid_now(begins: float, ends: float, words: list[str]) -> None:
    assert list(certificate.problems([made("a.example", begins_days=begins, ends_days=ends)], NOW)) == words


@pytest.mark.parametrize(("ends", "is_said"), [(90, False), (30.1, False), (29.9, True), (0.1, True), (-1, False)])
def test_the_end_is_said_30_days_before(ends: float, is_said: bool) -> None:
    words = list(certificate.warnings([made("a.example", ends_days=ends)], [], NOW))
    assert bool(words) is is_said
    assert all("renew it" in word for word in words)


def test_the_first_end_of_a_chain_counts() -> None:
    chain = [made("a.example", ends_days=90), made("signer", ends_days=-1)]
    assert certificate.ends_s(chain) == NOW - DAY_S
    assert ["signer" in fault for fault in certificate.problems(chain, NOW)] == [True]


@pytest.mark.parametrize(
    ("host", "is_covered"),
    [
        ("a.example", True),
        ("A.Example.", True),
        ("b.example", False),
        ("x.b.example", True),
        ("x.y.b.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("[2001:db8::1]", True),
        ("example", False),
    ],
)
def test_which_hosts_a_certificate_is_for(host: str, is_covered: bool) -> None:
    assert certificate.covers(["a.example", "*.b.example", "192.0.2.1", "2001:db8::1"], host) is is_covered


def test_a_host_of_a_route_that_the_certificate_is_not_for_is_said_with_its_route() -> None:
    hosts = [("GATEWAY_ROUTE_A", "a.example"), ("GATEWAY_ROUTE_B", "b.example")]
    (word,) = certificate.warnings([made("a.example")], hosts, NOW)
    assert word == ("the certificate is for a.example; GATEWAY_ROUTE_B serves b.example, which clients will not accept")


# -- as it is read ----------------------------------------------------------------------------------------------------


def signed(key: Key, *names: str, days: float = 90, begins_days: float = -1) -> dict[str, str]:
    """The variables of a certificate with its own key, which signs itself."""
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1).not_valid_before(now + timedelta(begins_days))
    builder = builder.not_valid_after(now + timedelta(days))
    names_of = x509.SubjectAlternativeName([x509.DNSName(one) for one in names])
    builder = builder.add_extension(names_of, critical=False)
    paper = builder.sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"GATEWAY_TLS_CERT": paper.public_bytes(Encoding.PEM).decode(), "GATEWAY_TLS_KEY": text}


def settings(environment: Mapping[str, str]) -> Settings:
    return loader.load(environment, lambda path: Path(path).read_text(encoding="utf-8")).settings


P256 = ec.generate_private_key(ec.SECP256R1())


def test_the_facts_of_a_chain_are_read_also_of_one_that_has_ended() -> None:
    text = signed(P256, "a.example", "b.example", days=-0.5)["GATEWAY_TLS_CERT"]
    ca = trustme.CA().cert_pem.bytes().decode()
    first, second = tls.chain_of(text + ca)
    assert (first.subject, first.names) == ("a.example", ("a.example", "b.example"))
    assert first.ends_s == pytest.approx(datetime.now(UTC).timestamp() - 0.5 * DAY_S, abs=60)
    assert second.subject == "trustme v1.2.1" or second.names == ()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (rsa.generate_private_key(65537, 2048), []),
        (P256, []),
        (ec.generate_private_key(ec.SECP384R1()), []),
        (ed25519.Ed25519PrivateKey.generate(), []),
        (ec.generate_private_key(ec.SECP521R1()), ["GATEWAY_TLS_KEY: a key of this kind cannot be used; take RSA"]),
        (ec.generate_private_key(ec.SECP256K1()), ["GATEWAY_TLS_KEY: a key of this kind cannot be used; take RSA"]),
        (rsa.generate_private_key(65537, 1024), ["GATEWAY_TLS_CERT: its key is too small"]),
    ],
    ids=["rsa", "p256", "p384", "ed25519", "p521", "secp256k1", "rsa1024"],
)
def test_kinds_of_keys_that_can_be_served_and_those_that_cannot(key: Key, words: list[str]) -> None:
    found, _ = tls.examine(settings(signed(key, "a.example")), [])
    assert [
        fault.partition(" RSA")[0] + " RSA" if "RSA, " in fault else fault.partition(";")[0] for fault in found
    ] == words


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        (
            signed(P256, "a.example", days=-0.5),
            r"GATEWAY_TLS_CERT: the certificate of a\.example ended on .*, 0 days ago",
        ),
        (signed(P256, "a.example", begins_days=1), r"GATEWAY_TLS_CERT: .* is valid from .* on, not yet"),
        (
            {"GATEWAY_TLS_KEY": signed(ec.generate_private_key(ec.SECP256R1()), "a.example")["GATEWAY_TLS_KEY"]},
            r"GATEWAY_TLS_KEY is not the key of the first certificate of GATEWAY_TLS_CERT; .*",
        ),
        (
            {"GATEWAY_TLS_CERT": "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n"},
            r"GATEWAY_TLS_CERT: a certificate of it cannot be read: .*",
        ),
    ],
    ids=["good", "ended", "not-yet", "other-key", "no-certificate"],
)
def test_what_forbids_to_serve(changes: dict[str, str], expected: str | None) -> None:
    found, _ = tls.examine(settings({**signed(P256, "a.example"), **changes}), [])
    if expected is None:
        assert found == []
    else:
        assert any(re.fullmatch(expected, fault) for fault in found), found
    assert not any("PRIVATE" in fault or "BEGIN" in fault for fault in found)


def test_the_clients_authorities_must_be_valid_too_and_probes_need_a_port() -> None:
    ended = signed(P256, "authority.example", days=-0.5)["GATEWAY_TLS_CERT"]
    good = signed(P256, "a.example")
    found, words = tls.examine(settings({**good, "GATEWAY_TLS_CLIENT_CA": ended}), [])
    assert ["GATEWAY_TLS_CLIENT_CA: the certificate of authority.example ended" in fault for fault in found] == [True]
    assert words == ["GATEWAY_TLS_CLIENT_CA: probes have no certificate to show; give them GATEWAY_TLS_REDIRECT"]
    both = {**good, "GATEWAY_TLS_CLIENT_CA": ended + good["GATEWAY_TLS_CERT"], "GATEWAY_TLS_REDIRECT": "[::]:8080"}
    assert tls.examine(settings(both), []) == ([], [])


@pytest.mark.parametrize(
    ("environment", "variable", "message"),
    [
        ({"GATEWAY_TLS_CERT": "x"}, "GATEWAY_TLS_CERT", "expected PEM text with a CERTIFICATE block"),
        (
            {"GATEWAY_TLS_CERT": signed(P256, "a")["GATEWAY_TLS_CERT"]},
            "GATEWAY_TLS_CERT",
            "set GATEWAY_TLS_KEY_FILE too",
        ),
        ({"GATEWAY_TLS_KEY": signed(P256, "a")["GATEWAY_TLS_KEY"]}, "GATEWAY_TLS_KEY", "set GATEWAY_TLS_CERT_FILE too"),
        ({"GATEWAY_TLS_MIN": "1.3"}, "GATEWAY_TLS_MIN", "means nothing without GATEWAY_TLS_CERT"),
        ({"GATEWAY_TLS_MIN": "1.1"}, "GATEWAY_TLS_MIN", "1.2"),
        ({"GATEWAY_TLS_REDIRECT": "0.0.0.0:80"}, "GATEWAY_TLS_REDIRECT", "means nothing without GATEWAY_TLS_CERT"),
        ({"GATEWAY_HTTP2": "on"}, "GATEWAY_HTTP2", "means nothing without GATEWAY_TLS_CERT"),
        ({"GATEWAY_HTTPS": "redirect"}, "GATEWAY_HTTPS", "GATEWAY_TRUSTED_PROXIES"),
        ({"GATEWAY_HSTS": "365d"}, "GATEWAY_HSTS", "nothing is https without"),
    ],
)
def test_what_means_nothing_is_refused(environment: dict[str, str], variable: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings(environment)
    assert [problem.variable for problem in raised.value.problems if message in problem.message] == [variable]


def test_http2_is_a_matter_of_tls_and_bounds_what_is_in_flight() -> None:
    tls_only = signed(P256, "a.example")
    assert (settings({}).speaks_http2, settings({}).max_in_flight) == (False, None)
    assert (settings(tls_only).speaks_http2, settings(tls_only).max_in_flight) == (True, 2000)
    off = settings({**tls_only, "GATEWAY_HTTP2": "off"})
    assert (off.speaks_http2, off.max_in_flight) == (False, None)
    assert settings({**tls_only, "GATEWAY_MAX_IN_FLIGHT": "9"}).max_in_flight == 9


# -- files ------------------------------------------------------------------------------------------------------------


def test_the_files_are_for_this_user_alone_and_last_as_long_as_they_are_served() -> None:
    given = settings(signed(P256, "a.example"))
    with pem_files(given) as files:
        assert files is not None
        assert files.folder.stat().st_mode & 0o777 == 0o700
        for path, text in ((files.cert, given.tls_cert_pem), (files.key, given.tls_key_pem)):
            assert path is not None
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.read_text() == text
        assert files.client_ca is None
        folder = files.folder
    assert not folder.exists()


def test_files_that_a_killed_gateway_left_are_removed_by_the_next_and_those_in_use_are_not() -> None:
    given = settings(signed(P256, "a.example"))
    killed, running = PemFiles(given), PemFiles(given)
    os.close(killed._lock)  # as the end of its processes does
    with pem_files(given):
        assert not killed.folder.exists()
        assert running.folder.exists()
    running.close()


def test_nothing_is_written_without_tls() -> None:
    with pem_files(settings({})) as files:
        assert files is None


# -- from http to https -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("a.example", 8443, "https://a.example/x?y=1"),
        ("a.example:80", 8443, "https://a.example/x?y=1"),
        ("a.example:", 8443, "https://a.example/x?y=1"),
        ("localhost:8080", 8443, "https://localhost:8443/x?y=1"),
        ("localhost:8080", 443, "https://localhost/x?y=1"),
        ("[2001:db8::1]", 8443, "https://[2001:db8::1]/x?y=1"),
        ("[2001:db8::1]:8080", 8443, "https://[2001:db8::1]:8443/x?y=1"),
    ],
)
def test_the_https_url_of_what_was_asked_by_http(host: str, port: int, url: str) -> None:
    assert https_url(host, "/x?y=1", port) == url


def test_strict_transport_security_is_whole_seconds() -> None:
    assert strict_transport_security(365 * 86_400.0) == (b"strict-transport-security", b"max-age=31536000")
    assert strict_transport_security(0.0)[1] == b"max-age=0"
