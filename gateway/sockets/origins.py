"""Whose pages may open a socket (RFC 6455, section 10.2): browsers let every page try, and send its cookies along."""

from collections.abc import Sequence

from gateway.http.headers import same_authority

_PORTS = {"http": "80", "https": "443"}


def may_open(origin: str | None, host_field: str, origins: Sequence[str] | None, cors: Sequence[str]) -> bool:
    """Whether a handshake of this Origin may pass; None is no browser.

    `origins` are those of __WEBSOCKET_ORIGINS, None where they are not set: then the pages of the host that was asked
    for, and those that __CORS names. `*` of __CORS is none: who may read public answers is not who may speak with
    a user's cookies.
    """
    if origin is None:
        return True
    if origins is not None:
        return "*" in origins or origin in origins
    if origin in cors and origin != "*":
        return True
    return is_own(origin, host_field)


def is_own(origin: str, host_field: str) -> bool:
    """Whether a page comes from the host that it asks. What its scheme's usual port is may stand on either side."""
    scheme, found, authority = origin.partition("://")
    port = _PORTS.get(scheme)
    if not found or port is None:
        return False
    theirs, ours = (same_authority(one).removesuffix(f":{port}") for one in (authority, host_field))
    return theirs == ours and bool(ours)
