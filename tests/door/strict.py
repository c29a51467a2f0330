"""HTTP/1.1 requests by the letter of RFC 9112: what a byte string says, and every fault that it has.

`read_request` reads one request off the front of a buffer. It goes on over a fault where a reader plausibly would, so
that one pass names all of them; what cannot be gone over ends the reading (`is_fatal`). Section numbers are those of
RFC 9112 unless they say otherwise. Nothing here is shared with the gateway: these are its examiner's own eyes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import AddressValueError, IPv6Address


class Fault(Enum):
    """What can be wrong. LENIENT ones a recipient may repair or go over by the RFC; the others it must refuse."""

    # the request line
    BLANK_LINE_BEFORE = "an empty line before the request line"
    REQUEST_LINE = "no request line"
    REQUEST_LINE_SPACE = "odd white space in the request line"
    METHOD = "a method that is no token"
    TARGET = "a target in none of the four forms"
    TARGET_USERINFO = "userinfo in the target"
    VERSION = "a version that is not HTTP/1.x"
    VERSION_MINOR = "a higher minor version"
    NO_VERSION = "HTTP/0.9"
    # lines
    BARE_LF = "a line that ends with LF alone"
    BARE_CR = "a CR without LF"
    # field lines
    SPACE_BEFORE_FIELDS = "white space between request line and fields"
    OBS_FOLD = "a folded field"
    NO_COLON = "a field line without a colon"
    SPACE_BEFORE_COLON = "white space before the colon"
    FIELD_NAME = "a field name that is no token"
    FIELD_NUL = "NUL in a field"
    FIELD_CONTROL = "a control character in a field"
    # Host
    HOST_MISSING = "no Host in HTTP/1.1"
    HOST_REPEATED = "Host more than once"
    HOST_INVALID = "Host is not host[:port]"
    HOST_DIFFERS = "Host is not the target's authority"
    # framing
    LENGTH_INVALID = "Content-Length is no number"
    LENGTH_HUGE = "Content-Length over 18 digits"
    LENGTH_CONFLICT = "Content-Length says two things"
    LENGTH_REPEATED = "Content-Length says the same twice"
    LENGTH_BESIDE_CODING = "Content-Length beside Transfer-Encoding"
    CODING_UNKNOWN = "a transfer coding that nobody knows"
    CODING_OTHER = "a transfer coding before chunked"
    CODING_NOT_FINAL = "chunked is not the final coding"
    CODING_REPEATED = "chunked more than once"
    CODING_EMPTY_MEMBER = "an empty member in Transfer-Encoding"
    CODING_IN_1_0 = "Transfer-Encoding in HTTP/1.0"
    # chunks
    CHUNK_SIZE = "a chunk size that is no hexadecimal number"
    CHUNK_SIZE_HUGE = "a chunk size over 15 digits"
    CHUNK_SPACE = "white space after a chunk size"
    CHUNK_EXTENSION = "a malformed chunk extension"
    CHUNK_LINE_END = "a chunk line that ends with LF alone"
    CHUNK_END = "chunk data that does not end where it says"
    TRAILER_FORBIDDEN = "a trailer field that may not be one"

    @property
    def is_lenient(self) -> bool:
        return self in _LENIENT

    @property
    def is_fatal(self) -> bool:
        return self in _FATAL


_LENIENT = frozenset(
    (
        Fault.BLANK_LINE_BEFORE,  # 2.2: a server SHOULD ignore at least one
        Fault.REQUEST_LINE_SPACE,  # 3: MAY parse on white-space-delimited word boundaries
        Fault.TARGET_USERINFO,  # RFC 9110, 4.2.4: SHOULD treat it as an error
        Fault.VERSION_MINOR,  # RFC 9110, 2.5: process as the highest minor version it knows
        Fault.NO_VERSION,  # RFC 1945 had it; a server may still
        Fault.BARE_LF,  # 2.2: MAY recognize a single LF as a line terminator
        Fault.SPACE_BEFORE_FIELDS,  # 2.2: reject, or consume those lines
        Fault.OBS_FOLD,  # 5.2: reject, or replace by spaces
        Fault.HOST_DIFFERS,  # 3.2.2: MUST ignore the Host then
        Fault.LENGTH_REPEATED,  # RFC 9110, 8.6: reject, or take it once
        Fault.LENGTH_BESIDE_CODING,  # 6.3: Transfer-Encoding overrides, or an error
        Fault.CODING_OTHER,  # 6.1: SHOULD answer 501 to a coding it does not understand
        Fault.CODING_EMPTY_MEMBER,  # RFC 9110, 5.6.1.2: parse and ignore a reasonable number
        Fault.CODING_IN_1_0,  # 6.1: faulty framing; process and close
        Fault.TRAILER_FORBIDDEN,  # RFC 9110, 6.5.1: ignore it
    )
)
_FATAL = frozenset((Fault.REQUEST_LINE, Fault.VERSION, Fault.CHUNK_SIZE, Fault.CHUNK_SIZE_HUGE, Fault.CHUNK_END))

Field = tuple[bytes, bytes]

_TCHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TOKEN = re.compile(_TCHAR + rb"+")
_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")
_WHITE = re.compile(rb"[ \t\x0b\x0c\r]+")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
# RFC 3986 has no `"<>\^`{|}` and no bare `%` either; many clients send them, and no reader reads them otherwise.
_TARGET = re.compile(rb"[!-\"$-~]+")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
_AUTHORITY = re.compile(
    rb"(?P<host>\[(?:(?P<v6>[0-9A-Fa-f:.]+)|v[0-9A-Fa-f]+\.[0-9A-Za-z._~!$&'()*+,;=:-]+)\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::(?P<port>[0-9]*))?"
)
_USERINFO = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_CHUNK_EXTENSIONS = re.compile(
    rb"(?:[ \t]*;[ \t]*" + _TCHAR + rb"+(?:[ \t]*=[ \t]*(?:" + _TCHAR + rb"+|" + _QUOTED + rb"))?)*"
)
_KNOWN_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))
_NO_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"trailer", b"content-encoding", b"te"))


@dataclass(slots=True)
class Request:
    """One request as it was read; `is_whole` once its end was seen, `raw` the bytes that are its."""

    method: bytes = b""
    target: bytes = b""
    version: bytes = b""
    fields: list[Field] = field(default_factory=list)  # names as they came, values without white space around them
    trailers: list[Field] = field(default_factory=list)
    body: bytes = b""
    faults: list[Fault] = field(default_factory=list)
    has_head: bool = False
    is_whole: bool = False
    is_fatal: bool = False  # nothing behind its last fault can be read
    raw: bytes = b""

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found.lower() == name]

    def __repr__(self) -> str:
        faults = f" ({'; '.join(dict.fromkeys(fault.value for fault in self.faults))})" if self.faults else ""
        return f"<{_shown(self.method)} {_shown(self.target)}{'' if self.is_whole else ', not whole'}{faults}>"


def _shown(text: bytes) -> str:
    return text[:60].decode("latin-1").encode("unicode_escape").decode("ascii")


class _Incomplete(Exception):
    """The buffer ends before the request does."""


class _Fatal(Exception):
    """Nothing behind this fault can be read."""


def read_request(buffer: bytes) -> Request:
    """The request at the front of the buffer, as far as it is there; `raw` is what it took."""
    reading = _Reading(buffer)
    request = reading.request
    try:
        reading.read()
        request.is_whole = True
        request.raw = buffer[: reading.at]
    except _Incomplete:
        request.raw = buffer
    except _Fatal:
        request.is_fatal = True
        request.raw = buffer
    return request


def read_all(raw: bytes) -> list[Request]:
    """All requests in a byte string, in order; the last one may be cut or stop at a fatal fault."""
    requests = []
    while raw:
        request = read_request(raw)
        requests.append(request)
        if not request.is_whole or Fault.NO_VERSION in request.faults:
            break
        raw = raw[len(request.raw) :]
        if not raw.strip(b"\r\n"):
            break  # empty lines with no request behind them
    return requests


class _Reading:
    def __init__(self, buffer: bytes) -> None:
        self.buffer = buffer
        self.at = 0
        self.request = Request()

    def fault(self, fault: Fault) -> None:
        self.request.faults.append(fault)
        if fault.is_fatal:
            raise _Fatal

    def line(self, lf_alone: Fault = Fault.BARE_LF) -> bytes:
        """The next line without its end."""
        end = self.buffer.find(b"\n", self.at)
        if end < 0:
            raise _Incomplete
        line = self.buffer[self.at : end]
        self.at = end + 1
        if line.endswith(b"\r"):
            line = line[:-1]
        else:
            self.fault(lf_alone)
        if b"\r" in line:
            self.fault(Fault.BARE_CR)
        return line

    def read(self) -> None:
        self.request_line()
        if Fault.NO_VERSION in self.request.faults:
            return
        self.request.fields = self.field_lines(after_request_line=True)
        check_host(self.request)
        self.request.has_head = True
        self.body()

    # -- 3: the request line --------------------------------------------------------------------------------------

    def request_line(self) -> None:
        while self.buffer[self.at : self.at + 1] in {b"\r", b"\n"} and self.buffer[self.at : self.at + 2] != b"\r":
            if self.line():
                self.fault(Fault.REQUEST_LINE)
            self.fault(Fault.BLANK_LINE_BEFORE)
        first = self.buffer[self.at : self.at + 1]
        if first and first not in {b"\r", b" ", b"\t"} and not _TOKEN.fullmatch(first):
            self.fault(Fault.REQUEST_LINE)
        line = self.line()
        words = line.split(b" ")
        if len(words) != 3 or not all(words) or _WHITE.search(line.replace(b" ", b"")):
            words = [word for word in _WHITE.split(line) if word]
            if len(words) not in {2, 3} or b"\0" in line:
                self.fault(Fault.REQUEST_LINE)
            if len(words) == 3 or line != b" ".join(words):
                self.fault(Fault.REQUEST_LINE_SPACE)
        request = self.request
        request.method, request.target = words[0], words[1]
        if not _TOKEN.fullmatch(request.method):
            self.fault(Fault.METHOD)
        self.target()
        if len(words) == 2:
            self.fault(Fault.NO_VERSION)
            if request.method != b"GET":
                self.fault(Fault.REQUEST_LINE)
            return
        version = _VERSION.fullmatch(words[2])
        if version is None or version[1] != b"1":
            self.fault(Fault.VERSION)
        request.version = words[2]
        if words[2] not in {b"HTTP/1.0", b"HTTP/1.1"}:
            self.fault(Fault.VERSION_MINOR)

    def target(self) -> None:
        method, target = self.request.method, self.request.target
        if not _TARGET.fullmatch(target):
            self.fault(Fault.TARGET)
        elif method == b"CONNECT":
            authority = _AUTHORITY.fullmatch(target)
            if authority is None or not authority["host"] or not authority["port"]:
                self.fault(Fault.TARGET)
        elif target == b"*":
            if method != b"OPTIONS":
                self.fault(Fault.TARGET)
        elif not target.startswith(b"/"):
            absolute = _ABSOLUTE.fullmatch(target)
            if absolute is None:
                self.fault(Fault.TARGET)
                return
            userinfo, _, authority_text = absolute[2].rpartition(b"@")
            if userinfo:
                self.fault(Fault.TARGET_USERINFO if _USERINFO.fullmatch(userinfo) else Fault.TARGET)
            if not _is_authority(authority_text) or authority_text.partition(b":")[0] == b"":
                self.fault(Fault.TARGET)

    # -- 5: field lines -------------------------------------------------------------------------------------------

    def field_lines(self, *, after_request_line: bool = False) -> list[Field]:
        fields: list[Field] = []
        while line := self.line():
            if line[:1] in {b" ", b"\t"}:
                if fields:
                    name, value = fields[-1]
                    fields[-1] = (name, (value + b" " + line.strip(b" \t")).strip(b" "))
                    self.fault(Fault.OBS_FOLD)
                else:
                    self.fault(Fault.SPACE_BEFORE_FIELDS if after_request_line else Fault.NO_COLON)
                continue
            name, colon, value = line.partition(b":")
            if not colon:
                self.fault(Fault.NO_COLON)
                continue
            if name.rstrip(b" \t") != name:
                self.fault(Fault.SPACE_BEFORE_COLON)
                name = name.rstrip(b" \t")
            if not _TOKEN.fullmatch(name):
                self.fault(Fault.FIELD_NAME)
            fields.append((name, value.strip(b" \t")))
            if b"\0" in value:
                self.fault(Fault.FIELD_NUL)
            if _CONTROL.search(value):
                self.fault(Fault.FIELD_CONTROL)
        return fields

    # -- 6: the body ----------------------------------------------------------------------------------------------

    def body(self) -> None:
        request = self.request
        codings = request.values(b"transfer-encoding")
        length = self.length(request.values(b"content-length"))
        if codings:
            if length is not None:
                self.fault(Fault.LENGTH_BESIDE_CODING)
            if request.version == b"HTTP/1.0":
                self.fault(Fault.CODING_IN_1_0)
            if self.is_chunked(codings):
                self.chunks()
                return
            raise _Fatal  # 6.3: the length of such a request cannot be known
        request.body = self.buffer[self.at : self.at + (length or 0)]
        self.at += len(request.body)
        if len(request.body) < (length or 0):
            raise _Incomplete

    def length(self, values: Sequence[bytes]) -> int | None:
        if not values:
            return None
        numbers = [number.strip(b" \t") for value in values for number in value.split(b",")]
        if not all(re.fullmatch(rb"[0-9]+", number) for number in numbers):
            self.fault(Fault.LENGTH_INVALID)
            raise _Fatal
        if any(len(number.lstrip(b"0")) > 18 for number in numbers):
            self.fault(Fault.LENGTH_HUGE)
            raise _Fatal
        lengths = {int(number) for number in numbers}
        if len(lengths) > 1:
            self.fault(Fault.LENGTH_CONFLICT)
            raise _Fatal
        if len(numbers) > 1:
            self.fault(Fault.LENGTH_REPEATED)
        return lengths.pop()

    def is_chunked(self, values: Sequence[bytes]) -> bool:
        members = [member.strip(b" \t").lower() for value in values for member in value.split(b",")]
        codings = [member for member in members if member]
        if len(codings) != len(members):
            self.fault(Fault.CODING_EMPTY_MEMBER)
        if any(coding not in _KNOWN_CODINGS and coding != b"chunked" for coding in codings):
            self.fault(Fault.CODING_UNKNOWN)
        if codings.count(b"chunked") > 1:
            self.fault(Fault.CODING_REPEATED)
        if codings[-1:] != [b"chunked"]:
            self.fault(Fault.CODING_NOT_FINAL)
            return False
        if len(codings) > 1 and codings.count(b"chunked") == 1:
            self.fault(Fault.CODING_OTHER)
        return True

    def chunks(self) -> None:
        request = self.request
        while True:
            line = self.line(Fault.CHUNK_LINE_END)
            digits = re.match(rb"[0-9A-Fa-f]*", line)
            size_text = digits[0] if digits else b""
            if not size_text:
                self.fault(Fault.CHUNK_SIZE)
            if len(size_text.lstrip(b"0")) > 15:
                self.fault(Fault.CHUNK_SIZE_HUGE)
            rest = line[len(size_text) :]
            if rest and not rest.strip(b" \t"):
                self.fault(Fault.CHUNK_SPACE)
            elif not _CHUNK_EXTENSIONS.fullmatch(rest):
                # Anything but white space or an extension behind the digits means that they were no size.
                self.fault(Fault.CHUNK_EXTENSION if rest.lstrip(b" \t").startswith(b";") else Fault.CHUNK_SIZE)
            size = int(size_text, 16)
            if size == 0:
                break
            data = self.buffer[self.at : self.at + size]
            request.body += data
            self.at += len(data)
            if len(data) < size or len(self.buffer) - self.at < 1:
                raise _Incomplete
            if not b"\r\n".startswith(self.buffer[self.at : self.at + 2]):
                self.fault(Fault.CHUNK_END)
            if len(self.buffer) - self.at < 2:
                raise _Incomplete
            self.at += 2
        request.trailers = self.field_lines()
        if any(name.lower() in _NO_TRAILERS for name, _ in request.trailers):
            self.fault(Fault.TRAILER_FORBIDDEN)


def check_host(request: Request) -> None:
    """3.2: exactly one Host in HTTP/1.1, at most one in HTTP/1.0, and host[:port] in it."""
    hosts = request.values(b"host")
    if len(hosts) > 1:
        request.faults.append(Fault.HOST_REPEATED)
    elif not hosts and request.version != b"HTTP/1.0":
        request.faults.append(Fault.HOST_MISSING)
    if not all(_is_authority(host) for host in hosts):
        request.faults.append(Fault.HOST_INVALID)
    absolute = _ABSOLUTE.fullmatch(request.target)
    if absolute and hosts and absolute[2].rpartition(b"@")[2].lower() != hosts[0].lower():
        request.faults.append(Fault.HOST_DIFFERS)


def _is_authority(text: bytes) -> bool:
    """RFC 9110, 7.2 and RFC 3986, 3.2: `host [":" port]`. The host may be empty."""
    authority = _AUTHORITY.fullmatch(text)
    if authority is None:
        return False
    if authority["v6"] is not None:
        try:
            IPv6Address(authority["v6"].decode("ascii"))
        except AddressValueError:
            return False
    return True
