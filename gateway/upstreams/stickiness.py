"""The cookie by which a client stays with an endpoint.

The cookie holds a keyed hash of the endpoint: reading it reveals no address, and a forged one leads to no other
endpoints than the existing ones. All workers and replicas with the same key agree on it.
"""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from gateway.http.carried import values_in
from gateway.http.headers import Pair


def key_of(secret: str | None, texts: Iterable[str]) -> bytes:
    """The key of an upstream's cookies: derived from the secret, or, without one, from the upstream's own variables."""
    if secret is not None:
        return blake2b(secret.encode("utf-8", "surrogateescape"), digest_size=32, person=b"portway-sticky").digest()
    whole = "\0".join(texts).encode("utf-8", "surrogateescape")
    return blake2b(whole, digest_size=32, person=b"portway-config").digest()


class Stickiness:
    """The cookie of one upstream: its name, and what it holds for each endpoint."""

    def __init__(self, upstream: str, key: bytes, name: str = "") -> None:
        self._key = blake2b(upstream.encode(), digest_size=32, key=key).digest()
        # Two upstreams behind one host must not share a cookie, and answers should not name upstreams.
        self.name = (name or f"portway-{self._made_of('name', 6)}").encode("ascii")

    def token(self, endpoint: str) -> bytes:
        """The cookie's value for an endpoint, by its scheme, address and prefix."""
        return self._made_of(endpoint, 15).encode("ascii")

    def held_by(self, pairs: Sequence[Pair]) -> bytes:
        """The value of a request's cookie; empty without one."""
        return next(values_in("cookie", self.name, pairs, b""), b"")

    def _made_of(self, text: str, size: int) -> str:
        return urlsafe_b64encode(blake2b(text.encode(), digest_size=size, key=self._key).digest()).decode("ascii")
