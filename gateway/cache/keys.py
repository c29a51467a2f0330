"""Cache keys, and purges."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from typing import Final, NamedTuple

from gateway.cache.policy import Entry

_LONGEST_NAME: Final = 320  # the origin of a URL, which is no longer than a host may be, and a digest


@dataclass(frozen=True, slots=True)
class Key:
    """The key of stored responses. `target` is the raw path and query; `extra` are X-Forwarded fields of a trusted
    proxy, or the digest of the fields that the configuration sets in a part's call."""

    route: str
    scheme: str
    host: str
    target: str
    extra: str = ""

    @classmethod
    def of(cls, text: str) -> "Key":
        """Parse the text of a key; the inverse of `str`."""
        route, url, *extra = text.split(" ", 2)
        scheme, _, rest = url.partition("://")
        host, slash, target = rest.partition("/")
        return cls(route.replace("%20", " "), scheme, host, slash + target, *extra)

    def __str__(self) -> str:
        extra = f" {self.extra}" if self.extra else ""
        return f"{quoted(self.route)} {self.scheme}://{self.host}{self.target}{extra}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


def quoted(route: str) -> str:
    """A route's name for the text of a key, with its spaces escaped."""
    return route.replace(" ", "%20")


def digest(*words: str) -> str:
    """A hexadecimal digest of 32 digits."""
    return blake2b("\0".join(words).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def variant(key: str, vary: Iterable[bytes], values: Iterable[bytes | None]) -> str:
    """The name of one variant: a digest of its key, the fields in Vary, and the request's values of them."""
    values_text = ("" if value is None else "=" + value.decode("latin-1") for value in values)
    return digest(key, *(name.decode("latin-1") for name in vary), "", *values_text)


KINDS: Final = ("path", "prefix", "route", "tag", "all")  # the kinds of purges


class Place(NamedTuple):
    """The target of a purge by path or URL: the digest of a raw path, or of a raw path with its query.

    `origin` is `scheme://host`, or `://` for any origin.
    """

    is_path: bool
    origin: str
    digest: str

    @property
    def name(self) -> str:
        return f"{'path' if self.is_path else 'uri'} {self.origin} {self.digest}"


@dataclass(frozen=True, slots=True)
class Purge:
    """Removes responses that were asked for until `at_s`. `kind` is one of KINDS, or `uri` for exactly one URL.

    A path with a query means that query only; with scheme and host before it, as in `http://example.com/users/1`, that
    origin only. The value of a `uri` is its origin and the digest of the rest: clients cause these purges, with URLs of
    any length, and each is kept in memory and in the database for a while.
    """

    kind: str
    value: str
    at_s: float

    @classmethod
    def of_url(cls, url: str, at_s: float) -> "Purge":
        """The purge of one URL, `scheme://host/path?query`."""
        scheme, host, target = origin_and_target(url)
        return cls("uri", f"{scheme}://{host} {digest(target)}", at_s)

    @property
    def place(self) -> Place | None:
        """The path or URL that it names, if it names one."""
        if self.kind == "uri":
            origin, _, of_target = self.value.partition(" ")
            return Place(False, origin, of_target)
        if self.kind == "path":
            scheme, host, target = origin_and_target(self.value)
            return Place("?" not in target, f"{scheme}://{host}", digest(target))
        return None

    @property
    def name(self) -> str:
        """A short name; two purges have the same one only if they cover the same."""
        place = self.place
        return short_name(f"{self.kind} {self.value}" if place is None else place.name)

    def covers(self, key: Key, entry: Entry, now_s: float = inf) -> bool:
        """Whether a stored response must be removed.

        A response that was requested after `now_s` was requested while a clock was ahead. Whether that was before the
        purge is unknown, so it is removed.
        """
        if self.at_s < entry.requested_s <= now_s:
            return False
        return self.value in entry.tags if self.kind == "tag" else self.covers_key(key)

    def covers_key(self, key: Key) -> bool:
        """Whether responses with this key may be covered, at whatever time; for a tag that is any key."""
        place = self.place
        if place is not None:
            is_there = place.origin in {"://", f"{key.scheme}://{key.host}"}
            return is_there and place.digest == digest(key.path if place.is_path else key.target)
        if self.kind == "prefix":
            return key.target.startswith(self.value)
        if self.kind == "route":
            return key.route == self.value
        return self.kind in {"all", "tag"}


def origin_and_target(value: str) -> tuple[str, str, str]:
    """`http://host/path?query` or `/path` -> scheme, host (both empty without them) and raw target."""
    if value.startswith("/"):
        return "", "", value
    scheme, _, rest = value.partition("://")
    host, slash, target = rest.partition("/")
    return scheme, host.lower(), slash + target


def short_name(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else digest(name)
