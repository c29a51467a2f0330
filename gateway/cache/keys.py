"""What an answer is stored by, and what a purge names."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from typing import Final, NamedTuple

from gateway.cache.policy import Entry

_LONGEST_NAME: Final = 320  # the origin of a URL, which is no longer than a host may be, and a digest


@dataclass(frozen=True, slots=True)
class Key:
    """What stored answers are found by. `target` is the raw path and query, `extra` what a trusted proxy said of the
    request's origin, or the digest of what the configuration sets in a part's call."""

    route: str
    scheme: str
    host: str
    target: str
    extra: str = ""

    @classmethod
    def of(cls, text: str) -> "Key":
        """The key out of its text; the inverse of `str`."""
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
    """A route's name as it stands in the text of a key: in Python it may hold a space."""
    return route.replace(" ", "%20")


def digest(*words: str) -> str:
    """A name of fixed length for something long."""
    return blake2b("\0".join(words).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def variant(key: str, vary: Iterable[bytes], values: Iterable[bytes | None]) -> str:
    """The name of one variant: its key, the fields that it varies on, and the request's values of them."""
    values_text = ("" if value is None else "=" + value.decode("latin-1") for value in values)
    return digest(key, *(name.decode("latin-1") for name in vary), "", *values_text)


KINDS: Final = ("path", "prefix", "route", "tag", "all")  # what a purge may name


class Place(NamedTuple):
    """What a purge of a path or URL is about: the digest of a raw path, or of a raw path with its query.

    `origin` is `scheme://host`, or `://` for every one.
    """

    is_path: bool
    origin: str
    digest: str

    @property
    def name(self) -> str:
        return f"{'path' if self.is_path else 'uri'} {self.origin} {self.digest}"


@dataclass(frozen=True, slots=True)
class Purge:
    """What must be forgotten of what was asked for until `at_s`. `kind` is one of KINDS, or `uri` for one URL exactly.

    A path with a query means that query only; with a scheme and host before it, as `http://example.com/users/1`, that
    origin only. The value of a `uri` is its origin and the digest of the rest: clients make these, with URLs as long
    as they like, and each is kept in memory and in the database for a while.
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
        """The one path or URL that it is about, if it is."""
        if self.kind == "uri":
            origin, _, of_target = self.value.partition(" ")
            return Place(False, origin, of_target)
        if self.kind == "path":
            scheme, host, target = origin_and_target(self.value)
            return Place("?" not in target, f"{scheme}://{host}", digest(target))
        return None

    @property
    def name(self) -> str:
        """A short name; one purge has that of another only where it is about the same."""
        place = self.place
        return short_name(f"{self.kind} {self.value}" if place is None else place.name)

    def covers(self, key: Key, entry: Entry, now_s: float = inf) -> bool:
        """Whether a stored answer must go.

        One that seems to have been asked for after `now_s` was so while the clock was ahead, or by a gateway whose
        clock is: whether that was before the purge, nobody can tell.
        """
        if self.at_s < entry.requested_s <= now_s:
            return False
        return self.value in entry.tags if self.kind == "tag" else self.covers_key(key)

    def covers_key(self, key: Key) -> bool:
        """Whether what is asked for by this key may be covered, whenever that was: all may that has a tag."""
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
