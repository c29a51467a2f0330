"""What is ambiguous is refused before any route sees it: a pure check of what ASGI shows of a request.

Granian shows a missing Host as an empty one, HTTP/1.0 as "1", and passes repeated Host and framing fields on.
"""

import re

from gateway.errors import GatewayError, Reason
from gateway.headers import RequestFields, parse_host
from gateway.patterns import has_dot_segment_or_nul

# RFC 3986 lets none of these stand in a path; `#` would end it for some readers and not for others.
_FORBIDDEN_IN_TARGET = re.compile(rb"[^!-~]|#")
_MAX_HOST_BYTES = 255 + len(":65535")
_DIGITS = re.compile(rb"[0-9]{1,18}")


def check_method(method: str) -> None:
    """Raises GatewayError for CONNECT, which has no path and whose answer would begin a tunnel (RFC 9110, 9.3.6)."""
    if method == "CONNECT":
        raise GatewayError(Reason.METHOD_UNSUPPORTED)


def check_target(raw_path: bytes, query: bytes) -> str:
    """The raw path as text; raises GatewayError when it is no origin-form target (RFC 9112, section 3.2.1)."""
    if not raw_path.startswith(b"/"):
        raise GatewayError(Reason.TARGET_INVALID, "The request target must begin with a slash.")
    if _FORBIDDEN_IN_TARGET.search(raw_path) or _FORBIDDEN_IN_TARGET.search(query):
        raise GatewayError(Reason.TARGET_INVALID, "The request target holds a character that must be percent-encoded.")
    return raw_path.decode("ascii")


def check_path(path: str) -> None:
    """Raises GatewayError for a segment that decodes to `.` or `..`, and for `%00`."""
    if has_dot_segment_or_nul(path):
        raise GatewayError(Reason.PATH_INVALID)


def check_host(fields: RequestFields, http_version: str) -> str:
    """The host in lower case without its port; raises GatewayError. HTTP/1.0 needs none (RFC 9112, section 3.2)."""
    values = fields.own.get(b"host", [])
    if len(values) > 1:
        raise GatewayError(Reason.HOST_INVALID, "The Host field came more than once.")
    if not values or not values[0]:
        if http_version in {"1", "1.0"}:
            return ""
        raise GatewayError(Reason.HOST_INVALID, "The Host field is missing or empty.")
    # A name has at most 255 octets (RFC 1035, section 2.3.4), and what is longer stays out of the cache of hosts.
    host = parse_host(values[0]) if len(values[0]) <= _MAX_HOST_BYTES else None
    if host is None:
        raise GatewayError(Reason.HOST_INVALID, "The Host field is not a host with an optional port.")
    return host


def check_fields(fields: RequestFields, max_bytes: int) -> None:
    """Raises GatewayError for a header block over GATEWAY_MAX_HEADERS, and for a field in a spelling that forges."""
    if fields.size_bytes > max_bytes:
        raise GatewayError(Reason.HEADERS_TOO_LARGE, f"The header block is larger than {max_bytes} bytes.")
    if fields.forged is not None:
        name = fields.forged.decode("latin-1")
        raise GatewayError(Reason.HEADER_INVALID, f"The field {name} would pass for {name.replace('_', '-')}.")


def content_length(fields: RequestFields) -> int | None:
    """The length that the request states, None where it states none; raises GatewayError for ambiguous framing."""
    codings = fields.own.get(b"transfer-encoding")
    # What else hyper takes (`gzip, chunked`, the field twice) would go up under another framing than it came in.
    if codings is not None and [coding.lower() for coding in codings] != [b"chunked"]:
        raise GatewayError(Reason.HEADER_INVALID, "The Transfer-Encoding field is repeated or not `chunked`.")
    lengths = fields.own.get(b"content-length")
    if lengths is None:
        return None
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise GatewayError(Reason.HEADER_INVALID, "The Content-Length field is repeated or not a number.")
    if codings is not None:
        raise GatewayError(Reason.HEADER_INVALID, "Content-Length and Transfer-Encoding came together.")
    return int(lengths[0])
