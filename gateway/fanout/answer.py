"""The fields of a merged response, from those of its parts: Cache-Control, Vary, Gateway-Parts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from gateway.cache.policy import vary_names
from gateway.http import fields
from gateway.http.fields import Directives
from gateway.http.headers import Pair, all_of, first_of


def parts_field(entries: Iterable[tuple[str, Mapping[str, int | str]]]) -> bytes:
    """Gateway-Parts, a list of RFC 9651: `user;s=200;ms=12, orders;e=response_timeout;ms=300`."""
    shown = ("".join([name, *(f";{key}={value}" for key, value in params.items())]) for name, params in entries)
    return ", ".join(shown).encode("ascii")


_READ: Final = frozenset({b"age", b"cache-control", b"date", b"expires", b"set-cookie", b"vary"})


def cache_control(answers: Sequence[Sequence[Pair]], now_s: float) -> bytes | None:
    """Cache-Control of the merged response: never more permissive than that of any part. None for no field.

    The shortest lifetime, less the age that the part has already; no-store or private if any part has it (RFC 9111,
    sections 4.2 and 5.2.2). Directives that let shared caches store the response to an authorised request (section 3.5)
    only if all parts have them.
    """
    answers = [[(low, value) for name, value in pairs if (low := name.lower()) in _READ] for pairs in answers]
    if all(name == b"date" for pairs in answers for name, _ in pairs):
        return None
    directives = [fields.directives(all_of(pairs, b"cache-control")) for pairs in answers]
    if any("no-store" in one for one in directives) or any(vary_names(pairs) is None for pairs in answers):
        return b"no-store"
    # A part that sets a cookie is about one user, although the cookie itself is not passed on.
    sets_cookie = any(name == b"set-cookie" for pairs in answers for name, _ in pairs)
    words = ["private"] if sets_cookie or any("private" in one for one in directives) else []
    firm = [one for one in directives if "must-revalidate" in one]
    own = [_freshness_s(pairs, one, now_s) for pairs, one in zip(answers, directives, strict=True)]
    fresh = [seconds for seconds, _ in own if seconds is not None]
    shared = [seconds for _, seconds in own if seconds is not None]
    if any("no-cache" in one for one in directives) or (firm and len(firm) < len(directives)):
        words.append("no-cache")
    elif own and len(fresh) == len(own):
        for_all = len(shared) == len(own) and not words
        words.append(f"max-age={min(fresh if for_all else fresh + shared)}")
        if for_all:
            words.append(f"s-maxage={min(shared)}")
    if firm and len(firm) == len(directives):
        words.append("must-revalidate")
    return ", ".join(words).encode("ascii") or None


def _freshness_s(pairs: Sequence[Pair], directives: Directives, now_s: float) -> tuple[int | None, int | None]:
    """Seconds that a response stays fresh, for any cache and for shared ones; None if it states no lifetime."""
    age_s = fields.delta_seconds(_text(first_of(pairs, b"age"))) or 0
    # A value that is not a number means stale (RFC 9111, section 4.2.1).
    fresh_s, shared_s = (
        (fields.delta_seconds(directives[word]) or 0) if word in directives else None
        for word in ("max-age", "s-maxage")
    )
    expires = first_of(pairs, b"expires")
    if fresh_s is None and expires is not None:
        expires_s = fields.http_date_s(expires, now_s)
        date_s = fields.http_date_s(first_of(pairs, b"date"), now_s)
        fresh_s = 0 if expires_s is None else max(0, int(expires_s - (now_s if date_s is None else date_s)))
    return (
        None if fresh_s is None else max(0, fresh_s - age_s),
        None if shared_s is None else max(0, shared_s - age_s),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1").strip()


def vary(names: Iterable[str]) -> bytes:
    """Vary, for the request fields that the merged response depends on; each once, in their order."""
    return ", ".join(dict.fromkeys(names)).encode("ascii")
