"""Stored responses in memory, an LRU bounded in bytes; recent purges; and what was recently not stored."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from gateway.cache.keys import Key, Place, Purge, digest, short_name
from gateway.cache.policy import Entry, NotStored
from gateway.http.headers import Pair, read_fields

# A request field can have any number of values, so the number of variants of a URI is limited.
MAX_VARIANTS: Final = 32
_PURGES_KEPT_S: Final = 600.0  # no response is expected to take longer to come in
_MAX_PURGES: Final = 20_000  # about 5 MB: the names of purges are short, whatever a client sent
_MAX_PREFIXES: Final = 200  # each is compared with each response that is stored
_SEVERAL: Final = 3  # different requests
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since", b"if-range"})
_UNSTORED_S, _MAX_UNSTORED = 10.0, 10_000  # about 6 MB
# Measured overhead of an entry: its record, each field, each field of Vary, and its place in the tables.
_ENTRY_BYTES, _PAIR_BYTES, _VARY_BYTES = 1150, 180, 110


class Index:
    """An index of names by path and by target, so that a purge of either need not look at all entries."""

    def __init__(self) -> None:
        # A single name is stored without a set, which takes four times as much memory.
        self._names: dict[tuple[bool, str], str | set[str]] = {}

    def add(self, name: str, key: Key) -> None:
        for place in _places(key):
            there = self._names.get(place)
            if there is None:
                self._names[place] = name
            elif isinstance(there, set):
                there.add(name)
            elif there != name:
                self._names[place] = {there, name}

    def discard(self, name: str, key: Key) -> None:
        for place in _places(key):
            there = self._names.get(place)
            if isinstance(there, set):
                there.discard(name)
                if not there:
                    del self._names[place]
            elif there == name:
                del self._names[place]

    def at(self, place: Place) -> list[str]:
        """The names with this path or target, of any origin."""
        there = self._names.get((place.is_path, place.digest), ())
        return [there] if isinstance(there, str) else list(there)


def _places(key: Key) -> tuple[tuple[bool, str], tuple[bool, str]]:
    target = digest(key.target)
    return (False, target), (True, digest(key.path) if "?" in key.target else target)


def size_of(key: str, entry: Entry) -> int:
    """The memory that an entry takes, in bytes, by estimate."""
    pairs: Iterable[Pair] = entry.pairs
    varies = sum(
        len(name) + len(value or b"") + _VARY_BYTES for name, value in zip(entry.vary, entry.values, strict=True)
    )
    return (
        _ENTRY_BYTES
        + len(key)
        + len(entry.body)
        + varies
        + sum(len(name) + len(value) + _PAIR_BYTES for name, value in pairs)
    )


class Purges:
    """Recent purges: a response that was asked for before a purge must not be stored after it."""

    def __init__(self) -> None:
        self._at_s: OrderedDict[str, float] = OrderedDict()  # by the names of purges, the oldest first
        self._prefixes: OrderedDict[str, float] = OrderedDict()
        self._all_until_s = 0.0  # responses requested until then count as purged, since there were too many purges
        self._last_s = 0.0

    def add(self, purge: Purge) -> None:
        self._last_s = max(self._last_s, purge.at_s)
        if purge.kind == "prefix":
            kept, name, most = self._prefixes, purge.value, _MAX_PREFIXES
        else:
            kept, name, most = self._at_s, purge.name, _MAX_PURGES
        kept.pop(name, None)
        kept[name] = purge.at_s
        while len(kept) > most:
            self._all_until_s = max(self._all_until_s, kept.popitem(last=False)[1])
        for each in (self._at_s, self._prefixes):
            while each and next(iter(each.values())) < purge.at_s - _PURGES_KEPT_S:
                each.popitem(last=False)

    def cover(self, key: Key, entry: Entry, now_s: float = inf) -> bool:
        """Whether one of them covers a response, as in `Purge.covers`."""
        if now_s < self._last_s:
            self._set_back(now_s)
        since_s = entry.requested_s if entry.requested_s <= now_s else 0.0
        if since_s <= self._all_until_s:
            return True
        at_s = self._at_s
        if at_s and any(at_s.get(name, -1.0) >= since_s for name in _names_of(key, entry)):
            return True
        return any(until_s >= since_s and key.target.startswith(one) for one, until_s in self._prefixes.items())

    def _set_back(self, now_s: float) -> None:
        """The clock was set back: date all purges now, so that later requests come after them."""
        for kept in (self._at_s, self._prefixes):
            kept.update((name, min(at_s, now_s)) for name, at_s in kept.items())
        self._all_until_s, self._last_s = min(self._all_until_s, now_s), now_s


def _names_of(key: Key, entry: Entry) -> Iterator[str]:
    """The names of all purges that would cover a response, except prefixes."""
    yield from ("all ", short_name(f"route {key.route}"), *(short_name(f"tag {tag}") for tag in entry.tags))
    for is_path, of_it in _places(key):
        for origin in (f"{key.scheme}://{key.host}", "://"):
            yield short_name(Place(is_path, origin, of_it).name)


class _Refusals(NamedTuple):
    until_s: float
    why: NotStored
    requests: tuple[int, ...]


class Unstored:
    """A negative cache: the responses that could not be stored in the last 10 s, and why.

    The reason for one request does not count for others: else a client could keep a page out of the cache for everybody
    with a field that the service refuses. Only after several different requests, with nothing stored in between, the
    reason counts for all. Only digests of names and requests are kept.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Refusals] = OrderedDict()  # the oldest first

    def __len__(self) -> int:
        return len(self._known)

    def add(self, name: str, request: Sequence[Pair], why: NotStored, now_s: float) -> None:
        """`now_s` is of a monotonic clock."""
        known, short = self._known, digest(name)
        before = known.get(short)
        requests = before.requests if before is not None and before.until_s > now_s else ()
        one = fingerprint(request)
        if one not in requests:
            requests = (*requests, one)[-_SEVERAL:]
        known[short] = _Refusals(now_s + _UNSTORED_S, why, requests)
        known.move_to_end(short)
        while len(known) > _MAX_UNSTORED or next(iter(known.values())).until_s <= now_s:
            known.popitem(last=False)

    def why(self, name: str, request: Sequence[Pair], now_s: float) -> NotStored | None:
        """Why the response to such a request will probably not be stored; None if nothing is known."""
        found = self._known.get(digest(name)) if self._known else None
        if found is None or found.until_s <= now_s:
            return None
        is_known = len(found.requests) >= _SEVERAL or fingerprint(request) in found.requests
        return found.why if is_known else None

    def discard(self, name: str) -> None:
        """Forget this name: a response was stored."""
        if self._known:
            self._known.pop(digest(name), None)


