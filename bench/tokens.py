"""Tokens for the load, and what a gateway must know to take them. A secret signs them: that costs the load little."""

import base64
import hashlib
import hmac
import json
import time

_ISSUER = "https://id.example.com/realms/shop"
_SECRET = "of the benchmark alone, and long enough"  # noqa: S105 - it protects nothing
WAY = {
    "GATEWAY_AUTH_TOKEN": f"jwt {_ISSUER}",
    "GATEWAY_AUTH_TOKEN__ALGORITHMS": "HS256",
    "GATEWAY_AUTH_TOKEN__SECRET": _SECRET,
    "GATEWAY_AUTH": "token",
}


def token(number: int = 0) -> str:
    """A token as issuers make them, of some 650 bytes; numbers make them differ. It is good for a day."""
    now_s = int(time.time())
    claims = {
        "iss": _ISSUER,
        "sub": "0f4c9a1e-7b2d-4c6f-8a90-000000000000",
        "jti": f"{number:020}",
        "iat": now_s,
        "exp": now_s + 86_400,
        "azp": "shop-web",
        "scope": "openid profile email",
        "realm_access": {"roles": ["user", "default-roles-shop", "offline_access"]},
        "email": "somebody@shop.example.com",
        "name": "Some Body",
        "sid": "5f8d1c3e-9b7a-4f6e-8d2c-1b0a9f8e7d6c",
    }
    signed = b".".join(_coded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.digest(_SECRET.encode(), signed, hashlib.sha256)
    return b".".join([signed, _coded(signature)]).decode()


def _coded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
