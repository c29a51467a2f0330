"""Ambiguous requests are refused before any route sees them: pure checks of what ASGI shows of a request.

Granian shows a missing Host as an empty one, HTTP/1.0 as "1", and passes repeated Host and framing fields on.
"""

import re
from collections.abc import Sequence

from gateway.errors import GatewayError, Reason
from gateway.http.headers import HTTP_1_0, OWS, Pair, RequestFields, as_cgi, is_token, parse_host
from gateway.http.methods import SERVED_METHODS, STANDARD_METHODS
from gateway.http.paths import is_refused

# RFC 3986 lets none of these stand in a path; `#` would end it for some servers and not for others.
_TARGET_CHARACTERS = bytes(character for character in range(ord("!"), ord("~") + 1) if character != ord("#"))
_MAX_HOST_BYTES = 255 + len(":65535")
_MAX_METHOD_CHARACTERS = 32
_MAX_FORWARDED = 100  # entries of an X-Forwarded-* list, empty ones too: each of X-Forwarded-For's is parsed
_DIGITS = re.compile(rb"[0-9]{1,18}")


def check_method(method: str) -> None:
    """Raises METHOD_UNSUPPORTED for CONNECT, TRACE, and a known method in another case than its own.

    CONNECT has no path, and its answer would begin a tunnel (RFC 9110, section 9.3.6). TRACE would show a client the
    field lines that the gateway adds, secrets among them (section 9.3.8). `get` is another method than `GET` for some
    servers and the same for others. Any other token goes up as it came.
    """
    if method in SERVED_METHODS:
        return
    if method.upper() in STANDARD_METHODS or len(method) > _MAX_METHOD_CHARACTERS:
        raise GatewayError(Reason.METHOD_UNSUPPORTED)


def check_target(method: str, raw_path: bytes, query: bytes) -> str:
    """The raw path as text, or `*` for OPTIONS; raises GatewayError for any other form (RFC 9112, section 3.2)."""
    if not raw_path.startswith(b"/"):
        if raw_path == b"*" and method == "OPTIONS":
            return "*"
        raise GatewayError(Reason.TARGET_INVALID, "The request target must begin with a slash.")
    if raw_path.translate(None, _TARGET_CHARACTERS) or (query and query.translate(None, _TARGET_CHARACTERS)):
        raise GatewayError(Reason.TARGET_INVALID, "The request target holds a character that must be percent-encoded.")
    return raw_path.decode("ascii")


def check_path(path: str) -> None:
    """Raises GatewayError for a piece `.` or `..` of a segment, for a raw backslash, and for `%00`."""
    if is_refused(path):
        raise GatewayError(Reason.PATH_INVALID)


def check_host(fields: RequestFields, http_version: str) -> str:
    """The host in lower case without its port; raises GatewayError. HTTP/1.0 needs none (RFC 9112, section 3.2)."""
    values = fields.own.get(b"host", [])
    if len(values) > 1:
        raise GatewayError(Reason.HOST_INVALID, "The Host field came more than once.")
    if not values or not values[0]:
        if http_version in HTTP_1_0:
            return ""
        raise GatewayError(Reason.HOST_INVALID, "The Host field is missing or empty.")
    # A name has at most 255 octets (RFC 1035, section 2.3.4), and what is longer stays out of the cache of hosts.
    host = parse_host(values[0]) if len(values[0]) <= _MAX_HOST_BYTES else None
    if host is None:
        raise GatewayError(Reason.HOST_INVALID, "The Host field is not a host with an optional port.")
    return host


def check_fields(fields: RequestFields, max_bytes: int) -> None:
    """Raises GatewayError for too large a header block, a name that forges another, and an unknown expectation."""
    if fields.size_bytes > max_bytes:
        raise GatewayError(Reason.HEADERS_TOO_LARGE, f"The header block is larger than {max_bytes} bytes.")
    if fields.forged is not None:
        name = fields.forged.decode("latin-1")
        meant = as_cgi(fields.forged).decode("ascii")
        raise GatewayError(Reason.HEADER_INVALID, f"The field {name} would pass for {meant}.")
    expected = fields.own.get(b"expect")
    if expected is not None and [value.strip(OWS).lower() for value in expected] != [b"100-continue"]:
        raise GatewayError(Reason.EXPECTATION_FAILED)


def check_forwarded(fields: RequestFields) -> None:
    """Raises GatewayError for an X-Forwarded-* list of a trusted peer that is longer than any real chain of proxies."""
    entries: dict[bytes, int] = {}
    for name, value in fields.x_forwarded:
        entries[name] = entries.get(name, 0) + value.count(b",") + 1
        if entries[name] > _MAX_FORWARDED:
            detail = f"The field {name.decode('latin-1')} has more than {_MAX_FORWARDED} entries."
            raise GatewayError(Reason.HEADER_INVALID, detail)


def content_length(fields: RequestFields, http_version: str) -> int | None:
    """The stated length of the body, None where none is stated; raises GatewayError for ambiguous framing."""
    codings = fields.own.get(b"transfer-encoding")
    if codings is not None:
        _check_codings(codings, http_version)
    lengths = fields.own.get(b"content-length")
    if lengths is None:
        return None
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise _unframed("The Content-Length field is repeated or not a number.")
    if codings is not None:
        raise _unframed("Content-Length and Transfer-Encoding came together.")
    return int(lengths[0])


def ends_with_connection(http_version: str, pairs: Sequence[Pair]) -> bool:
    """Whether a streaming answer can only end with its connection: HTTP/1.0 has no chunks."""
    return http_version in HTTP_1_0 and not any(name == b"content-length" for name, _ in pairs)


def _check_codings(codings: Sequence[bytes], http_version: str) -> None:
    """RFC 9112, section 6.1. What hyper takes beyond `chunked` would go up under another framing than it came in."""
    if len(codings) > 1 or http_version in HTTP_1_0:
        raise _unframed("The Transfer-Encoding field is repeated, or came with HTTP/1.0.")
    names = [name.strip(OWS).lower() for name in codings[0].split(b",")]
    if names.count(b"chunked") != 1 or names[-1] != b"chunked" or not all(map(is_token, names)):
        raise _unframed("The Transfer-Encoding field does not end in one `chunked`.")
    if len(names) > 1:
        raise _unframed("", Reason.CODING_UNSUPPORTED)


def _unframed(detail: str, reason: Reason = Reason.HEADER_INVALID) -> GatewayError:
    """A refusal that closes the connection: with another framing, a second request would stand behind this one."""
    return GatewayError(reason, detail, headers=[(b"connection", b"close")])
