"""A JWKS, and where an issuer says it is."""

import json
from typing import Any

import pytest

from gateway.auth import signatures
from gateway.auth.keyset import MOST_BYTES, MOST_KEYS, KeySetError, jwks_uri_of, parse_key_set
from tests.auth.issuer import ISSUER, jwk, key_set


def test_keys_are_found_by_name_and_algorithm() -> None:
    keys = parse_key_set(key_set(jwk("RS256"), jwk("RS256", "2", 1), jwk("ES256", "1"), jwk("ES384", "3")))
    assert [key.kid for key in keys.candidates("1", "RS256")] == ["1"]
    assert [key.kind for key in keys.candidates("1", "ES256")] == ["EC"]
    assert keys.candidates("3", "ES256") == ()
    assert keys.candidates("4", "RS256") == ()
    assert [key.kid for key in keys.candidates(None, "RS256")] == ["1", "2"]


def test_a_token_without_a_name_is_not_tried_with_every_key() -> None:
    keys = parse_key_set(key_set(*(jwk("ES256", str(number)) for number in range(9))))
    assert keys.candidates(None, "ES256") == ()


@pytest.mark.parametrize(
    "more",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": None},
        {"kty": ["RSA"]},
        {"use": "enc"},
        {"use": 7},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"n": None},
        {"n": 7},
    ],
)
def test_what_may_check_no_signature_is_left_out(more: dict[str, Any]) -> None:
    good = jwk("RS256", "good")
    assert [key.kid for key in parse_key_set(key_set(good, {**jwk("RS256"), **more}, 7, None)).keys] == ["good"]  # type: ignore[arg-type]


def test_a_private_key_that_an_issuer_gave_away_is_kept_as_a_public_one() -> None:
    (key,) = parse_key_set(key_set({**jwk("EdDSA", "d"), "d": "c2VjcmV0"})).keys
    assert "d" not in key.material
    assert "c2VjcmV0" not in repr(key)
    assert "material" not in repr(key)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"<html><body>Service unavailable</body></html>", "it is no JSON"),
        (b"", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[]", 'it has no list "keys"'),
        (b"{}", 'it has no list "keys"'),
        (b'{"keys": {}}', 'it has no list "keys"'),
        (b'{"keys": []}', "it has no public key"),
        (json.dumps({"keys": [{}] * (MOST_KEYS + 1)}).encode(), "it has 1001 keys, more than 1000"),
        (json.dumps({"keys": [{"kty": "EC"}] * 10_000}).encode(), "it has 10000 keys, more than 1000"),
        (b" " * (MOST_BYTES + 1), "it has more than 1 MiB"),
    ],
)
def test_what_is_no_key_set_says_why(document: bytes, why: str) -> None:
    with pytest.raises(KeySetError, match=why):
        parse_key_set(document)


@pytest.mark.parametrize("change", [{"n": "AQAB"}, {"n": ""}, {"e": "AQ"}, {"n": "!!"}, {"e": ""}])
def test_material_that_makes_no_key_is_unusable(change: dict[str, str]) -> None:
    (key,) = parse_key_set(key_set({**jwk("RS256"), **change})).keys
    with pytest.raises(signatures.Unusable):
        signatures.public_key(key)


def discovery(**more: Any) -> bytes:
    return json.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/certs", **more}).encode()


def test_discovery_says_where_the_keys_are() -> None:
    assert jwks_uri_of(discovery(), ISSUER) == f"{ISSUER}/certs"
    assert jwks_uri_of(discovery(jwks_uri="https://www.other.example/certs?a=b"), ISSUER).endswith("/certs?a=b")
    local = "http://127.0.0.1:8080"
    assert jwks_uri_of(discovery(issuer=local, jwks_uri=f"{local}/keys"), local) == f"{local}/keys"


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"<html>", "is no JSON"),
        (b"[]", "of another issuer"),
        (discovery(issuer=ISSUER + "/"), "of another issuer"),
        (discovery(issuer=None), "of another issuer"),
        (discovery(jwks_uri=None), "has no jwks_uri"),
        (discovery(jwks_uri="file:///etc/passwd"), "has no jwks_uri"),
        (discovery(jwks_uri="http://id.example.com/certs"), "names keys without it"),
        (b" " * (MOST_BYTES + 1), "has more than 1 MiB"),
    ],
)
def test_a_discovery_document_that_may_not_be_followed(document: bytes, why: str) -> None:
    with pytest.raises(KeySetError, match=why):
        jwks_uri_of(document, ISSUER)
