"""Request ids and W3C trace context: what goes up, down and into the log so that one request can be followed.

https://www.w3.org/TR/trace-context/ is followed for `traceparent`: a valid one goes up unchanged. Where it is absent,
repeated or malformed, a new trace begins, unsampled (flags 00), and a `tracestate` without it is dropped. Where spans
are exported, each attempt has a span of its own and sends that in `traceparent` instead.
"""

import re
from random import getrandbits

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


# "ff" is a forbidden version; ids of zeros only are invalid; version 00 has exactly these four fields, later ones
# may carry more after a dash.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?"
)


def is_request_id(value: bytes) -> bool:
    """Whether a client's X-Request-ID may be kept: 1 to 128 of `[A-Za-z0-9._-]`."""
    return _REQUEST_ID.fullmatch(value) is not None


def trace_id_of(traceparent: bytes) -> str | None:
    """The 32 hex digits of a valid `traceparent`, else None."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (match[1] == b"00" and match[5]):
        return None
    return match[2].decode("ascii")


def new_trace_id(bits: int = 0) -> str:
    """A trace id of 32 hex digits; `bits` is the random number (drawn where it is 0), never all zeros."""
    return (bits or getrandbits(128) or 1).to_bytes(16, "big").hex()  # formatting the number takes twice as long


def new_traceparent(trace_id: str, bits: int = 0) -> bytes:
    """A `traceparent` that begins `trace_id`, unsampled; `bits` is the random number for the span id."""
    return f"00-{trace_id}-{(bits or getrandbits(64) or 1).to_bytes(8, 'big').hex()}-00".encode("ascii")
