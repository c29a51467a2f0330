"""Which pages may open a socket (RFC 6455, section 10.2): browsers let every page try, and send cookies along."""

from collections.abc import Sequence

from gateway.http.cors import is_named, is_own_origin


def may_open(origin: str | None, host_field: str, origins: Sequence[str] | None, cors: Sequence[str]) -> bool:
    """Whether a handshake with this Origin may pass; None is no browser.

    `origins` are those of __WEBSOCKET_ORIGINS. If None, the pages of the requested host may, and those that __CORS
    names. `*` of __CORS does not count: a page that may read public answers may not act with a user's cookies.
    """
    if origin is None:
        return True
    if origins is not None:
        return is_named(origin, origins)
    return is_own_origin([(b"origin", origin.encode("latin-1"))], [host_field], cors)
