"""A JWKS (RFC 7517) as far as a gateway needs it: the public keys that may have signed a token.

Keys are kept as they came, and become keys of the library when a token names one: an issuer may list many.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MOST_KEYS = 1000
MOST_BYTES = 2**20
# A token that names no key is tried with these many at most: each costs a signature check.
_MOST_TRIED = 8
# RFC 7518, section 3.1; RFC 8037. The type, and the curve where that belongs to the algorithm.
_FITS: Mapping[str, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", frozenset[str]())),
    "ES256": ("EC", frozenset({"P-256"})),
    "ES384": ("EC", frozenset({"P-384"})),
    "ES512": ("EC", frozenset({"P-521"})),
    "EdDSA": ("OKP", frozenset({"Ed25519", "Ed448"})),
}
# The members of a public key; all others are dropped, above all the `d` of a private one.
_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}


class KeySetError(Exception):
    """A document that is no JWKS; the message says why, without its text."""


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """One key of a JWKS, compared by identity. `material` is a JWK with its public members only."""

    kid: str | None
    algorithm: str | None
    kind: str
    material: Mapping[str, str] = field(repr=False)

    def fits(self, algorithm: str) -> bool:
        """Whether this key may sign with this algorithm (RFC 8725, section 3.1: one key, one algorithm)."""
        kind, curves = _FITS.get(algorithm, ("", frozenset[str]()))
        if kind != self.kind or (curves and self.material.get("crv") not in curves):
            return False
        return self.algorithm is None or self.algorithm == algorithm


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys of one document that may check signatures."""

    keys: tuple[PublicKey, ...]

    def candidates(self, kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
        """The keys that may have signed: those of that name, or, for a token without one, the few that fit."""
        fitting = tuple(key for key in self.keys if (kid is None or key.kid == kid) and key.fits(algorithm))
        return fitting if len(fitting) <= _MOST_TRIED else ()


def parse_key_set(document: bytes) -> KeySet:
    """Raises KeySetError for a document that is no JWKS, or that has no usable key."""
    if len(document) > MOST_BYTES:
        raise KeySetError(f"it has more than {MOST_BYTES // 2**20} MiB")
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise KeySetError("it is no JSON") from None
    listed = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(listed, list):
        raise KeySetError('it has no list "keys"')
    if len(listed) > MOST_KEYS:
        raise KeySetError(f"it has {len(listed)} keys, more than {MOST_KEYS}")
    keys = tuple(_usable(listed))
    if not keys:
        raise KeySetError("it has no public key of RSA, EC or OKP for signatures")
    return KeySet(keys)


def _usable(listed: list[Any]) -> Iterator[PublicKey]:
    """The usable keys, without `oct`: a secret in a public document is known to all, and anybody could sign with it."""
    for jwk in listed:
        if not isinstance(jwk, dict):
            continue
        kind, use, operations = jwk.get("kty"), jwk.get("use", "sig"), jwk.get("key_ops", ["verify"])
        members = _MEMBERS.get(kind) if isinstance(kind, str) else None
        if members is None or use != "sig" or not isinstance(operations, list) or "verify" not in operations:
            continue
        material = {name: jwk.get(name) for name in members}
        if not all(isinstance(value, str) for value in material.values()):
            continue
        kid, algorithm = jwk.get("kid"), jwk.get("alg")
        yield PublicKey(
            kid if isinstance(kid, str) else None,
            algorithm if isinstance(algorithm, str) else None,
            str(kind),
            {"kty": str(kind), **{name: str(value) for name, value in material.items()}},
        )


def jwks_uri_of(document: bytes, issuer: str) -> str:
    """The URL of the keys in an issuer's discovery document (OpenID Connect Discovery 1.0, section 4.3).

    Raises KeySetError for an invalid document, for that of another issuer, and for keys over plain http.
    """
    if len(document) > MOST_BYTES:
        raise KeySetError(f"the discovery document has more than {MOST_BYTES // 2**20} MiB")
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError):
        raise KeySetError("the discovery document is no JSON") from None
    if not isinstance(parsed, dict) or parsed.get("issuer") != issuer:
        raise KeySetError("the discovery document is of another issuer")
    uri = parsed.get("jwks_uri")
    if not isinstance(uri, str) or not uri.startswith(("https://", "http://")):
        raise KeySetError("the discovery document has no jwks_uri")
    if issuer.startswith("https://") and not uri.startswith("https://"):
        raise KeySetError("the discovery document of an issuer with https names keys without it")
    return uri
