"""Stored answers in memory, bounded in bytes: what was used least lately goes first. And what a purge names."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from gateway.headers import Pair
from gateway.storing import Entry

# One request field can have any number of values: of one URI this many variants are kept.
MAX_VARIANTS: Final = 32
_PURGES_KEPT_S: Final = 600.0  # an answer that was under way for longer than that is no worry
_MAX_PURGES: Final = 20_000  # some 13 MB
# What an entry costs beside its bytes, measured: its record, its pairs, and its place in the tables.
_ENTRY_BYTES, _PAIR_BYTES = 900, 180


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
    said = ("" if value is None else "=" + value.decode("latin-1") for value in values)
    return digest(key, *(name.decode("latin-1") for name in vary), "", *said)


KINDS: Final = ("path", "prefix", "route", "tag", "all")  # what a purge may name


@dataclass(frozen=True, slots=True)
class Purge:
    """What must be forgotten of what was asked for until `at_s`. `kind` is one of KINDS, or `uri` for one URL exactly.

    A path with a query means that query only; with a scheme and host before it, as `http://example.com/users/1`, that
    origin only.
    """

    kind: str
    value: str
    at_s: float

    @property
    def path(self) -> str | None:
        """The one path that it is about, if it is."""
        return origin_and_target(self.value)[2].partition("?")[0] if self.kind in {"path", "uri"} else None

    def covers(self, key: Key, entry: Entry) -> bool:
        """Whether a stored answer must go."""
        if entry.requested_s > self.at_s:
            return False
        return self.value in entry.tags if self.kind == "tag" else self.covers_key(key)

    def covers_key(self, key: Key) -> bool:
        """Whether what is asked for by this key may be covered, whenever that was: all may that has a tag."""
        if self.path is not None:
            scheme, host, target = origin_and_target(self.value)
            if host and (scheme, host) != (key.scheme, key.host):
                return False
            return target == (key.target if "?" in target or self.kind == "uri" else key.path)
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


def size_of(key: str, entry: Entry) -> int:
    """The bytes of memory that an entry is counted with."""
    pairs: Iterable[Pair] = entry.pairs
    values = sum(len(value) for value in entry.values if value)
    return (
        _ENTRY_BYTES
        + 2 * len(key)
        + len(entry.body)
        + values
        + sum(len(name) + len(value) + _PAIR_BYTES for name, value in pairs)
    )


class Purges:
    """The purges of late: an answer that was under way when one was made must not be stored after it."""

    def __init__(self) -> None:
        self._of_paths: OrderedDict[tuple[str, str], Purge] = OrderedDict()  # the oldest first, as the others
        self._by_path: dict[str, set[tuple[str, str]]] = {}
        self._others: OrderedDict[tuple[str, str], Purge] = OrderedDict()
        self._all_until_s = 0.0  # what was asked for until then counts as purged: there were too many to tell

    def add(self, purge: Purge) -> None:
        said = (purge.kind, purge.value)
        if purge.path is not None:
            self._of_paths.pop(said, None)
            self._of_paths[said] = purge
            self._by_path.setdefault(purge.path, set()).add(said)
        else:
            self._others.pop(said, None)
            self._others[said] = purge
        self._expire(purge.at_s - _PURGES_KEPT_S)

    def _expire(self, before_s: float) -> None:
        while self._of_paths and next(iter(self._of_paths.values())).at_s < before_s:
            self._drop_oldest()
        while len(self._of_paths) > _MAX_PURGES:
            self._all_until_s = max(self._all_until_s, self._drop_oldest())
        while self._others and next(iter(self._others.values())).at_s < before_s:
            self._others.popitem(last=False)

    def _drop_oldest(self) -> float:
        said, purge = self._of_paths.popitem(last=False)
        path = purge.path or ""
        self._by_path[path].discard(said)
        if not self._by_path[path]:
            del self._by_path[path]
        return purge.at_s

    def cover(self, key: Key, entry: Entry) -> bool:
        """Whether one of them covers an answer."""
        if entry.requested_s <= self._all_until_s:
            return True
        own = (self._of_paths[said] for said in self._by_path.get(key.path, ()))
        return any(purge.covers(key, entry) for purge in (*own, *self._others.values()))


class Memory:
    """A worker's share of GATEWAY_CACHE_MEMORY."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._count = 0
        self._kept: OrderedDict[str, list[Entry]] = OrderedDict()
        self._by_path: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> list[Entry]:
        """Every variant of a key. They are used by asking for them."""
        entries = self._kept.get(key)
        if entries is None:
            return []
        self._kept.move_to_end(key)
        return entries

    def put(self, key: str, entry: Entry) -> None:
        """Keep an answer, in the place of an older one for the same requests."""
        size = size_of(key, entry)
        if size > self.max_bytes // 4:  # one answer must not sweep the others out
            self.drop(key, entry)
            return
        entries = [other for other in self._kept.get(key, ()) if not _is_same(other, entry)]
        entries.append(entry)
        self._set(key, entries[-MAX_VARIANTS:])
        self._kept.move_to_end(key)
        while self.size_bytes > self.max_bytes:
            oldest = next(iter(self._kept))
            self._set(oldest, [])

    def put_back(self, key: str, entry: Entry) -> None:
        """Keep an answer out of the database, unless a newer one came while that was asked."""
        if not any(_is_same(other, entry) and other.received_s >= entry.received_s for other in self.get(key)):
            self.put(key, entry)

    def drop(self, key: str, entry: Entry) -> None:
        """Forget what is kept for the same requests as this entry."""
        self._set(key, [other for other in self._kept.get(key, ()) if not _is_same(other, entry)])

    def forget(self, purge: Purge) -> int:
        """Forget what a purge covers; how many that were."""
        keys = list(self._kept if purge.path is None else self._by_path.get(purge.path, ()))
        count = 0
        for text in keys:
            key, entries = Key.of(text), self._kept[text]
            left = [entry for entry in entries if not purge.covers(key, entry)]
            if len(left) < len(entries):
                count += len(entries) - len(left)
                self._set(text, left)
        return count

    def _set(self, key: str, entries: list[Entry]) -> None:
        before = self._kept.get(key, ())
        self._count += len(entries) - len(before)
        self.size_bytes += sum(size_of(key, entry) for entry in entries)
        self.size_bytes -= sum(size_of(key, entry) for entry in before)
        path = Key.of(key).path
        if entries:
            self._kept[key] = entries
            self._by_path.setdefault(path, set()).add(key)
        elif before:
            del self._kept[key]
            keys = self._by_path[path]
            keys.discard(key)
            if not keys:
                del self._by_path[path]


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.vary, one.values) == (other.vary, other.values)
