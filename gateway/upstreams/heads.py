"""Response heads, as values: checks, and a fast parser for plain ones.

A response that came in one piece, head and body, is parsed here if its head is plain. `connection` gives all others to
aiohttp's parser. So whatever `whole_answer` accepts must mean the same to both parsers; a test compares them.
"""

import re
from collections.abc import Sequence
from string import ascii_letters, digits
from typing import Final, NamedTuple

from gateway.errors import Reason
from gateway.http.headers import HOP_BY_HOP, OWS, FieldLines, Pair, is_token

MAX_RESPONSE_HEADERS_BYTES: Final = 64 * 1024
_CONTROLS: Final = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_TOKEN_CHARACTERS: Final = b"!#$%&'*+-.^_`|~" + ascii_letters.encode() + digits.encode()

Fault = tuple[Reason, str]


def one_chunk(body: bytes) -> bytes:
    """A whole body in the chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


# -- parsing ------------------------------------------------------------------------------------------------------


class WholeAnswer(NamedTuple):
    """A response that has arrived whole. `pairs` are to be passed on: names in lower case, no hop-by-hop fields."""

    status: int
    pairs: FieldLines
    body: bytes
    closes: bool  # the connection closes after it


_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
# Fields that are not hop-by-hop are passed on; of the hop-by-hop fields only these are plain.
_GOES_ON, _IS_LENGTH, _IS_DROPPED, _CLOSES = range(4)
_PLAIN_CONNECTION = {b"keep-alive": _IS_DROPPED, b"close": _CLOSES}
# Framing that aiohttp's parser reads, and fields that it refuses.
_NOT_PLAIN = frozenset((b"transfer-encoding", b"trailer", b"upgrade", b"sec-websocket-key1"))
_WITHOUT_BODY = frozenset((204, 304))

# An upstream sends nearly the same lines in each response, and the same head several times a second, so the parsed form
# is cached.
_statuses: dict[bytes, int] = {}
_lines: dict[bytes, tuple[Pair, int]] = {}
_heads: dict[bytes, "_Head"] = {}
_MOST_KNOWN, _LONGEST_KNOWN = 4096, 100
_MOST_HEADS, _LONGEST_HEAD = 256, 1000


class _Head(NamedTuple):
    """A plain head. `body_length` is the length of the body that follows, unless the request was HEAD."""

    status: int
    pairs: tuple[Pair, ...]
    body_length: int
    closes: bool


def whole_answer(data: bytes, *, without_body: bool) -> WholeAnswer | None:
    """The response, if `data` is exactly one, with a plain head and a Content-Length. `without_body`: to HEAD."""
    end = data.find(b"\r\n\r\n")
    if not 0 < end <= MAX_RESPONSE_HEADERS_BYTES:
        return None
    head = data[:end]
    found = _heads.get(head) or _head_of(head)
    if found is None:
        return None
    status, pairs, body_length, closes = found
    body = data[end + 4 :]
    if len(body) != (0 if without_body else body_length):
        return None
    return WholeAnswer(status, FieldLines(pairs), body, closes)


def _head_of(head: bytes) -> _Head | None:
    """Parse a plain head with a Content-Length; None for any other. Cached from now on, unless it sets a cookie."""
    status_line, *lines = head.split(b"\r\n")
    status = _statuses.get(status_line) or _status_of(status_line)
    pairs: list[Pair] = []
    length: int | None = None
    closes = False
    is_for_all = True
    known = _lines.get
    for line in lines:
        field = known(line)
        if field is None:
            field = _field_of(line)
            if field is None:
                return None
            is_for_all = is_for_all and field[0][0] != b"set-cookie"
        pair, kind = field
        if kind == _GOES_ON:
            pairs.append(pair)
        elif kind == _IS_LENGTH:
            if length is not None:
                return None
            length = int(pair[1])
            pairs.append(pair)
        elif kind == _CLOSES:
            closes = True
    if not status or length is None:
        return None
    found = _Head(status, tuple(pairs), 0 if status in _WITHOUT_BODY else length, closes)
    if is_for_all and len(head) <= _LONGEST_HEAD:
        if len(_heads) >= _MOST_HEADS:
            _heads.clear()
        _heads[head] = found
    return found


def _status_of(line: bytes) -> int:
    """The status of a plain status line, 0 for any other."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        return 0
    if len(_statuses) < _MOST_KNOWN and len(line) <= _LONGEST_KNOWN:
        _statuses[line] = int(match[1])
    return int(match[1])


def _field_of(line: bytes) -> tuple[Pair, int] | None:
    """A field line and how it is treated; None for one that is not plain. Cached from now on."""
    match = _FIELD_LINE.fullmatch(line)
    if match is None:
        return None
    name, value = match[1].lower(), match[2].rstrip(OWS)
    kind: int | None = _GOES_ON
    if name in _NOT_PLAIN:
        return None
    if name == b"content-length":
        kind = _IS_LENGTH if _LENGTH.fullmatch(value) else None
    elif name == b"connection":
        kind = _PLAIN_CONNECTION.get(value.lower())
    elif name in HOP_BY_HOP:
        kind = _IS_DROPPED
    if kind is None:
        return None
    field = (name, value), kind
    if len(line) <= _LONGEST_KNOWN and name != b"set-cookie":
        if len(_lines) >= _MOST_KNOWN:
            _lines.clear()
        _lines[line] = field
    return field


def fault_of(status: int, pairs: Sequence[Pair], codings: Sequence[str], *, chunked: bool) -> Fault | None:
    """Why a parsed head must not be passed on, or None: it could not be sent as it is, or would change its meaning.

    `codings` are the values of its Transfer-Encoding, `chunked` is whether the parser reads the body as chunked.
    """
    fault = fault_of_fields(pairs)
    if fault is not None:
        return fault
    if not 200 <= status <= 599:
        return Reason.RESPONSE_INVALID, f"status {status}"
    if codings and not (chunked and len(codings) == 1 and codings[0].strip().lower() == "chunked"):
        # The gateway removes the field, so no client could know that the body is encoded (RFC 9112, section 6.1).
        return Reason.RESPONSE_INVALID, f"Transfer-Encoding: {', '.join(codings)}"
    return None


def fault_of_fields(pairs: Sequence[Pair]) -> Fault | None:
    """Why the field lines of a response are invalid, or None: too many bytes, or an invalid name or value.

    RFC 9112, section 5.1: no white space between name and colon. A reader that counts it as part of the name sees no
    `Content-Length` in `Content-Length : 4`, while the parser does.
    """
    if not pairs:
        return None
    names, values = zip(*pairs, strict=True)
    name_bytes, value_bytes = b"".join(names), b"".join(values)
    size = len(name_bytes) + len(value_bytes) + 4 * len(pairs)
    if size > MAX_RESPONSE_HEADERS_BYTES:
        return Reason.RESPONSE_HEADERS_TOO_LARGE, f"{size} bytes of header fields"
    if name_bytes.translate(None, _TOKEN_CHARACTERS) or b"" in names:
        wrong = next(name for name in names if not is_token(name))
        return Reason.RESPONSE_INVALID, f"a field name that is no token: {wrong[:100]!r}"
    if has_controls(value_bytes):
        return Reason.RESPONSE_INVALID, "a control character in a header field"
    return None


def has_controls(value: bytes) -> bool:
    """Whether there is a control character in a field value; a tab does not count (RFC 9110, section 5.5)."""
    return len(value.translate(None, _CONTROLS)) != len(value)
