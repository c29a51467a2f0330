"""TLS towards clients, before it is served: the certificate and its key are read as Granian reads them, and checked."""

import ssl
import time
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

from gateway.config import certificate
from gateway.config.certificate import Certificate
from gateway.config.records import Settings
from gateway.units import PEM_CERTIFICATE, PEM_KEY
from gateway.upstreams.tls import private_file

# The object identifiers, in DER, of RSA, P-256, P-384 and Ed25519.
_KINDS: Final = tuple(map(bytes.fromhex, ("2a864886f70d010101", "2a8648ce3d030107", "2b81040022", "06032b6570")))
# RFC 5280, section 4.1: [0] EXPLICIT INTEGER 2 comes first in the signed part, and version 1 leaves it out.
_VERSION_3: Final = bytes.fromhex("a003020102")
_VERSION_WITHIN: Final = 20
_WORDS: Final = {
    "KEY_VALUES_MISMATCH": "GATEWAY_TLS_KEY is not the key of the first certificate of GATEWAY_TLS_CERT; the server's "
    "own certificate comes first, then those that sign it",
    "EE_KEY_TOO_SMALL": "GATEWAY_TLS_CERT: its key is too small; RSA takes 2048 bits",
    "CA_KEY_TOO_SMALL": "GATEWAY_TLS_CERT: a key of its chain is too small; RSA takes 2048 bits",
    "CA_MD_TOO_WEAK": "GATEWAY_TLS_CERT: it is signed with SHA-1 or MD5, which no client takes",
}


def chain_of(pem: str) -> list[Certificate]:
    """The certificates of a PEM text in their order. Raises ValueError for one that cannot be read."""
    return [_read(block) for block in PEM_CERTIFICATE.findall(pem)]


def _read(block: str) -> Certificate:
    with private_file(f"{block}\n") as path:
        try:
            # Python has no public function for this: the public way shows a certificate only after a handshake that
            # accepted it, and an expired one never.
            facts = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
        except ssl.SSLError as error:
            raise ValueError(f"a certificate of it cannot be read: {getattr(error, 'reason', None) or error}") from None
    subject = {name: value for entries in facts.get("subject", ()) for name, value in entries}
    names = tuple(value for kind, value in facts.get("subjectAltName", ()) if kind in {"DNS", "IP Address"})
    shown = subject.get("commonName") or (names[0] if names else subject.get("organizationName", "an unnamed subject"))
    begins, ends = facts["notBefore"], facts["notAfter"]
    return Certificate(shown, names, ssl.cert_time_to_seconds(begins), ssl.cert_time_to_seconds(ends))


def examine(
    settings: Settings, hosts: Iterable[tuple[str, str]], now_s: float | None = None
) -> tuple[list[str], list[str]]:
    """Problems that forbid serving with this certificate, and warnings. `hosts` are (where it is set, host)."""
    if settings.tls_cert_pem is None:
        return [], []
    now_s = time.time() if now_s is None else now_s
    found = [*_load_problems(settings), *_kind_problems(settings)]
    warned: list[str] = []
    try:
        chain = chain_of(settings.tls_cert_pem)
    except ValueError as error:
        return [*found, f"GATEWAY_TLS_CERT: {error}"], []
    found += [f"GATEWAY_TLS_CERT: {fault}" for fault in certificate.problems(chain, now_s)]
    warned += [f"GATEWAY_TLS_CERT: {word}" for word in certificate.warnings(chain, hosts, now_s)]
    if settings.tls_client_ca_pem is not None:
        found += _ca_problems(settings.tls_client_ca_pem, now_s)
        if settings.tls_redirect is None:
            warned.append("GATEWAY_TLS_CLIENT_CA: probes have no certificate to show; give them GATEWAY_TLS_REDIRECT")
    return found, warned


def _kind_problems(settings: Settings) -> Iterator[str]:
    """Keys and certificates that OpenSSL accepts but Granian's TLS does not: each worker would end as it starts."""
    key = settings.tls_key_pem or ""
    block = PEM_KEY.search(key)
    if block is not None and block[1] != "RSA ":
        with suppress(ValueError):  # invalid base64 does not load either
            der = b64decode("".join(block[2].split()))
            if not any(kind in der for kind in _KINDS):
                yield "GATEWAY_TLS_KEY: a key of this kind cannot be used; take RSA, ECDSA P-256 or P-384, or Ed25519"
    first = PEM_CERTIFICATE.search(settings.tls_cert_pem or "")
    if first is not None and _VERSION_3 not in ssl.PEM_cert_to_DER_cert(first[0])[:_VERSION_WITHIN]:
        yield (
            "GATEWAY_TLS_CERT: a certificate of X.509 version 1 cannot be used; sign it anew with a subjectAltName, "
            "as `openssl x509 -req -extfile` does"
        )


def _load_problems(settings: Settings) -> list[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with private_file(f"{settings.tls_cert_pem}\n{settings.tls_key_pem or ''}\n") as path:
        try:
            context.load_cert_chain(path)
        except (ssl.SSLError, OSError, ValueError) as error:
            word = getattr(error, "reason", None) or str(error) or type(error).__name__
            return [_WORDS.get(word, f"GATEWAY_TLS_CERT: the certificate or its key does not load: {word}")]
    return []


def _ca_problems(pem: str, now_s: float) -> Sequence[str]:
    try:
        chain = chain_of(pem)
    except ValueError as error:
        return [f"GATEWAY_TLS_CLIENT_CA: {error}"]
    # An expired one among several is usual in a bundle; if all have expired, no client is let in.
    if all(not list(certificate.problems([one], now_s)) for one in chain):
        return []
    faults = [f"GATEWAY_TLS_CLIENT_CA: {fault}" for fault in certificate.problems(chain, now_s)]
    return faults if len(faults) == len(chain) else []
