"""Every database query of the cache: stored responses become rows, and rows stored responses."""

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from django.db import connection
from django.db.models import Max, Q, QuerySet, Sum, Value
from django.db.models.functions import StrIndex, Substr

from gateway.cache.keys import Key, Purge, digest, variant
from gateway.cache.notices import notify
from gateway.cache.policy import Entry, vary_values
from gateway.http.headers import Pair
from gateway.models import CachedResponse, CachePurge

BATCH_ROWS = 200
STORED_ROWS = 500
MOST_PURGES = 5000
_ROW_BYTES = 500  # the overhead of a row
_DECODER = msgspec.msgpack.Decoder(Entry)
_UPDATED = [field.name for field in CachedResponse._meta.concrete_fields if field.name not in {"id", "variant"}]


class Found(NamedTuple):
    """The stored responses that match a request's fields, and whether there are other variants of that key."""

    entries: list[Entry]
    has_others: bool


# -- for a worker -------------------------------------------------------------------------------------------------


async def look_up(asked: Sequence[tuple[str, Sequence[Pair]]]) -> list[Found]:
    """The matching responses for each pair of key and request fields, with two queries in all."""
    digests = [digest(key) for key, _ in asked]
    varies: dict[str, set[str]] = {}
    async for name, vary in (
        CachedResponse.objects.filter(digest__in=set(digests)).values_list("digest", "vary").distinct()
    ):
        varies.setdefault(name, set()).add(vary)
    wanted = [
        [_variant_for(key, vary, request) for vary in varies.get(name, ())]
        for name, (key, request) in zip(digests, asked, strict=True)
    ]
    names = {name for several in wanted for name in several}
    found: dict[str, Entry] = {}
    if names:
        usable = CachedResponse.objects.filter(variant__in=names).exclude(target_digest="")
        async for name, record, body in usable.values_list("variant", "record", "body"):
            with contextlib.suppress(msgspec.DecodeError):  # written by another version of the gateway
                found[name] = replace(_DECODER.decode(record), body=bytes(body))
    return [Found([found[name] for name in several if name in found], bool(several)) for several in wanted]


def _variant_for(key: str, vary: str, request: Sequence[Pair]) -> str:
    names = tuple(name.encode("latin-1") for name in vary.split(",") if name)
    return variant(key, names, vary_values(names, request))


def write(batch: Mapping[str, tuple[Key, Entry]]) -> int:
    """Store responses by the names of their variants; returns their size in bytes. Synchronous."""
    rows = [_row(name, key, entry) for name, (key, entry) in batch.items()]
    CachedResponse.objects.bulk_create(rows, update_conflicts=True, unique_fields=["variant"], update_fields=_UPDATED)
    return sum(row.size for row in rows)


def _row(name: str, key: Key, entry: Entry) -> CachedResponse:
    record = msgspec.msgpack.encode(replace(entry, body=b""))
    vary = ",".join(name.decode("latin-1") for name in entry.vary)
    tags = "".join(f" {tag}" for tag in entry.tags) + " "
    texts = (vary, key.route, key.host, key.target, key.extra, tags)
    return CachedResponse(
        digest=digest(str(key)),
        variant=name,
        vary=vary,
        path_digest=digest(key.path),
        target_digest=digest(key.target),
        route=key.route,
        scheme=key.scheme,
        host=key.host,
        target=key.target,
        extra=key.extra,
        tags=tags,
        requested_s=entry.requested_s,
        received_s=entry.received_s,
        useful_until_s=entry.useful_until_s,
        size=len(entry.body) + len(record) + sum(map(len, texts)) + _ROW_BYTES,
        record=record,
        body=entry.body,
    )


def file_of() -> tuple[int, int] | None:
    """Device and inode of the file of an SQLite database; None for any other database, or if it does not exist."""
    if connection.vendor != "sqlite":
        return None
    with contextlib.suppress(OSError):
        found = Path(connection.settings_dict["NAME"]).stat()
        return found.st_dev, found.st_ino
    return None


async def stored_since(row_id: int) -> list[tuple[int, str]]:
    """Ids and key digests of the rows after `row_id`, at most STORED_ROWS, so that the loop is not blocked."""
    rows = CachedResponse.objects.filter(id__gt=row_id).order_by("id").values_list("id", "digest")[:STORED_ROWS]
    return [row async for row in rows]


async def last_stored() -> int:
    return (await CachedResponse.objects.aaggregate(last=Max("id")))["last"] or 0


async def remove(variants: Iterable[str]) -> None:
    await CachedResponse.objects.filter(variant__in=list(variants)).adelete()


async def remove_covered(purges: Sequence[Purge]) -> int:
    """Remove the responses that any of these purges covers; returns the number of rows."""
    now_s = time.time()
    removed, _ = await CachedResponse.objects.filter(
        reduce(or_, (_covered(purge, now_s) for purge in purges))
    ).adelete()
    return removed