def fingerprint(request: Sequence[Pair]) -> int:
    """A number for the fields of a request, without conditions and without those that differ in every request."""
    words = (word for pair in read_fields(request).plain if pair[0] not in _CONDITIONS for word in pair)
    return int(digest(*(word.decode("latin-1") for word in words))[:15], 16)


class Memory:
    """A worker's share of GATEWAY_CACHE_MEMORY."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self._count = 0
        self._kept: OrderedDict[str, list[Entry]] = OrderedDict()
        self._index = Index()

    def __len__(self) -> int:
        return self._count

    def get(self, key: str) -> list[Entry]:
        """All variants of a key; marks the key as most recently used."""
        entries = self._kept.get(key)
        if entries is None:
            return []
        self._kept.move_to_end(key)
        return entries

    def put(self, key: str, entry: Entry) -> None:
        """Store a response, in place of an older one for the same requests."""
        size = size_of(key, entry)
        if size > self.max_bytes // 4:  # one response must not push out most others
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
        """Store a response from the database, unless memory has a newer one by now."""
        if not any(_is_same(other, entry) and other.received_s >= entry.received_s for other in self.get(key)):
            self.put(key, entry)

    def drop(self, key: str, entry: Entry) -> None:
        """Remove what is stored for the same requests as this entry."""
        self._set(key, [other for other in self._kept.get(key, ()) if not _is_same(other, entry)])

    def forget(self, purge: Purge, now_s: float = inf) -> int:
        """Remove what a purge covers; returns the number of responses."""
        place = purge.place
        count = 0
        for text in list(self._kept) if place is None else self._index.at(place):
            key, entries = Key.of(text), self._kept[text]
            left = [entry for entry in entries if not purge.covers(key, entry, now_s)]
            if len(left) < len(entries):
                count += len(entries) - len(left)
                self._set(text, left)
        return count

    def _set(self, key: str, entries: list[Entry]) -> None:
        before = self._kept.get(key, [])
        self._count += len(entries) - len(before)
        self.size_bytes += sum(size_of(key, entry) for entry in entries if not _is_among(entry, before))
        self.size_bytes -= sum(size_of(key, entry) for entry in before if not _is_among(entry, entries))
        if entries:
            if not before:
                self._index.add(key, Key.of(key))
            self._kept[key] = entries
        elif before:
            del self._kept[key]
            self._index.discard(key, Key.of(key))


def _is_among(entry: Entry, others: Iterable[Entry]) -> bool:
    return any(entry is other for other in others)  # equal ones may differ in size


def _is_same(one: Entry, other: Entry) -> bool:
    return (one.vary, one.values) == (other.vary, other.values)
