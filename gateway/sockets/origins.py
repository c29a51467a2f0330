"""Whose pages may open a socket (RFC 6455, section 10.2): browsers let every page try, and send its cookies along."""

from collections.abc import Sequence

from gateway.http.cors import is_named, is_own_origin


def may_open(origin: str | None, host_field: str, origins: Sequence[str] | None, cors: Sequence[str]) -> bool:
    """Whether a handshake of this Origin may pass; None is no browser.

    `origins` are those of __WEBSOCKET_ORIGINS, None where they are not set: then the pages of the host that was asked
    for, and those that __CORS names. `*` of __CORS is none: who may read public answers is not who may speak with
    a user's cookies.
    """
    if origin is None:
        return True
    if origins is not None:
        return is_named(origin, origins)
    return is_own_origin([(b"origin", origin.encode("latin-1"))], [host_field], cors)
