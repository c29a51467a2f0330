"""Header fields that options and calls may set, and fields of the client that may be passed on to a call."""

from gateway import units
from gateway.http.headers import HOP_BY_HOP, as_cgi, is_claim

# RFC 9112, section 6, and RFC 9110, section 7.6.1: framing and connections are the gateway's own business on each side.
UNSETTABLE = frozenset(name.decode() for name in HOP_BY_HOP) | {"content-length", "expect"}
# Fields that the gateway sets in every call itself, and fields that would get another answer than whole, plain JSON.
_OWN = UNSETTABLE | {"host", "via", "x-request-id", "traceparent", "tracestate", "accept-encoding", "range"}
_OWN |= {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}


def settable(text: str) -> str:
    """A field that may be set in a call of the gateway's own, in lower case. Raises ValueError."""
    field = units.field_name(text)
    if as_cgi(field.encode("ascii")).decode("ascii") in _OWN:
        raise ValueError("a field that is the gateway's own business in these calls; it cannot be forwarded or set")
    return field


def is_forwardable(name: str) -> bool:
    """Whether a field of the client may be passed on to a call of the gateway's own."""
    try:
        forwardable(name)
    except ValueError:
        return False
    return True


def passing(text: str) -> tuple[str, ...]:
    """Names of fields that may go up, in lower case, perhaps with a `*` at the end: `authorization content-*`.

    `*` is all of the client's fields, a lone `-` none: an empty tuple. Raises ValueError.
    """
    return () if text == "-" else units.items_of(text, _passing_name)


def _passing_name(text: str) -> str:
    if text == "*":
        return text
    stem = text.removesuffix("*")
    return forwardable(stem) if stem == text else units.field_name(stem.rstrip("-") or stem) and text.lower()


def forwardable(text: str) -> str:
    """A field of the client that may be passed on to such a call, in lower case. Raises ValueError."""
    field = settable(text)
    if is_claim(field.encode("ascii")):
        raise ValueError("what a client says of itself would pass for the gateway's word; it can be set, not forwarded")
    return field