def _covered(purge: Purge, now_s: float) -> Q:
    """The rows that a purge covers, like `Purge.covers`.

    Without `startswith` and `contains`, which ignore case on SQLite.
    """
    condition = Q(requested_s__lte=purge.at_s) | Q(requested_s__gt=now_s)
    place = purge.place
    if place is not None:
        scheme, _, host = place.origin.partition("://")
        condition &= Q(path_digest=place.digest) if place.is_path else Q(target_digest=place.digest)
        return condition & Q(scheme=scheme, host=host) if host else condition
    if purge.kind == "prefix":
        return condition & _begins(purge.value)
    if purge.kind == "route":
        return condition & Q(route=purge.value)
    if purge.kind == "tag":
        tagged = CachedResponse.objects.annotate(at=StrIndex("tags", Value(f" {purge.value} "))).filter(at__gt=0)
        return condition & Q(id__in=tagged.values("id"))
    return condition


def _begins(prefix: str) -> Q:
    rows = CachedResponse.objects.annotate(head=Substr("target", 1, len(prefix))).filter(head=prefix)
    return Q(id__in=rows.values("id"))


def publish(purges: Sequence[Purge]) -> set[tuple[int, float]]:
    """Publish purges to every worker and replica; returns their numbers and times. Synchronous, as `write`."""
    rows = [CachePurge(kind=purge.kind, value=purge.value, at_s=purge.at_s) for purge in purges]
    published = {(row.id, row.at_s) for row in CachePurge.objects.bulk_create(rows)}
    notify()
    return published


async def purges_since(number: int) -> list[tuple[int, Purge]]:
    """The purges after that number, at most MOST_PURGES, with their numbers."""
    rows = CachePurge.objects.filter(id__gt=number).order_by("id").values_list("id", "kind", "value", "at_s")
    return [(found, _purge(kind, value, at_s)) async for found, kind, value, at_s in rows[:MOST_PURGES]]


def _purge(kind: str, value: str, at_s: float) -> Purge:
    # A gateway of the previous version stores the URL itself.
    return Purge.of_url(value, at_s) if kind == "uri" and " " not in value else Purge(kind, value, at_s)


async def last_purge() -> int:
    return (await CachePurge.objects.aaggregate(last=Max("id")))["last"] or 0


async def remove_expired(last_id: int, before_s: float) -> None:
    """Remove expired responses, and purges that every worker has seen: up to that number and older than `before_s`.

    Not by the clock alone, which may be wrong.
    """
    await CachedResponse.objects.filter(useful_until_s__lt=time.time()).adelete()
    await CachePurge.objects.filter(id__lte=last_id, at_s__lt=before_s).adelete()


async def total_size() -> int:
    return (await CachedResponse.objects.aaggregate(total=Sum("size")))["total"] or 0


async def remove_oldest(size: int) -> None:
    """Remove the oldest responses until `size` bytes are freed."""
    while size > 0:
        rows = CachedResponse.objects.order_by("received_s").values_list("id", "size")[:BATCH_ROWS]
        ids = []
        async for row_id, row_size in rows:
            if size > 0:
                ids.append(row_id)
                size -= row_size
        if not ids:
            return
        await CachedResponse.objects.filter(id__in=ids).adelete()


# -- for the command: in its own process, without a loop ----------------------------------------------------------


def is_there() -> bool:
    """Whether the table exists. Does not create the file of an SQLite database. Raises DatabaseError."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite" and not Path(name).exists():
        return False
    return CachedResponse._meta.db_table in connection.introspection.table_names()


def listing(route: str = "", host: str = "", prefix: str = "") -> Iterator[tuple[Key, Entry, int]]:
    """Stored responses by target: key, response without its body, size in bytes. Raises DatabaseError."""
    rows: QuerySet[Any, Any] = CachedResponse.objects.order_by("target", "id")
    for name, value in (("route", route), ("host", host)):
        rows = rows.filter(**{name: value}) if value else rows
    rows = rows.filter(_begins(prefix)) if prefix else rows
    for *key, record, size in rows.values_list(*_KEY, "record", "size").iterator():
        with contextlib.suppress(msgspec.DecodeError):
            yield Key(*key), _DECODER.decode(record), size


_KEY = ("route", "scheme", "host", "target", "extra")


def keys_at(route: str, target: str) -> list[Key]:
    """The keys of stored responses of a route for this target, with any origin."""
    rows = CachedResponse.objects.filter(target_digest=digest(target), route=route)
    return [Key(*row) for row in rows.values_list(*_KEY).distinct()]


def variants_of(key: Key) -> list[Entry]:
    """Every stored response of a key, without its body. Raises DatabaseError."""
    rows = CachedResponse.objects.filter(digest=digest(str(key))).values_list("record", flat=True)
    return [_DECODER.decode(record) for record in rows]


def purge_now(purge: Purge) -> int:
    """Purge, and publish it to every worker; returns the number of rows removed. Raises DatabaseError."""
    publish([purge])
    removed, _ = CachedResponse.objects.filter(_covered(purge, time.time())).delete()
    return int(removed)
