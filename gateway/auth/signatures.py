"""Signatures of tokens, checked by PyJWT over cryptography; the only file that knows them. Also hashes of bcrypt.

Both are in the extra `[auth]`. Any exception of these libraries means that the signature is not good.
"""

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from gateway.auth.keyset import PublicKey

_RSA_LEAST_BITS, _RSA_MOST_BITS = 2048, 8192  # RFC 7518, section 3.3; larger keys take milliseconds


def missing_packages(kind: str, *, bcrypt: bool = False) -> tuple[str, ...]:
    """The packages that a way of this kind needs and that are not installed."""
    wanted: list[str] = ["jwt", "cryptography"] if kind == "jwt" else []
    wanted += ["bcrypt"] if bcrypt else []
    return tuple({"jwt": "PyJWT"}.get(name, name) for name in wanted if find_spec(name) is None)


class Unusable(Exception):
    """Key material without a valid key, or with a weak one."""


def public_key(key: PublicKey) -> Any:
    """The library's key. Raises Unusable."""
    from jwt import algorithms  # a twentieth of a second, only where tokens are checked

    try:
        families: dict[str, Any] = {"RSA": algorithms.RSAAlgorithm, "EC": algorithms.ECAlgorithm}
        made: Any = families.get(key.kind, algorithms.OKPAlgorithm).from_jwk(dict(key.material))
    except Exception as error:  # noqa: BLE001 - bare TypeErrors and the like, for documents of issuers
        raise Unusable(f"{key.kind} key {key.kid!r}: {type(error).__name__}") from None
    bits = getattr(made, "key_size", _RSA_LEAST_BITS)
    if key.kind == "RSA" and not _RSA_LEAST_BITS <= bits <= _RSA_MOST_BITS:
        raise Unusable(f"RSA key {key.kid!r} of {bits} bits; from {_RSA_LEAST_BITS} to {_RSA_MOST_BITS} are accepted")
    return made


@lru_cache(maxsize=1)
def _algorithms() -> dict[str, Any]:
    from jwt import algorithms

    return dict(algorithms.get_default_algorithms())


def is_good(algorithm: str, key: Any, signed: bytes, signature: bytes) -> bool:
    """Whether this key made the signature; `key` comes from `public_key`, or is the secret in bytes for HS*."""
    try:
        return bool(_algorithms()[algorithm].verify(signed, key, signature))
    except Exception:  # noqa: BLE001 - PyJWT raises bare TypeErrors for some pairs: they mean not good, too
        return False


_LONGEST_PASSWORD = 72  # the limit of bcrypt


def is_password(password: bytes, hashed: bytes) -> bool:
    """Whether the password matches the hash of bcrypt. Tens of milliseconds: not for the event loop."""
    import bcrypt

    try:
        good = bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed.replace(b"$2y$", b"$2b$", 1))
    except Exception:  # noqa: BLE001 - a NUL in it, an invalid hash
        return False
    return good and len(password) <= _LONGEST_PASSWORD
