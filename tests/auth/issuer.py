"""An issuer's keys and tokens, made here: what a test signs, with whatever header it likes."""

import json
import time
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from jwt import algorithms

ISSUER = "https://id.example.com/realms/shop"


def part(data: bytes | dict[str, Any]) -> bytes:
    """base64url without padding, of bytes or of JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return urlsafe_b64encode(raw).rstrip(b"=")


@cache
def private(kind: str, number: int = 0) -> Any:
    """A key of that kind, `RS256` or `P-384`; another one for each number."""
    if kind.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if kind == "RSA1024":
        return rsa.generate_private_key(65537, 1024)
    curves: dict[str, Any] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
    if kind in curves:
        return ec.generate_private_key(curves[kind]())
    return ed448.Ed448PrivateKey.generate() if kind == "Ed448" else ed25519.Ed25519PrivateKey.generate()


def jwk(kind: str, kid: str | None = "1", number: int = 0, **more: Any) -> dict[str, Any]:
    """The public key as an issuer lists it."""
    family: Any = algorithms.RSAAlgorithm if kind.startswith(("RS", "PS")) else algorithms.OKPAlgorithm
    family = algorithms.ECAlgorithm if kind.startswith("ES") else family
    public: dict[str, Any] = family.to_jwk(private(kind, number).public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, **({} if kid is None else {"kid": kid}), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def claims(**more: Any) -> dict[str, Any]:
    """What an honest token says; None takes one away."""
    now = int(time.time())
    said = {"iss": ISSUER, "sub": "alice", "aud": "shop-api", "exp": now + 600, "iat": now, **more}
    return {name: value for name, value in said.items() if value is not None}


def token(
    said: dict[str, Any] | bytes | None = None,
    algorithm: str = "RS256",
    *,
    kid: Any = "1",
    number: int = 0,
    key: Any = None,
    kind: str | None = None,
    **header: Any,
) -> bytes:
    """A signed token. `header` adds to what its header says, `alg` too; `key` and `kind` are what it is signed with."""
    head = {"alg": algorithm, "typ": "JWT", "kid": kid, **header}
    head = {name: value for name, value in head.items() if value is not None}
    signed = part(head) + b"." + part(claims() if said is None else said)
    if algorithm == "none":
        return signed + b"."
    signer = algorithms.get_default_algorithms()[algorithm]
    return signed + b"." + part(signer.sign(signed, key if key is not None else private(kind or algorithm, number)))
