"""Files, decided: the file that a request means, its compressed twin, conditions, and ranges (RFC 9110, 13, 14)."""

import mimetypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gateway.http import fields
from gateway.http.headers import Pair, Pairs, all_of, first_of
from gateway.http.negotiation import Codings

# The endings of compressed twins of files, and their codings, the best first.
TWINS = ((".br", b"br"), (".gz", b"gzip"))
INDEX = "index.html"
_NEVER_IN_A_NAME = frozenset("/\\\0")
# Types by ending, independent of the machine's own table.
_TYPES = mimetypes.MimeTypes(filenames=())
for _type, _ending in (
    *(("text/javascript", ".js"), ("text/javascript", ".mjs"), ("application/wasm", ".wasm"), ("font/woff2", ".woff2")),
    *(("image/webp", ".webp"), ("image/avif", ".avif"), ("application/manifest+json", ".webmanifest")),
    *(("text/markdown", ".md"), ("font/woff", ".woff"), ("image/svg+xml", ".svg"), ("application/json", ".map")),
):
    _TYPES.add_type(_type, _ending)


def names_in(rest: str) -> tuple[str, ...] | None:
    """The raw rest of a path, `/a/b%20c`, as names of folders and a file; the last one is '' if it ends in a slash.

    None for a path without a file: a dotfile, a dot segment, an empty segment, or one with a slash, `\\` or NUL.
    """
    names = []
    raw = rest.split("/")[1:]
    for place, segment in enumerate(raw):
        try:
            name = unquote_to_bytes(segment).decode("utf-8")
        except UnicodeDecodeError:
            return None
        is_end = place == len(raw) - 1
        if (not name and not is_end) or name.startswith(".") or not _NEVER_IN_A_NAME.isdisjoint(name):
            return None
        names.append(name)
    return tuple(names)


def type_of(name: str) -> bytes:
    """The Content-Type by the ending; text is UTF-8."""
    found, coding = _TYPES.guess_type(name)
    if found is None or coding is not None:
        return b"application/octet-stream" if coding is None else b"application/gzip"
    is_text = found.startswith("text/") or found in {"application/json", "application/manifest+json"}
    return f"{found}; charset=utf-8".encode() if is_text and found.startswith("text/") else found.encode()


def accepted_codings(values: Iterable[bytes]) -> frozenset[bytes]:
    """The codings of TWINS that an Accept-Encoding accepts (RFC 9110, section 12.5.3)."""
    codings = Codings(values)
    return frozenset(coding for _, coding in TWINS if codings.weight(coding.decode()) > 0)


@dataclass(frozen=True, slots=True)
class Found:
    """The facts of an open file: its name, size, time of change, and coding if it is a twin."""

    name: str
    size: int
    modified_ns: int
    coding: bytes | None = None
    has_twins: bool = False

    @property
    def etag(self) -> bytes:
        """Changes with the file, and differs between twins."""
        coding = b"-" + self.coding if self.coding is not None else b""
        return b'"%x-%x%s"' % (self.modified_ns, self.size, coding)

    @property
    def modified_s(self) -> int:
        return self.modified_ns // 10**9


@dataclass(frozen=True, slots=True)
class Part:
    """The part to send: status, fields, and `length` bytes from `first` on."""

    status: int
    pairs: Pairs
    first: int = 0
    length: int = 0


def part_for(found: Found, request: Sequence[Pair], method: str) -> Part:
    """The answer to a request for a file, by its conditions and range."""
    pairs: Pairs = [(b"last-modified", fields.http_date(found.modified_s)), (b"etag", found.etag)]
    if found.has_twins:
        pairs.append((b"vary", b"Accept-Encoding"))
    if _fails(found, request):
        return Part(412, pairs)
    if _is_unchanged(found, request):
        return Part(304, pairs)
    of_body: Pairs = [(b"content-type", type_of(found.name)), (b"accept-ranges", b"bytes")]
    if found.coding is not None:
        of_body.append((b"content-encoding", found.coding))
    wanted = all_of(request, b"range")
    whole = Part(200, [*of_body, *pairs, (b"content-length", b"%d" % found.size)], 0, found.size)
    if method != "GET" or len(wanted) != 1 or not _range_holds(found, request):
        return whole
    try:
        asked = fields.byte_range(wanted[0], found.size)
    except ValueError:
        unsatisfied = (b"content-range", b"bytes */%d" % found.size)
        return Part(416, [*pairs, unsatisfied, (b"content-length", b"0")])
    if asked is None:
        return whole
    first, last = asked
    length = last - first + 1
    span = (b"content-range", b"bytes %d-%d/%d" % (first, last, found.size))
    return Part(206, [*of_body, *pairs, span, (b"content-length", b"%d" % length)], first, length)


def _fails(found: Found, request: Sequence[Pair]) -> bool:
    """If-Match, compared strongly; only where it is absent, If-Unmodified-Since (RFC 9110, section 13.2.2)."""
    asked = all_of(request, b"if-match")
    if asked:
        tags = fields.entity_tags(asked)
        return tags != [b"*"] and found.etag not in tags
    since_s = _date_in(request, b"if-unmodified-since")
    return since_s is not None and found.modified_s > since_s


def _is_unchanged(found: Found, request: Sequence[Pair]) -> bool:
    asked = all_of(request, b"if-none-match")
    if asked:
        tags = fields.entity_tags(asked)
        return tags == [b"*"] or fields.opaque(found.etag) in {fields.opaque(tag) for tag in tags}
    since_s = _date_in(request, b"if-modified-since")
    return since_s is not None and found.modified_s <= since_s


def _range_holds(found: Found, request: Sequence[Pair]) -> bool:
    """If-Range: exactly the tag, or exactly the date."""
    asked = first_of(request, b"if-range")
    if asked is None:
        return True
    return asked == found.etag if fields.is_entity_tag(asked) else asked == fields.http_date(found.modified_s)


def _date_in(request: Sequence[Pair], name: bytes) -> int | None:
    values = all_of(request, name)
    return fields.http_date_s(values[0]) if len(values) == 1 else None
