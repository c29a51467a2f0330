"""The request's conditions and ranges on a stored response (RFC 9110, sections 13 and 14): 200, 206, 304, 416."""

from collections.abc import Sequence
from typing import Final

from gateway.cache.policy import Entry
from gateway.http import fields
from gateway.http.headers import Pair, Pairs, all_of, first_of

ASKING: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range", b"range"})
# Fields that describe a body, which a 304 does not have (RFC 9110, section 15.4.5).
_OF_A_BODY: Final = frozenset(
    {b"content-encoding", b"content-language", b"content-length", b"content-range", b"content-type"}
)
_OF_ITS_FRESHNESS: Final = frozenset({b"cache-control", b"cdn-cache-control", b"surrogate-control", b"expires"})


def applied(entry: Entry, pairs: Sequence[Pair], method: str, request: Sequence[Pair]) -> tuple[int, Pairs, bytes]:
    """Status, fields and body of the answer to this request; `pairs` are the fields of the whole response.

    Conditions apply only to a response that is 200 without them.
    """
    if entry.status != 200 or not any(name in ASKING for name, _ in request):
        return entry.status, [*pairs], entry.body
    if _is_unchanged(entry, request):
        return 304, [pair for pair in pairs if pair[0] not in _OF_A_BODY], b""
    wanted = all_of(request, b"range")
    if method != "GET" or len(wanted) != 1 or not _range_holds(entry, request):
        return 200, [*pairs], entry.body
    size = len(entry.body)
    try:
        found = fields.byte_range(wanted[0], size)
    except ValueError:
        # Only this request failed: a downstream cache must not store this as the response of the URL.
        kept = [pair for pair in pairs if pair[0] not in _OF_A_BODY | _OF_ITS_FRESHNESS]
        kept += [(b"cache-control", b"no-store"), (b"content-range", b"bytes */%d" % size), (b"content-length", b"0")]
        return 416, kept, b""
    if found is None:
        return 200, [*pairs], entry.body
    first, last = found
    kept = [pair for pair in pairs if pair[0] != b"content-length"]
    kept.append((b"content-range", b"bytes %d-%d/%d" % (first, last, size)))
    kept.append((b"content-length", b"%d" % (last - first + 1)))
    return 206, kept, entry.body[first : last + 1]


def _is_unchanged(entry: Entry, request: Sequence[Pair]) -> bool:
    """If-None-Match, compared weakly; only where it is absent, If-Modified-Since (RFC 9110, section 13.2.2)."""
    asked = all_of(request, b"if-none-match")
    if asked:
        tags = fields.entity_tags(asked)
        if tags == [b"*"]:
            return True
        return entry.etag is not None and fields.opaque(entry.etag) in {fields.opaque(tag) for tag in tags}
    since = all_of(request, b"if-modified-since")
    since_s = fields.http_date_s(since[0], entry.received_s) if len(since) == 1 else None
    if since_s is None:
        return False
    modified_s = fields.http_date_s(entry.last_modified, entry.received_s)
    # RFC 9111, section 4.3.2: else the time at which the response was generated.
    return (entry.date_s if modified_s is None else modified_s) <= since_s


def _range_holds(entry: Entry, request: Sequence[Pair]) -> bool:
    """If-Range, compared strongly (RFC 9110, section 13.1.5); a date is strong a minute after it (section 8.8.2.2)."""
    asked = first_of(request, b"if-range")
    if asked is None:
        return True
    if fields.is_entity_tag(asked):
        return asked == entry.etag and not asked.startswith(b"W/")
    modified_s = fields.http_date_s(entry.last_modified, entry.received_s)
    return asked == entry.last_modified and modified_s is not None and entry.date_s - modified_s >= 60
