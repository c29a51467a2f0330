"""Field values that decide about caching, parsed strictly: dates, lists, directives, entity tags, ranges.

A malformed value is reported as such, never guessed at: `freshness` decides what follows (RFC 9111, section 4.2.1).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from gateway.http.headers import OWS
from gateway.units import TCHARS

# RFC 9111, section 1.2.2: this counts as infinite.
MAX_SECONDS: Final = 2**31
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIFTY_YEARS_S: Final = 50 * 365.2425 * 86400
_CLOCK: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (  # RFC 9110, section 5.6.7; without regard to case, as RFC 9111, section 4.2 asks of caches
    re.compile(rf"(?:{'|'.join(_DAYS)}), (?P<day>\d\d) (?P<month>[a-z]{{3}}) (?P<year>\d{{4}}) {_CLOCK} gmt"),
    re.compile(
        rf"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (?P<day>\d\d)-(?P<month>[a-z]{{3}})-(?P<year>\d\d) {_CLOCK} gmt"
    ),
    re.compile(rf"(?:{'|'.join(_DAYS)}) (?P<month>[a-z]{{3}}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})"),
)
_DELIMITER: Final = re.compile('[",]')
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_DIRECTIVE: Final = re.compile(rf"({TCHARS})(?:=({TCHARS}|{_QUOTED.pattern}))?", re.DOTALL)
_WORDS: Final = re.compile(TCHARS)
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_ETAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE: Final = re.compile(rb"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)
# A member of a dictionary, and its value (RFC 9651, section 3.2): integer, string, token, boolean and so on.
_SF_BARE: Final = (
    r'(?P<integer>-?\d{1,15})(?![\d.])|-?\d{1,12}\.\d{1,3}|(?P<string>"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+")|'
    r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*|:[A-Za-z0-9+/=]*:|\?(?P<boolean>[01])|@-?\d{1,15}|"
    r'%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*+"'
)
_SF_NAMELESS: Final = re.sub(r"\?P<\w+>", "?:", _SF_BARE)
_SF_PARAMS: Final = rf"(?:; *[a-z*][a-z0-9_.*-]*(?:=(?:{_SF_NAMELESS}))?)*"
_SF_INNER: Final = rf"\( *(?:(?:{_SF_NAMELESS}){_SF_PARAMS}(?: +|(?=\))))*\)"
_SF_MEMBER: Final = re.compile(rf"(?P<key>[a-z*][a-z0-9_.*-]*)(?P<value>=(?:{_SF_BARE}|{_SF_INNER}))?{_SF_PARAMS}")
_SF_COMMA: Final = re.compile(r"[ \t]*,[ \t]*|[ \t]*$")


def members(values: Iterable[bytes]) -> Iterator[str]:
    """The members of a list field, all its lines together (RFC 9110, section 5.6.1); a quoted comma is none of it."""
    for value in values:
        for member in split_list(value.decode("latin-1")):
            if text := member.strip(" \t"):
                yield text


def split_list(text: str) -> Iterator[str]:
    """Split at commas outside quoted strings; an unterminated quote is not a quote."""
    if '"' not in text:
        yield from text.split(",")
        return
    begin = at = 0
    while match := _DELIMITER.search(text, at):
        if match[0] == ",":
            yield text[begin : match.start()]
            begin = at = match.end()
        elif quoted := _QUOTED.match(text, match.start()):
            at = quoted.end()
        else:  # no later quote closes either: it would have closed this one
            first, *others = text[match.start() :].split(",")
            yield text[begin : match.start()] + first
            yield from others
            return
    yield text[begin:]


def delta_seconds(text: str | None) -> int | None:
    """A number of seconds, at most MAX_SECONDS; None for anything else (RFC 9111, section 1.2.2)."""
    if text is None or not (text.isascii() and text.isdigit()):
        return None
    return min(int(text), MAX_SECONDS) if len(text) < 20 else MAX_SECONDS


def http_date_s(value: bytes | None, now_s: float = 0) -> int | None:
    """Seconds since the epoch of an HTTP-date in any of its three forms; None for anything else.

    Two digits of a year stand for the last such year that lies at most 50 years ahead of `now_s`.
    """
    if value is None or len(value) > 40:
        return None
    text = value.strip(OWS).decode("latin-1").lower()
    match = next((found for form in _DATES if (found := form.fullmatch(text)) is not None), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    year, month = int(match["year"]), _MONTHS.index(match["month"]) + 1
    day, hour, minute, second = (int(match[name]) for name in ("day", "hour", "minute", "second"))
    if second > 60:
        return None
    if len(match["year"]) == 2:
        latest = datetime.fromtimestamp(now_s + _FIFTY_YEARS_S, UTC)
        year += latest.year // 100 * 100
        year -= 100 if (year, month, day, hour, minute, second) > latest.timetuple()[:6] else 0
    try:  # a leap second is the one before it
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp())


@lru_cache(maxsize=16)
def http_date(seconds: int) -> bytes:
    """The preferred form of an HTTP-date."""
    moment = datetime.fromtimestamp(seconds, UTC)
    day, month = _DAYS[moment.weekday()].title(), _MONTHS[moment.month - 1].title()
    return f"{day}, {moment.day:02d} {month} {moment.year} {moment:%H:%M:%S} GMT".encode("ascii")


# -- directives ---------------------------------------------------------------------------------------------------

Directives = Mapping[str, str | None]
# Directives with a list of fields as argument; if one is repeated, all lists count.
_LISTS: Final = frozenset({"no-cache", "private"})
_FORBIDDING: Final = _LISTS | {"no-store"}


def directives(values: Iterable[bytes]) -> dict[str, str | None]:
    """Cache-Control's directives by name in lower case, with their argument, unquoted (RFC 9111, section 5.2).

    If one is repeated, the first counts (section 4.2.1); of `no-cache` and `private` the one without fields, else the
    fields of all. A malformed value forbids what each word in it would forbid, and its numbers do not count.
    """
    found: dict[str, str | None] = {}
    for member in members(values):
        match = _DIRECTIVE.fullmatch(member)
        if match is None:  # `private; max-age=60`
            words = set(_WORDS.findall(member.lower()))
            found |= dict.fromkeys(words & _FORBIDDING)
            found |= {"max-age": ""} if words & {"max-age", "s-maxage"} else {}
            continue
        name, text = match[1].lower(), match[2] and _unquoted(match[2])
        if name not in _LISTS:
            found.setdefault(name, text)
            continue
        text = _field_names(text) if text else None
        if name in found:
            text = None if text is None or found[name] is None else f"{found[name]},{text}"
        found[name] = text
    return found


def _field_names(text: str) -> str | None:
    """What `private` or `no-cache` is limited to; None, the whole answer, where that is not a list of names."""
    names = [name for word in text.split(",") if (name := word.strip(" \t"))]
    return ",".join(names) if names and all(map(_WORDS.fullmatch, names)) else None


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return _QUOTED_PAIR.sub(r"\1", text[1:-1])
    return text


def targeted(values: Iterable[bytes]) -> dict[str, str | None] | None:
    """The directives of a targeted field such as CDN-Cache-Control, or None where it is empty or malformed.

    It is a Dictionary of RFC 9651 (RFC 9213, section 2.1): seconds are integers there and lists of fields are strings;
    a false member counts as absent, and of a repeated one the last counts.
    """
    text = ",".join(value.decode("latin-1") for value in values).strip(" ")
    found: dict[str, str | None] = {}
    at = 0
    while at < len(text):
        match = _SF_MEMBER.match(text, at)
        if match is None:
            return None
        key, string = match["key"], match["string"]
        if match["boolean"] == "0":
            found.pop(key, None)
        elif key in _LISTS:
            found[key] = _field_names(_unquoted(string)) if string else None
        else:
            found[key] = (match["integer"] or "") if match["value"] and not match["boolean"] else None
        at = match.end()
        rest = _SF_COMMA.match(text, at)
        if rest is None or (rest.end() == len(text) and "," in rest[0]):
            return None
        at = rest.end()
    return found if text else None


# -- validators ---------------------------------------------------------------------------------------------------


def entity_tags(values: Iterable[bytes]) -> list[bytes]:
    """The entity tags of If-None-Match; `*` stands for any (RFC 9110, section 13.1.2)."""
    joined = b",".join(values).strip(OWS)
    return [b"*"] if joined == b"*" else _ETAG.findall(joined)


def is_entity_tag(value: bytes) -> bool:
    return _ETAG.fullmatch(value) is not None


def opaque(tag: bytes) -> bytes:
    """The tag without its weakness: what weak comparison compares (RFC 9110, section 8.8.3.2)."""
    return tag.removeprefix(b"W/")


# -- ranges -------------------------------------------------------------------------------------------------------


def byte_range(value: bytes, size: int) -> tuple[int, int] | None:
    """First and last byte of a Range of one part (RFC 9110, section 14.1.2); None where it may be ignored, as with
    several parts, or of nothing at all (section 14.2).

    Raises ValueError for one that lies outside of `size` bytes.
    """
    match = _RANGE.fullmatch(value.strip(OWS))
    if not size or match is None or not (match[1] or match[2]) or max(len(match[1]), len(match[2])) > 18:
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise ValueError("nothing of it")
        return size - length, size - 1
    first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise ValueError("beyond the end")
    return first, min(last, size - 1)
